"""What must hold in every run, checked at every frame and at the end; the log itself is the measure.

- What a server tells of a room is in the log already, and is what its reader may see of it.
- Each client hears each event once, in one order, without a gap, from a snapshot on that is as new as anything that was
  acknowledged before it was asked for.
- An acknowledged command is in the log once, at the offset that its reply says, and follows from the room before it; one
  that was sent after another was acknowledged stands behind it, and so does one sent behind another on one connection.
- A refusal, or the reply to a command that changes nothing, follows from a state that was not older than anything
  acknowledged before the command was sent, and leaves nothing in the log.
- Once the faults have stopped, everything is answered and everybody holds the same, in bounded time.
"""

import re
from dataclasses import dataclass, field

import msgspec

from tableforge.domain.commands import Command, HouseCommand
from tableforge.domain.decider import decide, evolve, result_of
from tableforge.domain.events import Event
from tableforge.domain.state import Given, Room
from tableforge.domain.visibility import redact
from tableforge.errors import TableForgeError
from tableforge.protocol import codec
from tableforge.rooms.engine import RoomEngine
from tableforge.rooms.views import Viewed, view
from tests.reader import JsonObject, canonical
from tests.simulation.process import Clock
from tests.simulation.storage import Database

TOLD = re.compile(
    rb'^\{"push":\{"channel":"room:(?P<room>\w+)","pub":.*,"offset":(?P<offset>\d+)\}\}\}$',
    re.DOTALL,
)
SEED = b"\0" * 16
TEMPORARY = {429, 503}
NOTHING = msgspec.Raw(b"")


class Refusal(msgspec.Struct, frozen=True):
    """An error as the wire tells it."""

    code: int
    message: str
    temporary: bool = False
    detail: str = ""


class Answered(msgspec.Struct, frozen=True):
    """A reply as the wire tells it."""

    offset: int
    result: msgspec.Raw = NOTHING

    def __repr__(self) -> str:
        return f"done at {self.offset} {bytes(self.result).decode()}"


@dataclass(eq=False)
class Sent:
    """A command of a client, from its first sending on. `floor` is the newest offset that anybody had been told of by then."""

    user: str
    command: Command | HouseCommand
    floor: int
    behind: "Sent | None"
    """What the client sent on the same connection right before."""
    attempts: int = 0
    line: object = None
    outcome: Answered | Refusal | None = None

    @property
    def name(self) -> str:
        """For the trace."""
        return f"{self.user}/{self.command.id}"


@dataclass
class History:
    """A room as its log has it: its state at each offset, and what each reader may see of each event."""

    states: list[Room]
    views: list[Viewed | None] = field(default_factory=lambda: [None])
    events: list[Event | None] = field(default_factory=lambda: [None])
    acknowledged: int = 0
    """The newest offset that anybody was told of by a reply."""


