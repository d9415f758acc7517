"""What leaves the cache of this process first when it is full.

`Guarded` is the order behind the setting `lru`: the windowed TinyLFU of Einziger, Friedman and Manes ("TinyLFU: A highly
efficient cache admission policy", ACM Transactions on Storage, 2017). What is put enters a window, the least recently used
of which may go on into the main part only if it was asked for more often than what would have to leave there for it; so a
scan passes through and takes nothing with it. We count exactly, values that left included, since a process keeps few.

How large the window should be depends on the load: 1 % suits lasting popularity and loops, the whole cache (which is plain
LRU) suits values that are asked for soon again or never. `Trials` finds out while it runs, by miniatures of the cache with
one window each that see a sample of the keys (Waldspurger, Saemundsson, Ahmad and Park: "Cache modeling and optimization
using miniature simulations", USENIX ATC 2017). So it can not be worse than LRU for long. docs/adr/0010 has the comparison.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from heapq import heappop, heappush
from itertools import count
from typing import Final, Protocol

SHARES: Final = (0.01, 0.2, 1.0)
"""The windows that are tried, as shares of the cache."""
MOST_USES: Final = 15
"""Uses are counted so far, and halved from time to time: what was popular once does not stay for it."""
USES_BITS: Final = 4
HALVED_AFTER: Final = 10
"""Uses for each value in the cache until all counts are halved."""
REMEMBERED: Final = 8
"""For each value in the cache so many that left keep their count."""
MOVED_AT_ONCE: Final = 8
"""How many values leave a window that is too large whenever one comes in."""
PROTECTED: Final = 4
"""Of the main part, four fifths are for values that were used there."""
SPARE: Final = 64
"""How many counts that nobody stands at any more may be kept beside as many as are stood at."""
ADVANTAGE: Final = 1
"""More than so many uses more a newcomer needs. Without it a loop longer than the cache would change places with itself."""

MINIATURE: Final = 64
"""Values that a miniature holds, as far as `HIGHEST_RATE` allows: so many that chance matters little."""
HIGHEST_RATE: Final = 0.5
DECAY: Final = 0.98
"""What a review leaves of the hits before it: some fifty reviews count, each after half as many requests as there are places."""
FEWEST_ASKED: Final = 32
"""Requests that miniatures saw before they are compared."""
MARGIN: Final = 0.01
"""How much more of what was asked another window must have hit before it is taken."""
TO_LRU: Final = 0.005
"""And LRU, which has the benefit of the doubt."""
FROM_LRU: Final = 0.02
"""And another one instead of LRU."""


class Place:
    """What an order knows of a value; the entries of a region are places."""

    __slots__ = ("epoch", "gone", "key", "number", "queue", "uses")

    def __init__(self, key: str, gone: float = math.inf) -> None:
        self.key = key
        self.gone = gone
        """When its time is over."""
        self.number = 0
        self.uses = 0
        self.epoch = 0
        self.queue: OrderedDict[str, Place] | None = None


class Order(Protocol):
    """Who leaves first. Everything that is kept is added, then used or replaced, then removed."""

    def add(self, place: Place) -> None:
        """Take in what was put."""
        ...

    def used(self, place: Place) -> None:
        """Note that somebody found it."""
        ...

    def replace(self, place: Place, successor: Place) -> None:
        """Have another value of the same key stand where this one stood."""
        ...

    def remove(self, place: Place) -> None:
        """Let go of it, for whatever cause."""
        ...

    def victim(self) -> Place:
        """Who should make room; there must be one."""
        ...


class Guarded:
    """Windowed TinyLFU; `share` is the window's, and may be changed at any time. With 1.0 it is plain LRU."""

    def __init__(self, share: float = SHARES[0]) -> None:
        self.share = share
        self._window: OrderedDict[str, Place] = OrderedDict()
        self._probation: OrderedDict[str, Place] = OrderedDict()
        self._protected: OrderedDict[str, Place] = OrderedDict()
        self._left: dict[str, int] = {}
        self._counted = 0
        self._epoch = 0

    def __len__(self) -> int:
        return len(self._window) + len(self._probation) + len(self._protected)

    def add(self, place: Place) -> None:
        """See `Order`; uses before it left count on."""
        left = self._left.pop(place.key, 0)
        place.epoch = left >> USES_BITS
        place.uses = left & MOST_USES
        place.uses = min(self._uses(place) + 1, MOST_USES)
        place.queue = self._window
        self._window[place.key] = place
        self._counted += 1
        size = len(self)
        for _ in range(MOVED_AT_ONCE):
            if len(self._window) <= self.share * size + 1:
                break
            self._admit(next(iter(self._window.values())))
        if self._counted >= HALVED_AFTER * size:
            self._counted //= 2
            self._epoch += 1

    def used(self, place: Place) -> None:
        """See `Order`."""
        if place.epoch != self._epoch:
            self._uses(place)
        if place.uses < MOST_USES:
            place.uses += 1
        self._counted += 1
        queue = place.queue
        assert queue is not None
        if queue is not self._probation:
            queue.move_to_end(place.key)
            return
        del queue[place.key]
        self._protected[place.key] = place
        place.queue = self._protected
        if len(self._protected) > PROTECTED * len(self._probation):
            key, oldest = self._protected.popitem(last=False)
            self._probation[key] = oldest
            oldest.queue = self._probation

    def replace(self, place: Place, successor: Place) -> None:
        """See `Order`."""
        assert place.queue is not None
        place.queue[place.key] = successor
        successor.queue, place.queue = place.queue, None
        successor.uses, successor.epoch = place.uses, place.epoch
        self.used(successor)

    def remove(self, place: Place) -> None:
        """See `Order`; its uses are remembered."""
        assert place.queue is not None
        del place.queue[place.key]
        place.queue = None
        self._left[place.key] = (self._epoch << USES_BITS) | self._uses(place)
        if len(self._left) > REMEMBERED * (len(self) + 1):
            del self._left[next(iter(self._left))]

    def victim(self) -> Place:
        """See `Order`. Called once for each value that leaves, for it may let one into the main part."""
        main = self._probation or self._protected
        if main and len(self._window) < max(1.0, self.share * len(self)):
            return next(iter(main.values()))
        candidate = next(iter(self._window.values()))
        if not main:
            return candidate
        settled = next(iter(main.values()))
        if self._uses(candidate) <= self._uses(settled) + ADVANTAGE:
            return candidate
        self._admit(candidate)
        return settled

    def _admit(self, place: Place) -> None:
        del self._window[place.key]
        self._probation[place.key] = place
        place.queue = self._probation

    def _uses(self, place: Place) -> int:
        """Its count, halved for each epoch since it was counted."""
        if place.epoch != self._epoch:
            place.uses >>= min(self._epoch - place.epoch, USES_BITS)
            place.epoch = self._epoch
        return place.uses


