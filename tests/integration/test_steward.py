"""What an instance does for its fleet, with several in one process on real PostgreSQL (rules RG and LB of `docs/spec.md`)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from tableforge.config import DatabaseKnobs, FleetKnobs
from tableforge.database import Database, DatabaseUnavailable, Row, Statement, Step
from tableforge.database.postgres import PostgresDatabase
from tableforge.errors import NotFound, StartRefused
from tableforge.hub.hub import Hub
from tableforge.hub.presence import Presence
from tableforge.hub.steward import Steward, state_of
from tableforge.library.instances import Instances, Myself
from tableforge.protocol.bus_messages import Present, Roster
from tableforge.protocol.close_codes import CloseCode
from tableforge.telemetry import COUNTERS
from tests.wire import Wire, connected

KNOBS = replace(FleetKnobs(), heartbeat_seconds=0.1, expiry_seconds=1.0, rebalance_seconds=2.0)
DEADLINE = 60.0
TAKE_OVER = Statement("test.take_over", "UPDATE instances SET incarnation = 'other' WHERE id = ?")


class Cut:
    """The database as an instance sees it that may be cut off from it."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database
        self.away = False
        self.refused = 0

    def _check(self) -> None:
        if self.away:
            self.refused += 1
            raise DatabaseUnavailable("Nothing was done.", "The database does not answer.")

    async def read(self, statement: Statement, *params: object) -> list[Row]:
        self._check()
        return await self._database.read(statement, *params)

    async def write(self, statement: Statement, *params: object) -> int:
        self._check()
        return await self._database.write(statement, *params)

    async def write_all(self, steps: list[Step]) -> list[int]:
        self._check()
        return await self._database.write_all(steps)


class Member:
    """One instance: its steward, its clients, and what it was told to do."""

    def __init__(self, name: str, database: Database | None, knobs: FleetKnobs) -> None:
        self.me = Myself(id=name, version="1.0", has_bus=True, scaling=True)
        self.hub = Hub()
        self.wires: set[Wire] = set()
        self.left: list[str] = []
        self.draining = False
        self.cut_off = False
        self.superseded: StartRefused | None = None
        self.lost = 0
        self.living: int | None = None
        self.presence = Presence(
            self.me.origin,
            send=lambda room, message: None,
            local=lambda room: (),
            changed=lambda room, live, joined, left: self.left.extend(one.client for one in left),
            carried=lambda room: False,
            expiry_seconds=knobs.expiry_seconds,
        )
        self.instances = database and Instances(
            database,
            self.me,
            heartbeat_seconds=knobs.heartbeat_seconds,
            expiry_seconds=knobs.expiry_seconds,
        )
        self.steward = Steward(
            self.me,
            hub=self.hub,
            knobs=knobs,
            connections=lambda: len(self.wires),
            rooms=lambda: 3,
            draining=lambda: self.draining,
            cut_off=lambda: self.cut_off,
            drain=self.drain,
            superseded=self.supersede,
            lost=self.lose,
            share=self.share,
            instances=self.instances or None,
            presence=self.presence,
        )

    def drain(self) -> None:
        assert not self.draining
        self.draining = True

    def share(self, living: int) -> None:
        self.living = living

    def lose(self) -> None:
        self.lost += 1

    def supersede(self, why: StartRefused) -> None:
        self.superseded = why

    def connect(self, count: int) -> list[Wire]:
        wires = [Wire(self.wires) for _ in range(count)]
        for wire in wires:
            connected(self.hub, wire)
        return wires

    def state(self, name: str) -> str:
        """How this one knows another."""
        return next((state_of(one) for one in self.steward.listing() if one.id == name), "unknown")


@pytest.fixture
async def shared(database_url: str) -> AsyncIterator[PostgresDatabase]:
    async with PostgresDatabase(DatabaseKnobs(url=database_url, pool_min=0), "test") as opened:
        await opened.started()
        yield opened


Start = Callable[..., Awaitable[Member]]


@pytest.fixture
async def members() -> AsyncIterator[Start]:
    """Starts instances, and stops them afterwards."""
    async with AsyncExitStack() as stack:

        async def start(name: str, database: Database | None, knobs: FleetKnobs = KNOBS) -> Member:
            member = Member(name, database, knobs)
            if member.instances:
                await member.instances.register()
            member.steward.start()
            stack.push_async_callback(member.steward.close)
            return member

        yield start


