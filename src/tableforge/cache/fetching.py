"""One load a key: from the shared level, else from where the value truly is, and into both levels.

Whoever finds nothing waits for the one load of that key. A value that is near its end is loaded anew before it is over, at
a time drawn at random and the earlier the longer its load takes, so that the instances do not do so together (Vattani,
Chierichetti and Lowenstein: Optimal Probabilistic Cache Stampede Prevention, VLDB 2015; drawn once a value here, since
each process loads a key once at a time anyway).
"""

import asyncio
import math
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, Generic, TypeVar

import structlog

from tableforge.cache import Built, Kept, Load, Policy, Shared, V
from tableforge.cache.coherence import Flight, Landed, Loads, Tidings
from tableforge.cache.envelope import decode_value, encode_value
from tableforge.cache.local import Region as LocalRegion
from tableforge.config import CacheKnobs
from tableforge.errors import TableForgeError, Unavailable
from tableforge.telemetry import Histogram

T = TypeVar("T")

JITTER: Final = 0.1
"""A value lives up to this share shorter."""
ATTEMPTS: Final = 3
"""How often one load begins anew because what it reads changes meanwhile; then those who asked before have what it read."""
HELD_OFF_SECONDS: Final = 1.0
"""After a load that failed, an old value is served for so long before the next attempt."""
HELD_OFF_AT_MOST: Final = 10_000
LOCK_SECONDS: Final = 2.0
LOCK_POLL_SECONDS: Final = 0.004
"""Between looks for what another instance loads: doubled each time."""
YOUNG: Final = 0.8
"""What is refreshed early is taken from the shared level only if less of its life than this has passed."""

log = structlog.get_logger(__name__)


class Region(Generic[V]):
    """What the front knows of one policy: its values in memory, and its counts."""

    __slots__ = (
        "failing",
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
        self.failing = False
        self.shared_hits = 0
        self.shared_misses = 0
        self.shared_stale = 0


class Fetching:
    """The loads of a cache, and the tasks that they run in.

    `carried` says whether the bus brings what the others drop, `trusted_from` from which time on what others built is
    believed where nothing else keeps it true, `alone` whether the shared level is not to be asked.
    """

    def __init__(
        self,
        knobs: CacheKnobs,
        shared: Shared | None,
        tidings: Tidings,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self._knobs = knobs
        self._shared = shared
        self._tidings = tidings
        self._clock = clock
        self._wall = wall
        self._chance = chance
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self.loads = Loads()
        self.carried = True
        self.trusted_from = -math.inf
        self.alone = False

    async def close(self, *, within: float) -> None:
        """Let what is under way end, for so many seconds, then break it off."""
        self._closed = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def flight(
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
        under_way: Flight[V] | None = self.loads.of(name)
        if under_way is not None:
            return under_way
        flight: Flight[V] = Flight(name, floor)
        self.loads.begin(flight)
        if self._closed:
            self.loads.end(flight)
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
            self.loads.end(flight)
            flight.future.set_exception(_closed())
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            self.loads.end(flight)
            self._failed(region, key, error)
            flight.future.set_exception(error)
        else:
            self.loads.end(flight)
            region.held_off.pop(key, None)
            region.failing = region.failing and not landed.read
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
            self.flight(region, key, load, floor, tags, refresh=True)

    def _failed(self, region: Region[Any], key: str, error: Exception) -> None:
        """An old value is served for a moment, rather than have each request try a loader that fails."""
        region.load_failures += 1
        if not region.failing:  # told once, until one succeeds
            region.failing = True
            why = str(error) if isinstance(error, TableForgeError) else type(error).__name__
            log.warning("a value could not be loaded", region=region.policy.region, reason=why)
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
            self.loads.attempt(flight)
            floor = flight.floor
            moment = await self._moment(flight, region)
            began = self._clock()
            built = await load()
            took = self._clock() - began
            region.loads.observe(took)
            known = tags if built is None else _joined(tags, built.tags)
            overtaken = self.loads.overtaken(flight, known)
            if not overtaken:
                self.keep(region, flight.key[1], built, floor, known, took)
                if built is not None and moment is not None:
                    self._share(region, flight.key[1], built, known, moment, took)
            if not overtaken or not attempts:
                break
        value, position = (None, floor) if built is None else (built.value, built.position)
        return Landed(value, position, flight.began, overtaken=overtaken, read=True)

    async def _moment(self, flight: Flight[Any], region: Region[Any]) -> bytes | None:
        if self._shared is None or not region.policy.shared or self.alone:
            return None
        return await self._in_time(flight, self._shared.moment())

    async def _in_time(self, flight: Flight[Any], answer: Coroutine[Any, Any, T]) -> T | None:
        """What the shared level answers before the patience of a load with it is over, else None."""
        try:
            async with asyncio.timeout(max(0.0, flight.patience - self._clock())):
                return await answer
        except TimeoutError:
            return None

    def keep(
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
        if policy.uncarried and not self.carried and not region.longer:
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
        if shared is None or not policy.shared or self.alone:
            return None, False
        knobs = self._knobs
        within = (knobs.redis_soft_ms if old or refresh else knobs.redis_hard_ms) / 1000
        until = flight.patience = self._clock() + within
        pause = LOCK_POLL_SECONDS
        locked: bool | None = None
        while not self._tidings.doubts(flight.key, tags):
            self.loads.attempt(flight)
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
        present = region.local.look(flight.key[1])
        if present is not None and present.position > kept.position:
            return False
        age = self._wall() - kept.built
        if age >= region.shared_life + policy.stale + policy.on_error:
            return False
        if refresh and age >= region.shared_life * YOUNG:
            return False
        if policy.uncarried and (
            kept.built < self.trusted_from or (not self.carried and age >= policy.uncarried)
        ):
            return False
        return not (
            self._tidings.doubts(flight.key, kept.tags) or self.loads.overtaken(flight, kept.tags)
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

    def write(self, region: Region[V], key: str, built: Built[V]) -> None:
        """Hand a value that was put to the shared level, in the background."""
        if self._shared is not None and region.policy.shared and not self._closed:
            self._run(self._write(region, key, built))

    async def _write(self, region: Region[V], key: str, built: Built[V]) -> None:
        """Positions say which of two such values is the later one, so it may have been true a little while ago."""
        flight: Flight[V] = Flight((region.policy.region, key), 0)
        flight.patience = self._clock() + self._knobs.redis_hard_ms / 1000
        self.loads.write(flight)
        try:
            moment = await self._moment(flight, region)
            if moment is not None and not self.loads.overtaken(flight, built.tags):
                self._share(region, key, built, built.tags, moment, 0.0)
        finally:
            self.loads.end(flight)

    def _run(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _joined(known: tuple[str, ...], told: Sequence[str]) -> tuple[str, ...]:
    return known if not told else tuple(dict.fromkeys((*known, *told)))


def _closed() -> TableForgeError:
    return Unavailable("Nothing was read.", "This server is about to stop.", "Try again.")
