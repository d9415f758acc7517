"""Assets: rows by upload, bytes by digest, on the real database and a real folder."""

import asyncio
import hashlib
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec import Struct

from tableforge.database import Statement
from tableforge.database.sqlite import SqliteDatabase
from tableforge.errors import Malformed, NotFound, TooLarge, Unavailable
from tableforge.library.asset_stores import FolderBytes
from tableforge.library.assets import GRACE_SECONDS, Asset, Assets
from tests.local_cache import POLICIES, local_cache

ROOM_BYTES = 100


class Picture(Struct, frozen=True):
    """What an importer returns."""

    digest: str
    kind: str
    width: int
    height: int
    bytes: int
    path: Path
    thumbnail_path: Path


class Clock:
    """Time that stands until it is moved; it starts now, since files get their times from the system."""

    def __init__(self) -> None:
        self.now = 1_000_000_000.0

    def __call__(self) -> float:
        return self.now


class House:
    """A data folder with its database and assets."""

    def __init__(self, data: Path, database: SqliteDatabase) -> None:
        self.database = database
        self.folder = data / "assets"
        self.incoming = data / "incoming"
        self.incoming.mkdir()
        self.clock = Clock()
        self.bytes = FolderBytes(self.folder, clock=self.clock)
        self.assets = Assets(
            *(database, self.bytes, local_cache(), POLICIES),
            room_max_bytes=ROOM_BYTES,
            clock=self.clock,
        )
        self._count = 0

    def picture(self, content: bytes = b"a picture") -> Picture:
        """A picture as it comes from an importer."""
        self._count += 1
        path, thumbnail = (
            self.incoming / f"{self._count}.picture",
            self.incoming / f"{self._count}.thumbnail",
        )
        path.write_bytes(content)
        thumbnail.write_bytes(b"small " + content)
        digest = hashlib.sha256(content).hexdigest()
        return Picture(digest, "image/png", 3, 2, len(content), path, thumbnail)

    async def add(
        self,
        content: bytes = b"a picture",
        *,
        uploader: str = "ann",
        room: str | None = "r1",
        name: str = "a.png",
        tags: tuple[str, ...] = (),
    ) -> Asset:
        """Upload something a second later."""
        self.clock.now += 1
        return await self.assets.add(
            self.picture(content), uploader=uploader, room=room, name=name, tags=tags
        )

    def kept(self) -> list[str]:
        """The files below the assets' folder."""
        return sorted(
            str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()
        )


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with SqliteDatabase(tmp_path) as database:
        yield House(tmp_path, database)
        assert list((tmp_path / "incoming").iterdir()) == []


async def test_an_asset_is_found_as_it_was_added(house: House) -> None:
    added = await house.add(name="Cellar.png", tags=("Cave", "dark"))
    assert added == await house.assets.find(added.id)
    assert (added.kind, added.width, added.height, added.bytes) == ("image/png", 3, 2, 9)
    assert (added.uploader, added.room, added.name, added.tags) == (
        "ann",
        "r1",
        "Cellar.png",
        ("cave", "dark"),
    )
    assert (await house.assets.file_of(added)).read_bytes() == b"a picture"
    assert (await house.assets.file_of(added, thumbnail=True)).read_bytes() == b"small a picture"


async def test_as1_the_same_bytes_lie_once_under_ids_that_tell_nothing(house: House) -> None:
    first, second = await house.add(), await house.add(uploader="bob", room="r2")
    digest = first.digest
    assert house.kept() == [
        f"{digest[:2]}/{digest[2:4]}/{digest}",
        f"{digest[:2]}/{digest[2:4]}/{digest}.thumbnail",
    ]
    assert second.digest == digest
    assert len({first.id, second.id}) == 2
    assert digest[:8] not in first.id + second.id


async def test_as2_bytes_that_are_damaged_on_the_disk_are_replaced(house: House) -> None:
    asset = await house.add()
    path = await house.assets.file_of(asset)
    path.write_bytes(b"cut")
    await house.add()
    assert path.read_bytes() == b"a picture"


async def test_as2_a_lost_file_is_not_found(house: House) -> None:
    asset = await house.add()
    (await house.assets.file_of(asset)).unlink()
    with pytest.raises(NotFound):
        await house.assets.file_of(asset)


async def test_an_unknown_id_is_not_found(house: House) -> None:
    for unknown in ("nothing", "", "\0", "\ud800"):
        with pytest.raises(NotFound):
            await house.assets.find(unknown)


async def test_as4_a_room_takes_what_fits_to_the_last_byte_and_no_more(house: House) -> None:
    await house.add(bytes(60))
    await house.add(bytes(40))
    kept = house.kept()
    with pytest.raises(TooLarge, match="This room keeps at most 100 bytes"):
        await house.add(b"x")
    assert house.kept() == kept
    await house.add(b"x", room="r2")
    await house.add(b"y", room=None)


async def test_the_same_bytes_again_count_again(house: House) -> None:
    await house.add(bytes(60))
    with pytest.raises(TooLarge):
        await house.add(bytes(60), uploader="bob")
    assert len(house.kept()) == 2, "the refusal must not take the first upload's bytes away"


async def test_as4_what_is_in_no_room_counts_for_its_uploader(house: House) -> None:
    await house.add(bytes(60), room=None)
    with pytest.raises(TooLarge, match="You keep at most 100 bytes"):
        await house.add(bytes(50), room=None)
    await house.add(bytes(50), room=None, uploader="bob")
    await house.add(bytes(50), room="r1")


