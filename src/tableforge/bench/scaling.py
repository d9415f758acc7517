"""`tableforge bench scaling`: the same load on one instance and on several, the members of each room spread over them."""

import asyncio
import contextlib
import gc
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from secrets import token_hex
from statistics import median
from typing import Any

import uvloop

from tableforge.bench.crowd import Crowd
from tableforge.bench.figures import Audit, Plan
from tableforge.bench.latency import Quantiles, quantiles
from tableforge.bench.process import MeasuredProcess, allow_open_files, measured
from tableforge.bench.tables import history, lay
from tableforge.bench.websocket import NO_LIMITS, PERSISTENT_TEMPORARY, SPARE_FILES, audited
from tableforge.protocol.rest_client import RestClient


@dataclass(frozen=True, slots=True)
class Turn:
    """One run on so many instances; CPU is that of all server processes, without the database and the bus."""

    instances: int
    moves: int
    delivered: int
    missing: int
    errors: int
    first_error: str
    out_of_order: int
    others: Quantiles
    replies: Quantiles
    cpu_seconds: float
    audit: Audit

    @property
    def deliveries_per_cpu_second(self) -> float:
        """What a second of the servers' processors brings about."""
        return self.delivered / self.cpu_seconds

    @property
    def clean(self) -> bool:
        """Whether nothing was lost, doubled, refused or out of order."""
        return self.audit.clean and not (self.missing or self.errors or self.out_of_order)


@dataclass(frozen=True, slots=True)
class Scaling:
    """All runs, in the order in which they were made."""

    plan: Plan
    together: bool
    turns: tuple[Turn, ...]

    def efficiency(self, instances: int) -> float:
        """Deliveries for each CPU second at so many instances, over those at one; medians of the runs."""
        each = [
            median(turn.deliveries_per_cpu_second for turn in self.turns if turn.instances == count)
            for count in (instances, 1)
        ]
        return each[0] / each[1]

    @property
    def failed(self) -> bool:
        """Whether something happened that must not."""
        return not all(turn.clean for turn in self.turns)

    @property
    def counts(self) -> list[int]:
        """The numbers of instances that were measured."""
        return sorted({turn.instances for turn in self.turns})

    def as_json(self) -> dict[str, Any]:
        """The report as plain values."""
        return {
            "bench": "scaling",
            "users": self.plan.users,
            "room_size": self.plan.room_size,
            "rate": self.plan.rate,
            "seconds": self.plan.seconds,
            "together": self.together,
            "turns": [
                {**asdict(turn), "deliveries_per_cpu_second": turn.deliveries_per_cpu_second}
                for turn in self.turns
            ],
            "efficiency": {
                str(count): self.efficiency(count) for count in self.counts if 1 in self.counts
            },
            "failed": self.failed,
        }

    def text(self) -> str:
        """The report as a person reads it."""
        lines = [
            f"{self.plan.users} users in rooms of {self.plan.room_size}, {self.plan.rate:g} moves a second each,"
            f" {self.plan.seconds:g} s a run; a room's members on "
            + ("one instance" if self.together else "all instances"),
            "instances   p50 ms   p95 ms   p99 ms   deliveries/CPU s   CPU us/delivery   errors   lost",
        ]
        lines += [
            f"{turn.instances:9} {turn.others.p50_ms:8.2f} {turn.others.p95_ms:8.2f} {turn.others.p99_ms:8.2f}"
            f" {turn.deliveries_per_cpu_second:18.0f} {1e6 / turn.deliveries_per_cpu_second:17.1f}"
            f" {turn.errors:8} {turn.missing + turn.audit.missing:6}"
            for turn in self.turns
        ]
        lines += [
            f"scaling efficiency at {count} instances: {self.efficiency(count):.2f}"
            for count in self.counts
            if count > 1 and 1 in self.counts
        ]
        return "\n".join(lines)


def run(
    plan: Plan,
    *,
    services: Mapping[str, str],
    counts: Sequence[int],
    rounds: int,
    together: bool,
    progress: Callable[[str], None],
) -> Scaling:
    """Measure each number of instances, `rounds` times in turn; raises Unavailable when a server does not start.

    `services` are the settings that name the database and the bus. `together` keeps the members of a room on one instance,
    as the strategy `room_affinity` does; else they are spread over all.
    """
    allow_open_files(plan.users + SPARE_FILES)
    parent = plan.folder or (PERSISTENT_TEMPORARY if PERSISTENT_TEMPORARY.is_dir() else None)
    folder = Path(tempfile.mkdtemp(prefix="tableforge-bench-", dir=parent))
    turns: list[Turn] = []
    try:
        for number in range(rounds):
            for count in counts:
                progress(f"Run {number + 1} of {rounds} on {count} instance(s) ...")
                with (
                    serving(
                        folder / f"{number}-{count}", count, {**services, **plan.settings}
                    ) as servers,
                    asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
                ):
                    turns.append(runner.run(one_turn(plan, servers, together=together)))
        return Scaling(plan, together, tuple(turns))
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


async def one_turn(plan: Plan, servers: Sequence[MeasuredProcess], *, together: bool) -> Turn:
    """Seat everybody, play, read the log back."""
    caller = RestClient(servers[0].address)
    seats = lay(caller, users=plan.users, room_size=plan.room_size, progress=lambda _: None)
    caller.close()
    addresses = [(one.host, one.port) for one in map(RestClient, (s.address for s in servers))]
    if together:
        rooms = {room: number for number, room in enumerate(dict.fromkeys(s.room for s in seats))}
        addresses = [addresses[rooms[seat.room] % len(addresses)] for seat in seats]
    crowd = Crowd(
        addresses,
        seats,
        rate=plan.rate,
        warm_up=round(plan.warm_up_seconds * plan.rate),
        rounds=plan.rounds,
    )
    await crowd.sit_down()
    gc.collect()
    gc.freeze()
    gc.disable()
    await crowd.play(crowd.first)
    before = sum(server.cpu_seconds() for server in servers)
    await crowd.play(crowd.total)
    await crowd.settle()
    spent = sum(server.cpu_seconds() for server in servers) - before
    gc.enable()
    caller = RestClient(servers[0].address)
    one_a_room = {seat.room: seat for seat in seats}.values()
    audit = audited(crowd.seen.acknowledged, (history(caller, seat) for seat in one_a_room))
    caller.close()
    crowd.leave()
    seen = crowd.seen
    moves = crowd.total - crowd.first
    return Turn(
        instances=len(servers),
        moves=moves,
        delivered=seen.delivered,
        missing=moves * plan.room_size - seen.delivered,
        errors=seen.errors,
        first_error=seen.first_error,
        out_of_order=seen.out_of_order,
        others=quantiles(seen.others),
        replies=quantiles(seen.replies),
        cpu_seconds=spent,
        audit=audit,
    )
