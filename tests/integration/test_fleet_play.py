"""One table over two instances: whatever happens through the one is there through the other."""

import asyncio
from collections.abc import Callable, Iterator

import httpx
import pytest

from tableforge.bench.faulty_proxy import FaultyProxy
from tableforge.ops.servers import PostgresServer, RedisServer
from tests.fleet import FleetProcesses, fleet
from tests.integration.raw_client import DEADLINE, Raw, table
from tests.server_process import Person, ServerProcess
from tests.services import run_sql


@pytest.fixture(scope="module")
def two(
    tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer, redis: RedisServer
) -> Iterator[FleetProcesses]:
    run_sql(postgres.url, "CREATE DATABASE fleet_play")
    try:
        with fleet(
            tmp_path_factory.mktemp("fleet"),
            postgres.url_of("fleet_play"),
            redis.url,
            2,
            REDIS_PUB_SUB_DB="901",
        ) as made:
            yield made
    finally:
        run_sql(postgres.url, "DROP DATABASE fleet_play WITH (FORCE)")


def through(server: ServerProcess, person: Person) -> httpx.Client:
    """REST calls of the same person to another instance."""
    return httpx.Client(
        base_url=server.url,
        headers={"authorization": f"Bearer {person.token}"},
        timeout=30,
        limits=httpx.Limits(max_keepalive_connections=0),
    )


async def test_what_is_said_through_one_instance_is_heard_through_the_other(
    two: FleetProcesses,
) -> None:
    first, second = two.instances
    room, (mara, bo) = await table(first, "Bo")
    async with Raw(first, mara.token) as here, Raw(second, bo.token) as there:
        begun = [await raw.subscribe(f"room:{room}") for raw in (here, there)]
        assert begun[0]["offset"] == begun[1]["offset"]
        assert begun[0]["epoch"] == begun[1]["epoch"]
        for number in range(20):
            where = (here, there)[number % 2]
            said = await where.command(room, "chat.say", text=f"line {number}")
            assert said["offset"] == begun[0]["offset"] + number + 1
        last = begun[0]["offset"] + 20
        heard = [await raw.wait_for_offset(room, last) for raw in (here, there)]
        assert heard[0] == heard[1]
        assert [one["data"]["text"] for one in heard[0]] == [f"line {n}" for n in range(20)]


async def test_both_write_at_once_and_nothing_is_lost_or_doubled(two: FleetProcesses) -> None:
    first, second = two.instances
    room, (mara, bo) = await table(first, "Bo")
    async with Raw(first, mara.token) as here, Raw(second, bo.token) as there:
        begun = [await raw.subscribe(f"room:{room}") for raw in (here, there)]

        async def talk(raw: Raw, name: str) -> list[int]:
            said = await asyncio.gather(
                *(raw.command(room, "chat.say", text=f"{name} {number}") for number in range(100))
            )
            return [one["offset"] for one in said]

        offsets = await asyncio.gather(talk(here, "mara"), talk(there, "bo"))
        last = begun[0]["offset"] + 200
        heard = [await raw.wait_for_offset(room, last) for raw in (here, there)]
        assert heard[0] == heard[1]
        assert [one["offset"] for one in heard[0]] == list(range(begun[0]["offset"] + 1, last + 1))
        texts = [one["data"]["text"] for one in heard[0]]
        for name in ("mara", "bo"):
            mine = [text for text in texts if text.startswith(name)]
            assert mine == [f"{name} {number}" for number in range(100)]
        assert sorted(offsets[0] + offsets[1]) == list(range(begun[0]["offset"] + 1, last + 1))


