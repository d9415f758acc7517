"""`tableforge doctor` for a fleet: whether its database and its bus are what the servers need. It changes nothing."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tableforge.bus.redis_link import Link
from tableforge.config import Settings, server_name
from tableforge.config.redis_address import CONNECT_TROUBLE, Address, bus_urls
from tableforge.database.large_indexes import missing_indexes
from tableforge.database.migrations import scripts
from tableforge.database.pool import Connection
from tableforge.database.postgres import OLDEST_SERVER, form_of
from tableforge.errors import StartRefused, TableForgeError
from tableforge.ops.findings import Finding
from tableforge.ops.fleet_store import answering, connected

PATIENCE_SECONDS: Final = 5.0
CLOCK_SECONDS: Final = 2.0
"""Sessions and invites end by the servers' clocks, the fleet's registry by the database's."""
OLDEST_REDIS: Final = (7, 0)
OLDEST_VALKEY: Final = (8, 0)
LITTLE_OUTPUT_BYTES: Final = 16 * 2**20
"""A subscriber whose output buffer is smaller is cut off by a burst that it could still take."""
BESIDE_POOL: Final = 3
"""Connections of an instance beside its pool: the log's writer, one that looks whether the database is there, and one that
looks on at statements and tells the operator of them."""

RIGHTS: Final = {
    "schema_form": "SELECT",
    "events": "SELECT INSERT",
    "room_heads": "SELECT INSERT UPDATE",
    "rooms": "SELECT INSERT UPDATE",
    "seats": "SELECT INSERT UPDATE DELETE",
    "snapshots": "SELECT INSERT UPDATE",
    "users": "SELECT INSERT UPDATE",
    "sessions": "SELECT INSERT UPDATE DELETE",
    "recovery_codes": "SELECT INSERT UPDATE",
    "invites": "SELECT INSERT UPDATE DELETE",
    "assets": "SELECT INSERT DELETE",
    "designs": "SELECT INSERT UPDATE",
    "design_versions": "SELECT INSERT",
    "asset_bytes": "SELECT INSERT UPDATE DELETE",
    "asset_chunks": "SELECT INSERT DELETE",
    "instances": "SELECT INSERT UPDATE DELETE",
    "notices": "SELECT INSERT DELETE",
    "runs": "SELECT INSERT UPDATE DELETE",
    "care_ledger": "SELECT INSERT UPDATE",
    "schedule_turns": "SELECT INSERT UPDATE",
    "cache_mode": "SELECT INSERT UPDATE",
}
"""What serving needs, and no more: what is in the log can be read and added to."""


async def examine_fleet(settings: Settings) -> list[Finding]:
    """Look at the database and the bus that the settings name."""
    found = [finding async for finding in _database(settings)]
    if settings.redis.chosen:
        for url in bus_urls(settings.redis):
            found += [finding async for finding in _bus(url)]
    else:
        found.append(
            Finding(
                "warn",
                "bus",
                "There is none, so a second instance will be refused.",
                "Set REDIS_HOST or REDIS_URL.",
            )
        )
    return found


async def _database(settings: Settings) -> AsyncIterator[Finding]:
    try:
        async with connected(settings.database, "The database was not looked at.") as connection:
            with answering():
                version = connection.get_server_version()
                if version.major < OLDEST_SERVER:
                    mend = f"Use PostgreSQL {OLDEST_SERVER} or newer."
                    yield Finding("bad", "database", f"This is PostgreSQL {version.major}.", mend)
                    return
                number = await connection.fetchval("SHOW server_version")
                yield Finding("ok", "database", f"PostgreSQL {number}.")
                for look in (_safety, _form, _indexes, _clock):
                    async for finding in look(connection):
                        yield finding
                async for finding in _connections(connection, settings):
                    yield finding
    except TableForgeError as error:
        yield Finding("bad", "database", error.why, error.mend)


