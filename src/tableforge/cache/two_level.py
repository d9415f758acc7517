"""The two levels of the cache in front of what they save: memory first, then the shared level, then the loader.

Whoever finds nothing waits for the one load of that key. A value that is near its end is loaded anew before it is over, at
a time drawn at random and the earlier the longer its load takes, so that the instances do not do so together (Vattani,
Chierichetti and Lowenstein: Optimal Probabilistic Cache Stampede Prevention, VLDB 2015; drawn once a value here, since
each process loads a key once at a time anyway).
"""

import asyncio
import math
import random
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any, Final, Generic, TypeVar

import structlog
from msgspec import structs

from tableforge.cache import Built, Condition, Kept, Load, Policy, RegionStats, Shared, V, WhatIf
from tableforge.cache.coherence import Flight, Key, Landed, Loads, Tell, Tidings
from tableforge.cache.envelope import decode_value, encode_value
from tableforge.cache.local import Entry, LocalLevel
from tableforge.cache.local import Region as LocalRegion
from tableforge.config import CacheKnobs
from tableforge.errors import TableForgeError, Unavailable
from tableforge.telemetry import Histogram

T = TypeVar("T")

JITTER: Final = 0.1
"""A value lives up to this share shorter."""
ATTEMPTS: Final = 3
"""How often one load begins anew because what it reads changes meanwhile; then those who asked before have what it read."""
ROUNDS: Final = 5
"""How many loads of others somebody waits for before they load by themselves."""
HELD_OFF_SECONDS: Final = 1.0
"""After a load that failed, an old value is served for so long before the next attempt."""
HELD_OFF_AT_MOST: Final = 10_000
LOOK_SECONDS: Final = 0.1
"""How often the bus is looked at."""
SKEW_SECONDS: Final = 2.0
"""How far the clocks of two instances may lie apart."""
STARTING_SECONDS: Final = 5.0
"""For how long a process that starts may be without the bus, and still count as one that missed nothing."""
LOCK_SECONDS: Final = 2.0
LOCK_POLL_SECONDS: Final = 0.004
"""Between looks for what another instance loads: doubled each time."""
YOUNG: Final = 0.8
"""What is refreshed early is taken from the shared level only if less of its life than this has passed."""
LONGER: Final = 3.0
"""In emergency mode values count as fresh for so many lives more."""
GRACE: Final = 10.0
"""And are served, if older, for so many lives after that."""
CLOSING_SECONDS: Final = 2.0

log = structlog.get_logger(__name__)


