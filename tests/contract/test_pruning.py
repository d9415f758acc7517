"""Taking away old history (rules HI of `docs/spec.md`), on each engine and with real servers' parts."""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from tableforge.api.maintenance import HISTORY, Caretaker, Pruning
from tableforge.config import DatabaseKnobs
from tableforge.database import Statement
from tableforge.database.care import Care
from tableforge.database.care.ledger import Ledger
from tableforge.database.care.postgres import PostgresCare
from tableforge.database.care.sqlite import SqliteCare
from tableforge.database.postgres import PostgresDatabase
from tableforge.database.sqlite import SqliteDatabase
from tableforge.domain.commands import Say
from tableforge.eventlog import EventLog, Snapshot, StoredEvent
from tableforge.eventlog.postgres import PostgresEventLog
from tableforge.library.retention import Retention
from tableforge.library.runs import Action
from tableforge.protocol import codec
from tableforge.rooms.cached import BeginningUnreadable
from tableforge.rooms.loading import load
from tableforge.rooms.pruning import History
from tableforge.rooms.views import Ring
from tests.cached_world import Fleet, Instance, fleet_of
from tests.long_rooms import (
    GM,
    clocked,
    left,
    moment,
    never,
    opened,
    played,
    prune,
    say,
    whole,
)
from tests.services import run_sql


@pytest.fixture(params=["sqlite", "postgres"])
async def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Fleet]:
    """One instance on SQLite, two on PostgreSQL."""
    is_fleet = request.param == "postgres"
    url = request.getfixturevalue("database_url") if is_fleet else None
    async with fleet_of(tmp_path, url, 2 if is_fleet else 1) as fleet:
        yield fleet


@pytest.fixture
def one(fleet: Fleet) -> Instance:
    """The instance that writes."""
    return fleet.instances[0]


@pytest.fixture
def other(fleet: Fleet) -> Instance:
    """Another one, where there is one."""
    return fleet.instances[-1]


async def begins(log: EventLog, room: str) -> int:
    """Behind which offset a log begins."""
    head = await log.head(room)
    assert head is not None
    return head.begins


async def kept(log: EventLog, room: str) -> list[int]:
    """The offsets of the first and the last event that a database holds of a room."""
    rows = await whole(log, room)
    assert [row.offset for row in rows] == list(range(rows[0].offset, rows[-1].offset + 1))
    return [rows[0].offset, rows[-1].offset]


async def test_hi1_what_is_old_goes_up_to_a_snapshot_and_not_the_newest_events(
    one: Instance,
) -> None:
    clock = clocked(one)
    room, young = await opened(one), await opened(one)
    for hour in range(6):
        clock.hours = hour
        await say(one, room, 10)
    await say(one, young, 60)
    done = await prune(one.log, before=moment(1), kept=25)
    assert (done.events, done.rooms, done.troubles) == (10, 1, [])
    assert await kept(one.log, room) == [11, 61]
    done = await prune(one.log, before=moment(4), kept=25)
    assert await begins(one.log, room) == 30, "25 events are kept, and a snapshot lies at 30"
    assert await kept(one.log, room) == [31, 61]
    assert await kept(one.log, young) == [1, 61]
    assert await prune(one.log, before=moment(4), kept=25) == (0, 0, [], "")
    deleted = await prune(one.log, before=moment(9), kept=25)
    assert (deleted.events, deleted.rooms) == (30, 1)


async def test_hi1_a_clock_that_ran_ahead_keeps_what_it_dated_and_what_lies_behind(
    one: Instance,
) -> None:
    clock = clocked(one)
    room = await opened(one)
    await say(one, room, 24)
    clock.hours = 1_000
    await say(one, room, 1)
    clock.hours = 1
    await say(one, room, 40)
    await prune(one.log, before=moment(2))
    assert await kept(one.log, room) == [21, 66]


