"""uvicorn's HTTP protocol with the bounds that it leaves to a proxy: how large a request's head may be, and how long one may
take to arrive. What cannot be read as HTTP is answered with a problem document like every other error.
"""

import asyncio
from enum import Enum
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tableforge.api.problems import PROBLEM_TYPE, problem_of
from tableforge.errors import Malformed, TableForgeError, TooLarge
from tableforge.protocol import codec

HEAD_BYTES = 64 * 1024
"""How much may come without a request's head, or a piece of its body, being complete."""
HEAD_SECONDS = 10.0
"""How long a request's head may take, from the connection's or the request's first byte."""
SILENT_SECONDS = 75.0
"""How long a body may send nothing; uploads say so themselves somewhat earlier."""


class Awaits(Enum):
    """What of a request has to come next; nothing when one is complete and no other has begun."""

    HEAD = "head"
    BODY = "body"
    NOTHING = "nothing"


class Listener(HttpToolsProtocol):
    """One HTTP connection."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._awaits = Awaits.HEAD
        self._since = self.loop.time()
        self._unread = 0
        self._watch: asyncio.TimerHandle | None = None

    # asyncio's protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        """See asyncio."""
        super().connection_made(transport)
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._rest()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if self._awaits is Awaits.NOTHING:
            self._expect(Awaits.HEAD)
        elif self._awaits is Awaits.BODY:
            self._since = self.loop.time()
        self._unread += len(data)
        super().data_received(data)
        if self._awaits is Awaits.NOTHING or self.transport.is_closing():
            return
        if self._unread > HEAD_BYTES:
            self._refuse(
                TooLarge(
                    "The request was not read.",
                    f"Its head is larger than {HEAD_BYTES // 1024} KiB.",
                    "Send shorter headers.",
                )
            )
        elif self._watch is None:
            self._look()

    # The parser's callbacks

    def on_message_begin(self) -> None:
        """See httptools."""
        self._expect(Awaits.HEAD)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """See httptools."""
        self._expect(Awaits.BODY)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """See httptools."""
        self._expect(Awaits.NOTHING)
        super().on_message_complete()

    # uvicorn's

    def handle_websocket_upgrade(self) -> None:
        """See uvicorn: from here on the socket is another protocol's."""
        self._expect(Awaits.NOTHING)
        self._rest()
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        """See uvicorn: what came is no HTTP."""
        self._refuse(Malformed("The request was not understood.", msg, "Send it as HTTP/1.1."))

    # Bounds

    def _expect(self, what: Awaits) -> None:
        self._awaits, self._since, self._unread = what, self.loop.time(), 0

    def _rest(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _look(self) -> None:
        """End the connection if what has to come is overdue, else look again when it will be."""
        self._watch = None
        if self._awaits is Awaits.NOTHING or self.transport.is_closing():
            return
        now = self.loop.time()
        if self.flow.read_paused or (self._awaits is Awaits.HEAD and self._is_answering()):
            # It is us who do not read, or an earlier request of this connection that is still being answered.
            self._since = now
        due = self._since + (HEAD_SECONDS if self._awaits is Awaits.HEAD else SILENT_SECONDS)
        if now >= due:
            self.transport.close()
        else:
            self._watch = self.loop.call_at(due, self._look)

    def _is_answering(self) -> bool:
        # uvicorn's annotation leaves out that there is none before the first request.
        cycle: Any = self.cycle
        return cycle is not None and not cycle.response_complete

    def _refuse(self, error: TableForgeError) -> None:
        self._rest()
        if not self._is_answering() or self._awaits is Awaits.BODY:
            status = HTTPStatus(error.http_status)
            body = codec.encode(problem_of(error))
            head = (
                f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {PROBLEM_TYPE}\r\n"
                f"content-length: {len(body)}\r\ncache-control: no-store\r\n"
                "x-content-type-options: nosniff\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode("ascii") + body)
        self.transport.close()