class LeastUsed:
    """The setting `lfu`: least often used first, of those the least recently used.

    Newcomers start a use higher after every `HALVED_AFTER` uses for each value, and nobody is more than `MOST_USES` above
    them, so that what was popular once is overtaken (ageing as in LFU-DA: Arlitt and others, "Evaluating content management
    techniques for web proxy caches", 2000, but by time instead of by who left).
    """

    def __init__(self) -> None:
        self._by_uses: dict[int, OrderedDict[str, Place]] = {}
        self._fewest: list[int] = []
        self._size = 0
        self._counted = 0
        self._age = 1

    def add(self, place: Place) -> None:
        """See `Order`."""
        self._count()
        self._stand(place, self._age)

    def used(self, place: Place) -> None:
        """See `Order`."""
        self._count()
        self.remove(place)
        self._stand(place, min(place.uses + 1, self._age + MOST_USES))

    def replace(self, place: Place, successor: Place) -> None:
        """See `Order`."""
        self.remove(place)
        self._stand(successor, place.uses + 1)

    def remove(self, place: Place) -> None:
        """See `Order`."""
        assert place.queue is not None
        del place.queue[place.key]
        if not place.queue:
            del self._by_uses[place.uses]
        place.queue = None
        self._size -= 1

    def victim(self) -> Place:
        """See `Order`."""
        while self._fewest[0] not in self._by_uses:
            heappop(self._fewest)
        return next(iter(self._by_uses[self._fewest[0]].values()))

    def _count(self) -> None:
        self._counted += 1
        if self._counted >= HALVED_AFTER * self._size:
            self._counted = 0
            self._age += 1

    def _stand(self, place: Place, uses: int) -> None:
        queue = self._by_uses.get(uses)
        if queue is None:
            queue = self._by_uses[uses] = OrderedDict()
            heappush(self._fewest, uses)
            if len(self._fewest) > 2 * len(self._by_uses) + SPARE:
                self._fewest = sorted(self._by_uses)
        queue[place.key] = place
        place.uses = uses
        place.queue = queue
        self._size += 1


