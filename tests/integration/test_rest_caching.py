"""The operator's orders to the cache, on both engines (rules CA10 and CA12 of `docs/spec.md`)."""

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tableforge.ops.servers import PostgresServer, RedisServer
from tests.fleet import ADMIN_TOKEN, fleet
from tests.server_process import Person, ServerProcess, running
from tests.services import REDIS_DATABASES, run_sql

ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}
REGIONS = [
    "user_sessions",
    "room_states",
    "asset_metadata",
    "game_system_templates",
    "query_results",
]
"""Those of the contract."""
ORDERS = ["cache/clear", "cache/warm", "cache/rebuild", "cache/emergency-mode", "optimize/cache"]
DEADLINE = 30.0


DATABASE = "test_rest_caching"


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def engine(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    postgres: PostgresServer,
    redis: RedisServer,
) -> Iterator[ServerProcess]:
    """A server on SQLite, or one instance of a fleet on PostgreSQL and Redis, for the tests of this module."""
    folder = tmp_path_factory.mktemp("server")
    if request.param == "sqlite":
        with running(folder, ADMIN_TOKEN=ADMIN_TOKEN, LIMIT_SESSIONS="0") as server:
            yield server
        return
    number = REDIS_DATABASES - 1
    run_sql(postgres.url, f"CREATE DATABASE {DATABASE}")
    try:
        url, numbers = redis.url_of(number), {"REDIS_PUB_SUB_DB": str(number)}
        with fleet(folder, postgres.url_of(DATABASE), url, 1, **numbers) as made:
            yield made.instances[0]
    finally:
        run_sql(postgres.url, f"DROP DATABASE {DATABASE} WITH (FORCE)")


def order(server: ServerProcess, path: str, **body: object) -> list[dict[str, Any]]:
    """Send an order; what was done."""
    answer = httpx.post(
        f"{server.url}/api/admin/{path}", headers=ADMIN, json=body or None, timeout=60
    )
    assert answer.status_code == 200, answer.text
    actions: list[dict[str, Any]] = answer.json()["actions"]
    for action in actions:
        assert action.keys() == {"action", "before", "after", "verdict", "reason"}
        assert action["verdict"] in {"done", "skipped"}, action
        assert action["verdict"] != "skipped" or action["reason"], action
    return actions


def stats(server: ServerProcess) -> dict[str, Any]:
    answer = httpx.get(f"{server.url}/api/admin/cache/stats", headers=ADMIN, timeout=30)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def history(server: ServerProcess, kind: str) -> list[dict[str, Any]]:
    """Runs of a kind that are over, the newest first."""
    answer = httpx.get(f"{server.url}/api/admin/optimize/history", headers=ADMIN, timeout=30)
    assert answer.status_code == 200, answer.text
    return [one for one in answer.json()["runs"] if one["kind"] == kind and one["ended"]]


def level(server: ServerProcess, region: str, name: str = "local") -> dict[str, Any]:
    one: dict[str, Any]
    (one,) = (
        one for one in stats(server)["levels"] if (one["level"], one["region"]) == (name, region)
    )
    return one


