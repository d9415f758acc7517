"""Maps from files: a picture, or a map editor's file with its walls, doors and lights, becomes a scene or nothing."""

import secrets
from typing import Annotated, Any, Final

import msgspec
from litestar import post
from litestar.params import FromPath
from msgspec import Meta, Struct

from tableforge.api.auth import signed_in
from tableforge.api.body import queried
from tableforge.api.caller import Caller
from tableforge.api.documents import COMMAND, MULTIPART, UPLOAD, documented
from tableforge.api.house import House, house_of
from tableforge.api.rooms import require_gm
from tableforge.domain.commands import (
    At,
    ImportedDoor,
    ImportedLight,
    ImportedWall,
    ImportScene,
)
from tableforge.domain.state import Grid, Point
from tableforge.errors import Malformed, TableForgeError
from tableforge.files import CleanImage, ImportedScene
from tableforge.library.sessions import Session
from tableforge.protocol import codec

NOT_IMPORTED: Final = "The scene was not imported."
CELL_PIXELS: Final = 70.0
"""How many pixels of a plain picture become one cell, unless the caller knows better."""


class ImportQuery(Struct, frozen=True):
    """How many pixels of a plain picture make a cell; a map editor's file knows it by itself."""

    cell: Annotated[float, Meta(ge=1, le=10_000)] = CELL_PIXELS


class Made(Struct, frozen=True):
    """What a file became."""

    id: str


class Imported(Struct, frozen=True):
    """The scene; `left_out` says line by line what of the file could not be read and is missing in it."""

    scene: Made
    left_out: tuple[str, ...]


@post(
    "/api/rooms/{room:str}/imports",
    request_max_body_size=None,
    opt=documented(
        takes=MULTIPART,
        query=ImportQuery,
        gives={201: Imported},
        refuses=(*COMMAND, *UPLOAD),
    ),
)
async def import_file(request: Caller, room: FromPath[str]) -> Imported:
    """Make a scene of a picture or a Universal VTT file, for GMs; a refused file leaves nothing behind."""
    house = house_of(request)
    session = await signed_in(request)
    query = queried(request, ImportQuery)
    await require_gm(house, room, session, "Nothing was imported.")
    async with house.inbox.take(request, session.user_id) as upload:
        read = await house.importer.read(
            upload.path, house.inbox.folder, filename=upload.name or "map"
        )
    found = read if isinstance(read, ImportedScene) else plain_scene(read, upload.name, query.cell)
    return await keep(house, room, session, found)


def plain_scene(image: CleanImage, name: str, cell: float) -> ImportedScene:
    """A scene of a picture alone."""
    return ImportedScene(
        name=name.rpartition(".")[0] or name,
        width=image.width / cell,
        height=image.height / cell,
        pixels_per_cell=cell,
        image=image,
        walls=(),
        doors=(),
        lights=(),
        skipped=(),
    )


async def keep(house: House, room: str, session: Session, found: ImportedScene) -> Imported:
    """Keep the picture and make the scene: both, or neither."""
    asset = await house.assets.add(
        found.image, uploader=session.user_id, room=room, name=found.name
    )
    try:
        command = scene_command(room, found, asset.id)
        reply = await house.rooms.house(room, session.user_id, command)
    except TableForgeError:
        await house.assets.remove(asset)
        raise
    assert reply.result is not None, "an imported scene has an id"
    return Imported(Made(reply.result["id"]), found.skipped)


def scene_command(room: str, found: ImportedScene, background: str) -> ImportScene:
    """The scene as a command, within the bounds that commands have; raises Malformed."""
    command = ImportScene(
        room=room,
        id=secrets.token_hex(8),
        name=found.name[:80].strip() or "Map",
        width=found.width,
        height=found.height,
        grid=Grid("square", found.pixels_per_cell),
        background=background,
        walls=tuple(ImportedWall(points(wall)) for wall in found.walls),
        doors=tuple(
            ImportedDoor((at(door.points[0]), at(door.points[1])), door.state)
            for door in found.doors
        ),
        lights=tuple(
            ImportedLight(light.x, light.y, light.range, light.color, light.intensity)
            for light in found.lights
        ),
    )
    try:
        return msgspec.convert(msgspec.to_builtins(command), ImportScene)
    except msgspec.MsgspecError as error:
        why = codec.malformed(error, NOT_IMPORTED).why
        raise Malformed(NOT_IMPORTED, why, "Mend the file in its editor.") from error


def at(point: Point) -> At:
    """A point as commands carry it."""
    return At(point.x, point.y)


def points(wall: tuple[Point, ...]) -> tuple[At, ...]:
    """A wall's points as commands carry them."""
    return tuple(at(point) for point in wall)


ROUTES: Final[list[Any]] = [import_file]
