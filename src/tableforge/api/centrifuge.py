"""The Centrifuge client protocol of one connection: what a client may ask, and what it is answered.

Commands of one connection are taken in their order. Nearly all are answered within the loop turn in which they came; where
one has to wait (a token, a room that is not in memory, events from the log), the ones behind it wait as well. Only a
room's commands do not hold up the line: they are answered when they are durable, whatever came after them.
"""

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable, Coroutine
from importlib.metadata import version
from typing import Any

import msgspec
import structlog
from msgspec import Raw

from tableforge.domain.signals import Signal, seen_signal
from tableforge.errors import Malformed, TableForgeError, Unauthorized
from tableforge.hub.hub import Hub
from tableforge.hub.session import Session, Wire, text_frame
from tableforge.library.sessions import Session as SignIn
from tableforge.library.sessions import Sessions
from tableforge.protocol import codec
from tableforge.protocol.channels import LIVE, room_of
from tableforge.protocol.close_codes import CloseCode, ErrorCode
from tableforge.protocol.frames import (
    PING,
    ClientCommand,
    ClientInfo,
    Connect,
    ConnectResult,
    Failure,
    History,
    HistoryResult,
    OnChannel,
    PresenceResult,
    PresenceStatsResult,
    Publication,
    Publish,
    Refresh,
    RefreshResult,
    Rpc,
    ServerReply,
    Subscribe,
    SubscribeResult,
    decode_client,
)
from tableforge.rooms.limits import TokenBuckets
from tableforge.rooms.live import Answer, LiveRoom, Reply
from tableforge.rooms.service import NoSuchRoom, RoomService, picture_in
from tableforge.rooms.views import Viewed
from tableforge.telemetry import COUNTERS

VERSION = f"tableforge {version('tableforge')}"
CHANNEL_BYTES = 255
CHANNELS_MAX = 128
ID_MAX = 2**32 - 1
HISTORY_MAX = 1000
LIVELY_SECONDS = 5.0
"""Who was answered within this time is likely to command again soon."""
WAITING_MAX = 256
"""Commands of one connection that may wait behind one that takes its time."""
REJECT_UNRECOVERED = 2
"""Subscribe flag: answer with an error instead of `recovered: false`."""

_decode_signal = msgspec.json.Decoder(Signal).decode
_encode = msgspec.json.Encoder().encode

log = structlog.get_logger(__name__)


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of a connection; each is a setting."""

    ping_seconds: int
    pong_seconds: float
    connect_seconds: float
    buffer_bytes: int
    message_bytes: int
    live_rate: float


class Refused(Exception):
    """Ends a command with an error of the protocol."""

    def __init__(self, code: ErrorCode, detail: str = "") -> None:
        super().__init__(code)
        self.failure = Failure(int(code), code.message, code.temporary, detail)


def keep_signal(live: LiveRoom, sender: ClientInfo, data: bytes) -> None:
    """Alone, a server has nobody to hand a live signal on to."""


class Gateway:
    """What all connections share."""

    def __init__(
        self,
        settings: GatewaySettings,
        *,
        hub: Hub,
        rooms: RoomService,
        sessions: Sessions,
        relay: Callable[[LiveRoom, ClientInfo, bytes], None] = keep_signal,
    ) -> None:
        self.settings = settings
        self.hub = hub
        self.rooms = rooms
        self.sessions = sessions
        self.relay = relay
        """Hands a live signal on to the other instances."""
        self.signals = TokenBuckets(rate=settings.live_rate, burst=settings.live_rate)
        self.tasks: set[asyncio.Task[None]] = set()


def out_of_reach(error: TableForgeError) -> Failure:
    """A failure of the server's own: the client tries again by itself."""
    return Failure(int(ErrorCode.INTERNAL), error.code, temporary=True, detail=error.detail)


def signal_views(
    live: LiveRoom, signal: Signal, sender: str, whole: bytes
) -> Callable[[str], bytes | None]:
    """What each user may see of a live signal; `whole` is the signal's JSON."""

    def view(viewer: str) -> bytes | None:
        seen = seen_signal(live.durable, signal, sender, viewer)
        return whole if seen is signal else _encode(seen) if seen is not None else None

    return view


