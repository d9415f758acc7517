"""Latencies: gathered as plain microseconds while the clock runs, made into quantiles afterwards."""

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from hdrh.histogram import HdrHistogram

LONGEST_MICROSECONDS = 600_000_000
DIGITS = 3
POINTS_A_NINE = 10
"""Of a curve, for each further nine of the quantile."""


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Milliseconds; all are zero when nothing was measured."""

    count: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    p999_ms: float = 0.0


def quantiles(microseconds: "array[int]") -> Quantiles:
    """The quantiles of some latencies, to three digits."""
    histogram = HdrHistogram(1, LONGEST_MICROSECONDS, DIGITS)
    for value, count in Counter(microseconds).items():
        histogram.record_value(min(max(1, value), LONGEST_MICROSECONDS), count)

    def at(percent: float) -> float:
        return float(histogram.get_value_at_percentile(percent)) / 1000 if microseconds else 0.0

    return Quantiles(len(microseconds), at(50), at(95), at(99), at(100), at(99.9))


def distribution(microseconds: "array[int]") -> tuple[tuple[float, float], ...]:
    """A curve of latencies: 1 / (1 - quantile) along, so that each step to the right is a share that is rarer, ms up."""
    values = sorted(microseconds)
    points: list[tuple[float, float]] = []
    while values and (rarity := round(10 ** (len(points) / POINTS_A_NINE), 3)) <= len(values):
        at = min(len(values) - 1, int(len(values) * (1 - 1 / rarity)))
        points.append((rarity, values[at] / 1000))
    return tuple(points)


def middle(values: Sequence[float]) -> float:
    """The median; 0 of nothing."""
    return median(values) if values else 0.0
