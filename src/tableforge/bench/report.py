"""What `bench websocket` found: judged, in the shape of the one report, and as a person reads it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

from tableforge.bench import targets
from tableforge.bench.document import (
    Axis,
    Kpi,
    Mark,
    Plot,
    Sample,
    Section,
    Series,
    Table,
    Target,
)
from tableforge.bench.figures import TARGET_MS, Audit, Figures, Plan
from tableforge.bench.floor import Commits, FanOut, Floor
from tableforge.bench.latency import Quantiles, middle
from tableforge.bench.process import Memory
from tableforge.config import without_secrets

MEBIBYTE = 2**20
MEGABYTE = 1e6
WIDTH = 46
SLOW_RATE: Final = 1000.0
FAST_RATE: Final = 6000.0
OWN_P95_MS: Final = 5.0
OVER_THE_DISK_MS: Final = 1.0
ANOTHER_LOAD: Final = "it is for 1000 users in rooms of 10, a move a second each"
NO_SWEEP: Final = "the sweep of rates did not come there"
NO_OVERLOAD: Final = "measured with --overload only"


def own(name: str, sign: str, limit: float, unit: str) -> Target:
    """A target of the bench's own."""
    return Target(name, sign, limit, unit, "websocket", own=True)  # type: ignore[arg-type]  # one of the signs


CPU_SLOW: Final = own("CPU a delivery to another at 1000 moves/s", "<", 18, "us")
CPU_FAST: Final = own("CPU a delivery to another at 6000 moves/s", "<", 12, "us")
MOST: Final = own("durable moves a second, p95 under 10 ms", ">=", 8000, "1/s")
IDLE_BYTES: Final = own("resident bytes of an idle connection", "<", 12, "KB")
OWN_MEMORY: Final = own("memory of the server for 1000 users, own", "<", 128, "MB")


