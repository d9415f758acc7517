"""The care of PostgreSQL: advice from the server itself, indexes that are tried and taken back, cleaning.

Everything runs on connections of its own, outside of the pool, so that the game never waits for one that cares.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import NamedTuple

import asyncpg

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
    cards,
    helped,
    is_read_only,
    judged,
    schema,
)
from tableforge.database.care.cleaning import (
    FAILURES,
    LOCK_SECONDS,
    checked,
    clean,
    forget_keys,
    looked,
    not_owner,
    told,
)
from tableforge.database.care.ledger import Ledger
from tableforge.database.care.plans import Candidate, Node, candidates, cost, tables
from tableforge.database.care.schema import quoted
from tableforge.database.care.trial import (
    PARAMETERS,
    Drawn,
    Tried,
    best_of,
    draw,
    explained,
    measure,
)
from tableforge.database.observing import without_literals
from tableforge.database.pool import Connection

LOCK = 0x7461626C6563
"""The advisory lock of whoever cares for the database."""
CARD_SECONDS = 3.0
MISSING_SECONDS = 10.0
BUILD_SECONDS = 1_200
CLOSE_SECONDS = 2.0
LEAST_ROWS = 1_000
LEAST_COST = 100.0
SAVES = 0.5
"""What an index must leave of the planner's cost at most, to be worth a try."""
SLOW_MS, SLOW_CALLS = 20.0, 20
INDEXES_AT_ONCE = 3
INDEX_BYTES = 2**30
"""Larger indexes are built by the operator, not by themselves."""
STATEMENTS_AT_MOST = 80
WISH_STATEMENTS = 8

TEMPORARY = "; no index could be tried: GRANT TEMPORARY ON DATABASE … TO this user"
IN_PLACE = frozenset({"room_heads", "instances"})
"""Tables whose rows change in place all the time: another index would end that for its columns."""

STATEMENTS = """
SELECT query, calls, mean_exec_time FROM {schema}.pg_stat_statements
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND userid = (SELECT oid FROM pg_roles WHERE rolname = current_user) AND toplevel AND query IS NOT NULL
ORDER BY total_exec_time DESC LIMIT 500
"""
"""Of this user alone. These texts are only compared with ours: others may have written them, so none is ever planned."""
ROWS = """
SELECT c.relname, greatest(c.reltuples, s.n_live_tup)::float8 FROM pg_class c
LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid
WHERE c.relkind IN ('r', 'p') AND c.relnamespace = current_schema()::regnamespace AND c.relname = ANY ($1)
"""
MAY_OWN = """
SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass($1)
"""
IS_VALID = """
SELECT i.indisvalid FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_class c ON c.oid = i.indrelid
WHERE x.relname = $1 AND c.relname = $2 AND c.relnamespace = current_schema()::regnamespace
"""
WIDTH = """
SELECT coalesce(sum(avg_width), 8 * cardinality($2::text[]))::float8 FROM pg_stats
WHERE schemaname = current_schema() AND tablename = $1 AND attname = ANY ($2)
"""


class Missing(NamedTuple):
    """An index that a statement lacks, with what the planner thinks of it."""

    watched: Watched
    plan: Node
    tried: Tried
    finding: Finding


def name_of(one: Candidate) -> str:
    """The name under which an index of ours is made, at most 63 characters."""
    name = f"care_{one.table}_{'_'.join(one.columns)}"
    if len(name) <= 60:
        return name
    return f"{name[:50]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def definition(one: Candidate) -> str:
    """The statement that makes it."""
    columns = ", ".join(map(quoted, one.columns))
    return f"CREATE INDEX CONCURRENTLY {quoted(name_of(one))} ON {quoted(one.table)} ({columns})"


def shape(text: str) -> str:
    """What is equal for two texts that differ in white space and constants, for which the server writes parameters."""
    return " ".join(PARAMETERS.sub("?", without_literals(text)).split())


