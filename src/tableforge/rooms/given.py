"""What a decision is given from outside: the time and fresh randomness, both made cheap for the path of every command."""

import secrets
import time
from datetime import UTC, datetime


class Randomness:
    """Fresh random bytes for decisions, drawn from the system in blocks to spare a system call for each command."""

    SIZE = 16
    BLOCK = 4096

    def __init__(self) -> None:
        self._block = b""
        self._at = 0

    def draw(self) -> bytes:
        """16 bytes that nobody has seen before."""
        if self._at >= len(self._block):
            self._block, self._at = secrets.token_bytes(self.BLOCK), 0
        self._at += self.SIZE
        return self._block[self._at - self.SIZE : self._at]


class Clock:
    """The time as events carry it: RFC 3339, UTC, milliseconds; formatted once a millisecond."""

    def __init__(self) -> None:
        self._millisecond = 0
        self._text = ""

    def now(self) -> str:
        """The present time."""
        millisecond = time.time_ns() // 1_000_000
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            moment = datetime.fromtimestamp(millisecond / 1000, UTC)
            self._text = moment.isoformat(timespec="milliseconds")[:-6] + "Z"
        return self._text
