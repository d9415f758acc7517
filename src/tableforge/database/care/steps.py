"""What a statement costs SQLite: steps of its virtual machine, counted, on the file or on a copy of a sample in memory.

Steps are the same whatever else the machine does, so two measurements of one statement can be compared.
"""

import re
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from secrets import SystemRandom
from time import monotonic, perf_counter
from typing import NamedTuple

from tableforge.database.care import Measure, Unmeasurable
from tableforge.database.care.plans import (
    MOST_CANDIDATES,
    MOST_COLUMNS,
    Candidate,
    unrolled,
)
from tableforge.database.care.schema import quoted

RUNS = 11
STEPS = 100
"""How many steps of the machine pass between two looks: work is counted in as many."""
MEASURE_SECONDS = 5.0
SAMPLE_ROWS = 20_000
SAMPLE_BYTES = 32 * 2**20
DRAWN_ROWS = 2_000
PAGE = 50

NAME = r"\w+"
SOURCE = re.compile(
    rf'\b(?:FROM|JOIN)\s+"?({NAME})"?(?:\s+(?:AS\s+)?(?!ON\b|WHERE\b|JOIN\b|LEFT\b|ORDER\b|LIMIT\b|CROSS\b|INNER\b|GROUP\b|USING\b|UNION\b|SET\b|NOT\b|INDEXED\b)({NAME}))?',
    re.IGNORECASE,
)
COMPARED = re.compile(
    rf'(?:\b({NAME})\.)?"?\b({NAME})"?\s*(=|<=|>=|<|>|\bLIKE\b)\s*(\?\d+|(?:{NAME}\.)?"?{NAME}"?|\')',
    re.IGNORECASE,
)
ORDERED = re.compile(r"\bORDER BY\s+((?:[\w.\"]+(?:\s+(?:ASC|DESC))?(?:\s*,\s*)?)+)", re.IGNORECASE)
LIMITED = re.compile(r"\bLIMIT\s+\?(\d+)", re.IGNORECASE)
READ = re.compile(rf"^SCAN ({NAME})$|^SEARCH ({NAME}) USING AUTOMATIC")
PLACES = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|\?(\d*)")


def stored(connection: sqlite3.Connection) -> set[str]:
    """The tables that hold rows of their own: not what functions give, nor what an index of terms is made of."""
    rows = connection.execute(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table'"
    )
    return {row[0] for row in rows}


class Compared(NamedTuple):
    """A column of an alias, how it is compared, and with what."""

    alias: str
    column: str
    how: str
    value: str


def numbered(text: str) -> str:
    """The text with every parameter numbered, as SQLite numbers them."""
    last = 0

    def number(match: re.Match[str]) -> str:
        nonlocal last
        if match[1] is None:
            return match[0]
        found = int(match[1]) if match[1] else last + 1
        last = max(last, found)
        return f"?{found}"

    return PLACES.sub(number, text)


def count_of(text: str) -> int:
    """How many values a numbered text takes."""
    return max((int(match[1]) for match in PLACES.finditer(text) if match[1]), default=0)


