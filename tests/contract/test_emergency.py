"""What holds for the order about emergency mode, on the database that keeps it: the latest counts, and gets there (CA10)."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tableforge.config import DatabaseKnobs
from tableforge.database import Database, DatabaseUnavailable, Row, Statement, Step
from tableforge.database.postgres import PostgresDatabase
from tableforge.database.sqlite import SqliteDatabase
from tableforge.library.emergency import READ, Emergency, Order
from tableforge.library.notices import Notice, Notices


class Away:
    """The database, away on demand."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.away = False

    def _there(self) -> Database:
        if self.away:
            raise DatabaseUnavailable("Nothing was saved or read.", "The database is away.")
        return self._database

    async def read(self, statement: Statement, *params: object) -> list[Row]:
        return await self._there().read(statement, *params)

    async def write(self, statement: Statement, *params: object) -> int:
        return await self._there().write(statement, *params)

    async def write_all(self, steps: Sequence[Step]) -> list[int]:
        return await self._there().write_all(steps)


@pytest.fixture(params=["sqlite", "postgres"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Away]:
    if request.param == "sqlite":
        async with SqliteDatabase(tmp_path) as embedded:
            yield Away(embedded)
    else:
        url: str = request.getfixturevalue("database_url")
        async with PostgresDatabase(DatabaseKnobs(url=url, pool_min=0), "one") as shared:
            yield Away(shared)


class Instance:
    """One that knows its order; what it tells is kept in `told`."""

    def __init__(self, database: Away, notices: Notices | None = None) -> None:
        self.now = 1000.0
        self.until: list[float] = []
        self.told: list[Order] = []
        self.emergency = Emergency(
            database,
            apply=self.until.append,
            tell=self.told.append,
            notices=notices,
            clock=lambda: self.now,
        )


async def test_ca10_an_order_stands_in_the_database_and_is_found_there(database: Away) -> None:
    first, later = Instance(database), Instance(database)
    await first.emergency.look()
    assert first.until == []
    assert await first.emergency.order(60) == ""
    assert (first.until, first.told) == ([1060.0], [Order(1060.0, 1000.0)])
    await later.emergency.look()
    assert later.until == [1060.0]
    assert await later.emergency.order(0) == ""
    assert later.told[0].ordered > 1000.0, "later than what is known, whatever the clock says"
    await first.emergency.look()
    assert first.until == [1060.0, 0.0]


async def test_ca10_an_order_while_the_database_is_away_is_written_when_it_is_back(
    database: Away,
) -> None:
    first, second = Instance(database), Instance(database)
    assert await second.emergency.order(600) == ""
    database.away = True
    first.now = second.now = 1001.0
    assert "away" in await first.emergency.order(60)
    assert first.until == [1061.0]
    second.emergency.heard(first.told[0])
    assert second.until == [1600.0, 1061.0]
    with pytest.raises(DatabaseUnavailable):
        await first.emergency.look()
    database.away = False
    await first.emergency.look()
    assert await database.read(READ) == [(1061.0, 1001.0)]
    await second.emergency.look()
    assert second.until == [1600.0, 1061.0]


async def test_ca10_what_was_ordered_before_changes_nothing(database: Away) -> None:
    instance = Instance(database)
    instance.emergency.heard(Order(2000.0, 500.0))
    instance.emergency.heard(Order(0.0, 400.0))
    instance.emergency.heard(Order(2000.0, 500.0))
    assert instance.until == [2000.0]
    await instance.emergency.look()
    assert await database.read(READ) == [(2000.0, 500.0)]


async def test_ca10_a_notice_goes_with_the_order(database_url: str) -> None:
    hinted: list[Notice] = []
    async with PostgresDatabase(DatabaseKnobs(url=database_url, pool_min=0), "one") as real:
        notices = Notices(real, hint=hinted.append, trusted_seconds=30.0)
        assert await Instance(Away(real), notices).emergency.order(60) == ""
        (notice,) = hinted
        assert (notice.kind, notice.about) == ("cache_mode", "")
