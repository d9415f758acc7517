"""What the operator is told of the database, over HTTP and on both engines (rules DB16, DB18, DB20 and DB21)."""

import asyncio
import json
import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from tableforge.ops.servers import PostgresServer
from tests.fleet import ADMIN_TOKEN
from tests.server_process import Person, ServerProcess, running
from tests.services import run_sql

ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}
STATS = "/api/admin/database/stats"
SLOW = "/api/admin/database/slow-queries"
SECRET = "Hunter2TheValue"
DEADLINE = 30.0


@pytest.fixture(scope="module", params=["SQLite", "PostgreSQL"])
def serving(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """A server on each engine, to which every statement is slow and worth a line in the log."""
    settings = {
        "ADMIN_TOKEN": ADMIN_TOKEN,
        "INSTANCE_ID": "one",
        "DB_SLOW_QUERY_THRESHOLD": "0",
        "DB_QUERY_LOGGING": "true",
        "LOG_LEVEL": "debug",
    }
    folder = tmp_path_factory.mktemp("watched")
    if request.param == "SQLite":
        with running(folder, **settings) as server:
            yield server
        return
    postgres: PostgresServer = request.getfixturevalue("postgres")
    name = f"watched_{secrets.token_hex(4)}"
    run_sql(postgres.url, f"CREATE DATABASE {name}")
    with running(folder, DATABASE_URL=postgres.url_of(name), **settings) as server:
        yield server
    run_sql(postgres.url, f"DROP DATABASE {name} WITH (FORCE)")


def asked(server: ServerProcess, path: str, **query: str | int) -> dict[str, Any]:
    """What the operator is answered."""
    answer = httpx.get(f"{server.url}{path}", params=query, headers=ADMIN, timeout=30)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def pool_of(server: ServerProcess) -> dict[str, Any]:
    """What the operator is told of the pool."""
    pool: dict[str, Any] = asked(server, STATS)["pool"]
    return pool


def until(found: Callable[[], bool]) -> None:
    """Wait for something that comes by itself."""
    deadline = time.monotonic() + DEADLINE
    while not found():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


def test_db21_only_the_operator_is_answered_and_only_what_is_asked_well(
    serving: ServerProcess,
) -> None:
    ada = Person(serving, "Ada")
    for path in (STATS, SLOW):
        url = f"{serving.url}{path}"
        for headers, status in (
            ({}, 401),
            ({"authorization": "Bearer nobody"}, 401),
            ({"authorization": f"Bearer {ada.token}"}, 403),
        ):
            refused = httpx.get(url, headers=headers, timeout=30)
            assert refused.status_code == status
            assert refused.headers["content-type"] == "application/problem+json"
        for query in ({"limit": "0"}, {"limit": "501"}, {"limit": "many"}, {"order": "name"}):
            refused = httpx.get(url, params=query, headers=ADMIN, timeout=30)
            assert (refused.status_code, refused.json()["code"]) == (400, "malformed")
        assert httpx.post(url, headers=ADMIN, timeout=30).status_code == 405


def test_db17_db18_db20_what_was_played_shows_in_figures_and_plans_and_never_by_its_values(
    serving: ServerProcess,
) -> None:
    ada = Person(serving, f"A{SECRET}")
    room, _ = ada.create_room(f"R{SECRET}")
    said = ada.command(room, "chat.say", text=f"T{SECRET}")
    assert said.status_code == 200, said.text
    assert ada.http.get("/api/rooms", params={"q": f"R{SECRET}"}).status_code == 200
    ada.http.get("/api/assets", params={"q": SECRET})

    stats = asked(serving, STATS)
    names = {one["name"]: one for one in stats["statements"]}
    assert {"user.insert", "session.insert"} <= names.keys()
    assert any(name.startswith("log_append") for name in names)
    assert names["user.insert"]["count"] >= 1
    assert names["user.insert"]["rows"] >= 1
    assert stats["instance"] == "one"
    assert stats["latency"]["count"] >= sum(one["count"] for one in stats["statements"][:3])
    assert stats["pool"]["at_most"] >= stats["pool"]["reserve"] + 1
    for one in (stats["latency"], *stats["statements"]):
        assert one["p50_ms"] <= one["p95_ms"] <= one["p99_ms"] <= one["slowest_ms"], one
    for use in ("game", "background"):
        waits = stats["pool"][use]
        assert waits["p99_ms"] <= waits["longest_ms"], waits
    assert stats["server"]["version"]
    assert {one["name"] for one in stats["tables"]} >= {"events", "users", "rooms"}
    assert stats["size"]["database_bytes"] > 10_000
    assert len(asked(serving, STATS, limit=2)["statements"]) == 2
    assert ("activity" in stats["missing"]) is (stats["engine"] == "SQLite")

    def planned() -> bool:
        queries = asked(serving, SLOW, limit=500)["queries"]
        return any(one["name"].startswith("log_list") and one["plan"] for one in queries)

    until(planned)
    slow = asked(serving, SLOW, limit=500)
    assert slow["threshold_ms"] == 0
    one = next(one for one in slow["queries"] if one["name"] == "user.insert")
    assert one["statement"].startswith("INSERT INTO users")
    assert one["count"] >= one["slow_count"] >= 1
    assert one["p95_ms"] > 0
    kinds = [shape["type"] for shape in one["runs"][0]["parameters"]]
    assert kinds == ["text", "text", "integer"]
    assert one["runs"][0]["parameters"][1]["length"] == len(SECRET) + 1

    everything = json.dumps([asked(serving, STATS, limit=500), slow]) + serving.output()
    assert "user.insert" in serving.output()
    assert "slow statement" in serving.output()
    assert SECRET not in everything
    assert ada.token not in everything


def test_db16_lists_that_hold_the_pool_are_refused_and_the_game_goes_on(
    database_url: str, tmp_path: Path
) -> None:
    """Somebody locks the table that lists read; one list waits for it, the next ones are refused, and commands are saved."""

    async def play(server: ServerProcess) -> None:
        ada = await asyncio.to_thread(Person, server, "Ada")
        room, _ = await asyncio.to_thread(ada.create_room)
        locker = await asyncpg.connect(database_url)
        with ThreadPoolExecutor(8) as threads:
            try:
                await locker.execute("BEGIN; LOCK TABLE rooms IN ACCESS EXCLUSIVE MODE")
                held = threads.submit(ada.http.get, "/api/rooms", params={"q": "held"})
                async with asyncio.timeout(DEADLINE):
                    while not (await asyncio.to_thread(pool_of, server))["busy_in_background"]:  # noqa: ASYNC110 - only asking tells
                        await asyncio.sleep(0.05)
                lists = [
                    threads.submit(ada.http.get, "/api/rooms", params={"q": f"list {number}"})
                    for number in range(4)
                ]
                for number in range(5):
                    said = await asyncio.to_thread(
                        ada.command, room, "chat.say", text=f"still here {number}"
                    )
                    assert said.status_code == 200, said.text
                for one in lists:
                    refused = await asyncio.wrap_future(one)
                    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
                    assert int(refused.headers["retry-after"]) > 0
                    assert "lists and searches" in refused.json()["why"]
                assert (await asyncio.to_thread(pool_of, server))["refused"] == 4
                slow = await asyncio.to_thread(asked, server, SLOW)
                waiting = [one for one in slow["running"] if one["name"].startswith("log_list")]
                assert [one["wait"] for one in waiting] == ["Lock: relation"]
                assert len(waiting[0]["blockers"]) == 1
                await locker.execute("ROLLBACK")
                assert (await asyncio.wrap_future(held)).status_code == 200
            finally:
                locker.terminate()
        listed = await asyncio.to_thread(ada.http.get, "/api/rooms", params={"q": "again"})
        assert listed.status_code == 200

    with running(
        tmp_path,
        DATABASE_URL=database_url,
        ADMIN_TOKEN=ADMIN_TOKEN,
        DB_POOL_MIN="0",
        DB_POOL_MAX="4",
        DB_POOL_RESERVE="3",
        DB_POOL_WAIT="200",
        DB_CONNECTION_TIMEOUT="60000",
        DB_SLOW_QUERY_THRESHOLD="100",
        LIMIT_COMMANDS="0",
    ) as server:
        asyncio.run(play(server))
        metrics = httpx.get(f"{server.url}/metrics", timeout=30).text
        assert 'db_pool_connections{state="waiting"} 0.0' in metrics
        assert 'db_pool_wait_seconds_count{use="game"}' in metrics
        assert "db_pool_refused_total 4.0" in metrics
