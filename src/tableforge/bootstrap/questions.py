"""What `tableforge bench database` asks of a database: every list and search of the game, its worst cases included.

The database is asked, not the cache in front of it.
"""

import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Final, NamedTuple

from tableforge.bench.database import Question
from tableforge.bootstrap.stores import Store, embedded, shared
from tableforge.config import Settings
from tableforge.database import Statement
from tableforge.database.finding import Listing, page
from tableforge.library.assets import LIST_OF_ROOM, LIST_OF_USER
from tableforge.library.systems import OWN, PUBLIC
from tableforge.ops.stored import OrderRefused

PAGE: Final = 50
ABSENT: Final = "zyxwvut"
"""A part of no name."""
ABSENT_TAG: Final = "no such tag"
TOP: Final = 2**62
"""Before every place and every moment."""

HEAVIEST: Final = {
    name: Statement(
        f"bench.heaviest_{name}",
        f'SELECT "{column}" FROM {table} WHERE "{column}" IS NOT NULL'  # noqa: S608 - names of columns, no values
        f' GROUP BY "{column}" ORDER BY count(*) DESC, 1 LIMIT 1',
        background=True,
    )
    for name, table, column in (
        ("member", "seats", "user"),
        ("uploader", "assets", "uploader"),
        ("room", "assets", "room"),
        ("designer", "designs", "owner"),
    )
}
"""Who, or which room, has most of it."""
USUAL: Final = Statement(
    "bench.usual_users", "SELECT id FROM users ORDER BY id LIMIT 500", background=True
)
ROOM_NAMES: Final = Statement(
    "bench.room_names",
    "SELECT name FROM rooms WHERE visibility = 'public' ORDER BY id LIMIT 500",
    background=True,
)
OWN_ROOM_NAMES: Final = Statement(
    "bench.own_room_names",
    "SELECT r.name FROM seats s JOIN rooms r ON r.num = s.room WHERE s.user = ? ORDER BY r.id LIMIT 500",
    'SELECT r.name FROM seats s JOIN rooms r ON r.id = s.room WHERE s."user" = ? ORDER BY r.id LIMIT 500',
    background=True,
)
ASSETS: Final = Statement(
    "bench.assets",
    "SELECT search, created_ms FROM assets WHERE uploader = ? ORDER BY id LIMIT 500",
    background=True,
)
ASSETS_OF_ROOM: Final = Statement(
    "bench.assets_of_room",
    "SELECT search, created_ms FROM assets WHERE room = ? ORDER BY id LIMIT 500",
    background=True,
)
DESIGNS: Final = Statement(
    "bench.designs",
    "SELECT search, created_ms FROM designs WHERE visibility = 'public' OR owner = ? ORDER BY id LIMIT 500",
    background=True,
)
TAGS: Final = Statement(
    "bench.tags",
    "SELECT DISTINCT value FROM (SELECT tags FROM rooms LIMIT 2000), json_each(tags) ORDER BY 1",
    "SELECT DISTINCT unnest(tags) FROM (SELECT tags FROM rooms LIMIT 2000) AS few ORDER BY 1",
    background=True,
)
COUNTS: Final = {
    table: Statement(
        f"bench.count_{table}",
        f"SELECT count(*) FROM {table}",  # noqa: S608 - names of tables
        background=True,
    )
    for table in ("rooms", "seats", "users", "assets", "designs")
}

Asking = Awaitable[int]
Pick = Callable[[random.Random], str]
"""What is looked for this time."""


class Asked(NamedTuple):
    """Everything that the bench needs to know of a database."""

    questions: list[Question]
    contents: dict[str, int]
    plans: dict[str, str]
    server: str


