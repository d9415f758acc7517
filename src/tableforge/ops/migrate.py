"""`tableforge migrate`: everything from one store into another, from a laptop into a fleet and back.

A room goes over in one transaction, with all of its log, and is read back and folded before that transaction ends: on the
other side it is there as it was, or not at all. Whoever is interrupted runs it again; what is there already is compared and
passed over. A room that is there with another log is refused by name, and stays as it is.

Every moved room gets another epoch, as after a restore: nobody knows whether its first home goes on being played, and
then a position of one would be misread in the other. Clients load the room anew, once.
"""

import asyncio
import hashlib
import math
import re
import secrets
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal, NamedTuple, get_args

import msgspec

from tableforge.config import DatabaseKnobs, Settings, server_name
from tableforge.domain.state import Room
from tableforge.errors import Conflict, NotFound, Unavailable
from tableforge.library.asset_stores import FolderBytes, size_and_digest
from tableforge.library.assets import AssetBytes
from tableforge.ops import fleet_store, store
from tableforge.ops.stored import (
    TABLES,
    OrderRefused,
    Progress,
    Store,
    StoredRoom,
    StoredRow,
    Unreadable,
)
from tableforge.ops.verify import Fold
from tableforge.protocol import codec

NOTHING = "Nothing was moved."
ID = re.compile(rb'"([a-z2-7]{16})"')
"""What may be the id of a user or a picture in an event."""

PERSONAL: Final = {"users": "id", "sessions": "user", "recovery_codes": "user"}
"""Tables of what belongs to one user, with the column that names them."""

Outcome = Literal["moved", "there", "to move", "refused"]
OUTCOMES: Final = get_args(Outcome)
Place = Path | DatabaseKnobs
"""A data folder, or the database of a fleet."""


class MovedRoom(NamedTuple):
    """A room and what became of it. `digest` is over all its events, `state` over what they fold to, as hex."""

    id: str
    name: str
    events: int
    digest: str
    state: str
    outcome: Outcome
    why: str = ""


class Moved(NamedTuple):
    """What was done: the rooms, how many rows were added to each table, pictures brought, and those that were lost."""

    source: str
    target: str
    rooms: list[MovedRoom]
    rows: dict[str, int]
    pictures: int
    lost: list[str]

    @property
    def is_whole(self) -> bool:
        """Whether everything of the source is on the other side."""
        return not self.lost and all(room.outcome != "refused" for room in self.rooms)

    def as_text(self) -> str:
        """A line for each room, then the sums."""
        lines = [
            f"{room.outcome:8} {room.id}  {room.events:>7} events  {room.digest[:16]}  {room.name}"
            + (f"\n{'':9}{room.why}" if room.why else "")
            for room in self.rooms
        ]
        lines += [
            f"lost     picture {digest}: its bytes are gone or damaged" for digest in self.lost
        ]
        count = Counter(room.outcome for room in self.rooms)
        rooms = ", ".join(f"{count[outcome]} {outcome}" for outcome in OUTCOMES if count[outcome])
        rows = ", ".join(f"{added} {table}" for table, added in self.rows.items() if added)
        lines.append(f"From {self.source} to {self.target}: rooms: {rooms or 'none'}.")
        lines.append(f"Added beside them: {rows or 'nothing'}.")
        return "\n".join(lines)


class Picture(msgspec.Struct, frozen=True):
    """A picture on its way; see `NewPicture`."""

    digest: str
    kind: str
    width: int
    height: int
    bytes: int
    path: Path
    thumbnail_path: Path


class Side(NamedTuple):
    """One of the two stores. `scratch` is a folder on the disk of its pictures."""

    name: str
    store: Store
    pictures: AssetBytes
    scratch: Path


