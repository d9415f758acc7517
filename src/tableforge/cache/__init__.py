"""The contract of the cache: two levels under declared policies, never the reason of an outage and never a wrong answer.

Whatever it holds can be had from the database as well. A value is known by its policy (region) and key, and carries

- a *position*: of the log, or of the notices, at which it was built. Whoever asks names the *floor* that they know of, and
  gets nothing older;
- *tags*: whatever it was made of. A change drops a tag, and with it every value that has it.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Generic, Literal, NamedTuple, Protocol, TypeVar

from msgspec import Struct

V = TypeVar("V")


class Policy(Struct, Generic[V], frozen=True, kw_only=True):
    """What is kept of one region, and for how long. Times in seconds, 0 means never.

    `form` is the number of the value's shape in the shared level: a value of another form counts as missing there, so a
    rolling update never misreads. Each form that was ever released has a stored sample in the tests.
    """

    region: str
    """Label of metrics, first part of the key."""
    kind: type[V]
    """What a value is: a msgspec Struct or built-in, which the shared level can write down."""
    form: int
    fresh: float
    """Served as it is. A random tenth less, so that what was made together does not end together."""
    stale: float = 0.0
    """After that: served at once, while one task loads it anew."""
    on_error: float = 0.0
    """After that: served only if loading it anew fails."""
    missing: float = 0.0
    """How long "there is none" (None) is remembered, in process memory alone."""
    uncarried: float = 0.0
    """How long a value counts in process memory while the bus does not carry invalidations; 0, no limit, where `floor` says
    it all."""
    shared_fresh: float = 0.0
    """Served from the shared level for so long after it was built, where that is not `fresh`."""
    shared: bool = True
    """Whether the shared level keeps it as well."""
    lasts: bool = True
    """Whether emergency mode may serve it for longer; never for sessions, roles or membership."""
    local_entries: int
    shared_entries: int


class Built(NamedTuple, Generic[V]):
    """What a loader returns: the value, the position it was read at, and further tags that only reading told."""

    value: V
    position: int = 0
    tags: Sequence[str] = ()


Load = Callable[[], Awaitable[Built[V] | None]]
"""Reads a value from where it truly is; None where there is none. What it raises comes through, and is not remembered."""


class RegionStats(Struct, frozen=True, kw_only=True):
    """One region on one level since the process began. Times in seconds; `bytes` as far as known."""

    level: str
    region: str
    hits: int
    misses: int
    stale: int
    entries: int
    bytes: int
    loads: int
    load_p50: float
    load_p95: float
    load_p99: float
    evictions: dict[str, int]
    """By cause: `size`, `expired`, `dropped`, `cleared`."""

    @property
    def ratio(self) -> float | None:
        """Hits of all that was asked for; None before anything was."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else None


class WhatIf(Struct, frozen=True, kw_only=True):
    """Estimated hit ratios of the local level at several sizes, from sampled stack distances; None without samples."""

    region: str
    samples: int
    ratios: dict[str, float | None]
    """By size: `half`, `present`, `twice`."""


class Cache(Protocol):
    """The one way to read through the cache.

    Rules, each with a test of its number:

    - CA1 a value that was put or loaded is found until it expires, is dropped or makes room; never under another key;
    - CA2 after `drop` or `drop_tag` returned, no value that was built before is served here (read your writes), loads
      that were under way included;
    - CA3 a value older than the floor is never served from either level; what a loader that was asked afterwards returns is;
    - CA4 of many who miss the same key at once one loads, in this process; across instances as far as a short lock goes;
    - CA5 a loader's failure reaches all who wait for it, and the next one tries again; a stale value within `on_error` is
      served instead;
    - CA6 between `fresh` and `fresh` + `stale` nobody waits: the old value is served while one task loads anew;
    - CA7 a shared level that is slow, gone, poisoned or truncated counts as missing; nobody waits for it longer than the
      hard time-out, and a broken one is not asked but probed now and then (circuit breaker);
    - CA8 what one instance drops, the others serve no longer than 100 ms (p99) while the bus carries it; what may have been
      missed while it did not is dropped when it does again;
    - CA9 both levels stay within their bounds of entries, and the local one of bytes;
    - CA10 in emergency mode the shared level is not asked, and values of policies that `lasts` are served for longer;
    - CA11 a value of another form, or that nobody of our fleet has written, counts as missing in the shared level.
    """

    def peek(self, policy: Policy[V], key: str, *, floor: int = 0) -> V | None:
        """The fresh value in process memory, if there is one; waits for nothing. Counted as a hit; a miss is the `get`'s."""
        ...

    async def get(
        self,
        policy: Policy[V],
        key: str,
        load: Load[V],
        *,
        floor: int = 0,
        tags: Sequence[str] = (),
    ) -> V | None:
        """The value from memory, else from the shared level, else from `load`; None where the loader says there is none.

        `tags` are those known beforehand; `Built.tags` adds to them.
        """
        ...

    def put(
        self,
        policy: Policy[V],
        key: str,
        value: V,
        *,
        position: int = 0,
        tags: Sequence[str] = (),
    ) -> None:
        """Keep a value that is known to be true now, unless a later position is kept.

        Where positions guard a region (`uncarried` is 0) the shared level gets it in the background; elsewhere another
        instance's change may have come between, so it stays here.
        """
        ...

    def drop(self, policy: Policy[V], key: str) -> None:
        """Forget one value: here at once, in the shared level and on the other instances in the background."""
        ...

    def drop_tag(self, *tags: str) -> None:
        """Forget every value that has one of these tags, likewise."""
        ...

    def touch_tag(self, tag: str) -> None:
        """Like `drop_tag`, for changes that come by the thousand: here at once, elsewhere gathered for up to 20 ms."""
        ...

    def forget(self, policy: Policy[V], key: str) -> None:
        """Like `drop`, here alone: for changes that whoever made them tells everybody of."""
        ...

    def forget_tag(self, *tags: str) -> None:
        """Like `drop_tag`, here alone."""
        ...


