"""The level of the cache in this process: values by region and key, bounded by entries and by estimated bytes.

It knows nothing of loading, of the shared level or of positions that are too old: whoever asks judges what `Region.find`
returns by its times and its position. Not for threads: it belongs to the event loop.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from heapq import heapify, heappop, heappush
from sys import getsizeof
from types import MappingProxyType
from typing import Any, Final

from msgspec import Struct

from tableforge.cache import WhatIf
from tableforge.config import Eviction

CAUSES: Final = ("size", "expired", "dropped", "cleared")
"""Why a value left: room for another, its time, a change of what it was made of, an operator."""


class Entry:
    """One value. Times by the clock of `now`, in seconds: fresh, then stale, then for when loading fails, then gone."""

    __slots__ = (
        "bytes",
        "fresh",
        "gone",
        "key",
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
        self.region = region
        self.key = key
        self.value = value
        self.position = position
        self.tags = tags
        self.fresh = fresh
        self.stale = stale
        self.gone = gone
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
        self.evictions = dict.fromkeys(CAUSES, 0)
        self._level = level
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._expiring: list[tuple[float, int, Entry]] = []
        self._puts = 0

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: str, now: float) -> Entry | None:
        """What is kept under this key, fresh or not; None where there is nothing. Counts as a use of it."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if now >= entry.gone + self.grace:
            self._remove(entry, "expired")
            return None
        self._entries.move_to_end(key)
        return entry

    def look(self, key: str) -> Entry | None:
        """What is kept under this key, without it counting as a use; its time may have passed."""
        return self._entries.get(key)

    def what_if(self) -> WhatIf:
        """What the hit ratio would be at other sizes."""
        return WhatIf(
            region=self.name, samples=0, ratios=dict.fromkeys(("half", "present", "twice"))
        )

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
        previous = self._entries.get(key)
        if previous is not None:
            self._unlink(previous)
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
        if entry.bytes > self._level.max_bytes:
            self.evictions["size"] += 1
            return None
        self._expire(now)
        while len(self._entries) >= self.max_entries:
            self._make_room()
        self._level.make_room(entry.bytes)
        self._entries[key] = entry
        self._puts += 1
        heappush(self._expiring, (gone, self._puts, entry))
        self._level.link(entry)
        self.bytes += entry.bytes
        return entry

    def drop(self, key: str) -> bool:
        """Forget a value; whether there was one."""
        entry = self._entries.get(key)
        if entry is None:
            return False
        self._remove(entry, "dropped")
        return True

    def clear(self) -> int:
        """Forget all values; how many there were."""
        count = len(self._entries)
        for entry in list(self._entries.values()):
            self._remove(entry, "cleared")
        return count

    def resize(self, max_entries: int) -> None:
        """Keep at most so many values from now on."""
        self.max_entries = max_entries
        while len(self._entries) > max_entries:
            self._make_room()

    def _make_room(self) -> None:
        self._remove(next(iter(self._entries.values())), "size")

    def _expire(self, now: float) -> None:
        expiring = self._expiring
        while expiring and expiring[0][0] + self.grace <= now:
            entry = heappop(expiring)[2]
            if self._entries.get(entry.key) is entry:
                self._remove(entry, "expired")
        if len(expiring) > 2 * len(self._entries) + 64:
            expiring[:] = [one for one in expiring if self._entries.get(one[2].key) is one[2]]
            heapify(expiring)

    def _remove(self, entry: Entry, cause: str) -> None:
        self._unlink(entry)
        self.evictions[cause] += 1

    def _unlink(self, entry: Entry) -> None:
        del self._entries[entry.key]
        self.bytes -= entry.bytes
        self._level.unlink(entry)


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
            entry.region._remove(entry, "dropped")  # noqa: SLF001 - one structure in two classes
        return count

    def clear(self, region: str | None = None) -> int:
        """Forget a region or all of them; how many values there were."""
        if region is None:
            return sum(one.clear() for one in self._regions.values())
        found = self._regions.get(region)
        return 0 if found is None else found.clear()

    def make_room(self, size: int) -> None:
        """Let values of the region with most bytes go until so many more bytes fit."""
        while self.bytes + size > self.max_bytes:
            largest = max(self._regions.values(), key=lambda region: region.bytes)
            largest._make_room()  # noqa: SLF001

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

ITEMS_WEIGHED: Final = 32
"""Of a long list so many are weighed, evenly spread; the others are taken to be like them."""


def estimated_bytes(value: object, depth: int = 6) -> int:
    """About what a value takes in memory, parts included; long lists by sample, shared parts as if they were its own."""
    size = getsizeof(value)
    if depth == 0 or isinstance(value, (str, bytes, int, float)) or value is None:
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
    if len(items) <= ITEMS_WEIGHED:
        return sum(estimated_bytes(item, depth - 1) for item in items)
    weighed = [items[len(items) * at // ITEMS_WEIGHED] for at in range(ITEMS_WEIGHED)]
    return sum(estimated_bytes(item, depth - 1) for item in weighed) * len(items) // ITEMS_WEIGHED
