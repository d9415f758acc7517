"""Looks on at PostgreSQL over one connection beside the pool: plans, who waits for whom, and the cards."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import asyncpg

from tableforge.database import DatabaseUnavailable, Row, Statement
from tableforge.database.cards import (
    CARD_SECONDS,
    LISTED_AT_MOST,
    Cards,
    DatabaseActivity,
    DatabaseCache,
    DatabaseServer,
    DatabaseSize,
    IndexFigures,
    TableFigures,
)
from tableforge.database.observing import (
    BLOCKERS,
    Blocker,
    Observer,
    Watch,
    without_literals,
)
from tableforge.database.pool import Connection

T = TypeVar("T")

DIAL_SECONDS = 3.0
LOCK_SECONDS = 0.5
TURN_SECONDS = 15.0
"""How long one who looks waits for others who look: longer than all cards take."""
REST_SECONDS = 10.0
"""How long the connection is kept for the next look."""
OURS: Final = "tableforge/"
"""How the names of our own sessions begin."""
UNSEEN = "<insufficient privilege>"
EXPLAINABLE = re.compile(r"\s*(WITH|SELECT|INSERT|UPDATE|DELETE|MERGE|VALUES)\b", re.IGNORECASE)
DAMAGES: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)

MOMENT = """AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'"""
"""How a time is told: RFC 3339, UTC."""
WAITING = Statement(
    "look.waiting",
    """SELECT w.pid, a.wait_event_type, a.wait_event, h.pid, b.application_name, b.state,
       b.wait_event_type, b.wait_event, extract(epoch FROM clock_timestamp() - b.xact_start)::float8, b.query
       FROM unnest($1::integer[]) AS w (pid) JOIN pg_stat_activity a ON a.pid = w.pid
       LEFT JOIN LATERAL unnest(CASE WHEN a.wait_event_type = 'Lock' THEN pg_blocking_pids(w.pid) END) AS h (pid) ON true
       LEFT JOIN pg_stat_activity b ON b.pid = h.pid""",
)
SERVER = Statement(
    "look.server",
    f"""SELECT current_setting('server_version'), to_char(pg_postmaster_start_time() {MOMENT}),
       to_char(stats_reset {MOMENT}) FROM pg_stat_database WHERE datname = current_database()""",  # noqa: S608 - a format
)
SIZE = Statement("look.size", "SELECT pg_database_size(current_database())")
CACHE = Statement(
    "look.cache",
    """SELECT blks_hit, blks_read, pg_size_bytes(current_setting('shared_buffers'))
       FROM pg_stat_database WHERE datname = current_database()""",
)
ACTIVITY = Statement(
    "look.activity",
    """SELECT count(*), current_setting('max_connections')::integer,
       count(*) FILTER (WHERE a.state = 'active'), count(*) FILTER (WHERE a.state LIKE 'idle in transaction%'),
       count(*) FILTER (WHERE a.wait_event_type = 'Lock'),
       extract(epoch FROM clock_timestamp() - min(a.xact_start))::float8,
       d.deadlocks, d.xact_rollback, d.temp_bytes
       FROM pg_stat_database d LEFT JOIN pg_stat_activity a ON a.datid = d.datid AND a.backend_type = 'client backend'
       WHERE d.datname = current_database() GROUP BY d.deadlocks, d.xact_rollback, d.temp_bytes""",
)
# 28 bytes are the head of a row and the pointer to it, 24 that of a page.
TABLES = Statement(
    "look.tables",
    f"""SELECT c.relname, s.n_live_tup, s.n_dead_tup, c.relpages::bigint * b.size,
       (SELECT coalesce(sum(x.relpages), 0)::bigint FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
        WHERE i.indrelid = c.oid) * b.size,
       CASE WHEN c.reltuples > 0 AND w.width IS NOT NULL THEN greatest(0, c.relpages::bigint
        - ceil(c.reltuples * (28 + w.width) / (b.size - 24))::bigint) * b.size END,
       s.seq_scan, s.idx_scan, s.n_tup_ins + s.n_tup_upd + s.n_tup_del,
       to_char(greatest(s.last_vacuum, s.last_autovacuum) {MOMENT}),
       to_char(greatest(s.last_analyze, s.last_autoanalyze) {MOMENT})
       FROM pg_class c JOIN pg_stat_user_tables s ON s.relid = c.oid
       CROSS JOIN (SELECT current_setting('block_size')::bigint AS size) b
       LEFT JOIN LATERAL (SELECT sum((1 - t.null_frac) * t.avg_width) AS width FROM pg_stats t
        WHERE t.schemaname = s.schemaname AND t.tablename = s.relname) w ON true
       WHERE c.relkind = 'r' AND pg_table_is_visible(c.oid) ORDER BY c.relpages DESC, c.relname LIMIT $1""",  # noqa: S608 - a format
)
INDEXES = Statement(
    "look.indexes",
    """SELECT s.indexrelname, s.relname, i.indisunique, i.indisvalid, s.idx_scan, s.idx_tup_read,
       c.relpages::bigint * current_setting('block_size')::bigint
       FROM pg_stat_user_indexes s JOIN pg_index i ON i.indexrelid = s.indexrelid
       JOIN pg_class c ON c.oid = s.indexrelid
       WHERE pg_table_is_visible(c.oid) ORDER BY c.relpages DESC, s.indexrelname LIMIT $1""",
)


