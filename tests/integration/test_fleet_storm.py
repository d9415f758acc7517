"""Everybody is cut off at once and comes back: what that costs is bounded by the rooms, not by the players."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from tableforge.bench.chaos import even
from tableforge.bench.ground import Ground, Instance, ground
from tableforge.bench.process import allow_open_files
from tableforge.bench.steady import Company
from tableforge.bench.tables import Seat, history, lay
from tableforge.cli.measuring_chaos import servers_of_a_fleet
from tableforge.ops.servers import scratch

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOM_SIZE = 10
INSTANCES = 2
SERVED_SECONDS = 60.0
MEMORY_BYTES = 512 * 2**20
LOADING = ("log_read", "log_snapshot", "log_head")
STATEMENT = re.compile(r'^db_query_duration_seconds_count\{statement="([^"]+)"\} (\S+)$', re.M)


def statements(instance: Instance) -> Counter[str]:
    """How often an instance ran each statement since it started."""
    text = httpx.get(f"http://127.0.0.1:{instance.port}/metrics", timeout=30).text
    return Counter({name: int(float(count)) for name, count in STATEMENT.findall(text)})


def peak_bytes(instance: Instance) -> int:
    status = Path(f"/proc/{instance.pid}/status").read_text("ascii", "replace")
    [line] = [one for one in status.splitlines() if one.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


class Storm:
    """A fleet with everybody at their tables, on roads that can all be cut at once."""

    def __init__(self, fleet: Ground, company: Company) -> None:
        self.fleet = fleet
        self.company = company
        self.rooms = len(company.tables)

    async def play(self) -> None:
        """Until everybody was answered."""
        company = self.company
        wanted = company.acknowledged + 2 * len(company.players)
        company.resting = False
        await company.until(lambda: company.acknowledged >= wanted, SERVED_SECONDS)
        await company.rest(SERVED_SECONDS)

    async def counts(self) -> list[Counter[str]]:
        return [await asyncio.to_thread(statements, one) for one in self.fleet.instances]

    async def back(self) -> float:
        """Wait until everybody is on their channel again; seconds."""
        began = time.monotonic()
        await self.company.until(
            lambda: all(player.listening for player in self.company.players), SERVED_SECONDS
        )
        return time.monotonic() - began

    async def check(self) -> None:
        """Nobody lost anything."""

        def read() -> dict[str, list[tuple[int, str]]]:
            caller = self.fleet.rest()
            try:
                return {
                    room: list(history(caller, table.seat, table.read))
                    for room, table in self.company.tables.items()
                }
            finally:
                caller.close()

        self.company.compare(await asyncio.to_thread(read))
        assert self.company.wrongs.said == []
        for instance in self.fleet.instances:
            assert peak_bytes(instance) < MEMORY_BYTES


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def storm(soak: bool) -> AsyncIterator[Storm]:
    players = 1000 if soak else 200
    allow_open_files(8 * players + 512)
    with scratch() as folder:
        async with ground(folder, servers_of_a_fleet(), {}, INSTANCES) as fleet:

            def seat() -> list[Seat]:
                caller = fleet.rest()
                try:
                    return lay(
                        caller, users=players, room_size=ROOM_SIZE, progress=lambda number: None
                    )
                finally:
                    caller.close()

            seats = await asyncio.to_thread(seat)
            company = Company(seats, [("127.0.0.1", fleet.road.port)] * players, rate=0.5)
            try:
                await company.sit_down(SERVED_SECONDS)
                yield Storm(fleet, company)
            finally:
                await company.leave()


async def test_all_players_come_back_at_once_and_rooms_are_loaded_once(
    storm: Storm, say: Callable[[str], None]
) -> None:
    await storm.play()
    await even(storm.fleet)
    before = await storm.counts()
    storm.fleet.road.cut()
    await storm.company.until(
        lambda: not any(player.listening for player in storm.company.players), SERVED_SECONDS
    )
    took = await storm.back()
    after = await storm.counts()
    ran = [late - early for early, late in zip(before, after, strict=True)]
    say(f"all {len(storm.company.players)} were back after {took:.2f} s; statements: {ran}")
    for one in ran:
        assert sum(one[name] for name in LOADING) <= len(LOADING) * storm.rooms
    await storm.play()
    await storm.check()


async def test_all_players_come_back_to_instances_that_know_no_room_yet(
    storm: Storm, say: Callable[[str], None]
) -> None:
    await storm.play()
    instances = storm.fleet.instances
    await asyncio.gather(*(asyncio.to_thread(one.kill) for one in instances))
    await asyncio.gather(*(asyncio.to_thread(one.start) for one in instances))
    took = await storm.back()
    ran = await storm.counts()
    say(
        f"all {len(storm.company.players)} were back after {took:.2f} s from the last start; statements: {ran}"
    )
    for one in ran:
        for name in LOADING:
            assert one[name] <= 2 * storm.rooms, name
    await storm.play()
    await storm.check()
