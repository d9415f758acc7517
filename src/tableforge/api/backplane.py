"""Between the bus and what it concerns: who takes which message of the other instances."""

import time
from collections.abc import Sequence

import msgspec

from tableforge.api.centrifuge import signal_views
from tableforge.bus import Bus
from tableforge.cache.two_level import TwoLevelCache
from tableforge.domain.signals import Signal
from tableforge.hub.hub import Hub
from tableforge.hub.presence import Presence
from tableforge.library.emergency import Emergency, Order
from tableforge.library.notices import Notice, Notices
from tableforge.protocol import codec
from tableforge.protocol.bus_messages import (
    FLEET_CHANNEL,
    Alive,
    CacheDropped,
    CacheMode,
    EventsHappened,
    LiveSignal,
    NoticeGiven,
    Roster,
    WhoIsThere,
    decode_message,
    encode_message,
)
from tableforge.protocol.channels import live_channel, room_channel, room_of
from tableforge.protocol.frames import ClientInfo
from tableforge.rooms.following import Follower
from tableforge.rooms.live import LiveRoom

_decode_signal = msgspec.json.Decoder(Signal).decode


class Backplane:
    """Sends and hears for the parts of one instance. `origin` names this process; without a bus nothing is sent."""

    def __init__(self, bus: Bus | None, *, origin: str, hub: Hub, droppable_over: int) -> None:
        self._bus = bus
        self._origin = origin
        self._hub = hub
        self._droppable_over = droppable_over
        self._follower: Follower
        self._presence: Presence
        self._notices: Notices
        self._cache: TwoLevelCache
        self._emergency: Emergency
        self.heard_at: dict[str, float] = {}
        """When each other instance was last heard over the bus, by the monotonic clock."""

    async def start(
        self,
        follower: Follower,
        presence: Presence,
        notices: Notices,
        *,
        cache: TwoLevelCache,
        emergency: Emergency,
    ) -> None:
        """Hear for these from now on."""
        self._follower, self._presence, self._notices = follower, presence, notices
        self._cache, self._emergency = cache, emergency
        if self._bus is not None:
            await self._bus.start(self._hear, self._resumed)
            self._bus.listen(FLEET_CHANNEL)

    def carries_notices(self) -> bool:
        """Whether what all instances must hear comes over the bus."""
        return self._bus is not None and self._bus.carries(FLEET_CHANNEL)

    # To the others

    def tell_alive(self) -> None:
        """Let the others know that they hear us."""
        if self._bus is not None:
            self._bus.publish(FLEET_CHANNEL, encode_message(Alive(self._origin)))

    def say(self, room: str, message: Roster | WhoIsThere) -> None:
        """Send who is here, or ask who is there."""
        if self._bus is not None:
            self._bus.publish(room_channel(room), encode_message(message))

    def hint(self, notice: Notice) -> None:
        """Hurry a notice on."""
        if self._bus is not None:
            message = NoticeGiven(self._origin, notice.number, notice.kind, notice.about)
            self._bus.publish(FLEET_CHANNEL, encode_message(message))

    def dropped(
        self,
        told: bool,  # noqa: FBT001 - as the cache calls it
        keys: Sequence[tuple[str, str]],
        tags: Sequence[str],
        regions: Sequence[str],
    ) -> None:
        """Let the others forget what is no longer so."""
        if self._bus is not None:
            message = CacheDropped(self._origin, told, tuple(keys), tuple(tags), tuple(regions))
            self._bus.publish(FLEET_CHANNEL, encode_message(message))

    def ordered(self, order: Order) -> None:
        """Let the others know the cache's mode."""
        if self._bus is not None:
            self._bus.publish(FLEET_CHANNEL, encode_message(CacheMode(self._origin, *order)))

    def relay(self, live: LiveRoom, sender: ClientInfo, data: bytes) -> None:
        """Hand a live signal on, if anybody is there to see it."""
        if self._bus is not None and self._presence.others(live.id, live=True):
            message = LiveSignal(
                self._origin,
                sender.client,
                sender.user,
                sender.conn_info.get("name", ""),
                sender.chan_info.get("role", ""),
                live.durable.version,
                data,
            )
            self._bus.publish(room_channel(live.id), encode_message(message))

    # From the others

    def _hear(self, channel: str, data: bytes) -> None:
        message = decode_message(data)
        if message is None or message.origin == self._origin:
            return
        place = room_of(channel)
        if isinstance(message, Alive):
            self.heard_at[message.origin] = time.monotonic()
        elif isinstance(message, NoticeGiven):
            self._notices.heard(message.number, message.kind, message.about)
        elif isinstance(message, CacheDropped):
            self._cache.heard(message.told, message.keys, message.tags, message.regions)
        elif isinstance(message, CacheMode):
            self._emergency.heard(Order(message.until, message.ordered))
        elif place is None:
            return
        elif isinstance(message, EventsHappened):
            self._follower.heard(place[0], message)
        elif isinstance(message, LiveSignal):
            self._signal(place[0], message)
        else:
            self._presence.heard(place[0], message)

    def _signal(self, room: str, message: LiveSignal) -> None:
        live = self._follower.engine.live_nowait(room)
        if live is None or message.user not in live.durable.members:
            return
        if live.durable.version < message.at:
            return  # what it tells of may have been hidden meanwhile, and is not yet known here to be
        try:
            signal: Signal = _decode_signal(message.data)
        except codec.UNREADABLE:
            return  # a kind of signal that this release does not know
        self._hub.signal_from(
            live_channel(room),
            ClientInfo(
                message.user, message.client, {"name": message.name}, {"role": message.role}
            ),
            signal_views(live, signal, message.user, message.data),
            droppable_over=self._droppable_over,
        )

    def _resumed(self, channels: Sequence[str]) -> None:
        rooms = [place[0] for place in map(room_of, channels) if place is not None]
        if rooms:
            self._follower.resumed(rooms)
        for room in rooms:
            self._presence.appeared(room)
        if FLEET_CHANNEL in channels:
            self._notices.hurry()
            self._cache.resumed()
