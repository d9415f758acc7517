"""What the importer and its bounded child say to each other: one order, one answer, each a JSON."""

from typing import Literal

from msgspec import Struct

from tableforge.domain.state import Point
from tableforge.files import DoorSegment, LightSource, Limits, PictureKind


class Order(Struct, frozen=True):
    """One file to open: what it must be, where it lies, and where results may be written.

    `embedded` takes the picture that lies within a map.
    """

    what: Literal["picture", "map"]
    source: str
    target: str
    thumbnail: str
    embedded: str
    limits: Limits


class Picture(Struct, frozen=True, tag="picture"):
    """What was found out about the clean picture at `target`; see `CleanImage`."""

    digest: str
    kind: PictureKind
    width: int
    height: int
    bytes: int


class Plan(Struct, frozen=True):
    """A map without its picture; see `ImportedScene`."""

    width: float
    height: float
    pixels_per_cell: float
    walls: tuple[tuple[Point, ...], ...]
    doors: tuple[DoorSegment, ...]
    lights: tuple[LightSource, ...]
    skipped: tuple[str, ...]


class Map(Struct, frozen=True, tag="map"):
    """What was found in a Universal VTT file."""

    plan: Plan
    picture: Picture


class Refusal(Struct, frozen=True, tag="refusal"):
    """Why there is no result: the slug of an error of `errors`, and its three sentences."""

    code: str
    what: str
    why: str
    mend: str


Answer = Picture | Map | Refusal
