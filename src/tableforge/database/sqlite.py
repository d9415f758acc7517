"""SQLite as the database of the embedded mode: one file, one writer thread, a few readers.

WAL with `synchronous=FULL`: a commit is on the disk when it returns, and readers never wait for the writer. A lock file
keeps a second process out, which would break the writer's knowledge of where the streams end.
"""

import asyncio
import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from tableforge.config import CareKnobs, DatabaseKnobs
from tableforge.database import DatabaseUnavailable, Row, Statement, Step
from tableforge.database.admission import Slots
from tableforge.database.cards import Cards, PoolFigures, pool_figures
from tableforge.database.cards.sqlite import Onlooker
from tableforge.database.disks import data_folder
from tableforge.database.migrations import Script, scripts
from tableforge.database.observing import Observer, Watch
from tableforge.errors import StartRefused
from tableforge.telemetry import COUNTERS

FILE_NAME = "tableforge.sqlite3"
LOCK_NAME = "tableforge.lock"
READERS = 3
READERS_RESERVE = 1
"""What lists and searches leave to the game."""
BUSY_SECONDS = 10.0

T = TypeVar("T")
Job = tuple[Callable[[sqlite3.Connection], Any], Callable[[Any, BaseException | None], None]]


def translated(error: sqlite3.Error) -> DatabaseUnavailable:
    """Say what a failure of SQLite means for whoever asked, and how an operator mends it."""
    text = str(error)
    if "full" in text:
        why, mend = (
            "The disk is full.",
            "Free some room on the server's disk; nothing else is needed.",
        )
    elif "readonly" in text or "read-only" in text:
        why, mend = (
            "The data folder cannot be written.",
            "Give the server's user the right to write there.",
        )
    elif "malformed" in text or "not a database" in text or "corrupt" in text:
        why, mend = (
            "A page of the database is damaged.",
            "Stop the server, run `tableforge doctor`, and restore the newest good backup.",
        )
    else:
        why, mend = f"The database says: {text}.", "Run `tableforge doctor` on the server."
    return DatabaseUnavailable("Nothing was saved.", why, mend)


def migrations() -> list[Script]:
    """The numbered scripts that bring a database to the present form."""
    return scripts("sqlite")


