"""What every bus keeps: the rules BU1 to BU5 of `docs/spec.md`, run on each engine."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Protocol

import pytest

from tableforge.bench.faulty_proxy import FaultyProxy
from tableforge.bus.redis import RedisBus
from tableforge.config import RedisKnobs
from tests.bus_instance import CALM, Instance, until
from tests.memory_bus import Exchange

SILENCE = 0.5
LATE = 1.0
"""How much later than the bound a busy machine may let us look."""


class World(Protocol):
    """A bus with several instances at it, each of which can be cut off without its connections telling."""

    async def instance(self, name: str, silence: float = CALM) -> Instance: ...

    def silence(self, name: str) -> None: ...

    def restore(self, name: str) -> None: ...


class BusContract:
    """Engines subclass it with a fixture `world`."""

    async def test_bu1_a_message_reaches_every_listener_in_order_its_sender_too(
        self, world: World
    ) -> None:
        ada, bob, cid = [await world.instance(name) for name in ("ada", "bob", "cid")]
        for one in (ada, bob):
            await one.listen("room:r", "room:s")
        await cid.listen("room:s")
        for number in range(300):
            ada.bus.publish("room:r", b"r%d" % number)
            bob.bus.publish("room:s", b"s%d" % number)
            if number % 7 == 0:
                await asyncio.sleep(0)
        await until(lambda: all(len(one.heard("room:s")) == 300 for one in (ada, bob, cid)))
        await until(lambda: all(len(one.heard("room:r")) == 300 for one in (ada, bob)))
        for one in (ada, bob, cid):
            assert one.heard("room:s") == [b"s%d" % number for number in range(300)]
        for one in (ada, bob):
            assert one.heard("room:r") == [b"r%d" % number for number in range(300)]
        assert cid.heard("room:r") == []

    async def test_bu1_any_bytes_of_any_length_travel(self, world: World) -> None:
        ada = await world.instance("ada")
        await ada.listen("room:ü")
        messages = [b"", b"\r\n$3\r\n\x00\xff", bytes(range(256)) * 8_000]
        for message in messages:
            ada.bus.publish("room:ü", message)
        await until(lambda: len(ada.heard("room:ü")) == 3)
        assert ada.heard("room:ü") == messages

    async def test_bu1_who_listens_no_longer_hears_nothing(self, world: World) -> None:
        ada, bob = await world.instance("ada"), await world.instance("bob")
        await ada.listen("room:r", "room:s")
        ada.bus.unlisten("room:r")
        ada.bus.unlisten("room:never")
        await ada.listen("room:t")
        for channel in ("room:r", "room:s"):
            bob.bus.publish(channel, b"1")
        await until(lambda: ada.heard("room:s"))
        assert ada.heard("room:r") == []
        await ada.listen("room:r")
        bob.bus.publish("room:r", b"2")
        await until(lambda: ada.heard("room:r"))
        assert ada.heard("room:r") == [b"2"]

    async def test_bu2_nothing_waits_or_raises_while_the_bus_is_away(self, world: World) -> None:
        ada, bob = await world.instance("ada", SILENCE), await world.instance("bob")
        await bob.listen("room:r")
        world.silence("ada")
        for channel in ("room:r", "room:s"):
            ada.bus.listen(channel)
            ada.bus.publish(channel, b"lost")
        ada.bus.unlisten("room:s")
        await until(lambda: not ada.bus.carries("room:never listened to"))
        ada.bus.publish("room:r", b"lost")
        assert ada.told == []
        world.restore("ada")
        await bob.speak("room:r", to=ada)
        assert b"lost" not in ada.heard("room:r") + bob.heard("room:r")

    async def test_bu2_nothing_raises_before_the_start_and_after_the_end(
        self, world: World
    ) -> None:
        ada = await world.instance("ada")
        await ada.listen("room:r")
        await ada.bus.close()
        ada.bus.publish("room:r", b"late")
        ada.bus.listen("room:s")
        ada.bus.unlisten("room:r")
        assert not ada.bus.carries("room:s")

    async def test_bu3_resumed_comes_before_what_is_sent_after_it(self, world: World) -> None:
        ada, bob = await world.instance("ada"), await world.instance("bob")
        channels = [f"room:{number}" for number in range(40)]
        for channel in channels:
            ada.bus.listen(channel)
        sent = 0
        while not all(map(ada.bus.carries, channels)):
            for channel in channels:
                bob.bus.publish(channel, b"%d" % sent)
            sent += 1
            await asyncio.sleep(0.001)
        for channel in channels:
            bob.bus.publish(channel, b"last")
        await until(lambda: all(b"last" in ada.heard(channel) for channel in channels))
        for channel in channels:
            told = [message for at, message in ada.told if at == channel]
            assert told[0] is None
            assert told.count(None) == 1

    async def test_bu3_listening_twice_begins_once_and_anew_begins_again(
        self, world: World
    ) -> None:
        ada = await world.instance("ada")
        await ada.listen("room:r")
        await ada.listen("room:r")
        assert ada.begun("room:r") == 1
        ada.bus.unlisten("room:r")
        await ada.listen("room:r")
        await until(lambda: ada.begun("room:r") == 2)

    async def test_bu3_after_a_break_listening_begins_anew(self, world: World) -> None:
        ada, bob = await world.instance("ada", SILENCE), await world.instance("bob")
        await ada.listen("room:r", "room:s")
        world.silence("ada")
        bob.bus.publish("room:r", b"missed")
        await until(lambda: not ada.bus.carries("room:r"))
        world.restore("ada")
        await until(lambda: ada.bus.carries("room:r") and ada.bus.carries("room:s"))
        assert ada.begun("room:r") >= 2
        assert ada.begun("room:s") >= 2
        await bob.speak("room:r", to=ada)
        assert b"missed" not in ada.heard("room:r")

    async def test_bu3_others_are_told_that_messages_to_them_may_be_lost(
        self, world: World
    ) -> None:
        ada, bob = await world.instance("ada", SILENCE), await world.instance("bob")
        await bob.listen("room:r", "room:s")
        world.silence("ada")
        ada.bus.publish("room:r", b"lost")
        await until(lambda: not ada.bus.carries("room:r"))
        assert bob.bus.carries("room:r")
        assert bob.begun("room:r") == 1
        world.restore("ada")
        await until(lambda: bob.begun("room:r") >= 2 and bob.begun("room:s") >= 2)

    async def test_bu4_a_silent_bus_is_noticed_in_time_and_believed_again(
        self, world: World
    ) -> None:
        ada, bob = await world.instance("ada", SILENCE), await world.instance("bob")
        await ada.listen("room:r")
        world.silence("ada")
        await asyncio.sleep(SILENCE + LATE)
        assert not ada.bus.carries("room:r")
        assert not ada.bus.carries("room:nobody listens")
        assert all(server.trouble for server in ada.bus.servers())
        assert bob.bus.carries("room:r")
        world.restore("ada")
        await until(lambda: ada.bus.carries("room:r"))
        assert ada.begun("room:r") >= 2
        await until(lambda: not any(server.trouble for server in ada.bus.servers()))

    async def test_bu4_a_channel_is_not_carried_before_listening_began(self, world: World) -> None:
        ada = await world.instance("ada")
        assert ada.bus.carries("room:r")
        ada.bus.listen("room:r")
        assert not ada.bus.carries("room:r")
        await until(lambda: ada.bus.carries("room:r"))
        assert ada.begun("room:r") == 1

    async def test_bu5_what_is_queued_is_bounded(self, world: World) -> None:
        ada = await world.instance("ada", SILENCE)
        await ada.listen("room:r")
        world.silence("ada")
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for _ in range(400):
                ada.bus.publish("room:r", bytes(100_000))
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert after - before < 20_000_000
        world.restore("ada")
        await until(lambda: ada.begun("room:r") >= 2)
        await ada.speak("room:r", to=ada)
        assert set(ada.heard("room:r")) == {b"heard"}


class MemoryWorld:
    """See `World`."""

    def __init__(self) -> None:
        self._exchange = Exchange(silence_seconds=SILENCE)
        self.silence = self._exchange.silence
        self.restore = self._exchange.restore

    async def instance(self, name: str, silence: float = CALM) -> Instance:
        return await Instance(self._exchange.endpoint(name)).start()


class RedisWorld:
    """See `World`: each instance has a proxy of its own between itself and the server."""

    def __init__(self, stack: AsyncExitStack, port: int, number: int) -> None:
        self._stack = stack
        self._port = port
        self._number = number
        self._proxies: dict[str, FaultyProxy] = {}

    async def instance(self, name: str, silence: float = CALM) -> Instance:
        proxy = await self._stack.enter_async_context(FaultyProxy(self._port))
        self._proxies[name] = proxy
        knobs = RedisKnobs(host="127.0.0.1", port=proxy.port, pub_sub_db=self._number)
        bus = RedisBus(knobs, silence_seconds=silence, origin=name)
        self._stack.push_async_callback(bus.close)
        return await Instance(bus).start()

    def silence(self, name: str) -> None:
        self._proxies[name].swallowing = True

    def restore(self, name: str) -> None:
        self._proxies[name].swallowing = False


class TestMemory(BusContract):
    """The bus of the simulation."""

    @pytest.fixture
    def world(self) -> World:
        return MemoryWorld()


class TestRedis(BusContract):
    """The bus on a real Valkey."""

    @pytest.fixture
    async def world(self, redis_url: str, redis_db: int) -> AsyncIterator[World]:
        port = int(redis_url.rpartition(":")[2].partition("/")[0])
        async with AsyncExitStack() as stack:
            yield RedisWorld(stack, port, redis_db)
