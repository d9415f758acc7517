"""The store of a fleet from outside of a server: PostgreSQL's side of it, as `store` is SQLite's."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from tableforge.config import DatabaseKnobs, Settings
from tableforge.database.large_indexes import LARGE_INDEXES
from tableforge.database.migrations import scripts
from tableforge.database.pool import Connection
from tableforge.database.postgres import (
    FAILURES,
    PostgresDatabase,
    form_of,
    migrate,
    reason,
    refused,
    state_of,
    tune,
)
from tableforge.errors import Conflict, StartRefused, Unavailable
from tableforge.library.asset_stores import SharedBytes, shared_bytes
from tableforge.ops.stored import (
    ROWS_AT_ONCE,
    TABLES,
    OrderRefused,
    StoredRoom,
    StoredRow,
    StoredSnapshot,
    WholeRoom,
    quoted,
)

NAME = "tools"
"""What these connections are called in `pg_stat_activity`, behind `tableforge/`."""
ANSWER_SECONDS = 600.0
"""How long one portion may take: the count of all events reads their whole table."""
SCHEMA_SECONDS = 600.0
"""How long another one that brings the tables to the present form is waited for."""
VALUE_STATES = ("22", "23")
"""Classes of refusals that concern the rows at hand: data and constraints."""
MOVING_LOCK = 0x6D6F7665
"""The advisory lock of whoever fills a database."""


@contextmanager
def answering() -> Iterator[None]:
    """What the driver raises, as what it means; Conflict for values that the database does not take."""
    try:
        yield
    except FAILURES as error:
        if isinstance(error, ValueError) or state_of(error)[:2] in VALUE_STATES:
            why, mend = reason(error)
            raise Conflict("The database does not take this.", why, mend) from error
        raise refused(error) from error


@contextmanager
def ordered(what: str) -> Iterator[None]:
    """What a server refuses at its start, as the refusal of an order: `what` was not done."""
    try:
        yield
    except StartRefused as refusal:
        raise OrderRefused(what, refusal.why, refusal.mend) from refusal


class PostgresStore:
    """See `Store`. Reading needs a transaction around it, `moment` or `transaction`: a portion is a cursor's."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @asynccontextmanager
    async def moment(self) -> AsyncIterator[None]:
        """Everything that is read in the block is as it was at one moment, and nothing is written."""
        with answering():
            async with self._connection.transaction(isolation="repeatable_read", readonly=True):
                yield

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """See `Store`."""
        with answering():
            async with self._connection.transaction():
                yield

    async def _fetch(self, text: str, *params: object) -> list[Any]:
        with answering():
            return await self._connection.fetch(text, *params)

    async def _portions(self, text: str, *params: object) -> AsyncIterator[list[Any]]:
        with answering():
            cursor = await self._connection.cursor(text, *params)
            while portion := await cursor.fetch(ROWS_AT_ONCE):
                yield portion

    async def live_instances(self, expiry_seconds: float) -> list[str]:
        """The instances that serve on this database now."""
        rows = await self._fetch(
            "SELECT id FROM instances WHERE seen > clock_timestamp() - make_interval(secs => $1) ORDER BY id",
            expiry_seconds,
        )
        return [row["id"] for row in rows]

    async def rooms(self) -> list[StoredRoom]:
        """See `Store`."""
        rows = await self._fetch(
            "SELECT place, id, name, visibility, tags, deleted_at, coalesce(begins, 0)"
            " FROM rooms LEFT JOIN room_heads ON room = id ORDER BY place"
        )
        return [
            StoredRoom(place, room, name, visibility, tuple(tags), deleted_at, begins)
            for place, room, name, visibility, tags, deleted_at, begins in rows
        ]

    async def head(self, room: str) -> int | None:
        """See `Store`."""
        rows = await self._fetch("SELECT head FROM room_heads WHERE room = $1", room)
        return rows[0]["head"] if rows else None

    async def events(self, room: str) -> AsyncIterator[list[StoredRow]]:
        """See `Store`."""
        text = (
            "SELECT seq, version, data, key, digest FROM events WHERE room = $1"
            " AND seq > coalesce((SELECT begins FROM room_heads WHERE room = $1), 0) ORDER BY seq"
        )
        async for portion in self._portions(text, room):
            yield [StoredRow(*row) for row in portion]

    async def events_by_room(self) -> dict[str, int]:
        """See `Store`."""
        rows = await self._fetch(
            "SELECT e.room, count(*) FROM events e LEFT JOIN room_heads h ON h.room = e.room"
            " WHERE e.seq > coalesce(h.begins, 0) GROUP BY e.room"
        )
        return {room: count for room, count in rows}  # noqa: C416 - records are no pairs

    async def snapshots(self, room: str) -> AsyncIterator[StoredSnapshot]:
        """See `Store`."""
        with answering():
            async for row in self._connection.cursor(
                "SELECT seq, version, data FROM snapshots WHERE room = $1"
                " AND seq >= coalesce((SELECT begins FROM room_heads WHERE room = $1), 0) ORDER BY seq",
                room,
                prefetch=1,
            ):
                yield StoredSnapshot(*row)

    async def seats(self, room: str) -> list[tuple[str, str]]:
        """See `Store`."""
        rows = await self._fetch('SELECT "user", role FROM seats WHERE room = $1', room)
        return [(user, role) for user, role in rows]

    async def digests(self) -> list[str]:
        """See `Store`."""
        rows = await self._fetch('SELECT DISTINCT digest COLLATE "C" FROM assets ORDER BY 1')
        return [row[0] for row in rows]

    async def rows(self, table: str) -> AsyncIterator[list[tuple[object, ...]]]:
        """See `Store`."""
        text = f"SELECT {quoted(TABLES[table])} FROM {table}"  # noqa: S608 - names of `TABLES`, no values
        async for portion in self._portions(text):
            yield [tuple(row) for row in portion]

    async def add_room(
        self, room: StoredRoom, epoch: str, seats: Sequence[tuple[str, str]], head: int
    ) -> None:
        """See `Store`."""
        with answering():
            await self._connection.execute(
                "INSERT INTO rooms (id, name, visibility, tags) VALUES ($1, $2, $3, $4)",
                *(room.id, room.name, room.visibility, list(room.tags)),
            )
            await self._connection.execute(
                "INSERT INTO room_heads (room, head, epoch, deleted_at, begins) VALUES ($1, $2, $3, $4, $5)",
                *(room.id, head, epoch, room.deleted_at, room.begins),
            )
            await self._connection.copy_records_to_table(
                "seats",
                columns=("room", "user", "role"),
                records=[(room.id, user, role) for user, role in seats],
            )

    async def add_events(self, room: str, rows: Sequence[StoredRow]) -> None:
        """See `Store`."""
        with answering():
            await self._connection.copy_records_to_table(
                "events",
                columns=("room", "seq", "version", "data", "key", "digest"),
                records=[(room, *row) for row in rows],
            )

    async def add_snapshot(self, room: str, snapshot: StoredSnapshot) -> None:
        """See `Store`."""
        with answering():
            await self._connection.execute(
                "INSERT INTO snapshots (room, seq, version, data) VALUES ($1, $2, $3, $4)",
                *(room, *snapshot),
            )

    async def add_rows(self, table: str, rows: Sequence[tuple[object, ...]]) -> int:
        """See `Store`."""
        columns = TABLES[table]
        values = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
        with answering():
            added = await self._connection.fetchmany(
                f"INSERT INTO {table} ({quoted(columns)}) VALUES ({values})"  # noqa: S608 - names of `TABLES`
                " ON CONFLICT DO NOTHING RETURNING 1",
                rows,
            )
        return len(added)

    async def add_rooms(self, rooms: Sequence[WholeRoom]) -> None:
        """See `Store`."""
        log = ("room", "seq", "version", "data", "key", "digest")
        for table, columns, records in (
            (
                "rooms",
                ("id", "name", "visibility", "tags"),
                [(one.room.id, *one.room[2:4], list(one.room.tags)) for one in rooms],
            ),
            (
                "room_heads",
                ("room", "head", "epoch", "deleted_at"),
                [(one.room.id, len(one.events), one.epoch, one.room.deleted_at) for one in rooms],
            ),
            (
                "seats",
                ("room", "user", "role"),
                [(one.room.id, *seat) for one in rooms for seat in one.seats],
            ),
            ("events", log, [(one.room.id, *row) for one in rooms for row in one.events]),
        ):
            with answering():
                await self._connection.copy_records_to_table(
                    table, columns=columns, records=records
                )

    async def add_many(self, table: str, rows: Sequence[tuple[object, ...]]) -> None:
        """See `Store`."""
        with answering():
            await self._connection.copy_records_to_table(table, columns=TABLES[table], records=rows)

    @asynccontextmanager
    async def unindexed(self) -> AsyncIterator[None]:
        """In a transaction that fills empty tables: without the large indexes for the length of the block, which is
        several times as fast.
        """
        with answering():
            for index in LARGE_INDEXES:
                await self._connection.execute(f"DROP INDEX IF EXISTS {index.name}")
        yield
        with answering():
            await self._connection.execute("SET LOCAL maintenance_work_mem = '256MB'")
            for index in LARGE_INDEXES:
                await self._connection.execute(
                    f"CREATE INDEX {index.name} ON {index.table} {index.definition}"
                )

    async def settle(self) -> None:
        """Have the planner know what there is, outside of a transaction."""
        with answering():
            await self._connection.execute("VACUUM ANALYZE")


