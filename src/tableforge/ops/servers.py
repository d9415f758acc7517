"""Real servers of other makers on loopback, for `tableforge fleet`, the benches and the tests.

Each runs in the foreground as a child, in a folder of its own, and ends with the process that started it, however that
ends. Starting and stopping block for as long as they take, within a bound. Linux only: it is /proc that says which
processes a server has.
"""

import contextlib
import fcntl
import os
import pwd
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import IO
from urllib.parse import quote

from tableforge.config import surroundings
from tableforge.errors import StartRefused, Unavailable
from tableforge.ops import child
from tableforge.ops.programs import find, find_postgres

START_SECONDS = 60.0
STOP_SECONDS = 20.0
ANSWER_SECONDS = 1.0
PAUSE_SECONDS = 0.005
PORTS = range(15_000, 32_000)
"""Below what the kernel gives to clients, whose sockets could otherwise sit on a server's port."""
LOG_TAIL_CHARACTERS = 2_000
SCRATCH_PREFIX = "tableforge-"
SCRATCH_LOCK = "in-use"
UNPRIVILEGED = "nobody"

_FORKS = ThreadPoolExecutor(1, thread_name_prefix="forks")
"""Starts every child: the kernel takes the end of the *thread* that forked for the end of the parent."""


_given: deque[int] = deque(maxlen=1_000)
"""Whoever asks for several ports listens on them only later."""


