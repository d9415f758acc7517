"""The database's contract (rules DB1 to DB5) on each engine, and what starting on a data folder promises (DB6 to DB9)."""

import asyncio
import secrets
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tableforge.config import DatabaseKnobs
from tableforge.database import Database, DatabaseUnavailable, Statement
from tableforge.database.postgres import PostgresDatabase
from tableforge.database.sqlite import FILE_NAME, SqliteDatabase, form_of, migrations
from tableforge.errors import StartRefused
from tableforge.ops.servers import PostgresServer
from tests.services import POSTGRES_VERSIONS, run_sql

INSERT = Statement("test_insert", "INSERT INTO users (id, name, created_ms) VALUES (?, ?, 0)")
NAMES = Statement("test_names", "SELECT name FROM users ORDER BY id")


def in_trouble(database: SqliteDatabase) -> bool:
    return database.trouble is not None


async def test_db1_db2_a_disk_that_refuses_is_told_and_changes_nothing(tmp_path: Path) -> None:
    async with SqliteDatabase(tmp_path) as database:
        await database.write(INSERT, "a", "Ada")

        def pages(connection: sqlite3.Connection, more: int) -> None:
            count = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count={count + more}")

        await database.transact(lambda connection: pages(connection, 0))
        with pytest.raises(DatabaseUnavailable, match="disk is full"):
            await database.write(INSERT, "b", "x" * 1_000_000)
        assert await database.read(NAMES) == [("Ada",)]
        assert in_trouble(database)
        await database.transact(lambda connection: pages(connection, 10_000))
        await database.probe()
        assert not in_trouble(database)
        await database.write(INSERT, "b", "Bo")
        assert await database.read(NAMES) == [("Ada",), ("Bo",)]


@pytest.fixture(params=["sqlite", *(f"postgres {version}" for version in POSTGRES_VERSIONS)])
def unopened(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    postgres_of: Callable[[int | None], PostgresServer],
) -> Iterator[SqliteDatabase | PostgresDatabase]:
    """A database of each engine, and of each version of PostgreSQL that is there."""
    if request.param == "sqlite":
        yield SqliteDatabase(tmp_path)
        return
    server = postgres_of(int(request.param.removeprefix("postgres ")))
    name = f"contract_{secrets.token_hex(4)}"
    run_sql(server.url, f"CREATE DATABASE {name}")
    yield PostgresDatabase(DatabaseKnobs(url=server.url_of(name), pool_min=0), "one")
    run_sql(server.url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def database(unopened: SqliteDatabase | PostgresDatabase) -> AsyncIterator[Database]:
    async with unopened as opened:
        yield opened


async def test_db1_a_closed_database_refuses_instead_of_keeping_anybody_waiting(
    unopened: SqliteDatabase | PostgresDatabase,
) -> None:
    async with unopened:
        pass
    with pytest.raises(DatabaseUnavailable, match="closed"):
        await unopened.write(INSERT, "a", "Ada")


async def test_db2_a_change_that_breaks_a_rule_of_its_table_changes_nothing(
    database: Database,
) -> None:
    await database.write(INSERT, "a", "Ada")
    with pytest.raises(DatabaseUnavailable) as refused:
        await database.write(INSERT, "a", "Bo the secret")
    assert "secret" not in str(refused.value)
    assert await database.read(NAMES) == [("Ada",)]


async def test_db3_reads_see_every_write_that_returned_before(database: Database) -> None:
    for number in range(50):
        assert await database.write(INSERT, f"{number:03}", f"n{number}") == 1
        assert len(await database.read(NAMES)) == number + 1


async def test_db4_postgres_commits_are_on_the_disk(database_url: str) -> None:
    """Whatever the server's own setting: that of the tests' shared server is off."""
    shown = Statement("test.show", "SHOW synchronous_commit")
    async with PostgresDatabase(DatabaseKnobs(url=database_url, pool_min=0), "one") as database:
        assert await database.read(shown) == [("on",)]


async def test_db4_what_returned_is_there_after_the_process(tmp_path: Path) -> None:
    async with SqliteDatabase(tmp_path) as database:
        await asyncio.gather(*(database.write(INSERT, f"{n}", f"n{n}") for n in range(20)))
        mode = await database.transact(
            lambda connection: (
                connection.execute("PRAGMA journal_mode").fetchone()[0],
                connection.execute("PRAGMA synchronous").fetchone()[0],
            )
        )
        assert mode == ("wal", 2)
    async with SqliteDatabase(tmp_path) as database:
        assert len(await database.read(NAMES)) == 20


async def test_db5_several_changes_happen_all_or_none(database: Database) -> None:
    with pytest.raises(DatabaseUnavailable):
        await database.write_all([(INSERT, ("a", "Ada")), (INSERT, ("a", "again"))])
    assert await database.read(NAMES) == []
    assert await database.write_all([(INSERT, ("a", "Ada")), (INSERT, ("b", "Bo"))]) == [1, 1]
    rename = Statement("test_rename", "UPDATE users SET name = ?2 WHERE name = ?1 OR '?' = ?1")
    assert await database.write_all([(rename, ("Ada", "Cy")), (rename, ("nobody", "x"))]) == [1, 0]
    assert await database.read(NAMES) == [("Cy",), ("Bo",)]


async def test_db6_a_second_process_is_kept_out_and_told_who_is_in(tmp_path: Path) -> None:
    async with SqliteDatabase(tmp_path):
        with pytest.raises(StartRefused, match=r"in use by another process \(pid"):
            async with SqliteDatabase(tmp_path):
                pass
    async with SqliteDatabase(tmp_path):
        pass


async def test_db7_a_newer_folder_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    async with SqliteDatabase(tmp_path):
        pass
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        connection.execute("PRAGMA user_version=9999")
    with pytest.raises(StartRefused, match="newer TableForge"):
        async with SqliteDatabase(tmp_path):
            pass
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        assert form_of(connection) == 9999


async def test_db8_an_older_folder_is_backed_up_then_migrated(tmp_path: Path) -> None:
    first, *rest = migrations()
    assert rest, "there is nothing to migrate yet"
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        connection.executescript(first[2])
        connection.execute(
            "INSERT INTO rooms (id, epoch, name, visibility, tags) VALUES ('r', 'e', 'Old', 'private', '[]')"
        )
        connection.execute(f"PRAGMA user_version={first[0]}")
        connection.commit()
    async with SqliteDatabase(tmp_path) as database:
        assert await database.read(Statement("test_rooms", "SELECT name FROM rooms")) == [("Old",)]
        assert await database.read(NAMES) == []
        assert await database.transact(form_of) == rest[-1][0]
    (backup,) = (tmp_path / "backups").iterdir()
    with closing(sqlite3.connect(backup)) as connection:
        assert form_of(connection) == first[0]
        assert connection.execute("SELECT name FROM rooms").fetchall() == [("Old",)]


async def test_db9_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    garbage = b"this is not a database, it is a poem" * 100
    (tmp_path / FILE_NAME).write_bytes(garbage)
    with pytest.raises(StartRefused, match="cannot be opened"):
        async with SqliteDatabase(tmp_path):
            pass
    assert (tmp_path / FILE_NAME).read_bytes() == garbage
