"""What can go wrong in a fleet, each as something to do to it that is over, and mended, when it returns."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

import asyncpg
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tableforge.bench.faulty_proxy import FaultyProxy
from tableforge.bench.ground import Ground
from tableforge.bench.steady import Company

SLOW_BANDWIDTH = 20_000
SLOW_LATENCY = 0.15
CLOCK_AHEAD_SECONDS = 3_600.0
NUMB_SHARE = 10
CATCH_UP_SECONDS = 60.0

Doing = Callable[[Ground, Company, float], Awaitable[None]]


class Fault(NamedTuple):
    """`seconds` is how long it lasts, `quick` in the short form; `what` is for people."""

    name: str
    what: str
    doing: Doing
    seconds: float
    quick: float


async def _instance_killed(ground: Ground, company: Company, seconds: float) -> None:
    victim = ground.instances[1]
    await asyncio.to_thread(victim.kill)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(victim.start)


async def _instance_stalled(ground: Ground, company: Company, seconds: float) -> None:
    ground.instances[1].pause()
    try:
        await asyncio.sleep(seconds)
    finally:
        ground.instances[1].resume()


async def _rolling_restart(ground: Ground, company: Company, seconds: float) -> None:
    for instance in ground.instances:
        code = await asyncio.to_thread(instance.stop)
        if code:
            company.wrongs.add("failed", f"an instance ended with {code} at SIGTERM")
        await asyncio.to_thread(instance.start)
        await asyncio.sleep(seconds)


async def _postgres_restarted(ground: Ground, company: Company, seconds: float) -> None:
    await asyncio.to_thread(ground.postgres.stop)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(ground.postgres.start)


async def _postgres_killed(ground: Ground, company: Company, seconds: float) -> None:
    await asyncio.to_thread(ground.postgres.kill)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(ground.postgres.start)


async def _backends_terminated(ground: Ground, company: Company, seconds: float) -> None:
    connection = await asyncpg.connect(ground.postgres.url)
    try:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
    finally:
        await connection.close()


async def _redis_killed(ground: Ground, company: Company, seconds: float) -> None:
    await asyncio.to_thread(ground.redis.kill)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(ground.redis.start)


async def _redis_restarted(ground: Ground, company: Company, seconds: float) -> None:
    await asyncio.to_thread(ground.redis.stop)
    await asyncio.to_thread(ground.redis.start)


@contextlib.asynccontextmanager
async def _redis(ground: Ground) -> AsyncIterator[Any]:
    async with Redis.from_url(ground.redis.url) as client:
        yield client


async def _redis_flushed(ground: Ground, company: Company, seconds: float) -> None:
    async with _redis(ground) as client:
        await client.flushall()


async def _redis_blocked(ground: Ground, company: Company, seconds: float) -> None:
    async with _redis(ground) as client:
        await client.execute_command("CLIENT", "PAUSE", str(int(seconds * 1000)), "ALL")
    await asyncio.sleep(seconds)


async def _redis_overrun(ground: Ground, company: Company, seconds: float) -> None:
    """Its subscribers' buffers are made small, and one of the rooms' channels is flooded with what is no event."""
    async with _redis(ground) as client:
        before = await client.config_get("client-output-buffer-limit")
        await client.config_set("client-output-buffer-limit", "pubsub 100kb 0 0")
        with contextlib.suppress(RedisError):
            [channel, *_] = await client.pubsub_channels("*room:*")
            async with client.pipeline(transaction=True) as flood:
                for _ in range(2_000):
                    flood.publish(channel, bytes(1_000))
                await flood.execute()
        await asyncio.sleep(seconds)
        await client.config_set("client-output-buffer-limit", before["client-output-buffer-limit"])


def _held(pick: Callable[[Ground], FaultyProxy]) -> Doing:
    """A partition: nothing comes through, and all of it when it heals."""

    async def doing(ground: Ground, company: Company, seconds: float) -> None:
        proxy = pick(ground)
        proxy.holding = True
        try:
            await asyncio.sleep(seconds)
        finally:
            proxy.holding = False

    return doing


def _swallowed(pick: Callable[[Ground], FaultyProxy]) -> Doing:
    """Connections stay up, and what they carry is gone for good; afterwards they are aborted."""

    async def doing(ground: Ground, company: Company, seconds: float) -> None:
        proxy = pick(ground)
        proxy.swallowing = True
        try:
            await asyncio.sleep(seconds)
        finally:
            proxy.swallowing = False
            proxy.cut()

    return doing


def _reset(pick: Callable[[Ground], FaultyProxy]) -> Doing:
    async def doing(ground: Ground, company: Company, seconds: float) -> None:
        pick(ground).cut()

    return doing


async def _slow_road(ground: Ground, company: Company, seconds: float) -> None:
    ground.to_first.latency, ground.to_first.bandwidth = SLOW_LATENCY, SLOW_BANDWIDTH
    try:
        await asyncio.sleep(seconds)
    finally:
        ground.to_first.latency, ground.to_first.bandwidth = 0.0, 0


async def _slow_close(ground: Ground, company: Company, seconds: float) -> None:
    """Players hang up, and the balancer does not hear of it for a while."""
    ground.road.lingering = True
    try:
        for player in company.players:
            if player.port == ground.road.port:
                player.leave()
        await asyncio.sleep(seconds)
    finally:
        ground.road.lingering = False


async def _slow_players(ground: Ground, company: Company, seconds: float) -> None:
    """Some players stop reading, and read on much later."""
    numb = [one for one in company.players[::NUMB_SHARE] if one.transport is not None]
    for player in numb:
        player.numb = True
        if player.transport is not None:
            player.transport.pause_reading()
    await asyncio.sleep(seconds)
    for player in numb:
        player.numb = False
        if player.transport is not None:
            player.transport.resume_reading()
    missed = {player: player.table.head for player in numb}
    await company.until(
        lambda: all(player.offset >= head for player, head in missed.items()), CATCH_UP_SECONDS
    )


async def _clock_set(ground: Ground, company: Company, seconds: float) -> None:
    for ahead in (CLOCK_AHEAD_SECONDS, -CLOCK_AHEAD_SECONDS, 0.0):
        ground.set_clock(ahead)
        await asyncio.sleep(seconds / 3)


FAULTS = (
    Fault("instance-killed", "kill -9 of an instance, started again later", _instance_killed, 5, 1),
    Fault("instance-stalled", "SIGSTOP of an instance, SIGCONT later", _instance_stalled, 10, 3),
    Fault(
        "rolling-restart",
        "SIGTERM and a new start, one instance after the other",
        _rolling_restart,
        3,
        0.5,
    ),
    Fault("postgres-restarted", "PostgreSQL stopped and started", _postgres_restarted, 1, 0),
    Fault("postgres-killed", "PostgreSQL kill -9, started again", _postgres_killed, 1, 0),
    Fault(
        "backends-terminated",
        "every connection to PostgreSQL terminated",
        _backends_terminated,
        0,
        0,
    ),
    Fault("redis-killed", "Redis kill -9, started again later", _redis_killed, 10, 2),
    Fault("redis-restarted", "Redis stopped and started", _redis_restarted, 0, 0),
    Fault("redis-flushed", "FLUSHALL", _redis_flushed, 0, 0),
    Fault("redis-blocked", "Redis answers nobody", _redis_blocked, 5, 3),
    Fault("redis-overrun", "subscribers' output buffers overrun", _redis_overrun, 1, 0.5),
    Fault(
        "redis-cut-off",
        "an instance and Redis: nothing comes through",
        _held(lambda one: one.to_redis),
        10,
        3,
    ),
    Fault(
        "redis-silent",
        "the same, and what was on its way is gone",
        _swallowed(lambda one: one.to_redis),
        10,
        3,
    ),
    Fault(
        "postgres-cut-off",
        "an instance and PostgreSQL: nothing comes through",
        _held(lambda one: one.to_postgres),
        10,
        3,
    ),
    Fault(
        "balancer-cut-off",
        "an instance and the balancer: nothing comes through",
        _held(lambda one: one.to_first),
        10,
        3,
    ),
    Fault(
        "balancer-reset",
        "connections of the balancer to an instance aborted",
        _reset(lambda one: one.to_first),
        0,
        0,
    ),
    Fault(
        "slow-network", "150 ms and 20 kB/s between the balancer and an instance", _slow_road, 10, 2
    ),
    Fault(
        "half-open",
        "a tenth of the players: connections up, nothing comes through",
        _swallowed(lambda one: one.road),
        20,
        4,
    ),
    Fault("slow-close", "a tenth of the players hang up unheard", _slow_close, 5, 2),
    Fault("slow-players", "a tenth of the players stop reading", _slow_players, 20, 5),
    Fault("clock-set", "an instance's clock an hour ahead, then behind", _clock_set, 9, 2),
)
"""In the order of the table."""
