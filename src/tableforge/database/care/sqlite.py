"""The care of SQLite: advice from plans and from the file itself, indexes that are tried and taken back, cleaning.

What only reads has connections of its own; what changes the file runs on the writer's thread, in transactions that are
bounded, for the game's commits wait behind them.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from time import monotonic
from typing import NamedTuple, Protocol, TypeVar

from tableforge.database import DatabaseUnavailable
from tableforge.database.care import (
    DROPPED,
    LEFT_THERE,
    NOT_MEASURED,
    Card,
    Entry,
    Finding,
    Measure,
    Outcome,
    Statements,
    Tell,
    Unmeasurable,
    Verdict,
    Watched,
    Wish,
    helped,
    is_read_only,
    judged,
    schema,
)
from tableforge.database.care.file import (
    FREED_AT_ONCE,
    LEAST_ROWS,
    checked,
    form_card,
    free_card,
    give_back,
    has_rows,
    is_free,
    looked,
    needless,
    optimized,
    slow,
    stale_tables,
    statistics_card,
    unused,
    value_of,
)
from tableforge.database.care.ledger import Ledger
from tableforge.database.care.plans import Candidate
from tableforge.database.care.schema import quoted
from tableforge.database.care.steps import Reading, Tried, best_of

T = TypeVar("T")

ADVICE_SECONDS = 10.0
BUILD_SECONDS = 5.0
"""The game's commits wait for as long as an index is built: one that takes longer is left to the operator."""
CHECK_SECONDS = 30.0
BUSY_SECONDS = 10.0
LEAST_WORK = 1_000
"""Steps of a run; what costs less is not worth an index."""
SAVES = 0.5
INDEXES_AT_ONCE = 3
STATEMENTS_AT_MOST = 80
WISH_STATEMENTS = 8
ANALYSIS_ROWS = 1_000
"""How many rows of each index ANALYZE looks at."""
COPIED_BYTES = 64 * 2**20
"""A file up to this size may be written anew within the time that commits can wait."""
KEYS_AT_ONCE = 1_000

FORGET = """
SELECT rowid, key, CAST(data AS TEXT) ->> '$.at' FROM events WHERE key IS NOT NULL AND key > ? ORDER BY key LIMIT ?
"""
IS_THERE = "SELECT 1 FROM sqlite_schema WHERE type = 'index' AND name = ? AND tbl_name = ?"


