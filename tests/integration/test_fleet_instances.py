"""Instances that come, go, die and return, as whole servers (rules RG, PR and LB of `docs/spec.md`)."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.exceptions import WebSocketException

from tests.fleet import FleetProcesses, fleet
from tests.integration.raw_client import Raw, table
from tests.integration.test_rest_instances import listed
from tests.server_process import Person, ServerProcess

GHOSTS_SECONDS = 10.0
EVEN_SECONDS = 60.0


@pytest.fixture
def two(
    tmp_path: Path, database_url: str, redis_url: str, redis_db: int
) -> Iterator[FleetProcesses]:
    settings = {
        "REDIS_PUB_SUB_DB": str(redis_db),
        "DRAIN_SECONDS": "2",
        "REBALANCE_SECONDS": "5",
        "LIMIT_CONNECTIONS": "0",
    }
    with fleet(tmp_path, database_url, redis_url, 2, **settings) as made:
        yield made


async def present(raw: Raw, channel: str) -> set[str]:
    """Who is on a channel, by user."""
    shown = (await raw.call(presence={"channel": channel}))["presence"]["presence"]
    return {one["user"] for one in shown.values()}


async def wait_until_present(raw: Raw, channel: str, users: set[str]) -> None:
    async with asyncio.timeout(GHOSTS_SECONDS):
        while await present(raw, channel) != users:  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(0.05)


async def test_rg1_a_server_with_the_id_of_a_live_one_ends_with_2(two: FleetProcesses) -> None:
    copy = two.add(INSTANCE_ID="i1", wait_for_ready=False)
    assert await asyncio.to_thread(copy.wait_for_end) == 2
    assert "INSTANCE_ID i1" in copy.output()
    assert listed(two.instances[1])["i1"]["ready"] is True


@pytest.mark.parametrize("lacks", [{"REDIS_URL": ""}, {"WEBSOCKET_SCALING_ENABLED": "false"}])
async def test_rg3_a_server_that_could_not_tell_the_others_ends_with_2(
    two: FleetProcesses, lacks: dict[str, str]
) -> None:
    alone = two.add(wait_for_ready=False, **lacks)
    assert await asyncio.to_thread(alone.wait_for_end) == 2
    assert "serves from this database already" in alone.output()


async def test_pr2_rg2_a_killed_instance_leaves_no_ghosts_and_starts_again_under_its_id(
    two: FleetProcesses,
) -> None:
    first, second = two.instances
    room, (mara, bo) = await table(first, "Bo")
    channel = f"room:{room}"
    async with Raw(first, mara.token) as here, Raw(second, bo.token) as there:
        await here.subscribe(channel)
        await there.subscribe(channel)
        await wait_until_present(here, channel, {mara.id, bo.id})
        second.kill()
        await wait_until_present(here, channel, {mara.id})
        await asyncio.to_thread(second.start)
        async with Raw(second, bo.token) as back:
            await back.subscribe(channel)
            await wait_until_present(here, channel, {mara.id, bo.id})
            await wait_until_present(back, channel, {mara.id, bo.id})


async def test_pr3_a_rolling_restart_leaves_no_ghosts(two: FleetProcesses) -> None:
    room, (mara, bo) = await table(two.instances[0], "Bo")
    channel = f"room:{room}"
    for server, other in (two.instances, two.instances[::-1]):
        async with Raw(server, bo.token) as going, Raw(other, mara.token) as staying:
            await going.subscribe(channel)
            await staying.subscribe(channel)
            await wait_until_present(staying, channel, {mara.id, bo.id})
            assert await asyncio.to_thread(server.stop) == 0
            assert (await going.wait_for_close())[0] == 3001
            began = time.monotonic()
            await wait_until_present(staying, channel, {mara.id})
            assert time.monotonic() - began < GHOSTS_SECONDS
        await asyncio.to_thread(server.start)


async def goodbye(raw: Raw) -> int:
    """The code with which the server ends this connection, however long that takes."""
    await raw.wire.wait_closed()
    return raw.wire.close_code or 0


class Balancer:
    """Deals connections out in turn to the instances that answer."""

    def __init__(self, servers: list[ServerProcess]) -> None:
        self.servers = servers
        self.turn = 0

    def next(self) -> ServerProcess:
        self.turn += 1
        return self.servers[self.turn % len(self.servers)]


async def stay(balancer: Balancer, person: Person, room: str, closed: list[int]) -> None:
    """Be connected, and connect again whenever the server says so; whatever was said is heard, once and in order."""
    position: dict[str, object] = {}
    heard = 0
    while True:
        with suppress(OSError, WebSocketException):
            async with Raw(balancer.next(), person.token) as raw:
                joined = await raw.subscribe(f"room:{room}", recover=bool(position), **position)
                if position:
                    assert joined["recovered"] is True
                missed = joined.get("publications", [])
                heard = int(missed[-1]["offset"]) if missed else int(joined["offset"])
                code = await goodbye(raw)
                for event in raw.events(room):
                    assert event["offset"] == heard + 1
                    heard += 1
                position = {"offset": heard, "epoch": joined["epoch"]}
                closed.append(code)
        await asyncio.sleep(0.1)


async def test_lb1_after_a_third_instance_came_clients_are_spread_evenly_and_miss_nothing(
    two: FleetProcesses,
) -> None:
    count = 60
    room, (mara,) = await table(two.instances[0])
    balancer = Balancer(list(two.instances))
    closed: list[list[int]] = [[] for _ in range(count)]
    staying = [asyncio.create_task(stay(balancer, mara, room, codes)) for codes in closed]

    async def wait_for_spread(names: set[str], off: int) -> None:
        async with asyncio.timeout(EVEN_SECONDS):
            while True:
                known = await asyncio.to_thread(listed, two.instances[0])
                loads = {name: int(str(one["connections"])) for name, one in known.items()}
                mean = count / len(names)
                there = loads.keys() == names and sum(loads.values()) == count
                if there and all(abs(load - mean) <= off for load in loads.values()):
                    return
                assert not [task for task in staying if task.done()]
                mara.command(room, "chat.say", text="still here")
                await asyncio.sleep(0.2)

    try:
        await wait_for_spread({"i1", "i2"}, 2)
        balancer.servers.append(await asyncio.to_thread(two.add))
        await wait_for_spread({"i1", "i2", "i3"}, count // 3 // 10)
        assert {code for codes in closed for code in codes} == {3011}
        assert max(map(len, closed)) == 1
    finally:
        for task in staying:
            task.cancel()
        await asyncio.gather(*staying, return_exceptions=True)
