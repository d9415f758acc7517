"""What holds for every request, whatever it asks for (rules HT of `docs/spec.md`)."""

import socket
from collections.abc import Awaitable, Callable, Iterator

import httpx
import pytest

from tableforge.errors import Draining
from tableforge.library.sessions import SESSION_COOKIE
from tableforge.telemetry import EXPOSITION_TYPE, REQUESTS
from tests.server_process import Person, ServerProcess, running

Opened = Callable[..., Awaitable[httpx.AsyncClient]]

SAFE = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
}
PROBLEM_FIELDS = {"type", "title", "status", "detail", "code"}


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not-found"),
        ("GET", "/api/nothing", 404, "not-found"),
        ("GET", "/api/rooms/a/b/c", 404, "not-found"),
        ("GET", "/../../etc/passwd", 404, "not-found"),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404, "not-found"),
        ("GET", "/assets/%00", 404, "not-found"),
        ("GET", "/api/rooms/%ff%fe/snapshot", 401, "unauthorized"),
        ("PUT", "/api/rooms", 405, "method-not-allowed"),
        ("DELETE", "/health", 405, "method-not-allowed"),
        ("TRACE", "/", 405, "method-not-allowed"),
        ("GET", "/api/rooms?limit=-1", 400, "malformed"),
        ("POST", "/api/rooms", 401, "unauthorized"),
    ],
)
def test_ht1_every_error_is_a_problem_document(
    server: ServerProcess, method: str, path: str, status: int, code: str
) -> None:
    refused = raw_request(server, method, path)
    assert refused.status_code == status
    assert refused.headers["content-type"] == "application/problem+json"
    problem = refused.json()
    assert problem.keys() >= PROBLEM_FIELDS
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["type"] == f"/problems/{code}"
    assert problem["title"]
    assert problem["detail"]
    assert ("allow" in refused.headers) == (status == 405)


def raw_request(server: ServerProcess, method: str, path: str) -> httpx.Response:
    """A request whose path goes out as it stands."""
    request = httpx.Request(method, server.url)
    request.url = request.url.copy_with(raw_path=path.encode("ascii"))
    with httpx.Client() as client:
        return client.send(request)


async def test_ht1_a_mistake_of_the_program_gives_nothing_away(opened: Opened) -> None:
    def mistaken() -> bool:
        raise ZeroDivisionError("secret")

    failed = await (await opened(draining=mistaken)).get("/ready")
    assert (failed.status_code, failed.json()["code"]) == (500, "internal")
    assert failed.headers["content-type"] == "application/problem+json"
    assert SAFE.items() <= dict(failed.headers).items()
    assert "secret" not in failed.text
    assert "ZeroDivision" not in failed.text


def test_ht1_what_is_nested_too_deep_is_refused(server: ServerProcess) -> None:
    gm = Person(server, "Ada")
    room, _ = gm.create_room()
    deep = b'{"a":' * 40_000 + b"1" + b"}" * 40_000
    for body in (deep, b'{"id":"1","type":"draw.add","style":{},"shape":' + deep + b"}"):
        refused = gm.http.post(f"/api/rooms/{room}/commands", content=body)
        assert (refused.status_code, refused.json()["code"]) == (400, "malformed")


@pytest.mark.parametrize(
    "path", ["/health", "/", "/api/session", "/nothing", "/metrics", "/api/docs"]
)
def test_ht4_every_answer_keeps_browsers_safe(server: ServerProcess, path: str) -> None:
    answer = httpx.get(f"{server.url}{path}")
    assert SAFE.items() <= dict(answer.headers).items()
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe-eval" not in policy
    assert answer.headers["cache-control"] in {"no-store", "no-cache"}


def test_ht4_head_is_get_without_the_body(server: ServerProcess) -> None:
    asked, told = (httpx.request(one, f"{server.url}/health") for one in ("GET", "HEAD"))
    assert told.status_code == asked.status_code == 200
    assert told.content == b""
    assert told.headers["content-length"] == asked.headers["content-length"]


def test_ht4_options_names_what_an_address_takes(server: ServerProcess) -> None:
    answer = httpx.options(f"{server.url}/api/rooms/x")
    assert answer.status_code == 204
    assert answer.headers["allow"] == "DELETE, GET, HEAD, OPTIONS, PATCH"
    refused = httpx.put(f"{server.url}/api/rooms/x")
    assert refused.headers["allow"] == answer.headers["allow"]


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "", "[::2]", "127.0.0.2"]
)
def test_ht2_other_hosts_are_refused(server: ServerProcess, host: str) -> None:
    for path in ("/", "/api/session", "/metrics", "/nothing"):
        refused = httpx.get(f"{server.url}{path}", headers={"host": host})
        assert (refused.status_code, refused.json()["code"]) == (421, "misdirected")
        assert host.strip("[]") in refused.json()["why"]
    assert httpx.get(f"{server.url}/health", headers={"host": host}).status_code == 200


