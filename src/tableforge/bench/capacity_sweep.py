"""The runs behind the capacity model: a sweep of users, room sizes and rates, with some that the fit will not know of.

Each run has fresh servers, since memory is among what is measured: seats, connections, a while at rest, a warm-up, and then
some seconds in which everything is counted that the model prices.
"""

import asyncio
import contextlib
import gc
import http.client
import os
import socket
import struct
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import asyncpg
import uvloop

from tableforge.bench.capacity import Load, Mode, Model, Observed, Spread, made
from tableforge.bench.crowd import Crowd
from tableforge.bench.latency import quantiles
from tableforge.bench.machine import commit, machine
from tableforge.bench.process import (
    MeasuredProcess,
    allow_open_files,
    measured,
    pinned_to,
    two_cores,
)
from tableforge.bench.scaling import serving
from tableforge.bench.tables import lay
from tableforge.bench.websocket import NO_LIMITS, PERSISTENT_TEMPORARY, SPARE_FILES
from tableforge.errors import Unavailable
from tableforge.protocol.rest_client import RestClient

WARM_UP_SECONDS = 1.0
BUSY_PERCENT = 90.0
"""A crowd that takes more of its core measures itself."""
TCP_INFO_BYTES, SENT_AT = 144, 120
"""Of the kernel's `struct tcp_info`: up to `tcpi_segs_in`, and where `tcpi_bytes_acked` stands in it."""
HEADER_BYTES = 20 + 20 + 12
"""IP, TCP, and the time stamps that Linux sends along."""
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
ANSWER_SECONDS = 10.0
STATEMENTS, EVENTS = "db_query_duration_seconds_count{", "room_events_total"
APPENDS = f'{STATEMENTS}statement="log_append'
"""How the lines begin that count a server's statements, the events in its log, and the statements that put them there."""


class Run(NamedTuple):
    """One to be made: `instances` 0 is the embedded mode."""

    users: int
    room_size: int
    rate: float
    instances: int = 0
    together: bool = False
    held_out: bool = False


FULL: Sequence[Run] = (
    Run(100, 4, 0.5),
    Run(100, 10, 10),
    Run(120, 12, 20),
    Run(200, 2, 5),
    Run(300, 6, 1),
    Run(300, 30, 0.5),
    Run(300, 10, 12),
    Run(400, 10, 4),
    Run(600, 4, 2),
    Run(600, 12, 0.25),
    Run(1000, 10, 1),
    Run(1000, 5, 3),
    Run(504, 8, 1.5, held_out=True),
    Run(800, 5, 0.5, held_out=True),
    Run(250, 10, 6, held_out=True),
    Run(120, 6, 15, held_out=True),
)
FULL_FLEET: Sequence[Run] = (
    Run(100, 5, 2, 1),
    Run(400, 10, 1, 1),
    Run(200, 10, 5, 1),
    Run(60, 6, 16, 2),
    Run(200, 2, 4, 2),
    Run(400, 10, 1, 2),
    Run(600, 6, 0.5, 2),
    Run(300, 10, 4, 2),
    Run(300, 6, 4, 2, together=True),
    Run(300, 5, 2, 2, held_out=True),
    Run(400, 8, 2, 2, held_out=True),
)
QUICK: Sequence[Run] = (
    Run(60, 4, 1),
    Run(60, 10, 10),
    Run(120, 2, 4),
    Run(240, 8, 1),
    Run(240, 4, 5),
    Run(150, 6, 3, held_out=True),
)
QUICK_FLEET: Sequence[Run] = (
    Run(60, 6, 4, 1),
    Run(60, 10, 10, 2),
    Run(120, 4, 2, 2),
    Run(120, 6, 4, 2, together=True),
    Run(100, 5, 3, 2, held_out=True),
)


def chosen(*, quick: bool, part: Mode | None) -> list[Run]:
    """The runs of both modes, or of one."""
    embedded, fleet = (QUICK, QUICK_FLEET) if quick else (FULL, FULL_FLEET)
    return [*(embedded if part != "fleet" else ()), *(fleet if part != "embedded" else ())]


class Service(Protocol):
    """A server of another maker; see `ops.servers`."""

    port: int

    @property
    def url(self) -> str:
        """Its address."""
        ...

    def start(self) -> None:
        """Return when it serves."""
        ...

    def stop(self) -> int:
        """End it."""
        ...

    def processes(self) -> list[int]:
        """The ids of its processes."""
        ...


class Makers(NamedTuple):
    """How the services of a fleet are made, in a folder of their own."""

    postgres: Callable[[Path], Service]
    redis: Callable[[Path], Service]


Told = Callable[[str, int, int], None]


