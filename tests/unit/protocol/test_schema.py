"""The schema that the client's types are made of is true: what the server sends and takes fits it."""

import json
from typing import Any

import jsonschema_rs
import pytest

from tableforge.domain.commands import Command, HouseCommand, JoinRoom, OpenRoom
from tableforge.domain.decider import decide, evolve
from tableforge.domain.state import Given, Room
from tableforge.domain.visibility import Step, redact
from tableforge.protocol import codec
from tableforge.protocol.schema import document

SCHEMA = document()
COMMANDS: list[dict[str, Any]] = [
    {"type": "scene.create", "name": "Cellar", "width": 20, "height": 10},
    {"type": "token.add", "name": "Rat", "x": 1.5, "y": 2, "hidden": True},
    {"type": "token.add", "name": "Knight", "x": 3, "y": 4, "owner": "player"},
    {"type": "door.set", "points": [{"x": 0, "y": 0}, {"x": 1, "y": 0}], "state": "open"},
    {"type": "wall.set", "points": [{"x": 0, "y": 0}, {"x": 5, "y": 0}, {"x": 5, "y": 5}]},
    {"type": "light.set", "x": 1, "y": 1, "range": 4, "color": "#ffcc00", "intensity": 1},
    {"type": "chat.say", "text": "Who goes there?", "to": ["player"]},
    {"type": "dice.roll", "expression": "4d6dl1 + 2", "label": "Strength"},
    {"type": "dice.roll", "expression": "1d20", "visibility": "self"},
    {
        "type": "turn.set",
        "entries": [{"name": "Rat", "value": 12.5}, {"name": "Knight", "value": 3}],
    },
    {"type": "turn.next"},
    {"type": "member.role", "user": "player", "role": "spectator"},
    {"type": "room.update", "tags": ["crypt"], "settings": {"players_add_tokens": False}},
    {"type": "undo"},
]


def validator(name: str) -> jsonschema_rs.Validator:
    """Checks one of the definitions, and refuses fields that it does not name."""
    closed = json.loads(json.dumps(SCHEMA))
    for part in closed["$defs"].values():
        if part.get("type") == "object":
            part["additionalProperties"] = False
    return jsonschema_rs.validator_for({**closed, "$ref": f"#/$defs/{name}"})


@pytest.fixture(scope="module")
def told() -> tuple[list[bytes], list[bytes]]:
    """What a GM and a player are told of a short session: events, and rooms after each."""
    room = Room(id="crypt")
    events, rooms = [], []
    session: list[tuple[str, Command | HouseCommand]] = [
        ("gm", OpenRoom("crypt", "o", name="Crypt", visibility="private", member_name="Ada")),
        ("player", JoinRoom("crypt", "j", name="Ben", role="player")),
    ]
    for number, fields in enumerate(COMMANDS):
        raw = json.dumps({"room": "crypt", "id": f"c{number}", **fields}).encode()
        session.append(("gm", codec.decode_command(raw)))
    for number, (by, command) in enumerate(session):
        given = Given(by, "2026-01-02T03:04:05.678Z", number.to_bytes(16, "big"))
        for event in decide(room, command, given):
            after = evolve(room, event)
            for viewer in ("gm", "player"):
                events.append(codec.encode(redact(Step(room, event, after), viewer)))
                rooms.append(codec.encode(redact(after, viewer, online=frozenset({"gm"}))))
            room = after
    return events, rooms


def test_every_command_that_is_taken_fits() -> None:
    check = validator("RoomCommand")
    for command in COMMANDS:
        check.validate({"room": "crypt", "id": "c", **command})
    assert not check.is_valid({"room": "crypt", "id": "c", "type": "token.teleport"})


def test_every_event_that_is_sent_fits(told: tuple[list[bytes], list[bytes]]) -> None:
    check = validator("RoomEvent")
    kinds = set()
    for data in told[0]:
        event = json.loads(data)
        kinds.add(event["type"])
        check.validate(event)
    assert {"hidden", "token.added", "dice.rolled", "turn.changed", "undone"} <= kinds


def test_every_room_that_is_sent_fits(told: tuple[list[bytes], list[bytes]]) -> None:
    check = validator("Room")
    for data in told[1]:
        check.validate(json.loads(data))


def test_every_reference_leads_to_a_definition() -> None:
    names = json.dumps(SCHEMA).split('"#/$defs/')[1:]
    assert {name.partition('"')[0] for name in names} <= SCHEMA["$defs"].keys()


def test_every_command_of_the_vocabulary_is_there() -> None:
    kinds = {
        part["properties"]["type"]["enum"][0]
        for part in SCHEMA["$defs"].values()
        if "type" in part.get("properties", {}) and "enum" in part["properties"]["type"]
    }
    assert set(codec.command_types()) <= kinds
