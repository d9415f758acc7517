"""Who goes next when several instances write to one room: a hint that may be wrong without harm.

The log refuses every writer but the first, so that writers who all try at once mostly work in vain, and one that has much
to say takes longer each time and may starve. Therefore, while writers collide, they go round: after an append the next
instance in the ring may write at once, the one behind it a moment later if nothing came, and the one that wrote is last.
No message is needed for it, the events themselves say who wrote. The idea is that of reservation slots in radio protocols
(Crowther et al., "A system for broadcast communication: Reservation-ALOHA", 1973).
"""

from secrets import SystemRandom

CONTENDED_SECONDS = 1.0
"""How long after a collision writers go round."""
REMEMBERED_SECONDS = 2.0
"""How long after its last event an instance has a place in the ring."""
RING_MAX = 64
"""Instances in one room's ring; with more of them it is begun anew."""
SLOT_MIN_SECONDS = 0.001
SLOT_MAX_SECONDS = 0.05
SLOT_COMMITS = 0.6
"""The length of a slot, in appends of late: whoever uses it is heard of soon after the next one begins. Measured with 100
members over three instances: shorter ones collide more, longer ones keep writers waiting for turns that nobody takes."""

CHANCE = SystemRandom()


class Pace:
    """How long an append takes of late, in seconds: an average in which each one counts an eighth."""

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds = SLOT_MIN_SECONDS

    def took(self, seconds: float) -> None:
        """Count an append."""
        self.seconds += (seconds - self.seconds) / 8

    @property
    def slot(self) -> float:
        """The length of a slot, in seconds."""
        return min(max(self.seconds * SLOT_COMMITS, SLOT_MIN_SECONDS), SLOT_MAX_SECONDS)


class Turns:
    """The ring of one room's writers as this instance, `me`, sees it. Times are of one monotonic clock, in seconds."""

    __slots__ = ("_due", "_me", "_pace", "_seen", "_until")

    def __init__(self, me: str, pace: Pace) -> None:
        self._me = me
        self._pace = pace
        self._seen: dict[str, float] = {}
        self._until = 0.0
        self._due = 0.0

    def wrote(self, origin: str, now: float) -> None:
        """An instance's append became known: whose turn it is follows from it."""
        if origin not in self._seen and len(self._seen) >= RING_MAX:
            self._seen.clear()
        self._seen[origin] = now
        if now >= self._until:
            return
        self._seen = {
            one: seen for one, seen in self._seen.items() if now - seen < REMEMBERED_SECONDS
        }
        ring = sorted({*self._seen, self._me})
        steps = (ring.index(self._me) - ring.index(origin) - 1) % len(ring)
        self._due = now + steps * self._pace.slot

    def collided(self, now: float) -> None:
        """Somebody else was faster. Who it was may not be known yet: whoever lost draws a moment to wait."""
        self._until = now + CONTENDED_SECONDS
        self._due = max(self._due, now + CHANCE.random() * self._pace.slot)

    def wait(self, now: float) -> float:
        """How long until our turn, 0 when it is."""
        return max(0.0, self._due - now) if now < self._until else 0.0
