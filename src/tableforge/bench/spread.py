"""How evenly a balancer and the instances spread players, and whether they are spread again after a rolling restart."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop

from tableforge.bench.chaos import EVEN_SECONDS, LOOK_SECONDS, RECOVERY_SECONDS, playing
from tableforge.bench.chaos import Plan as Fleet
from tableforge.bench.document import Axis, Mark, Plot, Series
from tableforge.bench.faults import FAULTS
from tableforge.bench.ground import Ground, Makers
from tableforge.bench.targets import DISTRIBUTION
from tableforge.config import without_secrets
from tableforge.errors import Unavailable

RESTART: Final = next(fault for fault in FAULTS if fault.name == "rolling-restart")


@dataclass(frozen=True, slots=True)
class Spread:
    """Connections by instance once all sat, and once all had been restarted and the load was even again, if it ever was;
    `timeline` has seconds and connections of each instance, `marks` what happened when."""

    seated: Mapping[str, int]
    restarted: Mapping[str, int]
    evened_seconds: float | None
    timeline: Mapping[str, tuple[tuple[float, float], ...]]
    marks: tuple[tuple[float, str], ...]
    wrongs: tuple[str, ...]
    settings: Mapping[str, str]
    """Of the instances, other than by default."""

    @property
    def off_percent(self) -> float:
        """How far an instance was off the mean at most, at both moments."""
        return max(_off(self.seated), _off(self.restarted))

    def plot(self) -> Plot:
        """Connections over time."""
        return Plot(
            name="scaling-spread",
            title="Players on each instance, through a rolling restart",
            kind="line",
            x=Axis("time", "s"),
            y=Axis("connections", ""),
            series=tuple(Series(name, points) for name, points in self.timeline.items()),
            marks=tuple(Mark(*mark) for mark in self.marks),
        )


def _off(connections: Mapping[str, int]) -> float:
    mean = sum(connections.values()) / max(1, len(connections)) or 1.0
    return max((100 * abs(one - mean) / mean for one in connections.values()), default=100.0)


def measure(
    folder: Path, makers: Makers, fleet: Fleet, settings: Mapping[str, str], *, quick: bool
) -> Spread:
    """Seat players behind a balancer, restart one instance after the other, and look; raises Unavailable."""

    async def whole() -> Spread:
        async with playing(fleet, folder, makers, settings) as (ground, company):
            seated, _ = await settled(ground, fleet.players)
            began = time.monotonic()
            marks: list[tuple[float, str]] = []
            seen: dict[str, list[tuple[float, float]]] = {name: [] for name in seated}

            def mark(label: str) -> float:
                marks.append((round(time.monotonic() - began, 2), label))
                return time.monotonic()

            async with _watched(ground, seen, began):
                mark("restart begins")
                async with asyncio.timeout(10 * RECOVERY_SECONDS):
                    await RESTART.doing(
                        ground, company, RESTART.quick if quick else RESTART.seconds
                    )
                restarted = mark("all restarted")
                with contextlib.suppress(TimeoutError):
                    await company.until(company.well, RECOVERY_SECONDS)
                found, evened = await settled(ground, fleet.players)
                if evened is not None:
                    mark("even again")
            return Spread(
                seated,
                found,
                None if evened is None else max(0.0, evened - restarted),
                {name: tuple(points) for name, points in seen.items()},
                tuple(marks),
                tuple(company.wrongs.said),
                without_secrets(settings),
            )

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(whole())


async def settled(ground: Ground, players: int) -> tuple[Mapping[str, int], float | None]:
    """Wait until all players are counted on instances that have equal shares: these, and the moment; without one, what
    there was in the end. The registry is a little late, so that players who move are counted nowhere, or twice."""
    deadline = time.monotonic() + EVEN_SECONDS
    found: Mapping[str, int] = {}
    while time.monotonic() < deadline:
        with contextlib.suppress(Unavailable, OSError):
            found = await asyncio.to_thread(ground.connections)
            serving = len(found) == len(ground.instances) and sum(found.values()) == players
            if serving and _off(found) <= DISTRIBUTION.limit:
                return found, time.monotonic()
        await asyncio.sleep(LOOK_SECONDS)
    return found, None


@contextlib.asynccontextmanager
async def _watched(
    ground: Ground, seen: Mapping[str, list[tuple[float, float]]], began: float
) -> AsyncIterator[None]:
    """Note how many connections each instance has, for the length of a block; one that does not serve has none."""

    async def watch() -> None:
        while True:
            with contextlib.suppress(Unavailable, OSError):
                found = await asyncio.to_thread(ground.connections)
                at = round(time.monotonic() - began, 2)
                for name, points in seen.items():
                    points.append((at, found.get(name, 0)))
            await asyncio.sleep(LOOK_SECONDS)

    watching = asyncio.get_running_loop().create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


Measure = Callable[[], Spread]
"""Starts a fleet and looks, as `measure` with all that it needs."""
