"""Game systems and room templates over REST: made, revised, listed and read."""

import asyncio
from typing import Annotated, Any, Final

import msgspec
from litestar import get, post
from litestar.params import FromPath
from msgspec import UNSET, Meta, Raw, Struct, UnsetType, structs

from tableforge.api.auth import signed_in
from tableforge.api.body import decoded, queried
from tableforge.api.caller import Caller
from tableforge.api.documents import ROOM, documented
from tableforge.api.house import house_of
from tableforge.api.orders import moment
from tableforge.domain.commands import PRINTABLE, Id, Name, Tag
from tableforge.domain.state import Layout, Visibility
from tableforge.errors import Conflict, Forbidden, TooMany
from tableforge.library.systems import (
    VERSIONS_MAX,
    Attributes,
    Decks,
    Design,
    DesignPage,
    GameSystem,
    Kind,
    Label,
    Macros,
    Sheets,
    checked,
    folded,
)
from tableforge.protocol import codec

Tags = Annotated[tuple[Tag, ...], Meta(max_length=20)]


class DesignQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which to list: a part of the name, a tag."""

    q: Annotated[str, Meta(max_length=80, pattern=PRINTABLE)] = ""
    tag: Annotated[str, Meta(max_length=40, pattern=PRINTABLE)] = ""
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    cursor: Annotated[str, Meta(max_length=64)] = ""


class VersionQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which version; the newest unless said."""

    version: Annotated[int, Meta(ge=1, le=VERSIONS_MAX)] | None = None


class NoQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Nothing is asked for by the query of what is sent."""


class NewSystem(GameSystem, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A game system to keep: the first version of one."""

    name: Name
    tags: Tags = ()
    visibility: Visibility = "private"


class ChangedLabel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a further version is to be found by; what is left out stays as in the newest one."""

    name: Name | UnsetType = UNSET
    tags: Tags | UnsetType = UNSET
    visibility: Visibility | UnsetType = UNSET


class ChangedSystem(ChangedLabel, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A further version of a game system; what is left out stays as in the newest one."""

    attributes: Attributes | UnsetType = UNSET
    macros: Macros | UnsetType = UNSET
    decks: Decks | UnsetType = UNSET
    sheets: Sheets | UnsetType = UNSET
    extra: dict[str, Any] | UnsetType = UNSET


class NewTemplate(Struct, frozen=True, forbid_unknown_fields=True):
    """A template to make of the room as it is now: the first version of one."""

    room: Id
    name: Name
    tags: Tags = ()
    visibility: Visibility = "private"


