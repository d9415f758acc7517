"""What holds of pictures wherever their bytes lie: AS1 to AS5 on every engine."""

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import obstore
import pytest
from msgspec import Struct
from obstore.store import LocalStore, MemoryStore

from tableforge.config import DatabaseKnobs
from tableforge.database import Database, DatabaseUnavailable, Statement
from tableforge.database.postgres import PostgresDatabase
from tableforge.database.sqlite import SqliteDatabase
from tableforge.errors import NotFound, TooLarge
from tableforge.library.asset_blobs import (
    CHUNK_BYTES,
    CHUNKS_AT_ONCE,
    Blobs,
    FolderBlobs,
    TableBlobs,
)
from tableforge.library.asset_cache import AssetCache
from tableforge.library.asset_objects import ObjectBlobs
from tableforge.library.asset_stores import FolderBytes, SharedBytes
from tableforge.library.assets import GRACE_SECONDS, Asset, AssetBytes, Assets
from tableforge.ops.servers import PostgresServer
from tests.local_cache import POLICIES, local_cache
from tests.services import run_sql
from tests.unsure_database import Unsure

ROOM_BYTES = 12_000_000
ENGINES = ("folder", "table", "shared folder", "objects in memory", "objects in a folder")
FLEET = ENGINES[1:]
BLOB = Statement("test.blob", "SELECT blob FROM asset_bytes WHERE digest = ?")

EMPTY = Statement(
    "test.empty",
    "WITH a AS (DELETE FROM assets), b AS (DELETE FROM asset_bytes) DELETE FROM asset_chunks",
)
AGE = (
    Statement("test.age_bytes", "UPDATE asset_bytes SET touched = touched - interval '2 hours'"),
    Statement("test.age_chunks", "UPDATE asset_chunks SET written = written - interval '2 hours'"),
)


class Picture(Struct, frozen=True):
    """What an importer returns."""

    digest: str
    kind: str
    width: int
    height: int
    bytes: int
    path: Path
    thumbnail_path: Path


class Instance:
    """A server's assets; several may share a database and a store."""

    def __init__(
        self, folder: Path, database: Database, engine: Callable[[float], AssetBytes]
    ) -> None:
        self.database = database
        self.incoming = folder / "incoming"
        self.incoming.mkdir(parents=True)
        self._engine = engine
        self.bytes = engine(GRACE_SECONDS)
        self.assets = Assets(
            *(database, self.bytes, local_cache(), POLICIES), room_max_bytes=ROOM_BYTES
        )
        self._count = 0

    def picture(self, content: bytes = b"a picture") -> Picture:
        """A picture as it comes from an importer."""
        self._count += 1
        path, thumbnail = (self.incoming / f"{self._count}.{part}" for part in ("picture", "small"))
        path.write_bytes(content)
        thumbnail.write_bytes(b"small " + content[:1000])
        digest = hashlib.sha256(content).hexdigest()
        return Picture(digest, "image/png", 3, 2, len(content), path, thumbnail)

    async def add(
        self, content: bytes = b"a picture", *, uploader: str = "ann", room: str | None = "r1"
    ) -> Asset:
        """Upload something."""
        return await self.assets.add(
            self.picture(content), uploader=uploader, room=room, name="a.png"
        )

    async def content(self, asset: Asset, *, thumbnail: bool = False) -> bytes:
        """What is served."""
        return (await self.assets.file_of(asset, thumbnail=thumbnail)).read_bytes()

    async def sweep_long_after(self) -> int:
        """A sweep to which all that there is has outlived its grace, whatever the grain of the store's clock."""
        return await Assets(
            *(self.database, self._engine(-1.0), local_cache(), POLICIES), room_max_bytes=0
        ).sweep()


class Fleet:
    """The places that instances share, and a way to start one on them."""

    def __init__(self, folder: Path, database: Database, kind: str) -> None:
        self.folder, self.database, self.kind = folder, database, kind
        self.blobs: Blobs | None = None
        self.store = folder / "store"
        if kind == "table":
            self.blobs = TableBlobs(database)
        elif kind == "shared folder":
            self.blobs = FolderBlobs(self.store)
        elif kind == "objects in memory":
            self.memory = MemoryStore()
            self.blobs = ObjectBlobs(self.memory)
        elif kind == "objects in a folder":
            self.blobs = ObjectBlobs(LocalStore(self.store, mkdir=True))
        self.instances = 0

    def start(self) -> Instance:
        """An instance with a disk of its own."""
        self.instances += 1
        mine = self.folder / f"instance-{self.instances}"

        def engine(grace: float) -> AssetBytes:
            if self.blobs is None:
                return FolderBytes(self.store, grace_seconds=grace)
            cache = AssetCache(mine / "asset-cache", max_bytes=1_000_000)
            return SharedBytes(self.database, self.blobs, cache, grace_seconds=grace)

        return Instance(mine, self.database, engine)

    async def copies(self) -> set[str]:
        """The digests of all copies that lie in the store, listed or not."""
        if self.blobs is None:
            return {path.stem for path in self.store.glob("??/??/*")}
        return {
            name.removesuffix(".thumbnail").partition("-")[0]
            async for names in self.blobs.older_than(-3_600)
            for name in names
        }

    async def age(self) -> None:
        """Two hours pass for everything that lies here; a store in memory cannot be told."""
        for statement in AGE:
            await self.database.write(statement)
        for path in self.store.glob("??/??/*"):
            os.utime(path, (time.time() - 7_200, time.time() - 7_200))

    async def lose(self, digest: str) -> None:
        """Take the bytes away behind the server's back."""
        if self.blobs is None:
            (self.store / digest[:2] / digest[2:4] / digest).unlink()
        else:
            await self.blobs.delete((await self.database.read(BLOB, digest))[0][0])


