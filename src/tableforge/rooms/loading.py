"""From the log back into memory: the nearest snapshot, then the events behind it."""

import asyncio
from collections import deque
from typing import NamedTuple

from tableforge.domain.state import Room
from tableforge.eventlog import EventLog, Snapshot
from tableforge.protocol import codec
from tableforge.rooms.views import Viewed, fold

PAGE = 500
"""Events folded in one go; between pages the loop serves others."""


class Loaded(NamedTuple):
    """A room as the log has it, with the newest events as they were seen; `saved` is its newest snapshot's offset."""

    room: Room
    epoch: str
    ring: deque[Viewed]
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


async def load(log: EventLog, room: str, ring: deque[Viewed]) -> Loaded | None:
    """Fold a room up to its newest event; None if there is no such stream."""
    head = await log.head(room)
    if head is None:
        return None
    # A little further back than needed, so that those who were cut off find their events in memory.
    state = await base(log, room, max(0, head.offset - (ring.maxlen or 0)))
    saved = state.version
    while page := await log.read(room, after=state.version, limit=PAGE):
        for after, viewed in fold(state, page):
            state = after
            ring.append(viewed)
        await asyncio.sleep(0)
    newest = await log.snapshot_at(room, state.version)
    return Loaded(state, head.epoch, ring, max(saved, newest.offset if newest else 0))


async def views_between(log: EventLog, room: str, *, after: int, upto: int) -> list[Viewed]:
    """The events behind `after` up to `upto`, each as its readers were allowed to see it then."""
    state = await base(log, room, after)
    found: list[Viewed] = []
    while state.version < upto:
        page = await log.read(room, after=state.version, limit=min(PAGE, upto - state.version))
        if not page:
            break
        for folded, viewed in fold(state, page):
            state = folded
            if viewed.offset > after:
                found.append(viewed)
        await asyncio.sleep(0)
    return found
