"""Annotations and measuring templates. What they look like is between clients; the server bounds their size."""

from typing import Any

from msgspec.structs import replace

from tableforge.domain.commands import AddDrawing, RemoveDrawing
from tableforge.domain.events import DrawingAdded, DrawingRemoved, Event
from tableforge.domain.eyes import eyes_of, sees_scene
from tableforge.domain.ids import fresh_id
from tableforge.domain.players import caller, require_player
from tableforge.domain.scenes import scene_asked
from tableforge.domain.state import Drawing, Given, Room
from tableforge.errors import Forbidden, Malformed, NotFound, TooLarge

DRAWINGS_MAX = 2_000
DEPTH_MAX = 6
VALUES_MAX = 2_500
TEXT_MAX = 4_000
KEY_MAX = 64
NUMBER_MAX = 1e9


def add(room: Room, command: AddDrawing, given: Given) -> tuple[Event, ...]:
    """Draw something on a scene."""
    member = caller(room, given)
    scene = scene_asked(room, eyes_of(room, given.by), command.scene)
    require_player(member, "Nothing was drawn.")
    refuse_beyond_limit(room, 1)
    refuse_unbounded(command.shape, "shape")
    refuse_unbounded(command.style, "style")
    drawing = Drawing(
        id=fresh_id(given),
        scene=scene,
        owner=member.id,
        shape=command.shape,
        style=command.style,
    )
    return (DrawingAdded(given.by, given.at, command.id, drawing=drawing),)


def remove(room: Room, command: RemoveDrawing, given: Given) -> tuple[Event, ...]:
    """Wipe a drawing away: one's own, or as a GM any."""
    member = caller(room, given)
    drawing = room.drawings.get(command.drawing)
    if drawing is None or not sees_scene(eyes_of(room, given.by), drawing.scene):
        raise NotFound("There is no such drawing.", "", "Take its id from the snapshot.")
    if member.role != "gm" and (member.role != "player" or drawing.owner != member.id):
        raise Forbidden("The drawing was not removed.", "It is not yours.", "Ask the GM.")
    return (DrawingRemoved(given.by, given.at, command.id, drawing=drawing.id),)


def refuse_beyond_limit(room: Room, more: int) -> None:
    """Refuse what would make too many drawings."""
    if len(room.drawings) + more > DRAWINGS_MAX:
        raise TooLarge(
            "Nothing was drawn.",
            f"A room holds at most {DRAWINGS_MAX} drawings.",
            "Remove some that are not needed.",
        )


def refuse_unbounded(value: Any, where: str) -> None:
    """Refuse JSON of a stranger's making that is too deep, too big, or not plain text and finite numbers."""
    _Bounds().check(value, where)


class _Bounds:
    """Walks JSON of a stranger's making and refuses what is too deep, too big, or not plain text and finite numbers."""

    def __init__(self) -> None:
        self._values = 0
        self._characters = 0

    def check(self, value: Any, where: str, depth: int = 1) -> None:
        self._values += 1
        if self._values > VALUES_MAX:
            raise _refusal(where, f"It holds more than {VALUES_MAX} values.")
        if isinstance(value, dict | list | tuple) and depth > DEPTH_MAX:
            raise _refusal(where, f"It is nested deeper than {DEPTH_MAX}.")
        match value:
            case dict():
                for key, inner in value.items():
                    if len(key) > KEY_MAX:
                        raise _refusal(where, f"A key is longer than {KEY_MAX} characters.")
                    self._text(key, where)
                    self.check(inner, f"{where}.{key}", depth + 1)
            case list() | tuple():
                for at, inner in enumerate(value):
                    self.check(inner, f"{where}[{at}]", depth + 1)
            case str():
                self._text(value, where)
            case bool() | None:
                pass
            case int() | float():
                # Not a number compares to nothing, and a whole number may be too long for a float.
                if not -NUMBER_MAX <= value <= NUMBER_MAX:
                    raise _refusal(where, "It is not a number between -1e9 and 1e9.")
            case _:
                raise _refusal(where, "It is not JSON.")

    def _text(self, text: str, where: str) -> None:
        self._characters += len(text)
        if self._characters > TEXT_MAX:
            raise _refusal(where, f"It holds more than {TEXT_MAX} characters of text.")
        if any((ord(sign) < 32 and sign not in "\t\n") or sign == "\x7f" for sign in text):
            raise _refusal(where, "It holds control characters.")


def _refusal(where: str, why: str) -> Malformed:
    return Malformed(
        f"Nothing was done: `{where[:200]}` was refused.",
        why,
        "Make it simpler, or of several parts.",
    )


# Events


def added(room: Room, event: DrawingAdded) -> Room:
    """The room with one more drawing."""
    return replace(room, drawings={**room.drawings, event.drawing.id: event.drawing})


def removed(room: Room, event: DrawingRemoved) -> Room:
    """The room without a drawing."""
    drawings = room.drawings.copy()
    del drawings[event.drawing]
    return replace(room, drawings=drawings)
