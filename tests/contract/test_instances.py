"""What holds for the registry of a fleet's instances, on real PostgreSQL (rules RG of `docs/spec.md`)."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tableforge.config import DatabaseKnobs
from tableforge.database import Database, Statement
from tableforge.database.postgres import PostgresDatabase
from tableforge.errors import StartRefused
from tableforge.library.instances import Instance, Instances, Load, Myself, Pulse

HEARTBEAT_SECONDS = 0.1
EXPIRY_SECONDS = 1.0
LONG_SECONDS = 60.0
"""An expiry that nobody reaches in a test."""

AGE = Statement(
    "test.age",
    "UPDATE instances SET seen = seen - make_interval(secs => CAST(? AS double precision)) WHERE id = ?",
)
ROWS = Statement("test.rows", "SELECT id, incarnation, connections FROM instances ORDER BY id")
CLEAR = Statement("test.clear", "DELETE FROM instances")


class Clock:
    """A monotonic clock that a test sets."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[PostgresDatabase]:
    async with PostgresDatabase(DatabaseKnobs(url=database_url, pool_min=0), "test") as opened:
        await opened.started()
        yield opened


@pytest.fixture
def clock() -> Clock:
    return Clock()


def one(
    database: Database,
    name: str,
    *,
    clock: Clock | None = None,
    expiry: float = LONG_SECONDS,
    has_bus: bool = True,
    scaling: bool = True,
) -> Instances:
    """An instance's view of the registry."""
    me = Myself(id=name, version="1.0", weight=3, has_bus=has_bus, scaling=scaling)
    more = {} if clock is None else {"clock": clock}
    return Instances(
        database, me, heartbeat_seconds=HEARTBEAT_SECONDS, expiry_seconds=expiry, **more
    )


def named(pulse: Pulse, name: str) -> Instance:
    return next(one for one in pulse.instances if one.id == name)


async def beat_until(instances: Instances, stop: asyncio.Event) -> None:
    while not stop.is_set():
        await instances.heartbeat(Load())
        await asyncio.sleep(HEARTBEAT_SECONDS)


async def test_rg1_a_second_live_instance_of_the_same_id_is_refused(
    database: PostgresDatabase,
) -> None:
    first = one(database, "a")
    await first.register()
    stop = asyncio.Event()
    beating = asyncio.create_task(beat_until(first, stop))
    with pytest.raises(StartRefused) as refused:
        async with asyncio.timeout(LONG_SECONDS / 2):
            await one(database, "a").register()
    assert "INSTANCE_ID a" in refused.value.why
    assert "INSTANCE_ID" in refused.value.mend
    stop.set()
    await beating
    pulse = await first.heartbeat(Load())
    assert pulse.superseded is None
    assert named(pulse, "a").incarnation == first.me.incarnation


async def test_rg1_of_many_that_start_at_once_under_one_id_one_gets_in(
    database: PostgresDatabase,
) -> None:
    crowd = [one(database, "a", expiry=EXPIRY_SECONDS) for _ in range(6)]
    stop = asyncio.Event()

    async def enter(instances: Instances) -> str:
        try:
            await instances.register()
        except StartRefused:
            return "refused"
        await beat_until(instances, stop)
        return "in"

    entering = [asyncio.create_task(enter(instances)) for instances in crowd]
    async with asyncio.timeout(30):
        for _, ended in zip(range(len(crowd) - 1), asyncio.as_completed(entering), strict=False):
            assert await ended == "refused"
    stop.set()
    assert sorted(await asyncio.gather(*entering)) == ["in"] + ["refused"] * 5


async def test_rg2_an_instance_that_left_makes_room_at_once(database: PostgresDatabase) -> None:
    first, second = one(database, "a"), one(database, "a")
    await first.register()
    await first.leave()
    async with asyncio.timeout(LONG_SECONDS / 2):
        await second.register()
    pulse = await second.heartbeat(Load())
    assert [(it.id, it.incarnation) for it in pulse.instances] == [("a", second.me.incarnation)]


async def test_rg2_the_place_of_a_killed_one_is_taken_once_it_counts_as_gone(
    database: PostgresDatabase,
) -> None:
    killed, anew = (one(database, "a", expiry=EXPIRY_SECONDS) for _ in range(2))
    await killed.register()
    await killed.heartbeat(Load(connections=7))
    began = asyncio.get_running_loop().time()
    await anew.register()
    assert asyncio.get_running_loop().time() - began > EXPIRY_SECONDS / 2
    assert await database.read(ROWS) == [("a", anew.me.incarnation, 0)]


async def test_rg2_the_place_of_one_long_dead_is_taken_at_once(database: PostgresDatabase) -> None:
    await one(database, "a").register()
    await database.write(AGE, 2 * LONG_SECONDS, "a")
    async with asyncio.timeout(LONG_SECONDS / 2):
        await one(database, "a").register()


@pytest.mark.parametrize("which", ["a", "b"])
@pytest.mark.parametrize(("lacks", "says"), [("has_bus", "no Redis"), ("scaling", "SCALING")])
async def test_rg3_beside_one_that_must_be_alone_nobody_is_let_in(
    database: PostgresDatabase, which: str, lacks: str, says: str
) -> None:
    first, second = (
        one(
            database,
            name,
            has_bus=not (which == name and lacks == "has_bus"),
            scaling=not (which == name and lacks == "scaling"),
        )
        for name in "ab"
    )
    await first.register()
    stop = asyncio.Event()
    beating = asyncio.create_task(beat_until(first, stop))
    with pytest.raises(StartRefused) as refused:
        await second.register()
    assert "Instance a" in refused.value.why
    assert says in refused.value.why
    assert refused.value.mend
    stop.set()
    await beating


