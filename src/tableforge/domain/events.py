"""What happened at the table: one struct an event, its JSON being both the log's row and the publication's data.

Events carry results, not intents: whoever applies one only assigns, adds and removes. `by` is the user, `at` the time,
`id` the command; inside `undone` and `redone` they are left out.
"""

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from tableforge.domain.commands import Move
from tableforge.domain.dice import Die
from tableforge.domain.state import (
    Door,
    Drawing,
    Grid,
    Layer,
    Light,
    Placement,
    Role,
    Scene,
    Settings,
    Token,
    Turn,
    Visibility,
    Wall,
)


class Shown(Struct, frozen=True, omit_defaults=True):
    """Whole objects that a member may see from this event on; a client puts them in before it applies the event."""

    scenes: tuple["SeenScene", ...] = ()
    tokens: tuple[Token, ...] = ()
    walls: tuple[Wall, ...] = ()
    doors: tuple[Door, ...] = ()
    lights: tuple[Light, ...] = ()
    drawings: tuple[Drawing, ...] = ()
    placed: tuple[Placement, ...] = ()
    turn: Turn | None | UnsetType = UNSET


class Gone(Struct, frozen=True, omit_defaults=True):
    """Ids that a member may no longer see; a client takes them away first of all."""

    scenes: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()
    walls: tuple[str, ...] = ()
    doors: tuple[str, ...] = ()
    lights: tuple[str, ...] = ()
    drawings: tuple[str, ...] = ()
    placed: tuple[str, ...] = ()


class SeenScene(Struct, frozen=True):
    """A scene as members see it. For a GM `active` marks the active one; everybody else sees one scene, theirs, as active."""

    id: str
    name: str
    width: float
    height: float
    grid: Grid
    background: str | None
    active: bool


class EventBase(Struct, frozen=True, omit_defaults=True, tag_field="type"):
    """`shown` and `gone` are only ever set on a member's copy, never on the stored event."""

    by: str = ""
    at: str = ""
    id: str = ""
    shown: Shown | UnsetType = UNSET
    gone: Gone | UnsetType = UNSET


class Hidden(Struct, frozen=True, tag_field="type", tag="hidden"):
    """All that is told of an event of which a member may see nothing."""


class RoomCreated(EventBase, frozen=True, kw_only=True, tag="room.created"):
    room: str
    name: str
    visibility: Visibility
    member_name: str
    scene: Scene


class RoomChanged(EventBase, frozen=True, kw_only=True, tag="room.changed"):
    name: str | UnsetType = UNSET
    visibility: Visibility | UnsetType = UNSET
    tags: tuple[str, ...] | UnsetType = UNSET
    settings: Settings | UnsetType = UNSET


class MemberJoined(EventBase, frozen=True, kw_only=True, tag="member.joined"):
    user: str
    name: str
    role: Role


class MemberChanged(EventBase, frozen=True, kw_only=True, tag="member.changed"):
    user: str
    name: str | UnsetType = UNSET
    role: Role | UnsetType = UNSET
    muted: bool | UnsetType = UNSET


class MemberRemoved(EventBase, frozen=True, kw_only=True, tag="member.removed"):
    user: str
    because: Literal["left", "kicked", "banned"]


class SceneCreated(EventBase, frozen=True, kw_only=True, tag="scene.created"):
    """A scene, with everything that came with it from a file or from an undo."""

    scene: Scene
    tokens: tuple[Token, ...] = ()
    walls: tuple[Wall, ...] = ()
    doors: tuple[Door, ...] = ()
    lights: tuple[Light, ...] = ()
    drawings: tuple[Drawing, ...] = ()


class SceneUpdated(EventBase, frozen=True, kw_only=True, tag="scene.updated"):
    scene: str
    name: str | UnsetType = UNSET
    width: float | UnsetType = UNSET
    height: float | UnsetType = UNSET
    grid: Grid | UnsetType = UNSET
    background: str | None | UnsetType = UNSET


class SceneActivated(EventBase, frozen=True, kw_only=True, tag="scene.activated"):
    scene: str


class SceneRemoved(EventBase, frozen=True, kw_only=True, tag="scene.removed"):
    """With the scene go its tokens, walls, doors, lights, drawings and the members' places in it."""

    scene: str


