"""How often somebody may ask to be let in, so that nobody tries passwords and codes by the thousand."""

import time

from tableforge.api.peers import Peer
from tableforge.config import Limits
from tableforge.errors import TooMany
from tableforge.rooms.limits import TokenBuckets

MINUTE_SECONDS = 60.0


class Doorkeeper:
    """Counts tries to get a session by address; loopback is exempt."""

    def __init__(self, limits: Limits) -> None:
        self._buckets = TokenBuckets(
            rate=limits.sessions_per_minute / MINUTE_SECONDS, burst=limits.sessions_per_minute
        )

    def admit(self, peer: Peer) -> None:
        """Count one try; raises TooMany."""
        if peer.is_loopback or self._buckets.take(peer.address, time.monotonic()):
            return
        raise TooMany(
            "No session was made.",
            "Too many were asked for from your address within a minute.",
            "Wait a little, then try again.",
        )
