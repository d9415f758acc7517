"""Slow statements, their plans and who they wait for, and what a database tells of itself (rules DB17 to DB20)."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import msgspec
import pytest
import structlog

from tableforge.config import CareKnobs, DatabaseKnobs
from tableforge.database import DatabaseBusy, Statement
from tableforge.database.cards import Cards, Observed, TableFigures
from tableforge.database.observing import Running, Slow
from tableforge.database.pool import Connection
from tableforge.database.postgres import PostgresDatabase
from tableforge.database.sqlite import SqliteDatabase
from tableforge.ops.servers import PostgresServer
from tests.services import POSTGRES_VERSIONS

SECRET = "hunter2-the-value"
ADD_USER = Statement("test.add", "INSERT INTO users (id, name, created_ms) VALUES (?, ?, 0)")
RENAME = Statement("test.rename", "UPDATE users SET name = ? WHERE id = ?")
NAMES = Statement("test.names", "SELECT name FROM users WHERE name <> ? ORDER BY id LIMIT ?")
COUNT = """WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000)
    SELECT count(*), max(u.name) FROM n LEFT JOIN users u ON u.id = ? WHERE n.i > ?"""
SLOW = Statement("test.slow", COUNT, COUNT.replace("max(u.name)", "max(u.name), pg_sleep(0.1)"))
SLEEP = Statement("test.sleep", "SELECT pg_sleep(?)")
ASIDE = Statement("test.aside", "SELECT pg_sleep(?)", background=True)
KNOBS = {"slow_query_ms": 20.0, "query_logging": True}


@asynccontextmanager
async def postgres_on(url: str, *, pool: int = 4, **care: float) -> AsyncIterator[PostgresDatabase]:
    """A database to whom little is slow."""
    knobs = DatabaseKnobs(url=url, pool_min=0, pool_max=pool, **KNOBS)  # type: ignore[arg-type]  # as they are named
    async with PostgresDatabase(knobs, "one", CareKnobs(**care)) as database:  # type: ignore[arg-type]  # numbers all
        await database.started()
        yield database


@asynccontextmanager
async def beside(url: str, application: str = "somebody") -> AsyncIterator[Connection]:
    """A session of somebody else, whose transactions end with it."""
    connection = await asyncpg.connect(url, server_settings={"application_name": application})
    try:
        yield connection
    finally:
        connection.terminate()


@pytest.fixture(params=["sqlite", *(f"postgres {version}" for version in POSTGRES_VERSIONS)])
async def database(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    postgres_of: Callable[[int | None], PostgresServer],
) -> AsyncIterator[SqliteDatabase | PostgresDatabase]:
    """A database of each engine, and of each version of PostgreSQL that is there."""
    if request.param == "sqlite":
        async with SqliteDatabase(tmp_path, DatabaseKnobs(**KNOBS)) as embedded:  # type: ignore[arg-type]  # as they are named
            yield embedded
        return
    server = postgres_of(int(request.param.removeprefix("postgres ")))
    name = f"watched_{tmp_path.name.lower()}"[:60]
    async with beside(server.url) as admin:
        await admin.execute(f'CREATE DATABASE "{name}"')
        async with postgres_on(server.url_of(name)) as shared:
            yield shared
        await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def told() -> Iterator[list[str]]:
    """Every line that was logged, whatever its level."""
    lines: list[str] = []

    def keep(logger: object, method: str, entry: structlog.typing.EventDict) -> str:
        lines.append(f"{method} {entry}")
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(
        processors=[keep], wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG)
    )
    yield lines
    structlog.configure(**before)


async def until(found: Callable[[], bool]) -> None:
    """Wait for something that comes by itself."""
    async with asyncio.timeout(30):
        while not found():  # noqa: ASYNC110 - only looking tells
            await asyncio.sleep(0.02)


def slow_of(database: Observed, name: str) -> Slow | None:
    return next((one for one in database.observer.slow() if one.figures.name == name), None)


def running_of(database: Observed, name: str) -> Running | None:
    return next((one for one in database.observer.running_long() if one.name == name), None)


async def test_db18_db19_a_slow_statement_is_explained_and_no_value_is_told(
    database: SqliteDatabase | PostgresDatabase, told: list[str]
) -> None:
    await database.write(ADD_USER, SECRET, f"name of {SECRET}")
    await database.read(SLOW, SECRET, 4711)
    await database.read(NAMES, SECRET, 7)
    await until(lambda: (slow := slow_of(database, "test.slow")) is not None and bool(slow.plan))
    slow = slow_of(database, "test.slow")
    assert slow is not None
    assert slow.plan is not None
    assert "users" in slow.plan or " u " in slow.plan
    assert (slow.times, slow.figures.rows) == (1, slow.figures.count)
    (example,) = slow.examples
    assert [(one.type, one.length) for one in example.parameters] == [
        ("text", len(SECRET)),
        ("integer", None),
    ]
    assert (example.ended, example.rows, example.blockers) == ("done", 1, ())
    figures = {one.name: one for one in database.observer.figures()}
    assert figures["test.add"].count >= 1
    cards = await database.cards()
    everything = msgspec.json.encode(
        [
            database.observer.slow(),
            database.observer.figures(),
            database.observer.running_long(),
            database.pool_figures(),
            cards,
        ]
    ).decode() + "\n".join(told)
    assert "test.slow" in everything
    assert SECRET not in everything
    assert "4711" not in everything


async def test_db18_what_failed_after_a_while_is_kept_as_well(database_url: str) -> None:
    async with postgres_on(database_url) as database:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await database.read(SLEEP, 60.0)
        slow = slow_of(database, "test.sleep")
        assert slow is not None
        assert [one.ended for one in slow.examples] == ["cancelled"]


async def test_db19_plans_of_changes_and_of_the_writer_change_nothing(
    database: SqliteDatabase | PostgresDatabase,
) -> None:
    await database.write(ADD_USER, "a", "Ada")
    with database.observer.watch("test.planned", planned := text_for(database), ["Bo", "a"]):
        await asyncio.sleep(0.05)
    await until(lambda: bool((slow := slow_of(database, "test.planned")) and slow.plan))
    slow = slow_of(database, "test.planned")
    assert slow is not None
    assert slow.text == planned
    assert await database.read(NAMES, "", 10) == [("Ada",)]


def text_for(database: SqliteDatabase | PostgresDatabase) -> str:
    """A change, as it is sent to this engine."""
    return RENAME.sql if database.engine == "SQLite" else "UPDATE users SET name = $1 WHERE id = $2"


async def test_db19_what_has_no_plan_says_so(database: SqliteDatabase | PostgresDatabase) -> None:
    for text in ("COMMIT", "SELECT missing FROM nowhere"):
        with database.observer.watch(f"test.{text}", text):
            await asyncio.sleep(0.05)

    def reasons() -> list[str]:
        found = [
            slow_of(database, f"test.{text}") for text in ("COMMIT", "SELECT missing FROM nowhere")
        ]
        return [one.plan_reason for one in found if one is not None]

    await until(lambda: not any("not asked" in one for one in reasons()))
    first, second = reasons()
    assert first == "There is no plan for statements of this kind."
    assert "nowhere" in second
    assert await database.read(NAMES, "", 1) == []


@pytest.mark.parametrize("database_url", POSTGRES_VERSIONS, indirect=True)
@pytest.mark.parametrize("application", ["tableforge/other", "somebody else"])
async def test_db19_who_waits_for_whom_is_told_without_values(
    database_url: str, application: str, told: list[str]
) -> None:
    """A row is held by a session of another instance, or by somebody whose statements are not ours to tell."""
    async with beside(database_url, application) as other, postgres_on(database_url) as database:
        await database.write(ADD_USER, "a", "Ada")
        await other.execute("BEGIN")
        await other.execute(f"UPDATE users SET name = '{SECRET}' WHERE id = 'a'")  # noqa: S608 - a literal is what matters
        waiting = asyncio.create_task(database.write(RENAME, "Bo", "a"))
        await until(lambda: bool((found := running_of(database, "test.rename")) and found.blockers))
        found = running_of(database, "test.rename")
        assert found is not None
        assert found.wait in ("Lock: transactionid", "Lock: tuple")
        assert msgspec.json.encode(database.observer.running_long()).decode().count(SECRET) == 0
        await other.execute("ROLLBACK")
        await waiting
        slow = slow_of(database, "test.rename")
        assert slow is not None
        (blocker,) = slow.examples[-1].blockers
        assert blocker == found.blockers[0] or blocker.pid == found.blockers[0].pid
        assert (blocker.application, blocker.state) == (application, "idle in transaction")
        if application == "somebody else":
            assert (blocker.statement, blocker.query) == (None, None)
        else:
            assert blocker.query == "UPDATE users SET name = ? WHERE id = ?"
        assert SECRET not in msgspec.json.encode(database.observer.slow()).decode() + "\n".join(
            told
        )


async def test_db19_a_blocker_of_ours_is_told_by_its_name(database_url: str) -> None:
    async with postgres_on(database_url) as database:
        await database.write(ADD_USER, "a", "Ada")
        holding = asyncio.create_task(database.write_all([(RENAME, (SECRET, "a")), (HOLD, (2.0,))]))
        await until(lambda: running_of(database, "test.hold") is not None)
        await database.write(RENAME, "Bo", "a")
        await holding
        slow = slow_of(database, "test.rename")
        assert slow is not None
        (blocker,) = slow.examples[-1].blockers
        assert (blocker.statement, blocker.application) == ("test.hold", "tableforge/one")


HOLD = Statement("test.hold", "SELECT pg_sleep(?)")


@pytest.mark.parametrize("database_url", POSTGRES_VERSIONS, indirect=True)
async def test_db20_a_part_that_does_not_come_is_missing_with_the_reason(database_url: str) -> None:
    """What the tables are told from is locked, that of the indexes is gone, and every connection of the pool is in use."""
    async with beside(database_url) as other, postgres_on(database_url, pool=2) as database:
        whole = await database.cards()
        assert whole.missing == {}
        assert whole.tables is not None
        assert whole.indexes is not None
        assert {"events", "users"} <= {one.name for one in whole.tables}
        assert "events_pkey" in {one.name for one in whole.indexes}
        assert whole.cache is not None
        assert whole.cache.hit_ratio is not None
        assert 0.5 < whole.cache.hit_ratio <= 1
        assert whole.size is not None
        assert whole.size.database_bytes > 1_000_000
        assert whole.activity is not None
        assert whole.activity.connections >= 2
        await other.execute("SET allow_system_table_mods = on; DROP VIEW pg_stat_user_indexes")
        held = [asyncio.create_task(database.read(SLEEP, 60.0)) for _ in range(2)]
        await until(lambda: database.pool_figures().busy == 2)
        cards = await database.cards()
        assert (cards.indexes, list(cards.missing)) == (None, ["indexes"])
        assert "does not exist" in cards.missing["indexes"]
        await other.execute("BEGIN; LOCK TABLE pg_stat_user_tables IN ACCESS EXCLUSIVE MODE")
        cards = await database.cards()
        assert cards.tables is None
        assert "lock timeout" in cards.missing["tables"]
        assert None not in (cards.server, cards.size)
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)


async def test_db20_dead_rows_bloat_and_scans_are_told(database_url: str) -> None:
    async with beside(database_url) as admin, postgres_on(database_url) as database:
        await admin.execute(
            "ALTER TABLE users SET (autovacuum_enabled = false); INSERT INTO users (id, name, created_ms)"
            " SELECT n::text, repeat('x', 60), 0 FROM generate_series(1, 5000) n; ANALYZE users"
        )
        await admin.execute("DELETE FROM users WHERE id::int % 2 = 0")
        await admin.execute("SELECT pg_stat_force_next_flush()")
        users = await table_when(database, lambda one: one.dead_rows == 2500)
        assert (users.rows, users.dead_share) == (2500, 0.5)
        assert users.vacuumed is None
        assert users.analyzed is not None
        assert datetime.fromisoformat(users.analyzed).tzinfo is UTC
        await admin.execute("ANALYZE users")
        users = await table_when(database, lambda one: bool(one.bloat_bytes))
        assert users.bytes is not None
        assert users.bloat_bytes is not None
        assert 0.3 < users.bloat_bytes / users.bytes < 0.7


async def table_when(database: Observed, found: Callable[[TableFigures], bool]) -> TableFigures:
    """What is told of the users once it is like this; PostgreSQL counts after the fact."""
    async with asyncio.timeout(30):
        while True:
            tables = (await database.cards()).tables
            assert tables is not None
            (users,) = (one for one in tables if one.name == "users")
            if found(users):
                return users
            await asyncio.sleep(0.1)


async def test_db20_a_database_that_is_away_is_told_in_every_part(
    new_postgres: Callable[..., PostgresServer],
) -> None:
    server = new_postgres(durable=False)
    async with postgres_on(server.url) as database:
        assert (await database.cards()).missing == {}
        server.pause()
        async with asyncio.timeout(30):
            assert_away(await database.cards())
        server.kill()
        async with asyncio.timeout(30):
            assert_away(await database.cards())
        assert database.observer.total().count > 0


def assert_away(cards: Cards) -> None:
    """Every part says that nobody answers."""
    assert set(cards.missing) == {"server", "size", "cache", "activity", "tables", "indexes"}
    assert all("does not answer" in why for why in cards.missing.values())


async def test_db20_sqlite_tells_its_pages_and_tables(tmp_path: Path) -> None:
    async with SqliteDatabase(tmp_path) as database:
        for number in range(50):
            await database.write(ADD_USER, f"{number}", "x" * 500)
        cards = await database.cards()
        assert cards.size is not None
        assert cards.size.pages is not None
        assert cards.size.page_bytes is not None
        assert cards.size.database_bytes == cards.size.pages * cards.size.page_bytes
        assert cards.size.wal_bytes
        assert cards.cache is not None
        assert cards.cache.bytes == 16384 * 1024
        assert cards.tables is not None
        assert cards.indexes is not None
        (users,) = (one for one in cards.tables if one.name == "users")
        assert users.bytes is None or users.bytes > 25_000
        assert {one.table for one in cards.indexes} >= {"events", "sessions"}
        assert set(cards.missing) >= {"activity"}
        pool = database.pool_figures()
        assert (pool.at_most, pool.reserve, pool.busy, pool.writes_waiting) == (3, 1, 0, 0)


async def test_db16_lists_are_refused_while_the_game_goes_on(database_url: str) -> None:
    async with postgres_on(database_url, pool=3, pool_reserve=2, admission_ms=100) as database:
        held = asyncio.create_task(database.read(ASIDE, 60.0))
        await until(lambda: database.pool_figures().busy_in_background == 1)
        with pytest.raises(DatabaseBusy, match="lists and searches"):
            await database.read(ASIDE, 0.0)
        assert await asyncio.gather(*(database.read(SLEEP, 0.0) for _ in range(20)))
        pool = database.pool_figures()
        assert pool.refused >= 1
        assert pool.game.uses >= 20
        held.cancel()
        await asyncio.gather(held, return_exceptions=True)
        assert await database.read(ASIDE, 0.0)


async def test_db16_a_reader_of_sqlite_stays_with_the_game(tmp_path: Path) -> None:
    aside = SLOW._replace(background=True)
    async with SqliteDatabase(tmp_path, care=CareKnobs(admission_ms=20)) as database:
        answers = asyncio.gather(
            *(database.read(aside, "a", 1) for _ in range(12)), return_exceptions=True
        )
        await until(lambda: database.pool_figures().busy_in_background == 2)
        assert await database.read(NAMES, "", 1) == []
        refused = [one for one in await answers if isinstance(one, DatabaseBusy)]
        assert refused
        assert len(refused) < 12
