"""The settings of a fleet: its database, its bus, and how its instances share the work."""

from dataclasses import dataclass
from typing import Literal, cast
from urllib.parse import SplitResult, urlsplit

from tableforge.config.values import (
    DAY,
    GIB,
    HOUR,
    MIB,
    MINUTE,
    Setting,
    choice,
    declare,
    fraction,
    milliseconds,
    read_host,
    read_matching,
    secret,
    size,
    span,
    switch,
    text,
    whole,
)

URL_FORM = r"%s://[!-~]{1,2000}"

HOST_FORM = r"(\[[0-9A-Fa-f:.%]{2,60}\]|[^\s/?#@:,\[\]]{0,255})(:[0-9]{1,5})?"


def server_form(schemes: str) -> str:
    """The form of a server's address. Signs that would end a password before its time are refused: what was meant is not
    what would be read, and the rest of the password would pass for a host or a port, which are shown.
    """
    return (
        rf"{schemes}://([!\x22$-.0->@-~]{{0,1000}}@)?{HOST_FORM}(,{HOST_FORM}){{0,20}}"
        r"([/?][!\x22$-?A-~]{0,1000})?"
    )


BUS_FORM = server_form(r"(redis|rediss|redis\+sentinel|rediss\+sentinel|unix)")
ESCAPED = "; in a password / ? # @ and a space are written %2F %3F %23 %40 %20"


