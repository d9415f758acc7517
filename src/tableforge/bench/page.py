"""A document as one HTML file: complete without a network and, the drawn lines apart, without JavaScript.

The style and the script come from the web build (web/src/report). What a document says is text in a tree and JSON in a
block that nothing runs; the page's own policy lets it load nothing and run this script alone.
"""

import base64
import hashlib
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import Element

import msgspec

from tableforge.bench.document import Axis, Document, Kpi, Plot, Sample, Section, Table, Verdict
from tableforge.bench.drawings import (
    Bars,
    badge,
    dots,
    drawable,
    figure,
    gauge,
    joined,
    key,
    margin,
    spread,
    tones,
)
from tableforge.bench.markup import Child, el, hidden, icon, svg, text_of
from tableforge.errors import Unavailable

BUILT: Final = Path(__file__).parents[1] / "web" / "static" / "report"
STYLE, SCRIPT = "report.css", "report.js"
TITLE: Final = "Benchmark report"
MOST_ROWS: Final = 240
"""Of a plot's data table; a report's JSON has every point."""
FLAME: Final = (
    "M16.6 8c.5 4.3 5.4 5.9 5.4 11 0 3.3-2.6 5.5-6 5.5s-6-2.2-6-5.4c0-3 1.9-4.3 2.6-6.9 1.5 1 2 2.3 2 3.6"
    " 1.5-1.7 2.6-4.5 2-7.8z"
)
RARITY: Final = "1 / (1 - quantile)"
PERCENTILE: Final = "percentile"
UNSAFE_IN_SCRIPT: Final = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}


def html_of(document: Document, *, title: str = TITLE, built: Path = BUILT) -> str:
    """The page; raises Unavailable where the web build is not there."""
    style, script = _built(built, STYLE), _built(built, SCRIPT)
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src {_digest(script)}",
            f"style-src {_digest(style)}",
            "font-src data:",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy),
        el("meta", name="viewport", content="width=device-width,initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("meta", name="referrer", content="no-referrer"),
        el("title", f"{title}, TableForge"),
        el("style", style),
    )
    names = _names(document.sections)
    plots = [plot for one in document.sections for plot in _published(one)]
    body = el(
        "body",
        el("a", "Skip to the figures", href="#figures", class_="skip"),
        el("div", _side(document, names), _main(document, names, title), class_="page"),
        el("div", id="told", class_="vh", role="status"),
        el("script", _data(plots), type="application/json", id="plots"),
        el("script", script),
    )
    page = el("html", head, body, lang="en", data_theme="auto")
    return f"<!doctype html>\n{text_of(page)}\n"


def check_built(built: Path = BUILT) -> None:
    """Raises Unavailable where the web build, which has the page's style and script, is not there."""
    for name in (STYLE, SCRIPT):
        _built(built, name)


def _built(folder: Path, name: str) -> str:
    try:
        return (folder / name).read_text("utf-8")
    except OSError as error:
        raise Unavailable(
            "The report's page was not written.",
            f"Its {name} was not built into this installation.",
            "Run `make web` in the source tree, or install the package with `pip install .`.",
        ) from error


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _data(plots: Iterable[Plot]) -> str:
    """What the script draws. Nothing in it can end the block, or begin a comment in it."""
    plain = [
        {
            "title": plot.title,
            "kind": plot.kind,
            "x": _axis_of(plot.x),
            "y": plot.y,
            "series": [
                {"name": one.name, "role": one.role, "points": points, "tone": tone, "dash": dash}
                for one, points, (tone, dash) in zip(
                    plot.series, drawable(plot), tones(plot.series), strict=True
                )
            ],
            "marks": plot.marks,
        }
        for plot in plots
        if plot.kind != "bars"
    ]
    return msgspec.json.encode(plain).decode().translate(UNSAFE_IN_SCRIPT)


def _axis_of(axis: Axis) -> Axis:
    """The axis as it is shown: along one of 1 / (1 - quantile) stand the percentiles that people know."""
    return Axis(PERCENTILE, PERCENTILE, log=True) if axis.log and axis.label == RARITY else axis


