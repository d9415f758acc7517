"""Real PostgreSQL and Valkey for tests, started when the first test asks for one.

Shared for the run: `postgres` (waits for no disk) and `redis`. A test's own: `database_url`, `redis_url`. To stop, kill
and pause: `new_postgres(...)`, `new_redis(...)`, which take what the classes take.

Every PostgreSQL that is found can serve: `@pytest.mark.parametrize("database_url", POSTGRES_VERSIONS, indirect=True)`
runs a test on each; POSTGRES_VERSION=15 in the environment makes that version the shared one for a whole run.
"""

import asyncio
import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import pytest

from tableforge.ops.programs import postgres_homes
from tableforge.ops.servers import PostgresServer, RedisServer, Server, scratch

POSTGRES_VERSIONS = tuple(postgres_homes())
"""The major versions of PostgreSQL on this machine, the one that fixtures prefer first."""
REDIS_DATABASES = 1_000

_numbers = itertools.count(1)


def run_sql(url: str, *statements: str) -> None:
    """Run statements, each in a transaction of its own. Also where a browser test has an event loop in this thread."""

    async def run() -> None:
        connection = await asyncpg.connect(url)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    with ThreadPoolExecutor(1) as elsewhere:
        elsewhere.submit(asyncio.run, run()).result()


@pytest.fixture(scope="session")
def services_folder() -> Iterator[Path]:
    """Where this run's servers have their folders; PostgreSQL as `nobody` may pass through it."""
    with scratch() as folder:
        yield folder


@pytest.fixture(scope="session")
def postgres_of(services_folder: Path) -> Iterator[Callable[[int | None], PostgresServer]]:
    """The shared server of a major version, started when first asked for. None is the preferred one."""
    started: dict[int | None, PostgresServer] = {}
    with ExitStack() as stack:

        def started_of(version: int | None) -> PostgresServer:
            version = version or int(os.environ.get("POSTGRES_VERSION", "0")) or None
            if version not in started:
                folder = services_folder / f"shared-postgres-{version or 'preferred'}"
                server = PostgresServer(folder, durable=False, version=version)
                server.start()
                stack.callback(server.kill)
                started[version] = server
            return started[version]

        yield started_of


@pytest.fixture(scope="session")
def postgres(postgres_of: Callable[[int | None], PostgresServer]) -> PostgresServer:
    """The PostgreSQL that tests share. Do not stop or pause it."""
    return postgres_of(None)


@pytest.fixture
def database_url(
    request: pytest.FixtureRequest, postgres_of: Callable[[int | None], PostgresServer]
) -> Iterator[str]:
    """A new, empty database; its parameter is a major version of PostgreSQL."""
    server = postgres_of(getattr(request, "param", None))
    name = f"test_{next(_numbers)}"
    run_sql(server.url, f"CREATE DATABASE {name}")
    try:
        yield server.url_of(name)
    finally:
        run_sql(server.url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def redis(services_folder: Path) -> Iterator[RedisServer]:
    """The Valkey that tests share. Do not stop, pause or flush it."""
    server = RedisServer(services_folder / "redis", settings={"databases": str(REDIS_DATABASES)})
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
def redis_db() -> int:
    """A number that this test alone uses: as a database, and for REDIS_PUB_SUB_DB, since channels know no databases."""
    return next(_numbers) % REDIS_DATABASES


@pytest.fixture
def redis_url(redis: RedisServer, redis_db: int) -> str:
    """A database of this test's own in the shared Valkey, `redis_db`."""
    return redis.url_of(redis_db)


@pytest.fixture
def new_server(services_folder: Path) -> Iterator[Callable[[Server], Server]]:
    """Starts a server for one test, and kills it afterwards."""
    with ExitStack() as stack:

        def start(server: Server) -> Server:
            stack.callback(server.kill)
            server.start()
            return server

        yield start


@pytest.fixture
def new_postgres(
    services_folder: Path, new_server: Callable[[Server], Server]
) -> Callable[..., PostgresServer]:
    """Makes and starts a PostgreSQL of the test's own; `durable=True` unless said otherwise."""

    def make(**options: object) -> PostgresServer:
        server = PostgresServer(services_folder / f"postgres-{next(_numbers)}", **options)  # type: ignore[arg-type]  # what the class takes
        new_server(server)
        return server

    return make


@pytest.fixture
def new_redis(
    services_folder: Path, new_server: Callable[[Server], Server]
) -> Callable[..., RedisServer]:
    """Makes and starts a Valkey of the test's own."""

    def make(**options: object) -> RedisServer:
        server = RedisServer(services_folder / f"redis-{next(_numbers)}", **options)  # type: ignore[arg-type]  # what the class takes
        new_server(server)
        return server

    return make
