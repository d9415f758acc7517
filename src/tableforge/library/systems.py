"""Game systems and room templates: what is made once, kept in versions, and put on many tables.

Both are *designs*: they have an owner, a name, tags, and a document that only ever gets further versions. A private one
exists for its owner alone, a public one for everybody.
"""

import json
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct, structs

from tableforge.cache import Built, Cache
from tableforge.cache.policies import Document, Policies, Rows
from tableforge.database import Database, Row, Statement, Step
from tableforge.database.finding import Listing, listing, page
from tableforge.domain import dice_grammar
from tableforge.domain.commands import PROSE, Id, Name, Tag
from tableforge.domain.drawings import refuse_unbounded
from tableforge.domain.state import Layout, Visibility
from tableforge.errors import Conflict, Forbidden, Malformed, NotFound, TooLarge, Unavailable
from tableforge.library.changes import changing
from tableforge.library.users import random_id

Kind = Literal["system", "template"]

FORM: Final = 1
"""The form of the documents that this version writes."""
DESIGNS_AN_OWNER: Final = 1_000
"""How many systems, and how many templates, one user keeps."""
VERSIONS_MAX: Final = 100
DOCUMENT_BYTES: Final = 8 * 2**20
BYTES_AN_OWNER: Final = 64 * 2**20
"""What one user keeps: the documents of all versions of all systems and templates together."""
CARDS_A_SYSTEM: Final = 5_000
EXPRESSIONS_A_SYSTEM: Final = 10_000
"""Characters in the expressions of all macros: reading them takes some 5 µs each."""
LISTED_AT_MOST: Final = 200
REVISED_AT_ONCE: Final = 20
"""How often a version is made again because another one came between."""

Key = Annotated[str, Meta(max_length=40, pattern=r"^[a-z][a-z0-9_]*$(?!\n)")]
Figure = Annotated[float, Meta(ge=-1e9, le=1e9)]
Text = Annotated[str, Meta(max_length=1_000, pattern=PROSE)]


class Attribute(Struct, frozen=True, forbid_unknown_fields=True):
    """One thing that a character has: `choices` for a choice, `minimum` and `maximum` for a number or a resource."""

    key: Key
    name: Name
    kind: Literal["number", "text", "flag", "choice", "resource"] = "number"
    default: Figure | Text | bool | None = None
    minimum: Figure | None = None
    maximum: Figure | None = None
    choices: Annotated[tuple[Name, ...], Meta(max_length=100)] = ()


class Macro(Struct, frozen=True, forbid_unknown_fields=True):
    """A roll with a name; the expression is the table's own dice grammar."""

    key: Key
    name: Name
    expression: Annotated[str, Meta(min_length=1, max_length=200)]
    visibility: Literal["public", "gm", "self"] = "public"


class CardPlan(Struct, frozen=True, forbid_unknown_fields=True):
    """A card, `count` times; `face` and `back` are assets of whoever deals it."""

    name: Name
    face: Id | None = None
    back: Id | None = None
    count: Annotated[int, Meta(ge=1, le=1_000)] = 1


class DeckPlan(Struct, frozen=True, forbid_unknown_fields=True):
    """A deck to be made."""

    name: Name
    cards: Annotated[tuple[CardPlan, ...], Meta(max_length=1_000)] = ()


class Field(Struct, frozen=True, forbid_unknown_fields=True):
    """A place on a sheet: an attribute or a macro by its key, or a text; `width` in twelfths of the sheet's."""

    attribute: Key | None = None
    macro: Key | None = None
    text: Text | None = None
    width: Annotated[int, Meta(ge=1, le=12)] = 12


class Sheet(Struct, frozen=True, forbid_unknown_fields=True):
    """What a character sheet shows, in its order."""

    name: Name
    fields: Annotated[tuple[Field, ...], Meta(max_length=500)] = ()


Attributes = Annotated[tuple[Attribute, ...], Meta(max_length=500)]
Macros = Annotated[tuple[Macro, ...], Meta(max_length=200)]
Decks = Annotated[tuple[DeckPlan, ...], Meta(max_length=50)]
Sheets = Annotated[tuple[Sheet, ...], Meta(max_length=50)]


class GameSystem(Struct, frozen=True):
    """The document of a system. `extra` is bounded JSON that clients agree on."""

    attributes: Attributes = ()
    macros: Macros = ()
    decks: Decks = ()
    sheets: Sheets = ()
    extra: dict[str, Any] = {}


