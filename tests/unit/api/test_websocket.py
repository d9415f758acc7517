"""How frames leave a connection. The transport is the only part that is not real."""

import asyncio

from uvicorn.config import Config
from uvicorn.server import ServerState

from tableforge.api.websocket import PIECE_BYTES, Connection, Endpoint
from tableforge.config import Settings
from tableforge.protocol.close_codes import CloseCode
from tests.machines.session_world import Server, SlowLog
from tests.unit.api.test_websocket_fuzz import HANDSHAKE, Transport


class Pieces(Transport):
    """Keeps each piece that the system would be called for."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        super().write(data)
        self.pieces.append(bytes(data))


def opened() -> tuple[Connection, Pieces]:
    """An open connection to which nothing was written yet but the handshake's answer."""
    endpoint = Endpoint(Server(SlowLog()).gateway, Settings(), unready=lambda: None)
    connection = endpoint.protocol_class()(Config(app=lambda: None), ServerState(), app_state={})
    transport = Pieces()
    connection.connection_made(transport)
    connection.data_received(HANDSHAKE)
    transport.pieces.clear()
    return connection, transport


def failing(_: bytes | bytearray | memoryview) -> None:
    """As uvloop does for a handle that is closed."""
    raise RuntimeError("the handler is closed")


async def turn() -> None:
    """Let what was due in this loop turn leave."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_gw25_what_falls_due_in_one_loop_turn_leaves_in_one_piece() -> None:
    connection, transport = opened()
    for frame in (b"one", b"two", b"three"):
        connection.write(frame)
    assert connection.buffered() == 11
    assert not transport.pieces
    await turn()
    assert transport.pieces == [b"onetwothree"]
    assert not connection.buffered()
    connection.write(b"four")
    await turn()
    assert transport.pieces == [b"onetwothree", b"four"]


async def test_gw25_what_falls_due_for_several_leaves_in_one_piece_each() -> None:
    connection, transport = opened()
    other, others = opened()
    for frame in (b"one", b"two"):
        for each in (connection, other):
            each.write(frame)
    await turn()
    assert transport.pieces == others.pieces == [b"onetwo"]


async def test_gw25_a_goodbye_does_not_overtake_what_was_due() -> None:
    connection, transport = opened()
    connection.write(b"one")
    connection.close(CloseCode.SHUTDOWN)
    assert transport.pieces[0] == b"one"
    assert transport.pieces[1].startswith(b"\x88")
    await turn()
    assert len(transport.pieces) == 2


async def test_what_is_due_for_a_connection_that_ends_is_dropped() -> None:
    connection, transport = opened()
    connection.write(b"one")
    transport.abort()
    await turn()
    connection.write(b"two")
    connection.connection_lost(None)
    await turn()
    assert not transport.pieces
    assert not connection.buffered()


async def test_gw25_what_comes_to_more_than_a_piece_does_not_wait() -> None:
    connection, transport = opened()
    for number in range(100):
        connection.write(bytes([number]) * 10_000)
        assert connection.buffered() <= PIECE_BYTES
    await turn()
    assert b"".join(transport.pieces) == b"".join(bytes([n]) * 10_000 for n in range(100))


async def test_gw25_a_connection_that_fails_keeps_no_other_waiting() -> None:
    connection, transport = opened()
    other, others = opened()
    other._due = other.endpoint.due = connection.endpoint.due
    transport.write = failing  # type: ignore[assignment, method-assign]  # a handle that went meanwhile
    connection.write(b"one")
    other.write(b"two")
    await turn()
    assert transport.is_closing()
    assert others.pieces == [b"two"]
