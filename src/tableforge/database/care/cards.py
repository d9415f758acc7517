"""The cards about a PostgreSQL server: each one question, asked of its own figures.

Rows in, findings out; who asks bounds the time and tells what right is lacking.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from tableforge.database.care import Finding
from tableforge.database.care.schema import quoted
from tableforge.database.pool import Connection

DEAD_ROWS = 1_000
"""Tables with fewer dead rows are left alone: cleaning them would cost more than they do."""
WASTED_BYTES = 10 * 2**20
HIT_SHARE = 0.99
OPEN_SECONDS = 60
HEADROOM = 0.5
"""A sequence or a counter of transactions that is used up to this share is told of."""

Row = Any
"""A record of the driver: values by place and by name."""


class Question(NamedTuple):
    """One card: its name, its SQL, and what its rows mean. `good` is told where there is nothing to do."""

    name: str
    sql: str
    read: Callable[[Sequence[Row], "Bounds"], Iterator[Finding]]
    good: str


class Bounds(NamedTuple):
    """What the settings say: the share of dead rows that is cleaned, connections that an instance may open.

    `tables` are the program's own: the only ones that are looked at.
    """

    dead_share: float
    pool_max: int
    tables: frozenset[str]


UNUSED = """
SELECT s.indexrelname, s.relname, pg_relation_size(s.indexrelid), coalesce(d.stats_reset, pg_postmaster_start_time())::text
FROM pg_stat_user_indexes s JOIN pg_index i ON i.indexrelid = s.indexrelid
    CROSS JOIN (SELECT stats_reset FROM pg_stat_database WHERE datname = current_database()) d
WHERE s.schemaname = current_schema() AND s.relname = ANY ($1) AND s.idx_scan = 0 AND i.indisvalid
    AND NOT (i.indisprimary OR i.indisunique OR i.indisexclusion OR i.indisreplident OR i.indisclustered)
    AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = s.indexrelid)
ORDER BY 3 DESC, 1
"""
"""Scans on a standby are counted there and not here, which the finding says."""

INVALID = """
SELECT x.relname, c.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
    JOIN pg_class c ON c.oid = i.indrelid
WHERE NOT i.indisvalid AND c.relnamespace = current_schema()::regnamespace AND c.relname = ANY ($1) AND x.relkind = 'i'
    AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.relid = c.oid)
"""

DEAD = """
SELECT relname, n_live_tup, n_dead_tup, coalesce(greatest(last_vacuum, last_autovacuum)::text, 'never')
FROM pg_stat_user_tables WHERE schemaname = current_schema() AND relname = ANY ($1) AND n_dead_tup > 0
ORDER BY n_dead_tup DESC
"""

BLOAT = """
SELECT c.relname, pg_relation_size(c.oid),
    (c.reltuples * (28 + coalesce((SELECT sum(s.avg_width * (1 - s.null_frac)) FROM pg_stats s
        WHERE s.schemaname = n.nspname AND s.tablename = c.relname), 0))
     * 100 / coalesce((SELECT substring(o FROM 'fillfactor=(.*)')::int FROM unnest(c.reloptions) o
        WHERE o LIKE 'fillfactor=%'), 100))::bigint
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname = current_schema() AND c.relname = ANY ($1) AND c.reltuples > 0
"""

HITS = """
SELECT relname, heap_blks_hit + coalesce(idx_blks_hit, 0), heap_blks_read + coalesce(idx_blks_read, 0)
FROM pg_statio_user_tables WHERE schemaname = current_schema() AND relname = ANY ($1)
"""

OPEN = """
SELECT pid, coalesce(application_name, ''), state, round(extract(epoch FROM clock_timestamp() - xact_start))::bigint
FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
    AND backend_type = 'client backend' AND xact_start < clock_timestamp() - interval '60 seconds'
UNION ALL
SELECT NULL, gid, 'prepared', round(extract(epoch FROM clock_timestamp() - prepared))::bigint
FROM pg_prepared_xacts WHERE database = current_database() AND prepared < clock_timestamp() - interval '60 seconds'
ORDER BY 4 DESC LIMIT 20
"""

WAITS = """
SELECT a.pid, pg_blocking_pids(a.pid)::text, round(extract(epoch FROM clock_timestamp() - a.state_change))::bigint,
    coalesce(a.wait_event, '')
FROM pg_stat_activity a WHERE a.datname = current_database() AND a.wait_event_type = 'Lock'
    AND a.state_change < clock_timestamp() - interval '1 second' LIMIT 20
