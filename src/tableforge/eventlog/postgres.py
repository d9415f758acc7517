"""The event log in PostgreSQL: the truth of a fleet.

A batch of appends is one statement and one commit, guarded by the rooms' rows in `room_heads` (`eventlog.batch`).

The statement can be sent again at any time: the guard lets it happen once. So when a connection is lost in the middle of
a commit the batch goes out anew on another; rooms that it does not move then are looked up by the keys of their commands.
"""

import asyncio
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import asyncpg
import structlog
from asyncpg.prepared_stmt import PreparedStatement

from tableforge.database import SERVER, Statement
from tableforge.database.finding import CANDIDATES, WALKED, Listing, page
from tableforge.database.pool import Connection
from tableforge.database.postgres import (
    CLASH_STATES,
    FAILURES,
    PostgresDatabase,
    is_lost,
    is_passing,
    pauses,
    reason,
    state_of,
)
from tableforge.errors import StartRefused, TableForgeError
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
    unpacked,
)
from tableforge.eventlog.batch import (
    KEYS,
    NAMES,
    OF_ONE_ROOM,
    STANDINGS,
    UNKNOWN,
    Batch,
    Standing,
    standings,
)
from tableforge.eventlog.group_commit import GroupCommit

WRITER_SETTINGS = """SET plan_cache_mode = force_generic_plan;
SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_bitmapscan = off"""
"""One plan for every batch, by the primary keys: the planner cannot know that a small table will be a large one."""

READ_HEAD = Statement(
    "log_head",
    f"SELECT epoch, head, {SERVER}, begins FROM room_heads WHERE room = ? AND deleted_at IS NULL",  # noqa: S608 - a constant
)
READ_HEADS = Statement(
    "log_heads",
    "SELECT room, epoch, head FROM room_heads WHERE room = ANY (?::text[]) AND deleted_at IS NULL",
)
READ = Statement(
    "log_read",
    """SELECT e.seq, e.version, e.data FROM room_heads h JOIN events e ON e.room = h.room
       WHERE h.room = ? AND h.deleted_at IS NULL AND e.seq > ? ORDER BY e.seq LIMIT ?""",
)
FIND = Statement("log_find", "SELECT seq, digest FROM events WHERE room = ? AND key = ?")
SNAPSHOT_AT = Statement(
    "log_snapshot",
    """SELECT seq, version, data FROM snapshots WHERE room = ? AND seq <= ?
       ORDER BY seq DESC LIMIT 1""",
)
SAVE_SNAPSHOT = Statement(
    "log_save_snapshot",
    """INSERT INTO snapshots (room, seq, version, data) SELECT room, ?1, ?2, ?3 FROM room_heads
       WHERE room = ?4 AND begins < ?1
       ON CONFLICT (room, seq) DO UPDATE SET version = excluded.version, data = excluded.data""",
    repeatable=True,
)
SEATS = Statement(
    "log_seats",
    """SELECT s.room FROM seats s JOIN rooms r ON r.id = s.room JOIN room_heads h ON h.room = s.room
       WHERE s."user" = ? AND h.deleted_at IS NULL ORDER BY r.place""",
)
FEW_SEATS = 2_000
"""The rooms of a user who has a seat in no more than so many are sorted; else all rooms are walked, and most are theirs."""
MANY_REMEMBERED = 1_000
MANY_SECONDS = 600.0
# Constant texts put together once: what varies is always bound. The parameters: user, place, part of the name, tag, limit.
# What is asked of each room by itself stands in scalar subqueries: a join would read whole tables for it, or lose the order.
LISTED = """SELECT place, id, name, visibility, (SELECT count(*) FROM seats n WHERE n.room = id),
       (SELECT convert_from(e.data, 'UTF8')::json ->> 'at' FROM events e WHERE e.room = id ORDER BY e.seq DESC LIMIT 1),
       role, 1 FROM found"""
