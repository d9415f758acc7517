"""The bus on one or several Redis or Valkey servers.

Redis says nothing when its pub/sub goes silent: a connection can stay up and healthy while nothing comes through it any more
(centrifugal/centrifugo#1189, redis/redis-py#2417). So each instance sends a message of its own round each server, the canary,
and believes the server for as long as it comes back in time. Whatever is wrong is mended in one way: the connection is made
anew, through Sentinel where there is one, and everything is listened to again.
"""

import asyncio
import contextlib
import secrets
import struct
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from time import monotonic
from typing import Any, Final

import structlog

from tableforge.bus import BusServer, Hear, Resumed
from tableforge.bus.redis_link import CLOSED, Link
from tableforge.config import RedisKnobs
from tableforge.config.redis_address import CONNECT_TROUBLE, Address, bus_urls
from tableforge.errors import StartRefused
from tableforge.telemetry import BUS_LAG, COUNTERS

FIRST_PAUSE: Final = 0.1
LAST_PAUSE: Final = 2.0
"""Seconds between two attempts to connect: the first, and the longest; a random half is taken off."""
PATIENCE_SECONDS: Final = 2.0
"""How long a connection may take to open, unless the silence bound is longer."""
CLOSE_SECONDS: Final = 1.0
CHANCE: Final = secrets.SystemRandom()
CHANNELS_AT_ONCE: Final = 500
"""Channels in one SUBSCRIBE: a server serves nobody else meanwhile."""
CANARIES_PER_SILENCE: Final = 4

CANARY: Final = struct.Struct("<8sd")
"""Which connection it belongs to, and the clock when it was sent; the loop's own clock counts milliseconds."""

SEAL_BYTES: Final = 16

log = structlog.get_logger(__name__)


class RedisBus:
    """See `Bus`. `origin` names this process among the instances, `silence_seconds` is the bound of BU4.

    Channels are spread over the servers by their names, those of a server that is away stay there: other instances may
    still hear it. Raises `StartRefused` for addresses that cannot be meant.
    """

    def __init__(
        self, knobs: RedisKnobs, *, silence_seconds: float, origin: str, secret: str = ""
    ) -> None:
        self._prefix = f"tableforge:{knobs.pub_sub_db}:"
        patience = max(PATIENCE_SECONDS, silence_seconds)
        self._servers = [
            Server(
                Address(url, patience=patience), self._prefix, origin, silence_seconds, Seal(secret)
            )
            for url in bus_urls(knobs)
        ]
        self._places: dict[str, tuple[Server, bytes]] = {}
        names = [server.name for server in self._servers]
        if len(set(names)) < len(names):
            raise StartRefused(
                "The server did not start.",
                f"REDIS_BUS_URLS names a server twice: {', '.join(names)}.",
                "Name each once.",
            )

    async def start(self, hear: Hear, resumed: Resumed) -> None:
        """See `Bus`."""
        for server in self._servers:
            server.start(hear, resumed)

    async def close(self) -> None:
        """See `Bus`."""
        await asyncio.gather(*(server.close() for server in self._servers))

    def publish(self, channel: str, message: bytes) -> None:
        """See `Bus`."""
        server, wire = self._place(channel)
        server.publish(wire, message)

    def listen(self, channel: str) -> None:
        """See `Bus`."""
        server, wire = self._places[channel] = self._place(channel)
        server.listen(wire, channel)

    def unlisten(self, channel: str) -> None:
        """See `Bus`."""
        server, wire = self._place(channel)
        self._places.pop(channel, None)
        server.unlisten(wire)

    def carries(self, channel: str) -> bool:
        """See `Bus`."""
        server, wire = self._place(channel)
        return server.carries(wire)

    def servers(self) -> list[BusServer]:
        """See `Bus`."""
        return [BusServer(server.name, server.trouble) for server in self._servers]

    def _place(self, channel: str) -> "tuple[Server, bytes]":
        """Where a channel lives, and its name there.

        By highest random weight (Thaler and Ravishankar 1998): a server more or less moves only its own share.
        """
        place = self._places.get(channel)
        if place is not None:
            return place
        wire = f"{self._prefix}{channel}".encode()
        home = self._servers[0]
        if len(self._servers) > 1:
            home = max(
                self._servers,
                key=lambda server: blake2b(f"{server.name} {channel}".encode()).digest(),
            )
        return home, wire


