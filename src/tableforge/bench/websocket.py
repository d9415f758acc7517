"""`tableforge bench websocket`: how long a durable move takes to reach every member, and what the server pays for it.

The same connections are used for all of it: the load that was asked for, in several rounds, then rising rates up to where
the server or the crowd is at its end.
"""

import asyncio
import gc
import shutil
import tempfile
import time
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import uvloop

from tableforge.bench.crowd import Crowd, Seen
from tableforge.bench.figures import Audit, Figures, Plan, Spent
from tableforge.bench.floor import Floor, floor
from tableforge.bench.latency import distribution, quantiles
from tableforge.bench.machine import commit, machine
from tableforge.bench.process import (
    MeasuredProcess,
    Memory,
    allow_open_files,
    measured,
    pinned_to,
    two_cores,
)
from tableforge.bench.report import Idle, Report
from tableforge.bench.tables import Seat, history, lay
from tableforge.errors import Unavailable
from tableforge.protocol.rest_client import RestClient

SPARE_FILES = 64
RATES: Final = (1000, 2000, 3000, 4000, 6000, 8000, 10_000, 12_000, 14_000)
QUICK_RATES: Final = (1000, 3000, 6000, 9000)
"""Moves a second in all."""
HALVINGS: Final = 2
"""How often the knee is looked for between the last rate that was well and the first that was not."""
STEP_SECONDS: Final = (4.0, 1.0)
"""Of each rate of the sweep, and in a quick run."""
STEP_WARM_SECONDS: Final = (1.0, 0.3)
GIVEN_UP_MS: Final = 50.0
"""A sweep ends where delivery takes so long."""
OVERLOAD: Final = 10
OVERLOAD_SECONDS: Final = 2.0
QUICK_FLOOR: Final = 0.2
LOOKS: Final = 5
"""How often memory is looked at while everybody connects."""
NOT_PROFILED: Final[Mapping[str, str]] = {}
NO_LIMITS = {
    "LIMIT_COMMANDS": "0",
    "LIMIT_LIVE": "0",
    "LIMIT_SESSIONS": "0",
    "LIMIT_CONNECTIONS": "0",
    "LIMIT_CONNECTIONS_INSTANCE": "0",
}
PERSISTENT_TEMPORARY = Path("/var/tmp")  # noqa: S108 - a folder of our own is made inside
"""Lies on a disk where /tmp may be memory."""


