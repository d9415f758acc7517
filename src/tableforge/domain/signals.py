"""Live signals: pointers, drags and the like, seen by the others at once and never stored.

They pass through the same eyes as everything else: a signal tells nobody of a piece or a scene that they may not see.
"""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from tableforge.domain.commands import At, Coordinate, Id, Move
from tableforge.domain.eyes import eyes_of, sees_scene, sees_token
from tableforge.domain.state import Room


class SignalBase(Struct, frozen=True, omit_defaults=True, tag_field="type"):
    """`scene` left out = the one in front of the sender."""

    scene: Id | UnsetType = UNSET


class Cursor(SignalBase, frozen=True, kw_only=True, tag="cursor"):
    """Where the sender points."""

    x: Coordinate
    y: Coordinate


class Ping(SignalBase, frozen=True, kw_only=True, tag="ping"):
    """Look here."""

    x: Coordinate
    y: Coordinate


class Drag(SignalBase, frozen=True, kw_only=True, tag="drag"):
    """Pieces on their way; without any the drag has ended."""

    moves: Annotated[tuple[Move, ...], Meta(max_length=500)] = ()


class Typing(SignalBase, frozen=True, kw_only=True, tag="typing"):
    """Writes a chat line to these users, to all without `to`."""

    to: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=50)] | UnsetType = UNSET


class Measure(SignalBase, frozen=True, kw_only=True, tag="measure"):
    """A ruler with its waypoints; without any it was put away."""

    points: Annotated[tuple[At, ...], Meta(max_length=50)] = ()
    kind: Literal["ruler", "circle", "cone", "rectangle"] = "ruler"


Signal = Cursor | Ping | Drag | Typing | Measure


def seen_signal(room: Room, signal: Signal, sender: str, viewer: str) -> Signal | None:
    """The signal as the viewer may see it, or None; the sender must see what they signal about as well."""
    if isinstance(signal, Typing):
        return signal if signal.to is UNSET or viewer in signal.to else None
    mine, theirs = eyes_of(room, sender), eyes_of(room, viewer)
    scene = mine.scene if signal.scene is UNSET else signal.scene
    if not (sees_scene(mine, scene) and sees_scene(theirs, scene)):
        return None
    if not isinstance(signal, Drag) or not signal.moves:
        return signal
    moves = tuple(
        move
        for move in signal.moves
        if (token := room.tokens.get(move.token)) is not None
        and sees_token(mine, token)
        and sees_token(theirs, token)
    )
    return replace(signal, moves=moves) if moves else None
