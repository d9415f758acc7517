"""Proxies as `tableforge proxy-config` sets them up, in front of small instances that count who comes."""

import asyncio
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import get_args

import httpx
import pytest
from click.testing import CliRunner
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from tableforge import cli
from tableforge.ops.proxies import Strategy
from tableforge.ops.servers import HaproxyServer, NginxServer, free_port, scratch

PATIENCE = 30.0
KINDS: dict[str, type[HaproxyServer]] = {"haproxy": HaproxyServer, "nginx": NginxServer}
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)


class Small:
    """An instance with /ready and /ws, and any other page; draining it answers 503 to all of them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = free_port()
        self.draining = False
        self.asked: list[str] = []
        self.seen: list[Request] = []

    def answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer all but handshakes, which go on."""
        path = request.path.partition("?")[0]
        if path != "/ready":
            self.asked.append(path)
            self.seen.append(request)
        if self.draining:
            return connection.respond(503, self.name)
        if path.endswith("/ws"):
            return None
        return connection.respond(200, self.name)

    async def talk(self, connection: ServerConnection) -> None:
        """Say who this is, and stay."""
        await connection.send(self.name)
        await connection.wait_closed()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve for the length of a block."""
        async with serve(self.talk, "127.0.0.1", self.port, process_request=self.answer):
            yield


class Balanced:
    """Three instances behind a proxy."""

    def __init__(self, port: int, instances: Sequence[Small]) -> None:
        self.port = port
        self.instances = instances
        self._open: list[tuple[str, ClientConnection]] = []

    async def __aenter__(self) -> "Balanced":
        return self

    async def __aexit__(self, *_exception: object) -> None:
        for _name, opened in self._open:
            await opened.close()

    async def socket(self, room: str = "", base: str = "/") -> str:
        """Open a WebSocket that stays; who answers."""
        query = f"?room={room}" if room else ""
        opened = await connect(f"ws://127.0.0.1:{self.port}{base}ws{query}", proxy=None)
        name = str(await opened.recv())
        self._open.append((name, opened))
        return name

    async def sockets(self, count: int, room: str = "") -> Counter[str]:
        """How many of so many WebSockets each instance gets."""
        return Counter([await self.socket(room) for _ in range(count)])

    async def leave(self, name: str) -> None:
        """Close the WebSockets to this instance."""
        for where, opened in self._open:
            if where == name:
                await opened.close()

    async def page(self, path: str = "/", method: str = "GET") -> httpx.Response:
        """Ask for a page on a connection of its own."""
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.request(method, f"http://127.0.0.1:{self.port}{path}")


@asynccontextmanager
async def behind(kind: str, *options: str, weights: Sequence[int] = ()) -> AsyncIterator[Balanced]:
    """Three instances behind a proxy of a kind, set up by the command."""
    instances = [Small(name) for name in ("a", "b", "c")]
    port = free_port()
    named = []
    for at, one in enumerate(instances):
        weight = f"@{weights[at]}" if weights else ""
        named += ["--instance", f"{one.name}=127.0.0.1:{one.port}{weight}"]
    listen = ["--listen", f"127.0.0.1:{port}", "--figures", f"127.0.0.1:{free_port()}"]
    made = CliRunner().invoke(cli.main, ["proxy-config", kind, *named, *listen, *options])
    assert made.exit_code == 0, made.output
    async with AsyncExitStack() as stack:
        for one in instances:
            await stack.enter_async_context(one.serving())
        folder = stack.enter_context(scratch())
        proxy = KINDS[kind](folder / "proxy", port, configuration=made.stdout)
        await asyncio.to_thread(proxy.start)
        stack.callback(proxy.stop)
        yield await stack.enter_async_context(Balanced(port, instances))


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of proxy."""
    return str(request.param)


