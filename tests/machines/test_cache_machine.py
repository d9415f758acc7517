"""Two caches over one shared level and a bus that delays, reorders and loses: nobody is served what they know to be over.

The twin of the truth is one number a key, which only grows. It knows for each instance which number it must see at least:
its own changes at once (CA2), another's once the message came, or the bus was back after a break (CA8), and whatever floor
it names (CA3). In a break that was noticed, nobody lags for longer than the region says (CA8).
"""

import asyncio
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec import Struct

from tableforge.cache import Built, Policy
from tableforge.cache.two_level import STARTING_SECONDS, TwoLevelCache
from tableforge.config import CacheKnobs
from tests.memory_shared import MemoryServer, MemoryShared
from tests.virtual_time import VirtualLoop

KEYS = ("k1", "k2")
WAYS = ("key", "tag", "read tag", "touch", "region")
INSTANCES = st.sampled_from((0, 1))
UNCARRIED = 2.0
SLOWEST = 0.3
LAG_AT_MOST = UNCARRIED + 2 * SLOWEST + 0.5
"""In a noticed break: what its region says, the load that was under way, and the time it takes to look at the bus."""
WALL = 1_000_000.0


class Number(Struct, frozen=True):
    """A value."""

    number: int


PLAIN = Policy(
    region="plain",
    kind=Number,
    form=1,
    fresh=20.0,
    stale=5.0,
    on_error=10.0,
    missing=1.0,
    uncarried=UNCARRIED,
    local_entries=2,
    shared_entries=10,
)
GUARDED = Policy(
    region="guarded", kind=Number, form=1, fresh=20.0, stale=5.0, local_entries=2, shared_entries=10
)


class Message:
    """What one tells the other: the numbers that it tells of, and what the cache said."""

    def __init__(self, to: int, numbers: dict[str, int], said: tuple[Any, ...]) -> None:
        self.to = to
        self.numbers = numbers
        self.said = said


