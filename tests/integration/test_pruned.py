"""Rooms whose old history was taken away, read by the tools and by clients of a real server (rules HI3, HI5 and HI6)."""

import asyncio
import json
import multiprocessing
import os
import signal
import sqlite3
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tableforge.api.house import House
from tableforge.api.maintenance import HISTORY
from tableforge.bootstrap import assemble
from tableforge.config import load
from tableforge.domain.commands import Say
from tableforge.eventlog import Taken
from tableforge.ops.migrate import Moved, move, place_of
from tableforge.ops.verify import Problem, verify
from tableforge.rooms import pruning
from tests.cached_world import fleet_of
from tests.command import tableforge
from tests.integration.pruned import BEGINS, play, shorten
from tests.integration.raw_client import Raw
from tests.long_rooms import SetClock, prune
from tests.server_process import Person, running

DEADLINE = 60.0


def moved(source: str | Path, target: str | Path, *, dry_run: bool = False) -> Moved:
    """Move everything from one store into another."""
    settings = load({}, None)
    return asyncio.run(
        move(
            settings,
            place_of(str(source), settings),
            place_of(str(target), settings),
            room=None,
            dry_run=dry_run,
            force=True,
            progress=lambda what, done, of: None,
        )
    )


def problems(data: Path) -> list[Problem]:
    """What `verify` finds wrong in a folder."""
    settings = load({"TABLEFORGE_DATA": str(data)}, None)
    return asyncio.run(verify(settings, lambda what, done, of: None)).problems


def rows(data: Path, text: str) -> list[tuple[Any, ...]]:
    """Rows of a folder's database."""
    with closing(sqlite3.connect(data / "tableforge.sqlite3")) as file:
        return file.execute(text).fetchall()


def test_hi6_verify_checks_from_the_snapshot_on_and_says_so(tmp_path: Path) -> None:
    data = tmp_path / "data"
    play(data)
    shorten(data)
    assert rows(data, "SELECT min(seq), max(seq) FROM events") == [(BEGINS + 1, 62)]
    told = tableforge("verify", "--json", folder=tmp_path)
    assert told.returncode == 0, told.stdout + told.stderr
    found = json.loads(told.stdout)
    assert (found["rooms"], found["shortened"], found["events"]) == (1, 1, 22)
    spoken = tableforge("verify", folder=tmp_path)
    assert spoken.stdout.endswith("no problems. 1 logs begin at a snapshot.\n")
    with closing(sqlite3.connect(data / "tableforge.sqlite3", isolation_level=None)) as file:
        lime = "CAST(replace(CAST(data AS TEXT), 'line', 'lime') AS BLOB)"
        file.execute(f"UPDATE events SET data = {lime} WHERE seq = 45")  # noqa: S608 - a constant
    assert [text for _, text in problems(data)] == [
        "The snapshot at 50 is not what the log folds to.",
        "The snapshot at 60 is not what the log folds to.",
    ]
    with closing(sqlite3.connect(data / "tableforge.sqlite3", isolation_level=None)) as file:
        file.execute("DELETE FROM snapshots WHERE seq = ?", (BEGINS,))
    (first, *_) = problems(data)
    assert first.text == "Its log begins behind event 40, and no snapshot there can be read."


def test_hi6_a_sweep_that_was_broken_off_is_no_problem(tmp_path: Path) -> None:
    data = tmp_path / "data"
    play(data)

    async def broken_off() -> None:
        async with fleet_of(data, None, 1) as fleet:
            log = fleet.instances[0].log
            (room,) = await log.all_rooms(after="", limit=9)
            await log.begin_behind(room, BEGINS)
            assert await log.take_away(room, limit=5) == Taken(5, 3)

    asyncio.run(broken_off())
    assert rows(data, "SELECT min(seq) FROM events") == [(6,)]
    assert problems(data) == []
    target = tmp_path / "copy"
    done = moved(data, target)
    assert done.is_whole
    assert rows(target, "SELECT min(seq), max(seq) FROM events") == [(BEGINS + 1, 62)]
    assert problems(target) == []