@contextlib.asynccontextmanager
async def asked(settings: Settings) -> AsyncIterator[Asked]:
    """What can be asked of the database that the settings name; raises `OrderRefused` for one with nothing in it."""
    is_fleet = settings.database.chosen
    async with (shared if is_fleet else embedded)(settings) as store:
        await store.started()
        contents = {
            table: (await store.database.read(count))[0][0] for table, count in COUNTS.items()
        }
        if not (contents["rooms"] and contents["seats"] and contents["assets"]):
            raise OrderRefused(
                "Nothing was measured.",
                "There are no rooms and pictures in this database.",
                "Run `tableforge bench seed` on it first.",
            )
        desk = Desk(store, is_fleet=is_fleet)
        await desk.look()
        yield Asked(
            list(desk.questions()),
            contents,
            await desk.plans(),
            "PostgreSQL" if is_fleet else "SQLite",
        )


class Desk:
    """Knows what is there to be asked for, and asks."""

    def __init__(self, store: Store, *, is_fleet: bool) -> None:
        self._store = store
        self._read = store.database.read
        self._is_fleet = is_fleet

    async def look(self) -> None:
        """Find out who has much, and what is called how."""
        self._heaviest = {
            name: (await self._first(statement)) or "" for name, statement in HEAVIEST.items()
        }
        self._usual = await self._column(USUAL)
        self._tags = [tag for tag in await self._column(TAGS) if tag] or [ABSENT_TAG]
        self._room_names = await self._column(ROOM_NAMES) or [ABSENT]
        self._own_names = await self._column(OWN_ROOM_NAMES, self._heaviest["member"]) or [ABSENT]
        self._assets = await self._read(ASSETS, self._heaviest["uploader"])
        self._of_room = await self._read(ASSETS_OF_ROOM, self._heaviest["room"])
        self._designs = await self._read(DESIGNS, self._heaviest["designer"])
        self._deepest = (await self._read(COUNTS["rooms"]))[0][0]

    async def _column(self, statement: Statement, *params: object) -> list[str]:
        return [str(row[0]) for row in await self._read(statement, *params)]

    async def _first(self, statement: Statement) -> str | None:
        rows = await self._read(statement)
        return rows[0][0] if rows else None

    def questions(self) -> Iterator[Question]:
        """All of them."""
        many, tags = self._heaviest["member"], self._tags
        yield from self._of_rooms("public rooms", "", self._room_names, public=True)
        yield from self._of_rooms("public rooms for a regular", many, self._room_names, public=True)
        yield from self._of_rooms("rooms of a regular", many, self._own_names, public=False)
        yield Question(
            "rooms of anybody",
            lambda chance: self._rooms(chance.choice(self._usual), "", "", None, public=False),
        )
        yield Question(
            "rooms of anybody, by a tag",
            lambda chance: self._rooms(
                chance.choice(self._usual), "", chance.choice(tags), None, public=False
            ),
        )
        owner = self._heaviest["uploader"]
        yield from self._of_table("pictures of a collector", LIST_OF_USER, (owner,), self._assets)
        room = self._heaviest["room"]
        yield from self._of_table("pictures of a room", LIST_OF_ROOM, (room,), self._of_room)
        yield Question(
            "pictures of anybody, absent text",
            lambda chance: self._page(
                LIST_OF_USER, (chance.choice(self._usual),), ABSENT, "", (TOP, "")
            ),
        )
        for kind in ("system", "template"):
            whose = (self._heaviest["designer"], kind)
            yield from self._of_table(f"{kind}s of an author", OWN, whose, self._designs)
            yield from self._of_table(f"public {kind}s", PUBLIC, ("public", kind), self._designs)

    def _of_rooms(
        self, name: str, user: str, names: Sequence[str], *, public: bool
    ) -> Iterator[Question]:
        for what, part, tag, deep in cases(names, self._tags):

            def ask(
                chance: random.Random, *, part: Pick = part, tag: Pick = tag, deep: bool = deep
            ) -> Asking:
                before = chance.randrange(1, self._deepest + 1) if deep else None
                return self._rooms(user, part(chance), tag(chance), before, public=public)

            yield Question(f"{name}, {what}", ask)

    def _of_table(
        self,
        name: str,
        listing: Listing,
        scope: tuple[object, ...],
        sample: Sequence[tuple[str, int]],
    ) -> Iterator[Question]:
        if not sample:
            return
        for what, part, tag, deep in cases([name for name, _ in sample], self._tags):

            def ask(
                chance: random.Random, *, part: Pick = part, tag: Pick = tag, deep: bool = deep
            ) -> Asking:
                behind = (chance.choice(sample)[1], "") if deep else (TOP, "")
                return self._page(listing, scope, part(chance), tag(chance), behind)

            yield Question(f"{name}, {what}", ask)

    async def _rooms(
        self, user: str, part: str, tag: str, before: int | None, *, public: bool
    ) -> int:
        found = await self._store.log.list_rooms(
            user=user, public=public, query=part, tag=tag, before=before, limit=PAGE
        )
        return len(found.rows)

    async def _page(
        self,
        listing: Listing,
        scope: tuple[object, ...],
        part: str,
        tag: str,
        behind: tuple[int, str],
    ) -> int:
        part = part.casefold()
        asked = (*scope, part, tag, *behind)
        found = await page(self._read, listing, *asked, limit=PAGE, part=part, tag=tag)
        return len(found.rows)

    async def plans(self) -> dict[str, str]:
        """How the database goes about each statement, with what it finds hardest."""
        if self._is_fleet:
            from tableforge.eventlog import postgres as log
        else:
            from tableforge.eventlog import sqlite as log  # type: ignore[no-redef]  # one of the two
        many = self._heaviest["member"]
        rooms = (many, TOP, ABSENT, "", PAGE + 1)
        found: dict[str, str] = {}
        for statement in log.LISTINGS:
            found[statement.name] = await self._plan(statement, *rooms)
        for listing, *scope in (
            (LIST_OF_USER, self._heaviest["uploader"]),
            (LIST_OF_ROOM, self._heaviest["room"]),
            (OWN, self._heaviest["designer"], "system"),
            (PUBLIC, "public", "system"),
        ):
            for statement in listing:
                params = (*scope, ABSENT, "", TOP, "", PAGE + 1)
                found[statement.name] = await self._plan(statement, *params)
        return found

    async def _plan(self, statement: Statement, *params: object) -> str:
        explain = Statement(
            "bench.explain",
            f"EXPLAIN QUERY PLAN {statement.sql}",
            f"EXPLAIN (ANALYZE, COSTS OFF) {statement.postgres or statement.sql}",
            background=True,
        )
        rows = await self._read(explain, *params)
        return "\n".join(f"  {row[0] if self._is_fleet else row[3]}" for row in rows)


def cases(names: Sequence[str], tags: Sequence[str]) -> Iterator[tuple[str, Pick, Pick, bool]]:
    """What is looked for among things of these names: the case, part of the name, tag, whether from deep within."""

    def nothing(chance: random.Random) -> str:
        return ""

    def whole(chance: random.Random) -> str:
        return chance.choice(names)

    def word(chance: random.Random) -> str:
        return max(chance.choice(names).split(), key=len)

    def some(chance: random.Random) -> str:
        return chance.choice(tags)

    yield "the first page", nothing, nothing, False
    yield "a deep page", nothing, nothing, True
    yield "one of a kind", whole, nothing, False
    yield "a word", word, nothing, False
    yield "a word, deep", word, nothing, True
    yield "absent text", lambda chance: ABSENT, nothing, False
    yield "absent text of words", lambda chance: f"{word(chance)} {word(chance)}", nothing, False
    yield "two letters that are absent", lambda chance: "qq", nothing, False
    yield "a tag", nothing, some, False
    yield "a tag, deep", nothing, some, True
    yield "an absent tag", nothing, lambda chance: ABSENT_TAG, False
    yield "a word and a tag", word, some, True
