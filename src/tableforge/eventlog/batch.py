"""A batch of appends as PostgreSQL gets it: the statements, and what is decided of each append.

One statement locks the rows of `room_heads` that stand where the writers expect them, in the order of their rooms so that
two instances never wait for each other in a ring, moves them on, inserts the events of these rooms, and tells of the
others where they stand and what they hold that their writers have not seen.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec

from tableforge.errors import TableForgeError
from tableforge.eventlog import (
    MISSED_AT_MOST,
    Append,
    DuplicateCommand,
    Found,
    StoredEvent,
    StreamMissing,
    VersionConflict,
)

# Constant texts put together once; what varies is always bound.
MATCHED = """matched AS (
    SELECT w.room, w.last FROM wanted w JOIN room_heads h ON h.room = w.room
    WHERE h.head = w.expected AND h.deleted_at IS NULL
    ORDER BY h.room FOR NO KEY UPDATE OF h
), advanced AS (
    UPDATE room_heads h SET head = m.last FROM matched m WHERE h.room = m.room RETURNING h.room
)"""
WRITTEN = """written AS (
    INSERT INTO events (room, seq, version, data, key, digest)
    SELECT e.room, e.seq, e.version, e.data, e.key, e.digest
    FROM unnest($4::text[], $5::bigint[], $6::integer[], $7::bytea[], $8::bytea[], $9::bytea[])
        AS e (room, seq, version, data, key, digest)
    WHERE (e.room IN (SELECT t.room FROM taken t)) IS TRUE
)"""
"""The test for truth makes a hashed look-up of what would be a join in a loop."""
STANDING = f"""SELECT w.room, h.head, k.seq, k.digest, e.seq, e.version, e.data
FROM wanted w LEFT JOIN room_heads h ON h.room = w.room AND h.deleted_at IS NULL
LEFT JOIN events k ON k.room = w.room AND k.key = w.key
LEFT JOIN LATERAL (
    SELECT seq, version, data FROM events
    WHERE room = w.room AND seq > w.expected ORDER BY seq LIMIT {MISSED_AT_MOST}
) e ON true"""  # noqa: S608 - a number of ours
NOT_TAKEN = "WHERE w.room NOT IN (SELECT t.room FROM taken t) ORDER BY w.room, e.seq"

APPEND: Final = " ".join(
    (
        """WITH wanted AS (
            SELECT * FROM unnest($1::text[], $2::bigint[], $10::bytea[], $3::bigint[])
                AS w (room, expected, key, last)
        ),""",
        MATCHED,
        ", taken AS (SELECT room FROM advanced),",
        WRITTEN,
        STANDING,
        NOT_TAKEN,
    )
)
"""The one round trip of a batch; returns a row for each event that the writer of a refused room missed, at least one."""

APPEND_TO_ONE: Final = """WITH advanced AS (
    UPDATE room_heads SET head = $3 WHERE room = $1 AND head = $2 AND deleted_at IS NULL RETURNING room
) INSERT INTO events (room, seq, version, data, key, digest)
SELECT a.room, e.seq, e.version, e.data, e.key, e.digest
FROM advanced a, unnest($4::bigint[], $5::integer[], $6::bytea[], $7::bytea[], $8::bytea[])
    AS e (seq, version, data, key, digest)
