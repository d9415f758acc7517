"""What one user is told of an event, and what a snapshot shows them."""

from typing import Any

import pytest

from tableforge.domain.visibility import is_public, redact, visible_assets
from tests.reader import Reader, canonical
from tests.table import Table, opened, plain

ENDS = [{"x": 0.0, "y": 0.0}, {"x": 4.0, "y": 0.0}]
STAMP = {"type", "by", "at", "id"}


@pytest.fixture
def table() -> Table:
    return opened(ann="player", bob="player", cid="spectator", eve="gm")


@pytest.fixture
def crypt(table: Table) -> str:
    return table.make("gm", "scene.create", name="Crypt", width=10, height=10)


@pytest.fixture
def spy(table: Table) -> str:
    return table.make("gm", "token.add", name="Spy", x=3, y=3, hidden=True)


@pytest.fixture
def wolf(table: Table) -> str:
    return table.make("gm", "token.add", name="Wolf", x=5, y=5)


def told(table: Table, user: str, by: str, kind: str, **fields: Any) -> Any:
    """What a user is told of a command that leads to one event."""
    (step,) = table.send(by, kind, **fields)
    return table.told(user, [step])[0]


def body(data: Any) -> Any:
    """An event without its type and who, when and which command."""
    return {key: value for key, value in data.items() if key not in STAMP}


def test_rd2_of_an_event_out_of_sight_only_its_offset_is_told(
    table: Table, crypt: str, spy: str
) -> None:
    unseen: list[tuple[str, dict[str, Any]]] = [
        ("token.move", {"token": spy, "x": 1, "y": 1}),
        ("token.move", {"moves": [{"token": spy, "x": 2, "y": 1}]}),
        ("token.update", {"token": spy, "name": "Assassin", "layer": "gm"}),
        ("token.add", {"name": "Bat", "x": 1, "y": 1, "scene": crypt}),
        ("token.add", {"name": "Trap", "x": 1, "y": 1, "layer": "gm"}),
        ("token.remove", {"token": spy}),
        ("scene.update", {"scene": crypt, "name": "Deep crypt"}),
        ("scene.create", {"name": "Moor", "width": 5, "height": 5}),
        ("scene.place", {"scene": crypt, "members": ["bob", "gm"]}),
        ("draw.add", {"shape": {}, "scene": crypt}),
        ("wall.set", {"points": ENDS}),
        ("door.set", {"points": ENDS}),
        ("light.set", {"x": 1, "y": 1, "range": 3}),
        ("scene.remove", {"scene": crypt}),
        ("undo", {}),
    ]
    for kind, fields in unseen:
        (step,) = table.send("gm", kind, **fields)
        assert table.told("ann", [step]) == [{"type": "hidden"}], kind
        assert table.told("eve", [step]) == [plain(step.event)], kind
        assert not is_public(step)


def test_rd3_a_piece_that_is_hidden_goes_without_a_word_of_how_or_what_else(
    table: Table, wolf: str
) -> None:
    fields = {"hidden": True, "name": "Werewolf", "x": 9}
    data = told(table, "ann", "gm", "token.update", token=wolf, **fields)
    assert data["type"] == "token.updated"
    assert body(data) == {"token": wolf, "gone": {"tokens": [wolf]}}
    layered = table.make("gm", "token.add", name="Bear", x=1, y=1)
    data = told(table, "ann", "gm", "token.update", token=layered, layer="gm")
    assert body(data) == {"token": layered, "gone": {"tokens": [layered]}}


def test_rd3_a_piece_that_comes_into_sight_is_shown_whole(table: Table, spy: str) -> None:
    data = told(table, "ann", "gm", "token.update", token=spy, hidden=False)
    (shown,) = data["shown"]["tokens"]
    assert shown == plain(table.room.tokens[spy])
    assert shown in table.view("ann")["tokens"]


def test_rd3_owners_do_not_see_their_own_hidden_pieces(table: Table) -> None:
    own = table.make("ann", "token.add", name="Cat", x=0, y=0)
    table.send("gm", "token.update", token=own, hidden=True)
    assert table.view("ann")["tokens"] == []
    assert table.refusal("ann", "token.move", token=own, x=1, y=1).code == "not-found"


def test_rd4_a_change_of_scene_exchanges_everything_on_it(
    table: Table, crypt: str, wolf: str, spy: str
) -> None:
    hall = table.room.active
    line = table.make("ann", "draw.add", shape={"kind": "line"})
    ghoul = table.make("gm", "token.add", name="Ghoul", x=1, y=1, scene=crypt)
    table.make("gm", "token.add", name="Trap", x=1, y=1, scene=crypt, hidden=True)
    mark = table.make("gm", "draw.add", shape={"kind": "dot"}, scene=crypt)
    data = told(table, "ann", "gm", "scene.activate", scene=crypt)
    assert data["type"] == "scene.activated"
    assert data["gone"] == {"scenes": [hall], "tokens": [wolf], "drawings": [line]}
    shown = {kind: [one["id"] for one in things] for kind, things in data["shown"].items()}
    assert shown == {"scenes": [crypt], "tokens": [ghoul], "drawings": [mark]}


