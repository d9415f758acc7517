"""A room in memory: the state that commands are decided on, the state that is on the disk, and what lies between.

Commands are decided ahead of the disk: `head` runs in front of `durable` by the entries that are on their way. What is
told to anybody comes from `durable` alone. State is immutable, so giving up on what failed is one assignment.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec

from tableforge.domain.commands import Command, HouseCommand
from tableforge.domain.events import Event, Result
from tableforge.domain.state import Room
from tableforge.errors import TableForgeError
from tableforge.eventlog import Append
from tableforge.rooms.turns import Turns
from tableforge.rooms.views import Ring, Viewed


def room_tag(room: str) -> str:
    """What everything in the cache is tagged with that tells of this room's newest event."""
    return f"room:{room}"


REMEMBERED_COMMANDS = 1000
"""How many commands of a room are answered again from memory; older ones are looked up in the log."""


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to a command: the offset of its last event, and what it made."""

    offset: int
    result: Result | None = None


Answer = Callable[[Reply | TableForgeError], None]


class Entry(Append, eq=False, kw_only=True):
    """A command that was decided and waits for the disk, with everything that happens once it is there.

    `known` is the offset that the log was known to hold when it was decided. It is `superseded` when another instance's event took its place in the log: it was decided anew, as another entry, and
    its own outcome concerns nobody.
    """

    live: "LiveRoom"
    user: str
    command: Command | HouseCommand
    happened: tuple[Event, ...]
    after: Room
    viewed: list[Viewed]
    answers: list[Answer]
    began: float
    life: int
    known: int
    number: int
    sent: float
    superseded: bool = False


class Waiting(NamedTuple):
    """A command that is to be decided. `number` is its place among all commands, in the order in which they came.

    `sure` says that the room has caught up with its log for it already.
    """

    number: int
    user: str
    command: Command | HouseCommand
    answers: list[Answer]
    began: float
    sure: bool = False


class Done(msgspec.Struct, frozen=True):
    """A command that was carried out, kept to answer a repeat of it: the digest of its body, and the reply."""

    digest: bytes
    reply: Reply


class LiveRoom:
    """One room in memory. Only `RoomEngine` changes it.

    `life` goes up whenever what was decided ahead of the disk is given up. While the room is known to lack what the log
    holds up to `wanted`, `behind` is the task that reads it. Commands lie in `waiting`, in their order, until that has ended
    and it is this instance's turn to write (`turns`, None when a server is alone); `timer` wakes them then. `doubted` are the
    commands of each user of which the log is asked whether they were refused rightly, `held` those that came behind.
    `server` is which server of the database holds the log (see `Head`), None before it was asked; `tag` is what lists that
    show the room are tagged with.
    """

    __slots__ = (
        "behind", "doubted", "dropped", "durable", "epoch", "head", "held", "id", "life", "pending", "recent", "ring",
        "saved", "server", "tag", "timer", "turns", "used", "waiting", "wanted",
    )  # fmt: skip

    def __init__(
        self,
        room: Room,
        *,
        epoch: str,
        server: str | None,
        ring: Ring,
        saved: int,
        now: float,
        turns: Turns | None,
    ) -> None:
        self.id = room.id
        self.tag = room_tag(room.id)
        self.epoch = epoch
        self.server = server
        self.head = room
        self.durable = room
        self.ring = ring
        self.saved = saved
        self.used = now
        self.life = 0
        self.dropped = False
        self.pending: deque[Entry] = deque()
        self.behind: asyncio.Task[None] | None = None
        self.waiting: list[Waiting] = []
        self.doubted: dict[str, set[int]] = {}
        self.held: list[Waiting] = []
        self.turns = turns
        self.timer: asyncio.TimerHandle | None = None
        self.wanted = 0
        self.recent: dict[tuple[str, str], Entry | Done] = {}

    def remember(self, entry: Entry, reply: Reply) -> None:
        """Keep an answer for a repeat of the command, and forget the oldest."""
        self.recent[entry.user, entry.command.id] = Done(entry.digest, reply)
        if len(self.recent) > REMEMBERED_COMMANDS:
            oldest = next(iter(self.recent))
            if isinstance(self.recent[oldest], Done):
                del self.recent[oldest]

    def give_up(self) -> None:
        """Forget what was decided ahead of the disk; entries under way see that `life` has changed."""
        self.life += 1
        self.head = self.durable

    def since(self, after: int) -> list[Viewed] | None:
        """The events behind `after` from the ring, or None when it does not reach back so far."""
        return self.ring.newest(self.durable.version - after)


Publish = Callable[[LiveRoom, Viewed, Event], None]
"""Told of each event once it is durable, in order, before the command's reply."""


class Peers(Protocol):
    """The other instances of a fleet, as the rooms of this one know them; there are none when a server is alone.

    `origin` names this process among them.
    """

    @property
    def origin(self) -> str: ...

    def opened(self, live: LiveRoom) -> None:
        """A room came into memory: its news are wanted from now on."""
        ...

    def closed(self, live: LiveRoom) -> None:
        """A room left memory."""
        ...

    def appended(self, entry: Entry) -> None:
        """A command of this instance is durable: tell the others."""
        ...

    async def caught_up(self, live: LiveRoom) -> None:
        """Return once the room holds everything that was acknowledged anywhere before this call.

        Raises `Unavailable` while the log cannot say.
        """
        ...
