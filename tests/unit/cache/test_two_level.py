"""The front of the cache: rules CA1 to CA11 of `docs/spec.md`, in a time of its own, with the shared level in memory."""

import asyncio
from collections.abc import Callable, Sequence

import pytest
from msgspec import structs

from tableforge.cache import Kept
from tableforge.cache.fetching import HELD_OFF_SECONDS
from tableforge.cache.policies import policies
from tableforge.cache.two_level import TwoLevelCache
from tableforge.config import CacheKnobs
from tableforge.errors import Unavailable
from tests import virtual_time
from tests.cache_world import (
    GUARDED,
    MINUTE,
    THINGS,
    Thing,
    Truth,
    World,
    in_its_own_time,
    make,
    now,
    number,
)


@in_its_own_time
async def test_ca1_what_was_loaded_or_put_is_found_until_it_ends(world: World) -> None:
    cache, truth = world.instance(), Truth()
    assert cache.peek(THINGS, "k") is None
    assert await number(cache, truth.load) == 1
    truth.number = 2
    assert await number(cache, truth.load) == 1
    assert cache.peek(THINGS, "k") == Thing(1)
    assert cache.peek(GUARDED, "k") is None
    cache.put(THINGS, "other", Thing(7))
    assert await number(cache, truth.load, "other") == 7
    await asyncio.sleep(THINGS.fresh + THINGS.stale + 1)
    assert await number(cache, truth.load) == 2
    assert truth.reads == 2


@in_its_own_time
async def test_ca1_none_is_remembered_for_a_little_while(world: World) -> None:
    cache, truth = world.instance(), Truth(None)
    assert await number(cache, truth.load, tags=["t"]) is None
    truth.number = 3
    assert await number(cache, truth.load) is None
    cache.drop_tag("t")
    assert await number(cache, truth.load) == 3
    other = Truth(None)
    assert await number(cache, other.load, "other") is None
    await asyncio.sleep(THINGS.missing + 0.1)
    other.number = 4
    assert await number(cache, other.load, "other") == 4


@in_its_own_time
async def test_ca1_the_shared_level_serves_whoever_starts_later(world: World) -> None:
    first, truth = world.instance(), Truth()
    await number(first, truth.load)
    second = world.instance()
    truth.number = 2
    assert await number(second, truth.load) == 1
    assert truth.reads == 1
    shared = {one.region: one for one in await second.stats() if one.level == "shared"}
    assert (shared["things"].hits, shared["things"].misses) == (1, 0)


@in_its_own_time
async def test_ca12_every_region_is_told_of_on_both_levels_before_it_was_asked_for(
    world: World,
) -> None:
    cache = world.instance()
    told = [(one.level, one.region) for one in await cache.stats()]
    assert told == [
        (level, region) for level in ("local", "shared") for region in ("things", "guarded")
    ]


def test_ca10_neither_sessions_nor_seats_nor_lists_which_show_them_live_longer() -> None:
    lasting = {policy.region for policy in policies(CacheKnobs()).all() if policy.lasts}
    assert lasting == {"room_states", "asset_metadata", "game_system_templates"}


@in_its_own_time
async def test_ca12_a_key_that_is_cleared_counts_as_cleared(world: World) -> None:
    cache, truth = world.instance(), Truth()
    await number(cache, truth.load)
    assert cache.drop_key("things", "k")
    assert not cache.drop_key("things", "k")
    (things, *_) = await cache.stats()
    assert (things.evictions["dropped"], things.evictions["cleared"]) == (0, 1)


@in_its_own_time
async def test_ca1_a_value_from_the_shared_level_does_not_begin_its_life_anew(world: World) -> None:
    first, truth = world.instance(), Truth()
    await number(first, truth.load)
    await asyncio.sleep(THINGS.fresh - 1)
    second = world.instance()
    await number(second, truth.load)
    await asyncio.sleep(THINGS.stale + 2)
    truth.number = 2
    assert await number(second, truth.load) == 2