async def _safety(connection: Connection) -> AsyncIterator[Finding]:
    """Whether what is acknowledged is safe."""
    row = await connection.fetchrow(
        "SELECT pg_is_in_recovery() AS replica, current_setting('fsync') AS fsync,"
        " current_setting('full_page_writes') AS pages, current_setting('server_encoding') AS encoding,"
        " current_setting('synchronous_commit') AS commit, current_setting('synchronous_standby_names') AS names"
    )
    assert row is not None
    if row["replica"]:
        mend = "Have DATABASE_URL lead to the primary; ?target_session_attrs=read-write finds it."
        yield Finding("bad", "database", "This is a replica, which takes no changes.", mend)
    if row["fsync"] != "on" or row["pages"] != "on":
        yield Finding(
            "bad",
            "database",
            "fsync or full_page_writes is off: a power cut loses or destroys what was acknowledged.",
            "Set both to on in postgresql.conf.",
        )
    if row["encoding"] != "UTF8":
        mend = "Create the database with ENCODING 'UTF8'."
        yield Finding("bad", "database", f"Its encoding is {row['encoding']}.", mend)
    standbys = f", synchronous standbys: {row['names']}" if row["names"] else ", no standby waits"
    yield Finding("ok", "durability", f"synchronous_commit is {row['commit']}{standbys}.")


async def _indexes(connection: Connection) -> AsyncIterator[Finding]:
    """Whether what searches go by is there; a database of another form is told of elsewhere."""
    for name in await missing_indexes(connection):
        yield Finding(
            "warn",
            "database",
            f"The index {name} is not there, or not whole: searches are slow.",
            "Run `tableforge migrate --schema-only` as the owner of the tables.",
        )


async def _form(connection: Connection) -> AsyncIterator[Finding]:
    """Whether the tables are there in the present form, and what this user may do with them."""
    newest = scripts("postgres")[-1].number
    lacking = await _lacking(connection)
    if "SELECT on schema_form" in lacking:
        yield _rights(lacking)
        return
    form = await form_of(connection)
    may_create = await connection.fetchval(
        "SELECT has_schema_privilege(current_schema(), 'CREATE')"
    )
    if form > newest:
        yield Finding(
            "bad",
            "form",
            f"The database was migrated by a newer TableForge (form {form}; this one knows {newest}).",
            "Install that version or a later one, or name another database.",
        )
        return
    if form == newest:
        yield Finding("ok", "form", f"The database has form {form}, as this program writes it.")
    elif may_create:
        text = f"The database has form {form}; the next start brings it to {newest}."
        yield Finding("ok", "form", text)
    else:
        text = f"The database has form {form} instead of {newest}, and this user may not change it."
        mend = "Run `tableforge migrate --schema-only` as the owner of the tables."
        yield Finding("bad", "form", text, mend)
    if form != 0:
        yield _rights(lacking)


async def _lacking(connection: Connection) -> list[str]:
    """What this user may not do with the tables that are there, of what serving needs."""
    needed = [(table, right) for table, rights in RIGHTS.items() for right in rights.split()]
    rows = await connection.fetch(
        "SELECT name, right_ FROM unnest($1::text[], $2::text[]) AS needed (name, right_)"
        " WHERE to_regclass(name) IS NOT NULL AND NOT has_table_privilege(name, right_) ORDER BY 1, 2",
        [table for table, _ in needed],
        [right for _, right in needed],
    )
    return [f"{row['right_']} on {row['name']}" for row in rows]


def _rights(lacking: list[str]) -> Finding:
    if lacking:
        mend = "Grant them: docs/fleet.md lists what serving needs."
        return Finding("bad", "rights", f"This user lacks {', '.join(lacking)}.", mend)
    return Finding("ok", "rights", "This user may do with every table what serving needs.")


async def _clock(connection: Connection) -> AsyncIterator[Finding]:
    before = time.time()
    there = await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
    ahead = there - (before + time.time()) / 2
    if abs(ahead) > CLOCK_SECONDS:
        yield Finding(
            "warn",
            "clock",
            f"The database's clock is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this machine's.",
            "Have both machines keep time by NTP.",
        )
    else:
        yield Finding("ok", "clock", f"The database's differs by {abs(ahead) * 1000:.0f} ms.")


async def _connections(connection: Connection, settings: Settings) -> AsyncIterator[Finding]:
    row = await connection.fetchrow(
        "SELECT current_setting('max_connections')::int"
        " - current_setting('superuser_reserved_connections')::int AS all,"
        " (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
        " AND application_name NOT LIKE 'tableforge/%') AS others"
    )
    assert row is not None
    live: list[str] = []
    if await connection.fetchval("SELECT has_table_privilege(to_regclass('instances'), 'SELECT')"):
        rows = await connection.fetch(
            "SELECT id FROM instances WHERE seen > clock_timestamp() - make_interval(secs => $1)"
            " ORDER BY id",
            settings.fleet.expiry_seconds,
        )
        live = [one["id"] for one in rows]
    yield Finding("ok", "instances", f"Live now: {', '.join(live) or 'none'}.")
    each = settings.database.pool_max + BESIDE_POOL
    wanted = each * max(1, len(live)) + row["others"]
    text = (
        f"{row['all']} are allowed; {max(1, len(live))} instances with DB_POOL_MAX={settings.database.pool_max}"
        f" take up to {each * max(1, len(live))}, others have {row['others']}."
    )
    if wanted > row["all"]:
        mend = "Lower DB_POOL_MAX, or raise max_connections of PostgreSQL."
        yield Finding("bad" if each > row["all"] else "warn", "connections", text, mend)
    else:
        yield Finding("ok", "connections", text)