async def wait_for(what: Callable[[], bool]) -> None:
    """Return once this is so."""
    async with asyncio.timeout(DEADLINE):
        while not what():  # noqa: ASYNC110 - nobody could tell
            await asyncio.sleep(0.02)


async def test_rg4_instances_learn_of_each_other_and_of_their_load(
    shared: PostgresDatabase, members: Start
) -> None:
    a, b = await members("a", shared), await members("b", shared)
    b.connect(5)
    await wait_for(
        lambda: any(
            one.id == "b" and one.load.connections == 5 and one.load.rooms == 3
            for one in a.steward.listing()
        )
    )
    assert [one.id for one in a.steward.listing()] == ["a", "b"]
    await wait_for(lambda: b.state("a") == "serving")
    await wait_for(lambda: COUNTERS.instances == {"serving": 2, "draining": 0, "gone": 0})
    b.draining = True
    await wait_for(lambda: a.state("b") == "draining")


async def test_rg4_the_others_learn_that_an_instance_does_not_reach_the_bus(
    shared: PostgresDatabase, members: Start
) -> None:
    a, b = await members("a", shared), await members("b", shared)
    await wait_for(lambda: a.state("b") == "serving")
    assert [one.load.cut_off for one in a.steward.living()] == [False]
    b.cut_off = True
    await wait_for(lambda: any(one.load.cut_off for one in a.steward.living()))
    assert not any(one.load.cut_off for one in b.steward.living())
    b.cut_off = False
    await wait_for(lambda: not any(one.load.cut_off for one in a.steward.living()))


async def test_rg4_the_delay_of_the_event_loop_is_measured(
    shared: PostgresDatabase, members: Start
) -> None:
    a, b = await members("a", shared), await members("b", shared)

    def held_up() -> bool:
        # What holds up one holds up all in this process.
        end = asyncio.get_running_loop().time() + 0.1
        while asyncio.get_running_loop().time() < end:
            pass
        return any(one.id == "b" and one.load.loop_lag_ms > 30 for one in a.steward.listing())

    await wait_for(held_up)
    assert all(0 < one.load.cpu < 20 for one in a.steward.listing() if one.id == "b")
    assert b.state("a") == "serving"


async def test_rg4_a_database_that_is_away_ends_nothing(
    shared: PostgresDatabase, members: Start
) -> None:
    cut = Cut(shared)
    a, b = await members("a", cut), await members("b", shared)
    await wait_for(lambda: a.state("b") == "serving")
    cut.away = True
    await wait_for(lambda: b.state("a") == "gone")
    assert cut.refused > 1
    assert a.state("b") == "serving"
    cut.away = False
    await wait_for(lambda: b.state("a") == "serving")
    assert not a.draining
    assert a.superseded is None


async def test_rg4_nobody_is_connected_through_an_instance_that_is_gone(
    shared: PostgresDatabase, members: Start
) -> None:
    a, b = await members("a", shared), await members("b", shared)
    await wait_for(lambda: a.state("b") == "serving")
    a.presence.appeared("r1")
    ada = Present("ada", "u", "Ada", "gm", live=False)
    a.presence.heard("r1", Roster(b.me.origin, 1, (ada,)))
    await b.steward.close()
    await wait_for(lambda: a.left == ["ada"])
    assert a.state("b") == "gone"


async def test_ca13_whoever_is_gone_without_having_left_is_told_of_once(
    shared: PostgresDatabase, members: Start
) -> None:
    a, b, c = [await members(name, shared) for name in "abc"]
    await wait_for(lambda: a.state("b") == a.state("c") == "serving")
    for one in (b, c):
        await one.steward.close()
    assert b.instances
    await b.instances.leave()
    await wait_for(lambda: a.state("b") == "unknown")
    assert a.lost == 0, "it left in order"
    await wait_for(lambda: a.state("c") == "gone")
    assert a.lost == 1
    await members("c", shared)
    await wait_for(lambda: a.state("c") == "serving")
    assert a.lost == 1, "that the one before was gone is known"