@in_its_own_time
async def test_ca2_after_a_drop_nothing_from_before_is_served(world: World) -> None:
    cache, truth = world.instance(), Truth()
    for drop in (
        lambda: cache.drop(THINGS, "k"),
        lambda: cache.drop_tag("other", "t"),
        lambda: cache.touch_tag("t"),
        lambda: cache.forget(THINGS, "k"),
        lambda: cache.forget_tag("t"),
        lambda: cache.clear(),
        lambda: cache.clear("things"),
        lambda: cache.drop_key("things", "k"),
    ):
        await number(cache, truth.load, tags=["t"])
        await cache.settled()
        assert truth.number is not None
        truth.number += 1
        drop()
        if drop() is not None:  # those that only forget here leave the shared level alone
            await cache.settled()
        assert cache.peek(THINGS, "k") is None
        world.server.flush()
        assert await number(cache, truth.load, tags=["t"]) == truth.number


@in_its_own_time
async def test_ca2_a_load_under_way_does_not_bring_the_old_value_back(world: World) -> None:
    drops: tuple[Callable[[TwoLevelCache], object], ...] = (
        lambda one: one.drop(THINGS, "k"),
        lambda one: one.drop_tag("known"),
        lambda one: one.touch_tag("read"),
        lambda one: one.clear("things"),
    )
    for drop in drops:
        cache, truth = world.instance(), Truth(1)
        truth.seconds, truth.tags = 1.0, ("read",)
        world.server.flush()
        asking = asyncio.create_task(number(cache, truth.load, tags=["known"]))
        await asyncio.sleep(0.5)
        truth.number = 2
        drop(cache)
        after = asyncio.create_task(number(cache, truth.load, tags=["known"]))
        assert await after == 2
        assert await asking == 2
        assert cache.peek(THINGS, "k") == Thing(2)
        await cache.settled()
        await asyncio.sleep(1)
        other = Truth(None)
        found = await number(world.instance(), other.load, tags=["known"])
        assert found in (2, None)  # what was built before the drop is nowhere


@in_its_own_time
async def test_ca2_what_changes_all_the_time_is_served_to_those_who_asked_before_and_not_kept(
    world: World,
) -> None:
    cache, truth = world.instance(), Truth(0)
    truth.seconds = 1.0

    async def change() -> None:
        while True:
            await asyncio.sleep(0.3)
            assert truth.number is not None
            truth.number += 1
            cache.touch_tag("t")

    changing = asyncio.create_task(change())
    asked_at = now()
    found = await number(cache, truth.load, tags=["t"])
    assert now() - asked_at < 4
    assert found is not None
    assert found > 0
    assert cache.peek(THINGS, "k") is None
    first = asyncio.create_task(number(cache, truth.load, tags=["t"]))
    await asyncio.sleep(2.95)  # into the last attempt of that load, which is overtaken as well
    joined = truth.number
    late = await number(cache, truth.load, tags=["t"])
    assert joined is not None
    assert late is not None
    assert late >= joined
    await first
    changing.cancel()


@in_its_own_time
async def test_ca3_nothing_older_than_the_floor_is_served(world: World) -> None:
    cache, truth = world.instance(), Truth(1)
    truth.position = 5
    await number(cache, truth.load, policy=GUARDED)
    truth.number, truth.position = 2, 8
    assert await number(cache, truth.load, policy=GUARDED, floor=5) == 1
    assert cache.peek(GUARDED, "k", floor=6) is None
    assert await number(world.instance(), truth.load, policy=GUARDED, floor=6) == 2
    assert await number(cache, truth.load, policy=GUARDED, floor=6) == 2
    reads = truth.reads
    assert await number(cache, truth.load, policy=GUARDED, floor=2**63 - 1) == 2
    assert truth.reads == reads + 1
    assert await number(cache, truth.load, policy=GUARDED, floor=8) == 2
    assert truth.reads == reads + 1


