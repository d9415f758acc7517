"""Players who never give up, and a ledger of all that they were promised and told.

Each has one connection, moves its own piece at a steady rate, and sends a move again under its id until it is answered,
as programs do that use the client libraries. Whatever breaks, three things must hold: an acknowledged command stands in
the log once, at the offset that was named; every player is told everything once and in the log's order; and what one
player sent in order stands in order.
"""

import asyncio
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from secrets import SystemRandom
from typing import NamedTuple

import msgspec

from tableforge.bench.tables import Seat
from tableforge.bench.wire import PONG, Wire

CHANCE = SystemRandom()

BEAT_SECONDS = 0.02
REPLY_SECONDS = 5.0
"""A command without an answer is sent again on the same connection; the client libraries' own time-out."""
RETRY_SECONDS = 0.2
PING_GRACE_SECONDS = 5.0
CONNECT_SECONDS = 5.0
BACK_OFF_SECONDS = (0.1, 8.0)
"""The first step and the longest; jittered and doubled as the client libraries do."""
WAITING_MAX = 4
"""Commands of one player on their way at once; while they are, what falls due is left out."""
ILL_SECONDS = 1.0
"""A player who waits for an answer for so long is counted as affected."""
CLOSE = 0x88
ASKED_TO_GO = (3001, 3011)
"""Close codes of an instance that drains, or has more than its share."""
CONNECT_ID, SUBSCRIBE_ID, FIRST_ID = 1, 2, 10


class Event(msgspec.Struct):
    """Of an event, whose command it was."""

    id: str = ""


class Publication(msgspec.Struct):
    """An event at its place."""

    offset: int
    data: Event


class Push(msgspec.Struct):
    """What came unasked."""

    pub: Publication | None = None


class Connected(msgspec.Struct):
    """The period of the server's pings, in seconds."""

    ping: int = 0


class Subscribed(msgspec.Struct):
    """Where a player stands now, and what it had missed."""

    epoch: str = ""
    offset: int = 0
    recovered: bool = False
    was_recovering: bool = False
    publications: list[Publication] = []


class Placed(msgspec.Struct):
    """Where a command's last event stands."""

    offset: int


class Answered(msgspec.Struct):
    """The reply to a command."""

    data: Placed


class Failure(msgspec.Struct):
    """A refusal; a temporary one asks to be tried again."""

    code: int
    message: str = ""
    temporary: bool = False


class Message(msgspec.Struct):
    """Any object that a server sends."""

    id: int = 0
    push: Push | None = None
    connect: Connected | None = None
    subscribe: Subscribed | None = None
    rpc: Answered | None = None
    error: Failure | None = None


_decode = msgspec.json.Decoder(Message).decode


@dataclass(slots=True)
class Order:
    """One command: when it was first and last sent, and where it was said to stand (0 while unanswered)."""

    name: str
    player: int
    number: int
    first_sent: float
    last_sent: float = 0.0
    offset: int = 0
    refused: bool = False
    """It was, once, and sent again: what the player sent behind it may stand before it."""


@dataclass(slots=True)
class Table:
    """A room as its members were told of it, and as its log was read so far."""

    seat: Seat
    told: dict[int, str] = field(default_factory=dict)
    logged: dict[str, int] = field(default_factory=dict)
    head: int = 0
    read: int = 0


@dataclass(slots=True)
class Wrongs:
    """What must never happen, counted, with the words of the first few."""

    lost: int = 0
    doubled: int = 0
    disordered: int = 0
    failed: int = 0
    said: list[str] = field(default_factory=list)

    def add(self, kind: str, what: str, count: int = 1) -> None:
        """Count one of them."""
        setattr(self, kind, getattr(self, kind) + count)
        if len(self.said) < 20:
            self.said.append(f"{kind}: {what}")

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return bool(self.lost or self.doubled or self.disordered or self.failed)


@dataclass(slots=True)
class Timed:
    """Moments (seconds of the monotonic clock) with how long something took then (microseconds)."""

    at: "array[float]" = field(default_factory=lambda: array("d"))
    took: "array[int]" = field(default_factory=lambda: array("Q"))

    def add(self, at: float, seconds: float) -> None:
        """Keep one."""
        self.at.append(at)
        self.took.append(max(0, int(seconds * 1_000_000)))

    def between(self, begin: float, end: float) -> "array[int]":
        """What took how long between two moments."""
        pairs = zip(self.at, self.took, strict=True)
        return array("Q", (took for at, took in pairs if begin <= at < end))


