"""The shared cache on real servers that are stopped, killed, paused, slowed, flushed, full, replaced, and tampered with.

Whatever befalls the server: no exception, no wait beyond the bound, nothing but a miss; and it recovers by itself.
"""

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import uvloop
from redis.asyncio import Redis

from tableforge.bench.faulty_proxy import FaultyProxy
from tableforge.cache import Kept
from tableforge.cache.redis import RedisShared
from tableforge.config import CacheKnobs, RedisKnobs
from tableforge.ops.servers import RedisServer, SentinelServer, Server
from tests.bus_instance import DEADLINE, until

BOUND = 0.05
LATE = 2.0
"""How much later than the bound a busy machine may let us look."""
CALM_MS = 10_000.0
HOUR = 3_600.0
TOKEN = "the fleet's common token"

At = Callable[..., RedisShared]
Do = Callable[[RedisServer], Awaitable[object]]

_keys = count()


def shared_at(url: str, token: str = TOKEN, **knobs: Any) -> RedisShared:
    shared = RedisShared(RedisKnobs(url=url), CacheKnobs(**knobs), secret=token, origin="ada")
    shared.start()
    return shared


@pytest.fixture
async def at() -> AsyncIterator[At]:
    """The shared cache on this server, with these settings of the cache; perhaps not connected yet."""
    async with AsyncExitStack() as stack:

        def make(url: str, *, token: str = TOKEN, **knobs: Any) -> RedisShared:
            shared = shared_at(url, token, **knobs)
            stack.push_async_callback(shared.close)
            return shared

        yield make


