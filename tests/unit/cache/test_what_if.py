"""Estimated hit ratios beside simulations at these sizes."""

from itertools import islice
from random import Random

import pytest

from tableforge.bench.replay import Lru, Model, Ours
from tableforge.bench.traces import soon_again, zipf
from tableforge.cache.local import LocalLevel
from tableforge.cache.what_if import StackDistances

STATED = 0.08
FOR_EVER = 1e9


def simulated(keys: list[str], model: Model) -> float:
    """The hit ratio of a cache."""
    return sum(model.ask(key) for key in keys) / len(keys)


def loads(entries: int) -> dict[str, list[str]]:
    """Smooth loads; on a cliff, as a loop just longer than the cache has one, stack distances do not tell what a guard hits."""
    made = {
        "zipf 0.8": zipf(Random(1), 10 * entries, 0.8),
        "zipf 1.0": zipf(Random(1), 10 * entries, 1.0),
        "soon again": soon_again(Random(1), entries),
    }
    return {
        name: [f"{name}:{key}" for key in islice(keys, 30 * entries)] for name, keys in made.items()
    }


@pytest.mark.parametrize("load", ["zipf 0.8", "zipf 1.0", "soon again"])
def test_the_estimate_is_within_its_stated_error(load: str) -> None:
    entries = 1_000
    keys = loads(entries)[load]
    region = LocalLevel(max_bytes=1 << 40).region("things", entries)
    for key in keys:
        if region.find(key, 0.0) is None:
            region.put(key, None, now=0.0, fresh=FOR_EVER, stale=FOR_EVER, gone=FOR_EVER)
    told = region.what_if()
    assert told.region == "things"
    assert told.samples > 1_000
    for size, of in (("half", entries // 2), ("present", entries), ("twice", 2 * entries)):
        assert told.ratios[size] == pytest.approx(simulated(keys, Ours(of)), abs=STATED), size


def test_without_sampling_the_estimate_for_lru_is_exact() -> None:
    keys = loads(50)["zipf 0.8"]
    distances, present = StackDistances(50, 1.0), Lru(50)
    for key in keys:
        distances.ask(key, 1, int(present.ask(key)))
    assert distances.ratios() == {
        "half": pytest.approx(simulated(keys, Lru(25))),
        "present": pytest.approx(simulated(keys, Lru(50))),
        "twice": pytest.approx(simulated(keys, Lru(100))),
    }


def test_nothing_is_told_before_anything_was_seen() -> None:
    told = LocalLevel(max_bytes=1_000).region("things", 10).what_if()
    assert told.samples == 0
    assert told.ratios == {"half": None, "present": None, "twice": None}


def test_the_load_of_late_counts() -> None:
    distances = StackDistances(10, 1.0)
    for number in range(30_000):
        distances.ask(f"once:{number}", 1, 0)
    for number in range(200_000):
        distances.ask(f"again:{number % 3}", 1, 1)
    present = distances.ratios()["present"]
    assert present is not None
    assert present > 0.95


def test_keys_are_forgotten_beyond_twice_the_size() -> None:
    distances = StackDistances(10, 1.0)
    for number in range(1_000):
        distances.ask(f"key:{number}", 1, 0)
    assert sum(len(piece) for piece in distances._pieces) == 20
