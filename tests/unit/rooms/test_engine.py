"""Rooms in memory on the memory log: opening, idling, the bounds, and commands that meet trouble (rules RO)."""

import asyncio
from collections.abc import Sequence
from functools import partial

import pytest

from tableforge.api.audience import Audience
from tableforge.domain.commands import (
    AddToken,
    Command,
    JoinRoom,
    MoveToken,
    RollDice,
    Say,
    UpdateRoom,
)
from tableforge.errors import IdempotencyMismatch, NotFound, TableForgeError, TooMany, Unavailable
from tableforge.eventlog import (
    Append,
    Found,
    LogUnavailable,
    Snapshot,
    StoredEvent,
    StreamMissing,
    VersionConflict,
)
from tableforge.eventlog.memory import MemoryEventLog
from tableforge.hub.hub import Hub
from tableforge.protocol import codec
from tableforge.rooms.engine import RoomBounds, RoomEngine
from tableforge.rooms.live import Reply
from tableforge.rooms.service import NoSuchRoom, RoomService
from tests.local_cache import cached_rooms

BOUNDS = RoomBounds(
    recent_events=10,
    recent_bytes=1_000_000,
    snapshot_every=20,
    in_memory=100,
    idle_seconds=0,
    commands_rate=0,
    commands_burst=0,
)


