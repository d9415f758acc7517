"""How often somebody may ask to be let in, so that nobody tries codes by the thousand, and have designs checked and kept."""

import time

from tableforge.api.peers import Peer
from tableforge.config import Limits
from tableforge.errors import TooMany
from tableforge.rooms.limits import TokenBuckets

MINUTE_SECONDS = 60.0
DESIGNS_A_MINUTE = 120
"""Systems and templates sent by one user: the largest takes some 50 ms of a core to check."""


class Doorkeeper:
    """Counts tries to get a session by address, loopback exempt, and designs that are sent by user."""

    def __init__(self, limits: Limits) -> None:
        self._buckets = TokenBuckets(
            rate=limits.sessions_per_minute / MINUTE_SECONDS, burst=limits.sessions_per_minute
        )
        self._designs = TokenBuckets(rate=DESIGNS_A_MINUTE / MINUTE_SECONDS, burst=DESIGNS_A_MINUTE)

    def admit(self, peer: Peer) -> None:
        """Count one try; raises TooMany."""
        if peer.is_loopback or self._buckets.take(peer.address, time.monotonic()):
            return
        raise TooMany(
            "No session was made.",
            "Too many were asked for from your address within a minute.",
            "Wait a little, then try again.",
        )

    def admit_design(self, user: str) -> None:
        """Count a game system or template that this user sends; raises TooMany."""
        if not self._designs.take(user, time.monotonic()):
            raise TooMany(
                "Nothing was kept.",
                f"You sent more than {DESIGNS_A_MINUTE} game systems and templates within a minute.",
                "Wait a little, then send it again.",
            )
