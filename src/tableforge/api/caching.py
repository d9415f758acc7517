"""For the operator: what the cache holds and saves, and orders to it. All orders hold for every instance of a fleet."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Annotated, Any, Final

from litestar import Response, get, post
from msgspec import Meta, Struct

from tableforge.api.auth import require_admin
from tableforge.api.body import decoded
from tableforge.api.caller import Caller
from tableforge.api.documents import documented
from tableforge.api.house import House, house_of
from tableforge.api.orders import Actions, Busy, Started, Tell, moment
from tableforge.cache import Condition, RegionStats, WhatIf
from tableforge.cache.two_level import TwoLevelCache
from tableforge.domain.visibility import visible_assets
from tableforge.errors import Conflict, Forbidden, Gone, Malformed, NotFound, Unavailable
from tableforge.library.runs import Action, Verdict

SETTLING_SECONDS: Final = 2.0
"""How long an order waits for the shared level to be told."""
ASKING_SECONDS: Final = 10.0
"""How long it may take to hear from the database which rooms were in use lately."""
WARMED_ROOMS: Final = 500
WARMED_AT_ONCE: Final = 4
GAIN: Final = 0.02
"""A change of the size is advised if it is estimated to gain so much of all look-ups; one that loses a tenth of it is free."""
SAMPLES_AT_LEAST: Final = 200
"""Fewer samples say nothing."""
DAY_MINUTES: Final = 1440
NAME_LENGTH: Final = 200
"""Of a region or a key: no key is longer, and what is no name is not to come back in the answer."""


class Level(Struct, frozen=True):
    """One region on one level since the process began; `ratio` is null before anything was asked for.

    Times are in milliseconds: of the loads for the level `local`, of the answers for `shared`. There, entries and bytes are
    those of all instances, estimated.
    """

    level: str
    region: str
    hits: int
    misses: int
    ratio: float | None
    stale: int
    entries: int
    bytes: int
    evictions: dict[str, int]
    loads: int
    load_p50_ms: float
    load_p95_ms: float
    load_p99_ms: float


class EmergencyState(Struct, frozen=True):
    """Whether the cache is in emergency mode, and until when."""

    enabled: bool
    until: str | None


class CacheStats(Struct, frozen=True):
    """The cache of the instance that answers; `shared` is null where there is one level only.

    `what_if` has the hit ratio of the local level estimated at half, present and twice its size. `untold` is the number of
    changes that the shared level does not know of yet.
    """

    levels: list[Level]
    what_if: list[WhatIf]
    shared: Condition | None
    untold: int
    emergency: EmergencyState


class ClearOrder(Struct, frozen=True, forbid_unknown_fields=True):
    """What to forget: everything, a region, or one key of a region."""

    region: Annotated[str, Meta(max_length=NAME_LENGTH)] | None = None
    key: Annotated[str, Meta(max_length=NAME_LENGTH)] | None = None


class EmergencyOrder(Struct, frozen=True, forbid_unknown_fields=True):
    """Whether to serve from memory alone, and for how long."""

    enabled: bool = True
    minutes: Annotated[float, Meta(gt=0, le=DAY_MINUTES)] = 30


class Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    """An order that needs nothing said."""


def level_of(one: RegionStats) -> Level:
    """A region's figures as they are told."""
    return Level(
        level=one.level,
        region=one.region,
        hits=one.hits,
        misses=one.misses,
        ratio=None if one.ratio is None else round(one.ratio, 4),
        stale=one.stale,
        entries=one.entries,
        bytes=one.bytes,
        evictions=one.evictions,
        loads=one.loads,
        load_p50_ms=round(one.load_p50 * 1000, 3),
        load_p95_ms=round(one.load_p95 * 1000, 3),
        load_p99_ms=round(one.load_p99 * 1000, 3),
    )


def emergency_of(cache: TwoLevelCache) -> EmergencyState:
    """Its mode as it is told."""
    until = cache.emergency_until
    return EmergencyState(cache.in_emergency, moment(until) if cache.in_emergency else None)


@get(
    "/api/admin/cache/stats",
    opt=documented(gives={200: CacheStats}, refuses=(Forbidden,), tag="admin"),
)
async def cache_stats(request: Caller) -> CacheStats:
    """What the cache of this instance found, missed, loaded and let go, by level and region."""
    await require_admin(request)
    cache = house_of(request).caching.cache
    return CacheStats(
        levels=[level_of(one) for one in await cache.stats()],
        what_if=cache.what_if(),
        shared=cache.condition(),
        untold=cache.untold,
        emergency=emergency_of(cache),
    )


