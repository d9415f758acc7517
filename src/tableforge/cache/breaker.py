"""Whether a server that may be slow or gone is asked at all.

Closed, everybody asks. After some failures in a row it opens: nobody asks, nobody waits. After a pause one probe asks
(half-open): if it is answered well the breaker closes, otherwise the next pause is longer.
"""

from collections.abc import Callable
from secrets import SystemRandom
from time import monotonic
from typing import Final, Literal

FAILURES: Final = 5
"""In a row, until it opens: a server that hiccups once is no broken one."""
FIRST_PAUSE: Final = 0.1
LAST_PAUSE: Final = 2.0
"""Seconds: the first pause, and the longest; each is twice the one before. A random half is taken off, so that the
instances of a fleet do not come back together."""
CHANCE: Final = SystemRandom()
HELD_SECONDS: Final = 10.0
"""Closed for so long, it begins with the first pause again."""

State = Literal["closed", "open", "half-open"]


class Breaker:
    """States and counts; whoever owns it waits and probes."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = monotonic,
        chance: Callable[[float, float], float] = CHANCE.uniform,
    ) -> None:
        self._clock = clock
        self._chance = chance
        self._in_a_row = 0
        self._pause = 0.0
        self._closed_at = 0.0
        self.state: State = "open"
        self.trouble = "not connected yet"
        """Why it opened last."""
        self.failures = 0
        self.opened = 0
        self.probes = 0

    @property
    def is_closed(self) -> bool:
        """Whether to ask."""
        return self.state == "closed"

    def succeed(self) -> None:
        """An answer came in time."""
        self._in_a_row = 0

    def fail(self, why: str) -> bool:
        """An answer did not come in time; whether the breaker opened for it."""
        self.failures += 1
        self._in_a_row += 1
        if self._in_a_row < FAILURES or not self.is_closed:
            return False
        self.trip(why)
        return True

    def trip(self, why: str) -> None:
        """Open, or stay open after a probe that failed."""
        if self.is_closed:
            self.opened += 1
            if self._clock() - self._closed_at >= HELD_SECONDS:
                self._pause = 0.0
        self._pause = min(max(FIRST_PAUSE, self._pause * 2), LAST_PAUSE)
        self.state, self.trouble = "open", why

    def pause(self) -> float:
        """Seconds to wait before the next probe; 0 before anything was tried."""
        return self._pause * self._chance(0.5, 1.0)

    def probe(self) -> None:
        """The pause is over: one asks for all."""
        self.probes += 1
        self.state = "half-open"

    def close(self) -> None:
        """The probe was answered well."""
        self.state, self._in_a_row, self._closed_at = "closed", 0, self._clock()
