"""`backup` and `restore`: a copy of one moment while people play, brought back elsewhere, equal by digest."""

import asyncio
import hashlib
import json
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tableforge.ops.store import copy_database
from tests.command import tableforge
from tests.integration.played import ROOMS, break_page, database, words
from tests.integration.raw_client import Raw
from tests.server_process import Person, running

SINCE = (
    "SELECT seq, version, data, key, digest FROM events WHERE room = ? AND seq <= ? ORDER BY seq"
)


def logs(data: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every room's rows, as bytes."""
    with database(data) as file:
        rooms = file.execute("SELECT num, id FROM rooms ORDER BY num").fetchall()
        return {room: file.execute(SINCE, (num, 2**40)).fetchall() for num, room in rooms}


def digest(content: object) -> str:
    """A digest of plain values."""
    return hashlib.sha256(repr(content).encode()).hexdigest()


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder with its digest; the lock says who came last, so it is left out."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "tableforge.lock"
    }


@pytest.fixture(scope="module")
def backed_up(played_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup, made once for all tests, so that none may change it."""
    folder = tmp_path_factory.mktemp("backed-up")
    done = tableforge("backup", folder / "copy", folder=folder, data=played_once)
    assert done.returncode == 0, done.stderr
    return folder / "copy"


@pytest.fixture
def copy(backed_up: Path, tmp_path: Path) -> Path:
    """A backup of what was played, below the test's own folder."""
    return Path(shutil.copytree(backed_up, tmp_path / "copy"))


def test_a_backup_is_whole_and_says_what_it_holds(played: Path, tmp_path: Path) -> None:
    done = tableforge("backup", tmp_path / "copy", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["backup"] == str(tmp_path / "copy")
    assert told["rooms"] == ROOMS
    assert told["files"] == 3
    assert told["lost"] == []
    manifest = json.loads((tmp_path / "copy" / "manifest.json").read_bytes())
    named = {one["path"]: one["sha256"] for one in manifest["files"]}
    assert tree(tmp_path / "copy") == named | {
        "manifest.json": hashlib.sha256(
            (tmp_path / "copy" / "manifest.json").read_bytes()
        ).hexdigest()
    }
    assert digest(logs(tmp_path / "copy")) == digest(logs(played))
    assert (tmp_path / "copy").stat().st_mode & 0o077 == 0
    # A backup is laid out like a data folder, so the other tools read it as one.
    assert tableforge("verify", folder=tmp_path, data=tmp_path / "copy").returncode == 0


def test_secrets_stay_behind(played: Path, tmp_path: Path) -> None:
    token = (played / "admin-token").read_text().strip()
    assert tableforge("backup", tmp_path / "copy", folder=tmp_path).returncode == 0
    assert all(
        token.encode() not in path.read_bytes()
        for path in (tmp_path / "copy").rglob("*")
        if path.is_file()
    )


def test_into_a_folder_that_is_there_it_goes_under_a_name_of_its_own(
    played: Path, tmp_path: Path
) -> None:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    done = tableforge("backup", shelf, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    (made,) = shelf.iterdir()
    assert made.name.startswith("tableforge-20")
    assert done.stdout.startswith(f"{made}: {ROOMS} rooms with ")


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("file", "{target} exists already."),
        ("nowhere/copy", "There is no folder {parent}."),
        ("data/copy", "{target} lies inside the data folder itself."),
    ],
)
def test_a_place_that_will_not_do_is_refused(
    target: str, why: str, played: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    place = tmp_path / target
    before = tree(tmp_path)
    done = tableforge("backup", place, folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[:2] == [
        "Nothing was backed up.",
        why.format(target=place, parent=place.parent),
    ]
    assert tree(tmp_path) == before


def test_without_a_database_there_is_nothing_to_back_up(tmp_path: Path) -> None:
    done = tableforge("backup", tmp_path / "copy", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[:2] == [
        "Nothing was backed up.",
        f"There is no database in {tmp_path / 'data'}.",
    ]


def test_a_lost_picture_is_told_of_and_the_rest_is_saved(played: Path, tmp_path: Path) -> None:
    (thumbnail,) = played.glob("assets/*/*/*.thumbnail")
    picture = thumbnail.with_suffix("")
    picture.unlink()
    done = tableforge("backup", tmp_path / "copy", "--json", folder=tmp_path)
    assert done.returncode == 1
    assert json.loads(done.stdout)["lost"] == [picture.name]
    assert "1 pictures were gone or damaged in the data folder already." in done.stderr
    assert digest(logs(tmp_path / "copy")) == digest(logs(played))


def test_a_damaged_database_makes_no_backup(played: Path, tmp_path: Path) -> None:
    break_page(played, words(1, 20).encode())
    done = tableforge("backup", tmp_path / "copy", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "The database was not copied."
    assert "Table events of the database is damaged: " in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_a_backup_under_load_is_one_moment_of_the_log(tmp_path: Path) -> None:
    """A writer does not stop while the copy is made, and the copy is a whole beginning of what it wrote."""
    with running(tmp_path, LIMIT_COMMANDS="0") as server:
        person = Person(server, "Mara")
        rooms = [person.create_room(f"Table {number}")[0] for number in range(3)]
        over, enough = threading.Event(), threading.Event()
        answered: list[tuple[str, int]] = []

        def write() -> None:
            number = 0
            while not over.is_set():
                room = rooms[number % len(rooms)]
                said = person.command(room, "chat.say", text=f"word {number} " + "of many " * 50)
                answered.append((room, said.json()["offset"]))
                number += 1
                if number == 100:
                    enough.set()

        writer = threading.Thread(target=write)
        writer.start()
        try:
            assert enough.wait(60)
            before = list(answered)
            done = tableforge("backup", tmp_path / "copy", folder=tmp_path)
            assert done.returncode == 0, done.stderr
            during = len(answered) - len(before)
        finally:
            over.set()
            writer.join()
    assert during > 0, "nobody wrote while the backup was made"
    copied, whole = logs(tmp_path / "copy"), logs(tmp_path / "data")
    for room in rooms:
        assert copied[room] == whole[room][: len(copied[room])]
        acknowledged = max(offset for where, offset in before if where == room)
        assert len(copied[room]) >= acknowledged, "what was acknowledged before is missing"
    assert tableforge("verify", folder=tmp_path, data=tmp_path / "copy").returncode == 0


def test_what_comes_back_elsewhere_is_equal(played: Path, copy: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "data"
    done = tableforge("restore", copy, "--json", folder=tmp_path, data=elsewhere)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["folder"], told["rooms"], told["aside"]) == (str(elsewhere), ROOMS, None)
    assert digest(logs(elsewhere)) == digest(logs(played))
    pictures = {name: digest for name, digest in tree(played).items() if name.startswith("assets/")}
    assert pictures
    assert pictures.items() <= tree(elsewhere).items()
    assert tableforge("verify", folder=tmp_path, data=elsewhere).returncode == 0
    with database(played) as file, database(elsewhere) as other:
        epochs = dict(file.execute("SELECT id, epoch FROM rooms"))
        renewed = dict(other.execute("SELECT id, epoch FROM rooms"))
    assert epochs.keys() == renewed.keys()
    assert not set(epochs.values()) & set(renewed.values())


async def test_a_client_at_a_position_of_before_gets_a_snapshot(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        person = await asyncio.to_thread(Person, server, "Mara")
        room, _ = await asyncio.to_thread(person.create_room)
        for word in range(3):
            await asyncio.to_thread(person.command, room, "chat.say", text=f"word {word}")
        done = await asyncio.to_thread(tableforge, "backup", tmp_path / "copy", folder=tmp_path)
        assert done.returncode == 0
        await asyncio.to_thread(person.command, room, "chat.say", text="said after the backup")
        async with Raw(server, person.token) as raw:
            result = await raw.subscribe(f"room:{room}")
        position = {"recover": True, "offset": result["offset"], "epoch": result["epoch"]}
    done = await asyncio.to_thread(
        tableforge, "restore", tmp_path / "copy", "--replace", folder=tmp_path
    )
    assert done.returncode == 0, done.stderr
    with running(tmp_path) as server:
        async with Raw(server, person.token) as raw:
            back = await raw.subscribe(f"room:{room}", **position)
    assert back["was_recovering"]
    assert not back.get("recovered")
    assert "publications" not in back
    assert back["epoch"] != position["epoch"]
    said = [line["text"] for line in back["data"]["room"]["chat"]]
    assert said == ["word 0", "word 1", "word 2"]


def test_a_folder_that_is_not_empty_is_left_alone(played: Path, copy: Path, tmp_path: Path) -> None:
    before = tree(played)
    done = tableforge("restore", copy, folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "Nothing was restored.",
        f"The data folder {played} is not empty: it holds assets.",
        "Point TABLEFORGE_DATA at an empty folder, or say --replace: what is there is moved aside.",
    ]
    assert tree(played) == before


def test_replacing_moves_what_is_there_aside(played: Path, copy: Path, tmp_path: Path) -> None:
    token = (played / "admin-token").read_bytes()
    with database(played) as file:
        file.execute("UPDATE rooms SET name = 'Changed since'")
    before = tree(played)
    done = tableforge("restore", copy, "--replace", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    (aside,) = played.glob("before-restore-*")
    assert f"What was there before lies in {aside}; " in done.stdout
    assert tree(aside) == {name: one for name, one in before.items() if name != "admin-token"}
    assert (played / "admin-token").read_bytes() == token
    with database(played) as file:
        assert file.execute("SELECT name FROM rooms ORDER BY num").fetchone() == ("Table 0",)
    # Once more: what an earlier restore moved aside stays where it is.
    moment = aside.rename(aside.with_name("before-restore-earlier"))
    assert tableforge("restore", copy, "--replace", folder=tmp_path).returncode == 0
    assert moment.is_dir()
    assert len(list(played.glob("before-restore-*"))) == 2


def test_no_server_may_run_on_the_folder(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        Person(server, "Mara").create_room()
        assert tableforge("backup", tmp_path / "copy", folder=tmp_path).returncode == 0
        done = tableforge("restore", tmp_path / "copy", "--replace", folder=tmp_path)
        assert done.returncode == 2
        assert done.stderr.splitlines() == [
            "Nothing was done.",
            f"The data folder {tmp_path / 'data'} is in use by another process (pid {server.pid}).",
            "Stop that server first; it can be started again afterwards.",
        ]


def test_writes_between_two_steps_do_not_begin_the_copy_anew(tmp_path: Path) -> None:
    """SQLite copies from the start again whenever another connection wrote, unless a transaction holds the moment."""
    source, target = tmp_path / "source.sqlite3", tmp_path / "target.sqlite3"
    steps: list[int] = []
    with closing(sqlite3.connect(source, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("CREATE TABLE events (data BLOB)")
        writer.execute("BEGIN")
        writer.executemany("INSERT INTO events VALUES (?)", [(bytes(4000),)] * 2000)
        writer.execute("COMMIT")

        def step(done: int, _: int) -> None:
            steps.append(done)
            assert len(steps) < 100, "the copy begins anew with every write"
            writer.execute("INSERT INTO events VALUES (?)", (bytes(4000),))

        copy_database(source, target, step)
    assert len(steps) > 5
    assert steps == sorted(steps)
    with closing(sqlite3.connect(target)) as copy:
        assert copy.execute("SELECT count(*) FROM events").fetchone() == (2000,)


def test_what_an_older_program_wrote_is_saved_and_brought_to_the_present_form(
    played: Path, tmp_path: Path
) -> None:
    with database(played) as file:
        newest = file.execute("PRAGMA user_version").fetchone()[0]
        tables = (
            "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'virtual')"
            " AND name NOT LIKE 'sqlite_%'"
        )
        first_form = {"rooms", "seats", "events", "snapshots"}
        for (name,) in file.execute(tables).fetchall():
            if name not in first_form:
                file.execute(f"DROP TABLE {name}")
        later = (
            "SELECT type, name FROM sqlite_schema WHERE type = 'trigger' OR name = 'rooms_listed'"
        )
        for kind, name in file.execute(later).fetchall():
            file.execute(f"DROP {kind} {name}")
        file.execute("ALTER TABLE rooms DROP COLUMN begins")
        file.execute("PRAGMA user_version=1")
    assert tableforge("backup", tmp_path / "copy", folder=tmp_path).returncode == 0
    elsewhere = tmp_path / "elsewhere"
    done = tableforge("restore", tmp_path / "copy", folder=tmp_path, data=elsewhere)
    assert done.returncode == 0, done.stderr
    assert digest(logs(elsewhere)) == digest(logs(played))
    with database(elsewhere) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (newest,)
    assert tableforge("verify", folder=tmp_path, data=elsewhere).returncode == 0


def flip(path: Path) -> None:
    """Change one byte in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def rewritten(**changes: Any) -> Callable[[Path], None]:
    """Change what the manifest says."""

    def change(backup: Path) -> None:
        manifest = json.loads((backup / "manifest.json").read_bytes())
        (backup / "manifest.json").write_text(json.dumps(manifest | changes))

    return change


PASSWORDS = {"path": "assets/../../passwords", "bytes": 1, "sha256": "0" * 64}

DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a byte of the database": (
        lambda backup: flip(backup / "tableforge.sqlite3"),
        "The backup is damaged: tableforge.sqlite3 is not what was written: its digest differs.",
    ),
    "the database cut short": (
        lambda backup: os.truncate(backup / "tableforge.sqlite3", 4096),
        "The backup is damaged: tableforge.sqlite3 has 4096 bytes instead of ",
    ),
    "a picture gone": (
        lambda backup: shutil.rmtree(backup / "assets"),
        "The backup is damaged: assets/",
    ),
    "no manifest": (
        lambda backup: (backup / "manifest.json").unlink(),
        "is no backup: manifest.json cannot be read (No such file or directory).",
    ),
    "a manifest cut short": (
        lambda backup: os.truncate(backup / "manifest.json", 100),
        "manifest.json is damaged: Input data was truncated.",
    ),
    "another format": (
        rewritten(format=2),
        "The backup has format 2; this program reads 1.",
    ),
    "a newer program's": (
        rewritten(form=999),
        "It was made by a newer TableForge (form 999; this one knows ",
    ),
    "no database named": (rewritten(files=[]), "manifest.json names no database."),
    "a way out of it": (
        rewritten(
            files=[{"path": "tableforge.sqlite3", "bytes": 0, "sha256": ""}, PASSWORDS][::-1]
        ),
        "The backup is damaged: assets/../../passwords is no place inside of it.",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_backup_that_is_not_whole_changes_nothing(
    name: str, played: Path, copy: Path, tmp_path: Path
) -> None:
    damage, why = DAMAGES[name]
    damage(copy)
    before = tree(played)
    done = tableforge("restore", copy, "--replace", folder=tmp_path)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert lines[0] == "Nothing was restored."
    assert why in lines[1]
    assert len(lines) == 3
    assert tree(played) == before


def test_what_an_interrupted_restore_left_is_cleared_away(copy: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "restoring-20261124T000000Z").mkdir(parents=True)
    (elsewhere / "restoring-20261124T000000Z" / "half").write_text("half")
    done = tableforge("restore", copy, folder=tmp_path, data=elsewhere)
    assert done.returncode == 0, done.stderr
    assert list(elsewhere.glob("restoring-*")) == []


def test_a_backup_that_is_not_there_is_refused_like_the_others(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    done = tableforge("restore", nowhere, folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "Nothing was restored.",
        f"{nowhere} is no backup: manifest.json cannot be read (No such file or directory).",
        "Name the folder that `tableforge backup` printed.",
    ]
    assert list(tmp_path.iterdir()) == []
