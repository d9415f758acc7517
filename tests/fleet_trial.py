"""`tableforge fleet` as a process: all of a fleet by one command."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

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

    def instances(self) -> list[dict[str, object]]:
        """The instances as the operator is told of them, by whichever answers."""
        operator = (self.folder / "admin-token").read_text().strip()
        admin = {"authorization": f"Bearer {operator}"}
        answer = httpx.get(f"{self.url}/api/admin/instances", headers=admin, timeout=30)
        listed: list[dict[str, object]] = answer.json()["instances"]
        return listed

    def process_of(self, instance: str) -> int:
        """The process of an instance."""
        (found,) = (
            pid
            for pid in self.processes()
            if Path(f"/proc/{pid}/cwd").readlink() == self.folder / instance
        )
        return found

    def processes(self) -> list[int]:
        """Everything that works in the folder."""
        found = []
        for link in Path("/proc").glob("[0-9]*/cwd"):
            with contextlib.suppress(OSError):
                if link.readlink().is_relative_to(self.folder):
                    found.append(int(link.parent.name))
        return found
