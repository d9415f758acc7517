"""What is hit: never much less than with LRU, on loads that suit LRU and on those that ruin it."""

from copy import deepcopy
from functools import cache

import pytest

from tableforge.bench.replay import LRU, OURS, STATIC, hit_ratio, models
from tableforge.bench.traces import EVENING, GENERATORS, Trace, traces
from tableforge.cache.eviction import Guarded, Place, Trials

STEPS = 30_000
BELOW_LRU = 0.03
"""Short traces: our cache has less time to choose its window than in `tableforge bench cache`."""


@cache
def made() -> dict[str, Trace]:
    """All traces."""
    return {trace.name: trace for trace in traces(1, STEPS, STEPS)}


@pytest.mark.parametrize("name", [EVENING, *GENERATORS])
def test_ours_hits_about_as_much_as_lru_at_least(name: str) -> None:
    known = models()
    ours, lru = (hit_ratio(made()[name], known[policy]) for policy in (OURS, LRU))
    assert ours >= lru - BELOW_LRU


@pytest.mark.parametrize("name", ["zipf and scans", "loop", "long loop", "zipf and loop"])
def test_ours_hits_where_lru_does_not(name: str) -> None:
    known = models()
    ours, lru = (hit_ratio(made()[name], known[policy]) for policy in (OURS, LRU))
    assert ours >= lru + 0.02


@pytest.mark.parametrize("name", ["soon again", "twice"])
def test_ours_hits_where_a_guard_alone_would_not(name: str) -> None:
    known = models()
    ours, guard = (hit_ratio(made()[name], known[policy]) for policy in (OURS, "tinylfu 1%"))
    assert ours >= guard + 0.2


def test_a_whole_window_is_lru() -> None:
    order = Guarded(1.0)
    places = [Place(f"key:{number}") for number in range(5)]
    for place in places:
        order.add(place)
    order.used(places[0])
    leaving = []
    while len(order):
        victim = order.victim()
        order.remove(victim)
        leaving.append(victim.key)
    assert leaving == ["key:1", "key:2", "key:3", "key:4", "key:0"]


@pytest.mark.parametrize("policy", sorted({OURS, *STATIC}))
def test_no_policy_holds_more_than_it_may(policy: str) -> None:
    model = models()[policy](7)
    keys = [step.key for step in made()["zipf and scans"].steps[:300]]
    for key in keys:
        model.ask(key)
    # Whoever holds seven keys hits those seven and no other, asked without learning what misses.
    assert sum(deepcopy(model).ask(key) for key in set(keys)) <= 7


def test_windows_are_chosen_by_what_they_would_hit() -> None:
    trials = Trials(64, 1.0, 0.01)
    for number in range(8_000):
        trials.ask(f"key:{number}")
        trials.ask(f"key:{max(0, number - 20)}")
    assert trials.share == 1.0
    for number in range(20_000):
        trials.ask(f"loop:{number % 80}")
    assert trials.share < 1.0


def test_a_key_asked_for_again_and_again_at_once_is_one_use() -> None:
    trials = Trials(64, 1.0, 0.01)
    for _ in range(10_000):
        trials.ask("key")
    assert trials.share == 0.01
