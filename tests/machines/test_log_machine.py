"""Event logs of two servers on one store against a naive twin: one order, no gap, no loss, whatever is sent at once.

A step submits a volley of appends from both servers without waiting, so that they share batches, collide, build on each
other and repeat keys. What the twin cannot foretell is who comes first; everything that follows from it is checked.
"""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

import hypothesis.strategies as st
from hypothesis import note, settings
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from tableforge.config import DatabaseKnobs
from tableforge.database.postgres import PostgresDatabase
from tableforge.errors import TableForgeError
from tableforge.eventlog import (
    Append,
    DuplicateCommand,
    EventLog,
    Facts,
    StoredEvent,
    StreamMissing,
    VersionConflict,
)
from tableforge.eventlog.memory import MemoryEventLog
from tableforge.eventlog.postgres import PostgresEventLog

DEADLINE = 30.0
NAMES = ("a", "b", "c")
EXAMPLES = {"memory": 30, "postgres": 12}
"""Of the quick run; each has up to fifty volleys."""

_numbers = itertools.count(1)
Opened = tuple[list[EventLog], Callable[[], "asyncio.Future[list[None]]"]]


class Plan(NamedTuple):
    """One append of a volley: `ahead` of the head that its server knows of, or a repetition of an earlier command."""

    server: int
    room: str
    length: int
    ahead: int
    repeats: bool
    opens: bool
    withdrawn: bool
    renames: bool


plans = st.builds(
    Plan,
    server=st.integers(0, 1),
    room=st.sampled_from(NAMES),
    length=st.sampled_from([1, 1, 1, 2, 5]),
    ahead=st.sampled_from([0, 0, 0, 0, 0, -1, 1]),
    repeats=st.sampled_from([False] * 6 + [True]),
    opens=st.sampled_from([False] * 8 + [True]),
    withdrawn=st.sampled_from([False] * 8 + [True]),
    renames=st.sampled_from([False] * 5 + [True]),
)


class Stream:
    """What the twin holds of one room: its events, and where each key ended."""

    def __init__(self) -> None:
        self.events: list[bytes] = []
        self.keys: dict[bytes, int] = {}
        self.name = ""