def test_ht2_of_a_refused_host_only_what_is_harmless_is_repeated(server: ServerProcess) -> None:
    host = b"<b>\xe9.example" + b"x" * 500
    refused = httpx.get(f"{server.url}/", headers={b"host": host})
    assert refused.status_code == 421
    assert f"'?b??.example{'x' * 88}'" in refused.json()["detail"]


def test_ht2_a_person_at_a_browser_reads_a_page(server: ServerProcess) -> None:
    asking = {"host": "play.example", "accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    refused = httpx.get(f"{server.url}/", headers=asking)
    assert refused.status_code == 421
    assert refused.headers["content-type"] == "text/html; charset=utf-8"
    assert SAFE.items() <= dict(refused.headers).items()
    assert "&#x27;play.example&#x27;" in refused.text
    assert "ALLOWED_HOSTS" in refused.text


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:9999", "[::1]:1"])
def test_ht2_own_hosts_are_served(server: ServerProcess, host: str) -> None:
    answer = httpx.get(f"{server.url}/api/rooms", headers={"host": host})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://evil.example", "sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "none"}, 403),
        ({"sec-fetch-site": "same-origin"}, 201),
        ({"origin": "own"}, 201),
        ({"origin": "http://hidden-by-a-proxy.example", "sec-fetch-site": "same-origin"}, 201),
    ],
)
def test_ht3_a_change_by_cookie_comes_from_a_page_of_this_server(
    server: ServerProcess, headers: dict[str, str], status: int
) -> None:
    person = Person(server, "Ada")
    said = {name: server.url if value == "own" else value for name, value in headers.items()}
    said["cookie"] = f"{SESSION_COOKIE}={person.token}"
    made = httpx.post(f"{server.url}/api/rooms", json={"name": "R"}, headers=said)
    assert made.status_code == status
    if status == 403:
        assert made.json()["code"] == "forbidden"
    assert httpx.get(f"{server.url}/api/session", headers=said).status_code == 200


def test_ht3_foreign_pages_may_not_even_sign_somebody_in(server: ServerProcess) -> None:
    refused = httpx.post(
        f"{server.url}/api/session", json={"name": "x"}, headers={"origin": "http://evil.example"}
    )
    assert refused.status_code == 403


def test_ht3_scripts_with_a_token_need_no_origin(server: ServerProcess) -> None:
    assert Person(server, "Ada").http.post("/api/rooms", json={"name": "R"}).status_code == 201


