"""What one user may see of an event or of a room: the one function through which everything that leaves passes.

An event is redacted with the room before and after it. Whoever sees all of it gets it as it is stored; whoever sees nothing
of it gets `hidden`; in between, an event tells no more than what the reader's own view of the table shows, before or after:

- A group move is told without the pieces that the reader does not see, and as a single one if only one is left.
- A piece that is hidden from the reader's eyes: `token.updated` names it with no fields, and `gone` takes it away. Neither
  the way it was hidden nor what else was changed is told. When it comes into sight, `shown` brings the whole piece.
- When the scene in front of the reader changes, `gone` and `shown` exchange everything on it; of a `scene.placed` others than
  GMs are told their own place alone.
- A whisper is hidden from all but its ends; of a hidden roll the others are told that there was one.
- A change of the turn order is told as the reader sees the order; it is hidden if that stays the same. Where something else
  changes the order that the reader sees, `shown.turn` carries it; if that something itself is out of sight, a bare
  `turn.changed` takes its place.
- `undone` and `redone` keep only the parts that the reader sees something of.

Reading `gone`, `shown` and then the event itself into the view before gives exactly the view after.
"""

from collections.abc import Iterable
from typing import Protocol, TypeVar, assert_never, overload

from msgspec import UNSET, Struct
from msgspec.structs import replace

from tableforge.domain import chat
from tableforge.domain import events as e
from tableforge.domain.decider import apply
from tableforge.domain.events import Event, Gone, Hidden, Seen, SeenScene, Shown
from tableforge.domain.eyes import Eyes, eyes_of, is_plain, seen_turn, sees_scene, sees_token
from tableforge.domain.state import (
    ChatLine,
    Door,
    Drawing,
    Layout,
    Light,
    Placement,
    Role,
    Room,
    Scene,
    Settings,
    Token,
    Turn,
    Visibility,
    Wall,
)

HIDDEN = Hidden()


class Step(Struct, frozen=True):
    """An event between the rooms before and after it."""

    before: Room
    event: Event
    after: Room


class Me(Struct, frozen=True):
    """The reader."""

    id: str
    role: Role


class SeenMember(Struct, frozen=True):
    """A member as everybody sees them."""

    id: str
    name: str
    role: Role
    online: bool
    muted: bool


class RoomView(Struct, frozen=True):
    """A room as one user may see it now; its JSON is the snapshot's `room`. Lists but `chat` and the rows of `turn` have no
    order that means anything.

    `placed` tells a GM who was put into a scene of their own, and others only their own place.
    """

    id: str
    name: str
    visibility: Visibility
    tags: tuple[str, ...]
    settings: Settings
    me: Me
    members: tuple[SeenMember, ...]
    scenes: tuple[SeenScene, ...]
    tokens: tuple[Token, ...]
    walls: tuple[Wall, ...]
    doors: tuple[Door, ...]
    lights: tuple[Light, ...]
    drawings: tuple[Drawing, ...]
    placed: tuple[Placement, ...]
    turn: Turn | None
    chat: tuple[ChatLine, ...]


@overload
def redact(subject: Step, viewer: str, *, online: frozenset[str] = ...) -> Seen: ...
@overload
def redact(subject: Room, viewer: str, *, online: frozenset[str] = ...) -> RoomView: ...
def redact(
    subject: Step | Room, viewer: str, *, online: frozenset[str] = frozenset()
) -> Seen | RoomView:
    """What a user (by id) may see of an event, as they were allowed to then, or of a room. `online` is for rooms only."""
    if isinstance(subject, Room):
        return _view(subject, viewer, online)
    return _redacted(subject, viewer)


