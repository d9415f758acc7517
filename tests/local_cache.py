"""The cache as a server without Redis has it, for tests of what reads through it."""

import time
from collections.abc import Callable
from dataclasses import replace

from tableforge.cache import Shared
from tableforge.cache.coherence import Tell
from tableforge.cache.policies import Policies, policies
from tableforge.cache.two_level import TwoLevelCache
from tableforge.config import CacheKnobs
from tableforge.eventlog import EventLog
from tableforge.rooms.cached import CachedRooms

KNOBS = CacheKnobs()
POLICIES: Policies = policies(KNOBS)


def local_cache(
    *, entries: int = KNOBS.app_entries, clock: Callable[[], float] = time.monotonic
) -> TwoLevelCache:
    """Memory alone, with so many entries a region; its policies are `POLICIES` but for that. Nothing in it is random."""
    return TwoLevelCache(
        policies(replace(KNOBS, app_entries=entries)).all(), KNOBS, clock=clock, chance=lambda: 0.5
    )


def cache_on(shared: Shared | None, *, tell: Tell | None = None) -> TwoLevelCache:
    """One instance's cache in front of a shared level; `start` and `close` it."""
    return TwoLevelCache(POLICIES.all(), KNOBS, shared=shared, tell=tell)


def cached_rooms(log: EventLog, *, clock: Callable[[], float] = time.monotonic) -> CachedRooms:
    """What the rooms of one server read through a cache in memory alone."""
    return CachedRooms(log, local_cache(clock=clock), POLICIES)
