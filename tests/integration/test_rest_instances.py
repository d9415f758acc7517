"""The operator's view of the instances, alone and in a fleet (rule RG8 of `docs/spec.md`)."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx

from tests.fleet import ADMIN_TOKEN, fleet
from tests.integration.raw_client import Raw, people
from tests.server_process import Person, ServerProcess, running

ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}


Listing = dict[str, dict[str, object]]


def listed(server: ServerProcess) -> Listing:
    """Every instance that this one knows, by id."""
    answer = httpx.get(f"{server.url}/api/admin/instances", headers=ADMIN, timeout=30)
    assert answer.status_code == 200, answer.text
    return {one["id"]: one for one in answer.json()["instances"]}


async def wait_for(server: ServerProcess, what: Callable[[Listing], bool]) -> None:
    """Return once this instance knows the others like this."""
    async with asyncio.timeout(30):
        while not what(await asyncio.to_thread(listed, server)):  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(0.1)


def drain(server: ServerProcess, name: str) -> dict[str, str]:
    """Have an instance drained; what came of it."""
    url = f"{server.url}/api/admin/instances/{name}/drain"
    answer = httpx.post(url, headers=ADMIN, timeout=30)
    assert answer.status_code == 200, answer.text
    (action,) = answer.json()["actions"]
    assert action.keys() == {"action", "before", "after", "verdict", "reason"}
    found: dict[str, str] = action
    return found


async def test_rg8_alone_the_instance_lists_itself_and_drains_itself(tmp_path: Path) -> None:
    with running(tmp_path, ADMIN_TOKEN=ADMIN_TOKEN, INSTANCE_ID="one") as server:
        person = await asyncio.to_thread(Person, server, "Ada")
        for method, path in (("GET", ""), ("POST", "/one/drain")):
            url = f"{server.url}/api/admin/instances{path}"
            for headers, status in (
                ({}, 401),
                ({"authorization": "Bearer nobody"}, 401),
                ({"authorization": f"Bearer {person.token}"}, 403),
            ):
                refused = await asyncio.to_thread(httpx.request, method, url, headers=headers)
                assert refused.status_code == status
                assert refused.headers["content-type"] == "application/problem+json"
        url = f"{server.url}/api/admin/instances/two/drain"
        unknown = await asyncio.to_thread(httpx.post, url, headers=ADMIN)
        assert (unknown.status_code, unknown.json()["code"]) == (404, "not-found")
        async with Raw(server, person.token) as raw:
            (mine,) = listed(server).values()
            assert mine.items() >= {"id": "one", "connections": 1, "state": "serving"}.items()
            assert mine["ready"] is True
            assert mine["draining"] is False
            assert drain(server, "one")["verdict"] == "done"
            assert await raw.wait_for_close() == (3001, "shutdown")
        assert await asyncio.to_thread(server.wait_for_end) == 0


async def test_rg8_in_a_fleet_any_instance_lists_and_drains_any(
    tmp_path: Path, database_url: str, redis_url: str, redis_db: int
) -> None:
    with fleet(
        tmp_path, database_url, redis_url, 2, REDIS_PUB_SUB_DB=str(redis_db), DRAIN_SECONDS="3"
    ) as made:
        first, second = made.instances
        (person,) = await people(first, "Ada")
        async with Raw(second, person.token) as raw:
            await wait_for(first, lambda known: known.get("i2", {}).get("connections") == 1)
            assert listed(first).keys() == listed(second).keys() == {"i1", "i2"}
            assert drain(first, "i2")["after"] == "draining"
            assert await raw.wait_for_close() == (3001, "shutdown")
        assert await asyncio.to_thread(second.wait_for_end) == 0
        # It left in order: nobody waits for its heartbeat to run out.
        await wait_for(first, lambda known: "i2" not in known)
        assert listed(first)["i1"]["ready"] is True
