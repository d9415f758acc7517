"""The load tool: what it counts is what happened, and it says so when something did not."""

import json
from array import array
from pathlib import Path

import pytest

from tableforge.bench.figures import Plan, command_line
from tableforge.bench.latency import quantiles
from tableforge.bench.websocket import audited
from tests.command import tableforge

SMALL = ("bench", "websocket", "--users", "20", "--rate", "5", "--seconds", "2", "--warm-up", "1")


def test_a_small_run_counts_every_delivery(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    done = tableforge(
        *SMALL,
        *(
            "--folder",
            disk,
            "--set",
            "LOG_COMMIT_INTERVAL_MS=4",
            "--save",
            tmp_path / "report.json",
        ),
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    figures = report["figures"]
    assert report["failed"] is False
    assert figures["moves"] == 20 * 5 * 2
    assert figures["delivered"] == figures["moves"] * 10
    assert figures["delivered_to_others"] == figures["moves"] * 9
    for name in ("errors", "missing", "out_of_order", "reconnects"):
        assert figures[name] == 0
    assert figures["audit"] == {
        # Opening, nine others who join, ten pieces, then all moves, the warm-up's too; in two rooms.
        "events": 2 * 20 + 20 * 5 * 3,
        "acknowledged": 20 * 5 * 3,
        "missing": 0,
        "misplaced": 0,
        "repeated": 0,
        "gaps": 0,
    }
    others = figures["others"]
    assert 0 < others["p50_ms"] <= others["p95_ms"] <= others["max_ms"]
    assert 0 < figures["cpu_us_per_delivery"] < figures["cpu_us_per_delivery_to_others"]
    assert figures["memory"]["peak_bytes"] > 10 << 20
    for when in ("floor_before", "floor_after"):
        assert report[when]["commit"]["latency"]["count"] > 0
        assert report[when]["fan_out"]["latency"]["count"] == 20 * 5 * 2 * 10
    assert report["command"].startswith(
        "tableforge bench websocket --users 20 --rate 5 --seconds 2"
    )
    assert report["commit"]
    assert report["machine"]["processor"]
    # Nothing is left behind.
    assert list(disk.iterdir()) == []
    for words in (
        "Durable moves: 200 in ",
        "received by the other members",
        "received by everybody, the mover too",
        "deliveries, to others / in all                1800 / 2000",
        "CPU a delivery to another member",
        "before: durable commit of 1 row",
        "after: loopback echo",
        "no error, and the log as promised             met",
        "settings of the server                        no limits LOG_COMMIT_INTERVAL_MS=4",
    ):
        assert words in done.stdout, words


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--users", "15"), "15 users do not fill rooms of 10."),
        (("--set", "LOG_COMMIT_INTERVAL_MS"), "is not of the form NAME=VALUE."),
        (("--rate", "0"), "0.0 is not in the range"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    arguments: tuple[str, ...], why: str, tmp_path: Path
) -> None:
    done = tableforge("bench", "websocket", *arguments, folder=tmp_path)
    assert done.returncode == 2
    assert why in done.stderr


def test_a_server_that_does_not_start_is_told_of(tmp_path: Path) -> None:
    done = tableforge(*SMALL, "--set", "LOG_LEVEL=loud", folder=tmp_path)
    assert done.returncode == 1
    assert "The measurement did not begin." in done.stderr
    assert "LOG_LEVEL" in done.stderr


LOG = [(1, "piece"), (2, "m0"), (3, "m1"), (4, "m2")]


@pytest.mark.parametrize(
    ("acknowledged", "log", "found"),
    [
        ([2, 3, 4], LOG, {}),
        # Carried out and not answered: the connection was cut.
        ([2, 0, 4], LOG, {}),
        ([2, 3, 4], LOG[:3], {"missing": 1}),
        ([2, 3, 5], LOG, {"misplaced": 1}),
        ([2, 3, 4], [*LOG, (5, "m2")], {"repeated": 1, "misplaced": 1}),
        ([2, 3, 4], [LOG[0], LOG[1], LOG[3]], {"missing": 1, "gaps": 1}),
    ],
)
def test_the_audit_finds_what_was_lost_moved_or_done_twice(
    acknowledged: list[int], log: list[tuple[int, str]], found: dict[str, int]
) -> None:
    audit = audited(acknowledged, [log])
    names = ("missing", "misplaced", "repeated", "gaps")
    assert {name: getattr(audit, name) for name in names if getattr(audit, name)} == found
    assert audit.clean == (not found)


def test_quantiles_are_those_of_the_sorted_values() -> None:
    values = array("Q", [*range(1000, 101_000, 1000)])
    found = quantiles(values)
    assert found.count == 100
    for share, told in (
        (50, found.p50_ms),
        (95, found.p95_ms),
        (99, found.p99_ms),
        (100, found.max_ms),
    ):
        assert told == pytest.approx(share, rel=0.002)


def test_without_values_quantiles_are_zero() -> None:
    assert quantiles(array("Q")).max_ms == 0


def test_the_command_that_repeats_a_plan_has_what_is_not_usual() -> None:
    assert command_line(Plan()) == (
        "tableforge bench websocket --users 1000 --rate 1 --seconds 60 --room-size 10"
    )
    plan = Plan(rate=6, warm_up_seconds=2, folder=Path("/disk"), settings={"A": "1"})
    assert command_line(plan).endswith(
        "--rate 6 --seconds 60 --room-size 10 --warm-up 2 --folder /disk --set A=1"
    )


def test_a_report_holds_no_secret_setting() -> None:
    plan = Plan(settings={"ADMIN_TOKEN": "open-sesame", "LOG_COMMIT_INTERVAL_MS": "4"})
    told = command_line(plan)
    assert "open-sesame" not in told
    assert "--set ADMIN_TOKEN=******** --set LOG_COMMIT_INTERVAL_MS=4" in told
