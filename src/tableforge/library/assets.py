"""Assets: pictures that were uploaded, a row for each upload and the bytes once, named after their digest.

The bytes go in before the row that refers to them: whatever a crash leaves over is bytes without a row, which `sweep`
takes away. An id says nothing of the bytes, so that nobody learns from it whether they were known.
"""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Protocol, TypeVar

from msgspec import Struct, structs

from tableforge.database import Database, Row, Statement
from tableforge.errors import Malformed, NotFound, TooLarge, disk_refused
from tableforge.library.users import random_id

T = TypeVar("T")

NOT_KEPT = "The picture was not kept."
NO_SUCH_ASSET = "There is no such asset."

NAME_CHARACTERS = 200
TAGS_AN_ASSET = 20
TAG_CHARACTERS = 40
LISTED_AT_MOST = 200
GRACE_SECONDS = 3_600.0
"""Bytes without a row are left alone for this long: their row may be on its way."""

COLUMNS = "id, digest, kind, width, height, bytes, uploader, room, name, tags, created_ms"

# One statement counts and inserts, so that two uploads at once cannot both take the last room. What belongs to no room
# counts against its uploader.
INSERT_ASSET = Statement(
    "asset.insert",
    f"INSERT INTO assets ({COLUMNS}, search)"  # noqa: S608 - names of columns, no values
    " SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12"
    " WHERE ?6 + (SELECT coalesce(sum(bytes), 0) FROM assets"
    " WHERE room = ?8 OR (?8 IS NULL AND room IS NULL AND uploader = ?7)) <= ?13",
)
FIND_ASSET = Statement(
    "asset.find",
    f"SELECT {COLUMNS} FROM assets WHERE id = ?",  # noqa: S608 - names of columns, no values
)
DELETE_ASSET = Statement("asset.delete", "DELETE FROM assets WHERE id = ?")
IS_DIGEST_USED = Statement("asset.digest_used", "SELECT 1 FROM assets WHERE digest = ? LIMIT 1")

_FILTERED = (
    f"SELECT {COLUMNS} FROM assets WHERE {{owner}} = ?1"  # noqa: S608 - names of columns, no values
    " AND (?2 = '' OR instr(search, ?2) > 0) AND (?3 = '' OR instr(tags, ?3) > 0)"
    " AND (created_ms, id) < (?4, ?5) ORDER BY created_ms DESC, id DESC LIMIT ?6"
)
LIST_OF_USER = Statement("asset.list_of_user", _FILTERED.format(owner="uploader"))
LIST_OF_ROOM = Statement("asset.list_of_room", _FILTERED.format(owner="room"))


class Asset(Struct, frozen=True):
    """An upload as it is kept; see `NewPicture` for the picture's own fields. `room` is None for the uploader's own."""

    id: str
    digest: str
    kind: str
    width: int
    height: int
    bytes: int
    uploader: str
    room: str | None
    name: str
    tags: tuple[str, ...]
    created_ms: int


class AssetPage(Struct, frozen=True):
    """Assets, newest first, and where the next page begins, None at the end."""

    assets: tuple[Asset, ...]
    next: str | None


