"""Keeping the spread of connections even: how many clients an instance sends to the others, and when.

Connections live for hours, so a balancer in front cannot mend a spread that a new instance or a rolling restart upset. An
instance above its share closes connections, at a pace, and the balancer places them anew. How it places them decides how
many have to move: one that picks the emptiest instance needs the excess alone; one that deals them out in turn gives most
of them back to the instances that are full, so all of these go down to the level of the emptiest and fill up together.

Nothing is agreed on: every instance sees the same registry, decides for itself, and sees what came of it. Restraint comes
from what stands still: a spread that is off by less than the tolerance, or only for a moment, moves nobody, a client moves
once in a run, and a run that changed little is followed by a longer and longer rest.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

Strategy = Literal["round_robin", "least_connections", "weighted", "room_affinity"]

TOLERANCE, TOLERANCE_MIN = 0.09, 3
"""A run begins when some instance is off its share by more than this part of it, and this many connections."""
SETTLED, SETTLED_MIN = 0.05, 1
"""A run ends when nobody is off by more than this."""
FAR, FAR_MIN = 0.5, 50
"""The tolerance where rooms, not counts, decide who sits where."""
PERSISTS_SECONDS = 3.0
"""A spread that is off for less long moves nobody."""
UNDERWAY_SECONDS = 10.0
"""A client that was sent away is back within this time, and is counted meanwhile."""
EASED_IN = 1 / 3
"""After somebody came or went nobody is moved for this part of the time that a run may take."""
TIME_CONSTANTS = 3.0
"""Time constants in the time that a run may take: 95 % of the way."""
PACE_MAX = 100.0
"""Clients a second that one instance sends away at most."""
RUN_LIMIT = 3.0
"""A run ends unfinished after this many times the time it should take."""
REST_MAX_SECONDS = 3_600.0


class Standing(NamedTuple):
    """What one instance carries; `weight` is its share beside the others'."""

    origin: str
    connections: int
    weight: int = 1


Shares = Mapping[Standing, float]
"""How many connections each instance should have."""


class _Run:
    """One time of evening out: since when, how far off the spread was, and the part of a client that is due."""

    __slots__ = ("began", "carry", "off")

    def __init__(self, began: float, off: float) -> None:
        self.began = began
        self.off = off
        self.carry = 0.0


class Balancer:
    """Decides for one instance. `over_seconds` is the time in which a run evens out most of it; 0 never moves anybody."""

    def __init__(self, strategy: Strategy, *, over_seconds: float) -> None:
        self._by_weight = strategy == "weighted"
        self._finds_the_emptiest = strategy == "least_connections"
        far = strategy == "room_affinity"
        self._tolerance, self._tolerance_min = (FAR, FAR_MIN) if far else (TOLERANCE, TOLERANCE_MIN)
        self._over = over_seconds
        self._totals: deque[tuple[float, int]] = deque()
        self._off_since: float | None = None
        self._between: frozenset[str] = frozenset()
        self._rest_until = 0.0
        self._futile = 0
        self._run: _Run | None = None
        self._asked = 0.0
        self.epoch = 0
        """Grows when the spread begins to be off: whoever is connected at that moment may be moved, once. Nobody has
        moved anybody for that reason yet, so whoever connects later may come from an instance that was quicker."""

    def due(self, now: float, me: Standing, others: Sequence[Standing]) -> int:
        """How many clients to send away now. `others` are those who live and take connections; to be asked several
        times a second.
        """
        passed, self._asked = min(now - self._asked, 1.0), now
        everybody = (me, *others)
        between = frozenset(one.origin for one in everybody)
        if between != self._between:
            # Somebody came or went: what was learned about the others does not hold any more. A newcomer is eased in by
            # the balancer; what is sent there too soon lands elsewhere.
            self._between, self._run, self._off_since = between, None, None
            self._rest_until = now + self._over * EASED_IN
            self._totals.clear()
        total = self._total(now, sum(one.connections for one in everybody))
        weights = sum(self._weight(one) for one in everybody)
        shares = {one: total * self._weight(one) / weights for one in everybody}
        if self._run is None:
            self._consider(now, shares)
        elif settled(shares) or now - self._run.began > RUN_LIMIT * self._over:
            self._end(self._run, now, shares)
        if self._run is None or me.connections <= shares[me] + 0.5:
            return 0
        level = shares[me]
        if not self._finds_the_emptiest:
            emptiest = min(one.connections / self._weight(one) for one in everybody)
            level = min(level, emptiest * self._weight(me))
        pace = min((me.connections - level) * TIME_CONSTANTS / self._over, PACE_MAX)
        self._run.carry += pace * passed
        count = int(self._run.carry)
        self._run.carry -= count
        return count

    def _weight(self, one: Standing) -> int:
        return one.weight if self._by_weight else 1

    def _total(self, now: float, counted: int) -> int:
        """All connections, those included that are on their way from one instance to another."""
        while self._totals and self._totals[0][0] < now - UNDERWAY_SECONDS:
            self._totals.popleft()
        while self._totals and self._totals[-1][1] <= counted:
            self._totals.pop()
        self._totals.append((now, counted))
        return self._totals[0][1]

    def _consider(self, now: float, shares: Shares) -> None:
        uneven = any(
            off(one, share) > max(self._tolerance * share, self._tolerance_min)
            for one, share in shares.items()
        )
        if not uneven or self._over <= 0 or now < self._rest_until:
            self._off_since = None
        elif self._off_since is None:
            self._off_since = now
            self.epoch += 1
        elif now - self._off_since >= PERSISTS_SECONDS:
            self._run = _Run(now, worst(shares))

    def _end(self, run: _Run, now: float, shares: Shares) -> None:
        self._futile = self._futile + 1 if worst(shares) > run.off / 2 else 0
        self._rest_until = now + min(self._over * 2**self._futile, REST_MAX_SECONDS)
        self._run, self._off_since = None, None


def off(one: Standing, share: float) -> float:
    """By how many connections an instance is off its share."""
    return abs(one.connections - share)


def worst(shares: Shares) -> float:
    """By how many the one is off that is off most."""
    return max(off(one, share) for one, share in shares.items())


def settled(shares: Shares) -> bool:
    """Whether nobody is off their share by more than is left alone."""
    return all(
        off(one, share) <= max(SETTLED * share, SETTLED_MIN) for one, share in shares.items()
    )
