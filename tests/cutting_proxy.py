"""A TCP proxy that cuts connections on demand, or swallows what they carry: what a bad network does to a client."""

import asyncio
import contextlib
import ssl
from types import TracebackType
from typing import Self


class CuttingProxy:
    """Forwards to a port of this machine. `cut` aborts all connections, in the middle of whatever they carry.

    With `tls` it speaks TLS to whoever comes. While `swallowing`, connections are accepted and stay up, and nothing comes through them, then or later.
    """

    def __init__(self, target_port: int, tls: ssl.SSLContext | None = None) -> None:
        self._target_port = target_port
        self._tls = tls
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0
        self.swallowing = False

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

    def cut(self) -> None:
        """Abort every connection, both ways."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
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
            while data := await source.read(65_536):
                swallowed = swallowed or self.swallowing
                if not swallowed:
                    target.write(data)
                    await target.drain()
        target.transport.abort()
        self._writers.discard(target)
