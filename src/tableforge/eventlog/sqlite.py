"""The event log in SQLite: the embedded mode's truth."""

import sqlite3
import zlib
from collections.abc import Callable, Sequence

import msgspec

from tableforge.database import Statement
from tableforge.database.finding import CANDIDATES, WALKED, Listing, page, sought
from tableforge.database.sqlite import SqliteDatabase
from tableforge.errors import TableForgeError
from tableforge.eventlog import (
    ASCII_LOWER,
    Append,
    Appended,
    DuplicateCommand,
    Found,
    Head,
    LogUnavailable,
    RoomRow,
    RoomRows,
    Snapshot,
    StoredEvent,
    StreamMissing,
    Taken,
    VersionConflict,
    unpacked,
)
from tableforge.eventlog.group_commit import GroupCommit, one_by_one

KNOWN_HEADS = 20_000
"""How many streams' ends the writer remembers before it forgets them all and asks the database again."""

APPEND = Statement(
    "log_append",
    "INSERT INTO events (room, seq, version, data, key, digest) VALUES (?, ?, ?, ?, ?, ?)",
)
ANY_EVENT: Sequence[object] = (0, 0, 0, b"", None, None)
"""What the parameters of an append look like: there is one row of them for each event."""
HEAD = """SELECT r.num, coalesce((SELECT max(seq) FROM events e WHERE e.room = r.num), 0)
          FROM rooms r WHERE r.id = ? AND r.deleted_at IS NULL"""
READ_HEAD = Statement(
    "log_head",
    """SELECT r.epoch, coalesce((SELECT max(seq) FROM events e WHERE e.room = r.num), 0), '', r.begins
       FROM rooms r WHERE r.id = ? AND r.deleted_at IS NULL""",
)
READ_HEADS = Statement(
    "log_heads",
    """SELECT r.id, r.epoch, coalesce((SELECT max(seq) FROM events e WHERE e.room = r.num), 0)
       FROM json_each(?) j JOIN rooms r ON r.id = j.value WHERE r.deleted_at IS NULL""",
)
READ = Statement(
    "log_read",
    """SELECT e.seq, e.version, e.data FROM rooms r JOIN events e ON e.room = r.num
       WHERE r.id = ? AND r.deleted_at IS NULL AND e.seq > ? ORDER BY e.seq LIMIT ?""",
)
FIND = Statement("log_find", "SELECT seq, digest FROM events WHERE key = ?")
SNAPSHOT_AT = Statement(
    "log_snapshot",
    """SELECT s.seq, s.version, s.data FROM rooms r JOIN snapshots s ON s.room = r.num
       WHERE r.id = ? AND s.seq <= ? ORDER BY s.seq DESC LIMIT 1""",
)
SAVE_SNAPSHOT = Statement(
    "log_save_snapshot",
    """INSERT INTO snapshots (room, seq, version, data) SELECT num, ?1, ?2, ?3 FROM rooms
       WHERE id = ?4 AND begins < ?1
       ON CONFLICT (room, seq) DO UPDATE SET version = excluded.version, data = excluded.data""",
)
SEATS = Statement(
    "log_seats",
    """SELECT r.id FROM seats s JOIN rooms r ON r.num = s.room
       WHERE s.user = ? AND r.deleted_at IS NULL ORDER BY r.num""",
)
# Constant texts put together once: what varies is always bound. A limit of 0 spares SQLite the walk that a condition around
# it would not. The parameters: user, place, part of the name, tag, limit.
LISTED = """SELECT num, id, name, visibility, (SELECT count(*) FROM seats n WHERE n.room = num),
       (SELECT CAST(e.data AS TEXT) ->> '$.at' FROM events e WHERE e.room = num ORDER BY e.seq DESC LIMIT 1),
       role, 1 FROM found"""
MATCHING = """r.deleted_at IS NULL AND (?3 = '' OR instr(lower(r.name), ?3) > 0)
       AND (?4 = '' OR (instr(r.tags, json_quote(?4)) > 0 AND EXISTS (SELECT 1 FROM json_each(r.tags) t WHERE t.value = ?4)))"""
NOTHING = "NULL, NULL, NULL, NULL, NULL, NULL, 0"
OWN = "seats s CROSS JOIN rooms r ON r.num = s.room WHERE s.user = ?1 AND s.room < ?2"
OPEN = "rooms r WHERE r.visibility = 'public' AND r.num < ?2"
OWN_ROLE = "(SELECT s.role FROM seats s WHERE s.user = ?1 AND s.room = r.num)"


