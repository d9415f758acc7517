"""`tableforge backup`: a copy of everything that was played, as it was at one moment.

A backup is a folder laid out like a data folder, with a manifest of digests beside it. Secrets are left out: tokens lie
in the database as digests only, and a generated admin token belongs to the installation.
"""

import hashlib
import shutil
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import msgspec

from tableforge.config import Settings, Storage
from tableforge.errors import NotFound, Unavailable, disk_refused
from tableforge.library.asset_blobs import make_durable_folder, sync
from tableforge.library.asset_stores import FolderBytes
from tableforge.ops import migrate, store
from tableforge.ops.stored import OrderRefused, Progress

MANIFEST = "manifest.json"
FORMAT = 1
CHUNK_BYTES = 1 << 20


class Entry(msgspec.Struct, frozen=True):
    """One file of a backup; `path` relative to it, with `/`, and the digest as hex."""

    path: str
    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """What a backup holds. `lost` names the pictures whose bytes were gone or damaged in the data folder."""

    format: int
    program: str
    made: str
    form: int
    rooms: int
    events: int
    files: tuple[Entry, ...]
    lost: tuple[str, ...] = ()


class Backup(NamedTuple):
    """A finished backup."""

    folder: Path
    manifest: Manifest


def stamp() -> str:
    """The present moment for a file's name."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")


def digest_of(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def back_up(settings: Settings, target: Path, progress: Progress) -> Backup:
    """Copy the data folder, or the store of a fleet, while servers may be using it; returns once the copy is on the disk.

    `target` must not exist yet; a folder that does gets the backup inside, named after the time. It appears under its name
    when it is whole. Raises `OrderRefused` before anything was done, Unavailable when the disk fails.
    """
    storage = settings.storage
    source = store.database_of(storage.folder)
    if not settings.database.chosen and not source.is_file():
        raise OrderRefused(
            "Nothing was backed up.",
            f"There is no database in {storage.folder}.",
            "Point TABLEFORGE_DATA at the server's data folder.",
        )
    target = _free_place(target, storage.folder)
    unfinished = target.with_name(f".{target.name}.unfinished")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        if settings.database.chosen:
            manifest = await _filled_from_fleet(unfinished, settings, progress)
        else:
            manifest = await _filled(unfinished, storage, source, progress)
        (unfinished / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
        sync(unfinished / MANIFEST)
        sync(unfinished)
        unfinished.rename(target)
        sync(target.parent)
    except OSError as error:
        raise disk_refused("The backup was not made.", error) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return Backup(target, manifest)


def _free_place(target: Path, folder: Path) -> Path:
    target = target.absolute()
    if target.is_dir():
        target = target / f"tableforge-{stamp()}"
    if target.exists():
        raise OrderRefused(
            "Nothing was backed up.", f"{target} exists already.", "Name a place that is free."
        )
    if not target.parent.is_dir():
        raise OrderRefused(
            "Nothing was backed up.",
            f"There is no folder {target.parent}.",
            "Make it first, or name another place.",
        )
    if target.is_relative_to(folder.absolute()):
        raise OrderRefused(
            "Nothing was backed up.",
            f"{target} lies inside the data folder itself.",
            "Name a place elsewhere, on another disk if there is one.",
        )
    return target


async def _filled(folder: Path, storage: Storage, source: Path, progress: Progress) -> Manifest:
    """Copy the database, then the pictures that this copy refers to: their bytes never change."""
    copy = store.database_of(folder)
    store.copy_database(
        source, copy, lambda done, all_pages: progress("database pages", done, all_pages)
    )
    counts = store.counts(copy)
    files = [Entry(copy.name, copy.stat().st_size, digest_of(copy))]
    lost: list[str] = []
    kept = FolderBytes(storage.assets)
    for number, digest in enumerate(counts.digests, 1):
        try:
            for thumbnail in (False, True):
                found = await kept.locate(digest, thumbnail=thumbnail)
                place = Path(storage.assets.name) / found.relative_to(storage.assets)
                files.append(copied(found, folder / place, place.as_posix()))
            if files[-2].sha256 != digest:
                lost.append(digest)
        except NotFound:
            lost.append(digest)
        progress("pictures", number, len(counts.digests))
    return _manifest(counts, files, lost)


async def _filled_from_fleet(folder: Path, settings: Settings, progress: Progress) -> Manifest:
    """Move everything, as it is at one moment, into a data folder: from there it can go anywhere."""
    moved = await migrate.move(
        settings,
        settings.database,
        folder,
        room=None,
        dry_run=False,
        force=True,
        progress=progress,
    )
    if refused := [room for room in moved.rooms if room.outcome == "refused"]:
        raise Unavailable(
            "The backup was not made.",
            f"Room {refused[0].id} ({refused[0].name}) cannot be copied: {refused[0].why}",
            "Run `tableforge verify`.",
        )
    store.settle(folder)
    return _manifest(store.counts(store.database_of(folder)), _entries(folder), moved.lost)


def _entries(folder: Path) -> list[Entry]:
    return [
        Entry(path.relative_to(folder).as_posix(), path.stat().st_size, digest_of(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]


def _manifest(counts: store.Counts, files: list[Entry], lost: list[str]) -> Manifest:
    return Manifest(
        format=FORMAT,
        program=version("tableforge"),
        made=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        form=counts.form,
        rooms=counts.rooms,
        events=counts.events,
        files=tuple(files),
        lost=tuple(lost),
    )


def copied(source: Path, target: Path, name: str) -> Entry:
    """Copy a file and return, once it is on the disk, what the manifest says of it under this name."""
    make_durable_folder(target.parent)
    digest = hashlib.sha256()
    size = 0
    with source.open("rb") as reading, target.open("xb") as writing:
        while chunk := reading.read(CHUNK_BYTES):
            digest.update(chunk)
            writing.write(chunk)
            size += len(chunk)
    target.chmod(0o600)
    sync(target)
    sync(target.parent)
    return Entry(name, size, digest.hexdigest())
