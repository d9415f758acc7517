"""Connections to PostgreSQL, shared within one process.

Small on purpose: a connection is taken, used for one statement or one transaction, and given back as it was, so nothing is
reset between two uses (asyncpg's own pool spends a round trip on that, and closes what rests below its minimum).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import asyncpg

from tableforge.database.admission import Slots
from tableforge.telemetry import COUNTERS

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


class Pool:
    """As many connections as `slots` has places; `low` of them are kept at rest, further ones for `idle_seconds`.

    The one that rested the shortest is taken first, so that the others rest long enough to be closed.
    """

    def __init__(
        self,
        dial: Callable[[], Awaitable[Connection]],
        *,
        slots: Slots,
        low: int,
        idle_seconds: float,
    ) -> None:
        self._dial = dial
        self._low = min(low, slots.high)
        self._idle_seconds = idle_seconds
        self._slots = slots
        self._idle: list[tuple[Connection, float]] = []
        self._busy: dict[Connection, bool] = {}
        """Those in use, and whether in the background."""
        self._closed = False

    @property
    def idle(self) -> int:
        """How many rest."""
        return len(self._idle)

    def _count(self) -> None:
        COUNTERS.pool_idle = len(self._idle)
        COUNTERS.pool_busy = len(self._busy)

    async def take(self, *, background: bool = False) -> Connection:
        """A connection for one use; waits for one, and dials where none rests. The caller bounds the wait.

        What dialling raises comes through, and `DatabaseBusy` where the background has waited for long enough.
        """
        await self._slots.take(background=background)
        try:
            connection = self._rested() or await self._dial()
        except BaseException:
            self._slots.give_back(background=background)
            raise
        self._busy[connection] = background
        self._count()
        return connection

    def _rested(self) -> "Connection | None":
        while self._idle:
            connection, _ = self._idle.pop()
            if not connection.is_closed():
                return connection
        return None

    def give_back(self, connection: Connection, *, sound: bool) -> None:
        """End a use; a connection that is not `sound` is dropped."""
        background = self._busy.pop(connection, False)
        if sound and not self._closed and not connection.is_closed():
            self._rest(connection)
        else:
            connection.terminate()
        self._slots.give_back(background=background)
        self._count()

    def _rest(self, connection: Connection) -> None:
        self._idle.append((connection, asyncio.get_running_loop().time()))

    def drop_rested(self) -> None:
        """Let go of all that rest: the server they lead to is not the one to talk to any more."""
        for connection, _ in self._idle:
            connection.terminate()
        self._idle.clear()
        self._count()

    async def tend(self) -> None:
        """Close what has rested for too long, open what is missing below `low`; what dialling raises comes through."""
        oldest = asyncio.get_running_loop().time() - self._idle_seconds
        self._idle = [one for one in self._idle if not one[0].is_closed()]
        while len(self._idle) + len(self._busy) > self._low and self._idle:
            connection, since = self._idle[0]
            if since > oldest:
                break
            del self._idle[0]
            connection.terminate()
        while len(self._idle) + len(self._busy) < self._low:
            connection = await self._dial()
            if self._closed:
                connection.terminate()
                break
            self._rest(connection)
        self._count()

    def close(self) -> None:
        """Let go of everything; what is in use fails."""
        self._closed = True
        for connection in self._busy:
            connection.terminate()
        self.drop_rested()
