"""The crowd against a bad network: it comes back, misses nothing, and counts what happened."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from tableforge.bench.crowd import Crowd
from tableforge.bench.faulty_proxy import FaultyProxy
from tableforge.bench.tables import lay
from tableforge.protocol.rest_client import RestClient
from tests.server_process import running

USERS = 10
ROOM_SIZE = 5
ROUNDS = 6


async def until(what: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(60):
        while not what():  # noqa: ASYNC110 - what is waited for lies in plain counters
            await asyncio.sleep(0.01)


async def test_players_who_are_cut_off_come_back_and_go_on(tmp_path: Path) -> None:
    with running(tmp_path, LIMIT_COMMANDS="0") as server:
        client = RestClient(server.url)
        seats = await asyncio.to_thread(
            lambda: lay(client, users=USERS, room_size=ROOM_SIZE, progress=lambda number: None)
        )
        client.close()
        async with FaultyProxy(server.port) as proxy:
            crowd = Crowd([("127.0.0.1", proxy.port)], seats, rate=20, warm_up=0, rounds=ROUNDS)
            await crowd.sit_down()
            half = crowd.total // 2
            await crowd.play(half)
            await until(lambda: crowd.seen.delivered == half * ROOM_SIZE)
            await until(lambda: len(crowd.seen.replies) == half)
            proxy.cut()
            await until(lambda: crowd.seen.reconnects == USERS)
            await until(lambda: all(player.listening for player in crowd.players))
            await crowd.play(crowd.total)
            assert await crowd.settle()
            crowd.leave()
    seen = crowd.seen
    assert (seen.reconnects, seen.errors, seen.out_of_order) == (USERS, 0, 0)
    assert seen.delivered == crowd.total * ROOM_SIZE
    assert len(seen.others) == crowd.total * (ROOM_SIZE - 1)
    assert len(seen.own) == len(seen.replies) == crowd.total
    assert all(seen.acknowledged)


async def test_a_move_due_while_its_player_is_away_is_an_error(tmp_path: Path) -> None:
    with running(tmp_path, LIMIT_COMMANDS="0") as server:
        client = RestClient(server.url)
        seats = await asyncio.to_thread(
            lambda: lay(client, users=2, room_size=2, progress=lambda number: None)
        )
        client.close()
        async with FaultyProxy(server.port) as proxy:
            crowd = Crowd([("127.0.0.1", proxy.port)], seats, rate=1000, warm_up=0, rounds=1)
            await crowd.sit_down()
        # The proxy is gone, so nobody comes back.
        await until(lambda: crowd.seen.reconnects == 2)
        await crowd.play(crowd.total)
        crowd.leave()
    assert crowd.seen.errors == 2
    assert crowd.seen.first_error == "A move was due while its player was not connected."
