"""Walls, doors and lights: what a map brings along for sight. For now they are the GM's to see and to change.

A scene from a file arrives here too, with all of them in one event.
"""

from collections.abc import Iterable, Mapping
from math import isfinite
from typing import TypeVar

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from tableforge.domain.commands import At, ImportScene, SetDoor, SetLight, SetWall
from tableforge.domain.events import DoorsChanged, Event, LightsChanged, SceneCreated, WallsChanged
from tableforge.domain.eyes import eyes_of
from tableforge.domain.ids import fresh_id
from tableforge.domain.players import caller, require_gm
from tableforge.domain.scenes import refuse_beyond_limit as refuse_scenes_beyond_limit
from tableforge.domain.scenes import scene_asked
from tableforge.domain.state import Door, Given, Light, Point, Room, Scene, Wall
from tableforge.errors import Malformed, NotFound, TooLarge

WALLS_MAX = 10_000
WALL_POINTS_MAX = 100_000
DOORS_MAX = 2_000
LIGHTS_MAX = 2_000
COORDINATE_MAX = 100_000
WHITE = "#ffffff"

Fixture = TypeVar("Fixture", Wall, Door, Light)


def set_wall(room: Room, command: SetWall, given: Given) -> tuple[Event, ...]:
    """Put up a wall, move one, or take one away."""
    wall = _asked(room, given, command.scene, room.walls, command.wall, "wall")
    stamp = (given.by, given.at, command.id)
    if command.remove:
        return (WallsChanged(*stamp, removed=(_given(wall, "wall").id,)),)
    points = UNSET if command.points is UNSET else _points(command.points)
    if wall is None:
        scene = scene_asked(room, eyes_of(room, given.by), command.scene)
        wall = Wall(fresh_id(given), scene, _needed(points, "points"))
        refuse_beyond_limit(room, walls=(wall,))
        return (WallsChanged(*stamp, walls=(wall,)),)
    _refuse_other_scene(wall.scene, command.scene)
    changed = wall if points is UNSET else replace(wall, points=points)
    if changed == wall:
        return ()
    refuse_beyond_limit(room, walls=(changed,))
    return (WallsChanged(*stamp, walls=(changed,)),)


def set_door(room: Room, command: SetDoor, given: Given) -> tuple[Event, ...]:
    """Put in a door, open or close or move one, or take one away."""
    door = _asked(room, given, command.scene, room.doors, command.door, "door")
    stamp = (given.by, given.at, command.id)
    if command.remove:
        return (DoorsChanged(*stamp, removed=(_given(door, "door").id,)),)
    points = UNSET if command.points is UNSET else _ends(command.points)
    if door is None:
        scene = scene_asked(room, eyes_of(room, given.by), command.scene)
        state = "closed" if command.state is UNSET else command.state
        door = Door(fresh_id(given), scene, _needed(points, "points"), state)
        refuse_beyond_limit(room, doors=(door,))
        return (DoorsChanged(*stamp, doors=(door,)),)
    _refuse_other_scene(door.scene, command.scene)
    changed = replace(
        door,
        points=door.points if points is UNSET else points,
        state=door.state if command.state is UNSET else command.state,
    )
    return () if changed == door else (DoorsChanged(*stamp, doors=(changed,)),)


def set_light(room: Room, command: SetLight, given: Given) -> tuple[Event, ...]:
    """Put up a light, change one, or take one away."""
    light = _asked(room, given, command.scene, room.lights, command.light, "light")
    stamp = (given.by, given.at, command.id)
    if command.remove:
        return (LightsChanged(*stamp, removed=(_given(light, "light").id,)),)
    if light is None:
        light = Light(
            id=fresh_id(given),
            scene=scene_asked(room, eyes_of(room, given.by), command.scene),
            x=_needed(command.x, "x"),
            y=_needed(command.y, "y"),
            range=_needed(command.range, "range"),
            color=WHITE if command.color is UNSET else command.color,
            intensity=1.0 if command.intensity is UNSET else command.intensity,
        )
        refuse_beyond_limit(room, lights=(light,))
        return (LightsChanged(*stamp, lights=(light,)),)
    _refuse_other_scene(light.scene, command.scene)
    asked = {
        "x": command.x,
        "y": command.y,
        "range": command.range,
        "color": command.color,
        "intensity": command.intensity,
    }
    named = {field: value for field, value in asked.items() if value is not UNSET}
    changed = replace(light, **named)
    return () if changed == light else (LightsChanged(*stamp, lights=(changed,)),)


