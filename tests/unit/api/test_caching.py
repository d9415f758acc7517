"""What an optimisation of the cache does, and what it advises: figures that were measured, or none (rule CA12)."""

import asyncio

from tableforge.api.caching import SAMPLES_AT_LEAST, optimized
from tableforge.cache import Kept
from tableforge.cache.two_level import TwoLevelCache
from tableforge.library.runs import Action
from tests import virtual_time
from tests.cache_world import GUARDED, Truth, World, make, number


async def looked_up(keys: int, rounds: int) -> list[Action]:
    """What is advised after so many keys were asked for one after the other, again and again."""
    cache, truth = make(), Truth(1)
    for _ in range(rounds):
        for index in range(keys):
            await number(cache, truth.load, f"k{index}")
    actions = await optimized(cache)
    await cache.close()
    return actions


def advice(actions: list[Action], region: str) -> Action:
    (one,) = (one for one in actions if one.action == f"size of {region} in memory")
    return one


def test_ca12_a_larger_size_is_advised_where_it_would_gain_and_a_smaller_where_it_does_as_well() -> (
    None
):
    larger = advice(virtual_time.run(looked_up(150, 20)), "things")
    assert (larger.before, larger.verdict) == ("100 values", "skipped")
    assert larger.reason.startswith("Set CACHE_APP_MAX_SIZE higher: of ")
    smaller = advice(virtual_time.run(looked_up(20, 100)), "things")
    assert smaller.reason.startswith("Half would do as well: of ")
    unknown = advice(virtual_time.run(looked_up(2, 2)), "guarded")
    assert f"{SAMPLES_AT_LEAST} are needed" in unknown.reason, "nothing is made up"


def test_ca12_what_is_over_goes_and_redis_comes_back_within_its_bound() -> None:
    async def story() -> None:
        world, truth = World(), Truth(1)
        cache: TwoLevelCache = world.instance()
        for index in range(30):
            await number(cache, truth.load, f"k{index}", policy=GUARDED)
        (first, *_) = await optimized(cache)
        assert (first.before, first.verdict) == ("30 values in memory", "skipped")
        kept: Kept = next(iter(world.server.values.values()))[0]
        for index in range(GUARDED.shared_entries + 500):
            world.server.values["guarded", f"more{index}"] = (kept, 1e9)
        await asyncio.sleep(GUARDED.fresh + 1)
        (first, trimmed, *_) = await optimized(cache)
        assert (first.before, first.after) == ("30 values in memory", "0 values in memory")
        assert first.verdict == "done"
        assert (trimmed.action, trimmed.verdict) == ("trim guarded in Redis", "done")
        world.levels[0].away = True
        (_, trimmed, *_) = await optimized(cache)
        assert (trimmed.verdict, trimmed.reason) == ("skipped", "Redis is not asked at present.")
        await world.close()

    virtual_time.run(story())
