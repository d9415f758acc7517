"""A whole server without sockets, disk or clock: clients that are cut off, a disk that is slow or refuses, restarts.

Everything between the wire and the log is the real code. Frames travel when the machine says so, and are lost when it says
so; appends reach the disk when it says so, or fail.
"""

import asyncio
import json
from collections import deque
from typing import Any

from tableforge.api.audience import Audience
from tableforge.api.centrifuge import Conversation, Gateway, GatewaySettings
from tableforge.domain.commands import JoinRoom
from tableforge.errors import Unauthorized
from tableforge.eventlog import Append, LogUnavailable
from tableforge.eventlog.memory import MemoryEventLog
from tableforge.hub.hub import Hub
from tableforge.library.sessions import Session as SignIn
from tableforge.protocol.close_codes import CloseCode
from tableforge.rooms.engine import RoomBounds, RoomEngine
from tableforge.rooms.service import RoomService
from tests.local_cache import cached_rooms

TURNS = 40
"""Loop turns after which everything that does not wait for the disk has settled."""


class SlowLog(MemoryEventLog):
    """Appends wait until the machine lets them through, or refuses them, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: deque[Append] = deque()

    def append_nowait(self, entry: Append) -> None:
        self.waiting.append(entry)

    def commit(self, count: int) -> None:
        for _ in range(min(count, len(self.waiting))):
            super().append_nowait(self.waiting.popleft())

    def refuse(self, count: int) -> None:
        for _ in range(min(count, len(self.waiting))):
            entry = self.waiting.popleft()
            asyncio.get_running_loop().call_soon(
                entry.done, entry, LogUnavailable("Nothing was saved.", "The disk is full.")
            )


class KnownSessions:
    """Sign-ins whose token is the user's id; kept honest by the gateway's own tests on the real ones."""

    async def authenticate(self, token: str) -> SignIn:
        await asyncio.sleep(0)
        if not token.startswith("user"):
            raise Unauthorized("You are not signed in.")
        return SignIn(token, token.title(), f"session-{token}", 1e12)

    def known(self, token: str) -> SignIn | None:
        return None


async def nobody_uploaded(asset: str, user: str) -> bool:
    """There are no pictures in this world."""
    return False


class Server:
    """One life of the process over a log that outlives it."""

    def __init__(self, log: SlowLog) -> None:
        self.hub = Hub()
        audience = Audience(self.hub)
        cached = cached_rooms(log)
        self.engine = RoomEngine(
            log,
            cached,
            RoomBounds(
                recent_events=3,
                recent_bytes=1_000_000,
                snapshot_every=5,
                in_memory=4,
                idle_seconds=0,
                commands_rate=0,
                commands_burst=0,
            ),
            publish=audience.hear,
            listened=audience.listened,
            invalidated=audience.invalidated,
        )
        self.rooms = RoomService(
            log,
            cached,
            self.engine,
            recovery_events=25,
            online=audience.online,
            uploaded=nobody_uploaded,
            deleted=audience.told_of_deletion,
        )
        self.gateway = Gateway(
            GatewaySettings(
                ping_seconds=10,
                pong_seconds=8,
                connect_seconds=5,
                buffer_bytes=1 << 20,
                message_bytes=1 << 16,
                live_rate=0,
            ),
            hub=self.hub,
            rooms=self.rooms,
            sessions=KnownSessions(),  # type: ignore[arg-type]  # the two methods that the gateway calls
        )


class Line:
    """A connection's wire: what the server wrote waits here until it is delivered or lost."""

    def __init__(self) -> None:
        self.frames: deque[bytes] = deque()
        self.closed: CloseCode | None = None

    def write(self, frame: bytes) -> None:
        self.frames.append(frame)

    def buffered(self) -> int:
        return 0

    def allow(self, size: int) -> None:
        return

    def close(self, code: CloseCode, reason: str = "") -> None:
        self.closed = code

    def part(self, code: CloseCode) -> bool:
        self.close(code)
        return True


def payload_of(frame: bytes) -> bytes:
    """A server's text frame without its header."""
    size = frame[1]
    return frame[2:] if size < 126 else frame[4:] if size == 126 else frame[10:]


