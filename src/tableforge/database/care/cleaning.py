"""Cleaning a PostgreSQL database, and looking at a sample of what is in it.

Nothing here keeps anybody from writing; what this user may not do is told with the right that is lacking.
"""

from time import monotonic

import asyncpg

from tableforge.database.care import Outcome, Tell, cards
from tableforge.database.care.schema import quoted
from tableforge.database.pool import Connection

LOCK_SECONDS = 10
KEYS_AT_ONCE = 1_000
SAMPLED_ROOMS = 100
MAY_CLEAN = """
SELECT pg_has_role(c.relowner, 'USAGE') OR pg_has_role(d.datdba, 'USAGE'){maintain}
FROM pg_class c, pg_database d WHERE c.oid = to_regclass($1) AND d.datname = current_database()
"""
GAPS = """
WITH sampled AS (
    SELECT room, head, begins FROM room_heads WHERE head - begins BETWEEN 1 AND 20000 ORDER BY random() LIMIT $1
)
SELECT s.room, s.head, s.begins, e.first, e.last, e.count FROM sampled s CROSS JOIN LATERAL
    (SELECT min(seq) AS first, max(seq) AS last, count(*) AS count FROM events
        WHERE room = s.room AND seq > s.begins AND seq <= s.head) e
"""
FORGET = """
WITH page AS (SELECT room, key, seq, convert_from(data, 'UTF8')::json ->> 'at' AS at FROM events
        WHERE key IS NOT NULL AND (room, key) > ($1, $2) ORDER BY room, key LIMIT $3),
    forgotten AS (UPDATE events AS e SET key = NULL, digest = NULL FROM page AS p
        WHERE e.room = p.room AND e.seq = p.seq AND p.at < $4 RETURNING 1)
SELECT room, key, (SELECT count(*) FROM forgotten), (SELECT count(*) FROM page)
FROM page ORDER BY room DESC, key DESC LIMIT 1
"""

FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)


def told(error: BaseException) -> str:
    """Why the server refused, without values."""
    if isinstance(error, TimeoutError | asyncpg.QueryCanceledError):
        return "It took too long."
    if isinstance(error, asyncpg.LockNotAvailableError):
        return f"Somebody held it for more than {LOCK_SECONDS} s; see the card `open transactions`."
    first = (str(error).splitlines() or [""])[0]
    return f"The database says: {first or type(error).__name__}."


async def not_owner(connection: Connection, action: str, table: str) -> Outcome:
    user, owner = await connection.fetchrow(  # type: ignore[misc]  # one row for a table that is there
        "SELECT current_user::text, pg_get_userbyid(relowner)::text FROM pg_class WHERE oid = to_regclass($1)",
        quoted(table),
    )
    return Outcome(
        action, "", "", "failed",
        f"Only the owner of {table} may do this. Run it as {owner}, or let {user} act as the owner:"
        f" GRANT {quoted(owner)} TO {quoted(user)}.",
    )  # fmt: skip


async def clean(
    connection: Connection, bounds: cards.Bounds, tell: Tell, deadline: float
) -> list[Outcome]:
    """VACUUM where many rows are dead, ANALYZE where statistics are old."""
    maintain = " OR has_table_privilege(c.oid, 'MAINTAIN')"
    may_clean = MAY_CLEAN.format(
        maintain=maintain if connection.get_server_version() >= (17,) else ""
    )
    dead = {
        row[0]: (row[1], row[2])
        for row in await cards.asked(connection, cards.DEAD, bounds)
        if cards.is_dead(row[1], row[2], bounds)
    }
    stale = [
        row[0] for row in await cards.asked(connection, cards.STALE, bounds) if row[0] not in dead
    ]
    work = [(f"VACUUM (ANALYZE) {quoted(table)}", table) for table in dead]
    work += [(f"ANALYZE {quoted(table)}", table) for table in stale]
    outcomes = []
    for number, (action, table) in enumerate(work, 1):
        live, gone = dead.get(table, (0, 0))
        before = f"{gone} dead of {live + gone} rows" if table in dead else "old statistics"
        if monotonic() > deadline:
            outcomes.append(
                Outcome(action, before, before, "skipped", "There was no time left for it.")
            )
            continue
        tell(f"{number} of {len(work)}: {action}")
        if not await connection.fetchval(may_clean, quoted(table)):
            outcomes.append(await may_not_clean(connection, action, before, table))
            continue
        outcomes.append(await vacuumed(connection, bounds, action, before, table))
    if not work:
        outcomes.append(
            Outcome(
                "clean tables", "", "", "skipped",
                f"No table has more than {bounds.dead_share:.0%} dead rows or old statistics.",
            )
        )  # fmt: skip
    return outcomes


