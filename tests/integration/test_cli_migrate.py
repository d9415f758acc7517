"""`migrate`: from a data folder into PostgreSQL and back, equal by digest; again, interrupted, refused."""

import asyncio
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tableforge.config import DatabaseKnobs, load
from tableforge.database.migrations import scripts
from tableforge.errors import StartRefused
from tableforge.ops.fleet_store import filling
from tableforge.ops.migrate import Moved, move, place_of
from tests.command import DEADLINE_SECONDS, tableforge
from tests.integration.played import ROOMS, database
from tests.server_process import Person, running
from tests.services import run_sql

TABLES = {
    "events": "SELECT rooms.id, seq, version, data, key, digest FROM events"
    " JOIN rooms ON rooms.num = events.room ORDER BY 1, 2",
    "snapshots": "SELECT rooms.id, seq, version, data FROM snapshots"
    " JOIN rooms ON rooms.num = snapshots.room ORDER BY 1, 2",
    "rooms": "SELECT id, name, visibility, tags, deleted_at FROM rooms ORDER BY num",
    "seats": "SELECT rooms.id, user, role FROM seats JOIN rooms ON rooms.num = seats.room ORDER BY 1, 2",
    "users": "SELECT * FROM users ORDER BY 1",
    "sessions": "SELECT * FROM sessions ORDER BY 1",
    "recovery_codes": "SELECT * FROM recovery_codes ORDER BY 1",
    "invites": "SELECT * FROM invites ORDER BY 1",
    "assets": "SELECT id, digest, kind, width, height, bytes, uploader, room, name, search, tags, created_ms"
    " FROM assets ORDER BY 1",
    "designs": "SELECT id, kind, owner, name, visibility, tags, version, created_ms, updated_ms FROM designs ORDER BY 1",
    "design_versions": "SELECT * FROM design_versions ORDER BY 1, 2",
}


TOKEN = "0123456789abcdef0123456789abcdef"
LOG = "SELECT * FROM events WHERE room = $1 ORDER BY seq"


def digests(data: Path) -> dict[str, str]:
    """A digest of each table's rows, whatever numbers stand for rooms, and of each picture's file."""
    with database(data) as file:
        found = {
            name: hashlib.sha256(repr(file.execute(text).fetchall()).encode()).hexdigest()
            for name, text in TABLES.items()
        }
    for path in sorted((data / "assets").rglob("*")):
        if path.is_file():
            found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def epochs(data: Path) -> set[str]:
    """The epochs of all rooms."""
    with database(data) as file:
        return {row[0] for row in file.execute("SELECT epoch FROM rooms")}


def moved(
    source: str | Path,
    target: str | Path,
    *,
    room: str | None = None,
    dry_run: bool = False,
    force: bool = False,
    whole: bool = True,
    assets_url: str = "",
) -> dict[str, Any]:
    """Move in this process, and return what the command prints as JSON."""
    settings = load({"ASSETS_URL": assets_url} if assets_url else {}, None)
    done = asyncio.run(
        move(
            settings,
            place_of(str(source), settings),
            place_of(str(target), settings),
            room=room,
            dry_run=dry_run,
            force=force,
            progress=lambda what, done, of: None,
        )
    )
    assert done.is_whole is whole
    return {**done._asdict(), "rooms": [one._asdict() for one in done.rooms]}


