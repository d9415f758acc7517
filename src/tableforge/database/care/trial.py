"""Trying an index on PostgreSQL before and after it is there: by plan on a copy of a sample, and by running the statement.

The copy is a temporary table of the same name, which comes first in the search path, so that the very statement plans
against it; all of it is rolled back. Values that a statement runs with are drawn from rows of the table itself, held in
memory for the two measurements, and written nowhere.
"""

import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from secrets import SystemRandom, token_hex
from time import monotonic
from typing import Any, NamedTuple

import asyncpg

from tableforge.database.care import Measure, Unmeasurable
from tableforge.database.care.plans import Bound, Candidate, Node, bounds, cost
from tableforge.database.care.schema import quoted
from tableforge.database.pool import Connection

SAMPLE_ROWS = 20_000
SAMPLE_BYTES = 32 * 2**20
DRAWN_ROWS = 2_000
RUNS = 11
RUN_SECONDS = 5
PLAN_SECONDS = 3
MEASURE_SECONDS = 10.0

LIMITED = re.compile(r"\bLIMIT\s+(?:CAST\s*\(\s*)?\$(\d+)", re.IGNORECASE)
PARAMETERS = re.compile(r"\$(\d+)")
PAGE = 50

chance = SystemRandom()


class Drawn(NamedTuple):
    """Sets of values to run a statement with, drawn once and used before and after."""

    sets: tuple[tuple[object, ...], ...]


@asynccontextmanager
async def rolled_back(
    connection: Connection, *, read_only: bool, seconds: float
) -> AsyncIterator[None]:
    """A transaction that leaves nothing behind; each statement in it is bounded."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        # By setting, since within another transaction the driver begins a savepoint, which its own mode does not reach.
        await connection.execute(
            f"SET LOCAL transaction_read_only = {'on' if read_only else 'off'};"
            f"SET LOCAL statement_timeout = {round(seconds * 1000)}; SET LOCAL lock_timeout = 1000"
        )
        yield
    finally:
        await transaction.rollback()


async def explained(connection: Connection, text: str) -> Node:
    """The plan of a statement whatever its parameters; what the server refuses comes through.

    To plan may be to run: functions that promise to give the same for the same are carried out. So this changes nothing.
    """
    count = max(map(int, PARAMETERS.findall(text)), default=0)
    nothing = f"({', '.join(['NULL'] * count)})" if count else ""
    name = f"care_{token_hex(6)}"
    async with rolled_back(connection, read_only=True, seconds=PLAN_SECONDS):
        await connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        await connection.fetch(f"PREPARE {name} AS {text}")  # which takes one statement alone
        told = await connection.fetchval(f"EXPLAIN (FORMAT JSON, VERBOSE) EXECUTE {name}{nothing}")
        await connection.execute(f"DEALLOCATE {name}")
    plan: Node = json.loads(told)[0]["Plan"]
    return plan


async def has_hypopg(connection: Connection) -> bool:
    """Whether the server can pretend that an index is there."""
    return bool(
        await connection.fetchval(
            "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'hypopg')"
        )
    )


class Tried(NamedTuple):
    """The best candidate for a statement, with the planner's cost before and after, and how that was found out."""

    candidate: Candidate
    before: float
    after: float
    how: str


async def best_of(
    connection: Connection, text: str, options: Sequence[Candidate], rows: Mapping[str, float]
) -> Tried | None:
    """Which of these indexes the planner would take with most gain; None where it would take none."""
    pretend = await has_hypopg(connection)
    best: Tried | None = None
    for table in dict.fromkeys(one.table for one in options):
        of_table = [one for one in options if one.table == table]
        async with rolled_back(connection, read_only=False, seconds=RUN_SECONDS):
            if not pretend:
                await _copy(connection, table, rows.get(table, 0))
            before = cost(await explained(connection, text))
            how = "a pretended index (HypoPG)" if pretend else "a copy of a sample"
            for one in of_table:
                after = await _with_index(connection, text, one, pretend=pretend)
                if best is None or after / max(before, 1e-9) < best.after / max(best.before, 1e-9):
                    best = Tried(one, before, after, how)
    return best


async def _with_index(connection: Connection, text: str, one: Candidate, *, pretend: bool) -> float:
    columns = ", ".join(map(quoted, one.columns))
    if pretend:
        definition = f"CREATE INDEX ON {quoted(one.table)} ({columns})"
        await connection.fetch("SELECT * FROM hypopg_create_index($1)", definition)
        try:
            return cost(await explained(connection, text))
        finally:
            await connection.execute("SELECT hypopg_reset()")
    savepoint = connection.transaction()
    await savepoint.start()
    try:
        await connection.execute(f"CREATE INDEX ON pg_temp.{quoted(one.table)} ({columns})")
        return cost(await explained(connection, text))
    finally:
        await savepoint.rollback()


