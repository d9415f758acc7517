"""The contract of the event log: one durable, gap-free, totally ordered stream of events for each room.

The log is the truth; whatever else is known about a room can be thrown away and rebuilt from it. A stream's *epoch* names
one life of it: a restored or imported stream gets another, so that a position (epoch, offset) is never misread.
"""

import zlib
from collections.abc import Callable, Sequence
from string import ascii_lowercase, ascii_uppercase
from typing import NamedTuple, Protocol

from msgspec import Struct

from tableforge.domain.state import Role, Visibility
from tableforge.errors import Conflict, NotFound, TableForgeError, Unavailable


class StoredEvent(NamedTuple):
    """One row: `version` tells which form `data` (JSON) has, for the upcasters."""

    offset: int
    version: int
    data: bytes


class Snapshot(NamedTuple):
    """A room folded up to `offset`; `version` tells which form `data` has."""

    offset: int
    version: int
    data: bytes


class Head(NamedTuple):
    """Where a stream ends: its epoch and the offset of its newest event.

    `server` names the running server of the database that said so, if several processes share it: a late standby that has
    taken over holds other events at the same offsets of the same epoch. "" means that it is always the same, or not known.
    `begins` is the offset behind which the log begins, 0 where all of it is kept: what lies up to there is told by the
    snapshot at that offset alone. `heads` leaves both out.
    """

    epoch: str
    offset: int
    server: str = ""
    begins: int = 0


class Found(NamedTuple):
    """An earlier command: where its last event stands, and the digest of its body."""

    offset: int
    digest: bytes


class Taken(NamedTuple):
    """How many events and snapshots were taken away."""

    events: int
    snapshots: int


class Facts(Struct, frozen=True):
    """What listings know of a room without folding it; changes together with the events that say so (EL9)."""

    name: str
    visibility: Visibility
    tags: tuple[str, ...]
    seats: tuple[tuple[str, Role], ...]


class RoomRow(NamedTuple):
    """One line of a listing. `place` orders rooms by age; `updated` is the time of the newest event, RFC 3339.

    `role` is the role of whom the listing is for, None where they have no seat.
    """

    place: int
    id: str
    name: str
    visibility: Visibility
    members: int
    updated: str
    role: Role | None


class RoomRows(NamedTuple):
    """A page of a listing; `next` is the place behind which the following one begins, None at the end.

    A page may be short, or empty, although more follow: one looks at so many rooms and no more.
    """

    rows: list[RoomRow]
    next: int | None


class Append(Struct, eq=False):
    """A command on its way to the disk: all its events, or none.

    Each of `events` is a JSON object with its time under "at". `expected` is the offset the writer decided at; `key` identifies the command for ever (16 bytes, over room, member and
    command id), `digest` its body. `opens` is the epoch of a stream that begins with this append. `done` is called exactly
    once, on the event loop, after the commit or with the reason why there was none.
    """

    room: str
    expected: int
    version: int
    events: tuple[bytes, ...]
    key: bytes
    digest: bytes
    done: Callable[["Append", TableForgeError | None], None]
    facts: Facts | None = None
    opens: str | None = None
    withdrawn: bool = False
    """Set by the writer once it knows that `expected` is out of date: what has not been sent yet is not sent.

    It is set as well on what may have been sent, so that what the writer has decided anew is not taken for built on it.
    """

    @property
    def last(self) -> int:
        """The offset of the newest event of this append."""
        return self.expected + len(self.events)


MISSED_AT_MOST = 100
"""How many events a `VersionConflict` carries at most."""


class VersionConflict(Conflict):
    """Somebody else wrote to the stream first.

    `actual` is where the stream stood when it was asked, or `expected` if it was not asked because the append was
    withdrawn; it may stand further on by the time one hears of it. `missed` begins right behind `expected` and holds what
    of it could be read on the same way, perhaps nothing.
    """

    def __init__(
        self, room: str, *, expected: int, actual: int, missed: Sequence[StoredEvent] = ()
    ) -> None:
        super().__init__(
            f"Nothing was appended to room {room}.",
            f"It is at offset {actual}; the writer had read {expected}.",
            "Reload the room and decide again.",
        )
        self.actual = actual
        self.missed = missed


class DuplicateCommand(Conflict):
    """A command with this key is in the log already; `found` says where."""

    def __init__(self, room: str, found: Found) -> None:
        super().__init__(
            f"Nothing was appended to room {room}.",
            f"The command was carried out before, at offset {found.offset}.",
            "Answer with the first reply.",
        )
        self.found = found


class StreamMissing(NotFound):
    """There is no such stream, or it was deleted."""

    def __init__(self, room: str) -> None:
        super().__init__(f"There is no room {room}.")


class LogUnavailable(Unavailable):
    """The log cannot be written or read for now.

    Nothing was appended, unless the text says that this is not known; the key of the command tells later (EL4).
    """