def sweep(
    runs: Sequence[Run],
    *,
    seconds: float,
    makers: Makers,
    folder: Path | None,
    command: str,
    told: Told,
) -> Model:
    """Make all runs and fit. Raises Unavailable."""
    allow_open_files(max(run.users for run in runs) + SPARE_FILES)
    parent = folder or (PERSISTENT_TEMPORARY if PERSISTENT_TEMPORARY.is_dir() else None)
    found = []
    with (
        tempfile.TemporaryDirectory(prefix="tableforge-capacity-", dir=parent) as scratch,
        contextlib.ExitStack() as stack,
    ):
        place = Path(scratch)
        described = machine(place)
        described["disk"] = described["disk"].partition(" at ")[0]
        services: tuple[Service, ...] = ()
        for number, run in enumerate(runs):
            told("load runs", number, len(runs))
            if run.instances and not services:
                services = _started(makers, place, stack)
            behind = services if run.instances else ()
            here = place / str(number)
            here.mkdir()
            # One server has a core, and the players the other; several, with their services, lie where the system puts them.
            core, own = (two_cores() or (None, None)) if not run.instances else (None, None)
            with (
                _servers(run, here, behind, core) as servers,
                pinned_to(own),
                asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
            ):
                found.append(runner.run(_observed(run, servers, behind, seconds)))
        told("load runs", len(runs), len(runs))
    return made(found, machine=described, commit=commit(), command=command)


def _started(makers: Makers, place: Path, stack: contextlib.ExitStack) -> tuple[Service, ...]:
    services = (makers.postgres(place / "postgres"), makers.redis(place / "redis"))
    for service in services:
        stack.callback(service.stop)
        service.start()
    return services


@contextlib.contextmanager
def _servers(
    run: Run, folder: Path, services: Sequence[Service], core: int | None
) -> Iterator[list[MeasuredProcess]]:
    if not run.instances:
        settings = {"PORT": "0", "TABLEFORGE_DATA": str(folder / "data"), **NO_LIMITS}
        with measured(
            "tableforge",
            ["serve"],
            folder=folder,
            environment=settings,
            core=core,
            marker="http://",
        ) as server:
            yield [server]
        return
    database, redis = services
    shared = {"DATABASE_URL": database.url, "REDIS_URL": redis.url}
    with serving(folder, run.instances, shared) as servers:
        yield servers


async def _observed(
    run: Run, servers: Sequence[MeasuredProcess], services: Sequence[Service], seconds: float
) -> Observed:
    """Seat everybody, play, and count."""
    before_anybody = _kernel_bytes()
    caller = RestClient(servers[0].address)
    seats = lay(caller, users=run.users, room_size=run.room_size, progress=lambda _: None)
    caller.close()
    addresses = [(one.host, one.port) for one in map(RestClient, (s.address for s in servers))]
    if run.together:
        rooms = {room: number for number, room in enumerate(dict.fromkeys(s.room for s in seats))}
        addresses = [addresses[rooms[seat.room] % len(addresses)] for seat in seats]
    crowd = Crowd(
        addresses,
        seats,
        rate=run.rate,
        warm_up=max(1, round(WARM_UP_SECONDS * run.rate)),
        rounds=max(1, round(seconds * run.rate)),
    )
    await crowd.sit_down()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        await crowd.play(crowd.first)
        before = await Counted.now(crowd, servers, services, ends=False)
        await crowd.play(crowd.total)
        after = await Counted.now(crowd, servers, services, ends=True)
        complete = await crowd.settle()
        memory = sum(server.memory().proportional_bytes for server in servers)
        kernel = _kernel_bytes() - before_anybody
    finally:
        gc.enable()
        gc.unfreeze()
    crowd.leave()
    seen = crowd.seen
    if seen.errors or not complete:
        raise Unavailable(
            "The capacity was not measured.",
            f"{run.users} users in rooms of {run.room_size} at {run.rate:g} a second met errors:"
            f" {seen.first_error or 'some moves never arrived'}.",
            "Stop what else runs on this machine, or measure with --quick.",
        )
    figures = after.since(before)
    crowd_percent = figures.pop("own cpu") / 10_000
    if crowd_percent > BUSY_PERCENT:
        raise Unavailable(
            "The capacity was not measured.",
            f"The players took {crowd_percent:.0f} % of a core: they were measured, not the server.",
            "Stop what else runs on this machine, or measure with --quick.",
        )
    moves = crowd.total - crowd.first
    took = after.at - before.at
    # What rooms remember is of the warm-up as well; rates are those that were reached.
    load = Load(run.users, run.room_size, moves / run.users / took, crowd.total / moves * took)
    touched = 1.0 if run.together else float(min(max(1, run.instances), run.room_size))
    mode: Mode = "fleet" if run.instances else "embedded"
    return Observed(
        load,
        Spread(mode, max(1, run.instances), touched),
        # Both ends of every connection lie on this machine.
        {**figures, "memory": float(memory), "kernel": max(0.0, kernel / 2)},
        run.held_out,
        quantiles(seen.others).p95_ms,
        crowd_percent,
    )