async def test_ht3_pages_of_named_origins_may_use_the_interface(
    opened: Opened,
) -> None:
    http = await opened(ALLOWED_ORIGINS="https://friend.example")
    friend = {"origin": "https://friend.example"}
    asking = {**friend, "access-control-request-method": "POST"}
    preflight = await http.options("/api/session", headers=asking)
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == "https://friend.example"
    assert "POST" in preflight.headers["access-control-allow-methods"]
    made = await http.post("/api/session", json={"name": "Ada"}, headers=friend)
    assert made.status_code == 201
    assert made.headers["access-control-allow-origin"] == "https://friend.example"
    strange = await http.get("/api/session", headers={"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in strange.headers
    assert (await http.get("/health", headers={"host": "friend.example"})).status_code == 200


async def test_ht6_cookies_are_secure_where_the_proxy_speaks_https(
    opened: Opened,
) -> None:
    http = await opened("10.0.0.1", TRUSTED_PROXIES="10.0.0.1", ALLOWED_HOSTS="table.example")
    said = {
        "x-forwarded-proto": "https",
        "x-forwarded-host": "table.example",
        "x-forwarded-for": "198.51.100.7",
        "origin": "https://table.example",
    }
    made = await http.post("/api/session", json={"name": "Ada"}, headers=said)
    assert made.status_code == 201
    assert "Secure" in made.headers["set-cookie"].split("; ")


@pytest.fixture(scope="module")
def below(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that is served below a sub-path."""
    with running(tmp_path_factory.mktemp("below"), BASE_PATH="/games/table") as server:
        yield server


def test_ht5_everything_works_below_a_sub_path(below: ServerProcess) -> None:
    url = f"{below.url}/games/table"
    made = httpx.post(f"{url}/api/session", json={"name": "Ada"})
    assert made.status_code == 201
    assert "Path=/games/table/" in made.headers["set-cookie"].split("; ")
    bearer = {"authorization": f"Bearer {made.json()['token']}"}
    assert httpx.get(f"{url}/api/session", headers=bearer).json()["user"]["name"] == "Ada"
    assert httpx.get(f"{url}/health").json() == {"status": "alive"}
    servers = httpx.get(f"{url}/api/openapi.json").json()["servers"]
    assert servers == [{"url": "/games/table"}]


def test_ht5_a_proxy_that_strips_the_sub_path_is_understood(below: ServerProcess) -> None:
    assert httpx.get(f"{below.url}/health").status_code == 200
    assert httpx.get(f"{below.url}/api/rooms").json() == {"rooms": [], "next": None}
    assert httpx.get(f"{below.url}/games/tableau").status_code == 404


@pytest.mark.parametrize("path", ["/games/table", "/games/table/", "/games/table/r/abc", "/r/abc"])
def test_ht5_pages_are_based_on_the_sub_path(below: ServerProcess, path: str) -> None:
    page = httpx.get(f"{below.url}{path}")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert '<base href="/games/table/" />' in page.text


def test_ht15_the_client_is_served_compressed_and_asked_for_once(server: ServerProcess) -> None:
    page = httpx.get(f"{server.url}/")
    assert page.headers["content-encoding"] == "gzip"
    again = httpx.get(f"{server.url}/", headers={"if-none-match": page.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    script = next(part.split('"')[0] for part in page.text.split('src="./')[1:])
    served = httpx.get(f"{server.url}/{script}")
    assert served.headers["content-type"] == "text/javascript; charset=utf-8"
    assert served.headers["cache-control"] == "public, max-age=31536000, immutable"
    plain = httpx.get(f"{server.url}/{script}", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.text == served.text


def test_ht13_the_docs_page_brings_everything_itself(server: ServerProcess) -> None:
    page = httpx.get(f"{server.url}/api/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "POST /api/rooms" in page.text
    for elsewhere in ("<script", "http://", "https://", "<link"):
        assert elsewhere not in page.text


async def test_ht18_requests_are_timed_by_their_route(opened: Opened) -> None:
    http = await opened()

    def count(method: str, route: str, status: int) -> int:
        return REQUESTS.of(method, route, str(status)).count

    known = ("GET", "/api/rooms/{room}/snapshot", 401)
    unknown = ("GET", "none", 404)
    before = count(*known), count(*unknown)
    await http.get("/api/rooms/one/snapshot")
    await http.get("/api/rooms/two/snapshot")
    await http.get("/api/what/is/this")
    assert (count(*known), count(*unknown)) == (before[0] + 2, before[1] + 1)
    metrics = await http.get("/metrics")
    assert metrics.headers.get_list("content-type") == [EXPOSITION_TYPE]
    text = metrics.text
    assert 'route="/api/rooms/{room}/snapshot"' in text
    assert "/api/rooms/one" not in text


async def test_ht14_metrics_are_for_whom_the_operator_says(opened: Opened) -> None:
    token = "0123456789abcdef"
    http = await opened(METRICS_TOKEN=token)
    assert (await http.get("/metrics")).status_code == 401
    wrong = {"authorization": "Bearer 0123456789abcdeg"}
    assert (await http.get("/metrics", headers=wrong)).status_code == 401
    right = {"authorization": f"Bearer {token}", "host": "10.1.2.3:8080"}
    assert (await http.get("/metrics", headers=right)).status_code == 200


async def test_ht14_metrics_can_be_turned_off(opened: Opened) -> None:
    http = await opened(PROMETHEUS_ENABLED="false")
    refused = await http.get("/metrics")
    assert (refused.status_code, refused.json()["code"]) == (404, "not-found")


def test_ht20_alive_and_ready_are_told_without_a_host(server: ServerProcess) -> None:
    assert httpx.get(f"{server.url}/health").json() == {"status": "alive"}
    assert httpx.get(f"{server.url}/ready").json() == {"status": "ready", "bus": {}}
    with socket.create_connection(("127.0.0.1", server.port)) as wire:
        wire.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        assert wire.recv(100).startswith(b"HTTP/1.1 200 OK")


async def test_ht20_a_draining_server_says_so(opened: Opened) -> None:
    http = await opened(draining=lambda: True)
    refused = await http.get("/ready")
    assert (refused.status_code, refused.json()["code"]) == (503, Draining.code)
    assert (await http.get("/health")).status_code == 200
