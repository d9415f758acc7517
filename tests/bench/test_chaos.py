"""`tableforge bench chaos` from the command line: one fault, its table, its exit code."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tableforge.bench.faults import FAULTS


def tableforge(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tableforge", "bench", "chaos", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def test_one_fault_is_a_line_of_the_table(tmp_path: Path) -> None:
    saved = tmp_path / "report.json"
    faults = ("--faults", "backends-terminated", "--quick", "--players", "12", "--rate", "2")
    done = tableforge(tmp_path, *faults, "--save", str(saved))
    assert done.returncode == 0, done.stderr
    assert "12 players in rooms of 8, 2 moves a second each" in done.stdout
    [line] = [one for one in done.stdout.splitlines() if one.startswith("backends-terminated")]
    assert "FAILED" not in line
    report = json.loads(saved.read_text("utf-8"))
    [outcome] = report["outcomes"]
    assert outcome["clean"]
    assert outcome["acknowledged"] > 0
    assert (outcome["lost"], outcome["doubled"], outcome["disordered"]) == (0, 0, 0)
    assert not report["failed"]


def test_the_faults_are_listed(tmp_path: Path) -> None:
    done = tableforge(tmp_path, "--faults", "list")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == [one.name for one in FAULTS]


@pytest.mark.parametrize("names", ["earthquake", "earthquake,redis-killed"])
def test_a_fault_that_there_is_not_is_refused(names: str, tmp_path: Path) -> None:
    done = tableforge(tmp_path, "--faults", names)
    assert done.returncode == 2
    assert "There is no fault earthquake." in done.stderr
