"""Taking away events that are older than the operator wants them kept, and that a snapshot tells of.

First a snapshot is chosen and held against the log: what is folded up to there must be what it says. Then the log begins
behind it, in one change of the room's row; and only then what lies before is taken away, a portion at a time. Whoever
reads meanwhile finds the next event or sees that it is gone, never a gap; what is left half done goes the next time.
"""

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

from tableforge.domain.decider import evolve
from tableforge.domain.events import Event
from tableforge.domain.state import Room
from tableforge.eventlog import EventLog, Head, StoredEvent
from tableforge.protocol import codec
from tableforge.rooms.cached import BeginningUnreadable, base, decoded
from tableforge.rooms.loading import PAGE, PAUSE_EVERY_SECONDS

ROOMS_AT_ONCE = 100
PORTION = 500
"""Events in one transaction: in SQLite the game's commits wait behind it."""
LEAST_PAUSE_SECONDS = 0.01


class Pruned(NamedTuple):
    """How many events of how many rooms were taken away; what kept some rooms from it, and why it ended early, if it did."""

    events: int
    rooms: int
    troubles: list[str]
    stopped: str


class Unfit(Exception):
    """A room that is left as it is; the message says why."""


class History:
    """The beginnings of all rooms' logs.

    The newest `kept_events` of a room stay whatever their age: with them clients are brought up to date, and where an
    instance looks for a snapshot some events back it finds one.
    """

    def __init__(self, log: EventLog, *, kept_events: int) -> None:
        self._log = log
        self._kept = kept_events

    async def lacking_right(self) -> str:
        """What has to be granted first, as SQL, or nothing. Raises `Unavailable`."""
        return await self._log.lacking_right()

    async def prune(
        self, before: str, *, tell: Callable[[str], None], enough: Callable[[], str]
    ) -> Pruned:
        """Take away what happened `before` a moment (RFC 3339, UTC), until `enough` says why to stop.

        Raises `Unavailable`. A room whose snapshots do not fit its log is passed over, and told of.
        """
        events, rooms, looked_at = 0, 0, 0
        troubles: list[str] = []
        after = ""
        while page := await self._log.long_rooms(after=after, kept=self._kept, limit=ROOMS_AT_ONCE):
            for room in page:
                if why := enough():
                    return Pruned(events, rooms, troubles, why)
                try:
                    await self._move_on(room, before, enough)
                except Unfit as unfit:
                    troubles.append(f"Room {room}: {unfit}")
                taken = await self._take_away(room, enough)
                events += taken
                rooms += taken > 0
                looked_at += 1
                tell(f"{events} events of {rooms} rooms taken away, {looked_at} rooms looked at")
            after = page[-1]
        return Pruned(events, rooms, troubles, "")

    async def _take_away(self, room: str, enough: Callable[[], str]) -> int:
        """Take away what lies before the log's beginning; a pause as long as the work leaves the database to the game."""
        taken = 0
        while not enough():
            began = time.monotonic()
            portion = await self._log.take_away(room, limit=PORTION)
            if not any(portion):
                break
            taken += portion.events
            await asyncio.sleep(max(LEAST_PAUSE_SECONDS, time.monotonic() - began))
        return taken

    async def _move_on(self, room: str, before: str, enough: Callable[[], str]) -> None:
        """Have a log begin at the latest snapshot that lies far enough back and is what the log says."""
        head = await self._log.head(room)
        if head is None:
            return
        try:
            await self._begin_later(room, head, before, enough)
        except Unfit:
            now = await self._log.head(room)
            if now is not None and now.begins == head.begins:
                raise
            # Somebody else did the same meanwhile.

    async def _begin_later(
        self, room: str, head: Head, before: str, enough: Callable[[], str]
    ) -> None:
        upto = await self._old_enough(room, head, before)
        while (found := await self._log.snapshot_at(room, upto)) and found.offset > head.begins:
            # Of an earlier form none: a later version reads the present one from its form on.
            state = await decoded(found) if found.version == codec.ROOM_FORM else None
            if state is None or state.version != found.offset:
                upto = found.offset - 1
                continue
            upto = await self._agreed(state, head, before, enough)
            if upto == found.offset:
                await self._log.begin_behind(room, found.offset)
                return

    async def _old_enough(self, room: str, head: Head, before: str) -> int:
        """The offset of the last event that may be taken away, by its age and its distance from the head."""
        low, high = head.begins, head.offset - self._kept
        while low < high:
            middle = (low + high + 1) // 2
            rows = await self._log.read(room, after=middle - 1, limit=1)
            if not rows or rows[0].offset != middle:
                raise missing(middle)
            if decoded_event(rows[0]).at < before:
                low = middle
            else:
                high = middle - 1
        return low

    async def _agreed(self, state: Room, head: Head, before: str, enough: Callable[[], str]) -> int:
        """Hold a snapshot against the log: its offset if the events fold to it.

        Else the offset up to which all of them are old, for another try; where the log begins if it is enough.
        """
        folded = await self._beginning(state.id, head)
        since = time.monotonic()
        while folded.version < state.version:
            if enough():
                return head.begins
            limit = min(PAGE, state.version - folded.version)
            rows = await self._log.read(state.id, after=folded.version, limit=limit)
            if not rows:
                raise missing(folded.version + 1)
            for row in rows:
                if row.offset != folded.version + 1:
                    raise missing(folded.version + 1)
                event = decoded_event(row)
                if event.at >= before:  # clocks differ, and jump
                    return folded.version
                folded = evolved(folded, event)
                lasted = time.monotonic() - since
                if lasted > PAUSE_EVERY_SECONDS:
                    await asyncio.sleep(lasted)
                    since = time.monotonic()
        if folded != state:
            why = f"Its snapshot at {state.version} is not what its log says."
            raise Unfit(f"{why} Run `tableforge verify`.")
        return state.version

    async def _beginning(self, room: str, head: Head) -> Room:
        try:
            return await base(self._log, room, head.begins, begins=head.begins, latest=head.begins)
        except BeginningUnreadable as error:
            raise Unfit(error.why) from error


def missing(offset: int) -> Unfit:
    """What to say of a log with a gap."""
    return Unfit(f"Its log has no event {offset}. Run `tableforge verify`.")


def decoded_event(row: StoredEvent) -> Event:
    """A stored event, or `Unfit`."""
    try:
        return codec.decode_event(row.version, row.data)
    except codec.Undecodable as error:
        raise Unfit(f"Event {row.offset} cannot be read. Run `tableforge verify`.") from error


def evolved(room: Room, event: Event) -> Room:
    """The room after an event, or `Unfit`."""
    try:
        return evolve(room, event)
    except Exception as error:
        why = f"Event {room.version + 1} cannot be folded ({type(error).__name__})."
        raise Unfit(f"{why} Run `tableforge verify`.") from error
