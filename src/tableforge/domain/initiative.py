"""The turn order: whose turn it is, and in which round.

A row that is bound to a piece is seen with it. When the piece is taken away its row stays where it is, out of everybody's
sight but the GM's, and is passed over; an undo of the removal therefore brings the row back as well.
"""

from msgspec import UNSET
from msgspec.structs import replace

from tableforge.domain.commands import EndTurn, NextTurn, PreviousTurn, SetTurn
from tableforge.domain.events import Event, TurnChanged
from tableforge.domain.eyes import eyes_of, sees_entry, sees_token
from tableforge.domain.players import caller, require_gm, require_player
from tableforge.domain.state import Given, Member, Room, Turn, TurnEntry
from tableforge.domain.tokens import no_such_token
from tableforge.errors import Conflict, Forbidden, Malformed

NOT_CHANGED = "The turn order was not changed."


def set_order(room: Room, command: SetTurn, given: Given) -> tuple[Event, ...]:
    """Replace the turn order, highest value first, equal ones as given; no rows end it."""
    member, eyes = caller(room, given), eyes_of(room, given.by)
    present = room.turn.entries if room.turn is not None else ()
    left_behind = {entry.token for entry in present} if eyes.gm else set()
    for row in command.entries:
        token = room.tokens.get(row.token) if row.token is not None else None
        seen = token is not None and sees_token(eyes, token)
        if row.token is not None and not seen and row.token not in left_behind:
            raise no_such_token()
    require_gm(member, NOT_CHANGED)
    turn = _ordered(command)
    if turn == room.turn:
        return ()
    return (TurnChanged(given.by, given.at, command.id, turn=turn),)


def _ordered(command: SetTurn) -> Turn | None:
    rows = command.entries
    if command.current is not UNSET and command.current >= len(rows):
        raise Malformed(
            NOT_CHANGED,
            f"`current` is {command.current}, but there are {len(rows)} entries.",
            "It counts the entries as sent, from 0.",
        )
    if not rows:
        return None
    order = sorted(range(len(rows)), key=lambda at: -rows[at].value)
    return Turn(
        active=True,
        round=command.round,
        current=0 if command.current is UNSET else order.index(command.current),
        entries=tuple(TurnEntry(rows[at].name, rows[at].value, rows[at].token) for at in order),
    )


def pass_on(room: Room, command: NextTurn, given: Given) -> tuple[Event, ...]:
    """The next row's turn; after the last one a round begins."""
    require_gm(caller(room, given), NOT_CHANGED)
    turn = after(room, _running(room))
    return (TurnChanged(given.by, given.at, command.id, turn=turn),)


def go_back(room: Room, command: PreviousTurn, given: Given) -> tuple[Event, ...]:
    """The row's turn that was before."""
    require_gm(caller(room, given), NOT_CHANGED)
    turn = _before(room, _running(room))
    return (TurnChanged(given.by, given.at, command.id, turn=turn),)


def end_own(room: Room, command: EndTurn, given: Given) -> tuple[Event, ...]:
    """Pass on the turn, by the owner of the piece whose turn it is, or by a GM."""
    member = caller(room, given)
    require_player(member, NOT_CHANGED)
    turn = _running(room)
    refuse_others_turn(room, turn, member)
    return (TurnChanged(given.by, given.at, command.id, turn=after(room, turn)),)


def refuse_others_turn(room: Room, turn: Turn, member: Member) -> None:
    """Refuse a player whose turn it is not."""
    if member.role == "gm":
        return
    entry = turn.entries[turn.current] if turn.current is not None else None
    if entry is not None and sees_entry(room, eyes_of(room, member.id), entry):
        token = room.tokens.get(entry.token or "")
        if token is not None and token.owner == member.id:
            return
    raise Forbidden(NOT_CHANGED, "It is not your turn.", "Wait for it, or ask the GM.")


def after(room: Room, turn: Turn) -> Turn:
    """The turn order one turn later."""
    rows = len(turn.entries)
    start = turn.current if turn.current is not None else -1
    for step in range(1, rows + 1):
        rounds, at = divmod(start + step, rows)
        if _takes_part(room, turn.entries[at]):
            return replace(turn, round=turn.round + rounds, current=at)
    raise _nobody()


def _before(room: Room, turn: Turn) -> Turn:
    rows = len(turn.entries)
    start = turn.current if turn.current is not None else rows
    for step in range(1, rows + 1):
        rounds, at = divmod(start - step, rows)
        if not _takes_part(room, turn.entries[at]):
            continue
        if turn.round + rounds < 1:
            raise Conflict(NOT_CHANGED, "This is the first turn of the first round.")
        return replace(turn, round=turn.round + rounds, current=at)
    raise _nobody()


def _takes_part(room: Room, entry: TurnEntry) -> bool:
    return entry.token is None or entry.token in room.tokens


def _running(room: Room) -> Turn:
    if room.turn is None:
        raise Conflict(NOT_CHANGED, "There is none.", "Set one first.")
    return room.turn


def _nobody() -> Conflict:
    return Conflict(NOT_CHANGED, "All pieces in it have been taken away.", "Set a new one.")


def changed(room: Room, event: TurnChanged) -> Room:
    """The room with another turn order."""
    return replace(room, turn=event.turn)
