"""The capacity model: prices are found again, answers follow from them, and what was not measured is said to be so."""

import functools
import json
import random
from pathlib import Path

import pytest

from tableforge.bench.capacity import (
    PAID_FOR,
    Disk,
    Load,
    Model,
    Observed,
    commits,
    counted,
    fit,
    made,
    read,
    solved,
    spread,
    written,
)
from tableforge.bench.capacity_answer import Bounds, answered
from tableforge.bench.capacity_report import Report
from tableforge.bench.capacity_sweep import Makers, Run, Service, chosen, sweep
from tableforge.errors import Malformed
from tests.command import tableforge

PRICES = {
    "cpu": {
        "instance": 9_000.0,
        "connection": 4.0,
        "command": 30.0,
        "commit": 70.0,
        "delivery": 9.0,
        "heard": 20.0,
    },
    "memory": {
        "instance": 5e7,
        "connection": 1e4,
        "room": 2e4,
        "deed": 400.0,
        "recent event": 300.0,
        "remembered command": 200.0,
    },
}
LOADS = [
    Load(users, room_size, rate, 20.0)
    for users, room_size, rate in (
        *(
            (60, 6, 20.0),
            (100, 4, 0.5),
            (100, 10, 10.0),
            (200, 2, 5.0),
            (300, 30, 0.5),
            (300, 6, 1.0),
        ),
        *((400, 10, 4.0), (600, 12, 0.25), (600, 4, 2.0), (1000, 5, 3.0), (1000, 10, 1.0)),
    )
]


def observed(load: Load, count: int = 0, *, noise: float = 0.0, held_out: bool = False) -> Observed:
    """A run as those prices make it; `count` instances of a fleet, 0 for the embedded mode."""
    where = spread("fleet" if count else "embedded", max(1, count), load.room_size, together=False)
    counts = counted(load, where, Disk(2.0, 0))
    chance = random.Random(f"{load}{count}")
    figures = {
        figure: sum(PRICES.get(figure, {}).get(name, 10.0) * counts[name] for name in names)
        * (1 + noise * chance.uniform(-1, 1))
        for figure, names in PAID_FOR.items()
        if count or ("redis" not in figure and "database" not in figure)
    }
    figures["commits"] = counts["commit"]
    return Observed(load, where, figures, held_out, 1.0, 20.0)


@functools.cache
def model(noise: float = 0.0) -> Model:
    runs = [observed(load, noise=noise) for load in LOADS]
    runs += [observed(Load(500, 8, 1.5, 20.0), noise=noise, held_out=True)]
    runs += [observed(load, count, noise=noise) for load in LOADS for count in (1, 2)]
    runs += [observed(Load(250, 5, 1.5, 20.0), 2, noise=noise, held_out=True)]
    machine = {"processor": "Difference Engine", "python": "3.11", "disk": "ext4"}
    return made(runs, machine=machine, commit="abc", command="tableforge bench capacity")


def test_least_squares_give_back_what_was_put_in() -> None:
    rows = [[1.0, 1e6], [1.0, 2e6], [1.0, 4e6]]
    assert solved(rows, [5.0, 8.0, 14.0]) == pytest.approx([2.0, 3e-6])


def test_two_columns_that_say_the_same_are_no_trouble() -> None:
    assert sum(solved([[1.0, 1.0], [2.0, 2.0]], [3.0, 6.0])) == pytest.approx(3.0)


