"""`tableforge bench scaling`: the same load on one instance and on several, rooms kept together and spread over them."""

import asyncio
import contextlib
import gc
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from secrets import token_hex
from typing import Final

import uvloop

from tableforge.bench.crowd import Crowd
from tableforge.bench.figures import Plan
from tableforge.bench.latency import distribution, quantiles
from tableforge.bench.process import MeasuredProcess, allow_open_files, measured
from tableforge.bench.scaling_report import Layout, Scaling, Turn
from tableforge.bench.spread import Measure, Spread
from tableforge.bench.tables import Seat, history, lay
from tableforge.bench.websocket import NO_LIMITS, PERSISTENT_TEMPORARY, SPARE_FILES, audited
from tableforge.errors import Unavailable
from tableforge.protocol.rest_client import RestClient

SENDS_FIRST: Final = -10
"""Niceness of the crowd: with fewer cores than processes it would send late by what the others' turns last."""


def run(
    plan: Plan,
    *,
    services: Mapping[str, str],
    layouts: Sequence[Layout],
    rounds: int,
    progress: Callable[[str], None],
    command: str,
    spread: Measure | None = None,
) -> Scaling:
    """Measure each layout, `rounds` times in turn; raises Unavailable when a server does not start.

    `services` are the settings that name the database and the bus. The same players sit at the same tables in all turns.
    """
    allow_open_files(plan.users + SPARE_FILES)
    parent = plan.folder or (PERSISTENT_TEMPORARY if PERSISTENT_TEMPORARY.is_dir() else None)
    folder = Path(tempfile.mkdtemp(prefix="tableforge-bench-", dir=parent))
    turns: list[Turn] = []
    seats: list[Seat] = []
    named = 0
    try:
        for number in range(rounds):
            for layout in layouts:
                progress(f"Run {number + 1} of {rounds}, instances: {layout} ...")
                with (
                    serving(
                        folder / f"{len(turns)}",
                        layout.instances,
                        {"DRAIN_SECONDS": "0", **services, **plan.settings},
                    ) as servers,
                    asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
                ):
                    seats = seats or _laid(plan, servers[0])
                    turns.append(runner.run(one_turn(plan, servers, seats, layout, named)))
                    named += turns[-1].sent
        found: Spread | None = None
        why = "it was not asked for"
        if spread is not None:
            progress("Looking at how players are spread, through a rolling restart ...")
            try:
                found, why = spread(), ""
            except Unavailable as error:
                why = f"{error.what} {error.why}"
        return Scaling(plan, tuple(turns), command, found, why)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def serving(
    folder: Path, count: int, settings: Mapping[str, str]
) -> Iterator[list[MeasuredProcess]]:
    """So many instances over the same database and bus."""
    token = token_hex(16)
    with contextlib.ExitStack() as stack:
        servers: list[MeasuredProcess] = []
        for number in range(count):
            own = folder / str(number)
            own.mkdir(parents=True)
            environment = {
                "PORT": "0",
                "TABLEFORGE_DATA": str(own / "data"),
                "INSTANCE_ID": f"bench-{token_hex(4)}",
                "ADMIN_TOKEN": token,
                "REBALANCE_SECONDS": "0",
                **NO_LIMITS,
                **settings,
            }
            servers.append(
                stack.enter_context(
                    measured(
                        "tableforge",
                        ["serve"],
                        folder=own,
                        environment=environment,
                        core=None,
                        marker="http://",
                    )
                )
            )
        yield servers


def _laid(plan: Plan, server: MeasuredProcess) -> list[Seat]:
    caller = RestClient(server.address)
    try:
        return lay(caller, users=plan.users, room_size=plan.room_size, progress=lambda _: None)
    finally:
        caller.close()


@contextlib.contextmanager
def _going_first() -> Iterator[None]:
    """Go before other processes for the length of a block, where the system lets us."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, SENDS_FIRST)
    try:
        yield
    finally:
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, before)


async def one_turn(
    plan: Plan,
    servers: Sequence[MeasuredProcess],
    seats: Sequence[Seat],
    layout: Layout,
    named_from: int,
) -> Turn:
    """Play, read the log back; `named_from` is how many moves there were at these tables before."""
    addresses = [(one.host, one.port) for one in map(RestClient, (s.address for s in servers))]
    if layout.together:
        rooms = {room: number for number, room in enumerate(dict.fromkeys(s.room for s in seats))}
        addresses = [addresses[rooms[seat.room] % len(addresses)] for seat in seats]
    crowd = Crowd(
        addresses,
        seats,
        rate=plan.rate,
        warm_up=round(plan.warm_up_seconds * plan.rate),
        rounds=plan.rounds,
        named_from=named_from,
    )
    await crowd.sit_down()
    gc.collect()
    gc.freeze()
    gc.disable()
    with _going_first():
        await crowd.play(crowd.first)
        before = sum(server.cpu_seconds() for server in servers)
        began, own = time.monotonic(), time.process_time()
        await crowd.play(crowd.total)
        await crowd.settle()
        spent = sum(server.cpu_seconds() for server in servers) - before
        busy = 100 * (time.process_time() - own) / (time.monotonic() - began)
    gc.enable()
    caller = RestClient(servers[0].address)
    one_a_room = {seat.room: seat for seat in seats}.values()
    audit = audited(
        crowd.seen.acknowledged,
        (_since(history(caller, seat), named_from) for seat in one_a_room),
    )
    caller.close()
    crowd.leave()
    seen = crowd.seen
    moves = crowd.total - crowd.first
    return Turn(
        layout=layout,
        moves=moves,
        sent=crowd.total,
        delivered=seen.delivered,
        missing=moves * plan.room_size - seen.delivered,
        errors=seen.errors,
        first_error=seen.first_error,
        out_of_order=seen.out_of_order,
        others=quantiles(seen.others),
        replies=quantiles(seen.replies),
        cpu_seconds=spent,
        audit=audit,
        crowd_percent_of_a_core=busy,
        sender_lateness=quantiles(seen.lateness),
        curve=distribution(seen.others),
    )


def _since(log: Iterator[tuple[int, str]], named_from: int) -> Iterator[tuple[int, str]]:
    """The log with the moves of this turn numbered as the crowd does, those of the turns before without a number."""
    for offset, name in log:
        number = int(name[1:]) - named_from if name.startswith("m") else -1
        yield offset, f"m{number}" if number >= 0 else ""
