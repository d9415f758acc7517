"""Pieces: who may put, move, change and take which, and what a locked one means."""

from typing import Any

import pytest

from tableforge.domain.tokens import TOKENS_MAX
from tests.table import NOWHERE, Table, opened, plain


@pytest.fixture
def table() -> Table:
    return opened(ann="player", bob="player", cid="spectator")


def event(table: Table, by: str, kind: str, **fields: Any) -> Any:
    """The one event of a command, as its JSON."""
    (step,) = table.send(by, kind, **fields)
    return plain(step.event)


def test_tk1_a_players_piece_is_their_own_in_the_open(table: Table) -> None:
    told = event(table, "ann", "token.add", name="Cat", x=1.5, y=2, width=2, image="i" * 16)
    token = told["token"]
    assert (token["owner"], token["layer"], token["hidden"], token["locked"]) == (
        "ann",
        "object",
        False,
        False,
    )
    assert (token["scene"], token["x"], token["width"]) == (table.room.active, 1.5, 2)
    assert table.make("ann", "token.add", name="Cat", x=0, y=0, owner="ann", layer="object")


@pytest.mark.parametrize(
    "fields",
    [
        {"owner": "bob"},
        {"owner": None},
        {"layer": "gm"},
        {"layer": "map"},
        {"hidden": True},
        {"locked": True},
    ],
)
def test_tk1_anything_else_about_it_is_the_gms(table: Table, fields: dict[str, Any]) -> None:
    assert table.refusal("ann", "token.add", name="Cat", x=0, y=0, **fields).code == "forbidden"
    assert table.make("gm", "token.add", name="Cat", x=0, y=0, **fields)


def test_tk1_the_gm_may_keep_adding_to_themselves(table: Table) -> None:
    table.send("gm", "room.update", settings={"players_add_tokens": False})
    assert table.refusal("ann", "token.add", name="Cat", x=0, y=0).code == "forbidden"
    assert table.make("gm", "token.add", name="Cat", x=0, y=0, owner="ann")


def test_tk2_players_handle_their_own_pieces_only(table: Table) -> None:
    own = table.make("gm", "token.add", name="Cat", x=0, y=0, owner="ann")
    for by in ("bob", "cid"):
        assert table.refusal(by, "token.move", token=own, x=1, y=1).code == "forbidden"
        assert table.refusal(by, "token.update", token=own, name="Mine").code == "forbidden"
        assert table.refusal(by, "token.remove", token=own).code == "forbidden"
    table.send("ann", "token.move", token=own, x=1, y=1)
    table.send("ann", "token.update", token=own, name="Tom", width=2, x=3)
    for fields in ({"owner": "bob"}, {"hidden": True}, {"locked": True}, {"layer": "map"}):
        assert table.refusal("ann", "token.update", token=own, **fields).code == "forbidden"
    table.send("ann", "token.remove", token=own)
    assert own not in table.room.tokens


def test_tk2_an_owner_who_became_a_spectator_handles_nothing(table: Table) -> None:
    own = table.make("ann", "token.add", name="Cat", x=0, y=0)
    table.send("gm", "member.role", user="ann", role="spectator")
    assert table.refusal("ann", "token.move", token=own, x=1, y=1).code == "forbidden"


def test_tk3_a_move_is_told_in_the_form_it_was_sent_in(table: Table) -> None:
    one = table.make("ann", "token.add", name="Cat", x=0, y=0)
    other = table.make("ann", "token.add", name="Dog", x=0, y=0)
    stamp = {"by", "at", "id", "type"}
    told = event(table, "ann", "token.move", token=one, x=1, y=2)
    assert {key: told[key] for key in told.keys() - stamp} == {"token": one, "x": 1, "y": 2}
    told = event(table, "ann", "token.move", token=one, x=1, y=2, rotation=45)
    assert {key: told[key] for key in told.keys() - stamp} == {
        "token": one,
        "x": 1,
        "y": 2,
        "rotation": 45,
    }
    moves = [{"token": one, "x": 5, "y": 5}, {"token": other, "x": 6, "y": 5, "rotation": 90}]
    assert event(table, "ann", "token.move", moves=moves)["moves"] == moves
    assert table.room.tokens[one].rotation == 45


