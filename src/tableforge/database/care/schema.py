"""Checks of the tables' own form, for both engines: as advice of a running database, and as tests of our migrations.

What ships with the program counts as meant: an index of ours that nothing used yet may be needed tomorrow.
"""

import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from tableforge.database.care import Finding
from tableforge.database.large_indexes import LARGE_INDEXES
from tableforge.database.migrations import scripts

INDEX_NAME = re.compile(r"CREATE (?:UNIQUE )?INDEX (\w+)", re.IGNORECASE)
TABLE_NAME = re.compile(r"CREATE TABLE (\w+)", re.IGNORECASE)


class Index(NamedTuple):
    """An index as both engines can tell of it.

    `columns` are its keys in order, expressions included; `rest` is whatever else sets it apart (method, condition,
    operators, order), so that two are compared only where that is equal. `bound` is whether a rule of the table (primary
    key, uniqueness) hangs on it.
    """

    name: str
    table: str
    columns: tuple[str, ...]
    rest: str
    bound: bool
    valid: bool = True


class ForeignKey(NamedTuple):
    """Columns of a table that refer to another one."""

    table: str
    columns: tuple[str, ...]
    refers_to: str


class Form(NamedTuple):
    """What the checks look at; `keyed` are the tables in which every row has a key of its own."""

    tables: tuple[str, ...]
    keyed: frozenset[str]
    indexes: tuple[Index, ...]
    foreign_keys: tuple[ForeignKey, ...]

    def of(self, tables: frozenset[str]) -> "Form":
        """The form of these tables alone."""
        return Form(
            tuple(one for one in self.tables if one in tables),
            self.keyed & tables,
            tuple(one for one in self.indexes if one.table in tables),
            tuple(one for one in self.foreign_keys if one.table in tables),
        )


@cache
def shipped(engine: str) -> frozenset[str]:
    """The names of the indexes that come with the program, for `sqlite` or `postgres`."""
    large = {one.name for one in LARGE_INDEXES if engine == "postgres"}
    return frozenset(large.union(*(INDEX_NAME.findall(one.text) for one in scripts(engine))))


@cache
def own_tables(engine: str) -> frozenset[str]:
    """The names of the program's tables, for `sqlite` or `postgres`; others are somebody else's.

    Without `schema_form`, whose one row wants no care.
    """
    return frozenset().union(*(TABLE_NAME.findall(one.text) for one in scripts(engine)))


def duplicates(form: Form, *, keep: frozenset[str]) -> Iterator[tuple[Index, Index]]:
    """Indexes that another one of the same table makes needless, with that one: equal to it, or a beginning of it.

    Never one that a rule of the table hangs on; of two equal ones the one in `keep` stays.
    """
    by_table: dict[str, list[Index]] = defaultdict(list)
    for index in form.indexes:
        if index.valid:
            by_table[index.table].append(index)
    for indexes in by_table.values():
        for one in indexes:
            covering = [
                other
                for other in indexes
                if other is not one
                and other.rest == one.rest
                and other.columns[: len(one.columns)] == one.columns
                and (len(other.columns) > len(one.columns) or rank(other, keep) < rank(one, keep))
            ]
            if covering and not one.bound:
                yield one, covering[0]


def rank(index: Index, keep: frozenset[str]) -> tuple[bool, bool, str]:
    """Of equal indexes the lowest stays."""
    return not index.bound, index.name not in keep, index.name


def needless(form: Form, *, keep: frozenset[str], concurrently: bool) -> Iterator[Finding]:
    """Duplicate indexes as findings. Those in `keep` are never dropped without being asked."""
    for one, other in duplicates(form, keep=keep):
        equal = one.columns == other.columns
        yield Finding(
            f"Index {one.name} of {one.table} repeats {other.name}.",
            f"Both begin with ({', '.join(one.columns)}); every change of a row is written to both.",
            f"DROP INDEX {'CONCURRENTLY ' if concurrently else ''}{quoted(one.name)}",
            "none: what reads it can read the other one",
            safe=equal and one.name not in keep,
            table=one.table,
            index=one.name,
        )


def unindexed(form: Form) -> Iterator[Finding]:
    """Foreign keys by whose columns no index begins: each change of what they refer to reads through their table."""
    for key in form.foreign_keys:
        wanted = set(key.columns)
        if not any(
            index.table == key.table and set(index.columns[: len(wanted)]) == wanted
            for index in form.indexes
        ):
            columns = ", ".join(map(quoted, key.columns))
            yield Finding(
                f"The foreign key of {key.table} ({', '.join(key.columns)}) has no index.",
                f"Each removal from {key.refers_to} reads through all of {key.table}.",
                f"CREATE INDEX ON {quoted(key.table)} ({columns})",
                "one more index to write to",
                safe=False,
            )


def keyless(form: Form) -> Iterator[Finding]:
    """Tables in which a row cannot be named."""
    for table in form.tables:
        if table not in form.keyed:
            yield Finding(
                f"Table {table} has no primary key.",
                "Rows that are equal cannot be told apart, changed or copied one by one.",
                f"ALTER TABLE {quoted(table)} ADD PRIMARY KEY (…)",
                "a unique index",
                safe=False,
            )


def quoted(name: str) -> str:
    """A name as both engines take it."""
    return '"' + name.replace('"', '""') + '"'


