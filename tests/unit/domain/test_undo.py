"""Undo and redo."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tableforge.domain.deeds import CHANGES_MAX, DEEDS_MAX
from tableforge.domain.drawings import DRAWINGS_MAX
from tableforge.domain.scenes import SCENES_MAX
from tableforge.domain.tokens import TOKENS_MAX
from tableforge.domain.walls import DOORS_MAX, LIGHTS_MAX, WALLS_MAX
from tableforge.errors import Conflict, NotFound
from tests.reader import Reader, canonical
from tests.table import Table, opened, plain

BOARD = ("scenes", "active", "placed", "tokens", "walls", "doors", "lights", "drawings", "turn")
ENDS = [{"x": 0.0, "y": 0.0}, {"x": 4.0, "y": 0.0}]


@pytest.fixture
def table() -> Table:
    return opened(ann="player", bob="player", eve="gm", cid="spectator")


def board(table: Table) -> dict[str, Any]:
    """Everything that can be undone."""
    room = plain(table.room)
    return {name: room[name] for name in BOARD}


def furnished(table: Table) -> dict[str, str]:
    """A second scene with one of everything on it, members placed there, and a turn order."""
    make = table.make
    crypt = make("eve", "scene.create", name="Crypt", width=10, height=10)
    things = {
        "scene": crypt,
        "token": make("eve", "token.add", name="Ghoul", x=1, y=1, scene=crypt, owner="ann"),
        "wall": make("eve", "wall.set", points=ENDS, scene=crypt),
        "door": make("eve", "door.set", points=ENDS, scene=crypt),
        "light": make("eve", "light.set", x=1, y=1, range=5, scene=crypt),
        "drawing": make("eve", "draw.add", shape={"kind": "dot"}, scene=crypt),
    }
    table.send("eve", "scene.place", scene=crypt, members=["ann", "bob"])
    rows = [
        {"name": "Ghoul", "value": 9, "token": things["token"]},
        {"name": "Lair", "value": 1},
    ]
    table.send("eve", "turn.set", entries=rows)
    return things


def commands(things: dict[str, str]) -> list[tuple[str, dict[str, Any]]]:
    """One command of every kind that can be undone."""
    scene, token = things["scene"], things["token"]
    return [
        ("scene.create", {"name": "Moor", "width": 5, "height": 5}),
        ("scene.update", {"scene": scene, "name": "Deep", "background": "b" * 16}),
        ("scene.activate", {"scene": scene}),
        ("scene.remove", {"scene": scene}),
        ("scene.place", {"scene": None, "members": ["ann"]}),
        ("scene.place", {"scene": scene, "members": ["ann", "cid"]}),
        ("token.add", {"name": "Cat", "x": 0, "y": 0}),
        ("token.move", {"token": token, "x": 5, "y": 5}),
        ("token.move", {"moves": [{"token": token, "x": 5, "y": 5, "rotation": 90}]}),
        ("token.update", {"token": token, "name": "Wight", "hidden": True, "x": 3}),
        ("token.remove", {"token": token}),
        ("wall.set", {"points": ENDS}),
        ("wall.set", {"wall": things["wall"], "points": [*ENDS, {"x": 4, "y": 4}]}),
        ("wall.set", {"wall": things["wall"], "remove": True}),
        ("door.set", {"door": things["door"], "state": "open"}),
        ("door.set", {"door": things["door"], "remove": True}),
        ("light.set", {"light": things["light"], "range": 9}),
        ("light.set", {"light": things["light"], "remove": True}),
        ("draw.add", {"shape": {"kind": "dot"}}),
        ("draw.remove", {"drawing": things["drawing"]}),
        ("turn.set", {"entries": []}),
        ("turn.next", {}),
        ("turn.end", {}),
    ]


@pytest.mark.parametrize("number", range(23))
def test_un1_undo_takes_a_command_back_and_redo_does_it_again(table: Table, number: int) -> None:
    things = furnished(table)
    kind, fields = commands(things)[number]
    before = board(table)
    (step,) = table.send("gm", kind, **fields)
    after = board(table)
    assert before != after
    (undone,) = table.send("gm", "undo")
    assert board(table) == before
    told = table.told("gm", [undone])[0]
    assert (told["type"], told["of"]) == ("undone", plain(step.event)["id"])
    assert all(part.keys().isdisjoint({"by", "at", "id"}) for part in told["events"])
    (redone,) = table.send("gm", "redo")
    assert board(table) == after
    assert table.told("gm", [redone])[0]["of"] == told["of"]
    table.send("gm", "undo")
    assert board(table) == before


@pytest.mark.parametrize("number", range(23))
def test_rd8_everybody_can_follow_what_is_undone_and_redone(table: Table, number: int) -> None:
    things = furnished(table)
    kind, fields = commands(things)[number]
    readers = {user: Reader(table.view(user)) for user in ("gm", "ann", "bob", "cid", "stranger")}
    for name, wanted in ((kind, fields), ("undo", {}), ("redo", {}), ("undo", {})):
        steps = table.send("gm", name, **wanted)
        for user, reader in readers.items():
            for step, data in zip(steps, table.told(user, steps), strict=True):
                reader.take(data, step.after.version)
            assert canonical(reader.view) == canonical(table.view(user)), (user, name)


def test_un1_every_kind_of_command_is_tried() -> None:
    assert (
        len(commands(dict.fromkeys(("scene", "token", "wall", "door", "light", "drawing"), "")))
        == 23
    )


def test_un2_commands_are_taken_back_last_first_and_only_ones_own(table: Table) -> None:
    own = table.make("ann", "token.add", name="Cat", x=0, y=0)
    table.send("ann", "token.move", token=own, x=1, y=1)
    table.make("bob", "token.add", name="Dog", x=0, y=0)
    table.send("ann", "undo")
    assert table.room.tokens[own].x == 0
    table.send("ann", "undo")
    assert own not in table.room.tokens
    assert len(table.room.tokens) == 1
    assert table.refusal("ann", "undo").code == "nothing-to-undo"


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("chat.say", {"text": "hi"}),
        ("dice.roll", {"expression": "1d6"}),
        ("member.mute", {"user": "ann", "muted": True}),
        ("room.update", {"name": "Attic"}),
    ],
)
def test_un3_talk_dice_and_members_are_not_undone(
    table: Table, kind: str, fields: dict[str, Any]
) -> None:
    assert table.refusal("gm", "undo").code == "nothing-to-undo"
    table.send("gm", kind, **fields)
    assert table.refusal("gm", "undo").code == "nothing-to-undo"
    assert table.refusal("gm", "redo").code == "nothing-to-undo"


def test_un4_a_further_command_ends_what_can_be_redone(table: Table) -> None:
    own = table.make("ann", "token.add", name="Cat", x=0, y=0)
    table.send("ann", "token.move", token=own, x=1, y=1)
    table.send("ann", "undo")
    table.send("ann", "chat.say", text="hm")
    table.send("ann", "redo")
    table.send("ann", "undo")
    table.send("ann", "token.update", token=own, name="Tom")
    assert table.refusal("ann", "redo").code == "nothing-to-undo"


def test_un5_what_others_changed_since_is_not_undone(table: Table) -> None:
    own = table.make("ann", "token.add", name="Cat", x=0, y=0)
    table.send("ann", "token.move", token=own, x=1, y=1)
    table.send("gm", "token.move", token=own, x=2, y=1)
    assert table.refusal("ann", "undo").code == "changed-since"
    table.send("gm", "undo")
    table.send("ann", "undo")
    table.send("gm", "token.remove", token=own)
    assert table.refusal("ann", "redo").code == "changed-since"


def test_un5_a_place_is_one_value(table: Table) -> None:
    own = table.make("ann", "token.add", name="Cat", x=21, y=17)
    table.send("gm", "token.move", token=own, x=13, y=17)
    table.send("ann", "token.move", token=own, x=13, y=3)
    assert table.refusal("gm", "undo").code == "changed-since"
    table.send("ann", "undo")
    table.send("gm", "undo")
    assert (table.room.tokens[own].x, table.room.tokens[own].y) == (21, 17)


def test_un5_other_fields_are_left_as_others_made_them(table: Table) -> None:
    own = table.make("ann", "token.add", name="Cat", x=0, y=0)
    table.send("ann", "token.move", token=own, x=1, y=1)
    table.send("gm", "token.update", token=own, name="Tom", width=2)
    table.send("ann", "undo")
    token = table.room.tokens[own]
    assert (token.x, token.y, token.name, token.width) == (0, 0, "Tom", 2)


def test_un5_pieces_of_a_group_that_stood_there_already_do_not_matter(table: Table) -> None:
    own = table.make("ann", "token.add", name="Cat", x=0, y=0)
    still = table.make("ann", "token.add", name="Dog", x=1, y=1)
    moves = [{"token": own, "x": 1, "y": 1}, {"token": still, "x": 1, "y": 1}]
    table.send("ann", "token.move", moves=moves)
    table.send("gm", "token.remove", token=still)
    table.send("ann", "undo")
    assert table.room.tokens[own].x == 0


def test_un6_a_scene_comes_back_with_everything_that_went_with_it(table: Table) -> None:
    things = furnished(table)
    before = board(table)
    table.send("gm", "scene.remove", scene=things["scene"])
    table.send("eve", "token.add", name="Cat", x=0, y=0)
    table.send("gm", "undo")
    after = board(table)
    for kind in ("scenes", "placed", "walls", "doors", "lights", "drawings", "turn"):
        assert after[kind] == before[kind]
    assert before["tokens"].items() <= after["tokens"].items()


def test_un6_members_who_left_meanwhile_are_not_placed_again(table: Table) -> None:
    things = furnished(table)
    table.send("gm", "scene.remove", scene=things["scene"])
    table.send("gm", "member.kick", user="ann")
    table.send("gm", "undo")
    assert table.room.placed == {"bob": things["scene"]}


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("token.add", {"name": "Cat", "x": 0, "y": 0}),
        ("wall.set", {"points": ENDS}),
        ("draw.add", {"shape": {}}),
        ("scene.place", {"members": ["ann"]}),
        ("scene.activate", {}),
        ("scene.update", {"name": "Moor"}),
    ],
)
def test_un7_a_scene_that_others_use_does_not_go_away(
    table: Table, kind: str, fields: dict[str, Any]
) -> None:
    scene = table.make("gm", "scene.create", name="Crypt", width=10, height=10)
    table.send("eve", kind, scene=scene, **fields)
    assert table.refusal("gm", "undo").code == "changed-since"
    table.send("eve", "undo")
    table.send("gm", "undo")
    assert scene not in table.room.scenes


def test_un7_nothing_comes_back_to_a_scene_that_is_gone(table: Table) -> None:
    things = furnished(table)
    table.send("gm", "token.remove", token=things["token"])
    table.send("eve", "scene.remove", scene=things["scene"])
    assert table.refusal("gm", "undo").code == "changed-since"
    table.send("gm", "scene.create", name="Moor", width=5, height=5)


def test_un8_undo_asks_what_the_caller_may_do_now(table: Table) -> None:
    own = table.make("ann", "token.add", name="Cat", x=0, y=0)
    table.send("ann", "token.move", token=own, x=1, y=1)
    table.send("gm", "token.update", token=own, owner="bob")
    assert table.refusal("ann", "undo").code == "forbidden"
    table.send("gm", "token.update", token=own, owner="ann", locked=True)
    assert table.refusal("ann", "undo").code == "locked"
    table.send("gm", "token.update", token=own, locked=False, hidden=True)
    assert table.refusal("ann", "undo").code == "changed-since"
    table.send("gm", "token.update", token=own, hidden=False)
    table.send("gm", "member.role", user="ann", role="spectator")
    assert table.refusal("ann", "undo").code == "forbidden"
    table.send("gm", "member.role", user="ann", role="player")
    table.send("ann", "undo")


def test_un8_one_who_is_no_gm_any_more_takes_back_nothing_of_a_gms(table: Table) -> None:
    things = furnished(table)
    for kind, fields in commands(things):
        if kind == "draw.add":
            continue  # players draw too
        table.send("gm", kind, **fields)
        table.send("eve", "member.role", user="gm", role="player")
        assert table.refusal("gm", "undo").http_status in {403, 409}
        table.send("eve", "member.role", user="gm", role="gm")
        table.send("gm", "undo")


def test_un8_a_locked_piece_stays_for_gms_too(table: Table) -> None:
    rock = table.make("gm", "token.add", name="Rock", x=0, y=0)
    table.send("gm", "token.move", token=rock, x=1, y=1)
    table.send("eve", "token.update", token=rock, locked=True)
    assert table.refusal("gm", "undo").code == "locked"
    table.send("eve", "undo")
    table.send("gm", "token.update", token=rock, locked=True, x=5)
    table.send("gm", "undo")
    assert (table.room.tokens[rock].x, table.room.tokens[rock].locked) == (1, False)


def test_un8_a_removed_piece_may_come_back_where_players_add_none(table: Table) -> None:
    own = table.make("gm", "token.add", name="Cat", x=0, y=0, owner="ann")
    table.send("ann", "token.remove", token=own)
    table.send("gm", "room.update", settings={"players_add_tokens": False})
    table.send("ann", "undo")
    assert own in table.room.tokens
    table.send("gm", "room.update", settings={"players_add_tokens": True})
    table.make("ann", "token.add", name="Dog", x=0, y=0)
    table.send("ann", "undo")
    table.send("gm", "room.update", settings={"players_add_tokens": False})
    assert table.refusal("ann", "redo").code == "forbidden"


def test_un8_what_one_does_not_see_any_more_counts_as_changed(table: Table) -> None:
    elsewhere = table.make("gm", "scene.create", name="Crypt", width=5, height=5)
    first, second = (table.make("ann", "token.add", name="Cat", x=0, y=0) for _ in "12")
    for kind, fields in (
        ("token.remove", {"token": first}),
        ("token.update", {"token": second, "name": "Tom"}),
        ("draw.add", {"shape": {}}),
        ("undo", {}),
        ("draw.add", {"shape": {}}),
    ):
        table.send("ann", kind, **fields)
        if kind == "undo":
            continue
        table.send("gm", "scene.place", scene=elsewhere, members=["ann"])
        assert table.refusal("ann", "undo").code == "changed-since"
        table.send("gm", "scene.place", scene=None, members=["ann"])
    (drawing,) = table.room.drawings
    table.send("ann", "draw.remove", drawing=drawing)
    table.send("gm", "scene.place", scene=elsewhere, members=["ann"])
    assert table.refusal("ann", "undo").code == "changed-since"
    table.send("gm", "undo")
    table.send("ann", "undo")
    assert table.room.drawings.keys() == {drawing}


@pytest.mark.parametrize(
    ("kind", "owner", "layer", "fields"),
    [
        ("token.move", "bob", "object", {"x": 1, "y": 1}),
        ("token.update", "gm", "object", {"layer": "map"}),
        ("token.update", "bob", "object", {"name": "Tom"}),
        ("token.remove", "bob", "object", {}),
        ("token.remove", "gm", "map", {}),
    ],
)
def test_un8_a_player_takes_back_only_what_a_player_may_do(
    table: Table, kind: str, owner: str, layer: str, fields: dict[str, Any]
) -> None:
    token = table.make("gm", "token.add", name="Cat", x=0, y=0, owner=owner, layer=layer)
    table.send("gm", kind, token=token, **fields)
    table.send("eve", "member.role", user="gm", role="player")
    assert table.refusal("gm", "undo").code == "forbidden"
    table.send("eve", "member.role", user="gm", role="gm")
    table.send("gm", "undo")


def test_un8_a_player_takes_back_no_order_of_turns(table: Table) -> None:
    own = table.make("gm", "token.add", name="Cat", x=0, y=0, owner="gm")
    rows = [{"name": "Cat", "value": 9, "token": own}, {"name": "Lair", "value": 1}]
    table.send("gm", "turn.set", entries=rows)
    table.send("gm", "turn.set", entries=rows[:1])
    table.send("eve", "member.role", user="gm", role="player")
    assert table.refusal("gm", "undo").code == "forbidden"


def test_un8_a_player_brings_back_no_drawing_of_anothers(table: Table) -> None:
    drawing = table.make("bob", "draw.add", shape={})
    table.send("gm", "draw.remove", drawing=drawing)
    table.send("eve", "member.role", user="gm", role="player")
    assert table.refusal("gm", "undo").code == "forbidden"


def test_un5_a_scene_is_not_activated_again_once_it_is_gone(table: Table) -> None:
    hall = table.room.active
    crypt = table.make("eve", "scene.create", name="Crypt", width=5, height=5)
    table.send("gm", "scene.activate", scene=crypt)
    table.send("eve", "scene.remove", scene=hall)
    assert table.refusal("gm", "undo").code == "changed-since"


def test_un5_members_placed_elsewhere_since_stay_there(table: Table) -> None:
    crypt = table.make("eve", "scene.create", name="Crypt", width=5, height=5)
    table.send("gm", "scene.place", scene=crypt, members=["ann", "bob"])
    table.send("eve", "scene.place", scene=table.room.active, members=["ann"])
    assert table.refusal("gm", "undo").code == "changed-since"


def test_un9_a_turn_is_not_taken_back_for_a_piece_given_away(table: Table) -> None:
    own = table.make("ann", "token.add", name="Cat", x=0, y=0)
    table.send("gm", "turn.set", entries=[{"name": "Cat", "value": 9, "token": own}])
    table.send("ann", "turn.end")
    table.send("gm", "token.update", token=own, owner="bob")
    assert table.refusal("ann", "undo").code == "forbidden"


def test_un9_the_end_of_ones_own_turn_is_taken_back_unless_the_turn_passed_on(table: Table) -> None:
    own = table.make("ann", "token.add", name="Cat", x=0, y=0)
    spy = table.make("gm", "token.add", name="Spy", x=0, y=0, hidden=True)
    rows = [{"name": "Cat", "value": 9, "token": own}, {"name": "Lair", "value": 1}]
    table.send("gm", "turn.set", entries=rows)
    table.send("ann", "turn.end")
    unseen = {"name": "Spy", "value": 20, "token": spy}
    table.send("gm", "turn.set", entries=[*rows, unseen], current=1)
    table.send("ann", "undo")
    turn = table.room.turn
    assert turn is not None
    assert [row.name for row in turn.entries] == ["Spy", "Cat", "Lair"]
    assert turn.current == 1
    table.send("ann", "redo")
    assert table.room.turn is not None
    assert table.room.turn.current == 2
    table.send("gm", "turn.next")
    assert table.refusal("ann", "undo").code == "changed-since"


def test_un10_what_can_be_undone_is_bounded(table: Table) -> None:
    own = table.make("ann", "token.add", name="Cat", x=0, y=0)
    for number in range(1, DEEDS_MAX + 10):
        table.send("ann", "token.move", token=own, x=number, y=0)
    for _ in range(DEEDS_MAX):
        table.send("ann", "undo")
    assert table.refusal("ann", "undo").code == "nothing-to-undo"
    assert table.room.tokens[own].x == 9
    assert len(table.room.deeds["ann"].undone) == DEEDS_MAX


def test_un10_a_large_command_pushes_out_older_ones_but_can_itself_be_undone(table: Table) -> None:
    pieces = [table.make("gm", "token.add", name="Cat", x=0, y=0) for _ in range(500)]
    for number in range(1, 8):
        moves = [{"token": piece, "x": number, "y": 0} for piece in pieces]
        table.send("gm", "token.move", moves=moves)
    done = table.room.deeds["gm"].done
    assert sum(len(deed.changes) for deed in done) <= CHANGES_MAX
    assert len(done) == CHANGES_MAX // 500
    crypt = table.make("gm", "scene.create", name="Crypt", width=5, height=5)
    piece = table.room.tokens[pieces[0]]
    many = {f"t{number}": replace(piece, id=f"t{number}") for number in range(CHANGES_MAX + 1)}
    table.room.tokens.update(many)
    table.send("gm", "scene.activate", scene=crypt)
    table.send("gm", "scene.remove", scene=piece.scene)
    assert len(table.room.deeds["gm"].done) == 1
    table.send("gm", "undo")
    assert many.keys() <= table.room.tokens.keys()


@pytest.mark.parametrize(
    ("kind", "shelf", "limit"),
    [
        ("scene.remove", "scenes", SCENES_MAX),
        ("token.remove", "tokens", TOKENS_MAX),
        ("draw.remove", "drawings", DRAWINGS_MAX),
        ("wall.set", "walls", WALLS_MAX),
        ("door.set", "doors", DOORS_MAX),
        ("light.set", "lights", LIGHTS_MAX),
    ],
)
def test_un11_what_is_brought_back_counts_for_the_limits(
    table: Table, kind: str, shelf: str, limit: int
) -> None:
    things = furnished(table)
    name = "drawing" if kind == "draw.remove" else shelf.removesuffix("s")
    like = getattr(table.room, shelf)[things[name]]
    remove = {"remove": True} if kind.endswith(".set") else {}
    table.send("gm", kind, **{name: things[name]}, **remove)
    there = getattr(table.room, shelf)
    more = range(limit - len(there))
    there.update({f"x{number}": replace(like, id=f"x{number}") for number in more})
    assert table.refusal("gm", "undo").code == "too-large"
    del there["x0"]
    table.send("gm", "undo")


@given(st.lists(st.integers(0, 22), min_size=1, max_size=8))
def test_un12_undoing_everything_leads_back_to_the_beginning(numbers: list[int]) -> None:
    table = opened(ann="player", bob="player", cid="spectator", eve="gm")
    things = furnished(table)
    before = board(table)
    steps = 0
    for number in numbers:
        kind, fields = commands(things)[number]
        with suppress(NotFound, Conflict):  # an earlier command took the piece or the scene away
            steps += len(table.send("gm", kind, **fields))
    after = board(table)
    for _ in range(steps):
        table.send("gm", "undo")
    assert board(table) == before
    for _ in range(steps):
        table.send("gm", "redo")
    assert board(table) == after
