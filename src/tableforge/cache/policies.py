"""Everything that is cached, on one page.

Sessions and room snapshots are guarded by positions: nothing older than what this instance has heard of is served. The
others are dropped by tags when what they were made of changes, and count for two seconds only while the bus does not carry
such news. Who may do what is never decided from here, but from the room's state in memory.

Whoever changes the shape of a value raises its policy's `form`, and keeps a sample of the form before with the tests.
"""

from dataclasses import dataclass, fields
from typing import Any

from msgspec import Struct

from tableforge.cache import Policy
from tableforge.config import CacheKnobs

UNCARRIED_SECONDS = 2.0
"""How long what is dropped by tags counts in memory while the bus is away."""
SMALL_ENTRIES = 10
"""Sessions are small, and every connection asks for its own with each ping: so many times the entries that others have."""
LARGE_ENTRIES = 10
"""Snapshots are large and their rooms are in memory anyway: a tenth of the entries that others have."""

Cell = str | int | float | bool | None


class SessionRow(Struct, frozen=True):
    """A session as the database has it; times in milliseconds since 1970. `read_at` is the notices' position of that."""

    user_id: str
    name: str
    seen_ms: int
    expires_ms: int
    read_at: int


class RoomSnapshot(Struct, frozen=True):
    """A room folded up to `offset` of the log with this epoch on this server, in the form `version` of the codec.

    `saved` is the offset of the newest snapshot that is in the log as well, as far as whoever put this knew.
    """

    epoch: str
    server: str
    offset: int
    saved: int
    version: int
    data: bytes


class Asset(Struct, frozen=True):
    """An uploaded picture as it is kept: its id, its bytes' sha256 in hex and media type, its size in pixels and bytes.

    `room` is None for the uploader's own.
    """

    id: str
    digest: str
    kind: str
    width: int
    height: int
    bytes: int
    uploader: str
    room: str | None
    name: str
    tags: tuple[str, ...]
    created_ms: int


class Document(Struct, frozen=True):
    """A version of a game system or a room's template as the library stores it: what it was called, when it was made (in
    milliseconds since 1970), and the JSON."""

    id: str
    version: int
    name: str
    tags: tuple[str, ...]
    created_ms: int
    data: bytes


class Rows(Struct, frozen=True):
    """What a list or a search found, row by row as the database answered, and behind what the next page begins."""

    rows: tuple[tuple[Cell, ...], ...]
    next: Cell = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """One field a region."""

    user_sessions: Policy[SessionRow]
    """By the hex digest of the token and the database's server. Position: the notices'. Tags: `user:<id>`."""
    room_states: Policy[RoomSnapshot]
    """By the room's id. Position: the log's offset. No tags: its epoch and server tell whether it is of the log's present
    life, and all it lacks is read from the log. Loading it anew would put an older one of the log's in its place."""
    asset_metadata: Policy[Asset]
    """By the asset's id. Tags: `asset:<id>`."""
    game_system_templates: Policy[Document]
    """By `system:` or `template:`, the id and the version. Tags: the same without the version."""
    query_results: Policy[Rows]
    """By the digest of the question. Tags: whatever the answer depends on, as in `rooms_of:<user>` and `room:<id>`."""
    user_seats: Policy[Rows]
    """In which rooms a user has a seat, by the user's id: where to look, not what they may. Tags: `rooms_of:<user>`."""

    def all(self) -> tuple[Policy[Any], ...]:
        """Every policy."""
        return tuple(getattr(self, field.name) for field in fields(self))


def policies(knobs: CacheKnobs) -> Policies:
    """The policies under these settings."""
    local, shared = knobs.app_entries, knobs.redis_entries
    sessions = knobs.sessions_ttl_seconds
    rooms = knobs.rooms_ttl_seconds
    assets = knobs.assets_ttl_seconds
    systems = knobs.systems_ttl_seconds
    queries = knobs.queries_ttl_seconds
    return Policies(
        user_sessions=Policy(
            region="user_sessions",
            kind=SessionRow,
            form=1,
            fresh=sessions,
            on_error=sessions,
            lasts=False,
            local_entries=local * SMALL_ENTRIES,
            shared_entries=shared,
        ),
        room_states=Policy(
            region="room_states",
            kind=RoomSnapshot,
            form=1,
            fresh=rooms,
            local_entries=max(10, local // LARGE_ENTRIES),
            shared_entries=shared,
        ),
        asset_metadata=Policy(
            region="asset_metadata",
            kind=Asset,
            form=1,
            fresh=assets,
            stale=assets / 10,
            on_error=assets,
            missing=5,
            uncarried=UNCARRIED_SECONDS,
            local_entries=local,
            shared_entries=shared,
        ),
        game_system_templates=Policy(
            region="game_system_templates",
            kind=Document,
            form=1,
            fresh=systems,
            stale=systems / 10,
            on_error=systems,
            missing=5,
            uncarried=UNCARRIED_SECONDS,
            local_entries=local,
            shared_entries=shared,
        ),
        query_results=Policy(
            region="query_results",
            kind=Rows,
            form=1,
            fresh=queries,
            stale=queries / 10,
            on_error=queries,
            uncarried=UNCARRIED_SECONDS,
            lasts=False,  # which tables somebody sits at is among them
            local_entries=local,
            shared_entries=shared,
        ),
        user_seats=Policy(
            region="user_seats",
            kind=Rows,
            form=1,
            fresh=knobs.app_ttl_seconds,
            shared_fresh=knobs.redis_ttl_seconds,
            on_error=knobs.app_ttl_seconds,
            uncarried=UNCARRIED_SECONDS,
            lasts=False,
            local_entries=local,
            shared_entries=shared,
        ),
    )
