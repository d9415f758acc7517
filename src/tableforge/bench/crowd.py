"""A crowd of players over real sockets, light enough to be measured against: frames made by hand, replies scanned.

Each player has one connection, speaks the Centrifuge client protocol, and moves its own piece at moments that were fixed
before: a slow server does not slow the crowd down, and latency counts from when the move was due.
"""

import asyncio
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from secrets import SystemRandom
from typing import Any, cast

import msgspec

from tableforge.bench.metronome import ticking
from tableforge.bench.tables import Seat
from tableforge.errors import Unavailable

TICK_MICROSECONDS = 250
CONNECTING_AT_ONCE = 50
CONNECT_SECONDS = 20.0
SETTLE_SECONDS = 60.0
COME_BACK_SECONDS = 0.2
CONNECT_ID = 1
SUBSCRIBE_ID = 2
FIRST_ID = 10
"""Ids of the commands of a connection: the move with number N has FIRST_ID + N."""

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: %b\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
SWITCHED = b"HTTP/1.1 101"
MOVE = (
    b'{"id":%d,"rpc":{"method":"room.command","data":{"room":"%b","id":"m%d","type":"token.move",'
    b'"token":"%b","x":%d.5,"y":%d}}}'
)


def text_frame(payload: bytes) -> bytes:
    """A client's text frame (RFC 6455, section 5.2). Its mask is zero: the server unmasks as ever, and we need not mask."""
    size = len(payload)
    if size < 126:
        return b"\x81%c\0\0\0\0%b" % (0x80 | size, payload)
    return b"\x81\xfe%b\0\0\0\0%b" % (size.to_bytes(2, "big"), payload)


PONG = text_frame(b"{}")


@dataclass(slots=True)
class Seen:
    """What the crowd counted. Latencies in microseconds, of the measured moves only; `acknowledged` has an offset a move."""

    acknowledged: "array[int]"
    others: "array[int]" = field(default_factory=lambda: array("Q"))
    own: "array[int]" = field(default_factory=lambda: array("Q"))
    replies: "array[int]" = field(default_factory=lambda: array("Q"))
    lateness: "array[int]" = field(default_factory=lambda: array("Q"))
    delivered: int = 0
    errors: int = 0
    out_of_order: int = 0
    reconnects: int = 0
    first_error: str = ""

    def error(self, text: str) -> None:
        """Count an error and keep the words of the first."""
        self.errors += 1
        self.first_error = self.first_error or text


class Crowd:
    """Players at their tables. `rate` in moves a second for each; the first `warm_up` rounds are not measured.

    With several `addresses` (host and port), the members of a room are spread over them.
    """

    def __init__(
        self,
        addresses: Sequence[tuple[str, int]],
        seats: Sequence[Seat],
        *,
        rate: float,
        warm_up: int,
        rounds: int,
    ) -> None:
        self.period = 1.0 / rate
        self.first = warm_up * len(seats)
        self.total = self.first + rounds * len(seats)
        self.seen = Seen(array("Q", bytes(8 * self.total)))
        # A round is every player's move once, at a moment of the period that is drawn once.
        chance = SystemRandom()
        self.players = [
            Player(self, seat, addresses[number % len(addresses)])
            for number, seat in enumerate(seats)
        ]
        chance.shuffle(self.players)
        for number, player in enumerate(self.players):
            player.number = number
        self._phases = sorted(chance.random() * self.period for _ in seats)
        self._began = 0.0
        self._next = 0
        self._reached = asyncio.Event()
        self._wanted = 0
        table_size = len(seats) // len({seat.room for seat in seats})
        self._deliveries = rounds * len(seats) * table_size
        self._complete = asyncio.Event()
        self.closing = False

    def due(self, move: int) -> float:
        """When a move is due."""
        turn, player = divmod(move, len(self.players))
        return self._began + turn * self.period + self._phases[player]

    async def sit_down(self) -> None:
        """Connect everybody and let them listen to their rooms; raises Unavailable when that fails."""
        for at in range(0, len(self.players), CONNECTING_AT_ONCE):
            few = self.players[at : at + CONNECTING_AT_ONCE]
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await asyncio.gather(*(player.connect() for player in few))
                    await asyncio.gather(*(player.ready for player in few))
            except (TimeoutError, OSError) as error:
                raise Unavailable(
                    "The measurement did not begin.",
                    f"The players could not connect: {self.seen.first_error or error!r}.",
                    "Look at the server's log.",
                ) from error

    async def play(self, upto: int) -> None:
        """Make all moves before number `upto` when they are due, and return when the last is sent."""
        if not self._began:
            self._began = time.monotonic() + 0.1
        self._wanted = upto
        self._reached.clear()
        with ticking(TICK_MICROSECONDS, self._tick):
            await self._reached.wait()

    async def settle(self) -> bool:
        """Wait until every measured move has arrived everywhere and is answered; False when some never did."""
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                await self._complete.wait()
        except TimeoutError:
            return False
        return True

    def look_whether_complete(self) -> None:
        """Called after each arrival: whether it was the last of the measured ones."""
        seen = self.seen
        if seen.delivered == self._deliveries and len(seen.replies) == self.total - self.first:
            self._complete.set()

    def leave(self) -> None:
        """Close every connection."""
        self.closing = True
        for player in self.players:
            player.leave()

    def _tick(self) -> None:
        now = time.monotonic()
        players, count = self.players, len(self.players)
        while self._next < self._wanted:
            due = self.due(self._next)
            if due > now:
                return
            if self._next >= self.first:
                self.seen.lateness.append(int((now - due) * 1_000_000))
            players[self._next % count].move(self._next)
            self._next += 1
        self._reached.set()


