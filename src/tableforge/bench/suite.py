"""Benches one after the other, and what they found in one document; a bench that cannot be run is told, and the next begins."""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final, NamedTuple

from tableforge.bench.compare import MACHINE
from tableforge.bench.document import (
    REPORT_HTML,
    REPORT_JSON,
    Document,
    Kpi,
    Sample,
    Section,
    Table,
    Verdict,
    written,
)
from tableforge.bench.machine import commit, loop_ms, machine
from tableforge.bench.page import html_of
from tableforge.bench.targets import CONTRACT
from tableforge.bench.websocket import PERSISTENT_TEMPORARY
from tableforge.errors import TableForgeError, Unavailable

ROUNDS_OF_SPEED: Final = 5
DONE, MISSED, NOTHING_MEASURED = 0, 1, 2
QUICK_NOTE: Final = "A quick run: short and small. Its figures show that all of it works, not what the machine can do."
PROFILED_NOTE: Final = (
    "Measured under a profiler, which slows down what it looks at: not for comparison."
)

Told = Callable[[str, int, int], None]
"""Told of progress: of which part, how much is done, of how much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a bench of a suite is asked for: `out` is where a profile goes, if one is asked for; `against` names peers."""

    quick: bool
    told: Told
    say: Callable[[str], None]
    out: Path
    profile: bool = False
    against: Sequence[str] = ()


class Bench(NamedTuple):
    """A bench by its name in the command line."""

    name: str
    title: str
    measure: Callable[[Order], Section]


def run(benches: Sequence[Bench], order: Order, *, command: str, folder: Path) -> Document:
    """Measure all of them; `folder` is on the disk that their data lie on. Never raises TableForgeError."""
    sections = []
    speeds = [loop_ms()]
    for number, bench in enumerate(benches):
        order.told("benches", number, len(benches))
        began = time.monotonic()
        try:
            found = bench.measure(order)
        except TableForgeError as error:
            found = unmeasured(bench, error.detail)
        except OSError as error:
            found = unmeasured(bench, f"{type(error).__name__}: {error}")
        took = f"{bench.name} took {time.monotonic() - began:.0f} s."
        sections.append(replace(found, notes=(*found.notes, took)))
        speeds.append(loop_ms())
    order.told("benches", len(benches), len(benches))
    return document(sections, command=command, folder=folder, order=order, speeds=speeds)


def data_folder() -> Path:
    """Where benches keep their data: on a disk, where /tmp may be memory."""
    return PERSISTENT_TEMPORARY if PERSISTENT_TEMPORARY.is_dir() else Path(tempfile.gettempdir())


def document(
    sections: Sequence[Section],
    *,
    command: str,
    folder: Path,
    order: Order,
    speeds: Sequence[float] = (),
) -> Document:
    """What was found, with what it must be read with; `speeds` is how fast the machine was between the benches, else now."""
    found = (*speeds, *(loop_ms() for _ in range(ROUNDS_OF_SPEED - len(speeds))))
    notes = (QUICK_NOTE,) * order.quick + (PROFILED_NOTE,) * order.profile
    return Document(
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        version=version("tableforge"),
        commit=commit(),
        machine=machine(folder),
        command=command,
        quick=order.quick,
        sections=(
            *(replace(one, notes=(*notes, *one.notes)) for one in sections),
            the_machine(found),
        ),
    )


def the_machine(speeds: Sequence[float]) -> Section:
    """How fast the machine itself was: `compare` forgives as much to all else."""
    return Section(
        bench="machine",
        title="The machine itself",
        command="",
        samples=(Sample(f"{MACHINE}loop", "ms of CPU", "lower", tuple(speeds), band=0.1),),
        tables=(
            Table(
                "A fixed piece of work in Python, between the benches",
                ("ms of CPU",),
                tuple((f"{one:.2f}",) for one in speeds),
            ),
        ),
    )


def unmeasured(bench: Bench, why: str) -> Section:
    """A bench that could not be run: all that it ought to show is not measured, for this reason."""
    command = f"tableforge bench {bench.name}"
    return Section(
        bench=bench.name,
        title=bench.title,
        command=command,
        kpis=tuple(
            target.judged(None, command, why) for target in CONTRACT if target.bench == bench.name
        ),
        invalid=why,
    )


def table(found: Document) -> list[Kpi]:
    """The contract's figures in their order, those that nobody showed as not measured; then the benches' own."""
    shown = {kpi.name: kpi for kpi in found.kpis() if not kpi.own}
    contract = [
        shown.get(target.name)
        or target.judged(
            None, f"tableforge bench {target.bench}", "no bench of this report shows it"
        )
        for target in CONTRACT
    ]
    return contract + [kpi for kpi in found.kpis() if kpi.own]


def ending(found: Document) -> int:
    """How the command ends: 1 when a target of the contract was missed, 2 when a bench could not be measured, else 0."""
    if any(section.missed for section in found.sections):
        return MISSED
    if any(section.invalid for section in found.sections):
        return NOTHING_MEASURED
    return DONE


def unpublished(section: Section, why: str) -> Section:
    """The section when its figures must not be published: the reason stands where they stood."""
    return replace(
        section,
        kpis=tuple(
            replace(kpi, value=None, verdict=Verdict.UNMEASURED, why=why) for kpi in section.kpis
        ),
        samples=(),
        invalid=why,
    )


def check_writable(out: Path) -> None:
    """Make the folder and try a file in it; raises Unavailable where a report cannot be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise Unavailable(
            "Nothing was measured: the report could not be written.",
            f"{error.filename or out}: {error.strerror}.",
            "Name a folder that can be written with --out.",
        ) from error


def save(found: Document, out: Path) -> None:
    """Write report.json and report.html; raises Unavailable where they cannot be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / REPORT_JSON).write_bytes(written(found))
        (out / REPORT_HTML).write_text(html_of(found), "utf-8")
    except OSError as error:
        raise Unavailable(
            "The report was not written.",
            f"{error.filename or out}: {error.strerror}.",
            "Name a folder that can be written with --out.",
        ) from error