def _host(name: str, purpose: str) -> str | None:
    setting = Setting(
        name=name,
        purpose=purpose,
        accepts="a host name or an address",
        parse=read_host,
        default_text="not set",
    )
    return cast("str | None", declare(setting, None))


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseKnobs:
    """The PostgreSQL of a fleet. DATABASE_HOST or DATABASE_URL chooses the fleet mode; without either, SQLite serves."""

    host: str | None = _host("DATABASE_HOST", "Where PostgreSQL 15 or newer listens.")
    port: int = whole(
        "DATABASE_PORT", 5_432, low=1, high=65_535, purpose="The port of DATABASE_HOST."
    )
    name: str = text(
        "DATABASE_NAME",
        "tableforge",
        accepts="1 to 63 letters, digits and _ -",
        parse=read_matching(r"[A-Za-z0-9_-]{1,63}"),
        purpose="The name of the database.",
    )
    user: str = text(
        "DATABASE_USER",
        "postgres",
        accepts="1 to 63 printable characters without spaces",
        parse=read_matching(r"[!-~]{1,63}"),
        purpose="Who connects. A role of its own with few rights is better: docs/fleet.md.",
    )
    password: str | None = secret(
        "DATABASE_PASSWORD", pattern=r".{1,1000}", accepts="a password", purpose="Their password."
    )
    url: str | None = secret(
        "DATABASE_URL",
        pattern=server_form("postgres(ql)?"),
        accepts="an address such as postgresql://user:password@host:5432/name?sslmode=verify-full"
        f"{ESCAPED}; DATABASE_PASSWORD, beside DATABASE_HOST, takes it as it is",
        purpose="All of it in one; wins over the DATABASE_ settings above. TLS by ?sslmode=.",
    )
    pool_min: int = whole(
        "DB_POOL_MIN", 5, low=0, high=1_000, unit="connections", purpose="Kept open at rest."
    )
    pool_max: int = whole(
        "DB_POOL_MAX",
        20,
        low=2,
        high=1_000,
        unit="connections",
        purpose="Opened at most by one instance, beside one that writes the log alone.",
    )
    idle_timeout_ms: float = milliseconds(
        "DB_IDLE_TIMEOUT",
        30_000,
        low=0,
        high=DAY * 1000,
        purpose="A connection over DB_POOL_MIN that rests for this long is closed.",
    )
    connection_timeout_ms: float = milliseconds(
        "DB_CONNECTION_TIMEOUT",
        10_000,
        low=100,
        high=MINUTE * 10_000,
        purpose="How long a connection may take to open, and a command may wait for the database to come back.",
    )
    query_timeout_ms: float = milliseconds(
        "DB_QUERY_TIMEOUT",
        30_000,
        low=100,
        high=HOUR * 1000,
        purpose="How long the server waits for an answer of the database.",
    )
    statement_timeout_ms: float = milliseconds(
        "DB_STATEMENT_TIMEOUT",
        30_000,
        low=100,
        high=HOUR * 1000,
        purpose="How long the database may work on one statement.",
    )
    slow_query_ms: float = milliseconds(
        "DB_SLOW_QUERY_THRESHOLD",
        1_000,
        low=0,
        high=HOUR * 1000,
        purpose="Statements that take longer are logged, by name and without their values.",
    )
    query_logging: bool = switch(
        "DB_QUERY_LOGGING", default=False, purpose="Log every statement by name with its time."
    )
    vacuum_threshold: float = fraction(
        "DB_VACUUM_THRESHOLD",
        0.1,
        purpose="Share of dead rows at which autovacuum cleans a table whose rows change.",
    )
    autovacuum_tuning: bool = switch(
        "DB_AUTOVACUUM_TUNING",
        default=True,
        purpose="Give each table the autovacuum settings that suit it; false leaves the server's own.",
    )

    @property
    def chosen(self) -> bool:
        """Whether PostgreSQL serves, and with it the fleet mode."""
        return bool(self.host or self.url)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisKnobs:
    """The Redis or Valkey that carries fresh events between instances. Losing it costs latency, never an event."""

    host: str | None = _host("REDIS_HOST", "Where Redis 7.0 or newer, or Valkey 8, listens.")
    port: int = whole("REDIS_PORT", 6_379, low=1, high=65_535, purpose="The port of REDIS_HOST.")
    password: str | None = secret(
        "REDIS_PASSWORD", pattern=r".{1,1000}", accepts="a password", purpose="Its password."
    )
    db: int = whole(
        "REDIS_DB", 0, low=0, high=1_000, purpose="The database number that connections select."
    )
    pub_sub_db: int = whole(
        "REDIS_PUB_SUB_DB",
        1,
        low=0,
        high=1_000,
        purpose="Stands in front of channel names: Redis' channels know no database numbers. "
        "Fleets that share a Redis need different ones.",
    )
    url: str | None = secret(
        "REDIS_URL",
        pattern=BUS_FORM,
        accepts="an address such as redis://:password@host:6379/0, rediss:// for TLS, or "
        "redis+sentinel://host:26379,host:26379/service" + ESCAPED,
        purpose="All of it in one; wins over REDIS_HOST and its like.",
    )
    bus_urls: str | None = secret(
        "REDIS_BUS_URLS",
        pattern=rf"{BUS_FORM}(\s*,\s*{BUS_FORM}){{0,100}}",
        accepts="a comma-separated list of addresses as in REDIS_URL",
        purpose="Several servers for the bus, rooms spread over them; without it, REDIS_URL or REDIS_HOST carries it. "
        "Every instance must name the same ones.",
    )

    @property
    def chosen(self) -> bool:
        """Whether there is a bus."""
        return bool(self.host or self.url or self.bus_urls)


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetKnobs:
    """How instances share the work."""

    scaling: bool = switch(
        "WEBSOCKET_SCALING_ENABLED",
        default=True,
        purpose="With Redis, several instances serve together; false refuses to be a second one.",
    )
    strategy: Literal["round_robin", "least_connections", "weighted", "room_affinity"] = cast(
        "Literal['round_robin', 'least_connections', 'weighted', 'room_affinity']",
        choice(
            "LOAD_BALANCER_STRATEGY",
            ("round_robin", "least_connections", "weighted", "room_affinity"),
            purpose="How connections are spread, by the balancer that `tableforge proxy-config` configures and when "
            "instances even out among themselves.",
        ),
    )
    weight: int = whole(
        "INSTANCE_WEIGHT",
        1,
        low=1,
        high=256,
        purpose="This instance's share of the connections beside the others', with LOAD_BALANCER_STRATEGY=weighted.",
    )
    heads_interval_ms: float = milliseconds(
        "HEADS_INTERVAL_MS",
        50,
        low=5,
        high=10_000,
        purpose="How often the log is asked for news of live rooms while the bus does not carry them.",
    )
    bus_silence_seconds: float = span(
        "BUS_SILENCE_SECONDS",
        2,
        low=0.2,
        high=MINUTE,
        purpose="A bus on which our own messages do not come back within this time is not believed.",
    )
    heartbeat_seconds: float = span(
        "INSTANCE_HEARTBEAT_SECONDS",
        1,
        low=0.1,
        high=MINUTE,
        purpose="How often an instance tells the others that it lives, and its load.",
    )
    expiry_seconds: float = span(
        "INSTANCE_EXPIRY_SECONDS",
        6,
        low=1,
        high=10 * MINUTE,
        purpose="An instance that was not heard of for this long counts as gone, and its members as not here.",
    )
    rebalance_seconds: float = span(
        "REBALANCE_SECONDS",
        30,
        low=0,
        high=HOUR,
        purpose="Over how long an instance above its share sends clients to the others; 0 never does.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetKnobs:
    """Where a fleet keeps what was uploaded."""

    url: str | None = secret(
        "ASSETS_URL",
        pattern=URL_FORM % "(file|s3)",
        accepts="file:///a/shared/folder, or s3://bucket/prefix with its options",
        purpose="A shared folder or an object store for the bytes; without it they lie in PostgreSQL.",
    )
    cache_bytes: int = size(
        "ASSETS_CACHE_BYTES",
        GIB,
        low=MIB,
        high=1_024 * GIB,
        purpose="What each instance of a fleet keeps of them on its own disk.",
    )


def split_address(url: str) -> SplitResult:
    """`urlsplit`, also of several hosts behind commas: some Pythons refuse a bracket behind the first. Raises ValueError."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return urlsplit(url)
    end = next((at for at, sign in enumerate(rest) if sign in "/?#"), len(rest))
    authority, behind = rest[:end], rest[end:]
    credentials, at_sign, hosts = authority.rpartition("@")
    each = [urlsplit(f"{scheme}://{host}").netloc for host in hosts.split(",")]
    parts = urlsplit(f"{scheme}://{credentials}{at_sign}{each[0]}{behind}")
    return parts._replace(netloc=authority)


def server_name(url: str) -> str:
    """A server's address without its secrets, for logs and for people."""
    try:
        parts = split_address(url)
    except ValueError:
        return "an address that cannot be read"
    if parts.scheme != "file" and "@" in f"{parts.path}{parts.query}{parts.fragment}":
        # A password with / ? or # in it ends there for whoever reads the address: what looks like a host is a part of it.
        return f"{parts.scheme}://…"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
