"""Rooms that several instances write to, on one shared memory log whose answers and whose bus the test holds in its hand."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tableforge.domain.commands import (
    AddToken,
    Command,
    JoinRoom,
    MoveToken,
    MuteMember,
    OpenRoom,
    RemoveToken,
    Say,
    UpdateRoom,
)
from tableforge.domain.events import Event
from tableforge.errors import Forbidden, Locked, NotFound, TableForgeError, Unavailable
from tableforge.eventlog import Append, Appended, LogUnavailable, StoredEvent, VersionConflict
from tableforge.eventlog.group_commit import GroupCommit
from tableforge.eventlog.memory import MemoryEventLog, Store
from tableforge.protocol import codec
from tableforge.protocol.bus_messages import EventsHappened
from tableforge.rooms.engine import RoomBounds, RoomEngine
from tableforge.rooms.following import GAP_SECONDS, Follower
from tableforge.rooms.live import LiveRoom, Reply
from tableforge.rooms.views import Viewed
from tests.local_cache import cached_rooms
from tests.simulation.process import Clock, simulated

ROOM = "room"
BOUNDS = RoomBounds(
    recent_events=50,
    recent_bytes=1_000_000,
    snapshot_every=1_000,
    in_memory=100,
    idle_seconds=0,
    commands_rate=0,
    commands_burst=0,
)


class HeldLog(MemoryEventLog):
    """A log whose commits happen, or whose answers come, only when the test says so."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.hold_commits = False
        self.hold_answers = False
        self.held: list[Callable[[], None]] = []
        self.reads = 0
        self.slow_reads: asyncio.Event | None = None
        self.without_missed = False

    def _commit(self, batch: list[Append], finished: Callable[[Appended], None]) -> None:
        def told(outcomes: Appended) -> None:
            if self.without_missed:
                for one in outcomes:
                    if isinstance(one, VersionConflict):
                        one.missed = ()
            if self.hold_answers:
                self.held.append(lambda: finished(outcomes))
            else:
                finished(outcomes)

        if self.hold_commits:
            self.held.append(lambda: super(HeldLog, self)._commit(batch, finished))
            self._batch, self._finished = batch, finished
        else:
            super()._commit(batch, told)

    def bound(self, count: int) -> None:
        """From now on no more appends than this may wait."""
        self._group = GroupCommit(self._commit, interval=0.0, bound=count)

    def release(self) -> None:
        """Let what is held go its way."""
        self.hold_commits = self.hold_answers = False
        held, self.held = self.held, []
        for go in held:
            go()

    def fail(self, failure: TableForgeError) -> None:
        """Nothing of what is held is written, and its writers are told why."""
        self.hold_commits = False
        self.held.clear()
        self._finished([failure] * len(self._batch))

    async def read(self, room: str, *, after: int, limit: int) -> list[StoredEvent]:
        self.reads += 1
        rows = await super().read(room, after=after, limit=limit)
        if self.slow_reads is not None:
            await self.slow_reads.wait()
        return rows


