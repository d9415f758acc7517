"""Members: seats, roles, voices, and what holds for every command."""

from typing import Any

import pytest

from tableforge.domain.commands import JoinRoom, LeaveRoom, OpenRoom, RenameMember
from tableforge.domain.decider import replay
from tableforge.domain.ids import fresh_id
from tableforge.domain.players import MEMBERS_MAX
from tableforge.domain.state import Given, Member, Room
from tableforge.errors import Conflict, Forbidden, NotFound, TooLarge
from tableforge.protocol import codec
from tests.table import NOWHERE, ROOM, opened

GM_ONLY: tuple[tuple[str, dict[str, Any]], ...] = (
    ("scene.create", {"name": "Crypt", "width": 5, "height": 5}),
    ("wall.set", {"points": [{"x": 0, "y": 0}, {"x": 1, "y": 0}]}),
    ("door.set", {"points": [{"x": 0, "y": 0}, {"x": 1, "y": 0}]}),
    ("light.set", {"x": 1, "y": 1, "range": 5}),
    ("turn.set", {"entries": []}),
    ("turn.next", {}),
    ("turn.previous", {}),
    ("member.role", {"user": "bob", "role": "gm"}),
    ("member.kick", {"user": "bob"}),
    ("member.ban", {"user": "bob"}),
    ("member.mute", {"user": "bob", "muted": True}),
    ("room.update", {"name": "Attic"}),
)
PLAYERS_AND_GM: tuple[tuple[str, dict[str, Any]], ...] = (
    ("token.add", {"name": "Cat", "x": 0, "y": 0}),
    ("draw.add", {"shape": {"kind": "dot"}}),
    ("dice.roll", {"expression": "1d6"}),
    ("turn.end", {}),
    ("undo", {}),
    ("redo", {}),
)


def test_rm1_a_room_opens_with_its_creator_as_gm_of_one_active_square_scene() -> None:
    view = opened().view("gm")
    assert view["me"] == {"id": "gm", "role": "gm"}
    assert [(one["id"], one["role"]) for one in view["members"]] == [("gm", "gm")]
    (scene,) = view["scenes"]
    assert (scene["width"], scene["height"], scene["grid"]["type"]) == (30, 20, "square")
    assert scene["active"]


def test_rm1_a_room_opens_once() -> None:
    with pytest.raises(Conflict):
        opened().obey("gm", OpenRoom(ROOM, "again", "Other", "public", "Gm"))


@pytest.mark.parametrize(
    ("kind", "fields"), [*GM_ONLY, *PLAYERS_AND_GM, ("chat.say", {"text": "hi"})]
)
def test_rm2_for_a_stranger_there_is_no_room(kind: str, fields: dict[str, Any]) -> None:
    error = opened(bob="player").refusal("eve", kind, **fields)
    assert (error.code, error.what) == ("not-found", "There is no such room.")


@pytest.mark.parametrize(("kind", "fields"), GM_ONLY)
@pytest.mark.parametrize("role", ["player", "spectator"])
def test_rm3_what_is_the_gms_is_forbidden_to_others(
    kind: str, fields: dict[str, Any], role: str
) -> None:
    table = opened(bob="player")
    table.join("ann", role)  # type: ignore[arg-type]  # one of the roles
    assert table.refusal("ann", kind, **fields).http_status == 403


@pytest.mark.parametrize(("kind", "fields"), PLAYERS_AND_GM)
def test_rm3_a_spectator_may_only_chat(kind: str, fields: dict[str, Any]) -> None:
    table = opened(cid="spectator")
    assert table.refusal("cid", kind, **fields).http_status == 403
    assert len(table.send("cid", "chat.say", text="Bravo!")) == 1


