"""A simulated client: it does what the Centrifuge libraries do, and trusts what it hears.

It speaks to one server at a time, recovers by its last position, sends again under the same id what was not answered, and
goes to another server when the one it speaks to does not answer.
"""

from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw, Struct

from tableforge.domain.commands import Command, HouseCommand, JoinRoom
from tableforge.errors import TableForgeError
from tableforge.protocol import codec
from tableforge.protocol.channels import room_channel, room_of
from tableforge.rooms.live import Reply
from tests.reader import Reader
from tests.simulation.checks import NOTHING, TEMPORARY, Answered, Refusal, Sent
from tests.simulation.servers import Line, Server

if TYPE_CHECKING:
    from tests.simulation.world import World

CONNECT_SECONDS = 0.6
ANSWER_SECONDS = 1.0
HOUSE_SECONDS = 1.0


class Pub(Struct):
    """A publication."""

    data: Raw
    offset: int


class Off(Struct):
    """An unsubscribe push."""

    code: int


class Push(Struct):
    """Something that nobody asked for."""

    channel: str
    pub: Pub | None = None
    unsubscribe: Off | None = None


class Joined(Struct):
    """A subscribe result."""

    epoch: str = ""
    offset: int = 0
    recovered: bool = False
    publications: tuple[Pub, ...] = ()
    data: Raw = NOTHING


class Shown(Struct):
    """A snapshot."""

    epoch: str
    offset: int
    room: Raw


class Rpc(Struct):
    """An RPC result."""

    data: Answered


class Frame(Struct):
    """What a server sends."""

    id: int = 0
    error: Refusal | None = None
    connect: dict[str, object] | None = None
    subscribe: Joined | None = None
    rpc: Rpc | None = None
    push: Push | None = None


_decode = msgspec.json.Decoder(Frame).decode
_decode_shown = msgspec.json.Decoder(Shown).decode
_encode = msgspec.json.encode