def left_over(folder: Path) -> list[Path]:
    """Files on their way that should be gone."""
    return [
        *folder.glob("instance-*/incoming/*"),
        *folder.glob("instance-*/asset-cache/unfinished-*"),
    ]


@pytest.fixture(scope="module")
def one_database(postgres: PostgresServer) -> Iterator[str]:
    """A database for the tests of this file, which empty its tables: making one takes longer than a test."""
    run_sql(postgres.url, "CREATE DATABASE pictures")
    try:
        yield postgres.url_of("pictures")
    finally:
        run_sql(postgres.url, "DROP DATABASE pictures WITH (FORCE)")


@pytest.fixture
async def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Fleet]:
    """Every engine in turn, on the database that it goes with."""
    kind: str = request.param
    async with AsyncExitStack() as stack:
        database: SqliteDatabase | PostgresDatabase
        if kind == "folder":
            database = await stack.enter_async_context(SqliteDatabase(tmp_path))
        else:
            url: str = request.getfixturevalue("one_database")
            database = await stack.enter_async_context(
                PostgresDatabase(DatabaseKnobs(url=url, pool_min=0), "test")
            )
            await database.started()
            await database.write(EMPTY)
        yield Fleet(tmp_path, database, kind)
        assert left_over(tmp_path) == []


every_engine = pytest.mark.parametrize("fleet", ENGINES, indirect=True)
every_shared_engine = pytest.mark.parametrize("fleet", FLEET, indirect=True)


@every_engine
async def test_as1_the_same_bytes_lie_once_under_ids_that_tell_nothing(fleet: Fleet) -> None:
    house = fleet.start()
    first, second = await house.add(), await house.add(uploader="bob", room="r2")
    assert await fleet.copies() == {first.digest}
    assert first.digest == second.digest
    assert len({first.id, second.id}) == 2
    assert first.digest[:8] not in first.id + second.id
    assert await house.content(second) == b"a picture"
    assert await house.content(second, thumbnail=True) == b"small a picture"


@every_engine
async def test_as1_bytes_of_every_size_come_back_as_they_were(fleet: Fleet) -> None:
    house = fleet.start()
    for size in (1, CHUNK_BYTES, CHUNK_BYTES + 1, CHUNK_BYTES * CHUNKS_AT_ONCE * 2 + 1):
        content = bytes([size % 251]) * size
        asset = await house.add(content, room=str(size))
        other = fleet.start() if fleet.blobs is not None else house
        assert await other.content(asset) == content
        assert await other.content(asset, thumbnail=True) == b"small " + content[:1000]


@every_engine
async def test_as2_lost_bytes_are_not_found_and_whole_after_the_next_upload(fleet: Fleet) -> None:
    house = fleet.start()
    asset = await house.add()
    await fleet.lose(asset.digest)
    other = fleet.start()
    with pytest.raises(NotFound):
        await other.assets.file_of(asset)
    await house.add()
    assert await other.content(asset) == b"a picture"


@every_engine
async def test_as3_bytes_without_a_row_are_swept_after_their_grace(fleet: Fleet) -> None:
    house = fleet.start()
    kept = await house.add()
    await house.bytes.put(house.picture(b"nobody's"), "nobody")
    assert await house.assets.sweep() == 0
    assert len(await fleet.copies()) == 2
    assert await house.sweep_long_after() == 1
    assert await house.sweep_long_after() == 0
    assert await fleet.copies() == {kept.digest}
    assert await fleet.start().content(kept) == b"a picture"


@every_engine
async def test_as3_what_is_taken_back_is_gone_unless_another_upload_has_the_same(
    fleet: Fleet,
) -> None:
    house = fleet.start()
    alone, first = await house.add(b"alone"), await house.add()
    second = await house.add(uploader="bob")
    await house.assets.remove(alone)
    await house.assets.remove(first)
    assert await fleet.copies() == {second.digest}
    assert await house.content(second) == b"a picture"
    await house.assets.remove(second)
    await house.sweep_long_after()
    assert await fleet.copies() == set()


@every_engine
async def test_as4_two_uploads_at_once_cannot_both_take_the_last_room(fleet: Fleet) -> None:
    houses = [fleet.start() for _ in range(4)] if fleet.blobs is not None else [fleet.start()] * 4
    results = await asyncio.gather(
        *(house.add(bytes([n]) * 7_000_000) for n, house in enumerate(houses)),
        return_exceptions=True,
    )
    (kept,) = [result for result in results if isinstance(result, Asset)]
    assert [type(result) for result in results].count(TooLarge) == 3
    assert await fleet.copies() == {kept.digest}


