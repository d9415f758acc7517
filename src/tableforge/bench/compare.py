"""Two reports held against each other: what became slower or faster, and what is only noise.

A figure has changed when two things hold at once. Its rounds could hardly have moved so far by chance: Yuen's test of
trimmed means (Biometrika 61, 1974), on logarithms because slowdowns multiply, which a few wild rounds do not lead astray and
which with few rounds is Welch's; over all figures the procedure of Benjamini and Hochberg (J. R. Statist. Soc. B 57, 1995)
bounds the part of false alarms. And the same test says that they moved by more than the figure's band, which is how far the
same build may lie off in another run: rounds of one run share its luck, so what lies within no run can tell it.

Where the machine itself was slower, by its own samples, so much is forgiven to all the others.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean, median
from typing import Final

from tableforge.bench.document import Document, Sample, Section, Verdict

ALPHA: Final = 0.05
TRIMMED: Final = 0.15
"""Of the rounds, at each end: one of seven, and none of fewer."""
FEWEST_ROUNDS: Final = 3
STEPS: Final = 200
"""Of the numeric integral of Student's density; an even number."""
NORMAL_FROM: Final = 300.0
"""Degrees of freedom from which on Student's t is as good as normal."""
MACHINE: Final = "machine."
"""Samples of the machine itself, whose shift is nobody's fault."""
FATAL_LIMIT: Final = 0.0
"""A target of none at all: to miss it is no noise."""


class Change(StrEnum):
    """What became of a figure; UNCLEAR is one whose rounds lie too far apart to tell a change of its band."""

    SLOWER = "slower"
    FASTER = "faster"
    SAME = "same"
    UNCLEAR = "too noisy to tell"


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure in both. `times` is how many times worse the later one is (under 1: better), `chance` the probability of as
    much in one direction by chance alone, `tells` the smallest change that its rounds can tell, as a part."""

    name: str
    unit: str
    before: float
    after: float
    times: float
    chance: float
    tells: float
    change: Change


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that two reports share, with what makes them hard to compare and what only one of them has."""

    figures: tuple[Compared, ...]
    warnings: tuple[str, ...]
    broken: tuple[str, ...]

    @property
    def of_benches(self) -> tuple[Compared, ...]:
        """The figures that say something of TableForge: all but those of the machine itself."""
        return tuple(one for one in self.figures if not one.name.startswith(MACHINE))

    def those(self, change: Change) -> list[Compared]:
        """The figures with this change."""
        return [one for one in self.figures if one.change is change]

    @property
    def worse(self) -> list[str]:
        """What became worse, in words; empty when nothing did."""
        return [
            f"{one.name}: {one.before:.4g} to {one.after:.4g} {one.unit}, {one.times:.2f} times as slow"
            for one in self.those(Change.SLOWER)
            if not one.name.startswith(MACHINE)
        ] + list(self.broken)


def compare(before: Document, after: Document) -> Comparison:
    """Hold a later report against an earlier one."""
    pairs = list(_pairs(before, after))
    shift = max((abs(_times(*pair) - 1) for pair in pairs if _machine(pair[0])), default=0.0)
    tests = [_Test(*pair) for pair in pairs]
    figures = []
    bar = _bar([one.chance for one in tests])
    for pair, test in zip(pairs, tests, strict=True):
        allowed = pair[0].band if _machine(pair[0]) else _widened(pair, shift)
        figures.append(_judged(pair, test, bar, allowed))
    return Comparison(
        tuple(figures),
        tuple(_warnings(before, after, pairs, shift)),
        tuple(_broken(before, after)),
    )


def _machine(sample: Sample) -> bool:
    return sample.name.startswith(MACHINE)


def _widened(pair: tuple[Sample, Sample], shift: float) -> float:
    return (1 + max(one.band for one in pair)) * (1 + shift) - 1


def _times(before: Sample, after: Sample) -> float:
    """How many times worse the middle round is."""
    times = median(after.rounds) / median(before.rounds)
    return times if before.better == "lower" else 1 / times


def _pairs(before: Document, after: Document) -> Iterator[tuple[Sample, Sample]]:
    earlier = {sample.name: sample for sample in _samples(before)}
    for sample in _samples(after):
        twin = earlier.get(sample.name)
        if twin is not None and _usable(twin) and _usable(sample) and twin.unit == sample.unit:
            yield twin, sample


def _samples(document: Document) -> Iterator[Sample]:
    for section in document.sections:
        if not section.invalid:
            yield from section.samples


def _usable(sample: Sample) -> bool:
    return len(sample.rounds) >= FEWEST_ROUNDS and min(sample.rounds) > 0


class _Test:
    """Yuen's test for one pair: `chance` in the direction of the shift, and `tells(bar)`, what it can tell at that chance."""

    def __init__(self, before: Sample, after: Sample) -> None:
        first, second = (
            _Trimmed([math.log(one) for one in each.rounds]) for each in (before, after)
        )
        self._error = math.sqrt(first.error + second.error)
        parts = first.error**2 / (first.kept - 1) + second.error**2 / (second.kept - 1)
        self._freedom = self._error**4 / parts if parts else math.inf
        self._shift = abs(second.mean - first.mean)
        self.chance = self.beyond(0.0)

    def beyond(self, part: float) -> float:
        """The probability of such a shift where the true one is a change by this part."""
        left = self._shift - math.log1p(part)
        if self._error:
            tail = student_tail(abs(left) / self._error, self._freedom)
            return tail if left > 0 else 1 - tail
        return 0.0 if left > 0 else 1.0

    def tells(self, bar: float) -> float:
        """The smallest change, as a part, that would come out at this chance."""
        if not self._error:
            return 0.0
        low, high = 0.0, 1e4
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (
                (middle, high) if student_tail(middle, self._freedom) > bar else (low, middle)
            )
        return math.expm1(min(50.0, high * self._error))