@pytest.mark.parametrize("base", ["/", "/table/"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_proxy_itself_finds_nothing_wrong(
    kind: str, strategy: str, base: str, tmp_path: Path
) -> None:
    port = free_port()
    weight = "@3" if strategy == "weighted" else ""
    made = CliRunner().invoke(
        cli.main,
        [
            *("proxy-config", kind, "--strategy", strategy, "--base-path", base),
            *("--instance", f"a=localhost:1{weight}", "--instance", "b=[::1]:2"),
            *("--listen", f"127.0.0.1:{port}", "--figures", f"127.0.0.1:{free_port()}"),
        ],
    )
    assert made.exit_code == 0, made.output
    server = KINDS[kind](tmp_path, port, configuration=made.stdout)
    server.prepare()
    check = [*server.command(), "-c"] if kind == "haproxy" else [*server.command(), "-t"]
    checked = server.run_as_child(check, stdout=subprocess.PIPE)
    said = checked.communicate(timeout=PATIENCE)[0].decode("utf-8").lower()
    assert checked.returncode == 0, said
    assert "warning" not in said
    assert "[emerg]" not in said


async def test_round_robin_gives_each_the_same(kind: str) -> None:
    async with behind(kind, "--strategy", "round_robin") as fleet:
        assert await fleet.sockets(12) == {"a": 4, "b": 4, "c": 4}
        assert Counter([(await fleet.page()).text for _ in range(6)]) == {"a": 2, "b": 2, "c": 2}


async def test_least_connections_fills_up_whoever_has_few(kind: str) -> None:
    async with behind(kind, "--strategy", "least_connections") as fleet:
        assert await fleet.sockets(12) == {"a": 4, "b": 4, "c": 4}
        await fleet.leave("a")
        # The proxy may count one that left a moment longer than we do.
        assert (await fleet.sockets(4))["a"] >= 3


async def test_weights_are_shares(kind: str) -> None:
    async with behind(kind, "--strategy", "weighted", weights=(1, 2, 3)) as fleet:
        assert await fleet.sockets(12) == {"a": 2, "b": 4, "c": 6}


async def test_members_of_a_room_meet_on_one_instance(kind: str) -> None:
    async with behind(kind, "--strategy", "room_affinity") as fleet:
        homes = {f"room-{at}": await fleet.socket(f"room-{at}") for at in range(24)}
        assert set(homes.values()) == {"a", "b", "c"}
        for room, home in homes.items():
            assert await fleet.sockets(2, room) == {home: 2}
        assert set(await fleet.sockets(24)) == {"a", "b", "c"}
        # Its home goes: the room meets elsewhere, all of it, and other rooms stay where they are.
        gone = homes["room-0"]
        next(one for one in fleet.instances if one.name == gone).draining = True
        moved = await fleet.sockets(5, "room-0")
        assert len(moved) == 1
        assert gone not in moved
        for room, home in homes.items():
            if home != gone:
                assert await fleet.socket(room) == home


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_an_instance_that_drains_is_taken_out_and_nobody_notices(
    kind: str, strategy: str
) -> None:
    async with behind(kind, "--strategy", strategy) as fleet:
        victim = fleet.instances[1]
        victim.draining = True
        answers = [await fleet.page() for _ in range(6)]
        assert {answer.status_code for answer in answers} == {200}
        assert "b" not in await fleet.sockets(6)
        if kind == "haproxy":
            # It asks by itself; then not even what may not be sent twice goes there.
            await eventually_not_asked(fleet, victim)
            posted = [await fleet.page(method="HEAD") for _ in range(6)]
            assert {answer.status_code for answer in posted} == {200}
        victim.draining = False
        await eventually(fleet, {"a", "b", "c"})


async def test_while_no_instance_serves_a_page_tries_again_by_itself() -> None:
    async with behind("haproxy") as fleet:
        for one in fleet.instances:
            one.draining = True
        deadline = time.monotonic() + PATIENCE
        while "http-equiv=refresh" not in (shown := await fleet.page()).text:
            assert time.monotonic() < deadline, shown.text
        assert shown.status_code == 503
        assert shown.headers["content-type"] == "text/html"
        assert shown.headers["cache-control"] == "no-store"
        fleet.instances[0].draining = False
        while (await fleet.page()).text != "a":
            assert time.monotonic() < deadline


async def test_an_instance_that_is_gone_is_passed_over(kind: str) -> None:
    async with behind(kind) as fleet, AsyncExitStack() as stack:
        # A fleet that names a fourth which was never there.
        port = free_port()
        named = [f"{one.name}=127.0.0.1:{one.port}" for one in fleet.instances[:1]]
        named += [f"gone=127.0.0.1:{free_port()}"]
        options = [part for one in named for part in ("--instance", one)]
        listen = ["--listen", f"127.0.0.1:{port}", "--figures", f"127.0.0.1:{free_port()}"]
        made = CliRunner().invoke(cli.main, ["proxy-config", kind, *options, *listen])
        folder = stack.enter_context(scratch())
        proxy = KINDS[kind](folder / "proxy", port, configuration=made.stdout)
        await asyncio.to_thread(proxy.start)
        stack.callback(proxy.stop)
        lame = await stack.enter_async_context(Balanced(port, fleet.instances))
        assert await lame.sockets(6) == {"a": 6}
        assert {(await lame.page()).status_code for _ in range(6)} == {200}


async def test_an_instance_learns_who_asks_and_cannot_be_told_lies(kind: str) -> None:
    async with behind(kind) as fleet:
        async with httpx.AsyncClient(trust_env=False) as client:
            lies = {"x-forwarded-for": "9.9.9.9", "x-forwarded-host": "evil.example"}
            await client.get(f"http://127.0.0.1:{fleet.port}/", headers=lies)
        headers = next(one.seen[0] for one in fleet.instances if one.seen).headers
        assert headers.get_all("x-forwarded-host") == [f"127.0.0.1:{fleet.port}"]
        assert headers.get_all("x-forwarded-proto") == ["http"]
        forwarded = ",".join(headers.get_all("x-forwarded-for"))
        assert forwarded.split(",")[-1].strip() == "127.0.0.1"


async def test_below_a_base_path_nothing_else_is_served(kind: str) -> None:
    async with behind(kind, "--base-path", "/table") as fleet:
        assert await fleet.socket("x", base="/table/") in {"a", "b", "c"}
        assert (await fleet.page("/table/api/rooms")).status_code == 200
        assert (await fleet.page("/table")).status_code in {200, 301}
        assert (await fleet.page("/other")).status_code == 404
        assert (await fleet.page("/")).status_code == 404


def test_what_cannot_be_configured_is_refused_with_the_reason() -> None:
    wanted = ["proxy-config", "nginx", "--listen", "127.0.0.1:80"]
    for options, says in (
        ([], "--instance"),
        (["--instance", "a"], "does not name an instance"),
        (["--instance", "a=b:1", "--strategy", "fastest"], "fastest"),
        (["--instance", "a=b:1@2", "--strategy", "round_robin"], "knows no weights"),
        (["--instance", "a=b:1", "--base-path", "table"], "/table/"),
    ):
        refused = CliRunner().invoke(cli.main, [*wanted, *options])
        assert refused.exit_code == 2, options
        assert says in refused.stderr
        assert refused.stdout == ""


async def eventually(fleet: Balanced, names: set[str]) -> None:
    """Return once new WebSockets reach all of these instances again."""
    async with asyncio.timeout(PATIENCE):
        missing = set(names)
        while missing:
            missing.discard(await fleet.socket())
            await asyncio.sleep(0.02)


async def eventually_not_asked(fleet: Balanced, victim: Small) -> None:
    """Return once a round of pages does not even try this instance."""
    async with asyncio.timeout(PATIENCE):
        while True:
            victim.asked.clear()
            for _ in range(6):
                await fleet.page()
            if not victim.asked:
                return
            await asyncio.sleep(0.05)
