"""One shape for what every bench found: judged figures, samples to compare, plots and tables; written and read as JSON.

The JSON is described by docs/bench-report.schema.json, which `make gen` writes from these classes.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from tableforge.errors import Malformed

SCHEMA: Final = 1
REPORT_JSON, REPORT_HTML = "report.json", "report.html"

Better = Literal["lower", "higher"]
Sign = Literal["<", "<=", ">", ">="]
SIGNS: Mapping[str, str] = {"<": "<", "<=": "≤", ">": ">", ">=": "≥"}


class Verdict(StrEnum):
    """How a figure stands to its target."""

    MET = "met"
    MISSED = "missed"
    UNMEASURED = "unmeasured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kpi:
    """A figure with its target. `value` is None where it was not measured, and `why` says the reason; an `own` target is
    not the contract's, and does not decide how a command ends."""

    name: str
    target: str
    limit: float
    better: Better
    value: float | None
    unit: str
    verdict: Verdict
    command: str
    why: str = ""
    own: bool = False

    @property
    def measured(self) -> str:
        """The figure as people read it."""
        if self.value is None:
            return "–"
        return f"{rounded(self.value)} {self.unit}".rstrip()


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure has to be: `sign` and `limit` as in "< 10 ms"; `bench` is the command that shows it."""

    name: str
    sign: Sign
    limit: float
    unit: str
    bench: str
    own: bool = False

    @property
    def words(self) -> str:
        """The target as people read it."""
        return f"{SIGNS[self.sign]} {rounded(self.limit)} {self.unit}".rstrip()

    def judged(self, value: float | None, command: str, why: str = "") -> Kpi:
        """Hold a figure against it; None, or what is no number, was not measured."""
        if value is not None and not math.isfinite(value):
            value, why = None, why or "it came to no number"
        return Kpi(
            name=self.name,
            target=self.words,
            limit=self.limit,
            better="lower" if self.sign.startswith("<") else "higher",
            value=value,
            unit=self.unit,
            verdict=self._verdict(value),
            command=command,
            why=why,
            own=self.own,
        )

    def _verdict(self, value: float | None) -> Verdict:
        if value is None:
            return Verdict.UNMEASURED
        met = {
            "<": value < self.limit,
            "<=": value <= self.limit,
            ">": value > self.limit,
            ">=": value >= self.limit,
        }[self.sign]
        return Verdict.MET if met else Verdict.MISSED


@dataclass(frozen=True, slots=True)
class Sample:
    """One figure of every round, which `bench compare` holds against that of another report.

    By a part of `band` the middle of the rounds may lie elsewhere in another run of the same build on the same machine: more
    for a wall clock than for the processor's.
    """

    name: str
    unit: str
    better: Better
    rounds: tuple[float, ...]
    band: float = 0.25


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one line or set of bars, x first."""

    name: str
    points: tuple[tuple[float, float], ...]
    role: Literal["measured", "ideal", "peer"] = "measured"


@dataclass(frozen=True, slots=True)
class Axis:
    """What is along an axis."""

    label: str
    unit: str
    log: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened at a place of the x axis."""

    x: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A picture. Bars stand at x = 0, 1, 2 ..., and `labels` are their names."""

    name: str
    title: str
    kind: Literal["line", "points", "bars"]
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    marks: tuple[Mark, ...] = ()
    labels: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Text in rows."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What one bench found. `invalid` says why its figures must not be published, `broken` what happened that must not at any
    speed: something lost, doubled, out of order; `settings` and `figures` hold no secret."""

    bench: str
    title: str
    command: str
    settings: Mapping[str, str] = field(default_factory=dict)
    kpis: tuple[Kpi, ...] = ()
    samples: tuple[Sample, ...] = ()
    plots: tuple[Plot, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)
    invalid: str = ""
    broken: tuple[str, ...] = ()

    @property
    def missed(self) -> bool:
        """Whether a target of the contract was missed, or a promise broken."""
        return bool(self.broken) or any(
            kpi.verdict is Verdict.MISSED and not kpi.own for kpi in self.kpis
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """Everything that one command measured, and what it must be read with. `made` is a moment of RFC 3339."""

    schema: Literal[1] = SCHEMA
    made: str
    version: str
    commit: str
    machine: Mapping[str, str]
    command: str
    quick: bool
    sections: tuple[Section, ...]

    def kpis(self) -> Iterator[Kpi]:
        """Those of all sections."""
        for section in self.sections:
            yield from section.kpis


def rounded(value: float) -> str:
    """A figure with three digits that say something; whole numbers whole."""
    if value == int(value) or abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def file_name(name: str) -> str:
    """A name as part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def written(document: Document) -> bytes:
    """The document as JSON."""
    return msgspec.json.format(msgspec.json.encode(document, enc_hook=_plain), indent=2) + b"\n"


def _plain(value: object) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in a report")


def read(path: Path) -> Document:
    """A document as `written` wrote it; raises Malformed when it is none, or another schema's."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Document)
    except OSError as error:
        raise Malformed(
            "The report was not read.",
            f"{path} cannot be opened: {error.strerror}.",
            f"Name a {REPORT_JSON} that `tableforge bench` wrote.",
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(
            "The report was not read.",
            f"{path} is no report of schema {SCHEMA}: {error}",
            f"Name a {REPORT_JSON} that `tableforge bench` wrote.",
        ) from error


def schema() -> dict[str, Any]:
    """The JSON schema of a document."""
    made: dict[str, Any] = msgspec.json.schema(Document)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}