"""

HEADROOM_LEFT = """
SELECT 'sequence ' || sequencename, coalesce(last_value, 0)::float8 / max_value::float8
FROM pg_sequences WHERE schemaname = current_schema() AND increment_by > 0 AND NOT cycle
UNION ALL
SELECT 'transaction ids of ' || datname, age(datfrozenxid)::float8 / 2147483648
FROM pg_database WHERE datname = current_database()
UNION ALL
SELECT 'multixacts of ' || datname, mxid_age(datminmxid)::float8 / 2147483648
FROM pg_database WHERE datname = current_database()
"""

SETTINGS = """
SELECT current_setting('shared_buffers') AS buffers, pg_size_bytes(current_setting('shared_buffers')) AS buffer_bytes,
    pg_database_size(current_database()) AS held, current_setting('max_connections')::int AS connections,
    current_setting('superuser_reserved_connections')::int AS reserved,
    (SELECT count(*) FROM instances WHERE seen > clock_timestamp() - interval '1 minute') AS instances,
    current_setting('work_mem') AS work_mem, d.temp_files, pg_size_pretty(d.temp_bytes) AS spilled,
    current_setting('random_page_cost')::float8 AS page_cost, d.blks_hit, d.blks_read,
    (SELECT array_agg(name) FROM pg_settings WHERE setting = 'off'
        AND name IN ('autovacuum', 'track_counts', 'fsync', 'full_page_writes')) AS switched_off
FROM pg_stat_database d WHERE d.datname = current_database()
"""

STALE = """
SELECT relname, n_live_tup, n_mod_since_analyze, greatest(last_analyze, last_autoanalyze) IS NULL
FROM pg_stat_user_tables WHERE schemaname = current_schema() AND relname = ANY ($1)
    AND (n_mod_since_analyze > 500 + 0.1 * n_live_tup
         OR greatest(last_analyze, last_autoanalyze) IS NULL AND n_live_tup > 500)
"""


async def asked(connection: Connection, sql: str, bounds: Bounds) -> list[Row]:
    """What the server answers; `$1` are the program's own tables."""
    return await connection.fetch(sql, *([list(bounds.tables)] if "$1" in sql else []))