def test_rd4_who_was_placed_elsewhere_is_not_told_of_the_active_scene(
    table: Table, crypt: str
) -> None:
    moor = table.make("gm", "scene.create", name="Moor", width=5, height=5)
    data = told(table, "ann", "gm", "scene.place", scene=crypt, members=["bob", "ann"])
    assert data["members"] == ["ann"]
    assert told(table, "ann", "gm", "scene.activate", scene=moor) == {"type": "hidden"}
    assert told(table, "ann", "gm", "scene.activate", scene=crypt) == {"type": "hidden"}
    data = told(table, "ann", "gm", "scene.place", scene=None, members=["ann"])
    assert body(data) == {"scene": None, "members": ["ann"]}


def test_rd6_a_group_move_is_told_without_what_is_out_of_sight(
    table: Table, spy: str, wolf: str
) -> None:
    bear = table.make("gm", "token.add", name="Bear", x=1, y=1)
    ways = [{"token": key, "x": 7.0, "y": 7.0} for key in (spy, wolf, bear)]
    assert told(table, "ann", "gm", "token.move", moves=ways)["moves"] == ways[1:]
    ways = [{"token": key, "x": 8.0, "y": 8.0} for key in (spy, wolf)]
    assert body(told(table, "ann", "gm", "token.move", moves=ways)) == ways[1]


def test_rd7_a_turn_is_told_as_the_reader_sees_the_order(table: Table, spy: str, wolf: str) -> None:
    rows = [
        {"name": "Spy", "value": 9, "token": spy},
        {"name": "Wolf", "value": 8, "token": wolf},
        {"name": "Lair", "value": 7},
    ]
    data = told(table, "ann", "gm", "turn.set", entries=rows)
    assert [row["name"] for row in data["turn"]["entries"]] == ["Wolf", "Lair"]
    assert data["turn"]["current"] is None
    assert told(table, "ann", "gm", "turn.next")["turn"]["current"] == 0
    renamed = [{**rows[0], "name": "Assassin"}, *rows[1:]]
    data = told(table, "ann", "gm", "turn.set", entries=renamed, current=1)
    assert data == {"type": "hidden"}


def test_rd7_what_else_changes_the_order_brings_it_along(table: Table, spy: str, wolf: str) -> None:
    rows = [
        {"name": "Spy", "value": 9, "token": spy},
        {"name": "Wolf", "value": 8, "token": wolf},
    ]
    table.send("gm", "turn.set", entries=rows)
    data = told(table, "ann", "gm", "token.update", token=spy, hidden=False)
    assert [row["name"] for row in data["shown"]["turn"]["entries"]] == ["Spy", "Wolf"]
    assert data["shown"]["turn"]["current"] == 0
    (step,) = table.send("gm", "token.remove", token=wolf)
    assert not is_public(step)
    (data,) = table.told("ann", [step])
    assert (data["type"], data["token"]) == ("token.removed", wolf)
    assert [row["name"] for row in data["shown"]["turn"]["entries"]] == ["Spy"]
    assert told(table, "eve", "gm", "undo")["events"][0]["type"] == "token.added"


def test_rd7_that_only_rows_out_of_sight_went_is_not_told(
    table: Table, spy: str, wolf: str
) -> None:
    row = {"name": "Wolf", "value": 8, "token": wolf}
    table.send("gm", "turn.set", entries=[row, {"name": "Spy", "value": 1, "token": spy}])
    (step,) = table.send("gm", "turn.set", entries=[row])
    assert not is_public(step)
    assert table.told("ann", [step]) == [{"type": "hidden"}]


def test_rd8_of_an_undone_command_the_reader_is_told_their_part(
    table: Table, crypt: str, spy: str, wolf: str
) -> None:
    moves = [{"token": key, "x": 7.0, "y": 7.0} for key in (spy, wolf)]
    table.send("gm", "token.move", moves=moves)
    (part,) = told(table, "ann", "gm", "undo")["events"]
    assert part == {"type": "token.moved", "token": wolf, "x": 5, "y": 5}
    assert told(table, "ann", "gm", "redo")["events"] == [{**part, "x": 7, "y": 7}]
    table.send("gm", "token.update", token=wolf, hidden=True)
    (part,) = told(table, "ann", "gm", "undo")["events"]
    assert part["shown"]["tokens"][0]["id"] == wolf
    (part,) = told(table, "ann", "gm", "redo")["events"]
    assert body(part) == {"token": wolf, "gone": {"tokens": [wolf]}}
    table.send("gm", "scene.place", scene=crypt, members=["bob"])
    assert told(table, "ann", "gm", "undo") == {"type": "hidden"}
    assert told(table, "bob", "gm", "redo")["events"][0]["members"] == ["bob"]


