"""Indexes over tables that may be large already when they come: built while everybody goes on writing.

A migration is one transaction, and an index that is made in one keeps writers out of its table for as long as it takes:
no time at all for a table with little in it, minutes for a large one. There it is built afterwards, concurrently, by one of
those that start; until then searches take long, and nothing else does.
"""

from typing import Final, NamedTuple

import asyncpg
import structlog

from tableforge.database.pool import Connection

SMALL_BYTES: Final = 4 * 2**20
"""A table of this size is indexed in less than a second."""
BUILDING_LOCK: Final = 0x696E6478
"""The advisory lock of whoever builds."""
BUILD_SECONDS: Final = 3_600
"""A build waits for every transaction that was open before it; after so long it is left for the next start."""

log = structlog.get_logger(__name__)


class LargeIndex(NamedTuple):
    """An index by its name: the table, and what follows that in its definition."""

    name: str
    table: str
    definition: str


# Without `fastupdate` what was just written is found as quickly as all else; rows come one at a time.
LARGE_INDEXES: Final = (
    LargeIndex(
        "rooms_terms",
        "rooms",
        "USING gin (room_terms(name, visibility, tags)) WITH (fastupdate = off)",
    ),
    LargeIndex(
        "assets_terms",
        "assets",
        "USING gin (asset_terms(uploader, room, tags, search)) WITH (fastupdate = off)",
    ),
    LargeIndex(
        "designs_terms",
        "designs",
        "USING gin (design_terms(kind, owner, visibility, tags, search)) WITH (fastupdate = off)",
    ),
)

STATES = """SELECT w.name, pg_relation_size(t.oid) AS bytes, coalesce(i.indisvalid, false) AS valid
FROM unnest($1::text[], $2::text[]) AS w (name, on_table)
JOIN pg_class t ON t.oid = to_regclass(w.on_table)
LEFT JOIN pg_class c ON c.oid = to_regclass(w.name) LEFT JOIN pg_index i ON i.indexrelid = c.oid"""


async def missing_indexes(connection: Connection) -> dict[str, int]:
    """The indexes that are not there, or not whole, with the size of their tables in bytes."""
    rows = await connection.fetch(
        STATES, [one.name for one in LARGE_INDEXES], [one.table for one in LARGE_INDEXES]
    )
    return {row["name"]: row["bytes"] for row in rows if not row["valid"]}


async def index_small_tables(connection: Connection) -> None:
    """Build within the transaction of a migration what takes no time."""
    missing = await missing_indexes(connection)
    for index in LARGE_INDEXES:
        if missing.get(index.name, SMALL_BYTES) < SMALL_BYTES:
            await connection.execute(
                f"CREATE INDEX {index.name} ON {index.table} {index.definition}"
            )


async def index_large_tables(connection: Connection) -> None:
    """Build concurrently what is still missing, unless another one does; what was begun and cut short is built anew.

    Whoever may not build, or waits too long, leaves it with a warning: everything works, searches slowly.
    """
    if not await missing_indexes(connection):
        return
    if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", BUILDING_LOCK):
        return
    try:
        await connection.execute(
            f"SET statement_timeout = '{BUILD_SECONDS}s'; SET lock_timeout = 0"
        )
        missing = await missing_indexes(connection)
        for index in LARGE_INDEXES:
            if index.name in missing:
                log.info("an index is built", index=index.name, table=index.table)
                await connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {index.name}")
                await connection.execute(
                    f"CREATE INDEX CONCURRENTLY {index.name} ON {index.table} {index.definition}"
                )
    except (
        asyncpg.InsufficientPrivilegeError,
        asyncpg.QueryCanceledError,
        asyncpg.ObjectInUseError,
        asyncpg.DeadlockDetectedError,
    ) as error:
        log.warning("searches are slow: an index could not be built", reason=str(error))
    finally:
        await connection.execute("SELECT pg_advisory_unlock_all()")