async def test_hi2_a_snapshot_that_is_not_what_the_log_says_carries_nothing(
    one: Instance,
) -> None:
    room, sound = await opened(one), await opened(one)
    await say(one, room, 60)
    await say(one, sound, 60)
    live = await one.rooms.open(room)
    wrong = replace(live.durable, version=40, name="Another")
    await one.log.save_snapshot(room, Snapshot(40, codec.ROOM_FORM, codec.encode_room(wrong)))
    done = await prune(one.log)
    (trouble,) = done.troubles
    assert trouble.startswith(f"Room {room}: Its snapshot at 40 is not what its log says.")
    assert await kept(one.log, room) == [1, 61]
    assert await kept(one.log, sound) == [41, 61]


async def test_hi2_a_snapshot_of_another_form_or_a_damaged_one_is_passed_over(
    one: Instance,
) -> None:
    room = await opened(one)
    await say(one, room, 60)
    kept_at_30 = await one.log.snapshot_at(room, 30)
    await one.log.save_snapshot(room, Snapshot(40, codec.ROOM_FORM + 1, b"{}"))
    await one.log.save_snapshot(room, Snapshot(30, codec.ROOM_FORM, b"{damaged"))
    assert (await prune(one.log)).troubles == []
    assert await kept(one.log, room) == [21, 61]
    assert kept_at_30 is not None


async def test_hi2_an_event_that_cannot_be_read_or_is_missing_keeps_its_room_whole(
    one: Instance,
) -> None:
    room, torn = await opened(one), await opened(one)
    await say(one, room, 60)
    await say(one, torn, 60)
    own = "room = (SELECT num FROM rooms WHERE id = ?1)"
    change = "UPDATE events SET version = 99 WHERE {} AND seq = 7"
    drop = "DELETE FROM events WHERE {} AND seq = 8"
    for text, which in ((change, room), (drop, torn)):
        await one.database.write(
            Statement("test.break", text.format(own), text.format("room = ?1")), which
        )
    done = await prune(one.log)
    assert sorted(done.troubles) == sorted(
        [
            f"Room {room}: Event 7 cannot be read. Run `tableforge verify`.",
            f"Room {torn}: Its log has no event 8. Run `tableforge verify`.",
        ]
    )
    assert await begins(one.log, room) == await begins(one.log, torn) == 0


async def test_hi3_what_is_broken_off_is_finished_by_the_next(
    one: Instance, other: Instance
) -> None:
    room = await opened(one)
    await say(one, room, 60)
    await one.log.begin_behind(room, 40)
    assert await one.log.take_away(room, limit=7) == (7, 3)
    assert await kept(other.log, room) == [8, 61]
    task = asyncio.create_task(prune(other.log))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (await prune(other.log)).troubles == []
    assert await kept(one.log, room) == [41, 61]


async def test_hi3_it_ends_when_there_is_much_to_do_and_says_so(one: Instance) -> None:
    rooms = [await opened(one) for _ in range(3)]
    for room in rooms:
        await say(one, room, 40)
    reasons = iter([""] * 4)
    done = await prune(one.log, enough=lambda: next(reasons, "instance i1 has much to do"))
    assert done.stopped == "instance i1 has much to do"
    assert sum([await begins(one.log, room) > 0 for room in rooms]) <= 2
    assert (await prune(one.log)).stopped == ""
    assert [await begins(one.log, room) for room in rooms] == [20, 20, 20]


async def test_hi4_a_room_without_its_beginning_opens_and_is_played_as_before(
    one: Instance, other: Instance
) -> None:
    room = await opened(one)
    await say(one, room, 60)
    before = (await one.rooms.open(room)).durable
    await left(one)
    await prune(one.log, kept=1)
    assert await begins(one.log, room) == 60
    assert (await other.rooms.open(room)).durable == before
    for instance in (one, other):
        await say(instance, room, 3)
        await left(instance)
    after = (await one.rooms.open(room)).durable
    assert after.version == before.version + 6
    assert after.members == before.members


