"""`tableforge restore`: a backup becomes the data folder, after all of it was found to be as it was written."""

import os
import shutil
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import msgspec

from tableforge.config import Settings, Storage
from tableforge.errors import Unavailable, disk_refused
from tableforge.library.asset_blobs import make_durable_folder, sync
from tableforge.ops import store
from tableforge.ops.backup import (
    FORMAT,
    MANIFEST,
    Manifest,
    copied,
    digest_of,
    stamp,
)
from tableforge.ops.stored import OrderRefused, Progress

NOTHING = "Nothing was restored."
ASIDE = "before-restore-"
UNFINISHED = "restoring-"


class Restored(NamedTuple):
    """What came back; `aside` is where what was there before lies now, None when there was nothing."""

    manifest: Manifest
    rooms: int
    aside: Path | None


async def restore(
    settings: Settings, source: Path, *, replace: bool, progress: Progress
) -> Restored:
    """Bring a backup back, with a new epoch for each room, so that no client takes its position for one of before.

    Raises `OrderRefused`, having changed nothing: for a backup that is not whole, while a server runs on the data folder,
    and when the data folder is not empty. With `replace`, what is there is moved aside within it instead.
    """
    if settings.database.chosen:
        raise OrderRefused(
            NOTHING,
            "A data folder is what this restores, and DATABASE_URL or DATABASE_HOST says that a fleet serves.",
            f"`tableforge migrate --from {source}` brings a backup into the fleet's empty database.",
        )
    manifest = checked(source, progress)
    storage = settings.storage
    folder = storage.folder
    try:
        make_durable_folder(folder)
        with store.held(folder):
            return await _into(storage, source, manifest, replace=replace, progress=progress)
    except OSError as error:
        raise disk_refused(NOTHING, error) from error


def checked(source: Path, progress: Progress) -> Manifest:
    """The manifest of a backup, when every file is there as it was written; raises `OrderRefused` otherwise."""
    try:
        manifest = msgspec.json.decode((source / MANIFEST).read_bytes(), type=Manifest)
    except OSError as error:
        raise OrderRefused(
            NOTHING,
            f"{source} is no backup: {MANIFEST} cannot be read ({error.strerror}).",
            "Name the folder that `tableforge backup` printed.",
        ) from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise OrderRefused(
            NOTHING, f"{source / MANIFEST} is damaged: {error}.", "Take another backup."
        ) from error
    if manifest.format != FORMAT:
        raise OrderRefused(
            NOTHING,
            f"The backup has format {manifest.format}; this program reads {FORMAT}.",
            f"Restore it with TableForge {manifest.program} or later.",
        )
    if manifest.form > store.newest_form():
        raise OrderRefused(
            NOTHING,
            f"It was made by a newer TableForge (form {manifest.form}; this one knows {store.newest_form()}).",
            f"Install TableForge {manifest.program} or later.",
        )
    if store.DATABASE not in {entry.path for entry in manifest.files}:
        raise OrderRefused(
            NOTHING, f"{source / MANIFEST} names no database.", "Take another backup."
        )
    for number, entry in enumerate(manifest.files, 1):
        problem = _problem(source, entry.path, entry.bytes, entry.sha256)
        if problem:
            raise OrderRefused(
                NOTHING, f"The backup is damaged: {entry.path} {problem}.", "Take another backup."
            )
        progress("files checked", number, len(manifest.files))
    return manifest


def _problem(source: Path, name: str, size: int, sha256: str) -> str:
    place = PurePosixPath(name)
    if (
        place.is_absolute()
        or ".." in place.parts
        or place.parts[0] not in {store.DATABASE, "assets"}
    ):
        return "is no place inside of it"
    path = source / place
    if path.is_symlink() or not path.is_file():
        return "is missing"
    if path.stat().st_size != size:
        return f"has {path.stat().st_size} bytes instead of {size}"
    if digest_of(path) != sha256:
        return "is not what was written: its digest differs"
    return ""


async def _into(
    storage: Storage, source: Path, manifest: Manifest, *, replace: bool, progress: Progress
) -> Restored:
    folder = storage.folder
    for left in folder.glob(f"{UNFINISHED}*"):
        shutil.rmtree(left)
    present = sorted(path for path in folder.iterdir() if not _stays(storage, path))
    if present and not replace:
        raise OrderRefused(
            NOTHING,
            f"The data folder {folder} is not empty: it holds {present[0].name}.",
            "Point TABLEFORGE_DATA at an empty folder, or say --replace: what is there is moved aside.",
        )
    moment = stamp()
    staged = folder / f"{UNFINISHED}{moment}"
    try:
        staged.mkdir(mode=0o700)
        for number, entry in enumerate(manifest.files, 1):
            made = copied(source / entry.path, staged / entry.path, entry.path)
            if made != entry:
                raise Unavailable(
                    NOTHING, f"{entry.path} changed while it was read.", "Try once more."
                )
            progress("files restored", number, len(manifest.files))
        rooms = await store.renew_epochs(
            staged, lambda done, of: progress("rooms with a new epoch", done, of)
        )
        (staged / store.LOCK).unlink()
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    aside = folder / f"{ASIDE}{moment}" if present else None
    _exchange(folder, present, staged, aside)
    return Restored(manifest, rooms, aside)


def _stays(storage: Storage, path: Path) -> bool:
    """What a restore leaves where it is: what belongs to the installation, and what earlier ones moved aside."""
    return path.name in {store.LOCK, storage.admin_token.name} or path.name.startswith(ASIDE)


def _exchange(folder: Path, present: list[Path], staged: Path, aside: Path | None) -> None:
    """Move what is there aside and what is staged in. The databases change places last and at once.

    The folder itself is not renamed: it may be a mount point.
    """
    try:
        if aside is not None:
            aside.mkdir(mode=0o700)
            # The database's own log goes before it: beside another database it would be taken for that one's.
            for path in sorted(present, key=lambda one: one.name == store.DATABASE):
                path.rename(aside / path.name)
            sync(aside)
        database = staged / store.DATABASE
        database.rename(folder / store.DATABASE)
        for path in sorted(staged.iterdir()):
            path.rename(folder / path.name)
        os.rmdir(staged)
        sync(folder)
    except OSError as error:
        raise Unavailable(
            "The restore stopped half way.",
            f"{error.strerror}. What was there before lies in {aside}, the rest of the backup in {staged}.",
            "Move the files to where they belong by hand, the database last, before you start a server.",
        ) from error
