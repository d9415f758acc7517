"""Undo and redo: a member's own last commands, taken back and done again by further events; history is never edited.

Taking one back is refused when something it touched is no longer as the command left it, in the fields that the command
changed; what others did in the meantime is never undone. It is also refused when the caller could not do such a thing now:
what they do not see any more counts as changed, what they may not touch any more is forbidden or locked.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar, assert_never

from msgspec import UNSET
from msgspec.structs import replace

from tableforge.domain import drawings, initiative, scenes, tokens, walls
from tableforge.domain.commands import Move, Redo, Undo
from tableforge.domain.deeds import NO_DEEDS
from tableforge.domain.events import (
    DoorsChanged,
    DrawingAdded,
    DrawingRemoved,
    Event,
    LightsChanged,
    MembersPlaced,
    Redone,
    SceneActivated,
    SceneCreated,
    SceneRemoved,
    SceneUpdated,
    TokenAdded,
    TokenMoved,
    TokenRemoved,
    TokenUpdated,
    TurnChanged,
    Undone,
    WallsChanged,
)
from tableforge.domain.eyes import eyes_of, is_plain, seen_turn, sees_entry, sees_scene, sees_token
from tableforge.domain.players import caller, require_gm, require_player
from tableforge.domain.state import (
    ActiveChange,
    Change,
    Door,
    DoorChange,
    Drawing,
    DrawingChange,
    Given,
    Light,
    LightChange,
    Member,
    PlaceChange,
    PoseChange,
    Room,
    Scene,
    SceneChange,
    Token,
    TokenChange,
    Turn,
    TurnChange,
    Wall,
    WallChange,
)
from tableforge.errors import ChangedSince, Forbidden, NothingToUndo

NOT_DONE = "Nothing was undone or redone."


def undo(room: Room, command: Undo, given: Given) -> tuple[Event, ...]:
    """Take back the caller's last command that can be."""
    member = caller(room, given)
    require_player(member, NOT_DONE)
    deeds = room.deeds.get(member.id, NO_DEEDS)
    if not deeds.done:
        raise NothingToUndo(NOT_DONE, "Nothing that you changed here is left to undo.")
    deed = deeds.done[-1]
    events = _Reversal(room, member, redo=False).events(deed.changes)
    return (Undone(given.by, given.at, command.id, of=deed.of, events=events),)


def redo(room: Room, command: Redo, given: Given) -> tuple[Event, ...]:
    """Do again what the caller took back last, unless they have done something else since."""
    member = caller(room, given)
    require_player(member, NOT_DONE)
    deeds = room.deeds.get(member.id, NO_DEEDS)
    if not deeds.undone:
        raise NothingToUndo(NOT_DONE, "Nothing that you undid is left to redo.")
    deed = deeds.undone[-1]
    events = _Reversal(room, member, redo=True).events(deed.changes)
    return (Redone(given.by, given.at, command.id, of=deed.of, events=events),)


Thing = TypeVar("Thing", Scene, Token, Wall, Door, Light, Drawing)
Lying = TypeVar("Lying", Token, Wall, Door, Light, Drawing)
Either = TypeVar("Either")


class _Shelf(dict[str, tuple[Thing | None, Thing | None]]):
    """Things of one kind that a reversal touches: as they are now and as they will be, None where they are not there."""

    def back(self) -> Iterator[Thing]:
        """Those that come back."""
        return (new for now, new in self.values() if now is None and new is not None)

    def away(self) -> Iterator[Thing]:
        """Those that go away."""
        return (now for now, new in self.values() if now is not None and new is None)

    def edited(self) -> Iterator[tuple[Thing, Thing]]:
        """Those that change."""
        return ((now, new) for now, new in self.values() if now is not None and new is not None)


