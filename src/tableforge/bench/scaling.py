"""`tableforge bench scaling`: the same load on one instance and on several, the members of each room spread over them."""

import asyncio
import contextlib
import gc
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from secrets import token_hex
from statistics import median
from typing import Any

import uvloop

from tableforge.bench.crowd import Crowd
from tableforge.bench.document import Axis, Plot, Sample, Section, Series, Table
from tableforge.bench.figures import BUSY_PERCENT, LATE_MS, Audit, Plan
from tableforge.bench.latency import Quantiles, distribution, quantiles
from tableforge.bench.process import MeasuredProcess, allow_open_files, measured
from tableforge.bench.spread import Measure, Spread
from tableforge.bench.tables import history, lay
from tableforge.bench.targets import DELIVERY_P95_OF_TWO, DISTRIBUTION, EFFICIENCY
from tableforge.bench.websocket import NO_LIMITS, PERSISTENT_TEMPORARY, SPARE_FILES, audited
from tableforge.config import without_secrets
from tableforge.errors import Unavailable
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
    crowd_percent_of_a_core: float
    sender_lateness: Quantiles
    curve: tuple[tuple[float, float], ...]

    @property
    def invalid(self) -> str:
        """Why this is no figure of the servers."""
        if self.crowd_percent_of_a_core > BUSY_PERCENT:
            return f"the crowd itself took {self.crowd_percent_of_a_core:.0f} % of a core"
        if self.sender_lateness.p99_ms > LATE_MS:
            return (
                f"1 in 100 moves left {self.sender_lateness.p99_ms:.1f} ms or more after its time"
            )
        return ""

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
    command: str
    spread: Spread | None = None
    without_spread: str = ""

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
        return bool(self.broken)

    @property
    def broken(self) -> tuple[str, ...]:
        """What happened that must not, in words."""
        found = [
            f"{turn.instances} instances: {turn.missing} deliveries missing, {turn.errors} errors"
            f" {turn.first_error}, {turn.out_of_order} out of order, log {turn.audit}"
            for turn in self.turns
            if not turn.clean
        ]
        return (*found, *(self.spread.wrongs if self.spread else ()))

    @property
    def invalid(self) -> str:
        """Why the figures must not be published: in most of the turns of one count the crowd was the bottleneck."""
        for count in self.counts:
            reasons = [turn.invalid for turn in self.turns if turn.instances == count]
            if median(bool(reason) for reason in reasons) > 0.5:
                return f"On {count} instance(s) {next(reason for reason in reasons if reason)}."
        return ""

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
            "spread": self.spread and asdict(self.spread),
            "turns": [
                {**asdict(turn), "deliveries_per_cpu_second": turn.deliveries_per_cpu_second}
                for turn in self.turns
            ],
            "efficiency": {
                str(count): self.efficiency(count) for count in self.counts if 1 in self.counts
            },
            "failed": self.failed,
        }

    def middle(self, count: int, value: Callable[[Turn], float]) -> float | None:
        """The median of the turns on so many instances."""
        found = [value(turn) for turn in self.turns if turn.instances == count]
        return median(found) if found else None

    def section(self) -> Section:
        """Judged, as a part of a document."""
        several = [count for count in self.counts if count > 1]
        two = self.middle(2, lambda turn: turn.others.p95_ms)
        efficient = several and 1 in self.counts
        efficiency = 100 * min(self.efficiency(count) for count in several) if efficient else None
        one_run = "it needs runs on one instance and on several"
        spread, command, invalid = self.spread, self.command, self.invalid
        kpis = (
            DELIVERY_P95_OF_TWO.judged(
                None if invalid else two,
                command,
                invalid or "" if two else "no run on two instances",
            ),
            EFFICIENCY.judged(
                None if invalid else efficiency, command, invalid or "" if efficient else one_run
            ),
            DISTRIBUTION.judged(
                spread.off_percent if spread else None, command, self.without_spread
            ),
        )
        return Section(
            bench="scaling",
            title="Several instances",
            command=command,
            settings={
                "users": str(self.plan.users),
                "room size": str(self.plan.room_size),
                "moves a second of each": f"{self.plan.rate:g}",
                "seconds a turn": f"{self.plan.seconds:g}",
                "a room's members": "on one instance" if self.together else "on all instances",
                **without_secrets(self.plan.settings),
            },
            kpis=kpis,
            samples=tuple(self._samples()),
            plots=tuple(self._plots()),
            tables=(self._table(),),
            notes=self._notes(),
            figures=self.as_json(),
            invalid=invalid,
            broken=self.broken,
        )

    def _notes(self) -> tuple[str, ...]:
        notes = [
            "Servers, PostgreSQL, Valkey and the crowd share this machine's cores: efficiency is by the servers' CPU time, "
            "latency is that of the whole machine."
        ]
        if self.spread is not None:
            evened = self.spread.evened_seconds
            when = "never within the time given" if evened is None else f"{evened:.1f} s later"
            notes.append(
                f"Connections once all sat: {dict(self.spread.seated)}; after the rolling restart, even {when}:"
                f" {dict(self.spread.restarted)}."
                + "".join(f" With {name}={value}." for name, value in self.spread.settings.items())
            )
        return tuple(notes)

    def _samples(self) -> Iterator[Sample]:
        for count in self.counts:
            turns = [turn for turn in self.turns if turn.instances == count]
            cpu = tuple(1e6 / turn.deliveries_per_cpu_second for turn in turns)
            p95 = tuple(max(0.001, turn.others.p95_ms) for turn in turns)
            yield Sample(f"scaling.cpu_per_delivery of {count}", "us", "lower", cpu, band=0.12)
            yield Sample(f"scaling.delivery_p95 of {count}", "ms", "lower", p95)

    def _plots(self) -> Iterator[Plot]:
        counts = self.counts
        if 1 in counts:
            single = self.middle(1, lambda turn: turn.deliveries_per_cpu_second) or 0.0
            ideal = tuple((float(count), count * single) for count in counts)
            measured_ = tuple(
                (float(count), count * single * self.efficiency(count)) for count in counts
            )
            yield Plot(
                name="scaling-curve",
                title="What so many instances can deliver, each with a core of its own",
                kind="line",
                x=Axis("instances", ""),
                y=Axis("deliveries a second", ""),
                series=(
                    Series("by the CPU time of a delivery", measured_),
                    Series("ideal", ideal, "ideal"),
                ),
                note="Deliveries for each CPU second of the servers, times the instances.",
            )
        yield Plot(
            name="scaling-latency",
            title="Delivery to the other members",
            kind="line",
            x=Axis("percentile", "percentile", log=True),
            y=Axis("delivery", "ms", log=True),
            series=tuple(
                Series(f"{count} instance(s)", self._median_turn(count).curve) for count in counts
            ),
        )
        if self.spread is not None:
            yield self.spread.plot()

    def _median_turn(self, count: int) -> Turn:
        turns = [turn for turn in self.turns if turn.instances == count]
        return sorted(turns, key=lambda turn: turn.others.p95_ms)[len(turns) // 2]

    def _table(self) -> Table:
        return Table(
            "Turns",
            (
                "instances",
                "p50 ms",
                "p95 ms",
                "p99 ms",
                "CPU us a delivery",
                "crowd's CPU %",
                "errors",
            ),
            tuple(
                (
                    str(turn.instances),
                    f"{turn.others.p50_ms:.2f}",
                    f"{turn.others.p95_ms:.2f}",
                    f"{turn.others.p99_ms:.2f}",
                    f"{1e6 / turn.deliveries_per_cpu_second:.1f}",
                    f"{turn.crowd_percent_of_a_core:.0f}",
                    str(turn.errors),
                )
                for turn in self.turns
            ),
        )

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
    command: str,
    spread: Measure | None = None,
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
        found, why = None, "it was not asked for"
        if spread is not None:
            progress("Looking at how players are spread, through a rolling restart ...")
            try:
                found, why = spread(), ""
            except Unavailable as error:
                why = f"{error.what} {error.why}"
        return Scaling(plan, together, tuple(turns), command, found, why)
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
    began, own = time.monotonic(), time.process_time()
    await crowd.play(crowd.total)
    await crowd.settle()
    spent = sum(server.cpu_seconds() for server in servers) - before
    busy = 100 * (time.process_time() - own) / (time.monotonic() - began)
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
        crowd_percent_of_a_core=busy,
        sender_lateness=quantiles(seen.lateness),
        curve=distribution(seen.others),
    )
