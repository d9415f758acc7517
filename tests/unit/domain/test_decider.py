"""What holds for every command and event: the reply, the copy, and the copy's cost."""

from typing import Any

import pytest

from tableforge.domain.decider import evolve, result_of
from tableforge.protocol.codec import encode
from tests.table import Table, opened, plain

ENDS = [{"x": 0.0, "y": 0.0}, {"x": 4.0, "y": 0.0}]


@pytest.fixture
def table() -> Table:
    return opened(ann="player")


def result(table: Table, kind: str, **fields: Any) -> Any:
    """The result that a reply carries, as JSON."""
    return plain(result_of(tuple(step.event for step in table.send("gm", kind, **fields))))


@pytest.mark.parametrize(
    ("kind", "fields", "shelf"),
    [
        ("scene.create", {"name": "Crypt", "width": 5, "height": 5}, "scenes"),
        ("token.add", {"name": "Cat", "x": 0, "y": 0}, "tokens"),
        ("wall.set", {"points": ENDS}, "walls"),
        ("door.set", {"points": ENDS}, "doors"),
        ("light.set", {"x": 0, "y": 0, "range": 3}, "lights"),
        ("draw.add", {"shape": {}}, "drawings"),
    ],
)
def test_rm14_the_reply_names_what_was_made(
    table: Table, kind: str, fields: dict[str, Any], shelf: str
) -> None:
    before = set(getattr(table.room, shelf))
    made = result(table, kind, **fields)
    assert {made["id"]} == set(getattr(table.room, shelf)) - before


def test_rm14_the_reply_to_a_roll_is_the_roll(table: Table) -> None:
    made = result(table, "dice.roll", expression="2d6", visibility="self", label="secret")
    (line,) = table.view("gm")["chat"]
    assert made == {name: line[name] for name in line.keys() - {"type", "by", "at", "id", "offset"}}


def test_rm14_the_reply_to_undo_names_the_command(table: Table) -> None:
    (step,) = table.send("gm", "draw.add", shape={})
    assert result(table, "undo") == {"of": step.event.id}
    assert result(table, "redo") == {"of": step.event.id}


def test_rm14_other_replies_carry_no_result(table: Table) -> None:
    wall = table.make("gm", "wall.set", points=ENDS)
    for kind, fields in (
        ("chat.say", {"text": "hi"}),
        ("wall.set", {"wall": wall, "remove": True}),
        ("turn.set", {"entries": [{"name": "Lair", "value": 1}]}),
        ("turn.set", {"entries": [{"name": "Lair", "value": 1}]}),
    ):
        assert result(table, kind, **fields) is None


def test_evolve_copies_only_what_changes_and_leaves_the_room_before_as_it_was(
    table: Table,
) -> None:
    token = table.make("ann", "token.add", name="Cat", x=0, y=0)
    (step,) = table.send("ann", "token.move", token=token, x=1, y=1)
    before, after = step.before, step.after
    written = encode(before)
    assert evolve(before, step.event) == after
    assert encode(before) == written
    shared = ("members", "scenes", "placed", "walls", "doors", "lights", "drawings", "chat", "turn")
    assert all(getattr(before, name) is getattr(after, name) for name in shared)
    assert (before.tokens[token].x, after.tokens[token].x) == (0, 1)
    assert after.version == before.version + 1