@in_its_own_time
async def test_ca3_who_joins_a_load_with_a_higher_floor_does_not_get_less(world: World) -> None:
    cache, truth = world.instance(), Truth(1)
    truth.seconds, truth.position = 1.0, 1
    first = asyncio.create_task(number(cache, truth.load, policy=GUARDED))
    await asyncio.sleep(0.5)
    truth.number, truth.position = 2, 2
    second = asyncio.create_task(number(cache, truth.load, policy=GUARDED, floor=2))
    assert (await first, await second) == (1, 2)


@in_its_own_time
async def test_ca3_a_later_position_is_not_put_aside_for_an_earlier_one(world: World) -> None:
    cache, truth = world.instance(), Truth(1)
    cache.put(GUARDED, "k", Thing(9), position=9)
    cache.put(GUARDED, "k", Thing(8), position=8)
    await cache.settled()
    await asyncio.sleep(1)
    assert await number(cache, truth.load, policy=GUARDED, floor=9) == 9
    assert await number(world.instance(), truth.load, policy=GUARDED, floor=9) == 9
    assert truth.reads == 0


@in_its_own_time
async def test_ca3_what_the_shared_level_has_does_not_put_a_later_position_aside(
    world: World,
) -> None:
    first, second, truth = world.instance(), world.instance(), Truth(1)
    second.put(THINGS, "k", Thing(2), position=2)
    await asyncio.sleep(THINGS.fresh / 2)
    truth.position = 1
    await number(first, truth.load)
    await asyncio.sleep(THINGS.fresh / 2 + 1)
    truth.number, truth.position = 3, 3
    assert await number(second, truth.load) == 2
    await asyncio.sleep(0.1)
    assert second.peek(THINGS, "k") == Thing(3)


@in_its_own_time
async def test_ca4_of_a_thousand_who_miss_one_key_at_once_one_loads(world: World) -> None:
    cache, truth = world.instance(), Truth(1)
    truth.seconds = 0.2
    found = await asyncio.gather(*(number(cache, truth.load) for _ in range(1000)))
    assert found == [1] * 1000
    assert truth.reads == 1


@in_its_own_time
async def test_ca4_of_several_instances_one_loads_while_the_lock_holds(world: World) -> None:
    truth = Truth(1)
    truth.seconds = 0.02
    fleet = [world.instance() for _ in range(5)]
    found = await asyncio.gather(*(number(one, truth.load) for one in fleet))
    assert found == [1] * 5
    assert truth.reads == 1


@in_its_own_time
async def test_ca4_who_does_not_get_the_lock_waits_no_longer_than_for_the_shared_level(
    world: World,
) -> None:
    truth = Truth(1)
    truth.seconds = 5.0
    first, second = world.instance(), world.instance()
    asking = asyncio.create_task(number(first, truth.load))
    await asyncio.sleep(1)
    began = now()
    assert await number(second, truth.load) == 1
    assert now() - began <= 5.0 + 0.05
    assert await asking == 1


@in_its_own_time
async def test_ca4_who_gives_up_waiting_does_not_take_the_load_with_them(world: World) -> None:
    cache, truth = world.instance(), Truth(1)
    truth.seconds = 1.0
    first = asyncio.create_task(number(cache, truth.load))
    second = asyncio.create_task(number(cache, truth.load))
    await asyncio.sleep(0.5)
    first.cancel()
    assert await second == 1
    third = asyncio.create_task(number(cache, truth.load, "other"))
    await asyncio.sleep(0.5)
    third.cancel()
    await asyncio.sleep(1)
    assert cache.peek(THINGS, "other") == Thing(1)
    assert truth.reads == 2


@in_its_own_time
async def test_ca5_a_failure_reaches_all_who_wait_and_the_next_one_tries_again(
    world: World,
) -> None:
    cache, truth = world.instance(), Truth(1)
    truth.seconds, truth.fails = 0.1, Unavailable("The database is away.")
    found = await asyncio.gather(
        *(number(cache, truth.load) for _ in range(10)), return_exceptions=True
    )
    assert [type(one) for one in found] == [Unavailable] * 10
    assert truth.reads == 1
    truth.fails = None
    assert await number(cache, truth.load) == 1


