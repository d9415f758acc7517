"""The embedded store from outside of a server: SQLite's side of it; PostgreSQL's is `fleet_store`.

Everything here works on a data folder whether a server runs on it or not, unless it says otherwise.
"""

import fcntl
import os
import secrets
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from tableforge.database import Statement
from tableforge.database.migrations import scripts
from tableforge.database.sqlite import (
    FILE_NAME,
    LOCK_NAME,
    FolderLock,
    SqliteDatabase,
    connect,
    form_of,
)
from tableforge.errors import Conflict, StartRefused, Unavailable
from tableforge.eventlog.sqlite import SqliteEventLog
from tableforge.library.asset_blobs import sync
from tableforge.ops.stored import (
    ROWS_AT_ONCE,
    TABLES,
    OrderRefused,
    StoredRoom,
    StoredRow,
    StoredSnapshot,
    Unreadable,
    WholeRoom,
    quoted,
)

DATABASE = FILE_NAME
LOCK = LOCK_NAME
LOG_FILES = (f"{FILE_NAME}-wal", f"{FILE_NAME}-shm")
"""What SQLite keeps beside an open database; after a crash the first holds commits that the database lacks."""
MAGIC = b"SQLite format 3\0"

PAGES_A_STEP = 256
PAUSE_SECONDS = 0.001
"""Between two steps of a copy, so that a server on the same disk gets its turn."""
PROBLEMS_NAMED = 5

ALL_ROOMS = Statement("ops_all_rooms", "SELECT id FROM rooms ORDER BY num")


class Damage(NamedTuple):
    """What a check of the file's structure found in one table; `text` is SQLite's own."""

    table: str
    text: str


class Counts(NamedTuple):
    """What a database holds: its form, how many rooms and events, and the digests of the pictures it refers to."""

    form: int
    rooms: int
    events: int
    digests: list[str]


def database_of(folder: Path) -> Path:
    """The database file of a data folder."""
    return folder / DATABASE


def newest_form() -> int:
    """The form of the database that this program writes."""
    return scripts("sqlite")[-1].number