@post(
    "/api/admin/cache/clear",
    status_code=200,
    opt=documented(
        gives={200: Actions, 202: Started}, takes=ClearOrder, refuses=(Busy,), tag="admin"
    ),
)
async def clear_cache(request: Caller) -> Response[Actions | Started]:
    """Forget everything, a region or one key: here at once, in Redis and on the other instances within moments."""
    await require_admin(request)
    order = await decoded(request, ClearOrder)
    house = house_of(request)
    cache = house.caching.cache
    region, key = order.region, order.key
    if region is None and key is not None:
        raise Malformed(
            "Nothing was cleared.", "A key belongs to a region.", "Name the region as well."
        )
    if region is not None and region not in cache.regions:
        raise Malformed(
            "Nothing was cleared.",
            f"There is no region {region!r}.",
            f"It is one of {', '.join(cache.regions)}.",
        )

    async def clear(tell: Tell) -> Sequence[Action]:
        if region is not None and key is not None:
            return [await _settled(cache, _clear_key(cache, region, key))]
        return await _clear(cache, cache.regions if region is None else (region,))

    return await house.orders.answer("clear-cache", clear, alone=True)


def _clear_key(cache: TwoLevelCache, region: str, key: str) -> Action:
    action = f"clear one key of {region}"
    if cache.drop_key(region, key):
        return Action(action, "in memory here", "forgotten", "done", "")
    nothing = "It was not in memory here; where others had it, it is forgotten."
    return Action(action, "not in memory here", "was not in memory here", "done", nothing)


async def _clear(cache: TwoLevelCache, regions: Sequence[str]) -> list[Action]:
    before = await cache.stats()
    done = []
    for region in regions:
        count = cache.clear(region)
        shared = sum(
            one.entries for one in before if one.level == "shared" and one.region == region
        )
        held = f"{count} in memory here" + (f", about {shared} in Redis" if shared else "")
        done.append(Action(f"clear {region}", held, "0", "done", ""))
    return [await _settled(cache, action) for action in done]


