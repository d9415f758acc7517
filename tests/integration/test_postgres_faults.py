"""What PostgreSQL's accidents cost writers: time. Nothing acknowledged is lost, nothing doubled, one order for all.

Servers here wait for the disk. Two instances write to the same rooms all the while, each command sent again with its key
until its outcome is known, as a client does.
"""

import asyncio
import contextlib
import os
import secrets
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

import asyncpg
import pytest

from tableforge.bench.faulty_proxy import FaultyProxy
from tableforge.config import DatabaseKnobs
from tableforge.database import DatabaseUnavailable, Statement
from tableforge.database.migrations import scripts
from tableforge.database.postgres import PostgresDatabase, migrate
from tableforge.errors import StartRefused, TableForgeError
from tableforge.eventlog import (
    Append,
    DuplicateCommand,
    EventLog,
    Facts,
    LogUnavailable,
    Snapshot,
    VersionConflict,
)
from tableforge.eventlog.postgres import PostgresEventLog
from tableforge.ops.servers import PostgresServer

ROOMS = ("harbour", "mill", "salt road")
FACTS = Facts("A room", "private", (), (("ada", "gm"),))
DEADLINE = 60.0
PATIENCE_MS = 20_000.0
NewPostgres = Callable[..., PostgresServer]
COUNT_USERS = Statement("test.count", "SELECT count(*) FROM users")
ADD_USER = Statement("test.add", "INSERT INTO users (id, name, created_ms) VALUES (?, 'n', 0)")
SLEEP = Statement("test.sleep", "SELECT pg_sleep(30)")


class Acknowledged(NamedTuple):
    """Where an event stands, as its writer was told."""

    room: str
    offset: int


def append(log: EventLog, entry: Append) -> "asyncio.Future[TableForgeError | None]":
    """Hand an append over with a `done` that resolves the future."""
    future: asyncio.Future[TableForgeError | None] = asyncio.get_running_loop().create_future()
    entry.done = lambda _, outcome: None if future.done() else future.set_result(outcome)
    log.append_nowait(entry)
    return future


async def until(condition: Callable[[], bool]) -> None:
    """Return once the condition holds."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - what sets it knows nothing of us
            await asyncio.sleep(0.005)


def nothing(entry: Append, outcome: TableForgeError | None) -> None:
    """Takes the place of a `done` that is set later."""


class Instance:
    """One server's log, and what its writers were told."""

    def __init__(self, log: EventLog, acknowledged: dict[bytes, Acknowledged]) -> None:
        self.log = log
        self.acknowledged = acknowledged
        self.refused: list[LogUnavailable] = []
        self.conflicts = 0
        self.unknown_found = 0

    async def command(self, room: str, expected: int, opens: str | None = None) -> int:
        """One command, again and again until its outcome is known; returns where the room then stands."""
        text = secrets.token_hex(8).encode()
        events = (b'{"at":"%s"}' % text,) if opens else (b'{"at":"%s"}' % text, b'{"at":"b"}')
        key = secrets.token_bytes(16)
        while True:
            entry = Append(
                room, expected, 1, events, key, b"d", nothing, FACTS if opens else None, opens
            )
            async with asyncio.timeout(DEADLINE):
                outcome = await append(self.log, entry)
            if outcome is None:
                self.acknowledged[events[0]] = Acknowledged(room, expected + 1)
                return entry.last
            if isinstance(outcome, DuplicateCommand):
                self.unknown_found += 1
                last = outcome.found.offset
                self.acknowledged[events[0]] = Acknowledged(room, last - len(events) + 1)
                return last
            if isinstance(outcome, VersionConflict):
                self.conflicts += 1
                expected = max(outcome.actual, *(row.offset for row in outcome.missed), 0, 0)
            else:
                assert isinstance(outcome, LogUnavailable)
                self.refused.append(outcome)

    async def write(self, room: str) -> None:
        """Commands to one room without end."""
        head = 0
        while True:
            head = await self.command(room, head)