def holder(folder: Path) -> str | None:
    """Who holds the data folder, as it wrote it there ("pid 123"); None when nobody does."""
    try:
        handle = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.read(handle, 64).decode("ascii", "replace").strip() or "unknown"
    finally:
        os.close(handle)
    return None


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep servers out of a data folder for the length of a block; raises `OrderRefused` while one is in it."""
    try:
        lock = FolderLock(folder)
    except StartRefused as refusal:
        raise OrderRefused(
            "Nothing was done.",
            refusal.why,
            "Stop that server first; it can be started again afterwards.",
        ) from refusal
    try:
        yield
    finally:
        lock.release()


def open_to_read(path: Path) -> sqlite3.Connection:
    """A connection that changes nothing; SQLite's own errors come through.

    In a folder that cannot be written, SQLite cannot share a WAL with anybody; then the file is read as it is.
    """
    try:
        connection = connect(path, readonly=True)
        try:
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except BaseException:
            connection.close()
            raise
    except sqlite3.OperationalError:
        left_over = path.with_name(LOG_FILES[0])
        if not path.is_file() or (left_over.exists() and left_over.stat().st_size):
            raise
        uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None)
    return connection


def damages(connection: sqlite3.Connection, *, thorough: bool) -> list[Damage]:
    """What is broken in each table, its indexes included; empty when nothing is.

    The thorough check compares indexes with their tables, too, and takes several times as long.
    """
    check = "integrity_check" if thorough else "quick_check"
    try:
        tables = [
            row[0]
            for row in connection.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name"
            )
        ]
    except sqlite3.DatabaseError as error:
        return [Damage("the list of tables", str(error))]
    found: list[Damage] = []
    for table in tables:
        quoted = table.replace("'", "''")
        try:
            # A pragma takes no bound parameters; the name comes from the schema and is quoted.
            lines = [row[0] for row in connection.execute(f"PRAGMA {check}('{quoted}')")]
        except sqlite3.DatabaseError as error:
            lines = [str(error)]
        if lines != ["ok"]:
            found.append(Damage(table, "; ".join(lines[:PROBLEMS_NAMED])))
    return found


def copy_database(source: Path, target: Path, progress: Callable[[int, int], None]) -> None:
    """Copy the database as it is at one moment, while a server may go on writing; `progress` hears pages done and all.

    The copy is one file that needs no others, and is on the disk on return. Raises Unavailable when it cannot be made.
    """
    what = "The database was not copied."
    try:
        with closing(open_to_read(source)) as origin, closing(sqlite3.connect(target)) as copy:
            # The open transaction holds the moment: without it every write of the server would begin the copy anew.
            origin.execute("BEGIN")
            origin.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            copy.execute("PRAGMA synchronous=OFF")

            def step(_: int, remaining: int, total: int) -> None:
                progress(total - remaining, total)
                time.sleep(PAUSE_SECONDS)

            origin.backup(copy, pages=PAGES_A_STEP, progress=step)
            origin.execute("COMMIT")
            copy.execute("PRAGMA journal_mode=DELETE")
            broken = damages(copy, thorough=False)
    except sqlite3.Error as error:
        raise Unavailable(what, f"{error}.", "Run `tableforge doctor`.") from error
    if broken:
        raise Unavailable(
            what,
            f"Table {broken[0].table} of the database is damaged: {broken[0].text}",
            "Restore the newest good backup; `tableforge doctor` says more.",
        )
    target.chmod(0o600)
    sync(target)


async def renew_epochs(folder: Path, progress: Callable[[int, int], None]) -> int:
    """Give every room another epoch, after bringing the database to the present form; returns how many rooms there are.

    Positions that clients hold belong to the life of the rooms that the backup cut off. Takes the data folder for itself.
    """
    async with SqliteDatabase(folder) as database:
        log = SqliteEventLog(database, commit_interval=0)
        rooms = [row[0] for row in await database.read(ALL_ROOMS)]
        for number, room in enumerate(rooms, 1):
            await log.renew_epoch(room, secrets.token_hex(8))
            progress(number, len(rooms))
    return len(rooms)


def examined(path: Path, *, thorough: bool) -> tuple[int, list[Damage]]:
    """The form of a database file and what is broken in it; SQLite's own errors come through."""
    with closing(open_to_read(path)) as connection:
        return form_of(connection), damages(connection, thorough=thorough)


def counts(path: Path) -> Counts:
    """What a database holds; SQLite's own errors come through."""
    with closing(open_to_read(path)) as connection:
        return Counts(
            form_of(connection),
            connection.execute("SELECT count(*) FROM rooms").fetchone()[0],
            connection.execute("SELECT count(*) FROM events").fetchone()[0],
            _digests(connection),
        )