class Player(asyncio.Protocol):
    """One connection; `listening` from the subscribe reply until it is gone."""

    def __init__(self, crowd: Crowd, seat: Seat, address: tuple[str, int]) -> None:
        self._crowd = crowd
        self._host, self._port = address
        self._seen = crowd.seen
        self.seat = seat
        self.number = 0
        self._room = seat.room.encode()
        self._piece = seat.piece.encode()
        self._rest = b""
        self._switched = False
        self._transport: asyncio.Transport | None = None
        self.listening = False
        self._offset = 0
        self._epoch = ""
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[None]] = set()

    async def connect(self) -> None:
        """Open the socket; `ready` is done when the room is subscribed."""
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self, self._host, self._port)

    def leave(self) -> None:
        """Close the socket."""
        if self._transport is not None:
            self._transport.close()

    def move(self, number: int) -> None:
        """Send the move with this number."""
        if self._transport is None or not self.listening:
            self._seen.error("A move was due while its player was not connected.")
            return
        turn = number // len(self._crowd.players)
        payload = MOVE % (
            FIRST_ID + number,
            self._room,
            number,
            self._piece,
            turn % 28,
            self.number % 18,
        )
        self._transport.write(text_frame(payload))

    # asyncio's protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        # uvloop's transports are none by inheritance.
        self._transport = cast("asyncio.Transport", transport)
        self._rest, self._switched = b"", False
        self._transport.write(UPGRADE % f"{self._host}:{self._port}".encode())

    def _say_hello(self) -> None:
        assert self._transport is not None
        subscribe: dict[str, Any] = {"channel": f"room:{self.seat.room}"}
        if self._epoch:
            subscribe |= {"recover": True, "offset": self._offset, "epoch": self._epoch}
        hello = {"id": CONNECT_ID, "connect": {"token": self.seat.token, "name": "bench"}}
        for command in (hello, {"id": SUBSCRIBE_ID, "subscribe": subscribe}):
            self._transport.write(text_frame(msgspec.json.encode(command)))

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._transport, self.listening = None, False
        if self._crowd.closing:
            return
        if not self.ready.done():
            self._seen.error(f"The server closed a connection: {self._rest[:200]!r}")
            return
        self._seen.reconnects += 1
        asyncio.get_running_loop().call_later(COME_BACK_SECONDS, self._come_back)

    def _come_back(self) -> None:
        task = asyncio.get_running_loop().create_task(self._reconnect())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reconnect(self) -> None:
        try:
            await self.connect()
        except OSError:
            if not self._crowd.closing:
                asyncio.get_running_loop().call_later(COME_BACK_SECONDS, self._come_back)

    def data_received(self, data: bytes) -> None:
        """Cut whole frames off what came in; all of it came now."""
        if self._rest:
            data = self._rest + data
        if not self._switched:
            head, found, data = data.partition(b"\r\n\r\n")
            if not found:
                self._rest = head
                return
            if not head.startswith(SWITCHED):
                self._rest = head
                self._seen.error(f"The handshake was refused: {head[:200]!r}")
                self.leave()
                return
            self._switched = True
            self._say_hello()
        now = time.monotonic()
        at, have = 0, len(data)
        while have - at >= 2:
            size, head_end = data[at + 1], at + 2
            if size == 126:
                if have - at < 4:
                    break
                size, head_end = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            elif size == 127:
                if have - at < 10:
                    break
                size, head_end = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
            stop = head_end + size
            if stop > have:
                break
            if data[at] != 0x81 or data.find(b"\n", head_end, stop) >= 0:
                self._several(data[at], data[head_end:stop], now)
            else:
                self._take(data, head_end, stop, now)
            at = stop
        self._rest = data[at:] if at < have else b""

    def _several(self, opcode: int, payload: bytes, now: float) -> None:
        """A frame of several objects; or one that is none, a close frame as a rule."""
        if opcode != 0x81:
            self._seen.error(f"The server sent a frame of another kind: {payload[:120]!r}")
            return
        for line in payload.split(b"\n"):
            self._take(line, 0, len(line), now)

    def _take(self, data: bytes, start: int, stop: int, now: float) -> None:
        """One object: a publication and a reply are recognized by their first bytes, the rest is parsed."""
        if data.startswith(b'{"push":', start):
            found = data.find(b'"id":"m', start, stop)
            if found >= 0:
                move = int(data[found + 7 : data.find(b'"', found + 7, stop)])
                offset = int(data[data.rfind(b":", found, stop) + 1 : stop - 3])
                self._arrived(move, offset, now)
        elif data.startswith(b'{"id":', start):
            comma = data.find(b",", start, stop)
            command = int(data[start + 6 : comma])
            if command < FIRST_ID:
                self._welcome(data[start:stop], now)
            elif data.startswith(b',"rpc":', comma):
                move = command - FIRST_ID
                self._seen.acknowledged[move] = int(
                    data[data.rfind(b":", comma, stop) + 1 : stop - 3]
                )
                if move >= self._crowd.first:
                    self._seen.replies.append(int((now - self._crowd.due(move)) * 1_000_000))
                    self._crowd.look_whether_complete()
            else:
                self._seen.error(data[start:stop].decode("utf-8", "replace"))
        elif stop - start == 2 and self._transport is not None:
            self._transport.write(PONG)

    def _arrived(self, move: int, offset: int, now: float) -> None:
        if offset != self._offset + 1:
            self._seen.out_of_order += 1
        self._offset = offset
        crowd, seen = self._crowd, self._seen
        if move < crowd.first:
            return
        seen.delivered += 1
        crowd.look_whether_complete()
        microseconds = int((now - crowd.due(move)) * 1_000_000)
        if crowd.players[move % len(crowd.players)] is self:
            seen.own.append(microseconds)
        else:
            seen.others.append(microseconds)

    def _welcome(self, payload: bytes, now: float) -> None:
        """The replies to connect and subscribe, with what was missed while the connection was gone."""
        reply = msgspec.json.decode(payload)
        if "error" in reply:
            self._seen.error(payload.decode("utf-8", "replace"))
            self.leave()
            return
        if "subscribe" not in reply:
            return
        result = reply["subscribe"]
        if result.get("was_recovering") and not result.get("recovered"):
            self._seen.error("A player came back and could not be given what it had missed.")
        if not result.get("recovered"):
            self._offset = result.get("offset", 0)
        self._epoch = result["epoch"]
        self.listening = True
        for publication in result.get("publications", ()):
            name = publication["data"].get("id", "")
            if name.startswith("m"):
                self._arrived(int(name[1:]), publication["offset"], now)
        if not self.ready.done():
            self.ready.set_result(None)
