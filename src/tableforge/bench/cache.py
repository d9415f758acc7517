"""`tableforge bench cache`: what a hit costs, what is hit, how many load at once, and what the shared level adds to a GET."""

import asyncio
import gc
from array import array
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from math import inf
from secrets import token_hex
from time import perf_counter, thread_time
from typing import Any, Final, Protocol, TypeVar

import uvloop
from redis.asyncio import Redis

from tableforge.bench.latency import Quantiles, quantiles
from tableforge.bench.replay import LRU, OURS, STATIC, hit_ratio, models
from tableforge.bench.traces import EVENING, seeded, traces, zipf
from tableforge.cache import Built, Kept, Shared
from tableforge.cache.envelope import decode_value, encode_value
from tableforge.cache.policies import SessionRow, policies
from tableforge.cache.redis_link import LOST, Link, Question
from tableforge.cache.two_level import TwoLevelCache
from tableforge.config import CacheKnobs
from tableforge.config.redis_address import CONNECT_TROUBLE, Address
from tableforge.errors import TableForgeError, Unavailable

HIT_NS: Final = 2_000.0
"""A hit in memory takes less, with the policy's look-up and all counting."""
NOISE: Final = 0.015
"""Windows are chosen by samples: so much may be missing to LRU's hit ratio until the choice has settled."""
NEAR_BEST: Final = 0.03
EVENING_RATIO: Final = 0.9
SHARED_TIMES: Final = 1.3
"""p95 of the shared level over that of a bare pipelined GET by redis-py, as anybody would write it."""
AT_ONCE: Final = 1_000
"""Who miss the same key at once."""
WORKERS: Final = 16
"""Gets of the shared level that are under way at a time."""
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


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    seed: int = 1
    evening_steps: int = 400_000
    steps: int = 120_000
    rounds: int = 15
    gets: int = 20_000
    shared_rounds: int = 41
    shared_gets: int = 2_000


QUICK: Final = Plan(
    evening_steps=250_000,
    steps=80_000,
    rounds=5,
    gets=5_000,
    shared_rounds=21,
    shared_gets=1_000,
)


@dataclass(frozen=True, slots=True)
class SharedFigures:
    """The shared level against bare pipelined GETs of as many bytes, `WORKERS` at a time.

    `ours` and `library`, which is redis-py's pipeline and what the target is about, are of one round, the one in the middle
    by its ratio of p95 over p95; `rounds` has the ratios of all, in rising order. `bare` is our own connection without seal,
    guard and breaker, the floor, in the round in the middle by its p95.
    """

    ours: Quantiles
    library: Quantiles
    bare: Quantiles
    rounds: Sequence[float]

    @property
    def times(self) -> float:
        """Our p95 over that of the library."""
        return self.ours.p95_ms / self.library.p95_ms


@dataclass(frozen=True, slots=True)
class CacheReport:
    """What was measured; a part that could not be is absent, and `without` says why."""

    plan: Plan
    hit_ns: Mapping[str, float] = field(default_factory=dict)
    ratios: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    loads: int | None = None
    shared: SharedFigures | None = None
    without: Mapping[str, str] = field(default_factory=dict)

    def missed(self) -> list[str]:
        """The targets that were missed, in words."""
        found = []
        for name in ("peek", "get"):
            took = self.hit_ns.get(name, 0.0)
            if took >= HIT_NS:
                found.append(f"a hit by {name} takes {took:.0f} ns, not under {HIT_NS:.0f}")
        ours = self.hit_ns.get("get", 0.0)
        found += [
            f"a hit by get takes {ours:.0f} ns, that of {peer} {took:.0f}"
            for peer, took in self.hit_ns.items()
            if peer not in ("peek", "get") and ours >= took
        ]
        for trace, by_policy in self.ratios.items():
            found += missed_ratios(trace, by_policy)
        if self.loads not in (None, 1):
            found.append(f"{AT_ONCE} who missed at once loaded {self.loads} times")
        if self.shared is not None and self.shared.times > SHARED_TIMES:
            found.append(
                f"p95 of the shared level is {self.shared.times:.2f} times that of redis-py's pipelined"
                f" GET, over {SHARED_TIMES}"
            )
        return found

    @property
    def measured(self) -> bool:
        """Whether anything was."""
        return bool(self.hit_ns or self.ratios or self.loads or self.shared)

    @property
    def failed(self) -> bool:
        """Whether a target was missed."""
        return bool(self.missed())

    def as_json(self) -> dict[str, Any]:
        """The report as plain values."""
        return {
            "bench": "cache",
            **asdict(self),
            "shared": self.shared
            and {
                **asdict(self.shared),
                "times": self.shared.times,
            },
            "missed": self.missed(),
            "failed": self.failed,
        }

    def text(self) -> str:
        """The report as a person reads it."""
        lines: list[str] = []
        if self.hit_ns:
            lines.append(
                "A hit in memory, ns of the processor, best round: " + listed(self.hit_ns, "{:.0f}")
            )
        if self.ratios:
            lines += table(self.ratios)
        if self.loads is not None:
            lines.append(f"{AT_ONCE} who miss one key at once load it {self.loads} time(s).")
        if self.shared is not None:
            lines.append(shared_line(self.shared))
        lines += [f"Not measured, {part}: {why}" for part, why in self.without.items()]
        missed = self.missed()
        lines += [f"MISSED: {one}" for one in missed]
        if self.measured and not missed:
            lines.append("All targets were met.")
        return "\n".join(lines)