class Spell(NamedTuple):
    """From when to when (seconds of the monotonic clock) a player was not served; `asked` by the server to go elsewhere."""

    player: int
    began: float
    ended: float
    asked: bool


class Company:
    """All players; `addresses` gives each its door. `rate` in moves a second for each."""

    def __init__(
        self, seats: Sequence[Seat], addresses: Sequence[tuple[str, int]], *, rate: float
    ) -> None:
        self.period = 1.0 / rate
        self.tables: dict[str, Table] = {}
        for seat in seats:
            self.tables.setdefault(seat.room, Table(seat))
        self.players = [
            Steady(self, seat, addresses[number], number) for number, seat in enumerate(seats)
        ]
        self.orders: dict[str, Order] = {}
        self.wrongs = Wrongs()
        self.replies = Timed()
        self.arrivals = Timed()
        self.spells: list[Spell] = []
        self.acknowledged = 0
        self.refusals: Counter[str] = Counter()
        self.closes: Counter[str] = Counter()
        self.resting = True
        self.closing = False
        self._beating: asyncio.Task[None] | None = None

    async def sit_down(self, deadline: float) -> None:
        """Connect everybody; raises TimeoutError."""
        self._beating = asyncio.get_running_loop().create_task(self._beat())
        await self.until(lambda: all(player.listening for player in self.players), deadline)

    async def leave(self) -> None:
        """Close every connection."""
        self.closing = True
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
        for player in self.players:
            player.leave()

    async def until(self, holds: Callable[[], bool], seconds: float) -> None:
        """Wait for a condition; raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while not holds():  # noqa: ASYNC110 - looked at as often as the players move
                await asyncio.sleep(BEAT_SECONDS)

    def well(self) -> bool:
        """Whether everybody is connected, and nobody waits for an answer for long."""
        return all(player.ill_since is None for player in self.players)

    async def rest(self, seconds: float) -> None:
        """Send nothing new, and wait until all is answered and told; what is not by then is lost."""
        self.resting = True
        try:
            await self.until(lambda: not any(self._unfinished()), seconds)
        except TimeoutError:
            for number, lines in enumerate(self._unfinished()):
                for line in lines:
                    self.wrongs.add(("failed", "lost")[number % 2], line)

    def _unfinished(self) -> Iterator[list[str]]:
        for player in self.players:
            yield [f"{order.name} was never answered" for order in player.waiting.values()]
            behind = player.table.head - player.offset
            yield [f"player {player.number} misses the last {behind} events"] if behind else []

    def compare(self, logs: dict[str, list[tuple[int, str]]]) -> None:
        """Hold what was said so far against the rooms' logs, read since the last time; only while all rest."""
        for room, log in logs.items():
            self._compare_table(self.tables[room], log)
        answered = sorted(
            (order for order in self.orders.values() if order.offset),
            key=lambda order: (order.player, order.number),
        )
        before: Order | None = None
        for order in answered:
            place = self.players[order.player].table.logged.get(order.name)
            if place != order.offset:
                kind = "disordered" if place else "lost"
                self.wrongs.add(kind, f"{order.name} was to be at {order.offset}, not {place}")
            if order.refused:
                continue
            if before and before.player == order.player and before.offset >= order.offset:
                self.wrongs.add("disordered", f"{order.name} stands before {before.name}")
            before = order
        for order in answered:
            del self.orders[order.name]

    def _compare_table(self, table: Table, log: list[tuple[int, str]]) -> None:
        for offset, name in log:
            if offset != table.read + 1:
                self.wrongs.add("lost", f"the log has nothing between {table.read} and {offset}")
            table.read = offset
            if name.startswith("m") and table.logged.setdefault(name, offset) != offset:
                self.wrongs.add("doubled", f"{name} stands twice in the log")
            told = table.told.pop(offset, name)
            if told != name:
                self.wrongs.add("disordered", f"told {told} at {offset}, where {name} stands")
        if table.head > table.read:
            self.wrongs.add("lost", f"told of {table.head}, the log ends at {table.read}")

    async def _beat(self) -> None:
        began = time.monotonic()
        for number, player in enumerate(self.players):
            player.come_at(began + 2.0 * number / len(self.players))
        while True:
            now = time.monotonic()
            for player in self.players:
                player.look(now)
            await asyncio.sleep(BEAT_SECONDS)