async def vacuumed(
    connection: Connection, bounds: cards.Bounds, action: str, before: str, table: str
) -> Outcome:
    try:
        await connection.execute(action)
    except asyncpg.PostgresError as error:
        return Outcome(action, before, before, "failed", told(error))
    row = await connection.fetchrow(
        "SELECT n_live_tup, n_dead_tup FROM pg_stat_user_tables WHERE relid = to_regclass($1)",
        quoted(table),
    )
    if action.startswith("ANALYZE") or row is None:
        return Outcome(action, before, "fresh statistics", "done", "")
    live, gone = row
    why = ""
    if cards.is_dead(live, gone, bounds):
        why = "Some cannot go yet: an open transaction may still read them (card `open transactions`)."
    return Outcome(action, before, f"{gone} dead of {live + gone} rows", "done", why)


async def may_not_clean(connection: Connection, action: str, before: str, table: str) -> Outcome:
    outcome = await not_owner(connection, action, table)
    if connection.get_server_version() >= (17,):
        user = await connection.fetchval("SELECT quote_ident(current_user)")
        outcome = outcome._replace(
            reason=f"{outcome.reason} Or: GRANT MAINTAIN ON {quoted(table)} TO {user}."
        )
    return outcome._replace(before=before, after=before)


async def looked(connection: Connection) -> Outcome:
    """Whether the logs of some rooms are whole; asked in one statement, so that appends meanwhile do not matter."""
    rows = await connection.fetch(GAPS, SAMPLED_ROOMS)
    torn = [
        room
        for room, head, begins, first, last, count in rows
        if (first, last, count) != (begins + 1, head, head - begins)
    ]
    if torn:
        why = f"Rooms with a gap: {', '.join(torn[:10])}. Run `tableforge verify`."
        return Outcome("check a sample of the logs", f"{len(rows)} rooms", "", "failed", why)
    return Outcome("check a sample of the logs", f"{len(rows)} rooms", "without a gap", "done", "")


async def checked(connection: Connection, bounds: cards.Bounds, deadline: float) -> Outcome:
    """The indexes, by amcheck, as far as there is time."""
    where = await connection.fetchval(
        "SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace"
        " WHERE e.extname = 'amcheck'"
    )
    if where is None:
        why = "The extension amcheck is not installed: CREATE EXTENSION amcheck."
        return Outcome("check indexes", "", "", "skipped", why)
    indexes = await connection.fetch(
        "SELECT x.relname, x.oid FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid"
        " JOIN pg_class c ON c.oid = i.indrelid JOIN pg_am a ON a.oid = x.relam WHERE a.amname = 'btree'"
        " AND i.indisvalid AND c.relnamespace = current_schema()::regnamespace AND c.relpersistence = 'p'"
        " AND c.relname = ANY ($1) ORDER BY random()",
        list(bounds.tables),
    )
    damaged, done = [], 0
    for name, oid in indexes:
        if monotonic() > deadline:
            break
        try:
            await connection.execute(f"SELECT {where}.bt_index_check({int(oid)})")
        except asyncpg.InsufficientPrivilegeError:
            grant = f"GRANT EXECUTE ON FUNCTION {where}.bt_index_check(regclass) TO CURRENT_USER"
            return Outcome("check indexes", "", "", "failed", f"As a superuser: {grant}.")
        except asyncpg.PostgresError as error:
            if not isinstance(error, asyncpg.IndexCorruptedError | asyncpg.DataCorruptedError):
                return Outcome("check indexes", name, "", "failed", told(error))
            damaged.append(name)
        done += 1
    if damaged:
        mend = f"REINDEX INDEX CONCURRENTLY for each, and look at the disk: {', '.join(damaged)}"
        return Outcome("check indexes", f"{len(indexes)} indexes", "", "failed", mend)
    return Outcome("check indexes", f"{len(indexes)} indexes", f"{done} are sound", "done", "")


async def forget_keys(connection: Connection, tell: Tell, before: str, deadline: float) -> Outcome:
    """Forget the ids of commands whose events are older than `before`, a portion at a time."""
    action = "forget the ids of old commands"
    if not await connection.fetchval(
        "SELECT has_column_privilege('events', 'key', 'UPDATE') AND has_column_privilege('events', 'digest', 'UPDATE')"
    ):
        user = await connection.fetchval("SELECT quote_ident(current_user)")
        return Outcome(action, "", "", "failed", f"GRANT UPDATE (key, digest) ON events TO {user}.")
    room, key, forgotten = "", b"", 0
    while monotonic() < deadline:
        row = await connection.fetchrow(FORGET, room, key, KEYS_AT_ONCE, before)
        if row is None:
            return Outcome(action, f"before {before}", f"{forgotten} forgotten", "done", "")
        room, key, count, _ = row
        forgotten += count
        tell(f"{forgotten} ids of commands forgotten")
    why = "There was no time left for all."
    return Outcome(action, f"before {before}", f"{forgotten} forgotten", "done", why)