class Design(Struct, frozen=True):
    """A system or a template without its document; `version` is the newest. Times in milliseconds since 1970."""

    id: str
    kind: Kind
    owner: str
    name: str
    visibility: Visibility
    tags: tuple[str, ...]
    version: int
    created_ms: int
    updated_ms: int


class Label(Struct, frozen=True, kw_only=True):
    """What a design is found by: name and tags of its newest version, and whether others may see that."""

    name: str
    visibility: Visibility
    tags: tuple[str, ...]


class DesignPage(Struct, frozen=True):
    """One's own designs, then those of others that are public, each the newest first; a page may be short although more
    follow."""

    designs: tuple[Design, ...]
    next: str | None


COLUMNS = "id, kind, owner, name, visibility, tags, version, created_ms, updated_ms"
LOCK_OWNER = Statement(
    "design.lock_owner",
    "SELECT ?1",
    postgres="SELECT pg_advisory_xact_lock(hashtextextended('designs of ' || ?1::text, 0))",
    repeatable=True,
)
INSERT = Statement(
    "design.insert",
    f"INSERT INTO designs ({COLUMNS}, search, bytes)"  # noqa: S608 - names of columns, no values
    " SELECT CAST(?1 AS TEXT), CAST(?2 AS TEXT), CAST(?3 AS TEXT), CAST(?4 AS TEXT), CAST(?5 AS TEXT), CAST(?6 AS TEXT),"
    " 1, CAST(?7 AS BIGINT), CAST(?7 AS BIGINT), CAST(?8 AS TEXT), CAST(?9 AS BIGINT)"
    f" WHERE (SELECT count(*) FROM designs WHERE owner = ?3 AND kind = ?2) < {DESIGNS_AN_OWNER}"
    " AND (SELECT coalesce(sum(bytes), 0) FROM designs WHERE owner = ?3) + CAST(?9 AS BIGINT)"
    f" <= {BYTES_AN_OWNER}",
)
REVISE = Statement(
    "design.revise",
    "UPDATE designs SET name = ?4, visibility = ?5, tags = ?6, updated_ms = ?7, search = ?8, version = version + 1,"  # noqa: S608 - a constant
    " bytes = bytes + CAST(?10 AS BIGINT)"
    " WHERE id = ?1 AND kind = ?2 AND owner = ?3 AND version = ?9"
    " AND (SELECT coalesce(sum(bytes), 0) FROM designs WHERE owner = ?3) + CAST(?10 AS BIGINT)"
    f" <= {BYTES_AN_OWNER}",
)
PUBLISH = Statement(
    "design.publish",
    "UPDATE designs SET visibility = ?4 WHERE id = ?1 AND kind = ?2 AND owner = ?3 AND version = ?5",
)
INSERT_VERSION = Statement(
    "design.insert_version",
    "INSERT INTO design_versions (design, version, name, tags, form, data, created_ms)"
    " SELECT id, version, name, tags, CAST(?3 AS INTEGER), CAST(?4 AS TEXT), updated_ms FROM designs"
    " WHERE id = ?1 AND owner = ?2"
    " ON CONFLICT DO NOTHING",
)
BYTES_KEPT = Statement(
    "design.bytes_kept",
    "SELECT CAST(coalesce(sum(bytes), 0) AS BIGINT) FROM designs WHERE owner = ?",
)
FIND = Statement(
    "design.find",
    f"SELECT {COLUMNS} FROM designs WHERE id = ? AND kind = ?",  # noqa: S608 - names of columns, no values
)
FIND_VERSION = Statement(
    "design.find_version",
    "SELECT form, name, tags, created_ms, data FROM design_versions WHERE design = ? AND version = ?",
)


TERMS = "design_terms(kind, owner, visibility, tags, search)"
OWN = listing(
    "design.own",
    "designs",
    COLUMNS,
    keys=("owner", "kind"),
    owner="'@' || ?2 || ?1",
    terms=TERMS,
)
PUBLIC = listing(
    "design.public",
    "designs",
    COLUMNS,
    keys=("visibility", "kind"),
    owner="'!' || ?2 || ?1",
    terms=TERMS,
)

Revised = Callable[[Design], Awaitable[tuple[Label, bytes]]]

WORDS: Final[dict[Kind, str]] = {"system": "game system", "template": "template"}
_layout = msgspec.json.Decoder(Layout)