async def test_who_is_here_counts_both_instances(two: FleetProcesses) -> None:
    first, second = two.instances
    room, (mara, bo) = await table(first, "Bo")
    channel = f"room:{room}"
    async with Raw(first, mara.token) as here:
        await here.subscribe(channel, join_leave=True)
        async with Raw(second, bo.token) as there:
            await there.subscribe(channel, join_leave=True)
            await here.wait_until(
                lambda: any(
                    one.get("join", {}).get("info", {}).get("user") == bo.id for one in here.pushes
                )
            )
            present = (await here.call(presence={"channel": channel}))["presence"]["presence"]
            assert {one["user"] for one in present.values()} == {mara.id, bo.id}
            shown = (await here.call(rpc={"method": "none", "data": {}}))["error"]["code"]
            assert shown == 104
            await there.wait_until(
                lambda: any(
                    one.get("join", {}).get("info", {}).get("user") == mara.id
                    for one in there.pushes
                )
            )
            snapshot = through(second, bo).get(f"/api/rooms/{room}/snapshot").json()
            online = {one["id"] for one in snapshot["room"]["members"] if one["online"]}
            assert online == {mara.id, bo.id}
        await here.wait_until(
            lambda: any(
                one.get("leave", {}).get("info", {}).get("user") == bo.id for one in here.pushes
            )
        )


async def test_live_signals_cross_instances(two: FleetProcesses) -> None:
    first, second = two.instances
    room, (mara, bo) = await table(first, "Bo")
    channel = f"room:{room}:live"
    async with Raw(first, mara.token) as here, Raw(second, bo.token) as there:
        await here.subscribe(channel, join_leave=True)
        await there.subscribe(channel, join_leave=True)
        await here.wait_until(
            lambda: any("join" in one for one in here.pushes if one["channel"] == channel)
        )
        scene = (
            through(first, mara)
            .get(f"/api/rooms/{room}/snapshot")
            .json()["room"]["scenes"][0]["id"]
        )
        await here.call(
            publish={"channel": channel, "data": {"type": "ping", "scene": scene, "x": 1, "y": 2}}
        )
        await there.wait_until(
            lambda: any("pub" in one for one in there.pushes if one["channel"] == channel)
        )
        [signal] = [
            one["pub"] for one in there.pushes if one["channel"] == channel and "pub" in one
        ]
        assert signal["info"]["user"] == mara.id
        assert signal["data"]["type"] == "ping"


async def test_a_kick_takes_effect_through_every_instance(two: FleetProcesses) -> None:
    first, second = two.instances
    room, (mara, bo) = await table(first, "Bo")
    async with Raw(second, bo.token) as there:
        await there.subscribe(f"room:{room}")
        assert mara.command(room, "member.kick", user=bo.id).status_code == 200
        assert through(second, bo).get(f"/api/rooms/{room}/snapshot").status_code == 404
        await there.wait_until(
            lambda: any(one.get("unsubscribe", {}).get("code") == 2000 for one in there.pushes)
        )
        refused = await there.command(room, "chat.say", text="still here?")
        assert refused["code"] == 404


async def test_a_right_given_through_one_instance_holds_at_once_through_the_other(
    two: FleetProcesses,
) -> None:
    first, second = two.instances
    room, (mara, bo) = await table(first, "Bo")
    made = mara.command(room, "token.add", name="Vesna", x=1, y=1).json()["result"]["id"]
    elsewhere = through(second, bo)

    def move(number: int) -> httpx.Response:
        return elsewhere.post(
            f"/api/rooms/{room}/commands",
            json={
                "room": room,
                "id": f"m{number}",
                "type": "token.move",
                "token": made,
                "x": 2,
                "y": 2,
            },
        )

    assert (await asyncio.to_thread(move, 0)).status_code == 403
    for number in range(1, 11):
        owner = bo.id if number % 2 else mara.id
        assert mara.command(room, "token.update", token=made, owner=owner).status_code == 200
        assert (await asyncio.to_thread(move, number)).status_code == (200 if number % 2 else 403)


async def test_a_sign_out_ends_the_token_through_every_instance(two: FleetProcesses) -> None:
    first, second = two.instances
    _, (mara,) = await table(first)
    elsewhere = through(second, mara)
    assert elsewhere.get("/api/session").status_code == 200
    async with Raw(second, mara.token) as there:
        assert mara.http.delete("/api/session").status_code == 204
        code, _ = await there.wait_for_close()
        assert code == 3500
    assert elsewhere.get("/api/session").status_code == 401