def missed_ratios(trace: str, by_policy: Mapping[str, float]) -> list[str]:
    """What a hit ratio of ours lacks."""
    ours, lru = by_policy[OURS], by_policy[LRU]
    best = max(by_policy[name] for name in STATIC)
    found = []
    if ours < lru - NOISE:
        found.append(f"{trace}: {ours:.1%} hit, LRU {lru:.1%}")
    if ours < best - NEAR_BEST:
        found.append(f"{trace}: {ours:.1%} hit, the best static policy {best:.1%}")
    if trace == EVENING and ours <= EVENING_RATIO:
        found.append(f"{trace}: {ours:.1%} hit, not over {EVENING_RATIO:.0%}")
    return found


def shared_line(found: SharedFigures) -> str:
    """The figures of the round in the middle, and the ratios of the middle half of them."""
    outside = len(found.rounds) // 4
    least, most = found.rounds[outside], found.rounds[-1 - outside]
    return (
        f"Shared level, {WORKERS} gets at a time, the middle one of {len(found.rounds)} rounds:"
        f" p50 {found.ours.p50_ms:.2f} ms, p95 {found.ours.p95_ms:.3f} ms; redis-py's pipelined GET:"
        f" p50 {found.library.p50_ms:.2f} ms, p95 {found.library.p95_ms:.3f} ms; p95 over p95:"
        f" {found.times:.2f}, in half of the rounds {least:.2f} to {most:.2f}. The"
        f" floor, our connection without seal and guard: p50 {found.bare.p50_ms:.2f} ms, p95"
        f" {found.bare.p95_ms:.3f} ms"
    )


def listed(figures: Mapping[str, float], form: str) -> str:
    """Names and figures in one line."""
    return ", ".join(f"{name} {form.format(figure)}" for name, figure in figures.items())


def table(ratios: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Hit ratios in percent, a trace a line."""
    names = list(next(iter(ratios.values())))
    head = f"{'hit ratio, %':20}" + "".join(f"{name:>14}" for name in names)
    return [
        head,
        *(
            f"{trace:20}" + "".join(f"{100 * row[name]:14.2f}" for name in names)
            for trace, row in ratios.items()
        ),
    ]


# A hit in memory


def hit_costs(plan: Plan, told: Told) -> dict[str, float]:
    """Nanoseconds a hit in the best of some rounds, ours and the peers' that are installed, in turn."""
    asked = [f"user:{key}" for key in islice(zipf(seeded(plan.seed), KEYS, 0.9), plan.gets)]
    best: dict[str, float] = {}
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
                best[name] = min(best.get(name, inf), took)
            told("hits in memory", number + 1, plan.rounds)
    return best


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


def hit_ratios(plan: Plan, told: Told) -> dict[str, dict[str, float]]:
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
        *rounds[middle][:2], floors[middle], [one[0].p95_ms / one[1].p95_ms for one in rounds]
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
    plan: Plan, parts: Sequence[str], *, server: Callable[[], str], make: SharedAt, told: Told
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
    return CacheReport(
        plan,
        hit_ns=hit_costs(plan, told) if "hits" in parts else {},
        ratios=hit_ratios(plan, told) if "ratios" in parts else {},
        loads=loads,
        shared=shared,
        without=without,
    )
