"""Game systems and room templates over REST: made, revised, listed and read."""

from typing import Annotated, Any, Final

import msgspec
from litestar import get, post
from litestar.params import FromPath
from msgspec import Meta, Raw, Struct

from tableforge.api.auth import signed_in
from tableforge.api.body import decoded, queried
from tableforge.api.caller import Caller
from tableforge.api.documents import ROOM, documented
from tableforge.api.house import house_of
from tableforge.domain.commands import PRINTABLE, Id, Name, Tag
from tableforge.domain.state import Layout, Visibility
from tableforge.errors import Conflict, Forbidden
from tableforge.library.systems import (
    VERSIONS_MAX,
    Design,
    DesignPage,
    GameSystem,
    Kind,
    Label,
    checked,
    folded,
)
from tableforge.protocol import codec

Tags = Annotated[tuple[Tag, ...], Meta(max_length=20)]


class DesignQuery(Struct, frozen=True):
    """Which to list: a part of the name, a tag."""

    q: Annotated[str, Meta(max_length=80, pattern=PRINTABLE)] = ""
    tag: Annotated[str, Meta(max_length=40, pattern=PRINTABLE)] = ""
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    cursor: Annotated[str, Meta(max_length=64)] = ""


class VersionQuery(Struct, frozen=True):
    """Which version; the newest unless said."""

    version: Annotated[int, Meta(ge=1, le=VERSIONS_MAX)] | None = None


class NewSystem(GameSystem, frozen=True, kw_only=True, omit_defaults=True):
    """A game system to keep: the first version of one, or a further one."""

    name: Name
    tags: Tags = ()
    visibility: Visibility = "private"


class NewTemplate(Struct, frozen=True):
    """A template to make of the room as it is now: the first version of one, or a further one."""

    room: Id
    name: Name
    tags: Tags = ()
    visibility: Visibility = "private"


class DesignLine(Struct, frozen=True):
    """A system or a template in a list; `mine` is whether the caller may make further versions. Times in milliseconds since
    1970."""

    id: str
    name: str
    visibility: Visibility
    tags: tuple[str, ...]
    version: int
    mine: bool
    created_ms: int
    updated_ms: int


class SystemPage(Struct, frozen=True):
    """Game systems, the caller's own and then public ones; `next` is the cursor of the following page."""

    systems: list[DesignLine]
    next: str | None


class TemplatePage(Struct, frozen=True):
    """Templates, the caller's own and then public ones; `next` is the cursor of the following page."""

    templates: list[DesignLine]
    next: str | None


class SeenSystem(GameSystem, frozen=True, kw_only=True, omit_defaults=False):
    """A game system with the document of one version; name, tags and visibility are the newest's."""

    id: str
    name: str
    visibility: Visibility
    tags: tuple[str, ...]
    version: int
    newest: int
    mine: bool


class SeenTemplate(Struct, frozen=True, kw_only=True):
    """A template with what one version sets up; name, tags and visibility are the newest's."""

    id: str
    name: str
    visibility: Visibility
    tags: tuple[str, ...]
    version: int
    newest: int
    mine: bool
    layout: Annotated[Raw, Meta(extra_json_schema={"type": "object"})]


def label_of(wanted: NewSystem | NewTemplate) -> Label:
    """What it is to be found by."""
    return Label(name=wanted.name, visibility=wanted.visibility, tags=folded(wanted.tags))


def line_of(design: Design, user: str) -> DesignLine:
    """A design as a list shows it to this user."""
    return DesignLine(
        design.id,
        design.name,
        design.visibility,
        design.tags,
        design.version,
        design.owner == user,
        design.created_ms,
        design.updated_ms,
    )


def seen_system(design: Design, user: str, version: int, system: GameSystem) -> SeenSystem:
    """A system as this user sees it."""
    return SeenSystem(
        id=design.id,
        name=design.name,
        visibility=design.visibility,
        tags=design.tags,
        version=version,
        newest=design.version,
        mine=design.owner == user,
        attributes=system.attributes,
        macros=system.macros,
        decks=system.decks,
        sheets=system.sheets,
        extra=system.extra,
    )


def seen_template(design: Design, user: str, version: int, layout: bytes) -> SeenTemplate:
    """A template as this user sees it."""
    return SeenTemplate(
        id=design.id,
        name=design.name,
        visibility=design.visibility,
        tags=design.tags,
        version=version,
        newest=design.version,
        mine=design.owner == user,
        layout=Raw(layout),
    )


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


