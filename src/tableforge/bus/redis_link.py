"""One connection to a Redis or Valkey, which carries both what we publish and what we listen to.

`config.redis_address` makes connections; messages go through a protocol of our own over hiredis'
parser (docs/adr/0004-one-connection-of-our-own-to-the-bus.md has the figures). RESP3 tells what was published from what was
asked, so that one connection does for both: its order is the server's, and there is one thing to lose.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import hiredis

from tableforge.config.redis_address import Command, Conversation

QUEUED_BYTES: Final = 8 << 20
"""What may wait to be written to one server; a connection with more is given up, and what waited with it."""

PARSED: Final = object()

CLOSED: Final = "closed by us"
"""How a connection ends that was finished."""

Push = Callable[[list[Any]], None]
"""Told of each message that the server sends by itself, as it came: kind, channel, content."""


class Link(Conversation):
    """A connection. `lost` ends with the reason once it is gone; `turned` is called after the pushes of each read."""

    def __init__(self, push: Push, turned: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(notEnoughData=PARSED)
        self._push = push
        self._turned = turned
        self._unanswered = 0
        self._greeted: asyncio.Future[None] = self._loop.create_future()
        self._outbox: list[bytes] = []
        self._outbox_bytes = 0
        self._end = "the server closed the connection"
        self._transport: asyncio.Transport
        self.refusal = ""
        """The first error that the server answered with."""
        self.lost: asyncio.Future[str] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = transport  # type: ignore[assignment]  # uvloop's are no subclasses of asyncio's

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio."""
        self.lose(str(error or self._end))

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        parse = self._reader.gets
        try:
            self._reader.feed(data)
            while (reply := parse()) is not PARSED:
                if type(reply) is hiredis.PushNotification:
                    self._push(reply)
                elif type(reply) is not int:
                    self._answered(reply)
        except hiredis.ProtocolError as error:
            self.lose(f"what came is not Redis' protocol: {error}")
        self._turned()

    def lose(self, why: str) -> None:
        """Give the connection up at once, with all that waits in it."""
        if not self.lost.done():
            self.lost.set_result(why)
            self._outbox.clear()
            self._transport.abort()

    def send(self, command: Command) -> None:
        """Send, with all else of this loop turn in one piece; of the answer only an error is looked at."""
        if self.lost.done():
            return
        if not self._outbox:
            self._loop.call_soon(self.flush)
        packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # any length will do
        self._outbox.append(packed)
        self._outbox_bytes += len(packed)
        if self._outbox_bytes > QUEUED_BYTES:
            self.lose("more waits to be sent than may")

    def flush(self) -> None:
        """Write what waits."""
        if self._outbox:
            self._transport.write(b"".join(self._outbox))
            self._outbox.clear()
            self._outbox_bytes = 0
            if self._transport.get_write_buffer_size() > QUEUED_BYTES:
                self.lose("more waits to be sent than may")

    async def finish(self, seconds: float) -> None:
        """Send what waits, then close; not longer than this."""
        self._end = CLOSED
        self.flush()
        self._transport.close()
        await asyncio.wait((self.lost,), timeout=seconds)
        self.lose(CLOSED)

    async def greet(self, commands: Sequence[Command]) -> None:
        """Introduce ourselves and await the answers; raises `OSError` when they are not what they must be."""
        self._unanswered = len(commands)
        for command in commands:
            self.send(command)
        await asyncio.wait((self.lost, self._greeted), return_when=asyncio.FIRST_COMPLETED)
        if self.refusal or self.lost.done():
            raise ConnectionError(self.refusal or self.lost.result())

    def _answered(self, reply: object) -> None:
        if isinstance(reply, hiredis.ReplyError):
            # A server that does not know HELLO repeats its arguments, the password among them.
            self.refusal = self.refusal or str(reply).partition(", with args")[0]
        elif isinstance(reply, dict) and reply.get(b"role", b"master") != b"master":
            self.refusal = "it is a replica: what is published there is not heard elsewhere"
            self.lose(self.refusal)
        self._unanswered -= 1
        if self._unanswered == 0:
            self._greeted.set_result(None)
