"""Who one is over REST: signing in, coming back, renaming, signing out (rules HT of `docs/spec.md`)."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest

from tableforge.library.sessions import SESSION_COOKIE
from tests.integration.raw_client import Raw
from tests.server_process import Person, ServerProcess

Opened = Callable[..., Awaitable[httpx.AsyncClient]]


def test_ht16_a_name_is_enough_to_be_somebody(server: ServerProcess) -> None:
    made = httpx.post(f"{server.url}/api/session", json={"name": "Ilse \U0001f409"})
    assert made.status_code == 201
    user, token = made.json()["user"], made.json()["token"]
    assert user["name"] == "Ilse \U0001f409"
    bearer = {"authorization": f"bearer {token}"}
    assert httpx.get(f"{server.url}/api/session", headers=bearer).json() == {"user": user}
    cookie = {"cookie": f"other=1; {SESSION_COOKIE}={token}; third=3"}
    answered = httpx.get(f"{server.url}/api/session", headers=cookie)
    assert answered.json() == {"user": user}
    # A browser's cookie lives on with its session; a script has none.
    for one in (made, answered):
        flags = one.headers["set-cookie"].lower().split("; ")
        assert flags[0] == f"{SESSION_COOKIE}={token}".lower()
        assert {"httponly", "samesite=lax", "path=/", "max-age=7776000"} <= set(flags)
        assert "secure" not in flags
    assert "set-cookie" not in httpx.get(f"{server.url}/api/session", headers=bearer).headers


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer x", "Basic eDp5", "Bearer \u00ff"])
def test_ht16_whoever_is_unknown_is_told_to_sign_in(
    server: ServerProcess, authorization: str
) -> None:
    headers = {b"authorization": authorization.encode("latin-1")}
    refused = httpx.get(f"{server.url}/api/session", headers=headers)
    assert refused.status_code == 401
    assert refused.json()["code"] == "unauthorized"
    assert refused.headers["www-authenticate"] == "Bearer"


def test_ht16_a_recovery_code_brings_the_same_user_back(server: ServerProcess) -> None:
    person = Person(server, "Ilse")
    first = person.http.post("/api/session/recovery").json()["code"]
    code = person.http.post("/api/session/recovery").json()["code"]
    back = httpx.post(f"{server.url}/api/session", json={"recovery": code.lower()})
    assert back.status_code == 201
    assert back.json()["user"] == {"id": person.id, "name": "Ilse"}
    assert back.json()["token"] != person.token
    refused = httpx.post(f"{server.url}/api/session", json={"recovery": first})
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")


def test_ht16_a_new_name_is_known_in_every_room(server: ServerProcess) -> None:
    gm, player = Person(server, "Ada"), Person(server, "Ilse")
    rooms = [gm.create_room(f"Room {number}") for number in range(3)]
    for room, invite in rooms[:2]:
        player.join(room, invite)
    renamed = player.http.patch("/api/session", json={"name": "Isolde"})
    assert renamed.json() == {"user": {"id": player.id, "name": "Isolde"}}
    for room, _ in rooms[:2]:
        members = gm.http.get(f"/api/rooms/{room}").json()["members"]
        assert {one["id"]: one["name"] for one in members} == {gm.id: "Ada", player.id: "Isolde"}
    assert player.http.get("/api/session").json()["user"]["name"] == "Isolde"


async def test_ht16_signing_out_ends_the_token_and_closes_its_sockets(
    server: ServerProcess,
) -> None:
    person = await asyncio.to_thread(Person, server, "Ilse")
    async with Raw(server, person.token) as raw:
        gone = await asyncio.to_thread(person.http.delete, "/api/session")
        assert gone.status_code == 204
        assert "max-age=0" in gone.headers["set-cookie"].lower()
        await asyncio.wait_for(raw.wire.wait_closed(), 10)
        assert raw.wire.close_code == 3500
    after = await asyncio.to_thread(person.http.get, "/api/session")
    assert after.status_code == 401


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"{",
        b'{"name": ""}',
        b'{"name": 5}',
        b'{"name": "a\\u0000b"}',
        b'{"name": "a\\u001fb"}',
        b'{"name": "\xff"}',
        b'{"name": "\\ud800"}',
        b'{"name": "a", "recovery": "b"}',
        b'{"name": null}',
        b'{"name": "' + b"a" * 81 + b'"}',
    ],
)
def test_ht7_a_body_that_is_none_is_refused_with_400(server: ServerProcess, body: bytes) -> None:
    refused = httpx.post(f"{server.url}/api/session", content=body)
    assert refused.status_code == 400
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["code"] == "malformed"


def test_ht7_a_body_over_the_limit_is_not_read(server: ServerProcess) -> None:
    refused = httpx.post(f"{server.url}/api/session", content=b" " * 300_000)
    assert (refused.status_code, refused.json()["code"]) == (413, "too-large")


async def test_ht14_the_servers_password_is_asked_once(opened: Opened) -> None:
    http = await opened(ACCESS_PASSWORD="open sesame")
    for said in (None, "", "sesame", "open sesame "):
        refused = await http.post("/api/session", json={"name": "Ada", "password": said})
        assert refused.status_code in ({400} if said == "" else {401})
    made = await http.post("/api/session", json={"name": "Ada", "password": "open sesame"})
    assert made.status_code == 201
    assert (await http.get("/api/session")).json()["user"]["name"] == "Ada"
    code = (
        await http.post("/api/session/recovery", headers={"origin": "http://localhost"})
    ).json()["code"]
    assert (
        await http.post(
            "/api/session", json={"recovery": code}, headers={"origin": "http://localhost"}
        )
    ).status_code == 201


async def test_ht14_new_sessions_are_counted_by_address(opened: Opened) -> None:
    http = await opened("203.0.113.9", LIMIT_SESSIONS="3")
    answers = [await http.post("/api/session", json={"recovery": "0000"}) for _ in range(4)]
    assert [one.status_code for one in answers] == [401, 401, 401, 429]
    assert answers[-1].json()["code"] == "too-many"
    assert int(answers[-1].headers["retry-after"]) > 0


async def test_ht14_addresses_behind_a_trusted_proxy_are_told_apart(opened: Opened) -> None:
    http = await opened("10.0.0.1", LIMIT_SESSIONS="1", TRUSTED_PROXIES="10.0.0.0/8")

    async def sign_in(forwarded: str) -> int:
        headers = {"x-forwarded-for": forwarded}
        answer = await http.post("/api/session", json={"name": "Ada"}, headers=headers)
        http.cookies.clear()
        return answer.status_code

    assert [await sign_in(f"198.51.100.{last}") for last in (1, 2, 1)] == [201, 201, 429]
    assert await sign_in("1.1.1.1, 198.51.100.2") == 429
    assert [await sign_in("127.0.0.1") for _ in range(3)] == [201] * 3


async def test_ht14_where_only_the_operator_makes_rooms_a_player_cannot(opened: Opened) -> None:
    admin = "0123456789abcdef"
    http = await opened(ROOM_CREATION="admin", ADMIN_TOKEN=admin)
    token = (await http.post("/api/session", json={"name": "Ada"})).json()["token"]
    http.cookies.clear()

    async def create(bearer: str | None, cookie: str | None) -> httpx.Response:
        headers = {"origin": "http://localhost"}
        if bearer:
            headers["authorization"] = f"Bearer {bearer}"
        if cookie:
            headers["cookie"] = f"{SESSION_COOKIE}={cookie}"
        return await http.post("/api/rooms", json={"name": "R"}, headers=headers)

    assert (await create(None, None)).status_code == 401
    assert (await create("wrong", None)).status_code == 401
    assert (await create(token, None)).status_code == 403
    assert (await create(None, token)).status_code == 403
    assert (await create(admin, None)).status_code == 401
    made = await create(admin, token)
    assert (made.status_code, made.json()["role"]) == (201, "gm")