async def test_a_deleted_table_is_gone_through_every_instance(two: FleetProcesses) -> None:
    first, second = two.instances
    room, (mara, bo) = await table(first, "Bo")
    async with Raw(second, bo.token) as there:
        await there.subscribe(f"room:{room}")
        assert mara.http.delete(f"/api/rooms/{room}").status_code == 204
        await there.wait_until(
            lambda: any(one.get("unsubscribe", {}).get("code") == 2000 for one in there.pushes)
        )
        assert through(second, bo).get(f"/api/rooms/{room}/snapshot").status_code == 404


async def test_a_position_of_one_instance_is_good_at_the_other(two: FleetProcesses) -> None:
    first, second = two.instances
    room, (mara, bo) = await table(first, "Bo")
    async with Raw(first, bo.token) as here:
        begun = await here.subscribe(f"room:{room}")
    said = [mara.command(room, "chat.say", text=f"missed {n}").json()["offset"] for n in range(30)]
    async with Raw(second, bo.token) as there:
        again = await there.subscribe(
            f"room:{room}", recover=True, offset=begun["offset"], epoch=begun["epoch"]
        )
        assert again["recovered"] is True
        assert [one["offset"] for one in again["publications"]] == said


async def test_what_an_instance_does_that_cannot_reach_the_bus_is_read_from_the_log(
    two: FleetProcesses, redis: RedisServer
) -> None:
    """The others' own way to the bus is whole: they know of it from the registry."""
    first = two.instances[0]
    async with FaultyProxy(redis.port) as proxy:
        cut_off = await asyncio.to_thread(
            two.add, INSTANCE_ID="cut-off", REDIS_URL=f"redis://127.0.0.1:{proxy.port}/0"
        )
        try:
            room, (mara, bo) = await table(first, "Bo")
            async with Raw(first, mara.token) as here, Raw(cut_off, bo.token) as there:
                for raw in (here, there):
                    await raw.subscribe(f"room:{room}")
                proxy.swallowing = True
                await until(lambda: "ok" not in bus_of(cut_off).values())
                await until(lambda: metric(first, "instances_cut_off") == 1)
                assert set(bus_of(first).values()) == {"ok"}
                before = metric(first, LOOKS)
                said = await there.command(room, "chat.say", text="can you hear me?")
                heard = await here.wait_for_offset(room, said["offset"])
                assert heard[-1]["data"]["text"] == "can you hear me?"
                after = metric(first, LOOKS)
                assert after > before
        finally:
            two.instances.remove(cut_off)
            await asyncio.to_thread(cut_off.stop)


async def test_an_instance_on_another_bus_is_noticed_and_read_from_the_log(
    two: FleetProcesses,
) -> None:
    """Its canary comes back to itself, wherever: that it is not heard here says that something is set wrong."""
    first = two.instances[0]
    astray = await asyncio.to_thread(two.add, INSTANCE_ID="astray", REDIS_PUB_SUB_DB="902")
    try:
        await until(lambda: "instance astray" in bus_of(first))
        await until(lambda: "instance i1" in bus_of(astray))
        assert metric(first, "instances_unheard") == 1
        assert "REDIS_PUB_SUB_DB" in first.output()
        room, (mara, bo) = await table(first, "Bo")
        async with Raw(first, mara.token) as here, Raw(astray, bo.token) as there:
            for raw in (here, there):
                await raw.subscribe(f"room:{room}")
            before = metric(first, LOOKS)
            said = await there.command(room, "chat.say", text="which way?")
            await here.wait_for_offset(room, said["offset"])
            assert metric(first, LOOKS) > before
    finally:
        two.instances.remove(astray)
        await asyncio.to_thread(astray.stop)


LOOKS = 'db_query_duration_seconds_count{statement="log_heads"}'


def bus_of(server: ServerProcess) -> dict[str, str]:
    """How an instance says the bus is doing."""
    found: dict[str, str] = httpx.get(f"{server.url}/ready", timeout=10).json()["bus"]
    return found


def metric(server: ServerProcess, name: str) -> float:
    """One line of an instance's metrics."""
    lines = httpx.get(f"{server.url}/metrics", timeout=10).text.splitlines()
    return next((float(line.split()[-1]) for line in lines if line.startswith(name)), 0.0)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that an instance tells."""
    async with asyncio.timeout(DEADLINE):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)
