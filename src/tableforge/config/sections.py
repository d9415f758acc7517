"""Every setting of the server, once: name, unit, range, default and what it is for.

A section is a frozen dataclass whose fields are the settings themselves, so a module is handed its own section and a
test builds one with the values it cares about.
"""

import ipaddress
import re
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from tableforge.config.values import (
    DAY,
    GIB,
    HOUR,
    KIB,
    MIB,
    MINUTE,
    choice,
    folder,
    listing,
    milliseconds,
    pixels,
    read_base_path,
    read_host,
    read_matching,
    read_origin,
    secret,
    size,
    span,
    switch,
    text,
    whole,
)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _instance_name() -> str:
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:40] or "tableforge"
    return f"{host}-{secrets.token_hex(3)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """Where the server listens and how it stops."""

    host: str = text(
        "HOST",
        "127.0.0.1",
        accepts="an address of this machine, a host name, or 0.0.0.0 for every address",
        parse=read_matching(r"[A-Za-z0-9.:_-]+"),
        purpose="The address to listen on. The default is reached from this machine only.",
    )
    port: int = whole(
        "PORT",
        8080,
        low=0,
        high=65_535,
        zero="a free one",
        purpose="One port for pages, REST, WebSocket, health and metrics.",
    )
    base_path: str = text(
        "BASE_PATH",
        "/",
        accepts="a path such as / or /table/ of letters, digits and . _ ~ -",
        parse=read_base_path,
        purpose="The sub-path of every address when a proxy serves TableForge beside other things.",
    )
    drain_seconds: float = span(
        "DRAIN_SECONDS",
        25,
        low=0,
        high=HOUR,
        purpose="Grace at SIGTERM: clients are sent away over this time, then the server stops.",
    )
    instance_id: str = text(
        "INSTANCE_ID",
        _instance_name,
        accepts="1 to 80 letters, digits and . _ -",
        parse=read_matching(r"[A-Za-z0-9._-]{1,80}"),
        default_text="host name and a random suffix",
        purpose="The name of this process in logs and metrics.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """Where everything is kept."""

    folder: Path = folder(
        "TABLEFORGE_DATA",
        "data",
        purpose="The SQLite file, assets and generated secrets (mode 0600). On a local disk.",
    )

    @property
    def assets(self) -> Path:
        """The folder of what was uploaded."""
        return self.folder / "assets"

    @property
    def admin_token(self) -> Path:
        """The file of the token that was generated, where none is set."""
        return self.folder / "admin-token"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLogKnobs:
    """How events become durable."""

    commit_interval_ms: float = milliseconds(
        "LOG_COMMIT_INTERVAL_MS",
        2,
        low=0,
        high=1_000,
        purpose="A busy writer commits no sooner than this after its last commit; an idle one at once. "
        "In a fleet it is this times the living instances, up to 8 ms where this is less. "
        "Longer: less CPU and fewer disk writes, later replies.",
    )
    snapshot_every_events: int = whole(
        "SNAPSHOT_EVERY_EVENTS",
        1_000,
        low=1,
        high=100_000,
        unit="events",
        purpose="A snapshot of a room is stored after so many events. Fewer: rooms open faster, more is written.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomKnobs:
    """How many rooms live in memory, and what each remembers."""

    in_memory: int = whole(
        "ROOMS_IN_MEMORY",
        2_000,
        low=1,
        high=100_000,
        unit="rooms",
        purpose="More live rooms than this are not opened: whoever asks is told to come back.",
    )
    idle_seconds: float = span(
        "ROOM_IDLE_SECONDS",
        300,
        low=1,
        high=DAY,
        purpose="A room that nobody listens to leaves memory after this time.",
    )
    recent_events: int = whole(
        "ROOM_RECENT_EVENTS",
        500,
        low=0,
        high=10_000,
        unit="events",
        purpose="Latest events that a live room keeps in memory, so that a short absence is caught up from there.",
    )
    recent_bytes: int = size(
        "ROOM_RECENT_BYTES",
        MIB,
        low=0,
        high=256 * MIB,
        purpose="What those events may take in memory, for each room.",
    )
    recovery_events: int = whole(
        "RECOVERY_MAX_EVENTS",
        5_000,
        low=1,
        high=50_000,
        unit="events",
        purpose="A client that missed more than this gets a fresh snapshot instead of the events.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketKnobs:
    """The bounds of one WebSocket connection."""

    max_message_bytes: int = size(
        "WS_MAX_MESSAGE_BYTES",
        64 * KIB,
        low=256,
        high=16 * MIB,
        purpose="A longer message closes the connection with 3501.",
    )
    buffer_bytes: int = size(
        "WS_BUFFER_BYTES",
        MIB,
        low=64 * KIB,
        high=256 * MIB,
        purpose="A client that lets more than this pile up is cut with 3008 and recovers by its position.",
    )
    ping_seconds: float = span(
        "WS_PING_SECONDS",
        10,
        low=1,
        high=HOUR,
        purpose="The period of the pings that keep a connection alive.",
    )
    pong_seconds: float = span(
        "WS_PONG_SECONDS",
        8,
        low=1,
        high=HOUR,
        purpose="A client that leaves a ping unanswered for this long is cut.",
    )
    connect_timeout_seconds: float = span(
        "WS_CONNECT_TIMEOUT_SECONDS",
        5,
        low=1,
        high=MINUTE,
        purpose="A socket that has not said who it is by then is closed with 3502.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who is let in."""

    admin_token: str | None = secret(
        "ADMIN_TOKEN",
        pattern=r"[!-~]{1,512}",
        accepts="1 to 512 printable ASCII characters without spaces",
        purpose="Bearer token of /api/admin. When it is not set, one is generated into the data folder.",
    )
    access_password: str | None = secret(
        "ACCESS_PASSWORD",
        pattern=r".{1,512}",
        accepts="1 to 512 characters",
        purpose="Asked once before a session is made.",
    )
    room_creation: Literal["anyone", "admin"] = cast(
        "Literal['anyone', 'admin']",
        choice("ROOM_CREATION", ("anyone", "admin"), purpose="Who may create rooms."),
    )
    session_lifetime_seconds: float = span(
        "SESSION_LIFETIME",
        90 * DAY,
        low=1,
        high=3_650 * DAY,
        purpose="A session that is not used for this long ends; use renews it.",
    )
    allowed_origins: tuple[str, ...] = cast(
        "tuple[str, ...]",
        listing(
            "ALLOWED_ORIGINS",
            (),
            accepts="a comma-separated list of origins such as https://play.example.org",
            item=read_origin,
            default_text="same origin",
            purpose="Pages of other origins that may use the API and the WebSocket.",
        ),
    )
    allowed_hosts: tuple[str, ...] = cast(
        "tuple[str, ...]",
        listing(
            "ALLOWED_HOSTS",
            (),
            accepts="a comma-separated list of host names without ports, or * for any",
            item=read_host,
            default_text="localhost, HOST and the hosts of ALLOWED_ORIGINS",
            purpose="Requests for other hosts get 421, which stops DNS rebinding.",
        ),
    )
    trusted_proxies: tuple[Network, ...] = cast(
        "tuple[Network, ...]",
        listing(
            "TRUSTED_PROXIES",
            (ipaddress.ip_network("127.0.0.1"), ipaddress.ip_network("::1")),
            accepts="a comma-separated list of addresses and networks, or none",
            item=lambda text: ipaddress.ip_network(text, strict=False),
            default_text="127.0.0.1, ::1",
            purpose="Whose X-Forwarded headers are believed.",
        ),
    )