class Fleet:
    """Two instances on one database, busy in the same rooms."""

    def __init__(self, instances: list[Instance]) -> None:
        self.instances = instances
        self.acknowledged = instances[0].acknowledged
        self._writers: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        """Open the rooms and start to write."""
        for room in ROOMS:
            await self.instances[0].command(room, 0, opens=f"epoch-{room}")
        self._writers = [
            asyncio.create_task(instance.write(room))
            for instance in self.instances
            for room in ROOMS
        ]
        await self.go_on()

    async def go_on(self, more: int = 60) -> None:
        """Return once this many further commands were acknowledged."""
        wanted = len(self.acknowledged) + more
        async with asyncio.timeout(DEADLINE):
            while len(self.acknowledged) < wanted:
                for writer in self._writers:
                    if writer.done():
                        writer.result()
                await asyncio.sleep(0.005)

    def was_spared(self) -> None:
        """No writer was refused, or had to find out by itself what had become of a command."""
        assert [instance.refused for instance in self.instances] == [[], []]
        assert [instance.unknown_found for instance in self.instances] == [0, 0]

    async def check(self) -> None:
        """Stop writing; compare what was told with what is there."""
        for writer in self._writers:
            writer.cancel()
        await asyncio.gather(*self._writers, return_exceptions=True)
        log = self.instances[0].log
        async with asyncio.timeout(DEADLINE):
            await asyncio.gather(*(each.log.wait_for_idle() for each in self.instances))
            seen: list[bytes] = []
            for room in ROOMS:
                rows = await log.read(room, after=0, limit=100_000)
                assert [row.offset for row in rows] == list(range(1, len(rows) + 1))
                head = await log.head(room)
                assert head is not None
                assert head.offset == len(rows)
                at = {row.data: row.offset for row in rows}
                seen += [row.data for row in rows if row.data != b'{"at":"b"}']
                for data, where in self.acknowledged.items():
                    if where.room == room:
                        assert at.get(data) == where.offset
        assert len(seen) == len(set(seen)), "a command was carried out twice"
        in_doubt = set(seen) - self.acknowledged.keys()
        assert len(in_doubt) <= len(self._writers), (
            "a writer stopped with more than one command out"
        )


@asynccontextmanager
async def fleet_on(url: str, **knobs: float) -> AsyncIterator[Fleet]:
    """Two instances on one database."""
    acknowledged: dict[bytes, Acknowledged] = {}
    async with AsyncExitStack() as stack:
        instances = []
        for name in ("one", "two"):
            settings = {"pool_min": 1, "connection_timeout_ms": PATIENCE_MS} | knobs
            database = PostgresDatabase(DatabaseKnobs(url=url, **settings), name)  # type: ignore[arg-type]  # numbers all
            await stack.enter_async_context(database)
            log = PostgresEventLog(database, commit_interval=0.002)
            stack.push_async_callback(log.close)
            instances.append(Instance(log, acknowledged))
        fleet = Fleet(instances)
        await fleet.begin()
        yield fleet


async def terminate_all(url: str) -> None:
    """End every session but this one."""
    connection = await asyncpg.connect(url)
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name LIKE 'tableforge/%'"
    )
    await connection.close()


async def restart(server: PostgresServer) -> None:
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(server.start)


async def crash(server: PostgresServer) -> None:
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)


async def crash_of_a_backend(server: PostgresServer) -> None:
    """kill -9 of one session: the server ends all others and recovers."""
    connection = await asyncpg.connect(server.url)
    pid = await connection.fetchval(
        "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'tableforge/%' LIMIT 1"
    )
    with contextlib.suppress(ProcessLookupError, PermissionError):
        await asyncio.to_thread(os.kill, pid, signal.SIGKILL)
    connection.terminate()


async def three_seconds_of_silence(server: PostgresServer) -> None:
    await asyncio.to_thread(server.pause)
    try:
        await asyncio.sleep(3.0)
    finally:
        await asyncio.to_thread(server.resume)


async def all_sessions_ended(server: PostgresServer) -> None:
    for _ in range(5):
        await terminate_all(server.url)
        await asyncio.sleep(0.05)


async def read_only_for_a_while(server: PostgresServer) -> None:
    """As a primary that was demoted, or one behind a failover that is not over."""
    connection = await asyncpg.connect(server.url)
    await connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
    await connection.execute("SELECT pg_reload_conf()")
    await asyncio.sleep(0.5)
    await connection.execute("SET default_transaction_read_only = off")
    await connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
    await connection.execute("SELECT pg_reload_conf()")
    await connection.close()


@pytest.mark.parametrize(
    "fault",
    [
        restart,
        crash,
        crash_of_a_backend,
        three_seconds_of_silence,
        all_sessions_ended,
        read_only_for_a_while,
    ],
    ids=lambda fault: fault.__name__,
)
async def test_el14_an_accident_of_the_server_costs_writers_nothing_but_time(
    new_postgres: NewPostgres, fault: Callable[[PostgresServer], Awaitable[None]]
) -> None:
    server = await asyncio.to_thread(new_postgres)
    async with fleet_on(server.url) as fleet:
        await fault(server)
        await fleet.go_on()
        await fleet.check()
        fleet.was_spared()


async def test_el14_answers_that_are_lost_on_the_way_are_looked_up(
    new_postgres: NewPostgres,
) -> None:
    server = await asyncio.to_thread(new_postgres)
    async with FaultyProxy(server.port) as proxy:
        url = server.url.replace(str(server.port), str(proxy.port))
        async with fleet_on(url) as fleet:
            for _ in range(20):
                proxy.cut()
                await fleet.go_on(5)
            await fleet.check()
            fleet.was_spared()


