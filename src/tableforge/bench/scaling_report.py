"""What runs on one instance and on several came to: judged, as plots and tables, and as text."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Final, NamedTuple

from tableforge.bench.document import Axis, Kpi, Plot, Sample, Section, Series, Table, Target
from tableforge.bench.figures import BUSY_PERCENT, LATE_MS, Audit, Plan
from tableforge.bench.latency import Quantiles
from tableforge.bench.spread import Spread
from tableforge.bench.targets import DELIVERY_P95_OF_TWO, DISTRIBUTION, EFFICIENCY
from tableforge.config import without_secrets

EFFICIENCY_SPREAD: Final = Target(
    "scaling efficiency, members of every room spread", ">", 80, "%", "scaling", own=True
)
P95_TOGETHER: Final = Target(
    "delivery p95, two instances, members of a room together", "<", 10, "ms", "scaling", own=True
)
CPU_TOGETHER: Final = Target(
    "CPU a delivery to another, two instances, together", "<", 18, "us", "scaling", own=True
)
CPU_SPREAD: Final = Target(
    "CPU a delivery to another, two instances, spread", "<", 27, "us", "scaling", own=True
)
"""Half as much again: each event is received, and sent on, by both."""


class Layout(NamedTuple):
    """How many instances, and whether the members of a room sit on one of them, as `room_affinity` has it, or on all."""

    instances: int
    together: bool

    def __str__(self) -> str:
        if self.instances == 1:
            return "one"
        return f"{self.instances}, rooms {'together' if self.together else 'spread'}"


ONE: Final = Layout(1, together=True)
TWO_TOGETHER: Final = Layout(2, together=True)
TWO_SPREAD: Final = Layout(2, together=False)


@dataclass(frozen=True, slots=True)
class Turn:
    """One run on so many instances; CPU is that of all server processes, without the database and the bus."""

    layout: Layout
    moves: int
    sent: int
    """Those of the warm-up included."""
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
    def cpu_us_per_delivery_to_others(self) -> float:
        """The mover's own copy is not counted, though it is paid for."""
        return 1e6 * self.cpu_seconds / max(1, self.others.count)

    @property
    def clean(self) -> bool:
        """Whether nothing was lost, doubled, refused or out of order."""
        return self.audit.clean and not (self.missing or self.errors or self.out_of_order)


