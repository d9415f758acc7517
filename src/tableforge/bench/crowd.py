"""A crowd of players over real sockets, light enough to be measured against: frames made by hand, replies scanned.

Each player has one connection, speaks the Centrifuge client protocol, and moves its own piece at moments that were fixed
before: a slow server does not slow the crowd down, and latency counts from when the move was due.
"""

import asyncio
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from secrets import SystemRandom
from typing import Any

import msgspec

from tableforge.bench.metronome import ticking
from tableforge.bench.tables import Seat
from tableforge.bench.wire import PONG, Wire
from tableforge.errors import Unavailable

TICK_MICROSECONDS = 250
CONNECTING_AT_ONCE = 50
CONNECT_SECONDS = 20.0
SETTLE_SECONDS = 60.0
COME_BACK_SECONDS = 0.2
CONNECT_ID = 1
SUBSCRIBE_ID = 2
COLUMNS = 90_000
"""Far more than anybody moves: a piece that came to stand where it stands would be answered and not stored, which happens
once moves between are refused."""
FIRST_ID = 10
"""Ids of the commands of a connection: the move with number N has FIRST_ID + N."""

MOVE = (
    b'{"id":%d,"rpc":{"method":"room.command","data":{"room":"%b","id":"m%d","type":"token.move",'
    b'"token":"%b","x":%d.5,"y":%d}}}'
)


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
    refused: int = 0
    """Of the errors those moves that were answered with a refusal: they arrive nowhere."""
    out_of_order: int = 0
    reconnects: int = 0
    first_error: str = ""

    def error(self, text: str) -> None:
        """Count an error and keep the words of the first."""
        self.errors += 1
        self.first_error = self.first_error or text


class Crowd:
    """Players at their tables. `rate` in moves a second for each; the first `warm_up` rounds are not measured.

    With several `addresses` (host and port), the members of a room are spread over them. `make` makes players who speak
    another server's protocol. Ids of commands count from `named_from`, for a second crowd at the same tables.
    """

    def __init__(
        self,
        addresses: Sequence[tuple[str, int]],
        seats: Sequence[Seat],
        *,
        rate: float,
        warm_up: int,
        rounds: int,
        make: "Callable[[Crowd, Seat, tuple[str, int]], Player] | None" = None,
        named_from: int = 0,
    ) -> None:
        self.named_from = named_from
        self._table_size = len(seats) // len({seat.room for seat in seats})
        self.period, self.first, self.total, self.seen = _asked_for(
            len(seats), rate, warm_up, rounds
        )
        # A round is every player's move once, at a moment of the period that is drawn once.
        chance = SystemRandom()
        self.players = [
            (make or Player)(self, seat, addresses[number % len(addresses)])
            for number, seat in enumerate(seats)
        ]
        chance.shuffle(self.players)
        for number, player in enumerate(self.players):
            player.number = number
        self._phases = sorted(chance.random() for _ in seats)
        self._began = 0.0
        self._next = 0
        self._reached = asyncio.Event()
        self._wanted = 0
        self._complete = asyncio.Event()
        self.closing = False

    def again(self, *, rate: float, warm_up: int, rounds: int) -> None:
        """Begin another measurement on the same connections, once all of the one before has settled."""
        self.named_from += self.total
        self.period, self.first, self.total, self.seen = _asked_for(
            len(self.players), rate, warm_up, rounds
        )
        for player in self.players:
            player.counts_for(self.seen)
        self._began, self._next = 0.0, 0
        self._complete.clear()

    def due(self, move: int) -> float:
        """When a move is due."""
        turn, player = divmod(move, len(self.players))
        return self._began + (turn + self._phases[player]) * self.period

    async def sit_down(self, seated: Callable[[int], None] = lambda count: None) -> None:
        """Connect everybody and let them listen to their rooms, telling how many are; raises Unavailable when that fails."""
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
            seated(at + len(few))

    async def play(self, upto: int) -> None:
        """Make all moves before number `upto` when they are due, and return when the last is sent."""
        if not self._began:
            self._began = time.monotonic() + 0.1
        self._wanted = upto
        self._reached.clear()
        with ticking(TICK_MICROSECONDS, self._tick):
            await self._reached.wait()

    async def settle(self) -> bool:
        """Wait until every measured move is answered, and has arrived everywhere unless it was refused; False when some never did."""
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                await self._complete.wait()
        except TimeoutError:
            return False
        return True

    def look_whether_complete(self) -> None:
        """Called after each arrival: whether it was the last of the measured ones."""
        seen = self.seen
        moves = self.total - self.first - seen.refused
        if seen.delivered == moves * self._table_size and len(seen.replies) == moves:
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


