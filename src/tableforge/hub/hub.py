"""Who listens to which room: each event is encoded once for each audience and written to all its sockets.

A channel `room:<id>` carries the room's events, `room:<id>:live` what is never stored. Presence is what is subscribed:
nothing else has to be kept true.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from msgspec import Raw

from tableforge.hub.session import Session, text_frame
from tableforge.protocol.channels import room_of
from tableforge.protocol.close_codes import CloseCode, UnsubscribeCode
from tableforge.protocol.frames import (
    PUBLICATION_TAIL,
    ClientInfo,
    Publication,
    publication_prefix,
    push,
)
from tableforge.telemetry import COUNTERS


class Subscription:
    """One session on one channel; `role` is shown to the others, `join_leave` asks to be told of them."""

    __slots__ = ("info", "join_leave")

    def __init__(self, info: ClientInfo, *, join_leave: bool) -> None:
        self.info = info
        self.join_leave = join_leave


class Channel:
    """The subscribers of one channel, with everything prepared that each publication needs."""

    __slots__ = ("_writers", "name", "prefix", "subscribers")

    def __init__(self, name: str) -> None:
        self.name = name
        self.prefix = publication_prefix(name)
        self.subscribers: dict[Session, Subscription] = {}
        self._writers: list[Callable[[bytes], None]] | None = None

    def add(self, session: Session, subscription: Subscription) -> None:
        """Let this session hear everything from now on."""
        self.subscribers[session] = subscription
        self._writers = None

    def remove(self, session: Session) -> Subscription | None:
        """Let this session hear nothing more."""
        self._writers = None
        return self.subscribers.pop(session, None)

    def writers(self) -> list[Callable[[bytes], None]]:
        """The sockets' bound write methods, looked up once after each change of the subscribers."""
        if self._writers is None:
            self._writers = [session.write for session in self.subscribers]
        return self._writers

    def frame(self, data: bytes, offset: int) -> bytes:
        """A publication as a whole WebSocket frame."""
        return text_frame(b"%b%b%b" % (self.prefix, data, PUBLICATION_TAIL % offset))


class Elsewhere(Protocol):
    """Who is on the rooms' channels through other instances."""

    def touch(self, room: str) -> None:
        """Tell the others soon that who is here has changed."""
        ...

    def others(self, room: str, *, live: bool) -> Sequence[ClientInfo]:
        """The connections that other instances have on a channel of a room."""
        ...


class Alone:
    """There are no other instances."""

    def touch(self, room: str) -> None:
        """See `Elsewhere`."""

    def others(self, room: str, *, live: bool) -> Sequence[ClientInfo]:
        """See `Elsewhere`."""
        return ()