@pytest.mark.parametrize(
    ("kind", "field", "fields"),
    [
        ("token.move", "token", {"x": 1, "y": 1}),
        ("token.update", "token", {"name": "Me"}),
        ("token.remove", "token", {}),
        ("scene.update", "scene", {"name": "Mine"}),
        ("scene.activate", "scene", {}),
        ("scene.remove", "scene", {}),
        ("scene.place", "scene", {"members": ["ann"]}),
        ("token.add", "scene", {"name": "Cat", "x": 0, "y": 0}),
        ("draw.add", "scene", {"shape": {}}),
        ("draw.remove", "drawing", {}),
        ("wall.set", "wall", {"remove": True}),
        ("wall.set", "scene", {"points": [{"x": 0, "y": 0}, {"x": 1, "y": 0}]}),
        ("door.set", "door", {"state": "open"}),
        ("light.set", "light", {"x": 1}),
    ],
)
def test_rm4_what_is_not_seen_is_answered_as_an_id_that_never_was(
    kind: str, field: str, fields: dict[str, Any]
) -> None:
    table = opened(ann="player")
    ends = [{"x": 0, "y": 0}, {"x": 1, "y": 0}]
    scene = table.make("gm", "scene.create", name="Crypt", width=5, height=5)
    there = {
        "scene": scene,
        "token": table.make("gm", "token.add", name="Spy", x=0, y=0, hidden=True, owner="ann"),
        "wall": table.make("gm", "wall.set", points=ends),
        "door": table.make("gm", "door.set", points=ends),
        "light": table.make("gm", "light.set", x=1, y=1, range=5),
        "drawing": table.make("gm", "draw.add", shape={}, scene=scene),
    }
    unseen = table.refusal("ann", kind, **{field: there[field]}, **fields)
    never = table.refusal("ann", kind, **{field: NOWHERE}, **fields)
    assert unseen.code == never.code == "not-found"
    assert str(unseen) == str(never)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("member.role", {"user": "gm", "role": "player"}),
        ("member.kick", {"user": "gm"}),
        ("member.ban", {"user": "gm"}),
    ],
)
def test_rm5_the_last_gm_stays(kind: str, fields: dict[str, Any]) -> None:
    table = opened(ann="player")
    assert table.refusal("gm", kind, **fields).code == "conflict"
    with pytest.raises(Conflict):
        table.obey("gm", LeaveRoom(ROOM, "leave"))
    table.send("gm", "member.role", user="ann", role="gm")
    assert len(table.send("gm", kind, **fields)) == 1


def test_rm6_the_muted_neither_chat_nor_roll_until_they_may_again() -> None:
    table = opened(ann="player")
    table.send("gm", "member.mute", user="ann", muted=True)
    assert table.refusal("ann", "chat.say", text="hey").code == "forbidden"
    assert table.refusal("ann", "chat.say", text="hey", to=["gm"]).code == "forbidden"
    assert table.refusal("ann", "dice.roll", expression="1d6").code == "forbidden"
    table.send("ann", "token.add", name="Cat", x=0, y=0)
    table.send("gm", "member.mute", user="ann", muted=False)
    table.send("ann", "chat.say", text="Thanks")


def test_rm7_a_command_that_changes_nothing_leads_to_nothing() -> None:
    table = opened(ann="player")
    scene = table.room.active
    token = table.make("ann", "token.add", name="Cat", x=1, y=1)
    ends = [{"x": 0, "y": 0}, {"x": 1, "y": 0}]
    door = table.make("gm", "door.set", points=ends)
    wall = table.make("gm", "wall.set", points=ends)
    light = table.make("gm", "light.set", x=1, y=1, range=5)
    for by, kind, fields in (
        ("ann", "token.move", {"token": token, "x": 1, "y": 1, "rotation": 0}),
        ("ann", "token.move", {"moves": [{"token": token, "x": 1, "y": 1}]}),
        ("ann", "token.update", {"token": token, "name": "Cat"}),
        ("gm", "scene.update", {"scene": scene, "name": "First scene"}),
        ("gm", "scene.activate", {"scene": scene}),
        ("gm", "scene.place", {"scene": None, "members": ["ann"]}),
        ("gm", "door.set", {"door": door, "state": "closed"}),
        ("gm", "wall.set", {"wall": wall, "points": ends}),
        ("gm", "light.set", {"light": light, "x": 1}),
        ("gm", "turn.set", {"entries": []}),
        ("gm", "member.role", {"user": "ann", "role": "player"}),
        ("gm", "member.mute", {"user": "ann", "muted": False}),
        ("gm", "room.update", {"name": "The Cellar", "settings": {"gm_sees_all": False}}),
    ):
        assert table.send(by, kind, **fields) == [], kind
    assert table.obey("ann", RenameMember(ROOM, "name", "Ann")) == []
    assert table.obey("ann", JoinRoom(ROOM, "join", "Ann", "spectator")) == []


