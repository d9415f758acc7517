"""Where the bytes of pictures lie: in a folder of one server's own, or in a store that a whole fleet shares.

In a fleet the database says under which name the store has a digest's bytes, and a name is never used twice. Taking a copy
away can therefore never hit one that another instance has made since, however long the taking was held up in between.
"""

import asyncio
import hashlib
import os
import secrets
import shutil
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import unquote, urlsplit

from tableforge.config import AssetKnobs
from tableforge.database import Database, Statement
from tableforge.errors import NotFound, disk_refused
from tableforge.library.asset_cache import AssetCache
from tableforge.library.assets import (
    GRACE_SECONDS,
    NO_SUCH_ASSET,
    NOT_KEPT,
    NewPicture,
    remove_files,
)

T = TypeVar("T")

CHUNK_BYTES = 512 * 1024
CHUNKS_AT_ONCE = 8
"""How many chunks travel to or from the database in one go, and lie in memory meanwhile."""
LISTED_AT_ONCE = 1_000
CANNOT_BE_READ = "The picture cannot be read."
NOT_SWEPT = "The pictures were not looked through."


async def on_disk(what: str, job: Callable[[], T]) -> T:
    """Run a job with files beside the loop; raises Unavailable, saying `what` did not happen, when the disk refuses."""
    try:
        return await asyncio.to_thread(job)
    except OSError as error:
        raise disk_refused(what, error) from error


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
            if before is not None and not _older(path if path.exists() else thumbnail, before):
                return False
            path.unlink(missing_ok=True)
            thumbnail.unlink(missing_ok=True)
            if path.parent.is_dir():
                sync(path.parent)
        return True

    def _older_than(self, moment: float) -> set[str]:
        return {path.stem for path in self._folder.glob("??/??/*") if _older(path, moment)}


def _older(path: Path, moment: float) -> bool:
    try:
        return path.stat().st_mtime < moment
    except FileNotFoundError:
        return False


class Blobs(Protocol):
    """A store of files that never change, by name. Raises Unavailable when it is out of reach."""

    async def put(self, name: str, source: Path) -> None:
        """Keep a copy of the file, durably; nobody sees a part of it under the name."""
        ...

    async def size(self, name: str) -> int | None:
        """How many bytes there are under this name, None for a name that is not there."""
        ...

    async def fetch(self, name: str, target: Path) -> None:
        """Write what lies under the name to a file; raises NotFound."""
        ...

    async def delete(self, name: str) -> None:
        """Take it away, if it is there."""
        ...

    def older_than(self, seconds: float) -> AsyncIterator[list[str]]:
        """The names of all that was put longer ago than that by the store's own clock, in portions."""
        ...


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
)
LISTED = Statement("asset_bytes.listed", "SELECT blob FROM asset_bytes WHERE blob = ANY(?::text[])")


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


class FolderBlobs:
    """A folder that all instances have mounted: `ab/cd/<name>`.

    A file is written beside its place and renamed when it is whole and on the disk.
    """

    UNFINISHED = ".unfinished"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put(self, name: str, source: Path) -> None:
        """See the contract."""

        def job() -> None:
            path = self._path(name)
            make_durable_folder(path.parent)
            unfinished = path.with_name(f"{name}{self.UNFINISHED}")
            try:
                shutil.copyfile(source, unfinished)
                sync(unfinished)
                unfinished.rename(path)
                sync(path.parent)
            finally:
                remove_files(unfinished)

        await on_disk(NOT_KEPT, job)

    async def size(self, name: str) -> int | None:
        """See the contract."""
        path = self._path(name)
        return await on_disk(
            CANNOT_BE_READ, lambda: path.stat().st_size if path.is_file() else None
        )

    async def fetch(self, name: str, target: Path) -> None:
        """See the contract."""
        try:
            await on_disk(CANNOT_BE_READ, lambda: shutil.copyfile(self._path(name), target))
        except Exception as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise NotFound(NO_SUCH_ASSET) from error
            raise

    async def delete(self, name: str) -> None:
        """See the contract."""
        await on_disk(NOT_SWEPT, lambda: self._path(name).unlink(missing_ok=True))

    async def older_than(self, seconds: float) -> AsyncIterator[list[str]]:
        """See the contract. What a crash left unfinished is among them."""
        names = await on_disk(NOT_SWEPT, lambda: list(self._older_than(seconds)))
        for start in range(0, len(names), LISTED_AT_ONCE):
            yield names[start : start + LISTED_AT_ONCE]

    def _older_than(self, seconds: float) -> Iterator[str]:
        # The folder's server has a clock of its own; a file that is made now shows it.
        probe = self._path(f"clock-{secrets.token_hex(8)}")
        try:
            make_durable_folder(probe.parent)
            probe.touch()
            moment = probe.stat().st_mtime - seconds
        finally:
            remove_files(probe)
        return (path.name for path in self._folder.glob("??/??/*") if _older(path, moment))

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / name[2:4] / name


