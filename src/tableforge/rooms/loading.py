"""From the log back into memory: the nearest snapshot, then the events behind it."""

import asyncio
import contextlib
import time
from typing import NamedTuple

from tableforge.domain.decider import evolve
from tableforge.domain.state import Room
from tableforge.errors import Unavailable
from tableforge.eventlog import EventLog, Head, StoredEvent
from tableforge.protocol import codec
from tableforge.rooms.cached import CachedRooms, base
from tableforge.rooms.views import Ring, Viewed, fold, view

PAGE = 500
"""Events read in one go."""
PAUSE_EVERY_SECONDS = 0.005
"""How long folding keeps the loop to itself."""
FILLING_SECONDS = 0.3
"""How long a room that is loaded may take to say who saw what of its newest events."""
ATTEMPTS = 5
"""How often a log is read anew whose beginning moved on under the reader: it does so once a night at most."""


class BeginningMoved(Unavailable):
    """The events that were to be read next were taken away meanwhile: a later snapshot tells of them."""

    def __init__(self, room: str) -> None:
        super().__init__(
            f"Room {room} was not read.", "Its earliest events are being taken away.", "Try again."
        )


class Loaded(NamedTuple):
    """A room as the log has it, with the newest events as they were seen; `saved` is its newest snapshot's offset, as far as
    that is known."""

    room: Room
    epoch: str
    server: str
    ring: Ring
    saved: int


async def load(
    log: EventLog, cached: CachedRooms, room: str, ring: Ring, *, snapshot_every: int
) -> Loaded | None:
    """Fold a room up to its newest event; None if there is no such stream.

    A room of which the cache has the newest state costs one question, where its log ends. The ring is filled from what is
    folded, unless that takes too long: then whoever was cut off is served from the log.
    """
    for _ in range(ATTEMPTS):
        head = await log.head(room)
        if head is None:
            return None
        # From the log a little further back than needed, so that those who were cut off find their events in memory.
        state, saved = await cached.base(
            room, head, kept_back=ring.events, reach=ring.events + snapshot_every
        )
        ring.clear()
        with contextlib.suppress(BeginningMoved):
            state = await _folded(log, state, head, ring)
            return Loaded(state, head.epoch, head.server, ring, saved)
    raise BeginningMoved(room)


async def _folded(log: EventLog, state: Room, head: Head, ring: Ring) -> Room:
    pause = Pause()
    while state.version < head.offset and (page := await read(log, state, head.offset)):
        for row in page:
            event = codec.decode_event(row.version, row.data)
            after = evolve(state, event)
            if row.offset > head.offset - ring.events and pause.spent < FILLING_SECONDS:
                ring.append(view(state, event, after, row.data))
            else:
                ring.clear()
            state = after
            await pause.now_and_then()
    return state


async def read(log: EventLog, state: Room, upto: int) -> list[StoredEvent]:
    """The next events behind a state, up to an offset; raises `BeginningMoved` where the next one is there no longer."""
    page = await log.read(state.id, after=state.version, limit=min(PAGE, upto - state.version))
    if page and page[0].offset != state.version + 1:
        raise BeginningMoved(state.id)
    return page


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
    """The events behind `after` up to `upto`, each as its readers were allowed to see it then.

    Where the log begins behind `after`, those that it has.
    """
    for _ in range(ATTEMPTS):
        head = await log.head(room)
        if head is None:
            return []
        with contextlib.suppress(BeginningMoved):
            return await _viewed(log, room, max(after, head.begins), upto, head.begins)
    raise BeginningMoved(room)


async def _viewed(log: EventLog, room: str, after: int, upto: int, begins: int) -> list[Viewed]:
    state = await base(log, room, after, begins=begins, latest=upto)
    found: list[Viewed] = []
    pause = Pause()
    while state.version < upto and (page := await read(log, state, upto)):
        for folded, viewed in fold(state, page):
            state = folded
            if viewed.offset > after:
                found.append(viewed)
            await pause.now_and_then()
    return found
