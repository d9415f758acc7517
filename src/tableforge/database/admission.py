"""Who may use the database next: the game first, and always a part of it for the game alone."""

import asyncio
from collections import deque
from time import perf_counter
from typing import Final

from tableforge.database import DatabaseBusy
from tableforge.telemetry import COUNTERS, POOL_WAITS

Waiters = deque["asyncio.Future[None]"]


class Slots:
    """`high` places; what is in the background takes at most `high - reserve` of them, and waits `within` seconds for one.

    Each class is served in the order in which it came, the game before the background. `reserve` leaves the background one
    place at least.
    """

    def __init__(self, *, high: int, reserve: int, within: float) -> None:
        self.high: Final = high
        self.reserve: Final = max(0, min(reserve, high - 1))
        self.within: Final = within
        self._free = high
        self._background = 0
        self._waiting: dict[bool, Waiters] = {False: deque(), True: deque()}
        self._waits = {False: POOL_WAITS.of("game"), True: POOL_WAITS.of("background")}

    @property
    def taken(self) -> int:
        """How many places are in use."""
        return self.high - self._free

    @property
    def taken_in_background(self) -> int:
        """How many of them by the background."""
        return self._background

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return len(self._waiting[False]) + len(self._waiting[True])

    def _is_open(self, *, background: bool) -> bool:
        return self._free > 0 and not (background and self._background >= self.high - self.reserve)

    def _admit(self, *, background: bool) -> None:
        self._free -= 1
        self._background += background

    async def take(self, *, background: bool) -> None:
        """Take a place, or wait for one; whoever is the game bounds that wait. Raises `DatabaseBusy` in the background."""
        waited = 0.0
        if not self._waiting[background] and self._is_open(background=background):
            self._admit(background=background)
        else:
            started = perf_counter()
            try:
                async with asyncio.timeout(self.within if background else None):
                    await self._wait(background=background)
            except TimeoutError as error:
                COUNTERS.pool_refused += 1
                raise self._busy() from error
            waited = perf_counter() - started
        self._waits[background].observe(waited)

    async def _wait(self, *, background: bool) -> None:
        waiters = self._waiting[background]
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiters.append(mine)
        COUNTERS.pool_waiting = self.waiting
        try:
            await mine
        except asyncio.CancelledError:
            if not mine.cancelled():
                self.give_back(background=background)  # it was given in the moment in which we left
            elif mine in waiters:
                waiters.remove(mine)
                COUNTERS.pool_waiting = self.waiting
            raise

    def _busy(self) -> DatabaseBusy:
        return DatabaseBusy(
            "Nothing was saved or read.",
            f"All {self.high - self.reserve} connections to the database that lists and searches may use are in use.",
            "Send it again in a moment.",
        )

    def give_back(self, *, background: bool) -> None:
        """Leave a place to whoever is next."""
        self._free += 1
        self._background -= background
        for kind in (False, True):
            waiters = self._waiting[kind]
            while waiters and self._is_open(background=kind):
                waiter = waiters.popleft()
                if not waiter.done():
                    self._admit(background=kind)
                    waiter.set_result(None)
        COUNTERS.pool_waiting = self.waiting