class PostgresCare:
    """See `Care` for what holds. `dial` opens a connection that cares; `statements` are the program's own, as are `tables`."""

    def __init__(
        self,
        dial: Callable[[], Awaitable[Connection]],
        ledger: Ledger,
        statements: Statements,
        *,
        dead_share: float,
        pool_max: int,
        tables: frozenset[str],
    ) -> None:
        self._dial = dial
        self._ledger = ledger
        self._statements = statements
        self._bounds = cards.Bounds(dead_share, pool_max, tables)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        try:
            connection = await self._dial()
        except FAILURES as error:
            raise DatabaseUnavailable("Nothing was done.", told(error)) from error
        try:
            yield connection
        except FAILURES as error:
            raise DatabaseUnavailable("What was being done broke off.", told(error)) from error
        finally:
            with contextlib.suppress(*FAILURES):
                await connection.close(timeout=CLOSE_SECONDS)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[bool]:
        """See the contract.

        The lock ends with its connection. Its transaction holds back neither cleaning nor the building of an index, since
        it keeps no snapshot: the driver's question leaves a portal open that has one, and the empty statement behind it
        closes that.
        """
        async with self._connected() as connection:
            await connection.execute("BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0")
            is_alone = await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", LOCK)
            await connection.execute("SELECT")
            yield bool(is_alone)
            await connection.execute("ROLLBACK")

    # Advice

    async def advice(self) -> list[Card]:
        """See the contract."""
        async with self._connected() as connection:
            await connection.execute(f"SET statement_timeout = {round(CARD_SECONDS * 1000)}")
            asked = [
                ("slow statements", self._slow),
                ("missing indexes", self._lacking),
                ("needless indexes", self._needless),
                ("form of the tables", self._form_card),
                *((question.name, self._asked(question)) for question in cards.QUESTIONS),
            ]
            return [await self._card(connection, name, ask) for name, ask in asked]

    async def _card(
        self,
        connection: Connection,
        name: str,
        ask: Callable[[Connection], Awaitable[tuple[Sequence[Finding], str]]],
    ) -> Card:
        if connection.is_closed():
            return Card(name, "unknown", "The connection to the database was lost.")
        try:
            async with asyncio.timeout(MISSING_SECONDS + 2 * CARD_SECONDS):
                findings, says = await ask(connection)
        except asyncpg.InsufficientPrivilegeError as error:
            grant = "Grant pg_read_all_stats (or pg_monitor) to this user."
            return Card(name, "unknown", f"{told(error)} {grant}")
        except FAILURES as error:
            return Card(name, "unknown", told(error))
        return Card(name, "attend" if findings else "good", says, tuple(findings))

    def _asked(
        self, question: cards.Question
    ) -> Callable[[Connection], Awaitable[tuple[Sequence[Finding], str]]]:
        async def ask(connection: Connection) -> tuple[Sequence[Finding], str]:
            rows = await cards.asked(connection, question.sql, self._bounds)
            meant = schema.shipped("postgres") | await self._ledger.lately("done")
            findings = [
                one
                for one in question.read(rows, self._bounds)
                if question.name != "unused indexes" or one.index not in meant
            ]
            return findings, question.good if not findings else f"{len(findings)} to look at."

        return ask

    async def _slow(self, connection: Connection) -> tuple[Sequence[Finding], str]:
        watched, source = await self._watched(connection)
        slow = [one for one in watched if one.mean_ms >= SLOW_MS and one.calls >= SLOW_CALLS]
        findings = [
            Finding(
                f"{one.name} takes {one.mean_ms:.1f} ms on average.",
                f"{one.calls} calls, {one.total_ms / 1000:.1f} s together: {without_literals(one.text)[:300]}",
                "See the card `missing indexes`; GET /api/admin/database/slow-queries has its plan.",
                "",
                safe=False,
            )
            for one in slow[:10]
        ]
        return findings, f"{len(slow)} statements are slow, by {source}."

    async def _watched(self, connection: Connection) -> tuple[list[Watched], str]:
        """Our statements that cost most, by the server's figures where it keeps them, else by our own.

        Never a text that the server tells: another program, or another user, may have put anything into it.
        """
        own = list(self._statements())
        where = await connection.fetchval(
            "SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace"
            " WHERE e.extname = 'pg_stat_statements'"
        )
        source = "this instance's own figures"
        if where is not None:
            try:
                rows = await connection.fetch(STATEMENTS.format(schema=where))
            except asyncpg.PostgresError as error:
                source += f" (pg_stat_statements cannot be read: {told(error)})"
            else:
                figures = {shape(text): (calls, mean) for text, calls, mean in reversed(rows)}
                own = [
                    Watched(one.name, one.text, *figures[key], "pg_stat_statements")
                    if (key := shape(one.text)) in figures
                    else one
                    for one in own
                ]
                source = "pg_stat_statements and this instance's own figures"
        ordered = sorted(own, key=lambda one: -one.total_ms)
        return ordered[:STATEMENTS_AT_MOST], source

    async def _lacking(self, connection: Connection) -> tuple[Sequence[Finding], str]:
        found, looked, source = await self._missing(connection)
        return (
            [one.finding for one in found],
            f"The plans of {looked} statements were read ({source}).",
        )

    async def _missing(self, connection: Connection) -> tuple[list[Missing], int, str]:
        """What the statements that cost most lack, the dearest first, one index a table and order of columns."""
        watched, source = await self._watched(connection)
        rows: Mapping[str, float] = dict(
            map(tuple, await cards.asked(connection, ROWS, self._bounds))
        )
        taken_back = await self._ledger.lately("reverted")
        found: dict[str, Missing] = {}
        deadline = monotonic() + MISSING_SECONDS
        looked = 0
        for one in watched:
            if monotonic() > deadline:
                source += "; there was no time for more"
                break
            try:
                plan = await explained(connection, one.text)
                looked += 1
                options = candidates(plan, rows, least_rows=LEAST_ROWS)
                if cost(plan) < LEAST_COST or not options:
                    continue
                tried = await best_of(connection, one.text, options, rows)
            except asyncpg.InsufficientPrivilegeError as error:
                if "temporary" in str(error) and TEMPORARY not in source:
                    source += TEMPORARY
                continue
            except asyncpg.PostgresError:
                continue  # what has run may not fit the tables any more
            if tried is not None and tried.after <= tried.before * SAVES:
                name = name_of(tried.candidate)
                finding = await self._finding(
                    connection, one, plan, tried, rows, name in taken_back
                )
                found.setdefault(name, Missing(one, plan, tried, finding))
        return list(found.values()), looked, source

    async def _finding(
        self,
        connection: Connection,
        one: Watched,
        plan: Node,
        tried: Tried,
        rows: Mapping[str, float],
        is_taken_back: bool,  # noqa: FBT001 - one of many facts about it
    ) -> Finding:
        table, columns = tried.candidate
        width = await connection.fetchval(WIDTH, table, list(columns))
        held = rows[table] * (width + 16) / 0.9
        why = ""
        if is_taken_back:
            why = "It was tried lately and did not help; order it by name to try it again."
        elif table in IN_PLACE:
            why = "Rows of this table change in place, which another index would end."
        elif held > INDEX_BYTES:
            why = "It is large: build it yourself, when there is little to do."
        elif not is_read_only(one.text):
            why = "The statement changes rows, so it cannot be run to see whether it helps."
        return Finding(
            f"{one.name} reads through {table}.",
            f"{one.calls} calls, {one.mean_ms:.2f} ms on average ({one.source}). Cost {cost(plan):.0f}; tried"
            f" with {tried.how}: {tried.before:.0f} without the index, {tried.after:.0f} with it. {why}".strip(),
            definition(tried.candidate),
            f"about {cards.size(held)}, {max(1, round(rows[table] / 500_000))} s to build; every change of"
            f" {', '.join(columns)} writes to it",
            safe=not why,
        )

    async def _form(self, connection: Connection) -> schema.Form:
        form = schema.form_of_postgres(
            *[
                [tuple(row) for row in await connection.fetch(sql)]
                for sql in (
                    schema.TABLES_POSTGRES,
                    schema.INDEXES_POSTGRES,
                    schema.FOREIGN_KEYS_POSTGRES,
                )
            ]
        )
        return form.of(self._bounds.tables)

    async def _needless(self, connection: Connection) -> tuple[Sequence[Finding], str]:
        form = await self._form(connection)
        found = list(schema.needless(form, keep=schema.shipped("postgres"), concurrently=True))
        return found, f"{len(form.indexes)} indexes were compared."

    async def _form_card(self, connection: Connection) -> tuple[Sequence[Finding], str]:
        form = await self._form(connection)
        found = [*schema.keyless(form), *schema.unindexed(form)]
        return found, f"{len(form.tables)} tables were looked at."

    # Mends

    async def optimize(self, tell: Tell, *, wish: Wish | None) -> list[Outcome]:
        """See the contract."""
        outcomes: list[Outcome] = []
        async with self._connected() as connection:
            await connection.execute(
                f"SET statement_timeout = {BUILD_SECONDS * 1000}; SET lock_timeout = {LOCK_SECONDS * 1000}"
            )
            outcomes += await self._clear_up(connection)
            if wish is not None:
                tell("trying the index that was asked for")
                return [*outcomes, await self._try_wish(connection, wish)]
            tell("statistics and dead rows")
            outcomes += await clean(connection, self._bounds, tell, monotonic() + BUILD_SECONDS)
            for finding in (await self._needless(connection))[0]:
                outcomes.append(await self._drop_needless(connection, finding))
            tell("missing indexes")
            found, looked, source = await self._missing(connection)
            for number, one in enumerate(found):
                if number < INDEXES_AT_ONCE and one.finding.safe:
                    tell(f"trying {name_of(one.tried.candidate)}")
                    outcomes.append(await self._try_missing(connection, one))
                else:
                    why = "" if not one.finding.safe else " Order it again for this one."
                    outcomes.append(
                        Outcome(
                            one.finding.mend,
                            one.finding.what,
                            "",
                            "skipped",
                            one.finding.evidence + why,
                        )
                    )
            if not found:
                outcomes.append(
                    Outcome(
                        "look for missing indexes", f"{looked} statements", "", "skipped",
                        f"No index would halve the cost of any of them ({source}).",
                    )
                )  # fmt: skip
            for question in cards.QUESTIONS:
                if question.name in ("unused indexes", "invalid indexes"):
                    card = await self._card(connection, question.name, self._asked(question))
                    outcomes += [
                        Outcome(
                            one.mend,
                            one.what,
                            "",
                            "skipped",
                            f"{one.evidence} It is for you to decide: {one.cost}.",
                        )
                        for one in card.findings
                    ]
        return outcomes

    async def _clear_up(self, connection: Connection) -> list[Outcome]:
        """Take back what was being tried when a process died, and what is left of builds that broke off."""
        outcomes = []
        for entry in await self._ledger.begun():
            ended = await self._ended(connection, entry)
            if ended is None:
                continue  # somebody uses it: the next order tries again
            await self._ledger.end(entry.id, *ended)
            outcomes.append(Outcome(entry.change, "begun", "", *ended))
        made = await self._ledger.made()
        for index, table in await cards.asked(connection, cards.INVALID, self._bounds):
            if (index, table) in made:
                verdict: Verdict = "done" if await self._drop(connection, index) else "failed"
                outcomes.append(
                    Outcome(
                        f"drop {index}", "not valid", "", verdict, "A build of it had broken off."
                    )
                )
        return outcomes

    async def _ended(self, connection: Connection, entry: Entry) -> tuple[Verdict, str] | None:
        """What became of a change whose process died, once that is settled; None while it cannot be."""
        is_valid = await connection.fetchval(IS_VALID, entry.index, entry.table)
        if entry.change.startswith("DROP") and is_valid:
            return "failed", LEFT_THERE
        # One that is being made or dropped concurrently stays behind, not valid, where that breaks off.
        if is_valid is not None and not await self._drop(connection, entry.index):
            return None
        if entry.change.startswith("DROP"):
            return "done", DROPPED
        return "reverted", NOT_MEASURED

    async def _drop(self, connection: Connection, index: str) -> bool:
        try:
            await connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {quoted(index)}")
        except asyncpg.PostgresError:
            return False
        return True

    async def _drop_needless(self, connection: Connection, finding: Finding) -> Outcome:
        if not finding.safe:
            return Outcome(
                finding.mend,
                finding.what,
                "",
                "skipped",
                f"It is for you to decide. {finding.evidence}",
            )
        index, table = finding.index, finding.table
        if not await connection.fetchval(MAY_OWN, quoted(table)):
            return await not_owner(connection, finding.mend, table)
        entry = await self._ledger.begin(
            finding.mend, index=index, table=table, statement="", before_ms=0.0
        )
        if not await self._drop(connection, index):
            await self._ledger.end(entry, "failed", "It was in use.")
            return Outcome(finding.mend, finding.what, "", "failed", "It was in use for too long.")
        await self._ledger.end(entry, "done", finding.evidence)
        return Outcome(finding.mend, finding.what, "dropped", "done", finding.evidence)

    async def _try_missing(self, connection: Connection, one: Missing) -> Outcome:
        try:
            drawn = await draw(connection, one.watched.text, one.plan)
            before = await measure(connection, one.watched.text, drawn)
        except Unmeasurable as refusal:
            return Outcome(
                one.finding.mend,
                one.finding.what,
                "",
                "skipped",
                f"It cannot be measured: {refusal}.",
            )
        return await self._try(connection, one.tried.candidate, [(one.watched, drawn, before)])

    async def _try_wish(self, connection: Connection, wish: Wish) -> Outcome:
        candidate = Candidate(wish.table, wish.columns)
        known = await connection.fetch(
            "SELECT attname::text FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped",
            quoted(wish.table),
        )
        lacking = set(wish.columns) - {row[0] for row in known}
        if lacking or wish.table not in self._bounds.tables:
            why = f"There is no table {wish.table} with the columns {', '.join(wish.columns)}."
            return Outcome(definition(candidate), "", "", "failed", why)
        measured: list[tuple[Watched, Drawn, Measure]] = []
        for one in (await self._watched(connection))[0]:
            if len(measured) == WISH_STATEMENTS or not is_read_only(one.text):
                continue
            with contextlib.suppress(Unmeasurable, asyncpg.PostgresError):
                plan = await explained(connection, one.text)
                if wish.table in tables(plan).values():
                    drawn = await draw(connection, one.text, plan)
                    measured.append((one, drawn, await measure(connection, one.text, drawn)))
        if not measured:
            why = f"No statement that has run reads {wish.table} and can be measured."
            return Outcome(definition(candidate), "", "", "skipped", why)
        return await self._try(connection, candidate, measured)

    async def _try(
        self,
        connection: Connection,
        candidate: Candidate,
        measured: Sequence[tuple[Watched, Drawn, Measure]],
    ) -> Outcome:
        """Build an index, measure again, and take it back unless one of the statements is better for it."""
        action, name = definition(candidate), name_of(candidate)
        if not await connection.fetchval(MAY_OWN, quoted(candidate.table)):
            return await not_owner(connection, action, candidate.table)
        if await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", quoted(name)):
            return Outcome(action, name, name, "skipped", "It is there already.")
        watched, _, before = measured[0]
        entry = await self._ledger.begin(
            action, index=name, table=candidate.table, statement=watched.name, before_ms=before.p95
        )
        try:
            await connection.execute(action)
        except asyncpg.DuplicateTableError as error:
            await self._ledger.end(entry, "failed", told(error))  # it is somebody else's
            return Outcome(action, str(before), "", "failed", told(error))
        except asyncpg.PostgresError as error:
            await self._drop(connection, name)
            await self._ledger.end(entry, "failed", told(error))
            return Outcome(action, str(before), "", "failed", told(error))
        best: tuple[Watched, Measure, Measure] | None = None
        try:
            for one, drawn, earlier in measured:
                later = await measure(connection, one.text, drawn)
                if best is None or later.work * best[1].work < best[2].work * earlier.work:
                    best = (one, earlier, later)
        except Unmeasurable as refusal:
            why = f"It could not be measured: {refusal}."
            return await self._take_back(connection, entry, candidate, before, why)
        assert best is not None
        one, before, after = best
        await self._ledger.found(entry, one.name, before_ms=before.p95, after_ms=after.p95)
        why = judged(one.name, before, after)
        if helped(before, after):
            await self._ledger.end(entry, "done", why)
            return Outcome(action, str(before), str(after), "done", why)
        outcome = await self._take_back(connection, entry, candidate, before, why)
        return outcome._replace(after=str(after))

    async def _take_back(
        self,
        connection: Connection,
        entry: str,
        candidate: Candidate,
        before: Measure,
        why: str,
    ) -> Outcome:
        """Drop an index that did not help; where that fails, the next order does it, for its line is still open."""
        if not await self._drop(connection, name_of(candidate)):
            why = f"{why} But it could not be dropped yet: somebody uses it. The next order tries again."
            return Outcome(definition(candidate), str(before), "", "failed", why)
        await self._ledger.end(entry, "reverted", why)
        return Outcome(definition(candidate), str(before), "", "reverted", why)

    # Cleaning

    async def maintain(self, tell: Tell, *, within_seconds: float) -> list[Outcome]:
        """See the contract."""
        deadline = monotonic() + within_seconds
        async with self._connected() as connection:
            await connection.execute(
                f"SET statement_timeout = {round(within_seconds * 1000)}; SET lock_timeout = {LOCK_SECONDS * 1000}"
            )
            outcomes = await clean(connection, self._bounds, tell, deadline)
            tell("looking at a sample of the logs")
            outcomes.append(await looked(connection))
            outcomes.append(await checked(connection, self._bounds, deadline))
        return outcomes

    async def forget_keys(self, tell: Tell, *, before: str, within_seconds: float) -> Outcome:
        """See the contract."""
        async with self._connected() as connection:
            return await forget_keys(connection, tell, before, monotonic() + within_seconds)
