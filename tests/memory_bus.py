"""A bus in one process, for the simulation: the same promises as the one on Redis, and every fault on demand.

Time is the event loop's, so that a simulated clock drives it.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Sequence

from tableforge.bus import BusServer, Hear, Resumed

Fate = Callable[[str, str, str, bytes], Sequence[float]]
"""What becomes of a message: sender, receiver, channel, content → seconds until each arrival. () is lost without a word,
(0.0,) arrives at once, (0.0, 0.0) twice. What one sends to another never overtakes itself on its way."""


def at_once(sender: str, receiver: str, channel: str, message: bytes) -> Sequence[float]:
    """The fate of messages where all is well."""
    return (0.0,)


class Exchange:
    """What the endpoints are plugged into. `fate` may be replaced at any time; `silence` and `restore` cut one off."""

    def __init__(self, *, fate: Fate = at_once, silence_seconds: float = 2.0) -> None:
        self.fate = fate
        self.silence_seconds = silence_seconds
        self.endpoints: dict[str, MemoryBus] = {}

    def endpoint(self, name: str) -> "MemoryBus":
        """A bus of an instance of this name; one that had the name before is unplugged."""
        bus = self.endpoints[name] = MemoryBus(self, name)
        return bus

    def silence(self, name: str) -> None:
        """From now on nothing goes to or from this endpoint, and nothing tells it so before the silence bound."""
        self.endpoints[name].cut_off()

    def restore(self, name: str) -> None:
        """Everything goes again; what was lost meanwhile stays lost, and all are told."""
        self.endpoints[name].plug_in()
        for other in self.endpoints.values():
            if other.name != name:
                other.resume()

    def send(self, sender: "MemoryBus", channel: str, message: bytes) -> None:
        """Take a message to all who listen now."""
        for receiver in list(self.endpoints.values()):
            if receiver.listens(channel) and receiver.silent_since is None:
                for delay in self.fate(sender.name, receiver.name, channel, message):
                    receiver.arrive(sender.name, channel, message, delay)


class MemoryBus:
    """See `Bus`; made by `Exchange.endpoint`."""

    def __init__(self, exchange: Exchange, name: str) -> None:
        self.name = name
        self.silent_since: float | None = None
        self.closed = False
        self._loop = asyncio.get_running_loop()
        self._started = False
        self._exchange = exchange
        self._listened: dict[str, int] = {}
        self._begun: list[str] = []
        self._numbers = 0
        self._coming: defaultdict[str, deque[Callable[[], None]]] = defaultdict(deque)
        self._busy_until: defaultdict[str, float] = defaultdict(float)

    async def start(self, hear: Hear, resumed: Resumed) -> None:
        """See `Bus`."""
        self._hear = hear
        self._resumed = resumed
        self._started = True
        self.resume()

    async def close(self) -> None:
        """See `Bus`."""
        self.closed = True
        if self._exchange.endpoints.get(self.name) is self:
            del self._exchange.endpoints[self.name]

    def publish(self, channel: str, message: bytes) -> None:
        """See `Bus`."""
        if self._started and self.silent_since is None and not self.closed:
            self._exchange.send(self, channel, message)

    def listen(self, channel: str) -> None:
        """See `Bus`."""
        if channel not in self._listened:
            self._numbers += 1
            self._listened[channel] = self._numbers
            self._begin([channel])

    def unlisten(self, channel: str) -> None:
        """See `Bus`."""
        self._listened.pop(channel, None)

    def carries(self, channel: str) -> bool:
        """See `Bus`."""
        return self._started and not self._trouble() and channel not in self._begun

    def servers(self) -> list[BusServer]:
        """See `Bus`."""
        return [BusServer("memory", self._trouble())]

    def listens(self, channel: str) -> bool:
        """Whether messages on this channel are for this endpoint."""
        return channel in self._listened

    def arrive(self, sender: str, channel: str, message: bytes, delay: float) -> None:
        """Be told of a message later, after all that this sender sent before, unless the channel was left meanwhile."""
        number = self._listened[channel]

        def tell() -> None:
            if self._listened.get(channel) == number and not self.closed:
                self._tell_resumed()
                self._hear(channel, message)

        # Timers that are due at the same time run in no order: each lets in whatever is first.
        coming = self._coming[sender]
        coming.append(tell)
        now = self._loop.time()
        due = self._busy_until[sender] = max(now + delay, self._busy_until[sender])
        self._loop.call_later(due - now, lambda: coming.popleft()())

    def cut_off(self) -> None:
        """See `Exchange.silence`."""
        self.silent_since = self._loop.time()

    def plug_in(self) -> None:
        """See `Exchange.restore`."""
        self.silent_since = None
        self.resume()

    def resume(self) -> None:
        """Tell that all channels may have missed something."""
        self._begin(list(self._listened))

    def _begin(self, channels: list[str]) -> None:
        self._begun += channels
        self._loop.call_later(0, self._tell_resumed)

    def _tell_resumed(self) -> None:
        if self._begun and self._started and self.silent_since is None and not self.closed:
            begun, self._begun = self._begun, []
            self._resumed([channel for channel in begun if channel in self._listened])

    def _trouble(self) -> str:
        since = self.silent_since
        if since is None or self._loop.time() - since < self._exchange.silence_seconds:
            return ""
        return "cut off"
