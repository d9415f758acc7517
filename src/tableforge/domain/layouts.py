"""Layouts: how what was made of one table is set up again on another."""

from collections.abc import Container, Iterable, Iterator
from itertools import count
from typing import TypeVar

from msgspec.structs import replace

from tableforge.domain.events import (
    Event,
    RoomChanged,
    SceneActivated,
    SceneCreated,
    SceneRemoved,
)
from tableforge.domain.ids import fresh_id
from tableforge.domain.state import (
    Door,
    Drawing,
    Given,
    Layout,
    Light,
    Scene,
    Settings,
    Token,
    Wall,
)

Placed = TypeVar("Placed", Token, Wall, Door, Light, Drawing)


def set_up(layout: Layout, first: Scene, given: Given, command: str) -> Iterator[Event]:
    """What turns a room that has nothing but its first scene into the layout, under new ids; the drawings are the caller's."""
    by, at = given.by, given.at
    ids = count(1)
    if layout.settings != Settings():
        yield RoomChanged(by, at, command, settings=layout.settings)
    active = ""
    tokens, walls, doors = by_scene(layout.tokens), by_scene(layout.walls), by_scene(layout.doors)
    lights, drawings = by_scene(layout.lights), by_scene(layout.drawings)
    for scene in layout.scenes:
        key = fresh_id(given, next(ids))
        if scene.id == layout.active:
            active = key
        yield SceneCreated(
            by,
            at,
            command,
            scene=replace(scene, id=key),
            tokens=tuple(
                replace(one, id=fresh_id(given, next(ids)), scene=key, owner=None)
                for one in tokens.get(scene.id, ())
            ),
            walls=tuple(
                replace(one, id=fresh_id(given, next(ids)), scene=key)
                for one in walls.get(scene.id, ())
            ),
            doors=tuple(
                replace(one, id=fresh_id(given, next(ids)), scene=key)
                for one in doors.get(scene.id, ())
            ),
            lights=tuple(
                replace(one, id=fresh_id(given, next(ids)), scene=key)
                for one in lights.get(scene.id, ())
            ),
            drawings=tuple(
                replace(one, id=fresh_id(given, next(ids)), scene=key, owner=by)
                for one in drawings.get(scene.id, ())
            ),
        )
    if active:
        yield SceneActivated(by, at, command, scene=active)
        yield SceneRemoved(by, at, command, scene=first.id)


def by_scene(things: Iterable[Placed]) -> dict[str, list[Placed]]:
    """The things of each scene, in their order: a layout may have hundreds of scenes and thousands of things."""
    found: dict[str, list[Placed]] = {}
    for one in things:
        found.setdefault(one.scene, []).append(one)
    return found


def pictures_in(layout: Layout) -> frozenset[str]:
    """Ids of the assets that a layout refers to."""
    backgrounds = (scene.background for scene in layout.scenes)
    images = (token.image for token in layout.tokens)
    return frozenset(asset for asset in (*backgrounds, *images) if asset is not None)


def with_pictures(layout: Layout, kept: Container[str]) -> Layout:
    """The layout with these pictures alone; scenes and pieces that had another one stay without."""
    return replace(
        layout,
        scenes=tuple(
            scene if scene.background in kept else replace(scene, background=None)
            for scene in layout.scenes
        ),
        tokens=tuple(
            token if token.image in kept else replace(token, image=None) for token in layout.tokens
        ),
    )
