"""What keeps the cache true on all instances: rules CA2, CA8 and CA9 of `docs/spec.md`."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from tableforge.cache import Kept
from tableforge.cache.coherence import OVERTAKEN_AT_MOST, PENDING_AT_MOST
from tableforge.cache.two_level import STARTING_SECONDS
from tests.cache_world import GUARDED, THINGS, Truth, World, in_its_own_time, number


@in_its_own_time
async def test_ca2_a_value_on_its_way_to_the_shared_level_is_overtaken_by_a_drop(
    world: World,
) -> None:
    slow, quick = world.instance(), world.instance()
    world.levels[0].holding = True
    truth = Truth(1)
    await number(slow, truth.load, tags=["t"])
    truth.number = 2
    quick.drop_tag("t")
    await quick.settled()
    world.levels[0].release()
    assert await number(quick, truth.load, tags=["t"]) == 2


@in_its_own_time
async def test_ca2_while_the_shared_level_was_not_told_it_is_not_believed(world: World) -> None:
    cache, truth = world.instance(), Truth(1)
    truth.tags = ("read",)
    for tag in ("t", "read"):
        cache.forget(THINGS, "k")
        await number(cache, truth.load, tags=["t"])
        world.levels[0].away = True
        assert truth.number is not None
        truth.number += 1
        cache.drop_tag(tag)
        await asyncio.sleep(0.01)
        world.levels[0].away = False
        assert cache.untold == 1
        assert await number(cache, truth.load, tags=["t"]) == truth.number
        await cache.settled()


@in_its_own_time
async def test_ca2_while_the_shared_level_is_being_told_it_is_not_believed(world: World) -> None:
    cache, truth = world.instance(), Truth(1)
    drop_tags = world.levels[0].drop_tags

    async def slow(tags: Iterable[str]) -> bool:
        await asyncio.sleep(0.02)
        return await drop_tags(tags)

    world.levels[0].drop_tags = slow  # type: ignore[method-assign]  # slow here alone
    for drop in (cache.drop_tag, cache.touch_tag):
        cache.forget(THINGS, "k")
        await number(cache, truth.load, tags=["t"])
        assert truth.number is not None
        truth.number += 1
        drop("t")
        await asyncio.sleep(0.01)
        assert await number(cache, truth.load, tags=["t"]) == truth.number
        await cache.settled()


@in_its_own_time
async def test_ca2_an_answer_of_the_shared_level_is_overtaken_by_a_drop(world: World) -> None:
    cache, truth = world.instance(), Truth(1)
    truth.tags = ("read",)
    await number(world.instance(), truth.load)
    asked = world.levels[0].get

    async def slow(region: str, key: str, tags: Sequence[str], *, within: float) -> Kept | None:
        found = await asked(region, key, tags, within=within)
        await asyncio.sleep(0.02)
        return found

    world.levels[0].get = slow  # type: ignore[method-assign]  # slow here alone
    asking = asyncio.create_task(number(cache, truth.load))
    await asyncio.sleep(0.01)
    truth.number = 2
    cache.heard(True, [], ["read"], [])
    assert await asking == 2


@in_its_own_time
async def test_ca8_what_one_drops_the_others_serve_no_longer_than_the_way_takes(
    world: World,
) -> None:
    first, second = world.instance(), world.instance()
    truth = Truth(1)
    for one in (first, second):
        await number(one, truth.load, tags=["t"])
    truth.number = 2
    first.drop_tag("t")
    await asyncio.sleep(world.lag + 0.01)
    assert await number(second, truth.load, tags=["t"]) == 2
    for drop in (lambda: first.drop(THINGS, "k"), lambda: first.clear()):
        truth.number += 1
        drop()
        await asyncio.sleep(world.lag + 0.01)
        assert await number(second, truth.load, tags=["t"]) == truth.number


@in_its_own_time
async def test_ca8_touched_tags_are_gathered_into_one_message(world: World) -> None:
    first, second = world.instance(), world.instance()
    truth = Truth(1)
    told: list[Any] = []
    world.tell = lambda teller, *said: told.append(said)  # type: ignore[method-assign]  # heard here
    await number(second, truth.load, tags=["t1"])
    for _ in range(1000):
        first.touch_tag("t1")
        first.touch_tag("t2")
    await first.settled()
    ((said, keys, tags, regions),) = told
    assert (said, list(keys), sorted(tags), list(regions)) == (True, [], ["t1", "t2"], [])


@in_its_own_time
async def test_ca8_who_reaches_the_shared_level_tells_it_for_who_does_not(world: World) -> None:
    cut_off, other = world.instance(), world.instance()
    truth = Truth(1)
    await number(other, truth.load, tags=["t"])
    world.levels[0].away = True
    truth.number = 2
    cut_off.drop_tag("t")
    await asyncio.sleep(0.1)
    assert await number(world.instance(), truth.load, tags=["t"]) == 2
    assert cut_off.untold == 1
    world.levels[0].away = False
    await cut_off.settled()
    assert cut_off.untold == 0


@in_its_own_time
async def test_ca8_drops_made_while_the_shared_level_is_away_are_made_up_for(world: World) -> None:
    first = world.instance()
    truth = Truth(1)
    await number(first, truth.load, tags=["t"])
    world.levels[0].away = True
    truth.number = 2
    first.drop_tag("t")
    await asyncio.sleep(5)
    world.levels[0].away = False
    await first.settled()
    assert await number(world.instance(), truth.load, tags=["t"]) == 2


@in_its_own_time
async def test_ca8_with_too_many_drops_waiting_whole_regions_are_forgotten(world: World) -> None:
    first = world.instance()
    truth = Truth(1)
    await number(first, truth.load, tags=["t"])
    await number(first, truth.load, policy=GUARDED)
    world.levels[0].away = True
    first.drop_tag("t")
    await asyncio.sleep(0.2)
    for index in range(PENDING_AT_MOST + 1):
        first.drop_tag(f"t{index}")
    await asyncio.sleep(5)
    assert first.untold <= 2
    world.levels[0].away = False
    await first.settled()
    truth.number = 2
    later = world.instance()
    assert await number(later, truth.load, tags=["t"]) == 2
    assert await number(later, truth.load, policy=GUARDED) == 1, "positions guard it anyway"


@in_its_own_time
async def test_ca8_while_the_bus_is_away_values_count_for_a_short_while_only(world: World) -> None:
    first, second = world.instance(), world.instance()
    truth = Truth(1)
    for one in (first, second):
        await number(one, truth.load, tags=["t"])
        await number(one, truth.load, policy=GUARDED)
    world.cut = True
    truth.number = 2
    first.drop_tag("t")
    await asyncio.sleep(THINGS.uncarried + 0.3)
    assert await number(second, truth.load, tags=["t"]) == 2
    assert await number(second, truth.load, policy=GUARDED) == 1, "positions guard it"
    truth.number = 3
    await asyncio.sleep(THINGS.uncarried + 0.3)
    assert await number(second, truth.load, tags=["t"]) == 3


@in_its_own_time
async def test_ca8_what_was_missed_while_the_bus_was_away_is_flushed_when_it_is_back(
    world: World,
) -> None:
    first, second = world.instance(), world.instance()
    truth = Truth(1)
    for one in (first, second):
        await number(one, truth.load, tags=["t"])
    world.levels[
        0
    ].away = True  # so that it cannot tell the shared level either, and then it is gone
    world.cut = True
    await asyncio.sleep(STARTING_SECONDS)
    truth.number = 2
    first.drop_tag("t")
    await first.close()
    world.cut = False
    second.resumed()
    assert await number(second, truth.load, tags=["t"]) == 2


@in_its_own_time
async def test_ca9_what_is_remembered_for_loads_under_way_is_bounded(world: World) -> None:
    cache, truth = world.instance(), Truth(1)
    truth.seconds = 1.0
    asking = asyncio.create_task(number(cache, truth.load, tags=["t"]))
    await asyncio.sleep(0.5)
    for index in range(OVERTAKEN_AT_MOST + 1):
        cache.forget_tag(f"t{index}")
    truth.number = 2
    assert await asking == 2, "with too much to remember it counts as overtaken"


@in_its_own_time
async def test_ca8_a_process_that_starts_uses_what_the_fleet_before_it_left(world: World) -> None:
    before, truth = world.instance(), Truth(1)
    await number(before, truth.load, tags=["t"])
    await asyncio.sleep(THINGS.uncarried + 1)
    world.cut = True
    started = world.instance()
    await asyncio.sleep(0.5)
    world.cut = False
    started.resumed()
    assert await number(started, truth.load, tags=["t"]) == 1
    assert truth.reads == 1
    await asyncio.sleep(STARTING_SECONDS)
    started.resumed()
    assert await number(started, truth.load, tags=["t"]) == 1
    assert truth.reads == 2, "but after a break it is not believed"


@in_its_own_time
async def test_ca9_what_an_older_load_may_have_missed_is_not_forgotten_for_a_younger_one(
    world: World,
) -> None:
    cache, truth = world.instance(), Truth(1)
    truth.seconds = 1.0
    older = asyncio.create_task(number(cache, truth.load, tags=["t"]))
    await asyncio.sleep(0.2)
    truth.number = 2
    cache.forget_tag("t")
    for index in range(OVERTAKEN_AT_MOST * 3 // 5):
        cache.forget_tag(f"early{index}")
    younger = asyncio.create_task(number(cache, truth.load, "other"))
    await asyncio.sleep(0.2)
    for index in range(OVERTAKEN_AT_MOST * 2 // 5):
        cache.forget_tag(f"late{index}")
    assert (await older, await younger) == (2, 2)


@in_its_own_time
async def test_ca13_what_may_have_changed_unheard_is_believed_of_neither_level(
    world: World,
) -> None:
    cache, other, truth = world.instance(), world.instance(), Truth(1)
    for one in (cache, other):
        await number(one, truth.load, tags=["t"])
    truth.number = 2
    world.levels[0].away = True
    cache.doubt()
    assert await number(cache, truth.load, tags=["t"]) == 2
    assert cache.untold == 1
    world.levels[0].away = False
    assert await number(cache, truth.load, "k", tags=["t"]) == 2
    assert await number(other, truth.load, tags=["t"]) == 1, "each finds that out for itself"
    await cache.settled()
    other.forget_tag("t")
    assert await number(other, truth.load, tags=["t"]) == 2, "what Redis had does not count"


@in_its_own_time
async def test_ca13_what_positions_guard_stays(world: World) -> None:
    before, truth = world.instance(), Truth(1)
    assert await before.get(GUARDED, "k", truth.load) is not None
    started = world.instance()
    for one in (started, before):
        one.doubt()
        await one.settled()
        assert await one.get(GUARDED, "k", truth.load) is not None
    assert truth.reads == 1
