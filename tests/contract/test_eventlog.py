"""The event log's contract on each engine, and what only the SQLite engine has to show."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tableforge.config import DatabaseKnobs
from tableforge.database.postgres import PostgresDatabase
from tableforge.database.sqlite import SqliteDatabase
from tableforge.eventlog import EventLog, LogUnavailable
from tableforge.eventlog.memory import MemoryEventLog
from tableforge.eventlog.postgres import PostgresEventLog
from tableforge.eventlog.sqlite import SqliteEventLog
from tests.contract.eventlog_contract import EventLogContract, Writer, event


class TestMemory(EventLogContract):
    @pytest.fixture
    def log(self) -> EventLog:
        return MemoryEventLog()

    @pytest.fixture
    def beside(self, log: EventLog) -> EventLog:
        assert isinstance(log, MemoryEventLog)
        return MemoryEventLog(log.store)


class TestPostgres(EventLogContract):
    @asynccontextmanager
    async def opened(self, url: str, name: str) -> AsyncIterator[EventLog]:
        knobs = DatabaseKnobs(url=url, pool_min=0)
        async with PostgresDatabase(knobs, name) as database:
            log = PostgresEventLog(database, commit_interval=0.002)
            yield log
            await log.close()

    @pytest.fixture
    async def log(self, database_url: str) -> AsyncIterator[EventLog]:
        async with self.opened(database_url, "one") as log:
            yield log

    @pytest.fixture
    async def beside(self, database_url: str) -> AsyncIterator[EventLog]:
        async with self.opened(database_url, "two") as log:
            yield log


class TestSqlite(EventLogContract):
    @pytest.fixture
    async def log(self, tmp_path: Path) -> AsyncIterator[EventLog]:
        async with SqliteDatabase(tmp_path) as database:
            yield SqliteEventLog(database, commit_interval=0.002)

    async def test_el1_the_log_outlives_the_process_that_wrote_it(self, tmp_path: Path) -> None:
        async with SqliteDatabase(tmp_path) as database:
            first = SqliteEventLog(database, commit_interval=0.0)
            writer = Writer(first)
            await writer.open("r")
            assert await writer.append("r", 1, [event(2)]) is None
        async with SqliteDatabase(tmp_path) as database:
            second = SqliteEventLog(database, commit_interval=0.0)
            assert [row.data for row in await second.read("r", after=0, limit=9)] == [
                event(1),
                event(2),
            ]
            assert await Writer(second).append("r", 2, [event(3)], key=b"z" * 16) is None

    async def test_el2_a_commit_that_the_disk_refuses_is_told_and_leaves_nothing(
        self, tmp_path: Path
    ) -> None:
        async with SqliteDatabase(tmp_path) as database:
            log = SqliteEventLog(database, commit_interval=0.0)
            writer = Writer(log)
            await writer.open("r")

            def shrink(connection: sqlite3.Connection) -> None:
                pages = connection.execute("PRAGMA page_count").fetchone()[0]
                connection.execute(f"PRAGMA max_page_count={pages}")

            await database.transact(shrink)
            refused = await writer.append("r", 1, [event(2) + b" " * 200_000])
            assert isinstance(refused, LogUnavailable)
            assert "full" in refused.why
            assert (await log.head("r")).offset == 1  # type: ignore[union-attr]  # the room is there

            def widen(connection: sqlite3.Connection) -> None:
                connection.execute("PRAGMA max_page_count=1000000")

            await database.transact(widen)
            assert await writer.append("r", 1, [event(2)]) is None