class Idle(NamedTuple):
    """What the server had resident (its proportional share) with so many connected and silent."""

    users: int
    resident_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A run with everything that is needed to read it.

    `figures` are those of all `rounds` together; `memory` was read after them, before the `steps` of the sweep.
    """

    command: str
    commit: str
    machine: Mapping[str, str]
    plan: Plan
    cores: str
    floor_before: Floor
    floor_after: Floor
    idle: tuple[Idle, ...]
    memory: Memory
    rounds: tuple[Figures, ...]
    figures: Figures
    steps: tuple[Figures, ...]
    overload: Figures | None
    audit: Audit

    @property
    def broken(self) -> tuple[str, ...]:
        """What must not happen at any speed: an error, a lost or doubled move, a wrong order."""
        figures, audit = self.figures, self.audit
        found = {
            f"errors, the first: {figures.first_error}": figures.errors,
            "deliveries missing": figures.missing,
            "deliveries out of order": figures.out_of_order,
            "acknowledged moves missing in the log": audit.missing,
            "moves twice in the log": audit.repeated,
            "moves at another place of the log than was said": audit.misplaced,
            "gaps in the log": audit.gaps,
        }
        return tuple(f"{count} {what}" for what, count in found.items() if count)

    @property
    def invalid(self) -> str:
        """Why its figures must not be published."""
        return next((one.invalid for one in self.rounds if one.invalid), "")

    @property
    def idle_bytes(self) -> float:
        """What each further connection adds, by the straight line nearest to all looks."""
        count = len(self.idle)
        users = sum(one.users for one in self.idle) / count
        resident = sum(one.resident_bytes for one in self.idle) / count
        spread = sum((one.users - users) ** 2 for one in self.idle)
        rise = sum((one.users - users) * (one.resident_bytes - resident) for one in self.idle)
        return rise / spread if spread else 0.0

    @property
    def knee(self) -> Figures | None:
        """The highest rate of the sweep that was well."""
        return max((one for one in self.steps if one.well), key=lambda one: one.rate, default=None)

    @property
    def knee_unknown(self) -> str:
        """Why the knee may be the crowd's and not the server's; empty where it is the server's."""
        above = [one for one in self.steps if self.knee is None or one.rate > self.knee.rate]
        ended = next((one.invalid for one in above if one.invalid), "")
        return f"the sweep ended early: {ended}" if ended else "" if self.steps else NO_SWEEP

    def at(self, rate: float) -> Figures | None:
        """What was found at a rate, if it was measured and says something."""
        rates = [*self.steps, self.figures]
        found = [one for one in rates if one.rate == rate and one.clean and not one.invalid]
        return found[-1] if found else None

    @property
    def commit_p95_ms(self) -> float:
        """The disk's own, the worse of before and after."""
        floors = (self.floor_before, self.floor_after)
        return max(floor.commit.latency.p95_ms for floor in floors)

    def as_json(self) -> dict[str, Any]:
        """The report as plain values."""
        plain: dict[str, Any] = asdict(self)
        plain["plan"]["folder"] = str(self.plan.folder or "")
        plain["plan"]["settings"] = without_secrets(self.plan.settings)
        for name in ("figures", "overload"):
            if plain[name] is not None:
                plain[name] |= derived(getattr(self, name))
        for name in ("rounds", "steps"):
            plain[name] = [asdict(one) | derived(one) for one in getattr(self, name)]
        plain["idle_bytes"] = self.idle_bytes
        return {"bench": "websocket", **plain, "failed": bool(self.broken)}

    def text(self) -> str:
        """The whole report, a table for each part."""
        parts = (
            _head(self),
            _load(self),
            _cost(self),
            _sweep(self),
            _floor(self.floor_before, self.floor_after, self.figures),
            _verdicts(self),
        )
        return "\n\n".join("\n".join(part) for part in parts)

    def section(self) -> Section:
        """All of it in the shape of the one report."""
        return Section(
            bench="websocket",
            title="Durable moves over real sockets, one instance",
            command=self.command,
            settings=dict(without_secrets(self.plan.settings)),
            kpis=tuple(self.kpis()),
            samples=tuple(self.samples()),
            plots=tuple(self.plots()),
            tables=tuple(self.tables()),
            notes=tuple(self.notes()),
            figures=self.as_json(),
            invalid=self.invalid,
            broken=self.broken,
        )

    # What it says

    def kpis(self) -> Iterator[Kpi]:
        """Every target with what was found."""
        figures, invalid = self.figures, self.invalid

        def judged(target: Target, value: float | None, why: str = "") -> Kpi:
            found = None if invalid else value
            return target.judged(found, self.command, (invalid or why) if found is None else "")

        def usual(target: Target, value: float | None, why: str = "") -> Kpi:
            there = self.plan.usual
            return judged(target, value if there else None, why if there else ANOTHER_LOAD)

        p95 = middle([one.others.p95_ms for one in self.rounds])
        troubles = figures.errors + figures.missing
        yield usual(targets.DELIVERY_P95, p95)
        yield usual(targets.USERS, self.plan.users if figures.clean else 0)
        yield usual(targets.MEMORY, self.memory.peak_bytes / MEGABYTE)
        yield usual(targets.CPU, figures.cpu_percent_of_a_core)
        yield judged(targets.CONNECTION_FAILURES, figures.reconnects)
        yield judged(targets.ERROR_RATE, 100 * troubles / max(1, figures.moves))
        knee, unknown = self.knee, self.knee_unknown
        use = knee.cpu_percent_of_a_core if knee and not unknown else None
        yield usual(targets.USE_AT_THE_KNEE, use, unknown or "no rate was well")
        over = self.overload
        yield usual(
            targets.OVERLOAD_P95,
            None if over is None or over.invalid else over.others.p95_ms,
            NO_OVERLOAD if over is None else over.invalid,
        )
        limit = max(OWN_P95_MS, self.commit_p95_ms + OVER_THE_DISK_MS)
        yield usual(own("WebSocket delivery p95, own", "<", round(limit, 2), "ms"), p95)
        for target, rate in ((CPU_SLOW, SLOW_RATE), (CPU_FAST, FAST_RATE)):
            there = self.at(rate)
            yield usual(target, there.cpu_us_per_delivery_to_others if there else None, NO_SWEEP)
        most = knee.moves / knee.spent.seconds if knee else 0.0
        yield usual(MOST, None if unknown and most < MOST.limit else most, unknown)
        yield usual(IDLE_BYTES, self.idle_bytes / 1000)
        yield usual(OWN_MEMORY, self.memory.peak_bytes / MEGABYTE)

    def samples(self) -> Iterator[Sample]:
        """What a comparison looks at."""

        def each(name: str, unit: str, read: Callable[[Figures], float]) -> Sample:
            return Sample(
                f"websocket.{name}", unit, "lower", tuple(read(one) for one in self.rounds)
            )

        yield each("delivery_p50", "ms", lambda one: one.others.p50_ms)
        yield each("delivery_p95", "ms", lambda one: one.others.p95_ms)
        yield each("reply_p95", "ms", lambda one: one.replies.p95_ms)
        yield each("cpu_per_delivery", "us", lambda one: one.cpu_us_per_delivery_to_others)

    def plots(self) -> Iterator[Plot]:
        """Latency as a curve, memory against users, and what the sweep found."""
        yield Plot(
            name="websocket.latency",
            title=f"Delivery to the others at {self.plan.moves_a_second:g} moves a second",
            kind="line",
            x=Axis("1 / (1 - quantile)", "", log=True),
            y=Axis("latency", "ms", log=True),
            series=(Series("delivery to the others", self.figures.curve),),
        )
        yield Plot(
            name="websocket.memory",
            title="Memory against connected, silent users",
            kind="line",
            x=Axis("users", ""),
            y=Axis("resident", "MB"),
            series=(
                Series(
                    "server", tuple((one.users, one.resident_bytes / MEGABYTE) for one in self.idle)
                ),
            ),
            note=f"{self.idle_bytes / 1000:.1f} KB for each.",
        )
        if self.steps:
            yield from self._of_the_sweep()

    def _of_the_sweep(self) -> Iterator[Plot]:
        steps = [one for one in self.steps if not one.invalid]
        marks = (Mark(self.knee.rate, "knee"),) if self.knee else ()
        rate = Axis("durable moves", "1/s")

        def line(name: str, read: Callable[[Figures], float]) -> Series:
            return Series(name, tuple((one.rate, read(one)) for one in steps))

        yield Plot(
            name="websocket.saturation",
            title="Latency against throughput, to saturation",
            kind="line",
            x=rate,
            y=Axis("delivery to the others", "ms", log=True),
            series=(
                line("p50", lambda one: one.others.p50_ms),
                line("p95", lambda one: one.others.p95_ms),
                line("p99", lambda one: one.others.p99_ms),
            ),
            marks=marks,
            note=f"The knee is the highest rate with p95 under {TARGET_MS:g} ms.",
        )
        yield Plot(
            name="websocket.cpu",
            title="CPU of a delivery to another member, against the rate",
            kind="line",
            x=rate,
            y=Axis("CPU", "us"),
            series=(line("server", lambda one: one.cpu_us_per_delivery_to_others),),
            marks=marks,
        )
        yield Plot(
            name="websocket.use",
            title="Use of the server's core against the rate",
            kind="line",
            x=rate,
            y=Axis("use", "%"),
            series=(
                line("server", lambda one: one.cpu_percent_of_a_core),
                line("crowd", lambda one: one.crowd_percent_of_a_core),
            ),
            marks=marks,
        )

    def tables(self) -> Iterator[Table]:
        """A line for each round, each step, and the overload."""
        columns = ("moves/s", "arrived/s", "p50 ms", "p95", "p99", "p99.9", "max")
        more = ("CPU us", "server %", "crowd %", "errors", "not to be published")
        yield Table("Rounds", columns + more, tuple(_row(one) for one in self.rounds))
        if self.steps:
            yield Table("Sweep of rates", columns + more, tuple(_row(one) for one in self.steps))
        if self.overload is not None:
            yield Table("Overload", columns + more, (_row(self.overload),))

    def notes(self) -> Iterator[str]:
        """What the figures must be read with."""
        yield (
            "Latency counts from the moment at which a move was due until it reached another member; CPU is the server's, of"
            f" all threads, for each delivery to another member. {self.cores[:1].upper()}{self.cores[1:]}."
        )
        audit = self.audit
        yield (
            f"The log, read back: {audit.acknowledged} moves acknowledged, {audit.missing} missing, {audit.repeated} twice,"
            f" {audit.misplaced} misplaced, {audit.gaps} gaps."
        )
        yield (
            f"A bare durable commit on this disk: p95 {self.commit_p95_ms:.2f} ms, the worse of before and after."
        )
        ended = self.steps[-1] if self.steps else None
        if ended is not None and ended.invalid:
            yield f"The sweep ended at {ended.rate:.0f} moves a second, since {ended.invalid}."
        if self.overload is not None:
            over = self.overload
            yield (
                f"Overload: {over.rate:.0f} moves a second were due, ten times the knee, {over.moves} in all;"
                f" {over.refused} were refused, and the latency is that of the others."
            )


