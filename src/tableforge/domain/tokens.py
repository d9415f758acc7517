"""Pieces: put on a scene, moved, changed and taken away.

A player owns some pieces and may move, change and take away those; what they do not see is not there for them. A locked
piece is moved by nobody, a GM included, before it is unlocked.
"""

from collections.abc import Sequence

from msgspec import UNSET
from msgspec.structs import replace

from tableforge.domain.commands import AddToken, Move, MoveToken, RemoveToken, UpdateToken
from tableforge.domain.events import Event, TokenAdded, TokenMoved, TokenRemoved, TokenUpdated
from tableforge.domain.eyes import Eyes, eyes_of, sees_token
from tableforge.domain.ids import fresh_id
from tableforge.domain.players import caller, member_named, require_player
from tableforge.domain.scenes import scene_asked
from tableforge.domain.state import Given, Member, Room, Token
from tableforge.errors import Forbidden, Locked, Malformed, NotFound, TooLarge

TOKENS_MAX = 5_000
FIELDS = (
    "name",
    "x",
    "y",
    "width",
    "height",
    "rotation",
    "layer",
    "image",
    "owner",
    "hidden",
    "locked",
)
POSE = ("x", "y", "rotation")
PLAYERS_LEAVE = ("layer", "owner", "hidden", "locked")
"""Fields of their own pieces that players may not change."""


def add(room: Room, command: AddToken, given: Given) -> tuple[Event, ...]:
    """Put a piece on a scene. A player's is their own, on the layer of objects, in the open, and not locked."""
    member = caller(room, given)
    scene = scene_asked(room, eyes_of(room, given.by), command.scene)
    owner = command.owner
    if member.role != "gm":
        refuse_adding(room, member)
        plain = command.layer == "object" and not command.hidden and not command.locked
        if not plain or owner not in {UNSET, member.id}:
            raise Forbidden(
                "The piece was not added.",
                "A player's piece is their own, on the layer of objects, neither hidden nor locked.",
                "Leave out owner, layer, hidden and locked.",
            )
        owner = member.id
    elif owner is UNSET:
        owner = None
    elif owner is not None:
        member_named(room, owner)
    refuse_beyond_limit(room, 1)
    token = Token(
        id=fresh_id(given),
        scene=scene,
        name=command.name,
        x=command.x,
        y=command.y,
        width=command.width,
        height=command.height,
        rotation=command.rotation,
        layer=command.layer,
        image=command.image,
        owner=owner,
        hidden=command.hidden,
        locked=command.locked,
    )
    return (TokenAdded(given.by, given.at, command.id, token=token),)


def move(room: Room, command: MoveToken, given: Given) -> tuple[Event, ...]:
    """Move one piece, or several: all or none."""
    member = caller(room, given)
    eyes = eyes_of(room, given.by)
    if command.moves is UNSET:
        if command.token is UNSET or command.x is UNSET or command.y is UNSET:
            raise _unclear_move()
        token = _own_token(room, eyes, member, command.token, "moved")
        _refuse_locked(token)
        turned = command.rotation is not UNSET and command.rotation != token.rotation
        if not turned and token.x == command.x and token.y == command.y:
            return ()
        return (
            TokenMoved(
                given.by,
                given.at,
                command.id,
                token=command.token,
                x=command.x,
                y=command.y,
                rotation=command.rotation,
            ),
        )
    if not (command.token is command.x is command.y is command.rotation is UNSET):
        raise _unclear_move()
    return _move_several(room, command.moves, member, eyes, (given.by, given.at, command.id))


def _move_several(
    room: Room, moves: Sequence[Move], member: Member, eyes: Eyes, stamp: tuple[str, str, str]
) -> tuple[Event, ...]:
    changes = False
    for way in moves:
        token = _own_token(room, eyes, member, way.token, "moved")
        _refuse_locked(token)
        turned = way.rotation is not UNSET and way.rotation != token.rotation
        changes = changes or turned or token.x != way.x or token.y != way.y
    if len({way.token for way in moves}) < len(moves):
        raise Malformed(
            "Nothing was moved.", "`moves` names a piece twice.", "Name each piece once."
        )
    return (TokenMoved(*stamp, moves=tuple(moves)),) if changes else ()


def _unclear_move() -> Malformed:
    return Malformed(
        "Nothing was moved.",
        "A move has either `token`, `x` and `y`, or `moves`.",
        "Send one of the two forms.",
    )


