"""The guard fails when something got slower, by its name, and in no other case."""

from pathlib import Path

import pytest

from tests.guard.__main__ import main
from tests.guard.baseline import PYTHON, WORK_BAND, Baselines, best_of, table, verdicts
from tests.guard.measuring import Ratio, measured, planted

KNOWN = {"decide": Ratio(12.0, 11.9), "commit": Ratio(2.0, 1.6)}
NAMES = ("decode", "decide", "redact", "encode", "append", "commit", "publish", "deliver")


def test_what_is_within_the_band_is_as_before() -> None:
    rows = verdicts({"decide": Ratio(14.9, 20.0), "commit": Ratio(1.7, 3.1)}, KNOWN)
    assert [row.wrong for row in rows] == ["", ""]
    assert "decide           14.90      12.00    1.24" in table(rows)


def test_what_got_slower_is_named_with_how_much() -> None:
    decide, commit = verdicts({"decide": Ratio(18.0, 18.0), "commit": Ratio(2.0, 6.4)}, KNOWN)
    assert decide.wrong.startswith(
        "decide got slower: it works 1.50 times as long as the baseline (12.00 -> 18.00 yardsticks"
    )
    assert "works as long as before, but waits: 4.00 times" in commit.wrong
    assert table([decide, commit]).count("SLOWER") == 2


def test_what_got_faster_asks_for_a_baseline_and_passes() -> None:
    (row,) = verdicts({"decide": Ratio(6.0, 6.0)}, KNOWN)
    assert not row.wrong
    assert row.word == "faster: renew"


def test_an_operation_without_a_baseline_is_told() -> None:
    (row,) = verdicts({"undo": Ratio(6.0, 6.0)}, KNOWN)
    assert row.wrong == "undo has no baseline"


def test_a_regression_is_there_in_both_measurements() -> None:
    again = {"decide": Ratio(12.1, 30.0), "commit": Ratio(4.0, 1.5)}
    assert best_of(again, KNOWN) == {"decide": Ratio(12.0, 11.9), "commit": Ratio(2.0, 1.5)}


def test_the_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    assert Baselines.read(path) == Baselines({}, {})
    Baselines({}, {}).renewed(KNOWN, "3.11").renewed({"decide": Ratio(9.0, 9.0)}, "3.99").write(
        path
    )
    read = Baselines.read(path)
    assert read.ratios == {"3.11": KNOWN, "3.99": {"decide": Ratio(9.0, 9.0)}}
    assert set(read.machine) == {"3.11", "3.99"}


def test_a_python_without_a_baseline_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "baseline.json"
    Baselines({}, {}).renewed(KNOWN, "3.99").write(path)
    assert main([], path) == 2
    assert f"no baseline for Python {PYTHON}, only for 3.99" in capsys.readouterr().err


def test_a_plant_is_read_or_refused() -> None:
    assert planted("decide")[0] == "decide"
    assert planted("commit=2ms")[0] == "commit"
    with pytest.raises(ValueError, match="could not convert"):
        planted("commit=soon")


def test_every_operation_that_works_half_as_long_again_is_found() -> None:
    """Beside what the same machine gave a second before: the band tells half as much again from noise."""
    known = measured(processes=3, rounds=25)
    found = measured(processes=3, rounds=25, plants=[f"{name}=1.5" for name in NAMES])
    rows = verdicts(found, known)
    assert [row.name for row in rows if row.work > WORK_BAND] == list(NAMES), table(rows)


def test_an_operation_that_sleeps_is_found() -> None:
    known = measured(processes=1, rounds=10)
    found = measured(processes=1, rounds=10, plants=["commit=5ms"])
    waiting = {row.name: row.wrong for row in verdicts(found, known)}["commit"]
    assert "commit got slower" in waiting


def test_a_plant_in_what_there_is_not_is_refused() -> None:
    with pytest.raises(RuntimeError, match="There is no operation 'reddact' but decode, decide"):
        measured(processes=1, rounds=1, plants=["reddact=1.5"])
