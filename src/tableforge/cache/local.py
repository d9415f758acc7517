"""The level of the cache in this process: values by region and key, bounded by entries and by estimated bytes.

It knows nothing of loading, of the shared level or of positions that are too old: whoever asks judges what `Region.find`
returns by its times and its position. Not for threads: it belongs to the event loop.
"""

from collections.abc import Mapping, Sequence
from sys import getsizeof
from types import MappingProxyType
from typing import Any, Final, Literal
from zlib import crc32

from msgspec import Struct

from tableforge.cache import WhatIf
from tableforge.cache.eviction import (
    MINIATURE,
    Guarded,
    LeastUsed,
    Order,
    Place,
    Soonest,
    Trials,
    rate_for,
)
from tableforge.cache.what_if import WATCHED, StackDistances
from tableforge.config import Eviction

CAUSES: Final = ("size", "expired", "dropped", "cleared")
"""Why a value left: room for another, its time, a change of what it was made of, an operator."""

MARKS: Final = 1 << 24
"""Which keys are in a sample is told by a number below this."""
SPREAD: Final = 0x9E3779B1
"""Knuth's multiplier: keys that differ in a digit only come to lie far from each other."""


def mark_of(key: str) -> int:
    """A number below `MARKS` that looks like chance and is the same in every process: Python's own hashes differ."""
    return (crc32(key.encode(errors="replace")) * SPREAD & 0xFFFFFFFF) >> 8


class Entry(Place):
    """One value. Times by the clock of `now`, in seconds: fresh, then stale, then for when loading fails, then gone."""

    __slots__ = (
        "bytes",
        "fresh",
        "mark",
        "position",
        "region",
        "stale",
        "tags",
        "value",
    )

    def __init__(
        self,
        region: "Region",
        key: str,
        value: Any,
        *,
        position: int,
        tags: Sequence[str],
        fresh: float,
        stale: float,
        gone: float,
    ) -> None:
        super().__init__(key, gone)
        self.mark = mark_of(key)
        self.region = region
        self.value = value
        self.position = position
        self.tags = tags
        self.fresh = fresh
        self.stale = stale
        self.bytes = estimated_bytes(key) + estimated_bytes(value) + ENTRY_BYTES


