"""Bounds of a request that never comes to its end, against a server of two lines."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import uvicorn
from uvicorn.server import ServerState

from tableforge.api import listener
from tableforge.api.listener import Listener

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def answer(_scope: Any, receive: Any, send: Any) -> None:
    """Read the body to its end and answer its size."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message["body"]), message["more_body"]
    body = str(size).encode()
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-length", str(len(body)).encode())],
        }
    )
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def streams(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Streams]:
    monkeypatch.setattr(listener, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(listener, "SILENT_SECONDS", 1.5)
    config = uvicorn.Config(answer, lifespan="off", log_config=None)
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: Listener(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    yield reader, writer
    writer.close()
    server.close()
    await server.wait_closed()


async def whole(reader: asyncio.StreamReader) -> bytes:
    """Everything until the server closes the connection, which it does soon; what we send meanwhile may be a reset."""
    answered = b""
    async with asyncio.timeout(30):
        with contextlib.suppress(ConnectionResetError):
            while block := await reader.read(65_536):
                answered += block
    return answered


def code_in(answer_: bytes) -> str:
    """The slug of the problem document that was answered."""
    head, _, body = answer_.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    code: str = msgspec.json.decode(body)["code"]
    return code


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"\r\n",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nhost: a\r\nx-a: ",
        b"POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\nabc",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"GET / HTTP/1.1\r\n\r\nGET / HT",
        b"GET / HTTP/1.1\r\n\r\n\r\n",
    ],
)
async def test_ht21_a_request_that_does_not_go_on_ends_its_connection(
    streams: Streams, begun: bytes
) -> None:
    reader, writer = streams
    writer.write(begun)
    answered = await whole(reader)
    assert answered.count(b"200 OK") == begun.count(b"\r\n\r\nG") + begun.endswith(b"\r\n\r\n\r\n")


async def test_ht21_a_head_that_trickles_is_cut(streams: Streams) -> None:
    reader, writer = streams
    writer.write(b"GET / HTTP/1.1\r\n")
    ended = asyncio.create_task(whole(reader))
    for number in range(100):
        if ended.done():
            break
        writer.write(b"x-%d: y\r\n" % number)
        await asyncio.sleep(0.05)
    assert await ended == b""


@pytest.mark.parametrize(
    "begun",
    [
        b"GET / HTTP/1.1\r\nx-a: ",
        b"GET /",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-a: ",
    ],
)
async def test_ht21_a_head_without_end_is_refused(streams: Streams, begun: bytes) -> None:
    reader, writer = streams
    writer.write(begun)
    await writer.drain()
    ended = asyncio.create_task(whole(reader))
    # A piece at a time, so that nothing is left unread in the socket when the server closes it: that would be a reset.
    for _ in range(100):
        if ended.done():
            break
        writer.write(b"a" * 4096)
        await asyncio.sleep(0.005)
    assert code_in(await ended) == "too-large"


async def test_ht21_many_small_headers_are_refused_as_well(streams: Streams) -> None:
    reader, writer = streams
    writer.write(b"GET / HTTP/1.1\r\n")
    ended = asyncio.create_task(whole(reader))
    for _ in range(100):
        if ended.done():
            break
        writer.write(b"x: y\r\n" * 500)
        await asyncio.sleep(0.005)
    assert code_in(await ended) == "too-large"


async def test_ht21_a_body_that_comes_slowly_is_taken(streams: Streams) -> None:
    reader, writer = streams
    writer.write(b"POST / HTTP/1.1\r\nconnection: close\r\ncontent-length: 80000\r\n\r\n")
    for _ in range(8):
        writer.write(b"a" * 10_000)
        await asyncio.sleep(0.25)
    answered = await whole(reader)
    assert b"200 OK" in answered
    assert answered.endswith(b"80000")


async def test_ht1_what_is_no_http_is_answered_with_a_problem(streams: Streams) -> None:
    reader, writer = streams
    writer.write(b"FOO / HTTP/1.1\r\nhost: a\r\n\r\n")
    assert code_in(await whole(reader)) == "malformed"
