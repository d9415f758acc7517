"""What every test folder shares: the depth of a run, a browser, other makers' servers, and the time a folder may take."""

import os
import shutil
from collections import defaultdict
from pathlib import Path

import hypothesis
import pytest

pytest_plugins = ("tests.services",)

ROOT = Path(__file__).resolve().parent.parent

TIME_BUDGET_SECONDS = {
    "unit": 40,
    "contract": 120,
    "machines": 30,
    "project": 10,
    "simulation": 90,
    "integration": 900,
    "browser": 300,
    "bench": 120,
    "performance": 40,
    "guard": 20,
}
"""Seconds that the tests of one folder may take together on two cores; more prints a warning."""

# A quick run finds what a change broke, the same way each time; a soak run looks with fresh seeds for what nobody knows.
hypothesis.settings.register_profile("quick", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.register_profile("soak", deadline=None, max_examples=2_000, print_blob=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--soak` turns every test that has a longer form into it."""
    parser.addoption("--soak", action="store_true", help="fresh seeds, hundreds of kills: hours")


def pytest_configure(config: pytest.Config) -> None:
    """Load the Hypothesis profile of this run."""
    soak = bool(config.getoption("--soak"))
    hypothesis.settings.load_profile("soak" if soak else "quick")
    if soak:
        config.option.timeout = 3_600


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browser tests come last: Playwright's plain API keeps an event loop running in the thread of all tests."""
    items.sort(key=lambda item: folder_of(item.nodeid) == "browser")


@pytest.fixture(scope="session")
def soak(pytestconfig: pytest.Config) -> bool:
    """Whether this is the long run: a test with a count of its own takes the larger one."""
    return bool(pytestconfig.getoption("--soak"))


@pytest.fixture(scope="session")
def chromium() -> Path:
    """The browser's program, as `.ci/chromium` found or installed it."""
    names = (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    unpacked = ROOT / ".cache" / "chromium" / "run"
    for name in (*names, str(unpacked)):
        found = shutil.which(name) if name else None
        if found:
            return Path(found)
    pytest.fail("There is no Chromium for the browser tests: run `.ci/chromium`, or set CHROMIUM.")


def folder_of(nodeid: str) -> str:
    """The folder under tests/ that a test's time counts for."""
    parts = nodeid.split("::", 1)[0].split("/")
    return parts[1] if len(parts) > 2 else parts[0]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print measured seconds against the budget of each folder."""
    seconds: dict[str, float] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                folder = folder_of(report.nodeid)
                seconds[folder] += report.duration
                counts[folder] += report.when == "call"
    if not seconds:
        return
    terminalreporter.section("time by folder")
    late = []
    for folder in sorted(seconds):
        budget = TIME_BUDGET_SECONDS.get(folder)
        of = f"of {budget:4d} s" if budget else "no budget"
        terminalreporter.write_line(
            f"{folder:12} {counts[folder]:5d} tests {seconds[folder]:7.1f} s {of}"
        )
        if budget and seconds[folder] > budget:
            late.append(f"{folder} took {seconds[folder]:.1f} s, its budget is {budget} s")
    for line in late:
        terminalreporter.write_line(f"warning: {line}", yellow=True)