async def test_el14_a_network_that_swallows_everything_ends_in_a_refusal_that_says_so(
    new_postgres: NewPostgres,
) -> None:
    server = await asyncio.to_thread(new_postgres)
    async with FaultyProxy(server.port) as proxy:
        url = server.url.replace(str(server.port), str(proxy.port))
        async with fleet_on(url, connection_timeout_ms=1_000) as fleet:
            proxy.swallowing = True
            await until(lambda: all(instance.refused for instance in fleet.instances))
            assert "not known" in fleet.instances[0].refused[0].what
            proxy.swallowing = False
            proxy.cut()
            await fleet.go_on()
            await fleet.check()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[PostgresDatabase]:
    knobs = DatabaseKnobs(url=database_url, pool_min=0, pool_max=2, connection_timeout_ms=2_000)
    async with PostgresDatabase(knobs, "one") as database:
        yield database


async def test_db13_reads_are_asked_again_when_their_connection_is_lost(
    database: PostgresDatabase, database_url: str
) -> None:
    for _ in range(5):
        assert await database.read(COUNT_USERS) == [(0,)]
        await terminate_all(database_url)
        assert await database.read(COUNT_USERS) == [(0,)]


async def test_db2_db13_a_lost_change_says_that_its_outcome_is_not_known(
    new_postgres: NewPostgres,
) -> None:
    server = await asyncio.to_thread(new_postgres)
    knobs = DatabaseKnobs(url=server.url, pool_min=0, query_timeout_ms=500)
    repeatable = ADD_USER._replace(
        sql="INSERT INTO users (id, name, created_ms) VALUES (?, 'n', 0) ON CONFLICT DO NOTHING",
        repeatable=True,
    )
    async with PostgresDatabase(knobs, "one") as database:
        await database.write(ADD_USER, "a")
        await asyncio.to_thread(server.pause)
        try:
            with pytest.raises(DatabaseUnavailable, match="not known whether"):
                await database.write(ADD_USER, "b")
            waiting = asyncio.create_task(database.write(repeatable, "c"))
            await asyncio.sleep(0.7)
        finally:
            await asyncio.to_thread(server.resume)
        assert await asyncio.wait_for(waiting, DEADLINE) in (0, 1)
        async with asyncio.timeout(DEADLINE):
            while await database.read(COUNT_USERS) != [(3,)]:  # noqa: ASYNC110 - it happens on the server
                await asyncio.sleep(0.01)


async def test_db12_a_statement_that_takes_too_long_is_ended_by_the_server(
    database_url: str,
) -> None:
    knobs = DatabaseKnobs(url=database_url, pool_min=0, statement_timeout_ms=200)
    async with PostgresDatabase(knobs, "one") as database:
        with pytest.raises(DatabaseUnavailable, match="DB_STATEMENT_TIMEOUT"):
            await asyncio.wait_for(database.read(SLEEP), DEADLINE)
        assert await database.read(COUNT_USERS) == [(0,)]


async def test_db12_a_call_that_finds_every_connection_in_use_ends_in_time(
    database: PostgresDatabase,
) -> None:
    sleeping = [asyncio.create_task(database.read(SLEEP)) for _ in range(2)]
    with pytest.raises(DatabaseUnavailable, match="DB_POOL_MAX"):
        await asyncio.wait_for(database.read(COUNT_USERS), DEADLINE)
    for task in sleeping:
        task.cancel()
    await asyncio.gather(*sleeping, return_exceptions=True)
    assert await database.read(COUNT_USERS) == [(0,)]


async def test_db11_a_database_that_is_not_there_yet_is_waited_for(
    new_postgres: NewPostgres,
) -> None:
    server = await asyncio.to_thread(new_postgres)
    await asyncio.to_thread(server.stop)
    knobs = DatabaseKnobs(url=server.url, pool_min=0, connection_timeout_ms=200)
    async with PostgresDatabase(knobs, "one") as database:
        with pytest.raises(DatabaseUnavailable, match=r"does not answer.*in a moment") as refused:
            await asyncio.wait_for(database.read(COUNT_USERS), DEADLINE)
        assert "[Errno 111] Connection refused" in str(refused.value)
        assert database.trouble is not None
        assert database.trouble.mend.startswith("Look whether PostgreSQL runs")
        await asyncio.to_thread(server.start)
        await asyncio.wait_for(database.started(), DEADLINE)
        assert await database.read(COUNT_USERS) == [(0,)]
        assert (await asyncio.to_thread(lambda: database.trouble)) is None


