"""Why a connection or a subscription ended, and what the client does next.

The numbers and their meaning are those of the Centrifuge protocol; both client libraries obey them.
"""

from enum import IntEnum


class CloseCode(IntEnum):
    """WebSocket close codes: 3000-3499 and 4000-4499 come back by themselves, 3500-3999 and 4500-4999 do not."""

    SHUTDOWN = 3001
    SLOW = 3008
    REBALANCE = 3011
    NO_PONG = 3012
    INVALID_TOKEN = 3500
    BAD_REQUEST = 3501
    STALE = 3502
    INAPPROPRIATE_PROTOCOL = 3506

    @property
    def reconnect(self) -> bool:
        """Whether the client comes back by itself."""
        return self % 1000 < 500

    @property
    def reason(self) -> str:
        """Short plain text: an empty or JSON-like one changes what the JavaScript client does."""
        return REASONS[self]


REASONS = {
    CloseCode.SHUTDOWN: "shutdown",
    CloseCode.SLOW: "slow",
    CloseCode.REBALANCE: "rebalance",
    CloseCode.NO_PONG: "no pong",
    CloseCode.INVALID_TOKEN: "invalid token",
    CloseCode.BAD_REQUEST: "bad request",
    CloseCode.STALE: "stale",
    CloseCode.INAPPROPRIATE_PROTOCOL: "inappropriate protocol",
}


class UnsubscribeCode(IntEnum):
    """Codes of the unsubscribe push: under 2500 the client stays off the channel, from there on it subscribes anew."""

    REMOVED = 2000
    STATE_INVALIDATED = 2502


class ErrorCode(IntEnum):
    """Error codes of the Centrifuge protocol that this server answers with; commands use HTTP's numbers instead."""

    INTERNAL = 100
    PERMISSION_DENIED = 103
    METHOD_NOT_FOUND = 104
    ALREADY_SUBSCRIBED = 105
    LIMIT_EXCEEDED = 106
    BAD_REQUEST = 107
    NOT_AVAILABLE = 108
    UNRECOVERABLE = 112

    @property
    def message(self) -> str:
        """What the client shows for it."""
        return self.name.lower().replace("_", " ")

    @property
    def temporary(self) -> bool:
        """Whether trying again may help."""
        return self is ErrorCode.INTERNAL