@dataclass(frozen=True, slots=True)
class Scaling:
    """All runs, in the order in which they were made."""

    plan: Plan
    turns: tuple[Turn, ...]
    command: str
    spread: Spread | None = None
    without_spread: str = ""

    def efficiency(self, layout: Layout) -> float | None:
        """Deliveries for each CPU second so, over those on one instance; medians of the runs. None without both."""
        several, single = (
            self.middle(one, lambda turn: turn.deliveries_per_cpu_second) for one in (layout, ONE)
        )
        return several / single if several and single else None

    def efficient(self, *, together: bool) -> float | None:
        """In percent, at the number of instances where it is worst; None where none was measured."""
        found = [
            100 * efficiency
            for one in self.layouts
            if one.instances > 1
            and one.together == together
            and (efficiency := self.efficiency(one)) is not None
        ]
        return min(found, default=None)

    @property
    def failed(self) -> bool:
        """Whether something happened that must not."""
        return bool(self.broken)

    @property
    def broken(self) -> tuple[str, ...]:
        """What happened that must not, in words."""
        found = [
            f"{turn.layout}: {turn.missing} deliveries missing, {turn.errors} errors"
            f" {turn.first_error}, {turn.out_of_order} out of order, log {turn.audit}"
            for turn in self.turns
            if not turn.clean
        ]
        return (*found, *(self.spread.wrongs if self.spread else ()))

    @property
    def invalid(self) -> str:
        """Why the figures must not be published: in most of the turns of one layout the crowd was the bottleneck."""
        for layout in self.layouts:
            reasons = [turn.invalid for turn in self.turns if turn.layout == layout]
            if median(bool(reason) for reason in reasons) > 0.5:
                return f"Instances: {layout}: {next(reason for reason in reasons if reason)}."
        return ""

    @property
    def layouts(self) -> list[Layout]:
        """What was measured: fewer instances first, rooms together before rooms spread."""
        found = {turn.layout for turn in self.turns}
        return sorted(found, key=lambda one: (one.instances, not one.together))

    def as_json(self) -> dict[str, Any]:
        """The report as plain values."""
        return {
            "bench": "scaling",
            "users": self.plan.users,
            "room_size": self.plan.room_size,
            "rate": self.plan.rate,
            "seconds": self.plan.seconds,
            "spread": self.spread and asdict(self.spread),
            "turns": [
                {
                    **asdict(turn),
                    "layout": turn.layout._asdict(),
                    "deliveries_per_cpu_second": turn.deliveries_per_cpu_second,
                }
                for turn in self.turns
            ],
            "efficiency": {
                str(one): self.efficiency(one) for one in self.layouts if one.instances > 1
            },
            "failed": self.failed,
        }

    def middle(self, layout: Layout, value: Callable[[Turn], float]) -> float | None:
        """The median of the turns in this layout."""
        found = [value(turn) for turn in self.turns if turn.layout == layout]
        return median(found) if found else None

    def _kpis(self) -> Iterator[Kpi]:
        command, invalid = self.command, self.invalid
        missing = invalid or "this layout of rooms was not measured, or not beside one instance"

        def judged(target: Target, value: float | None) -> Kpi:
            shown = None if invalid else value
            return target.judged(shown, command, missing if shown is None else "")

        def p95(turn: Turn) -> float:
            return turn.others.p95_ms

        def cpu(turn: Turn) -> float:
            return turn.cpu_us_per_delivery_to_others

        yield judged(DELIVERY_P95_OF_TWO, self.middle(TWO_SPREAD, p95))
        yield judged(EFFICIENCY, self.efficient(together=True))
        spread = self.spread
        off = spread.off_percent if spread else None
        yield DISTRIBUTION.judged(off, command, self.without_spread)
        yield judged(EFFICIENCY_SPREAD, self.efficient(together=False))
        yield judged(P95_TOGETHER, self.middle(TWO_TOGETHER, p95))
        if self.plan.usual:
            yield judged(CPU_TOGETHER, self.middle(TWO_TOGETHER, cpu))
            yield judged(CPU_SPREAD, self.middle(TWO_SPREAD, cpu))

    def section(self) -> Section:
        """Judged, as a part of a document."""
        return Section(
            bench="scaling",
            title="Several instances",
            command=self.command,
            settings={
                "users": str(self.plan.users),
                "room size": str(self.plan.room_size),
                "moves a second of each": f"{self.plan.rate:g}",
                "seconds a turn": f"{self.plan.seconds:g}",
                **without_secrets(self.plan.settings),
            },
            kpis=tuple(self._kpis()),
            samples=tuple(self._samples()),
            plots=tuple(self._plots()),
            tables=(self._table(),),
            notes=self._notes(),
            figures=self.as_json(),
            invalid=self.invalid,
            broken=self.broken,
        )

    def _notes(self) -> tuple[str, ...]:
        notes = [
            "Servers, PostgreSQL, Valkey and the crowd share this machine's cores: efficiency is by the servers' CPU time, "
            "latency is that of the whole machine. The crowd goes before them where the system lets it: it has to send on time.",
            "Scaling efficiency is deliveries for each CPU second of the servers, over those on one instance. It is told of "
            "rooms whose members sit together on one instance, as LOAD_BALANCER_STRATEGY=room_affinity places them and as is "
            "advised for growth; and of rooms whose members are spread over all instances, where each of these receives, "
            "keeps and sends every event. Delivery on two instances is that of rooms spread, the worst case.",
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
        for layout in self.layouts:
            turns = [turn for turn in self.turns if turn.layout == layout]
            cpu = tuple(1e6 / turn.deliveries_per_cpu_second for turn in turns)
            p95 = tuple(max(0.001, turn.others.p95_ms) for turn in turns)
            yield Sample(f"scaling.cpu_per_delivery of {layout}", "us", "lower", cpu, band=0.12)
            yield Sample(f"scaling.delivery_p95 of {layout}", "ms", "lower", p95)

    def _plots(self) -> Iterator[Plot]:
        single = self.middle(ONE, lambda turn: turn.deliveries_per_cpu_second)
        if single:
            yield self._curve(single)
        yield Plot(
            name="scaling-latency",
            title="Delivery to the other members",
            kind="line",
            x=Axis("percentile", "percentile", log=True),
            y=Axis("delivery", "ms", log=True),
            series=tuple(Series(str(one), self._median_turn(one).curve) for one in self.layouts),
        )
        if self.spread is not None:
            yield self.spread.plot()

    def _curve(self, single: float) -> Plot:
        counts = sorted({1, *(one.instances for one in self.layouts)})
        measured = tuple(
            Series(f"rooms {'together' if together else 'spread'}", ((1.0, single), *points))
            for together in (True, False)
            if (
                points := tuple(
                    (float(one.instances), one.instances * single * (self.efficiency(one) or 0.0))
                    for one in self.layouts
                    if one.instances > 1 and one.together == together
                )
            )
        )
        return Plot(
            name="scaling-curve",
            title="What so many instances can deliver, each with a core of its own",
            kind="line",
            x=Axis("instances", ""),
            y=Axis("deliveries a second", ""),
            series=(
                *measured,
                Series("ideal", tuple((float(one), one * single) for one in counts), "ideal"),
            ),
            note="Deliveries for each CPU second of the servers, times the instances.",
        )

    def _median_turn(self, layout: Layout) -> Turn:
        turns = [turn for turn in self.turns if turn.layout == layout]
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
                "CPU us a delivery to another",
                "crowd's CPU %",
                "sent late p99 ms",
                "errors",
            ),
            tuple(
                (
                    str(turn.layout),
                    f"{turn.others.p50_ms:.2f}",
                    f"{turn.others.p95_ms:.2f}",
                    f"{turn.others.p99_ms:.2f}",
                    f"{1e6 / turn.deliveries_per_cpu_second:.1f}",
                    f"{turn.cpu_us_per_delivery_to_others:.1f}",
                    f"{turn.crowd_percent_of_a_core:.0f}",
                    f"{turn.sender_lateness.p99_ms:.2f}",
                    str(turn.errors),
                )
                for turn in self.turns
            ),
        )

    def text(self) -> str:
        """The report as a person reads it."""
        lines = [
            f"{self.plan.users} users in rooms of {self.plan.room_size}, {self.plan.rate:g} moves a second each,"
            f" {self.plan.seconds:g} s a run",
            f"{'instances':18}   p50 ms   p95 ms   p99 ms   deliveries/CPU s   CPU us/delivery   errors   lost",
        ]
        lines += [
            f"{turn.layout!s:18} {turn.others.p50_ms:8.2f} {turn.others.p95_ms:8.2f} {turn.others.p99_ms:8.2f}"
            f" {turn.deliveries_per_cpu_second:18.0f} {1e6 / turn.deliveries_per_cpu_second:17.1f}"
            f" {turn.errors:8} {turn.missing + turn.audit.missing:6}"
            for turn in self.turns
        ]
        lines += [
            f"scaling efficiency at {one}: {efficiency:.2f}"
            for one in self.layouts
            if one.instances > 1 and (efficiency := self.efficiency(one)) is not None
        ]
        return "\n".join(lines)