class Region(Generic[V]):
    """What the front knows of one policy: its values in memory, and its counts."""

    __slots__ = (
        "held_off",
        "load_failures",
        "loads",
        "local",
        "longer",
        "policy",
        "shared_hits",
        "shared_life",
        "shared_misses",
        "shared_stale",
    )

    def __init__(self, policy: Policy[V], local: LocalRegion) -> None:
        self.policy = policy
        self.local = local
        self.longer = 0.0
        """In emergency mode: seconds that values are fresh beyond their time."""
        self.shared_life = policy.shared_fresh or policy.fresh
        self.held_off: dict[str, float] = {}
        self.loads = Histogram()
        self.load_failures = 0
        self.shared_hits = 0
        self.shared_misses = 0
        self.shared_stale = 0


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
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._knobs = knobs
        self._shared = shared
        self._carries = carries
        self._clock = clock
        self._wall = wall
        self._chance = chance
        self.local = LocalLevel(max_bytes=knobs.app_bytes, eviction=knobs.app_eviction)
        self._regions = {
            one.region: Region(one, self.local.region(one.region, one.local_entries))
            for one in policies
        }
        self._loads = Loads()
        self._tidings = Tidings(
            shared,
            tell,
            forgettable=[name for name, one in self._regions.items() if one.policy.uncarried],
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._pulse: asyncio.Task[None] | None = None
        self._closed = False
        self._carried = True
        self._started = clock()
        self._ever_carried = False
        self._flush_at = math.inf
        self._distrusted = -math.inf
        """What others built before this time by their clocks is not believed: a change of it may have been missed."""
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
                self._flight(region, key, load, floor, tags, refresh=True)
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
            flight = self._flight(region, key, load, floor, tags, old=old)
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

    # Loading

    def _flight(
        self,
        region: Region[V],
        key: str,
        load: Load[V],
        floor: int,
        tags: Sequence[str],
        *,
        old: bool = False,
        refresh: bool = False,
    ) -> Flight[V]:
        """The load of this key that is under way, else one that begins now."""
        name = (region.policy.region, key)
        under_way: Flight[V] | None = self._loads.of(name)
        if under_way is not None:
            return under_way
        flight: Flight[V] = Flight(name, floor)
        self._loads.begin(flight)
        if self._closed:
            self._loads.end(flight)
            flight.future.set_exception(_closed())
            return flight
        self._run(self._fly(flight, region, load, tuple(tags), old=old, refresh=refresh))
        return flight

    async def _fly(
        self,
        flight: Flight[V],
        region: Region[V],
        load: Load[V],
        tags: tuple[str, ...],
        *,
        old: bool,
        refresh: bool,
    ) -> None:
        key = flight.key[1]
        locked = False
        try:
            landed, locked = await self._from_shared(flight, region, tags, old=old, refresh=refresh)
            if landed is None:
                landed = await self._read(flight, region, load, tags)
        except asyncio.CancelledError:
            self._loads.end(flight)
            flight.future.set_exception(_closed())
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            self._loads.end(flight)
            region.load_failures += 1
            self._hold_off(region, key)
            if refresh:
                log.warning("not loaded anew", region=region.policy.region, reason=str(error))
            flight.future.set_exception(error)
        else:
            self._loads.end(flight)
            region.held_off.pop(key, None)
            flight.future.set_result(landed)
            if not landed.read:
                self._refresh_if_old(region, key, load, flight.floor, tags)
        finally:
            if locked and self._shared is not None:
                self._shared.unlock(*flight.key)

    def _refresh_if_old(
        self, region: Region[V], key: str, load: Load[V], floor: int, tags: Sequence[str]
    ) -> None:
        entry = region.local.look(key)
        if entry is not None and self._clock() >= entry.fresh:
            self._flight(region, key, load, floor, tags, refresh=True)

    def _hold_off(self, region: Region[Any], key: str) -> None:
        """An old value is served for a moment, rather than have each request try a loader that fails."""
        if region.local.look(key) is None:
            return
        if len(region.held_off) >= HELD_OFF_AT_MOST:
            region.held_off.clear()
        region.held_off[key] = self._clock() + HELD_OFF_SECONDS

    async def _read(
        self, flight: Flight[V], region: Region[V], load: Load[V], tags: tuple[str, ...]
    ) -> Landed[V]:
        """From where it truly is; anew while what is read changes meanwhile, so often."""
        attempts = ATTEMPTS
        while True:
            attempts -= 1
            self._loads.attempt(flight)
            floor = flight.floor
            moment = await self._moment(flight, region)
            began = self._clock()
            built = await load()
            took = self._clock() - began
            region.loads.observe(took)
            known = tags if built is None else _joined(tags, built.tags)
            overtaken = self._loads.overtaken(flight, known)
            if not overtaken:
                self._keep(region, flight.key[1], built, floor, known, took)
                if built is not None and moment is not None:
                    self._share(region, flight.key[1], built, known, moment, took)
            if not overtaken or not attempts:
                break
        value, position = (None, floor) if built is None else (built.value, built.position)
        return Landed(value, position, flight.began, overtaken=overtaken, read=True)

    async def _moment(self, flight: Flight[Any], region: Region[Any]) -> bytes | None:
        if self._shared is None or not region.policy.shared or self.in_emergency:
            return None
        return await self._in_time(flight, self._shared.moment())

    async def _in_time(self, flight: Flight[Any], answer: Coroutine[Any, Any, T]) -> T | None:
        """What the shared level answers before the patience of a load with it is over, else None."""
        try:
            async with asyncio.timeout(max(0.0, flight.patience - self._clock())):
                return await answer
        except TimeoutError:
            return None

    def _keep(
        self,
        region: Region[V],
        key: str,
        built: Built[V] | None,
        floor: int,
        tags: Sequence[str],
        took: float,
    ) -> None:
        """In memory."""
        policy = region.policy
        now = self._clock()
        if built is None:
            gone = now + policy.missing
            if policy.missing:
                region.local.put(
                    key, None, now=now, fresh=gone, stale=gone, gone=gone, position=floor, tags=tags
                )
            else:
                region.local.drop(key)
            return
        life = policy.fresh * (1.0 - JITTER * self._chance())
        over = now - took + life
        early = took * -math.log(1.0 - self._chance())
        self._put_local(
            region, key, built.value, built.position, tags, max(over - early, now + life / 2), over
        )

    def _put_local(
        self,
        region: Region[V],
        key: str,
        value: V,
        position: int,
        tags: Sequence[str],
        fresh: float,
        over: float,
    ) -> None:
        """`over` is when it is no longer fresh, `fresh` from when on it is loaded anew."""
        policy = region.policy
        now = self._clock()
        stale = over + policy.stale
        gone = stale + policy.on_error
        if policy.uncarried and not self._carried and not region.longer:
            ends = now + policy.uncarried
            fresh, stale, gone = min(fresh, ends), min(stale, ends), min(gone, ends)
        region.local.put(
            key, value, now=now, fresh=fresh, stale=stale, gone=gone, position=position, tags=tags
        )

    # The shared level

    async def _from_shared(
        self,
        flight: Flight[V],
        region: Region[V],
        tags: tuple[str, ...],
        *,
        old: bool,
        refresh: bool,
    ) -> tuple[Landed[V] | None, bool]:
        """What the shared level has, and whether we hold the lock to load it; waits for the hard bound at most."""
        shared = self._shared
        policy = region.policy
        if shared is None or not policy.shared or self.in_emergency:
            return None, False
        knobs = self._knobs
        within = (knobs.redis_soft_ms if old or refresh else knobs.redis_hard_ms) / 1000
        until = flight.patience = self._clock() + within
        pause = LOCK_POLL_SECONDS
        locked: bool | None = None
        while not self._tidings.doubts(flight.key, tags):
            self._loads.attempt(flight)
            kept = await shared.get(*flight.key, tags, within=max(0.001, until - self._clock()))
            if kept is not None and self._believed(flight, region, kept, refresh=refresh):
                landed = self._take(flight, region, kept)
                region.shared_hits += landed is not None
                region.shared_misses += landed is None
                return landed, bool(locked)
            if locked is None and not shared.is_open:
                lock = shared.lock(*flight.key, seconds=LOCK_SECONDS)
                locked = await self._in_time(flight, lock)
            if locked is not False or self._clock() + pause >= until:
                break
            await asyncio.sleep(pause)
            pause *= 2
        region.shared_misses += 1
        return None, bool(locked)

    def _believed(self, flight: Flight[V], region: Region[V], kept: Kept, *, refresh: bool) -> bool:
        """Whether what the shared level gave counts."""
        policy = region.policy
        if kept.form != policy.form or kept.position < flight.floor:
            return False
        age = self._wall() - kept.built
        if age >= region.shared_life + policy.stale + policy.on_error:
            return False
        if refresh and age >= region.shared_life * YOUNG:
            return False
        if policy.uncarried and (
            kept.built < self._distrusted or (not self._carried and age >= policy.uncarried)
        ):
            return False
        return not (
            self._tidings.doubts(flight.key, kept.tags) or self._loads.overtaken(flight, kept.tags)
        )

    def _take(self, flight: Flight[V], region: Region[V], kept: Kept) -> Landed[V] | None:
        """Keep what the shared level had; None where it is so old that it is served only if loading it anew fails."""
        policy = region.policy
        value = decode_value(policy.kind, kept.value)
        if value is None:
            return None
        age = max(0.0, self._wall() - kept.built)
        life = policy.fresh * (1.0 - JITTER * self._chance())
        over = self._clock() + min(life, region.shared_life - age)
        self._put_local(region, flight.key[1], value, kept.position, kept.tags, over, over)
        if age >= region.shared_life + policy.stale:
            return None
        region.shared_stale += age >= region.shared_life
        return Landed(value, kept.position, flight.began, overtaken=False, read=False)

    def _share(
        self,
        region: Region[V],
        key: str,
        built: Built[V],
        tags: Sequence[str],
        moment: bytes,
        took: float,
    ) -> None:
        """Hand a value to the shared level."""
        policy = region.policy
        if self._shared is None or built.value is None:
            return
        kept = Kept(
            form=policy.form,
            position=built.position,
            built=self._wall() - took,
            tags=tuple(tags),
            moment=moment,
            value=encode_value(built.value, self._knobs.serialization),
        )
        self._shared.put(
            policy.region,
            key,
            kept,
            seconds=region.shared_life + policy.stale + policy.on_error,
            entries=policy.shared_entries,
        )

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
        self._keep(region, key, built, position, tags, 0.0)
        if self._shared is not None and policy.shared and not policy.uncarried and not self._closed:
            self._run(self._write(region, key, built))

    async def _write(self, region: Region[V], key: str, built: Built[V]) -> None:
        """Positions say which of two such values is the later one, so it may have been true a little while ago."""
        flight: Flight[V] = Flight((region.policy.region, key), 0)
        flight.patience = self._clock() + self._knobs.redis_hard_ms / 1000
        self._loads.write(flight)
        try:
            moment = await self._moment(flight, region)
            if moment is not None and not self._loads.overtaken(flight, built.tags):
                self._share(region, key, built, built.tags, moment, 0.0)
        finally:
            self._loads.end(flight)

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
        here = self._regions[region].local.drop(key)
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
        for one in await self._shared.stats():
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
        if self._ever_carried or self._clock() - self._started > STARTING_SECONDS:
            self._distrusted = self._wall() + SKEW_SECONDS
        self._ever_carried = True

    def _flush(self) -> None:
        """Forget what nothing but the bus keeps true."""
        for name, region in self._regions.items():
            if region.policy.uncarried:
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
        if carried and not self._carried:
            self._flush_at = math.inf
            self._heal()
        elif self._carried and not carried:
            self._flush_at = now + min(
                (one.policy.uncarried for one in self._regions.values() if one.policy.uncarried),
                default=math.inf,
            )
        self._carried = carried
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
        for one in await self._shared.stats() if self._shared is not None else ():
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

    def _run(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self, *, within: float = CLOSING_SECONDS) -> None:
        """Let what is under way come to the shared level and the others, for so many seconds, then end."""
        self._closed = True
        if self._pulse is not None:
            self._pulse.cancel()
            await asyncio.gather(self._pulse, return_exceptions=True)
            self._pulse = None
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within / 2)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._tidings.close(within=within / 2)


def _joined(known: tuple[str, ...], told: Sequence[str]) -> tuple[str, ...]:
    return known if not told else tuple(dict.fromkeys((*known, *told)))


def _closed() -> TableForgeError:
    return Unavailable("Nothing was read.", "This server is about to stop.", "Try again.")
