"""A real server in a process of its own, for every test that needs one: started on a free port, stopped by its id."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

START_SECONDS = 60.0
STOP_SECONDS = 60.0


def free_port() -> int:
    """A port that nobody listens on, below the range that the kernel gives to clients."""
    while True:
        port = random.randint(20_000, 31_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def lives(pid: int) -> bool:
    """Whether a process is there and not only waits to be reaped."""
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] not in "ZX"
        )
    except OSError:
        return False


class ServerProcess:
    """`python -m tableforge serve` on a data folder. Settings are given as environment names."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.websocket = f"ws://127.0.0.1:{self.port}/ws"
        self.settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process is not None
        return self._process.pid

    def start(self, *, wait_for_ready: bool = True) -> None:
        """Start it, and wait until it serves."""
        self.folder.mkdir(parents=True, exist_ok=True)
        environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if name in {"PATH", "HOME", "LANG", "TMPDIR"}
            },
            "PORT": str(self.port),
            "TABLEFORGE_DATA": str(self.folder / "data"),
            "LOG_FORMAT": "json",
            **self.settings,
        }
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tableforge", "serve"],
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        if wait_for_ready:
            self.wait_for_ready()

    def wait_for_ready(self) -> None:
        """Return once `/ready` says so; the server's own words if it never does."""
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/ready", timeout=5).status_code == 200:
                    return
            time.sleep(0.02)
        raise AssertionError(f"the server did not start:\n{self.output()}")

    def output(self) -> str:
        """What it printed so far."""
        return (self.folder / "server.log").read_text(errors="replace")

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Stop it as an operator does, and return its exit code."""
        return self._end(signal.SIGTERM)

    def wait_for_end(self) -> int:
        """Return its exit code once it has ended by itself."""
        assert self._process is not None
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the server did not end:\n{self.output()}") from None

    def _end(self, how: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        if process.poll() is None:
            process.send_signal(how)
        try:
            return process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"the server did not stop:\n{self.output()}") from None


@contextlib.contextmanager
def running(folder: Path, **settings: str) -> Iterator[ServerProcess]:
    """A server for the length of a `with` block."""
    server = ServerProcess(folder, **settings)
    try:
        server.start()
        yield server
    finally:
        server.stop()


class Person:
    """Somebody with a session of their own: a token, and REST calls that carry it."""

    def __init__(self, server: ServerProcess, name: str) -> None:
        made = httpx.post(f"{server.url}/api/session", json={"name": name}, timeout=30)
        assert made.status_code == 201, made.text
        self.token: str = made.json()["token"]
        self.id: str = made.json()["user"]["id"]
        self.name = name
        # Nothing is kept alive between calls, so there is nothing to close afterwards.
        self.http = httpx.Client(
            base_url=server.url,
            headers={"authorization": f"Bearer {self.token}"},
            timeout=30,
            limits=httpx.Limits(max_keepalive_connections=0),
        )
        self._commands = 0

    def create_room(self, name: str = "The Salt Road", **more: str) -> tuple[str, str]:
        """A new room; its id and an invite for players."""
        made = self.http.post("/api/rooms", json={"name": name, **more})
        assert made.status_code == 201, made.text
        return made.json()["id"], made.json()["invite"]

    def join(self, room: str, invite: str) -> None:
        """Take a seat."""
        joined = self.http.post(f"/api/rooms/{room}/join", json={"invite": invite})
        assert joined.status_code == 200, joined.text

    def command(self, room: str, type_: str, **body: object) -> httpx.Response:
        """Give a command over REST."""
        self._commands += 1
        command = {"room": room, "id": f"{self.id}-{self._commands}", "type": type_, **body}
        return self.http.post(f"/api/rooms/{room}/commands", json=command)
