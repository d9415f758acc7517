"""What an instance of a fleet served lately, as files on its own disk; what was not used for longest goes first."""

import asyncio
import os
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from pathlib import Path

from tableforge.errors import disk_refused
from tableforge.library.assets import remove_files

UNFINISHED = "unfinished-"
UNFINISHED_SECONDS = 3_600.0
"""A file on its way that is older than this belongs to a process that is gone."""
KEPT_SECONDS = 60.0
"""A file that was asked for this recently may be about to be opened, so it stays even when there is too much."""


class AssetCache:
    """Files by name, at most `max_bytes` of them but for what was used in the last minute.

    A name stands for the same bytes for ever, a file appears under it when it is whole, and its time is that of its last
    use; so the files are all that has to survive a restart, and processes may share the folder.
    """

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._changing = threading.Lock()
        self._is_read = False
        self._kept: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._bytes = 0
        self._fetching: dict[str, asyncio.Task[None]] = {}

    async def file(self, name: str, fetch: Callable[[Path], Awaitable[None]]) -> Path:
        """The file of this name; where it is not here, `fetch` writes it, once for all who ask at that time.

        What `fetch` raises comes through; Unavailable when the disk refuses.
        """
        if not await self._in_order(lambda: self._use(name)):
            task = self._fetching.get(name)
            if task is None:
                task = self._fetching[name] = asyncio.create_task(self._fetch(name, fetch))
                task.add_done_callback(lambda done: self._fetched(name, done))
            # Whoever gives up waiting does not take the file away from the others.
            await asyncio.shield(task)
        return self._folder / name

    async def adopt(self, name: str, source: Path) -> None:
        """Take a file over that lies on the same disk and is what `fetch` would bring."""
        await self._in_order(lambda: self._adopt(name, source))

    def _fetched(self, name: str, task: asyncio.Task[None]) -> None:
        del self._fetching[name]
        if not task.cancelled():
            task.exception()  # whoever waits has it; asyncio must not call it unheard when nobody does

    async def _fetch(self, name: str, fetch: Callable[[Path], Awaitable[None]]) -> None:
        unfinished = self._folder / f"{UNFINISHED}{secrets.token_hex(8)}"
        try:
            await fetch(unfinished)
            await self.adopt(name, unfinished)
        finally:
            await asyncio.to_thread(remove_files, unfinished)

    async def _in_order(self, job: Callable[[], bool]) -> bool:
        try:
            return await asyncio.to_thread(self._locked, job)
        except OSError as error:
            raise disk_refused("The picture cannot be read.", error) from error

    def _locked(self, job: Callable[[], bool]) -> bool:
        with self._changing:
            if not self._is_read:
                self._read()
            return job()

    def _read(self) -> None:
        """Learn what lies in the folder from earlier, the longest unused first."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = []
        for path in self._folder.iterdir():
            about = path.stat()
            if not path.name.startswith(UNFINISHED):
                found.append((about.st_mtime, path.name, about.st_size))
            elif about.st_mtime < time.time() - UNFINISHED_SECONDS:
                remove_files(path)
        for used, name, size in sorted(found):
            self._remember(name, size, used)
        self._is_read = True
        self._make_room()

    def _use(self, name: str) -> bool:
        path = self._folder / name
        try:
            os.utime(path)
            size = path.stat().st_size
        except FileNotFoundError:
            self._forget(name)
            return False
        self._remember(name, size, time.time())
        return True

    def _adopt(self, name: str, source: Path) -> bool:
        size = source.stat().st_size
        os.utime(source)
        source.replace(self._folder / name)
        self._remember(name, size, time.time())
        self._make_room()
        return True

    def _remember(self, name: str, size: int, used: float) -> None:
        self._forget(name)
        self._kept[name] = (size, used)
        self._bytes += size

    def _forget(self, name: str) -> None:
        self._bytes -= self._kept.pop(name, (0, 0.0))[0]

    def _make_room(self) -> None:
        while self._bytes > self._max_bytes:
            name, (_, used) = next(iter(self._kept.items()))
            if used > time.time() - KEPT_SECONDS:
                return
            remove_files(self._folder / name)
            self._forget(name)
