"""Addresses of Redis and Valkey servers as REDIS_URL and its like say them: plain, TLS, Unix sockets, Sentinels.

redis-py reads addresses, makes TLS contexts and asks Sentinels. What goes through a connection is its user's: the bus and the
cache have protocols of their own over hiredis' parser.
"""

import asyncio
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlsplit

from redis.asyncio.connection import Connection, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from tableforge.config.fleet import RedisKnobs, server_name, split_address
from tableforge.errors import StartRefused

Command = tuple[bytes, ...]

CONNECT_TROUBLE: Final = (OSError, RedisError)
"""What `Address.connect` raises for a server that is away or refuses."""


class Conversation(asyncio.Protocol, ABC):
    """The protocol of a connection to Redis."""

    @abstractmethod
    async def greet(self, commands: Sequence[Command]) -> None:
        """Introduce ourselves and await the answers; raises `OSError` when they are not what they must be."""


L = TypeVar("L", bound=Conversation)


def bus_urls(knobs: RedisKnobs) -> list[str]:
    """The servers that carry the bus, one or several."""
    if knobs.bus_urls:
        # A comma separates addresses only before the next scheme: Sentinels are listed with commas too.
        return [part.strip() for part in re.split(r",(?=\s*[a-z+]+://)", knobs.bus_urls)]
    return [knobs.url or _of_host(knobs)]


def cache_url(knobs: RedisKnobs) -> str | None:
    """The server that keeps the cache, which also carries the bus if no others are named; None without one."""
    return knobs.url or (_of_host(knobs) if knobs.host else None)


def _of_host(knobs: RedisKnobs) -> str:
    password = f":{quote(knobs.password, safe='')}@" if knobs.password else ""
    host = knobs.host or "localhost"
    host = f"[{host}]" if ":" in host else host
    return f"redis://{password}{host}:{knobs.port}/{knobs.db}"


class Address:
    """Where one server is and how to speak to it; `name` holds no secret, `use` is what it is for.

    `patience` (seconds) is how long the caller waits for a connection, and how often Sentinels are asked. Raises `StartRefused` for a URL that cannot be meant.
    """

    def __init__(self, url: str, *, patience: float, use: str = "bus") -> None:
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
                f"The {use} cannot be reached as {self.name}: {error}",
                "Mend REDIS_URL or REDIS_BUS_URLS: docs/settings.md.",
            ) from error
        # redis-py's connection is never opened: it knows what the address' parts mean and which do not exist.
        self._path: str = getattr(server, "path", "")
        self._host: str = getattr(server, "host", "")
        self._port: int = getattr(server, "port", 0)
        self._greeting = _greeting(server)

    async def connect(self, link: Callable[[], L], client: str) -> L:
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
        parts = split_address(url)
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