class Designs:
    """The repository of systems and templates. Every method raises `DatabaseUnavailable`.

    Documents and lists are read through `cache`: a version never changes, and a list depends on what one owner has and on
    what is public. Who may see a design is asked of the database.
    """

    def __init__(
        self,
        database: Database,
        cache: Cache,
        regions: Policies,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._cache = cache
        self._documents = regions.game_system_templates
        self._lists = regions.query_results
        self._clock = clock

    async def add(self, kind: Kind, owner: str, label: Label, document: bytes) -> Design:
        """Keep a first version; raises TooLarge for one too many, too large a one, or an owner who keeps too much."""
        refuse_large(kind, document)
        design = random_id()
        now = int(self._clock() * 1000)
        counts = await self._write(
            kind,
            owner,
            (LOCK_OWNER, (owner,)),
            (INSERT, (design, kind, owner, *columns_of(label, now), len(document))),
            version_step(design, owner, document),
        )
        if not counts[-1]:
            await self._refuse_full(kind, owner, document)
            raise TooLarge(
                f"The {WORDS[kind]} was not kept.",
                f"You keep {DESIGNS_AN_OWNER} of them already, which is as many as may be.",
                "Give one that you no longer need another content.",
            )
        return Design(design, kind, owner, label.name, label.visibility, label.tags, 1, now, now)

    async def revise(
        self, kind: Kind, design: str, user: str, revised: Revised
    ) -> tuple[Design, bytes]:
        """Make a further version and return it; those before stay. `revised` makes it of the newest one, again for each that
        comes between. What equals the newest one makes none; another visibility alone changes whether that is seen.

        Raises NotFound for who may not see it, Forbidden for who does not own it, TooLarge, Conflict at the last version
        that may be or among too many made at once.
        """
        not_changed = f"The {WORDS[kind]} was not changed."
        for _ in range(REVISED_AT_ONCE):
            present = await self.find(kind, design, user)
            if present.owner != user:
                raise Forbidden(
                    not_changed, "It is somebody else's.", "Make one of your own of it."
                )
            label, document = await revised(present)
            made = await self._revise(present, label, document)
            if made is not None:
                return made, document
        raise Conflict(
            not_changed, "Too many versions of it are being made at once.", "Send it again."
        )

    async def _revise(self, present: Design, label: Label, document: bytes) -> Design | None:
        """Make the version behind this one, if there is anything to it; None where another one came between."""
        kind, owner = present.kind, present.owner
        key = (present.id, kind, owner)
        same = (label.name, label.tags) == (present.name, present.tags) and (
            document == (await self.version(present, present.version)).data
        )
        if same and label.visibility == present.visibility:
            return present
        if same:
            shown = (PUBLISH, (*key, label.visibility, present.version))
            seen = structs.replace(present, visibility=label.visibility)
            return seen if (await self._write(kind, owner, shown))[0] else None
        refuse_large(kind, document)
        if present.version >= VERSIONS_MAX:
            raise Conflict(
                f"The {WORDS[kind]} was not changed.",
                f"It has {VERSIONS_MAX} versions, which is as many as may be.",
                "Make another one of it.",
            )
        now = int(self._clock() * 1000)
        row = (*key, *columns_of(label, now), present.version, len(document))
        counts = await self._write(
            kind,
            owner,
            (LOCK_OWNER, (owner,)),
            (REVISE, row),
            version_step(present.id, owner, document),
        )
        if not counts[1]:
            await self._refuse_full(kind, owner, document)
            return None
        return structs.replace(
            present, **structs.asdict(label), version=present.version + 1, updated_ms=now
        )

    async def _write(self, kind: Kind, owner: str, *steps: Step) -> list[int]:
        """Change what this user owns, and have the lists that show it forgotten."""
        return await changing(
            self._database.write_all(steps),
            lambda: self._cache.drop_tag(owned_by(kind, owner), PUBLIC_ONES),
        )

    async def _refuse_full(self, kind: Kind, owner: str, document: bytes) -> None:
        """Raise TooLarge if the document is more than this user may still keep."""
        kept = (await self._database.read(BYTES_KEPT, owner))[0][0]
        if kept + len(document) > BYTES_AN_OWNER:
            raise TooLarge(
                f"The {WORDS[kind]} was not kept.",
                f"Your game systems and templates take {kept} bytes in all their versions, and its {len(document)} more would be"
                f" over the {BYTES_AN_OWNER} that one may keep.",
                "Use what you have made already, or leave something out of this one.",
            )

    async def find(self, kind: Kind, design: str, user: str) -> Design:
        """Look one up; raises NotFound for who may not see it, as for one that never was."""
        rows = await self._database.read(FIND, design, kind) if design.isalnum() else []
        found = design_of(rows[0]) if rows else None
        if found is None or (found.visibility != "public" and found.owner != user):
            raise NotFound(f"There is no such {WORDS[kind]}.", "", "Take an id from the list.")
        return found

    async def seen(self, design: Design, version: int, user: str) -> Document:
        """One of its versions for this user; raises NotFound. Others than its owner are shown the newest one alone: who
        publishes that did not publish what came before.
        """
        if version != design.version and user != design.owner:
            raise NotFound(
                f"There is no version {version} of this {WORDS[design.kind]} for you.",
                "Its owner alone sees others than the newest.",
                "Leave the version out.",
            )
        return await self.version(design, version)

    async def version(self, design: Design, version: int) -> Document:
        """One of its versions; raises NotFound."""

        async def load() -> Built[Document] | None:
            rows = await self._database.read(FIND_VERSION, design.id, version)
            if not rows:
                return None
            form, name, tags, created_ms, data = rows[0]
            if form > FORM:
                raise Unavailable(
                    f"The {WORDS[design.kind]} was not read.",
                    "A later version of TableForge wrote it.",
                    "Have this server brought up to that version.",
                )
            known = (name, tuple(json.loads(tags)), created_ms)
            return Built(Document(design.id, version, *known, str(data).encode()))

        # One that is not there yet may come: what is missing is not remembered.
        found = None
        if version <= design.version:
            key = f"{design.kind}:{design.id}:{version}"
            found = await self._cache.get(self._documents, key, load)
        if found is None:
            raise NotFound(
                f"There is no version {version} of this {WORDS[design.kind]}.",
                f"Its newest is {design.version}.",
                "Ask for one from 1 on.",
            )
        return found

    async def layout(self, template: str, user: str) -> Layout:
        """The newest version of a template, to make a room of; raises NotFound."""
        design = await self.find("template", template, user)
        return _layout.decode((await self.version(design, design.version)).data)

    async def listed(
        self, kind: Kind, user: str, *, text: str = "", tag: str = "", limit: int, cursor: str = ""
    ) -> DesignPage:
        """What this user may see, by a part of the name (any case) and a whole tag; `cursor` is a page's `next`."""
        public, moment, design = position_of(cursor)
        part, tag = text.casefold(), tag.casefold()
        limit = max(1, min(limit, LISTED_AT_MOST))
        found: list[Row] = []
        for listed in (PUBLIC,) if public else (OWN, PUBLIC):
            whose = "public" if listed is PUBLIC else user
            asked = (whose, kind, part, tag, moment, design)
            rows, behind = await self._page(listed, asked, limit=max(1, limit - len(found)))
            if listed is PUBLIC:
                rows = [row for row in rows if row[2] != user]
            if len(found) == limit:
                # The page is full already: the question was only whether there is anything more.
                more = bool(rows) or behind is not None
                return designs_of(found, f"o{place_of(found[-1])}" if more else None)
            found += rows
            if behind is not None:
                return designs_of(found, f"{'p' if listed is PUBLIC else 'o'}{behind}")
            moment, design = NEWEST
        return designs_of(found, None)

    async def _page(
        self, listed: Listing, asked: tuple[str, str, str, str, int, str], *, limit: int
    ) -> tuple[list[Row], str | None]:
        """The rows of a page, and the place behind which the next one begins."""
        whose, kind, part, tag, *_ = asked

        async def load() -> Built[Rows]:
            found = await page(self._database.read, listed, *asked, limit=limit, part=part, tag=tag)
            return Built(Rows(tuple(found.rows), place_of(found.last) if found.last else None))

        question = msgspec.json.encode((listed.walk.name, *asked, limit))
        tags = (PUBLIC_ONES if listed is PUBLIC else owned_by(kind, whose),)
        kept = await self._cache.get(
            self._lists, blake2b(question, digest_size=16).hexdigest(), load, tags=tags
        )
        assert kept is not None  # an empty page is one as well
        return list(kept.rows), kept.next if isinstance(kept.next, str) else None


PUBLIC_ONES: Final = "public_designs"
"""The tag of every list of what is public."""


def owned_by(kind: str, owner: str) -> str:
    """The tag of the lists of what this user owns."""
    return f"{kind}s_of:{owner}"


NEWEST: Final = ((1 << 63) - 1, "")


def position_of(cursor: str) -> tuple[bool, int, str]:
    """Where a page begins: among the public ones or not, and right below this moment and id."""
    if not cursor:
        return (False, *NEWEST)
    whose, moment, design = cursor[:1], *cursor[1:].partition(".")[::2]
    fits = moment.isascii() and moment.isdecimal() and len(moment) <= 18 and design.isalnum()
    if whose not in {"o", "p"} or not fits:
        raise Malformed("Nothing was listed.", "The cursor is not one of ours.", "Leave it out.")
    return whose == "p", int(moment), design


def place_of(row: Row) -> str:
    """Where a row stands among those that are the newest first: the form of a cursor behind its first letter."""
    design = design_of(row)
    return f"{design.created_ms}.{design.id}"


def designs_of(rows: Sequence[Row], following: str | None) -> DesignPage:
    """A page of rows."""
    return DesignPage(tuple(map(design_of, rows)), following)


def design_of(row: Row) -> Design:
    """A row of the table as a design."""
    key, kind, owner, name, visibility, tags, *rest = row
    return Design(key, kind, owner, name, visibility, tuple(json.loads(tags)), *rest)


def columns_of(label: Label, now: int) -> tuple[object, ...]:
    """What a label and the time are in the table."""
    tags = json.dumps(label.tags, ensure_ascii=False)
    return label.name, label.visibility, tags, now, label.name.casefold()


def version_step(design: str, owner: str, document: bytes) -> Step:
    """Keep a document as what the design's row, written in the same transaction, calls its newest version."""
    return INSERT_VERSION, (design, owner, FORM, document.decode())


def refuse_large(kind: Kind, document: bytes) -> None:
    """Refuse a document of more bytes than the limit allows."""
    if len(document) > DOCUMENT_BYTES:
        raise TooLarge(
            f"The {WORDS[kind]} was not kept.",
            f"It takes {len(document)} bytes; {DOCUMENT_BYTES} are the most.",
            "Leave something out of it.",
        )


def folded(tags: Iterable[Tag]) -> tuple[str, ...]:
    """Tags as they are looked for: in any case, each once."""
    return tuple(dict.fromkeys(tag.casefold() for tag in tags))


def checked(system: GameSystem) -> GameSystem:
    """The system, if it makes sense: macros that can be rolled, keys that are there once, fields that show something.

    Raises Malformed, `IllFormed` with the place for a macro that cannot be rolled. May take some 50 ms: not for the loop.
    """
    refuse_unbounded(system.extra, "extra")
    if sum(len(macro.expression) for macro in system.macros) > EXPRESSIONS_A_SYSTEM:
        raise refusal(
            f"The expressions of its macros have more than {EXPRESSIONS_A_SYSTEM} characters together."
        )
    for macro in system.macros:
        dice_grammar.parse(macro.expression)
    attributes = once([attribute.key for attribute in system.attributes], "attributes")
    macros = once([macro.key for macro in system.macros], "macros")
    for attribute in system.attributes:
        if (attribute.kind == "choice") != bool(attribute.choices):
            raise refusal(f"Attribute `{attribute.key}` has choices exactly if it is a choice.")
        if default_of(attribute.default) not in {"", DEFAULTS[attribute.kind]}:
            raise refusal(f"The default of attribute `{attribute.key}` is not a {attribute.kind}.")
    if sum(card.count for deck in system.decks for card in deck.cards) > CARDS_A_SYSTEM:
        raise refusal(f"The decks have more than {CARDS_A_SYSTEM} cards.")
    for sheet in system.sheets:
        for field in sheet.fields:
            shown = (field.attribute, field.macro, field.text)
            if sum(one is not None for one in shown) != 1:
                raise refusal("A field shows one thing: an attribute, a macro or a text.")
            if field.attribute not in {None, *attributes} or field.macro not in {None, *macros}:
                raise refusal(f"Sheet {sheet.name!r} shows what the system does not have.")
    return system


DEFAULTS: Final = {
    "number": "number",
    "resource": "number",
    "text": "text",
    "choice": "text",
    "flag": "flag",
}


def default_of(value: object) -> str:
    """What sort of value a default is; empty for none."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "flag"
    return "text" if isinstance(value, str) else "number"


def once(keys: Sequence[str], where: str) -> frozenset[str]:
    """The keys, each of which may be there once."""
    if len(set(keys)) < len(keys):
        raise refusal(f"A key among the {where} comes twice.")
    return frozenset(keys)


def refusal(why: str) -> Malformed:
    """What is wrong with a system that is well formed."""
    return Malformed("The game system was not kept.", why, "Mend it and send it again.")
