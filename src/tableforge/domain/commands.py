"""What members may ask of the table: one struct a command, its JSON being the wire format of the contract.

Shapes and ranges are checked while decoding, so that a rule in `decide` only meets well-formed commands. `UNSET` marks a
field that was left out, where leaving out and `null` differ.
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from tableforge.domain.state import Grid, Layer, Layout, Role, Visibility

# Python's `$` matches before a line feed at the end as well, and JSON Schema does not know `\Z`: `$(?!\n)` means the end
# of the text to both.
PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f]*$(?!\n)"
PROSE = r"^[^\x00-\x08\x0b-\x1f\x7f-\x9f]*$"
COLOUR = r"^#[0-9a-fA-F]{6}$(?!\n)"

Id = Annotated[str, Meta(min_length=1, max_length=64)]
Name = Annotated[str, Meta(min_length=1, max_length=80, pattern=PRINTABLE)]
Coordinate = Annotated[float, Meta(ge=-100_000, le=100_000)]
Length = Annotated[float, Meta(gt=0, le=1_000)]
Extent = Annotated[float, Meta(gt=0, le=10_000)]
Degrees = Annotated[float, Meta(ge=-36_000, le=36_000)]
Colour = Annotated[str, Meta(pattern=COLOUR)]
Tag = Annotated[str, Meta(min_length=1, max_length=40, pattern=PRINTABLE)]


class CommandBase(Struct, frozen=True, tag_field="type"):
    """`id` is the client's own: a repeat of it gets the first reply."""

    room: Id
    id: Id


class At(Struct, frozen=True):
    """A point in a command, in cells."""

    x: Coordinate
    y: Coordinate


class Move(Struct, frozen=True, omit_defaults=True):
    """One piece's way: where it goes, and how it stands there."""

    token: Id
    x: Coordinate
    y: Coordinate
    rotation: Degrees | UnsetType = UNSET


class CreateScene(CommandBase, frozen=True, tag="scene.create"):
    name: Name
    width: Extent
    height: Extent
    grid: Grid = Grid()
    background: Id | None = None


class UpdateScene(CommandBase, frozen=True, tag="scene.update"):
    scene: Id
    name: Name | UnsetType = UNSET
    width: Extent | UnsetType = UNSET
    height: Extent | UnsetType = UNSET
    grid: Grid | UnsetType = UNSET
    background: Id | None | UnsetType = UNSET


class ActivateScene(CommandBase, frozen=True, tag="scene.activate"):
    scene: Id


class RemoveScene(CommandBase, frozen=True, tag="scene.remove"):
    scene: Id


class PlaceMembers(CommandBase, frozen=True, tag="scene.place"):
    """Put members into a scene of their own; `scene: null` lets them follow the active one again."""

    scene: Id | None
    members: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=200)]


class AddToken(CommandBase, frozen=True, tag="token.add"):
    name: Name
    x: Coordinate
    y: Coordinate
    width: Length = 1.0
    height: Length = 1.0
    rotation: Degrees = 0.0
    layer: Layer = "object"
    image: Id | None = None
    owner: Id | None | UnsetType = UNSET
    hidden: bool = False
    locked: bool = False
    scene: Id | UnsetType = UNSET


class MoveToken(CommandBase, frozen=True, tag="token.move"):
    """Either one piece (`token`, `x`, `y`) or several (`moves`); several move all or none."""

    token: Id | UnsetType = UNSET
    x: Coordinate | UnsetType = UNSET
    y: Coordinate | UnsetType = UNSET
    rotation: Degrees | UnsetType = UNSET
    moves: Annotated[tuple[Move, ...], Meta(min_length=1, max_length=500)] | UnsetType = UNSET


class UpdateToken(CommandBase, frozen=True, tag="token.update"):
    token: Id
    name: Name | UnsetType = UNSET
    x: Coordinate | UnsetType = UNSET
    y: Coordinate | UnsetType = UNSET
    width: Length | UnsetType = UNSET
    height: Length | UnsetType = UNSET
    rotation: Degrees | UnsetType = UNSET
    layer: Layer | UnsetType = UNSET
    image: Id | None | UnsetType = UNSET
    owner: Id | None | UnsetType = UNSET
    hidden: bool | UnsetType = UNSET
    locked: bool | UnsetType = UNSET


class RemoveToken(CommandBase, frozen=True, tag="token.remove"):
    token: Id


class SetWall(CommandBase, frozen=True, tag="wall.set"):
    """Without `wall` a new one; `remove` takes one away."""

    wall: Id | UnsetType = UNSET
    scene: Id | UnsetType = UNSET
    points: Annotated[tuple[At, ...], Meta(min_length=2, max_length=500)] | UnsetType = UNSET
    remove: bool = False


class SetDoor(CommandBase, frozen=True, tag="door.set"):
    """Without `door` a new one; `remove` takes one away."""

    door: Id | UnsetType = UNSET
    scene: Id | UnsetType = UNSET
    points: tuple[At, At] | UnsetType = UNSET
    state: Literal["closed", "open"] | UnsetType = UNSET
    remove: bool = False


class SetLight(CommandBase, frozen=True, tag="light.set"):
    """Without `light` a new one; `remove` takes one away."""

    light: Id | UnsetType = UNSET
    scene: Id | UnsetType = UNSET
    x: Coordinate | UnsetType = UNSET
    y: Coordinate | UnsetType = UNSET
    range: Annotated[float, Meta(ge=0, le=1_000)] | UnsetType = UNSET
    color: Colour | UnsetType = UNSET
    intensity: Annotated[float, Meta(ge=0, le=100)] | UnsetType = UNSET
    remove: bool = False