class Region:
    """The values of one policy. Counters are plain numbers; `hits`, `misses` and `stale` are counted by whoever asks."""

    def __init__(self, level: "LocalLevel", name: str, max_entries: int) -> None:
        self.name = name
        self.max_entries = max_entries
        self.hits = 0
        self.misses = 0
        self.stale = 0
        self.bytes = 0
        self.grace = 0.0
        """Seconds that values are kept beyond their time."""
        self.evictions = dict.fromkeys(CAUSES, 0)
        self._level = level
        self._entries: dict[str, Entry] = {}
        self._expiring = Soonest()
        self._guarded = Guarded() if level.eviction == "lru" else None
        self._order: Order = self._expiring
        if self._guarded is not None:
            self._order = self._guarded
        elif level.eviction == "lfu":
            self._order = LeastUsed()
        self._asked = 0
        self._found = 0
        self._sample_for(max_entries)

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: str, now: float) -> Entry | None:
        """What is kept under this key, fresh or not; None where there is nothing. Counts as a use of it."""
        entry = self._entries.get(key)
        if entry is not None:
            if now < entry.gone + self.grace:
                self.used(entry)
                return entry
            self._remove(entry, "expired")
        self._asked += 1
        mark = mark_of(key)
        if mark < self._threshold:
            self._sample(key, mark)
        return None

    def used(self, entry: Entry) -> None:
        """Note a use of what `look` returned."""
        self._asked += 1
        self._found += 1
        if entry.mark < self._threshold:
            self._sample(entry.key, entry.mark)
        self._order.used(entry)

    def look(self, key: str) -> Entry | None:
        """What is kept under this key, without it counting as a use; its time may have passed."""
        return self._entries.get(key)

    def put(
        self,
        key: str,
        value: Any,
        *,
        now: float,
        fresh: float,
        stale: float,
        gone: float,
        position: int = 0,
        tags: Sequence[str] = (),
    ) -> Entry | None:
        """Keep a value under this key instead of what was there; None when it is larger than all the room there is."""
        self.expire(now)
        entry = Entry(
            self,
            key,
            value,
            position=position,
            tags=tags,
            fresh=fresh,
            stale=stale,
            gone=gone,
        )
        previous = self._entries.get(key)
        if previous is not None:
            if self._level.fits(entry.bytes - previous.bytes):
                self._replace(previous, entry)
                return entry
            self._unlink(previous)
        if entry.bytes > self._level.max_bytes:
            self.evictions["size"] += 1
            return None
        if len(self._entries) >= self.max_entries:
            self.give_way()
        self._level.make_room(entry.bytes)
        self._link(entry)
        return entry

    def drop(self, key: str, cause: Literal["dropped", "cleared"] = "dropped") -> bool:
        """Forget a value; whether there was one."""
        entry = self._entries.get(key)
        if entry is None:
            return False
        self._remove(entry, cause)
        return True

    def dropped(self, entry: Entry) -> None:
        """Forget this value because what it was made of has changed."""
        self._remove(entry, "dropped")

    def clear(self) -> int:
        """Forget all values; how many there were."""
        count = len(self._entries)
        for entry in list(self._entries.values()):
            self._remove(entry, "cleared")
        return count

    def expire(self, now: float) -> int:
        """Forget what is over, which `find` would not return any more; how many there were."""
        count = 0
        over = self._expiring.due(now - self.grace)
        while over is not None:
            self._remove(over, "expired")
            count += 1
            over = self._expiring.due(now - self.grace)
        return count

    def resize(self, max_entries: int) -> None:
        """Keep at most so many values from now on."""
        self.max_entries = max_entries
        while len(self._entries) > max_entries:
            self.give_way()
        self._sample_for(max_entries)

    def what_if(self) -> WhatIf:
        """What the hit ratio would be at other sizes."""
        return WhatIf(
            region=self.name, samples=self._distances.seen, ratios=self._distances.ratios()
        )

    def give_way(self) -> None:
        """Let one value go; there must be one."""
        entries = len(self._entries)
        if not self._sampled_for / 2 <= entries <= self._sampled_for * 2:
            self._sample_for(entries)
        self._remove(self._order.victim(), "size")

    def _remove(self, place: Place, cause: str) -> None:
        entry = self._entries[place.key]
        self._unlink(entry)
        self.evictions[cause] += 1
        if cause != "size" and entry.mark < self._threshold:
            self._distances.forget(entry.key)

    def _link(self, entry: Entry) -> None:
        self._entries[entry.key] = entry
        self._order.add(entry)
        if self._order is not self._expiring:
            self._expiring.add(entry)
        self.bytes += entry.bytes
        self._level.link(entry)

    def _unlink(self, entry: Entry) -> None:
        del self._entries[entry.key]
        self._order.remove(entry)
        if self._order is not self._expiring:
            self._expiring.remove(entry)
        self.bytes -= entry.bytes
        self._level.unlink(entry)

    def _replace(self, previous: Entry, entry: Entry) -> None:
        self._entries[entry.key] = entry
        self._order.replace(previous, entry)
        if self._order is not self._expiring:
            self._expiring.replace(previous, entry)
        self.bytes += entry.bytes - previous.bytes
        self._level.unlink(previous)
        self._level.link(entry)

    def _sample_for(self, places: int) -> None:
        """Begin to watch a sample of the keys that fits so many entries."""
        places = max(places, 1)
        rate = rate_for(places, WATCHED)
        self._sampled_for = places
        self._asked_before, self._found_before = self._asked, self._found
        self._threshold = int(rate * MARKS)
        self._distances = StackDistances(places, rate)
        if self._guarded is not None:
            rate = rate_for(places, MINIATURE)
            self._tried = int(rate * MARKS)
            self._trials = Trials(places, rate, self._guarded.share)

    def _sample(self, key: str, mark: int) -> None:
        asked, found = self._asked, self._found
        self._distances.ask(key, asked - self._asked_before, found - self._found_before)
        self._asked_before, self._found_before = asked, found
        if self._guarded is not None and mark < self._tried:
            self._trials.ask(key)
            self._guarded.share = self._trials.share


