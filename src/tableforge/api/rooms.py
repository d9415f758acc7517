"""Rooms over REST: listing, making, joining, reading, and commands for scripts and bots."""

import secrets
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
from litestar import delete, get, patch, post
from litestar.params import FromPath
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from tableforge.api.auth import require_admin, signed_in, signed_in_if_known
from tableforge.api.body import decoded, queried
from tableforge.api.caller import Caller
from tableforge.api.documents import COMMAND, INVITE, ROOM, documented
from tableforge.api.house import House, house_of
from tableforge.domain.commands import (
    PRINTABLE,
    Command,
    Id,
    JoinRoom,
    LeaveRoom,
    Name,
    SettingsChange,
    Tag,
    UpdateRoom,
)
from tableforge.domain.state import Role, Settings, Visibility
from tableforge.errors import Forbidden, Malformed, NotFound, TableForgeError, TooMany
from tableforge.library.sessions import Session
from tableforge.protocol import codec
from tableforge.rooms.live import Reply
from tableforge.rooms.service import NoSuchRoom, RoomSnapshot

RANK: dict[Role, int] = {"spectator": 0, "player": 1, "gm": 2}

Offset = Annotated[int, Meta(ge=0, le=2**53)]


class RoomQuery(Struct, frozen=True):
    """Which rooms to list."""

    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    cursor: Annotated[str, Meta(max_length=64)] | UnsetType = UNSET
    q: Annotated[str, Meta(max_length=80, pattern=PRINTABLE)] = ""
    tag: Annotated[str, Meta(max_length=40, pattern=PRINTABLE)] = ""


class RoomLine(Struct, frozen=True):
    """One room of a listing; `members` is a count, `updated` the time of its newest event, `role` the caller's own there."""

    id: str
    name: str
    members: int
    updated: str
    role: Role | None


class RoomPage(Struct, frozen=True):
    """A page of a listing; `next` is the cursor of the following one."""

    rooms: list[RoomLine]
    next: str | None


class NewRoom(Struct, frozen=True):
    """The room to make: an empty one, or set up like the newest version of a template."""

    name: Name
    visibility: Visibility = "private"
    template: Id | UnsetType = UNSET


class CreatedRoom(Struct, frozen=True):
    """The room with the caller's role in it, and an invite for players."""

    id: str
    name: str
    role: Role
    invite: str


class Seat(Struct, frozen=True):
    """A member as the summary tells of them."""

    id: str
    name: str
    role: Role
    online: bool


class RoomSummary(Struct, frozen=True):
    """What a member sees of a room without sitting down at it."""

    id: str
    name: str
    visibility: Visibility
    tags: tuple[str, ...]
    settings: Settings
    members: tuple[Seat, ...]


class RoomChanges(Struct, frozen=True):
    """What a GM may change about a room; what is left out stays."""

    name: Name | UnsetType = UNSET
    visibility: Visibility | UnsetType = UNSET
    tags: Annotated[tuple[Tag, ...], Meta(max_length=20)] | UnsetType = UNSET
    settings: SettingsChange | UnsetType = UNSET


class Joining(Struct, frozen=True):
    """The invite; none for a public room."""

    invite: Annotated[str, Meta(min_length=1, max_length=64)] | None = None


class Joined(Struct, frozen=True):
    """The role that the caller now has."""

    role: Role


class NewInvite(Struct, frozen=True):
    """The invite to make: how many may use it, and until when; left out = no limit."""

    role: Role = "player"
    uses: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    expires: Annotated[datetime, Meta(tz=True)] | None = None


class MadeInvite(Struct, frozen=True):
    """The invite, which stands in the fragment of a link and is told only now."""

    invite: str


class EventsQuery(Struct, frozen=True):
    """Which events: those behind the offset `after`."""

    after: Offset = 0
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class SeenEvent(Struct, frozen=True):
    """An event as the caller was allowed to see it then; its form is the publication's of docs/protocol.md."""

    offset: int
    event: Annotated[Raw, Meta(extra_json_schema={"type": "object"})]


class SeenEvents(Struct, frozen=True):
    """Events in order; `next` is the `after` of the following page, null at the head."""

    events: list[SeenEvent]
    next: int | None


@get(
    "/api/rooms",
    opt=documented(query=RoomQuery, gives={200: RoomPage}, session=False),
)
async def list_rooms(request: Caller) -> RoomPage:
    """List the caller's own rooms, then public ones; without a session the public ones only."""
    session = await signed_in_if_known(request)
    query = queried(request, RoomQuery)
    found = await house_of(request).rooms.rooms_of(
        session.user_id if session else None,
        limit=query.limit,
        cursor=query.cursor or None,
        query=query.q,
        tag=query.tag,
    )
    lines = [RoomLine(row.id, row.name, row.members, row.updated, row.role) for row in found.rooms]
    return RoomPage(lines, found.next)


