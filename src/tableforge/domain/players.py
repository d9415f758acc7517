"""Members: who sits at the table, what they may do, and the room's own name, tags and settings.

Membership, roles and settings are visible to all, so nothing here depends on what the caller sees.
"""

from msgspec import UNSET
from msgspec.structs import replace

from tableforge.domain.commands import (
    BanMember,
    ChangeRole,
    JoinRoom,
    KickMember,
    LeaveRoom,
    MuteMember,
    OpenRoom,
    RenameMember,
    UpdateRoom,
)
from tableforge.domain.events import (
    Event,
    MemberChanged,
    MemberJoined,
    MemberRemoved,
    RoomChanged,
    RoomCreated,
)
from tableforge.domain.ids import fresh_id
from tableforge.domain.layouts import set_up
from tableforge.domain.state import Given, Grid, Member, Role, Room, Scene, Settings
from tableforge.errors import Conflict, Forbidden, NotFound, TooLarge

MEMBERS_MAX = 1_000
BANNED_MAX = 1_000
RANK: dict[Role, int] = {"spectator": 0, "player": 1, "gm": 2}


# What the other rules ask


def caller(room: Room, given: Given) -> Member:
    """The member who asks; for anybody else the room is not there."""
    member = room.members.get(given.by)
    if member is None:
        raise NotFound("There is no such room.", "", "Ask its GM for a new link.")
    return member


def member_named(room: Room, user: str) -> Member:
    """A member by their id."""
    member = room.members.get(user)
    if member is None:
        raise NotFound("There is no such member.", "", "Take an id from the list of members.")
    return member


def require_gm(member: Member, what: str) -> None:
    """Refuse everybody but a GM."""
    if member.role != "gm":
        raise Forbidden(what, "Only a GM may do this.", "Ask the GM of this table.")


def require_player(member: Member, what: str) -> None:
    """Refuse spectators."""
    if member.role == "spectator":
        raise Forbidden(what, "Spectators may only chat.", "Ask the GM for a seat as a player.")


def require_voice(member: Member, what: str) -> None:
    """Refuse those whom the GM has muted."""
    if member.muted:
        raise Forbidden(what, "You are muted.", "Ask the GM to let you speak again.")


def _require_another_gm(room: Room, member: Member, what: str) -> None:
    if member.role == "gm" and sum(one.role == "gm" for one in room.members.values()) == 1:
        raise Conflict(
            what, "A table needs a GM, and this is its last one.", "Make somebody else a GM first."
        )


# Commands


def open_room(room: Room, command: OpenRoom, given: Given) -> tuple[Event, ...]:
    """The first command of every room."""
    if room.version > 0:
        raise Conflict("The room was not made.", "It is there already.", "Open it by its link.")
    scene = Scene(id=fresh_id(given), name="First scene", width=30.0, height=20.0, grid=Grid())
    created = RoomCreated(
        given.by,
        given.at,
        command.id,
        room=command.room,
        name=command.name,
        visibility=command.visibility,
        member_name=command.member_name,
        scene=scene,
    )
    if command.layout is None:
        return (created,)
    return (created, *set_up(command.layout, scene, given, command.id))


def join(room: Room, command: JoinRoom, given: Given) -> tuple[Event, ...]:
    """Take a seat, or a better one; whoever sits already with the same role or a higher one stays as they are."""
    if given.by in room.banned:
        raise Forbidden("You did not join.", "You were banned from this table.", "Ask its GM.")
    member = room.members.get(given.by)
    if member is not None:
        if RANK[member.role] >= RANK[command.role]:
            return ()
        return (MemberChanged(given.by, given.at, command.id, user=given.by, role=command.role),)
    if len(room.members) >= MEMBERS_MAX:
        raise TooLarge("You did not join.", f"A table seats at most {MEMBERS_MAX} members.")
    return (
        MemberJoined(
            given.by, given.at, command.id, user=given.by, name=command.name, role=command.role
        ),
    )


def leave(room: Room, command: LeaveRoom, given: Given) -> tuple[Event, ...]:
    """Get up from the table; the last GM cannot, but may delete the room."""
    member = caller(room, given)
    _require_another_gm(room, member, "You did not leave.")
    return (MemberRemoved(given.by, given.at, command.id, user=member.id, because="left"),)


def rename(room: Room, command: RenameMember, given: Given) -> tuple[Event, ...]:
    """Go by another name at this table."""
    member = caller(room, given)
    if member.name == command.name:
        return ()
    return (MemberChanged(given.by, given.at, command.id, user=member.id, name=command.name),)


