"""The peer of `tableforge bench api`: the list of public rooms as one writes it with FastAPI by its manual.

`python -m tableforge.bench.fastapi_rooms FILE` serves it on uvicorn with its defaults, from the same SQLite file and with
the same answers. It has neither sessions nor a cache, and reads alone.
"""

import sqlite3
import sys
import threading
from dataclasses import dataclass
from importlib import import_module
from typing import Any

ROOMS = """SELECT r.num, r.id, r.name, (SELECT count(*) FROM seats s WHERE s.room = r.num),
    (SELECT CAST(e.data AS TEXT) ->> '$.at' FROM events e WHERE e.room = r.num ORDER BY e.seq DESC LIMIT 1)
    FROM rooms r WHERE r.visibility = 'public' AND r.deleted_at IS NULL AND r.num < ? ORDER BY r.num DESC LIMIT ?"""
LAST = 2**63 - 1


@dataclass
class RoomLine:
    """One room of the list."""

    id: str
    name: str
    members: int
    updated: str
    role: str | None = None


@dataclass
class RoomPage:
    """A page of the list; `next` is the cursor of the following one."""

    rooms: list[RoomLine]
    next: int | None


class Rooms:
    """Each thread of FastAPI's pool has a connection of its own."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._mine = threading.local()

    def page(self, limit: int = 50, cursor: int = LAST) -> RoomPage:
        """The rooms before `cursor`, newest first."""
        connection: sqlite3.Connection | None = getattr(self._mine, "connection", None)
        if connection is None:
            connection = self._mine.connection = sqlite3.connect(
                f"file:{self._path}?mode=ro", uri=True
            )
        rows = connection.execute(ROOMS, (cursor, limit + 1)).fetchall()
        lines = [RoomLine(*row[1:]) for row in rows[:limit]]
        return RoomPage(lines, rows[limit - 1][0] if len(rows) > limit else None)


def application(path: str) -> Any:
    """The application; raises ImportError where FastAPI is not installed."""
    app = import_module("fastapi").FastAPI()
    app.get("/api/rooms")(Rooms(path).page)
    return app


def serve(path: str) -> None:
    """Serve on a free port until SIGTERM; uvicorn says which."""
    import uvicorn

    # A line of its log for each request would cost a tenth; neither side writes one.
    uvicorn.run(application(path), port=0, access_log=False)


if __name__ == "__main__":
    serve(sys.argv[1])
