"""Commands, events and rooms to JSON and back, with the upcasters that read what earlier versions wrote.

A stored event or snapshot carries the number of its form. When a form changes, the number goes up, an upcaster turns the
parsed JSON of the form before into the next, and a sample of the old bytes joins `tests/vectors/forms/`.
"""

from collections.abc import Callable, Mapping
from typing import Any, get_args

import msgspec

from tableforge.domain.commands import COLOUR, PRINTABLE, PROSE, Command
from tableforge.domain.events import Event
from tableforge.domain.state import Room
from tableforge.errors import Malformed, TableForgeError, Unavailable

EVENT_FORM = 1
ROOM_FORM = 1

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What reading a stranger's JSON may end with: not the form, not UTF-8, nested until the stack is used up."""

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]

EVENT_UPCASTERS: Mapping[int, Upcaster] = {}
"""From form N to N + 1; empty while the first form is the only one."""
ROOM_UPCASTERS: Mapping[int, Upcaster] = {}
"""From form N to N + 1, for every form there ever was: a log may have lost its beginning to a snapshot of an early one."""

_command: msgspec.json.Decoder[Command] = msgspec.json.Decoder(Command)
_event: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
_room = msgspec.json.Decoder(Room)
_encoder = msgspec.json.Encoder()

encode = _encoder.encode
"""Any struct or plain value to JSON bytes. No float leaves the domain that is not finite."""


class Undecodable(Unavailable):
    """Stored bytes that this version cannot read; nothing was changed."""


PATTERNS = {
    PRINTABLE: "without control characters",
    PROSE: "without control characters but tab and newline",
    COLOUR: "of the form #rrggbb",
}


def malformed(error: Exception, what: str) -> Malformed:
    """Say what is wrong with an input, and where: msgspec's own message names the path."""
    if isinstance(error, UnicodeDecodeError):
        why = f"It is not UTF-8 at byte {error.start}."
    elif isinstance(error, RecursionError):
        why = "It is nested too deeply."
    else:
        why = f"{str(error).rstrip('.')}."
        for pattern, words in PATTERNS.items():
            why = why.replace(f"matching regex {pattern!r}", words)
    return Malformed(what, why, "See the command's form in docs/protocol.md.")


def command_types() -> tuple[str, ...]:
    """The names of all commands that members may send, in the order of the vocabulary."""
    return tuple(str(kind.__struct_config__.tag) for kind in get_args(Command))


def decode_command(raw: bytes | msgspec.Raw) -> Command:
    """Read one command; raises `Malformed` with the path of what is wrong."""
    try:
        command = _command.decode(raw)
    except UNREADABLE as error:
        raise malformed(error, "The command was not understood.") from error
    if not (command.id.isprintable() and command.room.isprintable()):
        raise Malformed(
            "The command was not understood.",
            "Its `id` or `room` holds control characters.",
            "Use 1 to 64 printable characters.",
        )
    return command


def _upcast(
    data: bytes, form: int, present: int, casters: Mapping[int, Upcaster]
) -> dict[str, Any]:
    if form > present:
        raise KeyError(f"form {form} is of a later version")
    parsed: dict[str, Any] = msgspec.json.decode(data)
    for step in range(form, present):
        parsed = casters[step](parsed)
    return parsed


def decode_event(form: int, data: bytes) -> Event:
    """Read a stored event of any form there ever was; raises `Undecodable`."""
    try:
        if form == EVENT_FORM:
            return _event.decode(data)
        upcast: Event = msgspec.convert(_upcast(data, form, EVENT_FORM, EVENT_UPCASTERS), Event)
        return upcast
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError) as error:
        raise Undecodable(
            "A stored event could not be read.",
            f"It has form {form}, this version reads 1 to {EVENT_FORM}: {error}",
            "Run `tableforge verify` on the server.",
        ) from error


def encode_room(room: Room) -> bytes:
    """A room's whole state, secrets included, for a snapshot in the log."""
    return encode(room)


def decode_room(form: int, data: bytes) -> Room | None:
    """Read a snapshot; None for one of a later form, and for damaged bytes: then an earlier one, or the log, is taken."""
    try:
        if form == ROOM_FORM:
            return _room.decode(data)
        return msgspec.convert(_upcast(data, form, ROOM_FORM, ROOM_UPCASTERS), Room)
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError):
        return None


def error_body(error: TableForgeError) -> dict[str, Any]:
    """An error as the WebSocket tells it: the slug as `message`, and what, why and mend as `detail`."""
    body: dict[str, Any] = {
        "code": error.http_status,
        "message": error.code,
        "detail": error.detail,
    }
    if error.http_status in {429, 503}:
        body["temporary"] = True
    return body
