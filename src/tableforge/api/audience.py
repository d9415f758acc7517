"""From a durable event to the sockets: who hears it, and whose place at the table it changes."""

from tableforge.domain.events import Event, MemberChanged, MemberRemoved
from tableforge.hub.hub import Hub
from tableforge.protocol.channels import live_channel, room_channel
from tableforge.protocol.close_codes import UnsubscribeCode
from tableforge.rooms.live import LiveRoom
from tableforge.rooms.views import Viewed

REMOVED = {"left": "you left", "kicked": "you were removed", "banned": "you were banned"}


class Audience:
    """Hands each event to the hub, as everybody on the room's channel may see it."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def hear(self, live: LiveRoom, viewed: Viewed, event: Event) -> None:
        """Send one event, then let go of those who may not listen any longer."""
        channel = room_channel(live.id)
        if viewed.everyone is not None:
            self._hub.publish(channel, viewed.offset, viewed.everyone)
        else:
            self._hub.publish_views(channel, viewed.offset, viewed.views, viewed.others)
        if isinstance(event, MemberRemoved):
            reason = REMOVED[event.because]
            for place in (channel, live_channel(live.id)):
                self._hub.drop(place, UnsubscribeCode.REMOVED, reason, user=event.user)
        elif isinstance(event, MemberChanged):
            name = event.name if isinstance(event.name, str) else None
            role = event.role if isinstance(event.role, str) else None
            for place in (channel, live_channel(live.id)):
                self._hub.introduce(place, event.user, name=name, role=role)
            if role is not None:
                # What they saw before belongs to another role: they begin anew with a snapshot.
                self._hub.drop(
                    channel, UnsubscribeCode.STATE_INVALIDATED, "your role changed", user=event.user
                )

    def deleted(self, room: str) -> None:
        """The room is gone for everybody."""
        for name in (room_channel(room), live_channel(room)):
            self._hub.drop(name, UnsubscribeCode.REMOVED, "the table was deleted")

    async def told_of_deletion(self, room: str) -> None:
        """`deleted`, for a room service that has nobody else to tell."""
        self.deleted(room)

    def invalidated(self, room: str) -> None:
        """What was shown of the room is not what its log holds: everybody begins anew with a snapshot."""
        for name in (room_channel(room), live_channel(room)):
            self._hub.drop(name, UnsubscribeCode.STATE_INVALIDATED, "the table was reloaded")

    def online(self, room: str) -> frozenset[str]:
        """The users who are connected to a room, by whichever instance."""
        return self._hub.users(room_channel(room))

    def listened(self, room: str) -> bool:
        """Whether anybody is connected to a room through this instance."""
        return self._hub.has_listeners(room_channel(room)) or self._hub.has_listeners(
            live_channel(room)
        )
