"""`tableforge bench cache`: what a hit costs, what is hit, how many load at once, and what the shared level adds to a GET."""

import asyncio
import gc
from array import array
from collections.abc import Awaitable, Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from secrets import token_hex
from statistics import fmean
from time import perf_counter, thread_time
from typing import Any, Final, Protocol, TypeVar

import uvloop
from redis.asyncio import Redis

from tableforge.bench.cache_report import AT_ONCE, WORKERS, CacheReport, Plan, SharedFigures
from tableforge.bench.latency import Quantiles, quantiles
from tableforge.bench.replay import LRU, OURS, hit_ratio, hit_ratios, models
from tableforge.bench.traces import EVENING_ENTRIES, Trace, seeded, traces, zipf
from tableforge.cache import Built, Kept, Shared
from tableforge.cache.envelope import decode_value, encode_value
from tableforge.cache.policies import SessionRow, policies
from tableforge.cache.redis_link import LOST, Link, Question
from tableforge.cache.two_level import TwoLevelCache
from tableforge.config import CacheKnobs
from tableforge.config.redis_address import CONNECT_TROUBLE, Address
from tableforge.errors import TableForgeError, Unavailable

SIZES: Final = (0.125, 0.25, 0.5, 1.0, 2.0)
"""Times the entries that the evening has by default."""
WINDOWS: Final = 6
"""Of the evening; the first fills the cache."""
KEYS: Final = 800
REGION: Final = "bench"
"""In the shared level."""
CONNECT_SECONDS: Final = 10.0
WITHIN_SECONDS: Final = 1.0
VALUE: Final = SessionRow("u" * 26, "A player", 1_700_000_000_000, 1_800_000_000_000, 12_345)

T = TypeVar("T")
Told = Callable[[str, int, int], None]
"""Told of progress: of which part, how much is done, of how much."""


class SharedLevel(Shared, Protocol):
    """The shared level as bootstrap makes it."""

    def start(self) -> None:
        """Connect, in the background."""
        ...

    async def close(self) -> None:
        """Let go."""
        ...


SharedAt = Callable[[str], SharedLevel]
"""Makes the shared level on the server of this address."""


# A hit in memory


def hit_costs(plan: Plan, told: Told) -> dict[str, list[float]]:
    """Nanoseconds a hit in each of some rounds, ours and the peers' that are installed, in turn."""
    asked = [f"user:{key}" for key in islice(zipf(seeded(plan.seed), KEYS, 0.9), plan.gets)]
    found: dict[str, list[float]] = {}
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        gets = runner.run(filled())
        for number in range(plan.rounds):
            for name, get in gets.items():
                # Whoever asks has made the key just now, so nobody has its hash yet.
                keys = [key.encode().decode() for key in asked]
                gc.collect()
                gc.disable()
                took = runner.run(timed(get, keys)) if name != "peek" else peeked(get, keys)
                gc.enable()
                found.setdefault(name, []).append(took)
            told("hits in memory", number + 1, plan.rounds)
    return found


async def filled() -> dict[str, Callable[[str], Any]]:
    """Ways to ask, by name, each over a cache that has all keys."""
    knobs = CacheKnobs()
    declared = policies(knobs)
    cache = TwoLevelCache(declared.all(), knobs)
    keys = [f"user:{key}" for key in range(KEYS)]
    for key in keys:
        cache.put(declared.user_sessions, key, VALUE, tags=(f"owner:{key}",))
    policy = declared.user_sessions

    async def load() -> Built[SessionRow]:
        raise AssertionError("all keys are there")

    gets: dict[str, Callable[[str], Any]] = {
        "peek": lambda key: cache.peek(policy, key),
        "get": lambda key: cache.get(policy, key, load),
    }
    if find_spec("cashews") is not None:
        cashews = import_module("cashews").Cache()
        cashews.setup(f"mem://?size={knobs.app_entries}")
        for key in keys:
            await cashews.set(key, VALUE, expire=policy.fresh)
        gets["cashews"] = cashews.get
    if find_spec("aiocache") is not None:
        aiocache = import_module("aiocache").SimpleMemoryCache()
        for key in keys:
            await aiocache.set(key, VALUE, ttl=policy.fresh)
        gets["aiocache"] = aiocache.get
    for name, get in gets.items():
        found = get(keys[0])
        assert (found if name == "peek" else await found) == VALUE, name
    return gets


def peeked(get: Callable[[str], object], keys: Sequence[str]) -> float:
    """Nanoseconds of the processor a call: what others do on this machine does not count."""
    began = thread_time()
    for key in keys:
        get(key)
    return (thread_time() - began) / len(keys) * 1e9