class _Reversal:
    """Turns the changes of one deed into the events that take them back, or do them again; refuses if it may not.

    `expected` is always what a thing must be now, `target` what it is to become.
    """

    def __init__(self, room: Room, member: Member, *, redo: bool) -> None:
        self._room = room
        self._member = member
        self._eyes = eyes_of(room, member.id)
        self._redo = redo
        self._scenes = _Shelf[Scene]()
        self._tokens = _Shelf[Token]()
        self._walls = _Shelf[Wall]()
        self._doors = _Shelf[Door]()
        self._lights = _Shelf[Light]()
        self._drawings = _Shelf[Drawing]()
        self._placed: dict[str, str | None] = {}
        self._active: list[Event] = []
        self._turn: list[Event] = []

    def events(self, changes: Iterable[Change]) -> tuple[Event, ...]:
        """Everything that the reversal of these changes means for the table."""
        for change in changes:
            self._take(change)
        self._refuse_used_scenes()
        self._refuse_lost_scenes()
        self._refuse_beyond_limits()
        away = {scene.id for scene in self._scenes.away()}
        return (
            *(self._created(scene) for scene in self._scenes.back()),
            *(_scene_updated(now, new) for now, new in self._scenes.edited()),
            *self._active,
            *(SceneRemoved(scene=scene) for scene in away),
            *self._places(away),
            *self._token_events(away),
            *self._fixture_events(away),
            *(DrawingAdded(drawing=one) for one in self._apart(self._drawings.back())),
            *(DrawingRemoved(drawing=key) for key in _gone(self._drawings, away)),
            *self._turn,
        )

    def _ends(self, before: Either, after: Either) -> tuple[Either, Either]:
        return (before, after) if self._redo else (after, before)

    def _take(self, change: Change) -> None:
        room = self._room
        match change:
            case PoseChange():
                expected, target = self._ends(change.before, change.after)
                now = self._seen_token(change.key)
                if now is None:
                    raise changed_since()
                self._put_token(change.key, now, _edited(now, _pose(expected), _pose(target)))
            case TokenChange():
                now = self._seen_token(change.key)
                became = _became(now, *self._ends(change.before, change.after))
                self._put_token(change.key, now, became)
            case DrawingChange():
                self._drawing(change)
            case TurnChange():
                turn = self._turned(*self._ends(change.before, change.after))
                self._turn.append(TurnChanged(turn=turn))
            case SceneChange():
                self._fixture(self._scenes, room.scenes, change.key, change.before, change.after)
            case WallChange():
                self._fixture(self._walls, room.walls, change.key, change.before, change.after)
            case DoorChange():
                self._fixture(self._doors, room.doors, change.key, change.before, change.after)
            case LightChange():
                self._fixture(self._lights, room.lights, change.key, change.before, change.after)
            case ActiveChange():
                self._activate(*self._ends(change.before, change.after))
            case PlaceChange():
                self._place(change.key, *self._ends(change.before, change.after))
            case _:
                assert_never(change)

    # One kind of thing each

    def _fixture(
        self,
        shelf: _Shelf[Thing],
        there: Mapping[str, Thing],
        key: str,
        before: Thing | None,
        after: Thing | None,
    ) -> None:
        """Scenes, walls, doors and lights: a GM's alone."""
        require_gm(self._member, NOT_DONE)
        now = there.get(key)
        shelf[key] = now, _became(now, *self._ends(before, after))

    def _seen_token(self, key: str) -> Token | None:
        """A piece as it is now; one that the caller does not see any more is as good as gone."""
        now = self._room.tokens.get(key)
        return now if now is not None and sees_token(self._eyes, now) else None

    def _put_token(self, key: str, now: Token | None, new: Token | None) -> None:
        if self._member.role == "gm":
            if now and new and now.locked and new.locked and _pose_of(now) != _pose_of(new):
                raise tokens.locked()
        elif now is not None:
            self._refuse_players_edit(now, new)
        elif new is not None:
            self._refuse_players_restoring(new)
        self._tokens[key] = now, new

    def _refuse_players_edit(self, now: Token, new: Token | None) -> None:
        reserved = new is not None and any(
            getattr(now, field) != getattr(new, field) for field in tokens.PLAYERS_LEAVE
        )
        if now.owner != self._member.id or reserved:
            raise _not_yours()
        if now.locked:
            raise tokens.locked()

    def _refuse_players_restoring(self, new: Token) -> None:
        if self._redo:
            tokens.refuse_adding(self._room, self._member)
        if not sees_scene(self._eyes, new.scene):
            raise changed_since()
        plain = is_plain(new) and new.layer == "object" and not new.locked
        if new.owner != self._member.id or not plain:
            raise _not_yours()

    def _drawing(self, change: DrawingChange) -> None:
        now = self._room.drawings.get(change.key)
        if now is not None and not sees_scene(self._eyes, now.scene):
            now = None
        new = _became(now, *self._ends(change.before, change.after))
        if new is not None and not sees_scene(self._eyes, new.scene):
            raise changed_since()
        either = now or new
        if self._member.role != "gm" and either is not None and either.owner != self._member.id:
            raise _not_yours()
        self._drawings[change.key] = now, new

    def _activate(self, expected: str, target: str) -> None:
        require_gm(self._member, NOT_DONE)
        if self._room.active != expected or target not in self._room.scenes:
            raise changed_since()
        self._active.append(SceneActivated(scene=target))

    def _place(self, user: str, expected: str | None, target: str | None) -> None:
        require_gm(self._member, NOT_DONE)
        if user not in self._room.members:
            return
        if self._room.placed.get(user) != expected:
            raise changed_since()
        self._placed[user] = target

    def _turned(self, expected: Turn | None, target: Turn | None) -> Turn | None:
        """The turn order, taken back or done again.

        A player only ever ended their own turn. What they may not see of the order must make no difference to them,
        so the rows they see are compared, and the present rows are kept.
        """
        room, now = self._room, self._room.turn
        if self._member.role == "gm":
            if now != expected:
                raise changed_since()
            return target
        if expected is None or target is None or expected.entries != target.entries:
            raise _not_yours()
        if now is None or seen_turn(room, self._eyes, now) != seen_turn(room, self._eyes, expected):
            raise changed_since()
        if self._redo:
            initiative.refuse_others_turn(room, now, self._member)
            return initiative.after(room, now)
        seen = seen_turn(room, self._eyes, target)
        if seen is None or seen.current is None:
            raise changed_since()
        places = [at for at, row in enumerate(now.entries) if sees_entry(room, self._eyes, row)]
        turn = replace(now, round=target.round, current=places[seen.current])
        initiative.refuse_others_turn(room, turn, self._member)
        return turn

    # All of it together

    def _refuse_used_scenes(self) -> None:
        """A scene that goes away takes nothing along that the command had not put there."""
        room = self._room
        for scene in self._scenes.away():
            users = {user for user, place in room.placed.items() if place == scene.id}
            if scene.id == room.active or not users <= self._placed.keys():
                raise changed_since()
            for shelf, there in (
                (self._tokens, room.tokens),
                (self._walls, room.walls),
                (self._doors, room.doors),
                (self._lights, room.lights),
                (self._drawings, room.drawings),
            ):
                lying = {key for key, thing in there.items() if thing.scene == scene.id}
                if not lying <= shelf.keys():
                    raise changed_since()

    def _refuse_lost_scenes(self) -> None:
        """What comes back needs its scene."""
        there = self._room.scenes.keys() | {scene.id for scene in self._scenes.back()}
        wanted = {place for place in self._placed.values() if place is not None}
        for shelf in (self._tokens, self._walls, self._doors, self._lights, self._drawings):
            wanted |= {thing.scene for thing in shelf.back()}
        if not wanted <= there:
            raise changed_since()

    def _refuse_beyond_limits(self) -> None:
        room = self._room
        if any(self._scenes.back()):
            scenes.refuse_beyond_limit(room)
        tokens.refuse_beyond_limit(room, sum(1 for _ in self._tokens.back()))
        drawings.refuse_beyond_limit(room, sum(1 for _ in self._drawings.back()))
        if self._walls or self._doors or self._lights:
            walls.refuse_beyond_limit(
                room,
                walls=self._walls.back(),
                doors=self._doors.back(),
                lights=self._lights.back(),
            )

    # Events

    def _created(self, scene: Scene) -> SceneCreated:
        def on_it(things: Iterable[Lying]) -> tuple[Lying, ...]:
            return tuple(thing for thing in things if thing.scene == scene.id)

        return SceneCreated(
            scene=scene,
            tokens=on_it(self._tokens.back()),
            walls=on_it(self._walls.back()),
            doors=on_it(self._doors.back()),
            lights=on_it(self._lights.back()),
            drawings=on_it(self._drawings.back()),
        )

    def _apart(self, things: Iterable[Lying]) -> tuple[Lying, ...]:
        """Things that come back to a scene that is there, not together with one."""
        return tuple(thing for thing in things if thing.scene in self._room.scenes)

    def _places(self, away: set[str]) -> Iterator[Event]:
        by_target: dict[str | None, list[str]] = {}
        for user, target in self._placed.items():
            if target is not None or self._room.placed.get(user) not in away:
                by_target.setdefault(target, []).append(user)
        for target, users in by_target.items():
            yield MembersPlaced(scene=target, members=tuple(users))

    def _token_events(self, away: set[str]) -> Iterator[Event]:
        for token in self._apart(self._tokens.back()):
            yield TokenAdded(token=token)
        moves: list[Move] = []
        for now, new in self._tokens.edited():
            fields = _differing(now, new)
            if fields.keys() <= set(tokens.POSE):
                turn = fields.get("rotation", UNSET)
                moves.append(Move(token=new.id, x=new.x, y=new.y, rotation=turn))
            else:
                yield TokenUpdated(token=new.id, **fields)
        if len(moves) == 1:
            way = moves[0]
            yield TokenMoved(token=way.token, x=way.x, y=way.y, rotation=way.rotation)
        elif moves:
            yield TokenMoved(moves=tuple(moves))
        for key in _gone(self._tokens, away):
            yield TokenRemoved(token=key)

    def _fixture_events(self, away: set[str]) -> Iterator[Event]:
        put_walls, gone = tuple(self._put(self._walls)), _gone(self._walls, away)
        if put_walls or gone:
            yield WallsChanged(walls=put_walls, removed=gone)
        put_doors, gone = tuple(self._put(self._doors)), _gone(self._doors, away)
        if put_doors or gone:
            yield DoorsChanged(doors=put_doors, removed=gone)
        put_lights, gone = tuple(self._put(self._lights)), _gone(self._lights, away)
        if put_lights or gone:
            yield LightsChanged(lights=put_lights, removed=gone)

    def _put(self, shelf: _Shelf[Lying]) -> Iterator[Lying]:
        yield from self._apart(shelf.back())
        for _, new in shelf.edited():
            yield new


