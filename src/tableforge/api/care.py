"""For the operator: what the database lacks, mending it, and what was done to it and when."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

from litestar import Response, get, post
from msgspec import Meta, Struct

from tableforge.api.auth import require_admin
from tableforge.api.body import decoded, queried
from tableforge.api.caller import Caller
from tableforge.api.documents import documented
from tableforge.api.house import house_of
from tableforge.api.maintenance import OPTIMIZE
from tableforge.api.orders import Actions, Busy, Started, moment
from tableforge.api.runs import RunLine
from tableforge.api.runs import line_of as run_line
from tableforge.database.care import Card, Wish
from tableforge.errors import Forbidden, Malformed, Unavailable

TIMES = 5

Name = Annotated[str, Meta(min_length=1, max_length=63, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$(?!\n)")]


class IndexWish(Struct, frozen=True, forbid_unknown_fields=True):
    """An index to try: it stays if a statement that has run is measurably better for it."""

    table: Name
    columns: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=5)]


class OptimizeDatabase(Struct, frozen=True, forbid_unknown_fields=True):
    """What to do: everything that is safe, or with `index` try that one and nothing else."""

    index: IndexWish | None = None


class Advice(Struct, frozen=True):
    """Every card; what could not be asked is `unknown` and says why."""

    cards: Sequence[Card]


class ScheduleLine(Struct, frozen=True):
    """An order that is begun by itself. `last` is the newest moment that an instance took, null if there was none."""

    kind: str
    schedule: str
    timezone: str
    last: str | None
    next: Sequence[str]


class Schedules(Struct, frozen=True):
    """All of them."""

    schedules: Sequence[ScheduleLine]


class LedgerLine(Struct, frozen=True):
    """A change of an index: the statement it was for, its p95 before and after in milliseconds, and whether it stayed."""

    at: str
    change: str
    index: str
    table: str
    statement: str
    before_ms: float
    after_ms: float
    verdict: str
    reason: str


class HistoryQuery(Struct, frozen=True):
    """How many of each at most."""

    limit: Annotated[int, Meta(ge=1, le=500)] = 50


class History(Struct, frozen=True):
    """What was ordered or scheduled, and what became of indexes; the newest first."""

    runs: Sequence[RunLine]
    ledger: Sequence[LedgerLine]


@get(
    "/api/admin/database/advice",
    opt=documented(gives={200: Advice}, refuses=(Forbidden, Unavailable), tag="admin"),
)
async def database_advice(request: Caller) -> Advice:
    """What the database's own figures say: each finding with its evidence, the exact mend, and what that costs."""
    await require_admin(request)
    return Advice(await house_of(request).caring.caretaker.advice())


@post(
    "/api/admin/optimize/database",
    status_code=200,
    opt=documented(
        takes=OptimizeDatabase,
        gives={200: Actions, 202: Started},
        refuses=(Forbidden, Malformed, Busy, Unavailable),
        tag="admin",
    ),
)
async def optimize_database(request: Caller) -> Response[Actions | Started]:
    """Mend what is safe to mend: clean, renew statistics, add indexes that help. What did not help is taken back."""
    await require_admin(request)
    asked = await decoded(request, OptimizeDatabase)
    wish = Wish(asked.index.table, asked.index.columns) if asked.index is not None else None
    house = house_of(request)
    return await house.orders.answer(OPTIMIZE, house.caring.caretaker.optimize(wish))


@get(
    "/api/admin/optimize/schedules",
    opt=documented(gives={200: Schedules}, refuses=(Forbidden, Unavailable), tag="admin"),
)
async def list_schedules(request: Caller) -> Schedules:
    """The orders that are begun by themselves, when each was last, and its next times."""
    await require_admin(request)
    scheduler = house_of(request).caring.scheduler
    taken = await scheduler.taken()
    return Schedules(
        [
            ScheduleLine(
                one.kind,
                one.written,
                scheduler.zone,
                moment(taken[one.kind]) if one.kind in taken else None,
                [moment(at) for at in scheduler.next_times(one, TIMES)],
            )
            for one in scheduler.schedules
        ]
    )


@get(
    "/api/admin/optimize/history",
    opt=documented(
        query=HistoryQuery,
        gives={200: History},
        refuses=(Forbidden, Malformed, Unavailable),
        tag="admin",
    ),
)
async def optimization_history(request: Caller) -> History:
    """What was done to the server itself, by whom it was begun whatever, and what it led to."""
    await require_admin(request)
    limit = queried(request, HistoryQuery).limit
    house = house_of(request)
    runs = await house.orders.runs.latest(limit)
    entries = await house.caring.caretaker.ledger.latest(limit)
    return History(
        [run_line(run) for run in runs],
        [
            LedgerLine(
                moment(one.at),
                *(one.change, one.index, one.table, one.statement),
                *(round(one.before_ms, 3), round(one.after_ms, 3), one.verdict, one.reason),
            )
            for one in entries
        ],
    )


ROUTES: Final[list[Any]] = [
    database_advice,
    optimize_database,
    list_schedules,
    optimization_history,
]
