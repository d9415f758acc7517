"""`tableforge verify`: walk through everything that was ever played and see whether it holds together."""

import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NamedTuple

from tableforge.config import Settings, Storage
from tableforge.domain.decider import evolve
from tableforge.domain.events import Event
from tableforge.domain.state import Room
from tableforge.errors import NotFound, TableForgeError
from tableforge.library.asset_stores import FolderBytes, size_and_digest
from tableforge.library.assets import AssetBytes
from tableforge.ops import fleet_store, store
from tableforge.ops.stored import OrderRefused, Progress, Store, StoredRoom, StoredRow, Unreadable
from tableforge.protocol import codec
from tableforge.rooms.decided import facts_of
from tableforge.rooms.engine import command_key

NOTHING = "Nothing was verified."
PROBLEMS_A_ROOM = 20


class Problem(NamedTuple):
    """Something that does not hold together: a room or a picture, and what is wrong with it."""

    where: str
    text: str


class Verdict(NamedTuple):
    """What was walked through and what was found; `unread` counts snapshots of a form that is not read any more.

    `shortened` counts rooms whose log begins at a snapshot: they were checked from there on.
    """

    rooms: int
    shortened: int
    events: int
    snapshots: int
    unread: int
    pictures: int
    problems: list[Problem]


async def verify(settings: Settings, progress: Progress) -> Verdict:
    """Walk through all rooms, deleted ones included, as they are at one moment; servers may go on writing.

    Raises `OrderRefused` when there is no database that can be opened.
    """
    problems: list[Problem] = []
    if not settings.database.chosen:
        return await _walk_folder(settings.storage, problems, progress)
    with tempfile.TemporaryDirectory(prefix="verifying-") as scratch:
        async with (
            fleet_store.reading(settings.database, NOTHING) as reader,
            fleet_store.pictures(settings, settings.database, Path(scratch)) as kept,
        ):
            return await _walk(reader, kept, problems, progress)


async def _walk_folder(storage: Storage, problems: list[Problem], progress: Progress) -> Verdict:
    path = store.database_of(storage.folder)
    if not path.is_file():
        raise OrderRefused(
            NOTHING,
            f"There is no database in {storage.folder}.",
            "Point TABLEFORGE_DATA at the server's data folder.",
        )
    try:
        with store.reading(path) as reader:
            return await _walk(reader, FolderBytes(storage.assets), problems, progress)
    except sqlite3.Error as error:
        raise OrderRefused(
            NOTHING,
            f"The database {path} cannot be read: {error}.",
            "Run `tableforge doctor`; it names what is damaged.",
        ) from error


async def _walk(
    reader: Store, kept: AssetBytes, problems: list[Problem], progress: Progress
) -> Verdict:
    walk = Walk(reader, problems)
    await walk.all_rooms(progress)
    digests = await reader.digests()
    await _pictures(kept, digests, problems, progress)
    return Verdict(
        *(walk.rooms, walk.shortened, walk.events, walk.snapshots, walk.unread),
        *(len(digests), problems),
    )