async def test_ca13_another_start_of_an_instance_says_that_the_one_before_is_gone(
    shared: PostgresDatabase, members: Start
) -> None:
    a, b = await members("a", shared), await members("b", shared)
    await wait_for(lambda: a.state("b") == "serving")
    await b.steward.close()
    await shared.write(TAKE_OVER, "b")
    await wait_for(lambda: a.lost == 1)


async def test_ca13_who_came_while_the_registry_was_out_of_reach_may_be_in_the_place_of_another(
    shared: PostgresDatabase, members: Start
) -> None:
    cut = Cut(shared)
    a, b = await members("a", cut), await members("b", shared)
    await wait_for(lambda: a.state("b") == "serving")
    cut.away = True
    await wait_for(lambda: b.state("a") == "gone")
    cut.away = False
    await wait_for(lambda: b.state("a") == "serving")
    assert a.lost == 0, "all are whom it knew"
    cut.away = True
    await wait_for(lambda: b.state("a") == "gone")
    await members("c", shared)
    cut.away = False
    await wait_for(lambda: a.state("c") == "serving")
    assert a.lost == 1


async def test_rg5_whoever_was_replaced_is_told_to_stop(
    shared: PostgresDatabase, members: Start
) -> None:
    a = await members("a", shared)
    await shared.write(TAKE_OVER, "a")
    await wait_for(lambda: a.superseded is not None)
    assert not a.draining


async def test_rg6_an_instance_is_drained_by_any_other(
    shared: PostgresDatabase, members: Start
) -> None:
    a, b, c = [await members(name, shared) for name in "abc"]
    await wait_for(lambda: a.state("b") == a.state("c") == "serving")
    drain = await a.steward.drain("b")
    assert drain[:3] == ("serving", "draining", "done")
    assert "No other" not in drain.reason
    await wait_for(lambda: b.draining)
    await wait_for(lambda: a.state("b") == "draining")
    assert (await a.steward.drain("b"))[:3] == ("draining", "draining", "skipped")
    await b.steward.close()
    await wait_for(lambda: a.state("b") == "gone")
    gone = await a.steward.drain("b")
    assert gone[:3] == ("gone", "gone", "skipped")
    assert "not been heard of" in gone.reason
    with pytest.raises(NotFound):
        await a.steward.drain("nobody")
    assert c.instances
    await c.instances.leave()
    assert (await a.steward.drain("c"))[:3] == ("serving", "gone", "skipped")
    drain = await a.steward.drain("a")
    assert drain[:3] == ("serving", "draining", "done")
    assert a.draining


async def test_rg6_alone_an_instance_knows_and_drains_itself(members: Start) -> None:
    a = await members("a", None)
    a.connect(2)
    (mine,) = a.steward.listing()
    assert (mine.id, state_of(mine), mine.load.connections) == ("a", "serving", 2)
    drain = await a.steward.drain("a")
    assert (drain.verdict, drain.after) == ("done", "draining")
    assert "No other instance serves" in drain.reason
    assert a.draining
    with pytest.raises(NotFound):
        await a.steward.drain("b")


async def test_lb1_an_instance_above_its_share_sends_clients_away_until_it_is_not(
    shared: PostgresDatabase, members: Start
) -> None:
    knobs = replace(KNOBS, strategy="least_connections")
    a, b = await members("a", shared, knobs), await members("b", shared, knobs)
    wires = a.connect(40)
    placed: set[Wire] = set()

    def placed_anew() -> bool:
        for wire in wires:
            if wire.closed is not None and wire not in placed:
                placed.add(wire)
                b.connect(1)
        return len(a.wires) <= 21

    await wait_for(placed_anew)
    assert all(wire.closed is None or wire.closed[1] is CloseCode.REBALANCE for wire in wires)
    assert 18 <= len(a.wires) <= 21
    assert not [wire for wire in b.wires if wire.closed is not None]


async def test_lb4_while_the_others_are_not_heard_of_nobody_is_sent_to_them(
    shared: PostgresDatabase, members: Start
) -> None:
    cut = Cut(shared)
    a, b = await members("a", cut), await members("b", shared)
    await wait_for(lambda: a.state("b") == "serving")
    cut.away = True
    await wait_for(lambda: b.state("a") == "gone")
    wires = a.connect(40)
    begun = cut.refused
    await wait_for(lambda: cut.refused > begun + 40)
    assert [wire for wire in wires if wire.closed is not None] == []
