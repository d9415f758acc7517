"""One connection to a Redis or Valkey, over which questions and answers go, all of one moment in one piece.

Answers come in the order of the questions, and nothing else says which is whose. So every question keeps its place until its
answer came, whether anybody still waits for it or not, and a connection whose count is wrong is given up: an answer is never
taken for another one's (redis/redis-py#2624 tells what happens otherwise).
"""

import asyncio
import re
from collections import deque
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, Final

import hiredis

from tableforge.config.redis_address import Command, Conversation

QUEUED_BYTES: Final = 16 << 20
"""What may wait to be written; a connection with more is given up."""
CLOSED: Final = "closed by us"
LOST: Final = object()
"""Instead of an answer, where the connection was lost before it came."""
PARSED: Final = object()

HISTORY: Final = (b"INFO", b"replication")
"""Asks for what `history` reads."""

Answered = Callable[[Any], None]
"""Told of one answer: what hiredis makes of it, a `hiredis.ReplyError`, or LOST. It does not raise."""
Question = tuple[Command, Answered]


class Link(Conversation):
    """A connection. `lost` ends with the reason once it is gone."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader(notEnoughData=PARSED)
        self._waiting: deque[Answered] = deque()
        self._end = "the server closed the connection"
        self._transport: asyncio.Transport
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.history = b""
        self.run = b""
        """Which run of the server in which history this is: another one may not know what was written last."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = transport  # type: ignore[assignment]  # uvloop's are no subclasses of asyncio's

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio."""
        self.lose(str(error or self._end))

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        parse = self._reader.gets
        waiting = self._waiting
        try:
            self._reader.feed(data)
            while (answer := parse()) is not PARSED:
                if type(answer) is hiredis.PushNotification:
                    continue
                if not waiting:
                    self.lose("answers came that nobody asked for")
                    return
                waiting.popleft()(answer)
        except hiredis.ProtocolError as error:
            self.lose(f"what came is not Redis' protocol: {error}")

    def send(self, questions: Sequence[Question]) -> None:
        """Ask all of this in one piece."""
        if self.lost.done():
            for _, answered in questions:
                answered(LOST)
            return
        pack = hiredis.pack_command
        self._waiting.extend([answered for _, answered in questions])
        self._transport.write(b"".join([pack(command) for command, _ in questions]))  # type: ignore[arg-type]  # any length will do
        if self._transport.get_write_buffer_size() > QUEUED_BYTES:
            self.lose("more waits to be sent than may")

    async def ask(self, *commands: Command) -> list[Any]:
        """Answers to commands, in their order; raises `ConnectionError` for a lost connection. The caller bounds the time."""
        loop = asyncio.get_running_loop()
        answers: list[asyncio.Future[Any]] = [loop.create_future() for _ in commands]

        def give(answer: asyncio.Future[Any], value: object) -> None:
            if not answer.done():
                answer.set_result(value)

        self.send(
            [
                (command, lambda value, answer=answer: give(answer, value))  # type: ignore[misc]  # bound now
                for command, answer in zip(commands, answers, strict=True)
            ]
        )
        found = [await answer for answer in answers]
        if LOST in found:
            raise ConnectionError(self.lost.result())
        return found

    def lose(self, why: str) -> None:
        """Give the connection up at once; who waits is told."""
        if not self.lost.done():
            self.lost.set_result(why)
            self._transport.abort()
            waiting, self._waiting = self._waiting, deque()
            for answered in waiting:
                answered(LOST)

    async def finish(self, seconds: float) -> None:
        """Send what waits, then close; not longer than this."""
        self._end = CLOSED
        self._transport.close()
        await asyncio.wait((self.lost,), timeout=seconds)
        self.lose(CLOSED)

    async def greet(self, commands: Sequence[Command]) -> None:
        """See `Conversation`."""
        *answers, server, replication = await self.ask(*commands, (b"INFO", b"server"), HISTORY)
        for answer in (*answers, server, replication):
            if isinstance(answer, hiredis.ReplyError):
                raise ConnectionError(refusal(answer))
        self.history = history(replication)
        self.run = (
            blake2b(_line(server, b"run_id") + self.history, digest_size=8).hexdigest().encode()
        )
        if not self.history:
            raise ConnectionError("it is a replica")


def history(replication: object) -> bytes:
    """From the answer to HISTORY which history of changes a primary stands in; empty for a replica.

    It is another one after a replica became the primary, though it may have missed the last changes.
    """
    return _line(replication, b"master_replid") if _line(replication, b"role") == b"master" else b""


def _line(info: object, name: bytes) -> bytes:
    """What INFO says under a name; empty if it says nothing."""
    text = info.encode() if isinstance(info, str) else info if isinstance(info, bytes) else b""
    found = re.search(rb"^%b:(\w+)" % name, text, re.MULTILINE)
    return found[1] if found else b""


def refusal(error: hiredis.ReplyError) -> str:
    """A server's words without our arguments, which a server that does not know a command repeats."""
    return str(error).partition(", with args")[0]