@pytest.mark.parametrize("fleet", ["table"], indirect=True)
async def test_as4_holds_for_the_same_bytes_through_many_instances(fleet: Fleet) -> None:
    """Bytes that are known already take no time, so that the rows race each other."""
    houses = [fleet.start() for _ in range(8)]
    content = bytes(ROOM_BYTES // 2 + 1)
    for room in ("r1", "r2", "r3", "r4", "r5"):
        results = await asyncio.gather(
            *(house.add(content, room=room) for house in houses), return_exceptions=True
        )
        assert [type(result) for result in results].count(Asset) == 1


@every_shared_engine
async def test_as2_damaged_bytes_are_not_served(fleet: Fleet) -> None:
    asset = await fleet.start().add()
    blob = (await fleet.database.read(BLOB, asset.digest))[0][0]
    assert fleet.blobs is not None
    await fleet.blobs.delete(blob)
    damaged = fleet.folder / "damaged"
    damaged.write_bytes(b"A picture")
    await fleet.blobs.put(blob, damaged)
    with pytest.raises(NotFound, match="damaged"):
        await fleet.start().assets.file_of(asset)


@every_shared_engine
async def test_as3_no_instance_takes_away_what_another_is_about_to_list(fleet: Fleet) -> None:
    """Bytes of long ago that nobody uses: one instance finds them still there, others sweep before its row stands."""
    uploading, sweeping = fleet.start(), fleet.start()
    await uploading.bytes.put(uploading.picture(), "before")
    await uploading.bytes.put(uploading.picture(), "again")
    digest = hashlib.sha256(b"a picture").hexdigest()
    for claim in ("before", "again"):
        await sweeping.bytes.discard(digest, claim)
        assert await fleet.copies() == {digest}, "the row of the other one may be on its way"
    assert await sweeping.assets.sweep() == 0
    asset = await uploading.add()
    assert await fleet.start().content(asset) == b"a picture"


@every_shared_engine
async def test_as3_copies_that_a_crash_left_are_swept_and_others_stay(fleet: Fleet) -> None:
    house = fleet.start()
    asset = await house.add()
    assert fleet.blobs is not None
    await fleet.blobs.put(f"{asset.digest}-of-a-crash", house.picture().path)
    await house.sweep_long_after()
    assert await fleet.blobs.size(f"{asset.digest}-of-a-crash") is None
    assert await fleet.start().content(asset) == b"a picture"
    for path in house.incoming.iterdir():
        path.unlink()


@every_shared_engine
async def test_as3_sweeps_beside_an_upload_of_old_bytes_lose_nothing(fleet: Fleet) -> None:
    """Bytes without a row, and out of their grace, are swept by two instances while a third one takes them in again."""
    uploading, *sweeping = (fleet.start() for _ in range(3))
    for round_ in range(10):
        content = b"round %d" % round_
        await uploading.bytes.put(uploading.picture(content), "long ago")
        await fleet.age()
        adding = asyncio.create_task(uploading.add(content))
        await asyncio.gather(*(house.assets.sweep() for house in sweeping))
        assert await fleet.start().content(await adding) == content


@every_shared_engine
async def test_as5_what_one_instance_takes_in_the_others_serve_at_once(fleet: Fleet) -> None:
    first, second = fleet.start(), fleet.start()
    asset = await first.add(b"on the first")
    assert hashlib.sha256(await second.content(asset)).hexdigest() == asset.digest


@pytest.mark.parametrize("lost", [True, False])
@every_engine
async def test_cr7_a_picture_that_may_be_gone_is_asked_for_again(fleet: Fleet, lost: bool) -> None:
    unsure = Unsure(fleet.database)
    fleet.database = unsure
    house = fleet.start()

    async def shown() -> list[str]:
        page = await house.assets.list_of_user("ann")
        return [asset.id for asset in page.assets]

    kept = await house.add()
    assert await shown() == [kept.id]
    await house.assets.find(kept.id)
    unsure.lost = lost
    unsure.committed = None if lost else asyncio.Event()
    removing = asyncio.create_task(house.assets.remove(kept))
    if unsure.committed is None:
        with pytest.raises(DatabaseUnavailable):
            await removing
    else:
        await unsure.committed.wait()
        removing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await removing
    assert await shown() == []
    with pytest.raises(NotFound):
        await house.assets.find(kept.id)
    unsure.answering.set()


@pytest.mark.parametrize("fleet", ["objects in memory"], indirect=True)
async def test_objects_lie_under_keys_that_are_spread(fleet: Fleet) -> None:
    asset = await fleet.start().add()
    keys = [one["path"] for one in obstore.list(fleet.memory).collect()]
    prefix = f"{asset.digest[:2]}/{asset.digest[2:4]}/{asset.digest}-"
    assert len(keys) == 2
    assert all(key.startswith(prefix) for key in keys)
