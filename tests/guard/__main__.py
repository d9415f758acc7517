"""`make guard`: has an operation on the path of a command become slower than its committed baseline?

python -m tests.guard                       0: no; 1: yes, named; 2: this Python has no baseline
python -m tests.guard --renew               show the differences and write the baseline of this Python
python -m tests.guard --plant decide=1.5    see it fail: `decide` works half as long again
python -m tests.guard --plant commit=2ms    see it fail: `commit` sleeps
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.guard.baseline import PATH, PYTHON, Baselines, best_of, table, verdicts
from tests.guard.measuring import PROCESSES, ROUNDS, child, measured


def main(arguments: Sequence[str] | None = None, path: Path = PATH) -> int:
    """Read the arguments, measure, compare; `path` is where the baseline lies."""
    parser = argparse.ArgumentParser(prog="make guard", description=__doc__)
    parser.add_argument(
        "--renew", action="store_true", help="write what is measured as the baseline"
    )
    parser.add_argument("--plant", action="append", default=[], metavar="NAME=1.5|NAME=2ms")
    parser.add_argument("--processes", type=int, default=PROCESSES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args(arguments)
    began = time.monotonic()
    baselines = Baselines.read(path)
    known = baselines.ratios.get(PYTHON, {})
    if not known and not asked.renew:
        sys.stderr.write(
            f"Nothing was compared.\nThere is no baseline for Python {PYTHON}, only for"
            f" {', '.join(sorted(baselines.ratios)) or 'none'}.\n"
            "Run `make guard GUARD=--renew` on a commit that is known to be good, and commit tests/guard/baseline.json.\n"
        )
        return 2
    found = measured(processes=asked.processes, rounds=asked.rounds, plants=asked.plant)
    rows = verdicts(found, known)
    if asked.renew:
        sys.stdout.write(f"{table(rows)}\n")
        baselines.renewed(found).write(path)
        sys.stdout.write(f"The baseline of Python {PYTHON} is what was measured now.\n")
        return 0
    if any(row.wrong for row in rows):
        again = measured(processes=asked.processes, rounds=asked.rounds, plants=asked.plant)
        rows = verdicts(best_of(found, again), known)
    sys.stdout.write(f"{table(rows)}\n")
    wrong = [row.wrong for row in rows if row.wrong]
    for line in wrong:
        sys.stderr.write(f"{line}\n")
    spent = time.monotonic() - began
    sys.stdout.write(f"{len(rows)} operations, {spent:.0f} s, Python {PYTHON}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(int(sys.argv[2]), sys.argv[3:])
    else:
        sys.exit(main())
