"""Where the bytes of pictures lie: in a folder of one server's own, or in a store that a whole fleet shares.

In a fleet the database says under which name the store has a digest's bytes, and a name is never used twice. Taking a copy
away can therefore never hit one that another instance has made since, however long the taking was held up in between.
"""

import asyncio
import hashlib
import os
import secrets
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tableforge.config import AssetKnobs
from tableforge.database import Database, Statement
from tableforge.errors import NotFound
from tableforge.library.asset_blobs import (
    CANNOT_BE_READ,
    NOT_SWEPT,
    Blobs,
    FolderBlobs,
    TableBlobs,
    is_older,
    make_durable_folder,
    on_disk,
    sync,
)
from tableforge.library.asset_cache import AssetCache
from tableforge.library.assets import (
    GRACE_SECONDS,
    NO_SUCH_ASSET,
    NOT_KEPT,
    NewPicture,
    remove_files,
)


class FolderBytes:
    """The embedded engine: `ab/cd/<digest>` below a folder, and `<digest>.thumbnail` beside it.

    A file appears under its name only when it is whole and on the disk. The folder belongs to one process.
    """

    def __init__(
        self,
        folder: Path,
        *,
        grace_seconds: float = GRACE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._grace_seconds = grace_seconds
        self._clock = clock
        self._changing = threading.Lock()

    async def put(self, picture: NewPicture, claim: str) -> None:
        """See the contract; the claim needs no keeping where one process does everything."""
        del claim
        await on_disk(NOT_KEPT, lambda: self._put(picture))

    async def locate(self, digest: str, *, thumbnail: bool) -> Path:
        """See the contract."""
        path = self._thumbnail(digest) if thumbnail else self._path(digest)
        if not await on_disk(CANNOT_BE_READ, path.is_file):
            raise NotFound(NO_SUCH_ASSET)
        return path

    async def discard(self, digest: str, claim: str) -> None:
        """See the contract; the caller lets nobody put the same digest meanwhile."""
        del claim
        await on_disk("The picture was not removed.", lambda: self._discard(digest))

    async def sweep(self, used: Callable[[str], Awaitable[bool]]) -> int:
        """See the contract. What is put again while `used` is asked has another grace, and stays."""
        moment = self._clock() - self._grace_seconds
        taken = 0
        for digest in await on_disk(NOT_SWEPT, lambda: self._older_than(moment)):
            if not await used(digest):
                taken += await on_disk(NOT_SWEPT, lambda: self._discard(digest, moment))  # noqa: B023 - awaited here
        return taken

    def _path(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest[2:4] / digest

    def _thumbnail(self, digest: str) -> Path:
        return self._path(digest).with_suffix(".thumbnail")

    def _put(self, picture: NewPicture) -> None:
        path, thumbnail = self._path(picture.digest), self._thumbnail(picture.digest)
        try:
            with self._changing:
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

    def _discard(self, digest: str, before: float | None = None) -> bool:
        path, thumbnail = self._path(digest), self._thumbnail(digest)
        with self._changing:
            if before is not None and not is_older(path if path.exists() else thumbnail, before):
                return False
            path.unlink(missing_ok=True)
            thumbnail.unlink(missing_ok=True)
            if path.parent.is_dir():
                sync(path.parent)
        return True

    def _older_than(self, moment: float) -> set[str]:
        return {path.stem for path in self._folder.glob("??/??/*") if is_older(path, moment)}


def shared_bytes(knobs: AssetKnobs, database: Database, cache: Path) -> "SharedBytes":
    """The pictures of a fleet, where the settings say; what is served of them lies in the folder `cache`."""
    blobs: Blobs
    if knobs.url is None:
        blobs = TableBlobs(database)
    elif knobs.url.startswith("file://"):
        blobs = FolderBlobs(Path(unquote(urlsplit(knobs.url).path)))
    else:
        from tableforge.library.asset_objects import ObjectBlobs, s3_of

        blobs = ObjectBlobs(s3_of(knobs.url))
    return SharedBytes(database, blobs, AssetCache(cache, max_bytes=knobs.cache_bytes))


# The texts of this file are PostgreSQL's alone: SQLite belongs to one server, which has a folder.
TOUCH = Statement(
    "asset_bytes.touch",
    "UPDATE asset_bytes SET claim = '', touched = clock_timestamp() WHERE digest = ?",
)
LIST_BYTES = Statement(
    "asset_bytes.list",
    "INSERT INTO asset_bytes (digest, blob, bytes, thumbnail_bytes, thumbnail_digest, claim)"
    " VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (digest) DO UPDATE SET blob = excluded.blob,"
    " bytes = excluded.bytes, thumbnail_bytes = excluded.thumbnail_bytes,"
    " thumbnail_digest = excluded.thumbnail_digest, claim = '', touched = excluded.touched",
    repeatable=True,
)
WHERE_ARE = Statement(
    "asset_bytes.where",
    "SELECT blob, bytes, thumbnail_bytes, thumbnail_digest FROM asset_bytes WHERE digest = ?",
)
# An upload touches the row before it is listed, and whoever waits for that row's lock looks at its claim and age anew. Only
# the one upload that ever claimed a digest may take it back at once: another's row may be on its way.
FORGET = Statement(
    "asset_bytes.forget",
    "DELETE FROM asset_bytes WHERE digest = ?1 AND claim = ?2"
    " AND NOT EXISTS (SELECT 1 FROM assets WHERE assets.digest = ?1)",
)
FORGET_UNUSED = Statement(
    "asset_bytes.forget_unused",
    "DELETE FROM asset_bytes WHERE touched < clock_timestamp() - make_interval(secs => ?)"
    " AND NOT EXISTS (SELECT 1 FROM assets WHERE assets.digest = asset_bytes.digest)",
    background=True,
)
LISTED = Statement(
    "asset_bytes.listed",
    "SELECT blob FROM asset_bytes WHERE blob = ANY(?::text[])",
    background=True,
)


class SharedBytes:
    """The engine of a fleet: names in the database, bytes in a store that all instances share, and on this one's disk
    what was served lately.
    """

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        cache: AssetCache,
        *,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._cache = cache
        self._grace_seconds = grace_seconds

    async def put(self, picture: NewPicture, claim: str) -> None:
        """See the contract."""
        try:
            if await self._is_whole(picture.digest):
                return
            thumbnail_bytes, thumbnail_digest = await on_disk(
                NOT_KEPT, lambda: size_and_digest(picture.thumbnail_path)
            )
            blob = f"{picture.digest}-{secrets.token_hex(8)}"
            await self._blobs.put(small(blob), picture.thumbnail_path)
            await self._blobs.put(blob, picture.path)
            await self._database.write(
                LIST_BYTES,
                picture.digest,
                blob,
                picture.bytes,
                thumbnail_bytes,
                thumbnail_digest,
                claim,
            )
            await self._cache.adopt(picture.digest, picture.path)
            await self._cache.adopt(small(picture.digest), picture.thumbnail_path)
        finally:
            await asyncio.to_thread(remove_files, picture.path, picture.thumbnail_path)

    async def _is_whole(self, digest: str) -> bool:
        if not await self._database.write(TOUCH, digest):
            return False
        rows = await self._database.read(WHERE_ARE, digest)
        if not rows:
            return False
        blob, size, thumbnail_size, _ = rows[0]
        return (await self._blobs.size(blob), await self._blobs.size(small(blob))) == (
            size,
            thumbnail_size,
        )

    async def locate(self, digest: str, *, thumbnail: bool) -> Path:
        """See the contract. Bytes that are not what was put are as good as lost."""

        async def fetch(target: Path) -> None:
            rows = await self._database.read(WHERE_ARE, digest)
            if not rows:
                raise NotFound(NO_SUCH_ASSET)
            blob, _, _, thumbnail_digest = rows[0]
            await self._blobs.fetch(small(blob) if thumbnail else blob, target)
            _, found = await on_disk(CANNOT_BE_READ, lambda: size_and_digest(target))
            if found != (thumbnail_digest if thumbnail else digest):
                raise NotFound(NO_SUCH_ASSET, "Its bytes are damaged.")

        return await self._cache.file(small(digest) if thumbnail else digest, fetch)

    async def discard(self, digest: str, claim: str) -> None:
        """See the contract."""
        rows = await self._database.read(WHERE_ARE, digest)
        if rows and await self._database.write(FORGET, digest, claim):
            await self._blobs.delete(rows[0][0])
            await self._blobs.delete(small(rows[0][0]))

    async def sweep(self, used: Callable[[str], Awaitable[bool]]) -> int:
        """See the contract. The statement that forgets a digest sees for itself whether it is used.

        Copies that no digest leads to are what a crash, a repeated upload or another sweep has left.
        """
        del used
        taken = await self._database.write(FORGET_UNUSED, self._grace_seconds)
        async for names in self._blobs.older_than(self._grace_seconds):
            blobs = list({name.removesuffix(small("")) for name in names})
            listed = {row[0] for row in await self._database.read(LISTED, blobs)}
            for name in names:
                if name.removesuffix(small("")) not in listed:
                    await self._blobs.delete(name)
        return taken


def small(name: str) -> str:
    """The name of the thumbnail that belongs to the picture of this name."""
    return f"{name}.thumbnail"


def size_and_digest(path: Path) -> tuple[int, str]:
    """How large a file is, and its sha256 in hex."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), digest
