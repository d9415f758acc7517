"""What a report draws without a script: gauges of targets, rounds as dots, bars, and the keys of lines."""

import math
import statistics
from collections.abc import Iterator, Sequence
from typing import Final
from xml.etree.ElementTree import Element

from tableforge.bench.document import Kpi, Plot, Series, Verdict
from tableforge.bench.markup import el, icon, svg

TONES: Final = 4
"""Colours for series; the page's style and its script know them by number."""
DASHES: Final = ("", "7 3", "2 3")
VERDICTS: Final = {
    Verdict.MET: "Met",
    Verdict.MISSED: "Missed",
    Verdict.UNMEASURED: "Not measured",
}
GAUGE_ROOM: Final = 1.25
"""How far a gauge goes beyond its limit."""
ROW: Final = 18
BETWEEN: Final = 4
MANY_BARS: Final = 24


def figure(value: float) -> str:
    """A figure with three digits that say something, thousands parted by commas."""
    if not math.isfinite(value):
        return "–"
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}".replace("-", "−")
    digits = min(9, max(0, 2 - math.floor(math.log10(abs(value)))))
    return f"{value:.{digits}f}".replace("-", "−")


def badge(verdict: Verdict) -> Element:
    """The verdict as a sign and a word."""
    return el(
        "span", icon(verdict.value, small=True), VERDICTS[verdict], class_=f"verdict {verdict}"
    )


def percent(share: float) -> str:
    """A place or length along a drawing, from 0 to 1."""
    return f"{100 * min(1.0, max(0.0, share)):.2f}%"


def gauge(kpi: Kpi) -> Element | None:
    """The figure on a track, with its limit as a line; None where a limit of zero leaves nothing to draw."""
    if kpi.value is None or kpi.limit <= 0 or not math.isfinite(kpi.value):
        return None
    end = max(kpi.limit * GAUGE_ROOM, kpi.value)
    at = percent(kpi.limit / end)
    return svg(
        el("rect", class_="track", y=5, width="100%", height=4, rx=2),
        el("rect", class_="fill", y=5, width=percent(kpi.value / end), height=4, rx=2),
        el("line", class_="limit", x1=at, x2=at, y1=0, y2=14),
        class_=f"gauge {kpi.verdict}",
        width="100%",
        height=14,
    )


def margin(kpi: Kpi) -> str:
    """How far a figure is from its limit, in words."""
    if kpi.value is None or kpi.limit <= 0 or not math.isfinite(kpi.value):
        return ""
    share = kpi.value / kpi.limit - 1
    if abs(share) < 0.0005:
        return "at the limit"
    if share >= 2:
        return f"{figure(kpi.value / kpi.limit)} times the limit"
    return f"{abs(share):.0%} {'over' if share > 0 else 'under'}".replace("%", " %")


def spread(rounds: Sequence[float]) -> str:
    """The range of all rounds as a share of their median."""
    middle = statistics.median(rounds)
    if not middle:
        return "–"
    return f"{(max(rounds) - min(rounds)) / abs(middle):.0%}".replace("%", " %")


def dots(rounds: Sequence[float]) -> Element:
    """Every round as a dot on a line with the median in its middle, a tenth of it on both sides or as far as one went."""
    middle = statistics.median(rounds)
    reach = 1.15 * max(0.1 * abs(middle), *(abs(value - middle) for value in rounds)) or 1.0
    return svg(
        el("line", class_="track", x1=0, x2="100%", y1=7, y2=7),
        el("line", class_="median", x1="50%", x2="50%", y1=0, y2=14),
        (
            el("circle", class_="dot", cx=percent(0.5 + (value - middle) / reach / 2), cy=7, r=3.5)
            for value in rounds
        ),
        class_="dots",
        width="100%",
        height=14,
    )