@asynccontextmanager
async def connected(knobs: DatabaseKnobs, what: str) -> AsyncIterator[Connection]:
    """A connection without the bounds that suit a server; raises `OrderRefused`, saying `what` was not done."""
    database = PostgresDatabase(knobs, NAME)
    try:
        connection = await database.dial(command_seconds=ANSWER_SECONDS)
    except (*FAILURES, ValueError) as error:
        with ordered(what):
            database.refuse_for_good(error)
        why, mend = reason(error)
        raise OrderRefused(
            what,
            f"The database at {database.name} was not reached. {why}",
            mend or "Look at DATABASE_URL, and at the log of PostgreSQL.",
        ) from error
    try:
        with answering():
            await connection.execute(
                "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0"
            )
        yield connection
    finally:
        connection.terminate()


async def form_or_refuse(connection: Connection, what: str) -> int:
    """The form of the tables, 0 where there are none; raises `OrderRefused` for another than this program's."""
    newest = scripts("postgres")[-1].number
    with answering():
        form = await form_of(connection)
    if form not in (0, newest):
        raise OrderRefused(
            what,
            f"The database has form {form}; this program works on form {newest}.",
            "Run `tableforge migrate --schema-only` for an older one, or use a later version.",
        )
    return form


@asynccontextmanager
async def reading(knobs: DatabaseKnobs, what: str) -> AsyncIterator[PostgresStore]:
    """A database as it was when the block began; raises `OrderRefused` for one without our tables."""
    async with connected(knobs, what) as connection:
        if await form_or_refuse(connection, what) == 0:
            raise OrderRefused(
                what,
                "There is no TableForge in this database.",
                "Name the one that the servers use, or start a server on it once.",
            )
        store = PostgresStore(connection)
        async with store.moment():
            yield store


