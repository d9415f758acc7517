"""The care of the database as the operator meets it (rules MC2, MC7 and MC15 of `docs/spec.md`), on real servers."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fleet import ADMIN_TOKEN, fleet
from tests.server_process import Person, ServerProcess, running
from tests.services import run_sql

ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}
OPTIMIZE = "/api/admin/optimize/database"
ASKED = (
    "/api/admin/database/advice",
    "/api/admin/optimize/schedules",
    "/api/admin/optimize/history",
)


def ask(server: ServerProcess, path: str) -> Any:
    """What the operator is answered."""
    answer = httpx.get(f"{server.url}{path}", headers=ADMIN, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def order(server: ServerProcess, body: Any = None) -> dict[str, dict[str, str]]:
    """What an order led to, by its action."""
    answer = httpx.post(f"{server.url}{OPTIMIZE}", headers=ADMIN, json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    actions = answer.json()["actions"]
    assert all(one.keys() == {"action", "before", "after", "verdict", "reason"} for one in actions)
    return {one["action"]: one for one in actions}


def plant_assets(write: Any) -> None:
    """Many pictures, and no index for those of a room or a user."""
    numbers = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)"
    write(
        f"{numbers} INSERT INTO assets (id, digest, kind, width, height, bytes, uploader, room, name, search, tags,"  # noqa: S608 - constants
        " created_ms) SELECT 'a' || i, 'd' || i, 'image', 1, 1, 1, 'u' || (i % 1000), NULL, 'n', 'n', '[]', i FROM n"
    )


def test_mc15_only_the_operator_asks_and_orders_and_says_it_right(tmp_path: Path) -> None:
    with running(tmp_path, ADMIN_TOKEN=ADMIN_TOKEN, INSTANCE_ID="one") as server:
        player = Person(server, "Ada")
        for method, path in (("POST", OPTIMIZE), *(("GET", path) for path in ASKED)):
            for headers, status in (
                ({}, 401),
                ({"authorization": "Bearer nobody"}, 401),
                ({"authorization": f"Bearer {player.token}"}, 403),
            ):
                refused = httpx.request(method, f"{server.url}{path}", headers=headers, timeout=30)
                assert refused.status_code == status
                assert refused.headers["content-type"] == "application/problem+json"
                if headers and status == 401:
                    assert "ADMIN_TOKEN" in refused.json()["detail"]
                    assert "recovery code" not in refused.text
        for body in (
            "no json",
            "[]",
            '{"indexes": []}',
            '{"index": {"table": "assets"}}',
            '{"index": {"table": "assets", "columns": []}}',
            '{"index": {"table": "assets; DROP TABLE assets", "columns": ["id"]}}',
            '{"index": {"table": "assets\\n", "columns": ["id"]}}',
        ):
            wrong = httpx.post(f"{server.url}{OPTIMIZE}", headers=ADMIN, content=body, timeout=30)
            assert (wrong.status_code, wrong.json()["code"]) == (400, "malformed"), body
        limit = httpx.get(f"{server.url}{ASKED[2]}?limit=0", headers=ADMIN, timeout=30)
        assert (limit.status_code, limit.json()["code"]) == (400, "malformed")
        assert ask(server, ASKED[2]) == {"runs": [], "ledger": []}


def test_mc15_a_wrong_token_is_told_where_the_right_one_lies(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        wrong = {"authorization": "Bearer nobody"}
        refused = httpx.post(f"{server.url}{OPTIMIZE}", headers=wrong, timeout=30)
        assert refused.status_code == 401
        assert "`admin-token`" in refused.json()["mend"]
        assert (tmp_path / "data" / "admin-token").exists()


def test_mc15_what_was_ordered_stands_in_the_history_and_what_comes_in_the_schedules(
    tmp_path: Path,
) -> None:
    with running(
        tmp_path,
        ADMIN_TOKEN=ADMIN_TOKEN,
        MAINTENANCE_SCHEDULE="30 4 * * 1",
        SCHEDULE_TIMEZONE="Asia/Tokyo",
    ) as server:
        (schedule,) = ask(server, ASKED[1])["schedules"]
        assert schedule["kind"] == "maintenance"
        assert (schedule["schedule"], schedule["timezone"]) == ("30 4 * * 1", "Asia/Tokyo")
        assert schedule["last"] is None, "nothing was begun yet"
        assert len(schedule["next"]) == 5
        assert all(one.endswith("T19:30:00.000Z") for one in schedule["next"])
        cards = ask(server, ASKED[0])["cards"]
        assert {one["state"] for one in cards} <= {"good", "attend"}
        (statistics,) = [one["says"] for one in cards if one["name"] == "statistics"]
        assert statistics.startswith("No table was analyzed yet")
        done = order(server)
        renewed = done["PRAGMA optimize"]
        assert (renewed["verdict"] == "done") == renewed["after"].startswith("ANALYZE"), renewed
        for one in done.values():
            assert (one["verdict"] == "done" and one["before"] != one["after"]) or (
                one["verdict"] == "skipped" and one["reason"]
            ), one
        history = ask(server, ASKED[2])
        (run,) = history["runs"]
        assert run["kind"] == "optimize-database"
        assert run["ended"] is not None
        assert {one["action"] for one in run["actions"]} == done.keys()


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_mc2_the_operator_mends_what_real_play_lacks(
    engine: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("database_url") if engine == "postgres" else ""
    chosen = {"DATABASE_URL": url} if url else {}
    with running(tmp_path, ADMIN_TOKEN=ADMIN_TOKEN, **chosen) as server:

        def write(*texts: str) -> None:
            if url:
                run_sql(url, *texts)
                return
            path = tmp_path / "data" / "tableforge.sqlite3"
            with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as connection:
                for text in texts:
                    connection.execute(text)

        person = Person(server, "Ada")
        plant_assets(write)
        write("DROP INDEX assets_uploader", "ANALYZE")
        for _ in range(3):
            assert person.http.get("/api/assets").status_code == 200
        cards = {one["name"]: one for one in ask(server, ASKED[0])["cards"]}
        (lacking,) = [
            one for one in cards["missing indexes"]["findings"] if "uploader" in one["mend"]
        ]
        assert lacking["safe"]
        made = order(server)[lacking["mend"]]
        assert made["verdict"] == "done", made["reason"]
        (entry,) = ask(server, ASKED[2])["ledger"]
        assert (entry["change"], entry["verdict"]) == (lacking["mend"], "done")
        assert 0 < entry["after_ms"] < entry["before_ms"]
        assert entry["before_ms"] == round(entry["before_ms"], 3)
        assert made["before"].startswith("median ")
        assert "median" in made["reason"]
        useless = order(server, {"index": {"table": "assets", "columns": ["width"]}})
        (verdict,) = [one["verdict"] for one in useless.values()]
        assert verdict == "reverted"
        assert [one["verdict"] for one in ask(server, ASKED[2])["ledger"]] == ["reverted", "done"]


async def test_mc7_an_order_to_any_instance_and_every_instance_knows_of_it(
    tmp_path: Path, database_url: str, redis_url: str, redis_db: int
) -> None:
    with fleet(tmp_path, database_url, redis_url, 2, REDIS_PUB_SUB_DB=str(redis_db)) as made:
        first, second = made.instances
        answers = await asyncio.gather(*(asyncio.to_thread(order, one) for one in (first, second)))
        verdicts = [set(one) for one in answers]
        assert any("look for missing indexes" in one for one in verdicts)
        history = await asyncio.to_thread(ask, first, ASKED[2])
        assert len(history["runs"]) == 2
        assert history == await asyncio.to_thread(ask, second, ASKED[2])
        assert {one["instance"] for one in history["runs"]} == {"i1", "i2"}