class ChangedTemplate(ChangedLabel, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A further version of a template, of the room as it is now; what is left out stays as in the newest one."""

    room: Id


class DesignLine(Struct, frozen=True):
    """A system or a template in a list; `mine` is whether the caller may make further versions, `updated` when the newest
    one was made."""

    id: str
    name: str
    visibility: Visibility
    tags: tuple[str, ...]
    version: int
    mine: bool
    created: str
    updated: str


class SystemPage(Struct, frozen=True):
    """Game systems, the caller's own and then public ones; `next` is the cursor of the following page."""

    systems: list[DesignLine]
    next: str | None


class TemplatePage(Struct, frozen=True):
    """Templates, the caller's own and then public ones; `next` is the cursor of the following page."""

    templates: list[DesignLine]
    next: str | None


class Seen(Struct, frozen=True, kw_only=True):
    """One version of a design: `name`, `tags` and `updated` are that version's own, `visibility` and `created` the design's.
    `newest` is how many versions there are."""

    id: str
    name: str
    visibility: Visibility
    tags: tuple[str, ...]
    version: int
    newest: int
    mine: bool
    created: str
    updated: str


class SeenSystem(Seen, frozen=True, kw_only=True):
    """One version of a game system."""

    attributes: Attributes
    macros: Macros
    decks: Decks
    sheets: Sheets
    extra: dict[str, Any]


class SeenTemplate(Seen, frozen=True, kw_only=True):
    """One version of a template, and what it sets up."""

    layout: Annotated[Raw, Meta(extra_json_schema={"type": "object"})]


def label_of(wanted: NewSystem | NewTemplate) -> Label:
    """What it is to be found by."""
    return Label(name=wanted.name, visibility=wanted.visibility, tags=folded(wanted.tags))


def changed_label(wanted: ChangedLabel, present: Design) -> Label:
    """What the version after this one is to be found by."""
    return Label(
        name=present.name if wanted.name is UNSET else wanted.name,
        visibility=present.visibility if wanted.visibility is UNSET else wanted.visibility,
        tags=present.tags if wanted.tags is UNSET else folded(wanted.tags),
    )


def changed_system(wanted: ChangedSystem, before: bytes) -> bytes:
    """The document of the version after this one, checked."""
    present = system_of(before)
    parts = {field: getattr(wanted, field) for field in GameSystem.__struct_fields__}
    given = {field: part for field, part in parts.items() if part is not UNSET}
    return codec.encode(checked(structs.replace(present, **given)))


def line_of(design: Design, user: str) -> DesignLine:
    """A design as a list shows it to this user."""
    return DesignLine(
        design.id,
        design.name,
        design.visibility,
        design.tags,
        design.version,
        design.owner == user,
        moment(design.created_ms / 1000),
        moment(design.updated_ms / 1000),
    )


def seen_system(design: Design, newest: int, user: str, document: bytes) -> SeenSystem:
    """A system, as it was with one version, as this user sees it."""
    line = structs.asdict(line_of(design, user))
    return SeenSystem(newest=newest, **line, **structs.asdict(system_of(document)))


def system_of(document: bytes) -> GameSystem:
    """The document of a system, read."""
    return msgspec.json.decode(document, type=GameSystem)


def seen_template(design: Design, newest: int, user: str, layout: bytes) -> SeenTemplate:
    """A template, as it was with one version, as this user sees it."""
    line = structs.asdict(line_of(design, user))
    return SeenTemplate(newest=newest, **line, layout=Raw(layout))


async def listed(request: Caller, kind: Kind) -> tuple[list[DesignLine], str | None]:
    """A page of what the caller may see."""
    session = await signed_in(request)
    query = queried(request, DesignQuery)
    found: DesignPage = await house_of(request).designs.listed(
        kind,
        session.user_id,
        text=query.q,
        tag=query.tag,
        limit=query.limit,
        cursor=query.cursor,
    )
    return [line_of(design, session.user_id) for design in found.designs], found.next


async def document_of(request: Caller, kind: Kind, key: str) -> tuple[Design, int, str, bytes]:
    """A design as it was with the version that was asked for, its newest version, who asks, and that version's document."""
    session = await signed_in(request)
    query = queried(request, VersionQuery)
    designs = house_of(request).designs
    design = await designs.find(kind, key, session.user_id)
    version = await designs.seen(design, query.version or design.version, session.user_id)
    then = structs.replace(
        design,
        name=version.name,
        tags=version.tags,
        version=version.version,
        updated_ms=version.created_ms,
    )
    return then, design.version, session.user_id, version.data


def system_in(wanted: NewSystem) -> bytes:
    """The document alone, checked."""
    return codec.encode(
        checked(
            GameSystem(wanted.attributes, wanted.macros, wanted.decks, wanted.sheets, wanted.extra)
        )
    )


@get("/api/systems", opt=documented(query=DesignQuery, gives={200: SystemPage}, tag="system"))
async def list_systems(request: Caller) -> SystemPage:
    """List game systems: the caller's own, then those of others that are public."""
    return SystemPage(*await listed(request, "system"))


@post(
    "/api/systems",
    opt=documented(takes=NewSystem, gives={201: SeenSystem}, refuses=(TooMany,), tag="system"),
)
async def create_system(request: Caller) -> SeenSystem:
    """Keep a game system: attributes, dice macros, decks and sheets."""
    session = await signed_in(request)
    house_of(request).doorkeeper.admit_design(session.user_id)
    wanted = await decoded(request, NewSystem)
    queried(request, NoQuery)
    document = await asyncio.to_thread(system_in, wanted)
    design = await house_of(request).designs.add(
        "system", session.user_id, label_of(wanted), document
    )
    return seen_system(design, design.version, session.user_id, document)


@get(
    "/api/systems/{system:str}",
    opt=documented(query=VersionQuery, gives={200: SeenSystem}, refuses=ROOM, tag="system"),
)
async def get_system(request: Caller, system: FromPath[str]) -> SeenSystem:
    """Read a game system, its newest version or another one."""
    return seen_system(*await document_of(request, "system", system))


@post(
    "/api/systems/{system:str}",
    opt=documented(
        takes=ChangedSystem,
        gives={201: SeenSystem},
        refuses=(*ROOM, Conflict, TooMany),
        tag="system",
    ),
)
async def revise_system(request: Caller, system: FromPath[str]) -> SeenSystem:
    """Make a further version of one's own game system; those before stay.

    What is left out stays as in the newest one; what equals that makes none.
    """
    session = await signed_in(request)
    house_of(request).doorkeeper.admit_design(session.user_id)
    wanted = await decoded(request, ChangedSystem)
    queried(request, NoQuery)
    designs = house_of(request).designs

    async def revised(present: Design) -> tuple[Label, bytes]:
        before = (await designs.version(present, present.version)).data
        changed = await asyncio.to_thread(changed_system, wanted, before)
        return changed_label(wanted, present), changed

    design, document = await designs.revise("system", system, session.user_id, revised)
    return seen_system(design, design.version, session.user_id, document)


@get("/api/templates", opt=documented(query=DesignQuery, gives={200: TemplatePage}, tag="system"))
async def list_templates(request: Caller) -> TemplatePage:
    """List room templates: the caller's own, then those of others that are public."""
    return TemplatePage(*await listed(request, "template"))


@post(
    "/api/templates",
    opt=documented(
        takes=NewTemplate,
        gives={201: SeenTemplate},
        refuses=(*ROOM, Forbidden, TooMany),
        tag="system",
    ),
)
async def create_template(request: Caller) -> SeenTemplate:
    """Make a template of a room, for its GMs: the scenes with everything on them, and the settings.

    Nobody's seat, words, rolls or ownership goes into it, and of the pictures only those that the caller uploaded. They go by
    reference: whoever makes a room of a public template sees them there.
    """
    house = house_of(request)
    session = await signed_in(request)
    house_of(request).doorkeeper.admit_design(session.user_id)
    wanted = await decoded(request, NewTemplate)
    queried(request, NoQuery)
    layout: Layout = await house.rooms.layout(wanted.room, session.user_id)
    document = codec.encode(layout)
    design = await house.designs.add("template", session.user_id, label_of(wanted), document)
    return seen_template(design, design.version, session.user_id, document)


@get(
    "/api/templates/{template:str}",
    opt=documented(query=VersionQuery, gives={200: SeenTemplate}, refuses=ROOM, tag="system"),
)
async def get_template(request: Caller, template: FromPath[str]) -> SeenTemplate:
    """Read a template, its newest version or another one."""
    return seen_template(*await document_of(request, "template", template))


@post(
    "/api/templates/{template:str}",
    opt=documented(
        takes=ChangedTemplate,
        gives={201: SeenTemplate},
        refuses=(*ROOM, Forbidden, Conflict, TooMany),
        tag="system",
    ),
)
async def revise_template(request: Caller, template: FromPath[str]) -> SeenTemplate:
    """Make a further version of one's own template of a room as it is now; those before stay.

    What is left out stays as in the newest one; what equals that makes none.
    """
    house = house_of(request)
    session = await signed_in(request)
    house_of(request).doorkeeper.admit_design(session.user_id)
    wanted = await decoded(request, ChangedTemplate)
    queried(request, NoQuery)
    layout = codec.encode(await house.rooms.layout(wanted.room, session.user_id))

    async def revised(present: Design) -> tuple[Label, bytes]:
        return changed_label(wanted, present), layout

    design, document = await house.designs.revise("template", template, session.user_id, revised)
    return seen_template(design, design.version, session.user_id, document)


ROUTES: Final[list[Any]] = [
    list_systems,
    create_system,
    get_system,
    revise_system,
    list_templates,
    create_template,
    get_template,
    revise_template,
]