def is_public(step: Step) -> bool:  # noqa: C901  # one case an event
    """Whether everybody, member or not, sees the event as it is stored. Quick; False only means that one must look closer."""
    event, room = step.event, step.before
    match event:
        case e.TokenMoved():
            if event.moves is UNSET:
                assert event.token is not UNSET
                return _is_open(room, room.tokens[event.token])
            return all(_is_open(room, room.tokens[way.token]) for way in event.moves)
        case e.Said() | e.Rolled():
            return chat.told_to(room, event) is None
        case e.TokenUpdated():
            return _is_open(room, room.tokens[event.token]) and _is_open(
                room, step.after.tokens[event.token]
            )
        case e.DrawingAdded():
            return _is_open_scene(room, event.drawing.scene)
        case e.DrawingRemoved():
            return _is_open_scene(room, room.drawings[event.drawing].scene)
        case e.MemberChanged():
            return event.role is UNSET
        case e.MemberJoined():
            return event.role != "gm"
        case e.RoomCreated() | e.RoomChanged():
            return True
        case e.SceneUpdated():
            return _is_open_scene(room, event.scene)
        case e.TokenAdded():
            return _is_open(room, event.token)
        case e.TokenRemoved():
            rows = room.turn.entries if room.turn is not None else ()
            bound = any(row.token == event.token for row in rows)
            return not bound and _is_open(room, room.tokens[event.token])
        case e.TurnChanged():
            return _is_open_turn(room, room.turn) and _is_open_turn(room, event.turn)
        case _:
            return False


def vantage(step: Step, user: str) -> tuple[object, ...]:
    """Where a user stands towards an event: two of the same vantage are told the same, to the letter.

    Of chat it matters only whether one is among those who are told. Otherwise whoever was put into a scene of their own
    stands alone, and all others by their role and by the scene in front of them, before and after.
    """
    event = step.event
    if isinstance(event, e.Said | e.Rolled):
        to = chat.told_to(step.before, event)
        return (to is None or user in to,)
    was, now = eyes_of(step.before, user), eyes_of(step.after, user)
    alone = user in step.before.placed or user in step.after.placed
    return was.gm, was.scene, now.gm, now.scene, user if alone else None


def _is_open_scene(room: Room, scene: str) -> bool:
    if scene != room.active:
        return False
    return not room.placed or all(place == scene for place in room.placed.values())


def _is_open(room: Room, token: Token) -> bool:
    return is_plain(token) and _is_open_scene(room, token.scene)


def _is_open_turn(room: Room, turn: Turn | None) -> bool:
    bound = [row.token for row in turn.entries if row.token is not None] if turn is not None else []
    return all(key in room.tokens and _is_open(room, room.tokens[key]) for key in bound)


def visible_assets(room: Room, viewer: str) -> frozenset[str]:
    """Ids of the assets that a user's view of the room refers to: those they may be served."""
    eyes = eyes_of(room, viewer)
    backgrounds = (scene.background for scene in room.scenes.values() if sees_scene(eyes, scene.id))
    images = (token.image for token in room.tokens.values() if sees_token(eyes, token))
    return frozenset(asset for asset in (*backgrounds, *images) if asset is not None)


def layout_seen(room: Room, viewer: str) -> Layout:
    """What a GM sees of a room that can be set up again elsewhere."""
    seen = redact(room, viewer)
    return Layout(
        settings=seen.settings,
        active=room.active,
        scenes=tuple(room.scenes[scene.id] for scene in seen.scenes),
        tokens=tuple(replace(token, owner=None) for token in seen.tokens),
        walls=seen.walls,
        doors=seen.doors,
        lights=seen.lights,
        drawings=tuple(replace(drawing, owner="") for drawing in seen.drawings),
    )


# Rooms


def _view(room: Room, viewer: str, online: frozenset[str]) -> RoomView:
    eyes = eyes_of(room, viewer)
    member = room.members.get(viewer)
    sight = _Sight(room, eyes)
    return RoomView(
        id=room.id,
        name=room.name,
        visibility=room.visibility,
        tags=room.tags,
        settings=room.settings,
        me=Me(viewer, member.role if member is not None else "player"),
        members=tuple(
            SeenMember(one.id, one.name, one.role, one.id in online, one.muted)
            for one in room.members.values()
        ),
        scenes=tuple(sight.scenes),
        tokens=tuple(sight.tokens),
        walls=tuple(sight.walls),
        doors=tuple(sight.doors),
        lights=tuple(sight.lights),
        drawings=tuple(sight.drawings),
        placed=tuple(sight.placed),
        turn=seen_turn(room, eyes, room.turn),
        chat=chat.remembered(room, viewer),
    )


