"""What this machine can do at best, measured in the same run: a bare durable commit, and bytes over the loopback.

Figures of the server mean nothing on a busy or unknown machine; their ratio to these does.
"""

import asyncio
import contextlib
import sqlite3
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tableforge.bench.latency import Quantiles, quantiles
from tableforge.bench.metronome import ticking
from tableforge.bench.process import MeasuredProcess, measured

ROW_BYTES = 260
MARKER = "echo:"
COMMIT_SECONDS = 1.5
ECHO_SECONDS = 1.0
FAN_OUT_SECONDS = 2.0
TICK_MICROSECONDS = 250
ARRIVAL_SECONDS = 60.0
LIKE_THE_SERVER = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA wal_autocheckpoint=4000",
    "CREATE TABLE IF NOT EXISTS events (room INTEGER, seq INTEGER, data BLOB)",
    "CREATE UNIQUE INDEX IF NOT EXISTS events_order ON events (room, seq)",
)


@dataclass(frozen=True, slots=True)
class Commits:
    """Durable commits one after the other, and the CPU of one."""

    rows: int
    latency: Quantiles
    cpu_us: float


@dataclass(frozen=True, slots=True)
class FanOut:
    """Bare frames from one connection to all of its group: latency and CPU for each that was delivered."""

    group: int
    messages_per_second: float
    latency: Quantiles
    cpu_us: float


@dataclass(frozen=True, slots=True)
class Floor:
    """All of it, at one moment."""

    commit: Commits
    commit_of_ten: Commits
    echo: FanOut
    fan_out: FanOut


async def floor(
    folder: Path, *, core: int | None, group: int, rate: float, groups: int, part: float = 1.0
) -> Floor:
    """Measure the floor in some seconds: `rate` messages a second in all, over `groups` groups of `group`.

    `part` is which part of the usual time to take.
    """
    return Floor(
        commit=commits(folder, 1, part * COMMIT_SECONDS),
        commit_of_ten=commits(folder, 10, part * COMMIT_SECONDS),
        echo=await echoes(folder, core=core, seconds=part * ECHO_SECONDS),
        fan_out=await fan_out(
            folder,
            core=core,
            group=group,
            rate=rate,
            groups=groups,
            seconds=part * FAN_OUT_SECONDS,
        ),
    )


def commits(folder: Path, rows: int, seconds: float = COMMIT_SECONDS) -> Commits:
    """Commit this many rows at a time, with the server's settings, on the server's disk."""
    path = folder / "floor.sqlite3"
    data = bytes(ROW_BYTES)
    taken = array("Q")
    number = 0
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in LIKE_THE_SERVER:
            connection.execute(statement)
        cpu, began = time.process_time(), time.monotonic()
        while time.monotonic() - began < seconds:
            start = time.perf_counter_ns()
            connection.execute("BEGIN IMMEDIATE")
            batch = [(row, number, data) for row in range(rows)]
            connection.executemany("INSERT INTO events VALUES (?, ?, ?)", batch)
            connection.execute("COMMIT")
            taken.append((time.perf_counter_ns() - start) // 1000)
            number += 1
        cpu = time.process_time() - cpu
    for left in folder.glob("floor.sqlite3*"):
        left.unlink()
    return Commits(rows, quantiles(taken), cpu * 1_000_000 / number)


class Receiver(asyncio.Protocol):
    """Takes the time of every message: the moment when it was sent stands in front of it.

    `heard` is called after each; all receivers of a measurement share `taken`, in microseconds.
    """

    def __init__(self, taken: "array[int]", heard: Callable[[], None]) -> None:
        self._taken = taken
        self._heard = heard
        self._rest = b""
        self.transport: asyncio.Transport | None = None
        self.greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        # uvloop's transports are none by inheritance.
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if not self.greeted.done():
            self.greeted.set_result(None)
            data = data[1:]
        data = self._rest + data
        now = time.monotonic_ns()
        whole = len(data) - len(data) % ROW_BYTES
        for at in range(0, whole, ROW_BYTES):
            self._taken.append((now - int.from_bytes(data[at : at + 8], "big")) // 1000)
        self._rest = data[whole:]
        if whole:
            self._heard()

    def send(self) -> None:
        """Send one message; what the server itself sends is as long."""
        assert self.transport is not None
        self.transport.write(time.monotonic_ns().to_bytes(8, "big") + bytes(ROW_BYTES - 8))


@contextlib.contextmanager
def echoing(group: int, folder: Path, core: int | None) -> Iterator[MeasuredProcess]:
    """The echo server for the length of a block."""
    module = "tableforge.bench.echo"
    with measured(
        module, [str(group)], folder=folder, environment={}, core=core, marker=MARKER
    ) as child:
        yield child


async def echoes(folder: Path, *, core: int | None, seconds: float = ECHO_SECONDS) -> FanOut:
    """One message after the other over one connection."""
    taken = array("Q")
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    until = 0.0

    def heard() -> None:
        if time.monotonic() < until:
            receiver.send()
        else:
            done.set()

    with echoing(1, folder, core) as child:
        port = int(child.address.removeprefix(MARKER))
        transport, receiver = await loop.create_connection(
            lambda: Receiver(taken, heard), "127.0.0.1", port
        )
        await receiver.greeted
        cpu, began = child.cpu_seconds(), time.monotonic()
        until = began + seconds
        receiver.send()
        async with asyncio.timeout(seconds + ARRIVAL_SECONDS):
            await done.wait()
        took = time.monotonic() - began
        cpu = child.cpu_seconds() - cpu
        transport.close()
    return FanOut(1, len(taken) / took, quantiles(taken), cpu * 1_000_000 / len(taken))


async def fan_out(
    folder: Path,
    *,
    core: int | None,
    group: int,
    rate: float,
    groups: int,
    seconds: float = FAN_OUT_SECONDS,
) -> FanOut:
    """Messages at an even rate, each to all of a group."""
    taken = array("Q")
    loop = asyncio.get_running_loop()
    total = max(1, int(rate * seconds))
    sent = 0
    done = asyncio.Event()

    def heard() -> None:
        if len(taken) == total * group:
            done.set()

    def tick() -> None:
        nonlocal sent
        due = min(total, int((time.monotonic() - began) * rate))
        while sent < due:
            receivers[sent * 7 % len(receivers)].send()
            sent += 1

    with echoing(group, folder, core) as child:
        port = int(child.address.removeprefix(MARKER))
        receivers = []
        for _ in range(group * groups):
            _, receiver = await loop.create_connection(
                lambda: Receiver(taken, heard), "127.0.0.1", port
            )
            receivers.append(receiver)
        async with asyncio.timeout(ARRIVAL_SECONDS):
            await asyncio.gather(*(receiver.greeted for receiver in receivers))
        cpu, began = child.cpu_seconds(), time.monotonic()
        with ticking(TICK_MICROSECONDS, tick):
            async with asyncio.timeout(seconds + ARRIVAL_SECONDS):
                await done.wait()
        cpu = child.cpu_seconds() - cpu
        for receiver in receivers:
            assert receiver.transport is not None
            receiver.transport.close()
    return FanOut(group, rate, quantiles(taken), cpu * 1_000_000 / len(taken))