@post(
    "/api/rooms",
    opt=documented(takes=NewRoom, gives={201: CreatedRoom}, refuses=(NotFound, TooMany)),
)
async def create_room(request: Caller) -> CreatedRoom:
    """Make a room with the caller as its GM: one active square scene of 30 × 20 cells, or what a template has."""
    house = house_of(request)
    if house.settings.access.room_creation == "admin":
        await require_admin(request)
        session = await signed_in(request, bearer=False)
    else:
        session = await signed_in(request)
    wanted = await decoded(request, NewRoom)
    layout = None
    if wanted.template is not UNSET:
        layout = await house.designs.layout(wanted.template, session.user_id)
    room = await house.rooms.create(
        session.user_id, session.name, wanted.name, wanted.visibility, layout
    )
    invite = await house.invites.create(room, "player", by=session.user_id)
    return CreatedRoom(room, wanted.name, "gm", invite)


@get("/api/rooms/{room:str}", opt=documented(gives={200: RoomSummary}, refuses=(*ROOM, Forbidden)))
async def get_room(request: Caller, room: FromPath[str]) -> RoomSummary:
    """Tell what the room is and who belongs to it."""
    session = await signed_in(request)
    return summary(await house_of(request).rooms.snapshot(room, session.user_id))


def summary(snapshot: RoomSnapshot) -> RoomSummary:
    """The part of a room that is no board."""
    room = snapshot.room
    seats = tuple(
        Seat(member.id, member.name, member.role, member.online) for member in room.members
    )
    return RoomSummary(room.id, room.name, room.visibility, room.tags, room.settings, seats)


@patch(
    "/api/rooms/{room:str}",
    opt=documented(takes=RoomChanges, gives={200: RoomSummary}, refuses=COMMAND),
)
async def change_room(request: Caller, room: FromPath[str]) -> RoomSummary:
    """Change name, visibility, tags or settings; for GMs."""
    house = house_of(request)
    session = await signed_in(request)
    wanted = await decoded(request, RoomChanges)
    command = UpdateRoom(
        room=room,
        id=secrets.token_hex(8),
        name=wanted.name,
        visibility=wanted.visibility,
        tags=wanted.tags,
        settings=wanted.settings,
    )
    await house.rooms.command(room, session.user_id, codec.encode(command))
    return summary(await house.rooms.snapshot(room, session.user_id))


@delete("/api/rooms/{room:str}", opt=documented(gives={204: None}, refuses=ROOM))
async def delete_room(request: Caller, room: FromPath[str]) -> None:
    """Delete the room, for GMs: gone at once, restorable for 7 days from the server's shell."""
    session = await signed_in(request)
    await house_of(request).rooms.delete(room, session.user_id)


@post(
    "/api/rooms/{room:str}/join",
    status_code=200,
    opt=documented(takes=Joining, gives={200: Joined}, refuses=INVITE),
)
async def join_room(request: Caller, room: FromPath[str]) -> Joined:
    """Take a seat by an invite, or at a public room without one.

    Whoever has a seat keeps the higher of both roles; an invite that would not raise it is not used up.
    """
    house = house_of(request)
    session = await signed_in(request)
    wanted = await decoded(request, Joining)
    present = await house.rooms.role(room, session.user_id)
    if wanted.invite is None:
        return await join_without_invite(house, room, session, present)
    offered = await offered_role(house, room, wanted.invite, present)
    if present is not None and RANK[present] >= RANK[offered]:
        return Joined(present)
    role = await house.invites.redeem(room, wanted.invite)
    try:
        await sit_down(house, room, session, role)
    except TableForgeError:
        await house.invites.give_back(room, wanted.invite)
        raise
    return Joined(role)


async def offered_role(house: House, room: str, invite: str, present: Role | None) -> Role:
    """What the invite offers; whoever may not know of the room learns nothing of it from a wrong one."""
    try:
        return await house.invites.role_of(room, invite)
    except NotFound:
        if present is None and not await house.rooms.public_room(room):
            raise NoSuchRoom from None
        raise


async def join_without_invite(
    house: House, room: str, session: Session, present: Role | None
) -> Joined:
    """Keep the seat that there is, or take one at a public room."""
    if present is not None:
        return Joined(present)
    if not await house.rooms.public_room(room):
        raise NoSuchRoom
    await sit_down(house, room, session, "player")
    return Joined("player")


async def sit_down(house: House, room: str, session: Session, role: Role) -> None:
    """Give the caller a seat of this role."""
    command = JoinRoom(room=room, id=secrets.token_hex(8), name=session.name, role=role)
    await house.rooms.house(room, session.user_id, command)


