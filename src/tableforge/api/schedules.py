"""Orders that nobody gives: begun at their time, by one instance of the fleet."""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

import structlog
from cronsim import CronSim

from tableforge.api.orders import Busy, Order, Orders
from tableforge.errors import TableForgeError
from tableforge.library.schedules import ScheduleTurns

LOOK_SECONDS = 30.0
"""How often is looked at least: clocks are set, machines sleep."""
CATCH_UP_SECONDS = 600.0
"""A moment that passed while no server ran is made up for, so long after the start."""

log = structlog.get_logger(__name__)


class Schedule(NamedTuple):
    """An order and when it is due: five fields of cron, in the zone of all schedules."""

    kind: str
    written: str
    order: Order


def coming(written: str, zone: str, now: float, count: int) -> list[float]:
    """The next moments of a schedule behind `now`, in seconds since 1970.

    Across a change of the clocks cronsim does as Debian's cron: what falls into the hour that is left out is done right
    behind it, and a fixed time in the hour that comes twice is done once.
    """
    moments = CronSim(written, datetime.fromtimestamp(now, ZoneInfo(zone)))
    return [next(moments).astimezone(UTC).timestamp() for _ in range(count)]


def latest(written: str, zone: str, now: float) -> int:
    """The newest moment of a schedule that is not behind `now`, in seconds since 1970."""
    here = datetime.fromtimestamp(int(now) + 1, ZoneInfo(zone))
    return int(next(CronSim(written, here, reverse=True)).astimezone(UTC).timestamp())


class Scheduler:
    """Begins orders at their times, until cancelled.

    Of the instances that see a moment come, the one that takes it in the database carries the order out.
    """

    def __init__(
        self,
        schedules: Sequence[Schedule],
        turns: ScheduleTurns,
        orders: Orders,
        *,
        zone: str,
        clock: Callable[[], float] = time.time,
        catch_up_seconds: float = CATCH_UP_SECONDS,
    ) -> None:
        self.schedules = schedules
        self.zone = zone
        self._turns = turns
        self._orders = orders
        self._clock = clock
        self._catch_up_seconds = catch_up_seconds
        self._started = clock()
        self._seen: dict[str, int] = {}

    async def taken(self) -> dict[str, int]:
        """When each was begun last, by whichever instance; raises `DatabaseUnavailable`."""
        return await self._turns.taken()

    def next_times(self, one: Schedule, count: int) -> list[float]:
        """When it is due next, in seconds since 1970."""
        return coming(one.written, self.zone, self._clock(), count)

    async def run(self) -> None:
        """Look whether something is due, again and again."""
        while True:
            for one in self.schedules:
                try:
                    await self.look(one)
                except TableForgeError as error:
                    log.warning("a schedule waits", kind=one.kind, reason=error.why or error.what)
            now = self._clock()
            until = min(coming(one.written, self.zone, now, 1)[0] - now for one in self.schedules)
            await asyncio.sleep(min(max(until, 0.05), LOOK_SECONDS))

    async def look(self, one: Schedule) -> bool:
        """Begin an order if a moment of it has come that nobody has taken; raises `DatabaseUnavailable`."""
        now = self._clock()
        due = latest(one.written, self.zone, now)
        if self._seen.get(one.kind, 0) >= due:
            return False
        if due <= self._started:
            passed = await self._turns.passed(one.kind)
            if passed is None:
                # The first server on this database: nothing was missed.
                await self._turns.begin(one.kind, due)
            if passed is None or passed >= due:
                self._seen[one.kind] = due
                return False
            if now < self._started + self._catch_up_seconds:
                return False
        is_ours = await self._turns.take(one.kind, due)
        self._seen[one.kind] = due
        if is_ours:
            try:
                await self._orders.begin(one.kind, one.order)
            except Busy:
                log.info("a schedule found its order under way", kind=one.kind)
                return False
        return is_ours