async def test_hi4_whoever_opens_it_meanwhile_finds_it_whole(
    one: Instance, other: Instance
) -> None:
    room = await opened(one)
    await say(one, room, 75)
    asked = other.log.read
    behind: list[int] = []

    async def read(room: str, *, after: int, limit: int) -> list[StoredEvent]:
        if not behind:
            behind.append(after)
            await say(one, room, 30)
            await prune(one.log, kept=1)
        return await asked(room, after=after, limit=limit)

    other.log.read = read  # type: ignore[method-assign]  # the same, but the beginning moves first
    other.cache.clear()
    loaded = await load(other.log, other.cached, room, Ring(5, 1_000_000), snapshot_every=10)
    assert (behind, await begins(other.log, room)) == ([70], 100)
    assert loaded is not None
    assert loaded.room == (await one.rooms.open(room)).durable
    assert [viewed.offset for viewed in loaded.ring.newest(5) or ()] == list(range(102, 107))


async def test_hi5_history_begins_at_the_earliest_that_is_kept(
    one: Instance, other: Instance
) -> None:
    room = await opened(one)
    await say(one, room, 60)
    _, seen = played(room, await whole(one.log, room))
    await left(one)
    await prune(one.log)
    page = await other.rooms.events(room, GM, 0, 1000)
    assert page.events == [(one.offset, one.data_for(GM)) for one in seen[40:]]
    assert page.next is None
    part = await other.rooms.events(room, GM, 12, 5)
    assert [offset for offset, _ in part.events] == [41, 42, 43, 44, 45]
    assert part.next == 45
    live = await other.rooms.open(room)
    assert await other.rooms.views(live, 40, 61) == seen[40:]
    assert await other.rooms.kept_behind(live, 3) == 40
    assert await other.rooms.kept_behind(live, 58) == 58


async def test_hi5_hi4_a_room_that_lags_behind_the_beginning_is_opened_anew(
    one: Instance, other: Instance
) -> None:
    room = await opened(one)
    await say(one, room, 5)
    lagging = await other.rooms.open(room)
    await say(one, room, 60)
    if one is other:
        assert lagging.durable.version == 66
        return
    assert lagging.durable.version == 6
    await prune(one.log)
    await other.engine.reach(lagging, 66)
    assert lagging.dropped
    assert (await other.rooms.open(room)).durable == (await one.rooms.open(room)).durable


async def spoil(instance: Instance, which: str) -> None:
    """Overwrite snapshots in the database."""
    text = f"UPDATE snapshots SET data = {{}} WHERE {which}"  # noqa: S608 - constants
    statement = Statement("test.spoil", text.format("zeroblob(9)"), text.format("'\\x00'"))
    await instance.database.write(statement)


async def test_hi7_a_room_whose_beginning_nobody_can_read_is_not_made_up(
    one: Instance, other: Instance
) -> None:
    room = await opened(one)
    await say(one, room, 60)
    state = (await one.rooms.open(room)).durable
    await left(one)
    await prune(one.log)
    await spoil(one, "seq = 40")
    other.cache.clear()
    assert (await other.rooms.open(room)).durable == state, "a later snapshot serves as well"
    await left(other)
    await spoil(one, "seq > 40")
    other.cache.clear()
    with pytest.raises(BeginningUnreadable, match="begins behind event 40"):
        await other.rooms.open(room)
    assert len(await whole(one.log, room)) == 21, "nothing was changed"


def care_of(instance: Instance) -> Care:
    """The care of an instance's database."""
    database = instance.database
    if isinstance(database, PostgresDatabase):
        return PostgresCare(
            *(database.dial, Ledger(database), tuple),
            dead_share=0.1,
            pool_max=20,
            tables=frozenset(),
        )
    assert isinstance(database, SqliteDatabase)
    return SqliteCare(database, Ledger(database), tuple, dead_share=0.1)