class Seal:
    """Proves that a message was sent, on this channel, by somebody who knows the instances' common secret (RFC 7693, keyed)."""

    def __init__(self, secret: str) -> None:
        key = blake2b(secret.encode(), person=b"tableforge bus").digest()
        self._begun = blake2b(key=key, digest_size=SEAL_BYTES)

    def _of(self, channel: bytes, message: bytes) -> bytes:
        digest = self._begun.copy()
        digest.update(b"%d:%b" % (len(channel), channel))
        digest.update(message)
        return digest.digest()

    def on(self, channel: bytes, message: bytes) -> bytes:
        """The message with its seal in front."""
        return self._of(channel, message) + message

    def broken(self, channel: bytes, content: bytes) -> bytes | None:
        """The message behind its seal; None if that is not ours."""
        message = content[SEAL_BYTES:]
        good = secrets.compare_digest(content[:SEAL_BYTES], self._of(channel, message))
        return message if good else None


class Server:
    """One server of the bus: its connection, its canary, and what is listened to there.

    Channels are named as on the wire, in bytes, and told to `hear` and `resumed` by the names that were asked for.
    """

    def __init__(
        self, address: Address, prefix: str, origin: str, silence_seconds: float, seal: "Seal"
    ) -> None:
        self.name = address.name
        self._address = address
        self._origin = origin
        self._silence = silence_seconds
        self._seal = seal
        self._warned = False
        self._canary_channel = f"{prefix}:canary:{origin}".encode()
        self._losses_channel = f"{prefix}:losses".encode()
        self._channels: dict[bytes, str] = {}
        self._changed: set[bytes] = set()
        self._confirmed: set[bytes] = set()
        self._begun: list[str] = []
        self._link: Link | None = None
        self._token = b""
        self._proven = False
        self._heard_at = 0.0
        self._lossy = False
        self._why = "not connected yet"
        self._hear: Hear
        self._resumed: Resumed
        self._task: asyncio.Task[None] | None = None

    def start(self, hear: Hear, resumed: Resumed) -> None:
        """Connect and stay connected, in the background."""
        COUNTERS.bus_servers += 1
        self._loop = asyncio.get_running_loop()
        self._hear = hear
        self._resumed = resumed
        self._task = self._loop.create_task(self._keep_connected())

    async def close(self) -> None:
        """Send what waits, and let go."""
        link, self._link = self._link, None
        task, self._task = self._task, None
        if link is not None:
            await link.finish(CLOSE_SECONDS)
        if task is not None:
            COUNTERS.bus_servers -= 1
            task.cancel()
            await asyncio.wait((task,), timeout=CLOSE_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._address.close()

    def publish(self, channel: bytes, message: bytes) -> None:
        """Send with what else is published in this turn, or drop and remember that something was."""
        link = self._link
        if link is None:
            self._lossy = True
            COUNTERS.bus_dropped += 1
        else:
            COUNTERS.bus_out += 1
            link.send((b"PUBLISH", channel, self._seal.on(channel, message)))

    def listen(self, channel: bytes, name: str) -> None:
        """Hear a channel, now and after each break."""
        if channel not in self._channels:
            self._channels[channel] = name
            self._change(channel)

    def unlisten(self, channel: bytes) -> None:
        """Hear it no longer; what is on its way is left alone."""
        if self._channels.pop(channel, None) is not None:
            self._confirmed.discard(channel)
            self._change(channel)

    def carries(self, channel: bytes) -> bool:
        """Whether the canary came back in time, and the channel, when it is listened to, was begun."""
        return self._alive() and (channel in self._confirmed or channel not in self._channels)

    @property
    def trouble(self) -> str:
        """Why nothing is carried, or nothing."""
        return "" if self._alive() else self._why or "our own messages do not come back"

    def _alive(self) -> bool:
        link = self._link
        return (
            self._proven
            and monotonic() - self._heard_at < self._silence
            and link is not None
            and not link.lost.done()
        )

    # The connection

    async def _keep_connected(self) -> None:
        pause = FIRST_PAUSE
        while True:
            proven = False
            try:
                async with asyncio.timeout(max(PATIENCE_SECONDS, self._silence)):
                    link = await self._address.connect(
                        lambda: Link(self._pushed, self._tell_resumed), f"tableforge-{self._origin}"
                    )
                why, proven = await self._use(link)
                if why == CLOSED:
                    return
            except TimeoutError:
                why = "it does not answer"
            except CONNECT_TROUBLE as error:
                why = str(error) or type(error).__name__
            except Exception as error:
                # Whatever it was, to give up here would be silence for good.
                why = repr(error)
                log.error("connecting to the bus failed", server=self.name, exc_info=error)
            if why != self._why:
                log.warning("the bus carries nothing", server=self.name, reason=why)
            self._why = why
            pause = FIRST_PAUSE if proven else min(pause * 2, LAST_PAUSE)
            await asyncio.sleep(pause * CHANCE.uniform(0.5, 1.0))

    async def _use(self, link: Link) -> tuple[str, bool]:
        """Listen to everything and watch the canary until the connection is lost or not to be believed."""
        self._link, self._token = link, secrets.token_bytes(8)
        self._heard_at = monotonic()
        moved = self._loop.create_task(self._address.wait_until_moved())
        try:
            self._subscribe((self._canary_channel, self._losses_channel, *self._channels))
            if self._lossy:
                self._lossy = False
                told = self._seal.on(self._losses_channel, self._origin.encode())
                link.send((b"PUBLISH", self._losses_channel, told))
            while monotonic() - self._heard_at < self._silence:
                sent = CANARY.pack(self._token, monotonic())
                link.send((b"PUBLISH", self._canary_channel, sent))
                link.send((b"HELLO",))  # its answer says whether it is still a master
                await asyncio.wait(
                    (link.lost, moved),
                    timeout=self._silence / CANARIES_PER_SILENCE,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if link.lost.done():
                    return link.lost.result(), self._proven
                if moved.done():
                    return "the Sentinels name another master", self._proven
            silent = f"our own messages have not come back for {self._silence:g} s"
            return ". ".join(filter(None, (silent, link.refusal))), self._proven
        finally:
            moved.cancel()
            COUNTERS.bus_servers_up -= self._proven
            self._link, self._proven, self._lossy = None, False, True
            self._confirmed.clear()
            self._begun.clear()
            self._changed.clear()
            link.lose("given up")

    # What is listened to

    def _change(self, channel: bytes) -> None:
        if self._link is not None:
            if not self._changed:
                self._loop.call_soon(self._send_changes)
            self._changed.add(channel)

    def _send_changes(self) -> None:
        changed, self._changed = self._changed, set()
        self._subscribe([channel for channel in changed if channel in self._channels])
        gone = [channel for channel in changed if channel not in self._channels]
        for part in _parts(gone):
            self._send((b"UNSUBSCRIBE", *part))

    def _subscribe(self, channels: Iterable[bytes]) -> None:
        for part in _parts(list(channels)):
            self._send((b"SUBSCRIBE", *part))

    def _send(self, command: tuple[bytes, ...]) -> None:
        if self._link is not None:
            self._link.send(command)

    # What comes

    def _pushed(self, push: list[Any]) -> None:
        kind, channel, content = push
        if kind == b"message":
            name = self._channels.get(channel)
            if name is not None:
                message = self._seal.broken(channel, content)
                if message is None:
                    self._refuse(name)
                    return
                if self._begun:
                    self._tell_resumed()
                COUNTERS.bus_in += 1
                try:
                    self._hear(name, message)
                except Exception as error:
                    # It counts as missed; the connection, and all else that it carries, does not suffer for it.
                    log.error("a message could not be taken", channel=name, exc_info=error)
                    self._begun.append(name)
            elif channel == self._canary_channel:
                self._hear_canary(content)
            elif channel == self._losses_channel and self._seal.broken(channel, content) not in (
                None,
                self._origin.encode(),
            ):
                self._begun = [self._channels[one] for one in self._confirmed]
        elif kind == b"subscribe" and channel in self._channels:
            self._confirmed.add(channel)
            self._begun.append(self._channels[channel])

    def _refuse(self, name: str) -> None:
        """Leave a message alone that no instance of ours sent; if one did, with another secret, it counts as missed."""
        if not self._warned:
            self._warned = True
            log.warning(
                "a message on the bus is not ours: somebody else speaks there, or ADMIN_TOKEN differs between instances",
                server=self.name,
                channel=name,
            )
        if name not in self._begun:
            self._begun.append(name)

    def _tell_resumed(self) -> None:
        if self._begun:
            begun, self._begun = self._begun, []
            self._resumed(begun)

    def _hear_canary(self, content: bytes) -> None:
        now = monotonic()
        if len(content) != CANARY.size:
            return
        token, sent = CANARY.unpack(content)
        if token == self._token and now - sent < self._silence:
            BUS_LAG.observe(now - sent)
            self._heard_at = now
            if not self._proven:
                self._proven = True
                COUNTERS.bus_servers_up += 1
                self._why = ""
                log.info("the bus carries", server=self.name)


def _parts(channels: list[bytes]) -> Iterator[list[bytes]]:
    for start in range(0, len(channels), CHANNELS_AT_ONCE):
        yield channels[start : start + CHANNELS_AT_ONCE]
