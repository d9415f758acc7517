"""The shared level on a Redis or Valkey that may be slow, full, flushed, restarted, replaced, or somebody else's as well.

All keys begin with `tableforge:cache:`; none of them is needed: whatever is lost, evicted or tampered with counts as missing.
"""

import asyncio
import math
import secrets
from collections.abc import Iterable, Sequence
from functools import lru_cache
from time import monotonic, perf_counter
from typing import Final

import structlog

from tableforge.cache import Condition, Kept, RegionStats
from tableforge.cache.envelope import VALUE_BYTES, Envelopes
from tableforge.cache.redis_guard import Answer, Found, Guard, place
from tableforge.cache.redis_index import PREFIX, Index
from tableforge.cache.redis_server import Server, errors
from tableforge.config import CacheKnobs, RedisKnobs
from tableforge.config.redis_address import Address, cache_url
from tableforge.errors import StartRefused
from tableforge.telemetry import Histogram

PATIENCE_SECONDS: Final = 2.0
"""How long a connection may take to open, and how often Sentinels are asked."""
CLEAR_SECONDS: Final = 10.0
"""How long a clear goes on removing what it has made not count; the rest ends by its time."""
REMEMBERED: Final = 4_096
"""Keys whose names are not computed again."""
TRIM_BATCHES: Final = 25
ASIDE_BYTES: Final = 128 << 10
"""Larger values are sealed and opened in a thread."""
ASIDE_AT_MOST: Final = 8
"""Values that are being sealed there; what comes while there are more is not written."""

REFUSED_SECONDS: Final = 60.0
"""For so long after it, a refusal to take a value is told of."""

UNLOCK: Final = b"""
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('UNLINK', KEYS[1]) end
return 0
"""

log = structlog.get_logger(__name__)


class Figures:
    """What is counted of a region; `place` is its own in the guard."""

    __slots__ = ("answers", "cleared", "dropped", "hits", "misses", "place")

    def __init__(self, region: str) -> None:
        self.place = place("region", region)
        self.hits = 0
        self.misses = 0
        self.dropped = 0
        self.cleared = 0
        self.answers = Histogram()


