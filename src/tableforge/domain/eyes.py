"""Who sees what: the few predicates that the rules and the redaction share, so that they can never disagree.

A GM sees the whole table. Everybody else sees one scene, the one they were placed in or else the active one, and on it
the pieces that are neither hidden nor on the layer `gm`, and the drawings. Walls, doors and lights are the GM's.
"""

from msgspec import Struct

from tableforge.domain.state import Room, Token, Turn, TurnEntry


class Eyes(Struct, frozen=True):
    """How one user looks at a room at one moment; two users with equal eyes and no whispers see the same.

    `scene` is the scene in front of them. `gm` decides whether they see only that.
    """

    user: str
    gm: bool
    scene: str


def eyes_of(room: Room, user: str) -> Eyes:
    """The eyes of a user; somebody who is no member looks as a player who owns nothing."""
    member = room.members.get(user)
    if member is not None and member.role == "gm":
        return Eyes(user=user, gm=True, scene=room.active)
    return Eyes(user=user, gm=False, scene=room.placed.get(user, room.active))


def is_plain(token: Token) -> bool:
    """Whether a piece is seen by everybody who sees its scene."""
    return not token.hidden and token.layer != "gm"


def sees_scene(eyes: Eyes, scene: str) -> bool:
    """Whether these eyes see a scene, and with it its drawings."""
    return eyes.gm or scene == eyes.scene


def sees_token(eyes: Eyes, token: Token) -> bool:
    """Whether these eyes see a piece."""
    return eyes.gm or (token.scene == eyes.scene and not token.hidden and token.layer != "gm")


def sees_entry(room: Room, eyes: Eyes, entry: TurnEntry) -> bool:
    """Whether these eyes see a row of the turn order: a row that is bound to a piece is seen with it."""
    if eyes.gm or entry.token is None:
        return True
    token = room.tokens.get(entry.token)
    return token is not None and sees_token(eyes, token)


def seen_turn(room: Room, eyes: Eyes, turn: Turn | None) -> Turn | None:
    """A turn order as these eyes see it: only rows they see, and `current` counted among those."""
    if turn is None or eyes.gm:
        return turn
    places = [at for at, entry in enumerate(turn.entries) if sees_entry(room, eyes, entry)]
    if len(places) == len(turn.entries):
        return turn
    return Turn(
        active=turn.active,
        round=turn.round,
        current=places.index(turn.current) if turn.current in places else None,
        entries=tuple(turn.entries[at] for at in places),
    )