async def timed(get: Callable[[str], Awaitable[object]], keys: Sequence[str]) -> float:
    """The same for a call that is awaited."""
    began = thread_time()
    for key in keys:
        await get(key)
    return (thread_time() - began) / len(keys) * 1e9


# What is hit


def ratios_of_all(plan: Plan, told: Told) -> dict[str, dict[str, float]]:
    """By trace and policy."""
    found: dict[str, dict[str, float]] = {}
    made = list(traces(plan.seed, plan.steps, plan.evening_steps))
    known = models()
    total = len(made) * len(known)
    for number, trace in enumerate(made):
        row = found[trace.name] = {}
        for name, model in known.items():
            row[name] = hit_ratio(trace, model)
            told(f"hit ratios: {trace.name}", number * len(known) + len(row), total)
    return found


def ratios_by_size(
    plan: Plan, told: Told
) -> tuple[dict[str, list[tuple[float, float]]], list[float]]:
    """Entries and hit ratio of an evening, ours and LRU's; and ours in parts of an evening at the usual size."""
    evening = next(iter(traces(plan.seed, 0, plan.size_steps)))
    found: dict[str, list[tuple[float, float]]] = {OURS: [], LRU: []}
    windows: list[float] = []
    known = models()
    for number, size in enumerate(SIZES):
        entries = {region: max(1, int(size * usual)) for region, usual in EVENING_ENTRIES.items()}
        for name, points in found.items():
            parts = hit_ratios(Trace(evening.name, entries, evening.steps), known[name], WINDOWS)
            points.append((sum(entries.values()), fmean(parts[1:])))
            if (name, size) == (OURS, 1.0):
                windows = parts[1:]
        told("hit ratio by size", number + 1, len(SIZES))
    return found, windows


# Many at once


async def stampede() -> int:
    """How often a key is loaded that many miss at once."""
    knobs = CacheKnobs()
    declared = policies(knobs)
    cache = TwoLevelCache(declared.all(), knobs)
    loads = 0
    all_ask = asyncio.Event()

    async def load() -> Built[SessionRow]:
        nonlocal loads
        loads += 1
        await all_ask.wait()
        return Built(VALUE)

    async def ask() -> SessionRow | None:
        return await cache.get(declared.user_sessions, "user:1", load)

    asking = [asyncio.ensure_future(ask()) for _ in range(AT_ONCE)]
    await asyncio.sleep(0)
    all_ask.set()
    answers = await asyncio.gather(*asking)
    assert answers == [VALUE] * AT_ONCE
    return loads


# The shared level


class Bare:
    """GET and nothing else: all questions of one turn of the loop go in one piece over one connection."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Question] = []

    def get(self, name: bytes) -> asyncio.Future[Any]:
        """The bytes of this name, or LOST."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        if not self._waiting:
            self._loop.call_soon(self._send)
        self._waiting.append(((b"GET", name), answer.set_result))
        return answer

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._link.send(waiting)


async def shared_figures(plan: Plan, url: str, make: SharedAt, told: Told) -> SharedFigures:
    """Raises `Unavailable` if the server is not there."""
    shared = make(url)
    try:
        library = Redis.from_url(url)
    except ValueError as error:
        raise Unavailable(
            "The shared level was not measured.", f"{error}.", "Name a server as redis://host:port."
        ) from error
    address = Address(url, patience=CONNECT_SECONDS, use="cache")
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            link = await address.connect(Link, "tableforge-bench-cache")
    except (*CONNECT_TROUBLE, TimeoutError) as error:
        raise Unavailable(
            "The shared level was not measured.",
            f"The server does not answer: {error}.",
            "Name another one with --redis.",
        ) from error
    shared.start()
    try:
        # Nothing that somebody else may have there.
        mark = token_hex(8)
        names = [f"tableforge:bench:{mark}:{number}" for number in range(KEYS)]
        await fill(shared, link, names)
        return await compared(plan, shared, Bare(link), library, names, told)
    finally:
        await shared.clear(REGION)
        await link.ask((b"DEL", *(name.encode() for name in names)))
        await link.finish(CONNECT_SECONDS)
        await address.close()
        await library.aclose()
        await shared.close()


