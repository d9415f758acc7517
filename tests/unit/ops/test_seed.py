"""What `bench seed` makes is the same on both engines: LF7 of `docs/spec.md`."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from tableforge.config import DatabaseKnobs
from tableforge.database.large_indexes import missing_indexes
from tableforge.ops import fleet_store, store
from tableforge.ops.seed import Amounts, seed
from tableforge.ops.stored import TABLES, OrderRefused, Store

FEW = Amounts(rooms=60, users=20, assets=90, designs=12, seed=7)


async def everything(found: Store) -> dict[str, object]:
    """All that a store holds, but for what numbers its rooms."""
    rooms = await found.rooms()
    told: dict[str, object] = {"rooms": [room[1:] for room in rooms]}
    for room in rooms:
        told[room.id] = (
            sorted(await found.seats(room.id)),
            [row async for portion in found.events(room.id) for row in portion],
        )
    for table in TABLES:
        told[table] = sorted(
            [row async for portion in found.rows(table) for row in portion], key=repr
        )
    return told


async def test_lf7_the_same_number_makes_the_same_on_both_engines(
    tmp_path: Path, database_url: str
) -> None:
    told: list[tuple[str, int, int]] = []
    knobs = DatabaseKnobs(url=database_url)
    for place in (tmp_path, knobs):
        await seed(place, FEW, add=False, progress=lambda *much: told.append(much))
    with store.reading(store.database_of(tmp_path)) as embedded:
        one = await everything(embedded)
    async with fleet_store.reading(knobs, "Nothing was read.") as shared:
        assert await everything(shared) == one
    assert told[-1] == ("statistics", 1, 1)
    assert ("rooms", 60, 60) in told
    connection = await asyncpg.connect(database_url)
    assert await missing_indexes(connection) == {}
    assert await connection.fetchval("SELECT count(*) FROM room_heads WHERE head > 0") == 60
    await connection.close()
    with pytest.raises(OrderRefused):
        await asyncio.wait_for(seed(knobs, FEW, add=False, progress=lambda *_: None), 30)
    await seed(knobs, FEW._replace(seed=8), add=True, progress=lambda *_: None)
    async with fleet_store.reading(knobs, "Nothing was read.") as shared:
        assert len(await shared.rooms()) == 120
