"""Any bytes at all into a connection: it answers, or closes with a code of the contract; it never raises, and never hangs on.

The transport is the only part that is not real.
"""

import asyncio
import json
import struct
from collections.abc import Callable
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from uvicorn.config import Config
from uvicorn.server import ServerState

from tableforge.api.websocket import Connection, Endpoint
from tableforge.config import Settings
from tableforge.protocol.close_codes import CloseCode
from tests.machines.session_world import Server, SlowLog

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
LIBRARY_CODES = {1000, 1001, 1002, 1005, 1007, 1009}
"""What the WebSocket library itself answers to broken framing and to the peer's own close."""


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.ended = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.ended = True

    def abort(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.ended

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        return

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 5) if name == "peername" else default


def frames_of(written: bytes) -> list[tuple[int, bytes]]:
    """The server's frames behind the handshake's answer: opcode and payload."""
    rest = written.partition(b"\r\n\r\n")[2]
    found = []
    while rest:
        size, head = rest[1], 2
        if size == 126:
            size, head = struct.unpack("!H", rest[2:4])[0], 4
        elif size == 127:
            size, head = struct.unpack("!Q", rest[2:10])[0], 10
        found.append((rest[0] & 0x0F, rest[head : head + size]))
        rest = rest[head + size :]
    return found


def with_connection(play: Callable[[Connection], None]) -> list[tuple[int, bytes]]:
    """Let somebody play with an open connection, and return the frames that came back."""

    async def run() -> list[tuple[int, bytes]]:
        server = Server(SlowLog())
        endpoint = Endpoint(server.gateway, Settings(), unready=lambda: None)
        transport = Transport()
        connection = endpoint.protocol_class()(
            Config(app=lambda: None), ServerState(), app_state={}
        )
        connection.connection_made(transport)
        connection.data_received(HANDSHAKE)
        assert transport.written.startswith(b"HTTP/1.1 101")
        play(connection)
        for _ in range(20):
            await asyncio.sleep(0)
        connection.connection_lost(None)
        assert not endpoint.connections
        assert not server.hub.sessions()
        return frames_of(transport.written)

    return asyncio.run(run())


def masked(payload: bytes, first: int = 0x81, mask: bytes = b"\x5a\x01\xff\x10") -> bytes:
    size = len(payload)
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 65_536:
        head = struct.pack("!BBH", first, 0xFE, size)
    else:
        head = struct.pack("!BBQ", first, 0xFF, size)
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def assert_orderly(frames: list[tuple[int, bytes]]) -> None:
    """Only JSON objects, control frames, and at most one close, with a known code and plain words, at the end."""
    for place, (opcode, payload) in enumerate(frames):
        if opcode == 0x8:
            code = struct.unpack("!H", payload[:2])[0] if payload else 1005
            assert code in {int(one) for one in CloseCode} | LIBRARY_CODES
            assert place == len(frames) - 1
            if code >= 3000:
                assert payload[2:].decode().strip()
        elif opcode == 0x1:
            for line in payload.split(b"\n"):
                json.loads(line)
        else:
            assert opcode in {0x9, 0xA}


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 2**40)
    | st.floats(allow_nan=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["token", "channel", "data", "method", "offset", "limit", "type", "id", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
requests = st.dictionaries(
    st.sampled_from(
        [
            "connect",
            "subscribe",
            "unsubscribe",
            "publish",
            "presence",
            "history",
            "rpc",
            "refresh",
            "ping",
            "send",
        ]
    ),
    json_values,
    max_size=2,
)
commands = st.builds(
    lambda number, request: json.dumps({"id": number, **request}).encode(),
    st.integers(-1, 2**33),
    requests,
)


@given(st.lists(st.binary(max_size=200), max_size=5))
@example([b"\x81\xfe"])
@example([b"\x88\x80\x00\x00\x00\x00"])
@example([b"\xff" * 64])
def test_any_bytes(chunks: list[bytes]) -> None:
    def play(connection: Connection) -> None:
        for chunk in chunks:
            connection.data_received(chunk)

    assert_orderly(with_connection(play))


@given(
    st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=300)), max_size=6),
    st.integers(1, 50),
)
def test_any_frames_cut_anywhere(frames: list[tuple[int, bytes]], step: int) -> None:
    sent = b"".join(masked(payload, first) for first, payload in frames)

    def play(connection: Connection) -> None:
        for at in range(0, len(sent), step):
            connection.data_received(sent[at : at + step])

    assert_orderly(with_connection(play))


@settings(max_examples=200)
@given(st.lists(commands, max_size=6))
@example(
    [
        b'{"id":1,"connect":{"token":"user-gm"}}',
        b'{"id":2,"history":{"channel":"room:x","limit":-9}}',
    ]
)
def test_any_commands_before_and_after_connect(messages: list[bytes]) -> None:
    def play(connection: Connection) -> None:
        for message in messages:
            connection.data_received(masked(message))
        connection.data_received(masked(b'{"id":900,"connect":{"token":"user-gm"}}'))
        for message in messages:
            connection.data_received(masked(message))

    frames = with_connection(play)
    assert_orderly(frames)
    answered = [
        one["id"]
        for opcode, payload in frames
        if opcode == 1
        for line in payload.split(b"\n")
        if "id" in (one := json.loads(line))
    ]
    assert all(isinstance(number, int) for number in answered)