class Walk:
    """The logs of all rooms, one after the other."""

    def __init__(self, reader: Store, problems: list[Problem]) -> None:
        self._reader = reader
        self._problems = problems
        self.rooms = self.shortened = self.events = self.snapshots = self.unread = 0

    async def all_rooms(self, progress: Progress) -> None:
        """Walk through every room, and see that no event belongs to none."""
        rooms = await self._reader.rooms()
        counted = await self._counted()
        for number, room in enumerate(rooms, 1):
            found = await self._room(room, counted.pop(room.id, 0) if counted is not None else None)
            self._problems += found[:PROBLEMS_A_ROOM]
            if len(found) > PROBLEMS_A_ROOM:
                more = len(found) - PROBLEMS_A_ROOM
                self._problems.append(Problem(f"room {room.id}", f"And {more} more of the kind."))
            progress("rooms", number, len(rooms))
        self.rooms = len(rooms)
        for stray, count in (counted or {}).items():
            self._problems.append(
                Problem("events", f"{count} belong to a room {stray} that is not there.")
            )

    async def _counted(self) -> dict[str, int] | None:
        """Events of each room, counted in the table itself: an index that lost some would hide them from the walk.

        None when the table cannot be read through.
        """
        try:
            return await self._reader.events_by_room()
        except Unreadable as error:
            self._problems.append(Problem("events", f"The table cannot be read through: {error}."))
            return None

    async def _room(self, room: StoredRoom, counted: int | None) -> list[Problem]:
        where = f"room {room.id}"
        found: list[Problem] = []
        snapshots: dict[int, Room] = {}
        try:
            async for snapshot in self._reader.snapshots(room.id):
                self.snapshots += 1
                state = codec.decode_room(snapshot.form, snapshot.unpacked())
                if state is None:
                    self.unread += 1
                else:
                    snapshots[snapshot.offset] = state
            self.shortened += room.begins > 0
            fold = Fold(
                *(room.id, snapshots, lambda text: found.append(Problem(where, text))), room.begins
            )
            async for rows in self._reader.events(room.id):
                for row in rows:
                    fold.take(row)
            events = fold.offset - room.begins
            self.events += events
            if counted not in (None, events):
                found.append(
                    Problem(where, f"Its index leads to {events} events, the table has {counted}.")
                )
            if (head := await self._reader.head(room.id)) != fold.offset:
                found.append(
                    Problem(where, f"Appends go on behind {head}, its log ends at {fold.offset}.")
                )
            found += [
                Problem(where, f"It has a snapshot at {offset}, behind its last event.")
                for offset in sorted(snapshots)
            ]
            if fold.room is not None:
                found += [Problem(where, text) async for text in self._facts(room, fold.room)]
        except Unreadable as error:
            found.append(Problem(where, f"It cannot be read: {error}."))
        return found

    async def _facts(self, row: StoredRoom, room: Room) -> AsyncIterator[str]:
        """Listings must say what the log says."""
        facts = facts_of(room)
        pairs: tuple[tuple[str, object, object], ...] = (
            ("name", row.name, facts.name),
            ("visibility", row.visibility, facts.visibility),
            ("tags", row.tags, facts.tags),
            ("members", sorted(await self._reader.seats(row.id)), sorted(facts.seats)),
        )
        for what, listed, logged in pairs:
            if listed != logged:
                yield f"Listings have the {what} {listed!r}, the log says {logged!r}."


class Fold:
    """One room's log, event by event. `room` is None once an event could not be folded.

    A log that `begins` behind an offset goes on from the snapshot there.
    """

    def __init__(
        self, room: str, snapshots: dict[int, Room], report: Callable[[str], None], begins: int
    ) -> None:
        self._id = room
        self._snapshots = snapshots
        self._report = report
        self.room: Room | None = snapshots.pop(begins, None) if begins else Room(room)
        self.offset = begins
        if self.room is None:
            report(f"Its log begins behind event {begins}, and no snapshot there can be read.")

    def take(self, row: StoredRow) -> None:
        """Look at the next event, fold it, and compare with the snapshot at its offset, if there is one."""
        if row.offset != self.offset + 1:
            self._report(f"After event {self.offset} comes {row.offset}.")
            self.room = None
        self.offset = row.offset
        snapshot = self._snapshots.pop(row.offset, None)
        try:
            event = codec.decode_event(row.form, row.data)
        except (TableForgeError, RecursionError) as error:
            self._report(f"Event {row.offset} cannot be decoded: {error}")
            self.room = None
            return
        if row.key is not None and row.key != command_key(self._id, event.by, event.id):
            self._report(f"Event {row.offset} has the key of another command.")
        self._fold(event)
        if snapshot is not None and self.room is not None and snapshot != self.room:
            self._report(f"The snapshot at {row.offset} is not what the log folds to.")

    def _fold(self, event: Event) -> None:
        if self.room is None:
            return
        try:
            self.room = evolve(self.room, event)
        except Exception as error:  # noqa: BLE001 - whatever a wrong event does to the fold, it is the finding
            self._report(f"Event {self.offset} cannot be folded: {error!r}.")
            self.room = None


async def _pictures(
    kept: AssetBytes, digests: list[str], problems: list[Problem], progress: Progress
) -> None:
    for number, digest in enumerate(digests, 1):
        where = f"picture {digest[:16]}"
        for thumbnail in (False, True):
            what = "thumbnail" if thumbnail else "file"
            try:
                path: Path = await kept.locate(digest, thumbnail=thumbnail)
                if not thumbnail and size_and_digest(path)[1] != digest:
                    problems.append(Problem(where, f"Its bytes are not what they were: {path}."))
            except (NotFound, OSError):
                problems.append(Problem(where, f"Its {what} is missing or cannot be read."))
        progress("pictures", number, len(digests))