def derived(figures: Figures) -> dict[str, float | str]:
    """What follows from figures, for programs."""
    return {
        "cpu_us_per_delivery": figures.cpu_us_per_delivery,
        "cpu_us_per_delivery_to_others": figures.cpu_us_per_delivery_to_others,
        "cpu_us_per_move": figures.cpu_us_per_move,
        "cpu_percent_of_a_core": figures.cpu_percent_of_a_core,
        "crowd_percent_of_a_core": figures.crowd_percent_of_a_core,
        "invalid": figures.invalid,
    }


def _row(one: Figures) -> tuple[str, ...]:
    latency = one.others
    return (
        f"{one.rate:.0f}",
        f"{one.moves / one.spent.seconds:.0f}",
        f"{latency.p50_ms:.2f}",
        f"{latency.p95_ms:.2f}",
        f"{latency.p99_ms:.2f}",
        f"{latency.p999_ms:.2f}",
        f"{latency.max_ms:.1f}",
        f"{one.cpu_us_per_delivery_to_others:.1f}",
        f"{one.cpu_percent_of_a_core:.0f}",
        f"{one.crowd_percent_of_a_core:.0f}",
        str(one.errors + one.missing + one.out_of_order),
        one.invalid,
    )


def _line(name: str, value: str) -> str:
    return f"  {name:{WIDTH}}{value}"


