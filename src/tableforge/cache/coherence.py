"""What keeps a cache true: loads that a change overtakes, and changes on their way to the shared level and to the others.

A change is made up for until the shared level knows of it, the newest for each key or tag and bounded; with more of them,
whole regions are forgotten instead. The others hear of it at once, with whether the shared level knows; those who reach it
when we do not tell it for us. What the bus loses is not sent again: whoever may have missed something flushes.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Generic

import structlog

from tableforge.cache import Shared, V

PENDING_AT_MOST: Final = 10_000
"""Changes that wait for the shared level; with more, all that may be stale there is forgotten."""
GATHERED_SECONDS: Final = 0.02
"""For how long touched tags are gathered before they go out."""
PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 2.0
"""Between attempts to reach the shared level: doubled from the first to the second."""
TOLD_AT_ONCE: Final = 1_000
"""Changes of each kind in one message."""
OVERTAKEN_AT_MOST: Final = 10_000
"""Tags remembered while loads are under way; with more, all of those loads count as overtaken."""

log = structlog.get_logger(__name__)

Key = tuple[str, str]
"""Region and key."""
Tell = Callable[[bool, Sequence[Key], Sequence[str], Sequence[str]], None]
"""Tells the others, without waiting: whether the shared level knows, and which keys, tags and regions are dropped."""


class Landed(Generic[V]):
    """What a load found. `began` is the moment it began at, `overtaken` whether a change came meanwhile.

    `read` is whether it was read where it truly is, rather than in the shared level.
    """

    __slots__ = ("began", "overtaken", "position", "read", "value")

    def __init__(
        self, value: V | None, position: int, began: int, *, overtaken: bool, read: bool
    ) -> None:
        self.value = value
        self.position = position
        self.began = began
        self.overtaken = overtaken
        self.read = read

    def serves(self, joined: int, floor: int) -> bool:
        """Whether somebody who asked at the moment `joined` for this floor may have it.

        What was read after they asked is as true as can be, whatever its position says; what they joined later must have
        their floor, and nothing may have been dropped between its beginning and their question.
        """
        if joined <= self.began and self.read:
            return True
        return self.position >= floor and not (self.overtaken and joined > self.began)


class Flight(Generic[V]):
    """A load under way, and all who wait for it.

    `floor` is that of who asked first, `patience` the time until which it waits for the shared level.
    """

    __slots__ = ("began", "dropped_at", "floor", "future", "key", "patience")

    def __init__(self, key: Key, floor: int) -> None:
        self.key = key
        self.floor = floor
        self.began = 0
        self.dropped_at = 0
        self.patience = 0.0
        self.future: asyncio.Future[Landed[V]] = asyncio.get_running_loop().create_future()
        self.future.add_done_callback(_looked_at)


def _looked_at(future: "asyncio.Future[Any]") -> None:
    """A load may fail while nobody waits for it any more."""
    if not future.cancelled():
        future.exception()


class Loads:
    """The loads under way, one a key, and the moments at which tags were dropped since the first of them began.

    A moment passes with each drop, and with each question for a load.
    """

    def __init__(self) -> None:
        self._moment = 0
        self._flights: dict[Key, Flight[Any]] = {}
        self._writing: set[Flight[Any]] = set()
        self._tags: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._flights) + len(self._writing)

    def now(self) -> int:
        """A moment of its own, to ask `Landed.serves` with."""
        self._moment += 1
        return self._moment

    def of(self, key: Key) -> Flight[Any] | None:
        """The load of this key, if one is under way."""
        return self._flights.get(key)

    def begin(self, flight: Flight[Any]) -> None:
        """A load is under way, which others may join."""
        self._flights[flight.key] = flight
        self.attempt(flight)

    def write(self, flight: Flight[Any]) -> None:
        """A value is on its way to the shared level."""
        self._writing.add(flight)
        self.attempt(flight)

    def attempt(self, flight: Flight[Any]) -> None:
        """It reads from here on: what was dropped before is known to it."""
        flight.began = self.now()

    def end(self, flight: Flight[Any]) -> None:
        """It is over."""
        self._writing.discard(flight)
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]
        if not self:
            self._tags.clear()

    def drop(self, key: Key) -> None:
        """A key is dropped."""
        if self:
            self._mark(lambda flight: flight.key == key)

    def drop_tags(self, tags: Iterable[str]) -> None:
        """Tags are dropped."""
        if not self:
            return
        self._tags.update(dict.fromkeys(tags, self.now()))
        if len(self._tags) > OVERTAKEN_AT_MOST:
            self._forget_tags()

    def _forget_tags(self) -> None:
        """Those that no load under way can have missed; if too many are left, all loads count as overtaken."""
        oldest = min(flight.began for flight in (*self._flights.values(), *self._writing))
        self._tags = {tag: moment for tag, moment in self._tags.items() if moment > oldest}
        if len(self._tags) > OVERTAKEN_AT_MOST // 2:
            self._mark(lambda _: True)
            self._tags.clear()

    def clear(self, region: str | None) -> None:
        """A region is dropped, or all."""
        if self:
            self._mark(lambda flight: region in (None, flight.key[0]))

    def _mark(self, hit: Callable[[Flight[Any]], bool]) -> None:
        moment = self.now()
        for flight in (*self._flights.values(), *self._writing):
            if hit(flight):
                flight.dropped_at = moment

    def overtaken(self, flight: Flight[Any], tags: Iterable[str]) -> bool:
        """Whether this load may have read what is no longer so."""
        dropped, began = self._tags, flight.began
        return flight.dropped_at > began or any(dropped.get(tag, 0) > began for tag in tags)


class Changes:
    """Keys, tags and regions to be forgotten; each with whether it is our own, which the others are to hear of."""

    __slots__ = ("keys", "regions", "tags")

    def __init__(self) -> None:
        self.keys: dict[Key, bool] = {}
        self.tags: dict[str, bool] = {}
        self.regions: dict[str, bool] = {}

    def __len__(self) -> int:
        return len(self.keys) + len(self.tags) + len(self.regions)

    def take(self, other: "Changes") -> None:
        """Add another's."""
        self.keys.update(other.keys)
        self.tags.update(other.tags)
        self.regions.update(other.regions)

    def touch(self, key: Key, tags: Iterable[str]) -> bool:
        """Whether a value of this key with these tags is among what is to be forgotten."""
        if not self:
            return False
        return key in self.keys or key[0] in self.regions or any(tag in self.tags for tag in tags)