class RedisShared:
    """See `Shared`. `secret` is the instances' common one, `origin` names this one in CLIENT LIST.

    Raises `StartRefused` for an address that cannot be meant.
    """

    def __init__(self, redis: RedisKnobs, cache: CacheKnobs, *, secret: str, origin: str) -> None:
        url = cache_url(redis)
        if url is None:
            raise StartRefused(
                "The server did not start.",
                "No server is named for the shared cache.",
                "Set REDIS_HOST or REDIS_URL.",
            )
        self._guard = Guard(PREFIX + b"guard")
        self._server = self._guard.server = Server(
            Address(url, patience=PATIENCE_SECONDS, use="cache"),
            bound=cache.redis_hard_ms / 1000,
            client=f"tableforge-cache-{origin}",
            reads=self._guard.questions,
        )
        self._index = Index(self._server, cache.redis_eviction, lost=self._lose)
        over = cache.redis_compression_bytes if cache.redis_compression else None
        self._envelopes = Envelopes(secret, over)
        self._named = lru_cache(maxsize=REMEMBERED)(self._name)
        self._figures: dict[str, Figures] = {}
        self._locks: dict[tuple[str, str], bytes] = {}
        self._sealing: set[asyncio.Task[None]] = set()
        self._refusal = ""
        self._refused_at = -math.inf
        self._lost = 0
        self._unreadable = 0

    def start(self) -> None:
        """Connect and stay connected, in the background."""
        self._server.start()

    async def close(self) -> None:
        """Write what waits, and let go."""
        if self._sealing:
            await asyncio.wait(self._sealing)
        await self._server.close()

    @property
    def is_open(self) -> bool:
        """See `Shared`."""
        return self._server.is_open

    # Values

    async def get(
        self, region: str, key: str, tags: Sequence[str], *, within: float
    ) -> Kept | None:
        """See `Shared`."""
        figures = self._of(region)
        if self._server.is_open:
            figures.misses += 1
            return None
        started = perf_counter()
        name, wire = self._named(region, key)
        places = [figures.place, place("key", name), *[place("tag", tag) for tag in tags]]
        answer = self._guard.read(wire, places)
        found = await (answer if within >= self._server.bound else self._in_time(answer, within))
        kept = None
        if found is not None:
            took = perf_counter() - started
            figures.answers.observe(took)
            if found.sealed is not None:
                kept = await self._opened(name, found.sealed, within - took)
        if kept is not None and found is not None and not found.counts(kept.moment, places):
            kept = None
        if kept is not None and kept.tags and kept.tags != tuple(tags):
            kept = await self._counting(kept, tags, within - (perf_counter() - started))
        if kept is None:
            figures.misses += 1
            return None
        figures.hits += 1
        self._index.use(region, name)
        return kept

    async def _opened(self, name: str, sealed: bytes, within: float) -> Kept | None:
        """What is in an envelope; a large one is opened aside, for as long as that may take."""
        if len(sealed) <= ASIDE_BYTES:
            kept = self._envelopes.open(name, sealed)
        else:
            opening = asyncio.ensure_future(asyncio.to_thread(self._envelopes.open, name, sealed))
            done, _ = await asyncio.wait((opening,), timeout=max(0.0, within))
            if not done:
                return None
            kept = opening.result()
        self._unreadable += kept is None
        return kept

    async def _counting(self, kept: Kept, tags: Sequence[str], within: float) -> Kept | None:
        """The value, if none of its tags was dropped that were not asked for with it."""
        unforeseen = [place("tag", tag) for tag in kept.tags if tag not in tags]
        if unforeseen:
            found = await self._in_time(self._guard.read(None, unforeseen), within)
            if found is None or not found.counts(kept.moment, unforeseen):
                return None
        return kept

    def _name(self, region: str, key: str) -> tuple[str, bytes]:
        """What a value is called, and its key on the server."""
        name = self._envelopes.name(region, key)
        return name, self._index.key(region, name)

    async def _in_time(self, answer: Answer, within: float) -> Found | None:
        """What the server says, if it does so in time; its own bound holds anyway."""
        timer = asyncio.get_running_loop().call_later(
            max(0.0, within), self._server.give_up, answer
        )
        try:
            return await answer
        finally:
            timer.cancel()

    async def moment(self) -> bytes | None:
        """See `Shared`."""
        return await self._guard.moment()

    def put(self, region: str, key: str, kept: Kept, *, seconds: float, entries: int) -> None:
        """See `Shared`."""
        size = len(kept.value)
        if self._server.is_open or size > VALUE_BYTES:
            self._lost += 1
            return
        name = self._envelopes.name(region, key)
        if size <= ASIDE_BYTES:
            sealed = self._envelopes.seal(name, kept)
            self._index.keep(region, name, sealed, seconds=seconds, entries=entries)
        elif len(self._sealing) >= ASIDE_AT_MOST:
            self._lost += 1
        else:

            async def keep() -> None:
                sealed = await asyncio.to_thread(self._envelopes.seal, name, kept)
                self._index.keep(region, name, sealed, seconds=seconds, entries=entries)

            task = asyncio.get_running_loop().create_task(keep())
            self._sealing.add(task)
            task.add_done_callback(self._sealing.discard)

    # Dropping

    async def drop(self, region: str, keys: Iterable[str]) -> bool:
        """See `Shared`."""
        names = [self._envelopes.name(region, key) for key in keys]
        if not names:
            return True
        done = await self._guard.drop([place("key", name) for name in names])
        if done:
            self._of(region).dropped += len(names)
            self._index.remove(region, names)
        return done

    async def drop_tags(self, tags: Iterable[str]) -> bool:
        """See `Shared`."""
        places = [place("tag", tag) for tag in tags]
        return not places or await self._guard.drop(places)

    async def outdate(self, regions: Iterable[str]) -> bool:
        """See `Shared`."""
        places = [place("region", region) for region in regions]
        return not places or await self._guard.drop(places)

    async def clear(self, region: str | None) -> int | None:
        """See `Shared`. Values stop counting at once; it takes longer to remove them, at most CLEAR_SECONDS."""
        if region is None:
            done = await self._guard.forget()
        else:
            done = await self._guard.drop([place("region", region)])
        if not done:
            return None
        regions = {region} if region is not None else {*await self._index.regions(), *self._figures}
        loop = asyncio.get_running_loop()
        until = loop.time() + CLEAR_SECONDS
        cleared = 0
        for one in sorted(regions):
            while loop.time() < until and (went := await self._index.trim(one, 0)) is not None:
                names, values = went
                cleared += values
                self._of(one).cleared += values
                if not names:
                    break
        return cleared

    async def trim(self, region: str, entries: int) -> int | None:
        """See `Shared`."""
        trimmed = 0
        for _ in range(TRIM_BATCHES):
            went = await self._index.trim(region, entries)
            if went is None:
                return trimmed or None
            names, values = went
            trimmed += values
            self._index.went(region, values)
            if not names:
                break
        return trimmed

    # The right to load

    async def lock(self, region: str, key: str, *, seconds: float) -> bool | None:
        """See `Shared`."""
        token = secrets.token_bytes(16)
        milliseconds = b"%d" % max(1, int(seconds * 1000))
        answers = await self._server.ask(
            (b"SET", self._lock_key(region, key), token, b"NX", b"PX", milliseconds)
        )
        if answers is None or errors(answers):
            return None
        if answers[0] is None:
            return False
        self._locks[region, key] = token
        return True

    def unlock(self, region: str, key: str) -> None:
        """See `Shared`."""
        token = self._locks.pop((region, key), None)
        if token is not None:
            self._server.send(
                (b"EVAL", UNLOCK, b"1", self._lock_key(region, key), token), lambda answer: None
            )

    def _lock_key(self, region: str, key: str) -> bytes:
        return self._index.key(region, f"lock:{self._envelopes.name(region, key)}")

    # For people

    async def stats(self, regions: Iterable[str] = ()) -> Sequence[RegionStats]:
        """See `Shared`."""
        for region in regions:
            self._of(region)
        regions = list(self._figures)
        sizes = await self._index.sizes(regions)
        return [self._stats(region, *sizes.get(region, (0, 0))) for region in regions]

    def _stats(self, region: str, entries: int, size: int) -> RegionStats:
        figures = self._figures[region]
        return RegionStats(
            level="shared",
            region=region,
            hits=figures.hits,
            misses=figures.misses,
            stale=0,
            entries=entries,
            bytes=size,
            loads=figures.answers.count,
            load_p50=figures.answers.quantile(0.5),
            load_p95=figures.answers.quantile(0.95),
            load_p99=figures.answers.quantile(0.99),
            evictions={
                "size": self._index.trimmed.get(region, 0),
                "dropped": figures.dropped,
                "cleared": figures.cleared,
            },
        )

    def condition(self) -> Condition:
        """See `Shared`."""
        breaker, state = self._server.breaker, self._server.state
        trouble = [self._server.trouble] if state != "closed" else []
        if self._refused_at + REFUSED_SECONDS > monotonic():
            trouble.append(self._refusal)
        return Condition(
            server=self._server.name,
            state=state,
            trouble="; ".join(trouble),
            last_trouble="; ".join(filter(None, (self._server.trouble, self._refusal))),
            failures=breaker.failures,
            opened=breaker.opened,
            probes=breaker.probes,
            lost=self._lost,
            unreadable=self._unreadable,
        )

    def _of(self, region: str) -> Figures:
        figures = self._figures.get(region)
        if figures is None:
            figures = self._figures[region] = Figures(region)
        return figures

    def _lose(self, why: str) -> None:
        """A value was not written: the connection was lost, or the server refused it."""
        self._lost += 1
        if why and why != self._refusal:
            log.warning("the shared cache takes no values", server=self._server.name, reason=why)
        if why:
            self._refusal, self._refused_at = why, monotonic()
