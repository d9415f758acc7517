"""What a database tells about itself, one card for each kind of thing: each is there, or missing with the reason.

A card is asked for beside the game, on a connection of its own, and within a time of its own: a server that is busy, a lock
or a right that is lacking costs that card and no other.
"""

from typing import Protocol

from msgspec import Struct

from tableforge.database.admission import Slots
from tableforge.database.observing import Observer, in_ms
from tableforge.telemetry import COUNTERS, POOL_WAITS

CARD_SECONDS = 2.0
"""How long one card may take."""
LISTED_AT_MOST = 500
"""Tables and indexes that are told of, the largest ones."""
UNASKED = "It was not asked for."


class DatabaseServer(Struct, frozen=True):
    """Which server it is, since when it runs, and since when its figures count where that is later. Times in RFC 3339."""

    version: str
    started: str | None
    counted_since: str | None


class TableFigures(Struct, frozen=True):
    """A table as its database knows it, from the last time it was analyzed or cleaned; what it does not count is null.

    `bloat_bytes` is an estimate: what it takes beyond its rows at their average width. Times in RFC 3339.
    """

    name: str
    rows: int | None
    dead_rows: int | None
    dead_share: float | None
    bytes: int | None
    index_bytes: int | None
    bloat_bytes: int | None
    sequential_scans: int | None
    index_scans: int | None
    changes: int | None
    vacuumed: str | None
    analyzed: str | None


class IndexFigures(Struct, frozen=True):
    """An index, how often it was used since figures are counted, and how many of its entries that read."""

    name: str
    table: str
    unique: bool
    valid: bool
    scans: int | None
    entries_read: int | None
    bytes: int | None


class DatabaseCache(Struct, frozen=True):
    """How many pages the database found in its own memory, of `bytes`, and how many it asked the system for."""

    hit_ratio: float | None
    hits: int | None
    reads: int | None
    bytes: int | None


class DatabaseSize(Struct, frozen=True):
    """How much it takes on the disk, without its write-ahead log; pages are counted by SQLite alone."""

    database_bytes: int
    wal_bytes: int | None
    page_bytes: int | None
    pages: int | None
    free_pages: int | None


class DatabaseActivity(Struct, frozen=True):
    """Who is connected to this database, ourselves included, and how it went with their transactions."""

    connections: int
    connections_at_most: int
    active: int
    idle_in_transaction: int
    waiting_for_locks: int
    longest_transaction_seconds: float | None
    deadlocks: int
    rolled_back: int
    temporary_bytes: int


class Cards(Struct, frozen=True):
    """All cards; `missing` says of each that is null why."""

    server: DatabaseServer | None
    size: DatabaseSize | None
    cache: DatabaseCache | None
    activity: DatabaseActivity | None
    tables: list[TableFigures] | None
    indexes: list[IndexFigures] | None
    missing: dict[str, str]


class PoolWaits(Struct, frozen=True):
    """How long uses of one class waited for their connection, in milliseconds; those that found one free count as 0."""

    uses: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    longest_ms: float


class PoolFigures(Struct, frozen=True):
    """The connections that serve the game and the rest, now; `writes_waiting` where one thread does all the writing."""

    at_most: int
    reserve: int
    busy: int
    busy_in_background: int
    idle: int
    waiting: int
    writes_waiting: int | None
    refused: int
    game: PoolWaits
    background: PoolWaits


class Observed(Protocol):
    """What a database lets be seen of itself."""

    @property
    def engine(self) -> str:
        """Its kind, as people call it."""
        ...

    @property
    def observer(self) -> Observer:
        """Its statements."""
        ...

    def pool_figures(self) -> PoolFigures:
        """Its connections."""
        ...

    async def cards(self) -> Cards:
        """What it tells about itself, within a bounded time; never fails."""
        ...


def waits_of(use: str) -> PoolWaits:
    """The waits of one class."""
    histogram = POOL_WAITS.of(use)
    p50, p95, p99 = (in_ms(histogram.quantile(share)) for share in (0.5, 0.95, 0.99))
    return PoolWaits(histogram.count, p50, p95, p99, in_ms(histogram.longest_seconds))


def pool_figures(slots: Slots, *, idle: int, writes_waiting: int | None = None) -> PoolFigures:
    """The figures of these places; `idle` connections rest."""
    return PoolFigures(
        at_most=slots.high,
        reserve=slots.reserve,
        busy=slots.taken,
        busy_in_background=slots.taken_in_background,
        idle=idle,
        waiting=slots.waiting,
        writes_waiting=writes_waiting,
        refused=COUNTERS.pool_refused,
        game=waits_of("game"),
        background=waits_of("background"),
    )