class Conversation:
    """One client's side of the protocol. `cookie` is the token that its handshake carried, or empty."""

    def __init__(self, gateway: Gateway, wire: Wire, *, cookie: str) -> None:
        self._gateway = gateway
        self._hub = gateway.hub
        self._rooms = gateway.rooms
        self._engine = gateway.rooms.engine
        self._wire = wire
        self._cookie = cookie
        self._token = ""
        self._sign_in: SignIn | None = None
        self.session: Session | None = None
        self._refused = False
        self._busy = False
        self._closed = False
        self._waiting: deque[ClientCommand] = deque()
        self._pinged_at: float | None = None
        self._in_hand = 0
        self._answered_at = float("-inf")
        self._then: Callable[[], None] | None = None

    # From the wire

    def received(self, message: bytes) -> None:
        """Take one text message: one object or several, a line each."""
        if message == PING:
            self._pinged_at = None
            return
        lines = message.rstrip(b"\n").split(b"\n") if b"\n" in message else (message,)
        for line in lines:
            COUNTERS.messages_in += 1
            try:
                command = decode_client(line)
            except codec.UNREADABLE:
                self._wire.close(CloseCode.BAD_REQUEST, "malformed frame")
                return
            if self._busy:
                if len(self._waiting) >= WAITING_MAX:
                    self._wire.close(CloseCode.BAD_REQUEST, "too many commands at once")
                    return
                self._waiting.append(command)
            else:
                self._take(command)
            if self._closed:
                return

    def lost(self) -> None:
        """The connection is gone."""
        self._closed = True
        self._waiting.clear()
        session = self.session
        if session is not None:
            self.session = None
            self._hub.disconnected(session)

    def at_rest(self, then: Callable[[], None], lively_seconds: float = LIVELY_SECONDS) -> bool:
        """Whether the peer waits for nothing, and is not about to: who just commanded is likely to command again, and
        would do so into a connection that ends. If not, `then` is called behind its next answer.
        """
        now = asyncio.get_running_loop().time()
        if not self._in_hand and now - self._answered_at >= lively_seconds:
            return True
        self._then = then
        return False

    def due(self, now: float) -> float | None:
        """The wheel's call: before the connect the deadline, afterwards pings and what became of the last one."""
        settings = self._gateway.settings
        if self._closed:
            return None
        if self.session is None:
            self._wire.close(CloseCode.STALE, "no connect command in time")
            return None
        if self._pinged_at is None:
            self._pinged_at = now
        elif now - self._pinged_at >= settings.pong_seconds:
            self._wire.close(CloseCode.NO_PONG)
            return None
        self.session.write(PING_FRAME)
        if self._sign_in is not None and self._gateway.sessions.known(self._token) is None:
            self._start(self._renew())
        return float(settings.ping_seconds)

    # Dispatch

    def _take(self, command: ClientCommand) -> None:
        if self.session is not None and command.rpc is not None and 0 < command.id <= ID_MAX:
            self._rpc(self.session, command.id, command.rpc)
            return
        try:
            if command == NOTHING:
                self._pinged_at = None
            elif command.send is not None or not 0 < command.id <= ID_MAX:
                self._wire.close(CloseCode.BAD_REQUEST, "a command needs an id")
            elif self.session is None:
                self._take_first(command)
            else:
                self._take_next(self.session, command)
        except Refused as refused:
            self._reply(ServerReply(command.id, error=refused.failure))

    def _take_first(self, command: ClientCommand) -> None:
        if command.connect is None or self._refused:
            self._wire.close(CloseCode.BAD_REQUEST, "connect comes first")
        else:
            self._wait_for(self._connect(command.id, command.connect))

    def _take_next(self, session: Session, command: ClientCommand) -> None:
        if command.subscribe is not None:
            self._subscribe(session, command.id, command.subscribe)
        elif command.unsubscribe is not None:
            self._hub.unsubscribe(session, command.unsubscribe.channel)
            self._reply(ServerReply(command.id, unsubscribe={}))
        elif command.publish is not None:
            self._publish(session, command.publish)
            self._reply(ServerReply(command.id, publish={}))
        elif command.presence is not None:
            infos = self._infos(session, command.presence)
            presence = PresenceResult({info.client: info for info in infos})
            self._reply(ServerReply(command.id, presence=presence))
        elif command.presence_stats is not None:
            infos = self._infos(session, command.presence_stats)
            stats = PresenceStatsResult(len(infos), len({info.user for info in infos}))
            self._reply(ServerReply(command.id, presence_stats=stats))
        elif command.history is not None:
            self._wait_for(self._history(session, command.id, command.history))
        elif command.refresh is not None:
            self._wait_for(self._refresh(session, command.id, command.refresh))
        elif command.ping is not None:
            self._reply(ServerReply(command.id, ping={}))
        else:
            why = "already connected" if command.connect is not None else "no known request"
            self._wire.close(CloseCode.BAD_REQUEST, why)

    def _reply(self, reply: ServerReply) -> None:
        if not self._closed:
            COUNTERS.messages_out += 1
            self._wire.write(text_frame(_encode(reply)))

    def _start(
        self,
        work: Coroutine[Any, Any, None],
        then: Callable[[asyncio.Task[None]], None] | None = None,
    ) -> None:
        tasks = self._gateway.tasks
        task = asyncio.get_running_loop().create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        if then is not None:
            task.add_done_callback(then)

    def _wait_for(self, work: Coroutine[Any, Any, None]) -> None:
        self._busy = True
        self._start(work, self._go_on)

    def _go_on(self, task: asyncio.Task[None]) -> None:
        self._busy = False
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a command of a connection failed", error=repr(error), exc_info=error)
            self._wire.close(CloseCode.SHUTDOWN, "internal error")
            return
        while self._waiting and not self._busy and not self._closed:
            self._take(self._waiting.popleft())

    # Who am I

    async def _connect(self, command_id: int, connect: Connect) -> None:
        token = connect.token or self._cookie
        try:
            sign_in = await self._gateway.sessions.authenticate(token)
        except Unauthorized:
            COUNTERS.connection_failures += 1
            self._wire.close(CloseCode.INVALID_TOKEN)
            return
        except TableForgeError as unavailable:
            COUNTERS.connection_failures += 1
            self._refused = True
            self._reply(ServerReply(command_id, error=out_of_reach(unavailable)))
            return
        if self._closed:
            return
        self._token, self._sign_in = token, sign_in
        self.session = Session(
            self._wire,
            client=secrets.token_hex(12),
            user=sign_in.user_id,
            name=sign_in.name,
            session_id=sign_in.session_id,
        )
        self._hub.connected(self.session)
        self._reply(
            ServerReply(
                command_id,
                connect=ConnectResult(
                    self.session.client, VERSION, self._gateway.settings.ping_seconds, pong=True
                ),
            )
        )

    async def _refresh(self, session: Session, command_id: int, refresh: Refresh) -> None:
        try:
            sign_in = await self._gateway.sessions.authenticate(refresh.token)
        except Unauthorized:
            sign_in = None
        if sign_in is None or sign_in.user_id != session.user:
            self._wire.close(CloseCode.INVALID_TOKEN)
            return
        self._token, self._sign_in = refresh.token, sign_in
        session.session_id = sign_in.session_id
        ttl = max(1, int(sign_in.expires - time.time()))
        self._reply(
            ServerReply(
                command_id, refresh=RefreshResult(session.client, VERSION, expires=True, ttl=ttl)
            )
        )

    async def _renew(self) -> None:
        """A connection is a use of its session: it lives on as long as somebody is here."""
        try:
            self._sign_in = await self._gateway.sessions.authenticate(self._token)
        except Unauthorized:
            self._wire.close(CloseCode.INVALID_TOKEN)
        except TableForgeError:
            return  # out of reach for now; the next ping asks again

    # Channels

    def _subscribe(self, session: Session, command_id: int, subscribe: Subscribe) -> None:
        channel = subscribe.channel
        if not channel:
            self._wire.close(CloseCode.BAD_REQUEST, "a channel without a name")
            return
        if len(channel.encode()) > CHANNEL_BYTES:
            raise Refused(
                ErrorCode.BAD_REQUEST, f"A channel's name has at most {CHANNEL_BYTES} bytes."
            )
        if subscribe.type:
            raise Refused(ErrorCode.NOT_AVAILABLE, "Only plain subscriptions are offered.")
        if self._hub.subscribed(session, channel):
            raise Refused(ErrorCode.ALREADY_SUBSCRIBED)
        if len(session.channels) >= CHANNELS_MAX:
            raise Refused(
                ErrorCode.LIMIT_EXCEEDED, f"A connection has at most {CHANNELS_MAX} channels."
            )
        place = room_of(channel)
        if place is None:
            raise Refused(ErrorCode.PERMISSION_DENIED, "No such channel.")
        room, is_live = place
        live = self._engine.live_nowait(room)
        at_hand = live is not None and live.durable.version and self._engine.alone
        if live is not None and at_hand and not subscribe.recover:
            self._join(session, command_id, subscribe, live, live_channel=is_live, missed=None)
        else:
            self._wait_for(
                self._subscribe_slowly(session, command_id, subscribe, room, live_channel=is_live)
            )

    async def _subscribe_slowly(
        self,
        session: Session,
        command_id: int,
        subscribe: Subscribe,
        room: str,
        *,
        live_channel: bool,
    ) -> None:
        try:
            try:
                live = await self._rooms.open(room)
            except NoSuchRoom:
                raise Refused(ErrorCode.PERMISSION_DENIED, "No such channel.") from None
            missed = await self._missed(session, subscribe, live) if not live_channel else None
            if not self._closed:
                self._join(
                    session, command_id, subscribe, live, live_channel=live_channel, missed=missed
                )
        except Refused as refused:
            self._reply(ServerReply(command_id, error=refused.failure))
        except TableForgeError as error:
            self._reply(ServerReply(command_id, error=out_of_reach(error)))

    async def _missed(
        self, session: Session, subscribe: Subscribe, live: LiveRoom
    ) -> list[Viewed] | None:
        """What was missed up to the present head, without a gap; None where events alone cannot say it."""
        if not subscribe.recover:
            return None
        offset = subscribe.offset
        if not self._rooms.may_recover(live, session.user, offset, subscribe.epoch):
            return None
        found: list[Viewed] = []
        while (at := offset + len(found)) < live.durable.version:
            recent = live.since(at)
            if recent is not None:
                return found + recent
            behind = await self._rooms.views(live, at, live.durable.version)
            if not behind or behind[0].offset != at + 1:
                return None
            found += behind
        return found

    def _join(
        self,
        session: Session,
        command_id: int,
        subscribe: Subscribe,
        live: LiveRoom,
        *,
        live_channel: bool,
        missed: list[Viewed] | None,
    ) -> None:
        """One loop turn from the member's right to be here to hearing what comes next."""
        member = live.durable.members.get(session.user)
        if member is None:
            raise Refused(ErrorCode.PERMISSION_DENIED, "No such channel.")
        if live.dropped:
            raise Refused(ErrorCode.INTERNAL, "The room left memory meanwhile.")
        if missed is not None and not self._rooms.may_recover(
            live, session.user, subscribe.offset, subscribe.epoch
        ):
            missed = None  # their role changed while it was read
        if subscribe.recover and missed is None and subscribe.flag & REJECT_UNRECOVERED:
            raise Refused(ErrorCode.UNRECOVERABLE)
        if live_channel:
            result = SubscribeResult()
        elif missed is not None:
            result = SubscribeResult(
                recoverable=True,
                positioned=True,
                epoch=live.epoch,
                offset=subscribe.offset,
                was_recovering=True,
                recovered=True,
                publications=[
                    Publication(Raw(one.data_for(session.user)), one.offset) for one in missed
                ],
            )
        else:
            snapshot = self._rooms.snapshot_of(live, session.user)
            result = SubscribeResult(
                recoverable=True,
                positioned=True,
                epoch=snapshot.epoch,
                offset=snapshot.offset,
                was_recovering=subscribe.recover,
                data=Raw(codec.encode(snapshot)),
            )
        self._hub.subscribe(
            session,
            subscribe.channel,
            role=member.role,
            join_leave=subscribe.join_leave,
            reply=_encode(ServerReply(command_id, subscribe=result)),
        )

    def _on(self, session: Session, channel: str) -> LiveRoom:
        """The room of a channel that this session is on."""
        place = room_of(channel)
        live = self._engine.live_nowait(place[0]) if place else None
        if live is None or not self._hub.subscribed(session, channel):
            raise Refused(ErrorCode.PERMISSION_DENIED, "Subscribe to the channel first.")
        return live

    def _infos(self, session: Session, command: OnChannel) -> list[Any]:
        self._on(session, command.channel)
        return self._hub.infos(command.channel)

    def _publish(self, session: Session, publish: Publish) -> None:
        live = self._on(session, publish.channel)
        if not publish.channel.endswith(LIVE):
            raise Refused(
                ErrorCode.NOT_AVAILABLE, "Events are made by commands: call room.command."
            )
        try:
            signal: Signal = _decode_signal(publish.data)
        except codec.UNREADABLE as error:
            why = codec.malformed(error, "The signal was not sent.")
            raise Refused(ErrorCode.BAD_REQUEST, why.detail) from error
        now = asyncio.get_running_loop().time()
        if not self._gateway.signals.take((live.id, session.user), now):
            return  # the excess of signals is dropped: the next one says it better

        whole = _encode(signal)

        view = signal_views(live, signal, session.user, whole)
        info = self._hub.signal(
            publish.channel,
            session,
            view,
            droppable_over=self._gateway.settings.buffer_bytes // 8,
        )
        if info is not None:
            self._gateway.relay(live, info, whole)

    async def _history(self, session: Session, command_id: int, history: History) -> None:
        try:
            live = self._on(session, history.channel)
            if history.channel.endswith(LIVE):
                raise Refused(ErrorCode.NOT_AVAILABLE, "Live signals have no history.")
            since = history.since
            if since is not None and since.epoch and since.epoch != live.epoch:
                raise Refused(ErrorCode.UNRECOVERABLE)
            if history.reverse and since is not None and since.offset == 0:
                raise Refused(ErrorCode.BAD_REQUEST)
            head = live.durable.version
            limit = HISTORY_MAX if history.limit < 0 else min(history.limit, HISTORY_MAX)
            if history.reverse:
                upto = min(head, since.offset - 1) if since is not None else head
                after = max(0, upto - limit)
                after = await self._rooms.kept_behind(live, after)
            else:
                after = since.offset if since is not None else 0
                after = await self._rooms.kept_behind(live, after)
                upto = min(head, after + limit)
            views = await self._rooms.views(live, after, upto) if after < upto else []
            found = [Publication(Raw(one.data_for(session.user)), one.offset) for one in views]
            if history.reverse:
                found.reverse()
            result = HistoryResult(found, live.epoch, head)
            if not self._closed:
                session.send_large(_encode(ServerReply(command_id, history=result)))
        except Refused as refused:
            self._reply(ServerReply(command_id, error=refused.failure))
        except TableForgeError as error:
            self._reply(ServerReply(command_id, error=out_of_reach(error)))

    # Commands of rooms

    def _rpc(self, session: Session, command_id: int, rpc: Rpc) -> None:
        if rpc.method != "room.command":
            failure = Refused(ErrorCode.METHOD_NOT_FOUND).failure
            self._reply(ServerReply(command_id, error=failure))
            return

        self._in_hand += 1

        def answer(outcome: Reply | TableForgeError) -> None:
            self._in_hand -= 1
            if self._closed:
                return
            if isinstance(outcome, TableForgeError):
                body = Failure(**codec.error_body(outcome))
                self._reply(ServerReply(command_id, error=body))
            else:
                COUNTERS.messages_out += 1
                session.write(
                    text_frame(b'{"id":%d,"rpc":{"data":%b}}' % (command_id, _encode(outcome)))
                )
            loop = asyncio.get_running_loop()
            self._answered_at = loop.time()
            if self._then is not None and not self._in_hand:
                loop.call_soon(self._then)

        try:
            command = codec.decode_command(rpc.data)
        except Malformed as error:
            answer(error)
            return
        live = self._engine.live_nowait(command.room)
        if (
            live is None
            or not live.durable.version
            or picture_in(command) is not None
            # Not known here, but perhaps to another instance, where they took a seat just now.
            or session.user not in live.head.members
        ):
            self._wait_for(self._rpc_slowly(session, rpc.data, command.room, answer))
        else:
            self._engine.execute(live, session.user, command, answer)

    async def _rpc_slowly(self, session: Session, raw: Raw, room: str, answer: Answer) -> None:
        try:
            answer(await self._rooms.command(room, session.user, raw))
        except TableForgeError as error:
            answer(error)


NOTHING = ClientCommand()
PING_FRAME = text_frame(PING)
