"""What every event log keeps: the rules EL1 to EL13 of `docs/spec.md`, run on each engine."""

import asyncio
import secrets
from collections.abc import Sequence

import msgspec
import pytest

from tableforge.errors import TableForgeError
from tableforge.eventlog import (
    MISSED_AT_MOST,
    Append,
    DuplicateCommand,
    EventLog,
    Facts,
    Found,
    Head,
    Snapshot,
    StreamMissing,
    VersionConflict,
)

FACTS = Facts("Salt Road", "private", (), (("ada", "gm"),))
DEADLINE = 30.0


def event(number: int, at: str = "2026-01-01T00:00:00.000Z") -> bytes:
    return msgspec.json.encode({"type": "test", "at": at, "number": number})


class Writer:
    """Appends and waits for the outcome; remembers the order in which outcomes came."""

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self.outcomes: list[tuple[bytes, TableForgeError | None]] = []
        self.submitted: list[Append] = []

    def key(self) -> bytes:
        return secrets.token_bytes(16)

    def submit(
        self,
        room: str,
        expected: int,
        events: Sequence[bytes],
        *,
        key: bytes | None = None,
        digest: bytes = b"d",
        facts: Facts | None = None,
        opens: str | None = None,
    ) -> "asyncio.Future[TableForgeError | None]":
        future: asyncio.Future[TableForgeError | None] = asyncio.get_running_loop().create_future()

        def done(entry: Append, outcome: TableForgeError | None) -> None:
            self.outcomes.append((entry.key, outcome))
            future.set_result(outcome)

        entry = Append(
            room, expected, 1, tuple(events), key or self.key(), digest, done, facts, opens
        )
        self.submitted.append(entry)
        self.log.append_nowait(entry)
        return future

    async def append(self, *args: object, **more: object) -> TableForgeError | None:
        async with asyncio.timeout(DEADLINE):
            return await self.submit(*args, **more)  # type: ignore[arg-type]  # checked by submit itself

    async def open(self, room: str, facts: Facts = FACTS) -> None:
        assert await self.append(room, 0, [event(1)], facts=facts, opens=f"epoch-{room}") is None


async def end_of(log: EventLog, room: str) -> Head | None:
    """Where a stream ends, whichever server says so."""
    head = await log.head(room)
    return None if head is None else head._replace(server="")


