"""The level in process: a store beside its naive twin, its bounds, its tags, and what it counts."""

from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec import Struct

from tableforge.cache.local import MARKS, Entry, LocalLevel, Region, estimated_bytes, mark_of

Eviction = Literal["lru", "lfu", "ttl"]
EVICTIONS: tuple[Eviction, ...] = ("lru", "lfu", "ttl")
FOR_EVER = 1e9
ROOM = 1 << 30
MARKED = [192250, 2363986, 8224715]


def put(region: Region, key: str, value: object = "value", **rest: object) -> Entry | None:
    """Put something that does not expire, if nothing else is said."""
    times = {"now": 0.0, "fresh": FOR_EVER, "stale": FOR_EVER, "gone": FOR_EVER}
    return region.put(key, value, **{**times, **rest})  # type: ignore[arg-type]  # by name


def region(entries: int = 10, *, eviction: Eviction = "lru", max_bytes: int = ROOM) -> Region:
    """A region of a level of its own."""
    return LocalLevel(max_bytes=max_bytes, eviction=eviction).region("things", entries)


class Snapshot(Struct, frozen=True):
    """Something with parts."""

    name: str
    data: bytes
    rows: tuple[tuple[int, str], ...] = ()


@dataclass
class Twin:
    """What may be found at most: each key's last value, unless it is gone or was dropped."""

    values: dict[tuple[str, str], tuple[int, float, tuple[str, ...]]] = field(default_factory=dict)


REGIONS = ("a", "b")
names = st.sampled_from(REGIONS)
keys = st.sampled_from([f"key:{number}" for number in range(12)])
tags = st.lists(st.sampled_from(["t1", "t2", "t3"]), max_size=3)
ENTRIES = {"a": 5, "b": 3}
MAX_BYTES = 6_000