async def document_of(request: Caller, kind: Kind, key: str) -> tuple[Design, str, int, bytes]:
    """A design with the document of the version that was asked for, and who asks."""
    session = await signed_in(request)
    query = queried(request, VersionQuery)
    designs = house_of(request).designs
    design = await designs.find(kind, key, session.user_id)
    version = query.version or design.version
    return design, session.user_id, version, await designs.document(design, version)


def system_in(wanted: NewSystem) -> GameSystem:
    """The document alone, checked."""
    return checked(
        GameSystem(wanted.attributes, wanted.macros, wanted.decks, wanted.sheets, wanted.extra)
    )


@get("/api/systems", opt=documented(query=DesignQuery, gives={200: SystemPage}, tag="system"))
async def list_systems(request: Caller) -> SystemPage:
    """List game systems: the caller's own, then those of others that are public."""
    return SystemPage(*await listed(request, "system"))


@post("/api/systems", opt=documented(takes=NewSystem, gives={201: SeenSystem}, tag="system"))
async def create_system(request: Caller) -> SeenSystem:
    """Keep a game system: attributes, dice macros, decks and sheets."""
    session = await signed_in(request)
    wanted = await decoded(request, NewSystem)
    system = system_in(wanted)
    design = await house_of(request).designs.add(
        "system", session.user_id, label_of(wanted), codec.encode(system)
    )
    return seen_system(design, session.user_id, design.version, system)


@get(
    "/api/systems/{system:str}",
    opt=documented(query=VersionQuery, gives={200: SeenSystem}, refuses=ROOM, tag="system"),
)
async def get_system(request: Caller, system: FromPath[str]) -> SeenSystem:
    """Read a game system, its newest version or another one."""
    design, user, version, document = await document_of(request, "system", system)
    return seen_system(design, user, version, msgspec.json.decode(document, type=GameSystem))


@post(
    "/api/systems/{system:str}",
    opt=documented(
        takes=NewSystem, gives={201: SeenSystem}, refuses=(*ROOM, Conflict), tag="system"
    ),
)
async def revise_system(request: Caller, system: FromPath[str]) -> SeenSystem:
    """Make a further version of one's own game system; those before stay."""
    session = await signed_in(request)
    wanted = await decoded(request, NewSystem)
    made = system_in(wanted)
    design = await house_of(request).designs.revise(
        "system", system, session.user_id, label_of(wanted), codec.encode(made)
    )
    return seen_system(design, session.user_id, design.version, made)


@get("/api/templates", opt=documented(query=DesignQuery, gives={200: TemplatePage}, tag="system"))
async def list_templates(request: Caller) -> TemplatePage:
    """List room templates: the caller's own, then those of others that are public."""
    return TemplatePage(*await listed(request, "template"))


@post(
    "/api/templates",
    opt=documented(
        takes=NewTemplate, gives={201: SeenTemplate}, refuses=(*ROOM, Forbidden), tag="system"
    ),
)
async def create_template(request: Caller) -> SeenTemplate:
    """Make a template of a room, for its GMs: the scenes with everything on them, and the settings.

    Nobody's seat, words, rolls or ownership goes into it. Pictures go by reference: whoever makes a room of a public template
    sees them there.
    """
    house = house_of(request)
    session = await signed_in(request)
    wanted = await decoded(request, NewTemplate)
    layout: Layout = await house.rooms.layout(wanted.room, session.user_id)
    document = codec.encode(layout)
    design = await house.designs.add("template", session.user_id, label_of(wanted), document)
    return seen_template(design, session.user_id, design.version, document)


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
        takes=NewTemplate,
        gives={201: SeenTemplate},
        refuses=(*ROOM, Forbidden, Conflict),
        tag="system",
    ),
)
async def revise_template(request: Caller, template: FromPath[str]) -> SeenTemplate:
    """Make a further version of one's own template of a room as it is now; those before stay."""
    house = house_of(request)
    session = await signed_in(request)
    wanted = await decoded(request, NewTemplate)
    document = codec.encode(await house.rooms.layout(wanted.room, session.user_id))
    design = await house.designs.revise(
        "template", template, session.user_id, label_of(wanted), document
    )
    return seen_template(design, session.user_id, design.version, document)


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
