"""What a command comes to in a room: its events, as they are stored and told, and the room behind them."""

from typing import NamedTuple

import structlog

from tableforge.domain.commands import Command, HouseCommand
from tableforge.domain.decider import decide, evolve
from tableforge.domain.events import (
    Event,
    MemberChanged,
    MemberJoined,
    MemberRemoved,
    RoomChanged,
    RoomCreated,
)
from tableforge.domain.state import Given, Room
from tableforge.errors import TableForgeError, Unavailable
from tableforge.eventlog import Facts
from tableforge.protocol import codec
from tableforge.rooms.views import Viewed, view

FACTUAL = (RoomCreated, RoomChanged, MemberJoined, MemberChanged, MemberRemoved)
"""Events after which listings know something new."""

log = structlog.get_logger(__name__)


class Decided(NamedTuple):
    """Events with their bytes and views, the room behind them, and what listings newly know; or why there are none."""

    events: tuple[Event, ...]
    datas: tuple[bytes, ...]
    viewed: list[Viewed]
    after: Room
    facts: Facts | None
    refusal: TableForgeError | None


def decided_on(room: Room, command: Command | HouseCommand, given: Given) -> Decided:
    """Decide a command and fold its events; touches nothing but what it is given."""
    datas: list[bytes] = []
    viewed: list[Viewed] = []
    facts: Facts | None = None
    refusal: TableForgeError | None = None
    events: tuple[Event, ...] = ()
    after = room
    try:
        events = decide(room, command, given)
        for event in events:
            before, after = after, evolve(after, event)
            data = codec.encode(event)
            datas.append(data)
            viewed.append(view(before, event, after, data))
            if isinstance(event, FACTUAL):
                facts = facts_of(after)
    except TableForgeError as refused:
        refusal = refused
    except Exception as error:  # a mistake in a rule must not take the other rooms along
        log.error("a command could not be decided", kind=type(command).__name__, exc_info=error)
        refusal = Unavailable("The command was not carried out.", "The server made a mistake.")
    return Decided(events, tuple(datas), viewed, after, facts, refusal)


def facts_of(room: Room) -> Facts:
    """What listings know of this room."""
    seats = tuple((member.id, member.role) for member in room.members.values())
    return Facts(room.name, room.visibility, room.tags, seats)
