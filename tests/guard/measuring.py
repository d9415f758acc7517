"""How a ratio is found that noise does not move.

An operation and its yardstick take turns in slices of under a millisecond, all operations round about, so that whatever
else the machine does weighs on both. Of many slices the low quantile counts: the moments in which nothing came between.
Several processes one after the other give a ratio each, since where a process happens to lie in memory and in which order
it hashes is worth some percent; their median counts. Processor time says what an operation works, elapsed time whether it
waits for something that it did not wait for before.
"""

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tableforge.bench.websocket import PERSISTENT_TEMPORARY
from tests.guard.operations import Operation, Slice, operations

ROUNDS = 80
LOW = 0.05
"""The quantile that counts."""
PROCESSES = 5
CHILD_SECONDS = 120


class Ratio(NamedTuple):
    """What one operation costs in yardsticks: in processor time, and in elapsed time."""

    work: float
    elapsed: float


Ratios = Mapping[str, Ratio]

Plant = Callable[[int], None]
"""Called after an operation with the nanoseconds that it took."""


def working(times: float) -> Plant:
    """Make an operation work as long as so many of it."""

    def plant(nanoseconds: int) -> None:
        until = time.process_time_ns() + int(nanoseconds * (times - 1))
        while time.process_time_ns() < until:
            pass

    return plant


def sleeping(seconds: float) -> Plant:
    """Make each slice of an operation sleep for so long."""
    return lambda _: time.sleep(seconds)


def planted(text: str) -> tuple[str, Plant]:
    """Read NAME=1.5 (works half as long again) or NAME=2ms (sleeps); raises ValueError."""
    name, _, amount = text.partition("=")
    if amount.endswith("ms"):
        return name, sleeping(float(amount.removesuffix("ms")) / 1000)
    return name, working(float(amount or 1.5))


def slice_times(work: Slice, count: int, plant: Plant | None) -> tuple[int, int]:
    """Nanoseconds of the processor, over all threads, and of the clock."""
    began, worked = time.perf_counter_ns(), time.process_time_ns()
    work(count)
    if plant is not None:
        plant(time.process_time_ns() - worked)
    return time.process_time_ns() - worked, time.perf_counter_ns() - began


def measured_here(
    made: Sequence[Operation], *, rounds: int, plants: Mapping[str, Plant]
) -> dict[str, Ratio]:
    """Measure in this process, with the garbage collector at rest; raises ValueError for a plant in what there is not."""
    names = [one.name for one in made]
    if unknown := set(plants) - set(names):
        raise ValueError(f"There is no operation {sorted(unknown)[0]!r} but {', '.join(names)}.")
    slices: dict[str, list[tuple[int, int, int, int]]] = {one.name: [] for one in made}
    gc.collect()
    gc.freeze()
    gc.disable()
    for _ in range(rounds):
        for one in made:
            for _ in range(one.turns):
                ours = slice_times(one.run, one.count, plants.get(one.name))
                theirs = slice_times(one.reference, one.reference_count, None)
                one.clear()
                slices[one.name].append((*ours, *theirs))
    gc.enable()
    gc.unfreeze()
    found = {}
    for one in made:
        work, elapsed, bare_work, bare_elapsed = (
            sorted(column)[int(len(column) * LOW)] for column in zip(*slices[one.name], strict=True)
        )
        scale = one.reference_count / one.count
        found[one.name] = Ratio(scale * work / bare_work, scale * elapsed / bare_elapsed)
    return found


def child(rounds: int, plants: Iterable[str]) -> None:
    """What a process of its own does: measure once and print JSON."""
    parent = (
        PERSISTENT_TEMPORARY if PERSISTENT_TEMPORARY.is_dir() else None
    )  # a disk, where /tmp may be memory
    with (
        tempfile.TemporaryDirectory(prefix="tableforge-guard-", dir=parent) as folder,
        operations(Path(folder)) as made,
    ):
        found = measured_here(made, rounds=rounds, plants=dict(map(planted, plants)))
    sys.stdout.write(json.dumps(found))


def measured(
    *,
    processes: int = PROCESSES,
    rounds: int = ROUNDS,
    plants: Iterable[str] = (),
) -> dict[str, Ratio]:
    """Measure in several processes, one after the other; raises RuntimeError with what one of them said when it failed."""
    found: list[dict[str, Ratio]] = []
    for _ in range(processes):
        done = subprocess.run(
            [sys.executable, "-m", "tests.guard", "--child", str(rounds), *plants],
            capture_output=True,
            text=True,
            timeout=CHILD_SECONDS,
            check=False,
            env={**os.environ, "PYTHONHASHSEED": "random"},
        )
        if done.returncode:
            raise RuntimeError(f"A process that measures failed:\n{done.stderr}")
        found.append({name: Ratio(*ratio) for name, ratio in json.loads(done.stdout).items()})
    return {
        name: Ratio(
            median(one[name].work for one in found), min(one[name].elapsed for one in found)
        )
        for name in found[0]
    }
