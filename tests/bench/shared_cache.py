"""The shared cache beside what it is made of: `python -m tests.bench.shared_cache [hits|faults|compression]`.

Not a test: figures of a noisy machine fail nothing. It starts a Valkey of its own where it needs one, and prints

- hits: a hit beside a GET of as many bytes over a bare connection of our own, and over redis-py's; in turn, in one run;
- faults: how long requests wait while the server is slow, silent, gone and back, with 32 who ask 20 times a second each;
- compression: what zlib and zstandard make of rooms and lists, and how long they take.
"""

import argparse
import asyncio
import os
import re
import time
import zlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from statistics import quantiles

import msgspec
import uvloop
import zstandard
from redis.asyncio import Redis

from tableforge.bench.faulty_proxy import FaultyProxy
from tableforge.cache import Kept
from tableforge.cache.policies import RoomSnapshot, Rows
from tableforge.cache.redis import RedisShared
from tableforge.cache.redis_link import Link, Question
from tableforge.config import CacheKnobs, RedisKnobs
from tableforge.config.redis_address import Address
from tableforge.ops.servers import RedisServer, scratch
from tableforge.protocol.codec import encode_room
from tests.vectors.make_vectors import Story

KEYS = 500
TAGS = ("user:u", "rooms_of:u")
HOUR = 3_600.0
ROUNDS = 400
READERS = 32
ASKS_A_SECOND = 20
PHASE_SECONDS = 3.0
WORDS = "the goblin opens an old door behind which nothing good waits for Mira and Grog"

Get = Callable[[int], Awaitable[object]]


def figures(seconds: list[float]) -> str:
    cuts = quantiles(seconds, n=100, method="inclusive")
    return (
        f"p50 {cuts[49] * 1e6:7.0f} us   p95 {cuts[94] * 1e6:7.0f} us   p99 {cuts[98] * 1e6:7.0f} us"
        f"   max {max(seconds) * 1e6:7.0f} us"
    )


async def filled(url: str, value: bytes, **knobs: float) -> RedisShared:
    """A shared level with KEYS values."""
    shared = RedisShared(RedisKnobs(url=url), CacheKnobs(**knobs), secret="token", origin="bench")  # type: ignore[arg-type]  # numbers alone
    shared.start()
    while shared.is_open:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.01)
    await shared.get("rows", "0", (), within=1)
    moment = await shared.moment()
    assert moment is not None
    for number in range(KEYS):
        kept = Kept(form=1, position=1, built=1.0, tags=TAGS, moment=moment, value=value)
        shared.put("rows", f"{number}", kept, seconds=HOUR, entries=10 * KEYS)
    while await shared.get("rows", f"{KEYS - 1}", TAGS, within=1) is None:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.01)
    return shared