NAMED = """(?3 = '' OR strpos(lower(r.name COLLATE "C"), ?3) > 0)"""
ALIVE = "(SELECT h.deleted_at IS NULL FROM room_heads h WHERE h.room = r.id)"
OWN_ROLE = """(SELECT s.role FROM seats s WHERE s.room = r.id AND s."user" = ?1)"""
NOTHING = "NULL, NULL, NULL, NULL, NULL, NULL, 0"
LIST_OWN = Statement(
    "log_list_own",
    f"""WITH mine AS MATERIALIZED (SELECT room, role FROM seats WHERE "user" = ?1 LIMIT {FEW_SEATS} + 1),
    found AS MATERIALIZED (
        SELECT r.place, r.id, r.name, r.visibility, m.role FROM mine m JOIN rooms r ON r.id = m.room
        WHERE (SELECT count(*) FROM mine) <= {FEW_SEATS} AND r.place < ?2
        AND {NAMED} AND (?4 = '' OR ?4 = ANY (r.tags)) AND {ALIVE}
        ORDER BY r.place DESC LIMIT ?5
    ) {LISTED}
    UNION ALL SELECT 0, {NOTHING} WHERE (SELECT count(*) FROM mine) > {FEW_SEATS}""",  # noqa: S608 - as above
    background=True,
)


def _listing(name: str, among: str, owner: str, role: str, seated: str) -> Listing:
    walk = f"""WITH found AS MATERIALIZED (
        SELECT r.place, r.id, r.name, r.visibility, {role} AS role FROM (
            SELECT place, id, name, visibility, tags FROM rooms WHERE {among} AND place < ?2
            ORDER BY place DESC LIMIT {WALKED}
        ) AS r WHERE {NAMED} AND (?4 = '' OR ?4 = ANY (r.tags)) AND {ALIVE} AND {seated} LIMIT ?5
    ) {LISTED}
    UNION ALL SELECT place, {NOTHING} FROM rooms WHERE (SELECT count(*) FROM found) < ?5 AND place = (
        SELECT place FROM rooms WHERE {among} AND place < ?2 ORDER BY place DESC LIMIT 1 OFFSET {WALKED} - 1
    )"""  # noqa: S608 - as above
    search = f"""WITH candidates AS MATERIALIZED (
        SELECT place, id, name, visibility FROM rooms
        WHERE room_terms(name, visibility, tags) @@ finding_query('{owner}', ?4, ?3) LIMIT {CANDIDATES} + 1
    ), found AS MATERIALIZED (
        SELECT r.place, r.id, r.name, r.visibility, {role} AS role FROM candidates r
        WHERE (SELECT count(*) FROM candidates) <= {CANDIDATES} AND r.place < ?2 AND {NAMED} AND {ALIVE} AND {seated}
        ORDER BY r.place DESC LIMIT ?5
    ) {LISTED}
    UNION ALL SELECT 0, {NOTHING} WHERE (SELECT count(*) FROM candidates) > {CANDIDATES}"""  # noqa: S608 - as above
    return Listing(
        Statement(f"{name}_walk", walk, background=True),
        Statement(f"{name}_search", search, background=True),
    )