class Tally:
    """What a room's log comes to, row by row. The digest is over what lies behind the offset `since` alone."""

    def __init__(self, room: StoredRoom, beginning: dict[int, Room], since: int) -> None:
        self.room = room
        self.trouble = ""
        self._since = since
        self._digest = hashlib.sha256()
        self._fold = Fold(room.id, beginning, self._hear, room.begins)

    def _hear(self, text: str) -> None:
        self.trouble = self.trouble or text

    def take(self, rows: Iterable[StoredRow]) -> None:
        """Go on with the next rows."""
        for row in rows:
            parts = (row.data, row.key or b"", row.digest or b"")
            lengths = [len(part) for part in parts]
            if row.offset > self._since:
                self._digest.update(f"{row.offset} {row.form} {lengths}".encode())
                for part in parts:
                    self._digest.update(part)
            self._fold.take(row)

    @property
    def events(self) -> int:
        """The offset of the newest event."""
        return self._fold.offset

    @property
    def digest(self) -> str:
        """The digest of all rows, with their keys."""
        return self._digest.hexdigest()

    @property
    def state(self) -> str:
        """The digest of what the log folds to; empty where it does not fold."""
        if self._fold.room is None:
            return ""
        folded = msgspec.json.encode(self._fold.room, order="sorted")
        return hashlib.sha256(folded).hexdigest()

    def as_told(self, room: StoredRoom, outcome: Outcome, why: str = "") -> MovedRoom:
        """This, as the report says it."""
        return MovedRoom(room.id, room.name, self.events, self.digest, self.state, outcome, why)


def place_of(text: str, settings: Settings) -> Place:
    """What an operator names: a data folder or its database file, also as sqlite:PATH, or postgresql://…"""
    if text.startswith(("postgresql://", "postgres://")):
        return replace(settings.database, url=text)
    path = Path(text.removeprefix("sqlite:").removeprefix("//")).expanduser()
    if "://" in text and not text.startswith("sqlite:"):
        raise OrderRefused(
            NOTHING,
            f"{server_name(text)} is no store.",
            "Name a data folder, sqlite:FOLDER or postgresql://….",
        )
    return path.parent if path.name == store.DATABASE else path


def name_of(place: Place) -> str:
    """A place for people, without secrets."""
    if isinstance(place, Path):
        return str(place)
    return server_name(place.url) if place.url else f"{place.host}:{place.port}/{place.name}"


async def move(
    settings: Settings,
    source: Place,
    target: Place,
    *,
    room: str | None,
    dry_run: bool,
    force: bool,
    progress: Progress,
) -> Moved:
    """Move everything, or one `room` with whoever sits there; see the module.

    Nothing of the source is changed, and no server may be using it; `force` lets the servers of a fleet run on, and then
    what is played from now on stays behind. A dry run reads and compares. Raises `OrderRefused` before anything was done.
    """
    if _identity(source) == _identity(target):
        raise OrderRefused(
            NOTHING,
            f"{name_of(source)} is both source and target.",
            "Name two places; without --from it is TABLEFORGE_DATA that is moved.",
        )
    async with AsyncExitStack() as stack:
        try:
            origin = await _opened_source(stack, settings, source, force=force)
            rooms = await _chosen(origin, room)
            if dry_run:
                goal = await _opened_to_compare(stack, settings, target)
            else:
                goal = await _opened_target(stack, settings, target)
        except sqlite3.Error as error:
            raise OrderRefused(
                NOTHING, f"A database cannot be opened: {error}.", "Run `tableforge doctor`."
            ) from error
        try:
            return await Move(origin, goal, room, progress, is_dry=dry_run).run(rooms)
        except sqlite3.Error as error:
            raise Unavailable(
                "The move stopped.",
                f"A database says: {error}.",
                "Run `tableforge doctor`, then this again: it goes on where it stopped.",
            ) from error


def _identity(place: Place) -> str:
    return str(place.resolve()) if isinstance(place, Path) else name_of(place)


SCRATCH = "moving-"


async def _scratch(stack: AsyncExitStack, folder: Path | None) -> Path:
    place = tempfile.TemporaryDirectory(prefix=SCRATCH, dir=folder)
    return Path(stack.enter_context(place))