def _head(report: Report) -> Iterator[str]:
    yield f"{report.command}"
    yield _line("commit", report.commit)
    for name in ("system", "processor", "memory", "disk", "load"):
        yield _line(name, report.machine[name])
    versions = ("python", "sqlite", "uvicorn", "uvloop", "websockets", "msgspec")
    yield _line("versions", ", ".join(f"{name} {report.machine[name]}" for name in versions))
    shown = without_secrets(report.plan.settings)
    settings = " ".join(f"{name}={value}" for name, value in shown.items())
    yield _line("settings of the server", f"no limits {settings}".strip())
    yield _line("cores", report.cores)


def _quantiles(found: Quantiles) -> str:
    return (
        f"p50 {found.p50_ms:7.2f}   p95 {found.p95_ms:7.2f}   p99 {found.p99_ms:7.2f}"
        f"   max {found.max_ms:7.1f} ms"
    )


def _load(report: Report) -> Iterator[str]:
    figures, audit = report.figures, report.audit
    yield (
        f"Durable moves: {figures.moves} in {figures.spent.seconds:.1f} s, latency from when each was due"
    )
    yield _line("received by the other members", _quantiles(figures.others))
    yield _line("received by everybody, the mover too", _quantiles(figures.everybody))
    yield _line("answered to the mover", _quantiles(figures.replies))
    yield _line("of it the crowd's own lateness in sending", _quantiles(figures.sender_lateness))
    yield _line(
        "deliveries, to others / in all", f"{figures.delivered_to_others} / {figures.delivered}"
    )
    yield _line(
        "errors / missing / out of order / reconnects",
        f"{figures.errors} / {figures.missing} / {figures.out_of_order} / {figures.reconnects}",
    )
    if figures.first_error:
        yield _line("first error", figures.first_error)
    rounds = ", ".join(f"{one.others.p95_ms:.2f}" for one in report.rounds)
    yield _line("p95 to the others, round by round", f"{rounds} ms")
    yield _line(
        "the log: acknowledged / missing / twice",
        f"{audit.acknowledged} / {audit.missing} / {audit.repeated}",
    )
    yield _line(
        "the log: events / gaps / misplaced",
        f"{audit.events} / {audit.gaps} / {audit.misplaced}",
    )


