"""What was dropped when, in one hash on the server: so that no slow loader anywhere brings back what was dropped meanwhile.

The guard is an epoch, a counter that each drop moves on, and for each drop of a key, region or tag the counter's number, in one
of a million places that names are spread over (two in one place cost a needless miss). A value carries the epoch and the
number at which it began to be read, and counts if nothing that it is made of was dropped later. Since the guard is one key,
it is there as a whole or not at all; whoever misses it, or finds it to be of another run of the server than the one that
answers (which may have forgotten the last drops), begins another epoch, in which nothing of before counts.
"""

import asyncio
import secrets
import sys
from collections.abc import Iterable, Sequence
from functools import lru_cache
from time import monotonic
from typing import Any, Final
from zlib import crc32

import hiredis

from tableforge.cache.redis_link import LOST, Question
from tableforge.cache.redis_server import Late, Server, errors

PLACES: Final = 1 << 20
"""Some 60 MB on the server once as many different names were dropped."""
MOMENT_SECONDS: Final = 0.05
"""How old the moment may be that a load begins at. An older one is as sound, but may make its value count for nothing."""
UNANSWERED_AT_MOST: Final = 20_000
"""Reads under way; with more, further ones count as missing at once."""
DROPPED_AT_ONCE: Final = 500
"""Names in one script: the server serves nobody else meanwhile."""
REMEMBERED: Final = 16_384
"""Names whose places are not computed again."""
NUMBER_DIGITS: Final = 15
RUN_BYTES: Final = 16
"""Of an epoch: what it begins with says which run of the server it is of."""

UNWRITABLE: Final = ("WRONGTYPE", "not an integer", "OOM")
"""Errors that say that the guard is none of ours, or that the server is full."""

MOVE_ON: Final = b"""
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local now = redis.call('HINCRBY', KEYS[1], 'now', 1)
for _, place in ipairs(ARGV) do redis.call('HSET', KEYS[1], place, now) end
return now
"""
"""Drops names. Without a guard nothing counts anyway."""

BEGIN: Final = b"""
local epoch = redis.pcall('HGET', KEYS[1], 'epoch')
if type(epoch) == 'string' and string.sub(epoch, 1, #ARGV[1]) == ARGV[1] then
  local now = redis.call('HGET', KEYS[1], 'now')
  if now and #now <= tonumber(ARGV[3]) and string.find(now, '^%d+$') then return {epoch, now} end
end
redis.call('UNLINK', KEYS[1])
redis.call('HSET', KEYS[1], 'epoch', ARGV[2], 'now', 1)
return {ARGV[2], '1'}
"""
"""The guard's epoch and number; another epoch if there is none of this run of the server."""


@lru_cache(maxsize=REMEMBERED)
def place(kind: str, name: str) -> bytes:
    """Where the guard says when this was dropped."""
    return b"%d" % (crc32(f"{kind}:{name}".encode()) % PLACES)


class Found:
    """What a question found: a sealed value, and when the places were dropped that were asked for, in `epoch`."""

    __slots__ = ("dropped", "epoch", "sealed")

    def __init__(self, sealed: object, epoch: bytes, dropped: dict[bytes, int]) -> None:
        self.sealed = sealed if isinstance(sealed, bytes) else None
        self.epoch = epoch
        self.dropped = dropped

    def counts(self, moment: bytes, places: Iterable[bytes]) -> bool:
        """Whether what began to be read at this moment was not dropped since."""
        if not self.epoch or moment[:-8] != self.epoch:
            return False
        number = int.from_bytes(moment[-8:], "big")
        dropped = self.dropped
        for place in places:  # noqa: SIM110 - a third of a hit's time here, as a generator
            if dropped[place] > number:
                return False
        return True


Answer = asyncio.Future[Found | None]


