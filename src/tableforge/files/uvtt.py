"""Universal VTT: the map editors' common file, one JSON with picture, walls, doors and lights.

What editors really write differs from what they mean to: points that are `nan`, an origin that is not 0, colours with and
without transparency, a picture with a data address before it. A required field that is missing or of the wrong kind is a
refusal that names it; single walls, doors, lights and points that cannot be read are left out and listed.
"""

import binascii
import json
import math
import re
from collections.abc import Iterator
from typing import Any, Final, Literal, NoReturn, cast

from msgspec.structs import replace

from tableforge.domain.state import Point
from tableforge.errors import Malformed, TooLarge
from tableforge.files import NOT_TAKEN, DoorSegment, LightSource
from tableforge.files.orders import Picture, Plan
from tableforge.files.signatures import HEAD_BYTES, describe

POLYLINES: Final = 5_000
POINTS: Final = 30_000
WALL_POINTS: Final = 500
DOORS: Final = 2_000
LIGHTS: Final = 2_000
SKIPPED_SHOWN: Final = 100

_CELLS: Final = 10_000.0
_FARTHEST: Final = 100_000.0
_RANGE: Final = 1_000.0
_INTENSITY: Final = 100.0
_DECIMALS: Final = 4
"""A hundredth of a pixel at 100 pixels a cell."""

_EXPORT_AGAIN: Final = "Export the map again as Universal VTT."

# JSON as C libraries print it: nan, -nan, inf, 1.#QNAN; strings are matched first so that nothing inside them is touched.
_NOT_NUMBERS = re.compile(
    r'"[^"\\]*(?:\\.[^"\\]*)*"|[-+]?\b(?:nan|inf(?:inity)?)\b|[-+]?\b\d\.#\w+', re.IGNORECASE
)
_DATA_ADDRESS = re.compile(r"\s*data:[^,]{0,200},", re.IGNORECASE)
_SPACE = re.compile(r"\s+")
_COLOUR = re.compile(r"#?([0-9a-f]{2})?([0-9a-f]{6})", re.IGNORECASE)


def parse(data: bytes) -> tuple[Plan, bytes]:
    """Read a Universal VTT file into a plan and the bytes of its picture, which nobody has looked at yet.

    Raises Malformed and TooLarge naming the field.
    """
    document = _decode(data)
    resolution = _object(document, "resolution", "resolution")
    size = _object(resolution, "map_size", "resolution.map_size")
    width = _number(size, "x", "resolution.map_size.x", _CELLS)
    height = _number(size, "y", "resolution.map_size.y", _CELLS)
    pixels = _number(resolution, "pixels_per_grid", "resolution.pixels_per_grid", _CELLS)
    reader = _Reader(_origin(resolution))
    plan = Plan(
        width,
        height,
        pixels,
        tuple(reader.walls(document)),
        tuple(reader.doors(document)),
        tuple(reader.lights(document)),
        reader.report(),
    )
    return plan, _picture(document)


def fit(plan: Plan, picture: Picture) -> Plan:
    """Believe the picture where the file promises another size than it has."""
    per_cell = picture.width / plan.width
    promised = (plan.width * plan.pixels_per_cell, plan.height * plan.pixels_per_cell)
    if all(
        math.isclose(real, said, rel_tol=0.01, abs_tol=2.0)
        for real, said in zip((picture.width, picture.height), promised, strict=True)
    ):
        return plan
    note = (
        f"resolution: promises a picture of {promised[0]:.0f} × {promised[1]:.0f} pixels, it has "
        f"{picture.width} × {picture.height}; it is stretched over the map"
    )
    return replace(plan, pixels_per_cell=per_cell, skipped=(*plan.skipped, note))


def _refuse(field: str, why: str) -> NoReturn:
    raise Malformed(NOT_TAKEN, f"Its field `{field}` {why}.", _EXPORT_AGAIN)


