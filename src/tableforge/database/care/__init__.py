"""The care of a database: what its own figures say, what was done about it, and whether that helped.

Advice is measured on the real database and never guessed; whatever could not be measured says so. A change of an index is
kept only if a statement is measurably better for it, and what was changed stands in the ledger.
"""

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal, NamedTuple, Protocol

from msgspec import Struct

Verdict = Literal["done", "skipped", "reverted", "failed"]
Tell = Callable[[str], None]
"""Says how far the work is, in words."""


class Outcome(NamedTuple):
    """What was done to one thing: how it was before and is now, and why."""

    action: str
    before: str
    after: str
    verdict: Verdict
    reason: str


class Finding(Struct, frozen=True):
    """One thing to mend: `mend` is the SQL or setting that does it, `cost` what it takes, `evidence` why we think so.

    `safe` is whether an order of the operator applies it by itself; `table` and `index` name what it is about, where it is.
    """

    what: str
    evidence: str
    mend: str
    cost: str
    safe: bool
    table: str = ""
    index: str = ""


class Card(Struct, frozen=True):
    """One question asked of the database. `state` is unknown where it could not be asked: `says` tells why, and what to grant."""

    name: str
    state: Literal["good", "attend", "unknown"]
    says: str
    findings: tuple[Finding, ...] = ()


class Watched(NamedTuple):
    """A statement with what it costs: its name, its text as the database takes it, and its figures.

    Times in milliseconds; `source` says whose figures they are.
    """

    name: str
    text: str
    calls: int
    mean_ms: float
    source: str

    @property
    def total_ms(self) -> float:
        """What all its calls took together."""
        return self.calls * self.mean_ms


class Unmeasurable(Exception):
    """A statement that cannot be run for a measurement; the message says why, without values."""


READ_ONLY = re.compile(r"^\s*(SELECT|WITH)\b", re.IGNORECASE)
CHANGES = re.compile(
    r"\b(INSERT|UPDATE|DELETE|MERGE|TRUNCATE|nextval|setval|pg_\w*lock\w*|pg_terminate\w*|pg_cancel\w*|dblink\w*|lo_\w+)\b",
    re.IGNORECASE,
)


def is_read_only(text: str) -> bool:
    """Whether a statement only reads, so that it may be run for a measurement."""
    return READ_ONLY.match(text) is not None and CHANGES.search(text) is None


class Wish(NamedTuple):
    """An index that the operator wants tried: it stays if a statement is better for it."""

    table: str
    columns: tuple[str, ...]


class Measure(NamedTuple):
    """Runs of one statement with values drawn from the table: times in milliseconds, and `work`, which noise does not touch.

    `work` is pages on PostgreSQL, steps of the virtual machine on SQLite, of all runs together.
    """

    times: tuple[float, ...]
    work: int
    unit: str

    def quantile(self, share: float) -> float:
        """The time that this share of the runs did not take longer than."""
        ordered = sorted(self.times)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    @property
    def p95(self) -> float:
        """In milliseconds."""
        return self.quantile(0.95)

    @property
    def median(self) -> float:
        """In milliseconds."""
        return self.quantile(0.5)

    def __str__(self) -> str:
        runs = f"{self.work} {self.unit} in {len(self.times)} runs together"
        return f"median {self.median:.3g} ms (p95 {self.p95:.3g} ms), {runs}"


HALF = 0.5
FEWER = 0.8


def helped(before: Measure, after: Measure) -> bool:
    """Whether a statement is better: its median time fell to half, and so it did clearly less work.

    Times alone would be decided by whatever else the machine does.
    """
    return after.median <= before.median * HALF and after.work <= before.work * FEWER


def judged(statement: str, before: Measure, after: Measure) -> str:
    """Why an index stays or goes, in a sentence."""
    found = (
        f"median {before.median:.3g} to {after.median:.3g} ms,"
        f" {before.work} to {after.work} {before.unit}"
    )
    if helped(before, after):
        return f"{statement} is better for it: {found}."
    return (
        f"{statement} gained too little: {found}."
        f" An index stays for half of the median and {1 - FEWER:.0%} fewer {before.unit}."
    )


class Entry(Struct, frozen=True):
    """A line of the ledger. Times in seconds since 1970 and milliseconds; `verdict` is `begun` while it is being tried."""

    id: str
    at: float
    change: str
    index: str
    table: str
    statement: str
    before_ms: float
    after_ms: float
    verdict: str
    reason: str


NOT_MEASURED = "The process that tried it ended before it was measured."
DROPPED = "The process that dropped it ended before it said so."
LEFT_THERE = "The process that began to drop it ended before: it is there as it was."


class Care(Protocol):
    """What one engine can do for itself. Raises `DatabaseUnavailable` where it cannot be reached at all."""

    def alone(self) -> AbstractAsyncContextManager[bool]:
        """Whether nobody else of the fleet cares for this database now, nor begins to within the block."""
        ...

    async def advice(self) -> list[Card]:
        """Every card, each within its own bound; one that cannot be answered says so and leaves the others alone."""
        ...

    async def optimize(self, tell: Tell, *, wish: Wish | None) -> list[Outcome]:
        """Apply what is safe, keep what helps; bounded in time."""
        ...

    async def maintain(self, tell: Tell, *, within_seconds: float) -> list[Outcome]:
        """Clean, renew statistics, look at a sample."""
        ...

    async def forget_keys(self, tell: Tell, *, before: str, within_seconds: float) -> Outcome:
        """Forget the ids of commands whose events are older than `before` (RFC 3339, UTC); the events stay."""
        ...


Statements = Callable[[], Sequence[Watched]]
"""The server's own statements that have run, with their figures."""
