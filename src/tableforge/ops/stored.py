"""What is stored, as tools see it from outside of a server, whichever database it lies in."""

import zlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

from tableforge.errors import StartRefused


class OrderRefused(StartRefused):
    """An order of the command line that was not begun; nothing was changed."""


class Unreadable(Exception):
    """Stored bytes that are not what they should be; the message says which."""


class StoredRoom(NamedTuple):
    """A room as listings know it; `place` orders rooms by age, `deleted_at` is None for one that can be played.

    Its log begins behind the offset `begins`, where a snapshot tells of what came before; 0 where all of it is there.
    """

    place: int
    id: str
    name: str
    visibility: str
    tags: tuple[str, ...]
    deleted_at: str | None
    begins: int = 0


class StoredRow(NamedTuple):
    """One row of a log; `key` and `digest` are the command's, on its last event."""

    offset: int
    form: int
    data: bytes
    key: bytes | None
    digest: bytes | None


class WholeRoom(NamedTuple):
    """A room with all that there is of it: who has a seat in which role, and its log."""

    room: StoredRoom
    epoch: str
    seats: Sequence[tuple[str, str]]
    events: Sequence[StoredRow]


class StoredSnapshot(NamedTuple):
    """A room folded up to an offset, packed as it lies in the database."""

    offset: int
    form: int
    packed: bytes

    def unpacked(self) -> bytes:
        """The room's bytes; raises `Unreadable`."""
        try:
            return zlib.decompress(self.packed)
        except zlib.error as error:
            raise Unreadable(f"its snapshot at {self.offset} does not unpack ({error})") from error


Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""

ROWS_AT_ONCE = 500
"""How many rows travel together."""
TABLES: Mapping[str, tuple[str, ...]] = {
    "users": ("id", "name", "created_ms"),
    "sessions": ("digest", "user", "created_ms", "seen_ms", "expires_ms"),
    "recovery_codes": ("user", "digest", "created_ms"),
    "invites": ("digest", "room", "role", "uses_left", "expires_ms", "created_by", "created_ms"),
    "assets": (
        *("id", "digest", "kind", "width", "height", "bytes", "uploader", "room", "name", "search"),
        *("tags", "created_ms"),
    ),
    "designs": (
        *("id", "kind", "owner", "name", "search", "visibility", "tags", "version", "created_ms"),
        *("updated_ms", "bytes"),
    ),
    "design_versions": ("design", "version", "name", "tags", "form", "data", "created_ms"),
}
"""What outlives a room, with the same columns in both databases; those that others refer to come first."""


def quoted(columns: Sequence[str]) -> str:
    """Names of columns as both databases take them: `user` is a word of PostgreSQL's own."""
    return ", ".join(f'"{column}"' for column in columns)


class Store(Protocol):
    """All of a database as it was at one moment, and a way to add to it. Rooms are named by their ids.

    What cannot be read raises `Unreadable` where only that is concerned, Unavailable where nothing more can be read.
    """

    async def rooms(self) -> list[StoredRoom]:
        """All rooms, the oldest first, the deleted ones, too."""
        ...

    async def head(self, room: str) -> int | None:
        """The offset of a room's newest event; None where the room is not there."""
        ...

    def events(self, room: str) -> AsyncIterator[list[StoredRow]]:
        """A room's log in order from its beginning on, a portion at a time."""
        ...

    async def events_by_room(self) -> dict[str, int]:
        """How many events each room has behind its beginning, counted in the table itself, not in an index."""
        ...

    def snapshots(self, room: str) -> AsyncIterator[StoredSnapshot]:
        """A room's snapshots in order, the one at its beginning first."""
        ...

    async def seats(self, room: str) -> list[tuple[str, str]]:
        """Who has a seat in a room: user and role."""
        ...

    async def digests(self) -> list[str]:
        """The digests of all pictures, in order."""
        ...

    def rows(self, table: str) -> AsyncIterator[list[tuple[object, ...]]]:
        """All rows of one of `TABLES`, a portion at a time."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[None]:
        """What is added in the block stands at its end, durably, or not at all where it raises."""
        ...

    async def add_room(
        self, room: StoredRoom, epoch: str, seats: Sequence[tuple[str, str]], head: int
    ) -> None:
        """Add a room, behind all others in age; its `head` is known when its events are."""
        ...

    async def add_events(self, room: str, rows: Sequence[StoredRow]) -> None:
        """Add to a room's log."""
        ...

    async def add_snapshot(self, room: str, snapshot: StoredSnapshot) -> None:
        """Add a snapshot."""
        ...

    async def add_rows(self, table: str, rows: Sequence[tuple[object, ...]]) -> int:
        """Add those rows that are not there, and return how many they were."""
        ...

    async def add_rooms(self, rooms: Sequence[WholeRoom]) -> None:
        """Add many rooms at once, behind all others in age."""
        ...

    async def add_many(self, table: str, rows: Sequence[tuple[object, ...]]) -> None:
        """Add many rows at once; raises Conflict where one of them is there."""
        ...