async def _copy(connection: Connection, table: str, rows: float) -> None:
    """Put a sample of a table in front of it, with its indexes; reading it locks nobody out."""
    name = quoted(table)
    source, held, columns = await connection.fetchrow(  # type: ignore[misc]  # the table was in a plan, so it is there
        "SELECT format('%I.%I', n.nspname, c.relname), pg_table_size(c.oid),"
        " (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a"
        "  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '')"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)",
        name,
    )
    wanted = min(SAMPLE_ROWS, max(1_000, int(SAMPLE_BYTES / max(held / max(rows, 1.0), 1.0))))
    percent = min(100.0, 100.0 * wanted / max(rows, 1.0))
    await connection.execute(
        f"CREATE TEMPORARY TABLE {name} (LIKE {source} INCLUDING GENERATED INCLUDING STATISTICS"
        " INCLUDING STORAGE) ON COMMIT DROP"
    )
    await connection.execute(
        f"INSERT INTO pg_temp.{name} ({columns})"  # noqa: S608 - names from the catalogue, quoted there
        f" SELECT {columns} FROM {source} TABLESAMPLE SYSTEM ({percent:.6f}) LIMIT {wanted}"
    )
    # Once the rows are there, since some kinds of index take long to be added to row by row.
    present = await connection.fetch(
        "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = $1::regclass AND indisvalid",
        source,
    )
    for (text,) in present:
        how = text[text.index(" USING ") :]
        await connection.execute(f"CREATE INDEX ON pg_temp.{name}{how}")
    await connection.execute(f"ANALYZE pg_temp.{name}")


async def draw(connection: Connection, text: str, plan: Node) -> Drawn:
    """Values to run a statement with: of one row of the table at a time, so that they belong together.

    Rows are drawn evenly, so what is frequent in the table is frequent here. Parameters that are compared with no column
    get a page's length, or nothing: an empty text, no flag. Raises `Unmeasurable`.
    """
    try:
        prepared = await connection.prepare(text)
    except asyncpg.PostgresError as error:
        raise Unmeasurable("the server cannot tell the types of its parameters") from error
    kinds = [kind.name for kind in prepared.get_parameters()]
    known = {one.number: one for one in bounds(plan)}
    limits = {int(number) for number in LIMITED.findall(text)}
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for table in {one.table for one in known.values()}:
        columns = sorted({one.column for one in known.values() if one.table == table})
        rows[table] = await _rows(connection, table, columns)
        if not rows[table]:
            raise Unmeasurable(f"{table} has no rows")
    sets = []
    for _ in range(RUNS):
        row = {table: chance.choice(found) for table, found in rows.items()}
        sets.append(
            tuple(
                _value(kind, number, known.get(number), row, rows, limits)
                for number, kind in enumerate(kinds, 1)
            )
        )
    return Drawn(tuple(sets))


async def _rows(
    connection: Connection, table: str, columns: Sequence[str]
) -> list[Mapping[str, Any]]:
    names = ", ".join(map(quoted, columns))
    total = await connection.fetchval(
        "SELECT reltuples FROM pg_class WHERE oid = to_regclass($1)", quoted(table)
    )
    percent = min(100.0, 100.0 * 4 * DRAWN_ROWS / max(float(total or 0), 1.0))
    for how in (f"TABLESAMPLE BERNOULLI ({percent:.6f})", ""):
        found = await connection.fetch(
            f"SELECT {names} FROM {quoted(table)} {how} LIMIT {DRAWN_ROWS * 4}"  # noqa: S608 - names, quoted
        )
        if found:
            return [dict(row) for row in found]
    return []


def _value(
    kind: str,
    number: int,
    bound: Bound | None,
    row: Mapping[str, Mapping[str, Any]],
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    limits: set[int],
) -> object:
    if bound is not None:
        value = row[bound.table][bound.column]
        if bound.many or kind.endswith("[]"):
            return [value, *(chance.choice(rows[bound.table])[bound.column] for _ in range(9))]
        if "~~" in bound.how:
            return f"%{str(value)[:3]}%"
        return value
    if number in limits:
        return PAGE
    return _nothing(kind)


def _nothing(kind: str) -> object:
    plain: dict[str, object] = {
        "text": "", "varchar": "", "bpchar": "", "bytea": b"", "bool": False, "float8": 0.0, "float4": 0.0,
        "int2": 0, "int4": 0, "int8": 0, "timestamptz": datetime.now(UTC),
    }  # fmt: skip
    if kind in plain:
        return plain[kind]
    if kind.endswith("[]"):
        return []
    raise Unmeasurable(f"it has a parameter of type {kind} that no column is compared with")


async def measure(connection: Connection, text: str, drawn: Drawn) -> Measure:
    """Run a statement with each set of values, once to warm up and once measured. Raises `Unmeasurable`."""
    times: list[float] = []
    pages = 0
    deadline = monotonic() + MEASURE_SECONDS
    for is_measured in (False, True):
        for values in drawn.sets:
            if monotonic() > deadline and len(times) != len(drawn.sets):
                raise Unmeasurable(f"{RUNS} runs of it take longer than {MEASURE_SECONDS:.0f} s")
            seconds, read = await _run(connection, text, values)
            if is_measured:
                times.append(seconds)
                pages += read
    return Measure(tuple(times), pages, "pages")


async def _run(connection: Connection, text: str, values: Sequence[object]) -> tuple[float, int]:
    try:
        async with rolled_back(connection, read_only=True, seconds=RUN_SECONDS):
            told = await connection.fetchval(
                f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {text}", *values
            )
    except (asyncpg.PostgresError, asyncpg.InterfaceError, ValueError, TypeError) as error:
        # Its text may hold values.
        raise Unmeasurable(f"a run of it was refused ({type(error).__name__})") from None
    whole = json.loads(told)[0]
    plan = whole["Plan"]
    return float(whole["Execution Time"]), int(
        plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    )