def run(
    plan: Plan,
    *,
    command: str,
    progress: Callable[[str], None],
    profiling: Mapping[str, str] = NOT_PROFILED,
) -> Report:
    """Measure; raises Unavailable when the server does not start or nobody can connect.

    `profiling` goes into the server's environment besides the settings.
    """
    allow_open_files(plan.users + SPARE_FILES)
    parent = plan.folder or (PERSISTENT_TEMPORARY if PERSISTENT_TEMPORARY.is_dir() else None)
    folder = Path(tempfile.mkdtemp(prefix="tableforge-bench-", dir=parent))
    described = machine(folder)
    cores = two_cores()
    server_core, own_core = cores or (None, None)
    try:
        with pinned_to(own_core), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(
                Run(plan, folder, server_core, progress, profiling).whole(
                    command,
                    described,
                    "one for the server, one for the crowd" if cores else "one for both",
                )
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Loaded(NamedTuple):
    """What the load found out, in the order in which it was found."""

    idle: tuple[Idle, ...]
    memory: Memory
    rounds: tuple[Figures, ...]
    together: Figures
    steps: tuple[Figures, ...]
    overload: Figures | None
    audit: Audit


class Run:
    """One measurement."""

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        core: int | None,
        progress: Callable[[str], None],
        profiling: Mapping[str, str],
    ) -> None:
        self._plan = plan
        self._folder = folder
        self._core = core
        self._progress = progress
        self._profiling = profiling
        self._acknowledged = array("Q")

    async def whole(self, command: str, described: Mapping[str, str], cores: str) -> Report:
        """Floor, load, floor."""
        before = await self._floor()
        settings = {"PORT": "0", "TABLEFORGE_DATA": str(self._folder / "data"), **NO_LIMITS}
        with measured(
            "tableforge",
            ["serve"],
            folder=self._folder,
            environment={**settings, **self._profiling, **self._plan.settings},
            core=self._core,
            marker="http://",
        ) as server:
            found = await self._load(server)
        after = await self._floor()
        return Report(
            command=command,
            commit=commit(),
            machine=described,
            plan=self._plan,
            cores=cores,
            floor_before=before,
            floor_after=after,
            idle=found.idle,
            memory=found.memory,
            rounds=found.rounds,
            figures=found.together,
            steps=found.steps,
            overload=found.overload,
            audit=found.audit,
        )

    async def _floor(self) -> Floor:
        self._progress("Measuring what the machine can do at best ...")
        plan = self._plan
        try:
            return await floor(
                self._folder,
                core=self._core,
                group=plan.room_size,
                groups=max(1, plan.users // plan.room_size),
                rate=plan.moves_a_second,
                part=QUICK_FLOOR if plan.quick else 1.0,
            )
        except TimeoutError as error:
            raise Unavailable(
                "The measurement did not go on.",
                "The machine is too busy to pass bare bytes at this rate.",
                "Stop what else runs on it, or measure with a lower rate.",
            ) from error

    async def _load(self, server: MeasuredProcess) -> Loaded:
        plan, say = self._plan, self._progress
        say(f"Server {server.pid} serves at {server.address}")
        caller = RestClient(server.address)
        seats = self._lay(caller)
        caller.close()
        crowd = Crowd(
            [(caller.host, caller.port)],
            seats,
            rate=plan.rate,
            warm_up=round(plan.warm_up_seconds * plan.rate),
            rounds=plan.rounds_of_each,
        )
        idle = await self._seated(crowd, server)
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            rounds, heard = [], []
            for number in range(plan.repeats):
                say(
                    f"Round {number + 1} of {plan.repeats}: {plan.seconds / plan.repeats:.3g} s"
                    f" at {plan.moves_a_second:g} moves a second"
                )
                if number:
                    crowd.again(rate=plan.rate, warm_up=0, rounds=plan.rounds_of_each)
                rounds.append(await self._play(crowd, server, plan.moves_a_second))
                heard.append(crowd.seen)
            memory = server.memory()
            steps = await self._sweep(crowd, server) if plan.sweep else []
            overload = await self._overload(crowd, server, steps) if plan.overload else None
        finally:
            gc.enable()
        say("Reading the log back ...")
        caller = RestClient(server.address)
        one_a_room = {seat.room: seat for seat in seats}.values()
        audit = audited(self._acknowledged, (history(caller, seat) for seat in one_a_room))
        caller.close()
        crowd.leave()
        together = _figures(
            plan.moves_a_second, plan.room_size, heard, [one.spent for one in rounds]
        )
        return Loaded(idle, memory, tuple(rounds), together, tuple(steps), overload, audit)

    def _lay(self, caller: RestClient) -> list[Seat]:
        plan = self._plan

        def seated(number: int) -> None:
            if number % 200 == 0 or number == plan.users:
                self._progress(f"{number} of {plan.users} users have a seat and a piece.")

        return lay(caller, users=plan.users, room_size=plan.room_size, progress=seated)

    async def _seated(self, crowd: Crowd, server: MeasuredProcess) -> tuple[Idle, ...]:
        """Connect everybody, with a look at the server's memory now and then."""
        every = self._plan.users // LOOKS
        idle = [Idle(0, server.memory().proportional_bytes)]

        def look(count: int) -> None:
            if count - idle[-1].users >= every or count == self._plan.users:
                idle.append(Idle(count, server.memory().proportional_bytes))

        await crowd.sit_down(look)
        return tuple(idle)

    async def _play(self, crowd: Crowd, server: MeasuredProcess, rate: float) -> Figures:
        """All moves that the crowd was last asked for."""
        await crowd.play(crowd.first)
        before = clocks(server)
        await crowd.play(crowd.total)
        if not await crowd.settle():
            self._progress("Some moves never arrived.")
        spent = Spent(*(now - then for now, then in zip(clocks(server), before, strict=True)))
        self._acknowledged.extend(crowd.seen.acknowledged)
        return _figures(rate, self._plan.room_size, [crowd.seen], [spent])

    async def _sweep(self, crowd: Crowd, server: MeasuredProcess) -> list[Figures]:
        """Rising rates until one is too much; then between the last that was well and the first that was not."""
        quick = self._plan.quick
        steps: list[Figures] = []
        for rate in QUICK_RATES if quick else RATES:
            steps.append(await self._step(crowd, server, rate))
            last = steps[-1]
            if last.invalid or not last.clean or last.others.p95_ms > GIVEN_UP_MS:
                break
        for _ in range(0 if quick else HALVINGS):
            if not steps[-1].clean:
                break
            well = max((one.rate for one in steps if one.well), default=0.0)
            ill = min((one.rate for one in steps if one.rate > well), default=0.0)
            if not well or ill - well < RATES[0] / 2:
                break
            steps.append(await self._step(crowd, server, (well + ill) / 2))
        return sorted(steps, key=lambda one: one.rate)

    async def _step(self, crowd: Crowd, server: MeasuredProcess, rate: float) -> Figures:
        self._progress(f"Sweep: {rate:.0f} moves a second")
        each = rate / self._plan.users
        quick = self._plan.quick
        crowd.again(
            rate=each,
            warm_up=max(1, round(STEP_WARM_SECONDS[quick] * each)),
            rounds=max(1, round(STEP_SECONDS[quick] * each)),
        )
        return await self._play(crowd, server, rate)

    async def _overload(
        self, crowd: Crowd, server: MeasuredProcess, steps: Sequence[Figures]
    ) -> Figures | None:
        """Ten times the most that was well; None where nothing was, or a step before never came to its end."""
        well = max((one.rate for one in steps if one.well), default=0.0)
        if not well or not all(one.clean for one in steps):
            return None
        rate = OVERLOAD * well
        self._progress(f"Overload: {rate:.0f} moves a second are due")
        each = rate / self._plan.users
        crowd.again(rate=each, warm_up=0, rounds=max(1, round(OVERLOAD_SECONDS * each)))
        return await self._play(crowd, server, rate)


def clocks(server: MeasuredProcess) -> tuple[float, ...]:
    """In the order of `Spent`."""
    user, system = server.user_and_system_seconds()
    return (time.monotonic(), server.cpu_seconds(), user, system, time.process_time())


def audited(acknowledged: Sequence[int], histories: Iterable[Iterable[tuple[int, str]]]) -> Audit:
    """Compare every room's log with what was acknowledged: the offset of each move, 0 where there was no answer.

    A history has offset and command id of each event, in order.
    """
    found: dict[int, int] = {}
    events = repeated = gaps = misplaced = 0
    for log in histories:
        last = 0
        for offset, name in log:
            events += 1
            gaps += offset != last + 1
            last = offset
            if name.startswith("m"):
                move = int(name[1:])
                repeated += move in found
                found[move] = offset
                misplaced += acknowledged[move] not in (0, offset)
    promised = [move for move, offset in enumerate(acknowledged) if offset]
    missing = sum(move not in found for move in promised)
    return Audit(events, len(promised), missing, misplaced, repeated, gaps)


def _figures(rate: float, room_size: int, heard: Sequence[Seen], spent: Sequence[Spent]) -> Figures:
    """What rounds at one rate came to, taken together."""
    others, own, replies, lateness = (array("Q") for _ in range(4))
    for seen in heard:
        others += seen.others
        own += seen.own
        replies += seen.replies
        lateness += seen.lateness
    moves = len(lateness)
    refused = sum(seen.refused for seen in heard)
    delivered = sum(seen.delivered for seen in heard)
    return Figures(
        rate=rate,
        moves=moves,
        delivered=delivered,
        delivered_to_others=len(others),
        refused=refused,
        missing=(moves - refused) * room_size - delivered,
        errors=sum(seen.errors for seen in heard),
        first_error=next((seen.first_error for seen in heard if seen.first_error), ""),
        out_of_order=sum(seen.out_of_order for seen in heard),
        reconnects=sum(seen.reconnects for seen in heard),
        others=quantiles(others),
        everybody=quantiles(others + own),
        replies=quantiles(replies),
        sender_lateness=quantiles(lateness),
        curve=distribution(others),
        spent=Spent(
            seconds=sum(one.seconds for one in spent),
            cpu_seconds=sum(one.cpu_seconds for one in spent),
            user_seconds=sum(one.user_seconds for one in spent),
            system_seconds=sum(one.system_seconds for one in spent),
            crowd_seconds=sum(one.crowd_seconds for one in spent),
        ),
    )