def connect(path: Path, *, readonly: bool = False) -> sqlite3.Connection:
    """Open the file as every part of the program does; SQLite's own errors come through."""
    uri = f"{path.absolute().as_uri()}{'?mode=ro' if readonly else ''}"
    connection = sqlite3.connect(
        uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        if not readonly:
            # Counts for a file without tables alone, and before anything is written: then free pages can be given back.
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA wal_autocheckpoint=4000")
            connection.execute("PRAGMA journal_size_limit=67108864")
        connection.execute("PRAGMA cache_size=-16384")
        # Spilled savepoints would be files in /var/tmp, left there by a kill, and missing where that cannot be written.
        connection.execute("PRAGMA temp_store=MEMORY")
        connection.execute("PRAGMA foreign_keys=ON")
    except BaseException:
        connection.close()
        raise
    return connection


def form_of(connection: sqlite3.Connection) -> int:
    """The number of the newest migration that this database has had."""
    number: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return number


def migrate(path: Path, connection: sqlite3.Connection) -> None:
    """Bring the database to the present form, after a backup if it holds anything; refuse a newer one."""
    steps = migrations()
    newest = steps[-1].number
    present = form_of(connection)
    if present > newest:
        raise StartRefused(
            "The server did not start.",
            f"{path} was written by a newer TableForge (form {present}; this one knows {newest}).",
            "Install that version or a later one, or point TABLEFORGE_DATA elsewhere.",
        )
    pending = [step for step in steps if step.number > present]
    if pending and present > 0:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        target = path.parent / "backups" / f"before-form-{newest}-{stamp}.sqlite3"
        target.parent.mkdir(mode=0o700, exist_ok=True)
        with closing(sqlite3.connect(target)) as copy:
            connection.backup(copy)
        target.chmod(0o600)
    for number, _, text in pending:
        connection.executescript(
            f"BEGIN IMMEDIATE;\n{text}\nPRAGMA user_version={number};\nCOMMIT;"
        )


class FolderLock:
    """Keeps the data folder for one process; the lock goes with the process, however it ends."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK_NAME
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(self._file, 64).decode("ascii", "replace").strip()
            os.close(self._file)
            raise StartRefused(
                "The server did not start.",
                f"The data folder {folder} is in use by another process ({holder or 'unknown'}).",
                "Stop that server, or point TABLEFORGE_DATA at another folder.",
            ) from error
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"pid {os.getpid()}\n".encode("ascii"), 0)

    def release(self) -> None:
        """Let the next process in."""
        os.close(self._file)


class SqliteDatabase:
    """The embedded database; an async context that holds the data folder while it is open.

    Of `knobs` those count that say which statements are slow. Raises `StartRefused` on entering when the folder is in use,
    cannot be written, or holds no usable database.
    """

    engine: Final = "SQLite"

    def __init__(
        self, folder: Path, knobs: DatabaseKnobs | None = None, care: CareKnobs | None = None
    ) -> None:
        knobs, care = knobs or DatabaseKnobs(), care or CareKnobs()
        self._folder = folder
        self.observer = Observer(
            slow_seconds=knobs.slow_query_ms / 1000, log_all=knobs.query_logging
        )
        self._slots = Slots(high=READERS, reserve=READERS_RESERVE, within=care.admission_ms / 1000)
        self._attendant: asyncio.Task[None] | None = None
        self.path = folder / FILE_NAME
        self._onlooker = Onlooker(
            self.path, lambda: connect(self.path, readonly=True), self.observer
        )
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._local = threading.local()
        self._reader_connections: list[sqlite3.Connection] = []
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="sqlite-read")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self.trouble: DatabaseUnavailable | None = None
        """Why the last change failed; None once one succeeds again."""

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._open)
        self._attendant = self._loop.create_task(self.observer.attend(self._onlooker.explain))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._attendant is not None:
            self._attendant.cancel()
            await asyncio.gather(self._attendant, return_exceptions=True)
        await asyncio.to_thread(self._close)

    def _open(self) -> None:
        with data_folder(self._folder):
            self._lock = FolderLock(self._folder)
        try:
            self._writer = connect(self.path)
            try:
                migrate(self.path, self._writer)
            except BaseException:
                self._writer.close()
                raise
        except sqlite3.Error as error:
            self._lock.release()
            raise StartRefused(
                "The server did not start.",
                f"The database {self.path} cannot be opened: {error}.",
                "Run `tableforge doctor`; if the file is damaged, restore the newest good backup.",
            ) from error
        except BaseException:
            self._lock.release()
            raise
        self.path.chmod(0o600)
        self._thread = threading.Thread(target=self._work, name="sqlite-write", daemon=True)
        self._thread.start()

    def _close(self) -> None:
        self._closed = True
        self._jobs.put(None)
        self._thread.join()
        self._readers.shutdown()
        for connection in self._reader_connections:
            connection.close()
        self._writer.close()
        self._lock.release()

    def _work(self) -> None:
        """The writer thread: one job, one transaction; a failed one is rolled back whole."""
        loop, connection = self._loop, self._writer
        assert loop is not None
        while (job := self._jobs.get()) is not None:
            work, done = job
            result: Any = None
            failure: BaseException | None = None
            try:
                connection.execute("BEGIN IMMEDIATE")
                result = work(connection)
                connection.execute("COMMIT")
                self.trouble = None
            except BaseException as error:  # noqa: BLE001 - whatever it is, the asker must hear of it
                failure = translated(error) if isinstance(error, sqlite3.Error) else error
                if isinstance(failure, DatabaseUnavailable):
                    failure.__cause__ = error
                    self.trouble = failure
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            try:
                loop.call_soon_threadsafe(done, result, failure)
            except RuntimeError:
                return  # the loop is closed: nobody is left to hear the outcome

    def submit(
        self,
        work: Callable[[sqlite3.Connection], T],
        done: Callable[[T, BaseException | None], None],
    ) -> None:
        """Run `work` in a transaction on the writer thread and call `done(result, failure)` on the loop.

        Raises `DatabaseUnavailable` once the database is closed: nobody would ever answer.
        """
        if self._closed:
            raise DatabaseUnavailable("Nothing was saved.", "The database is closed.", "")
        self._jobs.put((work, done))

    async def transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a transaction on the writer thread; durable on return."""
        assert self._loop is not None
        future: asyncio.Future[T] = self._loop.create_future()

        def done(result: T, failure: BaseException | None) -> None:
            if future.done():
                return
            if failure is not None:
                future.set_exception(failure)
            else:
                future.set_result(result)

        self.submit(work, done)
        return await future

    async def probe(self) -> None:
        """Write a page that says nothing new, to learn whether the disk takes changes again."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(f"PRAGMA user_version={form_of(connection)}")

        await self.transact(work)

    async def query(
        self, work: Callable[[sqlite3.Connection], T], *, background: bool = False
    ) -> T:
        """Run `work` on a reader's connection; in the background it raises `DatabaseBusy` where none is free soon."""
        assert self._loop is not None
        if self._closed:
            raise DatabaseUnavailable("Nothing was read.", "The database is closed.", "")
        await self._slots.take(background=background)
        try:
            reading = self._loop.run_in_executor(self._readers, self._read, work)
        except BaseException:
            self._slots.give_back(background=background)
            raise
        reading.add_done_callback(lambda _: self._leave(background=background))
        self._count()
        return await asyncio.shield(reading)

    def _leave(self, *, background: bool) -> None:
        """A thread is free again, whether or not anybody still waits for what it read."""
        self._slots.give_back(background=background)
        self._count()

    def _count(self) -> None:
        COUNTERS.pool_busy = self._slots.taken
        COUNTERS.pool_idle = READERS - self._slots.taken

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = connect(self.path)
                connection.execute("PRAGMA query_only=ON")
                self._reader_connections.append(connection)
            return work(connection)
        except sqlite3.Error as error:
            raise translated(error) from error

    async def read(self, statement: Statement, *params: object) -> list[Row]:
        """See the contract."""

        def work(connection: sqlite3.Connection) -> list[Row]:
            with self.watch(statement, params) as watch:
                rows = connection.execute(statement.sql, params).fetchall()
                watch.rows = len(rows)
            return rows

        return await self.query(work, background=statement.background)

    def watch(self, statement: Statement, params: Sequence[object]) -> Watch:
        """Watch one run of a statement."""
        return self.observer.watch(statement.name, statement.sql, params)

    async def write(self, statement: Statement, *params: object) -> int:
        """See the contract."""
        return (await self.write_all([(statement, params)]))[0]

    async def write_all(self, steps: Sequence[Step]) -> list[int]:
        """See the contract."""

        def work(connection: sqlite3.Connection) -> list[int]:
            counts = []
            for statement, params in steps:
                counts.append(self.change(connection, statement, *params))
            return counts

        return await self.transact(work)

    def change(self, connection: sqlite3.Connection, statement: Statement, *params: object) -> int:
        """Run one change within a transaction, on the writer thread; how many rows it touched."""
        with self.watch(statement, params) as watch:
            count = connection.execute(statement.sql, params).rowcount
            watch.rows = max(0, count)
        return count

    def pool_figures(self) -> PoolFigures:
        """See `Observed`: the readers, and what waits for the writer."""
        return pool_figures(
            self._slots,
            idle=READERS - self._slots.taken,
            writes_waiting=self._jobs.qsize(),
        )

    async def cards(self) -> Cards:
        """See `Observed`."""
        return await self._onlooker.cards()