class Reading:
    """One statement as the present form of the database understands it; what it cannot be raises `Unmeasurable`."""

    def __init__(self, connection: sqlite3.Connection, text: str) -> None:
        self.text = numbered(text)
        self._nothing = (None,) * count_of(self.text)
        self.aliases = {alias or table: table for table, alias in SOURCE.findall(self.text)}
        kept = stored(connection)
        self.columns: dict[str, set[str]] = {
            table: {
                row[0]
                for row in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))
                if table in kept
            }
            for table in set(self.aliases.values())
        }
        self.compared = [
            Compared(alias, column, how.upper(), value)
            for owner, column, how, value in COMPARED.findall(unrolled(self.text))
            if (alias := self._owner(owner, column))
        ]

    def _owner(self, alias: str, column: str) -> str:
        """The alias that a column is of; nothing where that is not clear."""
        if alias:
            return alias if column in self.columns.get(self.aliases.get(alias, ""), ()) else ""
        owners = [one for one, table in self.aliases.items() if column in self.columns[table]]
        return owners[0] if len(owners) == 1 else ""

    def plan(self, connection: sqlite3.Connection) -> list[str]:
        """The lines of its plan."""
        try:
            rows = connection.execute(f"EXPLAIN QUERY PLAN {self.text}", self._nothing).fetchall()
        except sqlite3.Error as error:
            raise Unmeasurable("it does not fit the tables") from error
        return [str(row[3]) for row in rows]

    def candidates(self, connection: sqlite3.Connection) -> list[Candidate]:
        """Indexes that may spare it reading through a table."""
        found: dict[Candidate, None] = {}
        for line in self.plan(connection):
            match = READ.match(line)
            alias = str(match[1] or match[2]) if match is not None else ""
            if alias not in self.aliases:
                continue
            equal = self._columns(alias, "=")
            ranged = self._columns(alias, "<", "<=", ">", ">=")
            order = self._order(alias)
            wanted = [
                (*equal, *order),
                (*equal, *ranged[:1]),
                equal,
                *((one,) for one in equal),
                ranged[:1],
            ]
            if not equal:
                wanted.append(order)
            for columns in wanted[:MOST_CANDIDATES]:
                if kept := tuple(dict.fromkeys(columns))[:MOST_COLUMNS]:
                    found[Candidate(self.aliases[alias], kept)] = None
        return list(found)

    def _columns(self, alias: str, *hows: str) -> tuple[str, ...]:
        """The columns of an alias that are compared like this, on either side."""
        found = [one.column for one in self.compared if one.alias == alias and one.how in hows]
        for one in self.compared:
            other, _, column = one.value.partition(".")
            if other == alias and column.strip('"') in self.columns[self.aliases[alias]]:
                found += [column.strip('"')] if one.how in hows else []
        return tuple(dict.fromkeys(found))

    def _order(self, alias: str) -> tuple[str, ...]:
        match = ORDERED.search(self.text)
        if match is None:
            return ()
        keys = [key.split() for key in match[1].split(",") if key.strip()]
        if len({key[-1].upper() == "DESC" for key in keys}) > 1:
            return ()
        found = []
        for key in keys:
            owner, _, column = key[0].rpartition(".")
            if self._owner(owner.strip('"'), column.strip('"')) != alias:
                return ()
            found.append(column.strip('"'))
        return tuple(found)

    def draw(self, connection: sqlite3.Connection) -> list[tuple[object, ...]]:
        """Values to run it with, of rows that are drawn evenly from the tables."""
        rows: dict[str, list[Mapping[str, object]]] = {}
        for table in set(self.aliases.values()):
            if not self.columns[table]:
                continue
            names = sorted(self.columns[table])
            listed = ", ".join(
                f"CASE WHEN typeof({quoted(n)}) = 'blob' AND length({quoted(n)}) > 64 THEN NULL ELSE {quoted(n)} END"
                for n in names
            )
            found = connection.execute(
                f"SELECT {listed} FROM {quoted(table)} WHERE random() % (1 + (SELECT count(*) FROM {quoted(table)}) / ?) = 0 LIMIT ?",  # noqa: S608 - names from the catalogue, quoted
                (DRAWN_ROWS, DRAWN_ROWS),
            ).fetchall()
            rows[table] = [dict(zip(names, row, strict=True)) for row in found]
        limits = {int(number) for number in LIMITED.findall(self.text)}
        chance = SystemRandom()
        drawn = []
        for _ in range(RUNS):
            row = {table: chance.choice(found) for table, found in rows.items() if found}
            drawn.append(
                tuple(
                    self._value(number, row, limits) for number in range(1, len(self._nothing) + 1)
                )
            )
        return drawn

    def _value(
        self, number: int, row: Mapping[str, Mapping[str, object]], limits: set[int]
    ) -> object:
        if number in limits:
            return PAGE
        for one in self.compared:
            if one.value == f"?{number}":
                table = self.aliases[one.alias]
                if table not in row:
                    raise Unmeasurable(f"{table} has no rows")
                value = row[table][one.column]
                return f"%{str(value)[:3]}%" if one.how == "LIKE" else value
        return "[]" if re.search(rf"json_each\(\?{number}\)", self.text) else ""

    def measure(
        self, connection: sqlite3.Connection, drawn: Sequence[tuple[object, ...]]
    ) -> Measure:
        """Run it with each set of values. Raises `Unmeasurable`."""
        units = 0
        deadline = monotonic() + MEASURE_SECONDS

        def step() -> int:
            nonlocal units
            units += 1
            return monotonic() > deadline

        times = []
        connection.set_progress_handler(step, STEPS)
        try:
            for values in drawn:
                started = perf_counter()
                with closing(connection.execute(self.text, values)) as cursor:
                    while cursor.fetchmany(500):
                        pass
                times.append((perf_counter() - started) * 1000)
        except (sqlite3.Error, OverflowError) as error:
            # Its text may hold values.
            raise Unmeasurable(f"a run of it was refused ({type(error).__name__})") from None
        finally:
            connection.set_progress_handler(None, 0)
        return Measure(tuple(times), max(units, 1) * STEPS, "steps of SQLite's machine")


