"""For the operator: what the server knows about its database, and which statements were slow."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

from litestar import get
from msgspec import Meta, Struct

from tableforge.api.auth import require_admin
from tableforge.api.body import queried
from tableforge.api.caller import Caller
from tableforge.api.documents import documented
from tableforge.api.house import house_of
from tableforge.api.orders import moment
from tableforge.database.cards import (
    DatabaseActivity,
    DatabaseCache,
    DatabaseServer,
    DatabaseSize,
    IndexFigures,
    PoolFigures,
    TableFigures,
)
from tableforge.database.observing import (
    Blocker,
    Example,
    ParameterShape,
    Running,
    Slow,
    StatementFigures,
    in_ms,
)
from tableforge.errors import Forbidden


class DatabaseQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """How many lines each list may have."""

    limit: Annotated[int, Meta(ge=1, le=500)] = 50


class DatabaseStats(Struct, frozen=True):
    """The database as this instance uses it (`pool`, `latency`, `statements`), and as it tells of itself.

    `statements` are sorted by the time that they took in all, tables and indexes by their size. What was not told within
    its time is null, and `missing` says why.
    """

    instance: str
    engine: str
    pool: PoolFigures
    latency: StatementFigures
    statements: Sequence[StatementFigures]
    server: DatabaseServer | None
    size: DatabaseSize | None
    cache: DatabaseCache | None
    activity: DatabaseActivity | None
    tables: Sequence[TableFigures] | None
    indexes: Sequence[IndexFigures] | None
    missing: dict[str, str]


class SlowRun(Struct, frozen=True):
    """One run over the threshold: when it ended and how, the shapes of its parameters, what it waited for and for whom."""

    at: str
    ms: float
    rows: int
    ended: str
    parameters: Sequence[ParameterShape]
    wait: str | None
    blockers: Sequence[Blocker]


class SlowQuery(Struct, frozen=True):
    """A statement that was slow `slow_count` times, with the figures of all its runs, its latest slow ones and its plan.

    `statement` is its text with placeholders. Where `plan` is null, `plan_reason` says why; `blockers` are those of its
    latest slow runs.
    """

    name: str
    statement: str
    count: int
    rows: int
    mean_ms: float
    p95_ms: float
    slowest_ms: float
    slowest_lately_ms: float
    slow_count: int
    runs: Sequence[SlowRun]
    blockers: Sequence[Blocker]
    plan: str | None
    plan_reason: str
    plan_at: str | None


class LongRunning(Struct, frozen=True):
    """A statement that is over the threshold and runs on."""

    name: str
    ms: float
    wait: str | None
    blockers: Sequence[Blocker]


class SlowQueries(Struct, frozen=True):
    """The statements of this instance that took longer than `threshold_ms`, the latest first, and those that still do."""

    instance: str
    threshold_ms: float
    running: Sequence[LongRunning]
    queries: Sequence[SlowQuery]


def run_of(example: Example) -> SlowRun:
    """A slow run as it is told."""
    return SlowRun(
        at=moment(example.at),
        ms=in_ms(example.seconds),
        rows=example.rows,
        ended=example.ended,
        parameters=example.parameters,
        wait=example.wait,
        blockers=example.blockers,
    )


def query_of(slow: Slow) -> SlowQuery:
    """A slow statement as it is told."""
    figures = slow.figures
    blockers = {(one.pid, one.query): one for run in slow.examples for one in run.blockers}
    return SlowQuery(
        name=figures.name,
        statement=slow.text,
        count=figures.count,
        rows=figures.rows,
        mean_ms=figures.mean_ms,
        p95_ms=figures.p95_ms,
        slowest_ms=figures.slowest_ms,
        slowest_lately_ms=figures.slowest_lately_ms,
        slow_count=slow.times,
        runs=[run_of(one) for one in slow.examples],
        blockers=list(blockers.values()),
        plan=slow.plan,
        plan_reason=slow.plan_reason,
        plan_at=moment(slow.plan_at) if slow.plan_at is not None else None,
    )


def running_of(one: Running) -> LongRunning:
    """A statement that runs on, as it is told."""
    return LongRunning(one.name, in_ms(one.seconds), one.wait, one.blockers)


@get(
    "/api/admin/database/stats",
    opt=documented(
        gives={200: DatabaseStats}, query=DatabaseQuery, refuses=(Forbidden,), tag="admin"
    ),
)
async def database_stats(request: Caller) -> DatabaseStats:
    """Tell of the database: connections, time of statements, tables, indexes, its own cache and size.

    Each part of it is asked for by itself, for two seconds at most, over a connection beside those of the game.
    """
    await require_admin(request)
    limit = queried(request, DatabaseQuery).limit
    house = house_of(request)
    observed = house.observed
    cards = await observed.cards()
    return DatabaseStats(
        instance=house.settings.serving.instance_id,
        engine=observed.engine,
        pool=observed.pool_figures(),
        latency=observed.observer.total(),
        statements=observed.observer.figures()[:limit],
        server=cards.server,
        size=cards.size,
        cache=cards.cache,
        activity=cards.activity,
        tables=cards.tables[:limit] if cards.tables is not None else None,
        indexes=cards.indexes[:limit] if cards.indexes is not None else None,
        missing=cards.missing,
    )


@get(
    "/api/admin/database/slow-queries",
    opt=documented(
        gives={200: SlowQueries}, query=DatabaseQuery, refuses=(Forbidden,), tag="admin"
    ),
)
async def slow_queries(request: Caller) -> SlowQueries:
    """List the statements that took longer than DB_SLOW_QUERY_THRESHOLD, with plans and who they waited for.

    No value of a parameter is kept: texts have placeholders, plans hold for any values.
    """
    await require_admin(request)
    limit = queried(request, DatabaseQuery).limit
    house = house_of(request)
    observer = house.observed.observer
    return SlowQueries(
        instance=house.settings.serving.instance_id,
        threshold_ms=in_ms(observer.slow_seconds),
        running=[running_of(one) for one in observer.running_long()[:limit]],
        queries=[query_of(one) for one in observer.slow()[:limit]],
    )


ROUTES: Final[list[Any]] = [database_stats, slow_queries]
