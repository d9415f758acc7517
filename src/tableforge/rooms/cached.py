"""What the rooms read through the cache: snapshots to begin a load with, lists of rooms, and where a user has a seat.

The log is the truth. A snapshot only spares folding what lies before it, and none is taken from another life of the log.
Lists are dropped by what they were made of. What somebody may do is decided from a room's state, never from here.
"""

import asyncio
import contextlib
from hashlib import blake2b

import msgspec
import structlog

from tableforge.cache import Built, Cache
from tableforge.cache.policies import Policies, Rows
from tableforge.cache.policies import RoomSnapshot as KeptRoom
from tableforge.domain.state import Room
from tableforge.errors import Unavailable
from tableforge.eventlog import EventLog, Head, RoomRow, RoomRows, Snapshot
from tableforge.protocol import codec
from tableforge.rooms.live import LiveRoom, room_tag

LARGE_EVENTS = 1_000
"""A room with more behind it may take long to encode: that is done beside the loop."""
LARGE_BYTES = 100_000
"""What is larger is decoded there."""
PUBLIC = "public_rooms"

log = structlog.get_logger(__name__)


def list_tag(user: str) -> str:
    """What everything is tagged with that depends on where this user has a seat."""
    return f"rooms_of:{user}"


def tags_changed(before: Room, after: Room | None) -> list[str]:
    """The tags of all lists that are others now that a room has changed; None for one that is gone."""
    tags = [room_tag(before.id)]
    left, here = before.members, {} if after is None else after.members
    now = None if after is None else (after.name, after.visibility, after.tags)
    if not before.version or now != (before.name, before.visibility, before.tags):
        if "public" in (before.visibility, after and after.visibility):
            tags.append(PUBLIC)
        return [*tags, *map(list_tag, {**left, **here})]
    return [*tags, *map(list_tag, sorted(left.keys() ^ here.keys()))]


async def encoded(room: Room) -> bytes:
    """A room for a snapshot; a long-lived one is encoded beside the loop."""
    if room.version < LARGE_EVENTS:
        return codec.encode_room(room)
    return await asyncio.to_thread(codec.encode_room, room)


async def decoded(snapshot: Snapshot) -> Room | None:
    """A snapshot's room, or None when its form cannot be read any more; a big one is decoded beside the loop."""
    if len(snapshot.data) < LARGE_BYTES:
        return codec.decode_room(snapshot.version, snapshot.data)
    return await asyncio.to_thread(codec.decode_room, snapshot.version, snapshot.data)


class BeginningUnreadable(Unavailable):
    """A log whose first events are gone, and no snapshot that could be read tells of them."""

    def __init__(self, room: str, begins: int) -> None:
        super().__init__(
            f"Room {room} was not opened.",
            f"Its log begins behind event {begins}, and this version reads no snapshot of what came before.",
            "Run `tableforge verify` on the server, and use the version that wrote it, or a backup.",
        )


async def base(events: EventLog, room: str, offset: int, *, begins: int, latest: int) -> Room:
    """The room at the newest readable snapshot that is not newer than `offset`; the empty room if there is none.

    Of a log that `begins` behind an offset nothing earlier counts, and the empty room is no place to begin: one up to
    `latest` serves then, or `BeginningUnreadable` is raised.
    """
    for at in (offset, latest) if begins else (offset,):
        below = at
        while (found := await events.snapshot_at(room, below)) and found.offset >= begins:
            state = await decoded(found)
            if state is not None and state.version == found.offset:
                return state
            below = found.offset - 1
    if begins:
        raise BeginningUnreadable(room, begins)
    return Room(room)