class Shared(Protocol):
    """The shared level. No method raises; each takes at most its bound of time, and a failure is a miss.

    Each drop has a moment, later than those before; a value is found only if it was read at a later moment than the last
    drop of its key, its region and each of its tags. So a slow loader anywhere never brings back what was dropped meanwhile.
    """

    @property
    def is_open(self) -> bool:
        """Whether it is not asked at present: `get` and `moment` return None at once, drops are not done."""
        ...

    async def get(
        self, region: str, key: str, tags: Sequence[str], *, within: float
    ) -> "Kept | None":
        """What is kept under this key, if it was not dropped since; waits at most `within` seconds.

        `tags` are those known beforehand: for others it asks twice.
        """
        ...

    async def moment(self) -> bytes | None:
        """The moment to read a value at: asked before it is loaded, handed to `put` after; None while it is away."""
        ...

    def put(self, region: str, key: str, kept: "Kept", *, seconds: float, entries: int) -> None:
        """Keep a value for so long, as one of at most about so many of its region; in the background."""
        ...

    async def drop(self, region: str, keys: Iterable[str]) -> bool:
        """Forget values; whether that was done."""
        ...

    async def drop_tags(self, tags: Iterable[str]) -> bool:
        """Have values with these tags not be found any more; whether that was done."""
        ...

    async def outdate(self, regions: Iterable[str]) -> bool:
        """Have nothing of these regions be found that was read before; whether that was done.

        One write, however much is there: what no longer counts goes when its time comes.
        """
        ...

    async def clear(self, region: str | None) -> int | None:
        """Forget a region or all of them, and return how many values there were; None if that was not done."""
        ...

    async def trim(self, region: str, entries: int) -> int | None:
        """Take out some thousands of the values that are more than so many, and return how many; None if it could not be asked.

        Whoever wants all of them out asks again until it is 0.
        """
        ...

    async def lock(self, region: str, key: str, *, seconds: float) -> bool | None:
        """Whether the right to load this value is ours, for so long; None while nobody can tell. To lose it does no harm."""
        ...

    def unlock(self, region: str, key: str) -> None:
        """Give the right back, in the background, if it is still ours."""
        ...

    async def stats(self, regions: Iterable[str] = ()) -> Sequence[RegionStats]:
        """Figures of these regions and of each other one that was used here; `loads` are its answers, their times those of the answers.

        Entries and bytes are those of all instances, estimated from a sample; 0 while it is away.
        """
        ...

    def condition(self) -> "Condition":
        """How the shared level does, for people."""
        ...


class Condition(Struct, frozen=True, kw_only=True):
    """How the shared level does: the circuit breaker's state and counts since the process began."""

    server: str
    """Its address without secrets."""
    state: Literal["closed", "open", "half-open"]
    trouble: str
    """Why it is not asked, or takes no values, without secrets; empty while all is well."""
    last_trouble: str = ""
    """Why it was last not asked; empty if it never was."""
    failures: int
    """Requests of one turn that were not answered in time."""
    opened: int
    probes: int
    lost: int
    """Values that were not written: it was away, or too much waited."""
    unreadable: int
    """Values found that were truncated, altered, of other instances or of another kind of this program."""


class Kept(Struct, frozen=True, kw_only=True):
    """A value on its way to or from the shared level: its bytes, form and position, when it was built, its tags.

    `built` is in seconds since 1970 by the builder's clock; `moment` is what `Shared.moment` said before loading.
    """

    form: int
    position: int
    built: float
    tags: tuple[str, ...]
    moment: bytes
    value: bytes