async def test_rg3_several_with_a_bus_serve_together(database: PostgresDatabase) -> None:
    fleet = [one(database, name) for name in "abc"]
    await asyncio.gather(*(instances.register() for instances in fleet))
    pulse = await fleet[0].heartbeat(Load())
    assert sorted(it.id for it in pulse.instances) == ["a", "b", "c"]
    assert all(it.alive and it.has_bus and it.weight == 3 for it in pulse.instances)


async def test_rg4_a_heartbeat_brings_everybody_with_their_load(
    database: PostgresDatabase,
) -> None:
    a, b = one(database, "a"), one(database, "b")
    await a.register()
    await b.register()
    load = Load(connections=5, rooms=2, cpu=0.25, loop_lag_ms=1.5, draining=True)
    mine = named(await b.heartbeat(load), "b")
    theirs = named(await a.heartbeat(Load()), "b")
    assert mine.load == theirs.load == load
    assert theirs.version == "1.0"
    assert theirs.started <= theirs.seen


async def test_rg4_who_falls_silent_is_gone_and_who_speaks_again_is_back(
    database: PostgresDatabase, clock: Clock
) -> None:
    a, b = one(database, "a", clock=clock, expiry=EXPIRY_SECONDS), one(database, "b")
    await a.register()
    await b.register()
    alive = [named(await a.heartbeat(Load()), "b").alive]
    for _ in range(12):
        clock.seconds += HEARTBEAT_SECONDS
        alive.append(named(await a.heartbeat(Load()), "b").alive)
    assert alive[:9] == [True] * 9
    assert not alive[-1]
    await b.heartbeat(Load())
    assert named(await a.heartbeat(Load()), "b").alive


async def test_rg4_time_in_which_we_heard_nothing_makes_nobody_look_dead(
    database: PostgresDatabase, clock: Clock
) -> None:
    """As after a pause of our own, or when the database was away for all."""
    a, b = one(database, "a", clock=clock, expiry=EXPIRY_SECONDS), one(database, "b")
    await a.register()
    await b.register()
    await a.heartbeat(Load())
    clock.seconds += 100 * EXPIRY_SECONDS
    # The database's clock has jumped as well.
    await database.write(AGE, -3_600.0, "b")
    assert named(await a.heartbeat(Load()), "b").alive
    clock.seconds += 100 * EXPIRY_SECONDS
    assert named(await a.heartbeat(Load()), "b").alive


async def test_rg4_one_long_dead_is_seen_as_such_by_a_newcomer(database: PostgresDatabase) -> None:
    a, b = one(database, "a"), one(database, "b")
    await b.register()
    await database.write(AGE, 2 * LONG_SECONDS, "b")
    await a.register()
    assert not named(await a.heartbeat(Load()), "b").alive


async def test_rg5_a_process_that_was_replaced_learns_it(database: PostgresDatabase) -> None:
    stopped, anew = one(database, "a"), one(database, "a")
    await stopped.register()
    await database.write(AGE, 2 * LONG_SECONDS, "a")
    await anew.register()
    pulse = await stopped.heartbeat(Load(connections=9))
    assert isinstance(pulse.superseded, StartRefused)
    assert await database.read(ROWS) == [("a", anew.me.incarnation, 0)]
    await stopped.leave()
    assert (await anew.heartbeat(Load())).superseded is None


async def test_rg5_one_whose_row_was_lost_enters_again(database: PostgresDatabase) -> None:
    a = one(database, "a")
    await a.register()
    await database.write(CLEAR)
    assert (await a.heartbeat(Load())).superseded is None
    assert [it.id for it in (await a.heartbeat(Load())).instances] == ["a"]


async def test_rg6_an_order_to_drain_reaches_one_start_of_one_instance(
    database: PostgresDatabase,
) -> None:
    a, b = one(database, "a"), one(database, "b")
    await a.register()
    await b.register()
    seen = named(await a.heartbeat(Load()), "b")
    assert await a.ask_to_drain(seen)
    assert not (await a.heartbeat(Load())).drain_asked
    assert (await b.heartbeat(Load())).drain_asked
    await b.leave()
    assert not await a.ask_to_drain(seen)
    again = one(database, "b")
    await again.register()
    assert not (await again.heartbeat(Load())).drain_asked
    # Nor does it outlive a kill.
    assert await a.ask_to_drain(named(await a.heartbeat(Load()), "b"))
    await database.write(AGE, 2 * LONG_SECONDS, "b")
    once_more = one(database, "b")
    await once_more.register()
    assert not (await once_more.heartbeat(Load())).drain_asked


async def test_rg7_the_dead_are_kept_for_a_day(database: PostgresDatabase) -> None:
    a = one(database, "a")
    await a.register()
    for name, hours in (("b", 23), ("c", 25)):
        await one(database, name).register()
        await database.write(AGE, hours * 3_600.0, name)
    await a.purge()
    assert [row[0] for row in await database.read(ROWS)] == ["a", "b"]
