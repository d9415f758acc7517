"""What outlives the process: SQLite and a folder for one server, PostgreSQL and a shared store for a fleet."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from tableforge.config import Settings
from tableforge.database import Database
from tableforge.database.cards import Observed
from tableforge.database.care import Care, Watched
from tableforge.database.care.ledger import Ledger
from tableforge.database.care.schema import own_tables
from tableforge.database.disks import data_folder
from tableforge.database.observing import Observer
from tableforge.errors import TableForgeError
from tableforge.eventlog import EventLog
from tableforge.library.asset_stores import FolderBytes, shared_bytes
from tableforge.library.assets import AssetBytes

LONGEST_COMMAND_SECONDS = 7_200.0
"""A command of the care is bounded by the server, and here in case the server does not answer at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """`trouble` says why the database cannot be used now, `probe` tries whether it can be again. `started` returns once it
    could be for the first time, and raises `StartRefused` when it never will. `observed` is what the database lets be seen
    of itself, `care` looks after it and writes into `ledger`. `share` tells the log how many processes append to it."""

    database: Database
    observed: Observed
    care: Care
    ledger: Ledger
    log: EventLog
    share: Callable[[int], None]
    pictures: AssetBytes
    trouble: Callable[[], TableForgeError | None]
    probe: Callable[[], Awaitable[None]]
    started: Callable[[], Awaitable[None]]


def watched(observer: Observer) -> list[Watched]:
    """The statements that have run here, with what they cost."""
    costs = {one.name: (one.count, one.mean_ms) for one in observer.figures()}
    return [
        Watched(name, text, *costs.get(name, (0, 0.0)), "this instance's own figures")
        for text, name in observer.texts().items()
    ]


async def _at_once() -> None:
    """SQLite is open or refused the start already."""


@contextlib.asynccontextmanager
async def embedded(settings: Settings) -> AsyncIterator[Store]:
    """Open the data folder; raises `StartRefused`."""
    from tableforge.database.care.sqlite import SqliteCare
    from tableforge.database.sqlite import SqliteDatabase
    from tableforge.eventlog.sqlite import SqliteEventLog

    async with SqliteDatabase(
        settings.storage.folder, settings.database, settings.care
    ) as database:
        log = SqliteEventLog(database, commit_interval=settings.eventlog.commit_interval_ms / 1000)
        ledger = Ledger(database)
        yield Store(
            database=database,
            observed=database,
            care=SqliteCare(
                database,
                ledger,
                partial(watched, database.observer),
                dead_share=settings.database.vacuum_threshold,
            ),
            ledger=ledger,
            log=log,
            share=log.share,
            pictures=FolderBytes(settings.storage.assets),
            trouble=lambda: database.trouble,
            probe=database.probe,
            started=_at_once,
        )


@contextlib.asynccontextmanager
async def shared(settings: Settings) -> AsyncIterator[Store]:
    """Begin to connect to PostgreSQL, which need not be there yet."""
    from tableforge.database.care.postgres import PostgresCare
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
        ledger = Ledger(database)
        try:
            yield Store(
                database=database,
                observed=database,
                care=PostgresCare(
                    partial(database.dial, command_seconds=LONGEST_COMMAND_SECONDS),
                    ledger,
                    partial(watched, database.observer),
                    dead_share=settings.database.vacuum_threshold,
                    pool_max=settings.database.pool_max,
                    tables=own_tables("postgres"),
                ),
                ledger=ledger,
                log=log,
                share=log.share,
                pictures=shared_bytes(
                    settings.pictures, database, settings.storage.folder / "asset-cache"
                ),
                trouble=lambda: database.trouble,
                probe=database.probe,
                started=database.started,
            )
        finally:
            await log.close()
