"""The settings of what runs beside the game: the two levels of the cache, and the database's care."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from tableforge.config.values import (
    DAY,
    GIB,
    KIB,
    MIB,
    MINUTE,
    choice,
    milliseconds,
    size,
    span,
    switch,
    text,
    whole,
)

Eviction = Literal["lru", "lfu", "ttl"]
EVICTIONS: Sequence[Eviction] = ("lru", "lfu", "ttl")
LEAVES = (
    "What leaves first when it is full: lru what was not used for long (guarded against scans), "
    "lfu what was used least, ttl what expires next."
)


def _ttl(name: str, default: float, what: str) -> float:
    return span(
        name,
        default,
        low=1,
        high=30 * DAY,
        purpose=f"How long {what} counts as fresh. Changes take it out of the cache at once, whatever this says.",
    )


def read_schedule(written: str) -> str:
    """Five fields of cron, or ValueError."""
    if len(written.split()) != 5:
        raise ValueError
    try:
        next(CronSim(written, datetime.now(UTC)))
    except (CronSimError, StopIteration) as error:
        raise ValueError from error
    return written


def read_zone(written: str) -> str:
    """The name of a time zone that this machine knows, or ValueError."""
    try:
        return ZoneInfo(written).key
    except (ZoneInfoNotFoundError, OSError) as error:
        raise ValueError from error


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheKnobs:
    """Two levels under one page of policies (`cache.policies`): this process, and in a fleet Redis."""

    app_entries: int = whole(
        "CACHE_APP_MAX_SIZE",
        1_000,
        low=10,
        high=10_000_000,
        unit="entries",
        purpose="What each region keeps in the memory of one instance.",
    )
    app_bytes: int = size(
        "CACHE_APP_MAX_BYTES",
        64 * MIB,
        low=MIB,
        high=64 * GIB,
        purpose="What all regions together keep there, estimated.",
    )
    app_ttl_seconds: float = span(
        "CACHE_APP_DEFAULT_TTL",
        300,
        low=1,
        high=30 * DAY,
        purpose="How long an entry counts as fresh in memory where its region has no setting of its own.",
    )
    app_eviction: Literal["lru", "lfu", "ttl"] = cast(
        "Literal['lru', 'lfu', 'ttl']", choice("CACHE_APP_EVICTION", EVICTIONS, purpose=LEAVES)
    )
    redis_entries: int = whole(
        "CACHE_REDIS_MAX_SIZE",
        10_000,
        low=10,
        high=100_000_000,
        unit="entries",
        purpose="What each region keeps in Redis, about.",
    )
    redis_ttl_seconds: float = span(
        "CACHE_REDIS_DEFAULT_TTL",
        300,
        low=1,
        high=30 * DAY,
        purpose="How long an entry counts as fresh in Redis where its region has no setting of its own.",
    )
    redis_eviction: Literal["lru", "lfu", "ttl"] = cast(
        "Literal['lru', 'lfu', 'ttl']", choice("CACHE_REDIS_EVICTION", EVICTIONS, purpose=LEAVES)
    )
    redis_compression: bool = switch(
        "CACHE_REDIS_COMPRESSION",
        default=True,
        purpose="Compress what is large on its way to Redis.",
    )
    redis_compression_bytes: int = size(
        "CACHE_REDIS_COMPRESSION_OVER",
        2 * KIB,
        low=64,
        high=GIB,
        purpose="What counts as large there.",
    )
    redis_soft_ms: float = milliseconds(
        "CACHE_REDIS_SOFT_TIMEOUT",
        10,
        low=1,
        high=1_000,
        purpose="A request that could be served otherwise (from memory, though stale) waits no longer for Redis.",
    )
    redis_hard_ms: float = milliseconds(
        "CACHE_REDIS_TIMEOUT",
        50,
        low=1,
        high=5_000,
        purpose="No request waits longer for Redis; what has not come by then counts as missing.",
    )
    serialization: Literal["json", "msgpack"] = cast(
        "Literal['json', 'msgpack']",
        choice(
            "CACHE_SERIALIZATION", ("json", "msgpack"), purpose="How values are written to Redis."
        ),
    )
    sessions_ttl_seconds: float = _ttl("CACHE_USER_SESSIONS_TTL", 3_600, "a session")
    rooms_ttl_seconds: float = _ttl("CACHE_ROOM_STATES_TTL", 1_800, "a room's snapshot")
    assets_ttl_seconds: float = _ttl(
        "CACHE_ASSET_METADATA_TTL", 7_200, "what is known of a picture"
    )
    systems_ttl_seconds: float = _ttl(
        "CACHE_GAME_SYSTEM_TEMPLATES_TTL", 14_400, "a game system or a room's template"
    )
    queries_ttl_seconds: float = _ttl("CACHE_QUERY_RESULTS_TTL", 300, "a list or a search")


@dataclass(frozen=True, slots=True, kw_only=True)
class CareKnobs:
    """When the database is looked after, and what is not kept for ever."""

    maintenance: str = text(
        "MAINTENANCE_SCHEDULE",
        "0 2 * * *",
        accepts="five fields of cron, as in 0 2 * * *",
        parse=read_schedule,
        purpose="When the database is cleaned, its statistics renewed, a sample of it checked, and old rows pruned.",
    )
    zone: str = text(
        "SCHEDULE_TIMEZONE",
        "UTC",
        accepts="the name of a time zone, as in Europe/Berlin",
        parse=read_zone,
        purpose="The time zone of all schedules.",
    )
    command_ids_kept_seconds: float = span(
        "KEEP_COMMAND_IDS",
        0,
        low=0,
        high=36_500 * DAY,
        purpose="A command's id is known for this long, at least 24 hours, so that a repetition changes nothing; 0 keeps all.",
    )
    history_days: int = whole(
        "HISTORY_RETENTION_DAYS",
        0,
        low=0,
        high=36_500,
        unit="days",
        purpose="Maintenance takes away events that are older, where a snapshot tells what they came to; the newest "
        "RECOVERY_MAX_EVENTS of a room stay. 0 keeps all.",
    )
    pool_reserve: int = whole(
        "DB_POOL_RESERVE",
        5,
        low=0,
        high=999,
        unit="connections",
        purpose="Connections of the pool that lists, searches and the operator's questions leave to the game.",
    )
    admission_ms: float = milliseconds(
        "DB_POOL_WAIT",
        2_000,
        low=10,
        high=MINUTE * 1000,
        purpose="How long a list or a search waits for a connection before it is refused with 503 and Retry-After.",
    )
