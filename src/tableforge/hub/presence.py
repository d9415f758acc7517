"""Who is connected to a room through the other instances of a fleet.

Each instance sends its own roster of a room, whole, when it changes and now and then; nobody keeps anybody else's up to
date. So there is nothing to merge and nothing that stays wrong: a lost message is mended by the next one, and a roster
that is not renewed, or whose instance is gone, is dropped.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from secrets import SystemRandom

from tableforge.protocol.bus_messages import Present, Roster, WhoIsThere
from tableforge.protocol.frames import ClientInfo

GATHER_SECONDS = 0.05
"""Changes of a room within this time are told together, as are answers to several who ask."""
RENEWALS_A_LIFE = 3.0
LONELY_FACTOR = 9.0
"""By how much more seldom a roster is renewed that nobody is known to want."""
ORIGINS_MAX = 256
"""Instances that are remembered for one room."""

chance = SystemRandom()

Changed = Callable[[str, bool, Sequence[ClientInfo], Sequence[ClientInfo]], None]
"""Told the room, whether it is its live channel, who joined it elsewhere and who left it."""


class _Kept:
    """The newest roster of one instance for one room; an empty one is kept so that no older one comes back."""

    __slots__ = ("here", "infos", "number", "renewed")

    def __init__(self) -> None:
        self.number = 0
        self.renewed = 0.0
        self.here: dict[tuple[bool, str], ClientInfo] = {}
        self.infos: dict[bool, list[ClientInfo]] = {}

    def show(self, present: Iterable[Present]) -> None:
        """Take what a roster says; who is on a channel stands under whether it is the live one, and their client."""
        self.here = {
            (one.live, one.client): ClientInfo(
                one.user, one.client, {"name": one.name}, {"role": one.role}
            )
            for one in present
        }
        self.infos = {
            live: [info for (on, _), info in self.here.items() if on is live]
            for live in (False, True)
        }


class _Room:
    """What is known of one room, and when its own roster is due again."""

    __slots__ = ("announced", "due", "kept")

    def __init__(self) -> None:
        self.kept: dict[str, _Kept] = {}
        self.announced = False
        """Whether the last roster that we sent named anybody."""
        self.due = 0.0


class Presence:
    """The rosters of the rooms that this instance follows.

    `send` puts a message on the bus channel of a room, `local` tells who is connected to it here, `changed` is told of
    those elsewhere, `carried` whether the bus brings a room's messages now: while it does not, silence means nothing, and
    rosters are kept until their instance is gone. Times are the monotonic clock's, in seconds.
    """

    def __init__(
        self,
        origin: str,
        *,
        send: Callable[[str, Roster | WhoIsThere], None],
        local: Callable[[str], Sequence[Present]],
        changed: Changed,
        carried: Callable[[str], bool],
        expiry_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._origin = origin
        self._send = send
        self._local = local
        self._changed = changed
        self._carried = carried
        self._expiry = expiry_seconds
        self._clock = clock
        self._rooms: dict[str, _Room] = {}
        self._numbers = count(1)
        self._touched: dict[str, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._ticked = clock()

    # What this instance does

    def appeared(self, room: str) -> None:
        """This instance hears the room's channel from now on, or again after a break: ask who is there, say who is here."""
        now = self._clock()
        followed = self._rooms.setdefault(room, _Room())
        for kept in followed.kept.values():
            kept.renewed = now
        self._send(room, WhoIsThere(self._origin))
        self._announce(room, followed, now)

    def forget(self, room: str) -> None:
        """This instance follows the room no longer; it has nobody there."""
        followed = self._rooms.pop(room, None)
        self._touched.pop(room, None)
        if followed is not None and followed.announced:
            self._send(room, Roster(self._origin, next(self._numbers), ()))

    def touch(self, room: str) -> None:
        """Who is connected to the room here has changed, or somebody asks: it is told in a moment."""
        if room not in self._rooms:
            return
        self._touched[room] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER_SECONDS, self._tell)

    def _tell(self) -> None:
        self._timer = None
        touched, self._touched = self._touched, {}
        now = self._clock()
        for room in touched:
            self._announce(room, self._rooms[room], now)

    def _announce(self, room: str, followed: _Room, now: float) -> None:
        present = tuple(self._local(room))
        followed.announced = bool(present)
        wanted = followed.kept and (present or any(kept.here for kept in followed.kept.values()))
        pause = self._expiry / RENEWALS_A_LIFE * (1.0 if wanted else LONELY_FACTOR)
        # Spread, so that a thousand rooms do not speak at once.
        followed.due = now + pause * chance.uniform(0.6, 1.0)
        self._send(room, Roster(self._origin, next(self._numbers), present))

    def close(self) -> None:
        """Say goodbye in every room: nobody is connected here any more."""
        if self._timer is not None:
            self._timer.cancel()
        for room in list(self._rooms):
            self.forget(room)

    # What the others say

    def heard(self, room: str, message: Roster | WhoIsThere) -> None:
        """A message came on the channel of a room."""
        followed = self._rooms.get(room)
        if followed is None or message.origin == self._origin:
            return
        if isinstance(message, WhoIsThere):
            self.touch(room)
            return
        kept = followed.kept.get(message.origin)
        if kept is None:
            if len(followed.kept) >= ORIGINS_MAX:
                return
            kept = followed.kept[message.origin] = _Kept()
        if message.number <= kept.number:
            return
        now = self._clock()
        kept.number, kept.renewed = message.number, now
        if message.present or followed.announced:
            # They hear of us again before they would take us for gone.
            followed.due = min(followed.due, now + self._expiry / RENEWALS_A_LIFE)
        self._show(room, kept, message.present)

    def _show(self, room: str, kept: _Kept, present: Iterable[Present]) -> None:
        before = kept.here
        kept.show(present)
        for live in (False, True):
            joined = [info for at, info in kept.here.items() if at[0] is live and at not in before]
            left = [info for at, info in before.items() if at[0] is live and at not in kept.here]
            if joined or left:
                self._changed(room, live, joined, left)

    def others(self, room: str, *, live: bool) -> list[ClientInfo]:
        """The connections that other instances have on the room's channel, or on its live one."""
        followed = self._rooms.get(room)
        if followed is None:
            return []
        return [info for kept in followed.kept.values() for info in kept.infos.get(live, ())]

    # What time brings

    def gone(self, origin: str) -> None:
        """This instance does not live any more: nobody is connected through it."""
        for room, followed in list(self._rooms.items()):
            kept = followed.kept.get(origin)
            if kept is not None:
                self._show(room, kept, ())

    def tick(self) -> None:
        """Renew what is due and drop what was not renewed in time; to be called several times within the expiry."""
        now = self._clock()
        stalled, self._ticked = now - self._ticked, now
        if stalled > self._expiry / RENEWALS_A_LIFE:
            # We stood still: what they sent meanwhile is not heard yet.
            for followed in self._rooms.values():
                for kept in followed.kept.values():
                    kept.renewed += stalled
        for room, followed in list(self._rooms.items()):
            if followed.due <= now:
                self._announce(room, followed, now)
            late = now - self._expiry
            if any(kept.renewed < late for kept in followed.kept.values()) and self._carried(room):
                for origin, kept in list(followed.kept.items()):
                    if kept.renewed < late:
                        del followed.kept[origin]
                        self._show(room, kept, ())