def tones(series: Sequence[Series]) -> list[tuple[int, str]]:
    """Number of the colour and dash of each series: the ideal has 0 and is dashed, all others differ in one of both."""
    found: list[tuple[int, str]] = []
    drawn = 0
    for one in series:
        if one.role == "ideal":
            found.append((0, "5 4"))
        else:
            found.append((1 + drawn % TONES, DASHES[drawn // TONES % len(DASHES)]))
            drawn += 1
    return found


def key(name: str, tone: int, dash: str, *, bars: bool) -> Element:
    """A name of the legend with its line, or its patch."""
    if bars and tone:
        sign = el("rect", class_="patch", width=10, height=10, y=1, rx=2)
    else:
        sign = el("path", class_="stroke", d="M1 6h16", stroke_dasharray=dash or None)
    width = 10 if bars and tone else 18
    return el(
        "span",
        svg(sign, class_=f"tone-{tone}", width=width, height=12, viewBox=f"0 0 {width} 12"),
        name,
        class_="key",
    )


def steps(low: float, high: float, *, wanted: int = 4) -> list[float]:
    """Round numbers from `low` to `high`: every 1, 2 or 5 times a power of ten, about `wanted` of them."""
    raw = (high - low) / wanted
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [(first + number) * step for number in range(int((high - first * step) / step + 1.001))]


class Bars:
    """Bars that lie: one row for each label, one bar a series, ideal values as dashed lines through the row."""

    def __init__(self, plot: Plot) -> None:
        self._plot = plot
        values = [y for one in plot.series for _, y in one.points if math.isfinite(y)]
        self._log = plot.y.log and all(value > 0 for value in values) and bool(values)
        if self._log:
            self._low: float = 10 ** math.floor(math.log10(min(values)) - 0.001)
            self._high: float = 10 ** math.ceil(math.log10(max(values)))
        else:
            self._low = min([0.0, *values])
            self._high = max([0.0, *values]) * 1.04 or 1.0

    def _at(self, value: float) -> float:
        if self._log:
            low, high = math.log10(self._low), math.log10(self._high)
            return (math.log10(value) - low) / (high - low)
        return (value - self._low) / (self._high - self._low)

    def _ticks(self) -> list[float]:
        if self._log:
            first, last = round(math.log10(self._low)), round(math.log10(self._high))
            return [10.0**power for power in range(first, last + 1, max(1, (last - first) // 4))]
        return steps(self._low, self._high)

    def drawn(self) -> Element:
        """The rows with the axis below them."""
        series = self._plot.series
        places = sorted({x for one in series for x, _ in one.points})
        tight = len(places) > MANY_BARS
        return el(
            "div",
            (self._row(place, number) for number, place in enumerate(places)),
            self._axis(),
            class_="bars tight" if tight else "bars",
        )

    def _row(self, place: float, number: int) -> Element:
        labels, index = self._plot.labels, int(place)
        named = place == index and 0 <= index < len(labels)
        name = labels[index] if named else figure(place)
        bars: list[Element] = []
        values: list[Element] = []
        ideals: list[float] = []
        for one, (tone, _) in zip(self._plot.series, tones(self._plot.series), strict=True):
            y = dict(one.points).get(place, math.nan)
            if not math.isfinite(y):
                continue
            if one.role == "ideal":
                ideals.append(y)
                continue
            start, end = sorted((self._at(y), self._at(1 if self._log else 0)))
            start = 0 if self._log else start
            end = self._at(y) if self._log else end
            bars.append(
                el(
                    "rect",
                    class_=f"bar tone-{tone} {one.role}",
                    x=percent(start),
                    y=len(bars) * ROW + 4 + BETWEEN,
                    width=percent(end - start),
                    height=ROW - 7,
                    rx=2,
                )
            )
            values.append(el("span", figure(y)))
        height = max(1, len(bars)) * ROW + 2 * BETWEEN
        lines = (
            el("line", class_="gl", x1=(at := percent(self._at(tick))), x2=at, y1=0, y2="100%")
            for tick in self._ticks()
        )
        limits = (
            el("line", class_="limit", x1=(at := percent(self._at(y))), x2=at, y1=0, y2="100%")
            for y in ideals
        )
        return el(
            "div",
            el("span", name, class_="bar-name"),
            svg(*lines, *bars, *limits, width="100%", height=height),
            el("span", values, class_="bar-value"),
            class_="bar-row",
            data_number=number,
        )

    def _axis(self) -> Element:
        ticks = (
            el(
                "text",
                figure(tick),
                x=percent(self._at(tick)),
                y=12,
                text_anchor="start" if number == 0 else "middle",
            )
            for number, tick in enumerate(self._ticks())
        )
        return el(
            "div",
            el("span", class_="bar-name"),
            svg(*ticks, width="100%", height=16),
            el("span", class_="bar-value"),
            class_="bar-row axis",
        )


def joined(plot: Plot, most: int) -> tuple[list[tuple[float, list[float | None]]], int]:
    """The points of all series in rows by x, every n-th of them where there are more than `most`; and n."""
    places = sorted({x for one in plot.series for x, _ in one.points if math.isfinite(x)})
    every = max(1, math.ceil(len(places) / most))
    found = [dict(one.points) for one in plot.series]
    return [(x, [values.get(x) for values in found]) for x in places[::every]], every


def drawable(plot: Plot) -> Iterator[list[tuple[float, float]]]:
    """The points of each series that have a place on the axes."""
    for one in plot.series:
        yield [
            (x, y)
            for x, y in sorted(one.points)
            if math.isfinite(x)
            and math.isfinite(y)
            and (x > 0 or not plot.x.log)
            and (y > 0 or not plot.y.log)
        ]