def _published(section: Section) -> tuple[Plot, ...]:
    return () if section.invalid else section.plots


def _names(sections: Sequence[Section]) -> list[str]:
    """Anchors, each once."""
    return [f"s{number}-{one.bench}" for number, one in enumerate(sections, 1)]


# The frame


def _side(document: Document, names: Sequence[str]) -> Element:
    links: list[Element] = []
    if any(document.kpis()):
        links.append(el("a", icon("target"), "Targets", href="#targets"))
    for section, name in zip(document.sections, names, strict=True):
        links.append(
            el(
                "a",
                _state(section),
                el("span", section.title, class_="grow"),
                el("span", _count(section.kpis), class_="n") if section.kpis else None,
                href=f"#{name}",
            )
        )
    links.append(el("a", icon("machine"), _about(document), href="#machine"))
    return el(
        "nav",
        el("p", _mark(), "TableForge", class_="wordmark"),
        el("div", links, class_="links"),
        el(
            "p",
            el("span", f"Version {document.version}"),
            el("span", f"commit {document.commit}", class_="mono"),
            class_="foot",
        ),
        class_="side",
        aria_label="Sections",
    )


def _mark() -> Element:
    return svg(
        el("path", class_="rim", d="M16 2.5 27.7 9.25v13.5L16 29.5 4.3 22.75V9.25z"),
        el("path", class_="flame", d=FLAME),
        class_="mark",
        viewBox="0 0 32 32",
    )


def _verdict_of(section: Section) -> Verdict | None:
    found = {kpi.verdict for kpi in section.kpis}
    order = (Verdict.MISSED, Verdict.UNMEASURED, Verdict.MET)
    return next((one for one in order if one in found), None)


def _state(section: Section) -> Element:
    verdict = Verdict.UNMEASURED if section.invalid else _verdict_of(section)
    verdict = Verdict.MISSED if section.broken else verdict
    if verdict is None:
        return el("span", class_="state")
    return el("span", icon(verdict.value, small=True), class_=f"state {verdict}")


def _count(kpis: Sequence[Kpi]) -> str:
    met = sum(kpi.verdict is Verdict.MET for kpi in kpis)
    return f"{met}/{len(kpis)}"


def _main(document: Document, names: Sequence[str], title: str) -> Element:
    kpis = list(document.kpis())
    return el(
        "main",
        el(
            "header",
            el(
                "div",
                el("h1", title),
                el("p", _summary(kpis), ". " if kpis else None, _made(document), class_="lede"),
            ),
            _switch(),
            class_="head",
        ),
        _banners(document, names),
        el("section", _targets(kpis), id="targets", tabindex=-1, aria_label="Targets")
        if kpis
        else None,
        (_section(one, name) for one, name in zip(document.sections, names, strict=True)),
        _machine(document),
        id="figures",
        tabindex=-1,
    )


def _summary(kpis: Sequence[Kpi]) -> str:
    count = {verdict: sum(one.verdict is verdict for one in kpis) for verdict in Verdict}
    if not kpis:
        return ""
    if count[Verdict.MET] == len(kpis):
        return f"All {len(kpis)} targets met"
    parts = [f"{count[Verdict.MET]} of {len(kpis)} targets met"]
    if count[Verdict.MISSED]:
        parts.append(f"{count[Verdict.MISSED]} missed")
    if count[Verdict.UNMEASURED]:
        parts.append(f"{count[Verdict.UNMEASURED]} not measured")
    return ", ".join(parts)


def _made(document: Document) -> Element:
    try:
        moment = datetime.fromisoformat(document.made)
    except ValueError:
        return el("span", document.made)
    words = f"{moment.day} {moment:%B %Y, %H:%M} {moment.tzname() or ''}".rstrip()
    return el("time", words, datetime=document.made)