def _asked_for(
    players: int, rate: float, warm_up: int, rounds: int
) -> tuple[float, int, int, Seen]:
    """The period, the first move that counts, how many there are, and what is counted."""
    total = (warm_up + rounds) * players
    return 1.0 / rate, warm_up * players, total, Seen(array("Q", bytes(8 * total)))


class Player(Wire):
    """One connection; `listening` from the subscribe reply until it is gone."""

    def __init__(self, crowd: Crowd, seat: Seat, address: tuple[str, int]) -> None:
        super().__init__(address, seat.room.encode())
        self._crowd = crowd
        self._seen = crowd.seen
        self.seat = seat
        self.number = 0
        self._piece = seat.piece.encode()
        self.listening = False
        self._offset = 0
        self._epoch = ""
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[None]] = set()

    def counts_for(self, seen: Seen) -> None:
        """Count there from now on."""
        self._seen = seen

    def move(self, number: int) -> None:
        """Send the move with this number."""
        if not self.listening:
            self._seen.error("A move was due while its player was not connected.")
            return
        name = self._crowd.named_from + number
        # Never where the piece stands already: that would be no move.
        turn = name // len(self._crowd.players)
        payload = MOVE % (
            FIRST_ID + number,
            self._room,
            name,
            self._piece,
            turn % COLUMNS,
            self.number % 18,
        )
        self.send(payload)

    # See `Wire`

    def switched(self) -> None:
        """Say hello, from the last known position."""
        subscribe: dict[str, Any] = {"channel": f"room:{self.seat.room}"}
        if self._epoch:
            subscribe |= {"recover": True, "offset": self._offset, "epoch": self._epoch}
        hello = {"id": CONNECT_ID, "connect": {"token": self.seat.token, "name": "bench"}}
        for command in (hello, {"id": SUBSCRIBE_ID, "subscribe": subscribe}):
            self.send(msgspec.json.encode(command))

    def lost(self) -> None:
        """Come back, unless it never began."""
        self.listening = False
        if self._crowd.closing:
            return
        if not self.ready.done():
            self._seen.error("The server closed a connection.")
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

    def odd(self, opcode: int, payload: bytes) -> None:
        """Count it, a close frame as a rule."""
        what = "sent a frame of another kind" if opcode else "refused the handshake"
        self._seen.error(f"The server {what}: {payload[:200]!r}")

    def received(self, data: bytes, start: int, stop: int, now: float) -> None:
        """One object: a publication and a reply are recognized by their first bytes, the rest is parsed."""
        if data.startswith(b'{"push":', start):
            found = data.find(b'"id":"m', start, stop)
            if found >= 0:
                name = int(data[found + 7 : data.find(b'"', found + 7, stop)])
                offset = int(data[data.rfind(b":", found, stop) + 1 : stop - 3])
                self.arrived(name - self._crowd.named_from, offset, now)
        elif data.startswith(b'{"id":', start):
            comma = data.find(b",", start, stop)
            command = int(data[start + 6 : comma])
            if command < FIRST_ID:
                self._welcome(data[start:stop], now)
            elif data.startswith(b',"rpc":', comma):
                move = command - FIRST_ID
                self.answered(move, int(data[data.rfind(b":", comma, stop) + 1 : stop - 3]), now)
            else:
                self._seen.error(data[start:stop].decode("utf-8", "replace"))
                if command - FIRST_ID >= self._crowd.first:
                    self._seen.refused += 1
                    self._crowd.look_whether_complete()
        elif stop - start == 2 and self.transport is not None:
            self.transport.write(PONG)

    def answered(self, move: int, offset: int, now: float) -> None:
        """A move of this player's was answered."""
        self._seen.acknowledged[move] = offset
        if move >= self._crowd.first:
            self._seen.replies.append(int((now - self._crowd.due(move)) * 1_000_000))
            self._crowd.look_whether_complete()

    def arrived(self, move: int, offset: int, now: float) -> None:
        """A move reached this player."""
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
                self.arrived(int(name[1:]) - self._crowd.named_from, publication["offset"], now)
        if not self.ready.done():
            self.ready.set_result(None)
