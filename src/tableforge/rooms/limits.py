"""Token buckets: how often somebody may do something, with a burst for those who were quiet."""

from collections import OrderedDict
from collections.abc import Hashable


class TokenBuckets:
    """One bucket a key: `rate` tokens a second flow in, `burst` at most lie there; a rate of 0 lets everything pass.

    At most `bound` keys are remembered; the longest unused is forgotten first, which can only be generous.
    The algorithm is the token bucket of RFC 2697's family of meters, with continuous refill.
    """

    def __init__(self, *, rate: float, burst: float, bound: int = 20_000) -> None:
        self._rate = rate
        self._burst = max(burst, 1.0)
        self._bound = bound
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def take(self, key: Hashable, now: float) -> bool:
        """Take one token at the time `now` (seconds, monotonic); False when there is none."""
        if self._rate <= 0:
            return True
        buckets = self._buckets
        known = buckets.get(key)
        if known is None:
            if len(buckets) >= self._bound:
                buckets.popitem(last=False)
            buckets[key] = (self._burst - 1.0, now)
            return True
        tokens = min(self._burst, known[0] + (now - known[1]) * self._rate)
        if tokens < 1.0:
            return False
        buckets[key] = (tokens - 1.0, now)
        buckets.move_to_end(key)
        return True