class Engine(Protocol):
    """What the care needs of the database: its file, and its writer's thread."""

    path: Path

    async def transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a transaction on the writer thread; durable on return."""
        ...


class Missing(NamedTuple):
    """An index that a statement lacks."""

    watched: Watched
    tried: Tried
    finding: Finding


def name_of(one: Candidate) -> str:
    """The name under which an index of ours is made."""
    return f"care_{one.table}_{'_'.join(one.columns)}"


def definition(one: Candidate) -> str:
    """The statement that makes it."""
    columns = ", ".join(map(quoted, one.columns))
    return f"CREATE INDEX {quoted(name_of(one))} ON {quoted(one.table)} ({columns})"


class SqliteCare:
    """See `Care` for what holds."""

    def __init__(
        self, engine: Engine, ledger: Ledger, statements: Statements, *, dead_share: float
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._statements = statements
        self._dead_share = dead_share
        self._caring = False

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[bool]:
        """See the contract. One process has the file, so it is enough to know what this one does."""
        if self._caring:
            yield False
            return
        self._caring = True
        try:
            yield True
        finally:
            self._caring = False

    async def _aside(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a thread, on a connection of its own that only reads."""

        def run() -> T:
            try:
                uri = f"{self._engine.path.absolute().as_uri()}?mode=ro"
                with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS)) as connection:
                    return work(connection)
            except sqlite3.Error as error:
                why = f"The database says: {error}."
                raise DatabaseUnavailable("What was being done broke off.", why) from error

        return await asyncio.to_thread(run)

    # Advice

    async def advice(self) -> list[Card]:
        """See the contract."""
        taken_back, made = await self._ledger.lately("reverted"), await self._ledger.lately("done")
        watched = self._watched()
        cards: list[tuple[str, Callable[[sqlite3.Connection], tuple[Sequence[Finding], str]]]] = [
            ("slow statements", lambda _: slow(watched)),
            ("missing indexes", lambda connection: self._lacking(connection, watched, taken_back)),
            ("needless indexes", needless),
            ("unused indexes", lambda connection: unused(connection, watched, made)),
            ("form of the tables", form_card),
            ("statistics", statistics_card),
            ("free pages", lambda one: free_card(one, self._dead_share, COPIED_BYTES)),
        ]
        found = []
        for name, ask in cards:
            try:
                findings, says = await self._aside(ask)
            except DatabaseUnavailable as error:
                found.append(Card(name, "unknown", error.why))
            else:
                found.append(Card(name, "attend" if findings else "good", says, tuple(findings)))
        return found

    def _watched(self) -> list[Watched]:
        return sorted(self._statements(), key=lambda one: -one.total_ms)[:STATEMENTS_AT_MOST]

    def _lacking(
        self, connection: sqlite3.Connection, watched: Sequence[Watched], taken_back: set[str]
    ) -> tuple[Sequence[Finding], str]:
        found, looked = self._missing(connection, watched, taken_back)
        return [one.finding for one in found], f"The plans of {looked} statements were read."

    def _missing(
        self, connection: sqlite3.Connection, watched: Sequence[Watched], taken_back: set[str]
    ) -> tuple[list[Missing], int]:
        """What the statements that cost most lack, the dearest first."""
        found: dict[str, Missing] = {}
        deadline = monotonic() + ADVICE_SECONDS
        looked = 0
        for one in watched:
            if monotonic() > deadline:
                break
            if not is_read_only(one.text):
                continue
            with suppress(Unmeasurable, sqlite3.Error):
                reading = Reading(connection, one.text)
                options = [
                    option
                    for option in reading.candidates(connection)
                    if has_rows(connection, option.table, LEAST_ROWS)
                ]
                looked += 1
                tried = best_of(self._engine.path, one.text, options) if options else None
                if (
                    tried is None
                    or tried.before.work < LEAST_WORK * len(tried.before.times)
                    or tried.after.work > tried.before.work * SAVES
                ):
                    continue
                name = name_of(tried.candidate)
                why = (
                    ""
                    if name not in taken_back
                    else "It was tried lately and did not help; order it by name."
                )
                finding = Finding(
                    f"{one.name} reads through {tried.candidate.table}.",
                    f"{one.calls} calls, {one.mean_ms:.2f} ms on average. On a copy of a sample: {tried.before}"
                    f" without the index, {tried.after} with it. {why}".strip(),
                    definition(tried.candidate),
                    "every change of its columns writes to it; commits wait while it is built, at most"
                    f" {BUILD_SECONDS:.0f} s",
                    safe=not why,
                )
                found.setdefault(name, Missing(one, tried, finding))
        return list(found.values()), looked

    # Mends

    async def optimize(self, tell: Tell, *, wish: Wish | None) -> list[Outcome]:
        """See the contract."""
        outcomes = await self._clear_up()
        if wish is not None:
            tell("trying the index that was asked for")
            return [*outcomes, await self._try_wish(wish)]
        tell("statistics")
        outcomes += await self._analyzed()
        outcomes.append(await self._freed(tell))
        outcomes.append(await self._checkpointed("PASSIVE"))
        for finding in (await self._aside(needless))[0]:
            outcomes.append(await self._drop_needless(finding))
        tell("missing indexes")
        watched, taken_back = self._watched(), await self._ledger.lately("reverted")
        found, looked = await self._aside(lambda one: self._missing(one, watched, taken_back))
        for number, one in enumerate(found):
            if number < INDEXES_AT_ONCE and one.finding.safe:
                tell(f"trying {name_of(one.tried.candidate)}")
                outcomes.append(await self._try(one.tried.candidate, [one.watched]))
            else:
                outcomes.append(
                    Outcome(one.finding.mend, one.finding.what, "", "skipped", one.finding.evidence)
                )
        if not found:
            why = "No index would halve the work of any of them."
            outcomes.append(
                Outcome("look for missing indexes", f"{looked} statements", "", "skipped", why)
            )
        made = await self._ledger.lately("done")
        for finding in (await self._aside(lambda one: unused(one, watched, made)))[0]:
            why = f"It is for you to decide. {finding.evidence}"
            outcomes.append(Outcome(finding.mend, finding.what, "", "skipped", why))
        return outcomes

    async def _clear_up(self) -> list[Outcome]:
        """Take back what was being tried when a process died."""
        outcomes = []
        for entry in await self._ledger.begun():
            ended = await self._ended(entry)
            if ended is not None:
                await self._ledger.end(entry.id, *ended)
                outcomes.append(Outcome(entry.change, "begun", "", *ended))
        return outcomes

    async def _ended(self, entry: Entry) -> tuple[Verdict, str] | None:
        """What became of a change whose process died, once that is settled; None while it cannot be."""
        is_there = await self._aside(
            lambda connection: connection.execute(IS_THERE, (entry.index, entry.table)).fetchone()
        )
        if entry.change.startswith("DROP"):
            return ("failed", LEFT_THERE) if is_there else ("done", DROPPED)
        if is_there and await self._change(f"DROP INDEX {quoted(entry.index)}"):
            return None
        return "reverted", NOT_MEASURED

    async def _change(self, text: str) -> str:
        """Run one change of the tables' form on the writer's thread; returns why it was not done, or nothing."""

        def work(connection: sqlite3.Connection) -> str:
            deadline = monotonic() + BUILD_SECONDS
            connection.set_progress_handler(lambda: monotonic() > deadline, 10_000)
            try:
                connection.execute(text)
            except sqlite3.OperationalError as error:
                if not connection.in_transaction:
                    connection.execute(
                        "BEGIN IMMEDIATE"
                    )  # the writer ends the transaction it began
                if "interrupted" in str(error):
                    return (
                        f"It took longer than {BUILD_SECONDS:.0f} s: build it while nobody plays."
                    )
                return f"The database says: {error}."
            finally:
                connection.set_progress_handler(None, 0)
            return ""

        return await self._engine.transact(work)

    async def _drop_needless(self, finding: Finding) -> Outcome:
        if not finding.safe:
            return Outcome(
                finding.mend,
                finding.what,
                "",
                "skipped",
                f"It is for you to decide. {finding.evidence}",
            )
        index, table = finding.index, finding.table
        entry = await self._ledger.begin(
            finding.mend, index=index, table=table, statement="", before_ms=0.0
        )
        trouble = await self._change(finding.mend)
        verdict: Verdict = "failed" if trouble else "done"
        await self._ledger.end(entry, verdict, trouble or finding.evidence)
        return Outcome(
            finding.mend,
            finding.what,
            "" if trouble else "dropped",
            verdict,
            trouble or finding.evidence,
        )

    async def _try_wish(self, wish: Wish) -> Outcome:
        candidate = Candidate(wish.table, wish.columns)

        def readers(connection: sqlite3.Connection) -> list[Watched] | None:
            known = {
                row[0]
                for row in connection.execute(
                    "SELECT name FROM pragma_table_info(?)", (wish.table,)
                )
            }
            if not known.issuperset(wish.columns) or not known:
                return None
            found = []
            for one in self._watched():
                with suppress(Unmeasurable):
                    reading = Reading(connection, one.text)
                    if is_read_only(one.text) and wish.table in reading.aliases.values():
                        reading.measure(connection, reading.draw(connection))
                        found.append(one)
            return found[:WISH_STATEMENTS]

        found = await self._aside(readers)
        if found is None:
            why = f"There is no table {wish.table} with the columns {', '.join(wish.columns)}."
            return Outcome(definition(candidate), "", "", "failed", why)
        if not found:
            why = f"No statement that has run reads {wish.table} and can be measured."
            return Outcome(definition(candidate), "", "", "skipped", why)
        return await self._try(candidate, found)

    async def _try(self, candidate: Candidate, watched: Sequence[Watched]) -> Outcome:
        """Build an index, measure again, and take it back unless one of the statements is better for it."""
        action, name = definition(candidate), name_of(candidate)

        def measured(
            connection: sqlite3.Connection,
        ) -> list[tuple[Reading, list[tuple[object, ...]], Measure]]:
            found = []
            for one in watched:
                reading = Reading(connection, one.text)
                drawn = reading.draw(connection)
                reading.measure(connection, drawn)  # to warm up
                found.append((reading, drawn, reading.measure(connection, drawn)))
            return found

        if await self._aside(
            lambda one: name in {index.name for index in schema.form_of_sqlite(one).indexes}
        ):
            return Outcome(action, name, name, "skipped", "It is there already.")
        try:
            earlier = await self._aside(measured)
        except Unmeasurable as refusal:
            return Outcome(action, "", "", "skipped", f"It cannot be measured: {refusal}.")
        entry = await self._ledger.begin(
            action,
            index=name,
            table=candidate.table,
            statement=watched[0].name,
            before_ms=earlier[0][2].p95,
        )
        trouble = await self._change(action)
        if trouble:
            await self._ledger.end(entry, "failed", trouble)
            return Outcome(action, str(earlier[0][2]), "", "failed", trouble)
        try:
            later = await self._aside(
                lambda connection: [
                    (before, reading.measure(connection, drawn), one.name)
                    for one, (reading, drawn, before) in zip(watched, earlier, strict=True)
                ]
            )
        except Unmeasurable as refusal:
            return await self._take_back(
                entry, candidate, earlier[0][2], f"It could not be measured: {refusal}."
            )
        before, after, best = min(later, key=lambda one: one[1].work / one[0].work)
        await self._ledger.found(entry, best, before_ms=before.p95, after_ms=after.p95)
        why = judged(best, before, after)
        if helped(before, after):
            await self._ledger.end(entry, "done", why)
            return Outcome(action, str(before), str(after), "done", why)
        outcome = await self._take_back(entry, candidate, before, why)
        return outcome._replace(after=str(after))

    async def _take_back(
        self, entry: str, candidate: Candidate, before: Measure, why: str
    ) -> Outcome:
        """Drop an index that did not help; where that fails, the next order does it, for its line is still open."""
        trouble = await self._change(f"DROP INDEX {quoted(name_of(candidate))}")
        if trouble:
            return Outcome(
                definition(candidate),
                str(before),
                "",
                "failed",
                f"{why} But it could not be dropped yet: {trouble}",
            )
        await self._ledger.end(entry, "reverted", why)
        return Outcome(definition(candidate), str(before), "", "reverted", why)

    # Cleaning

    async def _analyzed(self) -> list[Outcome]:
        stale = await self._aside(stale_tables)
        outcomes = []

        def analyze(connection: sqlite3.Connection, table: str) -> None:
            connection.execute(f"PRAGMA analysis_limit = {ANALYSIS_ROWS}")
            connection.execute(f"ANALYZE {quoted(table)}")

        for table, before in stale:
            await self._engine.transact(lambda connection, table=table: analyze(connection, table))  # type: ignore[misc]  # bound at once
            outcomes.append(
                Outcome(f"ANALYZE {quoted(table)}", before, "fresh statistics", "done", "")
            )
        meant = await self._engine.transact(optimized)
        if meant:
            return [*outcomes, Outcome("PRAGMA optimize", "", "; ".join(meant), "done", "")]
        why = f"The database finds no {'other ' if stale else ''}table whose statistics are old."
        return [*outcomes, Outcome("PRAGMA optimize", "", "", "skipped", why)]

    async def _freed(self, tell: Tell) -> Outcome:
        """Give free pages back to the disk, a few at a time; a small file that cannot is written anew once."""
        share = self._dead_share

        def room(connection: sqlite3.Connection) -> tuple[int, int, int, int]:
            return (
                value_of(connection, "PRAGMA freelist_count"),
                value_of(connection, "PRAGMA page_count"),
                value_of(connection, "PRAGMA auto_vacuum"),
                value_of(connection, "PRAGMA page_size"),
            )

        free, pages, kind, size = await self._aside(room)
        before = f"{free} of {pages} pages free"
        if not is_free(free, pages, share):
            return Outcome(
                "free pages",
                before,
                before,
                "skipped",
                f"Less than {share:.0%} of the file is free.",
            )
        if kind != 2 and pages * size > COPIED_BYTES:
            mend = "Stop the server, then: sqlite3 tableforge.sqlite3 'PRAGMA auto_vacuum = INCREMENTAL; VACUUM'"
            return Outcome(
                "free pages",
                before,
                before,
                "skipped",
                f"The file is too large to be written anew while it serves. {mend}",
            )
        if kind != 2:
            action = "PRAGMA auto_vacuum = INCREMENTAL; VACUUM"
            await asyncio.to_thread(self._write_anew)
        else:
            action = "PRAGMA incremental_vacuum"
            for done in range(0, free, FREED_AT_ONCE):
                tell(f"{done} of {free} free pages given back")
                await self._engine.transact(give_back)
        free, pages, _, _ = await self._aside(room)
        return Outcome(action, before, f"{free} of {pages} pages free", "done", "")

    def _write_anew(self) -> None:
        try:
            with closing(
                sqlite3.connect(self._engine.path, timeout=BUSY_SECONDS, isolation_level=None)
            ) as connection:
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
                connection.execute("VACUUM")
        except sqlite3.Error as error:
            raise DatabaseUnavailable(
                "The file was not written anew.", f"The database says: {error}."
            ) from error

    async def _checkpointed(self, how: str) -> Outcome:
        """Bring the log of the file into it; PASSIVE keeps nobody waiting, TRUNCATE a second at most."""
        path = self._engine.path
        wal = path.with_name(f"{path.name}-wal")

        def run() -> tuple[int, int, int]:
            with closing(sqlite3.connect(path, timeout=1.0, isolation_level=None)) as connection:
                row: tuple[int, int, int] = connection.execute(
                    f"PRAGMA wal_checkpoint({how})"
                ).fetchone()
                return row

        def seen() -> tuple[str, int]:
            held = wal.stat().st_size if wal.exists() else 0
            return f"{held} bytes of log", path.stat().st_mtime_ns

        before, touched = seen()
        try:
            busy, pages, moved = await asyncio.to_thread(run)
        except sqlite3.Error as error:
            return Outcome("checkpoint", before, "", "failed", f"The database says: {error}.")
        after, touched_last = seen()
        if after == before and touched_last == touched:
            why = "The log is empty." if pages <= 0 else "All of the log is in the file already."
            if busy or moved < pages:
                why = "Somebody was reading or writing; it goes with the next one."
            return Outcome("checkpoint", before, after, "skipped", why)
        why = "The log keeps its room on the disk for what comes next." if after == before else ""
        if busy:
            why = "Somebody was reading or writing; the rest goes with the next one."
        told = f"{after}, {moved} of {pages} pages are in the file"
        return Outcome("checkpoint", before, told, "done", why)

    async def maintain(self, tell: Tell, *, within_seconds: float) -> list[Outcome]:
        """See the contract."""
        deadline = monotonic() + within_seconds
        tell("statistics")
        outcomes = await self._analyzed()
        tell("free pages")
        outcomes.append(await self._freed(tell))
        tell("the file's integrity")
        outcomes.append(
            await self._aside(lambda one: checked(one, min(deadline, monotonic() + CHECK_SECONDS)))
        )
        tell("looking at a sample of the logs")
        outcomes.append(await self._aside(looked))
        outcomes.append(await self._checkpointed("TRUNCATE"))
        return outcomes

    async def forget_keys(self, tell: Tell, *, before: str, within_seconds: float) -> Outcome:
        """See the contract."""
        action = "forget the ids of old commands"
        deadline = monotonic() + within_seconds
        key, forgotten = b"", 0

        def forget(connection: sqlite3.Connection, old: list[tuple[int]]) -> int:
            return connection.executemany(
                "UPDATE events SET key = NULL, digest = NULL WHERE rowid = ? AND key = ?", old
            ).rowcount

        while monotonic() < deadline:
            rows = await self._aside(
                lambda one, key=key: one.execute(FORGET, (key, KEYS_AT_ONCE)).fetchall()  # type: ignore[misc]  # bound at once
            )
            if not rows:
                return Outcome(action, f"before {before}", f"{forgotten} forgotten", "done", "")
            key = rows[-1][1]
            old = [(rowid, one) for rowid, one, at in rows if (at or "") < before]
            if old:
                forgotten += await self._engine.transact(lambda one, old=old: forget(one, old))  # type: ignore[misc]  # bound at once
            tell(f"{forgotten} ids of commands forgotten")
        return Outcome(
            action,
            f"before {before}",
            f"{forgotten} forgotten",
            "done",
            "There was no time left for all.",
        )