class _Sight:
    """Everything on the table that one pair of eyes sees."""

    def __init__(self, room: Room, eyes: Eyes) -> None:
        self.scenes = [
            _seen_scene(scene, active=scene.id == eyes.scene)
            for scene in room.scenes.values()
            if sees_scene(eyes, scene.id)
        ]
        self.tokens = [token for token in room.tokens.values() if sees_token(eyes, token)]
        self.drawings = [one for one in room.drawings.values() if sees_scene(eyes, one.scene)]
        self.walls = list(room.walls.values()) if eyes.gm else []
        self.doors = list(room.doors.values()) if eyes.gm else []
        self.lights = list(room.lights.values()) if eyes.gm else []
        self.placed = [
            Placement(user, scene)
            for user, scene in room.placed.items()
            if eyes.gm or user == eyes.user
        ]


def _seen_scene(scene: Scene, *, active: bool) -> SeenScene:
    return SeenScene(
        id=scene.id,
        name=scene.name,
        width=scene.width,
        height=scene.height,
        grid=scene.grid,
        background=scene.background,
        active=active,
    )


# Events


Told = (
    e.TokenAdded
    | e.TokenUpdated
    | e.TokenRemoved
    | e.DrawingAdded
    | e.DrawingRemoved
    | e.SceneCreated
    | e.SceneUpdated
    | e.SceneActivated
    | e.SceneRemoved
    | e.MembersPlaced
    | e.WallsChanged
    | e.DoorsChanged
    | e.LightsChanged
    | e.RoomChanged
    | e.MemberJoined
    | e.MemberChanged
    | e.MemberRemoved
)


def _redacted(step: Step, user: str) -> Seen:
    event = step.event
    match event:
        case e.TokenMoved():
            return _moves_seen(step.before, event, eyes_of(step.before, user))
        case e.Said() | e.Rolled():
            return _heard(step.before, event, user)
        case e.RoomCreated():
            return event
        case e.Undone() | e.Redone():
            return _parts_seen(step.before, event, user)
        case _:
            was, now = eyes_of(step.before, user), eyes_of(step.after, user)
            if was.gm and now.gm:
                return event
            if isinstance(event, e.TurnChanged):
                return _turn_seen(step, event, was, now)
            return _with_what_came_and_went(step, event, was, now)


def _with_what_came_and_went(step: Step, event: Told, was: Eyes, now: Eyes) -> Seen:
    told, gone, shown = _told(step, event, was, now), Gone(), Shown()
    if (was.gm, was.scene) != (now.gm, now.scene):
        gone, shown = _exchange(_Sight(step.before, was), _Sight(step.after, now))
    elif isinstance(event, e.TokenUpdated):
        gone, shown = _crossing(step, event, now)
    turn = seen_turn(step.after, now, step.after.turn)
    if turn != seen_turn(step.before, was, step.before.turn):
        if isinstance(told, Hidden):
            return e.TurnChanged(event.by, event.at, event.id, turn=turn)
        shown = replace(shown, turn=turn)
    if isinstance(told, Hidden) or (gone == Gone() and shown == Shown()):
        return told
    return replace(
        told,
        gone=UNSET if gone == Gone() else gone,
        shown=UNSET if shown == Shown() else shown,
    )


def _turn_seen(step: Step, event: e.TurnChanged, was: Eyes, now: Eyes) -> Seen:
    turn = seen_turn(step.after, now, event.turn)
    if turn == seen_turn(step.before, was, step.before.turn):
        return HIDDEN
    return replace(event, turn=turn)


def _heard(before: Room, event: e.Said | e.Rolled, user: str) -> Seen:
    to = chat.told_to(before, event)
    if to is None or user in to:
        return event
    return chat.masked(event) if isinstance(event, e.Rolled) else HIDDEN


def _parts_seen(room: Room, event: e.Undone | e.Redone, user: str) -> Seen:
    if eyes_of(room, user).gm:
        return event
    parts: list[Event] = []
    for part in event.events:
        after = apply(room, part)
        seen = _redacted(Step(room, part, after), user)
        if not isinstance(seen, Hidden):
            parts.append(seen)
        room = after
    return replace(event, events=tuple(parts)) if parts else HIDDEN