class NewPicture(Protocol):
    """A clean picture and its thumbnail, lying on the same disk as the assets; what an importer returns.

    `digest` is the sha256 of the bytes in hex, `kind` their media type.
    """

    @property
    def digest(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def path(self) -> Path: ...
    @property
    def thumbnail_path(self) -> Path: ...


class AssetBytes(Protocol):
    """Where the bytes lie. Every method raises Unavailable when that place fails; then nothing was changed."""

    async def put(self, picture: NewPicture) -> None:
        """Take bytes and thumbnail over, durably; both files are gone from where they lay, whatever happens (AS1).

        Bytes that are known already are kept as they are, and their grace begins again.
        """
        ...

    async def locate(self, digest: str, *, thumbnail: bool) -> Path:
        """The file to serve; raises NotFound where it should be and is not (AS2)."""
        ...

    async def discard(self, digest: str) -> None:
        """Take the bytes and their thumbnail away, if they are there."""
        ...

    async def older_than(self, moment: float) -> AbstractSet[str]:
        """The digests of all bytes whose grace began before that moment, in seconds since 1970 (AS3)."""
        ...


class FolderBytes:
    """The embedded engine: `ab/cd/<digest>` below a folder, and `<digest>.thumbnail` beside it.

    A file appears under its name only when it is whole and on the disk.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put(self, picture: NewPicture) -> None:
        """See the contract."""
        await self._on_disk(NOT_KEPT, lambda: self._put(picture))

    async def locate(self, digest: str, *, thumbnail: bool) -> Path:
        """See the contract."""
        path = self._thumbnail(digest) if thumbnail else self._path(digest)
        if not await self._on_disk("The picture cannot be read.", path.is_file):
            raise NotFound(NO_SUCH_ASSET)
        return path

    async def discard(self, digest: str) -> None:
        """See the contract."""
        await self._on_disk("The picture was not removed.", lambda: self._discard(digest))

    async def older_than(self, moment: float) -> AbstractSet[str]:
        """See the contract."""
        return await self._on_disk(
            "The pictures were not looked through.", lambda: self._older_than(moment)
        )

    async def _on_disk(self, what: str, job: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(job)
        except OSError as error:
            raise disk_refused(what, error) from error

    def _path(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest[2:4] / digest

    def _thumbnail(self, digest: str) -> Path:
        return self._path(digest).with_suffix(".thumbnail")

    def _put(self, picture: NewPicture) -> None:
        path, thumbnail = self._path(picture.digest), self._thumbnail(picture.digest)
        try:
            if path.is_file() and thumbnail.is_file() and path.stat().st_size == picture.bytes:
                os.utime(path)
                return
            make_durable_folder(path.parent)
            for source, target in ((picture.thumbnail_path, thumbnail), (picture.path, path)):
                sync(source)
                source.replace(target)
            sync(path.parent)
        finally:
            remove_files(picture.path, picture.thumbnail_path)

    def _discard(self, digest: str) -> None:
        path = self._path(digest)
        path.unlink(missing_ok=True)
        self._thumbnail(digest).unlink(missing_ok=True)
        if path.parent.is_dir():
            sync(path.parent)

    def _older_than(self, moment: float) -> set[str]:
        found = self._folder.glob("??/??/*")
        return {path.stem for path in found if path.stat().st_mtime < moment}


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, onto the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_durable_folder(folder: Path) -> None:
    """Make a folder and those above it, each one's name on the disk."""
    if folder.is_dir():
        return
    make_durable_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    sync(folder.parent)


class Assets:
    """The repository of assets.

    `room_max_bytes` bounds what one room keeps, and what one user keeps outside of rooms. Every method raises
    Unavailable when the database or the disk fails; then nothing was changed.
    """

    def __init__(
        self,
        database: Database,
        stored: AssetBytes,
        *,
        room_max_bytes: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._stored = stored
        self._room_max_bytes = room_max_bytes
        self._clock = clock
        self._adding = asyncio.Lock()

    async def add(
        self,
        picture: NewPicture,
        *,
        uploader: str,
        room: str | None,
        name: str,
        tags: Iterable[str] = (),
    ) -> Asset:
        """Keep a picture; its files are gone from where they lay, whatever happens.

        Raises TooLarge when the room, or for `room=None` the uploader, has no space for it (AS4), Malformed for bad tags.
        """
        try:
            asset = Asset(
                id=random_id(),
                digest=picture.digest,
                kind=picture.kind,
                width=picture.width,
                height=picture.height,
                bytes=picture.bytes,
                uploader=uploader,
                room=room,
                name=printable(name)[:NAME_CHARACTERS],
                tags=usable_tags(tags),
                created_ms=int(self._clock() * 1000),
            )
            async with self._adding:
                await self._stored.put(picture)
                if not await self._insert(asset):
                    await self._discard_unless_used(asset.digest)
                    raise self._no_space(asset)
        finally:
            await asyncio.to_thread(remove_files, picture.path, picture.thumbnail_path)
        return asset

    async def find(self, asset_id: str) -> Asset:
        """Look an asset up; raises NotFound. Who may see it is not decided here."""
        rows = await self._database.read(FIND_ASSET, printable(asset_id))
        if not rows:
            raise NotFound(NO_SUCH_ASSET)
        return asset_of(rows[0])

    async def uploaded_by(self, asset_id: str, user: str) -> bool:
        """Whether this user sent the asset; False as well for one that never was."""
        try:
            return (await self.find(asset_id)).uploader == user
        except NotFound:
            return False

    async def list_of_user(
        self, user: str, *, text: str = "", tag: str = "", limit: int = 50, after: str = ""
    ) -> AssetPage:
        """What a user uploaded, filtered by a part of the name and by a tag; `after` is a page's `next`."""
        return await self._list(LIST_OF_USER, user, text, tag, limit, after)

    async def list_of_room(
        self, room: str, *, text: str = "", tag: str = "", limit: int = 50, after: str = ""
    ) -> AssetPage:
        """What was uploaded into a room; see `list_of_user`."""
        return await self._list(LIST_OF_ROOM, room, text, tag, limit, after)

    async def file_of(self, asset: Asset, *, thumbnail: bool = False) -> Path:
        """The file to serve, which never changes; raises NotFound when it is lost."""
        return await self._stored.locate(asset.digest, thumbnail=thumbnail)

    async def remove(self, asset: Asset) -> None:
        """Take back an asset that nothing refers to, and its bytes unless another upload has the same."""
        async with self._adding:
            await self._database.write(DELETE_ASSET, asset.id)
            await self._discard_unless_used(asset.digest)

    async def sweep(self) -> int:
        """Take away bytes that no row refers to any more, and return how many there were."""
        taken = 0
        for digest in await self._stored.older_than(self._clock() - GRACE_SECONDS):
            async with self._adding:
                taken += await self._discard_unless_used(digest)
        return taken

    async def _insert(self, asset: Asset) -> int:
        return await self._database.write(
            INSERT_ASSET,
            asset.id,
            asset.digest,
            asset.kind,
            asset.width,
            asset.height,
            asset.bytes,
            asset.uploader,
            asset.room,
            asset.name,
            json.dumps(asset.tags, ensure_ascii=False),
            asset.created_ms,
            asset.name.casefold(),
            self._room_max_bytes,
        )

    async def _discard_unless_used(self, digest: str) -> bool:
        if await self._database.read(IS_DIGEST_USED, digest):
            return False
        await self._stored.discard(digest)
        return True

    def _no_space(self, asset: Asset) -> TooLarge:
        whose = "You keep" if asset.room is None else "This room keeps"
        return TooLarge(
            NOT_KEPT,
            f"{whose} at most {self._room_max_bytes} bytes of pictures, and its {asset.bytes} do not fit.",
            "Send a smaller one, or have the server's operator raise ROOM_MAX_ASSET_BYTES.",
        )

    async def _list(
        self, statement: Statement, owner: str, text: str, tag: str, limit: int, after: str
    ) -> AssetPage:
        limit = max(1, min(limit, LISTED_AT_MOST))
        wanted = json.dumps(printable(tag).casefold(), ensure_ascii=False) if tag else ""
        rows = await self._database.read(
            statement, owner, printable(text).casefold(), wanted, *position_of(after), limit + 1
        )
        assets = tuple(map(asset_of, rows[:limit]))
        last = assets[-1] if len(rows) > limit else None
        return AssetPage(assets, f"{last.created_ms}.{last.id}" if last else None)


def asset_of(row: Row) -> Asset:
    """A row of the table as an asset."""
    asset = Asset(*row)
    return structs.replace(asset, tags=tuple(json.loads(row[9])))


def position_of(cursor: str) -> tuple[int, str]:
    """Where a page begins: right below this moment and id; without a cursor, at the newest."""
    if not cursor:
        return (1 << 63) - 1, ""
    moment, _, asset_id = cursor.partition(".")
    if not (moment.isascii() and moment.isdecimal() and len(moment) <= 18):
        raise Malformed("Nothing was listed.", "The cursor is not one of ours.", "Leave it out.")
    return int(moment), printable(asset_id)


def printable(text: str) -> str:
    """The text with what cannot be shown, or stored, turned into spaces."""
    return "".join(sign if sign.isprintable() else " " for sign in text).strip()


def usable_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Tags folded, each once, in the order given; raises Malformed for too many or too long ones."""
    folded = tuple(dict.fromkeys(printable(tag).casefold() for tag in tags))
    if len(folded) > TAGS_AN_ASSET or not all(1 <= len(tag) <= TAG_CHARACTERS for tag in folded):
        raise Malformed(
            NOT_KEPT,
            f"At most {TAGS_AN_ASSET} tags of 1 to {TAG_CHARACTERS} characters are taken.",
            "Use fewer or shorter ones.",
        )
    return folded


def remove_files(*paths: Path) -> None:
    """Take files away that may be gone already; a disk that refuses has refused what they were for before."""
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()
