"""What an operator reads of an instance whose database is not there, and of one that is drained."""

import json
import time
from pathlib import Path
from typing import Any

import httpx

from tests.server_process import ServerProcess, free_port, running

TOKEN = "0123456789abcdef0123456789abcdef"
DEADLINE = 60.0


def lines(server: ServerProcess, event: str) -> list[dict[str, Any]]:
    """The lines of its log about one thing."""
    said = [json.loads(line) for line in server.output().splitlines() if line.startswith("{")]
    return [line for line in said if line["event"] == event]


def answered(server: ServerProcess) -> str:
    """What `/ready` says of why it does not serve, once it can be asked."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        try:
            answer = httpx.get(f"{server.url}/ready", timeout=10)
        except httpx.HTTPError:
            time.sleep(0.02)
            continue
        assert answer.status_code == 503
        detail = str(answer.json()["detail"])
        if "does not answer" in detail:
            return detail
    raise AssertionError(server.output())


def test_an_instance_says_once_what_it_waits_for(tmp_path: Path) -> None:
    nowhere = f"127.0.0.1:{free_port()}/x"
    server = ServerProcess(
        tmp_path, DATABASE_URL=f"postgresql://me:hidden-word@{nowhere}", ADMIN_TOKEN=TOKEN
    )
    server.start(wait_for_ready=False)
    try:
        detail = answered(server)
    finally:
        server.stop()
    assert detail.startswith("This server is waiting for its database.")
    assert "[Errno 111] Connection refused" in detail
    assert "hidden-word" not in server.output()
    (waiting,) = lines(server, "waiting for the database")
    assert nowhere in waiting["server"]
    assert "[Errno 111] Connection refused" in waiting["why"]
    assert len(lines(server, "draining")) == len(lines(server, "stopped")) == 1


def test_a_server_that_is_stopped_says_so(tmp_path: Path) -> None:
    with running(tmp_path, DRAIN_SECONDS="5") as server:
        server.stop()
        (draining,) = lines(server, "draining")
        assert (draining["connections"], draining["within_seconds"]) == (0, 5)
        assert lines(server, "stopped")
