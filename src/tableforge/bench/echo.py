"""The bare floor of a gateway: what comes in on a connection goes out, as it is, on all connections of its group.

Each connection is greeted with one byte when it has joined its group.

`python -m tableforge.bench.echo SIZE` prints its address and serves until SIGTERM. Connections join groups of SIZE in the
order in which they come; SIZE 1 is an echo.
"""

import asyncio
import signal
import sys
from typing import cast

import uvloop

GREETING = b"!"

Group = list[asyncio.Transport]


class Echo(asyncio.Protocol):
    """One connection; `groups` is shared by all."""

    def __init__(self, groups: list[Group], size: int) -> None:
        self._groups = groups
        self._size = size
        self._group: Group = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        if not self._groups or len(self._groups[-1]) >= self._size:
            self._groups.append([])
        self._group = self._groups[-1]
        # uvloop's transports are none by inheritance.
        joined = cast("asyncio.Transport", transport)
        self._group.append(joined)
        joined.write(GREETING)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        for transport in self._group:
            transport.write(data)


async def serve(size: int) -> None:
    """Serve until SIGTERM."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    groups: list[Group] = []
    server = await loop.create_server(lambda: Echo(groups, size), "127.0.0.1", 0, backlog=4096)
    sys.stdout.write(f"echo:{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await stop.wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1])))