class _Trimmed:
    """Mean without the ends, and the square of its standard error by the winsorized variance."""

    def __init__(self, values: Sequence[float]) -> None:
        ordered = sorted(values)
        cut = int(TRIMMED * len(ordered))
        inner = ordered[cut : len(ordered) - cut]
        winsorized = [inner[0]] * cut + inner + [inner[-1]] * cut
        middle = fmean(winsorized)
        self.kept = len(inner)
        self.mean = fmean(inner)
        squares = math.fsum((one - middle) ** 2 for one in winsorized)
        self.error = squares / (self.kept * (self.kept - 1))


def student_tail(t: float, freedom: float) -> float:
    """The probability that Student's t of so many degrees of freedom lies beyond `t` (not negative), by Simpson's rule.

    With x = tan(angle) * sqrt(freedom) the density is a power of the cosine, on a bounded interval.
    """
    if freedom > NORMAL_FROM:
        return math.erfc(t / math.sqrt(2)) / 2
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)
    begin = math.atan(t / math.sqrt(freedom))
    width = (math.pi / 2 - begin) / STEPS
    total = 0.0
    for step in range(STEPS + 1):
        weight = 1 if step in (0, STEPS) else 4 if step % 2 else 2
        total += weight * max(0.0, math.cos(begin + step * width)) ** (freedom - 1)
    return min(0.5, scale * total * width / 3)


def _bar(chances: Sequence[float]) -> float:
    """What a chance may be at most, so that of all that is told as changed a part of ALPHA may be false alarms."""
    ranked = enumerate(sorted(chances), 1)
    # Half of ALPHA, since a chance counts one direction alone.
    bars = [ALPHA / 2 * rank / len(chances) for rank, _ in ranked]
    passed = [bar for bar, chance in zip(bars, sorted(chances), strict=True) if chance <= bar]
    return max(passed, default=0.0)


def _judged(pair: tuple[Sample, Sample], test: _Test, bar: float, allowed: float) -> Compared:
    times = _times(*pair)
    tells = test.tells(ALPHA / 2)
    change = Change.SAME if tells <= allowed else Change.UNCLEAR
    if test.chance <= bar and test.beyond(allowed) <= ALPHA:
        change = Change.SLOWER if times > 1 else Change.FASTER
    before, after = pair
    return Compared(
        after.name,
        after.unit,
        median(before.rounds),
        median(after.rounds),
        times,
        test.chance,
        tells,
        change,
    )


def _warnings(
    before: Document, after: Document, pairs: Sequence[tuple[Sample, Sample]], shift: float
) -> Iterator[str]:
    for name in sorted(before.machine.keys() | after.machine.keys()):
        was, now = before.machine.get(name, ""), after.machine.get(name, "")
        # The disk's folder has another name each time, and the load is of the moment.
        if name not in ("load", "disk") and was != now:
            yield f"Another machine: {name} was {was or 'not told'}, is {now or 'not told'}."
    if before.quick != after.quick:
        yield "One report is of a quick run, the other is not."
    earlier = {section.bench: section for section in before.sections}
    for section in after.sections:
        twin = earlier.pop(section.bench, None)
        if twin is None:
            yield f"{section.bench} stands in the later report alone."
            continue
        yield from _of_section(twin, section)
    for name in earlier:
        yield f"{name} stands in the earlier report alone."
    compared = {sample.name for _, sample in pairs}
    for name in sorted({one.name for each in (before, after) for one in _samples(each)} - compared):
        yield f"{name} is not compared: it needs {FEWEST_ROUNDS} rounds above zero in both."
    if shift > 0.1:
        yield f"The machine itself was {shift:.0%} off: so much is forgiven to all figures."


def _of_section(before: Section, after: Section) -> Iterator[str]:
    for name in sorted(before.settings.keys() | after.settings.keys()):
        was, now = before.settings.get(name, "–"), after.settings.get(name, "–")
        if was != now:
            yield f"{after.bench} was measured otherwise: {name} was {was}, is {now}."
    for which, section in (("earlier", before), ("later", after)):
        if section.invalid:
            yield f"{section.bench} is not compared: the {which} one says {section.invalid}"


def _broken(before: Document, after: Document) -> Iterator[str]:
    """Promises that the later one broke and the earlier one kept."""
    kept: Mapping[str, bool] = {section.bench: not section.broken for section in before.sections}
    for section in after.sections:
        if kept.get(section.bench):
            yield from (f"{section.bench}: {what}" for what in section.broken)
    met = {kpi.name for kpi in before.kpis() if kpi.verdict is Verdict.MET}
    for kpi in after.kpis():
        if kpi.limit == FATAL_LIMIT and kpi.verdict is Verdict.MISSED and kpi.name in met:
            yield f"{kpi.name}: {kpi.measured}"
