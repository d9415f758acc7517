"""A room whose history is taken away at random moments against a twin that keeps all of it (rule HI4 of `docs/spec.md`).

Members write through two instances, rooms leave memory and are opened again, and readers ask for history and from where
they were cut off, while the beginning moves and what lies before it goes, now and then broken off half way.
"""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from tableforge.domain.state import Room
from tableforge.protocol import codec
from tableforge.rooms import loading, pruning
from tableforge.rooms.views import Viewed, fold
from tests.cached_world import Fleet, Instance, fleet_of
from tests.long_rooms import GM, clocked, moment, opened, prune, say, whole

DEADLINE = 60.0
EXAMPLES = {"sqlite": 12, "postgres": 8}
"""Of the quick run."""

whos = st.integers(0, 1)
keeps = st.sampled_from([1, 1, 2, 4, 8, 25])
ages = st.sampled_from([0, 0, 0, 1, 3])
lines = st.integers(3, 25)
breaks = st.sampled_from([10_000, 10_000, 10_000, 1, 2, 3, 5, 8, 13])


class PruningMachine(RuleBasedStateMachine):
    """Each example has a room of its own in a fleet that all share."""

    fleet: Fleet
    runner: asyncio.Runner

    @initialize()
    def begin(self) -> None:
        self.instances = [self.fleet.instances[0], self.fleet.instances[-1]]
        self.clocks = [clocked(one) for one in self.fleet.instances]
        self.states: list[Room] = []
        self.seen: list[Viewed] = []
        self.hour = 1

        async def open_room() -> str:
            room = await opened(self.instances[0])
            await say(self.instances[0], room, 30)
            return room

        self.room = self.runner.run(open_room())
        self.states = [Room(self.room)]
        self.runner.run(self.remember())

    async def remember(self) -> None:
        """The twin takes what was written."""
        rows = await self.instances[0].log.read(self.room, after=len(self.seen), limit=1_000)
        for state, viewed in fold(self.states[-1], rows):
            self.states.append(state)
            self.seen.append(viewed)

    async def pruned(self, kept: int, age: int, breaks: int) -> None:
        """Take away history, and break off after so many questions."""
        asked = iter([""] * breaks)
        done = await prune(
            self.instances[breaks % 2].log,
            kept=kept,
            before=moment(self.hour - age + 0.5),
            enough=lambda: next(asked, "enough"),
        )
        assert done.troubles == []

    async def read(self, instance: Instance, after: int) -> None:
        """What is kept behind an offset, as it was seen when it happened."""
        page = await instance.rooms.events(self.room, GM, after, 1_000)
        first = page.events[0][0] if page.events else len(self.seen) + 1
        assert page.events == [
            (viewed.offset, viewed.data_for(GM)) for viewed in self.seen[first - 1 :]
        ]
        if first > after + 1:
            await self.begins_behind(instance, first - 1)

    async def begins_behind(self, instance: Instance, at_least: int) -> None:
        head = await instance.log.head(self.room)
        assert head is not None
        assert head.begins >= at_least

    async def compare(self, instance: Instance) -> None:
        """The room is the twin's, its log is the twin's from the beginning on, and the snapshot there says what is gone."""
        live = await instance.rooms.open(self.room)
        assert live.durable == self.states[-1]
        rows = await whole(instance.log, self.room)
        head = await instance.log.head(self.room)
        assert head is not None
        assert head.offset == len(self.seen)
        assert rows[0].offset <= head.begins + 1
        assert [row.offset for row in rows] == list(range(rows[0].offset, head.offset + 1))
        if head.begins:
            kept = await instance.log.snapshot_at(self.room, head.begins)
            assert kept is not None
            assert kept.offset == head.begins
            assert codec.decode_room(kept.version, kept.data) == self.states[head.begins]

    def run(self, *work: object) -> None:
        async def together() -> None:
            async with asyncio.timeout(DEADLINE):
                await asyncio.gather(*work)  # type: ignore[call-overload]  # coroutines

        self.runner.run(together())

    @rule(who=whos, lines=lines)
    def write(self, who: int, lines: int) -> None:
        self.hour += 1
        for clock in self.clocks:
            clock.hours = self.hour
        self.run(say(self.instances[who], self.room, lines))
        self.run(self.remember())

    @rule(who=whos)
    def leave_memory(self, who: int) -> None:
        self.run(self.left(self.instances[who]))

    async def left(self, instance: Instance) -> None:
        instance.engine.sweep()
        await instance.settled()

    @rule(who=whos)
    def lose_the_cache(self, who: int) -> None:
        async def lose() -> None:
            self.instances[who].cache.clear()
            await self.instances[who].settled()

        self.run(self.left(self.instances[who]))
        self.run(lose())

    @rule(kept=keeps, age=ages, breaks=breaks)
    def prune(self, kept: int, age: int, breaks: int) -> None:
        self.run(self.pruned(kept, age, breaks))

    @rule(kept=keeps, age=ages, breaks=breaks, after=st.integers(0, 80))
    def prune_while_others_read(self, kept: int, age: int, breaks: int, after: int) -> None:
        self.leave_memory(0)
        self.lose_the_cache(1)
        self.run(
            self.pruned(kept, age, breaks),
            self.pruned(2 * kept, age, breaks),
            *(self.read(instance, min(after, len(self.seen))) for instance in self.instances),
        )

    @rule(breaks=breaks, lines=lines, who=whos)
    def prune_while_somebody_writes(self, breaks: int, lines: int, who: int) -> None:
        """The twin has to hear of what is written, so that it stays."""
        self.run(self.pruned(lines + 1, 0, breaks), say(self.instances[who], self.room, lines))
        self.run(self.remember())

    @rule(who=whos, after=st.integers(0, 100))
    def read_history(self, who: int, after: int) -> None:
        self.run(self.read(self.instances[who], min(after, len(self.seen))))

    @rule(who=whos, missed=st.integers(0, 60))
    def come_back(self, who: int, missed: int) -> None:
        """What somebody missed is told without a gap, or not at all."""

        async def recover() -> None:
            instance = self.instances[who]
            live = await instance.rooms.open(self.room)
            after = max(0, len(self.seen) - missed)
            found = await instance.rooms.views(live, after, len(self.seen))
            if found and found[0].offset == after + 1:
                assert found == self.seen[after:]
            elif after < len(self.seen):
                await self.begins_behind(instance, after + 1)

        self.run(recover())

    def teardown(self) -> None:
        if hasattr(self, "room"):
            for instance in self.instances:
                self.run(self.compare(instance))
                self.run(self.left(instance))
                instance.cache.clear()
                self.run(self.compare(instance))


def agree(engine: str, folder: Path, url: str | None, *, soak: bool) -> None:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def start() -> Fleet:
            return await stack.enter_async_context(fleet_of(folder, url, 1 if url is None else 2))

        parts = {"fleet": runner.run(start()), "runner": runner}
        machine = type("Machine", (PruningMachine,), parts)
        examples = settings().max_examples if soak else EXAMPLES[engine]
        try:
            run_state_machine_as_test(
                machine, settings=settings(max_examples=examples, stateful_step_count=25)
            )
        finally:
            runner.run(stack.aclose())


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few events at once, so that much happens between two pages."""
    monkeypatch.setattr(loading, "PAGE", 4)
    monkeypatch.setattr(pruning, "PORTION", 7)


def test_hi4_a_room_on_sqlite_is_what_its_whole_twin_is(tmp_path: Path, soak: bool) -> None:
    agree("sqlite", tmp_path, None, soak=soak)


def test_hi4_a_room_on_postgres_is_what_its_whole_twin_is(
    tmp_path: Path, database_url: str, soak: bool
) -> None:
    agree("postgres", tmp_path, database_url, soak=soak)
