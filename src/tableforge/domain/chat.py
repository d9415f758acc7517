"""What is said and rolled, and to whom it is told.

Who hears a whisper or sees a hidden roll is settled when it happens: a later change of role or settings neither takes it
away nor tells it to anybody else. `told_to` is that rule, for the room's memory and for the redaction alike.
"""

from msgspec import UNSET
from msgspec.structs import replace

from tableforge.domain.commands import RollDice, Say
from tableforge.domain.dice import roll
from tableforge.domain.events import Event, Rolled, Said
from tableforge.domain.players import caller, member_named, require_player, require_voice
from tableforge.domain.state import CHAT_SHOWN, ChatLine, Given, RolledLine, Room, SaidLine

EVERYBODY = ""
"""The key under which a room keeps what all were told."""


def say(room: Room, command: Say, given: Given) -> tuple[Event, ...]:
    """Say something to everybody, or whisper it to some."""
    require_voice(caller(room, given), "Nothing was said.")
    if command.to is UNSET:
        return (Said(given.by, given.at, command.id, text=command.text),)
    to = tuple(sorted({member_named(room, user).id for user in command.to}))
    return (Said(given.by, given.at, command.id, text=command.text, to=to),)


def roll_dice(room: Room, command: RollDice, given: Given) -> tuple[Event, ...]:
    """Roll dice. The outcome is part of the event, so that nothing ever rolls it again."""
    member = caller(room, given)
    require_player(member, "Nothing was rolled.")
    require_voice(member, "Nothing was rolled.")
    outcome = roll(command.expression, given.seed)
    return (
        Rolled(
            given.by,
            given.at,
            command.id,
            visibility=command.visibility,
            expression=outcome.expression,
            total=outcome.total,
            dice=outcome.dice,
            label=command.label,
        ),
    )


def told_to(room: Room, event: Said | Rolled) -> frozenset[str] | None:
    """Who is told the whole of it; None for everybody. `room` is the room before the event."""
    gms = (key for key, member in room.members.items() if member.role == "gm")
    if isinstance(event, Said):
        if event.to is UNSET:
            return None
        overhearing = gms if room.settings.gm_sees_all else ()
        return frozenset((event.by, *event.to, *overhearing))
    if event.visibility == "public":
        return None
    if event.visibility == "gm":
        return frozenset((event.by, *gms))
    return frozenset((event.by,))


def masked(event: Rolled) -> Rolled:
    """What those are told of a hidden roll who may not see it: that there was one."""
    return Rolled(event.by, event.at, event.id, visibility=event.visibility)


def said(room: Room, event: Said) -> Room:
    """The room with one more line in the memory of those who were told."""
    to = told_to(room, event)
    line = SaidLine(room.version + 1, event.by, event.at, event.id, event.text, event.to)
    return _remember(room, dict.fromkeys((EVERYBODY,) if to is None else sorted(to), line))


def rolled(room: Room, event: Rolled) -> Room:
    """The room with one more roll: everybody remembers that there was one, some what it was."""
    to = told_to(room, event)
    if to is None:
        return _remember(room, {EVERYBODY: _rolled_line(room, event)})
    lines = dict.fromkeys(sorted(to), _rolled_line(room, event))
    return _remember(room, {EVERYBODY: _rolled_line(room, masked(event)), **lines})


def remembered(room: Room, user: str) -> tuple[ChatLine, ...]:
    """The newest lines that a user was told; what was told to them alone stands in for its mask."""
    for_all = room.chat.get(EVERYBODY, ())
    own = room.chat.get(user, ()) if user != EVERYBODY else ()
    if not own:
        return for_all
    lines = {line.offset: line for line in (*for_all, *own)}
    return tuple(lines[offset] for offset in sorted(lines)[-CHAT_SHOWN:])


def _rolled_line(room: Room, event: Rolled) -> RolledLine:
    return RolledLine(
        room.version + 1,
        event.by,
        event.at,
        event.id,
        event.visibility,
        event.expression,
        event.total,
        event.dice,
        event.label,
    )


def _remember(room: Room, lines: dict[str, ChatLine]) -> Room:
    chat = room.chat.copy()
    for user, line in lines.items():
        chat[user] = (*chat.get(user, ())[1 - CHAT_SHOWN :], line)
    return replace(room, chat=chat)
