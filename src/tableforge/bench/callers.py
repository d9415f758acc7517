"""Callers of HTTP, light enough to be measured against: requests are bytes made before, answers are counted off by length.

Either each asks again as soon as it has its answer, which finds out how much there is to be had; or requests are due at
moments that were fixed before, and latency counts from those, whether or not a connection was free then.
"""

import asyncio
import contextlib
import time
from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from secrets import SystemRandom
from typing import cast

from tableforge.bench.metronome import ticking
from tableforge.errors import Unavailable

TICK_MICROSECONDS = 250
CONNECT_SECONDS = 20.0
ANSWER_SECONDS = 10.0
HEAD_END = b"\r\n\r\n"
LENGTH = b"content-length:"
GOOD = b"HTTP/1.1 200"


@dataclass(slots=True)
class Heard:
    """What came back in `seconds`. Latencies in microseconds; `lateness` is how long after its time a request left that
    had a free connection."""

    latency: "array[int]" = field(default_factory=lambda: array("Q"))
    lateness: "array[int]" = field(default_factory=lambda: array("Q"))
    errors: int = 0
    first_error: str = ""
    answers: int = 0
    seconds: float = 0.0
    own_seconds: float = 0.0
    """Of the processor, ours."""

    def error(self, text: str) -> None:
        """Count an error and keep the words of the first."""
        self.errors += 1
        self.first_error = self.first_error or text


class Callers:
    """So many connections, each with at most one request on its way. `requests` are sent in turn, over and over."""

    def __init__(self, address: tuple[str, int], count: int, requests: Sequence[bytes]) -> None:
        self._address = address
        self._requests = requests
        self._sent = 0
        self.heard = Heard()
        self.until = 0.0
        """Who has an answer before then asks again at once."""
        self._count = count
        self._lines: list[Line] = []
        self._free = asyncio.Event()
        self._ending = False

    async def connect(self) -> None:
        """Open all connections; raises Unavailable."""
        self._lines.clear()
        loop = asyncio.get_running_loop()
        host, port = self._address
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                for _ in range(self._count):
                    _, line = await loop.create_connection(lambda: Line(self), host, port)
                    self._lines.append(line)
        except (TimeoutError, OSError) as error:
            raise Unavailable(
                "The measurement did not begin.",
                f"{host}:{port} could not be connected to: {error!r}.",
                "Look at the server's log.",
            ) from error

    def leave(self) -> None:
        """Close all connections."""
        for line in self._lines:
            line.leave()

    async def press(self, seconds: float) -> Heard:
        """All ask as fast as they are answered, for so long."""
        heard = self._begin()
        began = time.monotonic()
        self.until = began + seconds
        for line in self._lines:
            line.ask(self.request(), time.monotonic())
        await asyncio.sleep(seconds)
        return await self._end(heard, began)

    async def pace(self, rate: float, seconds: float) -> Heard:
        """So many requests a second in all, each connection's at an even pace that begins at a moment drawn once."""
        heard = self._begin()
        self.until = 0.0
        chance = SystemRandom()
        lines = self._lines
        period = len(lines) / rate
        phases = sorted(chance.random() * period for _ in lines)
        total = round(rate * seconds)
        began = time.monotonic() + 0.01
        reached = asyncio.Event()
        number = 0

        def tick() -> None:
            nonlocal number
            now = time.monotonic()
            while number < total:
                turn, line = divmod(number, len(lines))
                due = began + turn * period + phases[line]
                if due > now:
                    return
                number += 1
                lines[line].ask_when_free(self.request(), due, now)
            reached.set()

        with ticking(TICK_MICROSECONDS, tick):
            await reached.wait()
        return await self._end(heard, began)

    def request(self) -> bytes:
        """The next one."""
        self._sent += 1
        return self._requests[self._sent % len(self._requests)]

    def answered(self) -> None:
        """Called when a connection has become free."""
        if self._ending and not any(line.busy for line in self._lines):
            self._free.set()

    def _begin(self) -> Heard:
        self.heard = Heard()
        self.heard.own_seconds = -time.process_time()
        return self.heard

    async def _end(self, heard: Heard, began: float) -> Heard:
        """Close the books, then wait for what is still on its way: its latency counts, its number does not."""
        heard.answers = len(heard.latency)
        heard.seconds = time.monotonic() - began
        heard.own_seconds += time.process_time()
        self.until = 0.0
        self._free.clear()
        self._ending = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                if any(line.busy for line in self._lines):
                    await self._free.wait()
        self._ending = False
        for line in self._lines:
            if line.busy:
                heard.error(f"No answer came within {ANSWER_SECONDS:g} s.")
        return heard


class Line(asyncio.Protocol):
    """One connection."""

    def __init__(self, callers: Callers) -> None:
        self._callers = callers
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._missing = 0
        self._due = 0.0
        self._waiting: deque[tuple[bytes, float]] = deque()
        self.busy = False

    def ask(self, request: bytes, due: float) -> None:
        """Send a request; its latency counts from `due`."""
        if self._transport is None:
            self._callers.heard.error("A request was due while its connection was gone.")
            return
        self.busy, self._due = True, due
        self._transport.write(request)

    def ask_when_free(self, request: bytes, due: float, now: float) -> None:
        """Send it now if nothing is on its way, else after what is."""
        if self.busy:
            self._waiting.append((request, due))
        else:
            self._callers.heard.lateness.append(int((now - due) * 1_000_000))
            self.ask(request, due)

    def leave(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    # asyncio's protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        # uvloop's transports are none by inheritance.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._transport = None
        if self.busy or self._waiting:
            self._callers.heard.error(f"The server closed a connection: {exc or 'in order'}.")
            self.busy = False
            self._waiting.clear()
            self._callers.answered()

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if self._missing:
            self._missing -= len(data)
        else:
            data = self._rest + data
            end = data.find(HEAD_END)
            if end < 0:
                self._rest = data
                return
            self._rest = b""
            head = data[:end].lower()
            at = head.find(LENGTH)
            length = int(head[at + len(LENGTH) :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            self._missing = length - (len(data) - end - len(HEAD_END))
            if not data.startswith(GOOD):
                self._callers.heard.error(data[:200].decode("latin-1"))
        if self._missing < 0:
            self._missing = 0
            self._callers.heard.error("More came than was announced.")
        if not self._missing:
            self._whole()

    def _whole(self) -> None:
        now = time.monotonic()
        callers = self._callers
        callers.heard.latency.append(int((now - self._due) * 1_000_000))
        if self._waiting:
            self.ask(*self._waiting.popleft())
        elif now < callers.until:
            self.ask(callers.request(), now)
        else:
            self.busy = False
            callers.answered()
