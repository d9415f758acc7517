"""The page of a report as text: what is in it, and that nothing of it can break out."""

import base64
import hashlib
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tableforge.bench.document import Axis, Mark, Plot, Sample, Section, Series, Table
from tableforge.bench.drawings import figure, margin, steps
from tableforge.bench.page import BUILT, check_built, html_of
from tableforge.bench.targets import API_P95, CONNECTION_FAILURES
from tableforge.errors import Unavailable
from tests import sample_report

NASTY = '</script></style><img src=x onerror="alert(1)"><!--<script>&amp;\u2028"\'>'


class Seen(HTMLParser):
    """What a browser would make of it: elements, the text of scripts and styles, words."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self.words: list[str] = []
        self._in = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """See html.parser."""
        self.elements.append((tag, dict(attrs)))
        self._in = tag
        if tag in self.raw:
            self.raw[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        """See html.parser."""
        self._in = ""

    def handle_data(self, data: str) -> None:
        """See html.parser."""
        if self._in in self.raw:
            self.raw[self._in][-1] += data
        else:
            self.words.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of each element of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def seen() -> Seen:
    """The page of a report with everything."""
    return Seen(html_of(sample_report.document()))


def test_the_page_asks_for_nothing_and_runs_its_own_script_alone(seen: Seen) -> None:
    policy = next(
        one["content"] or ""
        for one in seen.named("meta")
        if one.get("http-equiv") == "Content-Security-Policy"
    )
    _, script = seen.raw["script"]
    for kind, text in (("script", script), ("style", seen.raw["style"][0])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    addresses = [one[name] for _, one in seen.elements for name in ("src", "href") if name in one]
    assert addresses
    assert all(address and address.startswith("#") for address in addresses)
    assert set(re.findall(r"url\((\w+:)", seen.raw["style"][0])) <= {"data:"}
    assert not [one for _, one in seen.elements if "style" in one]
    assert not re.search(r"\bimport\b *[({*\"']|\bexport\b *[{*]", script)


def test_every_figure_target_and_verdict_can_be_read_without_a_script(seen: Seen) -> None:
    shown, words = sample_report.document(), set(seen.words)
    for kpi in shown.kpis():
        assert {kpi.name, kpi.target} <= words
        assert kpi.value is None or figure(kpi.value) in words
    for section in shown.sections:
        assert section.title in words
        for table in section.tables:
            assert {cell for row in table.rows for cell in row} <= words
    assert any("18 of 22 targets met, 3 missed, 1 not measured" in one for one in words)
    plots = sum(len(one.plots) for one in shown.sections)
    assert len(seen.named("figure")) == len(seen.named("details")) == plots
    assert {"percentile", "instance killed", "18.4 s"} <= words


def test_what_must_not_be_published_is_not(seen: Seen) -> None:
    chosen = sample_report.scaling()
    kept_back = replace(
        sample_report.document(),
        sections=(replace(chosen, kpis=(), invalid="The load side was slow."),),
    )
    found = Seen(html_of(kept_back))
    assert not found.named("figure")
    assert "1.97" not in found.words
    assert any("The load side was slow." in words for words in found.words)


def test_a_broken_promise_stands_at_the_top() -> None:
    section = replace(sample_report.chaos(), broken=("3 moves were acknowledged and lost",))
    found = Seen(html_of(replace(sample_report.document(), sections=(section,))))
    at = found.words.index(" broke a promise: 3 moves were acknowledged and lost")
    assert at < found.words.index("Measured")


def test_words_of_others_never_become_markup() -> None:
    hostile = Section(
        bench=NASTY,
        title=NASTY,
        command=NASTY,
        settings={NASTY: NASTY},
        kpis=(replace(API_P95.judged(3, NASTY), name=NASTY, unit=NASTY, why=NASTY),),
        samples=(Sample(NASTY, NASTY, "lower", (1.0, 2.0)),),
        plots=tuple(
            Plot(
                name=NASTY,
                title=NASTY,
                kind=kind,
                x=Axis(NASTY, NASTY),
                y=Axis(NASTY, NASTY),
                series=(Series(NASTY, ((0, 1), (1, math.nan), (2, math.inf))),),
                marks=(Mark(1, NASTY),),
                labels=(NASTY,),
                note=NASTY,
            )
            for kind in ("line", "bars")
        ),
        tables=(Table(NASTY, (NASTY,), ((NASTY,),)),),
        notes=(NASTY,),
        broken=(NASTY,),
    )
    plain = sample_report.week()
    shown = replace(plain, sections=(hostile,), commit=NASTY, machine={NASTY: NASTY}, made=NASTY)
    found = Seen(html_of(shown, title=NASTY))
    assert not found.named("img")
    assert len(found.named("script")) == 2
    assert len(found.named("style")) == 1
    assert not [one for _, one in found.elements if "onerror" in one]
    (plot,) = json.loads(found.raw["script"][0])
    assert plot["title"] == plot["marks"][0]["label"] == NASTY
    assert plot["series"][0]["points"] == [[0, 1]]
    assert "<" not in found.raw["script"][0]


def test_a_report_without_targets_is_one_too() -> None:
    found = Seen(html_of(sample_report.week(), title="Week 48"))
    assert "Week 48" in found.words
    assert "About this report" in found.words
    assert "Targets" not in found.words
    assert any(re.fullmatch(r"2025-11-2\d \d\d:\d\d", words) for words in found.words)


def test_a_long_line_is_thinned_in_its_table_only() -> None:
    line = tuple((float(x), 1.0) for x in range(1000))
    (section,) = sample_report.week().sections
    plot = replace(section.plots[0], x=Axis("time", "s"), series=(Series("a", line),))
    shown = replace(sample_report.week(), sections=(replace(section, plots=(plot,)),))
    found = Seen(html_of(shown))
    assert any(words.startswith("Every 5th point") for words in found.words)
    assert len(json.loads(found.raw["script"][0])[0]["series"][0]["points"]) == 1000


def test_without_the_web_build_it_is_said_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="make web"):
        html_of(sample_report.document(), built=tmp_path)
    with pytest.raises(Unavailable, match="make web"):
        check_built(tmp_path)
    assert (BUILT / "report.js").exists()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0"),
        (4.6289, "4.63"),
        (0.71, "0.710"),
        (1234.5, "1,234"),
        (-3.5, "−3.50"),
        (math.inf, "–"),
    ],
)
def test_figures_are_written_as_people_read_them(value: float, words: str) -> None:
    assert figure(value) == words


def test_the_margin_is_told_in_words() -> None:
    found = [margin(API_P95.judged(value, "")) for value in (25, 60, 50, 500, None)]
    assert found == ["50 % under", "20 % over", "at the limit", "10 times the limit", ""]
    assert margin(CONNECTION_FAILURES.judged(0, "")) == ""


def test_an_axis_has_round_steps() -> None:
    assert steps(0, 133) == [0, 50, 100]
    assert steps(0, 1.04) == pytest.approx([0, 0.5, 1.0])
    assert steps(-12, 12) == [-10, 0, 10]