class StoreMachine(RuleBasedStateMachine):
    """Whatever is found is what was put last; what should have gone is gone; the bounds hold after every step."""

    @initialize(eviction=st.sampled_from(EVICTIONS))
    def begin(self, eviction: Eviction) -> None:
        self.level = LocalLevel(max_bytes=MAX_BYTES, eviction=eviction)
        self.regions = {name: self.level.region(name, ENTRIES[name]) for name in REGIONS}
        self.twin = Twin()
        self.now = 0.0
        self.puts = 0
        self.grace = 0.0
        self.left = 0

    def _kept(self) -> dict[tuple[str, str], Entry]:
        return {
            (name, key): entry
            for name, one in self.regions.items()
            for key in [f"key:{number}" for number in range(12)]
            if (entry := one.look(key)) is not None
        }

    @rule(name=names, key=keys, lives=st.integers(0, 20), size=st.integers(0, 2_500), tags=tags)
    def put(self, name: str, key: str, lives: int, size: int, tags: list[str]) -> None:
        self.puts += 1
        value = (self.puts, b"x" * size)
        gone = self.now + lives
        entry = self.regions[name].put(
            key, value, now=self.now, fresh=gone, stale=gone, gone=gone, tags=tags
        )
        assert entry is not None
        assert self.regions[name].look(key) is entry
        self.twin.values[name, key] = (self.puts, gone, tuple(tags))

    @rule(name=names, key=keys)
    def put_too_large(self, name: str, key: str) -> None:
        assert put(self.regions[name], key, b"x" * MAX_BYTES, now=self.now) is None
        self.twin.values.pop((name, key), None)

    @rule(name=names, key=keys)
    def find(self, name: str, key: str) -> None:
        there = self.regions[name].look(key)
        entry = self.regions[name].find(key, self.now)
        known = self.twin.values.get((name, key))
        if entry is None:
            assert there is None or there.gone + self.grace <= self.now
            return
        assert known is not None
        number, gone, tags = known
        assert (entry.value[0], entry.gone, tuple(entry.tags)) == (number, gone, tags)
        assert (entry.key, entry.region.name) == (key, name)
        assert self.now < gone + self.grace

    @rule(seconds=st.integers(0, 8))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule(grace=st.sampled_from([0.0, 10.0]))
    def be_lenient(self, grace: float) -> None:
        self.grace = grace
        for one in self.regions.values():
            one.grace = grace

    @rule()
    def expire(self) -> None:
        over = [at for at, one in self._kept().items() if one.gone + self.grace <= self.now]
        assert sum(one.expire(self.now) for one in self.regions.values()) == len(over)
        assert not set(over) & set(self._kept())

    @rule(name=names, key=keys)
    def drop(self, name: str, key: str) -> None:
        there = (name, key) in self._present
        assert self.regions[name].drop(key) == there
        self.twin.values.pop((name, key), None)

    @rule(tag=st.sampled_from(["t1", "t2", "t3", "nobody's"]))
    def drop_tag(self, tag: str) -> None:
        having = {at for at, entry in self._kept().items() if tag in entry.tags}
        before = self._present
        assert self.level.drop_tag(tag) == len(having)
        assert set(self._kept()) == before - having
        for at in [at for at, known in self.twin.values.items() if tag in known[2]]:
            del self.twin.values[at]

    @rule(name=st.sampled_from([*REGIONS, None, "unknown"]))
    def clear(self, name: str | None) -> None:
        going = {at for at in self._present if name in (None, at[0])}
        assert self.level.clear(name) == len(going)
        for at in [at for at in self.twin.values if name in (None, at[0])]:
            del self.twin.values[at]

    @rule(name=names, entries=st.integers(1, 6))
    def resize(self, name: str, entries: int) -> None:
        self.regions[name].resize(entries)
        assert self.regions[name].max_entries == entries

    @property
    def _present(self) -> set[tuple[str, str]]:
        return set(self._kept())

    @invariant()
    def bounds_hold(self) -> None:
        kept = self._kept()
        for name, one in self.regions.items():
            mine = [entry for (of, _), entry in kept.items() if of == name]
            assert len(one) == len(mine) <= one.max_entries
            assert one.bytes == sum(entry.bytes for entry in mine)
        assert self.level.bytes == sum(entry.bytes for entry in kept.values()) <= MAX_BYTES
        assert set(kept) <= set(self.twin.values)


StoreMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestStore = StoreMachine.TestCase


@pytest.mark.parametrize("eviction", EVICTIONS)
def test_ca9_the_bound_of_bytes_is_shared_and_the_largest_region_gives_way(
    eviction: Eviction,
) -> None:
    level = LocalLevel(max_bytes=100_000, eviction=eviction)
    small, large = level.region("small", 100), level.region("large", 100)
    for number in range(20):
        put(small, f"key:{number}")
    for number in range(50):
        put(large, f"key:{number}", b"x" * 8_000)
        assert level.bytes <= level.max_bytes
    assert len(small) == 20
    assert 0 < len(large) < 13
    assert large.evictions == {"size": 50 - len(large), "expired": 0, "dropped": 0, "cleared": 0}


def test_ca9_what_is_larger_than_all_the_room_is_not_kept_and_nothing_leaves_for_it() -> None:
    things = region(max_bytes=10_000)
    put(things, "other")
    put(things, "key")
    assert put(things, "key", b"x" * 10_000) is None
    assert things.look("key") is None
    assert things.look("other") is not None
    assert things.evictions["size"] == 1


def test_each_cause_of_leaving_is_counted() -> None:
    things = region(2)
    for number in range(3):
        put(things, f"key:{number}")
    put(things, "short", gone=5.0)
    assert things.find("short", 5.0) is None
    put(things, "dropped", now=6.0)
    assert things.drop("dropped")
    assert not things.drop("dropped")
    put(things, "named", now=6.0)
    assert things.drop("named", "cleared")
    assert things.clear() == len(things) + 1
    assert things.evictions == {"size": 2, "expired": 1, "dropped": 1, "cleared": 2}