class CountingLog(MemoryEventLog):
    """Counts what is read, to show that opening a room does not read all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.rows_read = 0

    async def read(self, room: str, *, after: int, limit: int) -> list[StoredEvent]:
        rows = await super().read(room, after=after, limit=limit)
        self.rows_read += len(rows)
        return rows


class HeldLog(MemoryEventLog):
    """Holds appends back until it is told to let them through."""

    held: list[Append] | None = None

    def append_nowait(self, entry: Append) -> None:
        if self.held is None:
            super().append_nowait(entry)
        else:
            self.held.append(entry)


class UnsureLog(MemoryEventLog):
    """Marks a room deleted, and then cannot say so."""

    async def delete(self, room: str, *, at: str) -> None:
        await super().delete(room, at=at)
        raise LogUnavailable("It is not known whether this was saved.")


async def nobody_uploaded(asset: str, user: str) -> bool:
    return False


def service_on(log: MemoryEventLog, bounds: RoomBounds = BOUNDS) -> RoomService:
    hub = Hub()
    audience = Audience(hub)
    cached = cached_rooms(log)
    engine = RoomEngine(
        log,
        cached,
        bounds,
        publish=audience.hear,
        listened=audience.listened,
        invalidated=audience.invalidated,
    )
    return RoomService(
        log,
        cached,
        engine,
        recovery_events=5_000,
        online=audience.online,
        uploaded=nobody_uploaded,
        deleted=audience.told_of_deletion,
    )


async def run(service: RoomService, room: str, user: str, *commands: object) -> Sequence[Reply]:
    return [await service.house(room, user, command) for command in commands]  # type: ignore[arg-type]  # commands of several kinds


async def talkative_room(service: RoomService, lines: int) -> str:
    room = await service.create("gm", "Mara", "The Salt Road", "private")
    for number in range(lines):
        await run(service, room, "gm", Say(room=room, id=f"s{number}", text=f"line {number}"))
    await service.engine.close()
    return room


async def test_ro1_opening_reads_a_snapshot_and_what_came_after_it() -> None:
    log = CountingLog()
    room = await talkative_room(service_on(log), 500)
    log.rows_read = 0
    fresh = service_on(log)
    live = await fresh.open(room)
    assert live.durable.version == 501
    assert log.rows_read <= BOUNDS.snapshot_every + BOUNDS.recent_events + 1
    assert [viewed.offset for viewed in live.ring.newest(10) or ()] == list(range(492, 502))


async def test_ro1_a_snapshot_that_cannot_be_read_is_passed_over() -> None:
    log = CountingLog()
    room = await talkative_room(service_on(log), 90)
    expected = (await service_on(log).open(room)).durable
    head = expected.version
    await log.save_snapshot(room, Snapshot(head - 10, codec.ROOM_FORM, b"{damaged"))
    await log.save_snapshot(room, Snapshot(head - 11, 999, b"{}"))
    assert (await service_on(log).open(room)).durable == expected


async def test_ro1_a_snapshot_that_cannot_be_saved_is_saved_another_time() -> None:
    class FullLog(MemoryEventLog):
        full = True

        async def save_snapshot(self, room: str, snapshot: Snapshot) -> None:
            if self.full:
                raise LogUnavailable("The snapshot was not saved.", "The disk is full.")
            await super().save_snapshot(room, snapshot)

    log = FullLog()
    service = service_on(log)
    room = await talkative_room(service, BOUNDS.snapshot_every)
    live = await service.open(room)
    assert live.saved == 0
    log.full = False
    for number in range(BOUNDS.snapshot_every):
        await run(service, room, "gm", Say(room=room, id=f"t{number}", text="again"))
    await service.engine.close()
    assert live.saved >= BOUNDS.snapshot_every
    assert await log.snapshot_at(room, live.durable.version) is not None


async def test_ro1_a_room_is_loaded_once_however_many_ask() -> None:
    log = CountingLog()
    room = await talkative_room(service_on(log), 30)
    log.rows_read = 0
    fresh = service_on(log)
    rooms = await asyncio.gather(*(fresh.open(room) for _ in range(50)))
    assert len({id(live) for live in rooms}) == 1
    assert log.rows_read <= 31


async def test_ro2_an_idle_room_leaves_memory_and_comes_back_the_same() -> None:
    log = MemoryEventLog()
    service = service_on(log)
    room = await talkative_room(service, 5)
    before = (await service.open(room)).durable
    service.engine.sweep()
    assert service.engine.live_nowait(room) is None
    assert (await service.open(room)).durable == before


async def test_ro3_a_full_memory_lets_idle_rooms_go_and_then_refuses() -> None:
    log = MemoryEventLog()
    service = service_on(log)
    rooms = [await talkative_room(service, 1) for _ in range(3)]
    few = RoomBounds(
        recent_events=10,
        recent_bytes=1_000_000,
        snapshot_every=20,
        in_memory=2,
        idle_seconds=1000,
        commands_rate=0,
        commands_burst=0,
    )
    busy: set[str] = set()
    engine = RoomEngine(
        log,
        cached_rooms(log),
        few,
        publish=lambda *_: None,
        listened=busy.__contains__,
        invalidated=lambda room: None,
    )
    await engine.open(rooms[0])
    await engine.open(rooms[1])
    await engine.open(rooms[2])
    assert engine.rooms_in_memory == 2
    with pytest.raises(StreamMissing):
        await engine.open("a room that is none")
    assert engine.rooms_in_memory == 2, "it took nobody's place"
    busy |= set(rooms)
    missing = next(room for room in rooms if engine.live_nowait(room) is None)
    with pytest.raises(Unavailable, match="ROOMS_IN_MEMORY"):
        await engine.open(missing)


async def test_ro4_a_repeat_is_answered_from_memory_and_from_the_log_alike() -> None:
    log = MemoryEventLog()
    service = service_on(log)
    room = await talkative_room(service, 1)
    add = AddToken(room=room, id="a", name="Sable", x=1.0, y=2.0)
    (first,) = await run(service, room, "gm", add)
    assert first.result is not None
    assert await run(service, room, "gm", add) == [first]
    for later in (service, service_on(log)):
        later.engine.sweep()
        assert await run(later, room, "gm", add) == [first]
        other = AddToken(room=room, id="a", name="Other", x=1.0, y=2.0)
        with pytest.raises(IdempotencyMismatch):
            await run(later, room, "gm", other)
    assert (await service.open(room)).durable.version == first.offset


async def test_ro4_a_repeat_that_would_be_refused_by_now_gets_the_first_reply() -> None:
    log = MemoryEventLog()
    service = service_on(log)
    room = await talkative_room(service, 1)
    (added,) = await run(
        service, room, "gm", AddToken(room=room, id="a", name="Sable", x=1.0, y=2.0)
    )
    assert added.result is not None
    move = MoveToken(room=room, id="m", token=added.result["id"], x=5.0, y=5.0)
    (moved,) = await run(service, room, "gm", move)
    fresh = service_on(log)
    # The same move again changes nothing by now, and is still answered with where it happened.
    assert await run(fresh, room, "gm", move) == [moved]


async def test_ro4_a_command_that_changes_nothing_waits_for_what_it_was_decided_on() -> None:
    log = HeldLog()
    service = service_on(log)
    room = await talkative_room(service, 1)
    log.held = []
    rename = asyncio.ensure_future(
        service.house(room, "gm", UpdateRoom(room=room, id="u", name="The Dry Road"))
    )
    again = asyncio.ensure_future(
        service.house(room, "gm", UpdateRoom(room=room, id="v", name="The Dry Road"))
    )
    for _ in range(20):
        await asyncio.sleep(0)
    assert not rename.done()
    assert not again.done(), "it would tell of a name that may never be"
    (entry,) = log.held
    log.held = None
    log.append_nowait(entry)
    assert (await again).offset == (await rename).offset == 3


async def test_ro4_a_command_that_changes_nothing_is_told_nothing_of_what_it_waited_for() -> None:
    log = HeldLog()
    service = service_on(log)
    room = await talkative_room(service, 1)
    await run(service, room, "ilse", JoinRoom(room=room, id="j", name="Ilse", role="player"))
    add = AddToken(room=room, id="t", name="Cat", x=1.0, y=1.0)
    (added,) = await run(service, room, "ilse", add)
    assert added.result is not None
    still = MoveToken(room=room, id="m", token=added.result["id"], x=1.0, y=1.0)
    for outcome in (None, LogUnavailable("Nothing was saved.", "The disk is full.")):
        log.held = []
        secret = RollDice(room=room, id=f"{outcome}", expression="d20", visibility="self")
        rolling = asyncio.ensure_future(service.house(room, "gm", secret))
        await asyncio.sleep(0)
        waiting = asyncio.ensure_future(service.house(room, "ilse", still))
        for _ in range(20):
            await asyncio.sleep(0)
        (entry,) = log.held
        log.held = None
        if outcome is None:
            log.append_nowait(entry)
        else:
            entry.done(entry, outcome)
        reply = await waiting
        assert reply.result is None
        await asyncio.gather(rolling, return_exceptions=True)
        assert reply.offset == (await service.open(room)).durable.version


async def test_ro10_what_seemed_to_change_nothing_stays_in_front_of_what_its_member_sent_behind_it() -> (
    None
):
    class SlowLog(HeldLog):
        asked = asyncio.Event()

        async def find(self, room: str, key: bytes) -> Found | None:
            await self.asked.wait()
            return await super().find(room, key)

    log = SlowLog()
    service = service_on(log)
    room = await talkative_room(service, 1)
    live = await service.open(room)
    answered: dict[str, Reply | TableForgeError] = {}

    def send(command: Command) -> None:
        service.engine.execute(live, "gm", command, partial(answered.__setitem__, command.id))

    log.held = []
    send(UpdateRoom(room, "first", name="The Dry Road"))
    send(UpdateRoom(room, "same", name="The Dry Road"))
    send(Say(room, "said", "What a name"))
    failed, *behind = log.held
    log.held = None
    failed.done(failed, LogUnavailable("Nothing was saved.", "The disk is full."))
    for entry in behind:
        entry.done(entry, VersionConflict(room, expected=entry.expected, actual=entry.expected))
    await log.wait_for_idle()
    log.asked.set()
    for _ in range(20):
        await asyncio.sleep(0)
    assert isinstance(answered["first"], LogUnavailable)
    assert answered["same"] == Reply(3)
    assert answered["said"] == Reply(4)


async def test_ro5_commands_of_one_member_are_limited_and_others_are_not() -> None:
    log = MemoryEventLog()
    tight = RoomBounds(
        recent_events=10,
        recent_bytes=1_000_000,
        snapshot_every=20,
        in_memory=10,
        idle_seconds=0,
        commands_rate=0.001,
        commands_burst=3,
    )
    service = service_on(log, tight)
    room = await service.create("gm", "Mara", "The Salt Road", "private")
    await run(service, room, "ilse", JoinRoom(room=room, id="j", name="Ilse", role="player"))
    for number in range(2):
        await run(service, room, "gm", Say(room=room, id=f"{number}", text="hi"))
    with pytest.raises(TooMany):
        await asyncio.gather(
            *(run(service, room, "gm", Say(room=room, id=f"m{n}", text="hi")) for n in range(5))
        )
    await run(service, room, "ilse", Say(room=room, id="x", text="hi"))


async def test_ro6_a_deleted_room_is_gone_at_once() -> None:
    log = MemoryEventLog()
    service = service_on(log)
    room = await talkative_room(service, 3)
    await service.delete(room, "gm")
    with pytest.raises(NoSuchRoom):
        await service.snapshot(room, "gm")
    with pytest.raises(NotFound):
        await service.house(room, "gm", Say(room=room, id="late", text="hi"))
    assert (await service.rooms_of("gm", limit=10, cursor=None)).rooms == []


async def test_ro7_many_who_missed_nearly_the_same_share_one_fold() -> None:
    log = CountingLog()
    service = service_on(log)
    room = await talkative_room(service, 300)
    live = await service.open(room)
    log.rows_read = 0
    found = await asyncio.gather(*(service.views(live, after, 301) for after in range(50, 90)))
    assert [[one.offset for one in views] for views in found] == [
        list(range(after + 1, 302)) for after in range(50, 90)
    ]
    assert log.rows_read <= 301


async def test_ro8_a_mistake_in_one_command_harms_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = MemoryEventLog()
    service = service_on(log)
    room = await talkative_room(service, 1)
    before = (await service.open(room)).durable

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr("tableforge.rooms.decided.decide", broken)
        with pytest.raises(Unavailable):
            await run(service, room, "gm", Say(room=room, id="x", text="hi"))
    live = await service.open(room)
    assert live.durable == live.head == before
    await run(service, room, "gm", Say(room=room, id="x", text="hi"))


async def test_ro8_a_room_whose_first_command_fails_never_was() -> None:
    class FullLog(MemoryEventLog):
        """A disk that takes nothing."""

        def append_nowait(self, entry: Append) -> None:
            asyncio.get_running_loop().call_soon(
                entry.done, entry, LogUnavailable("Nothing was saved.", "The disk is full.")
            )

    service = service_on(FullLog())
    with pytest.raises(Unavailable):
        await service.create("gm", "Mara", "The Salt Road", "private")
    assert service.engine.rooms_in_memory == 0


async def test_ro7_history_from_the_log_is_what_was_told_when_it_happened() -> None:
    log = MemoryEventLog()
    service = service_on(log)
    room = await service.create("gm", "Mara", "The Salt Road", "private")
    await run(service, room, "ilse", JoinRoom(room=room, id="j", name="Ilse", role="player"))
    live = await service.open(room)
    told: list[tuple[int, bytes]] = []
    for number in range(60):
        await run(
            service,
            room,
            "gm",
            AddToken(
                room=room, id=f"t{number}", name=f"n{number}", x=0.0, y=0.0, hidden=number % 2 == 0
            ),
        )
        told.append((live.durable.version, (live.ring.newest(1) or [])[0].data_for("ilse")))
    page = await service_on(log).events(room, "ilse", told[0][0] - 1, 1000)
    assert page.events == told
    assert page.next is None
    part = await service.events(room, "ilse", told[0][0] - 1, 7)
    assert part.events == told[:7]
    assert part.next == told[6][0]


async def test_cr7_a_room_that_may_be_deleted_is_asked_for_again_and_told_of_once_it_is() -> None:
    log = UnsureLog()
    service = service_on(log)
    room = await service.create("gm", "Mara", "The Salt Road", "public")
    await run(service, room, "ann", JoinRoom(room=room, id="j", name="Ann", role="player"))
    told: list[str] = []

    async def tell(gone: str) -> None:
        told.append(gone)
        if len(told) == 1:
            raise Unavailable("Nobody could be told.")

    service._deleted = tell
    assert len((await service.rooms_of("cy", limit=9, cursor=None)).rooms) == 1
    with pytest.raises(LogUnavailable):
        await service.delete(room, "gm")
    assert (await service.rooms_of("cy", limit=9, cursor=None)).rooms == []
    with pytest.raises(NoSuchRoom):
        await service.open(room)
    with pytest.raises(NoSuchRoom):
        await service.delete(room, "ann")
    assert told == []
    with pytest.raises(Unavailable):
        await service.delete(room, "gm")
    await service.delete(room, "gm")
    assert told == [room, room]
    with pytest.raises(NoSuchRoom):
        await service.delete(room, "gm")