def copy_of(path: Path, tables: Sequence[str]) -> sqlite3.Connection:
    """A database in memory with a sample of these tables, their indexes included; the caller closes it."""
    copy = sqlite3.connect(":memory:", uri=True, isolation_level=None, check_same_thread=False)
    try:
        copy.execute("ATTACH ? AS live", (f"{path.absolute().as_uri()}?mode=ro",))
        for table in tables:
            rows = copy.execute(
                "SELECT type, sql FROM live.sqlite_schema WHERE tbl_name = ? AND sql IS NOT NULL"
                " AND type IN ('table', 'index') ORDER BY type = 'index'",
                (table,),
            ).fetchall()
            if not rows:
                raise Unmeasurable(f"{table} is not there")
            copy.execute(str(rows[0][1]))
            _fill(copy, table)
            for _, text in rows[1:]:
                copy.execute(str(text))
        copy.execute("ANALYZE main")
        copy.execute("DETACH live")
    except BaseException:
        copy.close()
        raise
    return copy


def _fill(copy: sqlite3.Connection, table: str) -> None:
    name = quoted(table)
    columns = ", ".join(
        quoted(row[0]) for row in copy.execute("SELECT name FROM pragma_table_info(?)", (table,))
    )
    widths = " + ".join(
        f"length(CAST({quoted(row[0])} AS BLOB))"
        for row in copy.execute("SELECT name FROM pragma_table_info(?)", (table,))
    )
    width = copy.execute(
        f"SELECT avg({widths}) FROM (SELECT * FROM live.{name} LIMIT 100)"  # noqa: S608 - names from the catalogue, quoted
    ).fetchone()[0]
    rows = min(SAMPLE_ROWS, max(1_000, int(SAMPLE_BYTES / max(width or 1, 1))))
    copy.execute(
        f"INSERT INTO main.{name} ({columns}) SELECT {columns} FROM live.{name} LIMIT ?",  # noqa: S608 - names from the catalogue, quoted
        (rows,),
    )


class Tried(NamedTuple):
    """The best candidate, with the work on the copy before and after."""

    candidate: Candidate
    before: Measure
    after: Measure


def best_of(path: Path, text: str, options: Sequence[Candidate]) -> Tried | None:
    """Which of these indexes spares most work on a copy of a sample. Raises `Unmeasurable`."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as live:
        named = set(Reading(live, text).aliases.values())
        tables = sorted(named & stored(live))
    with closing(copy_of(path, tables)) as copy:
        reading = Reading(copy, text)
        drawn = reading.draw(copy)
        before = reading.measure(copy, drawn)
        best: Tried | None = None
        for one in options:
            columns = ", ".join(map(quoted, one.columns))
            copy.execute(f"CREATE INDEX care_probe ON {quoted(one.table)} ({columns})")
            after = reading.measure(copy, drawn)
            copy.execute("DROP INDEX care_probe")
            if best is None or after.work < best.after.work:
                best = Tried(one, before, after)
        return best