def _told(step: Step, event: Told, was: Eyes, now: Eyes) -> Told | Hidden:  # noqa: C901  # one case an event
    """The event's own part for somebody who is no GM, or not one before and after."""
    before = step.before
    match event:
        case e.TokenAdded():
            sees = sees_token(now, event.token)
        case e.TokenUpdated():
            if sees_token(now, step.after.tokens[event.token]):
                return event
            if sees_token(was, before.tokens[event.token]):
                return e.TokenUpdated(event.by, event.at, event.id, token=event.token)
            return HIDDEN
        case e.TokenRemoved():
            sees = sees_token(was, before.tokens[event.token])
        case e.DrawingAdded():
            sees = sees_scene(now, event.drawing.scene)
        case e.DrawingRemoved():
            sees = sees_scene(was, before.drawings[event.drawing].scene)
        case e.SceneUpdated():
            sees = sees_scene(now, event.scene)
        case e.SceneActivated():
            sees = was.scene != now.scene
        case e.SceneRemoved():
            sees = sees_scene(was, event.scene)
        case e.MembersPlaced():
            if now.user not in event.members:
                return HIDDEN
            return replace(event, members=(now.user,))
        case e.SceneCreated() | e.WallsChanged() | e.DoorsChanged() | e.LightsChanged():
            return HIDDEN
        case e.RoomChanged() | e.MemberJoined() | e.MemberChanged() | e.MemberRemoved():
            return event
        case _:
            assert_never(event)
    return event if sees else HIDDEN


def _moves_seen(room: Room, event: e.TokenMoved, eyes: Eyes) -> e.TokenMoved | Hidden:
    if event.moves is UNSET:
        assert event.token is not UNSET
        return event if sees_token(eyes, room.tokens[event.token]) else HIDDEN
    moves = tuple(way for way in event.moves if sees_token(eyes, room.tokens[way.token]))
    if len(moves) == len(event.moves):
        return event
    if len(moves) == 1:
        way = moves[0]
        pose = {"token": way.token, "x": way.x, "y": way.y, "rotation": way.rotation}
        return replace(event, moves=UNSET, **pose)
    return replace(event, moves=moves) if moves else HIDDEN


def _crossing(step: Step, event: e.TokenUpdated, eyes: Eyes) -> tuple[Gone, Shown]:
    """A piece that goes out of sight, or comes into it."""
    token = step.after.tokens[event.token]
    seen_before = sees_token(eyes, step.before.tokens[event.token])
    seen_after = sees_token(eyes, token)
    if seen_before and not seen_after:
        return Gone(tokens=(token.id,)), Shown()
    if seen_after and not seen_before:
        return Gone(), Shown(tokens=(token,))
    return Gone(), Shown()


class Named(Protocol):
    """Anything with an id."""

    @property
    def id(self) -> str: ...


Thing = TypeVar("Thing", bound=Named)


def _exchange(was: _Sight, now: _Sight) -> tuple[Gone, Shown]:
    """What goes out of sight and what comes into it when a reader's eyes turn elsewhere."""
    gone = Gone(
        scenes=_lost(was.scenes, now.scenes),
        tokens=_lost(was.tokens, now.tokens),
        walls=_lost(was.walls, now.walls),
        doors=_lost(was.doors, now.doors),
        lights=_lost(was.lights, now.lights),
        drawings=_lost(was.drawings, now.drawings),
        placed=_lost(was.placed, now.placed),
    )
    shown = Shown(
        scenes=_found(was.scenes, now.scenes),
        tokens=_found(was.tokens, now.tokens),
        walls=_found(was.walls, now.walls),
        doors=_found(was.doors, now.doors),
        lights=_found(was.lights, now.lights),
        drawings=_found(was.drawings, now.drawings),
        placed=_found(was.placed, now.placed),
    )
    return gone, shown


def _lost(was: Iterable[Named], now: Iterable[Named]) -> tuple[str, ...]:
    kept = {thing.id for thing in now}
    return tuple(thing.id for thing in was if thing.id not in kept)


def _found(was: Iterable[Thing], now: Iterable[Thing]) -> tuple[Thing, ...]:
    known = {thing.id: thing for thing in was}
    return tuple(thing for thing in now if known.get(thing.id) != thing)