def test_tk4_several_move_all_or_none(table: Table) -> None:
    own = table.make("ann", "token.add", name="Cat", x=0, y=0)
    others = table.make("bob", "token.add", name="Dog", x=0, y=0)
    locked = table.make("gm", "token.add", name="Rock", x=0, y=0, owner="ann", locked=True)
    for second, code in ((others, "forbidden"), (NOWHERE, "not-found"), (locked, "locked")):
        moves = [{"token": own, "x": 1, "y": 1}, {"token": second, "x": 1, "y": 1}]
        assert table.refusal("ann", "token.move", moves=moves).code == code
    assert table.room.tokens[own].x == 0


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"token": NOWHERE},
        {"token": NOWHERE, "x": 1},
        {"x": 1, "y": 1},
        {"token": NOWHERE, "x": 1, "y": 1, "moves": [{"token": NOWHERE, "x": 1, "y": 1}]},
        {"rotation": 1, "moves": [{"token": NOWHERE, "x": 1, "y": 1}]},
    ],
)
def test_tk4_a_move_has_one_of_two_forms(table: Table, fields: dict[str, Any]) -> None:
    assert table.refusal("gm", "token.move", **fields).code == "malformed"


def test_tk4_no_piece_is_moved_twice_at_once(table: Table) -> None:
    own = table.make("ann", "token.add", name="Cat", x=0, y=0)
    moves = [{"token": own, "x": 1, "y": 1}, {"token": own, "x": 2, "y": 2}]
    assert table.refusal("ann", "token.move", moves=moves).code == "malformed"


def test_tk5_a_locked_piece_is_moved_by_nobody_before_it_is_unlocked(table: Table) -> None:
    rock = table.make("gm", "token.add", name="Rock", x=0, y=0, owner="ann", locked=True)
    for by in ("gm", "ann"):
        assert table.refusal(by, "token.move", token=rock, x=1, y=1).code == "locked"
        assert table.refusal(by, "token.update", token=rock, x=1).code == "locked"
    for kind, fields in (("token.update", {"name": "Stone"}), ("token.remove", {})):
        assert table.refusal("ann", kind, token=rock, **fields).code == "locked"
    table.send("gm", "token.update", token=rock, name="Stone")
    assert table.refusal("gm", "token.update", token=rock, x=1, locked=True).code == "locked"
    table.send("gm", "token.update", token=rock, x=1, locked=False)
    table.send("gm", "token.move", token=rock, x=2, y=2)


def test_tk5_who_may_not_touch_a_piece_is_not_told_that_it_is_locked(table: Table) -> None:
    rock = table.make("gm", "token.add", name="Rock", x=0, y=0, locked=True)
    assert table.refusal("ann", "token.move", token=rock, x=1, y=1).code == "forbidden"


def test_tk6_an_update_tells_only_what_changed(table: Table) -> None:
    token = table.make("gm", "token.add", name="Cat", x=0, y=0, image="i" * 16)
    told = event(table, "gm", "token.update", token=token, name="Cat", x=0, y=4, image=None)
    assert {key: told[key] for key in told.keys() - {"by", "at", "id", "type"}} == {
        "token": token,
        "y": 4,
        "image": None,
    }


def test_tk6_an_owner_is_a_member(table: Table) -> None:
    token = table.make("gm", "token.add", name="Cat", x=0, y=0)
    for kind, fields in (
        ("token.update", {"token": token}),
        ("token.add", {"name": "Dog", "x": 0, "y": 0}),
    ):
        assert table.refusal("gm", kind, owner=NOWHERE, **fields).code == "not-found"


def test_rm9_a_room_holds_a_bounded_number_of_pieces(table: Table) -> None:
    token = table.make("gm", "token.add", name="Cat", x=0, y=0)
    piece = table.room.tokens[token]
    table.room.tokens.update({f"t{number}": piece for number in range(TOKENS_MAX - 1)})
    assert table.refusal("gm", "token.add", name="Dog", x=0, y=0).code == "too-large"
    table.send("gm", "token.remove", token="t1")
    assert table.make("gm", "token.add", name="Dog", x=0, y=0)
