"""The turn order."""

from typing import Any

import pytest

from tests.table import NOWHERE, Table, opened


@pytest.fixture
def table() -> Table:
    return opened(ann="player", bob="player", cid="spectator")


@pytest.fixture
def pieces(table: Table) -> dict[str, str]:
    make = table.make
    return {
        "Cat": make("ann", "token.add", name="Cat", x=0, y=0),
        "Dog": make("bob", "token.add", name="Dog", x=0, y=0),
        "Spy": make("gm", "token.add", name="Spy", x=0, y=0, hidden=True, owner="bob"),
    }


def rows(pieces: dict[str, str], **values: float) -> list[dict[str, Any]]:
    """Rows with these values, bound to the pieces of the same name."""
    return [
        {"name": name, "value": value, **({"token": pieces[name]} if name in pieces else {})}
        for name, value in values.items()
    ]


def names(turn: Any) -> list[str]:
    """The names in a turn order, with a star at the row whose turn it is."""
    marks = ("*" if at == turn["current"] else "" for at in range(len(turn["entries"])))
    return [row["name"] + mark for row, mark in zip(turn["entries"], marks, strict=True)]


def test_tu1_the_highest_comes_first_and_equal_ones_as_they_were_given(
    table: Table, pieces: dict[str, str]
) -> None:
    table.send("gm", "turn.set", entries=rows(pieces, Dog=3, Lair=12.5, Cat=3, Spy=20))
    turn = table.view("gm")["turn"]
    assert names(turn) == ["Spy*", "Lair", "Dog", "Cat"]
    assert (turn["active"], turn["round"]) == (True, 1)
    table.send("gm", "turn.set", entries=[])
    assert table.view("gm")["turn"] is None


def test_tu1_a_fight_that_goes_on_is_set_with_its_round_and_row(
    table: Table, pieces: dict[str, str]
) -> None:
    entries = rows(pieces, Dog=1, Cat=2, Lair=3)
    table.send("gm", "turn.set", entries=entries, round=4, current=0)
    turn = table.view("gm")["turn"]
    assert (names(turn), turn["round"]) == (["Lair", "Cat", "Dog*"], 4)
    assert table.refusal("gm", "turn.set", entries=entries, current=3).code == "malformed"


def test_tu2_turns_go_round_and_rounds_are_counted(table: Table, pieces: dict[str, str]) -> None:
    table.send("gm", "turn.set", entries=rows(pieces, Cat=2, Dog=1))
    told = []
    for _ in range(3):
        table.send("gm", "turn.next")
        turn = table.view("ann")["turn"]
        told.append((turn["round"], names(turn)))
    assert told == [(1, ["Cat", "Dog*"]), (2, ["Cat*", "Dog"]), (2, ["Cat", "Dog*"])]
    for _ in range(3):
        table.send("gm", "turn.previous")
    assert names(table.view("ann")["turn"]) == ["Cat*", "Dog"]
    assert table.refusal("gm", "turn.previous").code == "conflict"


def test_tu3_a_player_ends_the_turn_of_their_own_piece(
    table: Table, pieces: dict[str, str]
) -> None:
    assert table.refusal("ann", "turn.end").code == "conflict"
    table.send("gm", "turn.set", entries=rows(pieces, Cat=3, Spy=2, Lair=1))
    assert table.refusal("bob", "turn.end").code == "forbidden"
    assert table.refusal("cid", "turn.end").code == "forbidden"
    table.send("ann", "turn.end")
    assert table.refusal("ann", "turn.end").code == "forbidden"
    assert table.refusal("bob", "turn.end").code == "forbidden"  # it is his, but he does not see it
    table.send("gm", "turn.end")
    assert table.refusal("bob", "turn.end").code == "forbidden"
    assert names(table.view("gm")["turn"]) == ["Cat", "Spy", "Lair*"]


def test_tu4_the_row_of_a_removed_piece_is_passed_over(
    table: Table, pieces: dict[str, str]
) -> None:
    table.send("gm", "turn.set", entries=rows(pieces, Cat=3, Dog=2, Spy=1))
    table.send("bob", "token.remove", token=pieces["Dog"])
    assert names(table.view("gm")["turn"]) == ["Cat*", "Dog", "Spy"]
    assert names(table.view("ann")["turn"]) == ["Cat*"]
    table.send("gm", "turn.next")
    assert names(table.view("gm")["turn"]) == ["Cat", "Dog", "Spy*"]
    table.send("gm", "turn.previous")
    table.send("bob", "undo")
    assert names(table.view("ann")["turn"]) == ["Cat*", "Dog"]


def test_tu4_an_order_of_removed_pieces_goes_nowhere(table: Table, pieces: dict[str, str]) -> None:
    entries = rows(pieces, Dog=2)
    table.send("gm", "turn.set", entries=entries)
    table.send("bob", "token.remove", token=pieces["Dog"])
    for kind in ("turn.next", "turn.previous", "turn.end"):
        assert table.refusal("gm", kind).code == "conflict"
    table.send("gm", "turn.set", entries=[*entries, *rows(pieces, Cat=1)])
    table.send("gm", "turn.next")
    assert names(table.view("gm")["turn"]) == ["Dog", "Cat*"]


def test_tu5_rows_are_bound_to_pieces_that_the_sender_sees(
    table: Table, pieces: dict[str, str]
) -> None:
    bound = [{"name": "Nobody", "value": 1, "token": NOWHERE}]
    assert table.refusal("gm", "turn.set", entries=bound).code == "not-found"
    assert table.refusal("ann", "turn.set", entries=rows(pieces, Spy=1)).code == "not-found"
    table.send("gm", "turn.set", entries=rows(pieces, Spy=1))
    assert table.refusal("ann", "turn.set", entries=rows(pieces, Spy=1)).code == "not-found"
    assert table.refusal("ann", "turn.set", entries=rows(pieces, Cat=1)).code == "forbidden"


def test_nothing_passes_on_without_an_order(table: Table) -> None:
    for kind in ("turn.next", "turn.previous", "turn.end"):
        assert table.refusal("gm", kind).code == "conflict"
