"""A TCP proxy for one port of this machine that does on demand what bad networks do to whatever goes through it."""

import asyncio
import contextlib
import ssl
from types import TracebackType
from typing import Self

PIECE_BYTES = 65_536
SLOW_PIECE_BYTES = 1_024


class FaultyProxy:
    """Forwards bytes both ways, until told otherwise. With `tls` it speaks TLS to whoever comes.

    `latency` (seconds each way), `bandwidth` (bytes a second each way of each connection, 0 is as fast as it goes).
    `holding` carries nothing, and all of it later: a partition that heals. While `swallowing`, connections are accepted and
    stay up, and nothing comes through them, then or later. `lingering` keeps the end of a connection to itself for as long
    as it is on. `refusing` aborts whoever comes. `cut` aborts all connections, in the middle of whatever they carry.
    """

    def __init__(self, target_port: int, tls: ssl.SSLContext | None = None) -> None:
        self._target_port = target_port
        self._tls = tls
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0
        self.latency = 0.0
        self.bandwidth = 0
        self.swallowing = False
        self.refusing = False
        self._carrying = asyncio.Event()
        self._ending = asyncio.Event()
        self._carrying.set()
        self._ending.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def holding(self) -> bool:
        """Whether what comes waits here."""
        return not self._carrying.is_set()

    @holding.setter
    def holding(self, on: bool) -> None:
        (self._carrying.clear if on else self._carrying.set)()

    @property
    def lingering(self) -> bool:
        """Whether who closes is not heard by the other side."""
        return not self._ending.is_set()

    @lingering.setter
    def lingering(self, on: bool) -> None:
        (self._ending.clear if on else self._ending.set)()

    def cut(self) -> None:
        """Abort every connection, both ways."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            if self.refusing:
                raise ConnectionRefusedError
            onward_reader, onward = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, onward}
        for source, target in ((reader, onward), (onward_reader, writer)):
            task = asyncio.create_task(self._forward(source, target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _forward(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            swallowed = False
            while data := await source.read(SLOW_PIECE_BYTES if self.bandwidth else PIECE_BYTES):
                if self.latency:
                    await asyncio.sleep(self.latency)
                if self.bandwidth:
                    await asyncio.sleep(len(data) / self.bandwidth)
                await self._carrying.wait()
                swallowed = swallowed or self.swallowing
                if target.is_closing():  # uvloop's transports refuse, where asyncio's drop
                    break
                if not swallowed:
                    target.write(data)
                    await target.drain()
            await self._ending.wait()
        target.transport.abort()
        self._writers.discard(target)
