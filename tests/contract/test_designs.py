"""What bounds systems and templates, and what caches know of them after trouble, on each engine."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tableforge.config import DatabaseKnobs
from tableforge.database import Database, DatabaseUnavailable, Statement
from tableforge.database.postgres import PostgresDatabase
from tableforge.database.sqlite import SqliteDatabase
from tableforge.domain.state import Visibility
from tableforge.errors import Conflict, NotFound, TooLarge
from tableforge.library.systems import (
    BYTES_AN_OWNER,
    VERSIONS_MAX,
    Design,
    Designs,
    Label,
    Revised,
)
from tests.local_cache import POLICIES, local_cache
from tests.unsure_database import Unsure

KEPT = Statement("test.bytes", "UPDATE designs SET bytes = ? WHERE id = ?")
NUMBERED = Statement("test.number", "UPDATE designs SET version = ? WHERE id = ?")
NUMBERED_VERSION = Statement(
    "test.number_version", "UPDATE design_versions SET version = ? WHERE design = ?"
)


@pytest.fixture(params=["sqlite", "postgres"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """One of each."""
    if request.param == "sqlite":
        async with SqliteDatabase(tmp_path) as embedded:
            yield embedded
        return
    url = request.getfixturevalue("database_url")
    async with PostgresDatabase(DatabaseKnobs(url=url, pool_min=0), "designs") as shared:
        await shared.started()
        yield shared


def label(name: str = "Sea", visibility: Visibility = "public") -> Label:
    return Label(name=name, visibility=visibility, tags=("sea",))


def to(label: Label, document: bytes) -> Revised:
    """What makes this the next version, whatever the newest one is."""

    async def revised(present: Design) -> tuple[Label, bytes]:
        return label, document

    return revised


async def test_lf9_the_versions_of_an_owner_together_are_bounded_in_bytes(
    database: Database,
) -> None:
    designs = Designs(database, local_cache(), POLICIES)
    first = await designs.add("system", "ada", label(), b"{}")
    document = b'"' + b"x" * 998 + b'"'
    await database.write(KEPT, BYTES_AN_OWNER - 1_500, first.id)
    tries = await asyncio.gather(
        designs.add("template", "ada", label(), document),
        designs.revise("system", first.id, "ada", to(label(), document)),
        return_exceptions=True,
    )
    refused = [one for one in tries if isinstance(one, TooLarge)]
    assert len(refused) == 1
    assert str(BYTES_AN_OWNER) in refused[0].why
    assert refused[0].mend
    for another in (
        designs.add("system", "ada", label(), document),
        designs.revise("system", first.id, "ada", to(label("Salt"), document)),
    ):
        with pytest.raises(TooLarge):
            await another
    await designs.add("system", "bo", label(), document)
    await designs.add("system", "ada", label(), b"{}")


async def test_lf9_what_equals_the_newest_version_makes_none(database: Database) -> None:
    designs = Designs(database, local_cache(), POLICIES)
    first = await designs.add("system", "ada", label(), b"{}")
    assert await designs.revise("system", first.id, "ada", to(label(), b"{}")) == (first, b"{}")
    hidden, _ = await designs.revise(
        "system", first.id, "ada", to(label(visibility="private"), b"{}")
    )
    assert (hidden.version, hidden.visibility) == (1, "private")
    assert await designs.find("system", first.id, "ada") == hidden
    renamed, _ = await designs.revise("system", first.id, "ada", to(label("Salt"), b"{}"))
    assert (renamed.version, renamed.name, renamed.visibility) == (2, "Salt", "public")


async def test_lf9_a_design_at_its_last_version_can_still_be_taken_back(
    database: Database,
) -> None:
    designs = Designs(database, local_cache(), POLICIES)
    first = await designs.add("system", "ada", label(), b"{}")
    await database.write_all(
        [(NUMBERED, (VERSIONS_MAX, first.id)), (NUMBERED_VERSION, (VERSIONS_MAX, first.id))]
    )
    await database.write(KEPT, BYTES_AN_OWNER, first.id)
    with pytest.raises(Conflict, match="not changed"):
        await designs.revise("system", first.id, "ada", to(label(), b"[]"))
    await designs.revise("system", first.id, "ada", to(label(visibility="private"), b"{}"))
    with pytest.raises(NotFound):
        await designs.find("system", first.id, "bo")


async def test_lf4_what_is_answered_names_the_version_that_holds_it(database: Database) -> None:
    designs = Designs(database, local_cache(), POLICIES)
    first = await designs.add("system", "ada", label(), b"0")
    documents = [str(number).encode() for number in range(1, 6)]
    made = await asyncio.gather(
        *(
            designs.revise("system", first.id, "ada", to(label(document.decode()), document))
            for document in documents
        )
    )
    present = await designs.find("system", first.id, "ada")
    for document, (design, answered) in zip(documents, made, strict=True):
        kept = await designs.version(present, design.version)
        assert answered == document == kept.data
        assert (design.name, design.updated_ms) == (kept.name, kept.created_ms)


@pytest.mark.parametrize("how", ["lost", "left"])
async def test_cr7_lists_forget_what_may_have_changed(database: Database, how: str) -> None:
    unsure = Unsure(database)
    designs = Designs(unsure, local_cache(), POLICIES)

    async def shown() -> list[str]:
        page = await designs.listed("system", "stranger", limit=10)
        return [design.id for design in page.designs]

    first = await designs.add("system", "ada", label(), b"{}")
    assert await shown() == [first.id]
    hide = designs.revise("system", first.id, "ada", to(label(visibility="private"), b"[]"))
    if how == "lost":
        unsure.lost = True
        with pytest.raises(DatabaseUnavailable):
            await hide
    else:
        unsure.committed = asyncio.Event()
        waiting = asyncio.create_task(hide)
        await unsure.committed.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert await shown() == []
    unsure.answering.set()
