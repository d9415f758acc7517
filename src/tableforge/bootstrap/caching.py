"""The cache of one server: in memory alone, or with Redis behind it and the other instances beside it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from tableforge.api.house import Caching
from tableforge.bootstrap.fleet import Fleet
from tableforge.bootstrap.stores import Store
from tableforge.cache import Shared
from tableforge.cache.policies import Policies, policies
from tableforge.cache.two_level import TwoLevelCache
from tableforge.config import CacheKnobs, RedisKnobs, Settings
from tableforge.config.redis_address import cache_url
from tableforge.library.emergency import Emergency
from tableforge.library.notices import CACHE_DOUBTFUL
from tableforge.library.recent import recent_rooms
from tableforge.telemetry import CACHE

if TYPE_CHECKING:
    from tableforge.cache.redis import RedisShared


def redis_level(redis: RedisKnobs, cache: CacheKnobs, *, secret: str, origin: str) -> "RedisShared":
    """The shared level on the server that is named; raises `StartRefused` for one that cannot be meant."""
    from tableforge.cache.redis import RedisShared

    return RedisShared(redis, cache, secret=secret, origin=origin)


@contextlib.asynccontextmanager
async def _redis(settings: Settings, fleet: Fleet | None) -> AsyncIterator[Shared | None]:
    if fleet is None or cache_url(settings.redis) is None:
        yield None
        return
    shared = redis_level(
        settings.redis,
        settings.cache,
        secret=settings.access.admin_token or "",
        origin=fleet.me.origin,
    )
    shared.start()
    try:
        yield shared
    finally:
        await shared.close()


@contextlib.asynccontextmanager
async def caching(
    settings: Settings, store: Store, fleet: Fleet | None
) -> AsyncIterator[tuple[Caching, Policies]]:
    """The cache and its policies; raises `StartRefused` for a Redis that cannot be meant."""
    declared = policies(settings.cache)
    async with _redis(settings, fleet) as shared:
        cache = TwoLevelCache(
            declared.all(),
            settings.cache,
            shared=shared,
            tell=fleet.backplane.dropped if fleet is not None else None,
            carries=fleet.carries_changes if fleet is not None else lambda: True,
        )
        emergency = Emergency(
            store.database,
            apply=cache.emergency,
            tell=fleet.backplane.ordered if fleet is not None else lambda order: None,
            notices=fleet.notices if fleet is not None else None,
        )
        if fleet is not None:
            fleet.notices.on_gap(cache.doubt)  # too much was missed, or the database is another
            fleet.notices.on(CACHE_DOUBTFUL, lambda about: cache.doubt())
        cache.start()
        # Whoever served before may have ended with changes that Redis was not told of, or from another database.
        cache.doubt()
        following = asyncio.get_running_loop().create_task(emergency.follow())
        CACHE[:] = [cache.readings]
        try:
            yield (
                Caching(
                    cache=cache,
                    emergency=emergency,
                    recent_rooms=lambda limit: recent_rooms(store.database, limit),
                ),
                declared,
            )
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await cache.close()