@contextmanager
def bounded() -> Any:
    """What happens here takes no longer than the bound, as far as a busy machine lets us see."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    yield
    assert loop.time() - began < BOUND + LATE


async def get(shared: RedisShared, key: str, *tags: str, within: float = BOUND) -> bytes | None:
    with bounded():
        found = await shared.get("rooms", key, tags, within=within)
    return found.value if found is not None else None


async def try_all(shared: RedisShared) -> None:
    """Everything that may be asked, whatever comes of it."""
    with bounded():
        await shared.moment()
    with bounded():
        await shared.drop("rooms", ["some"])
    with bounded():
        await shared.drop_tags(["some"])
    with bounded():
        await shared.lock("rooms", "some", seconds=1)
    shared.unlock("rooms", "some")
    with bounded():
        await shared.stats()
    shared.put("rooms", "some", value_at(b"e" * 40), seconds=HOUR, entries=100)
    assert shared.condition().server


def value_at(moment: bytes, value: bytes = b"value", *tags: str) -> Kept:
    return Kept(form=1, position=2, built=3.0, tags=tags, moment=moment, value=value)


async def keep(shared: RedisShared, key: str, value: bytes = b"value", *tags: str) -> None:
    """Put a value until it is found: on a busy machine the server may seem slow for a while."""
    async with asyncio.timeout(DEADLINE):
        while await get(shared, key, *tags) != value:
            moment = await shared.moment()
            if moment is not None:
                shared.put(
                    "rooms", key, value_at(moment, value, *tags), seconds=HOUR, entries=10_000
                )
            await asyncio.sleep(0.01)


async def dropped(shared: RedisShared, tag: str) -> None:
    """Drop a tag until that was done."""
    async with asyncio.timeout(DEADLINE):
        while not await shared.drop_tags([tag]):  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.01)


async def works(shared: RedisShared) -> None:
    """It is asked and keeps what it is given."""
    await keep(shared, f"works {next(_keys)}")


async def tell(server: RedisServer, *command: str | bytes) -> Any:
    """Have a server execute a command, and return its answer."""
    async with Redis(host="127.0.0.1", port=server.port) as client:
        return await client.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py leaves it so


async def nothing(server: RedisServer) -> None:
    """It mends itself."""


def at_once(method: Callable[[Server], object]) -> Do:
    async def run(server: RedisServer) -> None:
        method(server)

    return run


def command(*words: str) -> Do:
    async def run(server: RedisServer) -> None:
        await tell(server, *words)

    return run


FAULTS: dict[str, tuple[Do, Do]] = {
    "stop": (at_once(Server.stop), at_once(Server.start)),
    "kill -9": (at_once(Server.kill), at_once(Server.start)),
    "demoted": (command("REPLICAOF", "127.0.0.1", "1"), command("REPLICAOF", "NO", "ONE")),
    "SIGSTOP": (at_once(Server.pause), at_once(Server.resume)),
    "CLIENT PAUSE": (command("CLIENT", "PAUSE", "1000"), nothing),
    "DEBUG SLEEP": (command("DEBUG", "SLEEP", "1"), nothing),
    "no right to read": (
        command("ACL", "SETUSER", "default", "-mget"),
        command("ACL", "SETUSER", "default", "+mget"),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_ca7_a_fault_costs_misses_and_no_waits(
    fault: str, at: At, new_redis: Callable[..., RedisServer]
) -> None:
    server = new_redis(settings={"enable-debug-command": "yes"})
    ada = at(server.url)
    await keep(ada, "k", b"before", "room:r")
    breaking, mending = FAULTS[fault]
    going = asyncio.ensure_future(breaking(server))
    async with asyncio.timeout(DEADLINE):
        while not ada.is_open:
            assert await get(ada, "k", "room:r") in (None, b"before")
            await asyncio.sleep(0)
    condition = ada.condition()
    assert condition.state != "closed"
    assert condition.trouble
    with bounded():
        for _ in range(1_000):
            await ada.get("rooms", "k", (), within=BOUND)
    await try_all(ada)
    await going
    await mending(server)
    await works(ada)
    assert ada.condition().opened >= 1
    await until(lambda: (ada.condition().state, ada.condition().trouble) == ("closed", ""))
    assert ada.condition().last_trouble
    assert await get(ada, "k", "room:r", within=LATE) in (
        (b"before", None) if fault not in ("stop", "kill -9") else (None,)
    )


async def test_ca7_connections_that_are_cut_are_made_anew(
    at: At, new_redis: Callable[..., RedisServer]
) -> None:
    server = new_redis()
    ada = at(server.url)
    await keep(ada, "k")
    for _ in range(3):
        await tell(server, "CLIENT", "KILL", "TYPE", "normal")
        await until(lambda: ada.condition().opened)
        await works(ada)
    await keep(ada, "k")


@pytest.mark.parametrize("way", ["slow", "swallowing", "holding", "refusing"])
async def test_ca7_a_network_that_fails_costs_misses_and_no_waits(
    way: str, at: At, redis: RedisServer, redis_db: int
) -> None:
    async with FaultyProxy(redis.port) as proxy:

        def fail(on: bool) -> None:
            if way == "slow":
                proxy.latency = 0.2 if on else 0.0
            else:
                setattr(proxy, way, on)
            if way == "refusing" and on:
                proxy.cut()

        ada = at(f"redis://127.0.0.1:{proxy.port}/{redis_db}")
        await keep(ada, "k")
        fail(True)
        async with asyncio.timeout(DEADLINE):
            while not ada.is_open:
                await get(ada, "k")
        probes = ada.condition().probes
        await until(lambda: ada.condition().probes > probes)
        assert await get(ada, "k") is None
        await try_all(ada)
        fail(False)
        await works(ada)
        await ada.close()


async def test_ca7_a_server_that_is_away_at_the_start_is_found_when_it_comes(
    at: At, new_redis: Callable[..., RedisServer]
) -> None:
    server = new_redis()
    server.stop()
    ada = at(server.url)
    await until(lambda: "Connect" in ada.condition().trouble)
    await try_all(ada)
    assert await ada.clear(None) is None
    server.start()
    await works(ada)


async def test_ca7_trouble_that_nobody_thought_of_does_not_end_the_attempts(at: At) -> None:
    ada = at("redis://no..name")
    await until(lambda: "Unicode" in ada.condition().trouble and ada.condition().probes > 1)
    await try_all(ada)


async def test_ca7_a_wrong_password_is_said_without_the_password(
    at: At, new_redis: Callable[..., RedisServer]
) -> None:
    server = new_redis(password="open sesame")
    ada = at(server.url.replace("sesame", "barley"))
    await until(lambda: "WRONGPASS" in ada.condition().trouble)
    assert "barley" not in str(ada.condition())
    await works(at(server.url))


async def test_ca7_the_rights_of_the_manual_are_enough(
    at: At, new_redis: Callable[..., RedisServer]
) -> None:
    manual = (Path(__file__).parents[2] / "docs" / "shared-cache.md").read_text("utf-8")
    (line,) = [line for line in manual.splitlines() if line.startswith("ACL SETUSER")]
    server = new_redis()
    await tell(server, *line.split())
    url = server.url.replace("//", "//tableforge:secret@")
    for eviction in ("lru", "lfu", "ttl"):
        ada = at(url, redis_hard_ms=CALM_MS, redis_eviction=eviction)
        for number in range(60):
            await keep(ada, f"{number}", b"value", "room:r")
        await try_all(ada)
        assert await ada.trim("rooms", 30)
        assert await ada.clear(None)
        assert ada.condition().trouble == ""
        assert ada.condition().lost == 0


async def test_ca1_values_travel_encrypted_and_over_a_unix_socket(
    at: At, new_redis: Callable[..., RedisServer], tmp_path: Path
) -> None:
    server = new_redis(settings={"unixsocket": str(tmp_path / "valkey.sock")})
    # Without a certificate, by a key agreement that has none: nothing needs to be made or kept for this test.
    ciphers = "AECDH-AES256-SHA@SECLEVEL=0"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(ciphers)
    async with FaultyProxy(server.port, tls=context) as proxy:
        url = f"rediss://127.0.0.1:{proxy.port}?ssl_ciphers={ciphers}"
        ada = at(url, redis_hard_ms=CALM_MS)
        bob = at(f"unix://{tmp_path}/valkey.sock", redis_hard_ms=CALM_MS)
        await keep(ada, "k", b"goblin " * 10_000)
        assert await get(bob, "k", within=LATE) == b"goblin " * 10_000
        await ada.close()


async def test_ca7_late_and_cancelled_answers_are_nobody_elses(
    at: At, redis: RedisServer, redis_db: int
) -> None:
    async with FaultyProxy(redis.port) as proxy:
        ada = at(f"redis://127.0.0.1:{proxy.port}/{redis_db}", redis_hard_ms=CALM_MS)
        for number in range(50):
            await keep(ada, f"{number}", b"%d" % number)
        for _ in range(5):
            proxy.holding = True
            cancelled = [asyncio.ensure_future(get(ada, f"{number}")) for number in range(50)]
            await asyncio.sleep(0)
            for one in random.sample(cancelled, 25):
                one.cancel()
            outcomes = await asyncio.gather(*cancelled, return_exceptions=True)
            assert sum(one is None for one in outcomes) == 25
            waiting = [
                asyncio.ensure_future(ada.get("rooms", f"{number}", (), within=HOUR))
                for number in range(50)
            ]
            await asyncio.sleep(0)
            proxy.holding = False
            found = await asyncio.gather(*waiting)
            assert [one and one.value for one in found] == [b"%d" % number for number in range(50)]
        assert ada.condition().opened == 0
        await ada.close()


async def test_ca7_values_of_any_length_are_written_and_read_within_the_bound(
    at: At, redis_url: str
) -> None:
    ada = at(redis_url, redis_hard_ms=CALM_MS)
    large = random.Random(3).randbytes(3 << 20)
    await keep(ada, "warm")
    moment = await ada.moment()
    assert moment is not None
    for number in range(40):
        ada.put("rooms", f"{number}", value_at(moment, large), seconds=HOUR, entries=100)
    ada.put("rooms", "larger", value_at(moment, bytes(17 << 20)), seconds=HOUR, entries=100)
    assert ada.condition().lost >= 1
    assert await get(ada, "larger") is None
    await until(lambda: not ada._sealing)
    found = await asyncio.gather(*(get(ada, f"{n}", within=BOUND + LATE / 2) for n in range(8)))
    assert set(found) <= {None, large}


async def test_ca11_a_restart_with_what_it_had_saved_counts_as_missing(
    at: At, new_redis: Callable[..., RedisServer]
) -> None:
    server = new_redis()
    server.settings["dir"] = str(server.folder)
    server.stop()
    server._is_configured = False
    server.start()
    ada = at(server.url)
    await keep(ada, "k", b"old", "room:r")
    await tell(server, "SAVE")
    await dropped(ada, "room:r")
    server.kill()
    server.start()
    await works(ada)
    assert any(
        b"guard" not in key for key in await tell(server, "KEYS", "tableforge:cache:rooms:*")
    )
    assert await get(ada, "k", "room:r", within=LATE) is None
    assert await get(ada, "k", within=LATE) is None


async def test_ca11_what_is_dropped_during_a_failover_does_not_come_back(
    at: At, new_redis: Callable[..., RedisServer]
) -> None:
    primary = new_redis(settings={"repl-diskless-sync-delay": "0"})
    replica = new_redis(replica_of=primary)
    async with FaultyProxy(primary.port) as proxy:
        ada = at(f"redis://127.0.0.1:{proxy.port}")
        async with asyncio.timeout(DEADLINE):
            while not await tell(primary, "WAIT", "1", "100"):
                pass
        await keep(ada, "k", b"old", "room:r")
        await tell(primary, "WAIT", "1", "5000")
        replica.pause()
        await dropped(ada, "room:r")
        primary.kill()
        replica.resume()
        await tell(replica, "REPLICAOF", "NO", "ONE")
        proxy._target_port = replica.port
        await works(ada)
        assert b"tableforge-cache-ada" in await tell(replica, "CLIENT", "LIST")
        assert len(await tell(replica, "KEYS", "tableforge:cache:rooms:*")) >= 2
        assert await get(ada, "k", "room:r", within=LATE) is None
        await ada.close()


async def test_ca7_sentinels_say_where_the_primary_is(
    at: At,
    new_redis: Callable[..., RedisServer],
    new_server: Callable[[Server], Server],
    services_folder: Path,
) -> None:
    one, other = new_redis(), new_redis()
    sentinel = SentinelServer(services_folder / f"cache-sentinel-{one.port}", primary=one)
    new_server(sentinel)
    ada = at(sentinel.url)
    await works(ada)
    await tell(sentinel, "SENTINEL", "REMOVE", sentinel.service)
    await tell(sentinel, "SENTINEL", "MONITOR", sentinel.service, "127.0.0.1", str(other.port), "1")
    await until(lambda: "another primary" in ada.condition().last_trouble)
    await works(ada)
    assert b"tableforge-cache-ada" in await tell(other, "CLIENT", "LIST")


async def test_ca11_flushed_values_count_as_missing(
    at: At, new_redis: Callable[..., RedisServer]
) -> None:
    server = new_redis()
    ada = at(server.url)
    await keep(ada, "k")
    await tell(server, "FLUSHALL")
    assert await get(ada, "k", within=LATE) is None
    await keep(ada, "k", b"again")


def poisons(sealed: bytes, other: bytes) -> dict[str, bytes]:
    """What may lie where a sealed value lay."""
    middle = len(sealed) // 2
    return {
        "empty": b"",
        "foreign": b'{"value": 1}',
        "cut": sealed[:-1],
        "cut to nothing but the front": sealed[:24],
        "cut within the front": sealed[:10],
        "longer": sealed + b"\0",
        "altered at the front": b"T" + sealed[1:],
        "of another form": sealed[:3] + b"\x09" + sealed[4:],
        "altered in the middle": sealed[:middle]
        + bytes([sealed[middle] ^ 1])
        + sealed[middle + 1 :],
        "altered at the end": sealed[:-1] + bytes([sealed[-1] ^ 1]),
        "moved from another key": other,
    }


async def test_ca11_what_nobody_of_the_fleet_wrote_there_counts_as_missing(
    at: At, redis_url: str
) -> None:
    ada = at(redis_url, redis_hard_ms=CALM_MS)
    await keep(ada, "k", b"value " * 1_000)
    await keep(ada, "l", b"other")
    stranger_there = at(redis_url, token="another", redis_hard_ms=CALM_MS)
    await keep(stranger_there, "k", b"theirs")
    assert await get(ada, "k", within=LATE) == b"value " * 1_000
    keys = [
        ada._index.key("rooms", one._envelopes.name("rooms", name))
        for one, name in ((ada, "k"), (ada, "l"), (stranger_there, "k"))
    ]
    async with Redis.from_url(redis_url) as stranger:
        sealed, other, theirs = [bytes(await stranger.execute_command("GET", key)) for key in keys]  # type: ignore[no-untyped-call]  # redis-py leaves it so
        cases = {**poisons(sealed, other), "of another token": theirs}
        for number, (case, poison) in enumerate(cases.items(), 1):
            await stranger.set(keys[0], poison)
            assert await get(ada, "k", within=LATE) is None, case
            assert ada.condition().unreadable == number
        await stranger.delete(keys[0])
        await stranger.rpush(keys[0], "a list")
        assert await get(ada, "k", within=LATE) is None
        await stranger.set(keys[0], sealed)
        assert await get(ada, "k", within=LATE) == b"value " * 1_000
        await keep(ada, "k", b"again")


@pytest.mark.parametrize(
    "tampered",
    [
        ("SET", "tableforge:cache:guard", "mine"),
        ("HSET", "tableforge:cache:guard", "now", "soon"),
        ("HSET", "tableforge:cache:guard", "now", "9" * 18),
        ("HSET", "tableforge:cache:guard", "epoch", "mine"),
        ("HDEL", "tableforge:cache:guard", "now"),
        ("DEL", "tableforge:cache:guard"),
        ("SET", "tableforge:cache:rooms:index", "mine"),
        ("SET", "tableforge:cache:regions", "mine"),
    ],
    ids=" ".join,
)
async def test_ca11_whatever_lies_where_our_own_keys_were_it_mends_itself(
    tampered: tuple[str, ...], at: At, redis_url: str
) -> None:
    ada = at(redis_url, redis_hard_ms=CALM_MS)
    await keep(ada, "k", b"value", "room:r")
    async with Redis.from_url(redis_url) as stranger:
        if tampered[0] == "SET":
            await stranger.delete(tampered[1])
        await stranger.execute_command(*tampered)  # type: ignore[no-untyped-call]  # redis-py leaves it so
    await try_all(ada)
    assert await ada.drop_tags(["room:r"])
    assert await get(ada, "k", "room:r", within=LATE) is None
    await keep(ada, "k", b"again", "room:r")
    assert await ada.drop("rooms", ["k"])
    assert await get(ada, "k", within=LATE) is None
    assert await ada.clear(None) is not None
    assert ada.condition().opened == 0


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random", "volatile-ttl", "noeviction"])
async def test_ca9_a_server_that_is_full_costs_misses_only(
    policy: str, at: At, new_redis: Callable[..., RedisServer]
) -> None:
    server = new_redis(settings={"maxmemory": "4mb", "maxmemory-policy": policy})
    ada = at(server.url, redis_hard_ms=CALM_MS)
    await keep(ada, "warm")
    noise = random.Random(5).randbytes(5_000)
    for number in range(0, 1_500, 50):
        moment = await ada.moment() or bytes(40)
        for one in range(number, number + 50):
            value = value_at(moment, b"%d " % one + noise, "room:r", f"room:{one}")
            ada.put("rooms", f"{one}", value, seconds=HOUR, entries=10_000)
        for one in range(number, number + 50, 10):
            found = await get(ada, f"{one}", within=LATE)
            assert found is None or found.startswith(b"%d " % one)
    if policy == "noeviction":
        assert "OOM" in ada.condition().trouble
        assert ada.condition().lost > 0
    assert await ada.drop_tags(["room:r"])
    assert await get(ada, "10", within=LATE) is None
    assert await get(ada, "1490", within=LATE) is None
    assert await ada.clear(None) is not None
    await works(ada)


async def test_ca9_clearing_takes_nothing_of_others(at: At, redis_url: str) -> None:
    ada = at(redis_url, redis_hard_ms=CALM_MS)
    async with Redis.from_url(redis_url) as stranger:
        await stranger.set("theirs", "1")
        await stranger.set("tableforge:theirs", "1")
        await keep(ada, "k")
        assert await ada.clear(None) == 1
        kept = {key for key in await stranger.keys() if b":cache:" not in key}
    assert kept == {b"theirs", b"tableforge:theirs"}


@pytest.mark.parametrize("eviction", ["lru", "lfu", "ttl"])
async def test_ca9_what_leaves_first_is_chosen(eviction: str, at: At, redis_url: str) -> None:
    ada = at(redis_url, redis_hard_ms=CALM_MS, redis_eviction=eviction)
    await get(ada, "any")
    await until(lambda: not ada.is_open)

    async def put(key: str, seconds: float) -> None:
        await get(ada, key, within=LATE)
        moment = await ada.moment()
        assert moment is not None
        ada.put("rooms", key, value_at(moment), seconds=seconds, entries=100)

    for number in range(100):
        await put(f"{number}", HOUR * (2 if number < 50 else 1))
    for _ in range(100 if eviction != "ttl" else 1):
        await asyncio.gather(*(get(ada, f"{number}", within=LATE) for number in range(30)))
    for number in range(100, 140):
        await put(f"{number}", HOUR * 2)
    async with asyncio.timeout(DEADLINE):
        while (await ada.stats())[0].evictions["size"] < 20:
            await put("139", HOUR * 2)
    used = [await get(ada, f"{number}", within=LATE) for number in range(30)]
    unused = [await get(ada, f"{number}", within=LATE) for number in range(50, 70)]
    assert used.count(None) < unused.count(None)


def test_ca1_ca7_on_the_event_loop_of_production(new_redis: Callable[..., RedisServer]) -> None:
    server = new_redis()

    async def play() -> None:
        ada = shared_at(server.url)
        await keep(ada, "k", b"goblin " * 50_000)
        server.pause()
        async with asyncio.timeout(DEADLINE):
            while not ada.is_open:
                await get(ada, "k")
        server.resume()
        await works(ada)
        await ada.close()

    uvloop.run(play())
