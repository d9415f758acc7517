"""What a SQLite file says of itself: plain questions on a connection that only reads, but for the pages it gives back."""

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic

from tableforge.database.care import Finding, Outcome, Unmeasurable, Watched, schema
from tableforge.database.care.schema import quoted
from tableforge.database.care.steps import Reading

SLOW_MS, SLOW_CALLS = 20.0, 20
SAMPLED_ROOMS = 100
FREED_AT_ONCE = 500
"""Pages that one transaction gives back to the disk."""
LEAST_ROWS = 1_000
"""Tables with fewer rows are fast without statistics."""
OPTIMIZE_ALL = 0xFFFF
"""All that `PRAGMA optimize` does, and the bit to tell of it instead."""

GAPS = """
SELECT r.id, min(e.seq) - r.begins, max(e.seq) - r.begins, count(*) FROM
    (SELECT num, id, begins FROM rooms WHERE deleted_at IS NULL ORDER BY random() LIMIT ?) r
    JOIN events e ON e.room = r.num AND e.seq > r.begins GROUP BY r.id
"""


def value_of(connection: sqlite3.Connection, question: str) -> int:
    """The one number that a question is answered with."""
    return int(connection.execute(question).fetchone()[0])


def give_back(connection: sqlite3.Connection) -> None:
    """Give some free pages back to the disk: the driver makes one step of this pragma, and each step is a page."""
    for _ in range(FREED_AT_ONCE):
        connection.execute("PRAGMA incremental_vacuum(1)")


def has_rows(connection: sqlite3.Connection, table: str, least: int) -> bool:
    """Whether a table has so many rows at least."""
    found = connection.execute(
        f"SELECT count(*) FROM (SELECT 1 FROM {quoted(table)} LIMIT ?)",  # noqa: S608 - a name from the catalogue, quoted
        (least,),
    ).fetchone()[0]
    return bool(found >= least)


def optimized(connection: sqlite3.Connection) -> list[str]:
    """Let the database renew the statistics that it thinks are old; returns what it ran for that."""
    meant = [str(row[0]) for row in connection.execute(f"PRAGMA optimize({OPTIMIZE_ALL})")]
    if meant:
        connection.execute("PRAGMA optimize").fetchall()
    return meant


def is_free(free: int, pages: int, share: float) -> bool:
    """Whether enough of the file is free to be given back."""
    return free > 100 and free > share * pages


def slow(watched: Sequence[Watched]) -> tuple[Sequence[Finding], str]:
    """The card about statements that take long."""
    found = [
        Finding(
            f"{one.name} takes {one.mean_ms:.1f} ms on average.",
            f"{one.calls} calls, {one.total_ms / 1000:.1f} s together.",
            "See the card `missing indexes`; GET /api/admin/database/slow-queries has its plan.",
            "",
            safe=False,
        )
        for one in watched
        if one.mean_ms >= SLOW_MS and one.calls >= SLOW_CALLS
    ]
    return found[:10], f"{len(found)} statements are slow, by this instance's own figures."


def needless(connection: sqlite3.Connection) -> tuple[Sequence[Finding], str]:
    """The card about indexes that repeat another one."""
    form = schema.form_of_sqlite(connection)
    found = list(schema.needless(form, keep=schema.shipped("sqlite"), concurrently=False))
    return found, f"{len(form.indexes)} indexes were compared."


def unused(
    connection: sqlite3.Connection, watched: Sequence[Watched], made: set[str]
) -> tuple[Sequence[Finding], str]:
    """The card about indexes that no plan of a statement that has run reads by: SQLite does not count their reads."""
    plans = []
    for one in watched:
        with suppress(Unmeasurable):
            plans += Reading(connection, one.text).plan(connection)
    lines = "\n".join(plans)
    form = schema.form_of_sqlite(connection)
    meant = schema.shipped("sqlite") | made
    found = [
        Finding(
            f"Index {index.name} of {index.table} is read by no statement.",
            f"None of the plans of the {len(watched)} statements that have run uses it, and every row is written to it.",
            f"DROP INDEX {quoted(index.name)}",
            "none, if it is not for something rare",
            safe=False,
            table=index.table,
            index=index.name,
        )
        for index in form.indexes
        if not index.bound and index.name not in meant and f"INDEX {index.name} " not in f"{lines} "
    ]
    return found, f"The plans of {len(watched)} statements were read."