def free_port() -> int:
    """A loopback port that nobody listens on now, and that was not among the last ones given in this process."""
    while True:
        port = secrets.choice(PORTS)
        if port in _given:
            continue
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            _given.append(port)
            return port


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A short-lived folder under /tmp that other users may pass through; those of dead runs are swept, with what runs there.

    Whether its run lives is told by a lock, which ends with the process: numbers of processes are used again.
    """
    parent = Path(tempfile.gettempdir())
    for folder in parent.glob(f"{SCRATCH_PREFIX}*"):
        with contextlib.suppress(OSError), (folder / SCRATCH_LOCK).open("rb") as lock:
            if folder.stat().st_uid == os.geteuid():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _end_all(_processes_in(folder))
                shutil.rmtree(folder, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=SCRATCH_PREFIX, dir=parent))
    with (folder / SCRATCH_LOCK).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder.chmod(0o711)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


class Server(ABC):
    """One server: what it needs to start and how it is told to stop comes from its kind.

    `folder` holds its files, its `log` too, and `port` is where it listens; both stay the same over a restart.
    """

    name = "server"
    last_signal = signal.SIGKILL
    """What the kernel sends when our process ends without a word."""
    stop_signal = signal.SIGTERM
    stop_seconds = STOP_SECONDS
    """What it may take after its `stop_signal`."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder = folder.absolute()
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The id of its first process. Only while it runs, or until a death was noticed."""
        assert self._process is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended when nobody stopped it: minus the signal's number where it was one. None where it did not."""
        return self._process.poll() if self._process is not None else None

    @property
    def log(self) -> Path:
        """What it prints goes here."""
        return self.folder / "log"

    def start(self) -> None:
        """Start it, and return when it answers. Raises StartRefused without its program, Unavailable when it ends or is silent."""
        if _reply(self.port, b"") is not None:
            raise Unavailable(
                f"{self.name} did not start.",
                f"Another program listens on port {self.port}.",
                "Stop it, or choose another port.",
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        self.prepare()
        with self.log.open("ab") as log:
            self._process = self.run_as_child(self.command(), stdout=log)
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            if not self.running or time.monotonic() > deadline:
                said = self.log.read_text("utf-8", "replace")[-LOG_TAIL_CHARACTERS:]
                self.kill()
                raise Unavailable(f"{self.name} did not start on port {self.port}.", said)
            time.sleep(PAUSE_SECONDS)

    def stop(self) -> int:
        """Stop it as its makers want it to; after a bounded wait, by force. Nothing happens where nothing runs.

        Returns how it ended: its exit code, or minus the signal's number.
        """
        return self._end(self.stop_signal)

    def kill(self) -> None:
        """kill -9 to all of it, as when the machine's power goes."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """SIGSTOP to all of it: connections stay open and nothing answers."""
        _signal_all([self.pid], signal.SIGSTOP)  # first, so that it makes no more children
        _signal_all(self.processes(), signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT to all of it."""
        _signal_all(self.processes(), signal.SIGCONT)

    def processes(self) -> list[int]:
        """The ids of its processes, the first one first."""
        parents = _parents()
        family = [self.pid]
        for one in family:
            family += [pid for pid, parent in parents.items() if parent == one]
        return family

    @abstractmethod
    def command(self) -> list[str]:
        """The program and its arguments."""

    def answers(self) -> bool:
        """Whether it serves."""
        return _reply(self.port, b"") is not None

    def prepare(self) -> None:  # noqa: B027 - some need nothing
        """Write what must be there before a start."""

    def environment(self) -> Mapping[str, str]:
        """The variables it sees: none of ours, which hold secrets."""
        return {"PATH": surroundings().get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}

    def identity(self) -> str:
        """Whom `ops.child` makes of it; empty is whoever we are."""
        return ""

    def run_as_child(
        self, command: list[str], *, stdout: int | IO[bytes] = subprocess.DEVNULL
    ) -> subprocess.Popen[bytes]:
        """Start `command` in the folder: a session of its own, so that Ctrl+C in our terminal reaches only us."""
        return _FORKS.submit(self._start, command, stdout).result()

    def _start(self, command: list[str], stdout: int | IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 - programs that were looked for, without a shell
            _child(self.last_signal, self.identity(), self.folder, command),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            env=dict(self.environment()),
            start_new_session=True,
        )

    def _end(self, how: signal.Signals) -> int:
        process = self._process
        if process is None:
            return 0
        family = self.processes() if process.poll() is None else []
        if family:
            if how == signal.SIGKILL:
                _signal_all(family, how)
            else:
                process.send_signal(how)
                _signal_all(family, signal.SIGCONT)  # a stopped one would never hear it
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(self.stop_seconds)
        # The first process is the last to go where all is well; what outlives it keeps a restart from starting.
        _end_all(family)
        code = process.wait(STOP_SECONDS)
        self._process = None
        return code


class PostgresServer(Server):
    """PostgreSQL, with one superuser. `durable` without waits for the disk is for tests that never look behind a crash.

    Without a password everybody on this machine may connect. `version` is a major version, the preferred one without it;
    `settings` are its own, as postgresql.conf names them.
    """

    name = "PostgreSQL"
    last_signal = signal.SIGQUIT  # it ends its children and stops at once; the next start recovers
    stop_signal = signal.SIGINT  # ends sessions, then stops

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        *,
        durable: bool = True,
        password: str = "",
        version: int | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(folder, port)
        self.durable = durable
        self.user = "tableforge"
        self.password = password
        self.version = version
        self.settings = dict(settings or {})

    @property
    def url(self) -> str:
        """The address of the database `postgres`."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """The address of a database in it."""
        password = f":{quote(self.password, safe='')}" if self.password else ""
        return f"postgresql://{self.user}{password}@127.0.0.1:{self.port}/{database}"

    @property
    def data(self) -> Path:
        """Its data folder."""
        return self.folder / "data"

    def identity(self) -> str:
        """PostgreSQL refuses to be root: it is `nobody`, or, where `nobody` may not read, wears that number in a namespace."""
        if os.geteuid() != 0:
            return ""
        return _not_root(str(find_postgres(self.version) / "postgres"), self.folder)

    def prepare(self) -> None:
        """Make the database files on the first start."""
        if (self.data / "PG_VERSION").exists():
            return
        shutil.rmtree(self.data, ignore_errors=True)  # what an initdb left that was cut off
        if self.identity().startswith("user:"):
            shutil.chown(self.folder, UNPRIVILEGED)
        making = self.folder / "making"
        shutil.rmtree(making, ignore_errors=True)
        secret = self.folder / "password"
        secret.write_text(f"{self.password or self.user}\n", "utf-8")
        if self.identity().startswith("user:"):
            shutil.chown(secret, UNPRIVILEGED)
        secret.chmod(0o600)
        made = self.run_as_child(
            [
                *(str(find_postgres(self.version) / "initdb"), "-D", str(making)),
                *("-U", self.user, "--encoding=UTF8", "--locale=C.UTF-8"),
                *("--pwfile", str(secret), "-A", "scram-sha-256" if self.password else "trust"),
                *(() if self.durable else ("--no-sync",)),
            ],
            stdout=subprocess.PIPE,
        )
        said, _ = made.communicate(timeout=START_SECONDS)
        secret.unlink()
        if made.returncode:
            raise Unavailable(
                "The database's files could not be made.",
                said.decode("utf-8", "replace")[-LOG_TAIL_CHARACTERS:],
            )
        making.rename(self.data)

    def command(self) -> list[str]:
        """In the foreground, on loopback alone, and without files outside of its folder that a kill would leave."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "dynamic_shared_memory_type": "mmap",
            "max_connections": "300",
        }
        if not self.durable:
            settings |= {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
        settings |= self.settings
        options = (part for name, value in settings.items() for part in ("-c", f"{name}={value}"))
        return [str(find_postgres(self.version) / "postgres"), "-D", str(self.data), *options]

    def answers(self) -> bool:
        """Whether it lets in (`R`): while it starts or stops it answers a start-up packet with an error."""
        hello = f"user\0{self.user}\0database\0postgres\0\0".encode()
        packet = struct.pack("!II", 8 + len(hello), 196_608) + hello
        return (_reply(self.port, packet) or b"").startswith(b"R")


class RedisServer(Server):
    """Valkey or Redis, in memory alone. `settings` are its own, as valkey.conf names them."""

    name = "Valkey"

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        *,
        password: str = "",
        replica_of: "RedisServer | None" = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(folder, port)
        self.password = password
        self.replica_of = replica_of
        self.settings = dict(settings or {})
        self._is_configured = False

    @property
    def url(self) -> str:
        """Its address, database 0."""
        return self.url_of(0)

    def url_of(self, database: int) -> str:
        """The address of a database in it."""
        password = f":{quote(self.password, safe='')}@" if self.password else ""
        return f"redis://{password}127.0.0.1:{self.port}/{database}"

    @property
    def configuration(self) -> Path:
        """A file, because arguments can be read by everybody, and because a failover is written into it."""
        return self.folder / "valkey.conf"

    def prepare(self) -> None:
        """Write the configuration once: on a restart it says what a Sentinel wrote into it, who follows whom."""
        if not self._is_configured:
            self._is_configured = True
            self.configuration.unlink(missing_ok=True)
            self.configuration.touch(0o600)
            lines = (f'{name} "{value}"\n' for name, value in self.directives().items())
            self.configuration.write_text("".join(lines), "utf-8")

    def directives(self) -> dict[str, str]:
        """The configuration's lines. The password is also what it shows to the server that it follows."""
        found = {"port": str(self.port), "bind": "127.0.0.1", "save": "", "appendonly": "no"}
        if self.password:
            found |= {"requirepass": self.password, "masterauth": self.password}
        lines = found | self.settings
        if self.replica_of:
            # Without the quotes that the others have: two words.
            lines["replicaof"] = f'127.0.0.1" "{self.replica_of.port}'
        return lines

    def command(self) -> list[str]:
        """In the foreground, as everything here."""
        return [str(find("valkey")), str(self.configuration), "--daemonize", "no"]

    def answers(self) -> bool:
        """Whether it says PONG, or asks for the password."""
        return (_reply(self.port, b"PING\r\n") or b"").startswith((b"+PONG", b"-NOAUTH"))


class SentinelServer(RedisServer):
    """A Sentinel that watches one Valkey, and makes a replica of it the primary after `down_after_ms` of silence."""

    name = "Sentinel"

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        *,
        primary: RedisServer,
        service: str = "tableforge",
        quorum: int = 1,
        down_after_ms: int = 500,
    ) -> None:
        super().__init__(folder, port)
        self.primary = primary
        self.service = service
        self.quorum = quorum
        self.down_after_ms = down_after_ms

    @property
    def url(self) -> str:
        """The address as REDIS_URL takes it, with this Sentinel alone in it."""
        password = f":{quote(self.primary.password, safe='')}@" if self.primary.password else ""
        return f"redis+sentinel://{password}127.0.0.1:{self.port}/{self.service}"

    def directives(self) -> dict[str, str]:
        """Its own lines: the watched primary comes first, the rest is about it."""
        watched = f"sentinel monitor {self.service} 127.0.0.1 {self.primary.port}"
        found = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            watched: str(self.quorum),
            f"sentinel down-after-milliseconds {self.service}": str(self.down_after_ms),
            f"sentinel failover-timeout {self.service}": str(10 * self.down_after_ms),
        }
        if self.primary.password:
            found[f"sentinel auth-pass {self.service}"] = self.primary.password
        return found

    def command(self) -> list[str]:
        """The same program in another role."""
        return [*super().command(), "--sentinel"]


