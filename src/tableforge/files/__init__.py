"""What comes in from strangers' files: pictures made safe to serve, and scenes from map editors.

Nothing of such a file is opened in the server's own process. `importer` starts one bounded child at a time (`worker`)
and gets back plain facts; everything below `worker` runs in that child only.
"""

from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from tableforge.domain.state import Point

PictureKind = Literal["image/png", "image/jpeg", "image/webp", "image/avif"]

NOT_TAKEN: Final = "The file was not taken."
"""How every refusal of this package begins: nothing of the file is kept."""

SCENE_ENDINGS: Final = (".dd2vtt", ".uvtt", ".df2vtt")
"""Names under which map editors save Universal VTT."""

MEBIBYTE: Final = 1024 * 1024


class Limits(Struct, frozen=True, kw_only=True):
    """The bounds on one file and on the child that opens it.

    `max_bytes` is for the file as it came; `max_pixels` for width times height, and no side passes `max_side`.
    The child gets `memory_bytes` of address space, `cpu_s` of processor and `wall_s` in all; `waiting` files may queue
    for it, each for `wait_s` at most. Opening takes about 4 bytes a pixel for PNG, 17 for WebP, 10 to 18 for AVIF, and
    up to 6 for a progressive JPEG, so that `memory_bytes` can refuse what `max_pixels` would let pass.
    """

    max_bytes: int = 50 * MEBIBYTE
    max_pixels: int = 16384 * 16384
    max_side: int = 32768
    memory_bytes: int = 1536 * MEBIBYTE
    cpu_s: int = 30
    wall_s: float = 45.0
    waiting: int = 16
    wait_s: float = 60.0
    thumbnail_px: int = 512


class CleanImage(Struct, frozen=True):
    """A picture without metadata, upright, proven to decode to its end.

    `digest` is the sha256 of the bytes at `path` in hex; `width` and `height` are as shown. The thumbnail is a WebP.
    """

    digest: str
    kind: PictureKind
    width: int
    height: int
    bytes: int
    path: Path
    thumbnail_path: Path


class DoorSegment(Struct, frozen=True):
    """A door from a map editor: a segment in cells."""

    points: tuple[Point, Point]
    state: Literal["closed", "open"]


class LightSource(Struct, frozen=True):
    """A light from a map editor: `range` in cells, `color` as #rrggbb, `intensity` 1 = normal."""

    x: float
    y: float
    range: float
    color: str
    intensity: float


class ImportedScene(Struct, frozen=True):
    """A map with what the editor knew of it. Lengths are cells from the top left corner of the picture.

    `width` and `height` may be fractional; `pixels_per_cell` is the grid's size on the picture. `walls` are polylines of
    2 to 500 points. `skipped` says, one line each, what could not be read and was left out.
    """

    name: str
    width: float
    height: float
    pixels_per_cell: float
    image: CleanImage
    walls: tuple[tuple[Point, ...], ...]
    doors: tuple[DoorSegment, ...]
    lights: tuple[LightSource, ...]
    skipped: tuple[str, ...]