def _switch() -> Element:
    """Day or night. The style does it, so it works without the script; that only draws the lines anew."""
    return el(
        "fieldset",
        el("legend", "Colours", class_="vh"),
        (
            el(
                "label",
                el("input", type="radio", name="theme", value=value, checked=value == "auto"),
                el("span", word),
            )
            for value, word in (("auto", "Auto"), ("light", "Day"), ("dark", "Night"))
        ),
        class_="segmented",
    )


def _banners(document: Document, names: Sequence[str]) -> Iterator[Element]:
    if document.quick:
        yield _banner(
            "This was a quick run.", "Short loads and few rounds: the figures spread more."
        )
    for section, name in zip(document.sections, names, strict=True):
        title = section.title
        if section.broken:
            link = el("a", title, href=f"#{name}")
            yield _banner(link, f"broke a promise: {'; '.join(section.broken)}", bad=True)
        if section.invalid:
            yield _banner(el("a", title, href=f"#{name}"), f"is not published: {section.invalid}")


def _banner(first: Child, rest: str, *, bad: bool = False) -> Element:
    return el(
        "p",
        icon("warning"),
        el("span", el("b", first), " ", rest),
        class_="banner bad" if bad else "banner",
    )


# The table of targets


def _targets(kpis: Sequence[Kpi]) -> Element:
    groups = [
        (words, [kpi for kpi in kpis if kpi.own is own])
        for own, words in ((False, "Targets of the contract"), (True, "Further targets"))
    ]
    shown = [(words, found) for words, found in groups if found]
    columns = ("Target of", "Target", "Measured", "Against the limit", "Verdict", "Command")
    heads = [el("th", name, scope="col", role="columnheader") for name in columns]
    bodies = []
    for words, found in shown:
        title = el("th", words, scope="colgroup", colspan=len(columns), role="columnheader")
        rows = [el("tr", title, class_="group", role="row")] if len(shown) > 1 else []
        rows += [_target(kpi) for kpi in found]
        bodies.append(el("tbody", rows, role="rowgroup"))
    head = el("thead", el("tr", heads, role="row"), role="rowgroup")
    # Laid out as cards on a phone, which takes a table's own roles away.
    table = el("table", head, bodies, class_="tbl targets", role="table", aria_label="Targets")
    return _card("Targets", table, level="h2", aside=_count(kpis) + " met")


def _target(kpi: Kpi) -> Element:
    name = el("th", kpi.name, scope="row", role="rowheader", class_="name")
    if kpi.why:
        name.append(el("small", kpi.why))
    value = (
        el("span", hidden("none"), "–", class_="big faint")
        if kpi.value is None
        else el("span", figure(kpi.value), el("small", kpi.unit), class_="big")
    )
    return el(
        "tr",
        name,
        el("td", hidden("target "), kpi.target, class_="aim", role="cell"),
        el("td", value, class_="value", role="cell"),
        el("td", gauge(kpi), el("small", margin(kpi)), class_="range", role="cell"),
        el("td", badge(kpi.verdict), class_="said", role="cell"),
        el("td", _code(kpi.command), class_="by", role="cell"),
        role="row",
        class_=str(kpi.verdict),
    )


# A section


def _section(section: Section, name: str) -> Element:
    parts: list[Child] = [
        el(
            "header",
            el("h2", section.title, id=f"{name}-title"),
            _command(section.command) if section.command else None,
            class_="section-head",
        )
    ]
    parts += [_banner("A promise was broken.", one, bad=True) for one in section.broken]
    if section.invalid:
        words = f"{section.invalid} What it measured is in the JSON beside this page."
        parts.append(_banner("Not published.", words))
    if section.kpis:
        parts.append(el("div", (_kpi(kpi) for kpi in section.kpis), class_="kpis"))
    plots = _published(section)
    if plots:
        cards = (_plot(plot, f"{name}-p{number}") for number, plot in enumerate(plots))
        parts.append(el("div", cards, class_="plots"))
    if not section.invalid:
        parts += [_table(table, section.title) for table in section.tables]
        parts.append(_rounds(section.samples, section.title))
    if section.notes:
        notes = el("ul", (el("li", note) for note in section.notes), class_="notes")
        parts.append(_card("Notes", notes))
    if section.settings:
        parts.append(_pairs(section.settings, class_="settings", label="Settings"))
    return el(
        "section",
        parts,
        id=name,
        tabindex=-1,
        class_="bench",
        aria_labelledby=f"{name}-title",
    )