class HaproxyServer(Server):
    """HAProxy with a configuration, whose first listener is on `port`."""

    name = "HAProxy"
    last_signal = signal.SIGTERM

    def __init__(self, folder: Path, port: int | None = None, *, configuration: str) -> None:
        super().__init__(folder, port)
        self.configuration = configuration

    @property
    def url(self) -> str:
        """Where browsers go."""
        return f"http://127.0.0.1:{self.port}"

    def prepare(self) -> None:
        """Write the configuration."""
        (self.folder / "haproxy.cfg").write_text(self.configuration, "utf-8")

    def command(self) -> list[str]:
        """One process in the foreground."""
        return [str(find("haproxy")), "-db", "-f", str(self.folder / "haproxy.cfg")]


class NginxServer(HaproxyServer):
    """nginx with a configuration, whose first listener is on `port`."""

    name = "nginx"

    def prepare(self) -> None:
        """Write the configuration."""
        (self.folder / "nginx.conf").write_text(self.configuration, "utf-8")

    def command(self) -> list[str]:
        """In the foreground, its files in its folder; its workers stay root where we are, or could not enter that folder."""
        directives = f"daemon off; pid {self.folder / 'nginx.pid'};"
        if os.geteuid() == 0:
            directives += " user root;"
        configuration = str(self.folder / "nginx.conf")
        program = [str(find("nginx")), "-p", str(self.folder), "-c", configuration]
        return [*program, "-e", "stderr", "-g", directives]