async def _bus(url: str) -> AsyncIterator[Finding]:
    name = server_name(url)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            took = await _round_trip(url)
    except TimeoutError:
        mend = "Look whether it is blocked, and at pub/sub rights of this user (ACL)."
        yield Finding("bad", "bus", f"A message through {name} did not come back.", mend)
        return
    except StartRefused as refusal:
        yield Finding("bad", "bus", refusal.why, refusal.mend)
        return
    except CONNECT_TROUBLE as error:
        mend = "Look at REDIS_URL, REDIS_HOST or REDIS_BUS_URLS, and whether the server runs."
        yield Finding("bad", "bus", f"{name} was not reached: {error}.", mend)
        return
    yield Finding("ok", "bus", f"A message through {name} came back in {took * 1000:.1f} ms.")
    if "+sentinel" in url.partition(":")[0]:
        return
    client = Redis.from_url(url, socket_timeout=PATIENCE_SECONDS, decode_responses=True)
    try:
        yield _version_of(await client.info("server"))
        limits = await client.config_get("client-output-buffer-limit")
        yield _output_limit(str(limits.get("client-output-buffer-limit", "")))
    except (RedisError, OSError) as error:
        text = f"Its version and output limits cannot be asked: {error}."
        yield Finding("warn", "bus", text, "Allow INFO and CONFIG GET, or look there yourself.")
    finally:
        await client.aclose()


async def _round_trip(url: str) -> float:
    """How long, in seconds, a message takes to come back through the bus; raises CONNECT_TROUBLE and `StartRefused`."""
    channel = f"tableforge-doctor-{secrets.token_hex(8)}".encode()
    back = asyncio.Event()
    listening = asyncio.Event()

    def hear(push: list[Any]) -> None:
        kind = bytes(push[0])
        (back if kind == b"message" else listening).set()

    address = Address(url, patience=PATIENCE_SECONDS)
    try:
        link = await address.connect(lambda: Link(hear, lambda: None), "tableforge-doctor")
        try:
            link.send((b"SUBSCRIBE", channel))
            await listening.wait()
            sent = time.perf_counter()
            link.send((b"PUBLISH", channel, b"?"))
            await back.wait()
            return time.perf_counter() - sent
        finally:
            await link.finish(1.0)
    finally:
        await address.close()


def _version_of(about: dict[str, Any]) -> Finding:
    """Redis 7.0 or Valkey 8, or newer; Valkey calls itself Redis 7.2 for old clients' sake."""
    is_valkey = "valkey_version" in about
    text = str(about["valkey_version" if is_valkey else "redis_version"])
    kind, oldest = ("Valkey", OLDEST_VALKEY) if is_valkey else ("Redis", OLDEST_REDIS)
    major, minor = (int(part) for part in text.split(".")[:2])
    if (major, minor) < oldest:
        wanted = ".".join(map(str, oldest))
        return Finding("bad", "bus", f"This is {kind} {text}.", f"Use {kind} {wanted} or newer.")
    return Finding("ok", "bus", f"{kind} {text}.")


def _output_limit(setting: str) -> Finding:
    """The hard limit of what waits for a subscriber; 0 is none."""
    words = setting.split()
    hard = int(words[words.index("pubsub") + 1]) if "pubsub" in words else 0
    if 0 < hard < LITTLE_OUTPUT_BYTES:
        return Finding(
            "warn",
            "bus",
            f"A subscriber behind by {hard // 2**20} MiB is cut off, and reads the log instead.",
            "CONFIG SET client-output-buffer-limit 'pubsub 64mb 32mb 10'",
        )
    told = f"{hard // 2**20} MiB" if hard else "no limit"
    return Finding("ok", "bus", f"Output that waits for a subscriber: {told}.")
