"""The disk that a folder lies on: what kind it is, and how much room is left."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tableforge.errors import StartRefused

NETWORK = frozenset(
    {
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "davfs",
        "fuse.glusterfs",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.sshfs",
        "fuse.ceph",
        "gfs2",
        "glusterfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "ocfs2",
        "orangefs",
        "smb3",
        "smbfs",
    }
)
"""Kinds of which SQLite's locks and WAL cannot be relied on: the shared memory of the WAL is one machine's."""

MEMORY = frozenset({"tmpfs", "ramfs"})
"""Kinds that are gone with the machine's power."""

ESCAPED = {"\\040": " ", "\\011": "\t", "\\012": "\n", "\\134": "\\"}


class Room(NamedTuple):
    """What is left for a user without special rights: bytes, and files of any size."""

    bytes: int
    files: int


def room_left(folder: Path) -> Room:
    """How much still fits; raises OSError."""
    found = os.statvfs(folder)
    # Some file systems make files as they go and count none.
    files = found.f_favail if found.f_files else 2**31
    return Room(found.f_bavail * found.f_frsize, files)


def file_system(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """The kind of file system under a folder, as the kernel calls it; empty where it does not tell."""
    best, kind = "", ""
    folder = folder.resolve()
    try:
        lines = mounts.read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        _, place, form = line.split(" ")[:3]
        for written, meant in ESCAPED.items():
            place = place.replace(written, meant)
        # A later mount at the same place lies over the earlier one.
        if folder.is_relative_to(place) and len(place) >= len(best):
            best, kind = place, form
    return kind


@contextlib.contextmanager
def data_folder(folder: Path) -> Iterator[None]:
    """Make the data folder, and do there what a start needs; raises `StartRefused` when the disk does not let us."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield
    except (FileExistsError, NotADirectoryError) as error:
        raise StartRefused(
            "The server did not start.",
            f"The data folder {folder} is a file or lies below one, so it is no folder.",
            "Move that file away, or point TABLEFORGE_DATA at a folder.",
        ) from error
    except OSError as error:
        raise StartRefused(
            "The server did not start.",
            f"The data folder {folder} cannot be written: {error.strerror}.",
            "Give this user the right to write there, or point TABLEFORGE_DATA at another folder.",
        ) from error
