"""`tableforge bench seed`: as many rooms, people, pictures' rows and designs as one asks for, the same for the same number.

Popularity is uneven, as everywhere: the first user has uploaded about a tenth of all pictures and sits in a good part of
the rooms, most others have a few. The rooms can be played; the pictures are rows without bytes.
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from tableforge.config import DatabaseKnobs
from tableforge.domain.events import MemberJoined, RoomChanged, RoomCreated
from tableforge.domain.state import Grid, Layout, Role, Scene, Settings
from tableforge.library.systems import FORM, Attribute, Field, GameSystem, Macro, Sheet
from tableforge.ops import fleet_store, store
from tableforge.ops.stored import OrderRefused, Progress, StoredRoom, StoredRow, WholeRoom
from tableforge.protocol import codec

NOT_SEEDED: Final = "Nothing was made."
PORTION: Final = 2_000
UNEVENNESS: Final = 4
"""The power that a random number is raised to before it picks a user."""
FIRST_MS: Final = 1_700_000_000_000
STEP_MS: Final = 1_700


def words(text: str) -> tuple[str, ...]:
    """The words of a text."""
    return tuple(text.split())


TAGS: Final = words(
    "horror sea night forest city siege heist court desert ice ruins tavern dungeon temple caves swamp war trade"
    " winter plague"
)
MANNERS: Final = words(
    "Ashen Broken Crimson Drowned Emerald Frozen Gilded Hollow Iron Jade Lost Mourning Northern Old Pale Quiet Red"
    " Sunken Twisted Whispering"
)
PLACES: Final = words(
    "Abbey Bridge Cellar Door Estuary Fort Grove Harbour Inn Keep Lantern Mill Orchard Passage Quarry Road Shrine Tower"
    " Vault Well"
)
THINGS: Final = words(
    "archer banner cavern dragon elf farm goblin hydra imp knight lich map mimic ogre portal rogue skeleton troll wolf"
    " wyvern"
)

Thing = TypeVar("Thing")


class Amounts(NamedTuple):
    """How many of each there shall be; `designs` are half systems, half templates."""

    rooms: int
    users: int
    assets: int
    designs: int
    seed: int


async def seed(
    place: DatabaseKnobs | Path, amounts: Amounts, *, add: bool, progress: Progress
) -> None:
    """Make all of it, or nothing; raises `OrderRefused` for a database in which somebody plays, unless to `add` to it."""
    async with AsyncExitStack() as stack:
        target = await stack.enter_async_context(_opened(place))
        there = len(await _present(target))
        if there and not add:
            raise OrderRefused(
                NOT_SEEDED,
                f"There are {there} rooms in this database already.",
                "Name an empty one, or give --add if what is there may be mixed with what is made up.",
            )
        async with target.transaction():
            if there:
                await _fill(target, amounts, progress)
            else:
                async with target.unindexed():
                    await _fill(target, amounts, progress)
                    progress("indexes", 0, 1)
        progress("statistics", 0, 1)
        await target.settle()
        progress("statistics", 1, 1)


@asynccontextmanager
async def _opened(
    place: DatabaseKnobs | Path,
) -> AsyncIterator[fleet_store.PostgresStore | store.SqliteStore]:
    if isinstance(place, DatabaseKnobs):
        async with fleet_store.filling(place, NOT_SEEDED) as shared:
            yield shared
    else:
        with fleet_store.ordered(NOT_SEEDED):
            await store.bring_up(place)
        with store.filling(place) as embedded:
            yield embedded


async def _present(target: fleet_store.PostgresStore | store.SqliteStore) -> Sequence[object]:
    return await target.rooms()


async def _fill(
    target: fleet_store.PostgresStore | store.SqliteStore, amounts: Amounts, progress: Progress
) -> None:
    made = Made(amounts)
    for table, rows, total in (
        ("users", made.users(), amounts.users),
        ("assets", made.assets(), amounts.assets),
        ("designs", made.designs(), amounts.designs),
        ("design_versions", made.versions(), amounts.designs),
    ):
        done = 0
        for portion in portions(rows):
            await target.add_many(table, portion)
            done += len(portion)
            progress(table, done, total)
            await asyncio.sleep(0)
    done = 0
    for rooms in portions(made.rooms()):
        await target.add_rooms(rooms)
        done += len(rooms)
        progress("rooms", done, amounts.rooms)
        await asyncio.sleep(0)


def portions(things: Iterator[Thing]) -> Iterator[list[Thing]]:
    """The things, a portion at a time."""
    while portion := [thing for _, thing in zip(range(PORTION), things, strict=False)]:
        yield portion


class Made:
    """Everything that is made up, each kind from a random sequence of its own."""

    def __init__(self, amounts: Amounts) -> None:
        self._amounts = amounts

    def _chance(self, what: str) -> random.Random:
        return random.Random(f"{self._amounts.seed} {what}")  # noqa: S311 - to be the same again, not to be secret

    def key(self, kind: str, number: int) -> str:
        """The id of a thing: 16 characters, in no order."""
        text = f"{self._amounts.seed} {kind} {number}".encode()
        return blake2b(text, digest_size=8).hexdigest()

    def _somebody(self, chance: random.Random) -> int:
        return int(self._amounts.users * chance.random() ** UNEVENNESS)

    def users(self) -> Iterator[tuple[object, ...]]:
        """Rows of `users`."""
        chance = self._chance("users")
        for number in range(self._amounts.users):
            name = f"{chance.choice(THINGS).title()} of {chance.choice(PLACES)} {number}"
            yield self.key("user", number), name, FIRST_MS

    def assets(self) -> Iterator[tuple[object, ...]]:
        """Rows of `assets`; two in three belong to no room."""
        chance = self._chance("assets")
        for number in range(self._amounts.assets):
            name = (
                f"{chance.choice(MANNERS)} {chance.choice(THINGS)} {chance.choice(PLACES)}"
                f" {chance.randrange(100_000):05}.webp"
            )
            room = None
            if self._amounts.rooms and number % 3 == 0:
                room = self.key("room", int(self._amounts.rooms * chance.random() ** UNEVENNESS))
            yield (
                *(self.key("asset", number), self.key("digest", number) * 4, "image/webp"),
                *(1024, 768, chance.randrange(20_000, 400_000)),
                *(self.key("user", self._somebody(chance)), room, name, name.casefold()),
                *(json.dumps(tags_of(chance)), FIRST_MS + number * STEP_MS),
            )

    def _design(self, chance: random.Random, number: int) -> tuple[object, ...]:
        name = f"{chance.choice(MANNERS)} {chance.choice(PLACES)} {number}"
        visibility = "public" if chance.random() < 0.5 else "private"
        at = FIRST_MS + number * STEP_MS
        kind = "template" if number % 2 else "system"
        return (
            *(self.key("design", number), kind),
            *(self.key("user", self._somebody(chance)), name, name.casefold(), visibility),
            *(json.dumps(tags_of(chance)), 1, at, at, len(DOCUMENTS[kind])),
        )

    def designs(self) -> Iterator[tuple[object, ...]]:
        """Rows of `designs`."""
        chance = self._chance("designs")
        for number in range(self._amounts.designs):
            yield self._design(chance, number)

    def versions(self) -> Iterator[tuple[object, ...]]:
        """Rows of `design_versions`: each design's only one."""
        for key, kind, _, name, _, _, tags, version, created_ms, _, _ in self.designs():
            yield key, version, name, tags, FORM, DOCUMENTS[str(kind)].decode(), created_ms

    def rooms(self) -> Iterator[WholeRoom]:
        """Rooms with a GM and some players; three in ten are public, one in fifty is deleted."""
        chance = self._chance("rooms")
        for number in range(self._amounts.rooms):
            room = self.key("room", number)
            name = f"The {chance.choice(MANNERS)} {chance.choice(PLACES)} {number}"
            public = chance.random() < 0.3
            deleted = "2024-01-01T00:00:00Z" if chance.random() < 0.02 else None
            tags = tags_of(chance)
            people = dict.fromkeys(
                self._somebody(chance) for _ in range(1 + int(6 * chance.random()))
            )
            members = [(self.key("user", one), f"Player {one}") for one in people]
            roles: list[Role] = ["gm", *(["player"] * (len(members) - 1))]  # type: ignore[list-item]  # mypy takes the inner list for one of str
            seats = [(user, role) for (user, _), role in zip(members, roles, strict=True)]
            visibility = "public" if public else "private"
            yield WholeRoom(
                StoredRoom(0, room, name, visibility, tags, deleted),
                blake2b(room.encode(), digest_size=8).hexdigest(),
                seats,
                self._log(room, name, visibility, tags, members),
            )

    def _log(
        self,
        room: str,
        name: str,
        visibility: str,
        tags: tuple[str, ...],
        members: list[tuple[str, str]],
    ) -> list[StoredRow]:
        gm, gm_name = members[0]
        at = "2024-01-01T00:00:00.000Z"
        scene = Scene(room, "First scene", 30.0, 20.0, Grid())
        events = [
            RoomCreated(
                *(gm, at, "made"),
                room=room,
                name=name,
                visibility="public" if visibility == "public" else "private",
                member_name=gm_name,
                scene=scene,
            ),
            *([RoomChanged(gm, at, "tagged", tags=tags)] if tags else []),
            *(
                MemberJoined(user, at, "joined", user=user, name=called, role="player")
                for user, called in members[1:]
            ),
        ]
        return [
            StoredRow(offset, codec.EVENT_FORM, codec.encode(event), None, None)
            for offset, event in enumerate(events, 1)
        ]


def tags_of(chance: random.Random) -> tuple[str, ...]:
    """Up to three tags, the first ones of the list more often."""
    picked = (TAGS[int(len(TAGS) * chance.random() ** 2)] for _ in range(int(4 * chance.random())))
    return tuple(dict.fromkeys(picked))


SYSTEM: Final = GameSystem(
    attributes=(
        Attribute(key="strength", name="Strength", default=10.0),
        Attribute(key="life", name="Life", kind="resource", default=12.0, minimum=0.0),
    ),
    macros=(Macro(key="attack", name="Attack", expression="1d20+4"),),
    sheets=(
        Sheet(
            name="Character",
            fields=(Field(attribute="strength", width=6), Field(macro="attack", width=6)),
        ),
    ),
)
LAYOUT: Final = Layout(
    settings=Settings(),
    active="hall",
    scenes=(Scene("hall", "Hall", 24.0, 16.0, Grid()),),
    tokens=(),
    walls=(),
    doors=(),
    lights=(),
    drawings=(),
)
DOCUMENTS: Final = {"system": codec.encode(SYSTEM), "template": codec.encode(LAYOUT)}
