"""What `tableforge bench cache` found, and its targets."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from tableforge.bench.document import Axis, Plot, Sample, Section, Series, Table, Target
from tableforge.bench.latency import Quantiles
from tableforge.bench.replay import LRU, OURS, STATIC
from tableforge.bench.targets import HIT_RATE
from tableforge.bench.traces import EVENING

HIT_NS: Final = 2_000.0
"""A hit in memory takes less, with the policy's look-up and all counting."""
NOISE: Final = 0.015
"""Windows are chosen by samples: so much may be missing to LRU's hit ratio until the choice has settled."""
NEAR_BEST: Final = 0.03
EVENING_RATIO: Final = HIT_RATE.limit / 100
SHARED_TIMES: Final = 1.3
"""p95 of the shared level over that of a bare pipelined GET by redis-py, as anybody would write it."""
AT_ONCE: Final = 1_000
"""Who miss the same key at once."""
WORKERS: Final = 16
"""Gets of the shared level that are under way at a time."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    seed: int = 1
    evening_steps: int = 400_000
    steps: int = 120_000
    rounds: int = 15
    gets: int = 20_000
    shared_rounds: int = 41
    shared_gets: int = 2_000
    size_steps: int = 200_000


QUICK: Final = Plan(
    evening_steps=150_000,
    steps=40_000,
    rounds=5,
    gets=5_000,
    shared_rounds=15,
    shared_gets=1_000,
    size_steps=40_000,
)


@dataclass(frozen=True, slots=True)
class SharedFigures:
    """The shared level against bare pipelined GETs of as many bytes, `WORKERS` at a time.

    `ours` and `library`, which is redis-py's pipeline and what the target is about, are of one round, the one in the middle
    by its ratio of p95 over p95; `rounds` has the ratios of all, in rising order. `bare` is our own connection without seal,
    guard and breaker, the floor, in the round in the middle by its p95.
    """

    ours: Quantiles
    library: Quantiles
    bare: Quantiles
    rounds: Sequence[float]

    @property
    def times(self) -> float:
        """Our p95 over that of the library."""
        return self.ours.p95_ms / self.library.p95_ms


@dataclass(frozen=True, slots=True)
class CacheReport:
    """What was measured; a part that could not be is absent, and `without` says why."""

    plan: Plan
    hit_ns: Mapping[str, float] = field(default_factory=dict)
    ratios: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    loads: int | None = None
    shared: SharedFigures | None = None
    without: Mapping[str, str] = field(default_factory=dict)
    hit_rounds: Mapping[str, Sequence[float]] = field(default_factory=dict)
    sizes: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    """Entries and hit ratio on an evening, by policy."""
    windows: Sequence[float] = ()
    """Hit ratio of ours in parts of an evening, without the first."""
    command: str = "tableforge bench cache"

    def missed(self) -> list[str]:
        """The targets that were missed, in words."""
        found = []
        for name in ("peek", "get"):
            took = self.hit_ns.get(name, 0.0)
            if took >= HIT_NS:
                found.append(f"a hit by {name} takes {took:.0f} ns, not under {HIT_NS:.0f}")
        ours = self.hit_ns.get("get", 0.0)
        found += [
            f"a hit by get takes {ours:.0f} ns, that of {peer} {took:.0f}"
            for peer, took in self.hit_ns.items()
            if peer not in ("peek", "get") and ours >= took
        ]
        for trace, by_policy in self.ratios.items():
            found += missed_ratios(trace, by_policy)
        if self.loads not in (None, 1):
            found.append(f"{AT_ONCE} who missed at once loaded {self.loads} times")
        if self.shared is not None and self.shared.times > SHARED_TIMES:
            found.append(
                f"p95 of the shared level is {self.shared.times:.2f} times that of redis-py's pipelined"
                f" GET, over {SHARED_TIMES}"
            )
        return found

    @property
    def measured(self) -> bool:
        """Whether anything was."""
        return bool(self.hit_ns or self.ratios or self.loads or self.shared)

    @property
    def failed(self) -> bool:
        """Whether a target was missed."""
        return bool(self.missed())

    def as_json(self) -> dict[str, Any]:
        """The report as plain values."""
        return {
            "bench": "cache",
            **asdict(self),
            "shared": self.shared
            and {
                **asdict(self.shared),
                "times": self.shared.times,
            },
            "missed": self.missed(),
            "failed": self.failed,
        }

    def section(self) -> Section:
        """Judged, as a part of a document."""
        command, evening = self.command, self.ratios.get(EVENING, {})
        hit_rate = 100 * evening[OURS] if evening else None
        why = "" if evening else self.without.get("ratios", "this part was not asked for")
        kpis = [HIT_RATE.judged(hit_rate, command, why)]
        kpis += [
            Target(
                f"a hit in memory, by {name}", "<", HIT_NS, "ns of CPU", "cache", own=True
            ).judged(self.hit_ns[name], command)
            for name in ("peek", "get")
            if name in self.hit_ns
        ]
        if self.shared is not None:
            kpis.append(
                Target(
                    "shared level, p95 over that of redis-py's pipelined GET",
                    "<=",
                    SHARED_TIMES,
                    "times",
                    "cache",
                    own=True,
                ).judged(self.shared.times, command)
            )
        loads = self.loads
        return Section(
            bench="cache",
            title="Cache",
            command=command,
            settings={name: str(value) for name, value in asdict(self.plan).items()},
            kpis=tuple(kpis),
            samples=tuple(self._samples()),
            plots=tuple(self._plots()),
            tables=tuple(self._tables()),
            notes=(
                *(f"Not measured, {part}: {said}" for part, said in self.without.items()),
                *(f"Own target missed: {one}" for one in self.missed()),
            ),
            figures=self.as_json(),
            invalid="" if self.measured else "; ".join(self.without.values()),
            broken=(f"{AT_ONCE} who missed one key at once loaded it {loads} times",)
            if loads not in (None, 1)
            else (),
        )

    def _samples(self) -> Iterator[Sample]:
        for name in ("peek", "get"):
            if name in self.hit_rounds:
                rounds = tuple(self.hit_rounds[name])
                yield Sample(f"cache.hit_{name}", "ns", "lower", rounds, band=0.15)
        if self.windows and max(self.windows) < 1:
            missed = tuple(100 * (1 - ratio) for ratio in self.windows)
            yield Sample("cache.missed_of_an_evening", "%", "lower", missed, band=0.05)
        if self.shared is not None:
            times = tuple(self.shared.rounds)
            yield Sample("cache.shared_p95_over_bare_get", "times", "lower", times, band=0.3)

    def _plots(self) -> Iterator[Plot]:
        if self.sizes:
            yield Plot(
                name="cache-size",
                title="Hit ratio of an evening against the cache's size",
                kind="line",
                x=Axis("entries", "", log=True),
                y=Axis("hit ratio", "%"),
                series=(
                    *(
                        Series(
                            name,
                            tuple((entries, 100 * ratio) for entries, ratio in points),
                            "measured" if name == OURS else "peer",
                        )
                        for name, points in self.sizes.items()
                    ),
                    Series(
                        "target",
                        tuple((entries, HIT_RATE.limit) for entries, _ in self.sizes[OURS]),
                        "ideal",
                    ),
                ),
                note="All regions together; without the first part of the evening, which fills the cache.",
            )
        if self.ratios:
            names = tuple(self.ratios)
            yield Plot(
                name="cache-policies",
                title="Hit ratio by trace and policy",
                kind="bars",
                x=Axis("trace", ""),
                y=Axis("hit ratio", "%"),
                series=tuple(
                    Series(
                        policy,
                        tuple((n, 100 * self.ratios[name][policy]) for n, name in enumerate(names)),
                        "measured" if policy == OURS else "peer",
                    )
                    for policy in (OURS, LRU, "s3-fifo")
                ),
                labels=names,
            )
        if self.hit_ns:
            yield Plot(
                name="cache-hit",
                title="A hit in memory, best round",
                kind="bars",
                x=Axis("who", ""),
                y=Axis("CPU", "ns", log=True),
                series=(Series("a hit", tuple(enumerate(self.hit_ns.values()))),),
                labels=tuple(self.hit_ns),
            )

    def _tables(self) -> Iterator[Table]:
        if self.ratios:
            policies = list(next(iter(self.ratios.values())))
            yield Table(
                "Hit ratio, %",
                ("trace", *policies),
                tuple(
                    (trace, *(f"{100 * row[name]:.2f}" for name in policies))
                    for trace, row in self.ratios.items()
                ),
            )
        if self.shared is not None:
            rows = {
                "ours": self.shared.ours,
                "redis-py, pipelined": self.shared.library,
                "our connection, bare": self.shared.bare,
            }
            yield Table(
                f"The shared level, {WORKERS} gets at a time, in ms",
                ("who", "p50", "p95", "p99"),
                tuple(
                    (name, f"{one.p50_ms:.3f}", f"{one.p95_ms:.3f}", f"{one.p99_ms:.3f}")
                    for name, one in rows.items()
                ),
            )

    def text(self) -> str:
        """The report as a person reads it."""
        lines: list[str] = []
        if self.hit_ns:
            lines.append(
                "A hit in memory, ns of the processor, best round: " + listed(self.hit_ns, "{:.0f}")
            )
        if self.ratios:
            lines += table(self.ratios)
        if self.loads is not None:
            lines.append(f"{AT_ONCE} who miss one key at once load it {self.loads} time(s).")
        if self.shared is not None:
            lines.append(shared_line(self.shared))
        lines += [f"Not measured, {part}: {why}" for part, why in self.without.items()]
        missed = self.missed()
        lines += [f"MISSED: {one}" for one in missed]
        if self.measured and not missed:
            lines.append("All targets were met.")
        return "\n".join(lines)


def missed_ratios(trace: str, by_policy: Mapping[str, float]) -> list[str]:
    """What a hit ratio of ours lacks."""
    ours, lru = by_policy[OURS], by_policy[LRU]
    best = max(by_policy[name] for name in STATIC)
    found = []
    if ours < lru - NOISE:
        found.append(f"{trace}: {ours:.1%} hit, LRU {lru:.1%}")
    if ours < best - NEAR_BEST:
        found.append(f"{trace}: {ours:.1%} hit, the best static policy {best:.1%}")
    if trace == EVENING and ours <= EVENING_RATIO:
        found.append(f"{trace}: {ours:.1%} hit, not over {EVENING_RATIO:.0%}")
    return found


def shared_line(found: SharedFigures) -> str:
    """The figures of the round in the middle, and the ratios of the middle half of them."""
    outside = len(found.rounds) // 4
    least, most = found.rounds[outside], found.rounds[-1 - outside]
    return (
        f"Shared level, {WORKERS} gets at a time, the middle one of {len(found.rounds)} rounds:"
        f" p50 {found.ours.p50_ms:.2f} ms, p95 {found.ours.p95_ms:.3f} ms; redis-py's pipelined GET:"
        f" p50 {found.library.p50_ms:.2f} ms, p95 {found.library.p95_ms:.3f} ms; p95 over p95:"
        f" {found.times:.2f}, in half of the rounds {least:.2f} to {most:.2f}. The"
        f" floor, our connection without seal and guard: p50 {found.bare.p50_ms:.2f} ms, p95"
        f" {found.bare.p95_ms:.3f} ms"
    )


def listed(figures: Mapping[str, float], form: str) -> str:
    """Names and figures in one line."""
    return ", ".join(f"{name} {form.format(figure)}" for name, figure in figures.items())


def table(ratios: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Hit ratios in percent, a trace a line."""
    names = list(next(iter(ratios.values())))
    head = f"{'hit ratio, %':20}" + "".join(f"{name:>14}" for name in names)
    return [
        head,
        *(
            f"{trace:20}" + "".join(f"{100 * row[name]:14.2f}" for name in names)
            for trace, row in ratios.items()
        ),
    ]
