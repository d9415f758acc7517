"""What each member may still take back: which things their commands touched, before and after.

`evolve` writes this down for every event of a command that can be undone; `undo` reads it.
"""

from collections.abc import Iterator, Mapping
from typing import TypeVar

from msgspec import UNSET

from tableforge.domain.events import (
    DoorsChanged,
    DrawingAdded,
    DrawingRemoved,
    Event,
    LightsChanged,
    MembersPlaced,
    SceneActivated,
    SceneCreated,
    SceneRemoved,
    SceneUpdated,
    TokenAdded,
    TokenMoved,
    TokenRemoved,
    TokenUpdated,
    TurnChanged,
    WallsChanged,
)
from tableforge.domain.state import (
    ActiveChange,
    Change,
    Deed,
    Deeds,
    Door,
    DoorChange,
    Drawing,
    DrawingChange,
    Light,
    LightChange,
    PlaceChange,
    PoseChange,
    Room,
    SceneChange,
    Token,
    TokenChange,
    TurnChange,
    Wall,
    WallChange,
)

DEEDS_MAX = 50
"""How many commands each member may take back."""
CHANGES_MAX = 2_000
"""How many changes those commands hold together; the newest is kept whatever its size."""
_FEW = CHANGES_MAX // DEEDS_MAX
"""Commands of so few changes never pass the bound together, so that a move need not count."""

NO_DEEDS = Deeds()


def changes_of(before: Room, event: Event, after: Room) -> tuple[Change, ...]:
    """What an event touched; nothing for events that cannot be taken back."""
    match event:
        case TokenMoved():
            return poses(before.tokens, event, after.tokens)
        case TokenAdded() | TokenUpdated() | TokenRemoved():
            key = event.token.id if isinstance(event, TokenAdded) else event.token
            return (TokenChange(key, before.tokens.get(key), after.tokens.get(key)),)
        case DrawingAdded() | DrawingRemoved():
            key = event.drawing.id if isinstance(event, DrawingAdded) else event.drawing
            return (DrawingChange(key, before.drawings.get(key), after.drawings.get(key)),)
        case TurnChanged():
            return (TurnChange(before.turn, after.turn),)
        case WallsChanged() | DoorsChanged() | LightsChanged():
            return tuple(_fixtures(before, event, after))
        case SceneActivated():
            return (ActiveChange(before.active, after.active),)
        case MembersPlaced():
            return tuple(
                PlaceChange(user, before.placed.get(user), event.scene) for user in event.members
            )
        case SceneUpdated():
            key = event.scene
            return (SceneChange(key, before.scenes[key], after.scenes[key]),)
        case SceneCreated():
            return (
                SceneChange(event.scene.id, None, event.scene),
                *_contents(after, event.scene.id, there_before=False),
            )
        case SceneRemoved():
            key = event.scene
            placed = (user for user, scene in before.placed.items() if scene == key)
            return (
                SceneChange(key, before.scenes[key], None),
                *(PlaceChange(user, key, None) for user in placed),
                *_contents(before, key, there_before=True),
            )
        case _:
            return ()


def _fixtures(
    before: Room, event: WallsChanged | DoorsChanged | LightsChanged, after: Room
) -> Iterator[Change]:
    match event:
        case WallsChanged():
            for key in (*(wall.id for wall in event.walls), *event.removed):
                yield WallChange(key, before.walls.get(key), after.walls.get(key))
        case DoorsChanged():
            for key in (*(door.id for door in event.doors), *event.removed):
                yield DoorChange(key, before.doors.get(key), after.doors.get(key))
        case LightsChanged():
            for key in (*(light.id for light in event.lights), *event.removed):
                yield LightChange(key, before.lights.get(key), after.lights.get(key))


def poses(
    before: Mapping[str, Token], event: TokenMoved, after: Mapping[str, Token]
) -> tuple[PoseChange, ...]:
    """What a move touched: not the pieces of a group that stood there already."""
    if event.moves is UNSET:
        assert event.token is not UNSET
        return (_pose_change(event.token, before, after),)
    changes = [_pose_change(way.token, before, after) for way in event.moves]
    return tuple([change for change in changes if change.before != change.after])


def _pose_change(key: str, before: Mapping[str, Token], after: Mapping[str, Token]) -> PoseChange:
    was, now = before[key], after[key]
    return PoseChange(key, (was.x, was.y, was.rotation), (now.x, now.y, now.rotation))


def _contents(room: Room, scene: str, *, there_before: bool) -> Iterator[Change]:
    """Everything on a scene that came or went with it."""

    def ends(thing: Thing) -> tuple[Thing | None, Thing | None]:
        return (thing, None) if there_before else (None, thing)

    for token in _on(scene, room.tokens):
        yield TokenChange(token.id, *ends(token))
    for wall in _on(scene, room.walls):
        yield WallChange(wall.id, *ends(wall))
    for door in _on(scene, room.doors):
        yield DoorChange(door.id, *ends(door))
    for light in _on(scene, room.lights):
        yield LightChange(light.id, *ends(light))
    for drawing in _on(scene, room.drawings):
        yield DrawingChange(drawing.id, *ends(drawing))


Thing = TypeVar("Thing", Token, Wall, Door, Light, Drawing)


def _on(scene: str, things: Mapping[str, Thing]) -> Iterator[Thing]:
    return (thing for thing in things.values() if thing.scene == scene)


def with_deed(room: Room, by: str, of: str, changes: tuple[Change, ...]) -> dict[str, Deeds]:
    """Everybody's deeds, with one more of this member; it clears what they could have redone."""
    done = (*room.deeds.get(by, NO_DEEDS).done[1 - DEEDS_MAX :], Deed(of, changes))
    if len(changes) > _FEW:
        total = sum(len(deed.changes) for deed in done)
        while total > CHANGES_MAX and len(done) > 1:
            total -= len(done[0].changes)
            done = done[1:]
    deeds = room.deeds.copy()
    deeds[by] = Deeds(done)
    return deeds


def with_undone(room: Room, by: str) -> dict[str, Deeds]:
    """Everybody's deeds after this member's last one was taken back."""
    deeds = room.deeds[by]
    return {**room.deeds, by: Deeds(deeds.done[:-1], (*deeds.undone, deeds.done[-1]))}


def with_redone(room: Room, by: str) -> dict[str, Deeds]:
    """Everybody's deeds after the one that this member took back last was done again."""
    deeds = room.deeds[by]
    return {**room.deeds, by: Deeds((*deeds.done, deeds.undone[-1]), deeds.undone[:-1])}
