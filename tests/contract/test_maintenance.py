"""What is begun by itself, and the night's work (rules MC7, MC9, MC11 and MC14 of `docs/spec.md`), on each engine."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tableforge.api.maintenance import Caretaker
from tableforge.api.orders import Orders, Tell
from tableforge.api.schedules import Schedule, Scheduler
from tableforge.config import DatabaseKnobs
from tableforge.database import Database, Statement
from tableforge.database.care import Care
from tableforge.database.care.ledger import Ledger
from tableforge.database.care.postgres import PostgresCare
from tableforge.database.care.schema import own_tables
from tableforge.database.care.sqlite import SqliteCare
from tableforge.database.postgres import PostgresDatabase
from tableforge.database.sqlite import SqliteDatabase
from tableforge.library.notices import KEPT_SECONDS, ROOM_DELETED, Notice
from tableforge.library.retention import Retention
from tableforge.library.runs import Action, Runs
from tableforge.library.schedules import ScheduleTurns
from tableforge.library.sessions import INSERT_SESSION
from tableforge.library.users import INSERT_USER

NIGHTLY = "30 2 * * *"


def at(text: str) -> float:
    """A moment in seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()


@pytest.fixture(params=["sqlite", "postgres"])
async def databases(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[Database, Database]]:
    """One database as two instances see it; SQLite has but one."""
    async with AsyncExitStack() as stack:
        if request.param == "sqlite":
            alone = await stack.enter_async_context(SqliteDatabase(tmp_path))
            yield alone, alone
            return
        url = request.getfixturevalue("database_url")
        first = PostgresDatabase(DatabaseKnobs(url=url, pool_min=0), "one")
        second = PostgresDatabase(DatabaseKnobs(url=url, pool_min=0), "two")
        await stack.enter_async_context(first)
        await stack.enter_async_context(second)
        await first.started()
        await second.started()
        yield first, second


class Clock:
    """A clock that a test sets."""

    def __init__(self, text: str) -> None:
        self.now = at(text)

    def __call__(self) -> float:
        return self.now


class Instance:
    """One of a fleet: what is scheduled there, and how often it was carried out."""

    def __init__(self, database: Database, clock: Callable[[], float], name: str) -> None:
        self.carried_out = 0
        self.orders = Orders(Runs(database, instance=name))
        self.schedule = Schedule("nightly", NIGHTLY, self._order)
        self.scheduler = Scheduler(
            [self.schedule],
            ScheduleTurns(database),
            self.orders,
            zone="Europe/Berlin",
            clock=clock,
            catch_up_seconds=60,
        )

    async def _order(self, tell: Tell) -> Sequence[Action]:
        self.carried_out += 1
        return [Action("nightly", "", "", "done", "")]

    async def look(self) -> bool:
        """Whether it began the order."""
        begun = await self.scheduler.look(self.schedule)
        async with asyncio.timeout(30):
            while self.orders._under_way:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.005)
        return begun


async def test_mc7_of_two_instances_one_carries_out_what_is_due(
    databases: tuple[Database, Database],
) -> None:
    clock = Clock("2026-01-10T12:00:00+01:00")
    fleet = [Instance(one, clock, f"i{number}") for number, one in enumerate(databases)]
    for one in fleet:
        assert not await one.look()
    for night in range(11, 16):
        clock.now = at(f"2026-01-{night}T02:30:00+01:00")
        assert sorted(await asyncio.gather(*(one.look() for one in fleet))) == [False, True]
        clock.now += 2
        assert not any(await asyncio.gather(*(one.look() for one in fleet)))
    assert sum(one.carried_out for one in fleet) == 5
    runs = await Runs(databases[0], instance="i0").latest(50)
    assert [run.kind for run in runs] == ["nightly"] * 5
    assert await fleet[1].scheduler.taken() == {"nightly": at("2026-01-15T02:30:00+01:00")}