class LogMachine(RuleBasedStateMachine):
    """Subclasses say how logs are opened on another engine."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.life = next(_numbers)
        self.logs: list[EventLog] = self.runner.run(self.opened())
        self.twin: dict[str, Stream] = {}
        self.used: list[tuple[str, bytes]] = []

    async def opened(self) -> list[EventLog]:
        """The logs of two servers on one store; here in memory."""
        first = MemoryEventLog()
        return [first, MemoryEventLog(first.store)]

    async def closed(self) -> None:
        """Let go of what `opened` opened."""

    def teardown(self) -> None:
        self.runner.run(self.closed())
        self.runner.close()

    def room(self, name: str) -> str:
        """Every example has rooms of its own in the shared database."""
        return f"{self.life}-{name}"

    @rule(volley=st.lists(plans, min_size=1, max_size=12))
    def write(self, volley: list[Plan]) -> None:
        self.runner.run(asyncio.wait_for(self.fire(volley), DEADLINE))

    @rule(name=st.sampled_from(NAMES))
    def delete_and_restore(self, name: str) -> None:
        room = self.room(name)
        if room not in self.twin:
            return

        async def there_and_back() -> None:
            await self.logs[0].delete(room, at="2026-01-01T00:00:00Z")
            assert await self.logs[1].head(room) is None
            assert await self.logs[1].heads([room]) == {}
            await self.logs[1].restore(room)

        self.runner.run(there_and_back())

    async def fire(self, volley: list[Plan]) -> None:
        """Submit all of a volley at once, each server building on what it has submitted before; then check."""
        believed = [
            {room: len(stream.events) for room, stream in self.twin.items()} for _ in self.logs
        ]
        told: list[list[tuple[Append, TableForgeError | None]]] = [[], []]
        sent: list[list[Append]] = [[], []]
        everyone = asyncio.Event()

        def done(server: int) -> Callable[[Append, TableForgeError | None], None]:
            def heard(entry: Append, outcome: TableForgeError | None) -> None:
                told[server].append((entry, outcome))
                if sum(map(len, told)) == len(volley):
                    everyone.set()

            return heard

        for plan in volley:
            room = self.room(plan.room)
            head = believed[plan.server].get(room, 0)
            opens = plan.opens or head == 0
            expected = 0 if opens else max(0, head + plan.ahead)
            number = next(_numbers)
            key = number.to_bytes(16, "big")
            if plan.repeats and self.used:
                room, key = self.used[number % len(self.used)]
                head = believed[plan.server].get(room, 0)
                opens, expected = False, head
            events = tuple(b'{"at":"","n":%d.%d}' % (number, at) for at in range(plan.length))
            facts = (
                Facts(f"name {number}", "private", (), ((f"ada {self.life}", "gm"),))
                if opens or plan.renames
                else None
            )
            entry = Append(
                room,
                expected,
                1,
                events,
                key,
                b"d",
                done(plan.server),
                facts,
                f"epoch {number}" if opens else None,
            )
            self.used.append((room, key))
            sent[plan.server].append(entry)
            self.logs[plan.server].append_nowait(entry)
            entry.withdrawn = plan.withdrawn
            if not plan.withdrawn:
                believed[plan.server][room] = entry.last
        await everyone.wait()
        await self.check(sent, told)

    async def check(
        self,
        sent: list[list[Append]],
        told: list[list[tuple[Append, TableForgeError | None]]],
    ) -> None:
        for server in range(len(self.logs)):
            for room in {entry.room for entry in sent[server]}:
                of_room = [entry for entry, _ in told[server] if entry.room == room]
                assert of_room == [entry for entry in sent[server] if entry.room == room]  # EL6
        outcomes = [each for of_server in told for each in of_server]
        accepted: defaultdict[str, list[Append]] = defaultdict(list)
        for entry, outcome in outcomes:
            if outcome is None:
                assert not entry.withdrawn
                accepted[entry.room].append(entry)
        for room, entries in accepted.items():
            stream = self.twin.setdefault(room, Stream())
            for entry in sorted(entries, key=lambda one: one.expected):
                assert entry.expected == len(stream.events), "a gap, or two in one place"  # EL3
                assert entry.key not in stream.keys  # EL4
                stream.events += entry.events
                stream.keys[entry.key] = entry.last
                if entry.facts is not None:
                    stream.name = entry.facts.name
        await self.compare()
        for entry, outcome in outcomes:
            stream = self.twin.get(entry.room, Stream())
            note(f"{entry.room} {entry.expected}+{len(entry.events)}: {outcome!r}")
            if isinstance(outcome, DuplicateCommand):
                assert stream.keys[entry.key] == outcome.found.offset
            elif isinstance(outcome, VersionConflict):
                missed = list(outcome.missed)
                assert missed == self.rows(stream)[entry.expected :][: len(missed)]  # EL11
            else:
                assert outcome is None or isinstance(outcome, StreamMissing)
        self.nobody_stands_on_a_refused_one(told)

    def nobody_stands_on_a_refused_one(
        self, told: list[list[tuple[Append, TableForgeError | None]]]
    ) -> None:
        """EL13, for each server by itself: in one volley nothing is written behind what was refused before it."""
        for of_server in told:
            lowest: dict[str, int] = {}
            for entry, outcome in of_server:
                if outcome is None:
                    assert entry.expected <= lowest.get(entry.room, entry.expected)
                elif not entry.withdrawn:
                    lowest[entry.room] = min(lowest.get(entry.room, entry.expected), entry.expected)

    @staticmethod
    def rows(stream: Stream) -> list[StoredEvent]:
        return [StoredEvent(at, 1, data) for at, data in enumerate(stream.events, 1)]

    async def compare(self) -> None:
        """Both servers read what the twin holds."""
        for log in self.logs:
            heads = await log.heads([self.room(name) for name in NAMES])
            assert {room: head.offset for room, head in heads.items()} == {
                room: len(stream.events) for room, stream in self.twin.items()
            }
            for room, stream in self.twin.items():
                assert await log.read(room, after=0, limit=10_000) == self.rows(stream)
                head = await log.head(room)
                assert head is not None
                assert head[:2] == (heads[room].epoch, len(stream.events))
        listed = await self.logs[0].list_rooms(
            user=f"ada {self.life}", public=False, query="", tag="", before=None, limit=10
        )
        assert {row.id: row.name for row in listed.rows} == {
            room: stream.name for room, stream in self.twin.items()
        }


def examples(engine: str, *, soak: bool) -> settings:
    """How many examples an engine gets in this run."""
    return settings(max_examples=settings().max_examples if soak else EXAMPLES[engine])


def test_el6_servers_on_one_memory_agree_with_their_twin(soak: bool) -> None:
    run_state_machine_as_test(LogMachine, settings=examples("memory", soak=soak))


def test_el6_servers_on_one_postgres_agree_with_their_twin(database_url: str, soak: bool) -> None:
    class PostgresMachine(LogMachine):
        async def opened(self) -> list[EventLog]:
            knobs = DatabaseKnobs(url=database_url, pool_min=0)
            self.databases = [PostgresDatabase(knobs, name) for name in ("one", "two")]
            for database in self.databases:
                await database.__aenter__()
            self.opened_logs = [
                PostgresEventLog(database, commit_interval=0.0) for database in self.databases
            ]
            return list(self.opened_logs)

        async def closed(self) -> None:
            for log in self.opened_logs:
                await log.close()
            for database in self.databases:
                await database.__aexit__(None, None, None)

    run_state_machine_as_test(PostgresMachine, settings=examples("postgres", soak=soak))