def _listing(name: str, rows: str, place: str, columns: str, role: str, seated: str) -> Listing:
    walk = f"""WITH found AS MATERIALIZED (
        SELECT r.num, r.id, r.name, r.visibility, {role} AS role FROM (
            SELECT {columns} FROM {rows} ORDER BY {place} DESC LIMIT {WALKED}
        ) AS r WHERE {MATCHING} AND {seated} LIMIT ?5
    ) {LISTED}
    UNION ALL SELECT * FROM (
        SELECT {place}, {NOTHING} FROM {rows} ORDER BY {place} DESC
        LIMIT (SELECT count(*) FROM found) < ?5 OFFSET {WALKED} - 1
    )"""  # noqa: S608 - as above
    search = f"""WITH candidates AS MATERIALIZED (
        SELECT r.* FROM room_terms JOIN rooms r ON r.num = room_terms.rowid WHERE room_terms MATCH
        {sought("name", "?3", "?4")}
        LIMIT {CANDIDATES} + 1
    ), found AS MATERIALIZED (
        SELECT r.num, r.id, r.name, r.visibility, {OWN_ROLE} AS role FROM candidates r
        WHERE (SELECT count(*) FROM candidates) <= {CANDIDATES} AND r.num < ?2 AND {MATCHING} AND {seated}
        AND ({OWN_ROLE} IS NOT NULL OR r.visibility = 'public')
        ORDER BY r.num DESC LIMIT ?5
    ) {LISTED}
    UNION ALL SELECT 0, {NOTHING} WHERE (SELECT count(*) FROM candidates) > {CANDIDATES}"""  # noqa: S608 - as above
    return Listing(
        Statement(f"{name}_walk", walk, background=True),
        Statement(f"{name}_search", search, background=True),
    )


LIST_OWN = _listing(
    "log_list_own", OWN, "s.room", "r.*, s.role", "r.role", f"{OWN_ROLE} IS NOT NULL"
)
LIST_PUBLIC = _listing("log_list_public", OPEN, "r.num", "r.*", "NULL", f"{OWN_ROLE} IS NULL")
LISTINGS = (*LIST_OWN, *LIST_PUBLIC)
"""The statements of listings, for whoever measures them."""
ALL_ROOMS = Statement(
    "log_all_rooms",
    "SELECT id FROM rooms WHERE deleted_at IS NULL AND id > ? ORDER BY id LIMIT ?",
    background=True,
)
DELETE = Statement(
    "log_delete", "UPDATE rooms SET deleted_at = ? WHERE id = ? AND deleted_at IS NULL"
)
RESTORE = Statement("log_restore", "UPDATE rooms SET deleted_at = NULL WHERE id = ?")
RENEW_EPOCH = Statement("log_renew_epoch", "UPDATE rooms SET epoch = ? WHERE id = ?")
LONG_ROOMS = Statement(
    "log_long_rooms",
    """SELECT id FROM rooms r WHERE deleted_at IS NULL AND id > ?1
       AND (coalesce((SELECT max(seq) FROM events e WHERE e.room = r.num), 0) - begins > ?2
            OR (begins > 0 AND EXISTS (SELECT 1 FROM events e WHERE e.room = r.num AND e.seq <= begins)))
       ORDER BY id LIMIT ?3""",
    background=True,
)
BEGIN_BEHIND = Statement(
    "log_begin_behind",
    """UPDATE rooms SET begins = ?2 WHERE id = ?1 AND deleted_at IS NULL AND begins < ?2
       AND EXISTS (SELECT 1 FROM events e WHERE e.room = num AND e.seq > ?2)
       AND EXISTS (SELECT 1 FROM snapshots s WHERE s.room = num AND s.seq = ?2)""",
)
TAKE_EVENTS = Statement(
    "log_take_events",
    """DELETE FROM events WHERE rowid IN (SELECT e.rowid FROM rooms r JOIN events e ON e.room = r.num
       WHERE r.id = ?1 AND e.seq <= r.begins ORDER BY e.seq LIMIT ?2)""",
)
TAKE_SNAPSHOTS = Statement(
    "log_take_snapshots",
    """DELETE FROM snapshots WHERE rowid IN (SELECT s.rowid FROM rooms r JOIN snapshots s ON s.room = r.num
       WHERE r.id = ?1 AND s.seq < r.begins ORDER BY s.seq LIMIT ?2)""",
)