OWN_OF_MANY = _listing("log_list_many", "true", "", OWN_ROLE, f"{OWN_ROLE} IS NOT NULL")
PUBLIC = _listing(
    "log_list_public",
    "visibility = 'public'",
    "!public",
    "NULL::text",
    f"{OWN_ROLE} IS NULL",
)
LISTINGS = (LIST_OWN, *OWN_OF_MANY, *PUBLIC)
"""The statements of listings, for whoever measures them."""
ALL_ROOMS = Statement(
    "log_all_rooms",
    "SELECT room FROM room_heads WHERE deleted_at IS NULL AND room > ? ORDER BY room LIMIT ?",
    background=True,
)
DELETE = Statement(
    "log_delete", "UPDATE room_heads SET deleted_at = ? WHERE room = ? AND deleted_at IS NULL"
)
RESTORE = Statement(
    "log_restore", "UPDATE room_heads SET deleted_at = NULL WHERE room = ?", repeatable=True
)
RENEW_EPOCH = Statement(
    "log_renew_epoch", "UPDATE room_heads SET epoch = ? WHERE room = ?", repeatable=True
)
LONG_ROOMS = Statement(
    "log_long_rooms",
    """SELECT room FROM room_heads h WHERE deleted_at IS NULL AND room > ?1 AND (head - begins > ?2 OR (begins > 0
       AND EXISTS (SELECT 1 FROM events e WHERE e.room = h.room AND e.seq <= h.begins))) ORDER BY room LIMIT ?3""",
    background=True,
)
BEGIN_BEHIND = Statement(
    "log_begin_behind",
    """UPDATE room_heads h SET begins = ?2 WHERE room = ?1 AND deleted_at IS NULL AND begins < ?2 AND head > ?2
       AND EXISTS (SELECT 1 FROM snapshots s WHERE s.room = ?1 AND s.seq = ?2)""",
    repeatable=True,
)
TAKE_EVENTS = Statement(
    "log_take_events",
    """DELETE FROM events WHERE room = ?1 AND seq = ANY (ARRAY(
       SELECT e.seq FROM room_heads h JOIN events e ON e.room = h.room
       WHERE h.room = ?1 AND e.seq <= h.begins ORDER BY e.seq LIMIT ?2))""",
)
TAKE_SNAPSHOTS = Statement(
    "log_take_snapshots",
    """DELETE FROM snapshots WHERE room = ?1 AND seq = ANY (ARRAY(
       SELECT s.seq FROM room_heads h JOIN snapshots s ON s.room = h.room
       WHERE h.room = ?1 AND s.seq < h.begins ORDER BY s.seq LIMIT ?2))""",
)
LACKING_RIGHT = Statement(
    "log_lacking_right",
    """SELECT 'GRANT DELETE ON events, snapshots TO ' || quote_ident(current_user) WHERE NOT
       (has_table_privilege('events', 'DELETE') AND has_table_privilege('snapshots', 'DELETE'))""",
)

log = structlog.get_logger(__name__)


