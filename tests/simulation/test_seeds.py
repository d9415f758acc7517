"""Servers on a simulated clock, a run for each seed: whatever befalls them, the promises of `checks.py` hold.

A run that fails names its seed; `python -m tests.simulation SEED` replays it and prints what happened. What was found this
way and mended has a test of its own name, in `test_found.py` or where the mended code is tested.
"""

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.conftest import count
from tests.simulation.world import run_seed

ROOT = Path(__file__).resolve().parent.parent.parent
CHUNKS = 8
RUNS = 250
SOAK_RUNS = 10_000


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_nothing_is_lost_doubled_or_told_wrongly_whatever_happens(chunk: int, soak: bool) -> None:
    """The same seeds each time in `make test`, fresh ones in `make soak`."""
    first = secrets.randbelow(2**40) if soak else chunk * RUNS
    for seed in range(first, first + (SOAK_RUNS if soak else RUNS)):
        outcome = run_seed(seed)
        count(outcome)
        told = "\n".join(outcome.failures)
        assert not outcome.failures, f"{told}\nReplay it: python -m tests.simulation {seed}"


def test_a_seed_says_all_of_a_run() -> None:
    told = set()
    for hash_seed in ("1", "2"):
        replayed = subprocess.run(
            [sys.executable, "-m", "tests.simulation", "7", "22"],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
            text=True,
            timeout=60,
        )
        told.add(replayed.stdout)
    (trace,) = told
    assert "seed 22: all well" in trace