class Client:
    """One user's client. `positions` is where it stands in each room: what it holds for true."""

    def __init__(self, world: "World", user: str) -> None:
        self._world = world
        self._checks = world.checks
        self.process = world.process
        self.user = user
        self.positions: dict[str, tuple[str, int]] = {}
        self.views: dict[str, Reader] = {}
        """Each room as it is on this client's screen; left out in most runs, to save time."""
        self.on: set[str] = set()
        self._joining: set[str] = set()
        self.out: set[str] = set()
        """Rooms in which it has no seat, as far as it knows."""
        self.unanswered: dict[Sent, None] = {}
        self._line: Line | None = None
        self._connected = False
        self._number = 0
        self._asked: dict[int, Sent | tuple[str, int]] = {}
        self._last: Sent | None = None
        self.connect()

    @property
    def line(self) -> Line | None:
        """Its connection, if it has one."""
        return self._line

    # Connection

    def connect(self) -> None:
        """Go to a server, whichever the balancer picks."""
        if self._line is not None:
            return
        server = self._world.pick_server()
        self._connected = False
        self.on.clear()
        self._joining.clear()
        self._asked.clear()
        self._last = None
        if not server.up:
            self._later(self._world.net_latency() + 0.02, self.connect)
            return
        line = self._line = Line(self._world, self, server)
        self._world.clock.note(f"{self.user} goes to {server.process.name}")
        self._number += 1
        line.send(b'{"id":%d,"connect":{"token":"%b"}}' % (self._number, self.user.encode()))
        self._later(CONNECT_SECONDS, lambda: self._give_up(line, connected=False))

    def _later(self, seconds: float, what: "object") -> None:
        self.process.call_later(seconds, what)  # type: ignore[arg-type]  # a callable without arguments

    def _give_up(self, line: Line, *, connected: bool) -> None:
        if self._line is line and self._connected is connected:
            line.cut(notice=0.0, server_notice=self._world.net_latency())

    def closed(self, line: Line, code: int) -> None:
        """See `Peer`."""
        if line is self._line:
            self._line = None
            self._later(self._world.chance.uniform(0.01, 0.2), self.connect)

    # Frames

    def frame(self, line: Line, data: bytes) -> None:
        """See `Peer`."""
        if line is not self._line:
            return
        frame = _decode(data)
        if frame.push is not None:
            self._pushed(frame.push)
        elif frame.connect is not None:
            self._connected = True
            for room in self._world.rooms:
                if room not in self.out:
                    self._subscribe(room)
            for sent in list(self.unanswered):
                if not isinstance(sent.command, JoinRoom):
                    self._send(sent)
        else:
            asked = self._asked.pop(frame.id, None)
            if isinstance(asked, Sent):
                self._answered(asked, frame)
            elif asked is not None:
                self._subscribed(*asked, frame)

    def _pushed(self, push: Push) -> None:
        place = room_of(push.channel)
        assert place is not None
        room = place[0]
        if push.unsubscribe is not None:
            self.on.discard(room)
            if push.unsubscribe.code < 2500:
                self._left(room)
            else:
                if self._world.chance.random() < 0.5:
                    self.positions.pop(room, None)
                self._subscribe(room)
        elif push.pub is not None and room in self.on:
            self._hear(room, push.pub)

    def _left(self, room: str) -> None:
        self.out.add(room)
        self.positions.pop(room, None)
        self._later(self._world.chance.uniform(0.05, 0.5), lambda: self._join(room))

    def _hear(self, room: str, pub: Pub) -> None:
        epoch, position = self.positions[room]
        self._checks.heard(self.user, room, position, pub.offset, bytes(pub.data))
        self.positions[room] = (epoch, pub.offset)
        if room in self.views:
            self.views[room].take(msgspec.json.decode(pub.data), pub.offset)

    # Channels

    def _subscribe(self, room: str) -> None:
        line = self._line
        if line is None or not self._connected or room in self.on or room in self._joining:
            return
        self._number += 1
        self._joining.add(room)
        position = self.positions.get(room)
        body: dict[str, object] = {"channel": room_channel(room)}
        if position is not None:
            body |= {"recover": True, "epoch": position[0], "offset": position[1]}
        self._asked[self._number] = (room, self._checks.history(room).acknowledged)
        line.send(_encode({"id": self._number, "subscribe": body}))

    def _subscribed(self, room: str, floor: int, frame: Frame) -> None:
        joined = frame.subscribe
        self._joining.discard(room)
        if joined is None:
            assert frame.error is not None
            if frame.error.temporary:
                self._later(0.1, lambda: self._subscribe(room))
            else:
                self._left(room)
            return
        self.on.add(room)
        if joined.recovered:
            for pub in joined.publications:
                self._hear(room, pub)
            stands = self.positions[room][1]
            if stands < floor:
                self._checks.complain(
                    f"{self.user} recovered {room} up to {stands}; {floor} was acknowledged before"
                )
            return
        shown = _decode_shown(joined.data)
        floor = max(floor, self.positions.get(room, ("", 0))[1])
        self._checks.snapshot(self.user, room, floor, shown.offset, bytes(shown.room))
        self.positions[room] = (shown.epoch, shown.offset)
        if self._world.has_screens:
            self.views[room] = Reader(msgspec.json.decode(shown.room))

    # Commands

    def issue(self, command: Command) -> None:
        """Send a command; it is sent until it is answered."""
        sent = self._checks.issue(self.user, command, behind=self._last)
        self._last = sent
        self.unanswered[sent] = None
        self._send(sent)

    def _send(self, sent: Sent) -> None:
        line = self._line
        if line is None or not self._connected or sent not in self.unanswered:
            return
        sent.attempts += 1
        sent.line = line
        self._number += 1
        number = self._number
        self._asked[number] = sent
        body = {"method": "room.command", "data": Raw(codec.encode(sent.command))}
        self._world.clock.note(f"{sent.name} to {line.server.process.name}: {sent.command}")
        line.send(_encode({"id": number, "rpc": body}))
        self._later(ANSWER_SECONDS, lambda: self._send_again(number, sent))

    def _send_again(self, number: int, sent: Sent) -> None:
        """The library gives up on an answer after a while, and on the connection when nothing comes at all."""
        if self._asked.get(number) is sent and self._line is not None:
            if self._world.chance.random() < 0.5:
                self._give_up(self._line, connected=True)
            else:
                self._send(sent)

    def _answered(self, sent: Sent, frame: Frame) -> None:
        if frame.rpc is not None:
            self._done(sent, frame.rpc.data)
            return
        error = frame.error
        assert error is not None
        if error.temporary:
            self._world.clock.note(f"{sent.name} is told to try again: {error.detail}")
            self._later(self._world.chance.uniform(0.02, 0.2), lambda: self._send(sent))
        else:
            self._done(sent, error)

    def _done(self, sent: Sent, outcome: Answered | Refusal) -> None:
        self._checks.answered(sent, outcome)
        self.unanswered.pop(sent, None)

    # Seats

    def _join(self, room: str) -> None:
        command = JoinRoom(room, self._world.fresh_id(), self.user.title(), "player")
        sent = self._checks.issue(self.user, command)
        self.unanswered[sent] = None
        self._ask_house(sent, command)

    def _ask_house(self, sent: Sent, command: HouseCommand) -> None:
        """Over HTTP, on a connection of its own; asked again elsewhere if nothing comes."""
        if sent not in self.unanswered:
            return
        sent.attempts += 1
        server: Server = self._world.pick_server()
        self._world.clock.note(f"{sent.name} to {server.process.name}: {command}")
        if server.up:
            server.house(
                command.room,
                self.user,
                command,
                self.process,
                lambda outcome: self._house(sent, outcome),
            )
        self._later(HOUSE_SECONDS, lambda: self._ask_house(sent, command))

    def _house(self, sent: Sent, outcome: Reply | TableForgeError) -> None:
        room = sent.command.room
        if isinstance(outcome, TableForgeError):
            if outcome.http_status not in TEMPORARY:
                self._done(sent, Refusal(outcome.http_status, outcome.code, detail=outcome.detail))
            return
        self._done(
            sent,
            Answered(
                outcome.offset, Raw(codec.encode(outcome.result)) if outcome.result else NOTHING
            ),
        )
        if room in self.out:
            self.out.discard(room)
            self._subscribe(room)
