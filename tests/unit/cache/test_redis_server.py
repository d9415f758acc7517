"""Who is to blame for an answer that is late, and whose an answer is."""

import asyncio
from typing import Any

import pytest

from tableforge.cache.breaker import FAILURES
from tableforge.cache.redis_link import LOST, Link, history
from tableforge.cache.redis_server import Server
from tableforge.config.redis_address import Address


class Wire(asyncio.Transport):
    """Where questions go to; answers are given by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        """Nothing is open."""


@pytest.fixture
async def server() -> Server:
    """A server that is connected, and answers when it is told to."""
    made = Server(
        Address("redis://cache", patience=1, use="cache"),
        bound=60,
        client="ada",
        reads=lambda: ([], lambda: None),
    )
    made._loop = asyncio.get_running_loop()
    made._link = Link()
    made._link.connection_made(Wire())
    made.breaker.close()
    return made


async def asked(server: Server, *commands: bytes) -> list[Any]:
    """Send commands, one turn for each, and return where their answers will be."""
    answers: list[Any] = []
    for command in commands:
        server.send((command,), answers.append)
        await asyncio.sleep(0)
    return answers


def answer(server: Server, data: bytes) -> None:
    assert server._link is not None
    server._link.data_received(data)


def look(server: Server, *, late: float) -> None:
    """All that is asked is overdue; look at it so many seconds after we wanted to."""
    now = server._loop.time()
    for turn in server._turns:
        turn.due = now - 1
    server._wake = now - late
    server._watch()


async def test_ca7_to_have_been_busy_ourselves_is_not_the_servers_fault(server: Server) -> None:
    answers = await asked(server, b"PING")
    look(server, late=0.5)
    assert server.breaker.failures == 0
    answer(server, b"+PONG\r\n")
    look(server, late=0.0)
    assert server.breaker.failures == 0
    assert answers == [b"PONG"]


async def test_ca7_turns_that_are_late_open_the_breaker_and_nobody_waits_on(server: Server) -> None:
    answers = await asked(server, *[b"PING"] * FAILURES)
    look(server, late=0.0)
    assert server.breaker.failures == FAILURES
    assert server.is_open
    assert server.state == "open"
    assert "60000 ms" in server.trouble
    assert answers == [LOST] * FAILURES
    assert await server.ask((b"PING",)) is None
    answer(server, b"+PONG\r\n")
    assert answers == [LOST] * FAILURES


async def test_ca7_an_answer_in_between_keeps_it_closed(server: Server) -> None:
    for _ in range(3):
        await asked(server, *[b"PING"] * (FAILURES - 1))
        look(server, late=0.0)
        answer(server, b"+PONG\r\n" * (FAILURES - 1))
        answers = await asked(server, b"PING")
        answer(server, b"+PONG\r\n")
        assert answers == [b"PONG"]
    assert server.breaker.failures == 3 * (FAILURES - 1)
    assert not server.is_open


async def test_ca7_a_connection_whose_count_is_wrong_is_given_up(server: Server) -> None:
    answers = await asked(server, b"PING")
    answer(server, b">2\r\n+invalidate\r\n_\r\n")
    answer(server, b"+PONG\r\n+SURPRISE\r\n")
    assert answers == [b"PONG"]
    assert server.is_open
    assert "nobody asked" in server.trouble


async def test_ca7_noise_is_no_answer(server: Server) -> None:
    answers = await asked(server, b"PING")
    answer(server, b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert answers == [LOST]
    assert server.is_open


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("# Replication\r\nrole:master\r\nmaster_replid:abc\r\n", b"abc"),
        (b"role:slave\r\nmaster_replid:abc\r\n", b""),
        (b"role:master\r\n", b""),
        (b"", b""),
        (None, b""),
        (7, b""),
    ],
)
def test_which_history_a_server_tells_of(told: object, expected: bytes) -> None:
    assert history(told) == expected