@in_its_own_time
async def test_ca5_an_old_value_within_its_bound_is_served_instead(world: World) -> None:
    cache, truth = world.instance(), Truth(1)
    await number(cache, truth.load)
    truth.fails = RuntimeError("the loader's own mistake")
    await asyncio.sleep(THINGS.fresh + THINGS.stale + 1)
    assert await number(cache, truth.load) == 1
    reads = truth.reads
    assert await number(cache, truth.load) == 1
    assert truth.reads == reads, "it is not tried again at once"
    await asyncio.sleep(HELD_OFF_SECONDS + 0.1)
    assert await number(cache, truth.load) == 1
    assert truth.reads == reads + 1
    await asyncio.sleep(THINGS.on_error)
    with pytest.raises(RuntimeError):
        await number(cache, truth.load)
    (things, _) = (one for one in await cache.stats() if one.level == "local")
    assert things.stale == 3


@in_its_own_time
async def test_ca5_an_old_value_of_the_shared_level_serves_as_well(world: World) -> None:
    truth = Truth(1)
    await number(world.instance(), truth.load)
    await asyncio.sleep(THINGS.fresh + THINGS.stale + 1)
    truth.fails = Unavailable("The database is away.")
    assert await number(world.instance(), truth.load) == 1


@in_its_own_time
async def test_ca5_what_was_dropped_is_not_served_when_loading_fails(world: World) -> None:
    cache, truth = world.instance(), Truth(1)
    await number(cache, truth.load)
    truth.fails = Unavailable("The database is away.")
    cache.drop(THINGS, "k")
    await cache.settled()
    with pytest.raises(Unavailable):
        await number(cache, truth.load)


@in_its_own_time
async def test_ca6_an_old_value_is_served_at_once_while_one_loads_anew(world: World) -> None:
    cache, truth = world.instance(), Truth(1)
    await number(cache, truth.load)
    truth.number, truth.seconds = 2, 5.0
    await asyncio.sleep(THINGS.fresh + 1)
    began = now()
    assert [await number(cache, truth.load) for _ in range(10)] == [1] * 10
    assert now() == began
    await asyncio.sleep(6)
    assert cache.peek(THINGS, "k") == Thing(2)
    assert truth.reads == 2


@in_its_own_time
async def test_ca6_a_load_that_does_not_end_leaves_the_old_value_no_longer_than_its_bound(
    world: World,
) -> None:
    cache, truth = world.instance(), Truth(1)
    await number(cache, truth.load)
    truth.number, truth.seconds = 2, THINGS.stale * 2
    await asyncio.sleep(THINGS.fresh + 1)
    assert await number(cache, truth.load) == 1
    await asyncio.sleep(THINGS.stale)
    assert await number(cache, truth.load) == 2


def test_ca6_a_value_is_loaded_anew_before_its_end_the_earlier_the_longer_that_takes() -> None:
    async def refreshed_at(seconds: float, chance: float) -> float:
        cache = TwoLevelCache([GUARDED], CacheKnobs(), clock=now, wall=now, chance=lambda: chance)
        truth = Truth(1)
        truth.seconds = seconds
        await number(cache, truth.load, policy=GUARDED)
        loaded = now()
        while truth.reads == 1:
            assert await number(cache, truth.load, policy=GUARDED) == 1
            await asyncio.sleep(0.01)
        await cache.close()
        return now() - loaded

    end = virtual_time.run(refreshed_at(0.0, 0.5))
    assert 90 < end <= 95.1, "a random tenth of its life is taken off"
    early, earlier = (virtual_time.run(refreshed_at(one, 0.5)) for one in (1.0, 10.0))
    assert earlier < early < end


@in_its_own_time
async def test_ca7_a_shared_level_that_does_not_answer_costs_no_more_than_its_bound(
    world: World,
) -> None:
    cache, truth = world.instance(), Truth(1)
    world.levels[0].silent = True
    began = now()
    assert await number(cache, truth.load) == 1
    assert now() - began <= CacheKnobs().redis_hard_ms / 1000 + 1e-6, "all its questions together"
    world.levels[0].silent, world.levels[0].away = False, True
    began = now()
    assert await number(cache, truth.load, "other") == 1
    assert now() == began


