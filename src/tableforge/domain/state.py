"""The table as plain frozen data: what a room is at one offset of its log.

Everything here is immutable. `evolve` makes a new `Room` by copying the one dict that changes, so that the room before
and the room after an event can be held side by side: redaction, undo and the fold that runs ahead of the disk need both.

Lengths are cells of the scene's grid, rotations degrees clockwise, times RFC 3339 in UTC.
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from tableforge.domain.dice import Die

Role = Literal["gm", "player", "spectator"]
Visibility = Literal["private", "public"]
Layer = Literal["map", "object", "gm"]
GridType = Literal["square", "hex_row", "hex_column", "none"]

CHAT_SHOWN = 100
"""How many chat entries a snapshot shows: the newest that its reader may see."""


class Point(Struct, frozen=True):
    """A place on a scene, in cells."""

    x: float
    y: float


class Settings(Struct, frozen=True):
    """What the GM chose for the whole table."""

    gm_sees_all: bool = False
    players_add_tokens: bool = True


class Member(Struct, frozen=True):
    """Somebody who belongs to the table, online or not.

    `since` is the offset at which the present role was given: nothing older is recovered under it.
    """

    id: str
    name: str
    role: Role
    since: int
    muted: bool = False


class Grid(Struct, frozen=True):
    """`size` is how many pixels of the background image one cell covers."""

    type: GridType = "square"
    size: Annotated[float, Meta(gt=0, le=10_000)] = 70.0


class Scene(Struct, frozen=True):
    """One board: `width` by `height` cells; `background` is an asset id."""

    id: str
    name: str
    width: float
    height: float
    grid: Grid
    background: str | None = None


class Token(Struct, frozen=True):
    """A piece; `x`, `y` is its top left corner; `image` an asset id; `owner` a user id."""

    id: str
    scene: str
    name: str
    x: float
    y: float
    width: float
    height: float
    rotation: float
    layer: Layer
    image: str | None
    owner: str | None
    hidden: bool
    locked: bool


class Wall(Struct, frozen=True):
    """A polyline that blocks sight."""

    id: str
    scene: str
    points: tuple[Point, ...]


class Door(Struct, frozen=True):
    """A segment that blocks sight while closed."""

    id: str
    scene: str
    points: tuple[Point, Point]
    state: Literal["closed", "open"] = "closed"


class Light(Struct, frozen=True):
    """`range` in cells, `color` as #rrggbb, `intensity` from 0 up, 1 = normal."""

    id: str
    scene: str
    x: float
    y: float
    range: float
    color: str
    intensity: float


class Placement(Struct, frozen=True):
    """A member (`id`) whom the GM put into a scene of their own."""

    id: str
    scene: str


class Drawing(Struct, frozen=True):
    """An annotation or a measuring template; `shape` and `style` are bounded JSON objects that clients agree on."""

    id: str
    scene: str
    owner: str
    shape: dict[str, Any]
    style: dict[str, Any]


class TurnEntry(Struct, frozen=True):
    """One row of the turn order; `token` binds it to a piece, and is hidden with it.

    When the piece is taken away its row stays, for the GM's eyes only and passed over, until the piece is brought back.
    """

    name: str
    value: float
    token: str | None = None


class Turn(Struct, frozen=True):
    """The turn order, highest value first; `current` is an index into `entries`.

    For somebody who may not see the entry whose turn it is, `current` is None.
    """

    active: bool
    round: int
    current: int | None
    entries: tuple[TurnEntry, ...]


class SaidLine(Struct, frozen=True, omit_defaults=True, tag_field="type", tag="chat.said"):
    """A chat line in the snapshot: the fields of its publication, and its offset."""

    offset: int
    by: str
    at: str
    id: str
    text: str
    to: tuple[str, ...] | UnsetType = UNSET


class RolledLine(Struct, frozen=True, omit_defaults=True, tag_field="type", tag="dice.rolled"):
    """A roll in the snapshot: the fields of its publication as its reader got it, and its offset."""

    offset: int
    by: str
    at: str
    id: str
    visibility: Literal["public", "gm", "self"]
    expression: str | UnsetType = UNSET
    total: int | float | UnsetType = UNSET
    dice: tuple[Die, ...] | UnsetType = UNSET
    label: str | UnsetType = UNSET