async def _settled(cache: TwoLevelCache, action: Action) -> Action:
    """The action, once Redis and the others are told, or with why they are not."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SETTLING_SECONDS):
            await cache.settled()
    if cache.untold:
        return Action(
            action.action,
            action.before,
            "forgotten here" if action.after == "forgotten" else action.after,
            action.verdict,
            f"{action.reason} Redis could not be told; that is made up for as soon as it can.".strip(),
        )
    return action


@post(
    "/api/admin/cache/warm",
    status_code=200,
    opt=documented(gives={200: Actions, 202: Started}, takes=Nothing, refuses=(Busy,), tag="admin"),
)
async def warm_cache(request: Caller) -> Response[Actions | Started]:
    """Load the rooms of those who were here last, and the pictures in them, before anybody asks."""
    await require_admin(request)
    await decoded(request, Nothing)
    house = house_of(request)

    async def warm(tell: Tell) -> Sequence[Action]:
        return await _warm(house, tell)

    return await house.orders.answer("warm-cache", warm)


@post(
    "/api/admin/cache/rebuild",
    status_code=200,
    opt=documented(gives={200: Actions, 202: Started}, takes=Nothing, refuses=(Busy,), tag="admin"),
)
async def rebuild_cache(request: Caller) -> Response[Actions | Started]:
    """Forget everything on all instances, then load what is in use from the database again."""
    await require_admin(request)
    await decoded(request, Nothing)
    house = house_of(request)
    cache = house.caching.cache

    async def rebuild(tell: Tell) -> Sequence[Action]:
        tell("clearing")
        return [*await _clear(cache, cache.regions), *await _warm(house, tell)]

    return await house.orders.answer("rebuild-cache", rebuild, alone=True)


async def _warm(house: House, tell: Tell) -> list[Action]:
    tell("looking for rooms of recent activity")
    held = house.rooms.engine.rooms_in_memory
    try:
        rooms = await _recent_rooms(house)
    except Unavailable as unavailable:
        why = unavailable.why or unavailable.what
        return [Action("warm rooms", f"{held} in memory", f"{held} in memory", "failed", why)]
    if not rooms:
        nobody = "Nobody who was here lately has a seat in a room."
        return [Action("warm rooms", f"{held} in memory", f"{held} in memory", "skipped", nobody)]
    done, assets, failed = 0, 0, ""
    waiting = iter(rooms)

    async def work() -> None:
        nonlocal done, assets, failed
        for room in waiting:
            try:
                assets += await _warm_room(house, room)
            except (NotFound, Gone):
                continue  # deleted meanwhile
            except Unavailable as unavailable:
                failed = unavailable.why or unavailable.what
                return
            done += 1
            tell(f"{done} of {len(rooms)} rooms, {assets} pictures")

    await asyncio.gather(*(work() for _ in range(WARMED_AT_ONCE)))
    after = f"{house.rooms.engine.rooms_in_memory} in memory"
    verdict: Verdict = "failed" if failed else "done"
    return [
        Action("warm rooms", f"{held} in memory", f"{after}, {done} looked at", verdict, failed),
        Action("warm pictures", "", f"what is known of {assets} of them was read", verdict, failed),
    ]


async def _recent_rooms(house: House) -> Sequence[str]:
    """Rooms to load; raises `Unavailable` for a database that does not answer, in less time than a request takes."""
    at_most = min(WARMED_ROOMS, house.settings.rooms.in_memory)
    try:
        async with asyncio.timeout(ASKING_SECONDS):
            return await house.caching.recent_rooms(at_most)
    except TimeoutError as error:
        raise Unavailable(
            "Nothing was loaded.", "The database does not answer.", "Send the order again later."
        ) from error


async def _warm_room(house: House, room: str) -> int:
    """Load a room and what is known of the pictures that its GM sees; how many those were."""
    state = (await house.rooms.open(room)).durable
    seers = sorted(state.members, key=lambda user: state.members[user].role != "gm")
    found = 0
    for asset in visible_assets(state, seers[0]) if seers else ():
        with contextlib.suppress(NotFound):
            await house.assets.find(asset)
            found += 1
    return found


@post(
    "/api/admin/cache/emergency-mode",
    status_code=200,
    opt=documented(
        gives={200: Actions, 202: Started}, takes=EmergencyOrder, refuses=(Conflict,), tag="admin"
    ),
)
async def emergency_mode(request: Caller) -> Actions:
    """Serve from memory alone on all instances, with longer lives and old values, until it is ended or ends by itself.

    Never sessions, roles or membership. It waits for no database: that it is there for its trouble is the point.
    """
    await require_admin(request)
    order = await decoded(request, EmergencyOrder)
    house = house_of(request)
    caching = house.caching
    before = emergency_of(caching.cache)
    why_not = await caching.emergency.order(order.minutes * 60 if order.enabled else 0.0)
    after = emergency_of(caching.cache)
    reasons = ["It was off already."] if not order.enabled and not before.enabled else []
    verdict: Verdict = "skipped" if reasons else "done"
    if why_not:
        reasons.append(
            f"It holds here, and the others were told; instances that start now do not know, since the"
            f" database could not be told: {why_not} It will be when it answers."
        )
    action = Action("emergency mode", _said(before), _said(after), verdict, " ".join(reasons))
    return Actions(await house.orders.note("emergency-mode", [action], wait=not why_not))


def _said(state: EmergencyState) -> str:
    return f"on until {state.until}" if state.enabled else "off"


@post(
    "/api/admin/optimize/cache",
    status_code=200,
    opt=documented(gives={200: Actions, 202: Started}, takes=Nothing, refuses=(Busy,), tag="admin"),
)
async def optimize_cache(request: Caller) -> Response[Actions | Started]:
    """Take away what is over, bring Redis back within its bounds, and say what another size would gain, as measured."""
    await require_admin(request)
    await decoded(request, Nothing)
    house = house_of(request)

    async def optimize(tell: Tell) -> Sequence[Action]:
        return await optimized(house.caching.cache)

    return await house.orders.answer("optimize-cache", optimize, alone=True)


async def optimized(cache: TwoLevelCache) -> list[Action]:
    """What an optimisation of the cache did and found."""
    before = {one.region: one for one in await cache.stats() if one.level == "local"}
    count = sum(one.entries for one in before.values())
    gone = cache.expire()
    actions = [
        Action(
            "drop what is over",
            f"{count} values in memory",
            f"{count - gone} values in memory",
            "done" if gone else "skipped",
            "" if gone else "None was over.",
        )
    ]
    actions += [_trimmed(*one) for one in await cache.trim()]
    actions += [_advice(one, cache.entries_bound(one.region)) for one in cache.what_if()]
    return actions


def _trimmed(region: str, entries: int, bound: int, went: int | None) -> Action:
    action = f"trim {region} in Redis"
    held = f"about {entries} of {bound} values"
    if went is None:
        return Action(action, held, held, "skipped", "Redis is not asked at present.")
    if not went:
        return Action(action, held, held, "skipped", "It is within its bound.")
    return Action(action, held, f"about {entries - went} of {bound} values", "done", "")


def _advice(found: WhatIf, bound: int) -> Action:
    action = f"size of {found.region} in memory"
    size = f"{bound} values"
    half, present, twice = (found.ratios[name] for name in ("half", "present", "twice"))
    if found.samples < SAMPLES_AT_LEAST or half is None or present is None or twice is None:
        too_few = f"{found.samples} look-ups were sampled; {SAMPLES_AT_LEAST} are needed to tell."
        return Action(action, size, size, "skipped", too_few)
    told = f"of {found.samples} sampled look-ups {half:.1%} hit at half, {present:.1%} at this, {twice:.1%} at twice the size"
    if twice - present >= GAIN:
        more = f"Set CACHE_APP_MAX_SIZE higher: {told}. A setting changes at the next start."
        return Action(action, size, size, "skipped", more)
    if present - half <= GAIN / 10:
        return Action(action, size, size, "skipped", f"Half would do as well: {told}.")
    return Action(action, size, size, "skipped", f"The size is right: {told}.")


ROUTES: Final[list[Any]] = [
    cache_stats,
    clear_cache,
    warm_cache,
    rebuild_cache,
    emergency_mode,
    optimize_cache,
]