def _gone(shelf: _Shelf[Lying], away: set[str]) -> tuple[str, ...]:
    """Ids of what goes away on its own, not with its scene."""
    return tuple(thing.id for thing in shelf.away() if thing.scene not in away)


PLACE = frozenset({"x", "y"})


def changed_since() -> ChangedSince:
    """The one refusal for whatever is not as the command left it."""
    return ChangedSince(
        NOT_DONE,
        "What it touched has been changed since.",
        "Change it by hand; your earlier commands stay as they are.",
    )


def _not_yours() -> Forbidden:
    return Forbidden(NOT_DONE, "You may not change this any more.", "Ask the GM.")


def _became(now: Thing | None, expected: Thing | None, target: Thing | None) -> Thing | None:
    """What a thing becomes when its change is reversed, with what others did to its other fields kept."""
    if expected is None:
        if now is not None:
            raise changed_since()
        return target
    if now is None or (target is None and now != expected):
        raise changed_since()
    if target is None:
        return None
    left = {field: getattr(expected, field) for field in expected.__struct_fields__}
    return _edited(now, left, _differing(expected, target))


def _edited(now: Thing, expected: Mapping[str, Any], target: Mapping[str, Any]) -> Thing:
    wanted = {field: value for field, value in target.items() if value != expected[field]}
    # A place is one value: half of somebody's move and half of another's is where nobody put the piece.
    guarded = wanted.keys() | PLACE if wanted.keys() & PLACE else wanted.keys()
    if any(getattr(now, field) != expected[field] for field in guarded):
        raise changed_since()
    return replace(now, **wanted)


def _differing(one: Thing, other: Thing) -> dict[str, Any]:
    """The fields that differ, with the other's values."""
    return {
        field: value
        for field in one.__struct_fields__
        if (value := getattr(other, field)) != getattr(one, field)
    }


def _pose_of(token: Token) -> tuple[float, float, float]:
    return token.x, token.y, token.rotation


def _pose(pose: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip(tokens.POSE, pose, strict=True))


def _scene_updated(now: Scene, new: Scene) -> SceneUpdated:
    return SceneUpdated(scene=new.id, **_differing(now, new))