class EventLog(Protocol):
    """Durable ordered streams of events, one a room.

    Rules, each with a test of its number in the contract suite:

    - EL1 an acknowledged append is durable, and read back exactly as written, in order, without a gap;
    - EL2 an append is all or nothing;
    - EL3 an append at any offset but the head changes nothing and ends with `VersionConflict`;
    - EL4 a key that is in the log already changes nothing and ends with `DuplicateCommand`;
    - EL5 the outcome of one append in a batch does not touch the others of other rooms;
    - EL6 `done` is called exactly once for each append, for one room in the order of submission;
    - EL7 a snapshot is found for every offset at or after it, the nearest first;
    - EL8 a deleted stream reads as missing until it is restored;
    - EL9 `Facts` change together with the events, and listings show them at once;
    - EL10 a stream's epoch changes only by `renew_epoch`;
    - EL11 what `VersionConflict.missed` holds is the log's own, from `expected` on, without a gap;
    - EL12 `heads` sees every append that was acknowledged before it was called, by whichever writer;
    - EL13 an append that was withdrawn before it was sent changes nothing and ends with `VersionConflict`; the log
      withdraws by itself what was submitted behind an append that was refused, and expects to stand behind it;
    - EL15 a stream's beginning only moves on, to a snapshot that lies before its head; that snapshot is neither replaced
      nor taken away as long as the stream begins there.
    """

    def append_nowait(self, entry: Append) -> None:
        """Hand over an append; the outcome comes through `entry.done`."""
        ...

    async def wait_for_idle(self) -> None:
        """Return once no append is pending; the caller bounds the wait."""
        ...

    async def head(self, room: str) -> Head | None:
        """Where the stream ends, or None if there is none."""
        ...

    async def heads(self, rooms: Sequence[str]) -> dict[str, Head]:
        """Where each of these streams ends, in one question; those that are missing or deleted are left out."""
        ...

    async def read(self, room: str, *, after: int, limit: int) -> list[StoredEvent]:
        """The events behind `after`, oldest first, at most `limit`."""
        ...

    async def find(self, room: str, key: bytes) -> Found | None:
        """Look up a command by its key."""
        ...

    async def snapshot_at(self, room: str, offset: int) -> Snapshot | None:
        """The newest snapshot that is not newer than `offset`."""
        ...

    async def save_snapshot(self, room: str, snapshot: Snapshot) -> None:
        """Keep a snapshot; saving the same offset again replaces it.

        One that does not lie behind the stream's beginning is not kept.
        """
        ...

    async def seats(self, user: str) -> list[str]:
        """The rooms in which this user has a seat."""
        ...

    async def list_rooms(
        self, *, user: str, public: bool, query: str, tag: str, before: int | None, limit: int
    ) -> RoomRows:
        """At most `limit` rooms, the youngest first, behind the place `before`; None begins at the top.

        With `public` the public rooms in which `user` has no seat, else those where `user` has one. `query` is a part of
        the name, any case (ASCII); `tag` a whole tag; empty strings take all.
        """
        ...

    async def all_rooms(self, *, after: str, limit: int) -> list[str]:
        """The ids of all streams that are not deleted, in order, behind `after`."""
        ...

    async def delete(self, room: str, *, at: str) -> None:
        """Mark the stream deleted; its events stay for a later `restore`."""
        ...

    async def restore(self, room: str) -> None:
        """Take the mark of deletion off."""
        ...

    async def renew_epoch(self, room: str, epoch: str) -> None:
        """Begin another life of the stream: positions of the one before are refused from now on."""
        ...

    async def long_rooms(self, *, after: str, kept: int, limit: int) -> list[str]:
        """The ids of streams that hold more than `kept` events, or any before their beginning; in order, behind `after`.

        Those that are deleted are left out.
        """
        ...

    async def begin_behind(self, room: str, offset: int) -> None:
        """Have the stream begin behind `offset`: what lies up to there is not needed from now on.

        Nothing changes where no snapshot lies at `offset`, no event behind it, or the stream begins further on already;
        `head` tells.
        """
        ...

    async def take_away(self, room: str, *, limit: int) -> Taken:
        """Take away events up to the stream's beginning, and snapshots before it: the oldest, at most `limit` of each."""
        ...

    async def lacking_right(self) -> str:
        """What has to be granted before `take_away` may be called, as SQL; empty where nothing is lacking."""
        ...


ASCII_LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)
"""What "any case" means in names of rooms, on every engine."""

Appended = Sequence[TableForgeError | None]
"""The outcomes of a batch, in its order."""


def unpacked(packed: bytes) -> bytes:
    """The data of a stored snapshot; nothing, which no form reads, where its bytes are not what was written."""
    try:
        return zlib.decompress(packed)
    except zlib.error:
        return b""