@in_its_own_time
async def test_ca9_memory_stays_within_its_bounds(world: World) -> None:
    knobs = CacheKnobs(app_bytes=1_000_000)
    cache, truth = world.instance(knobs), Truth(1)
    for index in range(500):
        await number(cache, truth.load, f"k{index}")
        assert len(cache.local.regions["things"]) <= THINGS.local_entries
        assert cache.local.bytes <= knobs.app_bytes


@in_its_own_time
async def test_ca10_in_emergency_mode_memory_alone_serves_and_for_longer(world: World) -> None:
    cache, truth = world.instance(), Truth(1)
    await number(cache, truth.load)
    await number(cache, truth.load, policy=GUARDED)
    cache.emergency(1_000_000.0 + now() + 30 * MINUTE)
    asked: list[str] = []

    async def get(region: str, key: str, tags: Sequence[str], *, within: float) -> Kept | None:
        asked.append(region)
        return None

    world.levels[0].get = get  # type: ignore[method-assign]  # to see who asks
    truth.number, truth.fails = 2, Unavailable("The database is away.")
    await asyncio.sleep(3 * THINGS.fresh)
    assert await number(cache, truth.load) == 1
    with pytest.raises(Unavailable):
        await number(cache, truth.load, policy=GUARDED)
    await asyncio.sleep(3 * THINGS.fresh)
    assert await number(cache, truth.load) == 1, "old, and served while it is tried to load it anew"
    assert asked == []
    truth.fails = None
    cache.drop(THINGS, "k")
    assert await number(cache, truth.load) == 2, "what was dropped is not served then either"


@in_its_own_time
async def test_ca10_emergency_mode_ends_by_itself(world: World) -> None:
    cache, truth = world.instance(), Truth(1)
    await number(cache, truth.load)
    cache.emergency(1_000_000.0 + now() + THINGS.fresh * 2)
    assert cache.emergency_until > 0
    await asyncio.sleep(THINGS.fresh * 2 + 1)
    assert cache.emergency_until == 0
    truth.number = 2
    await asyncio.sleep(THINGS.stale)
    assert await number(cache, truth.load) == 2
    cache.emergency(1.0)
    assert cache.emergency_until == 0, "a time that is past begins nothing"


@in_its_own_time
async def test_ca11_a_value_of_another_form_or_kind_counts_as_missing(world: World) -> None:
    truth = Truth(1)
    await number(world.instance(), truth.load)
    ((kept, until),) = world.server.values.values()
    for changed in (
        structs.replace(kept, form=2),
        structs.replace(kept, value=b"m\xc1"),
        structs.replace(kept, value=b"j" + b'{"word": "1"}'),
        structs.replace(kept, value=kept.value[:-1]),
        structs.replace(kept, value=b""),
    ):
        world.server.values["things", "k"] = (changed, until)
        reads = truth.reads
        assert await number(world.instance(), truth.load) == 1
        assert truth.reads == reads + 1


@in_its_own_time
async def test_loads_under_way_end_with_the_cache(world: World) -> None:
    cache, truth = world.instance(), Truth(1)
    truth.seconds = 1000.0
    asking = asyncio.create_task(number(cache, truth.load))
    await asyncio.sleep(0.1)
    began = now()
    await cache.close()
    assert now() - began <= 2.0
    with pytest.raises(Unavailable):
        await asking
    with pytest.raises(Unavailable):
        await number(cache, truth.load, "later")


@in_its_own_time
async def test_a_single_process_needs_nobody(world: World) -> None:
    cache, truth = make(), Truth(1)
    cache.start()
    assert await number(cache, truth.load, tags=["t"]) == 1
    truth.number = 2
    cache.drop_tag("t")
    cache.touch_tag("t")
    assert cache.untold == 0
    assert await number(cache, truth.load) == 2
    assert cache.condition() is None
    assert [one.level for one in await cache.stats()] == ["local", "local"]
    await cache.close()
