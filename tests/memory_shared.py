"""The shared level in memory, for tests of what stands on it; the contract of the shared level runs on it as well."""

import asyncio
import secrets
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import Literal

from tableforge.cache import Condition, Kept, RegionStats


class MemoryServer:
    """What all instances see: values, the moments of drops, locks. `flush` loses all of it, as a restart would.

    `clock` counts seconds.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.clock = clock
        self.flush()

    def flush(self) -> None:
        """Lose everything."""
        self.epoch = secrets.token_bytes(8)
        self.now = 1
        self.dropped: dict[tuple[str, ...], int] = {}
        self.values: dict[tuple[str, str], tuple[Kept, float]] = {}
        self.locks: dict[tuple[str, str], tuple[object, float]] = {}

    def moment(self) -> bytes:
        return self.epoch + self.now.to_bytes(8, "big")

    def drop(self, names: Iterable[tuple[str, ...]]) -> None:
        """Whatever was read until now does not count any more under these names."""
        self.now += 1
        self.dropped.update(dict.fromkeys(names, self.now))

    def find(self, region: str, key: str, tags: Iterable[str]) -> Kept | None:
        kept, until = self.values.get((region, key), (None, 0.0))
        if kept is None or self.clock() >= until or kept.moment[:8] != self.epoch:
            return None
        read_at = int.from_bytes(kept.moment[8:], "big")
        names: list[tuple[str, ...]] = [("region", region), ("key", region, key)]
        names += [("tag", tag) for tag in {*kept.tags, *tags}]
        return kept if all(self.dropped.get(name, 0) <= read_at for name in names) else None


class MemoryShared:
    """One instance's end of it; see `Shared`.

    While `away` nothing is found, written or dropped, and nothing waits. While `silent` whoever asks waits for as long as
    they would, then goes without (`bound` seconds where the caller names none). While `holding`, what is put waits in `held`
    until `release`, as it may on a slow way: other instances' drops come in between.
    """

    def __init__(self, server: MemoryServer, *, bound: float = 0.05) -> None:
        self._server = server
        self._bound = bound
        self._locks: dict[tuple[str, str], object] = {}
        self._counts: dict[str, list[int]] = {}
        self.away = False
        self.silent = False
        self.holding = False
        self.held: list[Callable[[], None]] = []

    def release(self) -> None:
        """What was held arrives."""
        held, self.held = self.held, []
        for arrive in held:
            arrive()

    @property
    def is_open(self) -> bool:
        return self.away

    async def _answers(self, within: float | None = None) -> bool:
        """Whether an answer comes, after as long as that takes."""
        if not self.away:
            await asyncio.sleep((within or self._bound) if self.silent else 0)
        return not self.away and not self.silent

    async def get(
        self, region: str, key: str, tags: Sequence[str], *, within: float
    ) -> Kept | None:
        hits_misses = self._counts.setdefault(region, [0, 0])
        kept = self._server.find(region, key, tags) if await self._answers(within) else None
        hits_misses[kept is None] += 1
        return kept

    async def moment(self) -> bytes | None:
        return self._server.moment() if await self._answers() else None

    def put(self, region: str, key: str, kept: Kept, *, seconds: float, entries: int) -> None:
        if self.away or self.silent:
            return

        def arrive() -> None:
            values = self._server.values
            values.pop((region, key), None)
            values[region, key] = (kept, self._server.clock() + seconds)
            self._trim(region, entries)

        if self.holding:
            self.held.append(arrive)
        else:
            arrive()

    async def drop(self, region: str, keys: Iterable[str]) -> bool:
        names = [(region, key) for key in keys]
        if not await self._answers():
            return False
        self._server.drop([("key", *name) for name in names])
        for name in names:
            self._server.values.pop(name, None)
        return True

    async def drop_tags(self, tags: Iterable[str]) -> bool:
        names = [("tag", tag) for tag in tags]
        if not await self._answers():
            return False
        self._server.drop(names)
        return True

    async def outdate(self, regions: Iterable[str]) -> bool:
        names = [("region", region) for region in regions]
        if not await self._answers():
            return False
        self._server.drop(names)
        return True

    async def clear(self, region: str | None) -> int | None:
        if not await self._answers():
            return None
        values = self._server.values
        mine = [name for name in values if region in (None, name[0])]
        for name in mine:
            del values[name]
        regions = {name[0] for name in mine} if region is None else {region}
        self._server.drop([("region", one) for one in regions])
        if region is None:
            self._server.epoch = secrets.token_bytes(8)
        return len(mine)

    async def trim(self, region: str, entries: int) -> int | None:
        if not await self._answers():
            return None
        return self._trim(region, entries)

    def _trim(self, region: str, entries: int) -> int:
        mine = [one for one in self._server.values if one[0] == region]
        for one in mine[: max(0, len(mine) - entries)]:
            del self._server.values[one]
        return max(0, len(mine) - entries)

    async def lock(self, region: str, key: str, *, seconds: float) -> bool | None:
        if not await self._answers():
            return None
        _, until = self._server.locks.get((region, key), (None, 0.0))
        if self._server.clock() < until:
            return False
        token = self._locks[region, key] = object()
        self._server.locks[region, key] = (token, self._server.clock() + seconds)
        return True

    def unlock(self, region: str, key: str) -> None:
        token = self._locks.pop((region, key), None)
        if token is not None and self._server.locks.get((region, key), (None,))[0] is token:
            del self._server.locks[region, key]

    async def stats(self, regions: Iterable[str] = ()) -> Sequence[RegionStats]:
        for region in regions:
            self._counts.setdefault(region, [0, 0])
        kept = [
            (region, len(one.value))
            for (region, _), (one, until) in self._server.values.items()
            if self._server.clock() < until and not self.away
        ]
        return [
            RegionStats(
                level="shared",
                region=region,
                hits=hits,
                misses=misses,
                stale=0,
                entries=sum(one == region for one, _ in kept),
                bytes=sum(size for one, size in kept if one == region),
                loads=hits + misses,
                load_p50=0.0,
                load_p95=0.0,
                load_p99=0.0,
                evictions={},
            )
            for region, (hits, misses) in self._counts.items()
        ]

    def condition(self) -> Condition:
        state: Literal["closed", "open"] = "open" if self.away else "closed"
        return Condition(
            server="memory",
            state=state,
            trouble="it is away" if self.away else "",
            failures=0,
            opened=0,
            probes=0,
            lost=0,
            unreadable=0,
        )
