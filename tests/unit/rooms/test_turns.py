"""Who writes next while instances collide."""

import pytest

from tableforge.rooms.turns import (
    CONTENDED_SECONDS,
    REMEMBERED_SECONDS,
    SLOT_COMMITS,
    SLOT_MAX_SECONDS,
    SLOT_MIN_SECONDS,
    Pace,
    Turns,
)

NOW = 100.0


def colliding(me: str, *others: str) -> tuple[Turns, Pace]:
    """A writer among others, all of which were heard of, just after a collision."""
    pace = Pace()
    turns = Turns(me, pace)
    for other in others:
        turns.wrote(other, NOW)
    turns.collided(NOW)
    return turns, pace


def test_nobody_waits_who_has_met_nobody() -> None:
    turns = Turns("b", Pace())
    turns.wrote("a", NOW)
    turns.wrote("b", NOW)
    assert turns.wait(NOW) == 0.0


@pytest.mark.parametrize(
    ("wrote", "slots"), [("a", 0), ("c", 1), ("b", 2)], ids=["before me", "two before me", "me"]
)
def test_after_a_collision_the_next_in_the_ring_goes_first(wrote: str, slots: int) -> None:
    turns, pace = colliding("b", "a", "c")
    turns.wrote(wrote, NOW)
    assert turns.wait(NOW) == pytest.approx(slots * pace.slot)
    assert turns.wait(NOW + slots * pace.slot) == 0.0


def test_a_collision_whose_winner_is_not_known_costs_a_moment() -> None:
    turns, pace = colliding("b")
    assert 0.0 <= turns.wait(NOW) <= pace.slot


def test_rings_are_forgotten_when_nobody_collides_any_more() -> None:
    turns, _ = colliding("b", "a", "c")
    turns.wrote("b", NOW)
    assert turns.wait(NOW + CONTENDED_SECONDS) == 0.0


def test_an_instance_that_is_silent_loses_its_place() -> None:
    turns, pace = colliding("b", "a")
    later = NOW + REMEMBERED_SECONDS
    turns.wrote("c", later)
    turns.collided(later)
    turns.wrote("b", later)
    assert turns.wait(later) == pytest.approx(pace.slot)


def test_slots_follow_the_time_of_appends_within_bounds() -> None:
    pace = Pace()
    assert pace.slot == pytest.approx(max(pace.seconds * SLOT_COMMITS, SLOT_MIN_SECONDS))
    for _ in range(100):
        pace.took(0.010)
    assert pace.slot == pytest.approx(0.010 * SLOT_COMMITS, rel=0.01)
    for _ in range(100):
        pace.took(10.0)
    assert pace.slot == SLOT_MAX_SECONDS
    for _ in range(100):
        pace.took(0.0)
    assert pace.slot == SLOT_MIN_SECONDS