async def test_mc7_what_is_due_is_begun_when_its_time_comes(
    databases: tuple[Database, Database],
) -> None:
    started = time.monotonic()
    first = at("2026-01-10T02:29:59.700+01:00")
    fleet = [
        Instance(one, lambda: first + time.monotonic() - started, f"i{number}")
        for number, one in enumerate(databases)
    ]
    tasks = [asyncio.create_task(one.scheduler.run()) for one in fleet]
    try:
        async with asyncio.timeout(60):
            while sum(one.carried_out for one in fleet) == 0:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.01)
        assert [task.done() for task in tasks] == [False, False]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for one in fleet:
            await one.orders.close()
    assert sum(one.carried_out for one in fleet) == 1


async def test_mc14_what_passed_while_no_server_ran_is_made_up_for_once(
    databases: tuple[Database, Database],
) -> None:
    clock = Clock("2026-01-10T12:00:00+01:00")
    before = Instance(databases[0], clock, "before")
    assert not await before.look()
    clock.now += 3_600
    assert not await before.look()
    clock.now = at("2026-01-12T12:00:00+01:00")
    after, other = (Instance(one, clock, "after") for one in databases)
    assert not await after.look()
    clock.now += 61
    assert await after.look()
    assert not await after.look()
    assert not await other.look()
    assert (after.carried_out, other.carried_out) == (1, 0)


async def test_mc14_the_first_server_on_a_database_has_missed_nothing(
    databases: tuple[Database, Database],
) -> None:
    clock = Clock("2026-01-10T12:00:00+01:00")
    first = Instance(databases[0], clock, "first")
    for _ in range(5):
        assert not await first.look()
        clock.now += 3_600
    assert first.carried_out == 0
    assert await first.scheduler.taken() == {}
    second = Instance(databases[1], clock, "second")
    assert not await second.look()
    clock.now += 61
    assert not await second.look()
    assert second.carried_out == 0


def care_of(database: Database) -> Care:
    """The care of a database, which nothing has run on."""
    ledger = Ledger(database)
    if isinstance(database, PostgresDatabase):
        return PostgresCare(
            database.dial,
            ledger,
            tuple,
            dead_share=0.1,
            pool_max=20,
            tables=own_tables("postgres"),
        )
    assert isinstance(database, SqliteDatabase)
    return SqliteCare(database, ledger, tuple, dead_share=0.1)


class Night:
    """The caretaker of one instance; `reasons` are why the next looks find a bad time."""

    def __init__(self, database: Database, care: Care, *, ids_kept_seconds: float = 0.0) -> None:
        self.reasons: list[str] = []
        self.told: list[str] = []
        has_notices = isinstance(database, PostgresDatabase)
        self.caretaker = Caretaker(
            care,
            Ledger(database),
            Retention(database, has_notices=has_notices),
            busy=lambda: self.reasons.pop(0) if self.reasons else "",
            ids_kept_seconds=ids_kept_seconds,
            put_off_seconds=0.001,
        )

    async def maintain(self) -> dict[str, Action]:
        """What was done, by what it was done to."""
        return {one.action: one for one in await self.caretaker.maintain(self.told.append)}


async def test_mc7_while_one_cares_for_the_database_nobody_else_does(
    databases: tuple[Database, Database],
) -> None:
    here, there = databases
    care = care_of(here)
    other = care if here is there else care_of(there)
    async with care.alone() as alone:
        assert alone
        (refused,) = (await Night(there, other).maintain()).values()
        assert refused.verdict == "skipped"
        assert "another instance" in refused.reason
        (order,) = await Night(there, other).caretaker.optimize(None)(lambda _: None)
        assert (order.verdict, order.reason) == ("skipped", refused.reason)
    assert len(await Night(there, other).maintain()) > 2


