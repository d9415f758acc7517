"""What the edges call: everything that can be asked of a room, by whoever may ask it."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec

from tableforge.domain.commands import (
    AddToken,
    Command,
    CreateScene,
    HouseCommand,
    OpenRoom,
    UpdateScene,
    UpdateToken,
)
from tableforge.domain.layouts import pictures_in, with_pictures
from tableforge.domain.state import Layout, Role, Visibility
from tableforge.domain.visibility import RoomView, layout_seen, redact, visible_assets
from tableforge.errors import Forbidden, Malformed, NotFound, TableForgeError
from tableforge.eventlog import EventLog, RoomRow, StreamMissing
from tableforge.library.changes import to_the_end
from tableforge.protocol import codec
from tableforge.rooms.cached import CachedRooms
from tableforge.rooms.engine import RoomEngine
from tableforge.rooms.live import LiveRoom, Reply
from tableforge.rooms.loading import views_between
from tableforge.rooms.views import Viewed

DELETING_AT_ONCE = 1000
"""How many rooms are remembered with who began to delete them and was not told that all is done."""
PAGE_LIMIT = 1000
LIST_LIMIT = 200
FOLDED_TOGETHER = 500
"""Readers whose positions lie in the same stretch of so many events share one fold of the log."""


class RoomSnapshot(msgspec.Struct, frozen=True):
    """A room as one user may see it now, and where that is in its log."""

    epoch: str
    offset: int
    room: RoomView


class EventsPage(NamedTuple):
    """Events as JSON, each with its offset; `next` is where the following page begins, None at the head."""

    events: list[tuple[int, bytes]]
    next: int | None


class RoomList(NamedTuple):
    """A page of a listing; `next` continues it, None at its end. A page may be short although more follow."""

    rooms: list[RoomRow]
    next: str | None


class NoSuchRoom(NotFound):
    """The one answer for a room that is not there and for one that the caller may not know of."""

    def __init__(self) -> None:
        super().__init__("There is no such room.", "", "Ask its GM for a new link.")


class NoSuchPicture(NotFound):
    """The one answer for a picture that is not there and for one that the caller may not use."""

    def __init__(self) -> None:
        super().__init__(
            "The command was not carried out.",
            "There is no such picture.",
            "Send it to /api/assets first, and name the id that this answers.",
        )


def picture_in(command: Command) -> str | None:
    """The asset that a command would put on the table."""
    named: object = None
    if isinstance(command, AddToken | UpdateToken):
        named = command.image
    elif isinstance(command, CreateScene | UpdateScene):
        named = command.background
    return named if isinstance(named, str) else None


class RoomService:
    """All rooms. `online` tells who is connected to a room, `uploaded` whether a user sent an asset (asset, user);
    `deleted` hears of rooms that are gone."""

    def __init__(
        self,
        log: EventLog,
        cached: CachedRooms,
        engine: RoomEngine,
        *,
        recovery_events: int,
        online: Callable[[str], frozenset[str]],
        uploaded: Callable[[str, str], Awaitable[bool]],
        deleted: Callable[[str], Awaitable[None]],
    ) -> None:
        self._log = log
        self._cached = cached
        self.engine = engine
        self._recovery_events = recovery_events
        self._online = online
        self._uploaded = uploaded
        self._deleted = deleted
        self._deleting: dict[str, str] = {}
        self._folds: dict[tuple[str, int, int], asyncio.Future[list[Viewed]]] = {}

    async def open(self, room: str) -> LiveRoom:
        """The room in memory; `NoSuchRoom` if there is none."""
        if not room.isprintable():
            raise NoSuchRoom  # nor may a database be able to hold such an id
        try:
            return await self.engine.open(room)
        except StreamMissing as missing:
            raise NoSuchRoom from missing

    async def open_for(self, room: str, user: str) -> LiveRoom:
        """The room for one of its members. A private room does not exist for others; a public one asks them to join."""
        live = await self.open(room)
        if user not in live.durable.members:
            if live.durable.visibility == "public":
                raise Forbidden(
                    "You have no seat at this table.", "It is public.", "Join it first."
                )
            raise NoSuchRoom
        return live

    async def create(
        self,
        user: str,
        user_name: str,
        name: str,
        visibility: Visibility,
        layout: Layout | None = None,
    ) -> str:
        """Open a new room with this user as its GM, set up like `layout`, and return its id."""
        room = secrets.token_hex(8)
        command = OpenRoom(
            room=room,
            id=secrets.token_hex(8),
            name=name,
            visibility=visibility,
            member_name=user_name,
            layout=layout,
        )
        decided = None if layout is None else await self.engine.prepared(user, command)
        await self._answered(lambda answer: self.engine.create(user, command, answer, decided))
        return room

    async def command(self, room: str, user: str, raw: bytes | msgspec.Raw) -> Reply:
        """Carry out a member's command and return once it is durable."""
        command = codec.decode_command(raw)
        if command.room != room:
            raise Malformed(
                "The command was not carried out.",
                f"Its `room` is {command.room!r}, but it was sent to {room!r}.",
                "Make them the same.",
            )
        live = await self.open_for(room, user)
        picture = picture_in(command)
        # Whoever could put up a picture by its id alone would be served it ever after.
        if picture is not None and not (
            picture in visible_assets(live.durable, user) or await self._uploaded(picture, user)
        ):
            raise NoSuchPicture
        return await self._answered(lambda answer: self.engine.execute(live, user, command, answer))

    async def house(self, room: str, user: str, command: Command | HouseCommand) -> Reply:
        """Carry out a command that the server itself makes on a user's behalf; the edge checked their right to it."""
        live = await self.open(room)
        return await self._answered(lambda answer: self.engine.execute(live, user, command, answer))

    async def _answered(
        self, start: Callable[[Callable[[Reply | TableForgeError], None]], None]
    ) -> Reply:
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def answer(outcome: Reply | TableForgeError) -> None:
            if future.done():
                return
            if isinstance(outcome, TableForgeError):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

        start(answer)
        return await future

    async def role(self, room: str, user: str) -> Role | None:
        """The user's role in the room, None without a seat; `NoSuchRoom` if there is no room."""
        member = (await self.open(room)).durable.members.get(user)
        return member.role if member else None

    async def public_room(self, room: str) -> bool:
        """Whether the room is open to everybody."""
        return (await self.open(room)).durable.visibility == "public"

    def snapshot_of(self, live: LiveRoom, viewer: str) -> RoomSnapshot:
        """What the viewer may see of the room as it is on the disk."""
        room = redact(live.durable, viewer, online=self._online(live.id))
        return RoomSnapshot(live.epoch, live.durable.version, room)

    async def snapshot(self, room: str, viewer: str) -> RoomSnapshot:
        """What this member may see now."""
        return self.snapshot_of(await self.open_for(room, viewer), viewer)

    async def layout(self, room: str, user: str) -> Layout:
        """What this GM sees of the room that can be set up again elsewhere, with the pictures that they uploaded: those of
        others are not theirs to show to whom they like.
        """
        live = await self.open_for(room, user)
        if live.durable.members[user].role != "gm":
            raise Forbidden("No template was made.", "Only a GM may make one.", "Ask a GM.")
        layout = await asyncio.to_thread(layout_seen, live.durable, user)
        named = sorted(pictures_in(layout))
        own = {picture for picture in named if await self._uploaded(picture, user)}
        return with_pictures(layout, own)

    async def visible_assets(self, room: str, viewer: str) -> frozenset[str]:
        """The assets that what this member sees refers to; empty for whoever has no seat."""
        try:
            state = (await self.open(room)).durable
        except NoSuchRoom:
            return frozenset()
        return visible_assets(state, viewer) if viewer in state.members else frozenset()

    async def events(self, room: str, viewer: str, after: int, limit: int) -> EventsPage:
        """The events behind `after`, each as this member was allowed to see it then; the earliest may be gone."""
        live = await self.open_for(room, viewer)
        limit = min(limit, PAGE_LIMIT)
        after = await self.kept_behind(live, after)
        upto = min(live.durable.version, after + limit)
        found = await self.views(live, after, upto) if after < upto else []
        page = [(viewed.offset, viewed.data_for(viewer)) for viewed in found]
        return EventsPage(page, upto if upto < live.durable.version and found else None)

    async def kept_behind(self, live: LiveRoom, after: int) -> int:
        """The first offset from `after` on behind which the room's events are kept."""
        if live.since(after) is not None:
            return after
        head = await self._log.head(live.id)
        return after if head is None else max(after, head.begins)

    async def views(self, live: LiveRoom, after: int, upto: int) -> list[Viewed]:
        """The events behind `after` up to `upto`: from memory if they are there, else from the log.

        Where the log begins behind `after`, those that it has.
        """
        recent = live.since(after)
        if recent is not None:
            return recent[: upto - after]
        # Those who were all cut off at once ask for nearly the same: one fold, from a common place on, serves them.
        start = after - after % FOLDED_TOGETHER
        key = (live.id, start, upto)
        fold = self._folds.get(key)
        if fold is None:
            fold = asyncio.ensure_future(views_between(self._log, live.id, after=start, upto=upto))
            self._folds[key] = fold
            fold.add_done_callback(lambda _: self._folds.pop(key, None))
        return [viewed for viewed in await asyncio.shield(fold) if viewed.offset > after]

    def may_recover(self, live: LiveRoom, user: str, offset: int, epoch: str) -> bool:
        """Whether a client at this position can be brought up to date by events alone.

        Not from another life of the log, not from ahead of it, not from too far behind, and not from before the user's
        present role: what they saw under another one is not what this one sees.
        """
        head = live.durable.version
        member = live.durable.members.get(user)
        return (
            (not epoch or epoch == live.epoch)
            and head - self._recovery_events <= offset <= head
            and member is not None
            and offset >= member.since
        )

    async def rooms_of(
        self, user: str | None, *, limit: int, cursor: str | None, query: str = "", tag: str = ""
    ) -> RoomList:
        """The user's own rooms, then the public ones; without a user the public ones only."""
        only_public, before = _parse_cursor(cursor) if cursor else (user is None, None)
        limit = max(1, min(limit, LIST_LIMIT))
        found: list[RoomRow] = []
        for public in (True,) if only_public else (False, True):
            # With the page full already, the question is only whether there is anything more.
            page = await self._cached.list_rooms(
                user=user or "",
                public=public,
                query=query,
                tag=tag,
                before=before,
                limit=max(1, limit - len(found)),
            )
            if len(found) == limit:
                more = page.rows or page.next is not None
                return RoomList(found, _cursor(found[-1].place, public=False) if more else None)
            found += page.rows
            if page.next is not None:
                return RoomList(found, _cursor(page.next, public=public))
            before = None
        return RoomList(found, None)

    async def delete(self, room: str, user: str) -> None:
        """Delete the room for its GM: gone for everybody at once; the shell can restore it.

        Where it is not known whether that came about, or the others could not be told, the same user may send it again.
        """
        try:
            await self.open(room)
        except NoSuchRoom:
            if self._deleting.get(room) != user:
                raise
            await self._deleted(room)
            self._deleting.pop(room, None)
            return
        live = await self.open_for(room, user)
        if live.durable.members[user].role != "gm":
            raise Forbidden("The table was not deleted.", "Only a GM may do that.", "Ask a GM.")
        await to_the_end(self._delete(live, user))

    async def _delete(self, live: LiveRoom, user: str) -> None:
        while len(self._deleting) >= DELETING_AT_ONCE:
            del self._deleting[next(iter(self._deleting))]
        self._deleting[live.id] = user
        known = False
        try:
            await self._log.delete(live.id, at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
            known = True
        finally:
            # If it may have come about, whoever listens here asks the log what there is now.
            (self.engine.drop if known else self.engine.invalidate)(live)
            self._cached.changed(live.durable, None)
        await self._deleted(live.id)
        self._deleting.pop(live.id, None)

    async def rooms_with_seat(self, user: str) -> list[str]:
        """The ids of all rooms in which the user has a seat."""
        return await self._log.seats(user)

    async def likely_rooms(self, user: str) -> list[str]:
        """The same as it was a moment ago: where to look first."""
        return await self._cached.seats(user)


def _cursor(place: int, *, public: bool) -> str:
    return f"{'p' if public else 'o'}{place}"


def _parse_cursor(cursor: str) -> tuple[bool, int]:
    if cursor[:1] in {"p", "o"} and cursor[1:].isdecimal() and len(cursor) < 20:
        return cursor[0] == "p", int(cursor[1:])
    raise Malformed(
        "The rooms were not listed.",
        f"The cursor {cursor!r} is none of ours.",
        "Take it from `next` of the page before, or leave it out.",
    )
