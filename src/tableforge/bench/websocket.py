"""`tableforge bench websocket`: how long a durable move takes to reach every member, and what the server pays for it."""

import asyncio
import gc
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import uvloop

from tableforge.bench.crowd import Crowd, Seen
from tableforge.bench.figures import Audit, Figures, Plan, Report
from tableforge.bench.floor import Floor, floor
from tableforge.bench.latency import quantiles
from tableforge.bench.machine import commit, machine
from tableforge.bench.process import (
    MeasuredProcess,
    Memory,
    allow_open_files,
    measured,
    pinned_to,
    two_cores,
)
from tableforge.bench.tables import history, lay
from tableforge.errors import Unavailable
from tableforge.protocol.rest_client import RestClient

SPARE_FILES = 64
NO_LIMITS = {
    "LIMIT_COMMANDS": "0",
    "LIMIT_LIVE": "0",
    "LIMIT_SESSIONS": "0",
    "LIMIT_CONNECTIONS": "0",
    "LIMIT_CONNECTIONS_INSTANCE": "0",
}
PERSISTENT_TEMPORARY = Path("/var/tmp")  # noqa: S108 - a folder of our own is made inside
"""Lies on a disk where /tmp may be memory."""


def run(plan: Plan, *, command: str, progress: Callable[[str], None]) -> Report:
    """Measure; raises Unavailable when the server does not start or nobody can connect."""
    allow_open_files(plan.users + SPARE_FILES)
    parent = plan.folder or (PERSISTENT_TEMPORARY if PERSISTENT_TEMPORARY.is_dir() else None)
    folder = Path(tempfile.mkdtemp(prefix="tableforge-bench-", dir=parent))
    described = machine(folder)
    cores = two_cores()
    server_core, own_core = cores or (None, None)
    try:
        with pinned_to(own_core), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(
                Run(plan, folder, server_core, progress).whole(
                    command,
                    described,
                    "one for the server, one for the crowd" if cores else "one for both",
                )
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Run:
    """One measurement."""

    def __init__(
        self, plan: Plan, folder: Path, core: int | None, progress: Callable[[str], None]
    ) -> None:
        self._plan = plan
        self._folder = folder
        self._core = core
        self._progress = progress

    async def whole(self, command: str, described: Mapping[str, str], cores: str) -> Report:
        """Floor, load, floor."""
        before = await self._floor()
        settings = {"PORT": "0", "TABLEFORGE_DATA": str(self._folder / "data"), **NO_LIMITS}
        with measured(
            "tableforge",
            ["serve"],
            folder=self._folder,
            environment={**settings, **self._plan.settings},
            core=self._core,
            marker="http://",
        ) as server:
            figures = await self._load(server)
        after = await self._floor()
        return Report(command, commit(), described, self._plan, cores, before, figures, after)

    async def _floor(self) -> Floor:
        self._progress("Measuring what the machine can do at best ...")
        plan = self._plan
        try:
            return await floor(
                self._folder,
                core=self._core,
                group=plan.room_size,
                groups=max(1, plan.users // plan.room_size),
                rate=plan.users * plan.rate,
            )
        except TimeoutError as error:
            raise Unavailable(
                "The measurement did not go on.",
                "The machine is too busy to pass bare bytes at this rate.",
                "Stop what else runs on it, or measure with a lower rate.",
            ) from error

    async def _load(self, server: MeasuredProcess) -> Figures:
        plan, say = self._plan, self._progress
        caller = RestClient(server.address)

        def seated(number: int) -> None:
            if number % 200 == 0 or number == plan.users:
                say(f"{number} of {plan.users} users have a seat and a piece.")

        say(f"Server {server.pid} serves at {server.address}")
        seats = lay(caller, users=plan.users, room_size=plan.room_size, progress=seated)
        caller.close()
        crowd = Crowd(
            [(caller.host, caller.port)],
            seats,
            rate=plan.rate,
            warm_up=round(plan.warm_up_seconds * plan.rate),
            rounds=plan.rounds,
        )
        await crowd.sit_down()
        connected = server.memory()
        gc.collect()
        gc.freeze()
        gc.disable()
        say(f"All are connected. {plan.seconds:g} s at {plan.users * plan.rate:g} moves a second.")
        await crowd.play(crowd.first)
        before = Meter(server)
        await crowd.play(crowd.total)
        complete = await crowd.settle()
        spent = Meter(server).since(before)
        memory = server.memory()
        gc.enable()
        if not complete:
            say("Some moves never arrived.")
        say("Reading the log back ...")
        caller = RestClient(server.address)
        one_a_room = {seat.room: seat for seat in seats}.values()
        audit = audited(crowd.seen.acknowledged, (history(caller, seat) for seat in one_a_room))
        caller.close()
        crowd.leave()
        return _figures(plan, crowd, spent, memory, connected, audit)


class Meter:
    """Clocks at one moment."""

    def __init__(self, server: MeasuredProcess) -> None:
        self.at = time.monotonic()
        self.cpu = server.cpu_seconds()
        self.user, self.system = server.user_and_system_seconds()
        self.own = time.process_time()

    def since(self, before: "Meter") -> "Meter":
        """What went by since an earlier moment; becomes the difference itself."""
        for name in ("at", "cpu", "user", "system", "own"):
            setattr(self, name, getattr(self, name) - getattr(before, name))
        return self


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


def _figures(
    plan: Plan, crowd: Crowd, spent: Meter, memory: Memory, connected: Memory, audit: Audit
) -> Figures:
    seen: Seen = crowd.seen
    moves = crowd.total - crowd.first
    others = quantiles(seen.others)
    microseconds = spent.cpu * 1_000_000
    return Figures(
        moves=moves,
        seconds=spent.at,
        delivered=seen.delivered,
        delivered_to_others=len(seen.others),
        missing=moves * plan.room_size - seen.delivered,
        errors=seen.errors,
        first_error=seen.first_error,
        out_of_order=seen.out_of_order,
        reconnects=seen.reconnects,
        others=others,
        everybody=quantiles(seen.others + seen.own),
        replies=quantiles(seen.replies),
        sender_lateness=quantiles(seen.lateness),
        cpu_seconds=spent.cpu,
        user_seconds=spent.user,
        system_seconds=spent.system,
        cpu_us_per_delivery=microseconds / max(1, seen.delivered),
        cpu_us_per_delivery_to_others=microseconds / max(1, len(seen.others)),
        cpu_us_per_move=microseconds / moves,
        cpu_percent_of_a_core=100 * spent.cpu / spent.at,
        crowd_percent_of_a_core=100 * spent.own / spent.at,
        memory=memory,
        connected_memory=connected,
        audit=audit,
    )