def import_scene(room: Room, command: ImportScene, given: Given) -> tuple[Event, ...]:
    """A scene from a file: it appears with all its walls, doors and lights, or not at all."""
    require_gm(caller(room, given), "The scene was not imported.")
    refuse_scenes_beyond_limit(room)
    scene = fresh_id(given)
    counter = iter(range(1, 1 + len(command.walls) + len(command.doors) + len(command.lights)))
    walls = tuple(
        Wall(fresh_id(given, next(counter)), scene, _points(wall.points)) for wall in command.walls
    )
    doors = tuple(
        Door(fresh_id(given, next(counter)), scene, _ends(door.points), door.state)
        for door in command.doors
    )
    lights = tuple(
        Light(
            id=fresh_id(given, next(counter)),
            scene=scene,
            x=_coordinate(light.x),
            y=_coordinate(light.y),
            range=_coordinate(light.range),
            color=light.color,
            intensity=_coordinate(light.intensity),
        )
        for light in command.lights
    )
    refuse_beyond_limit(room, walls=walls, doors=doors, lights=lights)
    return (
        SceneCreated(
            given.by,
            given.at,
            command.id,
            scene=Scene(
                id=scene,
                name=command.name,
                width=command.width,
                height=command.height,
                grid=command.grid,
                background=command.background,
            ),
            walls=walls,
            doors=doors,
            lights=lights,
        ),
    )


def refuse_beyond_limit(
    room: Room,
    *,
    walls: Iterable[Wall] = (),
    doors: Iterable[Door] = (),
    lights: Iterable[Light] = (),
) -> None:
    """Refuse what would make too many walls, corners of walls, doors or lights."""
    standing = room.walls | {wall.id: wall for wall in walls}
    corners = sum(len(wall.points) for wall in standing.values())
    for held, most, what in (
        (len(standing), WALLS_MAX, "walls"),
        (corners, WALL_POINTS_MAX, "corners of walls"),
        (len(room.doors.keys() | {door.id for door in doors}), DOORS_MAX, "doors"),
        (len(room.lights.keys() | {light.id for light in lights}), LIGHTS_MAX, "lights"),
    ):
        if held > most:
            raise TooLarge(
                "Nothing was changed.",
                f"A room holds at most {most} {what}.",
                "Remove some that are not needed.",
            )


def _asked(
    room: Room,
    given: Given,
    scene: str | UnsetType,
    there: Mapping[str, Fixture],
    key: str | UnsetType,
    what: str,
) -> Fixture | None:
    """The thing that a GM names, or None for one to be made; nobody else sees any."""
    member = caller(room, given)
    scene_asked(room, eyes_of(room, given.by), scene)
    if key is UNSET:
        require_gm(member, "Nothing was changed.")
        return None
    found = there.get(key)
    if found is None or member.role != "gm":
        raise NotFound(f"There is no such {what}.", "", "Take its id from the snapshot.")
    return found


Value = TypeVar("Value")


def _needed(value: Value | UnsetType, field: str) -> Value:
    if isinstance(value, UnsetType):
        raise Malformed("Nothing was changed.", f"`{field}` is missing.", f"Send `{field}`.")
    return value


def _given(thing: Fixture | None, what: str) -> Fixture:
    if thing is None:
        raise Malformed(
            "Nothing was changed.", f"`remove` without `{what}` says nothing.", f"Name the {what}."
        )
    return thing


def _refuse_other_scene(scene: str, asked: str | UnsetType) -> None:
    if asked is not UNSET and asked != scene:
        raise Malformed(
            "Nothing was changed.",
            "`scene` is not the one on which it stands.",
            "Leave `scene` out, or make a new one on the other scene.",
        )


def _coordinate(value: float) -> float:
    # An importer hands over numbers from a file: a member's command was checked while it was decoded.
    if not (isfinite(value) and abs(value) <= COORDINATE_MAX):
        raise Malformed(
            "Nothing was changed.",
            "A coordinate is not a number between -100000 and 100000.",
            "Mend the map.",
        )
    return float(value)


def _points(points: Iterable[At]) -> tuple[Point, ...]:
    return tuple(Point(_coordinate(point.x), _coordinate(point.y)) for point in points)


def _ends(points: tuple[At, At]) -> tuple[Point, Point]:
    one, other = points
    return Point(_coordinate(one.x), _coordinate(one.y)), Point(
        _coordinate(other.x), _coordinate(other.y)
    )


# Events


def walls_changed(room: Room, event: WallsChanged) -> Room:
    """The room with walls put up, changed or taken away."""
    return replace(room, walls=_changed(room.walls, event.walls, event.removed))


def doors_changed(room: Room, event: DoorsChanged) -> Room:
    """The room with doors put in, changed or taken away."""
    return replace(room, doors=_changed(room.doors, event.doors, event.removed))


def lights_changed(room: Room, event: LightsChanged) -> Room:
    """The room with lights put up, changed or taken away."""
    return replace(room, lights=_changed(room.lights, event.lights, event.removed))


def _changed(
    things: dict[str, Fixture], more: Iterable[Fixture], removed: Iterable[str]
) -> dict[str, Fixture]:
    things = things | {thing.id: thing for thing in more}
    for key in removed:
        things.pop(key, None)
    return things