class PostgresEventLog:
    """See `EventLog` for what holds. `commit_interval` in seconds.

    Appends go over a connection of their own, in the order of batches; `close` lets go of it.
    """

    def __init__(self, database: PostgresDatabase, *, commit_interval: float) -> None:
        self._database = database
        self._group = GroupCommit(self._commit, interval=commit_interval)
        self.append_nowait = self._group.append_nowait
        self.wait_for_idle = self._group.wait_for_idle
        self.share = self._group.share
        self._connection: Connection | None = None
        self._prepared: dict[str, PreparedStatement[asyncpg.Record]] = {}
        self._writing: asyncio.Task[None] | None = None
        self._closed = False
        self._many: dict[str, float] = {}
        """Who has more than a few seats, and until when that is believed: either way finds the same."""

    async def close(self) -> None:
        """Let go of the connection; what is under way ends with `LogUnavailable`."""
        self._closed = True
        self._drop()
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)

    def _commit(self, batch: list[Append], finished: Callable[[Appended], None]) -> None:
        self._writing = asyncio.get_running_loop().create_task(self._write(batch, finished))

    async def _write(self, entries: list[Append], finished: Callable[[Appended], None]) -> None:
        batch = Batch(entries)
        try:
            if self._closed:
                raise LogUnavailable("", "The log is closed.")
            await self._settle(batch)
        except BaseException as error:  # whatever it is, the writers must hear of it
            self._drop()
            batch.refuse_rest(unavailable(error, unsure=not isinstance(error, LogUnavailable)))
            if not isinstance(error, asyncio.CancelledError | LogUnavailable):
                log.error("a batch of appends failed", exc_info=error)
        finished(batch.outcomes)

    async def _settle(self, batch: Batch) -> None:
        """Send a batch until all of it is decided or the database has been away for too long."""
        loop = asyncio.get_running_loop()
        deadline = self._database.deadline
        unsure = False
        waits: Iterator[float] | None = None
        while True:
            sent = False
            try:
                connection = self._connection
                if connection is None or connection.is_closed():
                    connection = await self._connected(deadline)
                sent = True
                await self._rounds(connection, batch, deadline, unsure=unsure)
                self._database.works(wrote=True)
                return
            except StartRefused as refusal:
                batch.refuse_rest(unavailable(refusal, unsure=False))
                return
            except FAILURES as error:
                lost = is_lost(error)
                unsure = unsure or (sent and lost)
                if state_of(error) not in CLASH_STATES:
                    self._drop()
                self._database.hear_of(error, dialling=not sent)
                waits = waits or pauses()
                pause = next(waits)
                late = loop.time() + pause >= deadline
                if late or not (lost or is_passing(error)):
                    batch.refuse_rest(unavailable(error, unsure=unsure))
                    return
                batch.send_again()
            await asyncio.sleep(pause)

    async def _connected(self, deadline: float) -> Connection:
        self._drop()
        async with asyncio.timeout_at(deadline):
            await self._database.started()
            self._connection = await self._database.dial()
            await self._connection.execute(WRITER_SETTINGS)
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
        self._prepared.clear()

    async def _ask(
        self, connection: Connection, deadline: float, text: str, *params: Any
    ) -> list[asyncpg.Record]:
        """Run a statement of the writer. Half of the patience at most: the rest is for another try elsewhere."""
        loop = asyncio.get_running_loop()
        within = max(0.05, min(self._database.patience_seconds / 2, deadline - loop.time()))
        with self._database.watch(
            connection, NAMES[text], text, params, settings=WRITER_SETTINGS
        ) as watch:
            if not self._database.prepares:
                rows = await connection.fetch(text, *params, timeout=within)
            else:
                prepared = self._prepared.get(text)
                if prepared is None:
                    prepared = self._prepared[text] = await connection.prepare(text, timeout=within)
                rows = await prepared.fetch(*params, timeout=within)
            watch.rows = len(rows)
        return rows

    async def _rounds(
        self, connection: Connection, batch: Batch, deadline: float, *, unsure: bool
    ) -> None:
        while batch.waiting:
            text, params = batch.begin_round()
            try:
                rows = await self._ask(connection, deadline, text, *params)
            except FAILURES as error:
                if is_repeat(error) and asyncio.get_running_loop().time() < deadline:
                    batch.send_again()
                    batch.keys_repeat = True
                    await self._take_out_known(connection, batch, deadline, unsure=unsure)
                elif is_unfit(error):
                    if len(batch.chains) > 1:
                        batch.one_room = True
                        batch.send_again()
                    else:
                        (chain,) = batch.chains.values()
                        batch.send_again()
                        batch.refuse(chain[0], unavailable(error, unsure=False))
                else:
                    raise
                continue
            if text in OF_ONE_ROOM:
                refused = {} if rows else dict.fromkeys(batch.chains, UNKNOWN)
            else:
                refused = standings(rows)
            batch.chains = {room: batch.chains[room] for room in refused}
            if refused:
                await self._tell_refused(connection, batch, deadline, refused, unsure=unsure)

    async def _tell_refused(
        self,
        connection: Connection,
        batch: Batch,
        deadline: float,
        refused: dict[str, Standing],
        *,
        unsure: bool,
    ) -> None:
        """Decide on the rooms that the statement did not move."""
        asked = {room: batch.entries[chain[0]] for room, chain in batch.chains.items()}
        # What happened while the statement waited for a lock is not in its snapshot: look again.
        stale = [room for room in refused if refused[room].head in (None, asked[room].expected)]
        if stale:
            ends = [asked[room].expected for room in stale]
            keys = [asked[room].key for room in stale]
            rows = await self._ask(connection, deadline, STANDINGS, stale, ends, keys)
            refused |= standings(rows)
        firsts = {chain[0]: room for room, chain in batch.chains.items()}
        batch.send_again()
        if unsure:
            # Some may be ours, of an earlier try whose answer was lost.
            await self._take_out_known(connection, batch, deadline, unsure=True)
        for index in firsts.keys() & set(batch.waiting):
            batch.refuse_unmoved(index, refused[firsts[index]])

    async def _take_out_known(
        self, connection: Connection, batch: Batch, deadline: float, *, unsure: bool
    ) -> None:
        """Decide what waits whose keys are in the log: repeated commands, or our own of which we had no answer."""
        entries = [batch.entries[index] for index in batch.waiting]
        rows = await self._ask(
            connection,
            deadline,
            KEYS,
            [entry.room for entry in entries],
            [entry.key for entry in entries],
        )
        known = {(room, key): (offset, digest, data) for room, key, offset, digest, data in rows}
        repeated: list[tuple[int, Found]] = []
        waiting = []
        for index, entry in zip(batch.waiting, entries, strict=True):
            found = known.get((entry.room, entry.key))
            if found is None:
                waiting.append(index)
            elif not (unsure and found[0] == entry.last and found[2] == entry.events[-1]):
                waiting.append(index)
                repeated.append((index, Found(found[0], found[1])))
        batch.waiting = waiting
        for index, earlier in reversed(repeated):
            batch.refuse(index, DuplicateCommand(batch.entries[index].room, earlier))

    async def head(self, room: str) -> Head | None:
        """See the contract."""
        rows = await self._database.read(READ_HEAD, room)
        return Head(*rows[0]) if rows else None

    async def heads(self, rooms: Sequence[str]) -> dict[str, Head]:
        """See the contract."""
        rows = await self._database.read(READ_HEADS, list(rooms)) if rooms else []
        return {room: Head(epoch, offset) for room, epoch, offset in rows}

    async def read(self, room: str, *, after: int, limit: int) -> list[StoredEvent]:
        """See the contract."""
        return [StoredEvent(*row) for row in await self._database.read(READ, room, after, limit)]

    async def find(self, room: str, key: bytes) -> Found | None:
        """See the contract."""
        rows = await self._database.read(FIND, room, key)
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
        asked = (user, before if before is not None else 2**62, part, tag)
        now = asyncio.get_running_loop().time()
        if not public and self._many.get(user, 0.0) < now:
            rows = await self._database.read(LIST_OWN, *asked, limit + 1)
            if rows and not rows[-1][-1]:
                if len(self._many) >= MANY_REMEMBERED:
                    self._many.clear()
                self._many[user] = now + MANY_SECONDS
            else:
                own = [RoomRow(*row[:-1]) for row in rows]
                return RoomRows(own[:limit], own[limit - 1].place if len(own) > limit else None)
        found = await page(
            *(self._database.read, PUBLIC if public else OWN_OF_MANY, *asked),
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
        """See the contract."""
        rows = await self._database.read(LACKING_RIGHT)
        return rows[0][0] if rows else ""

    async def _change(self, statement: Statement, room: str, *params: object) -> None:
        if await self._database.write(statement, *params) == 0:
            raise StreamMissing(room)


def is_repeat(error: BaseException) -> bool:
    """Whether a batch was refused because of a command's key that is taken."""
    return isinstance(error, asyncpg.UniqueViolationError) and error.constraint_name == "events_key"


def is_unfit(error: BaseException) -> bool:
    """Whether a batch was refused because of what is in it."""
    return isinstance(error, ValueError) or state_of(error).startswith(("22", "23"))


def unavailable(error: BaseException, *, unsure: bool) -> LogUnavailable:
    """What to tell writers whose appends were given up on."""
    if isinstance(error, TableForgeError):
        why, mend = error.why, error.mend
    elif is_unfit(error):
        why, mend = "The database cannot hold what is in it.", ""
    else:
        why, mend = reason(error)
    if unsure:
        return LogUnavailable(
            "It is not known whether the command was saved.",
            why,
            "Send it again as it is: what was saved is not carried out twice.",
        )
    return LogUnavailable("The command was not saved, so it did not happen.", why, mend)
