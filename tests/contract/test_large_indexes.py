"""Indexes of tables that are large already: LF8 of `docs/spec.md`."""

import asyncio

import asyncpg

from tableforge.config import DatabaseKnobs
from tableforge.database.large_indexes import LARGE_INDEXES, SMALL_BYTES, missing_indexes
from tableforge.database.postgres import PostgresDatabase

FILL = (
    "INSERT INTO assets (id, digest, kind, width, height, bytes, uploader, name, search, tags, created_ms)"
    " SELECT 'a' || number, repeat(md5(number::text), 12), '', 1, 1, 1, 'ada', '', '', '[]', 1 FROM generate_series(1, 12000) AS number"
)
WRITE = (
    "INSERT INTO assets (id, digest, kind, width, height, bytes, uploader, name, search, tags, created_ms)"
    " VALUES ($1, '', '', 1, 1, 1, 'bo', '', 'late', '[]', 2)"
)


async def test_lf8_an_index_for_a_large_table_is_built_while_others_write(
    database_url: str,
) -> None:
    knobs = DatabaseKnobs(url=database_url, pool_min=0)
    async with PostgresDatabase(knobs, "one") as first:
        await first.started()
    writer = await asyncpg.connect(database_url)
    assert await missing_indexes(writer) == {}
    # As a version before left it: without the indexes, one of them cut short.
    await writer.execute("DROP INDEX assets_terms; DROP INDEX rooms_terms")
    await writer.execute(FILL)
    await writer.execute("CREATE INDEX rooms_terms ON rooms (name)")
    await writer.execute(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'rooms_terms'::regclass"
    )
    assert (await missing_indexes(writer))["assets_terms"] > SMALL_BYTES
    # Whoever is in the midst of writing keeps the build waiting, but is not kept waiting by it.
    writing = writer.transaction()
    await writing.start()
    await writer.execute(WRITE, "b0")
    async with PostgresDatabase(knobs, "two") as second:
        started = asyncio.create_task(second.started())
        async with asyncio.timeout(30):
            while not await writer.fetchval(
                "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONCURRENTLY%')"
            ):
                assert not started.done()
                await writer.execute("SELECT pg_stat_clear_snapshot()")
        await writer.execute(WRITE, "b1")
        await writing.commit()
        async with asyncio.timeout(30):
            await started
    assert await missing_indexes(writer) == {}
    found = await writer.fetch("SELECT indexdef FROM pg_indexes WHERE indexname = 'rooms_terms'")
    assert "gin" in found[0]["indexdef"]
    assert {one.name for one in LARGE_INDEXES} == {"rooms_terms", "assets_terms", "designs_terms"}
    await writer.close()