class Bare:
    """GET and nothing else, all of a turn in one piece."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._waiting: list[Question] = []

    async def get(self, number: int) -> object:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[object] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._send)
        self._waiting.append(((b"GET", b"bare:%d" % number), answer.set_result))
        return await answer

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._link.send(waiting)


async def hits(server: RedisServer) -> None:
    for size in (300, 1_800):
        value = os.urandom(size)
        shared = await filled(server.url, value, redis_hard_ms=5_000)
        address = Address(server.url, patience=5, use="cache")
        link = await address.connect(Link, "bare")
        client = Redis.from_url(server.url)
        for number in range(KEYS):
            await client.set(f"bare:{number}", value)

        async def by_library(number: int, client: Redis = client) -> object:
            async with client.pipeline(transaction=False) as pipeline:
                pipeline.execute_command("GET", f"bare:{number}")
                return (await pipeline.execute())[0]

        async def ours(number: int, shared: RedisShared = shared) -> object:
            return await shared.get("rows", f"{number}", TAGS, within=5)

        gets: dict[str, Get] = {
            "shared level": ours,
            "bare GET": Bare(link).get,
            "GET by redis-py": by_library,
        }
        for at_once in (1, 16):
            took: dict[str, list[float]] = {name: [] for name in gets}

            async def timed(get: Get, number: int, into: list[float]) -> None:
                began = time.perf_counter()
                assert await get(number) is not None
                into.append(time.perf_counter() - began)

            for turn in range(ROUNDS * 16 // at_once):
                for name, get in gets.items():
                    numbers = [(turn * 7 + one * 31) % KEYS for one in range(at_once)]
                    await asyncio.gather(*(timed(get, one, took[name]) for one in numbers))
            for name, all_took in took.items():
                print(f"{size:5} bytes, {at_once:2} at once   {name:16} {figures(all_took)}")
        await link.finish(1)
        await client.aclose()
        await shared.close()


async def faults(server: RedisServer) -> None:
    async with FaultyProxy(server.port) as proxy:
        shared = await filled(f"redis://127.0.0.1:{proxy.port}", os.urandom(300))
        phases: list[tuple[str, Callable[[], object]]] = [
            ("as it should be", lambda: None),
            ("answers take 200 ms more", lambda: setattr(proxy, "latency", 0.1)),
            ("quick again", lambda: setattr(proxy, "latency", 0.0)),
            ("paused (SIGSTOP)", server.pause),
            ("resumed", server.resume),
            ("killed", server.kill),
            ("started again, empty", server.start),
        ]
        for name, change in phases:
            await asyncio.to_thread(change)
            took: list[float] = []
            found = [0]

            async def read(first: int, took: list[float], found: list[int]) -> None:
                until = time.perf_counter() + PHASE_SECONDS
                while (began := time.perf_counter()) < until:
                    key = f"{first % KEYS}"
                    first += READERS
                    kept = await shared.get("rows", key, TAGS, within=0.05)
                    took.append(time.perf_counter() - began)
                    found[0] += kept is not None
                    if kept is None and (moment := await shared.moment()) is not None:
                        made = Kept(
                            form=1, position=1, built=1.0, tags=TAGS, moment=moment, value=b"v"
                        )
                        shared.put("rows", key, made, seconds=HOUR, entries=10 * KEYS)
                    await asyncio.sleep(1 / ASKS_A_SECOND)

            await asyncio.gather(*(read(one, took, found) for one in range(READERS)))
            waits = sum(one > 0.001 for one in took)
            print(
                f"{name:26} {figures(took)}   hits {found[0] / len(took):5.1%}"
                f"   over 1 ms {waits:4}   {shared.condition().state}"
            )
        await shared.close()


def payloads() -> Iterator[tuple[str, bytes]]:
    """Rooms of 10 to 1000 pieces, walls and lines of chat, and lists of 25 and 200 rows, in both serializations."""
    words = re.findall(r"\w+", WORDS)
    for count in (10, 100, 1_000):
        story = Story()
        for number in range(count):
            x, y = number % 117 / 4, number * 7 % 79 / 4
            name = f"{words[number % 15].title()} {number}"
            story.send("gm", "token.add", name=name, x=x, y=y, image=os.urandom(8).hex())
            story.send("gm", "wall.set", points=[{"x": x, "y": y}, {"x": y, "y": x / 2}])
            text = " ".join(words[(number * step) % 15] for step in range(2, 14))
            story.send("ann", "chat.say", text=text)
        room = RoomSnapshot(
            epoch="e", server="s", offset=1, saved=1, version=1, data=encode_room(story.table.room)
        )
        yield f"room {count}, json", msgspec.json.encode(room)
        yield f"room {count}, msgpack", msgspec.msgpack.encode(room)
    for count in (25, 200):
        rows = Rows(
            tuple(
                (
                    os.urandom(16).hex(),
                    " ".join(words[number % 12 :][:3]),
                    number % 6,
                    "public",
                    None,
                )
                for number in range(count)
            )
        )
        yield f"list {count}, json", msgspec.json.encode(rows)
        yield f"list {count}, msgpack", msgspec.msgpack.encode(rows)


def best(call: Callable[[], object]) -> float:
    """Microseconds of the quickest of some calls."""
    took = []
    for _ in range(9):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return min(took) * 1e6


def compression() -> None:
    for name, payload in payloads():
        print(f"{name:20} {len(payload):8} bytes")
        for level in (1, 3, 6):
            packed = zlib.compress(payload, level)
            there = best(lambda level=level, payload=payload: zlib.compress(payload, level))  # type: ignore[misc]  # bound now
            back = best(lambda packed=packed: zlib.decompress(packed))  # type: ignore[misc]  # bound now
            share = len(packed) / len(payload)
            print(f"    zlib {level}   to {share:5.1%}   {there:7.0f} us, back {back:6.0f} us")
        for level in (1, 3):
            packing, unpacking = zstandard.ZstdCompressor(level), zstandard.ZstdDecompressor()
            packed = packing.compress(payload)
            there = best(lambda packing=packing, payload=payload: packing.compress(payload))  # type: ignore[misc]  # bound now
            back = best(lambda unpacking=unpacking, packed=packed: unpacking.decompress(packed))  # type: ignore[misc]  # bound now
            share = len(packed) / len(payload)
            print(f"    zstd {level}   to {share:5.1%}   {there:7.0f} us, back {back:6.0f} us")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="?", choices=("hits", "faults", "compression"))
    part = parser.parse_args().part
    if part in (None, "compression"):
        compression()
    with scratch() as folder:
        for name, run in (("hits", hits), ("faults", faults)):
            if part in (None, name):
                server = RedisServer(Path(folder) / name)
                server.start()
                try:
                    uvloop.run(run(server))
                finally:
                    server.kill()


if __name__ == "__main__":
    main()