RETURNING seq"""
"""The same for a batch of one room; returns a row for each event that was written, or none."""

APPEND_EVENT: Final = """WITH advanced AS (
    UPDATE room_heads SET head = $3 WHERE room = $1 AND head = $2 AND deleted_at IS NULL RETURNING room
) INSERT INTO events (room, seq, version, data, key, digest)
SELECT room, $3, $4, $5, $6, $7 FROM advanced RETURNING seq"""
"""The same for a single event, as a writer at rest has it: without arrays it costs both sides a fifth less."""

OF_ONE_ROOM: Final = frozenset({APPEND_TO_ONE, APPEND_EVENT})
"""The statements that tell what was written rather than what was refused."""

APPEND_WITH_FACTS: Final = " ".join(
    (
        """WITH wanted AS (
            SELECT * FROM unnest($1::text[], $2::bigint[], $10::bytea[], $3::bigint[])
                AS w (room, expected, key, last)
        ), opened AS (
            INSERT INTO room_heads (room, head, epoch)
            SELECT w.room, w.last, o.epoch FROM unnest($11::text[], $12::text[]) AS o (room, epoch)
            JOIN wanted w ON w.room = o.room ORDER BY w.room
            ON CONFLICT DO NOTHING RETURNING room
        ),""",
        MATCHED,
        """, taken AS (
            SELECT room FROM advanced UNION ALL SELECT room FROM opened
        ), facts AS (
            SELECT f.* FROM unnest($13::text[], $14::text[], $15::text[], $16::text[])
                WITH ORDINALITY AS f (room, name, visibility, tags, number)
            WHERE f.room IN (SELECT t.room FROM taken t)
        ), sitting AS (
            SELECT s.* FROM unnest($17::text[], $18::text[], $19::text[]) AS s (room, who, role)
            WHERE s.room IN (SELECT t.room FROM taken t)
        ), listed AS (
            INSERT INTO rooms (id, name, visibility, tags)
            SELECT room, name, visibility, ARRAY(SELECT jsonb_array_elements_text(tags::jsonb))
            FROM facts ORDER BY number
            ON CONFLICT (id) DO UPDATE
            SET name = excluded.name, visibility = excluded.visibility, tags = excluded.tags
        ), risen AS (
            DELETE FROM seats s USING facts f WHERE s.room = f.room
            AND NOT EXISTS (SELECT 1 FROM sitting n WHERE n.room = s.room AND n.who = s."user")
        ), seated AS (
            INSERT INTO seats (room, "user", role) SELECT room, who, role FROM sitting
            ON CONFLICT (room, "user") DO UPDATE SET role = excluded.role
            WHERE seats.role <> excluded.role
        ),""",
        WRITTEN,
        STANDING,
        NOT_TAKEN,
    )
)
"""The same for a batch in which rooms open or change what listings know of them."""

STANDINGS: Final = " ".join(
    (
        "WITH wanted AS (SELECT * FROM unnest($1::text[], $2::bigint[], $3::bytea[]) AS w (room, expected, key))",
        STANDING,
        "ORDER BY w.room, e.seq",
    )
)
"""Where rooms stand now, with what they have of a key and the events behind an offset of each."""

KEYS: Final = """SELECT e.room, e.key, e.seq, e.digest, e.data
FROM unnest($1::text[], $2::bytea[]) AS w (room, key) JOIN events e ON e.room = w.room AND e.key = w.key"""
"""What the log has of these commands: where their last event stands, and that event."""

NAMES: Final = {
    APPEND: "log_append",
    APPEND_TO_ONE: "log_append_to_one",
    APPEND_EVENT: "log_append_event",
    APPEND_WITH_FACTS: "log_append_with_facts",
    STANDINGS: "log_standings",
    KEYS: "log_keys",
}
"""The name of each of these statements."""


class Standing(NamedTuple):
    """Where a room stands that an append did not move.

    `head` is None if there is no such room, `found` is what its log has of the key of the first append to it.
    """

    head: int | None
    found: Found | None
    missed: tuple[StoredEvent, ...]


UNKNOWN: Final = Standing(None, None, ())
"""Of a room that was not asked about yet."""


def standings(rows: Iterable[Iterable[Any]]) -> dict[str, Standing]:
    """The rows of `STANDING` as one standing a room."""
    heads: dict[str, tuple[int | None, Found | None]] = {}
    missed: defaultdict[str, list[StoredEvent]] = defaultdict(list)
    for room, head, found_at, digest, offset, version, data in rows:
        heads[room] = (head, None if found_at is None else Found(found_at, digest))
        if head is not None and offset is not None:
            missed[room].append(StoredEvent(offset, version, data))
    return {room: Standing(*known, tuple(missed[room])) for room, known in heads.items()}


class Batch:
    """Appends on their way, by their index: `outcomes` of those decided, `chains` of each room that are out, and `waiting`.

    A round takes from each room what follows on each other; what does not waits for a later round, and is refused
    unsent if it was built on what this one refuses.
    """

    def __init__(self, entries: list[Append]) -> None:
        self.entries = entries
        self.outcomes: list[TableForgeError | None] = [None] * len(entries)
        self.waiting = list(range(len(entries)))
        self.chains: dict[str, list[int]] = {}
        self.keys_repeat = False
        """Whether a key may come twice in what is sent: the second one has to wait for a round of its own."""
        self.one_room = False
        """Whether rooms go one by one, to find the one with what the database cannot hold."""

    def begin_round(self) -> tuple[str, list[Any]]:
        """The statement that carries the next round, and its parameters."""
        chains, entries = self._choose(), self.entries
        if len(chains) == 1:
            (chain,) = chains.values()
            entry = entries[chain[0]]
            if len(chain) == len(entry.events) == 1 and entry.facts is None:
                return APPEND_EVENT, [
                    entry.room,
                    entry.expected,
                    entry.last,
                    entry.version,
                    entry.events[0],
                    entry.key,
                    entry.digest,
                ]
        rooms: list[str] = list(chains)
        expected: list[int] = []
        lasts: list[int] = []
        row_rooms: list[str] = []
        offsets: list[int] = []
        versions: list[int] = []
        data: list[bytes] = []
        keys: list[bytes | None] = []
        digests: list[bytes | None] = []
        with_facts = False
        for room, chain in chains.items():
            first = entries[chain[0]].expected
            for index in chain:
                entry = entries[index]
                count = len(entry.events)
                data += entry.events
                if count > 1:
                    keys += [None] * (count - 1)
                    digests += [None] * (count - 1)
                keys.append(entry.key)
                digests.append(entry.digest)
                versions += [entry.version] * count
                if entry.facts is not None:
                    with_facts = True
            last = entries[chain[-1]].last
            expected.append(first)
            lasts.append(last)
            row_rooms += [room] * (last - first)
            offsets += range(first + 1, last + 1)
        params: list[list[Any]] = [
            rooms,
            expected,
            lasts,
            row_rooms,
            offsets,
            versions,
            data,
            keys,
            digests,
            [entries[chain[0]].key for chain in chains.values()],
        ]
        if with_facts:
            return APPEND_WITH_FACTS, [*params, *self._facts()]
        if len(rooms) == 1:
            return APPEND_TO_ONE, [rooms[0], expected[0], lasts[0], *params[4:9]]
        return APPEND, params

    def _choose(self) -> dict[str, list[int]]:
        """Take the chains of the next round from what waits."""
        if len(self.waiting) == 1:
            self.chains, self.waiting = {self.entries[self.waiting[0]].room: self.waiting}, []
            return self.chains
        chains: dict[str, list[int]] = {}
        ends: dict[str, int] = {}
        seen: set[tuple[str, bytes]] = set()
        later: list[int] = []
        for index in self.waiting:
            entry = self.entries[index]
            room = entry.room
            chain = chains.get(room)
            if chain is None:
                if self.one_room and chains:
                    later.append(index)
                    continue
                chains[room] = [index]
            elif (
                ends[room] == entry.expected
                and entry.opens is None
                and not (self.keys_repeat and (room, entry.key) in seen)
            ):
                chain.append(index)
            else:
                ends[room] = -1  # what comes behind it in its room must not overtake it
                later.append(index)
                continue
            ends[room] = entry.last
            if self.keys_repeat:
                seen.add((room, entry.key))
        self.chains, self.waiting = chains, later
        return chains

    def _facts(self) -> list[list[Any]]:
        """Which rooms of this round open, and the newest facts of each that has any."""
        opens: tuple[list[str], ...] = ([], [])
        facts: tuple[list[str], ...] = ([], [], [], [])
        seats: tuple[list[str], ...] = ([], [], [])

        def add(columns: tuple[list[str], ...], *row: str) -> None:
            for column, value in zip(columns, row, strict=True):
                column.append(value)

        for room, chain in self.chains.items():
            if (epoch := self.entries[chain[0]].opens) is not None:
                add(opens, room, epoch)
            known = [self.entries[index].facts for index in chain]
            newest = next((one for one in reversed(known) if one is not None), None)
            if newest is not None:
                tags = msgspec.json.encode(newest.tags).decode()
                add(facts, room, newest.name, newest.visibility, tags)
                for user, role in newest.seats:
                    add(seats, room, user, role)
        return [*opens, *facts, *seats]

    def send_again(self) -> None:
        """Put the round that is out back among what waits."""
        out = [index for chain in self.chains.values() for index in chain]
        self.waiting = sorted([*out, *self.waiting])
        self.chains = {}

    def refuse(self, index: int, refusal: TableForgeError) -> None:
        """Decide against an append that waits, and against what waits behind it and was built on it."""
        entry = self.entries[index]
        actual = refusal.actual if isinstance(refusal, VersionConflict) else entry.expected
        kept = []
        for other in self.waiting:
            behind = self.entries[other]
            if other == index or (isinstance(refusal, StreamMissing) and behind.room == entry.room):
                self.outcomes[other] = refusal
            elif other > index and behind.room == entry.room and behind.expected > entry.expected:
                self.outcomes[other] = VersionConflict(
                    entry.room, expected=behind.expected, actual=actual
                )
            else:
                kept.append(other)
        self.waiting = kept

    def refuse_unmoved(self, index: int, standing: Standing) -> None:
        """Decide against an append that waits, since its room stands elsewhere."""
        entry = self.entries[index]
        if standing.found is not None:
            self.refuse(index, DuplicateCommand(entry.room, standing.found))
        elif standing.head is None:
            self.refuse(index, StreamMissing(entry.room))
        else:
            self.refuse(
                index,
                VersionConflict(
                    entry.room,
                    expected=entry.expected,
                    actual=standing.head,
                    missed=standing.missed,
                ),
            )

    def refuse_rest(self, refusal: TableForgeError) -> None:
        """Decide against everything that is not decided."""
        self.send_again()
        for index in self.waiting:
            self.outcomes[index] = refusal
        self.waiting = []
