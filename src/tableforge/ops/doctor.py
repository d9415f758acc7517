"""`tableforge doctor`: whether a server can run here, and what to mend if not. It changes nothing."""

import asyncio
import errno
import os
import socket
import sqlite3
import stat
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tableforge.config import Settings
from tableforge.database.disks import MEMORY, NETWORK, file_system, room_left
from tableforge.ops import store
from tableforge.ops.findings import Finding
from tableforge.ops.fleet_doctor import examine_fleet

OLDEST_PYTHON = (3, 11)
OLDEST_SQLITE = (3, 38, 0)
"""The log's listings use the operator ->>."""
LIBRARIES = (
    "litestar",
    "uvicorn",
    "uvloop",
    "httptools",
    "websockets",
    "msgspec",
    "pillow",
    "prometheus-client",
    "asyncpg",
    "redis",
    "obstore",
    "structlog",
)
MEBIBYTE = 2**20
GIBIBYTE = 1024 * MEBIBYTE
LITTLE_BYTES = GIBIBYTE
TOO_LITTLE_BYTES = 64 * MEBIBYTE
LITTLE_FILES = 1000
LARGE_LOG_BYTES = 512 * MEBIBYTE
"""The WAL is kept under 64 MiB; far more means that a reader has stood in its way for long."""


def examine(settings: Settings, *, client: Path, thorough: bool) -> Iterator[Finding]:
    """Look at everything a server needs; `client` is the page of the built web client.

    A thorough look compares every index of the database with its table.
    """
    yield from _versions()
    yield from _settings(settings)
    yield from _client(client)
    folder = settings.storage.folder
    yield from _folder(folder, has_sqlite=not settings.database.chosen)
    holder = None
    if folder.is_dir() and not settings.database.chosen:
        holder = _holder(folder)
        if holder is None:
            yield Finding("ok", "server", "None runs on this data folder.")
        else:
            yield Finding("ok", "server", f"One runs on this data folder ({holder}).")
        yield from _token(settings)
    yield from _port(settings, holder)
    if settings.database.chosen:
        yield from asyncio.run(examine_fleet(settings))
    elif folder.is_dir():
        yield from _database(store.database_of(folder), thorough=thorough)


def _versions() -> Iterator[Finding]:
    python = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < OLDEST_PYTHON:
        wanted = ".".join(map(str, OLDEST_PYTHON))
        yield Finding("bad", "python", f"This is {python}.", f"Install Python {wanted} or newer.")
    else:
        yield Finding("ok", "python", python)
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        wanted = ".".join(map(str, OLDEST_SQLITE))
        mend = f"Use a Python that brings SQLite {wanted} or newer."
        yield Finding("bad", "sqlite", f"This is {sqlite3.sqlite_version}.", mend)
    else:
        yield Finding("ok", "sqlite", sqlite3.sqlite_version)
    present: list[str] = []
    for name in LIBRARIES:
        try:
            present.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            yield Finding("bad", "libraries", f"{name} is missing.", "Install TableForge again.")
    yield Finding("ok", "libraries", ", ".join([f"tableforge {version('tableforge')}", *present]))


def _settings(settings: Settings) -> Iterator[Finding]:
    for warning in settings.warnings:
        yield Finding("warn", "settings", warning, "`tableforge config` prints what is in force.")
    if not settings.warnings:
        changed = sum(one.source != "default" for one in settings.effective())
        yield Finding("ok", "settings", f"{changed} set, the others at their defaults.")


def _client(page: Path) -> Iterator[Finding]:
    if page.is_file():
        yield Finding("ok", "web client", "It is built.")
    else:
        yield Finding(
            "bad",
            "web client",
            f"{page} is missing, so the server has no pages.",
            "Run `make web`, or install TableForge again.",
        )


def _folder(folder: Path, *, has_sqlite: bool) -> Iterator[Finding]:
    if not folder.exists():
        above = next(one for one in folder.parents if one.exists())
        if os.access(above, os.W_OK | os.X_OK):
            yield Finding("ok", "data folder", f"{folder} will be made at the first start.")
            yield from _disk(above, has_sqlite=has_sqlite)
        else:
            mend = "Make it yourself for this user, or point TABLEFORGE_DATA elsewhere."
            yield Finding("bad", "data folder", f"{folder} cannot be made in {above}.", mend)
        return
    if not folder.is_dir():
        mend = "Move it away, or point TABLEFORGE_DATA at a folder."
        yield Finding("bad", "data folder", f"{folder} is a file.", mend)
        return
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            file.write(bytes(4096))
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            yield Finding("bad", "data folder", "The disk is full.", "Free some room on it.")
        else:
            mend = "Give this user the right to write there, or mount it writable."
            reason = f"{folder} cannot be written: {error.strerror}."
            yield Finding("bad", "data folder", reason, mend)
    else:
        yield Finding("ok", "data folder", f"{folder} can be written.")
    about = folder.stat()
    if stat.S_IMODE(about.st_mode) & 0o007:
        mend = f"chmod o-rwx {folder}"
        yield Finding("warn", "data folder", "Every user of this machine may look into it.", mend)
    yield from _disk(folder, has_sqlite=has_sqlite)


