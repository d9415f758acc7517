"""Notices: what every instance of a fleet must hear of, at once if the bus works and within a second or so if not.

A notice is a row in the database, written in one transaction with what it tells of; the bus only hurries it on. Readers go
on behind the transactions that they have seen, not behind a number or a time: transactions become visible in another
order than they began in, and clocks jump. (PostgreSQL's snapshots: every transaction from `xmin` on was not yet seen,
every one before it was; some between are seen twice, and known by their number.)

The same positions say what a value that another instance has read is worth: one that was read at the position of a notice
or before may lack what it tells. Positions compare on one running server of the database only: a late standby that takes
over counts anew from where it stands.
"""

import asyncio
import contextlib
import secrets
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import NamedTuple

import structlog

from tableforge.database import SERVER, Database, Statement, Step
from tableforge.errors import Unavailable

SIGNED_OUT = "signed_out"
"""About a session's id."""
USER_RENAMED = "user_renamed"
"""About a user's id."""
ROOM_DELETED = "room_deleted"
"""About a room's id."""
CACHE_DOUBTFUL = "cache_doubtful"
"""About an instance that ended with changes that Redis or the others were not told of."""

KEPT_SECONDS = 86_400.0
REMEMBERED = 20_000
"""Numbers of handled notices in memory, and whom they were about: more than one look brings."""
READ_AT_MOST = 10_000
PURGE_SECONDS = 3_600.0

GIVE = Statement(
    "notice.give",
    "INSERT INTO notices (number, kind, about) VALUES (?, ?, ?) ON CONFLICT (number) DO NOTHING",
    repeatable=True,
)
READ = Statement(
    "notice.read",
    "SELECT seen.xmin, seen.xmax, seen.server, n.txid, n.number, n.kind, n.about"  # noqa: S608 - constants
    " FROM (SELECT CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint) AS xmin,"
    " CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS bigint) AS xmax,"
    f" {SERVER} AS server) AS seen"
    " LEFT JOIN (SELECT * FROM notices WHERE txid >= CAST(? AS bigint) ORDER BY txid, number"
    " LIMIT CAST(? AS bigint)) AS n ON true ORDER BY n.txid, n.number",
)
NEWEST = 2**63 - 1
"""No transaction has this number: asks for the present position alone, and as a floor believes nothing."""
PURGE = Statement(
    "notice.purge",
    "DELETE FROM notices WHERE at < clock_timestamp() - make_interval(secs => CAST(? AS double precision))",
    repeatable=True,
)

Handler = Callable[[str], None]

log = structlog.get_logger(__name__)


class Notice(NamedTuple):
    """One notice: what kind of thing happened, and to whom or what."""

    number: int
    kind: str
    about: str

    @property
    def step(self) -> Step:
        """Writes it down, in the transaction that it belongs to."""
        return GIVE, tuple(self)