class Say(CommandBase, frozen=True, tag="chat.say"):
    """With `to` a whisper: nobody but the sender and those named ever receives it."""

    text: Annotated[str, Meta(min_length=1, max_length=4_000, pattern=PROSE)]
    to: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=50)] | UnsetType = UNSET


class RollDice(CommandBase, frozen=True, tag="dice.roll"):
    expression: Annotated[str, Meta(min_length=1)]
    visibility: Literal["public", "gm", "self"] = "public"
    label: Annotated[str, Meta(max_length=80, pattern=PRINTABLE)] | UnsetType = UNSET


class TurnRow(Struct, frozen=True):
    """A row as it is asked for: `token` binds it to a piece."""

    name: Name
    value: Annotated[float, Meta(ge=-1_000_000, le=1_000_000)]
    token: Id | None = None


class SetTurn(CommandBase, frozen=True, tag="turn.set"):
    """Replace the turn order; no entries end it.

    It begins at the top of round 1, unless `round` and `current` (an index into `entries` as given) say where it stands.
    """

    entries: Annotated[tuple[TurnRow, ...], Meta(max_length=500)]
    round: Annotated[int, Meta(ge=1, le=100_000)] = 1
    current: Annotated[int, Meta(ge=0, lt=500)] | UnsetType = UNSET


class NextTurn(CommandBase, frozen=True, tag="turn.next"):
    pass


class PreviousTurn(CommandBase, frozen=True, tag="turn.previous"):
    pass


class EndTurn(CommandBase, frozen=True, tag="turn.end"):
    """The owner of the piece whose turn it is passes it on."""


class AddDrawing(CommandBase, frozen=True, tag="draw.add"):
    shape: dict[str, Any]
    style: dict[str, Any] = {}
    scene: Id | UnsetType = UNSET


class RemoveDrawing(CommandBase, frozen=True, tag="draw.remove"):
    drawing: Id


class ChangeRole(CommandBase, frozen=True, tag="member.role"):
    user: Id
    role: Role


class KickMember(CommandBase, frozen=True, tag="member.kick"):
    user: Id


class BanMember(CommandBase, frozen=True, tag="member.ban"):
    user: Id


class MuteMember(CommandBase, frozen=True, tag="member.mute"):
    user: Id
    muted: bool


class SettingsChange(Struct, frozen=True):
    """Only what is named changes."""

    gm_sees_all: bool | UnsetType = UNSET
    players_add_tokens: bool | UnsetType = UNSET


class UpdateRoom(CommandBase, frozen=True, tag="room.update"):
    name: Name | UnsetType = UNSET
    visibility: Visibility | UnsetType = UNSET
    tags: Annotated[tuple[Tag, ...], Meta(max_length=20)] | UnsetType = UNSET
    settings: SettingsChange | UnsetType = UNSET


class Undo(CommandBase, frozen=True, tag="undo"):
    pass


class Redo(CommandBase, frozen=True, tag="redo"):
    pass


Command = (
    CreateScene
    | UpdateScene
    | ActivateScene
    | RemoveScene
    | PlaceMembers
    | AddToken
    | MoveToken
    | UpdateToken
    | RemoveToken
    | SetWall
    | SetDoor
    | SetLight
    | Say
    | RollDice
    | SetTurn
    | NextTurn
    | PreviousTurn
    | EndTurn
    | AddDrawing
    | RemoveDrawing
    | ChangeRole
    | KickMember
    | BanMember
    | MuteMember
    | UpdateRoom
    | Undo
    | Redo
)


class OpenRoom(CommandBase, frozen=True, tag="room.open"):
    """The first command of every room: its creator becomes the GM of one active square scene of 30 by 20 cells, or of all
    that a layout has."""

    name: Name
    visibility: Visibility
    member_name: Name
    layout: Layout | None = None


class JoinRoom(CommandBase, frozen=True, tag="member.join"):
    """The caller takes a seat; whoever has a lower role keeps nothing of it. A banned user is refused."""

    name: Name
    role: Role


class LeaveRoom(CommandBase, frozen=True, tag="member.leave"):
    pass


class RenameMember(CommandBase, frozen=True, tag="member.rename"):
    name: Name


class ImportedWall(Struct, frozen=True):
    points: tuple[At, ...]


class ImportedDoor(Struct, frozen=True):
    points: tuple[At, At]
    state: Literal["closed", "open"]


class ImportedLight(Struct, frozen=True):
    x: Coordinate
    y: Coordinate
    range: Annotated[float, Meta(ge=0, le=1_000)]
    color: Colour
    intensity: Annotated[float, Meta(ge=0, le=100)]


class ImportScene(CommandBase, frozen=True, tag="scene.import"):
    """A whole scene from a file, in one command: it appears with all its walls, doors and lights, or not at all."""

    name: Name
    width: Extent
    height: Extent
    grid: Grid
    background: Id | None
    walls: tuple[ImportedWall, ...] = ()
    doors: tuple[ImportedDoor, ...] = ()
    lights: tuple[ImportedLight, ...] = ()


HouseCommand = OpenRoom | JoinRoom | LeaveRoom | RenameMember | ImportScene
"""Commands that only the server itself gives, on behalf of a user whose right to it was checked at the edge."""
