"""The WebSocket endpoint on uvicorn's own port, without the ASGI message layer in between.

uvicorn makes one of these for each Upgrade request, hands it the transport and replays the request's head. Handshake,
control frames and fragments are the business of `websockets`' sans-IO `ServerProtocol`; whole masked text frames, which is
what clients send all day, are unmasked here, and what goes out are frames that were built once for all receivers.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import urlsplit

from uvicorn.config import Config
from uvicorn.server import ServerState
from websockets.frames import Frame, Opcode
from websockets.frames import apply_mask as apply_mask  # type: ignore[attr-defined]  # its C code, or its Python
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from tableforge.api.centrifuge import Conversation, Gateway
from tableforge.api.edge import session_cookie
from tableforge.api.peers import Peer, host_is_served, origin_is_ours, peer_of
from tableforge.config import Settings
from tableforge.errors import TableForgeError
from tableforge.hub.session import PARTING_SECONDS
from tableforge.hub.wheel import TimingWheel
from tableforge.protocol.close_codes import CloseCode
from tableforge.telemetry import COUNTERS

JSON_SUBPROTOCOL = Subprotocol("centrifuge-json")
PROTOBUF_SUBPROTOCOL = Subprotocol("centrifuge-protobuf")
SEND_BUFFER_BYTES = 64 * 1024
"""The kernel's share of a connection's backlog; without a bound it hides megabytes."""
PIECE_BYTES = 64 * 1024
"""What is gathered for one call of the system, at most."""
CLOSING_SECONDS = 5.0
FRAGMENTS_MAX = 256
"""Fragments of one message; empty ones cost nothing to send."""
ALLOWANCE_SECONDS = 60.0
"""How long a client may take for a large reply before its backlog counts as any other."""
FINAL_TEXT = 0x81
MASKED = 0x80


class Endpoint:
    """Everything the connections share: the gateway, the timing wheel, and who is connected from where."""

    def __init__(
        self,
        gateway: Gateway,
        settings: Settings,
        *,
        unready: Callable[[], TableForgeError | None],
    ) -> None:
        self.gateway = gateway
        self.wheel = TimingWheel()
        self.connections: set[Connection] = set()
        self._none = asyncio.Event()
        self._none.set()
        self._path = f"{settings.serving.base_path}ws"
        self._access = settings.access
        self._served = settings.served_hosts
        self._per_address = settings.limits.connections_per_address
        self._per_instance = settings.limits.connections
        self._unready = unready
        self._from: Counter[str] = Counter()
        self.due: list[Connection] = []
        """The connections with frames to be sent at the end of this loop turn."""

    def peer(self, request: Request, address: str) -> Peer:
        """Who asks, proxies considered."""
        return peer_of(
            headers_of(request),
            address=address,
            scheme="http",
            proxies=self._access.trusted_proxies,
        )

    def refusal(self, request: Request, peer: Peer) -> tuple[HTTPStatus, str] | None:
        """Why this handshake is refused; load is shed here, before the connect reply, so that clients back off."""
        origin = request.headers.get("Origin")
        if urlsplit(request.path).path not in {self._path, "/ws"}:
            return HTTPStatus.NOT_FOUND, f"The WebSocket is at {self._path}."
        if not host_is_served(peer.hostname, self._served):
            return HTTPStatus.MISDIRECTED_REQUEST, "This server does not answer for that host."
        if origin is not None and not origin_is_ours(origin, peer, self._access.allowed_origins):
            return (
                HTTPStatus.FORBIDDEN,
                "Pages of this origin may not connect. See ALLOWED_ORIGINS.",
            )
        if (error := self._unready()) is not None:
            return HTTPStatus.SERVICE_UNAVAILABLE, error.detail
        if self._per_instance and len(self.connections) > self._per_instance:
            return (
                HTTPStatus.SERVICE_UNAVAILABLE,
                "This server has as many connections as it takes.",
            )
        if (
            self._per_address
            and not peer.is_loopback
            and self._from[peer.address] >= self._per_address
        ):
            return HTTPStatus.TOO_MANY_REQUESTS, "Too many connections come from your address."
        return None

    def came(self, connection: "Connection") -> None:
        """A handshake begins."""
        self.connections.add(connection)
        self._none.clear()
        COUNTERS.connection_attempts += 1

    def left(self, connection: "Connection") -> None:
        """A connection is gone, however far it came."""
        self.connections.discard(connection)
        if not self.connections:
            self._none.set()

    def send_due(self) -> None:
        """Send what fell due for each connection, in one piece."""
        due = self.due.copy()
        self.due.clear()
        for connection in due:
            connection.send_due()

    async def wait_for_none(self) -> None:
        """Return once nobody is connected; the caller bounds the wait."""
        await self._none.wait()

    def opened(self, connection: "Connection") -> None:
        """A handshake succeeded."""
        self._from[connection.address] += 1
        COUNTERS.connections += 1

    def closed(self, connection: "Connection") -> None:
        """An open connection is gone."""
        COUNTERS.connections -= 1
        self._from[connection.address] -= 1
        if self._from[connection.address] <= 0:
            del self._from[connection.address]

    def protocol_class(self) -> type["Connection"]:
        """The class for uvicorn's `ws=`."""
        return type("BoundConnection", (Connection,), {"endpoint": self})


