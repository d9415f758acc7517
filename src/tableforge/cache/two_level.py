"""The two levels of the cache in front of what they save: memory first, then the shared level, then the loader.

Here is what is asked of it, and told to it; how a value is got that memory does not have stands in `fetching`, what keeps
both levels true in `coherence`.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from secrets import SystemRandom
from typing import Any, Final

import structlog
from msgspec import structs

from tableforge.cache import Built, Condition, Load, Policy, RegionStats, Shared, V, WhatIf
from tableforge.cache.coherence import Key, Landed, Tell, Tidings
from tableforge.cache.fetching import Fetching, Region
from tableforge.cache.local import Entry, LocalLevel
from tableforge.config import CacheKnobs
from tableforge.telemetry import Histogram

ROUNDS: Final = 5
"""How many loads of others somebody waits for before they load by themselves."""
LOOK_SECONDS: Final = 0.1
"""How often the bus is looked at."""
SKEW_SECONDS: Final = 2.0
"""How far the clocks of two instances may lie apart."""
STARTING_SECONDS: Final = 5.0
"""A process that is younger missed nothing, though the bus may not have carried until now."""
LONGER: Final = 3.0
"""In emergency mode values count as fresh for so many lives more."""
GRACE: Final = 10.0
"""And are served, if older, for so many lives after that."""
CLOSING_SECONDS: Final = 2.0

CHANCE: Final = SystemRandom()

log = structlog.get_logger(__name__)


class TwoLevelCache:
    """See `Cache`. `carries` says whether the bus brings what the others drop; `tell` tells them what was dropped here.

    Without `shared` this is the cache of a single process. `chance` gives random numbers from 0 up to 1, `clock` seconds
    that never go back, `wall` those since 1970.
    """

    def __init__(
        self,
        policies: Iterable[Policy[Any]],
        knobs: CacheKnobs,
        *,
        shared: Shared | None = None,
        tell: Tell | None = None,
        carries: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        chance: Callable[[], float] = CHANCE.random,
    ) -> None:
        self._shared = shared
        self._carries = carries
        self._clock = clock
        self._wall = wall
        self.local = LocalLevel(max_bytes=knobs.app_bytes, eviction=knobs.app_eviction)
        self._regions = {
            one.region: Region(one, self.local.region(one.region, one.local_entries))
            for one in policies
        }
        self._tagged = [name for name, one in self._regions.items() if one.policy.uncarried]
        self._tidings = Tidings(shared, tell, forgettable=self._tagged)
        self._fetching = Fetching(
            knobs, shared, self._tidings, clock=clock, wall=wall, chance=chance
        )
        self._loads = self._fetching.loads
        self._pulse: asyncio.Task[None] | None = None
        self._started = clock()
        self._flush_at = math.inf
        self._emergency_until = 0.0

    # Asking

    def peek(self, policy: Policy[V], key: str, *, floor: int = 0) -> V | None:
        """See `Cache`."""
        local = self._regions[policy.region].local
        entry = local.look(key)
        if entry is None or entry.position < floor:
            return None
        now = self._clock()
        if now >= entry.fresh + self._regions[policy.region].longer:
            return None
        local.used(entry)
        local.hits += 1
        value: V | None = entry.value
        return value

    async def get(
        self,
        policy: Policy[V],
        key: str,
        load: Load[V],
        *,
        floor: int = 0,
        tags: Sequence[str] = (),
    ) -> V | None:
        """See `Cache`."""
        region = self._regions[policy.region]
        now = self._clock()
        entry = region.local.find(key, now)
        if entry is None or entry.position < floor:
            entry = None
        elif now < entry.fresh + region.longer:
            region.local.hits += 1
            value: V | None = entry.value
            return value
        elif self._serves_old(region, entry, now):
            region.local.hits += 1
            if now >= entry.stale - policy.stale:
                region.local.stale += 1
            if key not in region.held_off or now >= region.held_off[key]:
                self._fetching.flight(region, key, load, floor, tags, refresh=True)
            old: V | None = entry.value
            return old
        region.local.misses += 1
        return await self._wait(region, key, load, floor, tags, old=entry is not None)

    @staticmethod
    def _serves_old(region: Region[Any], entry: Entry, now: float) -> bool:
        """Whether a value that is not fresh is served at once."""
        return bool(region.longer) or now < entry.stale or now < region.held_off.get(entry.key, 0.0)

    async def _wait(
        self,
        region: Region[V],
        key: str,
        load: Load[V],
        floor: int,
        tags: Sequence[str],
        *,
        old: bool,
    ) -> V | None:
        joined = self._loads.now()
        for _ in range(ROUNDS):
            flight = self._fetching.flight(region, key, load, floor, tags, old=old)
            try:
                landed: Landed[V] = await asyncio.shield(flight.future)
            except Exception:
                entry = region.local.look(key)
                if (
                    entry is None
                    or entry.position < floor
                    or self._clock() >= entry.gone + region.local.grace
                ):
                    raise
                region.local.stale += 1
                value: V | None = entry.value
                return value
            if landed.serves(joined, floor):
                return landed.value
        built = await load()
        return None if built is None else built.value

    # Telling

    def put(
        self,
        policy: Policy[V],
        key: str,
        value: V,
        *,
        position: int = 0,
        tags: Sequence[str] = (),
    ) -> None:
        """See `Cache`."""
        region = self._regions[policy.region]
        entry = region.local.look(key)
        if entry is not None and entry.position > position and entry.value is not None:
            return
        built = Built(value, position, tags)
        self._loads.drop((policy.region, key))  # what is being read is older
        self._fetching.keep(region, key, built, position, tags, 0.0)
        if not policy.uncarried:
            self._fetching.write(region, key, built)

    def drop(self, policy: Policy[V], key: str) -> None:
        """See `Cache`."""
        self.forget(policy, key)
        self._tidings.drop(((policy.region, key),), ())

    def drop_tag(self, *tags: str) -> None:
        """See `Cache`."""
        self.forget_tag(*tags)
        self._tidings.drop((), tags)

    def touch_tag(self, tag: str) -> None:
        """See `Cache`."""
        self.local.drop_tag(tag)
        if self._loads:
            self._loads.drop_tags((tag,))
        self._tidings.touch(tag)

    def forget(self, policy: Policy[V], key: str) -> None:
        """See `Cache`."""
        self._regions[policy.region].local.drop(key)
        self._loads.drop((policy.region, key))

    def forget_tag(self, *tags: str) -> None:
        """See `Cache`."""
        for tag in tags:
            self.local.drop_tag(tag)
        if self._loads:
            self._loads.drop_tags(tags)

    def clear(self, region: str | None = None) -> int:
        """Forget a region or all of them, on all instances and in the shared level; returns how many were in memory here."""
        names = list(self._regions) if region is None else [region]
        count = sum(self._forget_region(name) for name in names)
        self._tidings.drop((), (), names)
        return count

    def _forget_region(self, name: str) -> int:
        self._loads.clear(name)
        return self.local.clear(name)

    def drop_key(self, region: str, key: str) -> bool:
        """Like `drop`, by the region's name; whether it was in memory here."""
        here = self._regions[region].local.drop(key, "cleared")
        self._loads.drop((region, key))
        self._tidings.drop(((region, key),), ())
        return here

    async def settled(self) -> None:
        """Return once the shared level knows of all that was dropped and put here; the caller bounds the wait."""
        await self._tidings.settled()

    def expire(self) -> int:
        """Take away what is over in memory; how many values that were."""
        now = self._clock()
        return sum(region.local.expire(now) for region in self._regions.values())

    async def trim(self) -> list[tuple[str, int, int, int | None]]:
        """Bring the shared level within its bounds: region, values before, bound, how many went, None if it is away."""
        if self._shared is None:
            return []
        found = []
        for one in await self._shared.stats(self._regions):
            region = self._regions.get(one.region)
            if region is not None:
                bound = region.policy.shared_entries
                went = await self._shared.trim(one.region, bound)
                found.append((one.region, one.entries, bound, went))
        return found

    def entries_bound(self, region: str) -> int:
        """How many values of this region memory keeps at most."""
        return self._regions[region].local.max_entries

    # Hearing

    def heard(
        self,
        told: bool,  # noqa: FBT001 - as it comes over the bus
        keys: Sequence[Key],
        tags: Sequence[str],
        regions: Sequence[str],
    ) -> None:
        """Another instance dropped these; `told` is whether the shared level knows."""
        for name, key in keys:
            known = self._regions.get(name)
            if known is not None:
                known.local.drop(key)
                self._loads.drop((name, key))
        self.forget_tag(*tags)
        for name in regions:
            if name in self._regions:
                self._forget_region(name)
        if not told:
            self._tidings.pass_on(keys, tags, regions)

    def resumed(self) -> None:
        """The bus carries from here on: what was dropped before may have been missed."""
        self._heal()
        self._look()

    def _heal(self) -> None:
        """Forget what nothing but the bus keeps true, and do not believe what the shared level has of it.

        Whoever changed something may have been cut off from both, and still be, or have ended so. Not so at the beginning:
        there is nothing yet that was missed, and what the fleet before us left in the shared level is to be of use.
        """
        self._flush()
        if self._clock() - self._started > STARTING_SECONDS:
            self._fetching.trusted_from = self._wall() + SKEW_SECONDS

    def doubt(self) -> None:
        """Something may have changed of which nobody will ever tell: forget what tags keep true, here and in the shared level.

        Whoever finds that out for themselves does so for themselves: the others are not told. Positions guard the rest.
        """
        self._flush()
        self._tidings.pass_on((), (), self._tagged)

    def _flush(self) -> None:
        """Forget what nothing but the bus keeps true."""
        for name in self._tagged:
            self._forget_region(name)

    # Time

    def start(self) -> None:
        """Begin to tell and to look at the bus."""
        self._tidings.start()
        if self._pulse is None:
            self._pulse = asyncio.get_running_loop().create_task(self._beat())

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self._look()

    def _look(self) -> None:
        """See how the bus does: a break ends what only it keeps true, after a while; its end does so at once."""
        now = self._clock()
        carried = self._carries()
        if carried and not self._fetching.carried:
            self._flush_at = math.inf
            self._heal()
        elif self._fetching.carried and not carried:
            self._flush_at = now + min(
                (one.policy.uncarried for one in self._regions.values() if one.policy.uncarried),
                default=math.inf,
            )
        self._fetching.carried = carried
        if now >= self._flush_at:
            self._flush_at = math.inf
            for name, region in self._regions.items():
                if region.policy.uncarried and not region.longer:
                    self._forget_region(name)
        if self._emergency_until and self._wall() >= self._emergency_until:
            self.emergency(0.0)

    # Emergency mode

    @property
    def in_emergency(self) -> bool:
        """Whether this process serves from its memory alone."""
        return self._emergency_until > 0.0

    @property
    def emergency_until(self) -> float:
        """When emergency mode ends, in seconds since 1970; 0 while there is none."""
        return self._emergency_until

    def emergency(self, until: float) -> None:
        """Serve from memory alone until then (seconds since 1970), with longer lives; 0, or a time that is past, ends it."""
        until = until if until > self._wall() else 0.0
        if bool(until) != self.in_emergency:
            log.warning("emergency mode of the cache", on=bool(until))
        self._emergency_until = until
        self._fetching.alone = bool(until)
        for region in self._regions.values():
            policy = region.policy
            lasts = bool(until) and policy.lasts
            region.longer = policy.fresh * LONGER if lasts else 0.0
            region.local.grace = policy.fresh * (LONGER + GRACE) if lasts else 0.0

    # Figures

    @property
    def regions(self) -> tuple[str, ...]:
        """The names of all regions."""
        return tuple(self._regions)

    async def stats(self) -> list[RegionStats]:
        """Each region on each level."""
        found = [self._stats(region) for region in self._regions.values()]
        shared = await self._shared.stats(self._regions) if self._shared is not None else ()
        for one in shared:
            region = self._regions.get(one.region)
            if region is not None:  # what it found need not have been of use
                found.append(
                    structs.replace(
                        one,
                        hits=region.shared_hits,
                        misses=region.shared_misses,
                        stale=region.shared_stale,
                    )
                )
        return found

    @staticmethod
    def _stats(region: Region[Any]) -> RegionStats:
        local, loads = region.local, region.loads
        return RegionStats(
            level="local",
            region=region.policy.region,
            hits=local.hits,
            misses=local.misses,
            stale=local.stale,
            entries=len(local),
            bytes=local.bytes,
            loads=loads.count,
            load_p50=loads.quantile(0.5),
            load_p95=loads.quantile(0.95),
            load_p99=loads.quantile(0.99),
            evictions=dict(local.evictions),
        )

    def condition(self) -> Condition | None:
        """How the shared level does; None where there is none."""
        return self._shared.condition() if self._shared is not None else None

    @property
    def untold(self) -> int:
        """How many changes the shared level does not know of yet."""
        return self._tidings.waiting

    def readings(self) -> Iterator[tuple[str, tuple[str, ...], float | Histogram]]:
        """What the metrics of these names read: name, values of the labels, value."""
        for name, region in self._regions.items():
            local = region.local
            yield "cache_hits_total", ("local", name), local.hits
            yield "cache_misses_total", ("local", name), local.misses
            yield "cache_stale_served_total", ("local", name), local.stale
            if self._shared is not None:
                yield "cache_hits_total", ("shared", name), region.shared_hits
                yield "cache_misses_total", ("shared", name), region.shared_misses
                yield "cache_stale_served_total", ("shared", name), region.shared_stale
            yield "cache_entries", (name,), len(local)
            yield "cache_bytes", (name,), local.bytes
            for cause, count in local.evictions.items():
                yield "cache_evictions_total", (cause, name), count
            yield "cache_load_duration_seconds", (name,), region.loads
            yield "cache_load_failures_total", (name,), region.load_failures
        if self._shared is not None:
            yield "cache_breaker_open", (), int(self._shared.is_open)
        yield "cache_changes_untold", (), self.untold
        yield "cache_emergency", (), int(self.in_emergency)

    def what_if(self) -> list[WhatIf]:
        """What the local level would hit at other sizes."""
        return [region.local.what_if() for region in self._regions.values()]

    # The end

    async def close(self, *, within: float = CLOSING_SECONDS) -> None:
        """Let what is under way come to the shared level and the others, for so many seconds, then end."""
        if self._pulse is not None:
            self._pulse.cancel()
            await asyncio.gather(self._pulse, return_exceptions=True)
            self._pulse = None
        await self._fetching.close(within=within / 2)
        await self._tidings.close(within=within / 2)