def form_card(connection: sqlite3.Connection) -> tuple[Sequence[Finding], str]:
    """The card about the tables' own form."""
    form = schema.form_of_sqlite(connection)
    return [
        *schema.keyless(form),
        *schema.unindexed(form),
    ], f"{len(form.tables)} tables were looked at."


def has_statistics(connection: sqlite3.Connection) -> bool:
    """Whether any table was ever analyzed."""
    question = "SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_stat1'"
    return connection.execute(question).fetchone() is not None


def stale_tables(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """Tables whose statistics are missing or far from their size, with what is wrong."""
    known: dict[str, int] = {}
    if has_statistics(connection):
        for table, stat in connection.execute(
            "SELECT tbl, stat FROM sqlite_stat1 WHERE stat IS NOT NULL"
        ):
            known[table] = max(known.get(table, 0), int(stat.split()[0]))
    found = []
    for table in schema.form_of_sqlite(connection).tables:
        rows = value_of(connection, f"SELECT count(*) FROM {quoted(table)}")  # noqa: S608 - a name from the catalogue, quoted
        has_index = connection.execute("SELECT 1 FROM pragma_index_list(?)", (table,)).fetchone()
        if table not in known and rows >= LEAST_ROWS and has_index:
            found.append((table, "no statistics"))
        elif table in known and abs(rows - known[table]) > 500 + 0.5 * known[table]:
            found.append((table, f"statistics of {known[table]} rows, {rows} are there"))
    return found


def statistics_card(connection: sqlite3.Connection) -> tuple[Sequence[Finding], str]:
    """The card about the planner's statistics."""
    is_analyzed = has_statistics(connection)
    found = [
        Finding(
            f"Table {table} has {what}.",
            what,
            f"ANALYZE {quoted(table)}",
            "reads a sample of it",
            safe=True,
        )
        for table, what in stale_tables(connection)
    ]
    if found:
        return found, f"{len(found)} to look at."
    if is_analyzed:
        return found, "The planner's statistics are fresh."
    return found, f"No table was analyzed yet; none has the {LEAST_ROWS} rows that would need it."


def checked(connection: sqlite3.Connection, deadline: float) -> Outcome:
    """Whether the file is whole, as far as there is time."""
    connection.set_progress_handler(lambda: monotonic() > deadline, 100_000)
    try:
        rows = [row[0] for row in connection.execute("PRAGMA integrity_check(20)")]
    except sqlite3.OperationalError as error:
        if "interrupted" not in str(error):
            raise
        return Outcome(
            "check the file",
            "",
            "",
            "skipped",
            "There was no time for all of it: `tableforge doctor` takes it.",
        )
    finally:
        connection.set_progress_handler(None, 0)
    if rows != ["ok"]:
        mend = "Stop the server, run `tableforge doctor`, and restore the newest good backup."
        return Outcome("check the file", "", "", "failed", f"{'; '.join(rows[:5])}. {mend}")
    return Outcome("check the file", "", "sound", "done", "")


def looked(connection: sqlite3.Connection) -> Outcome:
    """Whether the logs of some rooms are whole; one statement sees one moment."""
    rows = connection.execute(GAPS, (SAMPLED_ROOMS,)).fetchall()
    torn = [room for room, first, last, count in rows if first != 1 or last != count]
    if torn:
        why = f"Rooms with a gap: {', '.join(torn[:10])}. Run `tableforge verify`."
        return Outcome("check a sample of the logs", f"{len(rows)} rooms", "", "failed", why)
    return Outcome("check a sample of the logs", f"{len(rows)} rooms", "without a gap", "done", "")


def free_card(
    connection: sqlite3.Connection, share: float, small_bytes: int
) -> tuple[Sequence[Finding], str]:
    """The card about room in the file that nothing uses; one up to `small_bytes` may be written anew."""
    free, pages = (
        value_of(connection, "PRAGMA freelist_count"),
        value_of(connection, "PRAGMA page_count"),
    )
    if not is_free(free, pages, share):
        return (), f"{free} of {pages} pages are free."
    gives_back = value_of(connection, "PRAGMA auto_vacuum") == 2
    mend = "PRAGMA incremental_vacuum" if gives_back else "PRAGMA auto_vacuum = INCREMENTAL; VACUUM"
    small = pages * value_of(connection, "PRAGMA page_size") <= small_bytes
    cost = (
        "" if gives_back else "writes the file anew: commits wait, and it needs that room once more"
    )
    finding = Finding(
        f"{free / pages:.0%} of the file is free.",
        f"{free} of {pages} pages.",
        mend,
        cost,
        safe=gives_back or small,
    )
    return [finding], "1 to look at."
