"""Lists and searches find what a naive filter finds, on each engine (rules LF of `docs/spec.md`)."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tableforge.config import DatabaseKnobs
from tableforge.database import Database, Statement, finding
from tableforge.database.finding import Found, Listing, listing, page
from tableforge.database.postgres import PostgresDatabase
from tableforge.database.sqlite import SqliteDatabase
from tableforge.errors import NotFound
from tableforge.eventlog import EventLog, Facts
from tableforge.eventlog.postgres import PostgresEventLog
from tableforge.eventlog.sqlite import SqliteEventLog
from tableforge.library.systems import Design, Designs, Label
from tests.contract.eventlog_contract import Writer
from tests.local_cache import POLICIES, local_cache

LETTERS = st.text("abA'\"\\%_ é漢", max_size=8)
TAGS = st.lists(st.text("ab\"\\'é漢 ", min_size=1, max_size=3), max_size=3, unique=True)
OWNERS = st.sampled_from(("ada", "bo"))
VISIBILITIES = st.sampled_from(("private", "public"))
EVERYTHING = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
ENGINES = ("sqlite", "postgres")


@pytest.fixture
async def database(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[SqliteDatabase | PostgresDatabase]:
    """The engine that the test is run on."""
    if request.param == "sqlite":
        async with SqliteDatabase(tmp_path) as embedded:
            yield embedded
        return
    url = request.getfixturevalue("database_url")
    async with PostgresDatabase(DatabaseKnobs(url=url, pool_min=0), "finding") as shared:
        await shared.started()
        yield shared


@pytest.fixture
async def log(database: SqliteDatabase | PostgresDatabase) -> AsyncIterator[EventLog]:
    """A log on the same database."""
    if isinstance(database, SqliteDatabase):
        yield SqliteEventLog(database, commit_interval=0)
    else:
        shared = PostgresEventLog(database, commit_interval=0)
        yield shared
        await shared.close()


@pytest.fixture(params=[(2_000, 2_000), (3, 4)], ids=["as served", "bounds reached"])
def bounds(request: pytest.FixtureRequest) -> tuple[int, int]:
    """How many rows a page may look at and how many candidates count: as served, and so few that all ways are gone."""
    walked, candidates = request.param
    return walked, candidates


def bounded(listed: Listing, bounds: tuple[int, int]) -> Listing:
    """The same statements within other bounds."""

    def within(statement: Statement, old: int, new: int) -> Statement:
        assert statement.postgres is None or str(old) in statement.postgres
        return statement._replace(
            sql=statement.sql.replace(str(old), str(new)),
            postgres=statement.postgres and statement.postgres.replace(str(old), str(new)),
        )

    return Listing(
        within(listed.walk, finding.WALKED, bounds[0]),
        within(listed.search, finding.CANDIDATES, bounds[1]),
    )


async def all_pages(
    database: Database, listed: Listing, owner: str, part: str, tag: str, limit: int
) -> list[str]:
    """The ids on all pages, in their order."""
    found: list[str] = []
    moment, behind = 2**62, ""
    while True:
        here: Found = await page(
            *(database.read, listed, owner, part, tag, moment, behind),
            limit=limit,
            part=part,
            tag=tag,
        )
        assert len(here.rows) <= limit
        found += [row[0] for row in here.rows]
        if here.last is None:
            return found
        behind, moment, _ = here.last


EMPTY = Statement("test.empty", "DELETE FROM assets")
ADD = Statement(
    "test.add_asset",
    "INSERT INTO assets (id, digest, kind, width, height, bytes, uploader, room, name, search, tags, created_ms)"
    " VALUES (?, 'd', 'k', 1, 1, 1, ?, NULL, '', ?, ?, ?)",
)
SHORT = listing(
    "test.of_user",
    "assets",
    "id, created_ms, tags",
    keys=("uploader",),
    owner="'@' || ?1",
    terms="asset_terms(uploader, room, tags, search)",
)


@pytest.mark.parametrize("database", ENGINES, indirect=True)
@EVERYTHING
@given(
    rows=st.lists(st.tuples(OWNERS, LETTERS, TAGS, st.integers(0, 3)), max_size=14),
    asked=st.lists(
        st.tuples(OWNERS, LETTERS.map(lambda text: text[:4]), TAGS, st.integers(1, 5)),
        min_size=1,
        max_size=4,
    ),
)
async def test_lf1_pages_together_hold_what_a_naive_filter_finds(
    database: Database,
    bounds: tuple[int, int],
    rows: list[tuple[str, str, list[str], int]],
    asked: list[tuple[str, str, list[str], int]],
) -> None:

    listed = bounded(SHORT, bounds)
    await database.write(EMPTY)
    steps = [
        (ADD, (f"{number:03}", owner, name.casefold(), json.dumps(tags, ensure_ascii=False), at))
        for number, (owner, name, tags, at) in enumerate(rows)
    ]
    if steps:
        await database.write_all(steps)
    for owner, part, tags, limit in asked:
        for tag in ("", *tags):
            wanted = part.casefold()
            naive = sorted(
                (
                    (at, f"{number:03}")
                    for number, (whose, name, has, at) in enumerate(rows)
                    if whose == owner and wanted in name.casefold() and (not tag or tag in has)
                ),
                reverse=True,
            )
            found = await all_pages(database, listed, owner, wanted, tag, limit)
            assert found == [key for _, key in naive]


@pytest.mark.parametrize("database", ENGINES, indirect=True)
async def test_lf2_pages_stay_as_they_are_while_rows_are_added(
    database: Database, bounds: tuple[int, int]
) -> None:
    listed = bounded(SHORT, bounds)

    async def add(at: int) -> None:
        await database.write(ADD, f"{at:03}", "ada", "goblin", "[]", at)

    for at in range(10):
        await add(at)
    found: list[str] = []
    last: tuple[object, ...] = ("", 2**62, "")
    added = 10
    while True:
        here = await page(
            *(database.read, listed, "ada", "gob", "", last[1], last[0]),
            limit=3,
            part="gob",
            tag="",
        )
        found += [row[0] for row in here.rows]
        await add(added)
        added += 1
        if here.last is None:
            break
        last = here.last
    assert found == [f"{at:03}" for at in range(9, -1, -1)]


ROOM_NAMES = st.text("abAB'\"\\%_ é漢", min_size=1, max_size=8)


@pytest.mark.parametrize("database", ENGINES, indirect=True)
@settings(EVERYTHING, max_examples=4)
@given(
    rooms=st.lists(
        st.tuples(ROOM_NAMES, VISIBILITIES, TAGS, st.booleans(), st.booleans()),
        max_size=10,
    ),
    part=st.one_of(st.just(""), ROOM_NAMES.map(lambda text: text[:3])),
    limit=st.integers(1, 4),
)
async def test_lf1_rooms_are_found_as_a_naive_filter_finds_them(
    log: EventLog,
    rooms: list[tuple[str, str, list[str], bool, bool]],
    part: str,
    limit: int,
) -> None:
    life = secrets.token_hex(4)
    me, gm = f"ada {life}", f"gm {life}"
    writer = Writer(log)
    mark = f"life-{life}"
    for number, (name, visibility, tags, seated, _) in enumerate(rooms):
        seats = [(gm, "gm"), *([(me, "player")] if seated else [])]
        facts = Facts(name, visibility, (mark, *tags), tuple(seats))  # type: ignore[arg-type]  # of the strategies
        await writer.open(f"{life}{number}", facts)
    for number, (*_, deleted) in enumerate(rooms):
        if deleted:
            await log.delete(f"{life}{number}", at="2026-01-01T00:00:00Z")

    async def found(tag: str, *, public: bool) -> list[str]:
        gathered: list[str] = []
        before: int | None = None
        while True:
            here = await log.list_rooms(
                user=me, public=public, query=part, tag=tag, before=before, limit=limit
            )
            gathered += [row.id for row in here.rows]
            if here.next is None:
                return gathered
            before = here.next

    def folded(text: str) -> str:
        return "".join(sign.lower() if sign.isascii() else sign for sign in text)

    for tag in (mark, *{tag for *_, tags, _, _ in rooms for tag in tags}):
        for public in (False, True):
            naive = [
                f"{life}{number}"
                for number, (name, visibility, tags, seated, deleted) in enumerate(rooms)
                if not deleted
                and (visibility == "public" and not seated if public else seated)
                and folded(part) in folded(name)
                and tag in {mark, *tags}
            ]
            ours = [room for room in await found(tag, public=public) if room.startswith(life)]
            assert ours == naive[::-1]


@pytest.mark.parametrize("database", ENGINES, indirect=True)
async def test_lf3_designs_are_listed_own_first_then_public_each_once(database: Database) -> None:
    moments = iter(range(1_000))
    designs = Designs(database, local_cache(), POLICIES, clock=lambda: next(moments))
    made: dict[str, list[str]] = {"ada": [], "bo": []}
    for number in range(9):
        owner = "ada" if number % 3 else "bo"
        visibility = "public" if number % 2 else "private"
        label = Label(name=f"Sea {number}", visibility=visibility, tags=("sea",))  # type: ignore[arg-type]  # one of both
        design = await designs.add("system", owner, label, b"{}")
        made[owner].append(design.id)
    hidden = await designs.add(
        "template", "ada", Label(name="Sea", visibility="private", tags=()), b"{}"
    )
    for limit in range(1, 11):
        found: list[str] = []
        cursor = ""
        while True:
            here = await designs.listed(
                "system", "ada", text="SEA", tag="Sea", limit=limit, cursor=cursor
            )
            assert len(here.designs) <= limit
            found += [design.id for design in here.designs]
            if here.next is None:
                break
            cursor = here.next
        assert found == [*made["ada"][::-1], made["bo"][1]]
    with pytest.raises(NotFound):
        await designs.find("template", hidden.id, "bo")
    with pytest.raises(NotFound):
        await designs.find("system", hidden.id, "ada")


@pytest.mark.parametrize("database", ENGINES, indirect=True)
async def test_lf4_versions_made_at_once_are_each_kept(database: Database) -> None:
    designs = Designs(database, local_cache(), POLICIES)
    first = await designs.add(
        "system", "ada", Label(name="Sea ", visibility="public", tags=("sea",)), b"0"
    )

    async def revise(number: int) -> tuple[Design, bytes]:
        async def revised(present: Design) -> tuple[Label, bytes]:
            before = await designs.version(present, present.version)
            name = f"{present.name}{number}"
            label = Label(name=name, visibility=present.visibility, tags=present.tags)
            return label, before.data + str(number).encode()

        return await designs.revise("system", first.id, "ada", revised)

    made = await asyncio.gather(*(revise(number) for number in range(1, 6)))
    present = await designs.find("system", first.id, "ada")
    assert present.version == 6
    assert present in [design for design, _ in made]
    assert sorted(design.version for design, _ in made) == [2, 3, 4, 5, 6]
    versions = [await designs.version(present, number) for number in range(1, 7)]
    newest = versions[-1].data.decode()
    assert sorted(newest) == ["0", "1", "2", "3", "4", "5"]
    for number, version in enumerate(versions, start=1):
        assert version.data.decode() == newest[:number]
        assert (version.name, version.tags) == (f"Sea {newest[1:number]}", ("sea",))
    with pytest.raises(NotFound):
        await designs.version(present, 7)
