"""The rights that docs/fleet.md gives the role that serves: enough for all that a server does, and not more."""

import asyncio
import importlib
import pkgutil
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import asyncpg
import httpx
import pytest

from tableforge import library
from tableforge.config import load
from tableforge.database import Statement
from tableforge.database.migrations import scripts
from tableforge.database.postgres import text_of
from tableforge.eventlog import batch
from tableforge.eventlog import postgres as log
from tableforge.ops.fleet_doctor import RIGHTS, examine_fleet
from tableforge.ops.servers import PostgresServer
from tests.command import tableforge
from tests.server_process import Person, running
from tests.services import run_sql

ROOT = Path(__file__).parent.parent.parent
PICTURE = ROOT / "tests/samples/good/talkative.png"
TOKEN = "0123456789abcdef0123456789abcdef"
BATCHES = (
    batch.APPEND,
    batch.APPEND_TO_ONE,
    batch.APPEND_EVENT,
    batch.APPEND_WITH_FACTS,
    batch.STANDINGS,
    batch.KEYS,
)


NOT_BY_DEFAULT = (log.TAKE_EVENTS, log.TAKE_SNAPSHOTS)
"""What takes old history away needs another right, of which docs/database-care.md and the refusal tell (HI8)."""


class Granted(NamedTuple):
    """The addresses of a database set up as the page says, for its owner and for who serves."""

    owner: str
    serving: str


def documented(name: str) -> list[list[str]]:
    """The statements of each SQL block of the page, for a database and roles of this name."""
    page = (ROOT / "docs/fleet.md").read_text("utf-8")
    blocks = re.findall(r"^```sql\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    return [
        [one.strip() for one in re.sub(r"\btableforge", name, block).split(";") if one.strip()]
        for block in blocks
    ]


@pytest.fixture
def granted(postgres: PostgresServer, tmp_path: Path) -> Iterator[Granted]:
    name = f"granted_{secrets.token_hex(4)}"
    making, granting = documented(name)
    place = f"127.0.0.1:{postgres.port}/{name}"
    found = Granted(f"postgresql://{name}_owner@{place}", f"postgresql://{name}@{place}")
    try:
        run_sql(postgres.url, *making)
        tables = tableforge("migrate", "--schema-only", "--to", found.owner, folder=tmp_path)
        assert tables.returncode == 0, tables.stderr
        run_sql(found.owner, *granting)
        yield found
    finally:
        run_sql(
            postgres.url,
            f"DROP DATABASE IF EXISTS {name} WITH (FORCE)",
            f"DROP ROLE IF EXISTS {name}",
            f"DROP ROLE IF EXISTS {name}_owner",
        )


def statements() -> Iterator[str]:
    """Every text that a server sends to a fleet's database."""
    found = [
        importlib.import_module(f"{library.__name__}.{one.name}")
        for one in pkgutil.iter_modules(library.__path__)
    ]
    for module in (*found, log):
        for known in vars(module).values():
            if isinstance(known, Statement) and known not in NOT_BY_DEFAULT:
                yield text_of(known)
    yield from BATCHES


async def refused(url: str, texts: list[str]) -> list[str]:
    """Which of these texts this user may not run; none is run, but rights are asked as if."""
    lacking = []
    connection = await asyncpg.connect(url)
    try:
        for number, text in enumerate(texts):
            wanted = max(map(int, re.findall(r"\$(\d+)", text)), default=0)
            given = f"({', '.join(['NULL'] * wanted)})" if wanted else ""
            await connection.execute(f"PREPARE p{number} AS {text}")
            try:
                await connection.execute(f"EXPLAIN EXECUTE p{number}{given}")
            except asyncpg.InsufficientPrivilegeError as error:
                lacking.append(f"{error}: {text}")
    finally:
        await connection.close()
    return lacking


async def test_the_documented_rights_are_enough_for_every_statement(granted: Granted) -> None:
    texts = list(statements())
    assert len(texts) > 50
    assert await refused(granted.serving, texts) == []


def test_the_documented_rights_are_those_that_doctor_asks_for(granted: Granted) -> None:
    settings = load({"DATABASE_URL": granted.serving, "ADMIN_TOKEN": TOKEN}, None)
    found = asyncio.run(examine_fleet(settings))
    assert [one.level for one in found if one.name in {"form", "rights"}] == ["ok", "ok"], found
    made = {
        name
        for script in scripts("postgres")
        for name in re.findall(r"^CREATE TABLE (\w+)", script.text, re.MULTILINE)
    }
    assert made | {"schema_form"} == RIGHTS.keys()


async def test_whoever_serves_may_not_rewrite_the_log_nor_change_tables(granted: Granted) -> None:
    connection = await asyncpg.connect(granted.serving)
    try:
        for text in (
            "UPDATE events SET data = ''",
            "DELETE FROM events",
            "TRUNCATE events",
            "ALTER TABLE events ADD COLUMN more text",
            "DROP TABLE notices",
            "CREATE TABLE mine (a text)",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(text)
    finally:
        await connection.close()


def test_a_server_serves_with_the_documented_rights(granted: Granted, tmp_path: Path) -> None:
    with running(
        tmp_path / "server",
        DATABASE_URL=granted.serving,
        ADMIN_TOKEN=TOKEN,
        SNAPSHOT_EVERY_EVENTS="1",
    ) as server:
        mara, bo = Person(server, "Mara"), Person(server, "Bo")
        room, invite = mara.create_room()
        bo.join(room, invite)
        assert bo.command(room, "chat.say", text="hello").status_code == 200
        assert mara.command(room, "member.kick", user=bo.id).status_code == 200
        sent = mara.http.post(
            "/api/assets", files={"file": (PICTURE.name, PICTURE.read_bytes(), "image/png")}
        )
        assert sent.status_code == 201, sent.text
        assert mara.http.get(f"/api/assets/{sent.json()['id']}").status_code == 200
        assert mara.http.post("/api/session/recovery").status_code == 201
        assert mara.http.patch("/api/session", json={"name": "Maren"}).status_code == 200
        assert mara.http.delete(f"/api/rooms/{room}").status_code == 204
        assert bo.http.delete("/api/session").status_code == 204
        listed = httpx.get(
            f"{server.url}/api/admin/instances", headers={"authorization": f"Bearer {TOKEN}"}
        )
        assert listed.status_code == 200
        assert server.stop() == 0
        assert "warning" not in server.output().lower(), server.output()
