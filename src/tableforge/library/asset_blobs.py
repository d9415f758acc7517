"""Stores of files that never change, by names that are never used twice: a shared folder, and the database itself."""

import asyncio
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

from tableforge.database import Database, Statement
from tableforge.errors import NotFound, disk_refused
from tableforge.library.assets import NO_SUCH_ASSET, NOT_KEPT, remove_files

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


def is_older(path: Path, moment: float) -> bool:
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
        return (path.name for path in self._folder.glob("??/??/*") if is_older(path, moment))

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
    background=True,
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
