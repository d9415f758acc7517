"""The event log in memory: the fake of the tests, kept honest by the contract suite. Nothing survives the process."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from tableforge.eventlog import (
    ASCII_LOWER,
    MISSED_AT_MOST,
    Append,
    Appended,
    DuplicateCommand,
    Facts,
    Found,
    Head,
    RoomRow,
    RoomRows,
    Snapshot,
    StoredEvent,
    StreamMissing,
    Taken,
    VersionConflict,
)
from tableforge.eventlog.group_commit import GroupCommit, one_by_one


@dataclass
class Stream:
    """`taken` is how many of the oldest events are no longer in `events`; see `Head` for `begins`."""

    place: int
    epoch: str
    facts: Facts
    events: list[StoredEvent] = field(default_factory=list)
    snapshots: dict[int, Snapshot] = field(default_factory=dict)
    deleted: bool = False
    begins: int = 0
    taken: int = 0

    @property
    def head(self) -> int:
        """The offset of the newest event."""
        return self.taken + len(self.events)

    def behind(self, offset: int, limit: int) -> list[StoredEvent]:
        """The events that are there behind an offset."""
        first = max(0, offset - self.taken)
        return self.events[first : first + limit]


@dataclass
class Store:
    """What several logs can share, each the log of another server."""

    streams: dict[str, Stream] = field(default_factory=dict)
    keys: dict[bytes, Found] = field(default_factory=dict)
    ends: dict[tuple[str, int], bytes] = field(default_factory=dict)
    """The key of the command that ends at an offset of a stream."""


class MemoryEventLog:
    """See `EventLog` for what holds, but for durability. Logs that were given the same `store` write to the same streams."""

    def __init__(self, store: Store | None = None) -> None:
        self.store = store or Store()
        self._streams = self.store.streams
        self._keys = self.store.keys
        self._group = GroupCommit(self._commit, interval=0.0)

    def append_nowait(self, entry: Append) -> None:
        """See the contract."""
        self._group.append_nowait(entry)

    async def wait_for_idle(self) -> None:
        """See the contract."""
        await self._group.wait_for_idle()

    def _stream(self, room: str) -> Stream:
        stream = self._streams.get(room)
        if stream is None or stream.deleted:
            raise StreamMissing(room)
        return stream

    def _commit(self, batch: list[Append], finished: Callable[[Appended], None]) -> None:
        outcomes = one_by_one(batch, self._append)
        asyncio.get_running_loop().call_soon(finished, outcomes)

    def _append(self, entry: Append) -> None:
        if entry.key in self._keys:
            raise DuplicateCommand(entry.room, self._keys[entry.key])
        if entry.opens is not None:
            assert entry.facts is not None
            if entry.room in self._streams:
                actual = self._streams[entry.room].head
                raise VersionConflict(entry.room, expected=0, actual=actual)
            self._streams[entry.room] = Stream(len(self._streams) + 1, entry.opens, entry.facts)
        stream = self._stream(entry.room)
        if stream.head != entry.expected:
            raise VersionConflict(
                entry.room,
                expected=entry.expected,
                actual=stream.head,
                missed=stream.behind(entry.expected, MISSED_AT_MOST),
            )
        for data in entry.events:
            stream.events.append(StoredEvent(stream.head + 1, entry.version, data))
        if entry.facts is not None:
            stream.facts = entry.facts
        self._keys[entry.key] = Found(entry.last, entry.digest)
        self.store.ends[entry.room, entry.last] = entry.key

    async def head(self, room: str) -> Head | None:
        """See the contract."""
        stream = self._streams.get(room)
        if stream is None or stream.deleted:
            return None
        return Head(stream.epoch, stream.head, begins=stream.begins)

    async def heads(self, rooms: Sequence[str]) -> dict[str, Head]:
        """See the contract."""
        found = {room: await self.head(room) for room in rooms}
        return {room: Head(head.epoch, head.offset) for room, head in found.items() if head}

    async def read(self, room: str, *, after: int, limit: int) -> list[StoredEvent]:
        """See the contract."""
        stream = self._streams.get(room)
        return stream.behind(after, limit) if stream and not stream.deleted else []

    async def find(self, room: str, key: bytes) -> Found | None:
        """See the contract."""
        return self._keys.get(key)

    async def snapshot_at(self, room: str, offset: int) -> Snapshot | None:
        """See the contract."""
        stream = self._streams.get(room)
        fitting = [at for at in stream.snapshots if at <= offset] if stream else []
        return stream.snapshots[max(fitting)] if stream and fitting else None

    async def save_snapshot(self, room: str, snapshot: Snapshot) -> None:
        """See the contract."""
        if room in self._streams and self._streams[room].begins < snapshot.offset:
            self._streams[room].snapshots[snapshot.offset] = snapshot

    async def seats(self, user: str) -> list[str]:
        """See the contract."""
        return [
            room
            for room, stream in self._streams.items()
            if not stream.deleted and user in dict(stream.facts.seats)
        ]

    async def list_rooms(
        self, *, user: str, public: bool, query: str, tag: str, before: int | None, limit: int
    ) -> RoomRows:
        """See the contract."""
        rows = []
        part = query.translate(ASCII_LOWER)
        for room, stream in self._streams.items():
            facts = stream.facts
            role = dict(facts.seats).get(user)
            seated = role is not None
            wanted = (facts.visibility == "public" and not seated) if public else seated
            if (
                wanted
                and not stream.deleted
                and part in facts.name.translate(ASCII_LOWER)
                and (not tag or tag in facts.tags)
                and (before is None or stream.place < before)
            ):
                at = msgspec.json.decode(stream.events[-1].data)["at"]
                members = len(facts.seats)
                rows.append(
                    RoomRow(stream.place, room, facts.name, facts.visibility, members, at, role)
                )
        rows.sort(key=lambda row: -row.place)
        return RoomRows(rows[:limit], rows[limit - 1].place if len(rows) > limit else None)

    async def all_rooms(self, *, after: str, limit: int) -> list[str]:
        """See the contract."""
        return sorted(
            room for room, stream in self._streams.items() if room > after and not stream.deleted
        )[:limit]

    async def delete(self, room: str, *, at: str) -> None:
        """See the contract."""
        self._stream(room).deleted = True

    async def restore(self, room: str) -> None:
        """See the contract."""
        if room not in self._streams:
            raise StreamMissing(room)
        self._streams[room].deleted = False

    async def renew_epoch(self, room: str, epoch: str) -> None:
        """See the contract."""
        if room not in self._streams:
            raise StreamMissing(room)
        self._streams[room].epoch = epoch

    async def long_rooms(self, *, after: str, kept: int, limit: int) -> list[str]:
        """See the contract."""
        return sorted(
            room
            for room, stream in self._streams.items()
            if room > after
            and not stream.deleted
            and (stream.head - stream.begins > kept or stream.taken < stream.begins)
        )[:limit]

    async def begin_behind(self, room: str, offset: int) -> None:
        """See the contract."""
        stream = self._streams.get(room)
        if stream and not stream.deleted and stream.begins < offset < stream.head:
            stream.begins = offset if offset in stream.snapshots else stream.begins

    async def take_away(self, room: str, *, limit: int) -> Taken:
        """See the contract."""
        stream = self._streams[room]
        gone = min(limit, stream.begins - stream.taken)
        for event in stream.events[:gone]:
            self._forget(room, event.offset)
        del stream.events[:gone]
        stream.taken += gone
        early = sorted(at for at in stream.snapshots if at < stream.begins)[:limit]
        for at in early:
            del stream.snapshots[at]
        return Taken(gone, len(early))

    def _forget(self, room: str, offset: int) -> None:
        """The key of a command goes with its last event."""
        self._keys.pop(self.store.ends.pop((room, offset), b""), None)

    async def lacking_right(self) -> str:
        """See the contract."""
        return ""
