"""The bus on real servers that are stopped, killed, paused, told to misbehave, and replaced by Sentinel."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvloop
from redis.asyncio import Redis

from tableforge.bench.faulty_proxy import FaultyProxy
from tableforge.bus.redis import RedisBus, Seal
from tableforge.config import RedisKnobs
from tableforge.ops.servers import RedisServer, SentinelServer, Server
from tests.bus_instance import CALM, DEADLINE, Instance, until

SILENCE = 0.8
ASLEEP_SECONDS = 1.5

At = Callable[..., Instance]


def instance(name: str, silence: float = SILENCE, **settings: Any) -> Instance:
    return Instance(RedisBus(RedisKnobs(**settings), silence_seconds=silence, origin=name))


@pytest.fixture
async def at() -> AsyncIterator[At]:
    """An instance at the bus of this address, or with these settings; not connected yet."""
    async with AsyncExitStack() as stack:
        names = iter(("ada", "bob", "cid"))

        def make(url: str = "", *, silence: float = SILENCE, **settings: Any) -> Instance:
            made = instance(next(names), silence, url=url or None, **settings)
            stack.push_async_callback(made.bus.close)
            return made

        yield make


async def tell(server: RedisServer, *command: str | bytes) -> Any:
    """Have a server or a Sentinel execute a command, and return its answer."""
    async with Redis(host="127.0.0.1", port=server.port, password=server.password) as client:
        return await client.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py leaves it so


Do = Callable[[RedisServer], Awaitable[object]]


async def nothing(server: RedisServer) -> None:
    """It mends itself."""


async def overrun(server: RedisServer) -> None:
    await tell(server, "CONFIG", "SET", "client-output-buffer-limit", "pubsub 100kb 0 0")
    async with Redis(port=server.port) as client, client.pipeline(transaction=True) as messages:
        for _ in range(2_000):
            messages.execute_command("PUBLISH", "tableforge:1:room:r", bytes(1_000))
        await messages.execute()


def at_once(method: Callable[[Server], object]) -> Do:
    async def run(server: RedisServer) -> None:
        method(server)

    return run


def command(*words: str) -> Do:
    async def run(server: RedisServer) -> None:
        await tell(server, *words)

    return run


LOUD: dict[str, tuple[Do, Do]] = {
    "restart": (at_once(Server.stop), at_once(Server.start)),
    "kill -9": (at_once(Server.kill), at_once(Server.start)),
    "CLIENT KILL": (command("CLIENT", "KILL", "TYPE", "pubsub"), nothing),
    "output buffer overrun": (overrun, nothing),
    "demoted": (command("REPLICAOF", "127.0.0.1", "1"), command("REPLICAOF", "NO", "ONE")),
}
SILENT: dict[str, tuple[Do, Do]] = {
    "SIGSTOP": (at_once(Server.pause), at_once(Server.resume)),
    "CLIENT PAUSE": (command("CLIENT", "PAUSE", str(int(ASLEEP_SECONDS * 1000))), nothing),
    "DEBUG SLEEP": (command("DEBUG", "SLEEP", str(ASLEEP_SECONDS)), nothing),
}


@pytest.mark.parametrize("fault", [*LOUD, *SILENT])
async def test_bu3_bu4_a_fault_is_noticed_and_mended(
    fault: str, at: At, new_redis: Callable[..., RedisServer]
) -> None:
    server = new_redis(settings={"enable-debug-command": "yes"})
    ada, bob = await at(server.url).start(), await at(server.url).start()
    await ada.listen("room:r", "room:s")
    breaking, mending = (LOUD | SILENT)[fault]
    going = asyncio.ensure_future(breaking(server))
    if fault in SILENT:
        await until(lambda: not ada.bus.carries("room:r") and not bob.bus.carries("room:r"))
    await going
    await until(lambda: not ada.bus.carries("room:r") or ada.begun("room:r") > 1)
    await mending(server)
    await until(lambda: ada.begun("room:r") > 1 and ada.begun("room:s") > 1)
    await bob.speak("room:r", to=ada)
    await until(lambda: ada.bus.carries("room:r") and bob.bus.carries("room:r"))


def test_bu1_bu3_on_the_event_loop_of_production(new_redis: Callable[..., RedisServer]) -> None:
    server = new_redis()

    async def play() -> None:
        ada = await instance("ada", url=server.url).start()
        await ada.listen("room:r")
        await ada.speak("room:r", to=ada)
        server.kill()
        await until(lambda: not ada.bus.carries("room:r"))
        server.start()
        await until(lambda: ada.begun("room:r") > 1)
        await ada.speak("room:r", to=ada)
        await ada.bus.close()

    uvloop.run(play())


async def test_bu1_flushall_takes_nothing_from_the_bus(
    at: At, new_redis: Callable[..., RedisServer]
) -> None:
    server = new_redis()
    ada = await at(server.url, silence=CALM).start()
    await ada.listen("room:r")
    ada.bus.publish("room:r", b"before")
    await tell(server, "FLUSHALL")
    ada.bus.publish("room:r", b"after")
    await until(lambda: len(ada.heard("room:r")) == 2)
    assert ada.begun("room:r") == 1


async def test_bu2_a_server_that_is_away_at_the_start_is_found_when_it_comes(
    at: At, new_redis: Callable[..., RedisServer]
) -> None:
    server = new_redis()
    server.stop()
    ada = at(server.url)
    ada.bus.listen("room:r")
    await ada.bus.start(lambda *_: None, ada.resumed)
    await until(lambda: "Connect" in ada.bus.servers()[0].trouble)
    ada.bus.publish("room:r", b"dropped")
    server.start()
    await until(lambda: ada.bus.carries("room:r"))
    assert ada.begun("room:r") >= 1


async def test_bu2_trouble_that_nobody_thought_of_does_not_end_the_attempts(at: At) -> None:
    ada = at("redis://no..name")
    await ada.bus.start(lambda *_: None, ada.resumed)
    await until(lambda: "Unicode" in ada.bus.servers()[0].trouble)
    assert isinstance(ada.bus, RedisBus)
    attempts = ada.bus._servers[0]._task
    assert attempts is not None
    assert not attempts.done()


async def test_bu3_a_message_that_cannot_be_taken_counts_as_missed(at: At, redis_url: str) -> None:
    ada = at(redis_url, silence=CALM)

    def hear(channel: str, message: bytes) -> None:
        ada.told.append((channel, message))
        assert message == b"heard"

    await ada.bus.start(hear, ada.resumed)
    await ada.listen("room:r", "room:s")
    ada.bus.publish("room:r", b"cannot be taken")
    await until(lambda: ada.begun("room:r") == 2)
    await ada.speak("room:r", to=ada)
    assert ada.begun("room:s") == 1


async def test_bu7_strangers_are_not_heard(at: At, redis_url: str) -> None:
    ada = await at(redis_url, silence=CALM).start()
    await ada.listen("room:r")
    sealed: list[bytes] = []

    def begun(times: int) -> bool:
        return ada.begun("room:r") == times

    async with Redis.from_url(redis_url) as stranger, stranger.pubsub() as overheard:
        await overheard.subscribe("tableforge:1:room:s")
        await overheard.get_message(timeout=DEADLINE)
        ada.bus.publish("room:s", b"said elsewhere")
        while not sealed:
            message = await overheard.get_message(ignore_subscribe_messages=True, timeout=DEADLINE)
            sealed += [message["data"]] if message is not None else []
        other = Seal("another secret").on(b"tableforge:1:room:r", b"with another secret")
        for number, forged in enumerate((b"", b"bare", b"x" * 100_000, sealed[0], other), 2):
            await stranger.publish("tableforge:1:room:r", forged)
            # It may be an instance whose secret is not ours: what it told of is looked for.
            await until(partial(begun, number))
    await ada.speak("room:r", to=ada)
    assert set(ada.heard("room:r")) == {b"heard"}


async def test_bu3_thousands_of_channels_begin_together(at: At, redis_url: str) -> None:
    ada = await at(redis_url, silence=CALM).start()
    channels = [f"room:{number}" for number in range(3_000)]
    await ada.listen(*channels)
    assert [ada.begun(channel) for channel in channels] == [1] * len(channels)
    for channel in channels:
        ada.bus.unlisten(channel)
    await ada.listen("room:again")
    ada.bus.publish(channels[0], b"1")
    await ada.speak("room:again", to=ada)
    assert ada.heard(channels[0]) == []


async def test_bu4_a_black_hole_from_the_first_packet_on_is_no_bus(
    at: At, redis_url: str, redis: RedisServer
) -> None:
    async with FaultyProxy(redis.port) as proxy:
        proxy.swallowing = True
        ada = at(f"redis://127.0.0.1:{proxy.port}")
        await ada.bus.start(lambda *_: None, ada.resumed)
        await until(lambda: proxy.connections > 1)
        assert not ada.bus.carries("room:r")
        proxy.swallowing = False
        await until(lambda: ada.bus.carries("room:r"))
        await ada.bus.close()


async def test_bu6_a_server_that_dies_takes_only_its_own_channels_with_it(
    at: At, new_redis: Callable[..., RedisServer]
) -> None:
    one, two = new_redis(), new_redis()
    both = f"{one.url},{two.url}"
    ada = await at(bus_urls=both).start()
    bob = await at(bus_urls=f"{two.url},{one.url}").start()
    channels = [f"room:{number}" for number in range(40)]
    await ada.listen(*channels)
    one.kill()
    await until(lambda: [bool(server.trouble) for server in ada.bus.servers()] == [True, False])
    lost = [channel for channel in channels if not ada.bus.carries(channel)]
    kept = [channel for channel in channels if channel not in lost]
    assert min(len(lost), len(kept)) > 5
    for channel in kept:
        await bob.speak(channel, to=ada)
    for channel in lost:
        bob.bus.publish(channel, b"dropped")
    one.start()
    for channel in channels:
        await bob.speak(channel, to=ada)
    assert all(b"dropped" not in ada.heard(channel) for channel in lost)
    assert all(ada.begun(channel) > 1 for channel in lost)


async def test_bu4_after_a_failover_by_sentinel_the_bus_is_at_the_new_master(
    at: At,
    new_redis: Callable[..., RedisServer],
    new_server: Callable[[Server], Server],
    services_folder: Path,
) -> None:
    master = new_redis(password="open sesame")
    replica = new_redis(password="open sesame", replica_of=master)
    sentinel = SentinelServer(services_folder / f"sentinel-{master.port}", primary=master)
    new_server(sentinel)
    async with asyncio.timeout(30):
        while len(await tell(sentinel, "SENTINEL", "REPLICAS", sentinel.service)) < 1:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.05)
    async with FaultyProxy(sentinel.port) as silent:
        silent.swallowing = True
        listed = sentinel.url.replace("127.0.0.1", f"127.0.0.1:{silent.port},127.0.0.1")
        ada, bob = await at(listed).start(), await at(sentinel.url).start()
        await ada.listen("room:r")
        await bob.speak("room:r", to=ada)
        master.kill()
        await until(lambda: ada.begun("room:r") > 1)
        await bob.speak("room:r", to=ada)
        assert b"tableforge-ada" in await tell(replica, "CLIENT", "LIST")
        await ada.bus.close()


async def test_bu4_sentinels_that_name_another_master_are_believed_though_the_old_one_works(
    at: At,
    new_redis: Callable[..., RedisServer],
    new_server: Callable[[Server], Server],
    services_folder: Path,
) -> None:
    old, new = new_redis(), new_redis()
    sentinel = SentinelServer(services_folder / f"sentinel-{old.port}", primary=old)
    new_server(sentinel)
    ada = await at(sentinel.url, silence=CALM / 20).start()
    await ada.listen("room:r")
    await tell(sentinel, "SENTINEL", "REMOVE", sentinel.service)
    await tell(sentinel, "SENTINEL", "MONITOR", sentinel.service, "127.0.0.1", str(new.port), "1")
    await until(lambda: ada.begun("room:r") > 1)
    assert b"tableforge-ada" in await tell(new, "CLIENT", "LIST")


async def test_bu4_a_wrong_password_is_said_without_the_password(
    at: At, new_redis: Callable[..., RedisServer]
) -> None:
    server = new_redis(password="open sesame")
    ada = at(server.url.replace("sesame", "barley"))
    await ada.bus.start(lambda *_: None, ada.resumed)
    await until(lambda: "WRONGPASS" in ada.bus.servers()[0].trouble)
    assert "barley" not in str(ada.bus.servers())
    bob = await at(server.url).start()
    await bob.listen("room:r")


async def test_bu4_a_user_who_may_not_publish_here_is_told(
    at: At, new_redis: Callable[..., RedisServer]
) -> None:
    server = new_redis()
    await tell(server, "ACL", "SETUSER", "ada", "on", ">pass", "+@all", "resetchannels")
    url = server.url.replace("//", "//ada:pass@")
    ada = at(url)
    await ada.bus.start(lambda *_: None, ada.resumed)
    await until(lambda: "NOPERM" in ada.bus.servers()[0].trouble)
    await tell(
        server, "ACL", "SETUSER", "ada", "-@all", "+@pubsub", "+@connection", "&tableforge:*"
    )
    await until(lambda: ada.bus.carries("room:r"))


async def test_bu4_a_replica_is_no_bus(at: At, new_redis: Callable[..., RedisServer]) -> None:
    replica = new_redis(replica_of=new_redis())
    ada = at(replica.url)
    await ada.bus.start(lambda *_: None, ada.resumed)
    await until(lambda: "replica" in ada.bus.servers()[0].trouble)


async def test_bu1_messages_travel_encrypted_and_over_a_unix_socket(
    at: At, new_redis: Callable[..., RedisServer], tmp_path: Path
) -> None:
    server = new_redis(settings={"unixsocket": str(tmp_path / "valkey.sock")})
    # Without a certificate, by a key agreement that has none: nothing needs to be made or kept for this test.
    ciphers = "AECDH-AES256-SHA@SECLEVEL=0"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(ciphers)
    async with FaultyProxy(server.port, tls=context) as proxy:
        address = f"rediss://127.0.0.1:{proxy.port}"
        strict = at(address)
        await strict.bus.start(lambda *_: None, strict.resumed)
        ada = await at(f"{address}?ssl_ciphers={ciphers}", silence=CALM).start()
        bob = await at(f"unix://{tmp_path}/valkey.sock", silence=CALM).start()
        await ada.listen("room:r")
        bob.bus.publish("room:r", bytes(1_000_000))
        await until(lambda: ada.heard("room:r") == [bytes(1_000_000)])
        await until(lambda: strict.bus.servers()[0].trouble != "not connected yet")
        await strict.bus.close()
        await ada.bus.close()
