"""The bench of the web client: a small table in a real browser, and what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from tableforge.bench.client import COLD, HEAP, SEEN, WARM, Frames, Plan, Report, run
from tableforge.bench.document import Verdict
from tests.command import tableforge

SMALL = Plan(pieces=(12, 30), rounds=2, seconds=0.3, loads=1, moves=3)


@pytest.fixture(scope="module")
def report(chromium: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """A run as small as it can be."""
    folder = tmp_path_factory.mktemp("disk")
    said: list[str] = []
    found = run(replace(SMALL, chromium=chromium, folder=folder), progress=said.append)
    assert any("30 pieces" in line for line in said)
    assert list(folder.iterdir()) == []
    return found


def test_a_browser_opens_a_table_and_sees_moves(report: Report) -> None:
    assert report.broken == ()
    assert len(report.cold) == len(report.warm) == 1
    assert min(report.cold + report.warm) > 0
    assert [one.pieces for one in report.frames] == [12, 30]
    for one in report.frames:
        assert len(one.rounds) == 2
        assert one.quantiles().count > 4
    assert len(report.seen) == 3
    assert 0 < min(report.seen) < 5_000
    assert min(report.heap_bytes.values()) > 1 << 20


def test_what_it_found_is_a_section_of_its_own_targets(report: Report) -> None:
    section = report.section()
    names = [kpi.name for kpi in section.kpis]
    assert names == [
        COLD.name,
        WARM.name,
        "frame p95 at 12 pieces, others moving",
        "frame p95 at 30 pieces, others moving",
        SEEN.name,
        HEAP.name,
    ]
    assert all(kpi.own and kpi.verdict is not Verdict.UNMEASURED for kpi in section.kpis)
    assert not section.missed
    assert all(sample.rounds for sample in section.samples)
    assert section.settings["browser"].startswith("Chromium ")
    assert report.renderer in section.settings["renderer"]
    assert any(report.renderer in note for note in section.notes)
    text = report.text()
    assert all(name in text for name in names)
    assert report.as_json()["failed"] is False


def test_a_move_that_is_not_seen_and_a_mistake_of_the_page_are_failures(report: Report) -> None:
    found = replace(report, unseen=2, complaints=("x is not defined",))
    assert found.section().missed
    assert "2 moves never changed the picture" in found.text()
    assert "x is not defined" in found.text()


def test_a_processor_that_draws_is_said_to(report: Report) -> None:
    slow = replace(report, renderer="ANGLE (Google, Vulkan 1.3 (SwiftShader Device))")
    assert "software renderer draws" in slow.text()
    quick = replace(report, renderer="ANGLE (NVIDIA)")
    assert "software renderer draws" not in quick.text()


def test_quantiles_of_frames_are_of_all_rounds() -> None:
    frames = Frames(10, ((10.0, 10.0), (10.0, 90.0)))
    assert frames.quantiles().max_ms == pytest.approx(90, rel=0.01)
    assert frames.p95() == pytest.approx((10.0, 90.0), rel=0.01)


def test_without_a_browser_it_is_said_what_to_do(tmp_path: Path) -> None:
    nothing = tmp_path / "chromium"
    nothing.write_text("no program")
    done = tableforge("bench", "client", "--chromium", nothing, folder=tmp_path)
    assert done.returncode == 2
    assert "is no program" in done.stderr
    assert "Install Chromium" in done.stderr