def rooms(server: ServerProcess, person: Person) -> list[str]:
    headers = {"authorization": f"Bearer {person.token}"}
    answer = httpx.get(f"{server.url}/api/rooms", headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    return [one["name"] for one in answer.json()["rooms"]]


def test_ca12_only_the_operator_orders_and_only_what_makes_sense(engine: ServerProcess) -> None:
    person = Person(engine, "Ada")
    for headers, status in (
        ({}, 401),
        ({"authorization": "Bearer nobody"}, 401),
        ({"authorization": f"Bearer {person.token}"}, 403),
    ):
        answers = [httpx.get(f"{engine.url}/api/admin/cache/stats", headers=headers)]
        answers += [
            httpx.post(f"{engine.url}/api/admin/{path}", headers=headers) for path in ORDERS
        ]
        for refused in answers:
            assert refused.status_code == status, refused.text
            assert refused.headers["content-type"] == "application/problem+json"
    for path, body in (
        *((path, b"{") for path in ORDERS),
        *((path, b"[]") for path in ORDERS),
        *((path, b'{"surprise": 1}') for path in ORDERS),
        ("cache/clear", b'{"region": "nowhere"}'),
        ("cache/clear", b'{"region": 1}'),
        ("cache/clear", b'{"key": "k"}'),
        ("cache/clear", b'{"region": "%b"}' % (b"x" * 200_000)),
        ("cache/clear", b'{"region": "query_results", "key": "%b"}' % (b"x" * 200_000)),
        ("cache/emergency-mode", b'{"enabled": "yes"}'),
        ("cache/emergency-mode", b'{"minutes": 0}'),
        ("cache/emergency-mode", b'{"minutes": -1}'),
        ("cache/emergency-mode", b'{"minutes": 1e9}'),
        ("cache/emergency-mode", b'{"minutes": "30"}'),
    ):
        answer = httpx.post(f"{engine.url}/api/admin/{path}", headers=ADMIN, content=body)
        assert answer.status_code == 400, (path, body, answer.text)
        assert len(answer.content) < 1_000, "it says what is wrong, and not all that it was sent"
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "malformed"
    assert stats(engine)["emergency"] == {"enabled": False, "until": None}


def test_ca12_the_figures_tell_of_every_region_what_was_found_and_missed(
    engine: ServerProcess,
) -> None:
    person = Person(engine, "Ada")
    person.create_room("The Salt Road")
    for _ in range(10):
        assert rooms(engine, person) == ["The Salt Road"]
    found = stats(engine)
    local = {one["region"]: one for one in found["levels"] if one["level"] == "local"}
    assert local.keys() >= set(REGIONS)
    listed = local["query_results"]
    assert listed["hits"] > listed["misses"] > 0
    assert listed["ratio"] == pytest.approx(
        listed["hits"] / (listed["hits"] + listed["misses"]), abs=1e-3
    )
    assert listed["entries"] > 0
    assert listed["bytes"] > 0
    assert listed["loads"] > 0
    assert 0 < listed["load_p50_ms"] <= listed["load_p95_ms"] <= listed["load_p99_ms"]
    assert {one["region"] for one in found["what_if"]} == local.keys()
    text = httpx.get(f"{engine.url}/metrics").text
    assert (
        f'cache_hits_total{{level="local",region="query_results"}} {float(listed["hits"])}' in text
    )


def test_ca12_clearing_forgets_a_key_a_region_or_all(engine: ServerProcess) -> None:
    person = Person(engine, "Ada")
    person.create_room("The Salt Road")
    for body in ({"region": "query_results", "key": "any"}, {"region": "query_results"}, {}):
        rooms(engine, person)
        loads = level(engine, "query_results")["loads"]
        held = level(engine, "query_results")["entries"]
        assert held > 0
        actions = order(engine, "cache/clear", **body)
        assert all(action["verdict"] == "done" for action in actions)
        if "key" in body:
            (junk,) = actions
            assert junk["after"] == "was not in memory here"
            assert junk["reason"] == (
                "It was not in memory here; where others had it, it is forgotten."
            )
        assert level(engine, "query_results")["entries"] == (held if "key" in body else 0)
        assert rooms(engine, person) == ["The Salt Road"]
        assert (level(engine, "query_results")["loads"] > loads) is ("key" not in body)
    assert [one["action"] for one in order(engine, "cache/clear")][:5] == [
        f"clear {region}" for region in REGIONS
    ]


def test_ca12_warming_and_rebuilding_read_what_was_in_use(engine: ServerProcess) -> None:
    person = Person(engine, "Ada")
    for name in ("The Salt Road", "The Inn"):
        person.create_room(name)
    engine.stop()
    engine.start()
    (warmed, pictures) = order(engine, "cache/warm")
    assert (warmed["action"], warmed["before"]) == ("warm rooms", "0 in memory")
    held = int(warmed["after"].partition(" ")[0])
    assert held >= 2
    assert warmed["after"] == f"{held} in memory, {held} looked at"
    assert pictures["after"] == "what is known of 0 of them was read"
    rebuilt = order(engine, "cache/rebuild")
    assert [one["action"] for one in rebuilt[:5]] == [f"clear {region}" for region in REGIONS]
    assert rebuilt[-2]["after"] == warmed["after"]


def test_ca10_emergency_mode_is_begun_and_ended(engine: ServerProcess) -> None:
    person = Person(engine, "Ada")
    person.create_room("The Salt Road")
    (begun,) = order(engine, "cache/emergency-mode")
    assert (begun["before"], begun["verdict"], begun["reason"]) == ("off", "done", "")
    state = stats(engine)["emergency"]
    assert state["enabled"] is True
    assert begun["after"] == f"on until {state['until']}"
    (longer,) = order(engine, "cache/emergency-mode", enabled=True, minutes=60)
    assert stats(engine)["emergency"]["until"] > state["until"]
    assert longer["before"] == begun["after"]
    shared = [one for one in stats(engine)["levels"] if one["level"] == "shared"]
    assert rooms(engine, person) == ["The Salt Road"]
    person.create_room("The Inn")
    assert set(rooms(engine, person)) == {"The Salt Road", "The Inn"}, "what changed is seen"
    headers = {"authorization": f"Bearer {person.token}"}
    assert httpx.delete(f"{engine.url}/api/session", headers=headers).status_code < 300
    assert httpx.get(f"{engine.url}/api/session", headers=headers).status_code == 401
    after = [one for one in stats(engine)["levels"] if one["level"] == "shared"]
    for before, now in zip(shared, after, strict=True):
        assert before["hits"] + before["misses"] == now["hits"] + now["misses"], "it is not asked"
    (ended,) = order(engine, "cache/emergency-mode", enabled=False)
    assert (ended["after"], ended["verdict"]) == ("off", "done")
    (again,) = order(engine, "cache/emergency-mode", enabled=False)
    assert again["verdict"] == "skipped"
    told = history(engine, "emergency-mode")[:4]
    assert [one["actions"] for one in told] == [[again], [ended], [longer], [begun]]


def test_ca10_emergency_mode_outlives_a_restart_and_ends_by_itself(engine: ServerProcess) -> None:
    order(engine, "cache/emergency-mode", minutes=30)
    engine.stop()
    engine.start()
    deadline = time.monotonic() + DEADLINE
    while not stats(engine)["emergency"]["enabled"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    order(engine, "cache/emergency-mode", minutes=0.01)
    while stats(engine)["emergency"]["enabled"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_ca12_optimising_tells_what_it_did_and_why_not(engine: ServerProcess) -> None:
    person = Person(engine, "Ada")
    person.create_room("The Salt Road")
    rooms(engine, person)
    actions = order(engine, "optimize/cache")
    assert actions[0]["action"] == "drop what is over"
    advised = {one["action"]: one for one in actions if one["action"].startswith("size of ")}
    assert advised.keys() >= {f"size of {region} in memory" for region in REGIONS}
    for one in advised.values():
        assert one["verdict"] == "skipped"
        assert "sampled" in one["reason"]
    runs = [one for one in actions if "in Redis" in one["action"]]
    assert all(one["reason"] == "It is within its bound." for one in runs)