class CachedRooms:
    """The log's snapshots and lists, through the cache."""

    def __init__(self, log: EventLog, cache: Cache, policies: Policies) -> None:
        self._log = log
        self._cache = cache
        self._states = policies.room_states
        self._lists = policies.query_results
        self._seats = policies.user_seats
        self.happened = cache.touch_tag
        """Called with a room's tag at each of its events: costs a look-up where no list shows the room."""

    # Snapshots

    async def base(self, room: str, head: Head, *, kept_back: int, reach: int) -> tuple[Room, int]:
        """Where to begin to fold a room, and the offset of the newest snapshot that its log is known to have.

        One from the log lies at least `kept_back` events behind the head, if the log reaches back so far; one from the
        cache that lies more than `reach` behind it is not worth having.
        """
        saved = 0
        far = max(head.begins, head.offset - kept_back)

        async def load() -> Built[KeptRoom] | None:
            nonlocal saved
            found = await self._log.snapshot_at(room, head.offset)
            if found is not None:
                saved = found.offset
                if saved > far:
                    found = await self._log.snapshot_at(room, far)
            if found is None:
                return None
            kept = KeptRoom(
                epoch=head.epoch,
                server=head.server,
                offset=found.offset,
                saved=saved,
                version=found.version,
                data=found.data,
            )
            return Built(kept, position=found.offset)

        kept = await self._cache.get(self._states, room, load)
        if kept is None and not head.begins:
            return Room(room), saved
        if (
            kept is not None
            and (kept.epoch, kept.server) == (head.epoch, head.server)
            and max(head.begins, head.offset - reach) <= kept.offset <= head.offset
        ):
            state = await decoded(Snapshot(kept.offset, kept.version, kept.data))
            if state is not None and state.version == kept.offset:
                return state, kept.saved
        state = await base(self._log, room, far, begins=head.begins, latest=head.offset)
        return state, max(saved, state.version)

    async def save(self, live: LiveRoom) -> None:
        """Keep a snapshot of a room's present state in its log and in the cache."""
        room, before = live.durable, live.saved
        live.saved = room.version
        data = await encoded(room)
        try:
            await self._log.save_snapshot(room.id, Snapshot(room.version, codec.ROOM_FORM, data))
        except Unavailable as unavailable:
            live.saved = before  # nothing hangs on it; the next one will do
            log.warning("a snapshot was not saved", room=room.id, reason=str(unavailable))
        self._put(live, room, data)

    async def keep(self, live: LiveRoom) -> None:
        """Keep a room's present state in the cache alone."""
        room = live.durable
        self._put(live, room, await encoded(room))

    def _put(self, live: LiveRoom, room: Room, data: bytes) -> None:
        if live.server is None or not room.version:
            return
        kept = KeptRoom(
            epoch=live.epoch,
            server=live.server,
            offset=room.version,
            saved=live.saved,
            version=codec.ROOM_FORM,
            data=data,
        )
        self._cache.put(self._states, room.id, kept, position=room.version)

    async def place(self, live: LiveRoom) -> None:
        """Find out which server holds a log that was begun here; at once, since later it may be another."""
        with contextlib.suppress(Unavailable):  # then this life of the room is not cached
            head = await self._log.head(live.id)
            if head is not None and head.epoch == live.epoch:
                live.server = head.server

    # Lists

    def heard(self, live: LiveRoom) -> None:
        """Another instance appended to a room; it has told everybody itself."""
        self._cache.forget_tag(live.tag)

    def changed(self, before: Room, after: Room | None) -> None:
        """What lists know of a room has changed; None for one that is gone."""
        self._cache.drop_tag(*tags_changed(before, after))
        if after is None:
            self._cache.drop(self._states, before.id)

    async def list_rooms(
        self, *, user: str, public: bool, query: str, tag: str, before: int | None, limit: int
    ) -> RoomRows:
        """See `EventLog.list_rooms`."""

        async def load() -> Built[Rows]:
            page = await self._log.list_rooms(
                user=user, public=public, query=query, tag=tag, before=before, limit=limit
            )
            tags = [room_tag(row.id) for row in page.rows]
            return Built(Rows(tuple(map(tuple, page.rows)), page.next), tags=tags)

        question = msgspec.json.encode(("rooms", user, public, query, tag, before, limit))
        tags = ([PUBLIC] if public else []) + ([list_tag(user)] if user else [])
        found = await self._cache.get(
            self._lists, blake2b(question, digest_size=16).hexdigest(), load, tags=tags
        )
        assert found is not None  # an empty page is one as well
        return RoomRows([RoomRow(*row) for row in found.rows], found.next)  # type: ignore[arg-type]  # as the log answered

    async def seats(self, user: str) -> list[str]:
        """See `EventLog.seats`: where to look, not what they may."""

        async def load() -> Built[Rows]:
            return Built(Rows(tuple((room,) for room in await self._log.seats(user))))

        found = await self._cache.get(self._seats, user, load, tags=[list_tag(user)])
        assert found is not None
        return [str(room) for (room,) in found.rows]