class SqliteStore:
    """See `Store`; SQLite's own errors come through, but for `Unreadable`. Nothing here gives way to other tasks."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def rooms(self) -> list[StoredRoom]:
        """See `Store`."""
        rows = self._connection.execute(
            "SELECT num, id, name, visibility, tags, deleted_at, begins FROM rooms ORDER BY num"
        )
        return [
            StoredRoom(*(num, room, name, visibility), tuple(msgspec.json.decode(tags)), *rest)
            for num, room, name, visibility, tags, *rest in rows
        ]

    async def head(self, room: str) -> int | None:
        """See `Store`."""
        with _readable():
            row = self._connection.execute(
                "SELECT coalesce((SELECT max(seq) FROM events WHERE room = num), 0) FROM rooms WHERE id = ?",
                (room,),
            ).fetchone()
        return row[0] if row else None

    async def events(self, room: str) -> AsyncIterator[list[StoredRow]]:
        """See `Store`."""
        with _readable():
            rows = self._connection.execute(
                "SELECT e.seq, e.version, e.data, e.key, e.digest FROM rooms r"
                " JOIN events e ON e.room = r.num AND e.seq > r.begins WHERE r.id = ? ORDER BY e.seq",
                (room,),
            )
            while portion := rows.fetchmany(ROWS_AT_ONCE):
                yield [StoredRow(*row) for row in portion]

    async def events_by_room(self) -> dict[str, int]:
        """See `Store`; events of no room are counted under their number."""
        with _readable():
            rows = self._connection.execute(
                "SELECT coalesce(rooms.id, events.room), counted FROM"
                " (SELECT e.room, count(*) AS counted FROM events AS e NOT INDEXED"
                " WHERE e.seq > coalesce((SELECT begins FROM rooms WHERE num = e.room), 0) GROUP BY e.room) AS events"
                " LEFT JOIN rooms ON rooms.num = events.room"
            )
            return {str(room): count for room, count in rows}

    async def snapshots(self, room: str) -> AsyncIterator[StoredSnapshot]:
        """See `Store`."""
        with _readable():
            for row in self._connection.execute(
                "SELECT s.seq, s.version, s.data FROM rooms r"
                " JOIN snapshots s ON s.room = r.num AND s.seq >= r.begins WHERE r.id = ? ORDER BY s.seq",
                (room,),
            ):
                yield StoredSnapshot(*row)

    async def seats(self, room: str) -> list[tuple[str, str]]:
        """See `Store`."""
        with _readable():
            return self._connection.execute(
                "SELECT user, role FROM seats WHERE room = (SELECT num FROM rooms WHERE id = ?)",
                (room,),
            ).fetchall()

    async def digests(self) -> list[str]:
        """See `Store`."""
        return _digests(self._connection)

    async def rows(self, table: str) -> AsyncIterator[list[tuple[object, ...]]]:
        """See `Store`."""
        rows = self._connection.execute(
            f"SELECT {quoted(TABLES[table])} FROM {table}"  # noqa: S608 - names of `TABLES`, no values
        )
        while portion := rows.fetchmany(ROWS_AT_ONCE):
            yield portion

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """See `Store`."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    async def add_room(
        self, room: StoredRoom, epoch: str, seats: Sequence[tuple[str, str]], head: int
    ) -> None:
        """See `Store`."""
        del head
        num = self._connection.execute(
            "INSERT INTO rooms (id, epoch, name, visibility, tags, deleted_at, begins)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                *(room.id, epoch, room.name, room.visibility),
                *(msgspec.json.encode(room.tags).decode(), room.deleted_at, room.begins),
            ),
        ).lastrowid
        self._connection.executemany(
            "INSERT INTO seats (user, room, role) VALUES (?, ?, ?)",
            [(user, num, role) for user, role in seats],
        )

    async def add_events(self, room: str, rows: Sequence[StoredRow]) -> None:
        """See `Store`."""
        num = self._num(room)
        self._connection.executemany(
            "INSERT INTO events (room, seq, version, data, key, digest) VALUES (?, ?, ?, ?, ?, ?)",
            [(num, *row) for row in rows],
        )

    async def add_snapshot(self, room: str, snapshot: StoredSnapshot) -> None:
        """See `Store`."""
        self._connection.execute(
            "INSERT INTO snapshots (room, seq, version, data) VALUES (?, ?, ?, ?)",
            (self._num(room), *snapshot),
        )

    async def add_rows(self, table: str, rows: Sequence[tuple[object, ...]]) -> int:
        """See `Store`."""
        columns = TABLES[table]
        return self._connection.executemany(
            f"INSERT INTO {table} ({quoted(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608 - names of `TABLES`
            " ON CONFLICT DO NOTHING",
            rows,
        ).rowcount

    async def add_rooms(self, rooms: Sequence[WholeRoom]) -> None:
        """See `Store`."""
        first = self._connection.execute("SELECT coalesce(max(num), 0) + 1 FROM rooms").fetchone()[
            0
        ]
        numbered = list(enumerate(rooms, first))
        self._connection.executemany(
            "INSERT INTO rooms (num, id, epoch, name, visibility, tags, deleted_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    *(num, one.room.id, one.epoch, one.room.name, one.room.visibility),
                    *(msgspec.json.encode(one.room.tags).decode(), one.room.deleted_at),
                )
                for num, one in numbered
            ],
        )
        self._connection.executemany(
            "INSERT INTO seats (user, room, role) VALUES (?, ?, ?)",
            [(user, num, role) for num, one in numbered for user, role in one.seats],
        )
        self._connection.executemany(
            "INSERT INTO events (room, seq, version, data, key, digest) VALUES (?, ?, ?, ?, ?, ?)",
            [(num, *row) for num, one in numbered for row in one.events],
        )

    async def add_many(self, table: str, rows: Sequence[tuple[object, ...]]) -> None:
        """See `Store`."""
        if await self.add_rows(table, rows) < len(rows):
            raise Conflict("The database does not take this.", "Some of it is there already.")

    @asynccontextmanager
    async def unindexed(self) -> AsyncIterator[None]:
        """Here the indexes are kept up: nothing is won without them."""
        yield

    async def settle(self) -> None:
        """Have the planner know what there is, outside of a transaction."""
        self._connection.execute("ANALYZE")

    def _num(self, room: str) -> int:
        """What stands for a room in the rows that are many."""
        num: int = self._connection.execute(
            "SELECT num FROM rooms WHERE id = ?", (room,)
        ).fetchone()[0]
        return num