def update(room: Room, command: UpdateToken, given: Given) -> tuple[Event, ...]:
    """Change fields of a piece; the event names only those that changed."""
    member = caller(room, given)
    token = _own_token(room, eyes_of(room, given.by), member, command.token, "changed")
    asked = {field: getattr(command, field) for field in FIELDS}
    named = [field for field, value in asked.items() if value is not UNSET]
    if member.role != "gm":
        if any(field in PLAYERS_LEAVE for field in named):
            raise Forbidden(
                "The piece was not changed.",
                "Its layer, owner, hiding and lock are the GM's.",
                "Leave these fields out.",
            )
        _refuse_locked(token)
    changed = {field: asked[field] for field in named if asked[field] != getattr(token, field)}
    if token.locked and command.locked is not False and any(key in POSE for key in changed):
        raise locked()
    owner = changed.get("owner")
    if owner is not None:
        member_named(room, owner)
    if not changed:
        return ()
    return (TokenUpdated(given.by, given.at, command.id, token=token.id, **changed),)


def remove(room: Room, command: RemoveToken, given: Given) -> tuple[Event, ...]:
    """Take a piece away. Its row in the turn order stays behind, out of sight, in case it is brought back."""
    member = caller(room, given)
    token = _own_token(room, eyes_of(room, given.by), member, command.token, "removed")
    if member.role != "gm":
        _refuse_locked(token)
    return (TokenRemoved(given.by, given.at, command.id, token=token.id),)


def refuse_adding(room: Room, member: Member) -> None:
    """Refuse those who may not put pieces on the table."""
    require_player(member, "The piece was not added.")
    if member.role != "gm" and not room.settings.players_add_tokens:
        raise Forbidden(
            "The piece was not added.",
            "At this table only the GM adds pieces.",
            "Ask the GM to add it, or to change the setting.",
        )


def refuse_beyond_limit(room: Room, more: int) -> None:
    """Refuse what would make too many pieces."""
    if len(room.tokens) + more > TOKENS_MAX:
        raise TooLarge(
            "The piece was not added.",
            f"A room holds at most {TOKENS_MAX} pieces.",
            "Remove some that are not needed.",
        )


def no_such_token() -> NotFound:
    """The one answer for a piece that is not there and for one that the caller does not see."""
    return NotFound("There is no such piece.", "", "Take its id from the snapshot.")


def locked() -> Locked:
    """The refusal to touch a locked piece."""
    return Locked("Nothing was changed.", "The piece is locked.", "A GM can unlock it.")


def _refuse_locked(token: Token) -> None:
    if token.locked:
        raise locked()


def _own_token(room: Room, eyes: Eyes, member: Member, token_id: str, what: str) -> Token:
    """A piece that the caller sees and may handle."""
    token = room.tokens.get(token_id)
    if token is None or not sees_token(eyes, token):
        raise no_such_token()
    if member.role == "gm" or (member.role == "player" and token.owner == member.id):
        return token
    raise Forbidden(
        f"The piece was not {what}.", "It is not yours.", "Ask the GM to make you its owner."
    )


# Events


def added(room: Room, event: TokenAdded) -> Room:
    """The room with one more piece."""
    return replace(room, tokens={**room.tokens, event.token.id: event.token})


def moved_tokens(tokens: dict[str, Token], event: TokenMoved) -> dict[str, Token]:
    """The pieces after a move."""
    tokens = tokens.copy()
    if event.moves is UNSET:
        assert event.token is not UNSET
        token = tokens[event.token]
        rotation = token.rotation if event.rotation is UNSET else event.rotation
        tokens[token.id] = replace(token, x=event.x, y=event.y, rotation=rotation)
        return tokens
    for way in event.moves:
        token = tokens[way.token]
        rotation = token.rotation if way.rotation is UNSET else way.rotation
        tokens[token.id] = replace(token, x=way.x, y=way.y, rotation=rotation)
    return tokens


def moved(room: Room, event: TokenMoved) -> Room:
    """The room with pieces elsewhere."""
    return replace(room, tokens=moved_tokens(room.tokens, event))


def updated(room: Room, event: TokenUpdated) -> Room:
    """The room with a changed piece."""
    values = ((field, getattr(event, field)) for field in FIELDS)
    changed = {field: value for field, value in values if value is not UNSET}
    token = replace(room.tokens[event.token], **changed)
    return replace(room, tokens={**room.tokens, token.id: token})


def removed(room: Room, event: TokenRemoved) -> Room:
    """The room without a piece."""
    tokens = room.tokens.copy()
    del tokens[event.token]
    return replace(room, tokens=tokens)
