"""`verify`: nothing to say of a sound data folder, and every kind of break is found and named."""

import asyncio
import json
import zlib
from pathlib import Path

import msgspec
import pytest

from tableforge.config import load
from tableforge.ops.verify import Problem, verify
from tests.command import tableforge
from tests.integration.played import ROOMS, break_page, database, words
from tests.server_process import Person, running


def problems(data: Path) -> list[Problem]:
    """What `verify` finds wrong."""
    settings = load({"TABLEFORGE_DATA": str(data)}, None)
    return asyncio.run(verify(settings, lambda what, done, of: None)).problems


def first_room(played: Path) -> tuple[int, str]:
    """Number and id of the oldest room."""
    with database(played) as file:
        found: tuple[int, str] = file.execute("SELECT num, id FROM rooms ORDER BY num").fetchone()
    return found


def test_a_sound_folder_has_no_problems(played: Path, tmp_path: Path) -> None:
    done = tableforge("verify", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["rooms"] == ROOMS
    assert found["events"] > 100
    assert found["snapshots"] >= ROOMS
    assert found["pictures"] == 1
    assert found["problems"] == []
    spoken = tableforge("verify", folder=tmp_path)
    assert spoken.returncode == 0
    assert spoken.stdout == (
        f"{found['rooms']} rooms, {found['events']} events, {found['snapshots']} snapshots,"
        " 1 pictures: no problems.\n"
    )


def test_it_walks_while_a_server_writes(played: Path, tmp_path: Path) -> None:
    with running(tmp_path) as server:
        room, _ = Person(server, "Cleo").create_room("A table more")
        done = tableforge("verify", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["rooms"] == ROOMS + 1
    assert room


def test_without_a_database_nothing_is_verified(tmp_path: Path) -> None:
    done = tableforge("verify", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "Nothing was verified.",
        f"There is no database in {tmp_path / 'data'}.",
        "Point TABLEFORGE_DATA at the server's data folder.",
    ]


def test_a_database_of_another_form_is_refused(played: Path, tmp_path: Path) -> None:
    with database(played) as file:
        newest = file.execute("PRAGMA user_version").fetchone()[0]
        file.execute("PRAGMA user_version=1")
    done = tableforge("verify", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[1] == (
        f"The database has form 1; this program reads form {newest}."
    )


BREAKS = {
    "a gap": ("DELETE FROM events WHERE room = :num AND seq = 7", "After event 6 comes 8."),
    "not JSON": (
        "UPDATE events SET data = CAST('{' AS BLOB) WHERE room = :num AND seq = 9",
        "Event 9 cannot be decoded: ",
    ),
    "a type that never was": (
        """UPDATE events SET data = CAST('{"type":"dragon.fed"}' AS BLOB) WHERE room = :num AND seq = 9""",
        "Event 9 cannot be decoded: ",
    ),
    "a form to come": (
        "UPDATE events SET version = 99 WHERE room = :num AND seq = 9",
        "Event 9 cannot be decoded: ",
    ),
    "what cannot be folded": (
        """UPDATE events SET data = CAST('{"type":"token.removed","by":"a","at":"b","id":"c","token":"none"}' AS BLOB),
           key = NULL WHERE room = :num AND seq = 9""",
        "Event 9 cannot be folded: ",
    ),
    "another command's key": (
        "UPDATE events SET key = zeroblob(16) WHERE room = :num AND seq = 9",
        "Event 9 has the key of another command.",
    ),
    "a word changed": (
        """UPDATE events SET data = CAST(replace(CAST(data AS TEXT), 'and so on', 'and no more') AS BLOB)
           WHERE room = :num AND seq = 20""",
        "The snapshot at 25 is not what the log folds to.",
    ),
    "a snapshot of another form of bytes": (
        "UPDATE snapshots SET data = zeroblob(9) WHERE room = :num",
        "It cannot be read: its snapshot at 25 does not unpack",
    ),
    "a snapshot behind the end": (
        "UPDATE snapshots SET seq = 9999 WHERE room = :num",
        "It has a snapshot at 9999, behind its last event.",
    ),
    "a listing's name": (
        "UPDATE rooms SET name = 'Another' WHERE num = :num",
        "Listings have the name 'Another', the log says 'Table 0'.",
    ),
    "a listing's visibility": (
        "UPDATE rooms SET visibility = 'public' WHERE num = :num",
        "Listings have the visibility 'public', the log says 'private'.",
    ),
    "a listing's tags": (
        """UPDATE rooms SET tags = '["x"]' WHERE num = :num""",
        "Listings have the tags ('x',), the log says ().",
    ),
    "a seat": (
        "DELETE FROM seats WHERE room = :num",
        "Listings have the members [], the log says ",
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_every_break_is_named(name: str, played: Path) -> None:
    statement, text = BREAKS[name]
    num, room = first_room(played)
    with database(played) as file:
        assert file.execute(statement, {"num": num}).rowcount > 0
    found = problems(played)
    assert any(where == f"room {room}" and told.startswith(text) for where, told in found), found


def test_events_of_no_room_are_named(played: Path) -> None:
    num, _ = first_room(played)
    with database(played) as file:
        file.execute("PRAGMA foreign_keys=OFF")
        count = file.execute("SELECT count(*) FROM events WHERE room = ?", (num,)).fetchone()[0]
        file.execute("UPDATE events SET room = 99 WHERE room = ?", (num,))
    assert ("events", f"{count} belong to a room 99 that is not there.") in problems(played)


def test_a_problem_is_printed_and_the_exit_code_says_so(played: Path, tmp_path: Path) -> None:
    num, room = first_room(played)
    with database(played) as file:
        file.execute("DELETE FROM events WHERE room = ? AND seq = 7", (num,))
    done = tableforge("verify", folder=tmp_path)
    assert done.returncode == 1
    assert f"room {room}: After event 6 comes 8.\n" in done.stdout
    told = tableforge("verify", "--json", folder=tmp_path)
    assert told.returncode == 1
    assert {"where": f"room {room}", "text": "After event 6 comes 8."} in json.loads(told.stdout)[
        "problems"
    ]


def test_many_problems_of_one_room_are_counted(played: Path) -> None:
    num, room = first_room(played)
    with database(played) as file:
        file.execute("UPDATE events SET version = 99 WHERE room = ?", (num,))
        count = file.execute("SELECT count(*) FROM events WHERE room = ?", (num,)).fetchone()[0]
    found = problems(played)
    assert len(found) == 21
    assert found[-1] == (f"room {room}", f"And {count - 20} more of the kind.")


def test_a_snapshot_of_a_form_that_nobody_reads_any_more_is_counted(
    played: Path, tmp_path: Path
) -> None:
    num, _ = first_room(played)
    with database(played) as file:
        empty = zlib.compress(msgspec.json.encode({"some": "thing"}))
        file.execute("UPDATE snapshots SET data = ? WHERE room = ?", (empty, num))
    done = tableforge("verify", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["unread"] >= 1


def test_pictures_that_are_gone_or_changed_are_named(played: Path) -> None:
    (thumbnail,) = played.glob("assets/*/*/*.thumbnail")
    picture = thumbnail.with_suffix("")
    with picture.open("r+b") as file:
        file.seek(1000)
        file.write(b"another picture")
    thumbnail.unlink()
    where = f"picture {picture.name[:16]}"
    assert problems(played) == [
        (where, f"Its bytes are not what they were: {picture}."),
        (where, "Its thumbnail is missing or cannot be read."),
    ]


def test_a_damaged_page_costs_its_room_and_no_other(played: Path) -> None:
    _, room = first_room(played)
    break_page(played, words(0, 20).encode())
    found = problems(played)
    assert any(where == f"room {room}" and "malformed" in text for where, text in found), found
    assert {where for where, _ in found} == {f"room {room}", "events"}
