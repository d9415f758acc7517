"""From the log back into memory: the nearest snapshot, then the events behind it."""

import asyncio
import time
from typing import NamedTuple

from tableforge.domain.decider import evolve
from tableforge.domain.state import Room
from tableforge.eventlog import EventLog, Snapshot
from tableforge.protocol import codec
from tableforge.rooms.views import Ring, Viewed, fold, view

PAGE = 500
"""Events read in one go."""
PAUSE_EVERY_SECONDS = 0.005
"""How long folding keeps the loop to itself."""
FILLING_SECONDS = 0.3
"""How long a room that is loaded may take to say who saw what of its newest events."""


class Loaded(NamedTuple):
    """A room as the log has it, with the newest events as they were seen; `saved` is its newest snapshot's offset."""

    room: Room
    epoch: str
    ring: Ring
    saved: int


async def base(log: EventLog, room: str, offset: int) -> Room:
    """The room at the newest readable snapshot that is not newer than `offset`; the empty room if there is none."""
    at = offset
    while (snapshot := await log.snapshot_at(room, at)) is not None:
        state = await decoded(snapshot)
        if state is not None:
            return state
        at = snapshot.offset - 1
    return Room(room)


async def decoded(snapshot: Snapshot) -> Room | None:
    """A snapshot's room, or None when its form cannot be read any more; a big one is decoded beside the loop."""
    if len(snapshot.data) < 100_000:
        return codec.decode_room(snapshot.version, snapshot.data)
    return await asyncio.to_thread(codec.decode_room, snapshot.version, snapshot.data)


async def load(log: EventLog, room: str, ring: Ring) -> Loaded | None:
    """Fold a room up to its newest event; None if there is no such stream.

    The ring is filled on the way, unless that takes too long: then whoever was cut off is served from the log.
    """
    head = await log.head(room)
    if head is None:
        return None
    # A little further back than needed, so that those who were cut off find their events in memory.
    state = await base(log, room, max(0, head.offset - ring.events))
    saved = state.version
    pause = Pause()
    while page := await log.read(room, after=state.version, limit=PAGE):
        for row in page:
            event = codec.decode_event(row.version, row.data)
            after = evolve(state, event)
            if row.offset > head.offset - ring.events and pause.spent < FILLING_SECONDS:
                ring.append(view(state, event, after, row.data))
            else:
                ring.clear()
            state = after
            await pause.now_and_then()
    newest = await log.snapshot_at(room, state.version)
    return Loaded(state, head.epoch, ring, max(saved, newest.offset if newest else 0))


class Pause:
    """Lets others run while something long is folded; `spent` is the time that it took itself, in seconds."""

    def __init__(self) -> None:
        self.spent = 0.0
        self._since = time.monotonic()

    async def now_and_then(self) -> None:
        """Give way if the last pause was a while ago."""
        lasted = time.monotonic() - self._since
        if lasted > PAUSE_EVERY_SECONDS:
            self.spent += lasted
            await asyncio.sleep(0)
            self._since = time.monotonic()


async def views_between(log: EventLog, room: str, *, after: int, upto: int) -> list[Viewed]:
    """The events behind `after` up to `upto`, each as its readers were allowed to see it then."""
    state = await base(log, room, after)
    found: list[Viewed] = []
    pause = Pause()
    while state.version < upto:
        page = await log.read(room, after=state.version, limit=min(PAGE, upto - state.version))
        if not page:
            break
        for folded, viewed in fold(state, page):
            state = folded
            if viewed.offset > after:
                found.append(viewed)
            await pause.now_and_then()
    return found