class MembersPlaced(EventBase, frozen=True, kw_only=True, tag="scene.placed"):
    """Members now see this scene, or follow the active one (None). To others than a GM only their own placing is told."""

    scene: str | None
    members: tuple[str, ...]


class TokenAdded(EventBase, frozen=True, kw_only=True, tag="token.added"):
    token: Token


class TokenMoved(EventBase, frozen=True, kw_only=True, tag="token.moved"):
    """Mirrors the command: one piece by `token`, `x`, `y`, or several by `moves`."""

    token: str | UnsetType = UNSET
    x: float | UnsetType = UNSET
    y: float | UnsetType = UNSET
    rotation: float | UnsetType = UNSET
    moves: tuple[Move, ...] | UnsetType = UNSET


class TokenUpdated(EventBase, frozen=True, kw_only=True, tag="token.updated"):
    token: str
    name: str | UnsetType = UNSET
    x: float | UnsetType = UNSET
    y: float | UnsetType = UNSET
    width: float | UnsetType = UNSET
    height: float | UnsetType = UNSET
    rotation: float | UnsetType = UNSET
    layer: Layer | UnsetType = UNSET
    image: str | None | UnsetType = UNSET
    owner: str | None | UnsetType = UNSET
    hidden: bool | UnsetType = UNSET
    locked: bool | UnsetType = UNSET


class TokenRemoved(EventBase, frozen=True, kw_only=True, tag="token.removed"):
    token: str


class WallsChanged(EventBase, frozen=True, kw_only=True, tag="wall.changed"):
    walls: tuple[Wall, ...] = ()
    removed: tuple[str, ...] = ()


class DoorsChanged(EventBase, frozen=True, kw_only=True, tag="door.changed"):
    doors: tuple[Door, ...] = ()
    removed: tuple[str, ...] = ()


class LightsChanged(EventBase, frozen=True, kw_only=True, tag="light.changed"):
    lights: tuple[Light, ...] = ()
    removed: tuple[str, ...] = ()


class Said(EventBase, frozen=True, kw_only=True, tag="chat.said"):
    text: str
    to: tuple[str, ...] | UnsetType = UNSET


class Rolled(EventBase, frozen=True, kw_only=True, tag="dice.rolled"):
    """Those who may not see a roll get it without expression, total, dice and label."""

    visibility: Literal["public", "gm", "self"]
    expression: str | UnsetType = UNSET
    total: int | float | UnsetType = UNSET
    dice: tuple[Die, ...] | UnsetType = UNSET
    label: str | UnsetType = UNSET


class TurnChanged(EventBase, frozen=True, kw_only=True, tag="turn.changed"):
    turn: Turn | None


class DrawingAdded(EventBase, frozen=True, kw_only=True, tag="draw.added"):
    drawing: Drawing


class DrawingRemoved(EventBase, frozen=True, kw_only=True, tag="draw.removed"):
    drawing: str


class Undone(EventBase, frozen=True, kw_only=True, tag="undone"):
    """`of` is the command that was taken back, `events` what that means for the table."""

    of: str
    events: tuple["Event", ...]


class Redone(EventBase, frozen=True, kw_only=True, tag="redone"):
    """`of` is the command that was done again, `events` what that means for the table."""

    of: str
    events: tuple["Event", ...]


Event = (
    RoomCreated
    | RoomChanged
    | MemberJoined
    | MemberChanged
    | MemberRemoved
    | SceneCreated
    | SceneUpdated
    | SceneActivated
    | SceneRemoved
    | MembersPlaced
    | TokenAdded
    | TokenMoved
    | TokenUpdated
    | TokenRemoved
    | WallsChanged
    | DoorsChanged
    | LightsChanged
    | Said
    | Rolled
    | TurnChanged
    | DrawingAdded
    | DrawingRemoved
    | Undone
    | Redone
)
"""What the log stores. `Hidden` is not among them: it is only ever told."""

Seen = Event | Hidden
"""What one member is told of an event."""

Result = dict[str, Any]
"""What a reply carries beside the offset: made from the events, so that a repeated command gets the same one."""
