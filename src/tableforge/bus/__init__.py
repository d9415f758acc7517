"""The contract of the bus: fresh messages between the instances of a fleet, as fast as may be and without a promise.

Whatever the bus carries is a hint: the log is the truth, and whoever listens finds out by positions what did not arrive.
What the bus does promise is to say when it may have lost something.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

Hear = Callable[[str, bytes], None]
"""Told of each message, with the channel it came on; runs on the event loop and must not wait."""

Resumed = Callable[[Sequence[str]], None]
"""Told the channels on which listening has begun, or begun anew: what was sent before may have been missed."""


class BusServer(NamedTuple):
    """How one server of the bus is doing; `name` holds no secret. `trouble` is empty while our own messages come back."""

    name: str
    trouble: str


class Bus(Protocol):
    """Messages on named channels between instances.

    Rules, each with a test of its number in the contract suite:

    - BU1 while all is well, a message reaches every listener of its channel, the sender's own instance included, in the
      order in which its sender sent it;
    - BU2 `publish`, `listen` and `unlisten` never wait and never raise; while a server is away its messages are dropped;
    - BU3 `resumed` is called each time listening to a channel has begun, after a break as well, before any message that is
      sent after it; and again once another instance whose messages may have been lost on their way to the bus can send;
    - BU4 `carries` is false from at most the silence bound on after a server stops to carry messages, whatever its
      connections look like, and true again once it does and listening was resumed;
    - BU5 what is queued for a server is bounded; with more, all of it is dropped, and that is a break;
    - BU7 where strangers may reach a server of the bus, only what was sent on a channel by somebody who knows the
      instances' common secret is heard there; anything else counts as a message that was missed.

    An instance whose own way to the bus is broken is silent for the others until it is back: they are told afterwards
    (BU3), and in time only by what does not go over the bus. `servers` says which instance is in that state.
    """

    async def start(self, hear: Hear, resumed: Resumed) -> None:
        """Begin; servers that are away are tried again in the background, with growing pauses."""
        ...

    async def close(self) -> None:
        """Let go of everything, in bounded time."""
        ...

    def publish(self, channel: str, message: bytes) -> None:
        """Send to all who listen to the channel."""
        ...

    def listen(self, channel: str) -> None:
        """Hear this channel from now on; those of one loop turn are asked for together. Twice is as good as once."""
        ...

    def unlisten(self, channel: str) -> None:
        """Hear this channel no longer."""
        ...

    def carries(self, channel: str) -> bool:
        """Whether messages on this channel are known to come through now."""
        ...

    def servers(self) -> list[BusServer]:
        """How each server is doing."""
        ...