async def is_empty(knobs: DatabaseKnobs, what: str) -> bool:
    """Whether a database has none of our tables yet."""
    async with connected(knobs, what) as connection:
        return await form_or_refuse(connection, what) == 0


@asynccontextmanager
async def filling(knobs: DatabaseKnobs, what: str) -> AsyncIterator[PostgresStore]:
    """A database to add to, brought to the present form; one at a time, or `OrderRefused`. Servers may run on it."""
    await bring_up(knobs, what)
    async with connected(knobs, what) as connection:
        if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", MOVING_LOCK):
            raise OrderRefused(
                what,
                "Another `tableforge migrate` is filling this database.",
                "Wait until it is done, then run this again: it goes on where that one stopped.",
            )
        yield PostgresStore(connection)


async def bring_up(knobs: DatabaseKnobs, what: str) -> tuple[int, int]:
    """Bring the tables to the present form, and return the forms before and after; for operators who do so before a
    rollout, with more rights than serving needs.
    """
    async with connected(knobs, what) as connection:
        with answering(), ordered(what):
            before = await form_of(connection)
            async with asyncio.timeout(SCHEMA_SECONDS):
                while not await migrate(connection):  # noqa: ASYNC110 - another process decides when
                    await asyncio.sleep(0.2)
            await tune(connection, knobs)
            return before, await form_of(connection)


@asynccontextmanager
async def pictures(
    settings: Settings, knobs: DatabaseKnobs, cache: Path
) -> AsyncIterator[SharedBytes]:
    """The pictures of a fleet, for a tool; what is read of them lies in the folder `cache` meanwhile."""
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(PostgresDatabase(knobs, NAME))
        try:
            async with asyncio.timeout(database.patience_seconds):
                await database.started()
        except TimeoutError as error:
            raise Unavailable("The database does not answer.", "", "Try again later.") from error
        yield shared_bytes(settings.pictures, database, cache)
