"""A whole fleet to be hurt: PostgreSQL, Valkey, a balancer and instances, and faulty proxies where the cuts are made.

The bench does not know how other makers' servers are started: whoever calls it passes the means (`Makers`).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from secrets import token_hex
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from tableforge.bench.faulty_proxy import FaultyProxy
from tableforge.bench.websocket import NO_LIMITS
from tableforge.protocol.rest_client import RestClient

DRAIN_SECONDS = "25"
"""As a production has it: a fleet to try is in more of a hurry."""
CLOCK = """
import pathlib, threading, time
real, real_ns, ahead = time.time, time.time_ns, [0.0]
time.time = lambda: real() + ahead[0]
time.time_ns = lambda: real_ns() + int(ahead[0] * 1e9)
def watch():
    while True:
        try:
            ahead[0] = float(pathlib.Path(__file__).with_name("ahead").read_text() or 0)
        except (OSError, ValueError):
            pass
        time.sleep(0.05)
threading.Thread(target=watch, daemon=True).start()
"""
"""Python's own start-up hook for one instance: its wall clock can be set without a right to set the machine's."""


class Service(Protocol):
    """A server that runs on loopback. All of this blocks, within a bound."""

    port: int

    def start(self) -> None:
        """Return when it serves."""
        ...

    def stop(self) -> int:
        """End it as its makers want it to; its exit code."""
        ...

    def kill(self) -> object:
        """kill -9."""
        ...

    def pause(self) -> None:
        """SIGSTOP."""
        ...

    def resume(self) -> None:
        """SIGCONT."""
        ...


class Known(Service, Protocol):
    """One with an address."""

    @property
    def url(self) -> str:
        """The address."""
        ...


class Instance(Service, Protocol):
    """One `tableforge serve`."""

    name: str

    @property
    def pid(self) -> int:
        """The id of its process, while it runs."""
        ...


class Makers(NamedTuple):
    """How services are made, in a folder of their own; an instance from its name, folder and settings, the balancer from
    the instances' names and ports."""

    postgres: Callable[[Path], Known]
    redis: Callable[[Path], Known]
    instance: Callable[[str, Path, Mapping[str, str]], Instance]
    balancer: Callable[[Path, Mapping[str, int]], Known]


class Ground:
    """The fleet. The first instance can be cut off from all others, the second is there to be killed, the clock of the
    third can be set; `road` is a bad way to the balancer for some of the players."""

    postgres: Known
    redis: Known
    balancer: Known
    instances: list[Instance]
    to_postgres: FaultyProxy
    to_redis: FaultyProxy
    to_first: FaultyProxy
    road: FaultyProxy

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.admin_token = token_hex(16)

    def spread(self) -> list[int]:
        """How many connections each serving instance has, as the registry knows. Raises Unavailable, OSError."""
        return list(self.connections().values())

    def connections(self) -> dict[str, int]:
        """The same by the instance's name."""
        caller = self.rest()
        try:
            found = caller.call("GET", "/api/admin/instances", token=self.admin_token)
        finally:
            caller.close()
        return {one["id"]: one["connections"] for one in found["instances"] if one["ready"]}

    def set_clock(self, seconds_ahead: float) -> None:
        """Set the wall clock of the third instance ahead of the others', or behind."""
        (self.folder / "hook" / "ahead").write_text(str(seconds_ahead), "utf-8")

    def rest(self) -> RestClient:
        """A caller of the balancer."""
        return RestClient(self.balancer.url)


@contextlib.asynccontextmanager
async def ground(
    folder: Path,
    makers: Makers,
    settings: Mapping[str, str],
    instances: int = 3,
    profiling: Mapping[str, str] | None = None,
) -> AsyncIterator[Ground]:
    """Start all of it; raises Unavailable when something does not start. `profiling` is for the first instance alone."""
    made = Ground(folder)
    (folder / "hook").mkdir()
    (folder / "hook" / "sitecustomize.py").write_text(CLOCK, "utf-8")
    made.set_clock(0)
    made.postgres, made.redis = makers.postgres(folder / "p"), makers.redis(folder / "r")
    async with contextlib.AsyncExitStack() as stack:
        for service in (made.postgres, made.redis):
            stack.push_async_callback(asyncio.to_thread, service.kill)
            await asyncio.to_thread(service.start)
        made.to_postgres = await stack.enter_async_context(FaultyProxy(made.postgres.port))
        made.to_redis = await stack.enter_async_context(FaultyProxy(made.redis.port))
        made.instances = [
            makers.instance(
                f"i{number}",
                folder / f"i{number}",
                {
                    "DATABASE_URL": through(
                        made.postgres.url, made.to_postgres if not number else None
                    ),
                    "REDIS_URL": through(made.redis.url, made.to_redis if not number else None),
                    "DRAIN_SECONDS": DRAIN_SECONDS,
                    "ADMIN_TOKEN": made.admin_token,
                    **({"PYTHONPATH": str(folder / "hook")} if number == 2 else {}),
                    **(profiling or {} if number == 0 else {}),
                    **NO_LIMITS,
                    **settings,
                },
            )
            for number in range(instances)
        ]
        ends = [
            one.stop if profiling and not number else one.kill
            for number, one in enumerate(made.instances)
        ]
        stack.push_async_callback(_all, ends)
        await _all([one.start for one in made.instances])
        made.to_first = await stack.enter_async_context(FaultyProxy(made.instances[0].port))
        ports = {one.name: one.port for one in made.instances}
        made.balancer = makers.balancer(folder / "b", {**ports, "i0": made.to_first.port})
        stack.push_async_callback(asyncio.to_thread, made.balancer.kill)
        await asyncio.to_thread(made.balancer.start)
        made.road = await stack.enter_async_context(FaultyProxy(made.balancer.port))
        yield made


def through(url: str, proxy: FaultyProxy | None) -> str:
    """The address, by way of a proxy."""
    if proxy is None:
        return url
    parts = urlsplit(url)
    who, at, _ = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{who}{at}127.0.0.1:{proxy.port}").geturl()


async def _all(works: list[Callable[[], object]]) -> None:
    await asyncio.gather(*(asyncio.to_thread(work) for work in works))