class Onlooker:
    """One who looks at a time, over one connection that is kept for a while. `dial` opens one that waits for no answer much
    longer than a card may take; `why` says in a sentence why something failed.

    Everything it does is bounded in time and raises `DatabaseUnavailable`, but for `cards`, which tell instead.
    """

    def __init__(
        self,
        dial: Callable[[], Awaitable[Connection]],
        observer: Observer,
        why: Callable[[BaseException], str],
    ) -> None:
        self._dial = dial
        self._observer = observer
        self._why = why
        self._turn = asyncio.Lock()
        self._connection: Connection | None = None
        self._resting: asyncio.TimerHandle | None = None
        self._looking: asyncio.Task[Cards] | None = None

    def close(self) -> None:
        """Let go of the connection."""
        if self._looking is not None:
            self._looking.cancel()
        if self._resting is not None:
            self._resting.cancel()
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        """The connection, for one at a time; raises `DatabaseUnavailable`, also for what fails within."""
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await self._turn.acquire()
        except TimeoutError as error:
            raise unseen("Others who look at the database took too long.") from error
        sound = False
        try:
            yield await self._dialled()
            sound = True
        except DAMAGES as error:
            sound = isinstance(error, asyncpg.PostgresError)
            raise unseen(self._why(error)) from error
        finally:
            self._rest(sound=sound)
            self._turn.release()

    async def _dialled(self) -> Connection:
        if self._resting is not None:
            self._resting.cancel()
        if self._connection is None or self._connection.is_closed():
            async with asyncio.timeout(DIAL_SECONDS):
                connection = await self._dial()
                await connection.execute(
                    f"SET statement_timeout = {round(CARD_SECONDS * 1000)};"
                    f"SET lock_timeout = {round(LOCK_SECONDS * 1000)}"
                )
            self._connection = connection
        return self._connection

    def _rest(self, *, sound: bool) -> None:
        """Keep the connection for the next look, unless it is not as it was or none comes soon."""
        connection = self._connection
        if connection is None:
            return
        if not sound or connection.is_closed() or connection.is_in_transaction():
            connection.terminate()
            self._connection = None
        else:
            loop = asyncio.get_running_loop()
            self._resting = loop.call_later(REST_SECONDS, self._let_go, connection)

    def _let_go(self, connection: Connection) -> None:
        if connection is self._connection and not self._turn.locked():
            connection.terminate()
            self._connection = None

    async def _ask(
        self, connection: Connection, statement: Statement, *params: object
    ) -> list[Row]:
        backend = connection.get_server_pid()
        with self._observer.watch(statement.name, statement.sql, params, backend=backend) as watch:
            rows = await connection.fetch(statement.sql, *params)
            watch.rows = len(rows)
        return [tuple(row) for row in rows]

    async def explain(self, text: str, parameters: int, settings: str) -> str:
        """The plan of a statement for any parameters: values play no part in it, and so do not show."""
        if EXPLAINABLE.match(text) is None:
            raise unseen("There is no plan for statements of this kind.")
        nothing = f"({', '.join(['NULL'] * parameters)})" if parameters else ""
        async with self._connected() as connection:
            # Settings and whatever else was begun end with the transaction, but not what was prepared.
            await connection.execute(
                f"BEGIN; {settings or 'SET LOCAL jit = off'}; SET LOCAL plan_cache_mode = force_generic_plan"
            )
            await connection.execute(f"PREPARE tableforge_look AS {text}")
            try:
                lines = await connection.fetch(f"EXPLAIN EXECUTE tableforge_look{nothing}")
            finally:
                await connection.execute("ROLLBACK; DEALLOCATE tableforge_look")
        return "\n".join(line[0] for line in lines)

    async def look(self, watches: Sequence[Watch]) -> None:
        """Find out for whom these wait."""
        by_backend = {watch.backend: watch for watch in watches if watch.backend}
        if not by_backend:
            return
        async with self._connected() as connection:
            rows = await self._ask(connection, WAITING, list(by_backend))
        for backend, kind, event, *blocker in rows:
            watch = by_backend[backend]
            if watch not in self._observer.running:
                continue
            watch.wait = waited(kind, event) or watch.wait
            pid = blocker[0]
            if pid is not None and (pid in watch.blockers or len(watch.blockers) < BLOCKERS):
                watch.blockers[pid] = self._blocker(*blocker)

    def _blocker(
        self,
        pid: int,
        application: str | None,
        state: str | None,
        kind: str | None,
        event: str | None,
        seconds: float | None,
        query: str | None,
    ) -> Blocker:
        ours = bool(query) and query != UNSEEN and (application or "").startswith(OURS)
        return Blocker(
            pid=pid,
            application=application or ("" if pid else "a prepared transaction"),
            state=state or "unknown",
            wait=waited(kind, event),
            transaction_seconds=seconds,
            statement=self._observer.name_of(query or "") if ours else None,
            query=without_literals(query or "") if ours else None,
        )

    async def cards(self) -> Cards:
        """All cards; whoever asks while they are being asked for gets the same ones."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._all_cards())
        return await asyncio.shield(self._looking)

    async def _all_cards(self) -> Cards:
        missing: dict[str, str] = {}

        lost = ""

        async def card(name: str, statement: Statement, made: Callable[[list[Row]], T]) -> T | None:
            nonlocal lost
            params = (LISTED_AT_MOST,) if "$1" in statement.sql else ()
            try:
                if lost:
                    raise unseen(lost)
                async with self._connected() as connection:
                    return made(await self._ask(connection, statement, *params))
            except DatabaseUnavailable as unavailable:
                missing[name] = unavailable.why
                # A server that is away is not waited for again by every card.
                lost = "" if self._connection is not None else unavailable.why
                return None

        return Cards(
            server=await card("server", SERVER, lambda rows: DatabaseServer(*rows[0])),
            size=await card(
                "size", SIZE, lambda rows: DatabaseSize(rows[0][0], None, None, None, None)
            ),
            cache=await card("cache", CACHE, lambda rows: cache_of(*rows[0])),
            activity=await card("activity", ACTIVITY, lambda rows: DatabaseActivity(*rows[0])),
            tables=await card("tables", TABLES, lambda rows: [table_of(*row) for row in rows]),
            indexes=await card(
                "indexes", INDEXES, lambda rows: [IndexFigures(*row) for row in rows]
            ),
            missing=missing,
        )


def unseen(why: str) -> DatabaseUnavailable:
    """Why there is nothing to tell."""
    return DatabaseUnavailable("Nothing was read.", why)


def waited(kind: str | None, event: str | None) -> str | None:
    """What a session waits for, as PostgreSQL calls it."""
    return f"{kind}: {event}" if kind else None


def cache_of(hits: int, reads: int, size: int) -> DatabaseCache:
    """The card of these counts of pages."""
    return DatabaseCache(hits / (hits + reads) if hits + reads else None, hits, reads, size)


def table_of(name: str, rows: int, dead: int, *rest: Any) -> TableFigures:
    """The card of one table."""
    return TableFigures(name, rows, dead, dead / (rows + dead) if rows + dead else 0.0, *rest)
