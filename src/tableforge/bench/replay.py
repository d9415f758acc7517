"""Hit ratios of our cache and of others on a trace.

The others are what a cache could have been: plain LRU, S3-FIFO (Yang, Zhang, Qiu, Yue and Rashmi: "FIFO queues are all you
need for cache eviction", SOSP 2023), LFU, the windows of TinyLFU that ours chooses from, each fixed, and the libraries theine
and cachebox where they are installed.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, Protocol

from tableforge.bench.traces import Trace
from tableforge.cache.eviction import SHARES, Guarded, LeastUsed, Order, Place
from tableforge.cache.local import LocalLevel
from tableforge.config import Eviction

OURS: Final = "ours"
LRU: Final = "lru"
LIBRARIES: Final = ("theine", "cachebox")
FOR_EVER: Final = 1e9
NO_BOUND: Final = 1 << 60


class Model(Protocol):
    """A cache of a fixed number of entries, keys alone."""

    def ask(self, key: str) -> bool:
        """Whether the key is there; it is afterwards."""
        ...

    def drop(self, key: str) -> None:
        """Forget it."""
        ...


class Ours:
    """The level of the cache in process as it is used, without the bound of bytes."""

    def __init__(self, entries: int, eviction: Eviction = "lru") -> None:
        self._region = LocalLevel(max_bytes=NO_BOUND, eviction=eviction).region(OURS, entries)

    def ask(self, key: str) -> bool:
        """See `Model`."""
        if self._region.find(key, 0.0) is not None:
            return True
        self._region.put(key, None, now=0.0, fresh=FOR_EVER, stale=FOR_EVER, gone=FOR_EVER)
        return False

    def drop(self, key: str) -> None:
        """See `Model`."""
        self._region.drop(key)


class Ordered:
    """One of our orders as it is, without what chooses its window."""

    def __init__(self, entries: int, order: Order) -> None:
        self._entries = entries
        self._order = order
        self._kept: dict[str, Place] = {}

    def ask(self, key: str) -> bool:
        """See `Model`."""
        place = self._kept.get(key)
        if place is not None:
            self._order.used(place)
            return True
        if len(self._kept) >= self._entries:
            self.drop(self._order.victim().key)
        place = self._kept[key] = Place(key)
        self._order.add(place)
        return False

    def drop(self, key: str) -> None:
        """See `Model`."""
        place = self._kept.pop(key, None)
        if place is not None:
            self._order.remove(place)


class Lru:
    """Least recently used first."""

    def __init__(self, entries: int) -> None:
        self._entries = entries
        self._kept: OrderedDict[str, None] = OrderedDict()

    def ask(self, key: str) -> bool:
        """See `Model`."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return True
        if len(self._kept) >= self._entries:
            self._kept.popitem(last=False)
        self._kept[key] = None
        return False

    def drop(self, key: str) -> None:
        """See `Model`."""
        self._kept.pop(key, None)


class S3Fifo:
    """A small queue for newcomers, a main one for who was used there, and the keys of who just left."""

    def __init__(self, entries: int) -> None:
        self._entries = entries
        self._small: OrderedDict[str, int] = OrderedDict()
        self._main: OrderedDict[str, int] = OrderedDict()
        self._left: OrderedDict[str, None] = OrderedDict()

    def ask(self, key: str) -> bool:
        """See `Model`."""
        for queue in (self._small, self._main):
            if key in queue:
                queue[key] = min(3, queue[key] + 1)
                return True
        while len(self._small) + len(self._main) >= self._entries:
            self._evict()
        if key in self._left:
            del self._left[key]
            self._main[key] = 0
        else:
            self._small[key] = 0
        return False

    def drop(self, key: str) -> None:
        """See `Model`."""
        for queue in (self._small, self._main):
            queue.pop(key, None)

    def _evict(self) -> None:
        if self._main and len(self._small) < max(1, self._entries // 10):
            key, uses = self._main.popitem(last=False)
            if uses:
                self._main[key] = uses - 1
            return
        key, uses = self._small.popitem(last=False)
        if uses > 1:
            self._main[key] = 0
            return
        self._left[key] = None
        if len(self._left) > self._entries:
            self._left.popitem(last=False)


class Theine:
    """theine's cache: TinyLFU with a window that climbs hills."""

    def __init__(self, entries: int) -> None:
        self._cache: Any = import_module("theine").Cache(entries, nolock=True)

    def ask(self, key: str) -> bool:
        """See `Model`."""
        found: bool = self._cache.get(key)[1]
        if not found:
            self._cache.set(key, key)
        return found

    def drop(self, key: str) -> None:
        """See `Model`."""
        self._cache.delete(key)


class Cachebox:
    """cachebox' cache of this class, LRUCache or LFUCache."""

    def __init__(self, entries: int, kind: str) -> None:
        self._cache: Any = getattr(import_module("cachebox"), kind)(entries)

    def ask(self, key: str) -> bool:
        """See `Model`."""
        if self._cache.get(key) is not None:
            return True
        self._cache[key] = key
        return False

    def drop(self, key: str) -> None:
        """See `Model`."""
        self._cache.pop(key, None)


def fixed(share: float) -> Callable[[int], Model]:
    """TinyLFU with a window of this share."""
    return lambda entries: Ordered(entries, Guarded(share))


STATIC: Final[Mapping[str, Callable[[int], Model]]] = {
    LRU: Lru,
    "lfu": lambda entries: Ordered(entries, LeastUsed()),
    "s3-fifo": S3Fifo,
    **{f"tinylfu {share:.0%}": fixed(share) for share in SHARES if share < 1},
}
"""Policies without anything that adapts."""


def models() -> dict[str, Callable[[int], Model]]:
    """By name: ours, the static ones, and the libraries that are installed."""
    found: dict[str, Callable[[int], Model]] = {OURS: Ours, **STATIC}
    if find_spec("theine") is not None:
        found["theine"] = Theine
    if find_spec("cachebox") is not None:
        found["cachebox lru"] = lambda entries: Cachebox(entries, "LRUCache")
        found["cachebox lfu"] = lambda entries: Cachebox(entries, "LFUCache")
    return found


def hit_ratio(trace: Trace, model: Callable[[int], Model]) -> float:
    """From 0 to 1, of all that the trace asks for."""
    [ratio] = hit_ratios(trace, model, 1)
    return ratio


def hit_ratios(trace: Trace, model: Callable[[int], Model], windows: int) -> list[float]:
    """The same for so many equal parts of the trace, one after the other; what does not fill a part is left out."""
    caches = {region: model(entries) for region, entries in trace.entries.items()}
    length = len(trace.steps) // windows
    ratios = []
    for number in range(windows):
        asked = hits = 0
        for region, key, dropped in trace.steps[number * length : (number + 1) * length]:
            if dropped:
                caches[region].drop(key)
            else:
                asked += 1
                hits += caches[region].ask(key)
        ratios.append(hits / asked)
    return ratios
