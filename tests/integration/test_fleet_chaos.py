"""Every fault of `bench chaos`, in its short form: whatever breaks, what was acknowledged is there, once and in order."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tableforge.bench.chaos import Outcome, Plan, playing, suffer
from tableforge.bench.faults import FAULTS, Fault
from tableforge.bench.ground import Ground
from tableforge.bench.steady import Company
from tableforge.cli.measuring import servers_of_a_fleet
from tableforge.ops.servers import scratch

pytestmark = pytest.mark.asyncio(loop_scope="module")

QUICK = Plan(players=30, room_size=6, rate=2.0, calm=0.5, quick=True)
LONG = Plan(players=300, room_size=8, rate=0.5, calm=5.0)
PINGS = {"WS_PING_SECONDS": "2", "WS_PONG_SECONDS": "2"}


@pytest.fixture(scope="module")
def plan(soak: bool) -> Plan:
    return LONG if soak else QUICK


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with scratch() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def table(folder: Path, plan: Plan) -> AsyncIterator[tuple[Ground, Company]]:
    async with playing(plan, folder, servers_of_a_fleet(), {} if plan is LONG else PINGS) as made:
        yield made


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
async def test_what_was_acknowledged_survives(
    fault: Fault, table: tuple[Ground, Company], plan: Plan
) -> None:
    outcome = await suffer(*table, fault, plan)
    assert_kept(outcome)


def assert_kept(outcome: Outcome) -> None:
    """Nothing lost, doubled or out of order; everybody is served again, in a bounded time."""
    assert outcome.said == []
    assert outcome.clean
    assert outcome.acknowledged > 0
