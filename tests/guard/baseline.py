"""The committed ratios, and what a measurement says beside them."""

import json
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.guard.measuring import Ratio, Ratios

PATH = Path(__file__).with_name("baseline.json")
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
WORK_BAND = 1.25
"""So much more work than the baseline's is a regression. Noise stays within a twentieth, a half as much again lies far out."""
ELAPSED_BAND = 2.0
"""The same of elapsed time, which is less even: it is there for what sleeps or waits for the disk more often."""


class Baselines(NamedTuple):
    """By minor version of Python, since they do not get faster alike; `machine` says where each was measured."""

    ratios: dict[str, dict[str, Ratio]]
    machine: dict[str, str]

    @classmethod
    def read(cls, path: Path = PATH) -> "Baselines":
        """What is committed; nothing where there is no file."""
        if not path.exists():
            return cls({}, {})
        found = json.loads(path.read_text("utf-8"))
        return cls(
            {
                version: {name: Ratio(**ratio) for name, ratio in ratios.items()}
                for version, ratios in found["ratios"].items()
            },
            found["machine"],
        )

    def renewed(self, ratios: Ratios, version: str = PYTHON) -> "Baselines":
        """The same with other ratios for one version of Python."""
        machine = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
        return Baselines({**self.ratios, version: dict(ratios)}, {**self.machine, version: machine})

    def write(self, path: Path = PATH) -> None:
        """Write the file, an operation a line."""
        plain = {
            "machine": dict(sorted(self.machine.items())),
            "ratios": {
                version: {
                    name: {"work": round(ratio.work, 3), "elapsed": round(ratio.elapsed, 3)}
                    for name, ratio in ratios.items()
                }
                for version, ratios in sorted(self.ratios.items())
            },
        }
        path.write_text(f"{json.dumps(plain, indent=2)}\n", "utf-8")


class Verdict(NamedTuple):
    """One operation beside its baseline: how many times the work and the elapsed time it takes now."""

    name: str
    found: Ratio
    known: Ratio | None

    @property
    def work(self) -> float:
        """Times the baseline's work; 1 where there is none."""
        return self.found.work / self.known.work if self.known else 1.0

    @property
    def elapsed(self) -> float:
        """Times the baseline's elapsed time; 1 where there is none."""
        return self.found.elapsed / self.known.elapsed if self.known else 1.0

    @property
    def wrong(self) -> str:
        """What is wrong, in words; empty when nothing is."""
        if self.known is None:
            return f"{self.name} has no baseline"
        if self.work > WORK_BAND:
            return (
                f"{self.name} got slower: it works {self.work:.2f} times as long as the baseline"
                f" ({self.known.work:.2f} -> {self.found.work:.2f} yardsticks,"
                f" up to {WORK_BAND:g} times is noise)"
            )
        if self.elapsed > ELAPSED_BAND:
            return (
                f"{self.name} got slower: it works as long as before, but waits: {self.elapsed:.2f} times the baseline's"
                f" elapsed time ({self.known.elapsed:.2f} -> {self.found.elapsed:.2f} yardsticks,"
                f" up to {ELAPSED_BAND:g} times is noise)"
            )
        return ""

    @property
    def word(self) -> str:
        """The verdict in a word or two."""
        if self.wrong:
            return "SLOWER" if self.known else "UNKNOWN"
        return "faster: renew" if self.work < 1 / WORK_BAND else "as before"


def verdicts(found: Ratios, known: Mapping[str, Ratio]) -> list[Verdict]:
    """Each operation beside its baseline, in the order of the path."""
    return [Verdict(name, ratio, known.get(name)) for name, ratio in found.items()]


def best_of(one: Ratios, other: Ratios) -> dict[str, Ratio]:
    """The lower ratios of two measurements: a regression is there both times."""
    return {
        name: Ratio(
            min(one[name].work, other[name].work), min(one[name].elapsed, other[name].elapsed)
        )
        for name in one
    }


def table(rows: list[Verdict]) -> str:
    """For people."""
    lines = ["operation   yardsticks   baseline   times   elapsed, times"]
    lines += [
        f"{row.name:10} {row.found.work:11.2f} {row.known.work if row.known else float('nan'):10.2f}"
        f" {row.work:7.2f} {row.elapsed:16.2f}   {row.word}"
        for row in rows
    ]
    return "\n".join(lines)