def test_which_keys_are_sampled_is_the_same_in_every_process_and_spread_evenly() -> None:
    assert [mark_of(key) for key in ("key:1", "room:\u00e4", "\ud800")] == MARKED
    marks = sorted(mark_of(f"key:{number}") for number in range(20_000))
    for tenth in range(1, 10):
        assert marks[tenth * 2_000] == pytest.approx(tenth / 10 * MARKS, rel=0.1)


def test_a_value_put_over_another_is_no_eviction_and_has_its_own_tags_alone() -> None:
    level = LocalLevel(max_bytes=ROOM)
    things = level.region("things", 10)
    put(things, "key", "first", tags=("before", "both"))
    put(things, "key", "second", tags=("both", "both", "after"))
    assert level.drop_tag("before") == 0
    assert sum(things.evictions.values()) == 0
    assert level.drop_tag("both") == 1
    assert level.drop_tag("after") == 0


def test_lru_has_what_was_not_used_leave() -> None:
    things = region(3)
    for number in range(3):
        put(things, f"key:{number}")
    for _ in range(3):
        things.find("key:0", 0.0)
        things.find("key:2", 0.0)
    put(things, "key:3")
    assert things.look("key:1") is None


def test_lfu_has_what_was_used_least_leave() -> None:
    things = region(3, eviction="lfu")
    for number in range(3):
        put(things, f"key:{number}")
    for number, uses in enumerate((2, 1, 3)):
        for _ in range(uses):
            things.find(f"key:{number}", 0.0)
    put(things, "key:3")
    assert things.look("key:1") is None


def test_lfu_lets_go_of_what_was_popular_once() -> None:
    things = region(10, eviction="lfu")
    for number in range(10):
        put(things, f"before:{number}")
        for _ in range(1_000):
            things.find(f"before:{number}", 0.0)
    for turn in range(400):
        for number in range(9):
            if things.find(f"after:{number}", 0.0) is None:
                put(things, f"after:{number}")
        assert len(things) == 10, turn
    assert all(things.look(f"after:{number}") is not None for number in range(9))


def test_ttl_has_what_expires_next_leave() -> None:
    things = region(3, eviction="ttl")
    for number, gone in enumerate((30.0, 10.0, 20.0)):
        put(things, f"key:{number}", gone=gone)
        things.find(f"key:{number}", 0.0)
    put(things, "key:3", gone=40.0)
    assert things.look("key:1") is None


def test_what_is_over_leaves_before_anything_else_makes_room() -> None:
    things = region(3)
    put(things, "short", gone=5.0)
    put(things, "long", gone=50.0)
    put(things, "longer", gone=60.0)
    put(things, "next", now=5.0)
    assert things.evictions == {"size": 0, "expired": 1, "dropped": 0, "cleared": 0}


def test_a_region_is_made_once() -> None:
    level = LocalLevel(max_bytes=ROOM)
    assert level.region("things", 5) is level.region("things", 5)
    assert list(level.regions) == ["things"]


def test_a_change_counts_as_a_miss_at_every_size() -> None:
    things = region(2)
    for _ in range(2_000):
        if things.find("key", 0.0) is None:
            put(things, "key")
        things.drop("key")
    ratios = things.what_if().ratios
    assert set(ratios) == {"half", "present", "twice"}
    assert all(ratio is None or ratio == 0.0 for ratio in ratios.values())


def test_bytes_are_estimated_with_all_parts() -> None:
    flat = estimated_bytes(Snapshot("name", b"x" * 10_000))
    assert 10_000 < flat < 11_000
    rows = tuple((number, "x" * 100) for number in range(1_000))
    assert 150_000 < estimated_bytes(Snapshot("name", b"", rows)) < 400_000
    assert estimated_bytes({"key": ["x" * 1_000] * 3}) > 3_000
    assert estimated_bytes(None) < 100
