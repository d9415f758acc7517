"""Latencies: gathered as plain microseconds while the clock runs, made into quantiles afterwards."""

from array import array
from collections import Counter
from dataclasses import dataclass

from hdrh.histogram import HdrHistogram

LONGEST_MICROSECONDS = 600_000_000
DIGITS = 3


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Milliseconds; all are zero when nothing was measured."""

    count: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


def quantiles(microseconds: "array[int]") -> Quantiles:
    """The quantiles of some latencies, to three digits."""
    histogram = HdrHistogram(1, LONGEST_MICROSECONDS, DIGITS)
    for value, count in Counter(microseconds).items():
        histogram.record_value(min(max(1, value), LONGEST_MICROSECONDS), count)

    def at(percent: float) -> float:
        return float(histogram.get_value_at_percentile(percent)) / 1000 if microseconds else 0.0

    return Quantiles(len(microseconds), at(50), at(95), at(99), at(100))
