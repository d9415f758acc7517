"""One connection as the rooms know it: who it is, what it listens to, and a bounded way to its socket."""

from collections.abc import Callable
from typing import Protocol

from tableforge.protocol.close_codes import CloseCode
from tableforge.telemetry import COUNTERS

PARTING_SECONDS = 3.0
"""How long a close waits for a moment at which it cuts off no answer: half of it for a command, half for its answer."""


class Wire(Protocol):
    """What a session needs of its connection."""

    @property
    def write(self) -> Callable[[bytes], None]:
        """Sends WebSocket frames as they are."""
        ...

    def close(self, code: CloseCode, reason: str = "") -> None:
        """Send a close frame and end the connection soon."""
        ...

    def part(self, code: CloseCode) -> bool:
        """The same at a moment when the peer waits for no answer: what is under way, or to be expected, comes first.

        Returns whether that is now; otherwise it is within `PARTING_SECONDS`.
        """
        ...

    def allow(self, size: int) -> None:
        """Let one large reply of `size` bytes exceed the outbox's bound for a while."""
        ...

    @property
    def buffered(self) -> Callable[[], int]:
        """Tells how many bytes the peer has not taken yet."""
        ...


def text_frame(payload: bytes) -> bytes:
    """A whole text frame of the server (RFC 6455, section 5.2): unmasked, so one serves every receiver."""
    size = len(payload)
    if size < 126:
        return b"\x81%c%b" % (size, payload)
    if size < 65_536:
        return b"\x81\x7e%b%b" % (size.to_bytes(2, "big"), payload)
    return b"\x81\x7f%b%b" % (size.to_bytes(8, "big"), payload)


class Session:
    """A connection after its connect command. `client` is its public id, `session_id` the sign-in behind it."""

    __slots__ = ("channels", "client", "name", "session_id", "user", "wire", "write")

    def __init__(self, wire: Wire, *, client: str, user: str, name: str, session_id: str) -> None:
        self.wire = wire
        self.write = wire.write
        self.client = client
        self.user = user
        self.name = name
        self.session_id = session_id
        self.channels: set[str] = set()

    def send_large(self, payload: bytes) -> None:
        """Send a reply that may be larger than the outbox: a snapshot, or all that was missed."""
        self.wire.allow(len(payload))
        self.send(payload)

    def send(self, payload: bytes) -> None:
        """Send one protocol object."""
        COUNTERS.messages_out += 1
        self.write(text_frame(payload))