def headers_of(request: Request) -> list[tuple[bytes, bytes]]:
    """A handshake's headers in the form that the HTTP side works with."""
    return [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in request.headers.raw_items()
    ]


def header_at(data: bytes, at: int) -> tuple[int, int, bool] | None:
    """Where the frame's body begins, its size, and whether it is masked (RFC 6455, section 5.2); None if more must come."""
    have = len(data) - at
    if have < 2:
        return None
    second = data[at + 1]
    size, head = second & 0x7F, at + 6
    if size == 126:
        if have < 4:
            return None
        size, head = int.from_bytes(data[at + 2 : at + 4], "big"), at + 8
    elif size == 127:
        if have < 10:
            return None
        size, head = int.from_bytes(data[at + 2 : at + 10], "big"), at + 14
    return head, size, second >= MASKED


class Connection(asyncio.Protocol):
    """One WebSocket connection; see the module for who does what."""

    endpoint: Endpoint

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._server_connections = server_state.connections
        self._limit = self.endpoint.gateway.settings.message_bytes
        # The library's own limit lies above ours: its close code 1009 would be final for the JavaScript client.
        self._protocol = ServerProtocol(
            max_size=self._limit * 2 + 1024, select_subprotocol=select_subprotocol
        )
        self._buffer = b""
        self._outbox: list[bytes] = []
        self._outbox_bytes = 0
        self._due = self.endpoint.due
        self._fragments: list[bytes] = []
        self._fragments_bytes = 0
        self._open = False
        self._closing = False
        self._conversation: Conversation | None = None
        self.address = ""

    # asyncio's protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        # uvloop's transports are none by inheritance.
        transport = cast("asyncio.Transport", transport)
        self._transport = transport
        self._server_connections.add(self)  # type: ignore[arg-type]  # uvicorn asks for `shutdown` alone
        self.endpoint.came(self)
        raw = transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        transport.set_write_buffer_limits(high=self.endpoint.gateway.settings.buffer_bytes)
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if peer else ""

    def data_received(self, data: bytes) -> None:
        """Cut whole frames off what came in; the usual kind is taken here, the rest by the library."""
        if not self._open or self._closing:
            # Before the handshake's end and after our close frame the library alone listens.
            self._feed(data)
            return
        if self._buffer:
            data = self._buffer + data
        at = 0
        while not self._closing:
            header = header_at(data, at)
            if header is None:
                break
            body, size, masked = header
            if not masked or size > self._limit:
                why = f"message over {self._limit} bytes" if masked else "frame is not masked"
                self.close(CloseCode.BAD_REQUEST, why)
                break
            stop = body + size
            if stop > len(data):
                break
            if data[at] == FINAL_TEXT and not self._fragments:
                assert self._conversation is not None
                self._conversation.received(apply_mask(data[body:stop], data[body - 4 : body]))
            else:
                self._feed(data[at:stop])
            at = stop
        self._keep(data[at:])

    def write(self, frame: bytes) -> None:
        """Send a frame with all else that falls due in this loop turn: the system is called once for all of it.

        uvloop would call it for each. A member who moves gets the event and the answer, everybody what was committed
        together. What comes to more than a piece leaves at once: only the transport knows when a peer is behind.
        """
        outbox = self._outbox
        if not outbox:
            due = self._due
            if not due:
                self._loop.call_soon(self.endpoint.send_due)
            due.append(self)
        outbox.append(frame)
        self._outbox_bytes += len(frame)
        if self._outbox_bytes > PIECE_BYTES:
            self.send_due()

    def send_due(self) -> None:
        """Hand over what fell due; nothing if the connection is ending."""
        outbox = self._outbox
        if outbox:
            frames = outbox[0] if len(outbox) == 1 else b"".join(outbox)
            outbox.clear()
            self._outbox_bytes = 0
            if not self._transport.is_closing():
                try:
                    self._transport.write(frames)
                except (OSError, RuntimeError):  # its own end must not keep the others waiting
                    self._transport.abort()

    def buffered(self) -> int:
        """How many bytes the peer has not taken yet."""
        return self._transport.get_write_buffer_size() + self._outbox_bytes

    def _keep(self, rest: bytes) -> None:
        """What is left of the last read: a frame's beginning, or what came behind the frame that ended the talk."""
        self._buffer = b"" if self._closing else rest
        if self._closing:
            self._feed(rest)

    def eof_received(self) -> None:
        """See asyncio."""
        self._protocol.receive_eof()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._server_connections.discard(self)
        self._outbox.clear()
        self._outbox_bytes = 0
        self.endpoint.left(self)
        if self._open:
            self._open = False
            self.endpoint.closed(self)
        self._end_conversation()

    def allow(self, size: int) -> None:
        """Let one large reply exceed the buffer's bound for a while; whoever is behind already gets no more."""
        bound = self.endpoint.gateway.settings.buffer_bytes
        behind = self.buffered()
        if behind < bound and behind + size > bound // 2:
            self._transport.set_write_buffer_limits(high=behind + size + bound)
            self._loop.call_later(ALLOWANCE_SECONDS, self._end_allowance)

    def _end_allowance(self) -> None:
        if not self._transport.is_closing():
            self._transport.set_write_buffer_limits(
                high=self.endpoint.gateway.settings.buffer_bytes
            )

    def pause_writing(self) -> None:
        """The buffer's bound is passed: this client is too slow. It comes back and recovers by its position."""
        self.close(CloseCode.SLOW)

    def resume_writing(self) -> None:
        """See asyncio; nobody waits for it here."""

    # What uvicorn and the conversation call

    def shutdown(self) -> None:
        """uvicorn is about to stop."""
        if self._open:
            self.close(CloseCode.SHUTDOWN)
        else:
            self._transport.close()

    def close(self, code: CloseCode, reason: str = "") -> None:
        """Send a close frame and give the peer a few seconds to answer it."""
        if self._closing:
            return
        self._closing = True
        self._end_conversation()
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(int(code), reason or code.reason)
            self._flush()
        self._loop.call_later(CLOSING_SECONDS, self._transport.abort)

    def part(self, code: CloseCode) -> bool:
        """See `Wire`."""
        conversation = self._conversation
        if conversation is None or conversation.at_rest(lambda: self.close(code)):
            self.close(code)
            return True
        self._loop.call_later(PARTING_SECONDS / 2, self._part_unless_busy, code)
        return False

    def _part_unless_busy(self, code: CloseCode) -> None:
        """No further command was answered: go now, or behind the answer to what came at the last moment."""
        conversation = self._conversation
        if conversation is None or conversation.at_rest(lambda: self.close(code), 0.0):
            self.close(code)
        else:
            self._loop.call_later(PARTING_SECONDS / 2, self.close, code)

    def _end_conversation(self) -> None:
        conversation, self._conversation = self._conversation, None
        if conversation is not None:
            self.endpoint.wheel.cancel(conversation)
            conversation.lost()

    # Handshake, control frames, fragments

    def _feed(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._handshake(event)
            elif isinstance(event, Frame):
                self._frame(event)
        self._flush()

    def _flush(self) -> None:
        self.send_due()
        for out in self._protocol.data_to_send():
            if out:
                self._transport.write(out)
            else:
                self._transport.close()
        if self._protocol.parser_exc is not None:
            self._closing = True
            self._loop.call_later(CLOSING_SECONDS, self._transport.abort)

    def _handshake(self, request: Request) -> None:
        peer = self.endpoint.peer(request, self._peer)
        refusal = self.endpoint.refusal(request, peer)
        if refusal is not None:
            COUNTERS.connection_failures += 1
            status, text = refusal
            self._protocol.send_response(self._protocol.reject(status, text + "\n"))
            return
        response = self._protocol.accept(request)
        self._protocol.send_response(response)
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            COUNTERS.connection_failures += 1
            return
        self._flush()
        self.address = peer.address
        self._open = True
        self.endpoint.opened(self)
        gateway = self.endpoint.gateway
        # Without an Origin a cookie is nobody's: browsers always name theirs.
        cookie = session_cookie(headers_of(request)) if "Origin" in request.headers else ""
        self._conversation = Conversation(gateway, self, cookie=cookie)
        self.endpoint.wheel.schedule(self._conversation, gateway.settings.connect_seconds)
        if self._protocol.subprotocol == PROTOBUF_SUBPROTOCOL:
            self.close(CloseCode.INAPPROPRIATE_PROTOCOL, "only JSON is spoken here")

    def _frame(self, frame: Frame) -> None:
        if self._closing or self._conversation is None:
            return
        if frame.opcode is Opcode.BINARY:
            self.close(CloseCode.BAD_REQUEST, "text frames only")
        elif frame.opcode is Opcode.TEXT or frame.opcode is Opcode.CONT:
            self._fragments.append(bytes(frame.data))
            self._fragments_bytes += len(frame.data)
            if self._fragments_bytes > self._limit:
                self.close(CloseCode.BAD_REQUEST, f"message over {self._limit} bytes")
            elif len(self._fragments) > FRAGMENTS_MAX:
                self.close(CloseCode.BAD_REQUEST, f"message in over {FRAGMENTS_MAX} fragments")
            elif frame.fin:
                message, self._fragments = b"".join(self._fragments), []
                self._fragments_bytes = 0
                self._conversation.received(message)


def select_subprotocol(
    protocol: ServerProtocol, offered: Sequence[Subprotocol]
) -> Subprotocol | None:
    """JSON if it is asked for; protobuf is accepted only to be closed with a code that its clients understand."""
    for known in (JSON_SUBPROTOCOL, PROTOBUF_SUBPROTOCOL):
        if known in offered:
            return known
    return None