async def test_as4_two_uploads_at_once_cannot_both_take_the_last_room(house: House) -> None:
    results = await asyncio.gather(
        *(house.add(bytes([n]) * 60) for n in range(4)), return_exceptions=True
    )
    assert [type(result) for result in results].count(Asset) == 1
    assert [type(result) for result in results].count(TooLarge) == 3
    assert len(house.kept()) == 2


@pytest.mark.parametrize("tags", [("",), ("x" * 41,), tuple(f"t{n}" for n in range(21)), (" \n ",)])
async def test_bad_tags_are_refused_and_nothing_is_kept(
    house: House, tags: tuple[str, ...]
) -> None:
    with pytest.raises(Malformed):
        await house.add(tags=tags)
    assert not house.folder.exists()


async def test_names_and_tags_are_made_printable(house: House) -> None:
    asset = await house.add(name="a\0b\ud800\n" + "x" * 300, tags=("Höhle", "höhle", "a\tb"))
    assert asset.name == "a b  " + "x" * 195
    assert asset.tags == ("höhle", "a b")


async def test_lists_are_the_newest_first_and_each_page_goes_on(house: House) -> None:
    added = [await house.add(bytes([n])) for n in range(5)]
    await house.add(b"z", uploader="bob", room="r2")
    expected = list(reversed(added))
    seen: list[Asset] = []
    after = ""
    for size in (2, 2, 1):
        page = await house.assets.list_of_user("ann", limit=2, after=after)
        assert len(page.assets) == size
        seen += page.assets
        after = page.next or ""
    assert seen == expected
    assert after == ""
    assert list((await house.assets.list_of_room("r1")).assets) == expected
    assert (await house.assets.list_of_room("r3")).assets == ()


async def test_assets_of_one_moment_are_on_one_page_each_once(house: House) -> None:
    pictures = [house.picture(bytes([n])) for n in range(4)]
    added = [
        await house.assets.add(picture, uploader="ann", room=None, name="x") for picture in pictures
    ]
    first = await house.assets.list_of_user("ann", limit=3)
    second = await house.assets.list_of_user("ann", limit=3, after=first.next or "")
    assert {asset.id for asset in first.assets + second.assets} == {asset.id for asset in added}


async def test_lists_are_filtered_by_name_and_tag(house: House) -> None:
    cellar = await house.add(b"1", name="Drowned CELLAR.png", tags=("Cave",))
    tower = await house.add(b"2", name='100%_"Tower".webp', tags=("dark cave", 'a"b'))

    async def found(text: str = "", tag: str = "") -> tuple[Asset, ...]:
        return (await house.assets.list_of_user("ann", text=text, tag=tag)).assets

    assert await found("cellar") == (cellar,)
    assert await found("%_") == (tower,)
    assert await found("\0") == (tower, cellar)
    assert await found(tag="cave") == (cellar,)
    assert await found(tag="DARK cave") == (tower,)
    assert await found(tag='a"b') == (tower,)
    assert await found(tag="dark") == ()
    assert await found("tower", "cave") == ()


@pytest.mark.parametrize("cursor", ["x", "1e5.a", "-1.a", "9" * 30 + ".a", "\u0661.a", "."])
async def test_a_foreign_cursor_is_refused(house: House, cursor: str) -> None:
    with pytest.raises(Malformed):
        await house.assets.list_of_user("ann", after=cursor)


async def test_as3_bytes_without_a_row_are_swept_after_their_grace(house: House) -> None:
    asset = await house.add()
    orphan = house.picture(b"nobody's")
    await house.bytes.put(orphan, "nobody")
    os.utime(
        await house.bytes.locate(orphan.digest, thumbnail=False), (house.clock.now, house.clock.now)
    )
    os.utime(
        await house.bytes.locate(orphan.digest, thumbnail=True), (house.clock.now, house.clock.now)
    )
    house.clock.now += GRACE_SECONDS
    assert await house.assets.sweep() == 0
    house.clock.now += 1
    assert await house.assets.sweep() == 1
    assert {Path(path).stem for path in house.kept()} == {asset.digest}
    house.clock.now = 4_000_000_000.0
    assert await house.assets.sweep() == 0
    assert (await house.assets.file_of(asset)).read_bytes() == b"a picture"


async def test_only_the_server_s_user_can_look_into_the_folders(house: House) -> None:
    await house.add()
    modes = {stat.S_IMODE(path.stat().st_mode) for path in house.folder.rglob("*") if path.is_dir()}
    assert modes == {0o700}


async def test_when_the_disk_refuses_nothing_is_left_and_nothing_is_listed(house: House) -> None:
    digest = hashlib.sha256(b"a picture").hexdigest()
    house.folder.mkdir()
    (house.folder / digest[:2]).write_bytes(b"in the way")
    with pytest.raises(Unavailable, match="The picture was not kept"):
        await house.add()
    assert (await house.assets.list_of_user("ann")).assets == ()


async def test_when_the_database_refuses_the_files_are_gone_from_where_they_lay(
    house: House,
) -> None:
    await house.database.write(Statement("test.break", "DROP TABLE assets"))
    with pytest.raises(Unavailable):
        await house.add()
    assert list(house.incoming.iterdir()) == []


async def test_a_picture_that_is_not_where_it_should_be_is_the_disk_s_fault(house: House) -> None:
    picture = house.picture()
    picture.path.unlink()
    with pytest.raises(Unavailable, match="No such file"):
        await house.assets.add(picture, uploader="ann", room=None, name="x")
    assert (await house.assets.list_of_user("ann")).assets == ()
