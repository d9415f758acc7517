"""Orders that need no database are carried out without one, and their runs are made up for (rules CA10 and CA12)."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from tableforge.api.orders import UNRECORDED, Orders, Tell
from tableforge.config import DatabaseKnobs
from tableforge.database import Database, DatabaseUnavailable, Row, Statement, Step
from tableforge.database.postgres import PostgresDatabase
from tableforge.database.sqlite import SqliteDatabase
from tableforge.library.runs import Action, Run, Runs

DONE = Action("clear query_results", "3 in memory here", "0", "done", "")
OTHER = Action("clear room_states", "0 in memory here", "0", "done", "")
DEADLINE = 30.0


class Stalled:
    """A database that is away, or that does not answer, on demand."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.away = False
        self.answers = asyncio.Event()
        self.answers.set()

    async def _there(self) -> Database:
        if self.away:
            raise DatabaseUnavailable("Nothing was saved or read.", "The database is away.")
        await self.answers.wait()
        return self._database

    async def read(self, statement: Statement, *params: object) -> list[Row]:
        return await (await self._there()).read(statement, *params)

    async def write(self, statement: Statement, *params: object) -> int:
        return await (await self._there()).write(statement, *params)

    async def write_all(self, steps: Sequence[Step]) -> list[int]:
        return await (await self._there()).write_all(steps)


@pytest.fixture(params=["sqlite", "postgres"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stalled]:
    if request.param == "sqlite":
        async with SqliteDatabase(tmp_path) as embedded:
            yield Stalled(embedded)
    else:
        url: str = request.getfixturevalue("database_url")
        async with PostgresDatabase(DatabaseKnobs(url=url, pool_min=0), "one") as shared:
            yield Stalled(shared)


@pytest.fixture
async def orders(request: pytest.FixtureRequest, database: Stalled) -> AsyncIterator[Orders]:
    """Orders that wait long for the database, or hardly, as the test asks."""
    wait: float = getattr(request, "param", DEADLINE)
    made = Orders(Runs(database, instance="one"), record_seconds=wait, late_seconds=0.05)
    yield made
    database.answers.set()
    await made.close()


async def carried_out(tell: Tell) -> Sequence[Action]:
    return [DONE, OTHER]


async def over(orders: Orders, count: int) -> list[Run]:
    """The runs, once so many are over."""
    async with asyncio.timeout(DEADLINE):
        while True:
            runs = await orders.runs.latest(10)
            if len(runs) == count and all(run.is_over for run in runs):
                return runs
            await asyncio.sleep(0.01)


def away(database: Stalled) -> None:
    database.away = True


def stalled(database: Stalled) -> None:
    database.answers.clear()


TROUBLES: dict[str, Callable[[Stalled], None]] = {"away": away, "stalled": stalled}


@pytest.mark.parametrize("orders", [0.1], indirect=True)
@pytest.mark.parametrize("trouble", TROUBLES)
async def test_ca12_an_order_that_needs_no_database_is_carried_out_without_and_made_up_for(
    database: Stalled, orders: Orders, trouble: str
) -> None:
    TROUBLES[trouble](database)
    async with asyncio.timeout(DEADLINE):
        answer = await orders.answer("clear-cache", carried_out, alone=True)
        noted = await orders.note("emergency-mode", [DONE], wait=trouble == "stalled")
    assert answer.status_code == 200
    first, second = answer.content.actions  # type: ignore[union-attr]  # 200
    assert (first.verdict, first.reason) == ("done", UNRECORDED)
    assert second == OTHER
    assert [one.reason for one in noted] == [UNRECORDED]
    database.away = False
    database.answers.set()
    runs = {run.kind: run for run in await over(orders, 2)}
    assert runs.keys() == {"clear-cache", "emergency-mode"}
    for run in runs.values():
        assert run.actions[0].verdict == "done"
        assert "taken down when the database answered" in run.actions[0].reason


async def test_ca12_where_the_database_answers_the_run_is_there_at_once(orders: Orders) -> None:
    answer = await orders.answer("clear-cache", carried_out, alone=True)
    assert answer.content.actions == [DONE, OTHER]  # type: ignore[union-attr]  # 200
    assert await orders.note("emergency-mode", [DONE]) == [DONE]
    runs = await over(orders, 2)
    assert {run.kind: run.actions for run in runs} == {
        "clear-cache": (DONE, OTHER),
        "emergency-mode": (DONE,),
    }


async def test_an_order_that_needs_the_database_is_refused_without(
    database: Stalled, orders: Orders
) -> None:
    database.away = True
    with pytest.raises(DatabaseUnavailable):
        await orders.answer("warm-cache", carried_out)
    database.away = False
    await orders.answer("warm-cache", carried_out)
    assert [run.kind for run in await over(orders, 1)] == ["warm-cache"]
