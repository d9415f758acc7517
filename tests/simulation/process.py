"""Processes that share one simulated clock: each has an event loop of its own, and can be stopped, killed and started.

Nothing waits for real time. Of all loops the one with the earliest thing to do takes its turn, and the clock jumps to it;
what makes runs differ are the delays that the seed draws.
"""

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from math import inf
from typing import Any

import pytest

from tableforge.api import centrifuge
from tableforge.cache import fetching
from tableforge.eventlog import group_commit
from tableforge.rooms import cached, engine, following, given, loading, turns

EPOCH = 1_900_000_000.0
"""What the wall clock shows when a run begins, in seconds since 1970."""


class NoSockets:
    """The selector of a loop that waits for nothing but its timers: it never waits."""

    def select(self, timeout: float | None) -> list[Any]:
        """Nothing came."""
        return []


class Process(asyncio.BaseEventLoop):
    """The event loop of one process. `stopped_until` is when it goes on after SIGSTOP; a dead one never does."""

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]
    _run_once: Callable[[], None]

    def __init__(self, clock: "Clock", name: str) -> None:
        super().__init__()
        self._selector = NoSockets()
        self._clock_resolution = 1e-9
        self._world_clock = clock
        self.name = name
        self.stopped_until = 0.0
        self.dead = False
        self.wall_ahead = 0.0

    def time(self) -> float:
        """The simulated time."""
        return self._world_clock.now

    def due(self) -> float:
        """When it next has something to do."""
        if self._ready:
            return max(self._world_clock.now, self.stopped_until)
        if self._scheduled:
            return max(self._scheduled[0].when(), self.stopped_until)
        return inf

    def turn(self) -> None:
        """Do what is due."""
        with self.running():
            self._run_once()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Whatever runs inside runs in this process."""
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            yield
        finally:
            asyncio._set_running_loop(before)

    def call_exception_handler(self, context: Mapping[str, Any]) -> None:
        """What nobody caught is a failure of the run; what a dead process left behind is not."""
        if not self.dead:
            self._world_clock.complain(
                f"{self.name}: {context.get('message')}: {context.get('exception')!r}"
            )

    def run_in_executor(  # type: ignore[override]  # there are no threads here
        self, executor: object, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Run it at once."""
        future = self.create_future()
        future.set_result(func(*args))
        return future

    def _process_events(self, events: list[Any]) -> None:
        """There are none."""

    def bury(self) -> None:
        """Let go of everything; what still runs is cancelled in its own loop, and heard by nobody."""
        self.dead = True
        for _ in range(20):
            tasks = asyncio.all_tasks(self)
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            self.turn()
        self._scheduled.clear()
        self._ready.clear()
        self.close()


class Clock:
    """The simulated time, and the processes that live in it. `chance` is the run's only source of chance."""

    def __init__(self, seed: int, *, traced: bool = False) -> None:
        self.seed = seed
        self.now = 0.0
        self.chance = random.Random(seed)
        self.processes: list[Process] = []
        self._buried: list[Process] = []
        self.failures: list[str] = []
        self.trace: list[str] | None = [] if traced else None

    def start(self, name: str) -> Process:
        """Another process."""
        process = Process(self, name)
        self.processes.append(process)
        return process

    def kill(self, process: Process) -> None:
        """End a process at once: it does nothing more, not even clean up."""
        process.dead = True
        self.processes.remove(process)
        self._buried.append(process)

    def run(self, done: Callable[[], bool], until: float) -> bool:
        """Let time pass until `done`, asked after each step, or until that time; says whether it was done."""
        while not done():
            soonest = min(self.processes, key=Process.due)
            due = soonest.due()
            if due > until:
                self.now = until
                return done()
            if due > self.now:
                self.now = due
            soonest.turn()
        return True

    def complain(self, what: str) -> None:
        """Note what must not be."""
        self.note(f"WRONG: {what}")
        self.failures.append(f"at {self.now:.6f} s: {what}")

    def note(self, what: str) -> None:
        """Add a line to the trace, if one is wanted."""
        if self.trace is not None:
            self.trace.append(f"{self.now:10.6f} {what}")

    def close(self) -> None:
        """Bury all processes."""
        for process in [*self.processes, *self._buried]:
            process.bury()


class Time:
    """Stands in for the module `time` in what runs inside the simulation."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def monotonic(self) -> float:
        """See the module."""
        return self._clock.now

    def time(self) -> float:
        """See the module; each process has a wall clock of its own, which may be wrong."""
        running = asyncio._get_running_loop()
        ahead = running.wall_ahead if isinstance(running, Process) else 0.0
        return EPOCH + self._clock.now + ahead

    def time_ns(self) -> int:
        """See the module."""
        return int(self.time() * 1e9)


class Secrets:
    """Stands in for the module `secrets`: what is drawn comes from the seed."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def token_bytes(self, count: int) -> bytes:
        """See the module."""
        return self._chance.randbytes(count)

    def token_hex(self, count: int) -> str:
        """See the module."""
        return self._chance.randbytes(count).hex()


class Journal:
    """Stands in for a module's logger: an error in the log of a server is a failure of the run."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def error(self, event: str, **more: object) -> None:
        """See structlog."""
        running = asyncio._get_running_loop()
        if isinstance(running, Process) and not running.dead:
            self._clock.complain(f"{running.name} logged: {event} {more}")

    def warning(self, event: str, **more: object) -> None:
        """See structlog."""
        self._clock.note(f"logged: {event} {more}")

    info = warning


@contextlib.contextmanager
def simulated(clock: Clock) -> Iterator[None]:
    """The product's modules see this clock's time and chance, and log into its journal."""
    journal = Journal(clock)
    with pytest.MonkeyPatch.context() as patch:
        for module in (engine, following, given, loading):
            patch.setattr(module, "time", Time(clock))
        for other in (engine, given, centrifuge):
            patch.setattr(other, "secrets", Secrets(clock.chance))
        patch.setattr(turns, "CHANCE", clock.chance)
        for logging in (cached, engine, following, centrifuge, group_commit, fetching):
            patch.setattr(logging, "log", journal)
        yield