def in_fleet(url: str, *arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command with the settings of a fleet."""
    return tableforge(*arguments, folder=folder, DATABASE_URL=url, ADMIN_TOKEN=TOKEN)


def outcomes(told: dict[str, Any]) -> set[str]:
    """What became of the rooms."""
    return {room["outcome"] for room in told["rooms"]}


def queried(url: str, text: str, *params: object) -> list[tuple[Any, ...]]:
    """Rows of the fleet's database."""

    async def run() -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(url)
        try:
            return [tuple(row) for row in await connection.fetch(text, *params)]
        finally:
            await connection.close()

    return asyncio.run(run())


def test_mv1_mv5_there_and_back_everything_is_as_it_was(
    played: Path, database_url: str, tmp_path: Path
) -> None:
    with database(played) as file:
        file.execute("UPDATE rooms SET deleted_at = '2026-01-02T03:04:05Z' WHERE num = 1")
    done = tableforge(
        *("migrate", "--json", "--from", played, "--to", database_url), folder=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    there = json.loads(done.stdout)
    assert there["whole"] is True
    assert outcomes(there) == {"moved"}
    assert len(there["rooms"]) == ROOMS
    assert there["pictures"] == 1
    assert all(len(room["digest"]) == len(room["state"]) == 64 for room in there["rooms"])
    back = moved(database_url, tmp_path / "back")
    assert [(room["id"], room["digest"], room["state"]) for room in back["rooms"]] == [
        (room["id"], room["digest"], room["state"]) for room in there["rooms"]
    ]
    assert digests(tmp_path / "back") == digests(played)
    fleets = {row[0] for row in queried(database_url, "SELECT epoch FROM room_heads")}
    assert len(epochs(played) | fleets | epochs(tmp_path / "back")) == 3 * ROOMS
    done = tableforge("verify", folder=tmp_path, data=tmp_path / "back")
    assert done.returncode == 0, done.stdout
    with running(tmp_path / "served", TABLEFORGE_DATA=str(tmp_path / "back")) as server:
        assert Person(server, "Cleo").create_room("One more")


def test_mv2_run_again_it_moves_nothing_and_says_so(
    played: Path, database_url: str, tmp_path: Path
) -> None:
    moved(f"sqlite:{played}", database_url)
    before = queried(database_url, "SELECT room, epoch, head FROM room_heads ORDER BY room")
    again = moved(played / "tableforge.sqlite3", database_url)
    assert outcomes(again) == {"there"}
    assert set(again["rows"].values()) == {0}
    assert queried(database_url, "SELECT room, epoch, head FROM room_heads ORDER BY room") == before
    assert queried(database_url, "SELECT count(*) FROM asset_bytes") == [(1,)]


def test_a_dry_run_says_what_would_be_done_and_changes_nothing(
    played: Path, database_url: str, tmp_path: Path
) -> None:
    told = moved(played, database_url, dry_run=True)
    assert outcomes(told) == {"to move"}
    assert queried(database_url, "SELECT to_regclass('rooms')::text") == [(None,)]
    assert moved(played, tmp_path / "new", dry_run=True)["rooms"] == told["rooms"]
    assert not (tmp_path / "new").exists()


def test_mv3_a_room_that_is_there_with_another_log_is_refused_by_name(
    played: Path, database_url: str, tmp_path: Path
) -> None:
    with database(played) as file:
        num, room = file.execute("SELECT num, id FROM rooms WHERE name = 'Table 1'").fetchone()
    moved(played, database_url, room=room)
    with database(played) as file:
        file.execute(
            "UPDATE events SET data = CAST(replace(CAST(data AS TEXT), 'word 7', 'word 8') AS BLOB)"
            " WHERE room = ?",
            (num,),
        )
    before = queried(database_url, LOG, room)
    told = moved(played, database_url, whole=False)
    assert {one["id"]: one["outcome"] for one in told["rooms"]}.pop(room) == "refused"
    assert [one["outcome"] for one in told["rooms"]].count("moved") == ROOMS - 1
    assert queried(database_url, LOG, room) == before
    spoken = tableforge("migrate", "--from", played, "--to", database_url, folder=tmp_path)
    assert spoken.returncode == 1
    assert f"refused  {room}" in spoken.stdout
    assert "has another log of it" in spoken.stdout


def test_mv3_two_states_of_one_log_are_told_apart_from_two_logs(
    played: Path, database_url: str, tmp_path: Path
) -> None:
    earlier = tmp_path / "earlier"
    shutil.copytree(played, earlier)
    with database(earlier) as file:
        num, room, name = file.execute(
            "SELECT num, id, name FROM rooms WHERE name = 'Table 1'"
        ).fetchone()
        (head,) = file.execute("SELECT max(seq) FROM events WHERE room = ?", (num,)).fetchone()
        file.execute("DELETE FROM events WHERE room = ? AND seq > ?", (num, head - 3))
        file.execute("DELETE FROM snapshots WHERE room = ?", (num,))
    moved(played, database_url, room=room)
    told = moved(earlier, database_url, room=room, whole=False)
    (one,) = told["rooms"]
    assert f"a later state of the same log: {head} events, {head - 3} in" in one["why"]
    assert moved(earlier, database_url, room=room, whole=False, dry_run=True)["rooms"] == [one]
    moved(earlier, tmp_path / "behind", room=room)
    (one,) = moved(played, tmp_path / "behind", room=room, whole=False)["rooms"]
    assert f"an earlier state of the same log: {head - 3} events, {head} in" in one["why"]
    assert one["name"] == name


def test_mv3_who_sits_in_a_refused_room_alone_stays_behind(
    played: Path, database_url: str, tmp_path: Path
) -> None:
    with running(tmp_path) as server:
        stranger = Person(server, "Stranger")
        room, _ = stranger.create_room("Elsewhere")
    moved(played, database_url, room=room)
    run_sql(
        database_url,
        "DELETE FROM sessions",
        "DELETE FROM recovery_codes",
        "DELETE FROM users",
        "UPDATE events SET data = replace(convert_from(data, 'UTF8'), 'Elsewhere', 'Nowhere')::bytea",
    )
    told = moved(played, database_url, whole=False)
    assert outcomes(told) == {"moved", "refused"}
    users = {row[0] for row in queried(database_url, "SELECT id FROM users")}
    assert len(users) == 2
    assert stranger.id not in users
    assert {row[0] for row in queried(database_url, 'SELECT "user" FROM sessions')} == users


def test_mv3_a_room_that_is_deleted_on_one_side_alone_is_refused(
    played: Path, database_url: str
) -> None:
    moved(played, database_url)
    run_sql(database_url, "UPDATE room_heads SET deleted_at = '2026-01-02T03:04:05Z'")
    told = moved(played, database_url, whole=False)
    assert outcomes(told) == {"refused"}
    assert all("It is deleted in postgresql://" in one["why"] for one in told["rooms"])


class Stopped(Exception):
    """The test interrupts here."""


def run_until(source: Path, url: str, what: str, count: int) -> None:
    """Move in this process, and stop when a step has come so far."""

    def progress(step: str, done: int, of: int) -> None:
        if step == what and done >= count:
            raise Stopped

    settings = load({"DATABASE_URL": url, "ADMIN_TOKEN": TOKEN}, None)

    async def run() -> Moved:
        return await move(
            settings,
            source,
            settings.database,
            room=None,
            dry_run=False,
            force=False,
            progress=progress,
        )

    with pytest.raises(Stopped):
        asyncio.run(run())


@pytest.mark.parametrize(("what", "count"), [("rooms", 1), ("events", 60), ("pictures", 1)])
def test_mv2_interrupted_and_run_again_it_goes_on(
    played: Path, database_url: str, tmp_path: Path, what: str, count: int
) -> None:
    run_until(played, database_url, what, count)
    rooms = queried(database_url, "SELECT id FROM rooms")
    heads = queried(
        database_url,
        "SELECT room FROM room_heads WHERE head <> (SELECT count(*) FROM events e WHERE e.room = room_heads.room)",
    )
    assert heads == [], "a room is there whole or not at all"
    told = moved(played, database_url)
    assert [one["outcome"] for one in told["rooms"]].count("there") == len(rooms)
    moved(database_url, tmp_path / "back")
    assert digests(tmp_path / "back") == digests(played)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_mv2_stopped_in_the_middle_it_goes_on_as_well(
    played: Path, database_url: str, tmp_path: Path, how: signal.Signals
) -> None:
    """A long log, and the signal as soon as the first room of others is there."""
    with database(played) as file:
        (num,) = file.execute("SELECT max(num) FROM rooms").fetchone()
        (head,) = file.execute("SELECT max(seq) FROM events WHERE room = ?", (num,)).fetchone()
        file.execute("BEGIN")
        file.executemany(
            "INSERT INTO events SELECT room, ?, version, data, NULL, NULL FROM events"
            " WHERE room = ? AND seq = ?",
            [(head + extra, num, head) for extra in range(1, 30_001)],
        )
        file.execute("COMMIT")
    ours = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # one that is ignored is so in a child
    with (tmp_path / "said").open("wb") as said:
        child = subprocess.Popen(
            [sys.executable, "-m", "tableforge", "migrate", "--from", played, "--to", database_url],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=said,
            env={**os.environ, "TABLEFORGE_DATA": str(played)},
        )
    signal.signal(signal.SIGINT, ours)
    try:
        while child.poll() is None and not _rooms(database_url):
            pass
        child.send_signal(how)
        child.wait(DEADLINE_SECONDS)
    finally:
        child.kill()
        child.wait()
    if how == signal.SIGINT:
        assert child.returncode == 1
        told = (tmp_path / "said").read_text()
        assert "nothing is half there" in told
        assert "Run this again" in told
        assert "Aborted" not in told
    else:
        assert child.returncode == -how
    assert 0 < len(_rooms(database_url)) < ROOMS
    assert outcomes(moved(played, database_url)) == {"there", "moved"}
    moved(database_url, tmp_path / "back")
    assert digests(tmp_path / "back") == digests(played)


def _rooms(url: str) -> list[tuple[Any, ...]]:
    if queried(url, "SELECT to_regclass('rooms')::text") == [(None,)]:
        return []
    return queried(url, "SELECT id FROM rooms")


def test_one_room_takes_its_people_and_pictures_along(
    played: Path, database_url: str, tmp_path: Path
) -> None:
    with running(tmp_path) as server:
        stranger = Person(server, "Stranger")
        stranger.create_room("Elsewhere")
    with database(played) as file:
        room = file.execute("SELECT id FROM rooms WHERE name = 'Table 2'").fetchone()[0]
        seats = {
            row[0]
            for row in file.execute(
                "SELECT user FROM seats WHERE room = (SELECT num FROM rooms WHERE id = ?)", (room,)
            )
        }
    told = moved(played, database_url, room=room)
    assert [one["id"] for one in told["rooms"]] == [room]
    assert told["pictures"] == 1
    assert {row[0] for row in queried(database_url, "SELECT id FROM users")} == seats
    assert {row[0] for row in queried(database_url, 'SELECT "user" FROM sessions')} == seats
    assert {row[0] for row in queried(database_url, "SELECT room FROM invites")} == {room}
    assert outcomes(moved(played, database_url)) == {"moved", "there"}


def test_a_lost_picture_is_told_and_the_rest_moves(
    played: Path, database_url: str, tmp_path: Path
) -> None:
    (picture,) = [
        path for path in (played / "assets").rglob("*") if path.is_file() and not path.suffix
    ]
    picture.write_bytes(b"damaged")
    told = moved(played, database_url, whole=False)
    assert told["lost"] == [picture.name]
    assert outcomes(told) == {"moved"}
    assert queried(database_url, "SELECT count(*) FROM assets") == [(1,)]


def test_pictures_go_where_the_fleet_keeps_them(
    played: Path, database_url: str, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    moved(played, database_url, assets_url=f"file://{shared}")
    assert len([path for path in shared.rglob("*") if path.is_file()]) == 2
    assert queried(database_url, "SELECT count(*) FROM asset_chunks") == [(0,)]
    moved(database_url, tmp_path / "back", assets_url=f"file://{shared}")
    assert digests(tmp_path / "back") == digests(played)


def test_mv4_a_source_that_is_served_is_refused(
    played: Path, database_url: str, tmp_path: Path
) -> None:
    with running(tmp_path):
        done = tableforge("migrate", "--from", played, "--to", database_url, folder=tmp_path)
    assert done.returncode == 2
    assert "in use by another process" in done.stderr
    moved(played, database_url)
    run_sql(
        database_url,
        "INSERT INTO instances (id, incarnation, version) VALUES ('a1', 'x', '1')",
    )
    done = tableforge("migrate", "--from", database_url, "--to", tmp_path / "b", folder=tmp_path)
    assert done.returncode == 2
    assert "Servers run on postgresql://" in done.stderr
    assert ": a1." in done.stderr
    assert not (tmp_path / "b").exists()
    assert outcomes(moved(database_url, tmp_path / "b", force=True)) == {"moved"}


def test_mv4_two_at_once_are_refused(played: Path, database_url: str, tmp_path: Path) -> None:
    async def while_another_fills() -> None:
        async with filling(DatabaseKnobs(url=database_url), "Nothing."):
            done = await asyncio.to_thread(
                tableforge, "migrate", "--from", played, "--to", database_url, folder=tmp_path
            )
            assert done.returncode == 2
            assert "Another `tableforge migrate` is filling this database" in done.stderr

    asyncio.run(while_another_fills())


def test_bad_orders_are_refused_with_what_to_do(
    played: Path, database_url: str, tmp_path: Path
) -> None:
    def refusal(source: str | Path, target: str | Path, room: str | None = None) -> str:
        with pytest.raises(StartRefused) as refused:
            moved(source, target, room=room)
        return str(refused.value)

    unsaid = tableforge("migrate", folder=tmp_path)
    assert unsaid.returncode == 2
    assert "Say where to" in unsaid.stderr
    assert "There is no database in" in refusal(tmp_path / "none", database_url)
    assert "both source and target" in refusal(played, played)
    spoken = tableforge("migrate", "--to", "data/../data", folder=played.parent)
    assert spoken.returncode == 2
    assert "both source and target" in spoken.stderr
    assert "is no store" in refusal(played, "mysql://me:hidden-word@host/x")
    assert "hidden-word" not in refusal(played, "mysql://me:hidden-word@host/x")
    assert "There is no room nothing" in refusal(played, database_url, "nothing")
    nobody = "postgresql://nobody:hidden-word@127.0.0.1:1/x"
    assert "was not reached" in refusal(played, nobody)
    assert "hidden-word" not in refusal(played, nobody)
    assert "There is no TableForge" in refusal(database_url, tmp_path / "x")
    assert not (tmp_path / "x").exists()
    run_sql(database_url, "CREATE TABLE schema_form (number integer)")
    run_sql(database_url, "INSERT INTO schema_form VALUES (999)")
    assert "999" in refusal(played, database_url)
    spoken = tableforge("migrate", "--to", database_url, folder=tmp_path)
    assert spoken.returncode == 2
    assert "newer TableForge" in spoken.stderr


def test_the_tables_alone(database_url: str, tmp_path: Path) -> None:
    newest = scripts("postgres")[-1].number
    done = tableforge(
        "migrate",
        "--schema-only",
        "--json",
        folder=tmp_path,
        DATABASE_URL=database_url,
        ADMIN_TOKEN=TOKEN,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["before"], told["after"]) == (0, newest)
    done = tableforge("migrate", "--schema-only", "--to", tmp_path / "new", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    with closing(sqlite3.connect(tmp_path / "new" / "tableforge.sqlite3")) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (scripts("sqlite")[-1].number,)


def test_a_place_is_named_in_several_ways(tmp_path: Path) -> None:
    settings = load({}, None)
    for text in (
        tmp_path,
        f"sqlite:{tmp_path}",
        tmp_path / "tableforge.sqlite3",
        f"sqlite://{tmp_path}",
    ):
        assert place_of(str(text), settings) == tmp_path


def test_a_backup_of_a_fleet_is_a_data_folder_that_can_go_anywhere(
    played: Path, database_url: str, tmp_path: Path
) -> None:
    moved(played, database_url)
    run_sql(database_url, "INSERT INTO instances (id, incarnation, version) VALUES ('a', 'x', '1')")
    done = in_fleet(database_url, "backup", tmp_path / "copy", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rooms"] == ROOMS
    refused = in_fleet(database_url, "restore", tmp_path / "copy", folder=tmp_path)
    assert refused.returncode == 2
    assert "tableforge migrate --from" in refused.stderr
    back = tableforge("restore", tmp_path / "copy", folder=tmp_path, data=tmp_path / "back")
    assert back.returncode == 0, back.stderr
    assert digests(tmp_path / "back") == digests(played)


def test_verify_walks_through_a_fleet_and_names_what_is_broken(
    played: Path, database_url: str, tmp_path: Path
) -> None:
    moved(played, database_url)
    sound = in_fleet(database_url, "verify", "--json", folder=tmp_path)
    assert sound.returncode == 0, sound.stdout + sound.stderr
    told = json.loads(sound.stdout)
    assert (told["rooms"], told["pictures"], told["problems"]) == (ROOMS, 1, [])
    run_sql(
        database_url,
        "DELETE FROM events WHERE seq = 7 AND room = (SELECT id FROM rooms ORDER BY place LIMIT 1)",
        "UPDATE room_heads SET head = head + 1 WHERE room = (SELECT id FROM rooms ORDER BY place DESC LIMIT 1)",
        "UPDATE asset_chunks SET data = '\\x00'",
    )
    broken = in_fleet(database_url, "verify", folder=tmp_path)
    assert broken.returncode == 1
    assert "After event 6 comes 8." in broken.stdout
    assert "Appends go on behind" in broken.stdout
    assert "Its file is missing or cannot be read." in broken.stdout
