"""What the shared level keeps, on a real Valkey and on the twin in memory that tests of the cache stand on."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from itertools import count
from typing import Protocol

import pytest
from redis.asyncio import Redis

from tableforge.cache import Kept, Shared
from tableforge.cache.redis import RedisShared
from tableforge.config import CacheKnobs, RedisKnobs
from tests.bus_instance import until
from tests.memory_shared import MemoryServer, MemoryShared

HOUR = 3_600.0
PLENTY = 1_000
CALM_MS = 10_000.0
"""The hard bound where nothing befalls the server: a busy machine is no slow one."""
CALM = CALM_MS / 1000


def kept(moment: bytes, value: bytes = b"value", *tags: str, position: int = 7) -> Kept:
    return Kept(form=3, position=position, built=1.5, tags=tags, moment=moment, value=value)


async def moment(shared: Shared) -> bytes:
    found = await shared.moment()
    assert found is not None
    return found


async def keep(shared: Shared, key: str = "k", value: bytes = b"value", *tags: str) -> Kept:
    """Miss a value, read it, put it, and wait until it is there."""
    await found(shared, key)
    one = kept(await moment(shared), value, *tags)
    shared.put("rooms", key, one, seconds=HOUR, entries=PLENTY)
    await eventually(lambda: found(shared, key), one)
    return one


async def found(shared: Shared, key: str = "k", *tags: str, region: str = "rooms") -> Kept | None:
    return await shared.get(region, key, tags, within=CALM)


async def eventually(ask: Callable[[], Awaitable[object]], expected: object) -> None:
    async with asyncio.timeout(CALM):
        while await ask() != expected:  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.005)


class World(Protocol):
    """One server, and instances at it."""

    async def instance(self) -> Shared: ...

    async def flush(self) -> None: ...


class SharedContract:
    """Engines subclass it with a fixture `world`."""

    async def test_ca1_what_is_put_is_found_as_it_was_by_everybody(self, world: World) -> None:
        ada, bob = await world.instance(), await world.instance()
        one = await keep(ada, "k", b"\x00\xff" * 100, "room:r", "tag:ü")
        for shared in (ada, bob):
            assert await found(shared) == one
            assert await found(shared, "k", "room:r") == one
        assert await found(ada, "other") is None
        assert await found(ada, "k", region="lists") is None

    async def test_ca1_keys_are_told_apart_from_regions(self, world: World) -> None:
        ada = await world.instance()
        now = await moment(ada)
        ada.put("a", "b:c", kept(now, b"1"), seconds=HOUR, entries=PLENTY)
        ada.put("a:b", "c", kept(now, b"2"), seconds=HOUR, entries=PLENTY)
        await eventually(lambda: found(ada, "b:c", region="a"), kept(now, b"1"))
        await eventually(lambda: found(ada, "c", region="a:b"), kept(now, b"2"))

    async def test_ca1_large_values_travel(self, world: World) -> None:
        ada = await world.instance()
        await keep(ada, "k", b"goblin " * 100_000)
        await keep(ada, "l", bytes(range(256)) * 2_000)

    async def test_ca1_a_value_ends(self, world: World) -> None:
        ada = await world.instance()
        ada.put("rooms", "k", kept(await moment(ada)), seconds=0.05, entries=PLENTY)
        await eventually(lambda: found(ada), None)

    async def test_ca2_what_was_dropped_is_not_found(self, world: World) -> None:
        ada, bob = await world.instance(), await world.instance()
        await keep(ada, "k")
        other = await keep(ada, "l")
        assert await bob.drop("rooms", ["k", "never"])
        assert await found(ada) is None
        assert await found(ada, "l") == other
        await keep(ada, "k", b"again")

    async def test_ca2_a_tag_drops_whatever_has_it(self, world: World) -> None:
        ada, bob = await world.instance(), await world.instance()
        await keep(ada, "k", b"1", "room:r", "user:u")
        await keep(ada, "l", b"2", "room:r")
        other = await keep(ada, "m", b"3", "room:s")
        assert await bob.drop_tags(["room:r", "room:never"])
        for shared in (ada, bob):
            assert await found(shared, "k", "room:r", "user:u") is None
            assert await found(shared, "l") is None
            assert await found(shared, "m") == other
        await keep(bob, "k", b"again", "room:r")

    async def test_ca2_tags_that_the_value_does_not_name_count_as_well(self, world: World) -> None:
        ada = await world.instance()
        one = await keep(ada, "k", b"1", "room:r")
        assert await ada.drop_tags(["room:s"])
        assert await found(ada, "k", "room:s") is None
        assert await found(ada, "k") == one

    @pytest.mark.parametrize(
        "how", ["key", "foreseen tag", "unforeseen tag", "region", "outdated", "all"]
    )
    async def test_ca2_a_slow_loader_brings_nothing_back(self, world: World, how: str) -> None:
        ada, bob = await world.instance(), await world.instance()
        slow = kept(await moment(bob), b"old", "room:r")
        await keep(ada, "k", b"old", "room:r")
        if how == "key":
            assert await ada.drop("rooms", ["k"])
        elif how in ("region", "all"):
            assert await ada.clear("rooms" if how == "region" else None) is not None
        elif how == "outdated":
            assert await ada.outdate(["lists", "rooms"])
        else:
            assert await ada.drop_tags(["room:r"])
        bob.put("rooms", "k", slow, seconds=HOUR, entries=PLENTY)
        tags = ["room:r"] if how == "foreseen tag" else []
        await keep(bob, "written after it")
        assert await found(ada, "k", *tags) is None
        assert await found(bob, "k", *tags) is None
        fresh = await keep(bob, "k", b"new", "room:r")
        assert await found(ada, "k", *tags) == fresh

    async def test_ca2_among_many_instances_nothing_older_than_a_drop_is_found(
        self, world: World
    ) -> None:
        truth = dict.fromkeys("abcd", 0)
        dropped = dict(truth)
        hits = 0
        shareds = [await world.instance() for _ in range(3)]
        rng = random.Random()

        async def pass_time() -> None:
            for _ in range(rng.choice((0, 0, 1, 4))):
                await asyncio.sleep(0)

        async def read(shared: Shared) -> None:
            nonlocal hits
            for _ in range(150):
                key = rng.choice("abcd")
                tags = rng.choice(([], [f"tag:{key}"]))
                floor = dropped[key]
                one = await found(shared, key, *tags)
                if one is not None:
                    assert int(one.value) >= floor
                    hits += 1
                    continue
                now = await shared.moment()
                await pass_time()
                value = b"%d" % truth[key]
                await pass_time()
                if now is not None:
                    built = kept(now, value, f"tag:{key}")
                    shared.put("rooms", key, built, seconds=HOUR, entries=PLENTY)

        async def write(shared: Shared) -> None:
            for _ in range(40):
                key = rng.choice("abcd")
                truth[key] += 1
                wrote = truth[key]
                await pass_time()
                how = rng.randrange(20)
                if how == 0:
                    assert await shared.clear(rng.choice(("rooms", None))) is not None
                elif how < 10:
                    assert await shared.drop("rooms", [key])
                else:
                    assert await shared.drop_tags([f"tag:{key}"])
                dropped[key] = max(dropped[key], wrote)
                await asyncio.sleep(rng.choice((0, 0, 0.002)))

        await asyncio.gather(*map(read, shareds * 3), *map(write, shareds))
        assert hits > 50

    async def test_ca13_what_is_outdated_is_not_found_and_other_regions_are(
        self, world: World
    ) -> None:
        ada, bob = await world.instance(), await world.instance()
        await keep(ada, "k", b"1")
        assert await bob.outdate([])
        assert await bob.outdate(["lists"])
        assert await found(ada, "k") is not None
        assert await bob.outdate(["rooms"])
        assert await found(ada, "k") is None

    async def test_ca2_many_drops_at_once(self, world: World) -> None:
        ada, bob = await world.instance(), await world.instance()
        tags = [f"room:{number}" for number in range(3_000)]
        await asyncio.gather(*(keep(ada, tag, b"1", tag) for tag in tags[::100]))
        assert all(await asyncio.gather(bob.drop_tags(tags), bob.drop("rooms", tags)))
        assert await asyncio.gather(*(found(ada, tag) for tag in tags[::100])) == [None] * 30
        assert await ada.drop_tags([])
        assert await ada.drop("rooms", [])

    async def test_ca11_after_a_flush_nothing_of_before_counts(self, world: World) -> None:
        ada, bob = await world.instance(), await world.instance()
        slow = kept(await moment(bob), b"old", "room:r")
        await keep(ada, "k", b"1", "room:r")
        await world.flush()
        assert await found(ada) is None
        await keep(ada, "l")
        bob.put("rooms", "k", slow, seconds=HOUR, entries=PLENTY)
        await keep(bob, "written after it")
        assert await found(bob) is None
        assert await found(ada) is None
        await keep(bob, "k", b"2", "room:r")

    async def test_clearing_tells_how_many_there_were(self, world: World) -> None:
        ada, bob = await world.instance(), await world.instance()
        for number in range(500):
            ada.put("lists", f"{number}", kept(await moment(ada)), seconds=HOUR, entries=PLENTY)
        one = await keep(ada, "k")
        await eventually(lambda: found(ada, "499", region="lists"), kept(await moment(ada)))
        assert await bob.clear("lists") == 500
        assert await found(ada, "499", region="lists") is None
        assert await found(ada) == one
        assert await bob.clear(None) == 1
        assert await bob.clear(None) == 0
        assert await found(ada) is None
        await keep(ada, "k")

    async def test_ca4_one_at_a_time_has_the_right_to_load(self, world: World) -> None:
        ada, bob = await world.instance(), await world.instance()
        assert await ada.lock("rooms", "k", seconds=HOUR) is True
        assert await bob.lock("rooms", "k", seconds=HOUR) is False
        assert await ada.lock("rooms", "k", seconds=HOUR) is False
        assert await bob.lock("rooms", "l", seconds=0.05) is True
        bob.unlock("rooms", "k")
        assert await bob.lock("rooms", "k", seconds=HOUR) is False
        await eventually(lambda: ada.lock("rooms", "l", seconds=HOUR), True)
        bob.unlock("rooms", "l")
        await keep(bob, "written after it")
        assert await bob.lock("rooms", "l", seconds=HOUR) is False
        ada.unlock("rooms", "k")
        await eventually(lambda: bob.lock("rooms", "k", seconds=HOUR), True)

    async def test_ca9_a_region_stays_within_its_bound(self, world: World) -> None:
        ada, bob = await world.instance(), await world.instance()
        names = count()
        for _ in range(20):
            now = await moment(ada)
            for shared in (ada, bob):
                for _ in range(50):
                    shared.put("rooms", f"{next(names)}", kept(now), seconds=HOUR, entries=100)
        await eventually(lambda: found(ada, "1999"), kept(await moment(ada)))

        async def within() -> bool:
            (figures,) = await ada.stats()
            return 50 <= figures.entries <= 110

        await eventually(within, True)

    async def test_ca9_a_region_is_trimmed_when_it_is_told_to(self, world: World) -> None:
        ada, bob = await world.instance(), await world.instance()
        now = await moment(ada)
        for number in range(600):
            ada.put("rooms", f"{number}", kept(now), seconds=HOUR, entries=PLENTY)
        await eventually(lambda: found(ada, "599"), kept(now))
        assert await bob.trim("rooms", 100) == 500
        assert await bob.trim("rooms", 100) == 0
        assert await bob.trim("lists", 100) == 0
        assert await found(ada, "599") == kept(now)

    async def test_figures_count_what_was_asked(self, world: World) -> None:
        ada = await world.instance()
        assert await ada.stats() == []
        one = await keep(ada, "k", bytes(1_000))
        (before,) = await ada.stats()
        assert await found(ada) == one
        assert await found(ada, "never") is None
        (figures,) = await ada.stats()
        assert (figures.level, figures.region) == ("shared", "rooms")
        assert (figures.hits, figures.misses) == (before.hits + 1, before.misses + 1)
        assert figures.entries == 1
        assert 1_000 <= figures.bytes <= 1_300
        assert figures.load_p50 <= figures.load_p95 <= figures.load_p99
        assert not ada.is_open
        assert ada.condition().state == "closed"
        assert ada.condition().trouble == ""


class MemoryWorld:
    """See `World`."""

    def __init__(self) -> None:
        self.server = MemoryServer()

    async def instance(self) -> Shared:
        return MemoryShared(self.server)

    async def flush(self) -> None:
        self.server.flush()


class RedisWorld:
    """See `World`."""

    def __init__(self, stack: AsyncExitStack, url: str) -> None:
        self._stack = stack
        self._url = url

    async def instance(self) -> Shared:
        shared = RedisShared(
            RedisKnobs(url=self._url),
            CacheKnobs(redis_hard_ms=CALM_MS),
            secret="secret",
            origin="ada",
        )
        shared.start()
        self._stack.push_async_callback(shared.close)
        await until(lambda: not shared.is_open)
        return shared

    async def flush(self) -> None:
        async with Redis.from_url(self._url) as client:
            await client.flushdb()


class TestMemory(SharedContract):
    """The twin."""

    @pytest.fixture
    def world(self) -> World:
        return MemoryWorld()


class TestRedis(SharedContract):
    """A real Valkey."""

    @pytest.fixture
    async def world(self, redis_url: str) -> AsyncIterator[World]:
        async with AsyncExitStack() as stack:
            yield RedisWorld(stack, redis_url)
