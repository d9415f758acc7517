"""What travels between the instances of a fleet, over the bus: MessagePack arrays, the first element says which kind.

Every message names its `origin`, the instance's id with the start of its process: instances skip what they sent
themselves, and a restarted one is not mistaken for the one before it. A form never changes; a new one gets a new tag, and
whoever does not know a tag leaves the message alone.
"""

import msgspec

FLEET_CHANNEL = "fleet"
"""Where every instance listens."""


class EventsHappened(msgspec.Struct, tag="e", array_like=True, frozen=True, gc=False):
    """One command's events, durable, on channel `room:<id>`.

    `events` are as stored, of the form `version`; the first one's offset is `first`. `sent_ms` is the sender's wall clock.
    """

    origin: str
    sent_ms: float
    epoch: str
    first: int
    version: int
    events: tuple[bytes, ...]


class LiveSignal(msgspec.Struct, tag="s", array_like=True, frozen=True, gc=False):
    """A signal that is never stored, on channel `room:<id>`; `data` as its sender sent it, each receiver redacts it.

    `at` is the offset at which its sender's instance stood: who stands before that may not know what has been hidden since.
    """

    origin: str
    client: str
    user: str
    name: str
    role: str
    at: int
    data: bytes


class Present(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One connection on a channel of a room; `live` says whether it is on `room:<id>:live` rather than `room:<id>`."""

    client: str
    user: str
    name: str
    role: str
    live: bool


class Roster(msgspec.Struct, tag="r", array_like=True, frozen=True, gc=False):
    """All connections that one instance has in a room, on channel `room:<id>`: sent at changes and now and then.

    `number` grows with each roster of the origin; an older one that comes late is left alone.
    """

    origin: str
    number: int
    present: tuple[Present, ...]


class WhoIsThere(msgspec.Struct, tag="w", array_like=True, frozen=True, gc=False):
    """Asks the others for their rosters of a room, on channel `room:<id>`."""

    origin: str


class Alive(msgspec.Struct, tag="a", array_like=True, frozen=True, gc=False):
    """This instance is heard over the bus, on the channel `fleet`: sent with each heartbeat."""

    origin: str


class NoticeGiven(msgspec.Struct, tag="n", array_like=True, frozen=True, gc=False):
    """A durable notice to all instances (see `library.notices`), on the channel `fleet`."""

    origin: str
    number: int
    kind: str
    about: str


class CacheDropped(msgspec.Struct, tag="d", array_like=True, frozen=True, gc=False):
    """What was cached under these keys (region and key), tags and regions is no longer so, on the channel `fleet`.

    `told` is whether the shared level of the cache knows; where it does not, whoever reaches it tells it.
    """

    origin: str
    told: bool
    keys: tuple[tuple[str, str], ...]
    tags: tuple[str, ...]
    regions: tuple[str, ...]


class CacheMode(msgspec.Struct, tag="m", array_like=True, frozen=True, gc=False):
    """Until when the cache's emergency mode holds and when that was ordered, on the channel `fleet` (see `library.emergency`)."""

    origin: str
    until: float
    ordered: float


Message = (
    EventsHappened
    | LiveSignal
    | Roster
    | WhoIsThere
    | Alive
    | NoticeGiven
    | CacheDropped
    | CacheMode
)

_encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode_message(message: Message) -> bytes:
    """A message as it travels."""
    return _encode(message)


def decode_message(data: bytes) -> Message | None:
    """What came in, or None for a kind that this release does not know, or what is no message at all."""
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
