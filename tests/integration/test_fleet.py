"""`tableforge fleet`: all of it started by one command, told when a part dies, stopped in order, and there again."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from websockets.sync.client import connect

from tableforge.ops.servers import free_port
from tests.server_process import lives

PATIENCE = 60.0


class Trial:
    """The command as a process, on a folder and a port."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder.with_suffix(".log")
        self.log.touch()
        self._command = [sys.executable, "-m", "tableforge", "fleet", "--instances", "2"]
        self._command += ["--folder", str(folder), "--port", str(port)]

    @contextlib.contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """The command, once it says that the fleet is ready."""
        self.log.write_text("")
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "DRAIN_SECONDS": "0", "DATABASE_URL": "postgresql://no.where/"},
            )
        try:
            self.wait_for("instance-2: ready", process)
            yield process
        finally:
            process.kill()
            process.wait()

    def wait_for(self, text: str, process: subprocess.Popen[bytes]) -> None:
        """Return once it has said this."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.log.read_text("utf-8"):
            assert process.poll() is None, self.log.read_text("utf-8")
            assert time.monotonic() < deadline, self.log.read_text("utf-8")
            time.sleep(0.05)

    def processes(self) -> list[int]:
        """Everything that works in the folder."""
        found = []
        for link in Path("/proc").glob("[0-9]*/cwd"):
            with contextlib.suppress(OSError):
                if link.readlink().is_relative_to(self.folder):
                    found.append(int(link.parent.name))
        return found


def test_a_fleet_tells_what_dies_stops_in_order_and_is_there_again(tmp_path: Path) -> None:
    trial = Trial(tmp_path / "fleet", free_port())
    with trial.running() as process, httpx.Client(base_url=trial.url, timeout=30) as client:
        session = client.post("/api/session", json={"name": "Mara"})
        assert session.status_code == 201
        token = {"authorization": f"Bearer {session.json()['token']}"}
        made = client.post("/api/rooms", json={"name": "The Salt Road"}, headers=token)
        assert made.status_code == 201
        room = made.json()["id"]

        operator = (trial.folder / "admin-token").read_text().strip()
        admin = {"authorization": f"Bearer {operator}"}
        deadline = time.monotonic() + PATIENCE
        known: list[str] = []
        while known != ["instance-1", "instance-2"]:  # as of the heartbeat of whoever answers
            assert time.monotonic() < deadline, known
            listed = client.get("/api/admin/instances", headers=admin).json()["instances"]
            known = [one["id"] for one in listed]

        (victim,) = (
            pid
            for pid in trial.processes()
            if Path(f"/proc/{pid}/cwd").readlink() == trial.folder / "instance-1"
        )
        os.kill(victim, signal.SIGKILL)
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
