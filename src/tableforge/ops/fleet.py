"""A whole fleet on this machine's loopback, for trying it: database, bus, proxy and instances, as production has them.

Everything lies in one folder and is there again the next time. Nothing that dies is started again: what a fleet does then
is what one wants to see.
"""

import contextlib
import errno
import fcntl
import http.client
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tableforge.config import surroundings
from tableforge.config.values import read_span
from tableforge.errors import StartRefused
from tableforge.ops import proxies
from tableforge.ops.programs import find, find_postgres
from tableforge.ops.servers import HaproxyServer, PostgresServer, RedisServer, Server, free_port

LOOPBACK = "127.0.0.1"
DRAIN_SECONDS = 5
"""Grace of an instance that is stopped here, unless the environment says otherwise: a laptop's user waits for it."""
LEAVING_SECONDS = 15.0
"""What an instance may take beside that grace."""
ANSWER_SECONDS = 1.0
FAMILIES = ("DATABASE_", "REDIS_")
"""Settings that would send an instance to another fleet's servers."""


class Load(NamedTuple):
    """What an instance carries, as the registry tells it."""

    connections: int
    rooms: int
    cpu: float
    loop_lag_ms: float


class Standing(NamedTuple):
    """How one process of the fleet does: `state` in few words, `detail` what else there is to say of it.

    `is_well` is whether it does its work.
    """

    name: str
    port: int
    pid: int
    state: str
    is_well: bool
    load: Load | None = None
    detail: str = ""

    @property
    def told(self) -> str:
        """State and detail as a sentence."""
        return f"{self.state}: {self.detail}" if self.detail else self.state


class InstanceServer(Server):
    """One `tableforge serve` of a fleet."""

    def __init__(self, name: str, folder: Path, settings: Mapping[str, str]) -> None:
        super().__init__(folder)
        self.name = name
        self.settings = dict(settings)
        with contextlib.suppress(ValueError):  # the instance itself will refuse it, in better words
            self.stop_seconds = LEAVING_SECONDS + read_span(self.environment()["DRAIN_SECONDS"])

    def environment(self) -> Mapping[str, str]:
        """The caller's settings, with those that make it an instance of this fleet."""
        inherited = {
            name: value
            for name, value in surroundings().items()
            if not name.startswith(FAMILIES) and name.removesuffix("_FILE") not in self.settings
        }
        own = {
            "HOST": LOOPBACK,
            "PORT": str(self.port),
            "INSTANCE_ID": self.name,
            "TABLEFORGE_DATA": str(self.folder / "data"),
            "TRUSTED_PROXIES": LOOPBACK,
        }
        return {"DRAIN_SECONDS": str(DRAIN_SECONDS), **inherited, **self.settings, **own}

    def command(self) -> list[str]:
        """The program that runs here, without what lies in its folder on the import path."""
        return [sys.executable, "-P", "-m", "tableforge", "serve"]

    def answers(self) -> bool:
        """Whether it takes players."""
        return self.ask("/ready")[0] == 200

    def ask(self, path: str, token: str = "") -> tuple[int, Any]:
        """Status and body of a GET; 0 when nobody answers in time."""
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=ANSWER_SECONDS)
        try:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, msgspec.json.decode(answer.read())
        except (OSError, http.client.HTTPException, msgspec.DecodeError):
            return 0, None
        finally:
            connection.close()


