"""Looks on at SQLite over a connection of its own: plans, and the cards."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from time import perf_counter
from typing import TypeVar

from tableforge.database import DatabaseUnavailable, Row, Statement
from tableforge.database.cards import (
    CARD_SECONDS,
    LISTED_AT_MOST,
    Cards,
    DatabaseCache,
    DatabaseServer,
    DatabaseSize,
    IndexFigures,
    TableFigures,
)
from tableforge.database.observing import Observer

T = TypeVar("T")

STEPS_BETWEEN_LOOKS = 10_000
"""How many of its steps SQLite takes before it looks at the clock."""
ONE_PROCESS = "There is one process on this database; nobody else is connected."

VERSION = Statement("look.server", "SELECT sqlite_version()")
PAGES = Statement(
    "look.size",
    """SELECT c.page_count, s.page_size, f.freelist_count
       FROM pragma_page_count c, pragma_page_size s, pragma_freelist_count f""",
)
CACHE = Statement("look.cache", "SELECT cache_size FROM pragma_cache_size")
OBJECTS = Statement(
    "look.tables",
    """SELECT m.type, m.name, m.tbl_name, coalesce(l."unique", 0) FROM sqlite_schema m
       LEFT JOIN pragma_index_list(m.tbl_name) l ON m.type = 'index' AND l.name = m.name
       WHERE m.type IN ('table', 'index') AND m.rootpage > 0 ORDER BY m.name""",
)
ROWS = Statement(
    "look.rows",
    "SELECT tbl, max(CAST(stat AS INTEGER)) FROM sqlite_stat1 GROUP BY tbl",
)
BYTES = Statement("look.bytes", "SELECT name, pgsize FROM dbstat WHERE aggregate = TRUE")


class Onlooker:
    """Each look opens the file anew, for reading, and closes it. `opened` opens it."""

    def __init__(
        self, path: Path, opened: Callable[[], sqlite3.Connection], observer: Observer
    ) -> None:
        self._path = path
        self._opened = opened
        self._observer = observer
        self._turn = asyncio.Lock()

    async def explain(self, text: str, parameters: int, settings: str) -> str:
        """The plan of a statement for any parameters; raises `DatabaseUnavailable`."""
        del settings
        async with self._turn:
            return await asyncio.to_thread(self._explain, text, parameters)

    def _explain(self, text: str, parameters: int) -> str:
        try:
            with closing(self._opened()) as connection:
                bound(connection, CARD_SECONDS)
                nothing = (None,) * parameters
                lines = connection.execute(f"EXPLAIN QUERY PLAN {text}", nothing).fetchall()
        except sqlite3.Error as error:
            raise DatabaseUnavailable("Nothing was read.", why(error)) from error
        if not lines:
            raise DatabaseUnavailable(
                "Nothing was read.", "There is no plan for statements of this kind."
            )
        depth = {0: 0}
        for number, parent, _, _ in lines:
            depth[number] = depth.get(parent, 0) + 1
        return "\n".join(f"{'  ' * (depth[number] - 1)}{line}" for number, _, _, line in lines)

    async def cards(self) -> Cards:
        """All cards."""
        async with self._turn:
            return await asyncio.to_thread(self._cards)

    def _cards(self) -> Cards:
        missing = {"activity": ONE_PROCESS}

        def card(name: str, made: Callable[[sqlite3.Connection], T]) -> T | None:
            try:
                with closing(self._opened()) as connection:
                    bound(connection, CARD_SECONDS)
                    return made(connection)
            except (sqlite3.Error, OSError) as error:
                missing[name] = why(error)
                return None

        sizes = card("tables.bytes", self._bytes)
        rows = card("tables.rows", self._rows)
        return Cards(
            server=card(
                "server", lambda one: DatabaseServer(self._ask(one, VERSION)[0][0], None, None)
            ),
            size=card("size", self._size),
            cache=card("cache", self._cache),
            activity=None,
            tables=card("tables", lambda one: self._tables(one, sizes or {}, rows or {})),
            indexes=card("indexes", lambda one: self._indexes(one, sizes or {})),
            missing=missing,
        )

    def _ask(self, connection: sqlite3.Connection, statement: Statement) -> list[Row]:
        with self._observer.watch(statement.name, statement.sql) as watch:
            rows = connection.execute(statement.sql).fetchall()
            watch.rows = len(rows)
        return rows

    def _bytes(self, connection: sqlite3.Connection) -> dict[str, int]:
        return dict(self._ask(connection, BYTES))

    def _rows(self, connection: sqlite3.Connection) -> dict[str, int]:
        return dict(self._ask(connection, ROWS))

    def _size(self, connection: sqlite3.Connection) -> DatabaseSize:
        ((pages, page_bytes, free),) = self._ask(connection, PAGES)
        wal = self._path.with_name(f"{self._path.name}-wal")
        wal_bytes = wal.stat().st_size if wal.exists() else 0
        return DatabaseSize(pages * page_bytes, wal_bytes, page_bytes, pages, free)

    def _cache(self, connection: sqlite3.Connection) -> DatabaseCache:
        """Negative: that many KiB; else pages. Python's driver does not tell what was found there."""
        ((size,),) = self._ask(connection, CACHE)
        ((_, page_bytes, _),) = self._ask(connection, PAGES)
        return DatabaseCache(None, None, None, -size * 1024 if size < 0 else size * page_bytes)

    def _tables(
        self, connection: sqlite3.Connection, sizes: dict[str, int], rows: dict[str, int]
    ) -> list[TableFigures]:
        indexes: dict[str, int] = {}
        found = self._ask(connection, OBJECTS)
        for kind, name, table, _ in found:
            if kind == "index":
                indexes[table] = indexes.get(table, 0) + sizes.get(name, 0)
        tables = [
            TableFigures(
                name=name,
                rows=rows.get(name),
                dead_rows=None,
                dead_share=None,
                bytes=sizes.get(name),
                index_bytes=indexes.get(name, 0) if sizes else None,
                bloat_bytes=None,
                sequential_scans=None,
                index_scans=None,
                changes=None,
                vacuumed=None,
                analyzed=None,
            )
            for kind, name, _, _ in found
            if kind == "table"
        ]
        return sorted(tables, key=lambda one: -(one.bytes or 0))[:LISTED_AT_MOST]

    def _indexes(self, connection: sqlite3.Connection, sizes: dict[str, int]) -> list[IndexFigures]:
        """SQLite does not count what is read through an index."""
        found = [
            IndexFigures(name, table, bool(unique), True, None, None, sizes.get(name))  # noqa: FBT003 - an index of SQLite is always valid
            for kind, name, table, unique in self._ask(connection, OBJECTS)
            if kind == "index"
        ]
        return sorted(found, key=lambda one: -(one.bytes or 0))[:LISTED_AT_MOST]


def bound(connection: sqlite3.Connection, seconds: float) -> None:
    """Have whatever takes longer on this connection break off."""
    deadline = perf_counter() + seconds
    connection.set_progress_handler(lambda: perf_counter() > deadline, STEPS_BETWEEN_LOOKS)


def why(error: Exception) -> str:
    """Why there is nothing to tell, in a sentence."""
    if "interrupted" in str(error):
        return f"It was not told within {CARD_SECONDS:g} s."
    if "no such table: sqlite_stat1" in str(error):
        return "SQLite knows the number of rows once tables are analyzed, which it does from 1000 rows on."
    if "no such table: dbstat" in str(error):
        return "This SQLite does not tell the sizes of tables."
    return f"The database says: {error}."