def test_rm8_joining_again_gives_a_better_seat_and_never_a_worse_one() -> None:
    table = opened(ann="spectator")
    table.join("ann", "player")
    assert table.room.members["ann"].role == "player"
    table.join("ann", "spectator")
    assert table.room.members["ann"].role == "player"
    assert table.room.members["ann"].since == table.room.version == 3


def test_rm8_the_kicked_may_come_back_and_the_banned_may_not() -> None:
    table = opened(ann="player", bob="player")
    table.send("gm", "member.kick", user="ann")
    table.send("gm", "member.ban", user="bob")
    table.join("ann")
    with pytest.raises(Forbidden):
        table.join("bob")
    assert table.room.members.keys() == {"gm", "ann"}


def test_rm9_a_table_seats_a_bounded_number() -> None:
    table = opened()
    table.room.members.update(
        {f"u{number}": Member(f"u{number}", "U", "player", 1) for number in range(MEMBERS_MAX - 1)}
    )
    with pytest.raises(TooLarge):
        table.join("one more")


def test_rm10_settings_name_tags_and_roles_are_shown_to_everybody() -> None:
    table = opened(ann="player", cid="spectator")
    table.send("gm", "room.update", settings={"gm_sees_all": True}, tags=["b", "a", "b"])
    table.send("gm", "member.role", user="ann", role="spectator")
    for reader in ("gm", "ann", "cid", "stranger"):
        view = table.view(reader)
        assert view["settings"] == {"gm_sees_all": True, "players_add_tokens": True}
        assert view["tags"] == ["b", "a"]
        assert {one["id"]: one["role"] for one in view["members"]}["ann"] == "spectator"


def test_rm11_a_member_who_is_gone_leaves_their_pieces_and_nothing_else() -> None:
    table = opened(ann="player")
    token = table.make("ann", "token.add", name="Cat", x=1, y=1)
    table.send("gm", "scene.place", scene=table.room.active, members=["ann"])
    table.send("gm", "chat.say", text="psst", to=["ann"])
    table.send("gm", "member.kick", user="ann")
    room = table.room
    kept = room.placed.keys() | room.chat.keys() | room.deeds.keys() | room.members.keys()
    assert "ann" not in kept
    assert room.tokens[token].owner == "ann"
    table.join("ann")
    assert table.refusal("ann", "undo").code == "nothing-to-undo"
    assert table.view("ann")["chat"] == []


def test_rm12_the_log_makes_the_room_and_so_does_a_snapshot_with_its_tail() -> None:
    table = opened(ann="player")
    stored, length = codec.encode_room(table.room), len(table.log)
    for number in range(30):
        token = table.make("ann", "token.add", name="Cat", x=number, y=1)
        table.send("ann", "token.move", token=token, x=number, y=2)
        table.send("ann", "undo")
        if number == 15:
            stored, length = codec.encode_room(table.room), len(table.log)
    middle = codec.decode_room(codec.ROOM_FORM, stored)
    assert middle is not None
    assert replay(middle, table.log[length:]) == table.room == replay(Room(ROOM), table.log)
    assert table.room.version == len(table.log)


def test_rm13_ids_come_from_the_seed_alone_and_never_twice() -> None:
    given = Given("ann", "now", b"0123456789abcdef")
    made = [fresh_id(given, counter) for counter in range(1_000)]
    assert made == [
        fresh_id(Given("bob", "later", given.seed), counter) for counter in range(1_000)
    ]
    assert len(set(made)) == 1_000
    assert all(len(key) == 16 and key.isalnum() and key == key.lower() for key in made)


def test_a_member_who_is_not_there_cannot_be_named() -> None:
    table = opened(ann="player")
    for kind, fields in (
        ("member.kick", {}),
        ("member.ban", {}),
        ("member.role", {"role": "gm"}),
        ("member.mute", {"muted": True}),
    ):
        assert isinstance(table.refusal("gm", kind, user=NOWHERE, **fields), NotFound)


def test_a_refusal_says_what_why_and_how_to_mend() -> None:
    table = opened(ann="player")
    error = table.refusal("ann", "member.kick", user="gm")
    assert (error.what, error.why) == ("The member was not removed.", "Only a GM may do this.")
    assert error.mend
