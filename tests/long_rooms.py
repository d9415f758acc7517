"""Rooms with a long history, at times that a test sets, for tests of what becomes of the earliest events."""

import asyncio
import itertools
from datetime import UTC, datetime, timedelta

from tableforge.domain.commands import Say
from tableforge.domain.state import Room
from tableforge.eventlog import EventLog, StoredEvent
from tableforge.rooms.pruning import History, Pruned
from tableforge.rooms.views import Viewed, fold
from tests.cached_world import Instance

GM = "gm"
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
_numbers = itertools.count(1)


def moment(hours: float) -> str:
    """So many hours after the beginning, as events carry it."""
    text = (BEGINNING + timedelta(hours=hours)).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


class SetClock:
    """The clock of an instance's rooms; `hours` after the beginning."""

    def __init__(self) -> None:
        self.hours = 0.0

    def now(self) -> str:
        """See `tableforge.rooms.given.Clock`."""
        return moment(self.hours)


def clocked(instance: Instance) -> SetClock:
    """Give an instance's rooms a clock that a test sets."""
    clock = SetClock()
    instance.engine._clock = clock  # type: ignore[assignment]  # the same method
    return clock


async def opened(instance: Instance) -> str:
    """A room of the GM's."""
    return await instance.rooms.create(GM, "Mara", "The Salt Road", "private")


async def say(instance: Instance, room: str, lines: int) -> None:
    """Have the GM say so many lines; where a snapshot is due, it is stored before the next one."""
    for number in itertools.islice(_numbers, lines):
        command = Say(room=room, id=f"s{number}", text=f"line {number}")
        await instance.house(room, GM, command)
        while instance.engine._chores:
            await asyncio.wait(set(instance.engine._chores))


async def left(instance: Instance) -> None:
    """Have all rooms leave memory, with what is stored of them then."""
    instance.engine.sweep()
    await instance.engine.close()
    await instance.settled()


async def whole(log: EventLog, room: str) -> list[StoredEvent]:
    """All that is kept of a log."""
    return await log.read(room, after=0, limit=100_000)


def played(room: str, events: list[StoredEvent]) -> tuple[Room, list[Viewed]]:
    """What a whole log folds to, and what everybody saw of it."""
    steps = list(fold(Room(room), events))
    return steps[-1][0], [viewed for _, viewed in steps]


def never() -> str:
    """No reason to stop."""
    return ""


async def prune(
    log: EventLog, *, kept: int = 20, before: str = moment(1_000_000), enough: object = never
) -> Pruned:
    """Take away all history but the newest events."""
    history = History(log, kept_events=kept)
    return await history.prune(before, tell=lambda text: None, enough=enough)  # type: ignore[arg-type]  # what it takes
