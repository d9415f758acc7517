"""Every object that travels over the WebSocket, with its direction: the Centrifuge client protocol, JSON.

Only the fields that this server reads are declared; others are passed over, as the reference server does. The shapes are
those of centrifugal/protocol's `client.proto`.
"""

from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

NULL = Raw(b"null")


# From the client


class Connect(Struct, frozen=True):
    """Who am I: always the first command."""

    token: str = ""
    name: str = ""


class Refresh(Struct, frozen=True):
    token: str = ""


class Subscribe(Struct, frozen=True):
    """`recover` asks for what was missed behind (`epoch`, `offset`)."""

    channel: str
    recover: bool = False
    offset: int = 0
    epoch: str = ""
    flag: int = 0
    join_leave: bool = False
    type: int = 0


class OnChannel(Struct, frozen=True):
    """unsubscribe, presence and presence_stats."""

    channel: str


class Publish(Struct, frozen=True):
    channel: str
    data: Raw = NULL


class Since(Struct, frozen=True):
    offset: int = 0
    epoch: str = ""


class History(Struct, frozen=True):
    channel: str
    limit: int = 0
    since: Since | None = None
    reverse: bool = False


class Rpc(Struct, frozen=True):
    method: str = ""
    data: Raw = NULL


class ClientCommand(Struct, frozen=True):
    """One object of a client's frame: an id and exactly one request, or nothing at all, which is a pong."""

    id: int = 0
    rpc: Rpc | None = None
    connect: Connect | None = None
    subscribe: Subscribe | None = None
    unsubscribe: OnChannel | None = None
    publish: Publish | None = None
    presence: OnChannel | None = None
    presence_stats: OnChannel | None = None
    history: History | None = None
    refresh: Refresh | None = None
    ping: dict[str, Any] | None = None
    send: dict[str, Any] | None = None


decode_client = msgspec.json.Decoder(ClientCommand).decode


# From the server


class ClientInfo(Struct, frozen=True):
    """Who is on a channel: one connection of a user."""

    user: str
    client: str
    conn_info: dict[str, str]
    chan_info: dict[str, str]


class Publication(Struct, frozen=True, omit_defaults=True):
    data: Raw
    offset: int = 0
    info: ClientInfo | UnsetType = UNSET


class ConnectResult(Struct, frozen=True, omit_defaults=True):
    """`ping` in seconds; with `pong` the client answers each."""

    client: str
    version: str
    ping: int = 0
    pong: bool = False


class RefreshResult(Struct, frozen=True):
    client: str
    version: str
    expires: bool
    ttl: int


class SubscribeResult(Struct, frozen=True, omit_defaults=True):
    recoverable: bool = False
    positioned: bool = False
    epoch: str = ""
    offset: int = 0
    was_recovering: bool = False
    recovered: bool = False
    publications: list[Publication] | UnsetType = UNSET
    data: Raw | UnsetType = UNSET


class HistoryResult(Struct, frozen=True):
    publications: list[Publication]
    epoch: str
    offset: int


class PresenceResult(Struct, frozen=True):
    presence: dict[str, ClientInfo]


class PresenceStatsResult(Struct, frozen=True):
    num_clients: int
    num_users: int


class RpcResult(Struct, frozen=True):
    data: Any


class Failure(Struct, frozen=True, omit_defaults=True):
    """`detail` is ours: what, why and mend, for whoever reads it."""

    code: int
    message: str
    temporary: bool = False
    detail: str = ""


class ServerReply(Struct, frozen=True, omit_defaults=True):
    """The answer to one command, under the command's own name, or its error."""

    id: int
    error: Failure | None = None
    connect: ConnectResult | None = None
    subscribe: SubscribeResult | None = None
    unsubscribe: dict[str, Any] | None = None
    publish: dict[str, Any] | None = None
    presence: PresenceResult | None = None
    presence_stats: PresenceStatsResult | None = None
    history: HistoryResult | None = None
    rpc: RpcResult | None = None
    refresh: RefreshResult | None = None
    ping: dict[str, Any] | None = None


PING = b"{}"


def push(channel: str, kind: str, body: Any) -> bytes:
    """A push of any kind: `pub`, `join`, `leave` or `unsubscribe`."""
    return msgspec.json.encode({"push": {"channel": channel, kind: body}})


def publication_prefix(channel: str) -> bytes:
    """The bytes of a publication's push before its data; `PUBLICATION_MIDDLE`, the offset and `PUBLICATION_END` follow."""
    return b'{"push":{"channel":%s,"pub":{"data":' % msgspec.json.encode(channel)


PUBLICATION_TAIL = b',"offset":%d}}}'
