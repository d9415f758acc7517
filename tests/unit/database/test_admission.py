"""Who may use the database next (rule DB16)."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tableforge.database import DatabaseBusy
from tableforge.database.admission import Slots
from tableforge.telemetry import COUNTERS, POOL_WAITS
from tests.virtual_time import run


async def turns() -> None:
    """Let everything happen that can happen now."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_db16_the_game_has_its_reserve_whatever_the_rest_does() -> None:
    async def scene() -> None:
        slots = Slots(high=5, reserve=2, within=1.0)
        for _ in range(3):
            await slots.take(background=True)
        refused = COUNTERS.pool_refused
        with pytest.raises(DatabaseBusy, match=r"All 3 connections .* lists and searches"):
            await slots.take(background=True)
        assert COUNTERS.pool_refused == refused + 1
        await slots.take(background=False)
        await slots.take(background=False)
        assert (slots.taken, slots.taken_in_background, slots.waiting) == (5, 3, 0)

    run(scene())


def test_db16_whoever_finds_a_free_place_has_not_waited() -> None:
    async def scene() -> None:
        slots = Slots(high=2, reserve=1, within=1.0)
        waits = POOL_WAITS.of("game")
        uses, at_once = waits.count, waits.at_once
        await slots.take(background=False)
        await slots.take(background=False)
        assert (waits.count - uses, waits.at_once - at_once) == (2, 2)

    run(scene())


def test_db16_a_free_place_goes_to_the_game_first_and_in_turn() -> None:
    async def scene() -> None:
        slots = Slots(high=2, reserve=1, within=60.0)
        order: list[str] = []

        async def use(name: str, *, background: bool) -> None:
            await slots.take(background=background)
            order.append(name)
            await turns()
            slots.give_back(background=background)

        await slots.take(background=False)
        await slots.take(background=True)
        uses = [
            asyncio.ensure_future(use(name, background=name.startswith("list")))
            for name in ("list 1", "list 2", "game 1", "game 2")
        ]
        await turns()
        assert slots.waiting == COUNTERS.pool_waiting == 4
        slots.give_back(background=True)
        slots.give_back(background=False)
        await asyncio.gather(*uses)
        assert order == ["game 1", "game 2", "list 1", "list 2"]
        assert (slots.taken, slots.waiting, COUNTERS.pool_waiting) == (0, 0, 0)

    run(scene())


def test_db16_the_reserve_leaves_the_rest_one_place() -> None:
    assert [Slots(high=high, reserve=5, within=1.0).reserve for high in (1, 2, 6, 20)] == [
        0,
        1,
        5,
        5,
    ]


class Uses:
    """Uses that begin, end, are cancelled while they wait or in the moment in which they are given their place, and are late."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.begun: list[tuple[asyncio.Task[None], bool]] = []

    def holding(self, *, background: bool) -> list[tuple[asyncio.Task[None], bool]]:
        """Those that have their place."""
        return [
            (task, kind)
            for task, kind in self.begun
            if kind is background
            and task.done()
            and not task.cancelled()
            and task.exception() is None
        ]

    def begin(self, *, background: bool) -> None:
        task = asyncio.create_task(self.slots.take(background=background))
        self.begun.append((task, background))

    def end(self, *, background: bool) -> None:
        for one in self.holding(background=background)[:1]:
            self.begun.remove(one)
            self.slots.give_back(background=background)

    def cancel(self, number: int) -> None:
        waiting = [task for task, _ in self.begun if not task.done()]
        if waiting:
            waiting[number % len(waiting)].cancel()

    async def end_all(self) -> None:
        for task, _ in self.begun:
            task.cancel()
        await asyncio.gather(*(task for task, _ in self.begun), return_exceptions=True)
        for background in (False, True):
            for _ in self.holding(background=background):
                self.slots.give_back(background=background)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "begin", "end", "cancel", "turn", "late"]),
        st.booleans(),
        st.integers(0, 9),
    ),
    max_size=60,
)


async def act(uses: Uses, step: str, number: int, *, background: bool) -> None:
    match step:
        case "begin":
            uses.begin(background=background)
        case "end":
            uses.end(background=background)
        case "cancel":
            uses.cancel(number)
        case "late":
            await asyncio.sleep(1.5)
        case _:
            await asyncio.sleep(0)


@given(high=st.integers(1, 6), reserve=st.integers(0, 6), steps=STEPS)
def test_db16_no_place_is_lost_or_made_whoever_leaves_and_when(
    high: int, reserve: int, steps: list[tuple[str, bool, int]]
) -> None:
    async def scene() -> None:
        slots = Slots(high=high, reserve=reserve, within=1.0)
        uses = Uses(slots)
        for step, background, number in steps:
            await act(uses, step, number, background=background)
            assert 0 <= slots.taken <= high
            assert slots.taken_in_background <= high - slots.reserve
        await turns()
        rest = len(uses.holding(background=True))
        assert slots.taken == len(uses.holding(background=False)) + rest
        assert slots.taken_in_background == rest
        if any(not task.done() and not background for task, background in uses.begun):
            assert slots.taken == high
        await uses.end_all()
        assert (slots.taken, slots.taken_in_background, slots.waiting) == (0, 0, 0)
        async with asyncio.timeout(0.5):
            for _ in range(high):
                await slots.take(background=False)

    run(scene())