class TrialFleet:
    """The parts of a fleet in a folder. `running` starts them in order, and stops them in order."""

    def __init__(
        self, folder: Path, *, instances: int, port: int, strategy: proxies.Strategy
    ) -> None:
        self.folder = folder.absolute()
        self.admin_token = ""
        self.postgres: PostgresServer
        self.valkey: RedisServer
        self.proxy: HaproxyServer
        self.instances: list[InstanceServer] = []
        self.figures = free_port()
        self._count = instances
        self._port = port
        self._strategy = strategy

    @property
    def url(self) -> str:
        """What to open."""
        return f"http://{LOOPBACK}:{self._port}/"

    @contextlib.contextmanager
    def running(self, progress: Callable[[str], None]) -> Iterator[None]:
        """Serve for the length of a block. Raises StartRefused for what is missing, Unavailable for what will not start."""
        if sys.platform != "linux":
            raise StartRefused("A fleet to try runs on Linux alone.")
        (
            find_postgres(),
            find("valkey"),
            find("haproxy"),
        )  # all that is missing, before anything is made
        with ExitStack() as stack:
            self.folder.mkdir(mode=0o711, parents=True, exist_ok=True)
            stack.enter_context(self._locked())
            self._look_at_port()
            self._put_together()
            for server in (self.postgres, self.valkey):
                progress(f"Starting {server.name}")
                stack.callback(server.stop)
                server.start()
            stack.callback(self._stop_proxy, progress)
            with ThreadPoolExecutor(self._count) as together:
                stack.callback(self._stop_instances, progress)
                progress(f"Starting {self._count} instances")
                for started in [together.submit(one.start) for one in self.instances]:
                    started.result()
            progress(f"Starting {self.proxy.name}")
            self.proxy.start()
            yield

    def standings(self) -> list[Standing]:
        """How all of them do now: takes up to some seconds where several do not answer."""
        alive = [one for one in self.instances if one.running]
        loads: dict[str, Load] = {}
        for one in alive:
            status, listed = one.ask("/api/admin/instances", self.admin_token)
            if status == 200:
                loads = {
                    line["id"]: Load(
                        line["connections"], line["rooms"], line["cpu"], line["loop_lag_ms"]
                    )
                    for line in listed["instances"]
                }
                break
        with ThreadPoolExecutor(len(self.instances)) as together:
            instances = list(together.map(lambda one: _instance(one, loads), self.instances))
        return [_service(one) for one in (self.postgres, self.valkey, self.proxy)] + instances

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.folder / "lock").open("wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StartRefused(
                    f"A fleet runs on {self.folder} already.",
                    mend="Stop it first, or take another --folder and --port.",
                ) from None
            yield

    def _look_at_port(self) -> None:
        try:
            socket.create_server((LOOPBACK, self._port)).close()
        except OSError as error:
            is_taken = error.errno == errno.EADDRINUSE
            raise StartRefused(
                "The fleet did not start.",
                f"Another program listens on port {self._port}."
                if is_taken
                else f"Port {self._port} cannot be listened on: {error.strerror}.",
                "Stop it, or choose another --port." if is_taken else "Choose another --port.",
            ) from error

    def _put_together(self) -> None:
        self.admin_token = self._secret("admin-token")
        self.postgres = PostgresServer(
            self.folder / "postgres", password=self._secret("postgres-password")
        )
        self.valkey = RedisServer(self.folder / "valkey", password=secrets.token_urlsafe(24))
        shared = {
            "DATABASE_URL": self.postgres.url,
            "REDIS_URL": self.valkey.url,
            "ADMIN_TOKEN": self.admin_token,
            "LOAD_BALANCER_STRATEGY": self._strategy,
        }
        self.instances = [
            InstanceServer(name, self.folder / name, shared)
            for name in (f"instance-{number}" for number in range(1, self._count + 1))
        ]
        plan = proxies.Plan(
            strategy=self._strategy,
            instances=[
                proxies.Instance(one.name, proxies.Address(LOOPBACK, one.port))
                for one in self.instances
            ],
            listen=proxies.Address(LOOPBACK, self._port),
            figures=proxies.Address(LOOPBACK, self.figures),
        )
        self.proxy = HaproxyServer(
            self.folder / "haproxy", self._port, configuration=proxies.haproxy(plan)
        )

    def _secret(self, name: str) -> str:
        """A secret that is made once and kept in the folder, for this user's eyes."""
        path = self.folder / name
        with contextlib.suppress(FileExistsError):
            made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(made, "w", encoding="ascii") as file:
                file.write(f"{secrets.token_urlsafe(24)}\n")
        return path.read_text("ascii").strip()

    def _stop_instances(self, progress: Callable[[str], None]) -> None:
        progress(
            "Stopping the instances: each sends its players away and finishes what it has in hand"
        )
        with ThreadPoolExecutor(self._count) as together:
            for stopped in [together.submit(one.stop) for one in self.instances]:
                stopped.result()

    def _stop_proxy(self, progress: Callable[[str], None]) -> None:
        progress("Stopping the proxy, the bus and the database")
        self.proxy.stop()


def changes(before: Sequence[Standing], now: Sequence[Standing]) -> list[str]:
    """What a person should hear: each process whose state is another than it was, in a line of its own.

    The first time it is told with its port and its process id, which whoever wants to kill it needs.
    """
    moment = time.strftime("%H:%M:%S")
    was = {one.name: one.told for one in before}
    return [
        f"{moment} {one.name}: {one.told}"
        + ("" if one.name in was else f" (port {one.port}, pid {one.pid})")
        for one in now
        if was.get(one.name) != one.told
    ]


def _ended(server: Server) -> Standing | None:
    code = server.exit_code
    if code is None:
        return None
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    return Standing(
        server.name,
        server.port,
        server.pid,
        f"ended {how}",
        is_well=False,
        detail=f"nothing starts it again; what it said is in {server.log}",
    )


def _service(server: Server) -> Standing:
    ended = _ended(server)
    if ended is not None:
        return ended
    is_well = server.answers()
    state = "up" if is_well else "does not answer"
    return Standing(server.name, server.port, server.pid, state, is_well)


def _instance(server: InstanceServer, loads: Mapping[str, Load]) -> Standing:
    ended = _ended(server)
    if ended is not None:
        return ended
    status, said = server.ask("/ready")
    detail = ""
    if status == 200:
        ill = [f"{name} {how}" for name, how in said.get("bus", {}).items() if how != "ok"]
        state, detail = ("ready, without the bus", ", ".join(ill)) if ill else ("ready", "")
    elif status == 503 and isinstance(said, dict) and said.get("code") == "draining":
        state = "draining"
    elif status == 503 and isinstance(said, dict):
        state, detail = "not ready", str(said.get("detail", ""))
    else:
        state = "does not answer"
    load = loads.get(server.name)
    return Standing(server.name, server.port, server.pid, state, status == 200, load, detail)