class Soonest:
    """The setting `ttl`: what expires next; every region has one to find what has expired."""

    def __init__(self) -> None:
        self._times: list[tuple[float, int]] = []
        self._standing: dict[int, Place] = {}
        self._numbers = count()

    def add(self, place: Place) -> None:
        """See `Order`."""
        place.number = next(self._numbers)
        self._standing[place.number] = place
        heappush(self._times, (place.gone, place.number))

    def used(self, place: Place) -> None:
        """See `Order`: that changes nothing."""

    def replace(self, place: Place, successor: Place) -> None:
        """See `Order`."""
        self.remove(place)
        self.add(successor)

    def remove(self, place: Place) -> None:
        """See `Order`."""
        del self._standing[place.number]
        if len(self._times) > 2 * len(self._standing) + SPARE:
            self._times = sorted((one.gone, one.number) for one in self._standing.values())

    def victim(self) -> Place:
        """See `Order`."""
        while self._times[0][1] not in self._standing:
            heappop(self._times)
        return self._standing[self._times[0][1]]

    def due(self, now: float) -> Place | None:
        """Something whose time is over, if there is anything."""
        if not self._times or self._times[0][0] > now or not self._standing:
            return None
        place = self.victim()
        return place if place.gone <= now else None


class Trial:
    """A miniature of the cache with one window: keys alone."""

    def __init__(self, share: float, places: int) -> None:
        self.order = Guarded(share)
        self.hits = 0.0
        self._places = places
        self._kept: dict[str, Place] = {}

    def ask(self, key: str) -> None:
        """Find the key or take it in."""
        place = self._kept.get(key)
        if place is not None:
            self.order.used(place)
            self.hits += 1
            return
        if len(self._kept) >= self._places:
            victim = self.order.victim()
            self.order.remove(victim)
            del self._kept[victim.key]
        place = self._kept[key] = Place(key)
        self.order.add(place)


class Trials:
    """Miniatures that see `rate` of the keys, and say which window fits a cache of `places` best."""

    def __init__(self, places: int, rate: float, share: float) -> None:
        held = max(2, round(places * rate))
        self._trials: Sequence[Trial] = [Trial(one, held) for one in SHARES]
        self._review_after = max(FEWEST_ASKED, held // 2)
        self._asked = 0.0
        self._since = 0
        self._last = ""
        self.share = share
        """The window to use."""

    def ask(self, key: str) -> None:
        """Show them a key that somebody asked for; again and again at once is one use."""
        if key == self._last:
            return
        self._last = key
        for trial in self._trials:
            trial.ask(key)
        self._since += 1
        if self._since >= self._review_after:
            self._review()

    def _review(self) -> None:
        self._asked += self._since
        self._since = 0
        best = max(self._trials, key=lambda trial: trial.hits)
        present = next(one for one in self._trials if one.order.share == self.share)
        margin = MARGIN
        if best.order.share == 1.0:
            margin = TO_LRU
        elif self.share == 1.0:
            margin = FROM_LRU
        if best.hits > present.hits + margin * self._asked:
            self.share = best.order.share
        for trial in self._trials:
            trial.hits *= DECAY
        self._asked *= DECAY


def rate_for(places: int, wanted: int) -> float:
    """Which share of the keys to sample, so that of a cache of so many places about `wanted` are."""
    return min(HIGHEST_RATE, wanted / places)