def _cost(report: Report) -> Iterator[str]:
    figures, memory, connected = report.figures, report.memory, report.idle[-1]
    spent = figures.spent
    yield "What the server paid (all threads, user and system)"
    yield _line(
        "CPU a delivery to another member", f"{figures.cpu_us_per_delivery_to_others:.1f} us"
    )
    yield _line("CPU a delivery, the mover's own included", f"{figures.cpu_us_per_delivery:.1f} us")
    yield _line("CPU a move", f"{figures.cpu_us_per_move:.0f} us")
    yield _line(
        "CPU in all",
        f"{spent.cpu_seconds:.2f} s, {figures.cpu_percent_of_a_core:.1f} % of a core"
        f" (user {spent.user_seconds:.2f} s, system {spent.system_seconds:.2f} s)",
    )
    yield _line("the crowd's own CPU", f"{figures.crowd_percent_of_a_core:.1f} % of a core")
    yield _line(
        "memory: resident at most / proportional now",
        f"{memory.peak_bytes / MEBIBYTE:.0f} / {memory.proportional_bytes / MEBIBYTE:.0f} MiB",
    )
    yield _line(
        f"memory with {connected.users} connected, for each",
        f"{connected.resident_bytes / MEBIBYTE:.0f} MiB, {report.idle_bytes / 1000:.1f} KB",
    )


def _sweep(report: Report) -> Iterator[str]:
    yield "Rising rates" if report.steps else "Rising rates were not asked for"
    for table in list(report.tables())[1:]:
        rows: Sequence[tuple[str, ...]] = (table.columns, *table.rows)
        for row in rows:
            yield "  " + "".join(cell.rjust(10) for cell in row[:-1]) + f"   {row[-1]}"


def _floor(before: Floor, after: Floor, figures: Figures) -> Iterator[str]:
    yield "The machine's floor in the same run, before and after"
    for name, floor in (("before", before), ("after", after)):
        yield _commits(name, floor.commit)
        yield _commits(name, floor.commit_of_ten)
        yield _fan_out(name, floor.echo)
        yield _fan_out(name, floor.fan_out)
    bare = (before.fan_out.cpu_us + after.fan_out.cpu_us) / 2
    yield _line(
        "server's CPU a delivery, times the bare one", f"{figures.cpu_us_per_delivery / bare:.1f}"
    )


def _commits(when: str, commits: Commits) -> str:
    rows = "1 row" if commits.rows == 1 else f"{commits.rows} rows"
    return _line(
        f"{when}: durable commit of {rows}",
        f"{_quantiles(commits.latency)}   {commits.cpu_us:.0f} us CPU",
    )


def _fan_out(when: str, found: FanOut) -> str:
    name = "loopback echo" if found.group == 1 else f"bare frame to {found.group} members"
    return _line(
        f"{when}: {name}", f"{_quantiles(found.latency)}   {found.cpu_us:.1f} us CPU a frame"
    )


def _verdicts(report: Report) -> Iterator[str]:
    for kpi in report.kpis():
        why = f"  ({kpi.why})" if kpi.why and kpi.value is None else ""
        yield f"  {kpi.name:56}{kpi.measured:>14}  {kpi.target:16} {kpi.verdict}{why}"
    yield _line("the log as promised", "met" if report.audit.clean else "NOT MET")
