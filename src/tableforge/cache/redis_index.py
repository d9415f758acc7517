"""Which values of a region leave first, so that about as many stay as were asked for.

Each region has a sorted set of its values' names, the first to leave in front:

- `lru`: by the time of the last write, or of the last read, of which one in eight is noted;
- `lfu`: by uses, of which one in eight is noted for eight, over the count of what is at the front: so that what was much used long
  ago gives way at last (LFU with dynamic ageing, Arlitt et al. 2000);
- `ttl`: by the end of their time.

A value that ended by itself, or that the server evicted, leaves its name behind until it is at the front. Trimming takes
batches, once a region is a sixteenth over its bound.
"""

from collections.abc import Callable, Sequence
from secrets import token_bytes
from time import time
from typing import Any, Final, Literal

import hiredis

from tableforge.cache.redis_link import LOST
from tableforge.cache.redis_server import Server, errors

PREFIX: Final = b"tableforge:cache:"
REGIONS: Final = PREFIX + b"regions"
NOTED: Final = 8
SLACK: Final = 16
TRIMMED_AT_ONCE: Final = 200
SAMPLE: Final = 32
"""Values whose sizes are asked for an estimate."""

TRIM: Final = b"""
local excess = redis.call('ZCARD', KEYS[1]) - tonumber(ARGV[1])
if excess <= 0 then return {0, 0} end
local names = redis.call('ZPOPMIN', KEYS[1], math.min(excess, tonumber(ARGV[2])))
local keys = {}
for at = 1, #names, 2 do keys[#keys + 1] = ARGV[3] .. names[at] end
return {#keys, redis.call('UNLINK', unpack(keys))}
"""
"""Takes out what is over the bound: how many names left, and how many values that were still there."""

Eviction = Literal["lru", "lfu", "ttl"]


