"""Every fault of `bench chaos`, in its short form: whatever breaks, what was acknowledged is there, once and in order."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from tableforge.bench.chaos import Outcome, Plan, playing, suffer
from tableforge.bench.faults import FAULTS, Fault
from tableforge.bench.ground import Ground
from tableforge.bench.steady import Company
from tableforge.cli.measuring_chaos import servers_of_a_fleet
from tableforge.ops.servers import scratch

pytestmark = pytest.mark.asyncio(loop_scope="module")

QUICK = Plan(players=30, room_size=6, rate=2.0, calm=0.5, quick=True)
LONG = Plan(players=300, room_size=8, rate=0.5, calm=5.0)
IN_SHORT = {
    "WS_PING_SECONDS": "2",
    "WS_PONG_SECONDS": "2",
    "REBALANCE_SECONDS": "3",
    "DRAIN_SECONDS": "3",
}
NOTICED_SECONDS = 30.0


@pytest.fixture(scope="module")
def plan(soak: bool) -> Plan:
    return LONG if soak else QUICK


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with scratch() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def table(folder: Path, plan: Plan) -> AsyncIterator[tuple[Ground, Company]]:
    async with playing(
        plan, folder, servers_of_a_fleet(), {} if plan is LONG else IN_SHORT
    ) as made:
        yield made


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
async def test_what_was_acknowledged_survives(
    fault: Fault, table: tuple[Ground, Company], plan: Plan
) -> None:
    outcome = await suffer(*table, fault, plan)
    assert_kept(outcome)


async def test_a_bus_that_swallows_messages_is_noticed_and_what_it_lost_arrives(
    table: tuple[Ground, Company], plan: Plan, say: Callable[[str], None]
) -> None:
    fleet, company = table
    [victim, *_] = fleet.instances
    told: list[float] = []

    async def until(ok: bool) -> float:
        """When `/ready` and the metrics say how the bus is doing."""
        began = time.monotonic()
        async with (
            asyncio.timeout(NOTICED_SECONDS),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{victim.port}") as http,
        ):
            while True:
                ready = (await http.get("/ready")).json()
                metrics = (await http.get("/metrics")).text
                up = 'bus_servers{state="up"} 1' in metrics
                if up == ok == all(trouble == "ok" for trouble in ready["bus"].values()):
                    return time.monotonic() - began
                await asyncio.sleep(0.02)

    async def doing(fleet: Ground, company: Company, seconds: float) -> None:
        fleet.to_redis.swallowing = True
        told.append(await until(ok=False))
        await asyncio.sleep(seconds)
        fleet.to_redis.swallowing = False
        told.append(await until(ok=True))

    silent = Fault("silent", "messages are swallowed, the connection is up", doing, 60, 3)
    outcome = await suffer(fleet, company, silent, plan)
    before, during, after = (one.p95_ms for one in outcome.arrivals)
    say(
        f"a silent bus was noticed after {told[0]:.2f} s, its return after {told[1]:.2f} s; events reached the"
        f" others at p95 within {before:.0f} ms before, {during:.0f} ms meanwhile, {after:.0f} ms afterwards"
    )
    assert_kept(outcome)


def assert_kept(outcome: Outcome) -> None:
    """Nothing lost, doubled or out of order; everybody is served again, in a bounded time."""
    assert outcome.said == []
    assert outcome.clean
    assert outcome.acknowledged > 0