class CacheMachine(RuleBasedStateMachine):
    """See above. Marks that go with each change, `is:<key>:<number>`, tell which changes a message brings."""

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner(loop_factory=VirtualLoop)
        self.loop = self.runner.get_loop()
        self.server = MemoryServer(clock=self.loop.time)
        self.truth = dict.fromkeys(KEYS, 1)
        self.written: list[tuple[float, str, int]] = []
        self.must_see = [dict.fromkeys(KEYS, 1) for _ in range(2)]
        self.on_the_way: list[Message] = []
        self.cut = False
        self.noticed_at: float | None = None
        self.reading: list[asyncio.Task[None]] = []
        self.levels = [MemoryShared(self.server) for _ in range(2)]
        self.caches = [self._cache(me) for me in range(2)]

        async def start() -> None:
            for cache in self.caches:
                cache.start()
                cache.resumed()
            await asyncio.sleep(STARTING_SECONDS + 1)

        self.runner.run(start())

    def _cache(self, me: int) -> TwoLevelCache:
        return TwoLevelCache(
            [PLAIN, GUARDED],
            CacheKnobs(),
            shared=self.levels[me],
            tell=lambda *said: self._tell(1 - me, said),
            carries=lambda: self.noticed_at is None,
            clock=self.loop.time,
            wall=lambda: WALL + self.loop.time(),
            chance=lambda: 0.5,
        )

    def _tell(self, to: int, said: tuple[Any, ...]) -> None:
        marks = [tag.split(":") for tag in said[2] if tag.startswith("is:")]
        numbers: dict[str, int] = {}
        for _, key, number in marks:
            numbers[key] = max(numbers.get(key, 0), int(number))
        if not self.cut:
            self.on_the_way.append(Message(to, numbers, said))

    def _must_see(self, me: int, key: str) -> int:
        """The lowest number that this instance may be served from now on."""
        lowest = self.must_see[me][key]
        now = self.loop.time()
        if self.noticed_at is not None and now - self.noticed_at > LAG_AT_MOST:
            for at, which, number in self.written:
                if which == key and now - at > LAG_AT_MOST:
                    lowest = max(lowest, number)
        return lowest

    def _pass(self, seconds: float) -> None:
        self.runner.run(asyncio.sleep(seconds))

    @rule(me=INSTANCES, key=st.sampled_from(KEYS), way=st.sampled_from(WAYS))
    def change(self, me: int, key: str, way: str) -> None:
        """Make a change, durable at once, and drop what was made of it."""

        async def write() -> None:
            self.truth[key] += 1
            number = self.truth[key]
            self.written.append((self.loop.time(), key, number))
            cache, mark = self.caches[me], f"is:{key}:{number}"
            if way == "touch":
                cache.touch_tag(f"of:{key}")
                cache.touch_tag(mark)
            else:
                cache.drop_tag(mark)
            if way == "key":
                cache.drop(PLAIN, key)
            elif way == "region":
                cache.clear("plain")
            elif way != "touch":
                cache.drop_tag(f"of:{key}" if way == "tag" else f"read:{key}")
            self.must_see[me][key] = number

        self.runner.run(write())

    @rule()
    def everybody_reads_everything(self) -> None:
        """So that there is something to be wrong."""
        for me in range(2):
            for key in KEYS:
                self.read(me, key, 0.0, wait=True)

    @rule(
        reader=INSTANCES,
        writer=INSTANCES,
        key=st.sampled_from(KEYS),
        way=st.sampled_from(WAYS),
        moment=st.sampled_from((0.0, 0.03, 0.2)),
    )
    def a_change_overtakes_a_read(
        self, reader: int, writer: int, key: str, way: str, moment: float
    ) -> None:
        """A slow read, a change in its midst, its message, and another read."""
        self._forget(reader, key)
        self.read(reader, key, SLOWEST, wait=False)
        self._pass(moment)
        self.change(writer, key, way)
        self._pass(0.06)
        for message in [one for one in self.on_the_way if one.to == reader]:
            self._arrive(message)
        self.read(reader, key, 0.0, wait=True)
        self._pass(SLOWEST)
        self.read(reader, key, 0.0, wait=True)

    def _forget(self, me: int, key: str) -> None:
        async def forget() -> None:
            self.caches[me].forget(PLAIN, key)
            self.server.values.pop(("plain", key), None)

        self.runner.run(forget())

    @rule(writer=INSTANCES, key=st.sampled_from(KEYS), way=st.sampled_from(WAYS))
    def both_read_around_a_change(self, writer: int, key: str, way: str) -> None:
        """Both have a value; one changes it and both read again, before and after the message."""
        for me in (0, 1):
            self.read(me, key, 0.0, wait=True)
        self.change(writer, key, way)
        for _ in range(2):
            for me in (writer, 1 - writer):
                self.read(me, key, 0.0, wait=True)
            self._pass(0.06)
            for message in list(self.on_the_way):
                self._arrive(message)

    @rule(
        me=INSTANCES,
        key=st.sampled_from(KEYS),
        seconds=st.sampled_from((0.0, SLOWEST)),
        wait=st.booleans(),
    )
    def read(self, me: int, key: str, seconds: float, wait: bool) -> None:
        """Ask for a value, with a loader that reads at its beginning and answers when it can."""

        async def load() -> Built[Number] | None:
            number = self.truth[key]
            await asyncio.sleep(seconds)
            return Built(Number(number), 0, (f"read:{key}",))

        async def ask() -> None:
            lowest = self._must_see(me, key)
            found = await self.caches[me].get(PLAIN, key, load, tags=[f"of:{key}"])
            assert found is not None
            assert found.number >= lowest, f"{found.number} where {lowest} is known"

        self._ask(ask(), wait=wait)

    @rule(
        me=INSTANCES,
        key=st.sampled_from(KEYS),
        seconds=st.sampled_from((0.0, SLOWEST)),
        wait=st.booleans(),
        behind=st.integers(0, 2),
    )
    def read_guarded(
        self,
        me: int,
        key: str,
        seconds: float,
        wait: bool,
        behind: int,
    ) -> None:
        """Ask for a value that is at least so new; nobody ever drops these."""
        floor = max(1, self.truth[key] - behind)

        async def load() -> Built[Number] | None:
            number = self.truth[key]
            await asyncio.sleep(seconds)
            return Built(Number(number), number)

        async def ask() -> None:
            found = await self.caches[me].get(GUARDED, key, load, floor=floor)
            assert found is not None
            assert found.number >= floor, f"{found.number} below the floor {floor}"

        self._ask(ask(), wait=wait)

    def _ask(self, question: Any, *, wait: bool) -> None:
        async def begin() -> None:
            task = asyncio.get_running_loop().create_task(question)
            self.reading.append(task)
            if wait:
                await asyncio.wait({task})
            else:
                await asyncio.sleep(0)

        self.runner.run(begin())

    @invariant()
    def nobody_read_what_is_over(self) -> None:
        for task in [one for one in getattr(self, "reading", ()) if one.done()]:
            self.reading.remove(task)
            task.result()

    @precondition(lambda self: self.on_the_way)
    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        """One of the messages on the way arrives, in any order."""
        self._arrive(self.on_the_way[data.draw(st.integers(0, len(self.on_the_way) - 1))])

    def _arrive(self, message: Message) -> None:
        self.on_the_way.remove(message)

        async def arrive() -> None:
            self.caches[message.to].heard(*message.said)
            known = self.must_see[message.to]
            for key, number in message.numbers.items():
                known[key] = max(known[key], number)

        self.runner.run(arrive())

    @rule(seconds=st.sampled_from((0.0, 0.01, 0.1, 1.0, 4.0, 30.0)))
    def time_passes(self, seconds: float) -> None:
        self._pass(seconds)

    @precondition(lambda self: not self.cut)
    @rule()
    def the_bus_breaks(self) -> None:
        """What is on the way is lost, and what is sent from now on; nobody knows."""
        self.cut = True
        self.on_the_way.clear()

    @precondition(lambda self: self.cut and self.noticed_at is None)
    @rule()
    def the_break_is_noticed(self) -> None:
        self.noticed_at = self.loop.time()
        self._pass(0.2)

    @precondition(lambda self: self.cut)
    @rule()
    def the_bus_is_back(self) -> None:
        """Both are told that they may have missed something (BU3)."""
        self.cut, self.noticed_at = False, None

        async def resume() -> None:
            for cache in self.caches:
                cache.resumed()
            for known in self.must_see:
                known.update(self.truth)

        self.runner.run(resume())

    @rule(
        writer=INSTANCES,
        key=st.sampled_from(KEYS),
        way=st.sampled_from(WAYS),
        noticed=st.booleans(),
        apart=st.booleans(),
        seconds=st.sampled_from((0.3, 4.0)),
    )
    def a_change_during_a_break(
        self, writer: int, key: str, way: str, *, noticed: bool, apart: bool, seconds: float
    ) -> None:
        """The bus breaks, and with `apart` the writer's way to the shared level as well; it comes back after the bus."""
        self.everybody_reads_everything()
        if not self.cut:
            self.the_bus_breaks()
        if noticed and self.noticed_at is None:
            self.the_break_is_noticed()
        self.levels[writer].away = apart
        self.change(writer, key, way)
        self._pass(seconds)
        self.everybody_reads_everything()
        self._pass(seconds)
        self.everybody_reads_everything()
        self.the_bus_is_back()
        self.everybody_reads_everything()
        self.levels[writer].away = False
        self.everybody_reads_everything()
        self._pass(seconds)
        self.everybody_reads_everything()

    @rule(me=INSTANCES, how=st.sampled_from(("away", "silent", "holding")))
    def the_shared_level_changes(self, me: int, how: str) -> None:
        """It goes away, or comes back: for one of them."""
        level = self.levels[me]
        setattr(level, how, not getattr(level, how))
        if how == "holding" and not level.holding:
            self.runner.run(self._release(level))

    async def _release(self, level: MemoryShared) -> None:
        level.release()

    @rule(me=INSTANCES, key=st.sampled_from(KEYS))
    def one_dies_and_the_other_finds_that_out(self, me: int, key: str) -> None:
        """What it did last it told nobody of; another one takes its place."""
        self.everybody_reads_everything()

        async def die() -> None:
            await asyncio.gather(*self.reading)
            self.truth[key] += 1
            self.written.append((self.loop.time(), key, self.truth[key]))
            await self.caches[me].close(within=0)
            self.levels[me] = MemoryShared(self.server)
            self.caches[me] = self._cache(me)
            self.caches[me].start()
            for cache in self.caches:
                cache.doubt()
            self.must_see = [dict(self.truth) for _ in range(2)]

        self.runner.run(die())
        self.everybody_reads_everything()
        self._pass(STARTING_SECONDS + 1)

    @rule()
    def the_shared_level_loses_everything(self) -> None:
        self.server.flush()

    def teardown(self) -> None:
        if not hasattr(self, "runner"):
            return
        for level in self.levels:
            level.away = level.silent = False

        async def end() -> None:
            if self.reading:
                await asyncio.wait(self.reading)
            for cache in self.caches:
                await cache.close()
            assert asyncio.all_tasks() == {asyncio.current_task()}

        try:
            self.runner.run(end())
            self.nobody_read_what_is_over()
        finally:
            self.runner.close()


def test_ca2_ca3_ca8_ca13_nobody_is_served_what_they_know_to_be_over() -> None:
    run_state_machine_as_test(
        CacheMachine, settings=settings(max_examples=70, stateful_step_count=20, deadline=None)
    )