async def compared(
    plan: Plan, shared: SharedLevel, bare: Bare, library: Redis, names: Sequence[str], told: Told
) -> SharedFigures:
    """Ask all of them in turn."""

    async def ours(key: str) -> None:
        kept = await shared.get(REGION, key, (f"owner:{key}",), within=WITHIN_SECONDS)
        if kept is None:
            raise Unavailable(
                "The shared level was not measured.",
                "It did not answer in time, or lost what was put there.",
                "Name a server with --redis that has room and time.",
            )
        assert decode_value(SessionRow, kept.value) == VALUE

    async def plain(key: str) -> None:
        found = await bare.get(key.encode())
        assert found is not LOST
        assert decode_value(SessionRow, found) == VALUE

    rounds: list[tuple[Quantiles, Quantiles, Quantiles]] = []
    for number in range(plan.shared_rounds):
        theirs = quantiles(await pipelined(library, names, plan.shared_gets))
        through = quantiles(await worked(ours, names, plan.shared_gets))
        floor = quantiles(await worked(plain, names, plan.shared_gets))
        rounds.append((through, theirs, floor))
        told("shared level", number + 1, plan.shared_rounds)
    floors = sorted((floor for *_, floor in rounds), key=lambda one: one.p95_ms)
    rounds.sort(key=lambda one: one[0].p95_ms / one[1].p95_ms)
    middle = len(rounds) // 2
    return SharedFigures(
        *rounds[middle][:2],
        floors[middle],
        [one[0].p95_ms / one[1].p95_ms for one in rounds],
    )


async def pipelined(library: Redis, names: Sequence[str], count: int) -> "array[int]":
    """Microseconds of each of so many gets in pipelines of `WORKERS`."""
    took = array("q")
    for first in range(0, count, WORKERS):
        began = perf_counter()
        pipeline = library.pipeline(transaction=False)
        for number in range(first, first + WORKERS):
            pipeline.execute_command("GET", names[number % len(names)])
        values = await pipeline.execute()
        assert [decode_value(SessionRow, value) for value in values] == [VALUE] * WORKERS
        took.extend([round((perf_counter() - began) * 1e6)] * WORKERS)
    return took


async def fill(shared: SharedLevel, link: Link, names: Sequence[str]) -> None:
    """Put the values into both, and wait until they can be read."""
    written = encode_value(VALUE, "msgpack")
    moment = await in_time(shared.moment)
    for name in names:
        shared.put(
            REGION,
            name,
            Kept(
                form=1, position=0, built=0.0, tags=(f"owner:{name}",), moment=moment, value=written
            ),
            seconds=3_600.0,
            entries=2 * KEYS,
        )
        await link.ask((b"SET", name.encode(), written, b"EX", b"3600"))
    for name in names:
        await in_time(
            lambda name=name: shared.get(  # type: ignore[misc]  # bound now
                REGION, name, (f"owner:{name}",), within=WITHIN_SECONDS
            )
        )


async def in_time(ask: Callable[[], Awaitable[T | None]]) -> T:
    """Ask until there is an answer; raises `Unavailable` if there is none for long."""
    end = asyncio.get_running_loop().time() + CONNECT_SECONDS
    while asyncio.get_running_loop().time() < end:
        found = await ask()
        if found is not None:
            return found
        await asyncio.sleep(0.01)
    raise Unavailable(
        "The shared level was not measured.",
        "It does not answer.",
        "Name another server with --redis.",
    )


async def worked(
    get: Callable[[str], Awaitable[None]], names: Sequence[str], count: int
) -> "array[int]":
    """Microseconds of so many gets by some workers at a time."""
    took = array("q")
    left = iter(range(count))

    async def work() -> None:
        for number in left:
            began = perf_counter()
            await get(names[number % len(names)])
            took.append(round((perf_counter() - began) * 1e6))

    await asyncio.gather(*(work() for _ in range(WORKERS)))
    return took


# All of it

PARTS: Final = ("hits", "ratios", "stampede", "shared")


def run(
    plan: Plan,
    parts: Sequence[str],
    *,
    server: Callable[[], str],
    make: SharedAt,
    told: Told,
    command: str,
) -> CacheReport:
    """Measure these parts. `server` starts or names the server of the shared level, and may raise TableForgeError."""
    without: dict[str, str] = {}
    shared = None
    if "shared" in parts:
        try:
            url = server()
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                shared = runner.run(shared_figures(plan, url, make, told))
        except TableForgeError as error:
            without["shared"] = f"{error.what} {error.why}"
    loads = None
    if "stampede" in parts:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            loads = runner.run(stampede())
    costs = hit_costs(plan, told) if "hits" in parts else {}
    sizes, windows = ratios_by_size(plan, told) if "ratios" in parts else ({}, [])
    return CacheReport(
        plan,
        hit_ns={name: min(rounds) for name, rounds in costs.items()},
        ratios=ratios_of_all(plan, told) if "ratios" in parts else {},
        loads=loads,
        shared=shared,
        without=without,
        hit_rounds=costs,
        sizes=sizes,
        windows=windows,
        command=command,
    )
