"""Events as each member was allowed to see them: what the ring keeps, what is sent, what history shows.

This is the only place that makes bytes for members out of events, and it asks `redact` alone what they may hold.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tableforge.domain.decider import evolve
from tableforge.domain.events import Event
from tableforge.domain.state import Room
from tableforge.domain.visibility import Step, is_public, redact
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


def view(before: Room, event: Event, after: Room, data: bytes) -> Viewed:
    """Redact one event for everybody it may concern; `data` is the stored event, for when all may see it."""
    step = Step(before, event, after)
    if is_public(step):
        return Viewed(after.version, data, {}, data)
    same: dict[bytes, bytes] = {data: data}

    def told(user: str) -> bytes:
        encoded = codec.encode(redact(step, user))
        return same.setdefault(encoded, encoded)

    views = {user: told(user) for user in {**before.members, **after.members}}
    return Viewed(after.version, None, views, told(""))


def fold(room: Room, stored: Iterable[StoredEvent]) -> Iterator[tuple[Room, Viewed]]:
    """Replay stored events on a room, with what each reader was allowed to see of them."""
    for row in stored:
        event = codec.decode_event(row.version, row.data)
        after = evolve(room, event)
        yield after, view(room, event, after, row.data)
        room = after