def test_rd9_what_is_public_is_told_to_all_as_it_is_stored(table: Table, wolf: str) -> None:
    rows = [{"name": "Wolf", "value": 8, "token": wolf}]
    public: list[tuple[str, str, dict[str, Any]]] = [
        ("gm", "token.move", {"token": wolf, "x": 1, "y": 1}),
        ("gm", "token.move", {"moves": [{"token": wolf, "x": 2, "y": 1}]}),
        ("gm", "token.update", {"token": wolf, "name": "Bear"}),
        ("ann", "token.add", {"name": "Cat", "x": 1, "y": 1}),
        ("gm", "turn.set", {"entries": rows}),
        ("ann", "chat.say", {"text": "hi"}),
        ("ann", "dice.roll", {"expression": "1d6"}),
        ("ann", "draw.add", {"shape": {}}),
        ("gm", "scene.update", {"scene": table.room.active, "name": "Hall"}),
        ("gm", "room.update", {"name": "Attic"}),
        ("gm", "member.mute", {"user": "bob", "muted": True}),
    ]
    for by, kind, fields in public:
        (step,) = table.send(by, kind, **fields)
        assert is_public(step), kind
        for user in ("gm", "ann", "cid", "stranger"):
            assert table.told(user, [step]) == [plain(step.event)], kind


def test_rd11_assets_are_served_to_those_whose_view_refers_to_them(
    table: Table, crypt: str
) -> None:
    table.send("gm", "token.add", name="Spy", x=0, y=0, image="hidden", hidden=True)
    table.send("gm", "token.add", name="Wolf", x=0, y=0, image="wolf")
    table.send("gm", "token.add", name="Ghoul", x=0, y=0, image="ghoul", scene=crypt)
    table.send("gm", "scene.update", scene=crypt, background="crypt")
    table.send("gm", "scene.update", scene=table.room.active, background="hall")
    table.send("gm", "scene.place", scene=crypt, members=["bob"])
    everything = {"hidden", "wolf", "ghoul", "crypt", "hall"}
    assert visible_assets(table.room, "gm") == everything
    assert visible_assets(table.room, "ann") == {"wolf", "hall"}
    assert visible_assets(table.room, "bob") == {"ghoul", "crypt"}
    assert visible_assets(table.room, "stranger") == {"wolf", "hall"}


@pytest.mark.parametrize("place", [False, True])
def test_rd12_a_change_of_ones_own_role_shows_and_takes_what_goes_with_it(
    table: Table, crypt: str, spy: str, place: bool
) -> None:
    table.send("gm", "wall.set", points=ENDS)
    table.send("gm", "light.set", x=1, y=1, range=3, scene=crypt)
    table.send("gm", "scene.place", scene=crypt, members=["ann", "bob"] if place else ["bob"])
    reader = Reader(table.view("ann"))
    for role in ("gm", "spectator", "gm", "player"):
        (step,) = table.send("gm", "member.role", user="ann", role=role)
        (data,) = table.told("ann", [step])
        assert ("shown" in data) == (role == "gm" or place)
        assert "gone" in data or role == "gm"
        reader.take(data, step.after.version)
        assert canonical(reader.view) == canonical(table.view("ann"))
        assert table.told("bob", [step])[0].keys().isdisjoint({"shown", "gone"})


def test_rd13_before_joining_one_sees_as_a_player_who_owns_nothing(
    table: Table, spy: str, wolf: str
) -> None:
    stranger, player = table.view("stranger"), table.view("bob")
    assert stranger["me"] == {"id": "stranger", "role": "player"}
    assert {**stranger, "me": None} == {**player, "me": None}
    assert told(table, "stranger", "gm", "token.move", token=spy, x=1, y=1) == {"type": "hidden"}
    assert told(table, "stranger", "gm", "token.move", token=wolf, x=1, y=1)["token"] == wolf


def test_rd14_a_snapshot_tells_who_is_online_and_nothing_of_what_can_be_undone(
    table: Table, wolf: str
) -> None:
    view = plain(redact(table.room, "ann", online=frozenset({"gm"})))
    online = {one["id"]: one["online"] for one in view["members"]}
    assert online == {"gm": True, "ann": False, "bob": False, "cid": False, "eve": False}
    assert view.keys() == {
        *("id", "name", "visibility", "tags", "settings", "me", "members"),
        *("scenes", "tokens", "walls", "doors", "lights", "drawings", "placed", "turn", "chat"),
    }