def change_role(room: Room, command: ChangeRole, given: Given) -> tuple[Event, ...]:
    """Give a member another role."""
    asking, member = caller(room, given), member_named(room, command.user)
    require_gm(asking, "The role was not changed.")
    if member.role == command.role:
        return ()
    _require_another_gm(room, member, "The role was not changed.")
    return (MemberChanged(given.by, given.at, command.id, user=member.id, role=command.role),)


def kick(room: Room, command: KickMember, given: Given) -> tuple[Event, ...]:
    """Take a member's seat; with an invite they may come back."""
    asking, member = caller(room, given), member_named(room, command.user)
    require_gm(asking, "The member was not removed.")
    _require_another_gm(room, member, "The member was not removed.")
    return (MemberRemoved(given.by, given.at, command.id, user=member.id, because="kicked"),)


def ban(room: Room, command: BanMember, given: Given) -> tuple[Event, ...]:
    """Take a member's seat for good."""
    asking, member = caller(room, given), member_named(room, command.user)
    require_gm(asking, "The member was not banned.")
    _require_another_gm(room, member, "The member was not banned.")
    if len(room.banned) >= BANNED_MAX:
        raise TooLarge("The member was not banned.", f"A table bans at most {BANNED_MAX} users.")
    return (MemberRemoved(given.by, given.at, command.id, user=member.id, because="banned"),)


def mute(room: Room, command: MuteMember, given: Given) -> tuple[Event, ...]:
    """Take away a member's voice in chat and dice, or give it back."""
    asking, member = caller(room, given), member_named(room, command.user)
    require_gm(asking, "The member was not muted.")
    if member.muted == command.muted:
        return ()
    return (MemberChanged(given.by, given.at, command.id, user=member.id, muted=command.muted),)


def update_room(room: Room, command: UpdateRoom, given: Given) -> tuple[Event, ...]:
    """Change the room's name, visibility, tags or settings; the event names only what changed."""
    require_gm(caller(room, given), "The room was not changed.")
    settings = room.settings
    if command.settings is not UNSET:
        asked = command.settings
        settings = Settings(
            gm_sees_all=settings.gm_sees_all if asked.gm_sees_all is UNSET else asked.gm_sees_all,
            players_add_tokens=settings.players_add_tokens
            if asked.players_add_tokens is UNSET
            else asked.players_add_tokens,
        )
    tags = UNSET if command.tags is UNSET else tuple(dict.fromkeys(command.tags))
    event = RoomChanged(
        given.by,
        given.at,
        command.id,
        name=UNSET if command.name == room.name else command.name,
        visibility=UNSET if command.visibility == room.visibility else command.visibility,
        tags=UNSET if tags == room.tags else tags,
        settings=UNSET if settings == room.settings else settings,
    )
    if (event.name, event.visibility, event.tags, event.settings) == (UNSET,) * 4:
        return ()
    return (event,)


# Events


def created(room: Room, event: RoomCreated) -> Room:
    """The room with its first member and scene."""
    return replace(
        room,
        id=event.room,
        name=event.name,
        visibility=event.visibility,
        members={event.by: Member(event.by, event.member_name, "gm", room.version + 1)},
        scenes={event.scene.id: event.scene},
        active=event.scene.id,
    )


def changed(room: Room, event: RoomChanged) -> Room:
    """The room under its changed name, visibility, tags and settings."""
    return replace(
        room,
        name=room.name if event.name is UNSET else event.name,
        visibility=room.visibility if event.visibility is UNSET else event.visibility,
        tags=room.tags if event.tags is UNSET else event.tags,
        settings=room.settings if event.settings is UNSET else event.settings,
    )


def member_joined(room: Room, event: MemberJoined) -> Room:
    """The room with one more member."""
    member = Member(event.user, event.name, event.role, room.version + 1)
    return replace(room, members={**room.members, event.user: member})


def member_changed(room: Room, event: MemberChanged) -> Room:
    """The room with a member who has another name, role or voice."""
    member = room.members[event.user]
    if event.name is not UNSET:
        member = replace(member, name=event.name)
    if event.role is not UNSET:
        member = replace(member, role=event.role, since=room.version + 1)
    if event.muted is not UNSET:
        member = replace(member, muted=event.muted)
    return replace(room, members={**room.members, event.user: member})


def member_removed(room: Room, event: MemberRemoved) -> Room:
    """The room without a member, their place, what was told to them alone, and what they could undo."""
    user = event.user
    banned = room.banned
    if event.because == "banned" and user not in banned:
        banned = (*banned, user)
    return replace(
        room,
        members={key: member for key, member in room.members.items() if key != user},
        banned=banned,
        placed={key: scene for key, scene in room.placed.items() if key != user},
        chat={key: lines for key, lines in room.chat.items() if key != user},
        deeds={key: deeds for key, deeds in room.deeds.items() if key != user},
    )