class Counted(NamedTuple):
    """Everything that is counted up, at one moment. What costs the servers something to tell lies outside of two of them."""

    at: float
    counts: dict[str, float]

    @classmethod
    async def now(
        cls,
        crowd: Crowd,
        servers: Sequence[MeasuredProcess],
        services: Sequence[Service],
        *,
        ends: bool,
    ) -> "Counted":
        """Count, at the beginning or the end of something."""
        told = {} if ends else await _told(servers, services)
        at = time.monotonic()
        counts = _seen_from_outside(servers, services)
        counts["network"] = _exchanged(crowd)
        if ends:
            told = await _told(servers, services)
        return cls(at, {**counts, **told})

    def since(self, before: "Counted") -> dict[str, float]:
        """What came to it a second."""
        took = self.at - before.at
        return {name: (count - before.counts[name]) / took for name, count in self.counts.items()}


def _seen_from_outside(
    servers: Sequence[MeasuredProcess], services: Sequence[Service]
) -> dict[str, float]:
    """What the kernel counts."""
    counts = {
        "cpu": sum(server.cpu_seconds() for server in servers) * 1e6,
        "own cpu": time.process_time() * 1e6,
    }
    if services:
        database, redis = services
        counts["database cpu"] = sum(map(_cpu_us, database.processes()))
        counts["redis cpu"] = sum(map(_cpu_us, redis.processes()))
    else:
        counts["written"] = sum(_written(server.pid) for server in servers)
    return counts


async def _told(
    servers: Sequence[MeasuredProcess], services: Sequence[Service]
) -> dict[str, float]:
    """What servers count themselves; of a database what it wrote to its log, which is what must not wait."""
    lines = [line for server in servers for line in _metrics(server.address)]
    told = {
        figure: sum(float(line.split()[-1]) for line in lines if line.startswith(begin))
        for figure, begin in (("commits", APPENDS), ("statements", STATEMENTS), ("rows", EVENTS))
    }
    if services:
        counts = _counts_of_redis(services[1].port)
        told["written"] = await _logged(services[0].url)
        told["redis messages"] = counts["total_commands_processed"]
        told["redis bytes"] = counts["total_net_input_bytes"] + counts["total_net_output_bytes"]
    return told


async def _logged(url: str) -> float:
    """How many bytes a PostgreSQL has written to its write-ahead log since it was made."""
    connection = await asyncpg.connect(url, timeout=ANSWER_SECONDS)
    try:
        return float(await connection.fetchval("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn"))
    finally:
        await connection.close()


def _metrics(address: str) -> list[str]:
    """A server's metrics, a line each."""
    caller = RestClient(address)
    connection = http.client.HTTPConnection(caller.host, caller.port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode().splitlines()
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(
            "The capacity was not measured.",
            f"The server's metrics could not be read: {error!r}.",
            "Stop what else runs on this machine, or measure with --quick.",
        ) from error
    finally:
        connection.close()


def _cpu_us(pid: int) -> float:
    """User and system time of a process that may have ended."""
    try:
        return time.clock_gettime((~pid << 3) | 2) * 1e6
    except OSError:
        return 0.0


def _written(pid: int) -> float:
    """Bytes that a process had written to a disk."""
    try:
        lines = Path(f"/proc/{pid}/io").read_text("ascii").splitlines()
    except OSError:
        return 0.0
    return float(next(line.split()[1] for line in lines if line.startswith("write_bytes")))


def _exchanged(crowd: Crowd) -> float:
    """Bytes that went over the players' connections so far, both ways, with the headers of TCP and IP (tcp(7), TCP_INFO)."""
    total = 0
    for player in crowd.players:
        end = player.transport.get_extra_info("socket") if player.transport is not None else None
        if end is None:
            continue
        told = end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
        sent, got, segments_out, segments_in = struct.unpack_from("=QQII", told, SENT_AT)
        total += sent + got + HEADER_BYTES * (segments_out + segments_in)
    return float(total)


def _kernel_bytes() -> float:
    """What the kernel holds and cannot give up, socket buffers included."""
    info = Path("/proc/meminfo").read_text("ascii").splitlines()
    slabs = next(line for line in info if line.startswith("SUnreclaim:"))
    sockets = next(
        line
        for line in Path("/proc/net/sockstat").read_text("ascii").splitlines()
        if line.startswith("TCP:")
    )
    return float(slabs.split()[1]) * 1024 + float(sockets.split()[-1]) * PAGE_BYTES


def _counts_of_redis(port: int) -> dict[str, float]:
    """The counters of a Redis on loopback that asks for no password (Redis' protocol, an inline command)."""
    with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS) as connection:
        connection.sendall(b"INFO stats\r\n")
        with connection.makefile("rb") as answer:
            size = int(answer.readline()[1:])
            text = answer.read(size).decode()
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: float(value) for name, _, value in pairs if name.startswith("total_") and value}