async def _opened_source(
    stack: AsyncExitStack, settings: Settings, place: Place, *, force: bool
) -> Side:
    scratch = await _scratch(stack, None)
    if isinstance(place, DatabaseKnobs):
        found = await stack.enter_async_context(fleet_store.reading(place, NOTHING))
        live = await found.live_instances(settings.fleet.expiry_seconds)
        if live and not force:
            raise OrderRefused(
                NOTHING,
                f"Servers run on {name_of(place)}: {', '.join(live)}.",
                "Stop them, or say --force: what is played from now on stays behind.",
            )
        pictures = await stack.enter_async_context(
            fleet_store.pictures(settings, place, scratch / "cache")
        )
        return Side(name_of(place), found, pictures, scratch)
    path = store.database_of(place)
    if not path.is_file():
        raise OrderRefused(
            NOTHING,
            f"There is no database in {place}.",
            "Name the data folder of a server: --from FOLDER.",
        )
    try:
        stack.enter_context(store.held(place))
    except OSError as error:
        # A copy on a disk that cannot be written; nobody plays in it either, unless another user does.
        if (holder := store.holder(place)) is not None:
            raise OrderRefused(
                NOTHING, f"A server runs on {place} ({holder}).", "Stop it first."
            ) from error
    reader = stack.enter_context(store.reading(path))
    return Side(str(place), reader, FolderBytes(place / "assets"), scratch)


async def _opened_target(stack: AsyncExitStack, settings: Settings, place: Place) -> Side:
    if isinstance(place, DatabaseKnobs):
        scratch = await _scratch(stack, None)
        found = await stack.enter_async_context(fleet_store.filling(place, NOTHING))
        pictures = await stack.enter_async_context(
            fleet_store.pictures(settings, place, scratch / "cache")
        )
        return Side(name_of(place), found, pictures, scratch)
    with fleet_store.ordered(NOTHING):
        await store.bring_up(place)
    filler = stack.enter_context(store.filling(place))
    for left in place.glob(f"{SCRATCH}*"):
        await asyncio.to_thread(shutil.rmtree, left, ignore_errors=True)
    scratch = await _scratch(stack, place)
    return Side(str(place), filler, FolderBytes(place / "assets"), scratch)


async def _opened_to_compare(stack: AsyncExitStack, settings: Settings, place: Place) -> Side:
    """A target of which nothing is changed: what is not there yet is compared as if it were empty."""
    scratch = await _scratch(stack, None)
    nothing = FolderBytes(scratch)
    found: Store
    if isinstance(place, DatabaseKnobs):
        if await fleet_store.is_empty(place, NOTHING):
            found = stack.enter_context(store.empty())
        else:
            found = await stack.enter_async_context(fleet_store.reading(place, NOTHING))
    elif store.database_of(place).is_file():
        found = stack.enter_context(store.reading(store.database_of(place)))
    else:
        found = stack.enter_context(store.empty())
    return Side(name_of(place), found, nothing, scratch)


async def _chosen(source: Side, only: str | None) -> list[StoredRoom]:
    rooms = await source.store.rooms()
    if only is None:
        return rooms
    chosen = [room for room in rooms if room.id == only]
    if not chosen:
        raise OrderRefused(
            NOTHING,
            f"There is no room {only} in {source.name}.",
            "Leave --room out to move all of them; --dry-run names them.",
        )
    return chosen