class Checks:
    """Compares what is told with the log, and complains to the clock."""

    def __init__(self, clock: Clock, database: Database) -> None:
        self._clock = clock
        self._database = database
        self._histories: dict[str, History] = {}
        self.commands: dict[tuple[str, str], Sent] = {}
        self.deliveries = 0

    def complain(self, what: str) -> None:
        """Note what must not be."""
        self._clock.complain(what)

    def open_table(self, room: str, count: int) -> None:
        """The first events of a room are given, and belong to nobody's command."""
        self._histories[room] = History([Room(room)])
        self._histories[room].acknowledged = count

    def history(self, room: str) -> History:
        """The room's history up to the end of its log."""
        history = self._histories[room]
        rows = self._database.store.streams[room].events
        while len(history.states) <= len(rows):
            row = rows[len(history.states) - 1]
            before = history.states[-1]
            event = codec.decode_event(row.version, row.data)
            after = evolve(before, event)
            history.states.append(after)
            history.events.append(event)
            history.views.append(view(before, event, after, row.data))
        return history

    # Frames

    def sent(self, payload: bytes) -> None:
        """A server sends this: an event in it must be durable by now."""
        told = TOLD.match(payload)
        if told is not None:
            room, offset = told["room"].decode(), int(told["offset"])
            if offset > self._database.head(room):
                self.complain(f"{room}: event {offset} was told before it was in the log")

    def heard(self, who: str, room: str, position: int, offset: int, data: bytes) -> None:
        """A client that held everything up to `position` hears an event."""
        self.deliveries += 1
        if offset != position + 1:
            self.complain(f"{who} stands at {position} of {room} and hears event {offset}")
            return
        self._compare(who, room, offset, data)

    def _compare(self, who: str, room: str, offset: int, data: bytes) -> None:
        views = self.history(room).views
        if offset >= len(views):
            self.complain(f"{who} hears event {offset} of {room}, which is not in the log")
            return
        viewed = views[offset]
        assert viewed is not None
        expected = viewed.data_for(who)
        if data != expected:
            self.complain(f"{who} hears of {room} at {offset}: {data!r}, the log says {expected!r}")

    def snapshot(self, who: str, room: str, floor: int, offset: int, seen: bytes) -> None:
        """A client that knew of everything up to `floor` gets the room as it was at `offset`."""
        states = self.history(room).states
        if not floor <= offset < len(states):
            self.complain(
                f"{who} is shown {room} at {offset}; {floor} was acknowledged before they asked"
            )
            return
        told = msgspec.json.decode(seen)
        online = frozenset(member["id"] for member in told["members"] if member["online"])
        expected = redact(states[offset], who, online=online)
        if msgspec.json.decode(codec.encode(expected)) != told:
            self.complain(f"{who} is shown {room} at {offset} as it was not: {told}")

    # Commands

    def issue(
        self, user: str, command: Command | HouseCommand, *, behind: Sent | None = None
    ) -> Sent:
        """A client sends a command for the first time."""
        sent = Sent(user, command, self.history(command.room).acknowledged, behind)
        self.commands[user, command.id] = sent
        return sent

    def answered(self, sent: Sent, outcome: Answered | Refusal) -> None:
        """A client is told what became of its command, for good."""
        if sent.outcome is not None:
            self._answered_again(sent, sent.outcome, outcome)
            return
        sent.outcome = outcome
        self._clock.note(f"{sent.name} is told {outcome}")
        try:
            history = self.history(sent.command.room)
        except Exception as error:  # noqa: BLE001 - whatever it is, the log is not what it must be
            self.complain(f"the log of {sent.command.room} cannot be folded: {error!r}")
            return
        if isinstance(outcome, Refusal):
            self._refused(sent, outcome, history)
            return
        made = self._made(history, sent, outcome.offset)
        if made or bytes(outcome.result):
            self._carried_out(sent, outcome, history, made)
        else:
            self._changed_nothing(sent, outcome, history)
        history.acknowledged = max(history.acknowledged, outcome.offset)

    def _answered_again(
        self, sent: Sent, first: Answered | Refusal, outcome: Answered | Refusal
    ) -> None:
        """What is in the log is answered the same each time, but to somebody who has lost their seat."""
        if (
            isinstance(first, Answered)
            and self._made(self.history(sent.command.room), sent, first.offset)
            and outcome != first
            and not (isinstance(outcome, Refusal) and outcome.message == "not-found")
        ):
            self.complain(f"{sent.name} was answered {first}, and then {outcome}")

    def _made(self, history: History, sent: Sent, offset: int) -> list[Event]:
        """The command's events that end at this offset."""
        found: list[Event] = []
        while 0 < offset < len(history.events):
            event = history.events[offset]
            assert event is not None
            if (event.by, event.id) != (sent.user, sent.command.id):
                break
            found.insert(0, event)
            offset -= 1
        return found

    def _carried_out(
        self, sent: Sent, outcome: Answered, history: History, made: list[Event]
    ) -> None:
        if not made:
            self.complain(f"{sent.name} was acknowledged at {outcome.offset}, where it is not")
            return
        result = result_of(tuple(made))
        told = msgspec.json.decode(bytes(outcome.result) or b"null")
        if told != msgspec.json.decode(codec.encode(result)):
            self.complain(f"{sent.name} was told {told}, but made {result}")
        first = outcome.offset - len(made) + 1
        if first <= sent.floor:
            self.complain(
                f"{sent.name} stands at {first}; {sent.floor} was acknowledged before it was sent"
            )
        follows = self.decided(history.states[first - 1], sent.user, sent.command)
        if isinstance(follows, TableForgeError) or len(follows) != len(made):
            self.complain(f"{sent.name} at {first} does not follow from the room before it")

    def decided(
        self, room: Room, user: str, command: Command | HouseCommand
    ) -> tuple[Event, ...] | TableForgeError:
        """What follows from a command."""
        try:
            return decide(room, command, Given(user, "", SEED))
        except TableForgeError as refusal:
            return refusal

    def _refused(self, sent: Sent, outcome: Refusal, history: History) -> None:
        for state in reversed(history.states[sent.floor :]):
            decided = self.decided(state, sent.user, sent.command)
            if isinstance(decided, TableForgeError) and decided.code == outcome.message:
                return
        self.complain(
            f"{sent.name} ({sent.command}) was refused ({outcome}); no state from {sent.floor} to "
            f"{len(history.states) - 1} says so"
        )

    def _changed_nothing(self, sent: Sent, outcome: Answered, history: History) -> None:
        for state in reversed(history.states[sent.floor :]):
            if self.decided(state, sent.user, sent.command) == ():
                break
        else:
            self.complain(
                f"{sent.name} ({sent.command}) was told {outcome}, but is not there and would have changed "
                f"the room from {sent.floor} on"
            )
        if outcome.offset >= len(history.states):
            self.complain(f"{sent.name} was told of {outcome.offset}, which is not in the log")

    # At the end

    def log(self, room: str, given: int) -> None:
        """Each command is in the log once; nothing else is there; what was refused is not."""
        history = self.history(room)
        seen: set[tuple[str, str]] = set()
        last: tuple[str, str] | None = None
        for offset, event in enumerate(history.events[given + 1 :], given + 1):
            assert event is not None
            key = (event.by, event.id)
            if key == last:
                continue
            if key in seen:
                self.complain(f"{key} is in {room} twice, the second time at {offset}")
            sent = self.commands.get(key)
            if sent is None:
                self.complain(f"{room} holds at {offset} what nobody sent: {event}")
            elif isinstance(sent.outcome, Refusal) and sent.attempts == 1:
                self.complain(f"{sent.name} was refused, but is in {room} at {offset}")
            elif (
                isinstance(sent.outcome, Answered)
                and not self._made(history, sent, sent.outcome.offset)
                and sent.attempts == 1
            ):
                self.complain(f"{sent.name} was told {sent.outcome}, but is at {offset}")
            seen.add(key)
            last = key

    def order(self) -> None:
        """What a client sent on one connection, and once, is in the log in that order, whatever else it sent in between."""
        for sent in self.commands.values():
            before = sent.behind
            while before is not None and before.line is sent.line:
                if (
                    before.command.room == sent.command.room
                    and self._place(before) > self._place(sent) > 0
                ):
                    self.complain(f"{sent.name} overtook {before.name}")
                before = before.behind

    def _place(self, sent: Sent) -> int:
        """Where a command that was sent once ends in the log, 0 if it is not there or was sent again."""
        outcome = sent.outcome
        if sent.attempts != 1 or not isinstance(outcome, Answered):
            return 0
        return (
            outcome.offset
            if self._made(self.history(sent.command.room), sent, outcome.offset)
            else 0
        )

    def screen(self, who: str, room: str, view: JsonObject) -> None:
        """What a client folded is what it would be shown now."""
        online = frozenset(member["id"] for member in view["members"] if member["online"])
        expected = redact(self.history(room).states[-1], who, online=online)
        if canonical(view) != canonical(msgspec.json.decode(codec.encode(expected))):
            self.complain(f"{who} sees {room} as it is not: {view}, not {expected}")

    def memory(self, server: str, engine: RoomEngine) -> None:
        """What a server holds is a state that the log had."""
        for live in engine.rooms():
            states = self.history(live.id).states
            version = live.durable.version
            if version >= len(states) or live.durable != states[version]:
                self.complain(f"{server} holds another {live.id} at {version} than the log")