PUT_CHUNK = Statement(
    "asset_chunk.put",
    "INSERT INTO asset_chunks (blob, part, data) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
    repeatable=True,
)
SIZE_OF_CHUNKS = Statement(
    "asset_chunk.size", "SELECT sum(octet_length(data))::bigint FROM asset_chunks WHERE blob = ?"
)
READ_CHUNKS = Statement(
    "asset_chunk.read",
    "SELECT data FROM asset_chunks WHERE blob = ? AND part >= ? ORDER BY part LIMIT ?",
)
DELETE_CHUNKS = Statement(
    "asset_chunk.delete", "DELETE FROM asset_chunks WHERE blob = ?", repeatable=True
)
OLD_CHUNKS = Statement(
    "asset_chunk.old",
    "SELECT DISTINCT blob FROM asset_chunks"
    " WHERE blob > ?1 AND written < clock_timestamp() - make_interval(secs => ?2) ORDER BY blob LIMIT ?3",
)


class TableBlobs:
    """The database itself as the store: chunks of half a MiB, a few of them a transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, name: str, source: Path) -> None:
        """See the contract. An upload that breaks off leaves chunks of a name that is listed nowhere."""
        part = 0
        while True:
            chunks = await on_disk(NOT_KEPT, lambda: chunks_of(source, part))  # noqa: B023 - awaited here
            if not chunks:
                return
            await self._database.write_all(
                [
                    (PUT_CHUNK, (name, number, chunk))
                    for number, chunk in enumerate(chunks, start=part)
                ]
            )
            part += len(chunks)

    async def size(self, name: str) -> int | None:
        """See the contract."""
        size: int | None = (await self._database.read(SIZE_OF_CHUNKS, name))[0][0]
        return size

    async def fetch(self, name: str, target: Path) -> None:
        """See the contract."""
        part = 0
        while rows := await self._database.read(READ_CHUNKS, name, part, CHUNKS_AT_ONCE):
            data = b"".join(row[0] for row in rows)
            await on_disk(CANNOT_BE_READ, lambda: append(target, data))  # noqa: B023 - awaited here
            part += len(rows)
        if not part:
            raise NotFound(NO_SUCH_ASSET)

    async def delete(self, name: str) -> None:
        """See the contract."""
        await self._database.write(DELETE_CHUNKS, name)

    async def older_than(self, seconds: float) -> AsyncIterator[list[str]]:
        """See the contract."""
        last = ""
        while rows := await self._database.read(OLD_CHUNKS, last, seconds, LISTED_AT_ONCE):
            names = [row[0] for row in rows]
            yield names
            last = names[-1]


def chunks_of(path: Path, first: int) -> list[bytes]:
    """The file's chunks from number `first` on, as many as travel at once."""
    with path.open("rb") as file:
        file.seek(first * CHUNK_BYTES)
        return [chunk for _ in range(CHUNKS_AT_ONCE) if (chunk := file.read(CHUNK_BYTES))]


def append(path: Path, data: bytes) -> None:
    """Write at the end of a file, which is made if need be."""
    with path.open("ab") as file:
        file.write(data)