async def test_mc5_whoever_asks_while_advice_is_sought_gets_the_same(
    databases: tuple[Database, Database],
) -> None:
    caretaker = Night(databases[0], care_of(databases[0])).caretaker
    asked = [asyncio.create_task(caretaker.advice()) for _ in range(50)]
    await asyncio.sleep(0)
    asked.pop().cancel()
    first, *others = await asyncio.gather(*asked)
    assert all(other is first for other in others)
    assert await caretaker.advice() is not first
    await caretaker.close()


async def test_mc5_a_part_of_the_night_that_fails_leaves_the_others_alone(
    databases: tuple[Database, Database],
) -> None:
    night = Night(databases[0], care_of(databases[0]))
    await databases[0].write(Statement("test.drop", "DROP TABLE sessions"))
    done = await night.maintain()
    assert done["prune"].verdict == "failed"
    assert done["prune"].reason
    assert done["check a sample of the logs"].verdict == "done"


async def test_mc9_a_night_with_much_to_do_is_put_off_and_says_why(
    databases: tuple[Database, Database],
) -> None:
    night = Night(databases[0], care_of(databases[0]))
    night.reasons = ["instance i1 uses 93% of its core"] * 3
    done = await night.maintain()
    assert night.told[:3] == ["put off: instance i1 uses 93% of its core"] * 3
    assert done["wait for a quiet time"].before == "instance i1 uses 93% of its core"
    assert done["check a sample of the logs"].verdict == "done"
    assert "wait for a quiet time" not in await night.maintain()


async def test_mc11_what_is_over_is_taken_away_and_nothing_else(
    databases: tuple[Database, Database],
) -> None:
    database = databases[0]
    now = datetime.now(UTC).timestamp() * 1000
    await database.write(INSERT_USER, "u", "Ada", 0)
    for name, expires in ((b"ended", now - 1_000), (b"going on", now + 1_000_000)):
        await database.write(INSERT_SESSION, name, "u", 0, 0, int(expires))
    is_fleet = isinstance(database, PostgresDatabase)
    if is_fleet:
        for number in (1, 2):
            statement, params = Notice(number, ROOM_DELETED, "r").step
            await database.write(statement, *params)
        old = "UPDATE notices SET at = at - make_interval(secs => CAST(? AS double precision)) WHERE number = 1"
        await database.write(Statement("test.age", old), KEPT_SECONDS + 60)
    done = await Night(database, care_of(database)).maintain()
    assert done["prune sessions that have ended"].before == "1 rows"
    assert done["prune runs of long ago"].verdict == "skipped"
    left = await database.read(Statement("test.left", "SELECT digest FROM sessions"))
    assert [bytes(row[0]) for row in left] == [b"going on"]
    assert ("prune notices that are old" in done) is is_fleet
    if is_fleet:
        assert done["prune notices that are old"].before == "1 rows"
        assert await database.read(Statement("test.left", "SELECT number FROM notices")) == [(2,)]
    assert "forget the ids of old commands" not in done


EVENTS = Statement(
    "test.event",
    "INSERT INTO events (room, seq, version, data, key, digest) VALUES (1, ?1, 1, ?2, ?3, ?3)",
    "INSERT INTO events (room, seq, version, data, key, digest) VALUES ('r', ?1, 1, ?2, ?3, ?3)",
)


async def test_mc11_a_commands_id_is_known_for_a_day_whatever_is_set(
    databases: tuple[Database, Database],
) -> None:
    database = databases[0]
    now = datetime.now(UTC)
    for offset, age in enumerate((timedelta(hours=25), timedelta(hours=23), timedelta()), 1):
        moment = (now - age).isoformat(timespec="milliseconds")[:-6] + "Z"
        data = f'{{"at":"{moment}"}}'.encode()
        await database.write(EVENTS, offset, data, bytes([offset]) * 16)
    done = await Night(database, care_of(database), ids_kept_seconds=1.0).maintain()
    assert done["forget the ids of old commands"].after == "1 forgotten"
    left = await database.read(
        Statement("test.left", "SELECT seq FROM events WHERE key IS NOT NULL ORDER BY seq")
    )
    assert left == [(2,), (3,)]