async def test_db11_what_no_waiting_mends_refuses_the_start(new_postgres: NewPostgres) -> None:
    server = await asyncio.to_thread(new_postgres, durable=False, password="right")
    wrong = server.url.replace("right", "wrong")
    for url, said in (
        (wrong, "refuses this user or password"),
        (server.url_of("nowhere"), "no such database"),
        (f"{server.url}?no_such_setting=1", "cannot be used"),
    ):
        async with PostgresDatabase(DatabaseKnobs(url=url), "one") as database:
            with pytest.raises(StartRefused, match=said) as refused:
                await asyncio.wait_for(database.started(), DEADLINE)
            assert "right" not in str(refused.value)
            assert "wrong" not in str(refused.value)
            with pytest.raises(DatabaseUnavailable):
                await database.read(COUNT_USERS)


async def test_db7_a_newer_database_is_refused_and_left_as_it_is(database_url: str) -> None:
    knobs = DatabaseKnobs(url=database_url, pool_min=0)
    newer = Statement("test.newer", "INSERT INTO schema_form (number, name) VALUES (9999, 'newer')")
    async with PostgresDatabase(knobs, "one") as database:
        await database.write(newer)
    async with PostgresDatabase(knobs, "two") as database:
        with pytest.raises(StartRefused, match="newer TableForge"):
            await asyncio.wait_for(database.started(), DEADLINE)
    connection = await asyncpg.connect(database_url)
    assert await connection.fetchval("SELECT max(number) FROM schema_form") == 9999
    await connection.close()


async def test_db7_a_database_of_somebody_else_is_refused_and_left_as_it_is(
    database_url: str,
) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("CREATE TABLE events (theirs text)")
    async with PostgresDatabase(DatabaseKnobs(url=database_url, pool_min=0), "one") as database:
        with pytest.raises(StartRefused, match=r"not ours.*events.*empty database"):
            await asyncio.wait_for(database.started(), DEADLINE)
    assert await connection.fetchval("SELECT count(*) FROM events") == 0
    await connection.close()


async def test_db10_many_instances_may_start_at_once(database_url: str) -> None:
    knobs = DatabaseKnobs(url=database_url, pool_min=1)
    forms = Statement("test.forms", "SELECT number FROM schema_form ORDER BY number")
    async with AsyncExitStack() as stack:
        databases = [
            await stack.enter_async_context(PostgresDatabase(knobs, f"i{number}"))
            for number in range(5)
        ]
        await asyncio.wait_for(asyncio.gather(*(one.started() for one in databases)), DEADLINE)
        for one in databases:
            rows = await one.read(forms)
            assert [number for (number,) in rows] == [step.number for step in scripts("postgres")]


class Overtaken:
    """A connection on which another instance always migrates right before this one gets the lock."""

    def __init__(self, connection: asyncpg.Connection, other: asyncpg.Connection) -> None:
        self._connection = connection
        self._other = other

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)

    async def fetchval(self, query: str, *params: object) -> object:
        if "pg_try_advisory_xact_lock" not in query:
            return await self._connection.fetchval(query, *params)
        # Parsed before, since parsing has the server take in what other sessions did.
        parsed = await self._connection.prepare(query)
        assert await migrate(self._other)
        return await parsed.fetchval(*params)


async def test_db11_who_is_overtaken_on_the_way_to_the_lock_finds_the_tables_there(
    database_url: str,
) -> None:
    async with AsyncExitStack() as stack:
        mine, other = [await asyncpg.connect(database_url) for _ in range(2)]
        for connection in (mine, other):
            stack.push_async_callback(connection.close)
        assert await migrate(Overtaken(mine, other))  # type: ignore[arg-type]  # all that it does not change is the connection's


async def test_db11_a_role_with_few_rights_serves_what_the_owner_has_migrated(
    postgres: PostgresServer, database_url: str
) -> None:
    role = f"few_rights_{secrets.token_hex(4)}"
    owner = await asyncpg.connect(database_url)
    await owner.execute(f"CREATE ROLE {role} LOGIN")
    url = database_url.replace(f"{postgres.user}@", f"{role}@")
    try:
        async with PostgresDatabase(DatabaseKnobs(url=url, pool_min=0), "one") as database:
            with pytest.raises(StartRefused, match="may not change them"):
                await asyncio.wait_for(database.started(), DEADLINE)
        async with PostgresDatabase(DatabaseKnobs(url=database_url, pool_min=0), "o") as database:
            await asyncio.wait_for(database.started(), DEADLINE)
        await owner.execute(
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role};"
            f"REVOKE INSERT, UPDATE, DELETE ON schema_form FROM {role};"
            f"REVOKE UPDATE, DELETE ON events FROM {role}"
        )
        async with fleet_on(url) as fleet:
            await fleet.check()
            fleet.was_spared()
            log = fleet.instances[0].log
            await log.save_snapshot(ROOMS[0], Snapshot(1, 1, b"{}"))
            await log.delete(ROOMS[0], at="2026-01-01T00:00:00Z")
    finally:
        await owner.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
        await owner.close()