class Instance:
    """An engine and what follows the others; `told` is what it published."""

    def __init__(self, store: Store, name: str) -> None:
        self.log = HeldLog(store)
        self.told: list[tuple[int, str]] = []
        self.invalidated: list[str] = []
        self.deleted: list[str] = []
        self.listened: set[str] = set()
        self.follower = Follower(
            self.log,
            None,
            origin=name,
            heads_interval=3600.0,
            check_interval=3600.0,
            listened=self.listened.__contains__,
            deleted=self.deleted.append,
            forgotten=lambda room: None,
        )
        self.engine = RoomEngine(
            self.log,
            cached_rooms(self.log),
            BOUNDS,
            publish=self._publish,
            listened=self.listened.__contains__,
            invalidated=self.invalidated.append,
            peers=self.follower,
        )
        self.follower.follow(self.engine)

    def _publish(self, live: LiveRoom, viewed: Viewed, event: Event) -> None:
        self.told.append((viewed.offset, event.id))

    async def live(self) -> LiveRoom:
        return await self.engine.open(ROOM)

    def send(self, user: str, command: Command | JoinRoom) -> "asyncio.Future[Reply]":
        """Have a command carried out; the future ends with its reply, or its refusal."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def answer(outcome: Reply | TableForgeError) -> None:
            if isinstance(outcome, TableForgeError):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

        live = self.engine.live_nowait(ROOM)
        assert live is not None
        self.engine.execute(live, user, command, answer)
        return future

    def hear(self, first: int, last: int, origin: str = "other") -> None:
        """Events of the log come over the bus."""
        rows = self.log.store.streams[ROOM].events[first - 1 : last]
        self.follower.heard(
            ROOM,
            EventsHappened(
                origin,
                0.0,
                self.log.store.streams[ROOM].epoch,
                first,
                rows[0].version,
                tuple(row.data for row in rows),
            ),
        )


Test = Callable[[Instance, Instance], Awaitable[None]]


def two_instances(test: Test) -> Callable[[], None]:
    """Run a test in simulated time on two instances with the room in memory: `gm` opened it (1), `ann` and `bob` play."""

    async def played() -> None:
        store = Store()
        here, there = Instance(store, "here"), Instance(store, "there")
        opened: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        here.engine.create(
            "gm", OpenRoom(ROOM, "open", "The Salt Road", "private", "Mara"), opened.set_result
        )
        assert isinstance(await opened, Reply)
        for user in ("ann", "bob"):
            await here.send(user, JoinRoom(ROOM, f"join-{user}", user.title(), "player"))
        for one in (here, there):
            await one.engine.open(ROOM)
            one.told.clear()
            one.log.reads = 0
        await test(here, there)
        for one in (here, there):
            await one.follower.close()

    def in_simulated_time() -> None:
        clock = Clock(1)
        try:
            with simulated(clock):
                process = clock.start("instances")
                task = process.create_task(played())
                assert clock.run(task.done, 600.0), "it waits for what will never happen"
                task.result()
            meant = ("lost its tail", "could not be folded")
            assert [one for one in clock.failures if not any(part in one for part in meant)] == []
        finally:
            clock.close()

    in_simulated_time.__name__ = test.__name__
    in_simulated_time.__doc__ = test.__doc__
    return in_simulated_time


def say(number: object) -> Say:
    return Say(ROOM, f"s{number}", f"line {number}")


async def settled() -> None:
    """Return once everything has happened that happens by itself."""
    await asyncio.sleep(1.0)


def ids(instance: Instance) -> list[str]:
    """The command of each event behind the first three."""
    rows = instance.log.store.streams[ROOM].events[3:]
    return [codec.decode_event(row.version, row.data).id for row in rows]


async def refusal(future: "asyncio.Future[Reply]") -> TableForgeError:
    with pytest.raises(TableForgeError) as caught:
        await future
    return caught.value


@two_instances
async def test_a_conflict_brings_what_was_missed_and_costs_no_read(
    here: Instance, there: Instance
) -> None:
    await there.send("bob", say(1))
    reply = await here.send("ann", say(2))
    assert reply.offset == 5
    assert here.told == [(4, "s1"), (5, "s2")]
    assert here.log.reads == 0


@two_instances
async def test_a_conflict_that_brings_nothing_is_followed_by_a_read(
    here: Instance, there: Instance
) -> None:
    here.log.without_missed = True
    await there.send("bob", say(1))
    reply = await here.send("ann", say(2))
    assert reply.offset == 5
    assert here.told == [(4, "s1"), (5, "s2")]
    assert here.log.reads == 1


@two_instances
async def test_ro10_what_was_overtaken_is_decided_anew_in_its_members_order(
    here: Instance, there: Instance
) -> None:
    here.log.hold_commits = True
    sent = [here.send("ann", say(number)) for number in range(4)]
    await settled()
    sent += [here.send("ann", say(number)) for number in range(4, 6)]
    await there.send("bob", say("b"))
    here.hear(4, 4, "there")
    here.log.release()
    assert [reply.offset for reply in await asyncio.gather(*sent)] == [5, 6, 7, 8, 9, 10]
    assert ids(here) == ["sb", "s0", "s1", "s2", "s3", "s4", "s5"]
    assert here.told == list(enumerate(ids(here), 4))


@two_instances
async def test_events_that_come_early_wait_for_those_before_them(
    here: Instance, there: Instance
) -> None:
    for number in range(3):
        await there.send("bob", say(number))
    here.hear(6, 6)
    here.hear(5, 5)
    assert here.told == []
    here.hear(4, 4)
    assert here.told == [(4, "s0"), (5, "s1"), (6, "s2")]
    await settled()
    assert here.log.reads == 0


@two_instances
async def test_a_gap_that_stays_is_read_from_the_log(here: Instance, there: Instance) -> None:
    for number in range(3):
        await there.send("bob", say(number))
    here.hear(6, 6)
    await asyncio.sleep(GAP_SECONDS / 2)
    assert here.told == []
    await asyncio.sleep(GAP_SECONDS)
    assert here.told == [(4, "s0"), (5, "s1"), (6, "s2")]
    assert here.log.reads == 1


@two_instances
async def test_an_event_that_comes_twice_is_told_once(here: Instance, there: Instance) -> None:
    for number in range(2):
        await there.send("bob", say(number))
    for first, last in ((4, 4), (4, 5), (4, 4), (5, 5)):
        here.hear(first, last)
    assert here.told == [(4, "s0"), (5, "s1")]


@two_instances
async def test_our_own_event_read_before_its_commit_is_acknowledged_is_told_once(
    here: Instance, there: Instance
) -> None:
    here.log.hold_answers = True
    sent = here.send("ann", say(1))
    await settled()
    await there.send("bob", say(2))
    here.hear(5, 5)
    await settled()
    assert here.told == [], "of our own command we hear from the log's answer alone"
    here.log.release()
    assert (await sent).offset == 4
    await settled()
    assert here.told == [(4, "s1"), (5, "s2")]
    assert ids(here) == ["s1", "s2"]


@two_instances
async def test_a_command_of_a_dropped_room_is_answered_and_told_by_the_next_one(
    here: Instance, there: Instance
) -> None:
    here.log.hold_answers = True
    sent = here.send("ann", say(1))
    await settled()
    dropped = here.engine.live_nowait(ROOM)
    assert dropped is not None
    here.engine.drop(dropped)
    refused = await refusal_of_next(here, dropped)
    assert isinstance(refused, Unavailable)
    live = await here.live()
    assert live is not dropped
    here.log.release()
    assert (await sent).offset == 4
    assert live.durable.version == 4


@two_instances
async def test_catching_up_with_our_own_command_waits_for_its_answer(
    here: Instance, there: Instance
) -> None:
    here.log.hold_answers = True
    sent = here.send("ann", say(1))
    await settled()
    opened = asyncio.ensure_future(here.live())
    await settled()
    assert not opened.done()
    assert here.log.reads <= 1
    here.log.release()
    assert (await opened).durable.version == (await sent).offset == 4


@two_instances
async def test_whoever_joins_a_load_under_way_gets_what_was_acknowledged_since_it_began(
    here: Instance, there: Instance
) -> None:
    there.engine.drop(await there.live())
    there.log.slow_reads = asyncio.Event()
    first = asyncio.ensure_future(there.live())
    await settled()
    assert (await here.send("ann", say(1))).offset == 4

    async def version() -> int:
        return (await there.live()).durable.version

    second = asyncio.ensure_future(version())
    await settled()
    there.log.slow_reads.set()
    assert await second == 4
    assert await first is await there.live()


async def refusal_of_next(here: Instance, live: LiveRoom) -> object:
    """What a command is told that reaches a room out of memory."""
    future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    here.engine.execute(live, "ann", say("late"), future.set_result)
    return await future


@two_instances
async def test_a_log_that_lost_its_tail_gets_another_epoch(here: Instance, there: Instance) -> None:
    await here.send("ann", say(1))
    await here.send("ann", say(2))
    stream = here.log.store.streams[ROOM]
    epoch = stream.epoch
    lost = stream.events.pop()
    assert isinstance(await refusal(here.send("ann", say(3))), Unavailable)
    await settled()
    assert here.invalidated == [ROOM]
    assert stream.epoch != epoch
    live = await here.live()
    assert (live.durable.version, live.epoch) == (4, stream.epoch)
    assert lost not in stream.events
    # Whoever holds the room of the life before begins anew as well.
    await there.live()
    assert there.invalidated == [ROOM]


@two_instances
async def test_a_refusal_is_decided_anew_on_what_others_changed(
    here: Instance, there: Instance
) -> None:
    added = await there.send("gm", AddToken(ROOM, "add", "Cat", 1.0, 1.0, owner="ann"))
    assert added.result is not None
    token = added.result["id"]
    moved = await here.send("ann", MoveToken(ROOM, "move", token=token, x=2.0, y=2.0))
    assert moved.offset == 5
    await there.live()
    await there.send("gm", MuteMember(ROOM, "mute", "ann", muted=True))
    assert isinstance(await refusal(here.send("ann", say(1))), Forbidden)
    assert isinstance(
        await refusal(here.send("ann", MoveToken(ROOM, "none", token="none", x=1.0, y=1.0))),
        NotFound,
    )


@two_instances
async def test_a_refusal_waits_until_what_it_was_decided_on_is_durable(
    here: Instance, there: Instance
) -> None:
    here.log.hold_commits = True
    muting = here.send("gm", MuteMember(ROOM, "mute", "ann", muted=True))
    said = here.send("ann", say(1))
    await settled()
    assert not said.done(), "it would tell of a command that may never be"
    here.log.release()
    assert (await muting).offset == 4
    assert isinstance(await refusal(said), Forbidden)


@two_instances
async def test_a_refusal_is_forgotten_with_what_it_was_decided_on(
    here: Instance, there: Instance
) -> None:
    here.log.hold_commits = True
    muting = here.send("gm", MuteMember(ROOM, "mute", "ann", muted=True))
    said = here.send("ann", say(1))
    await settled()
    here.log.fail(LogUnavailable("Nothing was saved.", "The log is away."))
    assert isinstance(await refusal(muting), LogUnavailable)
    assert (await said).offset == 4


@two_instances
async def test_no_change_is_not_claimed_of_what_came_to_be_behind_something_else(
    here: Instance, there: Instance
) -> None:
    here.log.hold_commits = True
    first = here.send("gm", UpdateRoom(ROOM, "dry", name="The Dry Road"))
    same = here.send("gm", UpdateRoom(ROOM, "dry2", name="The Dry Road"))
    await settled()
    await there.send("bob", say(1))
    here.log.release()
    assert (await first).offset == (await same).offset == 5
    assert here.told == [(4, "s1"), (5, "dry")]


@two_instances
async def test_what_was_withdrawn_says_nothing_of_where_the_log_ends(
    here: Instance, there: Instance
) -> None:
    live = await here.live()
    await there.send("bob", say("b"))
    here.log.hold_answers = True
    sent = [here.send("ann", say(1))]
    await settled()
    sent += [here.send("ann", say(number)) for number in range(2, 5)]
    here.log.release()
    await asyncio.gather(*sent)
    assert ids(here) == ["sb", "s1", "s2", "s3", "s4"]
    assert live.wanted <= 8
    assert here.log.reads == 0


@two_instances
async def test_a_locked_piece_is_locked_for_whoever_asks_elsewhere(
    here: Instance, there: Instance
) -> None:
    added = await here.send("gm", AddToken(ROOM, "add", "Rock", 1.0, 1.0, owner="ann", locked=True))
    assert added.result is not None
    move = MoveToken(ROOM, "move", token=added.result["id"], x=2.0, y=2.0)
    assert isinstance(await refusal(there.send("ann", move)), Locked)


@two_instances
async def test_a_room_that_is_gone_from_the_log_leaves_memory(
    here: Instance, there: Instance
) -> None:
    await here.log.delete(ROOM, at="2030-01-01T00:00:00Z")
    assert isinstance(
        await refusal(there.send("gm", MuteMember(ROOM, "m", "nobody", muted=True))),
        TableForgeError,
    )
    assert there.deleted == [ROOM]
    assert there.engine.live_nowait(ROOM) is None


@two_instances
async def test_ro10_a_users_commands_keep_their_order_behind_one_that_seems_to_be_refused(
    here: Instance, there: Instance
) -> None:
    added = await there.send("gm", AddToken(ROOM, "add", "Cat", 1.0, 1.0, owner="ann"))
    assert added.result is not None
    token = added.result["id"]
    # Nobody told us of the piece yet: the first two are refused until the log is asked, and then it comes.
    sent = [
        here.send("ann", MoveToken(ROOM, f"move {number}", token=token, x=number, y=1.0))
        for number in (2.0, 3.0)
    ]
    others = here.send("bob", say(1))
    here.hear(4, 4, "there")
    sent += [here.send("ann", MoveToken(ROOM, "move 4.0", token=token, x=4.0, y=1.0))]
    offsets = [reply.offset for reply in await asyncio.gather(*sent)]
    assert offsets == sorted(offsets)
    assert (await others).offset < offsets[0], "nobody else waits for it"
    live = await here.live()
    assert live.durable.tokens[token].x == 4.0
    assert not live.held
    assert not live.doubted


@two_instances
async def test_ro10_a_refused_command_that_is_decided_anew_overtakes_nothing_that_was_taken_back(
    here: Instance, there: Instance
) -> None:
    added = await here.send("gm", AddToken(ROOM, "add", "Cat", 1.0, 1.0))
    assert added.result is not None
    token = added.result["id"]
    live = await here.live()
    here.log.hold_commits = True
    sent = [here.send("gm", RemoveToken(ROOM, "remove", token)), here.send("gm", say(1))]
    await settled()
    await there.send("bob", say("b"))
    here.log.slow_reads = asyncio.Event()
    # Refused behind the first one, and the log is asked; what it brings takes back the first one, which waits for its turn.
    again = here.send("gm", RemoveToken(ROOM, "remove again", token))
    await settled()
    here.log.release()
    for _ in range(5):
        await asyncio.sleep(0)
    assert [one.command.id for one in live.waiting] == ["remove", "s1"]
    here.log.slow_reads.set()
    assert isinstance(await refusal(again), NotFound)
    assert [reply.offset for reply in await asyncio.gather(*sent)] == [6, 7]
    assert ids(here) == ["add", "sb", "remove", "s1"]


@two_instances
async def test_ro10_what_waited_behind_a_commit_that_failed_stays_in_front_of_what_comes_later(
    here: Instance, there: Instance
) -> None:
    here.log.hold_commits = True
    out = [here.send("ann", say(number)) for number in range(3)]
    await settled()
    behind = [here.send("ann", say(number)) for number in range(3, 8)]
    here.log.fail(LogUnavailable("Nothing was saved.", "The log is away."))
    later = here.send("ann", say(8))
    for one in out:
        assert isinstance(await refusal(one), LogUnavailable)
    assert [reply.offset for reply in await asyncio.gather(*behind, later)] == list(range(4, 10))
    assert ids(here) == [f"s{number}" for number in range(3, 9)]


@two_instances
async def test_what_the_log_had_no_room_for_is_refused_alone(
    here: Instance, there: Instance
) -> None:
    live = await here.live()
    here.log.bound(2)
    here.log.hold_commits = True
    sent = [here.send("ann", say(0))]
    await settled()
    sent += [here.send("ann", say(number)) for number in (1, 2)]
    assert isinstance(await refusal(here.send("ann", say("refused"))), LogUnavailable)
    assert [entry.command.id for entry in live.pending] == ["s0", "s1", "s2"]
    here.log.release()
    assert [reply.offset for reply in await asyncio.gather(*sent)] == [4, 5, 6]
    assert (await here.send("ann", say(3))).offset == 7


@two_instances
async def test_commands_held_behind_a_refused_one_are_answered_when_the_room_leaves_memory(
    here: Instance, there: Instance
) -> None:
    live = await here.live()
    refused = here.send("ann", MoveToken(ROOM, "none", token="none", x=1.0, y=1.0))
    held = here.send("ann", say(1))
    here.engine.drop(live)
    assert isinstance(await refusal(refused), TableForgeError)
    assert isinstance(await refusal(held), Unavailable)


@two_instances
async def test_whoever_speaks_of_events_that_never_were_costs_one_look(
    here: Instance, there: Instance
) -> None:
    live = await here.live()
    here.follower.heard(ROOM, EventsHappened("liar", 0.0, live.epoch, 2**60, 1, (b"{}",)))
    await settled()
    looked = here.log.reads
    for number in range(3):
        await here.send("ann", say(number))
        await settled()
    assert here.log.reads == looked


UNKNOWN_EVENT = b'{"type":"of.a.later.release"}'


@two_instances
async def test_an_event_in_the_log_that_cannot_be_folded_leaves_no_command_unanswered(
    here: Instance, there: Instance
) -> None:
    live = await here.live()
    here.log.hold_commits = True
    sent = [here.send("ann", say(number)) for number in range(3)]
    await settled()
    await there.send("bob", say("b"))
    await there.send("bob", say("c"))
    rows = here.log.store.streams[ROOM].events
    rows[4] = StoredEvent(5, rows[4].version, UNKNOWN_EVENT)
    here.log.release()
    for one in sent:
        assert isinstance(await refusal(one), Unavailable)
    assert live.dropped
    assert here.invalidated == [ROOM]
    with pytest.raises(codec.Undecodable):
        await here.live()


@two_instances
async def test_an_event_of_the_bus_that_cannot_be_folded_costs_a_load(
    here: Instance, there: Instance
) -> None:
    live = await here.live()
    here.follower.heard(ROOM, EventsHappened("liar", 0.0, live.epoch, 4, 1, (UNKNOWN_EVENT,)))
    assert here.invalidated == [ROOM]
    await here.live()
    assert (await here.send("ann", say(1))).offset == 4


@two_instances
async def test_ro10_what_was_built_on_a_repeated_command_stays_in_front_of_what_comes_later(
    here: Instance, there: Instance
) -> None:
    await there.send("ann", say(0))
    here.log.hold_commits = True
    sent = [here.send("ann", say(0))]
    await settled()
    sent.append(here.send("ann", say(1)))
    await settled()
    here.log.release()
    for number in range(2, 30):
        await asyncio.sleep(0)
        sent.append(here.send("ann", say(number)))
    assert [reply.offset for reply in await asyncio.gather(*sent)] == list(range(4, 34))
    assert ids(here) == [f"s{number}" for number in range(30)]