def amount(size: int) -> str:
    """Bytes in MiB, much of them in GiB."""
    if size < LITTLE_BYTES:
        return f"{size // MEBIBYTE} MiB"
    return f"{size / GIBIBYTE:.1f} GiB"


def _disk(folder: Path, *, has_sqlite: bool) -> Iterator[Finding]:
    kind = file_system(folder)
    left = room_left(folder)
    if kind in NETWORK and has_sqlite:
        yield Finding(
            "bad",
            "disk",
            f"The data folder lies on a network file system ({kind}), where SQLite can lose commits.",
            "Point TABLEFORGE_DATA at a folder on a local disk.",
        )
    elif kind in MEMORY and has_sqlite:
        yield Finding(
            "warn",
            "disk",
            f"The data folder lies in memory ({kind}): all is gone when the machine stops.",
            "Point TABLEFORGE_DATA at a folder on a disk.",
        )
    free = f"{amount(left.bytes)} free"
    mend = "Free some room on it, or move the data folder to a larger one."
    if left.bytes < TOO_LITTLE_BYTES:
        yield Finding("bad", "disk", f"{free}.", mend)
    elif left.bytes < LITTLE_BYTES or left.files < LITTLE_FILES:
        yield Finding("warn", "disk", f"{free}, and room for {left.files} more files.", mend)
    else:
        yield Finding("ok", "disk", f"{free}{f' on {kind}' if kind else ''}.")


def _holder(folder: Path) -> str | None:
    try:
        return store.holder(folder)
    except OSError:
        return None


def _token(settings: Settings) -> Iterator[Finding]:
    path = settings.storage.admin_token
    if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        yield Finding("warn", "admin token", f"Others may read {path}.", f"chmod 600 {path}")


def _port(settings: Settings, holder: str | None) -> Iterator[Finding]:
    host, port = settings.serving.host, settings.serving.port
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        yield Finding("bad", "port", f"HOST is {host!r}: {error.strerror}.", "Mend HOST.")
        return
    family, kind, protocol, _, address = found[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            yield _taken(settings, holder, error)
            return
    if holder is None:
        yield Finding("ok", "port", f"Port {port} on {host} is free.")
    else:
        mend = "Look at the server's log; it may be starting or stopping, or serve on another port."
        yield Finding("warn", "port", f"A server runs, but nobody listens on port {port}.", mend)


def _taken(settings: Settings, holder: str | None, error: OSError) -> Finding:
    host, port = settings.serving.host, settings.serving.port
    if error.errno == errno.EACCES:
        return Finding(
            "bad", "port", f"Port {port} needs more rights.", "Set PORT to 1024 or higher."
        )
    if error.errno != errno.EADDRINUSE:
        return Finding("bad", "port", f"{host} port {port}: {error.strerror}.", "Mend HOST.")
    if holder is not None:
        return Finding("ok", "port", f"The running server has port {port}.")
    if settings.database.chosen:
        text = f"Port {port} on {host} is taken, perhaps by an instance that runs here."
        return Finding("warn", "port", text, "Set PORT to another for one more instance.")
    return Finding(
        "bad",
        "port",
        f"Another program has port {port} on {host}.",
        "Stop it, or set PORT to another.",
    )


def _database(path: Path, *, thorough: bool) -> Iterator[Finding]:
    restore = "Stop the server and `tableforge restore` the newest good backup."
    if not path.exists():
        yield Finding("ok", "database", "There is none yet; the first start makes it.")
        return
    try:
        with path.open("rb") as file:
            head = file.read(len(store.MAGIC))
    except OSError as error:
        mend = "Run this as the server's user, or give this user the right to read it."
        yield Finding("bad", "database", f"{path} cannot be read: {error.strerror}.", mend)
        return
    if head != store.MAGIC and head:
        yield Finding(
            "bad", "database", f"{path} is no SQLite database: its head is damaged.", restore
        )
        return
    try:
        form, broken = store.examined(path, thorough=thorough)
    except (sqlite3.Error, OSError) as error:
        yield Finding("bad", "database", f"{path} cannot be opened: {error}.", restore)
        return
    yield from _form(form)
    for table, text in broken:
        yield Finding("bad", "database", f"Table {table} is damaged: {text}", restore)
    if not broken:
        checked = "Its structure and indexes are" if thorough else "Its structure is"
        yield Finding("ok", "database", f"{checked} sound ({amount(path.stat().st_size)}).")
    log = path.with_name(store.LOG_FILES[0])
    if log.exists() and log.stat().st_size > LARGE_LOG_BYTES:
        mend = "Look for a program that holds the database open; restarting the server empties it."
        size = log.stat().st_size // MEBIBYTE
        yield Finding("warn", "database", f"Its write-ahead log has {size} MiB.", mend)


def _form(form: int) -> Iterator[Finding]:
    newest = store.newest_form()
    if form > newest:
        yield Finding(
            "bad",
            "form",
            f"The database was written by a newer TableForge (form {form}; this one knows {newest}).",
            "Install that version or a later one, or point TABLEFORGE_DATA elsewhere.",
        )
    elif form < newest:
        text = (
            f"The database has form {form}; the next start backs it up and brings it to {newest}."
        )
        yield Finding("ok", "form", text)
    else:
        yield Finding("ok", "form", f"The database has form {form}, as this program writes it.")
