"""A data folder in which something was played, made by a real server, for tests that look at such a folder from outside."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.server_process import Person, running

MAP = Path(__file__).parent.parent / "samples" / "good" / "cellar.dd2vtt"
ROOMS = 3
WORDS_A_ROOM = 40


def words(room: int, number: int) -> str:
    """What is said in a room: long enough for each room to fill pages of its own."""
    return f"room {room} word {number} " + "and so on " * 40


def play(folder: Path) -> Path:
    """Play in some rooms, one after the other, stop the server, and return the data folder."""
    with running(folder, SNAPSHOT_EVERY_EVENTS="25", LIMIT_COMMANDS="0") as server:
        mara, bo = Person(server, "Mara"), Person(server, "Bo")
        room = ""
        for number in range(ROOMS):
            room, invite = mara.create_room(f"Table {number}")
            bo.join(room, invite)
            for word in range(WORDS_A_ROOM):
                said = (mara, bo)[word % 2].command(room, "chat.say", text=words(number, word))
                assert said.status_code == 200, said.text
        imported = mara.http.post(
            f"/api/rooms/{room}/imports", files={"file": (MAP.name, MAP.read_bytes())}
        )
        assert imported.status_code == 201, imported.text
        token = bo.command(room, "token.add", name="Bo's piece", x=1, y=2).json()["result"]["id"]
        bo.command(room, "token.move", token=token, x=3, y=4)
    return folder / "data"


@contextmanager
def database(data: Path) -> Iterator[sqlite3.Connection]:
    """The database of a data folder that nobody serves, to look at or to break; what was done is kept."""
    with closing(sqlite3.connect(data / "tableforge.sqlite3", isolation_level=None)) as file:
        yield file
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def break_page(data: Path, marker: bytes) -> int:
    """Overwrite the first page of the database file that holds these bytes; returns its number."""
    path = data / "tableforge.sqlite3"
    with closing(sqlite3.connect(path)) as file:
        size: int = file.execute("PRAGMA page_size").fetchone()[0]
        file.execute("PRAGMA journal_mode=DELETE")
    content = bytearray(path.read_bytes())
    page = content.index(marker) // size
    content[page * size : (page + 1) * size] = b"\xa5" * size
    path.write_bytes(content)
    return page + 1
