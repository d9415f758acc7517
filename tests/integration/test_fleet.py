"""`tableforge fleet`: all of it started by one command, told when a part dies, stopped in order, and there again."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
from websockets.sync.client import connect

from tableforge.ops.servers import free_port
from tests.fleet_trial import PATIENCE, Trial
from tests.server_process import lives


def test_a_fleet_tells_what_dies_stops_in_order_and_is_there_again(tmp_path: Path) -> None:
    trial = Trial(tmp_path / "fleet", free_port())
    with trial.running() as process, httpx.Client(base_url=trial.url, timeout=30) as client:
        session = client.post("/api/session", json={"name": "Mara"})
        assert session.status_code == 201
        token = {"authorization": f"Bearer {session.json()['token']}"}
        made = client.post("/api/rooms", json={"name": "The Salt Road"}, headers=token)
        assert made.status_code == 201
        room = made.json()["id"]

        deadline = time.monotonic() + PATIENCE
        known: list[str] = []
        while known != ["instance-1", "instance-2"]:  # as of the heartbeat of whoever answers
            assert time.monotonic() < deadline, known
            known = [str(one["id"]) for one in trial.instances()]

        os.kill(trial.process_of("instance-1"), signal.SIGKILL)
        trial.wait_for("instance-1: ended by SIGKILL", process)
        for _ in range(6):
            assert client.get(f"/api/rooms/{room}", headers=token).status_code == 200
            with connect(f"ws{trial.url[4:]}/ws?room={room}", proxy=None):
                pass  # opened, and closed again
        left = trial.processes()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        assert not any(lives(pid) for pid in left)
        stopped = trial.log.read_text("utf-8")
        assert re.search(
            r"Stopping the instances.*\n.*Stopping the proxy.*\nAll is stopped", stopped
        )

    with trial.running() as process, httpx.Client(base_url=trial.url, timeout=30) as client:
        assert client.get(f"/api/rooms/{room}", headers=token).json()["name"] == "The Salt Road"
        second = subprocess.run(
            [*(sys.executable, "-m", "tableforge", "fleet"), "--folder", str(trial.folder)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert second.returncode == 2
        assert "runs on" in second.stderr
        left = trial.processes()
        process.kill()
        process.wait()
        deadline = time.monotonic() + PATIENCE
        while any(lives(pid) for pid in left):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_port_that_is_taken_is_found_before_anything_is_started(tmp_path: Path) -> None:
    trial = Trial(tmp_path / "fleet", free_port())
    with socket.create_server(("127.0.0.1", 0)) as taken_by_us:
        taken = taken_by_us.getsockname()[1]
        refused = subprocess.run(
            [
                *(sys.executable, "-m", "tableforge", "fleet", "--instances", "1"),
                *("--folder", str(trial.folder)),
            ],
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            check=False,
            env={**os.environ, "DRAIN_SECONDS": "0", "PORT": str(taken)},
        )
    assert refused.returncode == 2
    assert "Starting" not in refused.stdout
    assert f"Another program listens on port {taken}." in refused.stderr
    assert trial.processes() == []


def test_a_fleet_without_its_programs_says_what_to_install(tmp_path: Path) -> None:
    refused = subprocess.run(
        [
            *(sys.executable, "-c"),
            "import importlib.util as u; u.find_spec = lambda name: None\n"
            "from tableforge.cli import main; main(['fleet'])",
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        cwd=tmp_path,
        env={"PATH": "/nowhere"},
    )
    assert refused.returncode == 2
    assert "pip install 'tableforge[fleet]'" in refused.stderr
    assert list(tmp_path.iterdir()) == []
