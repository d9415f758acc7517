"""The embedded store from outside of a server: the only file of this package that knows SQLite.

Everything here works on a data folder whether a server runs on it or not, unless it says otherwise.
"""

import fcntl
import os
import secrets
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from tableforge.database import Statement
from tableforge.database.sqlite import (
    FILE_NAME,
    LOCK_NAME,
    FolderLock,
    SqliteDatabase,
    connect,
    form_of,
    migrations,
)
from tableforge.errors import StartRefused, Unavailable
from tableforge.eventlog.sqlite import SqliteEventLog
from tableforge.library.asset_stores import sync

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


class OrderRefused(StartRefused):
    """An order of the command line that was not begun; nothing was changed."""


class Damage(NamedTuple):
    """What a check of the file's structure found in one table; `text` is SQLite's own."""

    table: str
    text: str


class Unreadable(Exception):
    """Stored bytes that are not what they should be; the message says which."""


class StoredRoom(NamedTuple):
    """A room as listings know it; `num` stands for it in the other tables."""

    num: int
    id: str
    name: str
    visibility: str
    tags: tuple[str, ...]


class StoredRow(NamedTuple):
    """One row of a log; `key` is the command's, on its last event."""

    offset: int
    form: int
    data: bytes
    key: bytes | None


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
    return migrations()[-1][0]


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
            Reader(connection).digests(),
        )


class Reader:
    """All of a database as it was at one moment; SQLite's own errors come through."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rooms(self) -> list[StoredRoom]:
        """All rooms, the deleted ones, too."""
        rows = self._connection.execute(
            "SELECT num, id, name, visibility, tags FROM rooms ORDER BY num"
        )
        return [
            StoredRoom(num, room, name, visibility, tuple(msgspec.json.decode(tags)))
            for num, room, name, visibility, tags in rows
        ]

    def events(self, num: int) -> Iterator[StoredRow]:
        """A room's log in order."""
        rows = self._connection.execute(
            "SELECT seq, version, data, key FROM events WHERE room = ? ORDER BY seq", (num,)
        )
        return (StoredRow(*row) for row in rows)

    def events_by_room(self) -> dict[int, int]:
        """How many events each room has, counted without an index."""
        rows = self._connection.execute(
            "SELECT room, count(*) FROM events NOT INDEXED GROUP BY room"
        )
        return dict(rows.fetchall())

    def snapshots(self, num: int) -> Iterator[tuple[int, int, bytes]]:
        """A room's snapshots: offset, form, bytes; raises Unreadable for one that does not unpack."""
        for offset, form, packed in self._connection.execute(
            "SELECT seq, version, data FROM snapshots WHERE room = ? ORDER BY seq", (num,)
        ):
            try:
                yield offset, form, zlib.decompress(packed)
            except zlib.error as error:
                raise Unreadable(f"its snapshot at {offset} does not unpack ({error})") from error

    def seats(self, num: int) -> list[tuple[str, str]]:
        """Who has a seat in a room: user and role."""
        return self._connection.execute(
            "SELECT user, role FROM seats WHERE room = ?", (num,)
        ).fetchall()

    def digests(self) -> list[str]:
        """The digests of all pictures; none in a database of a form that had no pictures yet."""
        if not self._connection.execute(
            "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'assets'"
        ).fetchone():
            return []
        rows = self._connection.execute("SELECT DISTINCT digest FROM assets ORDER BY digest")
        return [row[0] for row in rows]


@contextmanager
def reading(path: Path) -> Iterator[Reader]:
    """A reader for the length of a block, which holds the moment at which it began.

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
        yield Reader(connection)