def _command(command: str) -> Element:
    return el(
        "p",
        _code(command),
        el("button", icon("copy", small=True), hidden("Copy the command"), type="button"),
        class_="command",
    )


def _code(command: str) -> Element:
    """A command that breaks between its words only: a hyphen would tear its options apart."""
    words = (part for word in command.split() for part in (el("span", word), " "))
    return el("code", words)


def _card(
    title: str, *children: Child, level: str = "h3", aside: Child = None, class_: str = ""
) -> Element:
    return el(
        "div",
        el(
            "header",
            el(level, title),
            el("span", aside, class_="aside") if aside is not None else None,
        ),
        children,
        class_=f"sec {class_}".rstrip(),
    )


def _kpi(kpi: Kpi) -> Element:
    value = (
        el("p", "–", class_="v faint")
        if kpi.value is None
        else el("p", figure(kpi.value), " ", el("small", kpi.unit), class_="v")
    )
    return el(
        "div",
        el("p", kpi.name, class_="t"),
        value,
        gauge(kpi) or svg(class_="gauge", width="100%", height=14),
        el("p", el("span", kpi.target, class_="aim"), badge(kpi.verdict), class_="b"),
        class_=f"kpi {kpi.verdict}",
    )


def _plot(plot: Plot, name: str) -> Element:
    bars = plot.kind == "bars"
    names = zip(plot.series, tones(plot.series), strict=True)
    keys = [key(one.name, tone, dash, bars=bars) for one, (tone, dash) in names]
    drawn = (
        Bars(plot).drawn()
        if bars
        # The script takes the drawings in the order of the data.
        else el(
            "div", class_="plot", role="img", tabindex=0, aria_label=_sentence(plot), hidden=True
        )
    )
    x, y = _axis(plot.x), _axis(plot.y)
    return el(
        "figure",
        el(
            "figcaption",
            el("h3", plot.title, id=f"{name}-title"),
            el("span", keys, class_="legend") if len(keys) > 1 else None,
        ),
        None if bars else el("p", y, class_="axis-y"),
        drawn,
        el("p", y if bars else x, class_="axis-x"),
        el("p", plot.note, class_="note") if plot.note else None,
        _marks(plot),
        _points(plot),
        class_="sec figure",
        aria_labelledby=f"{name}-title",
    )


def _axis(axis: Axis) -> str:
    shown = _axis_of(axis)
    unit = "" if shown.unit in {"time", shown.label} else shown.unit
    return ", ".join(part for part in (shown.label, unit) if part)


def _sentence(plot: Plot) -> str:
    names = ", ".join(one.name for one in plot.series)
    x, y = _axis(plot.x) or "time", _axis(plot.y)
    return f"{plot.title}: {y} against {x}. Lines: {names}. Arrow keys read the points."


def _marks(plot: Plot) -> Element | None:
    if not plot.marks:
        return None
    rows = (
        el("li", el("b", mark.label), " ", el("span", _place(plot, mark.x)))
        for mark in sorted(plot.marks, key=lambda mark: mark.x)
    )
    return el("ol", rows, class_="marks")


def _place(plot: Plot, x: float) -> str:
    """A value of the x axis in words."""
    if _axis_of(plot.x).unit == PERCENTILE:
        return f"{100 * (1 - 1 / x):.7g} %" if x >= 1 else "–"
    if plot.x.unit == "time":
        return f"{datetime.fromtimestamp(x, UTC):%Y-%m-%d %H:%M}"
    if plot.kind == "bars" and x == int(x) and 0 <= x < len(plot.labels):
        return plot.labels[int(x)]
    return f"{figure(x)} {plot.x.unit}".rstrip()