class Hub:
    """All channels and sessions of this process."""

    def __init__(self) -> None:
        self._channels: dict[str, Channel] = {}
        self._sessions: dict[Session, None] = {}
        self._elsewhere: Elsewhere = Alone()

    def join_fleet(self, elsewhere: Elsewhere) -> None:
        """Show who is connected through other instances as well."""
        self._elsewhere = elsewhere

    # Sessions

    def connected(self, session: Session) -> None:
        """A connection said who it is."""
        self._sessions[session] = None

    def disconnected(self, session: Session) -> None:
        """A connection is gone: the others on its channels are told."""
        self._sessions.pop(session, None)
        for name in list(session.channels):
            self.unsubscribe(session, name)

    def sign_out(self, session_id: str) -> None:
        """Close every connection of this sign-in; its token has stopped working."""
        for session in [one for one in self._sessions if one.session_id == session_id]:
            session.wire.close(CloseCode.INVALID_TOKEN)

    def sessions(self) -> list[Session]:
        """Every connection that said who it is."""
        return list(self._sessions)

    # Channels

    def subscribed(self, session: Session, name: str) -> bool:
        """Whether this session is on this channel."""
        return name in session.channels

    def subscribe(
        self, session: Session, name: str, *, role: str, join_leave: bool, reply: bytes
    ) -> None:
        """Send the subscribe reply, then let the session hear the channel, then tell the others that it came.

        One loop turn: nothing can be published between what the reply says and what is heard.
        """
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = Channel(name)
        info = ClientInfo(session.user, session.client, {"name": session.name}, {"role": role})
        session.send_large(reply)
        session.channels.add(name)
        channel.add(session, Subscription(info, join_leave=join_leave))
        self._tell(channel, "join", info)
        self._touch(name)

    def unsubscribe(self, session: Session, name: str) -> None:
        """Take a session off a channel and tell the others; nothing if it was not there."""
        session.channels.discard(name)
        channel = self._channels.get(name)
        subscription = channel.remove(session) if channel is not None else None
        if channel is None or subscription is None:
            return
        if channel.subscribers:
            self._tell(channel, "leave", subscription.info)
        else:
            del self._channels[name]
        self._touch(name)

    def drop(
        self, name: str, code: UnsubscribeCode, reason: str, *, user: str | None = None
    ) -> None:
        """Push an unsubscribe to a user's sessions on a channel, or to all of them, and take them off."""
        channel = self._channels.get(name)
        if channel is None:
            return
        dropped = [one for one in channel.subscribers if user is None or one.user == user]
        payload = push(name, "unsubscribe", {"code": int(code), "reason": reason})
        for session in dropped:
            # Server state goes first: the client may subscribe again at once.
            self.unsubscribe(session, name)
            session.send(payload)

    def introduce(self, channel: str, user: str, *, name: str | None, role: str | None) -> None:
        """Change how a user's connections on a channel are known to the others."""
        found = self._channels.get(channel)
        for session, one in found.subscribers.items() if found is not None else ():
            if session.user == user:
                session.name = name or session.name
                one.info = ClientInfo(
                    user,
                    session.client,
                    {"name": session.name},
                    {"role": role} if role else one.info.chan_info,
                )
        self._touch(channel)

    def publish(self, name: str, offset: int, data: bytes) -> None:
        """Send everybody on the channel the same event."""
        channel = self._channels.get(name)
        if channel is None:
            return
        frame = channel.frame(data, offset)
        writers = channel.writers()
        COUNTERS.messages_out += len(writers)
        for write in writers:
            write(frame)

    def publish_views(
        self, name: str, offset: int, views: Mapping[str, bytes], others: bytes
    ) -> None:
        """Send everybody on the channel the event as they may see it; one frame for each audience."""
        channel = self._channels.get(name)
        if channel is None:
            return
        frames: dict[bytes, bytes] = {}
        COUNTERS.messages_out += len(channel.subscribers)
        for session in channel.subscribers:
            data = views.get(session.user, others)
            frame = frames.get(data)
            if frame is None:
                frame = frames[data] = channel.frame(data, offset)
            session.write(frame)

    def signal(
        self,
        name: str,
        sender: Session,
        view: Callable[[str], bytes | None],
        *,
        droppable_over: int,
    ) -> ClientInfo | None:
        """Send a live signal to the others as each may see it; whoever is behind by `droppable_over` bytes misses it.

        Returns how the sender is known on the channel, None if it is not there.
        """
        channel = self._channels.get(name)
        subscription = channel.subscribers.get(sender) if channel is not None else None
        if subscription is None:
            return None
        self.signal_from(name, subscription.info, view, droppable_over=droppable_over)
        return subscription.info

    def signal_from(
        self,
        name: str,
        info: ClientInfo,
        view: Callable[[str], bytes | None],
        *,
        droppable_over: int,
    ) -> None:
        """Send a live signal of somebody, who may be on another instance, to all but their own connection."""
        channel = self._channels.get(name)
        frames: dict[bytes, bytes] = {}
        for session in channel.subscribers if channel is not None else ():
            if session.client == info.client or session.wire.buffered() > droppable_over:
                continue
            data = view(session.user)
            if data is None:
                continue
            frame = frames.get(data)
            if frame is None:
                body = Publication(Raw(data), info=info)
                frame = frames[data] = text_frame(push(name, "pub", body))
            session.write(frame)
            COUNTERS.messages_out += 1

    def infos(self, name: str) -> list[ClientInfo]:
        """Everybody on the channel, one entry a connection, those of other instances included."""
        place = room_of(name)
        others = self._elsewhere.others(place[0], live=place[1]) if place is not None else ()
        return [*self.local_infos(name), *others]

    def local_infos(self, name: str) -> list[ClientInfo]:
        """Everybody who is on the channel through this instance."""
        channel = self._channels.get(name)
        return [one.info for one in channel.subscribers.values()] if channel is not None else []

    def users(self, name: str) -> frozenset[str]:
        """The users on the channel."""
        return frozenset(info.user for info in self.infos(name))

    def told(self, name: str, joined: Iterable[ClientInfo], left: Iterable[ClientInfo]) -> None:
        """Tell those here who came and went elsewhere."""
        channel = self._channels.get(name)
        if channel is not None:
            for info in left:
                self._tell(channel, "leave", info)
            for info in joined:
                self._tell(channel, "join", info)

    def has_listeners(self, name: str) -> bool:
        """Whether anybody is on the channel."""
        return name in self._channels

    def _touch(self, name: str) -> None:
        place = room_of(name)
        if place is not None:
            self._elsewhere.touch(place[0])

    def _tell(self, channel: Channel, kind: str, info: ClientInfo) -> None:
        listeners: Iterable[Session] = [
            session for session, one in channel.subscribers.items() if one.join_leave
        ]
        if not listeners:
            return
        frame = text_frame(push(channel.name, kind, {"info": info}))
        for session in listeners:
            session.write(frame)
            COUNTERS.messages_out += 1