def size(count: float) -> str:
    """Bytes in words."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def share(part: float, whole: float) -> float:
    """A part of a whole, nothing of nothing."""
    return part / whole if whole else 0.0


def _unused(rows: Sequence[Row], _: Bounds) -> Iterator[Finding]:
    for index, table, held, since in rows:
        yield Finding(
            f"Index {index} of {table} was never read.",
            f"0 scans on this server since {since}; it takes {size(held)} and is written to with every row.",
            f"DROP INDEX CONCURRENTLY {quoted(index)}",
            "none, if no standby reads by it and it is not for something rare",
            safe=False,
            table=table,
            index=index,
        )


def _invalid(rows: Sequence[Row], _: Bounds) -> Iterator[Finding]:
    for index, table in rows:
        yield Finding(
            f"Index {index} of {table} is not valid.",
            "A build of it broke off: it is written to and never read.",
            f"REINDEX INDEX CONCURRENTLY {quoted(index)}",
            "reads the table twice; blocks nobody",
            safe=False,
            table=table,
            index=index,
        )


def is_dead(live: float, dead: float, bounds: Bounds) -> bool:
    """Whether a table has enough dead rows to be cleaned."""
    return dead >= DEAD_ROWS and share(dead, live + dead) > bounds.dead_share


def _dead(rows: Sequence[Row], bounds: Bounds) -> Iterator[Finding]:
    for table, live, dead, cleaned in rows:
        if is_dead(live, dead, bounds):
            yield Finding(
                f"{share(dead, live + dead):.0%} of the rows of {table} are dead.",
                f"{dead} dead beside {live} living; cleaned last: {cleaned}.",
                f"VACUUM (ANALYZE) {quoted(table)}",
                "reads the pages that changed; blocks nobody",
                safe=True,
            )


def _bloat(rows: Sequence[Row], _: Bounds) -> Iterator[Finding]:
    for table, held, needed in rows:
        if held - needed > WASTED_BYTES and held > 2 * needed:
            yield Finding(
                f"Table {table} takes about {size(held - needed)} more than its rows need.",
                f"{size(held)} on the disk, {size(needed)} by the widths in the statistics: an estimate.",
                f"VACUUM FULL {quoted(table)}",
                "locks the table for as long as it is copied, and needs that room once more; pg_repack does not lock",
                safe=False,
            )


def _hits(rows: Sequence[Row], _: Bounds) -> Iterator[Finding]:
    hit, read = sum(row[1] for row in rows), sum(row[2] for row in rows)
    if read > 10_000 and share(hit, hit + read) < HIT_SHARE:
        worst = sorted(rows, key=lambda row: -row[2])[:3]
        yield Finding(
            f"{share(hit, hit + read):.1%} of what was read lay in the server's memory.",
            "Most came from the disk for "
            + ", ".join(f"{row[0]} ({row[2]} pages)" for row in worst),
            "ALTER SYSTEM SET shared_buffers = '<a quarter of the memory>'",
            "a restart of PostgreSQL",
            safe=False,
        )


def _open(rows: Sequence[Row], _: Bounds) -> Iterator[Finding]:
    for pid, name, state, seconds in rows:
        yield Finding(
            f"A transaction is open for {seconds} s.",
            f"{name or 'unnamed'}, {state}{f', process {pid}' if pid else ''}: meanwhile nothing that died is cleaned up.",
            f"SELECT pg_terminate_backend({pid})" if pid else f"ROLLBACK PREPARED '{name}'",
            "whatever that transaction did is undone",
            safe=False,
        )


def _waits(rows: Sequence[Row], _: Bounds) -> Iterator[Finding]:
    for pid, blockers, seconds, event in rows:
        yield Finding(
            f"Process {pid} waits for a lock for {seconds} s.",
            f"It waits for {blockers.strip('{}') or 'nobody any more'} ({event}).",
            f"SELECT pg_cancel_backend({blockers.strip('{}').split(',')[0] or pid})",
            "what is cancelled fails once",
            safe=False,
        )


def _headroom(rows: Sequence[Row], _: Bounds) -> Iterator[Finding]:
    for what, used in rows:
        if used > HEADROOM:
            is_sequence = what.startswith("sequence ")
            yield Finding(
                f"The {what} are used up to {used:.0%}."
                if not is_sequence
                else f"The {what} is used up to {used:.0%}.",
                "At the end inserts fail."
                if is_sequence
                else "Near the end the server stops taking changes.",
                "ALTER … TYPE bigint"
                if is_sequence
                else "VACUUM (FREEZE), and look for what holds the oldest transaction",
                "rewrites the table" if is_sequence else "reads every table once",
                safe=False,
            )


MEANS = {
    "autovacuum": "Nothing that died is cleaned up by itself.",
    "track_counts": "Neither autovacuum nor these cards know what changes.",
    "fsync": "A crash of the machine loses or damages everything.",
    "full_page_writes": "A crash of the machine may damage pages.",
}
RELOAD = "SELECT pg_reload_conf()"
RESTART = "a restart of PostgreSQL"


def _settings(rows: Sequence[Row], bounds: Bounds) -> Iterator[Finding]:
    row = rows[0]

    def advise(what: str, evidence: str, mend: str, cost: str) -> Finding:
        return Finding(what, evidence, f"ALTER SYSTEM SET {mend}", cost, safe=False)

    hits = share(row["blks_hit"], row["blks_hit"] + row["blks_read"])
    if row["blks_read"] > 10_000 and hits < HIT_SHARE and row["buffer_bytes"] < row["held"]:
        yield advise(
            f"shared_buffers is {row['buffers']}, the database {size(row['held'])}.",
            f"{hits:.1%} of what was read lay in memory.",
            "shared_buffers = '<a quarter of the memory>'",
            RESTART,
        )
    instances = max(row["instances"], 1)
    wanted = (bounds.pool_max + 2) * instances + row["reserved"] + 2
    if wanted > row["connections"]:
        yield advise(
            f"max_connections is {row['connections']}; {instances} instances may want {wanted}.",
            f"DB_POOL_MAX is {bounds.pool_max}, each instance has two more, and the care of the database two.",
            f"max_connections = {wanted}",
            f"{RESTART}; or lower DB_POOL_MAX",
        )
    if row["temp_files"] > 100:
        yield advise(
            f"work_mem is {row['work_mem']}, and {row['temp_files']} sorts did not fit.",
            f"{row['spilled']} were written to temporary files.",
            "work_mem = '16MB'",
            f"that much memory for each sort; {RELOAD}",
        )
    if row["page_cost"] >= 4:
        yield advise(
            f"random_page_cost is {row['page_cost']:g}: right for turning disks alone.",
            "With it the planner leaves indexes aside that an SSD makes worth their while.",
            "random_page_cost = 1.1",
            RELOAD,
        )
    for name in row["switched_off"] or ():
        yield advise(f"{name} is off.", MEANS[name], f"{name} = on", RELOAD)


def _stale(rows: Sequence[Row], _: Bounds) -> Iterator[Finding]:
    for table, live, changed, never in rows:
        yield Finding(
            f"The statistics of {table} are {'missing' if never else 'old'}.",
            f"{changed} rows changed since, of {live}.",
            f"ANALYZE {quoted(table)}",
            "reads a sample of the table; blocks nobody",
            safe=True,
        )


QUESTIONS = (
    Question("unused indexes", UNUSED, _unused, "Every index was read."),
    Question("invalid indexes", INVALID, _invalid, "Every index is whole."),
    Question("dead rows", DEAD, _dead, "No table has many dead rows."),
    Question("statistics", STALE, _stale, "The planner's statistics are fresh."),
    Question("bloat", BLOAT, _bloat, "No table takes much more than its rows need."),
    Question("memory", HITS, _hits, "What is read lies in the server's memory."),
    Question("open transactions", OPEN, _open, "No transaction is open for long."),
    Question("lock waits", WAITS, _waits, "Nobody waits for a lock."),
    Question("headroom", HEADROOM_LEFT, _headroom, "Sequences and transaction ids have room."),
    Question("settings", SETTINGS, _settings, "The server's settings fit."),
)
