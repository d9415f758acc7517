"""Scenes: the boards of a room, which of them is active, and who was placed on one of their own."""

from collections.abc import Iterable, Mapping
from typing import Protocol, TypeVar

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from tableforge.domain.commands import (
    ActivateScene,
    CreateScene,
    PlaceMembers,
    RemoveScene,
    UpdateScene,
)
from tableforge.domain.events import (
    Event,
    MembersPlaced,
    SceneActivated,
    SceneCreated,
    SceneRemoved,
    SceneUpdated,
)
from tableforge.domain.eyes import Eyes, eyes_of, sees_scene
from tableforge.domain.ids import fresh_id
from tableforge.domain.players import caller, member_named, require_gm
from tableforge.domain.state import Given, Room, Scene
from tableforge.errors import Conflict, NotFound, TooLarge

SCENES_MAX = 200
FIELDS = ("name", "width", "height", "grid", "background")


class OnScene(Protocol):
    """Anything that lies on a scene."""

    @property
    def id(self) -> str: ...
    @property
    def scene(self) -> str: ...


Thing = TypeVar("Thing", bound=OnScene)


# What the other rules ask


def scene_asked(room: Room, eyes: Eyes, scene: str | UnsetType) -> str:
    """The scene that a command means: the one it names, or the one in front of the caller."""
    return eyes.scene if scene is UNSET else scene_named(room, eyes, scene).id


def scene_named(room: Room, eyes: Eyes, scene: str) -> Scene:
    """A scene that the caller sees."""
    found = room.scenes.get(scene)
    if found is None or not sees_scene(eyes, scene):
        raise NotFound("There is no such scene.", "", "Take its id from the snapshot.")
    return found


def refuse_beyond_limit(room: Room) -> None:
    """Refuse what would make too many scenes."""
    if len(room.scenes) >= SCENES_MAX:
        raise TooLarge(
            "The scene was not created.",
            f"A room holds at most {SCENES_MAX} scenes.",
            "Remove some that are not needed.",
        )


# Commands


def create(room: Room, command: CreateScene, given: Given) -> tuple[Event, ...]:
    """Make an empty scene, beside the active one."""
    require_gm(caller(room, given), "The scene was not created.")
    refuse_beyond_limit(room)
    scene = Scene(
        id=fresh_id(given),
        name=command.name,
        width=command.width,
        height=command.height,
        grid=command.grid,
        background=command.background,
    )
    return (SceneCreated(given.by, given.at, command.id, scene=scene),)


def update(room: Room, command: UpdateScene, given: Given) -> tuple[Event, ...]:
    """Change fields of a scene; the event names only those that changed."""
    member = caller(room, given)
    scene = scene_named(room, eyes_of(room, given.by), command.scene)
    require_gm(member, "The scene was not changed.")
    values = ((field, getattr(command, field)) for field in FIELDS)
    changed = {
        field: value
        for field, value in values
        if value is not UNSET and value != getattr(scene, field)
    }
    if not changed:
        return ()
    return (SceneUpdated(given.by, given.at, command.id, scene=scene.id, **changed),)


def activate(room: Room, command: ActivateScene, given: Given) -> tuple[Event, ...]:
    """Bring everybody who was not placed elsewhere to a scene."""
    member = caller(room, given)
    scene = scene_named(room, eyes_of(room, given.by), command.scene)
    require_gm(member, "The scene was not activated.")
    if room.active == scene.id:
        return ()
    return (SceneActivated(given.by, given.at, command.id, scene=scene.id),)


def remove(room: Room, command: RemoveScene, given: Given) -> tuple[Event, ...]:
    """Take a scene away with everything on it. Those placed on it follow the active one again."""
    member = caller(room, given)
    scene = scene_named(room, eyes_of(room, given.by), command.scene)
    require_gm(member, "The scene was not removed.")
    if room.active == scene.id:
        raise Conflict(
            "The scene was not removed.", "It is the active one.", "Activate another scene first."
        )
    return (SceneRemoved(given.by, given.at, command.id, scene=scene.id),)


def place(room: Room, command: PlaceMembers, given: Given) -> tuple[Event, ...]:
    """Bring members to a scene of their own, or back to the active one; the event names only those who change."""
    asking = caller(room, given)
    if command.scene is not None:
        scene_named(room, eyes_of(room, given.by), command.scene)
    members = [member_named(room, user).id for user in dict.fromkeys(command.members)]
    require_gm(asking, "Nobody was placed.")
    moving = tuple(user for user in members if room.placed.get(user) != command.scene)
    if not moving:
        return ()
    return (MembersPlaced(given.by, given.at, command.id, scene=command.scene, members=moving),)


# Events


def created(room: Room, event: SceneCreated) -> Room:
    """The room with one more scene, and with what came with it."""
    return replace(
        room,
        scenes={**room.scenes, event.scene.id: event.scene},
        tokens=_with(room.tokens, event.tokens),
        walls=_with(room.walls, event.walls),
        doors=_with(room.doors, event.doors),
        lights=_with(room.lights, event.lights),
        drawings=_with(room.drawings, event.drawings),
    )


def updated(room: Room, event: SceneUpdated) -> Room:
    """The room with a changed scene."""
    values = ((field, getattr(event, field)) for field in FIELDS)
    changed = {field: value for field, value in values if value is not UNSET}
    scene = replace(room.scenes[event.scene], **changed)
    return replace(room, scenes={**room.scenes, scene.id: scene})


def activated(room: Room, event: SceneActivated) -> Room:
    """The room with another active scene."""
    return replace(room, active=event.scene)


def removed(room: Room, event: SceneRemoved) -> Room:
    """The room without a scene and everything on it."""
    gone = event.scene
    return replace(
        room,
        scenes={key: scene for key, scene in room.scenes.items() if key != gone},
        placed={user: scene for user, scene in room.placed.items() if scene != gone},
        tokens=_without(room.tokens, gone),
        walls=_without(room.walls, gone),
        doors=_without(room.doors, gone),
        lights=_without(room.lights, gone),
        drawings=_without(room.drawings, gone),
    )


def placed(room: Room, event: MembersPlaced) -> Room:
    """The room with members on a scene of their own, or following the active one."""
    places = room.placed.copy()
    for user in event.members:
        if event.scene is None:
            places.pop(user, None)
        else:
            places[user] = event.scene
    return replace(room, placed=places)


def _with(things: dict[str, Thing], more: Iterable[Thing]) -> dict[str, Thing]:
    return things | {thing.id: thing for thing in more} if more else things


def _without(things: Mapping[str, Thing], scene: str) -> dict[str, Thing]:
    return {key: thing for key, thing in things.items() if thing.scene != scene}