def test_no_price_is_negative() -> None:
    counts = [{"a": 1.0, "b": 0.0}, {"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 2.0}]
    prices = fit(("a", "b"), counts, [10.0, 9.0, 8.0], [10.0, 9.0, 8.0])
    assert prices["b"] == 0.0
    assert 8.0 < prices["a"] < 10.0


def test_the_fit_finds_the_prices_again() -> None:
    for figure, known in PRICES.items():
        found = model().modes["fleet"].prices[figure]
        assert found == pytest.approx(known, rel=1e-3)


def test_the_error_is_that_of_the_runs_that_the_fit_did_not_know() -> None:
    assert model().modes["embedded"].errors["cpu"].held_out < 1e-6
    noisy = model(noise=0.1).modes["embedded"].errors["cpu"]
    assert 0.001 < noisy.held_out < 0.2
    assert 0.01 < noisy.fitted < 0.3


@pytest.mark.parametrize(("commands", "expected"), [(0.0, 0.0), (1.0, 1.0), (1e5, 500.0)])
def test_few_commands_have_a_commit_each_and_many_share_them(
    commands: float, expected: float
) -> None:
    assert commits(commands, Disk(2.0, 0)) == pytest.approx(expected, rel=0.01)


def test_a_room_touches_no_more_instances_than_it_has_members() -> None:
    assert spread("fleet", 8, 1, together=False).touched == pytest.approx(1.0)
    assert spread("fleet", 2, 10, together=False).touched == pytest.approx(2.0, abs=0.01)
    assert spread("fleet", 8, 10, together=True).touched == 1.0


def test_one_instance_is_taken_where_it_is_enough() -> None:
    found = answered(model(), Load(300, 6, 0.5), Bounds())
    assert (found.spread.mode, found.spread.instances) == ("embedded", 1)
    assert found.extrapolated == []
    assert "one instance is enough" in found.text()


@pytest.mark.parametrize(
    ("bounds", "why"),
    [
        (Bounds(cpu_percent=12), "of a core each, 12 are allowed"),
        (Bounds(connections=400), "connections each, 400 are allowed"),
        (Bounds(memory_bytes=100 * 2**20), "MiB each, 100 are allowed"),
    ],
)
def test_what_is_overfull_decides_how_many_instances_it_takes(bounds: Bounds, why: str) -> None:
    found = answered(model(), Load(1000, 5, 2), bounds)
    assert found.spread.mode == "fleet"
    assert found.spread.instances > 1
    assert why in found.because
    assert found.each("cpu") <= bounds.cpu_percent * 10_000
    assert found.each("memory") <= bounds.memory_bytes


def test_what_lies_outside_of_what_was_measured_is_marked() -> None:
    found = answered(model(), Load(20_000, 50, 0.5), Bounds())
    told = "\n".join(found.extrapolated)
    assert "users a room: 50, measured up to 30" in told
    assert "instances: " in told
    assert "EXTRAPOLATED: users a room" in found.text()


def test_a_load_that_nothing_carries_has_no_answer() -> None:
    with pytest.raises(Malformed, match="64 instances would"):
        answered(model(), Load(10_000_000, 10, 10), Bounds())
    with pytest.raises(Malformed, match="the embedded mode has one"):
        answered(model(), Load(5000, 10, 10), Bounds(mode="embedded"))


def test_a_model_of_one_mode_has_no_answer_for_the_other() -> None:
    runs = [run for run in model().runs if run.spread.mode == "embedded"]
    alone = made(
        runs, machine={}, commit="abc", command="tableforge bench capacity --part embedded"
    )
    assert answered(alone, Load(300, 6, 0.5), Bounds()).spread.mode == "embedded"
    with pytest.raises(Malformed, match="this model knows no runs of the mode fleet"):
        answered(alone, Load(5000, 6, 5), Bounds())


def test_the_model_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_bytes(written(model()))
    assert read(path) == model()
    path.write_text("{}")
    with pytest.raises(Malformed, match="is no capacity model"):
        read(path)


def test_a_report_shows_every_run_and_judges_the_runs_kept_from_the_fit() -> None:
    report = Report(model())
    section = report.section()
    assert len(report.text().splitlines()) == 1 + len(report.model.runs) + 4
    assert {kpi.verdict.value for kpi in section.kpis} == {"met"}
    assert all(kpi.own for kpi in section.kpis)
    assert [len(plot.series) for plot in section.plots] == [5, 2, 5, 2]


def test_the_sweep_keeps_runs_of_both_modes_from_the_fit() -> None:
    for quick in (False, True):
        runs = chosen(quick=quick, part=None)
        assert {bool(run.instances) for run in runs if run.held_out} == {False, True}
        assert all(run.users % run.room_size == 0 for run in runs)
        assert len(chosen(quick=quick, part="fleet")) < len(runs)


def test_a_run_counts_what_there_was(tmp_path: Path) -> None:
    def nobody(folder: Path) -> Service:
        raise AssertionError(folder)

    found = sweep(
        [Run(20, 5, 10)],
        seconds=1,
        makers=Makers(nobody, nobody),
        folder=tmp_path,
        command="tableforge bench capacity",
        told=lambda part, done, whole: None,
    )
    (run,) = found.runs
    assert (run.load.users, run.load.room_size) == (20, 5)
    # A round of warm-up, or ten at this rate, and then ten that are counted; a busy machine stretches them.
    assert run.figures["rows"] == pytest.approx(run.load.commands, rel=0.2)
    assert 0 < run.figures["commits"] <= run.figures["statements"]
    # Each of five members is sent more than a hundred bytes of every event.
    assert run.figures["network"] > 100 * run.load.deliveries
    assert run.figures["memory"] > 10 * 2**20
    assert run.figures["cpu"] > 0
    assert run.figures["written"] > 0
    assert found.modes["embedded"].disk.first_ms >= 2.0
    assert list(tmp_path.iterdir()) == []


def test_the_shipped_model_answers_at_once_and_says_where_it_was_measured(tmp_path: Path) -> None:
    asked = ("capacity", "--users", "5000", "--room-size", "6", "--rate", "0.5")
    done = tableforge(*asked, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    for words in ("instances  ", "CPU  ", "memory, resident", "statements", "Redis", "Measured on"):
        assert words in done.stdout
    told = json.loads(tableforge(*asked, "--json", folder=tmp_path).stdout)
    assert told["instances"] >= 1
    assert told["all"]["cpu_us_per_second"]["error"] < 0.2
    assert told["all"]["memory_bytes"]["error"] < 0.2
    assert told["measured_on"]["processor"]


def test_a_model_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    done = tableforge("bench", "capacity", "--model", "nowhere/model.json", folder=tmp_path)
    assert done.returncode == 2
    assert "nowhere/model.json cannot be written" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--users", "0"), "0 is not in the range"),
        (("--users", "4", "--room-size", "6"), "4 users do not fill a room of 6."),
        (("--users", "100", "--rate", "0"), "0.0 is not in the range"),
        (("--users", "100", "--mode", "cloud"), "'cloud' is not one of"),
        ((), "Missing option '--users'"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    arguments: tuple[str, ...], why: str, tmp_path: Path
) -> None:
    done = tableforge("capacity", *arguments, folder=tmp_path)
    assert done.returncode == 2
    assert why in done.stderr
