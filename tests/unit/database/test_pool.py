"""The pool of connections, on connections that are none."""

import asyncio

import pytest

from tableforge.database.admission import Slots
from tableforge.database.pool import Pool
from tableforge.telemetry import COUNTERS


class Line:
    """Stands for a connection."""

    def __init__(self) -> None:
        self.closed = False

    def is_closed(self) -> bool:
        return self.closed

    def terminate(self) -> None:
        self.closed = True


class Exchange:
    """Dials lines, and can be out of order."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.broken = False

    async def dial(self) -> Line:
        if self.broken:
            raise OSError("nobody answers")
        self.lines.append(Line())
        return self.lines[-1]

    @property
    def open(self) -> int:
        return sum(not line.closed for line in self.lines)


def pool_on(exchange: Exchange, *, low: int = 0, high: int = 3, idle_seconds: float = 0.0) -> Pool:
    slots = Slots(high=high, reserve=0, within=60)
    return Pool(exchange.dial, slots=slots, low=low, idle_seconds=idle_seconds)  # type: ignore[arg-type]  # lines, not connections


async def test_db14_the_pool_opens_no_more_than_its_most() -> None:
    exchange = Exchange()
    pool = pool_on(exchange)
    taken = [await pool.take() for _ in range(3)]
    assert (COUNTERS.pool_idle, COUNTERS.pool_busy) == (0, 3)
    fourth = asyncio.ensure_future(pool.take())
    await asyncio.sleep(0)
    assert not fourth.done()
    pool.give_back(taken[0], sound=True)
    assert await fourth is taken[0]
    assert len(exchange.lines) == 3


async def test_db14_what_rests_over_the_least_is_closed_the_longest_unused_first() -> None:
    exchange = Exchange()
    pool = pool_on(exchange, low=1)
    taken = [await pool.take() for _ in range(3)]
    for connection in taken:
        pool.give_back(connection, sound=True)
    assert await pool.take() is taken[2]
    pool.give_back(taken[2], sound=True)
    await pool.tend()
    assert [line.closed for line in exchange.lines] == [True, True, False]
    assert (COUNTERS.pool_idle, COUNTERS.pool_busy) == (1, 0)


async def test_db14_what_is_missing_below_the_least_is_opened() -> None:
    exchange = Exchange()
    pool = pool_on(exchange, low=2, idle_seconds=60.0)
    await pool.tend()
    assert exchange.open == 2
    exchange.lines[0].closed = True
    await pool.tend()
    assert exchange.open == 2
    pool.drop_rested()
    assert exchange.open == 0


async def test_db14_unsound_and_failed_connections_leave_their_place_to_others() -> None:
    exchange = Exchange()
    pool = pool_on(exchange, high=1)
    pool.give_back(await pool.take(), sound=False)
    assert exchange.open == 0
    exchange.broken = True
    with pytest.raises(OSError, match="nobody"):
        await pool.take()
    exchange.broken = False
    last = await pool.take()
    pool.close()
    assert last.is_closed()
    pool.give_back(last, sound=True)
    assert (COUNTERS.pool_idle, COUNTERS.pool_busy) == (0, 0)
