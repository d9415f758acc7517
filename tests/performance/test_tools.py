"""Each tool runs as docs/benchmarks.md writes it, against a live server with the settings that it has by itself."""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from tableforge.domain.decider import evolve
from tableforge.domain.state import Room
from tableforge.ops.programs import find_postgres
from tableforge.protocol import codec
from tests.performance.programs import PROGRAM
from tests.performance.scripts import FOLDER, ROOM_SIZE, scripts
from tests.server_process import ServerProcess, running

K6 = Path(sys.prefix, "bin", "k6")
LOAD = Path(__file__).with_name("websocket-load.js")
DEADLINE_SECONDS = 120
UNLIMITED = "600000"
"""Milliseconds that a delivery may take where a test is not about how long it takes."""
SAT_DOWN_LATE = "sat down after play had begun"
"""Said on a machine with much else to do: what was moved before, such a player finds in the snapshot and not as an event."""
THRESHOLDS_CROSSED = 99
"""k6's exit code."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server as `make run` starts it, on another port. It may be killed, and is to be started again."""
    with running(tmp_path_factory.mktemp("server")) as started:
        yield started


def k6_command(*arguments: str, server: ServerProcess, folder: Path, **settings: str) -> list[str]:
    """The documented call of k6; what it counts goes to summary.json."""
    settings = {"TABLEFORGE_URL": server.url, **settings}
    given = [part for name, value in settings.items() for part in ("-e", f"{name}={value}")]
    summary = ("--summary-export", str(folder / "summary.json"))
    return [str(K6), "run", str(LOAD), *arguments, *given, "--quiet", *summary]


def environment() -> dict[str, str]:
    """k6 reports its use to its makers unless it is told not to."""
    return {**os.environ, "K6_NO_USAGE_REPORT": "true"}


def called(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a tool to its end."""
    return subprocess.run(
        command,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )


def counted(folder: Path) -> dict[str, Any]:
    """What k6 counted, by the names of its metrics."""
    metrics: dict[str, Any] = json.loads((folder / "summary.json").read_text())["metrics"]
    return metrics


def test_k6_plays_and_counts_every_delivery(server: ServerProcess, tmp_path: Path) -> None:
    # Two rooms of ten, and one of three.
    asked = k6_command(
        *("--vus", "23", "--duration", "4s"),
        server=server,
        folder=tmp_path,
        RATE="5",
        DELIVERY_MS=UNLIMITED,
    )
    done = called(asked)
    assert done.returncode == 0, done.stdout + done.stderr
    found = counted(tmp_path)
    turns, rest = divmod(found["tableforge_moves"]["count"], 23)
    assert turns >= 5
    assert rest == 0
    assert found["tableforge_deliveries"]["count"] == turns * (2 * 10 * 10 + 3 * 3) or (
        SAT_DOWN_LATE in done.stderr
    )
    for name in ("deliveries_missing", "out_of_order", "connection_failures"):
        assert found[f"tableforge_{name}"]["count"] == 0
    assert found["tableforge_errors"]["passes"] == 0
    assert 0 < found["tableforge_delivery"]["med"] <= found["tableforge_delivery"]["p(99)"]


def test_k6_tells_of_a_server_that_was_killed_and_misses_nothing(
    server: ServerProcess, tmp_path: Path
) -> None:
    asked = k6_command(
        *("--vus", "10", "--duration", "5s"), server=server, folder=tmp_path, DELIVERY_MS="0.001"
    )
    with subprocess.Popen(
        asked, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as k6:
        try:
            wait_until(lambda: "\nwebsocket_connections 10.0" in metrics(server))
            server.kill()
            server.start()
            printed, _ = k6.communicate(timeout=DEADLINE_SECONDS)
        finally:
            k6.kill()
    assert k6.returncode == THRESHOLDS_CROSSED, printed
    found = counted(tmp_path)
    assert found["tableforge_connection_failures"]["count"] >= 10
    assert found["tableforge_connection_failures"]["thresholds"] == {"count==0": True}
    assert found["tableforge_delivery"]["thresholds"] == {"p(95)<0.001": True}
    assert found["tableforge_deliveries"]["count"] == 10 * found["tableforge_moves"]["count"] or (
        SAT_DOWN_LATE in printed
    )
    for name in ("deliveries_missing", "out_of_order"):
        assert found[f"tableforge_{name}"]["count"] == 0
    assert found["tableforge_errors"]["passes"] == 0


def metrics(server: ServerProcess) -> str:
    """What Prometheus would read."""
    return httpx.get(f"{server.url}/metrics", timeout=30).text


def wait_until(condition: Callable[[], bool]) -> None:
    """Look again and again, for two minutes at most."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--vus", "10", "--duration", "2s"), "Give a longer --duration."),
        (("--vus", "2", "--iterations", "2"), "This script takes --vus and --duration"),
        (("--vus", "1", "--duration", "9s"), "POST /api/session: dial: connection refused"),
    ],
)
def test_k6_says_what_cannot_be_measured(
    arguments: tuple[str, ...], why: str, tmp_path: Path
) -> None:
    asked = k6_command(*arguments, server=ServerProcess(tmp_path / "server"), folder=tmp_path)
    done = called(asked)
    assert done.returncode not in (0, THRESHOLDS_CROSSED)
    assert why in done.stderr


