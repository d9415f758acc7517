"""The simulated servers: the product's rooms, hub and gateway on a simulated log and bus, and the lines of their clients."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, cast

from tableforge.api.audience import Audience
from tableforge.api.centrifuge import Conversation, Gateway, GatewaySettings
from tableforge.domain.commands import HouseCommand
from tableforge.errors import TableForgeError
from tableforge.hub.hub import Hub
from tableforge.library.sessions import Session as SignIn
from tableforge.library.sessions import Sessions
from tableforge.protocol.bus_messages import EventsHappened, decode_message
from tableforge.protocol.channels import room_of
from tableforge.protocol.close_codes import CloseCode
from tableforge.rooms.engine import RoomBounds, RoomEngine
from tableforge.rooms.following import Follower
from tableforge.rooms.live import Reply
from tableforge.rooms.service import RoomService
from tests.local_cache import cached_rooms
from tests.simulation.process import Process
from tests.simulation.storage import SimulatedLog

if TYPE_CHECKING:
    from tests.simulation.world import World

BOUNDS = RoomBounds(
    recent_events=8,
    recent_bytes=1_000_000,
    snapshot_every=15,
    in_memory=100,
    idle_seconds=0.4,
    commands_rate=0,
    commands_burst=0,
)
RECOVERY_EVENTS = 40
HEADS_SECONDS = 0.05
CHECK_SECONDS = 0.8
SWEEP_SECONDS = 0.3


class Peer(Protocol):
    """The client's end of a line."""

    process: Process

    def frame(self, line: "Line", data: bytes) -> None:
        """A frame came."""
        ...

    def closed(self, line: "Line", code: int) -> None:
        """The connection is gone; `code` is 0 where no close frame came."""
        ...


class Queue:
    """One direction of a connection: what is put in comes out later, in its order."""

    def __init__(self, world: "World", receiver: Process) -> None:
        self._world = world
        self._receiver = receiver
        self._coming: deque[Callable[[], None]] = deque()
        self._last = 0.0
        self.open = True

    def put(self, tell: Callable[[], None]) -> None:
        """Send; what is on its way when the line is cut is lost."""
        self._coming.append(tell)
        self._last = max(self._last, self._world.clock.now + self._world.net_latency())
        # Timers that are due at the same time run in no order: each lets in whatever is first.
        self._receiver.call_at(self._last, self._arrive)

    def _arrive(self) -> None:
        tell = self._coming.popleft()
        if self.open:
            tell()


class Line:
    """A WebSocket connection between a client and a server, and the server's `Wire`."""

    def __init__(self, world: "World", client: Peer, server: "Server") -> None:
        self._world = world
        self._client = client
        self.server = server
        self.up = Queue(world, server.process)
        self.down = Queue(world, client.process)
        self.conversation: Conversation | None = None
        self.user = ""
        server.lines.append(self)
        self.up.put(self._accept)

    # The client's side

    def send(self, data: bytes) -> None:
        """From the client to the server."""
        self.up.put(lambda: self._received(data))

    def cut(self, *, notice: float, server_notice: float) -> None:
        """The network between them breaks; each end finds out after a while (seconds)."""
        if self.up.open:
            self.up.open = self.down.open = False
            self._client.process.call_later(notice, self._client.closed, self, 0)
            if not self.server.process.dead:
                self.server.process.call_later(server_notice, self._lost)

    # The server's side

    def _accept(self) -> None:
        self.conversation = Conversation(self.server.gateway, self, cookie="")

    def _received(self, data: bytes) -> None:
        if self.conversation is not None:
            self.conversation.received(data)

    def _lost(self) -> None:
        if self in self.server.lines:
            self.server.lines.remove(self)
        if self.conversation is not None:
            self.conversation.lost()

    def write(self, frame: bytes) -> None:
        """See `Wire`."""
        if not self.down.open:
            return
        size = frame[1] & 0x7F
        payload = frame[2:] if size < 126 else frame[4:] if size == 126 else frame[10:]
        self._world.checks.sent(payload)
        self.down.put(lambda: self._client.frame(self, payload))

    def close(self, code: CloseCode, reason: str = "") -> None:
        """See `Wire`."""
        if self.up.open:
            self.up.open = False
            self.down.put(lambda: self._client.closed(self, int(code)))
            self.server.process.call_soon(self._lost)

    def part(self, code: CloseCode) -> bool:
        """See `Wire`."""
        self.close(code)
        return True

    def allow(self, size: int) -> None:
        """See `Wire`."""

    def buffered(self) -> int:
        """See `Wire`."""
        return 0