@delete("/api/rooms/{room:str}/members/me", opt=documented(gives={204: None}, refuses=COMMAND))
async def leave_room(request: Caller, room: FromPath[str]) -> None:
    """Leave the room; the last GM cannot."""
    house = house_of(request)
    session = await signed_in(request)
    if await house.rooms.role(room, session.user_id) is None:
        raise NoSuchRoom
    command = LeaveRoom(room=room, id=secrets.token_hex(8))
    await house.rooms.house(room, session.user_id, command)


async def require_gm(house: House, room: str, session: Session, what: str) -> None:
    """Let GMs pass; raises Forbidden for other members, NotFound for everybody else."""
    role = await house.rooms.role(room, session.user_id)
    if role == "gm":
        return
    if role is None and not await house.rooms.public_room(room):
        raise NoSuchRoom
    raise Forbidden(what, "Only a GM of this room may do that.", "Ask a GM.")


@post(
    "/api/rooms/{room:str}/invites",
    opt=documented(takes=NewInvite, gives={201: MadeInvite}, refuses=ROOM),
)
async def make_invite(request: Caller, room: FromPath[str]) -> MadeInvite:
    """Make an invite, for GMs."""
    house = house_of(request)
    session = await signed_in(request)
    wanted = await decoded(request, NewInvite)
    await require_gm(house, room, session, "The invite was not made.")
    if wanted.expires is not None and wanted.expires <= datetime.now(UTC):
        raise Malformed(
            "The invite was not made.",
            "It would have expired already: `expires` is in the past.",
            "Send a later time, or leave it out.",
        )
    invite = await house.invites.create(
        room,
        wanted.role,
        by=session.user_id,
        uses=wanted.uses,
        expires=wanted.expires.timestamp() if wanted.expires else None,
    )
    return MadeInvite(invite)


@delete(
    "/api/rooms/{room:str}/invites/{invite:str}", opt=documented(gives={204: None}, refuses=ROOM)
)
async def delete_invite(request: Caller, room: FromPath[str], invite: FromPath[str]) -> None:
    """Let an invite open nothing any more, for GMs; who came by it stays."""
    house = house_of(request)
    session = await signed_in(request)
    await require_gm(house, room, session, "The invite was not deleted.")
    await house.invites.delete(room, invite)


@get(
    "/api/rooms/{room:str}/snapshot",
    opt=documented(gives={200: RoomSnapshot}, refuses=(*ROOM, Forbidden)),
)
async def get_snapshot(request: Caller, room: FromPath[str]) -> RoomSnapshot:
    """The room as the caller may see it now."""
    session = await signed_in(request)
    return await house_of(request).rooms.snapshot(room, session.user_id)


@get(
    "/api/rooms/{room:str}/events",
    opt=documented(query=EventsQuery, gives={200: SeenEvents}, refuses=(*ROOM, Forbidden)),
)
async def get_events(request: Caller, room: FromPath[str]) -> SeenEvents:
    """The room's history behind an offset, as the caller was allowed to see it then."""
    session = await signed_in(request)
    query = queried(request, EventsQuery)
    page = await house_of(request).rooms.events(room, session.user_id, query.after, query.limit)
    return SeenEvents([SeenEvent(offset, Raw(data)) for offset, data in page.events], page.next)


@post(
    "/api/rooms/{room:str}/commands",
    status_code=200,
    opt=documented(takes=Command, gives={200: Reply}, refuses=COMMAND),
)
async def send_command(request: Caller, room: FromPath[str]) -> Reply:
    """Carry out one command, as the WebSocket's `room.command` does; the path names the room already."""
    session = await signed_in(request)
    raw = await request.body()
    return await house_of(request).rooms.command(room, session.user_id, in_room(raw, room))


class Addressed(Struct, frozen=True):
    """The one field of a command that the path may stand for."""

    room: Raw | UnsetType = UNSET


def in_room(raw: bytes, room: str) -> bytes:
    """The command with its room, which may be left out where the path names it."""
    try:
        addressed = msgspec.json.decode(raw, type=Addressed)
    except codec.UNREADABLE as error:
        raise codec.malformed(error, "The command was not understood.") from error
    if addressed.room is not UNSET:
        return raw
    rest = raw.lstrip()[1:].lstrip()
    comma = b"" if rest.startswith(b"}") else b","
    return b'{"room":' + codec.encode(room) + comma + rest


ROUTES: Final[list[Any]] = [
    list_rooms,
    create_room,
    get_room,
    change_room,
    delete_room,
    join_room,
    leave_room,
    make_invite,
    delete_invite,
    get_snapshot,
    get_events,
    send_command,
]