def test_autocannon_is_answered_by_a_server_with_its_own_limits(server: ServerProcess) -> None:
    flags = ("--renderStatusCodes", "--renderLatencyTable", "--connections", "100")
    address = f"http://localhost:{server.port}/api/rooms"
    done = called([str(PROGRAM), *flags, "--duration", "2", address])
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    codes = dict(re.findall(r"^│ (\d{3}) +│ (\d+) +│$", printed, re.MULTILINE))
    assert codes.keys() == {"200"}
    assert int(codes["200"]) >= 100
    assert "errors" not in printed
    assert re.search(r"^│ 97\.5 +│ [\d.]+ +│$", printed, re.MULTILINE)


def test_what_pgbench_sends_is_what_the_server_sends() -> None:
    written = {path.name: path.read_text() for path in FOLDER.glob("*.sql")}
    del written["remove.sql"]
    assert written == scripts(), "run `make gen` and commit what it writes"


@pytest.fixture
def prepared(database_url: str, tmp_path: Path) -> Iterator[str]:
    """The database of a live server, with the rooms of the scripts in it."""
    token = "the-token-of-this-instance"
    with running(tmp_path / "server", DATABASE_URL=database_url, ADMIN_TOKEN=token):
        psql(database_url, "prepare.sql")
        yield database_url


def psql(url: str, script: str) -> None:
    """Run one of the scripts that are not measured."""
    program = str(find_postgres() / "psql")
    done = called([program, "--set", "ON_ERROR_STOP=1", "--file", str(FOLDER / script), url])
    assert done.returncode == 0, done.stderr


def pgbench(url: str, *arguments: str, scripts: tuple[str, ...]) -> int:
    """The documented call; returns the number of transactions that it tells."""
    files = [part for name in scripts for part in ("-f", str(FOLDER / name))]
    program = str(find_postgres() / "pgbench")
    done = called([program, "-n", "-c", "50", "-j", "2", "-r", *arguments, *files, url])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "number of failed transactions: 0 " in done.stdout
    assert "statement latencies in milliseconds" in done.stdout
    processed = re.search(r"number of transactions actually processed: (\d+)", done.stdout)
    assert processed
    return int(processed[1])


def rows(url: str, question: str) -> list[tuple[Any, ...]]:
    """Ask the database."""

    async def ask() -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(url)
        try:
            return [tuple(row) for row in await connection.fetch(question)]
        finally:
            await connection.close()

    return asyncio.run(ask())


def test_pgbench_appends_reads_and_lists_as_the_server_does(prepared: str) -> None:
    url = prepared
    room = "SELECT seq, version, data FROM events WHERE room = 'pgbench-7' ORDER BY seq"
    state = Room(id="pgbench-7")
    for offset, form, data in rows(url, room):
        state = evolve(state, codec.decode_event(form, data))
        assert state.version == offset
    assert len(state.members) == ROOM_SIZE
    heads = "SELECT sum(head)::int, (SELECT count(*) FROM events) FROM room_heads"
    [(head, count)] = rows(url, heads)
    assert head == count
    appended = 0
    for mode in ("simple", "prepared"):
        for script in ("append-move.sql", "read-tail.sql", "list-rooms.sql", "find-session.sql"):
            done = pgbench(url, "-t", "4", "-M", mode, scripts=(script,))
            assert done == 200
            appended += done if script == "append-move.sql" else 0
    # Each of them was written, in either way of sending.
    assert rows(url, heads) == [(head + appended, count + appended)]
    everything = ("append-move.sql", "read-tail.sql", "list-rooms.sql", "find-session.sql")
    assert pgbench(url, "-T", "1", scripts=everything) > 50
    psql(url, "remove.sql")
    assert rows(url, heads) == [(None, 0)]