class Notices:
    """Gives and hears notices.

    `hint` sends one to the other instances over the bus, without a promise. `trusted_seconds` is for how long what was
    heard so far counts as everything there is to hear.
    """

    def __init__(
        self,
        database: Database,
        *,
        hint: Callable[[Notice], None],
        trusted_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._hint = hint
        self._trusted = trusted_seconds
        self._clock = clock
        self._handlers: dict[str, list[Handler]] = defaultdict(list)
        self._gaps: list[Callable[[], None]] = []
        self._handled: OrderedDict[int, None] = OrderedDict()
        self._position: int | None = None
        self._since = NEWEST
        self._floor = NEWEST
        self._newest: OrderedDict[str, int] = OrderedDict()
        self._unplaced: OrderedDict[int, str] = OrderedDict()
        self._lost_count = 0
        self.server = ""
        """Which running server of the database the positions are of; "" before it was asked."""
        self._caught_up_at = float("-inf")
        self._purged_at = clock()
        self._hurried = asyncio.Event()

    @property
    def current(self) -> bool:
        """Whether we have lately heard everything there was to hear."""
        return self._clock() - self._caught_up_at < self._trusted

    @property
    def position(self) -> int:
        """What is read from now on has seen every transaction before this one; 0 before the database was asked."""
        return self._position or 0

    @property
    def since(self) -> int:
        """What was read here at an earlier position was read before we heard everything about it."""
        return self._since

    def newest(self, *about: str) -> int:
        """From which position on a value that any instance has read holds everything that was told about these.

        `NEWEST` while that cannot be said: before the first look, and for a notice that came over the bus and was not yet
        seen in the database.
        """
        if self._lost_count or any(one in self._unplaced.values() for one in about):
            return NEWEST
        return max(self._floor, *(self._newest.get(one, 0) for one in about))

    def on(self, kind: str, handler: Handler) -> None:
        """Have `handler` called with what each notice of this kind is about, once a notice; it must bear repetition."""
        self._handlers[kind].append(handler)

    def on_gap(self, listener: Callable[[], None]) -> None:
        """Have `listener` called when we were away for so long that notices are gone which we never heard."""
        self._gaps.append(listener)

    def draft(self, kind: str, about: str) -> Notice:
        """A notice to write down together with what it tells of; `told` once that is durable."""
        return Notice(secrets.randbits(63), kind, about)

    def told(self, notice: Notice) -> None:
        """A notice is durable: act on it here, and let the others know."""
        self._hurry_on(notice)
        self._hint(notice)

    async def give(self, kind: str, about: str) -> None:
        """Write a notice down by itself and tell everybody; raises `DatabaseUnavailable`."""
        notice = self.draft(kind, about)
        statement, params = notice.step
        await self._database.write(statement, *params)
        self.told(notice)

    def heard(self, number: int, kind: str, about: str) -> None:
        """A notice came over the bus."""
        self._hurry_on(Notice(number, kind, about))

    def _hurry_on(self, notice: Notice) -> None:
        """Act on a notice of which only the database knows the position."""
        if notice.number not in self._handled:
            self._unplaced[notice.number] = notice.about
            if len(self._unplaced) > REMEMBERED:
                self._unplaced.popitem(last=False)
                self._lost_count += 1
        self._handle(notice)

    def _place(self, about: str, position: int) -> None:
        """Believe nothing about this that was read before a position."""
        self._newest[about] = max(position, self._newest.pop(about, 0))
        while len(self._newest) > REMEMBERED:
            self._floor = max(self._floor, self._newest.popitem(last=False)[1])

    def _handle(self, notice: Notice) -> None:
        if notice.number in self._handled:
            return
        self._handled[notice.number] = None
        while len(self._handled) > REMEMBERED:
            self._handled.popitem(last=False)
        for handler in self._handlers.get(notice.kind, ()):
            try:
                handler(notice.about)
            except Exception as error:  # one that fails must not keep the others from theirs
                log.error("a notice was not acted on", kind=notice.kind, exc_info=error)

    async def catch_up(self) -> None:
        """Act on everything that was given since the last time; the first time only finds out where we are.

        Raises `DatabaseUnavailable`. What this process holds in memory must not be older than its first call.
        """
        asked_at = self._clock()
        known = self._position
        hurried, lost_count = list(self._unplaced.items()), self._lost_count
        rows = await self._database.read(READ, NEWEST if known is None else known, READ_AT_MOST)
        position, beyond, server = rows[0][:3]
        for *_, txid, number, kind, about in rows:
            if number is not None:
                self._unplaced.pop(number, None)
                self._place(about, txid + 1)
                self._handle(Notice(number, kind, about))
        for number, about in hurried:
            # It was durable before we asked, so that whatever comes after all that we saw has seen it.
            if self._unplaced.pop(number, None) is not None:
                self._place(about, beyond)
        if lost_count == self._lost_count > 0:
            self._lost_count = 0
            self._floor = max(self._floor, beyond)
        away = asked_at - self._caught_up_at > KEPT_SECONDS
        other = server != self.server or position < self.position
        self._position, self.server = position, server
        if known is None:
            self._since, self._floor = position, beyond
        elif away or other or len(rows) == READ_AT_MOST:
            # Away for longer than notices are kept, another server, restored, promoted or restarted, or too many of them.
            self._since, self._floor = position, beyond
            for listener in self._gaps:
                listener()
        self._caught_up_at = asked_at
        if asked_at - self._purged_at > PURGE_SECONDS:
            self._purged_at = asked_at
            await self._database.write(PURGE, KEPT_SECONDS)

    def hurry(self) -> None:
        """Catch up at once: the bus may have lost something."""
        self._hurried.set()

    async def follow(
        self, carried: Callable[[], bool], *, every_seconds: float, uncarried_seconds: float
    ) -> None:
        """Catch up again and again until cancelled, more often while `carried` says that the bus brings nothing."""
        failing = False
        while True:
            pause = every_seconds if failing or carried() else min(every_seconds, uncarried_seconds)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._hurried.wait()
            self._hurried.clear()
            try:
                await self.catch_up()
                failing = False
            except Unavailable as unavailable:
                if not failing:
                    log.warning("notices_not_read", reason=str(unavailable))
                failing = True
