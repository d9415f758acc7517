"""The operator's order about the cache's emergency mode, known to every instance: those that start later as well.

The latest order counts. It goes over the bus at once, stands in the database, and is looked for there every few seconds; an
instance that was given one while the database was away writes it when it is back.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final, NamedTuple

import structlog

from tableforge.database import Database, Statement
from tableforge.errors import Unavailable
from tableforge.library.notices import Notices
from tableforge.library.runs import answered

CACHE_MODE: Final = "cache_mode"
"""A notice: look at the order in the database."""
LOOK_SECONDS: Final = 5.0
WRITE_SECONDS: Final = 2.0
"""How long whoever gives an order waits for the database to take it down."""

READ = Statement("cache_mode.read", "SELECT until, ordered FROM cache_mode WHERE one = 1")
WRITE = Statement(
    "cache_mode.write",
    "INSERT INTO cache_mode (one, until, ordered) VALUES (1, ?, ?) ON CONFLICT (one) DO UPDATE"
    " SET until = excluded.until, ordered = excluded.ordered WHERE excluded.ordered > cache_mode.ordered",
    repeatable=True,
)

log = structlog.get_logger(__name__)


class Order(NamedTuple):
    """Until when emergency mode holds (0: it is ended), and when that was ordered: both in seconds since 1970."""

    until: float
    ordered: float


class Emergency:
    """Keeps this instance at the latest order.

    `apply` is told until when emergency mode holds, `tell` hands an order to the other instances without a promise.
    """

    def __init__(
        self,
        database: Database,
        *,
        apply: Callable[[float], None],
        tell: Callable[[Order], None],
        notices: Notices | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._apply = apply
        self._tell = tell
        self._notices = notices
        self._clock = clock
        self._order = Order(0.0, 0.0)
        self._written = Order(0.0, 0.0)
        self._hurried = asyncio.Event()
        if notices is not None:
            notices.on(CACHE_MODE, lambda _: self._hurried.set())

    async def order(self, seconds: float) -> str:
        """Have all instances in emergency mode for so long, 0 to end it; why it is not in the database, or nothing."""
        now = self._clock()
        ordered = max(now, self._order.ordered + 0.001)
        self.heard(Order(now + seconds if seconds else 0.0, ordered))
        self._tell(self._order)
        try:
            if await answered(self._write(), within=WRITE_SECONDS):
                return ""
        except Unavailable as unavailable:
            return unavailable.why or unavailable.what
        return f"It did not answer within {WRITE_SECONDS:g} seconds."

    def heard(self, order: Order) -> None:
        """An order came, from wherever; it holds unless a later one does."""
        if order.ordered > self._order.ordered:
            self._order = order
            self._apply(order.until)

    async def _write(self) -> None:
        order, notices = self._order, self._notices
        if notices is None:
            await self._database.write(WRITE, *order)
        else:
            notice = notices.draft(CACHE_MODE, "")
            await self._database.write_all([(WRITE, tuple(order)), notice.step])
            notices.told(notice)
        self._written = order

    async def look(self) -> None:
        """Compare with the database, and bring whichever is behind to the later order. Raises `DatabaseUnavailable`."""
        rows = await self._database.read(READ)
        if rows:
            found = Order(*rows[0])
            self._written = max(found, self._written, key=lambda one: one.ordered)
            self.heard(found)
        if self._order.ordered > self._written.ordered:
            await self._write()

    async def follow(self) -> None:
        """Look again and again until cancelled."""
        while True:
            with contextlib.suppress(Unavailable):
                await self.look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._hurried.wait()
            self._hurried.clear()