def _limit(name: str, default: int, *, unit: str, purpose: str) -> int:
    return whole(name, default, low=0, high=1_000_000, unit=unit, zero="no limit", purpose=purpose)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one member, address or instance may ask for; 0 is no limit."""

    commands_per_second: int = _limit(
        "LIMIT_COMMANDS", 50, unit="per second", purpose="Commands of one member in one room."
    )
    commands_burst: int = _limit(
        "LIMIT_COMMANDS_BURST", 500, unit="commands", purpose="Commands at once after a quiet time."
    )
    live_per_second: int = _limit(
        "LIMIT_LIVE", 60, unit="per second", purpose="Live signals of one member; more are dropped."
    )
    sessions_per_minute: int = _limit(
        "LIMIT_SESSIONS",
        20,
        unit="per minute",
        purpose="New sessions of one address, loopback exempt.",
    )
    connections_per_address: int = _limit(
        "LIMIT_CONNECTIONS",
        100,
        unit="connections",
        purpose="Open WebSockets of one address, loopback exempt.",
    )
    connections: int = _limit(
        "LIMIT_CONNECTIONS_INSTANCE",
        5_000,
        unit="connections",
        purpose="Open WebSockets of the whole server.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploads:
    """The bounds of what strangers send as files."""

    max_bytes: int = size(
        "UPLOAD_MAX_BYTES", 50 * MIB, low=1, high=2 * GIB, purpose="The largest file taken."
    )
    max_pixels: int = pixels(
        "UPLOAD_MAX_PIXELS",
        16_384 * 16_384,
        high=1 << 30,
        purpose="The largest image taken, width times height.",
    )
    room_max_bytes: int = size(
        "ROOM_MAX_ASSET_BYTES",
        2 * GIB,
        low=1,
        high=1_024 * GIB,
        purpose="All assets of one room together.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Observing:
    """What the server tells about itself."""

    prometheus_enabled: bool = switch(
        "PROMETHEUS_ENABLED", default=True, purpose="Serve /metrics; without it, /metrics is 404."
    )
    metrics_token: str | None = secret(
        "METRICS_TOKEN",
        pattern=r"[!-~]{1,512}",
        accepts="1 to 512 printable ASCII characters without spaces",
        purpose="Bearer token of /metrics; without it, whoever reaches the port may read them.",
    )
    log_level: str = choice(
        "LOG_LEVEL",
        ("info", "debug", "warning", "error"),
        purpose="The least serious lines that are logged.",
    )
    log_format: str = choice(
        "LOG_FORMAT",
        ("auto", "console", "json"),
        purpose="Lines for people or for machines; auto = console on a terminal, else json.",
    )