class Tidings:
    """Changes on their way out. Without a shared level and others there is nobody to tell, and nothing is kept.

    `forgettable` are the regions that are forgotten as a whole when too many changes wait.
    """

    def __init__(
        self, shared: Shared | None, tell: Tell | None, *, forgettable: Sequence[str]
    ) -> None:
        self._shared = shared
        self._tell = tell
        self._forgettable = forgettable
        self._touched: set[str] = set()
        self._fresh = Changes()
        self._sending = Changes()
        self._late = Changes()
        """What the shared level could not be told; the others know."""
        self._wanted = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self.overflows = 0

    @property
    def waiting(self) -> int:
        """How many changes the shared level does not know of yet."""
        return len(self._fresh) + len(self._sending) + len(self._late) + len(self._touched)

    def start(self) -> None:
        """Begin to send."""
        if self._task is None and (self._shared is not None or self._tell is not None):
            self._task = asyncio.get_running_loop().create_task(self._send())

    async def close(self, *, within: float) -> None:
        """Send what waits, for at most so many seconds, and end."""
        if self._task is None:
            return
        if self._touched:
            self._gathered()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._idle.wait()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None

    async def settled(self) -> None:
        """Return once nothing waits any more; the caller bounds the wait."""
        while self._task is not None and self.waiting:
            if self._touched:
                self._gathered()
            await self._idle.wait()

    def drop(self, keys: Iterable[Key], tags: Iterable[str], regions: Iterable[str] = ()) -> None:
        """These are to be forgotten everywhere."""
        if self._task is not None:
            self._add(keys, tags, regions, ours=True)

    def touch(self, tag: str) -> None:
        """A tag is to be forgotten everywhere, within a short while."""
        if self._task is None or tag in self._touched:
            return
        if not self._touched:
            asyncio.get_running_loop().call_later(GATHERED_SECONDS, self._gathered)
        self._touched.add(tag)

    def _gathered(self) -> None:
        touched, self._touched = self._touched, set()
        self.drop((), touched)

    def pass_on(self, keys: Iterable[Key], tags: Iterable[str], regions: Iterable[str]) -> None:
        """Tell the shared level, and nobody else: of another instance's change, or of what may have changed unheard."""
        if self._task is not None and self._shared is not None:
            self._add(keys, tags, regions, ours=False)

    def _add(
        self, keys: Iterable[Key], tags: Iterable[str], regions: Iterable[str], *, ours: bool
    ) -> None:
        fresh = self._fresh
        for key in keys:
            fresh.keys[key] = ours or fresh.keys.get(key, False)
        for tag in tags:
            fresh.tags[tag] = ours or fresh.tags.get(tag, False)
        for region in regions:
            fresh.regions[region] = ours or fresh.regions.get(region, False)
        if fresh:
            self._idle.clear()
            self._wanted.set()

    def doubts(self, key: Key, tags: Iterable[str]) -> bool:
        """Whether the shared level may still have what was dropped here."""
        return (
            self._fresh.touch(key, tags)
            or self._sending.touch(key, tags)
            or self._late.touch(key, tags)
            or (bool(self._touched) and any(tag in self._touched for tag in tags))
        )

    async def _send(self) -> None:
        pause = PAUSE_SECONDS
        again_at = 0.0
        clock = asyncio.get_running_loop().time
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(again_at if self._late else None):
                    await self._wanted.wait()
            self._wanted.clear()
            fresh, self._fresh = self._fresh, Changes()
            if self._late and clock() < again_at:  # it is away: the others at least are told
                self._tell_others(fresh, told=False)
                self._keep(fresh)
                continue
            sending, self._late = self._late, Changes()
            sending.take(fresh)
            self._sending = sending
            told = await self._tell_shared(sending)
            self._sending = Changes()
            if told:
                self._tell_others(sending, told=True)
                pause = PAUSE_SECONDS
            else:
                self._tell_others(fresh, told=False)
                self._keep(sending)
                again_at = clock() + pause
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            if not self.waiting:
                self._idle.set()

    def _keep(self, changes: Changes) -> None:
        late = self._late
        late.take(changes)
        if len(late) > PENDING_AT_MOST:
            self.overflows += 1
            self._late = Changes()
            self._late.regions = {**late.regions, **dict.fromkeys(self._forgettable, True)}

    async def _tell_shared(self, changes: Changes) -> bool:
        shared = self._shared
        if shared is None:
            return True
        by_region: dict[str, list[str]] = {}
        for region, key in changes.keys:
            by_region.setdefault(region, []).append(key)
        questions = [shared.drop(region, keys) for region, keys in by_region.items()]
        if changes.tags:
            questions.append(shared.drop_tags(list(changes.tags)))
        others = [region for region, ours in changes.regions.items() if not ours]
        if others:
            questions.append(shared.outdate(others))
        questions.extend(
            self._cleared(shared, region) for region, ours in changes.regions.items() if ours
        )
        answers = await asyncio.gather(*questions, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):  # a mistake in it must not end the telling
                log.error("the shared level was not told", exc_info=answer)
        return all(answer is True for answer in answers)

    async def _cleared(self, shared: Shared, region: str) -> bool:
        return await shared.clear(region) is not None

    def _tell_others(self, changes: Changes, *, told: bool) -> None:
        if self._tell is None:
            return
        keys = [key for key, ours in changes.keys.items() if ours]
        tags = [tag for tag, ours in changes.tags.items() if ours]
        regions = [region for region, ours in changes.regions.items() if ours]
        for start in range(0, max(len(keys), len(tags), len(regions)), TOLD_AT_ONCE):
            part = slice(start, start + TOLD_AT_ONCE)
            self._tell(told, keys[part], tags[part], regions[part])