def test_hi6_backup_and_restore_carry_the_beginning(tmp_path: Path) -> None:
    data = tmp_path / "data"
    play(data)
    shorten(data)
    before = rows(data, "SELECT id, begins FROM rooms")
    made = tableforge("backup", tmp_path / "kept", folder=tmp_path)
    assert made.returncode == 0, made.stderr
    back = tableforge("restore", "--replace", tmp_path / "kept", folder=tmp_path)
    assert back.returncode == 0, back.stderr
    assert rows(data, "SELECT id, begins FROM rooms") == before
    assert problems(data) == []


def test_hi6_there_and_back_between_the_modes_it_is_equal_by_digest(
    database_url: str, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    play(data)
    whole = moved(data, tmp_path / "whole")
    shorten(data)
    there = moved(data, database_url)
    back = moved(database_url, tmp_path / "back")
    (one,), (other,) = there.rooms, back.rooms
    assert (one.outcome, other.outcome) == ("moved", "moved")
    assert (one.digest, one.state, one.events) == (other.digest, other.state, 62)
    assert one.state == whole.rooms[0].state, "it is the same room"
    assert one.state
    assert problems(tmp_path / "back") == []
    for text in ("SELECT seq, data FROM events", "SELECT seq, data FROM snapshots"):
        assert rows(tmp_path / "back", text) == rows(data, text)
    again = moved(data, database_url)
    assert [room.outcome for room in again.rooms] == ["there"]


@pytest.mark.parametrize("is_there", ["whole", "shortened"])
def test_hi6_a_room_that_lost_its_beginning_on_one_side_is_known_for_the_same(
    is_there: str, database_url: str, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    play(data)
    if is_there == "whole":
        moved(data, database_url)
        shorten(data)
    else:
        moved(data, database_url)
        shorten(tmp_path, database_url)
    (room,) = moved(data, database_url).rooms
    assert (room.outcome, room.why) == ("there", "")
    (dry,) = moved(data, database_url, dry_run=True).rooms
    assert dry.outcome == "there"


async def test_hi5_who_was_cut_off_before_the_beginning_gets_a_snapshot(tmp_path: Path) -> None:
    with running(tmp_path, LIMIT_COMMANDS="0", SNAPSHOT_EVERY_EVENTS="10") as server:
        mara = Person(server, "Mara")
        room, _ = mara.create_room()
        for number in range(60):
            assert mara.command(room, "chat.say", text=f"line {number}").status_code == 200
        epoch = mara.http.get(f"/api/rooms/{room}/snapshot").json()["epoch"]
        assert server.stop() == 0
    async with fleet_of(tmp_path / "data", None, 1) as fleet:
        assert (await prune(fleet.instances[0].log, kept=5)).troubles == []
    begins = rows(tmp_path / "data", "SELECT begins FROM rooms")[0][0]
    assert begins > 40
    # Nothing in memory, so that all is asked of the log.
    with running(tmp_path, ROOM_RECENT_EVENTS="0") as server:
        channel = f"room:{room}"
        for offset, recovered in ((3, False), (begins - 1, False), (begins, True), (60, True)):
            async with Raw(server, mara.token) as raw:
                position = {"recover": True, "epoch": epoch, "offset": offset}
                joined = await raw.call(subscribe={"channel": channel, **position})
                assert joined["subscribe"].get("recovered", False) is recovered
                told = joined["subscribe"].get("publications", [])
                assert [one["offset"] for one in told] == (
                    list(range(offset + 1, 62)) if recovered else []
                )
                assert ("data" in joined["subscribe"]) is not recovered
                asked = await raw.call(history={"channel": channel, "limit": 1000})
                offsets = [one["offset"] for one in asked["history"]["publications"]]
                assert offsets == list(range(begins + 1, 62))
                backwards = {"channel": channel, "limit": 1000, "reverse": True}
                asked = await raw.call(history=backwards)
                assert [one["offset"] for one in asked["history"]["publications"]] == offsets[::-1]


@pytest.mark.parametrize("days", [0, 1])
async def test_hi1_a_server_does_what_the_setting_says(days: int, tmp_path: Path) -> None:
    settings = load(
        {
            "TABLEFORGE_DATA": str(tmp_path / "data"),
            "HISTORY_RETENTION_DAYS": str(days),
            "RECOVERY_MAX_EVENTS": "10",
            "ROOM_RECENT_EVENTS": "5",
            "SNAPSHOT_EVERY_EVENTS": "50",
            "LIMIT_COMMANDS": "0",
        },
        None,
    )
    async with assemble(
        settings, draining=bool, refusing=bool, stop=lambda because: None
    ) as server:
        house: House = server.app._app.state.house  # type: ignore[attr-defined]  # behind the edge
        server.engine._clock = SetClock()  # type: ignore[assignment]  # long ago
        room = await house.rooms.create("gm", "Mara", "The Salt Road", "private")
        for number in range(600):
            await house.rooms.house(room, "gm", Say(room=room, id=f"s{number}", text="and on"))
        caretaker = house.caring.caretaker
        caretaker._busy = str  # whatever this machine is doing
        told: list[str] = []
        done = {one.action: one for one in await caretaker.maintain(told.append)}
        if not days:
            assert HISTORY not in done
            assert rows(tmp_path / "data", "SELECT min(seq) FROM events") == [(1,)]
            return
        first = rows(tmp_path / "data", "SELECT min(seq) FROM events")[0][0]
        assert done[HISTORY].verdict == "done", done
        assert done[HISTORY].after == f"{first - 1} events of 1 rooms taken away"
        assert 50 <= first - 1 <= 601 - 10 - 500
        assert f"{first - 1} events of 1 rooms taken away, 1 rooms looked at" in told


PORTION = 3


async def _prune_slowly(folder: Path, url: str | None, told: Connection) -> None:
    async with fleet_of(folder, url, 1) as fleet:
        log = fleet.instances[0].log
        taking = log.take_away

        async def take_away(room: str, *, limit: int) -> Taken:
            taken = await taking(room, limit=limit)
            told.send(taken.events)
            return taken

        log.take_away = take_away  # type: ignore[method-assign]  # the same, and it tells
        pruning.PORTION = PORTION
        pruning.LEAST_PAUSE_SECONDS = 0.2
        await prune(log)


def prune_slowly(folder: Path, url: str | None, told: Connection) -> None:
    """Take away a few events at a time, and tell of each; for a process of its own."""
    asyncio.run(_prune_slowly(folder, url, told))


async def held(folder: Path, url: str | None) -> tuple[int, int]:
    """The first event that a database holds, and where the log begins."""
    if url is None:
        return (*rows(folder, "SELECT min(seq) FROM events")[0], *rows(folder, "SELECT begins FROM rooms")[0])  # fmt: skip
    connection = await asyncpg.connect(url)
    try:
        first = await connection.fetchval("SELECT min(seq) FROM events")
        return first, await connection.fetchval("SELECT begins FROM room_heads")
    finally:
        await connection.close()


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_hi3_killed_in_the_middle_the_next_one_finishes(
    engine: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = request.getfixturevalue("database_url") if engine == "postgres" else None
    data = tmp_path / "data"
    room = play(data, url)
    spawn = multiprocessing.get_context("spawn")
    hearing, telling = spawn.Pipe(duplex=False)
    (tmp_path / "other").mkdir()
    folder = data if url is None else tmp_path / "other"
    process = spawn.Process(target=prune_slowly, args=(folder, url, telling))
    process.start()
    for _ in range(3):
        assert hearing.poll(DEADLINE)
        assert hearing.recv() == PORTION
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(DEADLINE)
    first, begins = asyncio.run(held(data, url))
    assert begins == BEGINS
    assert 3 * PORTION < first <= BEGINS, "it was killed in the middle"

    async def finished() -> None:
        (tmp_path / "third").mkdir()
        async with fleet_of(data if url is None else tmp_path / "third", url, 1) as fleet:
            one = fleet.instances[0]
            live = await one.rooms.open(room)
            assert live.durable.version == 62
            page = await one.rooms.events(room, "gm", 0, 1000)
            assert [offset for offset, _ in page.events] == list(range(BEGINS + 1, 63))
            assert (await prune(one.log)).troubles == []

    for assets in data.glob("assets-*"):
        assets.rmdir()
    asyncio.run(finished())
    assert asyncio.run(held(data, url)) == (BEGINS + 1, BEGINS)