def form_of_sqlite(connection: sqlite3.Connection) -> Form:
    """The form of a SQLite database."""
    tables = tuple(
        str(row[0])
        for row in connection.execute(
            "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table'"
            " AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        )
    )
    keyed: set[str] = set()
    indexes: list[Index] = []
    foreign: list[ForeignKey] = []
    for table in tables:
        columns = connection.execute(
            'SELECT name, "notnull", pk FROM pragma_table_info(?)', (table,)
        )
        facts: Mapping[str, tuple[int, int]] = {name: (full, pk) for name, full, pk in columns}
        key = sorted((pk, name) for name, (_, pk) in facts.items() if pk)
        if key:
            keyed.add(table)
            indexes.append(
                Index(f"key of {table}", table, tuple(n for _, n in key), "", bound=True)
            )
        for name, unique, partial in connection.execute(
            "SELECT name, \"unique\", partial FROM pragma_index_list(?) WHERE origin <> 'pk'",
            (table,),
        ).fetchall():
            parts = connection.execute(
                "SELECT coalesce(name, '(expression)'), \"desc\", coll FROM pragma_index_xinfo(?) WHERE key = 1",
                (name,),
            ).fetchall()
            own = tuple(str(part[0]) for part in parts)
            text = connection.execute(
                "SELECT sql FROM sqlite_schema WHERE name = ?", (name,)
            ).fetchone()[0]
            where = re.split(r"\bWHERE\b", text or "", maxsplit=1, flags=re.IGNORECASE)[1:]
            ordered = "".join(f" {d}{c}" for _, d, c in parts if d or c != "BINARY")
            expression = str(text) if "(expression)" in own else ""
            rest = f"{''.join(where).strip()}{ordered}{expression}"
            indexes.append(Index(name, table, own, rest, bound=bool(unique)))
            if unique and not partial and all(facts.get(one, (0, 0))[0] for one in own):
                keyed.add(table)
        foreign += _foreign_keys(connection, table)
    return Form(tables, frozenset(keyed), tuple(indexes), tuple(foreign))


def _foreign_keys(connection: sqlite3.Connection, table: str) -> list[ForeignKey]:
    found: dict[int, tuple[str, list[str]]] = {}
    for number, target, column in connection.execute(
        'SELECT id, "table", "from" FROM pragma_foreign_key_list(?) ORDER BY id, seq', (table,)
    ):
        found.setdefault(number, (target, []))[1].append(column)
    return [ForeignKey(table, tuple(columns), target) for target, columns in found.values()]


TABLES_POSTGRES = """
SELECT c.relname, EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid
    AND (i.indisprimary OR i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL AND NOT EXISTS (
        SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey) AND NOT a.attnotnull)))
FROM pg_class c WHERE c.relkind IN ('r', 'p') AND c.relnamespace = current_schema()::regnamespace
"""
INDEXES_POSTGRES = """
SELECT x.relname, c.relname,
    (SELECT array_agg(concat_ws(' ', pg_get_indexdef(i.indexrelid, k, true),
            CASE WHEN NOT o.opcdefault THEN o.opcname END,
            (SELECT a.attoptions::text FROM pg_attribute a WHERE a.attrelid = i.indexrelid AND a.attnum = k),
            CASE WHEN i.indcollation[k - 1] NOT IN (0, 100) THEN i.indcollation[k - 1]::regcollation::text END,
            CASE i.indoption[k - 1] WHEN 1 THEN 'DESC NULLS LAST' WHEN 2 THEN 'NULLS FIRST' WHEN 3 THEN 'DESC' END)
        ORDER BY k)
     FROM generate_series(1, i.indnkeyatts) AS k JOIN pg_opclass o ON o.oid = i.indclass[k - 1]),
    concat_ws(' ', am.amname, pg_get_expr(i.indpred, i.indrelid), x.reloptions::text, nullif(x.reltablespace, 0),
        CASE WHEN i.indnatts > i.indnkeyatts THEN pg_get_indexdef(i.indexrelid) END),
    i.indisprimary OR i.indisunique OR i.indisexclusion OR i.indisreplident OR i.indisclustered
        OR EXISTS (SELECT FROM pg_constraint o WHERE o.conindid = i.indexrelid),
    i.indisvalid
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_class c ON c.oid = i.indrelid
    JOIN pg_am am ON am.oid = x.relam
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'm')
"""
FOREIGN_KEYS_POSTGRES = """
SELECT c.conrelid::regclass::text, (SELECT array_agg(a.attname::text ORDER BY k.place)
    FROM unnest(c.conkey) WITH ORDINALITY AS k (number, place)
    JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.number), c.confrelid::regclass::text
FROM pg_constraint c WHERE c.contype = 'f' AND c.connamespace = current_schema()::regnamespace
"""


def form_of_postgres(
    tables: Sequence[tuple[str, bool]],
    indexes: Sequence[tuple[str, str, Sequence[str], str, bool, bool]],
    foreign_keys: Sequence[tuple[str, Sequence[str], str]],
) -> Form:
    """The form of a PostgreSQL database from the rows of the three questions above."""
    return Form(
        tuple(name for name, _ in tables),
        frozenset(name for name, has_key in tables if has_key),
        tuple(
            Index(name, table, tuple(bare(one) for one in columns), rest, bound=bound, valid=valid)
            for name, table, columns, rest, bound, valid in indexes
        ),
        tuple(
            ForeignKey(bare(table), tuple(columns), bare(target))
            for table, columns, target in foreign_keys
        ),
    )


def bare(name: str) -> str:
    """A name without the quotes that PostgreSQL puts around words of its own."""
    return name[1:-1].replace('""', '"') if re.fullmatch(r'"(?:[^"]|"")+"', name) else name