class Everybody:
    """Stands in for the sign-ins: whoever comes is who they say."""

    async def authenticate(self, token: str) -> SignIn:
        """See `Sessions`."""
        return SignIn(token, token.title(), token, 1e12)


async def nobody_uploaded(asset: str, user: str) -> bool:
    """No pictures here."""
    return False


class Server:
    """One instance; `boot` starts its next life."""

    def __init__(self, world: "World", name: str) -> None:
        self._world = world
        self.name = name
        self._life = 0
        self.lines: list[Line] = []
        self.process: Process
        self.boot()

    @property
    def up(self) -> bool:
        """Whether it runs, or would if it were not stopped."""
        return not self.process.dead

    def boot(self) -> None:
        """Start with nothing in memory."""
        self._life += 1
        self.process = self._world.clock.start(f"{self.name}#{self._life}")
        with self.process.running():
            self._assemble()

    def _assemble(self) -> None:
        world = self._world
        hub = Hub()
        audience = Audience(hub)
        self.log = SimulatedLog(world.database, self.process, world.process)
        self.bus = world.exchange.endpoint(self.name)
        if world.bus_is_dead:
            self.bus.cut_off()
        self.follower = Follower(
            self.log,
            self.bus,
            origin=self.process.name,
            heads_interval=HEADS_SECONDS,
            check_interval=CHECK_SECONDS,
            listened=audience.listened,
            deleted=audience.deleted,
            forgotten=lambda room: None,
        )
        cached = cached_rooms(self.log, clock=lambda: world.clock.now)
        self.engine = RoomEngine(
            self.log,
            cached,
            BOUNDS,
            publish=audience.hear,
            listened=audience.listened,
            invalidated=audience.invalidated,
            peers=self.follower,
        )
        self.rooms = RoomService(
            self.log,
            cached,
            self.engine,
            recovery_events=RECOVERY_EVENTS,
            online=audience.online,
            uploaded=nobody_uploaded,
            deleted=audience.told_of_deletion,
        )
        self.gateway = Gateway(
            GatewaySettings(
                ping_seconds=25,
                pong_seconds=10.0,
                connect_seconds=10.0,
                buffer_bytes=1_000_000,
                message_bytes=65_536,
                live_rate=30.0,
            ),
            hub=hub,
            rooms=self.rooms,
            sessions=cast(Sessions, Everybody()),
        )
        self.follower.follow(self.engine)
        self._tasks = [
            self.process.create_task(self.bus.start(self._hear, self._resumed)),
            self.process.create_task(self._sweep()),
        ]

    def _hear(self, channel: str, data: bytes) -> None:
        """What `api.backplane` does with events; presence and notices are not simulated."""
        message = decode_message(data)
        place = room_of(channel)
        if (
            isinstance(message, EventsHappened)
            and place is not None
            and message.origin != self.process.name
        ):
            self.follower.heard(place[0], message)

    def _resumed(self, channels: Any) -> None:
        self.follower.resumed([place[0] for place in map(room_of, channels) if place is not None])

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.engine.sweep()

    def crash(self) -> None:
        """kill -9: memory and connections are gone; what was sent already goes its way."""
        self._world.clock.kill(self.process)
        self.bus.closed = True
        self._world.exchange.endpoints.pop(self.name, None)
        for line in self.lines:
            line.cut(notice=self._world.net_latency(), server_notice=0.0)
        self.lines = []

    def house(
        self,
        room: str,
        user: str,
        command: HouseCommand,
        client: Process,
        answer: Callable[[Reply | TableForgeError], None],
    ) -> None:
        """A command over the HTTP API: `answer` is called in the client's process, or never."""
        process = self.process

        async def carry_out() -> None:
            outcome: Reply | TableForgeError
            try:
                outcome = await self.rooms.house(room, user, command)
            except TableForgeError as refusal:
                outcome = refusal
            client.call_later(self._world.net_latency(), answer, outcome)

        def begin() -> None:
            self._tasks.append(process.create_task(carry_out()))

        process.call_later(self._world.net_latency(), begin)