def _decode(data: bytes) -> dict[str, Any]:
    head = data[:HEAD_BYTES]
    if not head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
        raise Malformed(
            NOT_TAKEN,
            f"It is {describe(head)}, not a Universal VTT map, which is a JSON object.",
            "Send a .dd2vtt, .uvtt or .df2vtt file, or a picture under its own name.",
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        why = f"It is not UTF-8 text: byte {error.start} cannot be read."
        raise Malformed(NOT_TAKEN, why, _EXPORT_AGAIN) from error
    try:
        document = _loads(text)
    except json.JSONDecodeError as error:
        place = f"character {error.pos} of {len(text)}"
        why = f"It is not a whole JSON text: {error.msg} ({place})."
        raise Malformed(NOT_TAKEN, why, _EXPORT_AGAIN) from error
    except RecursionError as error:
        raise Malformed(NOT_TAKEN, "Its JSON is nested too deeply.", _EXPORT_AGAIN) from error
    except ValueError as error:
        why = "It holds a number of thousands of digits."
        raise Malformed(NOT_TAKEN, why, _EXPORT_AGAIN) from error
    return cast("dict[str, Any]", document)  # it begins with a brace


def _loads(text: str) -> Any:
    """Decode JSON in which numbers that are none become null."""
    try:
        return json.loads(text, parse_constant=lambda _: None)
    except json.JSONDecodeError:
        mended = _NOT_NUMBERS.sub(lambda found: found[0] if found[0][0] == '"' else "null", text)
        if mended == text:
            raise
    return json.loads(mended, parse_constant=lambda _: None)


def _object(parent: dict[str, Any], key: str, field: str) -> dict[str, Any]:
    value = parent.get(key)
    if value is None:
        _refuse(field, "is missing")
    if not isinstance(value, dict):
        _refuse(field, f"is {_kind(value)}, not an object")
    return value


def _list(parent: dict[str, Any], key: str, most: int) -> list[Any]:
    """An optional list: exporters leave it out when there is nothing in it."""
    value = parent.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        _refuse(key, f"is {_kind(value)}, not a list")
    if len(value) > most:
        why = f"Its field `{key}` has {len(value)} entries, and at most {most} are taken."
        raise TooLarge(NOT_TAKEN, why, "Split the map.")
    return value


def _number(parent: dict[str, Any], key: str, field: str, most: float) -> float:
    value = parent.get(key)
    if value is None:
        _refuse(field, "is missing" if key not in parent else "is not a number")
    number = _finite(value)
    if number is None:
        _refuse(field, "is not a number" if not _is_number(value) else "is not a usable number")
    if not 0 < number <= most:
        _refuse(field, f"is {number:g}, and must be over 0 and at most {most:g}")
    return number


def _origin(resolution: dict[str, Any]) -> tuple[float, float]:
    """Where the map begins; older exporters leave it out when it is 0, 0."""
    origin = resolution.get("map_origin")
    if origin is None:
        return 0.0, 0.0
    if not isinstance(origin, dict):
        _refuse("resolution.map_origin", f"is {_kind(origin)}, not an object")
    x, y = _finite(origin.get("x")), _finite(origin.get("y"))
    if x is None or y is None:
        _refuse(f"resolution.map_origin.{'x' if x is None else 'y'}", "is not a number")
    return x, y


def _picture(document: dict[str, Any]) -> bytes:
    text = document.get("image")
    if text is None:
        _refuse("image", "is missing")
    if not isinstance(text, str):
        _refuse("image", f"is {_kind(text)}, not a base64 text")
    if address := _DATA_ADDRESS.match(text):
        if not address[0].rstrip(",").lower().endswith("base64"):
            _refuse("image", "is a data address without base64")
        text = text[address.end() :]
    text = _SPACE.sub("", text)
    if not text:
        _refuse("image", "is empty")
    padding = "=" * (-len(text) % 4)  # some exporters leave it out
    try:
        return binascii.a2b_base64(text + padding, strict_mode=True)
    except ValueError as error:
        _refuse("image", f"is not base64 or is cut off ({error})")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _finite(value: object) -> float | None:
    """A number that a board can have, or None."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if -_FARTHEST <= value <= _FARTHEST else None  # also false for nan


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a text"
    return "a list" if isinstance(value, list) else "an object"


class _Reader:
    """Reads what lies on the map, moving its origin to 0, 0, and remembers what it left out."""

    def __init__(self, origin: tuple[float, float]) -> None:
        self._origin = origin
        self._skipped: list[str] = []
        self._skipped_more = 0

    def report(self) -> tuple[str, ...]:
        """What was left out, a line each, the last one counting those that are not listed."""
        more = (f"and {self._skipped_more} more",) if self._skipped_more else ()
        return (*self._skipped, *more)

    def walls(self, document: dict[str, Any]) -> Iterator[tuple[Point, ...]]:
        """Both kinds of sight lines as polylines of at most `WALL_POINTS`; long ones go on where they were cut."""
        budget = POINTS
        for key in ("line_of_sight", "objects_line_of_sight"):
            for number, line in enumerate(_list(document, key, POLYLINES)):
                field = f"{key}[{number}]"
                if not isinstance(line, list):
                    self._skip(field, f"is {_kind_or_null(line)}, not a list of points")
                    continue
                budget -= len(line)
                if budget < 0:
                    why = (
                        f"Its fields of sight lines have more than {POINTS} points up to `{field}`."
                    )
                    raise TooLarge(NOT_TAKEN, why, "Split the map, or simplify its caves.")
                points = tuple(self._points(line, field))
                if len(points) < 2:
                    self._skip(field, "has fewer than two points")
                    continue
                for start in range(0, len(points) - 1, WALL_POINTS - 1):
                    yield points[start : start + WALL_POINTS]

    def doors(self, document: dict[str, Any]) -> Iterator[DoorSegment]:
        """The portals, each by its two ends."""
        for number, portal in enumerate(_list(document, "portals", DOORS)):
            field = f"portals[{number}]"
            if not isinstance(portal, dict):
                self._skip(field, f"is {_kind_or_null(portal)}, not an object")
                continue
            bounds = portal.get("bounds")
            ends = list(self._points(bounds, f"{field}.bounds")) if isinstance(bounds, list) else []
            if len(ends) != 2:
                self._skip(f"{field}.bounds", "is not two points")
                continue
            closed = portal.get("closed", True)
            state: Literal["closed", "open"] = "open" if closed is False else "closed"
            yield DoorSegment((ends[0], ends[1]), state)

    def lights(self, document: dict[str, Any]) -> Iterator[LightSource]:
        """The lights; a colour that says how opaque it is takes from the intensity."""
        for number, light in enumerate(_list(document, "lights", LIGHTS)):
            field = f"lights[{number}]"
            if not isinstance(light, dict):
                self._skip(field, f"is {_kind_or_null(light)}, not an object")
                continue
            place = self._point(light.get("position"), f"{field}.position")
            reach = self._measure(light, "range", field, _RANGE, None)
            intensity = self._measure(light, "intensity", field, _INTENSITY, 1.0)
            if place is None or reach is None or intensity is None:
                continue
            color, opacity = self._colour(light.get("color"), f"{field}.color")
            yield LightSource(place.x, place.y, reach, color, round(intensity * opacity, _DECIMALS))

    def _points(self, values: list[Any], field: str) -> Iterator[Point]:
        for number, value in enumerate(values):
            point = self._point(value, f"{field}[{number}]")
            if point is not None:
                yield point

    def _point(self, value: object, field: str) -> Point | None:
        if not isinstance(value, dict):
            self._skip(field, f"is {_kind_or_null(value)}, not a point")
            return None
        x, y = _finite(value.get("x")), _finite(value.get("y"))
        if x is None or y is None:
            self._skip(f"{field}.{'x' if x is None else 'y'}", "is not a number within the board")
            return None
        x, y = x - self._origin[0], y - self._origin[1]
        if max(abs(x), abs(y)) > _FARTHEST:
            self._skip(field, "is too far away")
            return None
        return Point(round(x, _DECIMALS), round(y, _DECIMALS))

    def _measure(
        self, light: dict[str, Any], key: str, field: str, most: float, default: float | None
    ) -> float | None:
        number = _finite(light.get(key, default))
        if number is None or number < 0:
            self._skip(f"{field}.{key}", "is not a number from 0 up")
            return None
        if number > most:
            self._skip(f"{field}.{key}", f"is {number:g}, taken as {most:g}")
        return round(min(number, most), _DECIMALS)

    def _colour(self, value: object, field: str) -> tuple[str, float]:
        """AARRGGBB or RRGGBB as #rrggbb and how opaque it is; a light that is all transparent was not meant so."""
        if value is None:
            return "#ffffff", 1.0
        found = _COLOUR.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            self._skip(field, "is not a colour, taken as white")
            return "#ffffff", 1.0
        opacity = int(found[1], 16) / 255 if found[1] else 1.0
        return f"#{found[2].lower()}", opacity or 1.0

    def _skip(self, field: str, why: str) -> None:
        if len(self._skipped) < SKIPPED_SHOWN:
            self._skipped.append(f"{field} {why}")
        else:
            self._skipped_more += 1


def _kind_or_null(value: object) -> str:
    return "nothing" if value is None else _kind(value)