def _digests(connection: sqlite3.Connection) -> list[str]:
    """The digests of all pictures; none in a database of a form that had no pictures yet."""
    if not connection.execute(
        "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'assets'"
    ).fetchone():
        return []
    rows = connection.execute("SELECT DISTINCT digest FROM assets ORDER BY digest")
    return [row[0] for row in rows]


@contextmanager
def _readable() -> Iterator[None]:
    """A page that is damaged concerns what lies on it alone."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise Unreadable(str(error)) from error


@contextmanager
def reading(path: Path) -> Iterator[SqliteStore]:
    """A database for the length of a block, which holds the moment at which it began.

    Raises `OrderRefused` for a database of another form than this program writes.
    """
    with closing(open_to_read(path)) as connection:
        connection.execute("BEGIN")
        if (form := form_of(connection)) != newest_form():
            raise OrderRefused(
                "Nothing was read.",
                f"The database has form {form}; this program reads form {newest_form()}.",
                "Start the server once, which brings an older one to the present form, or use a later version.",
            )
        yield SqliteStore(connection)


@contextmanager
def filling(folder: Path) -> Iterator[SqliteStore]:
    """A data folder's database to add to, which `bring_up` has made; servers are kept out, or `OrderRefused`."""
    with held(folder), closing(connect(database_of(folder))) as connection:
        yield SqliteStore(connection)


def settle(folder: Path) -> None:
    """Make a data folder that nobody uses into files that say all by themselves: no log beside the database, no lock."""
    with closing(connect(database_of(folder))) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    (folder / LOCK).unlink(missing_ok=True)
    sync(database_of(folder))


@contextmanager
def empty() -> Iterator[SqliteStore]:
    """A database with nothing in it and no file, to compare with."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for script in scripts("sqlite"):
            connection.executescript(script.text)
        yield SqliteStore(connection)


async def bring_up(folder: Path) -> tuple[int, int]:
    """Bring a data folder's database to the present form, making both where they are missing; the forms before and after."""
    path = database_of(folder)
    before = 0
    if path.is_file():
        with closing(open_to_read(path)) as connection:
            before = form_of(connection)
    async with SqliteDatabase(folder):
        return before, newest_form()
