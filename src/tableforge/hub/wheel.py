"""One timer for all pings and expiries of all connections.

A hashed timing wheel (Varghese and Lauck, "Hashed and hierarchical timing wheels", SOSP 1987): what falls due within the
same tick lies in the same slot, so that an idle connection costs no timer and no task of its own.
"""

import asyncio
from typing import Protocol


class Timed(Protocol):
    """Something that wants to be woken."""

    def due(self, now: float) -> float | None:
        """Called when its time has come (seconds, the loop's clock); returns the next delay in seconds, or None."""
        ...


class TimingWheel:
    """Wakes each entry within one `tick` (seconds) after its delay; delays are at most `tick` times `slots`."""

    def __init__(self, *, tick: float = 0.25, slots: int = 256) -> None:
        self._tick = tick
        self._slots: list[set[Timed]] = [set() for _ in range(slots)]
        self._hand = 0
        self._where: dict[Timed, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._next = 0.0

    def schedule(self, entry: Timed, delay: float) -> None:
        """Wake this entry after `delay` seconds, instead of whenever it was to be woken before."""
        self.cancel(entry)
        ticks = min(max(1, round(delay / self._tick)), len(self._slots) - 1)
        slot = (self._hand + ticks) % len(self._slots)
        self._slots[slot].add(entry)
        self._where[entry] = slot
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._next = loop.time() + self._tick
            self._timer = loop.call_at(self._next, self._turn)

    def cancel(self, entry: Timed) -> None:
        """Do not wake this entry."""
        slot = self._where.pop(entry, None)
        if slot is not None:
            self._slots[slot].discard(entry)

    def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._hand = (self._hand + 1) % len(self._slots)
        entries, self._slots[self._hand] = self._slots[self._hand], set()
        for entry in entries:
            del self._where[entry]
        self._timer = None
        for entry in entries:
            delay = entry.due(now)
            if delay is not None:
                self.schedule(entry, delay)
        if self._where and self._timer is None:
            # A late turn does not move the next one: the wheel keeps the clock's pace, one tick a call.
            self._next = max(self._next + self._tick, now)
            self._timer = loop.call_at(self._next, self._turn)
