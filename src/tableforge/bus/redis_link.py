"""One connection to a Redis or Valkey, which carries both what we publish and what we listen to.

redis-py reads addresses, makes TLS contexts and asks Sentinels; messages go through a protocol of our own over hiredis'
parser (docs/adr/0004-one-connection-of-our-own-to-the-bus.md has the figures). RESP3 tells what was published from what was
asked, so that one connection does for both: its order is the server's, and there is one thing to lose.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

import hiredis
from redis.asyncio.connection import (
    Connection,
    SSLConnection,
    parse_url,
)
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from tableforge.config import server_name
from tableforge.errors import StartRefused

QUEUED_BYTES: Final = 8 << 20
"""What may wait to be written to one server; a connection with more is given up, and what waited with it."""

PARSED: Final = object()

CLOSED: Final = "closed by us"
"""How a connection ends that was finished."""

Command = tuple[bytes, ...]
Push = Callable[[list[Any]], None]
"""Told of each message that the server sends by itself, as it came: kind, channel, content."""

CONNECT_TROUBLE: Final = (OSError, RedisError)
"""What `Address.connect` raises for a server that is away or refuses."""


class Link(asyncio.Protocol):
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

    async def greet(self, commands: list[Command]) -> None:
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


class Address:
    """Where one server of the bus is and how to speak to it; `name` holds no secret.

    `patience` (seconds) is how long the caller waits for a connection, and how often Sentinels are asked. Raises `StartRefused` for a URL that cannot be meant.
    """

    def __init__(self, url: str, *, patience: float) -> None:
        self.name = server_name(url)
        self._patience = patience
        self._sentinel: Sentinel | None = None
        self._service = ""
        try:
            described = self._sentinels(url) if "+" in url.partition(":")[0] else _described(url)
            server = described.pop("connection_class", Connection)(**described)
            self._tls = server.ssl_context.get() if isinstance(server, SSLConnection) else None
        except (TypeError, ValueError, OSError, RedisError) as error:
            raise StartRefused(
                "The server did not start.",
                f"The bus cannot be reached as {self.name}: {error}",
                "Mend REDIS_URL or REDIS_BUS_URLS: docs/settings.md.",
            ) from error
        # redis-py's connection is never opened: it knows what the address' parts mean and which do not exist.
        self._path: str = getattr(server, "path", "")
        self._host: str = getattr(server, "host", "")
        self._port: int = getattr(server, "port", 0)
        self._greeting = _greeting(server)

    async def connect(self, link: Callable[[], Link], client: str) -> Link:
        """A connection that was greeted and may be used; `client` is its name in `CLIENT LIST`.

        The caller bounds the time. Raises CONNECT_TROUBLE.
        """
        loop = asyncio.get_running_loop()
        if self._path:
            transport, made = await loop.create_unix_connection(link, self._path)
        else:
            if self._sentinel is not None:
                self._host, self._port = await self._master()
            transport, made = await loop.create_connection(
                link, self._host, self._port, ssl=self._tls
            )
        try:
            await made.greet([*self._greeting, (b"CLIENT", b"SETNAME", _word(client))])
        except BaseException:
            transport.abort()
            raise
        return made

    async def wait_until_moved(self) -> None:
        """Return once the Sentinels name another master than the one that was connected to; never without Sentinels."""
        if self._sentinel is None:
            await asyncio.get_running_loop().create_future()
        while True:
            await asyncio.sleep(self._patience)
            try:
                if await self._master() != (self._host, self._port):
                    return
            except CONNECT_TROUBLE:
                # Sentinels that are away, or have not agreed yet, say nothing against a server that works.
                continue

    async def close(self) -> None:
        """Let go of the connections to the Sentinels."""
        if self._sentinel is not None:
            await self._sentinel.aclose()

    async def _master(self) -> tuple[str, int]:
        assert self._sentinel is not None
        try:
            host, port = await self._sentinel.discover_master(self._service)
        except MasterNotFoundError:
            raise ConnectionError(
                f"no Sentinel answers with a master for {self._service}"
            ) from None
        return str(host), int(port)

    def _sentinels(self, url: str) -> dict[str, Any]:
        """Take `redis+sentinel://user:password@host:26379,host:26379/service/db?...` apart.

        User and password are for the servers; the Sentinels' own are `sentinel_username` and `sentinel_password`. With
        `rediss+sentinel` both speak TLS.
        """
        parts = urlsplit(url)
        credentials, _, hosts = parts.netloc.rpartition("@")
        self._service, _, number = parts.path.strip("/").partition("/")
        if not self._service:
            raise ValueError("the name of the service is missing: redis+sentinel://host:26379/name")
        scheme = parts.scheme.partition("+")[0]
        described = _described(
            f"{scheme}://{credentials}@{hosts.partition(',')[0]}/{number}?{parts.query}"
        )
        own = {name: described.pop(f"sentinel_{name}", None) for name in ("username", "password")}
        if scheme == "rediss":
            own |= {name: value for name, value in described.items() if name.startswith("ssl_")}
            own["ssl"] = True
        each = [urlsplit(f"//{host}") for host in hosts.split(",")]
        # All of them but the last may be silent, and there is time left to connect.
        patience = self._patience / (len(each) + 1)
        self._sentinel = Sentinel(  # type: ignore[no-untyped-call]  # redis-py leaves it so
            [(one.hostname or "localhost", one.port or 26_379) for one in each],
            sentinel_kwargs=own
            | {
                "socket_timeout": patience,
                "socket_connect_timeout": patience,
                "retry": Retry(NoBackoff(), 0),
            },
        )
        return described


def _greeting(server: Any) -> list[Command]:
    """The commands after which a connection may be used, from redis-py's description of it."""
    hello = ["HELLO", "3"]
    if server.username or server.password:
        hello += ["AUTH", server.username or "default", server.password or ""]
    greeting: list[Command] = [tuple(word.encode() for word in hello)]
    if server.db:
        greeting.append((b"SELECT", str(server.db).encode()))
    return greeting


def _word(text: str) -> bytes:
    """A name as CLIENT SETNAME takes it."""
    return "".join(sign if sign.isascii() and sign.isalnum() else "-" for sign in text).encode()


def _described(url: str) -> dict[str, Any]:
    return dict(parse_url(url))