class SqliteEventLog:
    """See `EventLog` for what holds. `commit_interval` in seconds."""

    def __init__(self, database: SqliteDatabase, *, commit_interval: float) -> None:
        self._database = database
        self._group = GroupCommit(self._commit, interval=commit_interval)
        self.append_nowait = self._group.append_nowait
        self.wait_for_idle = self._group.wait_for_idle
        self.share = self._group.share
        self._heads: dict[str, tuple[int, int]] = {}

    def _commit(self, batch: list[Append], finished: Callable[[Appended], None]) -> None:
        def done(outcomes: list[TableForgeError | None], failure: BaseException | None) -> None:
            if failure is not None:
                # What the writer believed of the streams' ends may be ahead of the disk now.
                self._heads.clear()
                detail = failure.why if isinstance(failure, TableForgeError) else str(failure)
                mend = failure.mend if isinstance(failure, TableForgeError) else ""
                refusal = LogUnavailable(
                    "The command was not saved, so it did not happen.", detail, mend
                )
                outcomes = [refusal] * len(batch)
            finished(outcomes)

        self._database.submit(lambda connection: self._write(connection, batch), done)

    def _write(
        self, connection: sqlite3.Connection, batch: list[Append]
    ) -> list[TableForgeError | None]:
        """Runs on the writer thread, inside its transaction."""
        with self._database.watch(APPEND, ANY_EVENT) as watch:
            watch.rows = sum(len(entry.events) for entry in batch)
            rows: list[tuple[object, ...]] = []
            moved: dict[str, tuple[int, int]] = {}
            for entry in batch:
                known = moved.get(entry.room) or self._heads.get(entry.room)
                if known is None or known[1] != entry.expected or entry.facts is not None:
                    return self._write_singly(connection, batch)
                num, offset = known
                for data in entry.events:
                    offset += 1
                    rows.append((num, offset, entry.version, data, None, None))
                rows[-1] = (*rows[-1][:4], entry.key, entry.digest)
                moved[entry.room] = (num, offset)
            connection.execute("SAVEPOINT batch")
            try:
                connection.executemany(APPEND.sql, rows)
            except sqlite3.IntegrityError:
                connection.execute("ROLLBACK TO batch")
                return self._write_singly(connection, batch)
            self._heads.update(moved)
            return [None] * len(batch)

    def _write_singly(
        self, connection: sqlite3.Connection, batch: list[Append]
    ) -> list[TableForgeError | None]:
        """The careful way, for a batch in which some append opens, changes facts, is late or repeats itself."""
        return one_by_one(batch, lambda entry: self._write_one(connection, entry))

    def _write_one(self, connection: sqlite3.Connection, entry: Append) -> None:
        found = connection.execute(FIND.sql, (entry.key,)).fetchone()
        if found is not None:
            raise DuplicateCommand(entry.room, Found(*found))
        if entry.opens is not None:
            facts = entry.facts
            assert facts is not None
            cursor = connection.execute(
                """INSERT INTO rooms (id, epoch, name, visibility, tags) VALUES (?, ?, ?, ?, ?)
                   ON CONFLICT (id) DO NOTHING""",
                (entry.room, entry.opens, facts.name, facts.visibility, _tags(facts.tags)),
            )
            if cursor.rowcount == 0:
                raise VersionConflict(
                    entry.room,
                    expected=entry.expected,
                    actual=self._head(connection, entry.room)[1],
                )
            self._forget_if_many()
        num, offset = self._head(connection, entry.room)
        if offset != entry.expected:
            raise VersionConflict(entry.room, expected=entry.expected, actual=offset)
        last = len(entry.events) - 1
        for index, data in enumerate(entry.events):
            offset += 1
            key, digest = (entry.key, entry.digest) if index == last else (None, None)
            connection.execute(APPEND.sql, (num, offset, entry.version, data, key, digest))
        if entry.facts is not None:
            facts = entry.facts
            connection.execute(
                "UPDATE rooms SET name = ?, visibility = ?, tags = ? WHERE num = ?",
                (facts.name, facts.visibility, _tags(facts.tags), num),
            )
            connection.execute("DELETE FROM seats WHERE room = ?", (num,))
            connection.executemany(
                "INSERT INTO seats (user, room, role) VALUES (?, ?, ?)",
                [(user, num, role) for user, role in facts.seats],
            )
        self._heads[entry.room] = (num, offset)

    def _head(self, connection: sqlite3.Connection, room: str) -> tuple[int, int]:
        known = self._heads.get(room)
        if known is None:
            row = connection.execute(HEAD, (room,)).fetchone()
            if row is None:
                raise StreamMissing(room)
            self._forget_if_many()
            known = self._heads[room] = (row[0], row[1])
        return known

    def _forget_if_many(self) -> None:
        if len(self._heads) >= KNOWN_HEADS:
            self._heads.clear()

    async def head(self, room: str) -> Head | None:
        """See the contract."""
        rows = await self._database.read(READ_HEAD, room)
        return Head(*rows[0]) if rows else None

    async def heads(self, rooms: Sequence[str]) -> dict[str, Head]:
        """See the contract."""
        asked = msgspec.json.encode(rooms).decode()
        rows = await self._database.read(READ_HEADS, asked)
        return {room: Head(epoch, offset) for room, epoch, offset in rows}

    async def read(self, room: str, *, after: int, limit: int) -> list[StoredEvent]:
        """See the contract."""
        return [StoredEvent(*row) for row in await self._database.read(READ, room, after, limit)]

    async def find(self, room: str, key: bytes) -> Found | None:
        """See the contract."""
        rows = await self._database.read(FIND, key)
        return Found(*rows[0]) if rows else None

    async def snapshot_at(self, room: str, offset: int) -> Snapshot | None:
        """See the contract."""
        rows = await self._database.read(SNAPSHOT_AT, room, offset)
        return Snapshot(rows[0][0], rows[0][1], unpacked(rows[0][2])) if rows else None

    async def save_snapshot(self, room: str, snapshot: Snapshot) -> None:
        """See the contract."""
        packed = zlib.compress(snapshot.data, 1)
        await self._database.write(SAVE_SNAPSHOT, snapshot.offset, snapshot.version, packed, room)

    async def seats(self, user: str) -> list[str]:
        """See the contract."""
        return [row[0] for row in await self._database.read(SEATS, user)]

    async def list_rooms(
        self, *, user: str, public: bool, query: str, tag: str, before: int | None, limit: int
    ) -> RoomRows:
        """See the contract."""
        part = query.translate(ASCII_LOWER)
        found = await page(
            *(self._database.read, LIST_PUBLIC if public else LIST_OWN),
            *(user, before if before is not None else 2**62, part, tag),
            limit=limit,
            part=part,
            tag=tag,
        )
        return RoomRows(
            [RoomRow(*row) for row in found.rows], found.last[0] if found.last else None
        )

    async def all_rooms(self, *, after: str, limit: int) -> list[str]:
        """See the contract."""
        return [row[0] for row in await self._database.read(ALL_ROOMS, after, limit)]

    async def delete(self, room: str, *, at: str) -> None:
        """See the contract."""
        await self._change(DELETE, room, at, room)

    async def restore(self, room: str) -> None:
        """See the contract."""
        await self._change(RESTORE, room, room)

    async def renew_epoch(self, room: str, epoch: str) -> None:
        """See the contract."""
        await self._change(RENEW_EPOCH, room, epoch, room)

    async def long_rooms(self, *, after: str, kept: int, limit: int) -> list[str]:
        """See the contract."""
        return [row[0] for row in await self._database.read(LONG_ROOMS, after, kept, limit)]

    async def begin_behind(self, room: str, offset: int) -> None:
        """See the contract."""
        await self._database.write(BEGIN_BEHIND, room, offset)

    async def take_away(self, room: str, *, limit: int) -> Taken:
        """See the contract."""
        steps = [(TAKE_EVENTS, (room, limit)), (TAKE_SNAPSHOTS, (room, limit))]
        return Taken(*await self._database.write_all(steps))

    async def lacking_right(self) -> str:
        """See the contract: the file is this process's own."""
        return ""

    async def _change(self, statement: Statement, room: str, *params: object) -> None:
        def work(connection: sqlite3.Connection) -> int:
            self._heads.pop(room, None)
            return self._database.change(connection, statement, *params)

        if await self._database.transact(work) == 0:
            raise StreamMissing(room)


def _tags(tags: tuple[str, ...]) -> str:
    return msgspec.json.encode(tags).decode()
