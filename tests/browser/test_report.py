"""A report opened as whoever gets it by mail does: from the disk, without a network, by day, by night, on a phone."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tableforge.bench.page import html_of
from tests import sample_report
from tests.browser.conftest import DESK, PATIENCE_MS
from tests.browser.test_access import PHONE, offences

DRAWN = """(canvas) => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const inks = new Set();
  for (let at = 0; at < data.length; at += 4) if (data[at + 3] > 200) inks.add(data[at] << 16 | data[at + 1] << 8 | data[at + 2]);
  return [...inks];
}"""
OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
SPILT = """() => [...document.querySelectorAll(".kpi")].filter((card) => card.scrollWidth > card.clientWidth)
  .map((card) => card.textContent)"""
"""Cards out of which something hangs, which the page hides."""
NOT_DARK = 0x808080


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a report on the disk."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(html_of(sample_report.document()), "utf-8")
    return path.as_uri()


class Reader:
    """Opens the report; nothing may be fetched, and no mistake reported."""

    def __init__(self, browser: Browser, report: str) -> None:
        self._browser = browser
        self._report = report
        self.mistakes: list[str] = []
        self._opened: list[Page] = []

    def open(
        self, size: tuple[int, int] = DESK, *, light: bool = False, script: bool = True
    ) -> Page:
        """A reader of one's own: window, light, with a script or without."""
        context = self._browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="light" if light else "dark",
            java_script_enabled=script,
            offline=True,
        )
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        self._opened.append(page)
        page.on("pageerror", lambda error: self.mistakes.append(str(error)))
        page.on("console", lambda message: self.mistakes.append(message.text))
        page.on(
            "request",
            lambda one: (
                None
                if one.url.startswith(("file:", "data:"))
                else self.mistakes.append(f"asked for {one.url}")
            ),
        )
        page.goto(self._report)
        if script:
            page.locator(".plot canvas").last.wait_for(state="attached")
        return page

    def close(self) -> None:
        """Close what was opened."""
        for page in self._opened:
            page.context.close()


@pytest.fixture
def reader(browser: Browser, report: str) -> Iterator[Reader]:
    """At the end nothing may have gone wrong."""
    reader = Reader(browser, report)
    yield reader
    reader.close()
    assert reader.mistakes == []


@pytest.mark.parametrize(
    ("name", "size", "light"),
    [("day", DESK, True), ("night", DESK, False), ("phone", PHONE, True)],
)
def test_the_report_is_whole_in_every_light_and_size(
    reader: Reader, tmp_path: Path, name: str, size: tuple[int, int], light: bool
) -> None:
    page = reader.open(size, light=light)
    page.screenshot(path=tmp_path / f"{name}.png", full_page=True)
    assert page.evaluate(OVERFLOW) <= 0
    assert page.evaluate(SPILT) == []
    plots = page.locator(".plot")
    lines = [
        plot
        for section in sample_report.document().sections
        for plot in section.plots
        if plot.kind != "bars" and not section.invalid
    ]
    expect(plots).to_have_count(len(lines))
    for number in range(len(lines)):
        assert len(plots.nth(number).locator("canvas").evaluate(DRAWN)) > 3
    assert offences(page, "body") == []


def test_the_switch_changes_the_light_and_the_lines_with_it(reader: Reader) -> None:
    page = reader.open()
    canvas = page.locator(".plot canvas").first
    paper, night = page.locator("body"), canvas.evaluate(DRAWN)
    dark = paper.evaluate("(body) => getComputedStyle(body).backgroundColor")
    page.get_by_role("radio", name="Day").check(force=True)
    assert paper.evaluate("(body) => getComputedStyle(body).backgroundColor") != dark
    day = page.locator(".plot canvas").first.evaluate(DRAWN)
    assert set(day) != set(night)
    page.get_by_role("radio", name="Auto").check(force=True)
    assert paper.evaluate("(body) => getComputedStyle(body).backgroundColor") == dark


def test_a_plot_is_read_by_keys_and_by_pointer_and_its_table_opens(reader: Reader) -> None:
    page = reader.open()
    plot = page.get_by_role("img", name=re.compile("Delivery while things break"))
    plot.press("End")
    expect(page.locator("#told")).to_contain_text("119 s: delivery p95")
    expect(plot.locator(".tip")).to_be_visible()
    plot.press("Escape")
    expect(plot.locator(".tip")).to_be_hidden()
    plot.hover(position={"x": 200, "y": 150})
    expect(plot.locator(".tip")).to_contain_text("delivery p95")
    figure = page.get_by_role("figure", name="Delivery while things break")
    figure.get_by_text("Show as table").press("Enter")
    table = figure.get_by_role("region", name="Delivery while things break, data")
    expect(table.get_by_role("row")).to_have_count(121)


def test_marks_that_do_not_fit_become_numbers_with_a_list(reader: Reader) -> None:
    page = reader.open(PHONE)
    figure = page.get_by_role("figure", name="Delivery while things break")
    expect(figure.locator(".marks")).to_contain_text("instance killed")
    expect(figure.locator(".marks")).to_be_visible()


def test_without_a_script_everything_but_the_lines_is_there(reader: Reader) -> None:
    page = reader.open(script=False)
    expect(page.get_by_role("table", name="Targets").get_by_role("row")).to_have_count(25)
    expect(page.get_by_text("TableForge commits every move to the disk")).to_be_visible()
    expect(page.locator(".bar").first).to_be_visible()
    expect(page.locator(".plot").first).to_be_hidden()
    figure = page.get_by_role("figure", name="Hit ratio against size")
    figure.get_by_text("Show as table").click()
    expect(figure.get_by_role("rowheader", name="500", exact=True)).to_be_visible()
    page.locator("label", has_text="Day").click()
    assert page.locator(".segmented input").nth(1).is_checked()


def test_on_paper_it_is_day_and_every_line_is_drawn(reader: Reader) -> None:
    page = reader.open()
    page.evaluate("() => dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    darkest = page.locator(".plot canvas").first.evaluate(DRAWN)
    assert min(darkest) < NOT_DARK
    for box in (one.bounding_box() for one in page.locator(".plot canvas").all()):
        assert box is not None
        assert min(box["width"], box["height"]) > 150
    assert page.evaluate(OVERFLOW) <= 0
    page.evaluate("() => dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    assert len(page.pdf(format="A4")) > 10_000
