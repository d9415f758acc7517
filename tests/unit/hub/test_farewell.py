"""Sending clients away: in which order, at which pace, and until when (rule LB5 of `docs/spec.md`)."""

import asyncio

import pytest

from tableforge.hub.farewell import PACE_MIN, cheapest_first, send_away
from tableforge.hub.hub import Hub
from tableforge.protocol.close_codes import CloseCode
from tests.virtual_time import run
from tests.wire import Wire, connected


async def test_lb5_those_whose_way_back_costs_least_go_first() -> None:
    hub = Hub()
    behind = connected(hub, Wire(waiting_bytes=9))
    many = connected(hub, Wire(), "room:a", "room:a:live", "room:b")
    crowded = connected(hub, Wire(), "room:full")
    others = [connected(hub, Wire(), "room:full", "room:x", "room:y", "room:z") for _ in range(5)]
    quiet = connected(hub, Wire(), "room:quiet")
    nowhere = connected(hub, Wire())
    assert cheapest_first(hub.sessions(), hub)[:4] == [nowhere, quiet, crowded, many]
    assert cheapest_first(hub.sessions(), hub)[-1] is behind
    assert len(cheapest_first([behind, *others], hub)) == 6


@pytest.mark.parametrize(
    ("count", "over_seconds", "least", "most"),
    [(3, 20, 0, 0.3), (400, 20, 6, 8.5), (4_000, 20, 19, 20.2), (4_000, 0, 0, 0.2), (0, 20, 0, 0)],
)
def test_lb5_goodbyes_are_spread_over_the_time_and_end_early_when_few_are_left(
    count: int, over_seconds: float, least: float, most: float
) -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        hub = Hub()
        connections: set[Wire] = set()
        wires = [Wire(connections) for _ in range(count)]
        for wire in wires[::2]:
            connected(hub, wire)
        await send_away(lambda: connections, hub, over_seconds=over_seconds)
        assert least <= loop.time() <= most
        times = [wire.closed[0] for wire in wires if wire.closed is not None]
        assert len(times) == count
        assert all(wire.closed and wire.closed[1] is CloseCode.SHUTDOWN for wire in wires)
        if over_seconds:
            pace = max(count / over_seconds, PACE_MIN)
            for second in range(int(over_seconds)):
                assert sum(second <= time < second + 1 for time in times) <= 1.25 * pace + 1

    run(story())


def test_lb5_who_has_not_said_who_they_are_goes_first_and_who_comes_meanwhile_goes_too() -> None:
    async def story() -> None:
        hub = Hub()
        connections: set[Wire] = set()
        known = [Wire(connections) for _ in range(100)]
        for wire in known:
            connected(hub, wire)
        strangers = [Wire(connections) for _ in range(10)]
        leaving = asyncio.create_task(send_away(lambda: connections, hub, over_seconds=10))
        await asyncio.sleep(0.5)
        late = [Wire(connections) for _ in range(5)]
        await leaving
        times = [wire.closed[0] if wire.closed else -1.0 for wire in (*strangers, *known, *late)]
        assert min(times) >= 0
        assert max(times[:10]) <= min(times[10:])
        assert connections == {wire for wire in connections if wire.closed is not None}

    run(story())
