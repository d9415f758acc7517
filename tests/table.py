"""A room in play, for tests: members send commands by name, and every member's seat hears what is told to them.

Commands go through the codec, events and rooms to JSON and back: what is tested is what travels.
"""

import json
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tableforge.domain.commands import Command, HouseCommand, JoinRoom, OpenRoom
from tableforge.domain.decider import decide, evolve, result_of
from tableforge.domain.events import Event
from tableforge.domain.state import Given, Role, Room
from tableforge.domain.visibility import Step, redact
from tableforge.errors import TableForgeError
from tableforge.protocol.codec import decode_command, encode

ROOM = "r" * 16
NOWHERE = "z" * 16
"""An id of the right form that is nobody's and nothing's."""


def moment(number: int) -> str:
    """A time for each command, one second after the other."""
    minute, second = divmod(number, 60)
    return f"2030-01-01T{minute // 60:02}:{minute % 60:02}:{second:02}.000Z"


def plain(value: Any) -> Any:
    """What a client reads: JSON and back."""
    return json.loads(encode(value))


@dataclass
class Table:
    """The room so far, its log, and how many commands were tried."""

    room: Room = field(default_factory=lambda: Room(ROOM))
    log: list[Event] = field(default_factory=list)
    tried: int = 0

    def given(self, by: str) -> Given:
        """What the next decision will know; its seed is its number."""
        return Given(by, moment(self.tried), self.tried.to_bytes(16, "big"))

    def obey(self, by: str, command: Command | HouseCommand) -> list[Step]:
        """Carry out a command; raises what refuses it."""
        given = self.given(by)
        self.tried += 1
        steps: list[Step] = []
        room = self.room
        for event in decide(room, command, given):
            after = evolve(room, event)
            steps.append(Step(room, event, after))
            room = after
        self.room = room
        self.log.extend(step.event for step in steps)
        return steps

    def send(self, by: str, kind: str, **fields: Any) -> list[Step]:
        """Send a command as a client would."""
        return self.obey(by, self.command(kind, **fields))

    def command(self, kind: str, **fields: Any) -> Command:
        """A command as it comes off the wire."""
        body = {"room": ROOM, "id": f"c{self.tried}", "type": kind, **fields}
        return decode_command(msgspec.json.encode(body))

    def make(self, by: str, kind: str, **fields: Any) -> str:
        """Send a command that makes something, and give its id."""
        result = result_of(tuple(step.event for step in self.send(by, kind, **fields)))
        assert result is not None
        return str(result["id"])

    def refusal(self, by: str, kind: str, **fields: Any) -> TableForgeError:
        """Send a command that must be refused, and must change nothing."""
        before = encode(self.room)
        try:
            steps = self.send(by, kind, **fields)
        except TableForgeError as error:
            assert encode(self.room) == before
            return error
        raise AssertionError(f"{kind} was not refused: {[plain(step.event) for step in steps]}")

    def join(self, user: str, role: Role = "player") -> None:
        """Seat a user."""
        self.obey(user, JoinRoom(ROOM, f"c{self.tried}", user.title(), role))

    def told(self, user: str, steps: list[Step]) -> list[Any]:
        """What a user is told of these steps, as JSON."""
        return [plain(redact(step, user)) for step in steps]

    def view(self, user: str) -> Any:
        """The room as a user sees it, as JSON."""
        return plain(redact(self.room, user))


def opened(**members: Role) -> Table:
    """A room that `gm` has opened, with these members."""
    table = Table()
    table.obey("gm", OpenRoom(ROOM, "c0", "The Cellar", "private", "Gm"))
    for user, role in members.items():
        table.join(user, role)
    return table
