"""The ledger finds what was lost, doubled or reordered; a clean game shows nothing."""

import pytest

from tableforge.bench.steady import Company, Order, Publication
from tableforge.bench.steady import Event as Told
from tableforge.bench.tables import Seat

LOG = [(1, "piece"), (2, "piece"), (3, "m0-1"), (4, "m1-1"), (5, "m0-2")]


def company(acknowledged: dict[str, int]) -> Company:
    """Two players at a table of which they were told nothing yet, with what they were promised."""
    made = Company([Seat("t", "r", "p")] * 2, [("127.0.0.1", 1)] * 2, rate=1)
    for name, offset in acknowledged.items():
        player, number = map(int, name[1:].split("-"))
        made.orders[name] = Order(name, player, number, 0.0, offset=offset)
    return made


def found(made: Company) -> dict[str, int]:
    kinds = ("lost", "doubled", "disordered", "failed")
    return {kind: getattr(made.wrongs, kind) for kind in kinds if getattr(made.wrongs, kind)}


@pytest.mark.parametrize(
    ("acknowledged", "log", "wrong"),
    [
        ({"m0-1": 3, "m1-1": 4, "m0-2": 5}, LOG, {}),
        # Carried out and never answered.
        ({"m0-1": 3, "m1-1": 0, "m0-2": 5}, LOG, {}),
        ({"m0-1": 3, "m1-1": 4, "m0-2": 5}, LOG[:4], {"lost": 1}),
        ({"m0-1": 3, "m1-1": 5, "m0-2": 5}, LOG, {"disordered": 1}),
        ({"m0-1": 3}, [*LOG, (6, "m1-1")], {"doubled": 1}),
        ({"m0-1": 3}, [LOG[0], *LOG[2:]], {"lost": 1}),
        ({"m0-2": 3, "m0-1": 5}, [*LOG[:2], (3, "m0-2"), LOG[3], (5, "m0-1")], {"disordered": 1}),
    ],
)
def test_the_log_is_held_against_what_was_promised(
    acknowledged: dict[str, int], log: list[tuple[int, str]], wrong: dict[str, int]
) -> None:
    made = company(acknowledged)
    made.compare({"r": log})
    assert found(made) == wrong


def test_a_command_that_stands_twice_is_found_over_several_readings() -> None:
    made = company({"m0-1": 3})
    made.compare({"r": LOG})
    made.compare({"r": [(6, "m0-1")]})
    assert found(made) == {"doubled": 1}


@pytest.mark.parametrize(
    ("told", "wrong"),
    [
        ([[3, 4, 5], [3, 4, 5]], {}),
        ([[3, 4, 5], [3, 5]], {"lost": 1}),
        ([[3, 4, 4, 5], [3, 4, 5]], {"doubled": 1}),
        ([[3, 4, 5], [3, 4]], {}),
    ],
)
def test_what_a_player_is_told_has_no_gaps_and_no_doubles(
    told: list[list[int]], wrong: dict[str, int]
) -> None:
    made = company({})
    for player, offsets in zip(made.players, told, strict=True):
        player.offset = 2
        for offset in offsets:
            player.arrived(Publication(offset, Told(dict(LOG)[offset])), 0.0)
    made.compare({"r": LOG})
    assert found(made) == wrong


def test_two_players_are_told_the_same() -> None:
    made = company({})
    for player, name in zip(made.players, ("m0-1", "m1-1"), strict=True):
        player.arrived(Publication(1, Told(name)), 0.0)
    assert found(made) == {"disordered": 1}


def test_what_was_told_must_be_in_the_log() -> None:
    made = company({})
    made.players[0].offset = 5
    made.players[0].arrived(Publication(6, Told("m1-9")), 0.0)
    made.compare({"r": LOG})
    assert found(made) == {"lost": 1}


async def test_who_is_never_told_of_the_end_has_lost_it() -> None:
    made = company({})
    for offset, name in LOG:
        made.players[0].arrived(Publication(offset, Told(name)), 0.0)
    await made.rest(0.05)
    assert found(made) == {"lost": 1}