class Guard:
    """The guard under this key, and the values that are read with it; `server` is to be set before the first question."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._reads: list[tuple[bytes | None, Sequence[bytes], Answer]] = []
        self._unanswered = 0
        self._epoch = b""
        self._number = 0
        self._seen_at = 0.0
        self.server: Server

    # Reading

    def read(self, key: bytes | None, places: Sequence[bytes]) -> Answer:
        """The value of a key (None: no value) and when these places were dropped; None if no answer comes in time."""
        answer: Answer = asyncio.get_running_loop().create_future()
        if self.server.is_open or self._unanswered >= UNANSWERED_AT_MOST:
            answer.set_result(None)
            return answer
        if not self._reads:
            self.server.turn()
        self._reads.append((key, places, answer))
        self._unanswered += 1
        return answer

    def questions(self) -> tuple[list[Question], Late]:
        """The reads of this turn as one MGET and one HMGET.

        The values come before the guard: what is dropped in between then counts as dropped.
        """
        reads, self._reads = self._reads, []
        if not reads:
            return [], _nobody
        keys = [key for key, _, _ in reads if key is not None]
        asked: dict[bytes, None] = {}
        for _, some, _ in reads:
            asked.update(dict.fromkeys(some))
        places = list(asked)
        values: list[Any] = []

        def late() -> None:
            for _, _, answer in reads:
                self.server.give_up(answer)

        def take_values(answer: Any) -> None:
            if isinstance(answer, list) and len(answer) == len(keys):
                values.extend(answer)
            elif isinstance(answer, hiredis.ReplyError):
                self.server.refused(answer)

        def take_guard(answer: Any) -> None:
            self._unanswered -= len(reads)
            guard = self._understood(answer, places)
            if guard is None or len(values) != len(keys):
                late()
                return
            epoch, dropped = guard
            found = iter(values)
            for key, _, waiting in reads:
                value = next(found) if key is not None else None
                if not waiting.done():
                    waiting.set_result(Found(value, epoch, dropped))

        questions: list[Question] = [((b"MGET", *keys), take_values)] if keys else []
        questions.append(((b"HMGET", self._key, b"epoch", b"now", *places), take_guard))
        return questions, late

    def _understood(
        self, answer: Any, places: list[bytes]
    ) -> tuple[bytes, dict[bytes, int]] | None:
        """The epoch, empty if there is none that counts, and when places were dropped; None for what is no answer."""
        if isinstance(answer, hiredis.ReplyError):
            if str(answer).startswith("WRONGTYPE"):
                return b"", {}
            self.server.refused(answer)
        if answer is LOST or not isinstance(answer, list) or len(answer) != len(places) + 2:
            return None
        epoch, number, *numbers = answer
        if not self._noticed(epoch, number):
            self._epoch = b""
            return b"", {}
        return epoch, {
            place: 0 if number is None else _number(number)
            for place, number in zip(places, numbers, strict=True)
        }

    def _noticed(self, epoch: object, number: object) -> bool:
        """Remember the present moment, if this is one of the run of the server that answers."""
        run = self.server.run
        if not isinstance(epoch, bytes) or not run or not epoch.startswith(run):
            return False
        now = _number(number) if isinstance(number, bytes) else 0
        if not 0 < now < sys.maxsize:
            return False
        if epoch != self._epoch:
            self._epoch, self._number = epoch, 0
        self._number = max(self._number, now)
        self._seen_at = monotonic()
        return True

    async def moment(self) -> bytes | None:
        """The present epoch and number, as what is read from now on may carry it; None if they are not known."""
        run = self.server.run
        if not run:
            return None
        age = monotonic() - self._seen_at
        if age > MOMENT_SECONDS or not self._epoch.startswith(run):
            epoch = run + secrets.token_hex(8).encode()
            answers = await self.server.ask(
                (b"EVAL", BEGIN, b"1", self._key, run, epoch, b"%d" % NUMBER_DIGITS)
            )
            if answers is None or errors(answers) or not self._noticed(*answers[0]):
                return None
        return self._epoch + self._number.to_bytes(8, "big")

    # Dropping

    async def drop(self, places: Sequence[bytes]) -> bool:
        """Have nothing count that began to be read before now and is made of what these places stand for."""
        parts = [
            places[start : start + DROPPED_AT_ONCE]
            for start in range(0, len(places), DROPPED_AT_ONCE)
        ]
        answers = await self.server.ask(
            *((b"EVAL", MOVE_ON, b"1", self._key, *part) for part in parts)
        )
        if answers is None:
            return False
        if refused := errors(answers):
            if any(word in str(one) for one in refused for word in UNWRITABLE):
                # Without a guard nothing counts.
                return await self.forget()
            self.server.refused(refused[0])
            return False
        if not self._noticed(self._epoch, b"%d" % answers[-1]):
            self._epoch = b""
        return True

    async def forget(self) -> bool:
        """Have nothing count that was read before now."""
        self._epoch = b""
        answers = await self.server.ask((b"UNLINK", self._key))
        return answers is not None and not errors(answers)


def _number(written: bytes) -> int:
    """A place's number; for what is none the highest, so that nothing counts."""
    return int(written) if written.isdigit() and len(written) <= NUMBER_DIGITS else sys.maxsize


def _nobody() -> None:
    """Nobody waits for a turn without reads."""