ChatLine = SaidLine | RolledLine

Pose = tuple[float, float, float]
"""How a piece stands: x, y, rotation."""


class ChangeBase(Struct, frozen=True, tag_field="kind"):
    """One thing that an undoable command touched: its value before and after, None where it was not there."""


class SceneChange(ChangeBase, frozen=True, tag="scene"):
    key: str
    before: Scene | None
    after: Scene | None


class ActiveChange(ChangeBase, frozen=True, tag="active"):
    before: str
    after: str


class PlaceChange(ChangeBase, frozen=True, tag="placed"):
    """`key` is the member; None is following the active scene."""

    key: str
    before: str | None
    after: str | None


class PoseChange(ChangeBase, frozen=True, tag="pose"):
    """What a move touched: by far the most frequent change, so it is kept small."""

    key: str
    before: Pose
    after: Pose


class TokenChange(ChangeBase, frozen=True, tag="token"):
    key: str
    before: Token | None
    after: Token | None


class WallChange(ChangeBase, frozen=True, tag="wall"):
    key: str
    before: Wall | None
    after: Wall | None


class DoorChange(ChangeBase, frozen=True, tag="door"):
    key: str
    before: Door | None
    after: Door | None


class LightChange(ChangeBase, frozen=True, tag="light"):
    key: str
    before: Light | None
    after: Light | None


class DrawingChange(ChangeBase, frozen=True, tag="drawing"):
    key: str
    before: Drawing | None
    after: Drawing | None


class TurnChange(ChangeBase, frozen=True, tag="turn"):
    before: Turn | None
    after: Turn | None


Change = (
    SceneChange
    | ActiveChange
    | PlaceChange
    | PoseChange
    | TokenChange
    | WallChange
    | DoorChange
    | LightChange
    | DrawingChange
    | TurnChange
)


class Deed(Struct, frozen=True):
    """A command that may be taken back: the command's id and what it touched."""

    of: str
    changes: tuple[Change, ...]


class Deeds(Struct, frozen=True):
    """What one member may still undo and redo, oldest first."""

    done: tuple[Deed, ...] = ()
    undone: tuple[Deed, ...] = ()


class Room(Struct, frozen=True):
    """A table at offset `version` of its log. Dicts keep the order in which things were added."""

    id: str
    version: int = 0
    name: str = ""
    visibility: Visibility = "private"
    tags: tuple[str, ...] = ()
    settings: Settings = Settings()
    members: dict[str, Member] = field(default_factory=dict)
    banned: tuple[str, ...] = ()
    scenes: dict[str, Scene] = field(default_factory=dict)
    active: str = ""
    placed: dict[str, str] = field(default_factory=dict)
    """Members whom the GM put into a scene of their own: user id to scene id. All others follow the active scene."""
    tokens: dict[str, Token] = field(default_factory=dict)
    walls: dict[str, Wall] = field(default_factory=dict)
    doors: dict[str, Door] = field(default_factory=dict)
    lights: dict[str, Light] = field(default_factory=dict)
    drawings: dict[str, Drawing] = field(default_factory=dict)
    turn: Turn | None = None
    chat: dict[str, tuple[ChatLine, ...]] = field(default_factory=dict)
    """What was told: under "" to everybody (hidden rolls masked), under a member's id to them beyond that (whispers,
    hidden rolls in the clear). Each is bounded by `CHAT_SHOWN`, so that nobody pushes out what another may see."""
    deeds: dict[str, Deeds] = field(default_factory=dict)


class Layout(Struct, frozen=True, kw_only=True):
    """What of a table can be set up again elsewhere: the boards with everything on them, and the settings.

    Not who sat there, what was said, rolled or undone, and whose a piece was: a layout knows nobody. Its ids mean something
    within it only; `active` is one of its scenes.
    """

    settings: Settings
    active: str
    scenes: tuple[Scene, ...]
    tokens: tuple[Token, ...]
    walls: tuple[Wall, ...]
    doors: tuple[Door, ...]
    lights: tuple[Light, ...]
    drawings: tuple[Drawing, ...]


class Given(Struct, frozen=True):
    """What a decision may know of the world: who asks, when (RFC 3339), and 16 bytes of fresh randomness."""

    by: str
    at: str
    seed: bytes = b""