def _child(
    last_signal: signal.Signals, identity: str, folder: Path, command: list[str]
) -> list[str]:
    """The command line by which `ops.child` becomes `command`."""
    python = [sys.executable, "-I", "-S", child.__file__]
    return [*python, str(os.getpid()), str(int(last_signal)), identity, str(folder), *command]


def _reply(port: int, packet: bytes) -> bytes | None:
    """The first bytes that a loopback server answers to `packet`, or none to none; None when it cannot be reached."""
    try:
        with socket.create_connection(("127.0.0.1", port), ANSWER_SECONDS) as connection:
            connection.settimeout(ANSWER_SECONDS)
            if not packet:
                return b""
            connection.sendall(packet)
            return connection.recv(16)
    except OSError:
        return None


@cache
def _not_root(program: str, folder: Path) -> str:
    """The identity under which `program` can work in `folder`, for a caller who is root."""
    who = pwd.getpwnam(UNPRIVILEGED)
    for kind in ("user", "namespace"):
        identity = f"{kind}:{who.pw_uid}:{who.pw_gid}"
        tried = subprocess.run(  # noqa: S603 - a program that was looked for
            _child(signal.SIGKILL, identity, folder, [program, "--version"]),
            capture_output=True,
            check=False,
            timeout=START_SECONDS,
        )
        if tried.returncode == 0:
            return identity
    raise StartRefused(
        f"{program} refuses to run as root, and cannot run as anybody else.",
        f"The user `{UNPRIVILEGED}` may not read it or {folder}, and this machine has no user namespaces.",
        "Run this as an ordinary user.",
    )


def _parents() -> dict[int, int]:
    """Every living process with its parent; those that only wait to be reaped are dead."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = stat.read_text("utf-8", "replace").rpartition(")")[2].split()[:2]
            if state not in "ZX":
                found[int(stat.parent.name)] = int(parent)
    return found


def _processes_in(folder: Path) -> list[int]:
    """The processes that work in `folder`, or somewhere under it."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if link.readlink().is_relative_to(folder):
                found.append(int(link.parent.name))
    return found


def _signal_all(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _end_all(pids: list[int]) -> None:
    """Return when none of them is left, in a bounded time, without waiting for any that could be ended."""
    deadline = time.monotonic() + STOP_SECONDS
    while (left := _parents().keys() & set(pids)) and time.monotonic() < deadline:
        _signal_all(list(left), signal.SIGKILL)
        time.sleep(PAUSE_SECONDS)
