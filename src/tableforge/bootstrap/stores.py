"""What outlives the process: SQLite and a folder for one server, PostgreSQL and a shared store for a fleet."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from tableforge.config import Settings
from tableforge.database import Database
from tableforge.database.cards import Observed
from tableforge.database.disks import data_folder
from tableforge.errors import TableForgeError
from tableforge.eventlog import EventLog
from tableforge.library.asset_stores import FolderBytes, shared_bytes
from tableforge.library.assets import AssetBytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """`trouble` says why the database cannot be used now, `probe` tries whether it can be again. `started` returns once it
    could be for the first time, and raises `StartRefused` when it never will. `observed` is what the database lets be seen
    of itself."""

    database: Database
    observed: Observed
    log: EventLog
    pictures: AssetBytes
    trouble: Callable[[], TableForgeError | None]
    probe: Callable[[], Awaitable[None]]
    started: Callable[[], Awaitable[None]]


async def _at_once() -> None:
    """SQLite is open or refused the start already."""


@contextlib.asynccontextmanager
async def embedded(settings: Settings) -> AsyncIterator[Store]:
    """Open the data folder; raises `StartRefused`."""
    from tableforge.database.sqlite import SqliteDatabase
    from tableforge.eventlog.sqlite import SqliteEventLog

    async with SqliteDatabase(
        settings.storage.folder, settings.database, settings.care
    ) as database:
        log = SqliteEventLog(database, commit_interval=settings.eventlog.commit_interval_ms / 1000)
        yield Store(
            database=database,
            observed=database,
            log=log,
            pictures=FolderBytes(settings.storage.assets),
            trouble=lambda: database.trouble,
            probe=database.probe,
            started=_at_once,
        )


@contextlib.asynccontextmanager
async def shared(settings: Settings) -> AsyncIterator[Store]:
    """Begin to connect to PostgreSQL, which need not be there yet."""
    from tableforge.database.postgres import PostgresDatabase
    from tableforge.eventlog.postgres import PostgresEventLog

    with data_folder(settings.storage.folder):
        pass  # what lies there is only a copy: pictures that were served lately, uploads under way
    async with PostgresDatabase(
        settings.database, settings.serving.instance_id, settings.care
    ) as database:
        log = PostgresEventLog(
            database, commit_interval=settings.eventlog.commit_interval_ms / 1000
        )
        try:
            yield Store(
                database=database,
                observed=database,
                log=log,
                pictures=shared_bytes(
                    settings.pictures, database, settings.storage.folder / "asset-cache"
                ),
                trouble=lambda: database.trouble,
                probe=database.probe,
                started=database.started,
            )
        finally:
            await log.close()