class LocalLevel:
    """All regions, and what they share: the bound of bytes, the index of tags."""

    def __init__(self, *, max_bytes: int, eviction: Eviction = "lru") -> None:
        self.max_bytes = max_bytes
        self.eviction = eviction
        self.bytes = 0
        self._regions: dict[str, Region] = {}
        self._tagged: dict[str, set[Entry]] = {}

    @property
    def regions(self) -> Mapping[str, Region]:
        """By name."""
        return MappingProxyType(self._regions)

    def region(self, name: str, max_entries: int) -> Region:
        """The region of this name, made where there is none; hold on to it."""
        region = self._regions.get(name)
        if region is None:
            region = self._regions[name] = Region(self, name, max_entries)
        return region

    def drop_tag(self, tag: str) -> int:
        """Forget every value that has this tag; how many there were. One look-up where nothing has it."""
        entries = self._tagged.get(tag)
        if entries is None:
            return 0
        count = len(entries)
        for entry in list(entries):
            entry.region.dropped(entry)
        return count

    def clear(self, region: str | None = None) -> int:
        """Forget a region or all of them; how many values there were."""
        if region is None:
            return sum(one.clear() for one in self._regions.values())
        found = self._regions.get(region)
        return 0 if found is None else found.clear()

    def fits(self, more: int) -> bool:
        """Whether so many more bytes would fit as it is."""
        return self.bytes + more <= self.max_bytes

    def make_room(self, more: int) -> None:
        """Let values of the region with most bytes go until so many more bytes fit."""
        while not self.fits(more):
            max(self._regions.values(), key=lambda region: region.bytes).give_way()

    def link(self, entry: Entry) -> None:
        """Count an entry's bytes and index its tags."""
        self.bytes += entry.bytes
        for tag in entry.tags:
            self._tagged.setdefault(tag, set()).add(entry)

    def unlink(self, entry: Entry) -> None:
        """Undo `link`."""
        self.bytes -= entry.bytes
        for tag in entry.tags:
            entries = self._tagged.get(tag)
            if entries is not None:
                entries.discard(entry)
                if not entries:
                    del self._tagged[tag]


ENTRY_BYTES: Final = 300
"""What an entry takes beside its key and value: itself, its places in the tables, about two tags."""

WHOLE: Final = frozenset((str, bytes, int, float, bool, type(None)))
"""What has no parts."""

ITEMS_WEIGHED: Final = 8
"""Of a long list so many are weighed, evenly spread; the others are taken to be like them."""


def estimated_bytes(value: object, depth: int = 6) -> int:
    """About what a value takes in memory, parts included; long lists by sample, shared parts as if they were its own."""
    size = getsizeof(value)
    if depth == 0 or type(value) in WHOLE:
        return size
    if isinstance(value, Struct):
        return size + sum(
            estimated_bytes(getattr(value, name), depth - 1) for name in value.__struct_fields__
        )
    if isinstance(value, Mapping):
        return size + _of_items([*value.keys()], depth) + _of_items([*value.values()], depth)
    if isinstance(value, (list, tuple, set, frozenset)):
        return size + _of_items(list(value), depth)
    return size


def _of_items(items: Sequence[object], depth: int) -> int:
    weighed = items
    if len(items) > ITEMS_WEIGHED:
        weighed = [items[len(items) * at // ITEMS_WEIGHED] for at in range(ITEMS_WEIGHED)]
    size = 0
    for item in weighed:  # a call for each would be most of what keeping a list takes
        size += getsizeof(item) if type(item) in WHOLE else estimated_bytes(item, depth - 1)
    return size if weighed is items else size * len(items) // ITEMS_WEIGHED