def _points(plot: Plot) -> Element:
    rows, every = joined(plot, MOST_ROWS)
    note = f"Every {every}th point; the JSON beside this page has all." if every > 1 else None
    first = _axis(plot.x) or "time"
    heads = [first, *(f"{one.name}, {plot.y.unit}".rstrip(", ") for one in plot.series)]
    body = (
        (
            _place(plot, x),
            *("" if y is None or not math.isfinite(y) else figure(y) for y in values),
        )
        for x, values in rows
    )
    return el(
        "details",
        el("summary", icon("chevron", small=True), "Show as table"),
        el("p", note, class_="note") if note else None,
        _grid(heads, body, f"{plot.title}, data"),
    )


def _table(table: Table, of: str) -> Element:
    return _card(table.title, _grid(table.columns, table.rows, f"{of}: {table.title}"))


def _grid(columns: Iterable[str], rows: Iterable[Sequence[str]], label: str) -> Element:
    """A table that scrolls by itself where it is wider than the page; columns of figures stand to the right."""
    body = [tuple(row) for row in rows]
    numeric = [
        bool(body) and column > 0 and all(_is_figure(row[column : column + 1]) for row in body)
        for column in range(max((len(row) for row in body), default=0))
    ]

    def side(column: int) -> str | None:
        return "r" if column < len(numeric) and numeric[column] else None

    def cell(column: int, text: str) -> Element:
        if column == 0:
            return el("th", text, scope="row")
        return el("td", text, class_=side(column))

    head = (el("th", name, scope="col", class_=side(column)) for column, name in enumerate(columns))
    lines = (el("tr", (cell(column, text) for column, text in enumerate(row))) for row in body)
    table = el("table", el("thead", el("tr", head)), el("tbody", lines), class_="tbl")
    return el("div", table, class_="wide", role="region", tabindex=0, aria_label=label)


def _is_figure(cells: Sequence[str]) -> bool:
    """Whether a cell is a figure, with a unit or not, or says that there is none."""
    text = "".join(cells).strip()
    return not text or text in {"–", "-"} or text.lstrip("<>≤≥±+−- ")[:1].isdigit()


def _rounds(samples: Sequence[Sample], of: str) -> Element | None:
    found = [one for one in samples if one.rounds]
    if not found:
        return None
    columns = ("Figure", "Median", "Least", "Most", "Spread", "Each round, about the median")
    head = (
        el("th", name, scope="col", class_="r" if 0 < number < 5 else None)
        for number, name in enumerate(columns)
    )
    body = (
        el(
            "tr",
            el("th", one.name, el("small", one.unit), scope="row"),
            (
                el("td", text, class_="r")
                for text in (
                    figure(statistics.median(one.rounds)),
                    figure(min(one.rounds)),
                    figure(max(one.rounds)),
                    spread(one.rounds),
                )
            ),
            el("td", hidden(", ".join(map(figure, one.rounds))), dots(one.rounds), class_="strip"),
        )
        for one in found
    )
    table = el("table", el("thead", el("tr", head)), el("tbody", body), class_="tbl rounds")
    wide = el("div", table, class_="wide", role="region", tabindex=0, aria_label=f"{of}: rounds")
    aside = el(
        "span", "What ", el("code", "tableforge bench compare"), " holds against another run"
    )
    return _card("Rounds", wide, aside=aside)


def _pairs(pairs: Mapping[str, str], *, class_: str, label: str) -> Element:
    rows = (el("div", el("dt", name), el("dd", value)) for name, value in pairs.items())
    return el("div", el("h3", label), el("dl", rows), class_=class_)


def _machine(document: Document) -> Element:
    made = {
        "Command": document.command,
        "Commit": document.commit,
        "Version": document.version,
        "Made": document.made,
    }
    rows = (
        el("div", el("dt", name), el("dd", value))
        for name, value in {**made, **document.machine}.items()
    )
    title = _about(document)
    card = _card(title, el("dl", rows, class_="facts"), level="h2")
    return el("section", card, id="machine", tabindex=-1, aria_label=title)


def _about(document: Document) -> str:
    return "Machine and versions" if document.machine else "About this report"
