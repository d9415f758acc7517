"""Events as each member was allowed to see them: what the ring keeps, what is sent, what history shows.

This is the only place that makes bytes for members out of events, and it asks `redact` alone what they may hold.
"""

from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from tableforge.domain.decider import evolve
from tableforge.domain.events import Event
from tableforge.domain.state import Room
from tableforge.domain.visibility import Step, is_public, redact, vantage
from tableforge.eventlog import StoredEvent
from tableforge.protocol import codec


class Viewed(NamedTuple):
    """One event's data (JSON) for each reader.

    `everyone` is set when all see the same; else `views` has those who were members then, `others` what anybody else sees.
    """

    offset: int
    everyone: bytes | None
    views: dict[str, bytes]
    others: bytes

    def data_for(self, user: str) -> bytes:
        """What this user was allowed to see at that offset."""
        return self.everyone if self.everyone is not None else self.views.get(user, self.others)

    @property
    def size(self) -> int:
        """About how many bytes it takes to keep."""
        if self.everyone is not None:
            return len(self.everyone)
        return sum(map(len, {*self.views.values(), self.others})) + 100 * len(self.views)


class Ring:
    """The newest events of a room, at most so many and of at most so many bytes; without gaps up to the newest."""

    def __init__(self, events: int, size: int) -> None:
        self.events = events
        self._bytes = size
        self._held: deque[Viewed] = deque()
        self._size = 0

    def append(self, viewed: Viewed) -> None:
        """Add the next event, and forget what no longer fits."""
        self._held.append(viewed)
        self._size += viewed.size
        while self._held and (len(self._held) > self.events or self._size > self._bytes):
            self._size -= self._held.popleft().size

    def clear(self) -> None:
        """Forget all of them."""
        self._held.clear()
        self._size = 0

    def newest(self, count: int) -> list[Viewed] | None:
        """The newest so many, oldest first, or None if they are not all here."""
        here = len(self._held)
        return list(islice(self._held, here - count, None)) if 0 <= count <= here else None

    def __len__(self) -> int:
        return len(self._held)


def view(before: Room, event: Event, after: Room, data: bytes) -> Viewed:
    """Redact one event for everybody it may concern; `data` is the stored event, for when all may see it."""
    step = Step(before, event, after)
    if is_public(step):
        return Viewed(after.version, data, {}, data)
    same: dict[bytes, bytes] = {data: data}
    known: dict[Hashable, bytes] = {}

    def told(user: str) -> bytes:
        place = vantage(step, user)
        found = known.get(place)
        if found is None:
            encoded = codec.encode(redact(step, user))
            found = known[place] = same.setdefault(encoded, encoded)
        return found

    views = {user: told(user) for user in {**before.members, **after.members}}
    return Viewed(after.version, None, views, told(""))


def fold(room: Room, stored: Iterable[StoredEvent]) -> Iterator[tuple[Room, Viewed]]:
    """Replay stored events on a room, with what each reader was allowed to see of them."""
    for row in stored:
        event = codec.decode_event(row.version, row.data)
        after = evolve(room, event)
        yield after, view(room, event, after, row.data)
        room = after