class Index:
    """The values of all regions on a server, and their order of leaving. `lost` is told how many were not written, and why."""

    def __init__(self, server: Server, eviction: Eviction, *, lost: Callable[[str], None]) -> None:
        self._server = server
        self._eviction = eviction
        self._lost = lost
        self._announced: set[tuple[bytes, str]] = set()
        self._trimming: set[str] = set()
        self._front: dict[str, float] = {}
        self._chance = bytearray()
        """Drawn by the thousand: one by one costs more than the rest of a use."""
        self.trimmed: dict[str, int] = {}
        """Values taken out to make room, by region."""

    @staticmethod
    def key(region: str, name: str) -> bytes:
        """Where a value lies."""
        return b"%b%b:%b" % (PREFIX, region.encode(), name.encode())

    @staticmethod
    def _index(region: str) -> bytes:
        return b"%b%b:index" % (PREFIX, region.encode())

    def keep(self, region: str, name: str, sealed: bytes, *, seconds: float, entries: int) -> None:
        """Write a value, and take out what is too much."""
        server, index = self._server, self._index(region)

        def written(answer: object) -> None:
            if answer is LOST:
                self._lost("")
            elif isinstance(answer, hiredis.ReplyError):
                self._lost(str(answer))
                if str(answer).startswith("READONLY"):
                    server.refused(answer)

        def counted(answer: object) -> None:
            if isinstance(answer, int) and answer > entries + max(NOTED, entries // SLACK):
                self._trim(region, entries)
            elif isinstance(answer, hiredis.ReplyError) and str(answer).startswith("WRONGTYPE"):
                server.send((b"UNLINK", index), _nobody)

        def front(answer: Any) -> None:
            if isinstance(answer, list) and answer:
                self._front[region] = float(answer[0][1])

        milliseconds = max(1, int(seconds * 1000))
        server.send((b"SET", self.key(region, name), sealed, b"PX", b"%d" % milliseconds), written)
        if (server.run, region) not in self._announced:
            self._announced.add((server.run, region))
            server.send((b"SADD", REGIONS, region.encode()), _nobody)
        member = name.encode()
        now = time() * 1000
        if self._eviction == "lfu":
            score = b"%d" % (self._front.get(region, 0.0) + 1)
            server.send((b"ZRANGE", index, b"0", b"0", b"WITHSCORES"), front)
            server.send((b"ZADD", index, b"NX", score, member), _nobody)
        else:
            score = b"%d" % (now + milliseconds if self._eviction == "ttl" else now)
            server.send((b"ZADD", index, score, member), _nobody)
        server.send((b"ZCARD", index), counted)

    def use(self, region: str, name: str) -> None:
        """A value was read."""
        if not self._chance:
            self._chance += token_bytes(4_096)
        if self._eviction == "ttl" or self._chance.pop() >= 256 // NOTED:
            return
        change = (b"INCR", b"%d" % NOTED) if self._eviction == "lfu" else (b"%d" % (time() * 1000),)
        self._server.send((b"ZADD", self._index(region), b"XX", *change, name.encode()), _nobody)

    def remove(self, region: str, names: Sequence[str]) -> None:
        """Values that do not count any more need not lie there."""
        if names:
            keys = (self.key(region, name) for name in names)
            self._server.send((b"UNLINK", *keys), _nobody)
            members = (name.encode() for name in names)
            self._server.send((b"ZREM", self._index(region), *members), _nobody)

    def _trim(self, region: str, entries: int) -> None:
        """Take out a batch; the next one follows its answer."""
        if region in self._trimming:
            return
        self._trimming.add(region)

        def trimmed(answer: Any) -> None:
            self._trimming.discard(region)
            if isinstance(answer, list):
                names, values = answer
                self.went(region, values)
                if names == TRIMMED_AT_ONCE:
                    self._trim(region, entries)

        self._server.send(self._trim_command(region, entries), trimmed)

    def went(self, region: str, values: int) -> None:
        """So many were taken out to make room."""
        self.trimmed[region] = self.trimmed.get(region, 0) + values

    def _trim_command(self, region: str, entries: int) -> tuple[bytes, ...]:
        head = self.key(region, "")
        bounds = (b"%d" % entries, b"%d" % TRIMMED_AT_ONCE)
        return (b"EVAL", TRIM, b"1", self._index(region), *bounds, head)

    async def trim(self, region: str, entries: int) -> tuple[int, int] | None:
        """Take out a batch of what is over this bound: how many names left, and how many values; None while the server is away."""
        answers = await self._server.ask(self._trim_command(region, entries))
        if answers is None or errors(answers):
            return None
        names, values = answers[0]
        return int(names), int(values)

    async def regions(self) -> list[str]:
        """All that anybody of the fleet wrote to."""
        answers = await self._server.ask((b"SMEMBERS", REGIONS))
        if answers is None or errors(answers):
            return []
        return [one.decode("utf-8", "replace") for one in answers[0] if isinstance(one, bytes)]

    async def sizes(self, regions: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Entries and bytes of regions, estimated from a few values of each; none while the server is away."""
        questions = []
        for region in regions:
            index = self._index(region)
            questions += [(b"ZCARD", index), (b"ZRANDMEMBER", index, b"%d" % SAMPLE)]
        answers = await self._server.ask(*questions) if questions else None
        if answers is None or errors(answers):
            return {}
        names = dict(zip(regions, answers[1::2], strict=True))
        lengths = await self._server.ask(
            *(
                (b"STRLEN", self.key(region, name.decode("ascii", "replace")))
                for region, some in names.items()
                for name in some
            ),
            (b"PING",),
        )
        if lengths is None:
            return {}
        found = {}
        rest = iter(lengths)
        for region, card in zip(regions, answers[::2], strict=True):
            some = [next(rest) for _ in names[region]]
            there = [length for length in some if isinstance(length, int) and length]
            share = card / max(1, len(some))
            found[region] = (round(share * len(there)), round(share * sum(there)))
        return found


def _nobody(answer: object) -> None:
    """What nobody waits for."""