class Steady(Wire):
    """One player. `ill_since` the loss of the connection, or the sending of what waits long, until a command is answered."""

    def __init__(self, company: Company, seat: Seat, address: tuple[str, int], number: int) -> None:
        super().__init__(address, seat.room.encode())
        self._company = company
        self._seat = seat
        self.table = company.tables[seat.room]
        self.number = number
        self.listening = False
        self.numb = False
        self.ill_since: float | None = None
        self._asked_to_go = False
        self.offset = 0
        self._epoch = ""
        self.waiting: dict[int, Order] = {}
        """By their number: sent, or to be sent, in this order."""
        self._asked: dict[int, Order] = {}
        self._moves = 0
        self._frames = FIRST_ID
        self._due = 0.0
        self._next_try: float | None = None
        self._tries = 0
        self._deadline = 0.0
        """When a silent connection, or one that does not come about, is given up."""
        self._ping = 0
        self._connecting: asyncio.Task[None] | None = None

    def come_at(self, when: float) -> None:
        """Connect at this moment."""
        self._next_try = when
        self._due = when + CHANCE.random() * self._company.period

    def look(self, now: float) -> None:
        """Do what is due."""
        if self.numb:
            return
        if self._next_try is not None:
            if now >= self._next_try:
                self._next_try = None
                self._deadline = now + CONNECT_SECONDS
                self._connecting = asyncio.get_running_loop().create_task(self._connect())
        elif now > self._deadline:
            self._give_up()
        if now >= self._due:
            self._due = max(self._due + self._company.period, now)
            if not self._company.resting and len(self.waiting) < WAITING_MAX:
                self._moves += 1
                order = Order(f"m{self.number}-{self._moves}", self.number, self._moves, now)
                self.waiting[self._moves] = self._company.orders[order.name] = order
                if self.listening:
                    self._ask(order, now)
        for order in self.waiting.values():
            if self.ill_since is None and now - order.first_sent > ILL_SECONDS:
                self.ill_since = order.first_sent
            if self.listening and now - order.last_sent > REPLY_SECONDS:
                self._ask(order, now)

    async def _connect(self) -> None:
        try:
            await self.connect()
        except OSError:
            self.lost()

    def _give_up(self) -> None:
        self._deadline = time.monotonic() + CONNECT_SECONDS
        if self._connecting is not None and not self._connecting.done():
            self._connecting.cancel()
            self.lost()
        elif self.transport is not None:
            self.transport.abort()

    def _ask(self, order: Order, now: float) -> None:
        self._frames += 1
        self._asked[self._frames] = order
        order.last_sent = now
        command = {
            "room": self._seat.room,
            "id": order.name,
            "type": "token.move",
            "token": self._seat.piece,
            "x": order.number % 28 + 0.5,
            "y": self.number % 18,
        }
        self.send(
            msgspec.json.encode(
                {"id": self._frames, "rpc": {"method": "room.command", "data": command}}
            )
        )

    # See `Wire`

    def switched(self) -> None:
        """Say hello, from the last known position."""
        subscribe: dict[str, object] = {"channel": f"room:{self._seat.room}"}
        if self._epoch:
            subscribe |= {"recover": True, "offset": self.offset, "epoch": self._epoch}
        hello = {"id": CONNECT_ID, "connect": {"token": self._seat.token, "name": "bench"}}
        for command in (hello, {"id": SUBSCRIBE_ID, "subscribe": subscribe}):
            self.send(msgspec.json.encode(command))

    def lost(self) -> None:
        """Come back, a little later each time."""
        if self._company.closing:
            return
        now = time.monotonic()
        self.listening = False
        self.ill_since = self.ill_since or now
        self._asked.clear()
        first, longest = BACK_OFF_SECONDS
        pause = min(longest, first + CHANCE.uniform(0, first * 2**self._tries))
        self._tries = min(self._tries + 1, 10)
        self._next_try = now + pause

    def odd(self, opcode: int, payload: bytes) -> None:
        """A refused handshake, or a close frame with its code."""
        kind = "handshake" if not opcode else "closed" if opcode == CLOSE else "frame"
        what = payload.split(b"\r\n")[0].decode("latin-1") if not opcode else ""
        if opcode == CLOSE:
            code = int.from_bytes(payload[:2], "big")
            what = str(code)
            self._asked_to_go = self.ill_since is None and code in ASKED_TO_GO
            if 3500 <= code < 4000:
                self._company.wrongs.add("failed", f"sent away for good: {what} {payload[2:]!r}")
        self._company.closes[f"{kind} {what}".strip()] += 1
        if self.transport is not None:
            self.transport.abort()

    def received(self, data: bytes, start: int, stop: int, now: float) -> None:
        """One object."""
        self._deadline = now + (self._ping or CONNECT_SECONDS) + PING_GRACE_SECONDS
        if stop - start == 2:
            if self.transport is not None:
                self.transport.write(PONG)
            return
        message = _decode(data[start:stop])
        if message.push is not None:
            if message.push.pub is not None:
                self.arrived(message.push.pub, now)
        elif message.id < FIRST_ID:
            self._welcomed(message, now)
        else:
            self._answered(message, now)

    def _answered(self, message: Message, now: float) -> None:
        order = self._asked.pop(message.id, None)
        if order is None or order.offset:
            return
        company = self._company
        if message.error is not None:
            company.refusals[f"{message.error.code} {message.error.message}"] += 1
            order.refused = True
            if message.error.temporary:
                order.last_sent = now - REPLY_SECONDS + RETRY_SECONDS
            else:
                company.wrongs.add("failed", f"{order.name} was refused: {message.error.message}")
                del self.waiting[order.number], company.orders[order.name]
            return
        assert message.rpc is not None
        order.offset = message.rpc.data.offset
        del self.waiting[order.number]
        company.acknowledged += 1
        company.replies.add(now, now - order.first_sent)
        since = self.ill_since
        if since and all(now - one.first_sent <= ILL_SECONDS for one in self.waiting.values()):
            company.spells.append(Spell(self.number, since, now, self._asked_to_go))
            self.ill_since, self._asked_to_go = None, False

    def _welcomed(self, message: Message, now: float) -> None:
        if message.error is not None:
            self._company.refusals[f"{message.error.code} {message.error.message}"] += 1
            if self.transport is not None:
                self.transport.abort()
        elif message.connect is not None:
            self._ping = message.connect.ping
        elif message.subscribe is not None:
            found = message.subscribe
            if self._epoch and not found.recovered:
                self._company.wrongs.add(
                    "lost", f"player {self.number} could not be told what it missed"
                )
            if not found.recovered:
                self.offset = found.offset
                self.table.head = max(self.table.head, found.offset)
            self._epoch = found.epoch
            for publication in found.publications:
                self.arrived(publication, now)
            self.listening, self._tries, self._due = True, 0, min(self._due, now)
            if self._company.resting and not self.waiting:
                self.ill_since = None
            for order in self.waiting.values():
                self._ask(order, now)

    def arrived(self, publication: Publication, now: float) -> None:
        """The next event, as far as the player is concerned; what must not be is counted."""
        company, offset, name = self._company, publication.offset, publication.data.id
        if offset <= self.offset:
            company.wrongs.add("doubled", f"player {self.number} was told of {offset} again")
            return
        if offset != self.offset + 1:
            company.wrongs.add(
                "lost",
                f"player {self.number} was not told of {self.offset + 1} to {offset - 1}",
                offset - self.offset - 1,
            )
        self.offset = offset
        self.table.head = max(self.table.head, offset)
        if self.table.told.setdefault(offset, name) != name:
            company.wrongs.add("disordered", f"player {self.number} was told of another {offset}")
        order = company.orders.get(name)
        if order is not None and order.player != self.number:
            company.arrivals.add(now, now - order.first_sent)
