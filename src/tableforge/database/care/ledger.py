"""The ledger: every index that the care made or took away, with the statement's measured time before and after.

A line is written before the change: what a process left half done when it died is found there and taken back.
"""

import secrets

from tableforge.database import Database, Statement
from tableforge.database.care import Entry, Verdict

LISTED_AT_MOST = 500
LATELY_SECONDS = 30 * 86_400.0
"""An index that did not help is not tried again for this long, unless the operator asks for it; one that did is not called
unused so soon."""

_COLUMNS = (
    "id, {at}, change, index_name, table_name, statement, before_ms, after_ms, verdict, reason"
)
_SQLITE = _COLUMNS.format(at="at")
_POSTGRES = _COLUMNS.format(at="extract(epoch FROM at)::float8")

BEGIN = Statement(
    "care.begin",
    "INSERT INTO care_ledger (id, change, index_name, table_name, statement, before_ms) VALUES (?, ?, ?, ?, ?, ?)",
    background=True,
)
END = Statement(
    "care.end",
    "UPDATE care_ledger SET verdict = ?2, reason = ?3 WHERE id = ?1",
    repeatable=True,
    background=True,
)
FOUND = Statement(
    "care.found",
    "UPDATE care_ledger SET statement = ?2, before_ms = ?3, after_ms = ?4 WHERE id = ?1",
    repeatable=True,
    background=True,
)
LATEST = Statement(
    "care.latest",
    f"SELECT {_SQLITE} FROM care_ledger ORDER BY at DESC, id DESC LIMIT ?",  # noqa: S608 - names of columns, no values
    f"SELECT {_POSTGRES} FROM care_ledger ORDER BY at DESC, id DESC LIMIT ?",  # noqa: S608 - names of columns, no values
    background=True,
)
BEGUN = Statement(
    "care.begun",
    f"SELECT {_SQLITE} FROM care_ledger WHERE verdict = 'begun' ORDER BY at",  # noqa: S608 - names of columns, no values
    f"SELECT {_POSTGRES} FROM care_ledger WHERE verdict = 'begun' ORDER BY at",  # noqa: S608 - names of columns, no values
    background=True,
)
LATELY = Statement(
    "care.lately",
    "SELECT DISTINCT index_name FROM care_ledger WHERE verdict = ?1"
    " AND at > (julianday('now') - 2440587.5) * 86400.0 - ?2",
    "SELECT DISTINCT index_name FROM care_ledger WHERE verdict = ?1"
    " AND at > clock_timestamp() - make_interval(secs => CAST(?2 AS double precision))",
    background=True,
)

MADE = Statement(
    "care.made",
    "SELECT DISTINCT index_name, table_name FROM care_ledger WHERE change LIKE 'CREATE %'",
    background=True,
)


class Ledger:
    """The repository of the ledger. Every method raises `DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(
        self, change: str, *, index: str, table: str, statement: str, before_ms: float
    ) -> str:
        """Write down what is about to be done, and return the line's id."""
        entry = secrets.token_hex(8)
        await self._database.write(BEGIN, entry, change, index, table, statement, before_ms)
        return entry

    async def found(self, entry: str, statement: str, *, before_ms: float, after_ms: float) -> None:
        """Write down which statement gained most, and how much."""
        await self._database.write(FOUND, entry, statement, before_ms, after_ms)

    async def end(self, entry: str, verdict: Verdict, reason: str) -> None:
        """Write down how it went."""
        await self._database.write(END, entry, verdict, reason)

    async def latest(self, limit: int) -> list[Entry]:
        """The newest lines first, at most `limit` (500 at most)."""
        rows = await self._database.read(LATEST, min(limit, LISTED_AT_MOST))
        return [Entry(*row) for row in rows]

    async def begun(self) -> list[Entry]:
        """What was begun and not ended: under way, or left by a process that died."""
        return [Entry(*row) for row in await self._database.read(BEGUN)]

    async def lately(self, verdict: Verdict) -> set[str]:
        """The names of indexes that came out like this in the last thirty days."""
        return {row[0] for row in await self._database.read(LATELY, verdict, LATELY_SECONDS)}

    async def made(self) -> set[tuple[str, str]]:
        """The indexes that the care has ever begun to make, each with its table."""
        return {(row[0], row[1]) for row in await self._database.read(MADE)}