class EventLogContract:
    """Engines subclass it with a fixture `log`, and with `beside` where several servers can write to the same streams."""

    @pytest.fixture
    def beside(self, log: EventLog) -> EventLog:
        """Another server's log of the same streams; here, the same one."""
        return log

    async def test_el1_what_was_acknowledged_is_read_back_in_order_without_a_gap(
        self, log: EventLog
    ) -> None:
        writer = Writer(log)
        await writer.open("r")
        assert await writer.append("r", 1, [event(2), event(3)]) is None
        assert await writer.append("r", 3, [event(4)]) is None
        stored = await log.read("r", after=0, limit=100)
        assert [(row.offset, row.version, row.data) for row in stored] == [
            (number, 1, event(number)) for number in (1, 2, 3, 4)
        ]
        assert [row.offset for row in await log.read("r", after=2, limit=1)] == [3]
        assert await log.read("r", after=4, limit=10) == []
        assert await end_of(log, "r") == Head("epoch-r", 4)

    async def test_el2_a_refused_append_leaves_none_of_its_events(self, log: EventLog) -> None:
        writer = Writer(log)
        await writer.open("r")
        key = writer.key()
        assert await writer.append("r", 1, [event(2)], key=key) is None
        refused = await writer.append("r", 2, [event(3), event(4), event(5)], key=key)
        assert isinstance(refused, DuplicateCommand)
        assert await end_of(log, "r") == Head("epoch-r", 2)

    async def test_el3_an_append_elsewhere_than_at_the_head_changes_nothing(
        self, log: EventLog
    ) -> None:
        writer = Writer(log)
        await writer.open("r")
        assert await writer.append("r", 1, [event(2)]) is None
        for expected in (0, 1, 3, 100):
            refused = await writer.append("r", expected, [event(9)])
            assert isinstance(refused, VersionConflict)
            assert refused.actual == 2
        assert [row.offset for row in await log.read("r", after=0, limit=10)] == [1, 2]

    async def test_el3_a_stream_opens_once(self, log: EventLog) -> None:
        writer = Writer(log)
        await writer.open("r")
        again = await writer.append("r", 0, [event(1)], facts=FACTS, opens="another")
        assert isinstance(again, VersionConflict)
        assert await end_of(log, "r") == Head("epoch-r", 1)

    async def test_el3_nothing_is_appended_to_a_stream_that_was_not_opened(
        self, log: EventLog
    ) -> None:
        assert isinstance(await Writer(log).append("r", 0, [event(1)]), StreamMissing)
        assert await log.head("r") is None

    async def test_el4_a_key_is_taken_once(self, log: EventLog) -> None:
        writer = Writer(log)
        await writer.open("r")
        key = b"k" * 16
        assert await writer.append("r", 1, [event(2), event(3)], key=key, digest=b"first") is None
        again = await writer.append("r", 3, [event(9)], key=key, digest=b"second")
        assert isinstance(again, DuplicateCommand)
        assert again.found == Found(3, b"first")
        assert await log.find("r", key) == Found(3, b"first")
        assert await log.find("r", b"x" * 16) is None
        assert await end_of(log, "r") == Head("epoch-r", 3)

    async def test_el5_one_refusal_in_a_batch_does_not_touch_other_rooms(
        self, log: EventLog
    ) -> None:
        writer = Writer(log)
        for room in "abc":
            await writer.open(room)
        outcomes = await asyncio.wait_for(
            asyncio.gather(
                writer.submit("a", 1, [event(2)]),
                writer.submit("b", 7, [event(2)]),
                writer.submit("c", 1, [event(2)]),
                writer.submit("c", 2, [event(3)]),
            ),
            DEADLINE,
        )
        assert outcomes[0] is outcomes[2] is outcomes[3] is None
        assert isinstance(outcomes[1], VersionConflict)
        assert [(await log.head(room)).offset for room in "abc"] == [2, 1, 3]  # type: ignore[union-attr]  # the rooms are there

    async def test_el6_outcomes_of_a_room_come_once_each_in_the_order_of_submission(
        self, log: EventLog
    ) -> None:
        writer = Writer(log)
        await writer.open("r")
        writer.outcomes.clear()
        keys = [bytes([number]) * 16 for number in range(1, 51)]
        await asyncio.wait_for(
            asyncio.gather(
                *(
                    writer.submit("r", number, [event(number)], key=keys[number - 1])
                    for number in range(1, 51)
                )
            ),
            DEADLINE,
        )
        assert writer.outcomes == [(key, None) for key in keys]
        await asyncio.wait_for(log.wait_for_idle(), DEADLINE)

    async def test_el7_the_nearest_snapshot_that_is_not_newer_is_found(self, log: EventLog) -> None:
        writer = Writer(log)
        await writer.open("r")
        assert await log.snapshot_at("r", 100) is None
        for offset in (10, 30, 20):
            await log.save_snapshot("r", Snapshot(offset, 1, b"state %d" % offset))
        await log.save_snapshot("r", Snapshot(20, 2, b"again"))
        assert await log.snapshot_at("r", 9) is None
        assert await log.snapshot_at("r", 10) == Snapshot(10, 1, b"state 10")
        assert await log.snapshot_at("r", 29) == Snapshot(20, 2, b"again")
        assert await log.snapshot_at("r", 1000) == Snapshot(30, 1, b"state 30")

    async def test_el8_a_deleted_stream_is_missing_until_it_is_restored(
        self, log: EventLog
    ) -> None:
        writer = Writer(log)
        await writer.open("r")
        await log.delete("r", at="2026-01-01T00:00:00Z")
        assert await log.head("r") is None
        assert await log.read("r", after=0, limit=10) == []
        assert await log.seats("ada") == []
        assert await log.all_rooms(after="", limit=10) == []
        assert isinstance(await writer.append("r", 1, [event(2)]), StreamMissing)
        await log.restore("r")
        assert await end_of(log, "r") == Head("epoch-r", 1)
        assert await writer.append("r", 1, [event(2)]) is None

    async def test_el9_listings_change_with_the_events(self, log: EventLog) -> None:
        writer = Writer(log)
        await writer.open("one")
        await writer.open(
            "two",
            Facts("50% Harbour_", "public", ("sea", "night"), (("bo", "gm"), ("ada", "player"))),
        )
        await writer.open("three", Facts("Open sea", "public", ("sea",), (("bo", "gm"),)))

        async def names(user: str, *, public: bool, query: str = "", tag: str = "") -> list[str]:
            page = await log.list_rooms(
                user=user, public=public, query=query, tag=tag, before=None, limit=10
            )
            assert page.next is None
            return [row.name for row in page.rows]

        assert await names("ada", public=False) == ["50% Harbour_", "Salt Road"]
        assert await names("ada", public=True) == ["Open sea"]
        own = await log.list_rooms(
            user="ada", public=False, query="", tag="", before=None, limit=10
        )
        assert [row.role for row in own.rows] == ["player", "gm"]
        open_to_all = await log.list_rooms(
            user="ada", public=True, query="", tag="", before=None, limit=10
        )
        assert [row.role for row in open_to_all.rows] == [None]
        assert await names("", public=True) == ["Open sea", "50% Harbour_"]
        assert await names("", public=True, query="HARB") == ["50% Harbour_"]
        assert await names("", public=True, query="0% h") == ["50% Harbour_"]
        assert await names("", public=True, query="r_ur") == []
        assert await names("", public=True, tag="night") == ["50% Harbour_"]
        assert await log.seats("ada") == ["one", "two"]
        renamed = Facts("Salt Roads", "public", ("dry",), (("cy", "gm"),))
        late = event(2, at="2026-02-02T00:00:00.000Z")
        assert await writer.append("one", 1, [late], facts=renamed) is None
        page = await log.list_rooms(
            user="cy", public=False, query="", tag="dry", before=None, limit=10
        )
        (row,) = page.rows
        assert (row.id, row.name, row.visibility, row.members) == ("one", "Salt Roads", "public", 1)
        assert row.updated == "2026-02-02T00:00:00.000Z"
        assert await log.seats("ada") == ["two"]

    async def test_el9_listings_go_on_behind_a_place(self, log: EventLog) -> None:
        writer = Writer(log)
        for number in range(5):
            await writer.open(f"room{number}")
        seen: list[str] = []
        before: int | None = None
        while before != 0:
            page = await log.list_rooms(
                user="ada", public=False, query="", tag="", before=before, limit=2
            )
            seen += [row.id for row in page.rows]
            before = page.next or 0
        assert seen == ["room4", "room3", "room2", "room1", "room0"]
        assert await log.all_rooms(after="room1", limit=2) == ["room2", "room3"]

    async def test_el10_the_epoch_changes_only_when_it_is_renewed(self, log: EventLog) -> None:
        writer = Writer(log)
        await writer.open("r")
        assert await writer.append("r", 1, [event(2)]) is None
        assert await end_of(log, "r") == Head("epoch-r", 2)
        await log.renew_epoch("r", "second life")
        assert await end_of(log, "r") == Head("second life", 2)
        assert await writer.append("r", 2, [event(3)]) is None

    async def test_el4_a_key_is_taken_wherever_the_writer_stands(
        self, log: EventLog, beside: EventLog
    ) -> None:
        writer = Writer(log)
        await writer.open("r")
        key = b"k" * 16
        assert await Writer(beside).append("r", 1, [event(2)], key=key) is None
        for expected in (1, 2):
            again = await writer.append("r", expected, [event(9)], key=key, digest=b"second")
            assert isinstance(again, DuplicateCommand)
            assert again.found == Found(2, b"d")

    async def test_el4_a_key_comes_once_in_one_batch(self, log: EventLog) -> None:
        writer = Writer(log)
        for room in "abc":
            await writer.open(room)
        key = b"k" * 16
        first, other, again, behind = await asyncio.wait_for(
            asyncio.gather(
                writer.submit("a", 1, [event(2)], key=key),
                writer.submit("b", 1, [event(2)]),
                writer.submit("a", 2, [event(3)], key=key),
                writer.submit("a", 3, [event(4)]),
            ),
            DEADLINE,
        )
        assert first is other is None
        assert isinstance(again, DuplicateCommand)
        assert again.found == Found(2, b"d")
        assert isinstance(behind, VersionConflict)
        assert await end_of(log, "a") == Head("epoch-a", 2)

    async def test_el5_rooms_open_change_and_go_on_in_one_batch(self, log: EventLog) -> None:
        writer = Writer(log)
        await writer.open("a")
        await writer.open("b")
        crowd = Facts("Salt Road", "public", ("x",), (("ada", "player"), ("bo", "gm")))
        outcomes = await asyncio.wait_for(
            asyncio.gather(
                writer.submit("a", 1, [event(2)], facts=FACTS),
                writer.submit("a", 2, [event(3), event(4)], facts=crowd),
                writer.submit("b", 1, [event(2)]),
                writer.submit("c", 0, [event(1)], facts=FACTS, opens="epoch-c"),
                writer.submit("c", 1, [event(2)]),
                writer.submit("d", 1, [event(2)]),
                writer.submit("b", 0, [event(1)], facts=FACTS, opens="another"),
            ),
            DEADLINE,
        )
        assert outcomes[:5] == [None] * 5
        assert isinstance(outcomes[5], StreamMissing)
        assert isinstance(outcomes[6], VersionConflict)
        heads = await log.heads(["a", "b", "c", "d"])
        assert heads == {
            "a": Head("epoch-a", 4),
            "b": Head("epoch-b", 2),
            "c": Head("epoch-c", 2),
        }
        page = await log.list_rooms(
            user="bo", public=False, query="", tag="x", before=None, limit=9
        )
        assert [(row.id, row.members, row.role) for row in page.rows] == [("a", 2, "gm")]
        assert await log.seats("ada") == ["a", "b", "c"]

    async def test_el11_a_conflict_tells_what_was_missed(
        self, log: EventLog, beside: EventLog
    ) -> None:
        writer, other = Writer(log), Writer(beside)
        await writer.open("r")
        assert await other.append("r", 1, [event(2), event(3)]) is None
        assert await other.append("r", 3, [event(4)]) is None
        for expected in (1, 2, 3, 4, 9):
            refused = await writer.append("r", expected, [event(9)])
            if expected == 4:
                assert refused is None
                continue
            assert isinstance(refused, VersionConflict)
            ends = 4 if expected < 4 else 5
            assert refused.actual == ends
            stored = await log.read("r", after=expected, limit=100)
            assert list(refused.missed) in ([], stored)

    async def test_el11_what_was_missed_is_bounded_and_without_a_gap(
        self, log: EventLog, beside: EventLog
    ) -> None:
        writer = Writer(log)
        await writer.open("r")
        many = [event(number) for number in range(2, MISSED_AT_MOST + 50)]
        assert await Writer(beside).append("r", 1, many) is None
        refused = await writer.append("r", 1, [event(2)])
        assert isinstance(refused, VersionConflict)
        assert refused.actual == len(many) + 1
        assert len(refused.missed) <= MISSED_AT_MOST
        assert [row.offset for row in refused.missed] == list(range(2, len(refused.missed) + 2))

    async def test_el12_heads_see_what_any_writer_was_told_is_durable(
        self, log: EventLog, beside: EventLog
    ) -> None:
        writer, other = Writer(log), Writer(beside)
        assert await log.heads([]) == {}
        for room in "abc":
            await writer.open(room)
        for number in range(1, 20):
            assert await (writer, other)[number % 2].append("a", number, [event(0)]) is None
            seen = await (other, writer)[number % 2].log.heads(["a", "b", "nothing"])
            assert seen == {"a": Head("epoch-a", number + 1), "b": Head("epoch-b", 1)}
        await log.delete("b", at="2026-01-01T00:00:00Z")
        assert set(await beside.heads(["a", "b", "c"])) == {"a", "c"}

    async def test_el13_what_was_withdrawn_changes_nothing(self, log: EventLog) -> None:
        writer = Writer(log)
        await writer.open("r")
        writer.outcomes.clear()
        keys = [bytes([number]) * 16 for number in range(1, 5)]
        appends = [
            writer.submit("r", expected, [event(expected)], key=key)
            for expected, key in zip((1, 2, 3, 2), keys, strict=True)
        ]
        for entry in writer.submitted[-3:-1]:
            entry.withdrawn = True
        outcomes = await asyncio.wait_for(asyncio.gather(*appends), DEADLINE)
        assert [key for key, _ in writer.outcomes] == keys
        assert outcomes[0] is outcomes[3] is None
        assert all(isinstance(outcome, VersionConflict) for outcome in outcomes[1:3])
        assert await end_of(log, "r") == Head("epoch-r", 3)
        await asyncio.wait_for(log.wait_for_idle(), DEADLINE)

    async def test_el13_nothing_alone_is_pending_when_all_was_withdrawn(
        self, log: EventLog
    ) -> None:
        writer = Writer(log)
        await writer.open("r")
        append = writer.submit("r", 1, [event(2)])
        writer.submitted[-1].withdrawn = True
        assert isinstance(await asyncio.wait_for(append, DEADLINE), VersionConflict)
        await asyncio.wait_for(log.wait_for_idle(), DEADLINE)
        assert await end_of(log, "r") == Head("epoch-r", 1)

    async def test_el13_what_was_built_on_a_refused_append_is_not_sent(
        self, log: EventLog, beside: EventLog
    ) -> None:
        """Another writer may stand exactly where the refused append wanted to: what follows must not stand on that."""
        writer = Writer(log)
        await writer.open("r")
        writer.outcomes.clear()
        assert await Writer(beside).append("r", 1, [event(2)]) is None
        first = writer.submit("r", 1, [event(100)])
        appends = [first]
        asyncio.get_running_loop().call_soon(
            lambda: appends.append(writer.submit("r", 2, [event(101)]))
        )  # right behind the departure of the first one: it goes into the next batch
        await asyncio.wait_for(first, DEADLINE)
        outcomes = await asyncio.wait_for(asyncio.gather(*appends), DEADLINE)
        assert len(outcomes) == 2
        assert all(isinstance(outcome, VersionConflict) for outcome in outcomes)
        assert [row.data for row in await log.read("r", after=0, limit=9)] == [event(1), event(2)]

    async def test_el13_nothing_stands_behind_the_first_place_that_was_refused(
        self, log: EventLog
    ) -> None:
        """Whichever refusal came first: one far ahead, then one behind which the third would stand."""
        writer = Writer(log)
        await writer.open("r")
        assert await writer.append("r", 1, [event(2)]) is None
        outcomes = await asyncio.wait_for(
            asyncio.gather(
                writer.submit("r", 9, [event(10)]),
                writer.submit("r", 1, [event(20)]),
                writer.submit("r", 2, [event(30)]),
            ),
            DEADLINE,
        )
        assert all(isinstance(outcome, VersionConflict) for outcome in outcomes)
        assert await end_of(log, "r") == Head("epoch-r", 2)

    async def test_el13_what_was_decided_anew_is_sent(
        self, log: EventLog, beside: EventLog
    ) -> None:
        """A writer who has heard of what overtook it need not wait for the refusal."""
        writer = Writer(log)
        await writer.open("r")
        assert await Writer(beside).append("r", 1, [event(2)]) is None
        first = writer.submit("r", 1, [event(100)])
        behind = writer.submit("r", 2, [event(101)])
        anew: list[asyncio.Future[TableForgeError | None]] = []

        def overtaken() -> None:
            for entry in writer.submitted[-2:]:
                entry.withdrawn = True
            anew.append(writer.submit("r", 2, [event(3)]))
            anew.append(writer.submit("r", 3, [event(4)]))

        asyncio.get_running_loop().call_soon(overtaken)
        refused = await asyncio.wait_for(asyncio.gather(first, behind), DEADLINE)
        assert all(isinstance(outcome, VersionConflict) for outcome in refused)
        assert await asyncio.wait_for(asyncio.gather(*anew), DEADLINE) == [None, None]
        stored = [row.data for row in await log.read("r", after=0, limit=9)]
        assert stored == [event(number) for number in (1, 2, 3, 4)]

    async def test_el15_a_stream_begins_at_a_snapshot_before_its_head_and_only_moves_on(
        self, log: EventLog, beside: EventLog
    ) -> None:
        writer = Writer(log)
        await writer.open("r")
        assert await writer.append("r", 1, [event(number) for number in range(2, 10)]) is None
        for offset in (3, 6, 9):
            await log.save_snapshot("r", Snapshot(offset, 1, b"state %d" % offset))
        for offset, begins in ((4, 0), (9, 0), (6, 6), (3, 6), (5, 6)):
            await beside.begin_behind("r", offset)
            head = await log.head("r")
            assert head is not None
            assert (head.offset, head.begins) == (9, begins)
        await log.save_snapshot("r", Snapshot(6, 2, b"another"))
        await log.save_snapshot("r", Snapshot(4, 1, b"too early"))
        assert await log.snapshot_at("r", 8) == Snapshot(6, 1, b"state 6")
        assert await log.snapshot_at("r", 5) == Snapshot(3, 1, b"state 3")
        assert (await log.heads(["r"]))["r"] == Head("epoch-r", 9)

    async def test_el15_what_lies_before_the_beginning_is_taken_away_in_portions(
        self, log: EventLog, beside: EventLog
    ) -> None:
        writer = Writer(log)
        for room in ("a", "r", "z"):
            await writer.open(room)
        key = writer.key()
        assert await writer.append("r", 1, [event(2), event(3)], key=key) is None
        assert await writer.append("r", 3, [event(number) for number in range(4, 9)]) is None
        for offset in (2, 4):
            await log.save_snapshot("r", Snapshot(offset, 1, b"state %d" % offset))
        assert await log.take_away("r", limit=100) == (0, 0)
        assert await log.long_rooms(after="", kept=7, limit=9) == ["r"]
        await log.begin_behind("r", 4)
        assert await log.long_rooms(after="", kept=4, limit=9) == ["r"], "there is more to take"
        assert await log.take_away("r", limit=3) == (3, 1)
        assert [row.offset for row in await log.read("r", after=0, limit=2)] == [4, 5]
        assert await beside.take_away("r", limit=3) == (1, 0)
        assert await log.take_away("r", limit=3) == (0, 0)
        assert [row.offset for row in await log.read("r", after=0, limit=9)] == [5, 6, 7, 8]
        assert await log.snapshot_at("r", 3) is None
        assert await log.snapshot_at("r", 9) == Snapshot(4, 1, b"state 4")
        assert await log.find("r", key) is None
        assert await log.long_rooms(after="", kept=4, limit=9) == []
        assert await log.long_rooms(after="", kept=0, limit=2) == ["a", "r"]
        assert await log.long_rooms(after="r", kept=0, limit=2) == ["z"]
        assert await log.lacking_right() == ""
        assert await writer.append("r", 8, [event(9)]) is None
        refused = await writer.append("r", 2, [event(9)])
        assert isinstance(refused, VersionConflict)
        assert refused.actual == 9
        await log.delete("r", at="2026-01-01T00:00:00Z")
        assert await log.long_rooms(after="", kept=0, limit=9) == ["a", "z"]