class Move:
    """One run, from one side to the other."""

    def __init__(
        self, source: Side, target: Side, room: str | None, progress: Progress, *, is_dry: bool
    ) -> None:
        self._source = source
        self._target = target
        self._only = room
        self._progress = progress
        self._is_dry = is_dry
        self._rooms: list[MovedRoom] = []
        self._rows: dict[str, int] = {}
        self._events = self._all_events = 0
        self._pictures = 0
        self._lost: list[str] = []
        self._refused: set[str] = set()
        self._left_behind: set[str] = set()
        self._users: set[str] = set()
        self._mentioned: set[str] = set()

    async def run(self, rooms: list[StoredRoom]) -> Moved:
        """Move these rooms and what belongs to them; users first and sessions last, so that whoever signs in there finds their rooms.

        What is there already is compared before anything is added: who sits in refused rooms alone stays behind with them.
        """
        if self._only is not None:
            self._users = {user for user, _ in await self._source.store.seats(self._only)}
        there = {room.id: room for room in await self._target.store.rooms()}
        known: dict[str, MovedRoom] = {}
        for room in rooms:
            if room.id in there:
                known[room.id] = await self._compared(room, there[room.id])
                self._progress("compared", len(known), len(there))
            else:
                with suppress(Unreadable):
                    self._all_events += await self._source.store.head(room.id) or 0
        self._refused = {room for room, one in known.items() if one.outcome == "refused"}
        await self._leave_behind(rooms)
        await self._move_table("users")
        for number, room in enumerate(rooms, 1):
            self._progress("rooms", number - 1, len(rooms))
            moved = known.get(room.id) or await self._move_room(room)
            self._rooms.append(moved)
            if moved.outcome == "refused":
                self._refused.add(room.id)
        self._progress("rooms", len(rooms), len(rooms))
        await self._move_table("invites")
        await self._move_pictures()
        await self._move_table("recovery_codes")
        await self._move_table("sessions")
        if self._only is None:
            await self._move_table("designs")
            await self._move_table("design_versions")
        return Moved(
            *(self._source.name, self._target.name, self._rooms),
            *(self._rows, self._pictures, self._lost),
        )

    async def _leave_behind(self, rooms: list[StoredRoom]) -> None:
        """Find out who has a seat in refused rooms alone."""
        staying: set[str] = set()
        going: set[str] = set()
        for room in rooms if self._refused else ():
            seats = await self._source.store.seats(room.id)
            (staying if room.id in self._refused else going).update(user for user, _ in seats)
        self._left_behind = staying - going

    async def _move_room(self, room: StoredRoom) -> MovedRoom:
        tally = await _begun(self._source.store, room)
        try:
            if self._is_dry:
                async for rows in self._logged(room.id):
                    tally.take(rows)
                return tally.as_told(room, "to move", tally.trouble)
            async with self._target.store.transaction():
                await self._copy(room, tally)
        except (Unreadable, Conflict, sqlite3.IntegrityError) as error:
            return tally.as_told(room, "refused", str(error))
        return tally.as_told(room, "moved", tally.trouble)

    async def _compared(self, room: StoredRoom, there: StoredRoom) -> MovedRoom:
        # Either side may have lost its beginning since: what both have is compared, and what it comes to.
        since = max(room.begins, there.begins)
        here = await _begun(self._source.store, room, since)
        try:
            async for rows in self._logged(room.id):
                here.take(rows)
            yonder = await self._there(there, since)
            if (here.digest, here.state) != (yonder.digest, yonder.state):
                return here.as_told(room, "refused", await self._difference(here, yonder, since))
        except (Unreadable, sqlite3.IntegrityError) as error:
            return here.as_told(room, "refused", str(error))
        if (room.deleted_at is None) != (there.deleted_at is None):
            where = self._source.name if room.deleted_at is not None else self._target.name
            return here.as_told(
                room, "refused", f"It is deleted in {where} alone. Neither was changed."
            )
        return here.as_told(room, "there")

    async def _there(self, room: StoredRoom, since: int, until: float = math.inf) -> Tally:
        """What the target's log of a room comes to, or its first events `until` an offset."""
        async with AsyncExitStack() as stack:
            if not self._is_dry:
                await stack.enter_async_context(self._target.store.transaction())
            return await _tallied(self._target.store, room, since, until)

    async def _difference(self, here: Tally, yonder: Tally, since: int) -> str:
        """How two logs of one room differ, and what can be done."""
        target, source = self._target.name, self._source.name
        if here.events < yonder.events:
            if (await self._there(yonder.room, since, here.events)).digest == here.digest:
                return (
                    f"{target} has a later state of the same log: {yonder.events} events, {here.events} in {source}."
                    " Neither was changed. If it was moved before and played on there, nothing is left to do;"
                    " else move into an empty place."
                )
        else:
            first = await _tallied(self._source.store, here.room, since, yonder.events)
            if first.digest == yonder.digest:
                return (
                    f"{target} has an earlier state of the same log: {yonder.events} events, {here.events} in {source}."
                    " Neither was changed. To have what was played since, move into an empty place."
                )
        return (
            f"{target} has another log of it, with {yonder.events} events; {source} has {here.events}."
            " Neither was changed. Keep one of them, or move into an empty place."
        )

    async def _logged(self, room: str) -> AsyncIterator[list[StoredRow]]:
        """The source's log of a room; on the way, the ids that its events mention, where one room is moved alone."""
        async for rows in self._source.store.events(room):
            if self._only is not None:
                for row in rows:
                    self._mentioned.update(one.decode() for one in ID.findall(row.data))
            yield rows

    async def _copy(self, room: StoredRoom, here: Tally) -> None:
        source, target = self._source.store, self._target.store
        head = await source.head(room.id) or 0
        await target.add_room(room, secrets.token_hex(8), await source.seats(room.id), head)
        async for rows in self._logged(room.id):
            here.take(rows)
            await target.add_events(room.id, rows)
            self._events += len(rows)
            self._progress("events", self._events, max(self._all_events, self._events))
        async for snapshot in source.snapshots(room.id):
            await target.add_snapshot(room.id, snapshot)
        yonder = await _tallied(target, room, room.begins)
        if (here.events, here.digest, here.state) != (head, yonder.digest, yonder.state):
            raise Unavailable(
                f"Room {room.id} ({room.name}) was not moved.",
                "What was read back is not what was written.",
                "Run `tableforge verify` on both sides; rooms before it are moved.",
            )

    async def _move_table(self, table: str) -> None:
        self._rows[table] = 0
        async for rows in self._source.store.rows(table):
            chosen = [row for row in rows if self._is_chosen(table, row)]
            await self._add(table, chosen)

    async def _add(self, table: str, rows: list[tuple[object, ...]]) -> None:
        if rows and not self._is_dry:
            async with self._target.store.transaction():
                self._rows[table] += await self._target.store.add_rows(table, rows)

    def _is_chosen(self, table: str, row: tuple[object, ...]) -> bool:
        """Whether a row goes along: not with a room that was refused, and with one room alone only what belongs to it."""
        named = dict(zip(TABLES[table], row, strict=True))
        if named.get("room") in self._refused:
            return False
        if table in PERSONAL and named[PERSONAL[table]] in self._left_behind:
            return False
        if self._only is None:
            return True
        if table == "assets":
            return named["room"] == self._only or named["id"] in self._mentioned
        if table == "invites":
            return named["room"] == self._only
        return named[PERSONAL[table]] in self._users

    async def _move_pictures(self) -> None:
        """The bytes of a picture, then the rows that lead to it."""
        self._rows["assets"] = 0
        brought: set[str] = set()
        total = len(await self._source.store.digests())
        async for rows in self._source.store.rows("assets"):
            for row in rows:
                if not self._is_chosen("assets", row):
                    continue
                asset = dict(zip(TABLES["assets"], row, strict=True))
                digest = str(asset["digest"])
                if digest not in brought:
                    brought.add(digest)
                    await self._bring(digest, asset)
                    self._progress("pictures", len(brought), max(total, len(brought)))
                await self._add("assets", [row])

    async def _bring(self, digest: str, asset: dict[str, object]) -> None:
        if self._is_dry:
            return
        paths = [self._target.scratch / f"{digest}{end}" for end in ("", ".thumbnail")]
        try:
            for path, thumbnail in zip(paths, (False, True), strict=True):
                found = await self._source.pictures.locate(digest, thumbnail=thumbnail)
                await asyncio.to_thread(shutil.copyfile, found, path)
            size, found_digest = await asyncio.to_thread(size_and_digest, paths[0])
        except NotFound:
            size, found_digest = 0, ""
        if found_digest != digest:
            self._lost.append(digest)
            return
        picture = msgspec.convert(
            {**asset, "bytes": size, "path": paths[0], "thumbnail_path": paths[1]}, Picture
        )
        await self._target.pictures.put(picture, str(asset["id"]))
        self._pictures += 1


async def _begun(found: Store, room: StoredRoom, since: int = 0) -> Tally:
    """A tally that holds what the snapshot at the log's beginning says, and no event yet."""
    beginning: dict[int, Room] = {}
    if room.begins:
        with suppress(Unreadable):
            async for snapshot in found.snapshots(room.id):
                if snapshot.offset == room.begins:
                    state = codec.decode_room(snapshot.form, snapshot.unpacked())
                    beginning |= {} if state is None else {room.begins: state}
    return Tally(room, beginning, since)


async def _tallied(found: Store, room: StoredRoom, since: int, until: float = math.inf) -> Tally:
    tally = await _begun(found, room, since)
    async for rows in found.events(room.id):
        tally.take(row for row in rows if row.offset <= until)
    return tally


async def bring_up(place: Place) -> tuple[int, int]:
    """Bring a store's tables to the present form and do nothing else; returns the forms before and after."""
    if isinstance(place, DatabaseKnobs):
        return await fleet_store.bring_up(place, "The tables were not changed.")
    with fleet_store.ordered("The tables were not changed."):
        return await store.bring_up(place)
