"""A client's WebSocket for measuring: frames made by hand, a read cut into the objects it carries and nothing more."""

import asyncio
import time
from abc import ABC, abstractmethod
from typing import cast

UPGRADE = (
    b"GET /ws?room=%b HTTP/1.1\r\nHost: %b\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
SWITCHED = b"HTTP/1.1 101"
TEXT = 0x81


def text_frame(payload: bytes) -> bytes:
    """A client's text frame (RFC 6455, section 5.2). Its mask is zero: the server unmasks as ever, and we need not mask."""
    size = len(payload)
    if size < 126:
        return b"\x81%c\0\0\0\0%b" % (0x80 | size, payload)
    return b"\x81\xfe%b\0\0\0\0%b" % (size.to_bytes(2, "big"), payload)


PONG = text_frame(b"{}")


class Wire(asyncio.Protocol, ABC):
    """One connection at a time, opened again as often as wanted. Messages are below 64 KiB.

    For a subclass to say: `switched` when the WebSocket is open, `received` for each object with the moment it came
    (seconds of the monotonic clock), `odd` for what is no text frame or a refused handshake, `lost` when it is over.
    `room` stands in the address, for balancers that bring a room together; `upgrade` asks for another path.
    """

    upgrade = UPGRADE

    def __init__(self, address: tuple[str, int], room: bytes) -> None:
        self.host, self.port = address
        self._room = room
        self._rest = b""
        self._open = False
        self.transport: asyncio.Transport | None = None

    async def connect(self) -> None:
        """Open the socket; raises OSError."""
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self, self.host, self.port)

    def send(self, payload: bytes) -> None:
        """Send one object; into the void while there is no connection."""
        if self.transport is not None:
            self.transport.write(text_frame(payload))

    def leave(self) -> None:
        """Close the socket."""
        if self.transport is not None:
            self.transport.close()

    @abstractmethod
    def switched(self) -> None:
        """The handshake is done."""

    @abstractmethod
    def received(self, data: bytes, start: int, stop: int, now: float) -> None:
        """One object lies between these places."""

    @abstractmethod
    def odd(self, opcode: int, payload: bytes) -> None:
        """A frame that is no text, or with opcode 0 the server's answer to a handshake that it refused."""

    @abstractmethod
    def lost(self) -> None:
        """The connection is over."""

    # asyncio's protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        # uvloop's transports are none by inheritance.
        self.transport = cast("asyncio.Transport", transport)
        self._rest, self._open = b"", False
        self.transport.write(self.upgrade % (self._room, f"{self.host}:{self.port}".encode()))

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self.transport = None
        self.lost()

    def data_received(self, data: bytes) -> None:
        """Cut whole frames off what came in; all of it came now."""
        if self._rest:
            data = self._rest + data
        if not self._open:
            head, found, data = data.partition(b"\r\n\r\n")
            if not found:
                self._rest = head
                return
            if not head.startswith(SWITCHED):
                self._rest = b""
                self.odd(0, head)
                self.leave()
                return
            self._open = True
            self.switched()
        at = self._cut(data, time.monotonic())
        self._rest = data[at:] if at < len(data) else b""

    def _cut(self, data: bytes, now: float) -> int:
        """Take the whole frames; returns where the first incomplete one begins."""
        at, have = 0, len(data)
        while have - at >= 2:
            size, head_end = data[at + 1], at + 2
            if size >= 126:
                head_end = at + (4 if size == 126 else 10)
                if have < head_end:
                    break
                size = int.from_bytes(data[at + 2 : head_end], "big")
            stop = head_end + size
            if stop > have:
                break
            if data[at] != TEXT:
                self.odd(data[at], data[head_end:stop])
            elif data.find(b"\n", head_end, stop) >= 0:
                for line in data[head_end:stop].split(b"\n"):
                    self.received(line, 0, len(line), now)
            else:
                self.received(data, head_end, stop, now)
            at = stop
        return at