async def night(
    instance: Instance, *, days: int = 1, obstacle: str = "", log: EventLog | None = None
) -> tuple[Action, list[str]]:
    """What a night's maintenance does about history, and what is told meanwhile."""
    told: list[str] = []
    pruning = Pruning(History(log or instance.log, kept_events=20), days, lambda: obstacle)
    caretaker = Caretaker(
        care_of(instance),
        Ledger(instance.database),
        Retention(instance.database, has_notices=instance.notices is not None),
        busy=never,
        ids_kept_seconds=0.0,
        pruning=pruning,
    )
    actions = {one.action: one for one in await caretaker.maintain(told.append)}
    assert actions["check a sample of the logs"].verdict == "done"
    return actions[HISTORY], told


async def test_hi3_one_night_takes_it_away_and_says_how_much(
    one: Instance, other: Instance
) -> None:
    clocked(one)
    room = await opened(one)
    await say(one, room, 60)
    done, told = await night(one)
    assert (done.verdict, done.after, done.reason) == (
        "done",
        "40 events of 1 rooms taken away",
        "",
    )
    assert "40 events of 1 rooms taken away, 1 rooms looked at" in told
    again, _ = await night(other)
    assert again.after == "0 events of 0 rooms taken away"
    long_ago, _ = await night(other, days=36_500)
    assert long_ago.after == "0 events of 0 rooms taken away"
    assert await kept(one.log, room) == [41, 61]


async def test_hi8_other_versions_beside_this_one_keep_all_history(one: Instance) -> None:
    clocked(one)
    room = await opened(one)
    await say(one, room, 60)
    kept_back, _ = await night(one, obstacle="Versions 1 and 2 serve side by side.")
    assert (kept_back.verdict, kept_back.reason) == (
        "skipped",
        "Versions 1 and 2 serve side by side.",
    )
    assert await kept(one.log, room) == [1, 61]


async def test_hi8_a_role_that_may_not_is_told_what_to_grant(
    database_url: str, tmp_path: Path
) -> None:
    role = f"server_{secrets.token_hex(4)}"
    async with fleet_of(tmp_path, database_url, 1) as fleet:
        one = fleet.instances[0]
        clocked(one)
        room = await opened(one)
        await say(one, room, 60)
        run_sql(
            database_url,
            f"CREATE ROLE {role} LOGIN",
            f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {role}",
        )
        url = re.sub("//[^@/]*@|//", f"//{role}@", database_url)
        try:
            async with PostgresDatabase(DatabaseKnobs(url=url, pool_min=0), "serving") as database:
                await database.started()
                log = PostgresEventLog(database, commit_interval=0.0)
                refused, _ = await night(one, log=log)
                assert refused.verdict == "failed"
                grant = f"GRANT DELETE ON events, snapshots TO {role}"
                assert refused.reason == f"{grant}."
                assert await kept(one.log, room) == [1, 61]
                run_sql(database_url, grant)
                done, _ = await night(one, log=log)
                assert done.verdict == "done"
                await log.close()
        finally:
            run_sql(database_url, f"DROP OWNED BY {role}", f"DROP ROLE {role}")
        assert await kept(one.log, room) == [41, 61]


async def test_hi3_two_that_prune_at_once_harm_nobody(one: Instance, other: Instance) -> None:
    rooms = [await opened(one) for _ in range(3)]
    for room in rooms:
        await say(one, room, 60)
    before = [(await one.rooms.open(room)).durable for room in rooms]
    await left(one)

    async def on() -> None:
        for number in range(30):
            for room in rooms:
                await one.house(room, GM, Say(room=room, id=f"on{number}", text="on"))

    reading = [] if other is one else [reads(other, rooms)]
    await asyncio.gather(prune(one.log), prune(other.log, kept=3), on(), *reading)
    for room, state in zip(rooms, before, strict=True):
        live = await other.rooms.open(room)
        assert live.durable.version == state.version + 30
        await left(other)
        assert (await kept(one.log, room))[0] == await begins(one.log, room) + 1


async def reads(instance: Instance, rooms: list[str]) -> None:
    """Open rooms again and again, and read their history."""
    for number in range(30):
        for room in rooms:
            instance.engine.sweep()
            page = await instance.rooms.events(room, GM, number, 1000)
            offsets = [offset for offset, _ in page.events]
            assert offsets == list(range(offsets[0], offsets[-1] + 1))