class Client:
    """What a client library does: connect, subscribe, recover from its position, send again what was not answered."""

    def __init__(self, user: str, room: str) -> None:
        self.user = user
        self.room = room
        self.channel = f"room:{room}"
        self.position: tuple[int, str] | None = None
        self.conversation: Conversation | None = None
        self.line = Line()
        self.subscribed = False
        self.heard: list[tuple[int, Any]] = []
        """Publications since the last snapshot, as this client was told them."""
        self.snapshots: list[tuple[int, Any]] = []
        self.recovered: list[tuple[int, int]] = []
        """From where to where this client was brought up to date by events alone."""
        self.unanswered: dict[int, dict[str, Any]] = {}
        self.replies: dict[str, Any] = {}
        self.lost: list[dict[str, Any]] = []
        self._id = 0

    def connect(self, server: Server) -> None:
        self.line = Line()
        self.conversation = Conversation(server.gateway, self.line, cookie="")
        subscribe: dict[str, Any] = {"channel": self.channel, "recoverable": True}
        if self.position is not None:
            offset, epoch = self.position
            subscribe |= {"recover": True, "offset": offset, "epoch": epoch}
        self._send(
            {"id": self._next(), "connect": {"token": self.user}},
            {"id": self._next(), "subscribe": subscribe},
        )

    def cut(self) -> None:
        """The line breaks: what was not delivered is lost, what was not answered is in doubt."""
        if self.conversation is not None:
            self.conversation.lost()
        self.conversation = None
        self.subscribed = False
        self.line.frames.clear()
        self.lost += self.unanswered.values()
        self.unanswered.clear()

    def command(self, body: dict[str, Any]) -> None:
        number = self._next()
        self.unanswered[number] = body
        self._send({"id": number, "rpc": {"method": "room.command", "data": body}})

    def deliver(self, count: int) -> None:
        for _ in range(min(count, len(self.line.frames))):
            for text in payload_of(self.line.frames.popleft()).split(b"\n"):
                self._take(json.loads(text))

    def _take(self, one: dict[str, Any]) -> None:
        if "push" in one:
            push = one["push"]
            if "pub" in push:
                # A real client drops what comes before the subscribe reply: the server must never send it.
                assert self.subscribed, "a publication came before the subscribe reply"
                self._hear(push["pub"])
            elif "unsubscribe" in push:
                self.subscribed = False
                if push["unsubscribe"]["code"] < 2500:
                    self.position = None
                else:
                    self.position = (self.position or (0, ""))[0], "_"
        elif "subscribe" in one:
            self._subscribed(one["subscribe"])
        elif "rpc" in one or ("error" in one and one["id"] in self.unanswered):
            body = self.unanswered.pop(one["id"])
            outcome = one["rpc"]["data"] if "rpc" in one else one["error"]
            known = self.replies.setdefault(body["id"], outcome)
            if "offset" in known and "offset" in outcome:
                assert known == outcome, "one command, two different replies"
            elif "offset" in outcome:
                self.replies[body["id"]] = outcome

    def _subscribed(self, result: dict[str, Any]) -> None:
        self.subscribed = True
        if result.get("recovered"):
            self.position = result["offset"], result["epoch"]
            for publication in result.get("publications", []):
                self._hear(publication)
            self.recovered.append((result["offset"], self.position[0]))
        else:
            assert "publications" not in result
            self.position = result["offset"], result["epoch"]
            self.snapshots.append((result["offset"], result["data"]["room"]))
            self.heard.clear()

    def _hear(self, publication: dict[str, Any]) -> None:
        assert self.position is not None
        offset, epoch = self.position
        assert publication["offset"] == offset + 1, "a gap, or an event twice"
        self.position = publication["offset"], epoch
        self.heard.append((publication["offset"], publication["data"]))

    def _next(self) -> int:
        self._id += 1
        return self._id

    def _send(self, *objects: dict[str, Any]) -> None:
        assert self.conversation is not None
        self.conversation.received("\n".join(map(json.dumps, objects)).encode())


class World:
    """A room, its members' clients, and the server that may be replaced by another on the same log."""

    USERS = ("user-gm", "user-ilse", "user-tomas")

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.log = SlowLog()
        self.server = Server(self.log)
        self.room = ""
        self.clients: dict[str, Client] = {}
        self.run(self._open())

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    async def _open(self) -> None:
        opened = asyncio.ensure_future(
            self.server.rooms.create(self.USERS[0], "Mara", "The Salt Road", "private")
        )
        await self._pass()
        self.log.commit(1)
        self.room = await opened
        for user in self.USERS[1:]:
            join = JoinRoom(room=self.room, id=f"join-{user}", name=user.title(), role="player")
            joined = asyncio.ensure_future(self.server.rooms.house(self.room, user, join))
            await self._pass()
            self.log.commit(1)
            await joined
        self.clients = {user: Client(user, self.room) for user in self.USERS}

    async def _pass(self) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)

    def settle(self) -> None:
        """Let everything run that does not wait for the disk."""
        self.run(self._pass())

    def do(self, deed: Any) -> None:
        """Something on the loop, and what follows from it at once."""

        async def run() -> None:
            deed()
            await self._pass()

        self.run(run())

    def restart(self) -> None:
        """kill -9: what was not on the disk is gone, and so are all connections."""
        for client in self.clients.values():
            client.cut()
        self.log.waiting.clear()
        self.server = Server(self.log)

    def close(self) -> None:
        self.runner.close()
