"""`--against`: the same work on other makers' servers, in the same run, on the same core.

Rooms of ten, one move fanned out and answered, by the same crowd, with the same payload, at moments drawn the same way.
The adapters are in tests/peers of a checkout: what they need is no part of the product.
"""

import asyncio
import contextlib
import gc
import importlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Final, Protocol, cast

import uvloop

from tableforge.bench.crowd import Crowd, Player
from tableforge.bench.latency import Quantiles, quantiles
from tableforge.bench.process import (
    MeasuredProcess,
    allow_open_files,
    measured,
    pinned_to,
    two_cores,
)
from tableforge.bench.tables import Seat, lay
from tableforge.bench.websocket import NO_LIMITS, PERSISTENT_TEMPORARY, SPARE_FILES
from tableforge.errors import Malformed, Unavailable
from tableforge.protocol.rest_client import RestClient

ADAPTERS: Final = "tests.peers"
ALL: Final = "all"
OURS: Final = "tableforge"
PROMISES: Final = ("durability", "recovery", "redaction", "order", "idempotency")
"""What the table says of everybody, by these names."""

KEPT_UP: Final = 0.95
"""Whoever delivers less than this share of what was due has reached its end."""
BUSY_PERCENT: Final = 90.0
"""Of a core: who takes more is what the rate was limited by."""
IN_TIME_MS: Final = 10.0
LATE_MS: Final = 5.0
"""A crowd whose sending is later than this at p99 measures itself: half of the 10 ms that a delivery may take."""
ARRIVAL_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long and how often: each of `rates` (moves a second of all together) for `seconds`, until one is too many."""

    users: int = 1000
    room_size: int = 10
    seconds: float = 2.0
    warm_up_seconds: float = 1.0
    rates: tuple[float, ...] = (1000, 2000, 4000, 6000, 8000, 10_000, 12_000, 14_000, 17_000)
    rounds: int = 3


QUICK: Final = Plan(users=200, seconds=1.0, rates=(1000, 4000, 8000, 12_000, 16_000), rounds=1)


@dataclass(frozen=True, slots=True)
class Served:
    """A server that runs: where, in which processes, who sits where, and who speaks its protocol."""

    addresses: Sequence[tuple[str, int]]
    processes: Sequence[MeasuredProcess]
    seats: Callable[[int, int], list[Seat]]
    """Takes the number of users and the size of a room."""
    player: Callable[[Crowd, Seat, tuple[str, int]], Player] = Player

    def cpu_seconds(self) -> float:
        """What all its processes took so far."""
        return sum(process.cpu_seconds() for process in self.processes)

    def memory_bytes(self) -> int:
        """The most that ever lay in memory."""
        return sum(process.memory().peak_bytes for process in self.processes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """Somebody who does the work. `serve` takes a folder and a core; `gives` has words for each of PROMISES."""

    name: str
    title: str
    gives: Mapping[str, str]
    versions: Callable[[], str]
    serve: Callable[[Path, int | None], AbstractContextManager[Served]]


@dataclass(frozen=True, slots=True)
class Appends:
    """Durable appends by a database alone. The processor's time is that of the database, its client's included where they
    are one process."""

    how: str
    rows_per_second: float
    latency: Quantiles
    cpu_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """A database alone. `append` takes a folder on the disk to measure, and a core."""

    name: str
    title: str
    versions: Callable[[], str]
    append: Callable[[Path, int | None], Sequence[Appends]]


class Adapters(Protocol):
    """What tests/peers has."""

    PEERS: Sequence[Contender]
    GROUNDS: Sequence[Ground]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One rate for some seconds. Latency is that of the other members, from when the move was due."""

    due_per_second: float
    delivered_per_second: float
    latency: Quantiles
    lateness: Quantiles
    cpu_us: float
    """The server's, for each delivery, the mover's own included."""
    server_percent: float
    crowd_percent: float
    crowd_waited_percent: float
    """Of the time, while other programs had its core."""
    missing: int
    out_of_order: int
    errors: int
    first_error: str

    @property
    def kept_up(self) -> bool:
        """Whether what was due was delivered."""
        return not self.missing and self.delivered_per_second >= KEPT_UP * self.due_per_second

    @property
    def limit(self) -> str:
        """Who was at the end of their strength: "load side", busy or late as every bench has it, "server", or nobody."""
        if not self.timely:
            return "load side"
        return "server" if self.server_percent > BUSY_PERCENT else ""

    @property
    def in_time(self) -> bool:
        """Whether what was due was delivered, and nearly all of it at once."""
        return self.kept_up and self.latency.p95_ms < IN_TIME_MS

    @property
    def timely(self) -> bool:
        """Whether the figures are the server's, and not those of who measured it."""
        return self.crowd_percent <= BUSY_PERCENT and self.lateness.p99_ms <= LATE_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Everything that was found of one of them: the steps of each round, by rising rate."""

    name: str
    title: str
    versions: str
    gives: Mapping[str, str]
    rounds: tuple[tuple[Step, ...], ...]
    memory_bytes: int

    def cpu_us(self, at: int = 0) -> float:
        """The processor's time of a delivery at one of the rates, the round in the middle."""
        return median(steps[at].cpu_us for steps in self.rounds)

    def calm(self) -> Step:
        """The round in the middle, by p95, at the lowest rate."""
        return sorted((steps[0] for steps in self.rounds), key=lambda step: step.latency.p95_ms)[
            len(self.rounds) // 2
        ]

    def ends(self) -> list[Step]:
        """Where it delivered most, in each round."""
        return [max(steps, key=lambda step: step.delivered_per_second) for steps in self.rounds]

    def most(self) -> float:
        """Deliveries a second at the most, the round in the middle, whoever was the limit."""
        return median(step.delivered_per_second for step in self.ends())

    def in_time(self) -> float:
        """Deliveries a second at the highest rate with a p95 below 10 ms, the round in the middle; 0 where there was none."""
        return median(
            max((one.delivered_per_second for one in steps if one.in_time), default=0.0)
            for steps in self.rounds
        )

    def limits(self) -> set[str]:
        """Who was the limit where it delivered most; empty names for nobody."""
        return {step.limit for step in self.ends()}

    def saturation(self) -> float | None:
        """The same where the server was the limit in each round, else None."""
        return self.most() if self.limits() == {"server"} else None


@dataclass(frozen=True, slots=True)
class Grounded:
    """A database alone, and what it did."""

    name: str
    title: str
    versions: str
    appends: tuple[Appends, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """All of them, ours first."""

    plan: Plan
    cores: str
    standings: tuple[Standing, ...]
    grounds: tuple[Grounded, ...]

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def adapters() -> Adapters:
    """What can be measured against; raises Unavailable outside of a checkout."""
    root = Path(__file__).resolve().parents[3]
    if not (root / "tests" / "peers" / "__init__.py").is_file():
        raise Unavailable(
            "Nothing was measured against other servers.",
            "Their adapters are in tests/peers of the sources, which an installed package does not have.",
            "In a checkout run `make setup peers`, and then `.venv/bin/tableforge bench`.",
        )
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    return cast("Adapters", importlib.import_module(ADAPTERS))


def chosen(names: Sequence[str], found: Adapters) -> tuple[list[Contender], list[Ground]]:
    """Those with these names, or all; raises Malformed for a name that nobody has."""
    known = [*(one.name for one in found.PEERS), *(one.name for one in found.GROUNDS)]
    wanted = known if ALL in names else names
    strange = sorted(set(wanted) - set(known))
    if strange:
        raise Malformed(
            "Nothing was measured against other servers.",
            f"There is no peer {', '.join(strange)}.",
            f"Name some of {', '.join(known)}, or {ALL}.",
        )
    return (
        [one for one in found.PEERS if one.name in wanted],
        [one for one in found.GROUNDS if one.name in wanted],
    )


def check(names: Sequence[str]) -> None:
    """Raises Malformed for a name that nobody has, Unavailable when one of the named is not installed."""
    peers, grounds = chosen(names, adapters())
    for told in [*(peer.versions for peer in peers), *(ground.versions for ground in grounds)]:
        told()


def run(names: Sequence[str], plan: Plan, *, progress: Callable[[str], None]) -> Found:
    """Measure ours and the named ones in turn, `plan.rounds` times.

    Raises Unavailable when one does not start or is not installed, Malformed for an unknown name.
    """
    peers, grounds = chosen(names, adapters())
    versions = {peer.name: peer.versions() for peer in peers}
    allow_open_files(2 * plan.users + SPARE_FILES)
    cores = two_cores()
    server_core, own_core = cores or (None, None)
    parent = PERSISTENT_TEMPORARY if PERSISTENT_TEMPORARY.is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="tableforge-peers-", dir=parent))
    contenders = [ours(), *peers]
    rounds: dict[str, list[tuple[Step, ...]]] = {one.name: [] for one in contenders}
    memory = dict.fromkeys(rounds, 0)
    try:
        with pinned_to(own_core), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            for number in range(plan.rounds):
                for one in contenders:
                    say = partial(_said, progress, f"{one.title}, round {number + 1}: ")
                    own = folder / f"{one.name}-{number}"
                    own.mkdir()
                    with one.serve(own, server_core) as served:
                        seats = served.seats(plan.users, plan.room_size)
                        steps = runner.run(climb(plan, served, seats, say))
                        memory[one.name] = max(memory[one.name], served.memory_bytes())
                    rounds[one.name].append(steps)
                    shutil.rmtree(own)
            found = []
            for ground in grounds:
                progress(f"{ground.title} alone ...")
                appends = tuple(ground.append(folder, server_core))
                found.append(Grounded(ground.name, ground.title, ground.versions(), appends))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Found(
        plan=plan,
        cores="one for the server, one for the crowd" if cores else "one for both",
        standings=tuple(
            Standing(
                name=one.name,
                title=one.title,
                versions=versions.get(one.name, "") or one.versions(),
                gives=one.gives,
                rounds=tuple(rounds[one.name]),
                memory_bytes=memory[one.name],
            )
            for one in contenders
        ),
        grounds=tuple(found),
    )


def _said(progress: Callable[[str], None], prefix: str, words: str) -> None:
    progress(prefix + words)


async def climb(
    plan: Plan, served: Served, seats: Sequence[Seat], say: Callable[[str], None]
) -> tuple[Step, ...]:
    """A warm-up, then rate after rate until one is more than can be delivered; raises Unavailable when nobody can sit down."""
    each = plan.rates[0] / plan.users
    crowd = Crowd(
        served.addresses,
        seats,
        rate=each,
        warm_up=0,
        rounds=max(1, round(each * plan.warm_up_seconds)),
        make=served.player,
    )
    await crowd.sit_down()
    await step(crowd, served, plan.rates[0], plan.room_size)
    steps: list[Step] = []
    for rate in plan.rates:
        each = rate / plan.users
        crowd.again(rate=each, warm_up=0, rounds=max(1, round(each * plan.seconds)))
        found = await step(crowd, served, rate, plan.room_size)
        say(
            f"{found.delivered_per_second:.0f} deliveries a second, p95 {found.latency.p95_ms:.1f} ms,"
            f" {found.cpu_us:.1f} us CPU each; server {found.server_percent:.0f} % of a core,"
            f" load side {found.crowd_percent:.0f} %, and {found.crowd_waited_percent:.0f} % held up"
        )
        steps.append(found)
        if not found.kept_up:
            break
    crowd.leave()
    return tuple(steps)


async def step(crowd: Crowd, served: Served, rate: float, room_size: int) -> Step:
    """Make all the moves that the crowd was last asked for, and wait for what comes of them."""
    with _uncollected():
        cpu, own, waited = served.cpu_seconds(), time.process_time(), _waited_seconds()
        await crowd.play(crowd.total)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ARRIVAL_SECONDS):
                await crowd.settle()
        took = time.monotonic() - crowd.due(0)
        cpu, own = served.cpu_seconds() - cpu, time.process_time() - own
        waited = _waited_seconds() - waited
    seen = crowd.seen
    return Step(
        due_per_second=rate * room_size,
        delivered_per_second=seen.delivered / took,
        latency=quantiles(seen.others),
        lateness=quantiles(seen.lateness),
        cpu_us=cpu * 1_000_000 / max(1, seen.delivered),
        server_percent=100 * cpu / took,
        crowd_percent=100 * own / took,
        crowd_waited_percent=100 * waited / took,
        missing=crowd.total * room_size - seen.delivered,
        out_of_order=seen.out_of_order,
        errors=seen.errors,
        first_error=seen.first_error,
    )


def _waited_seconds() -> float:
    """How long this process was ready to run and did not, as the kernel counts it."""
    return int(Path("/proc/self/schedstat").read_text("ascii").split()[1]) / 1e9


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """The crowd's garbage is left lying while the clock runs."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def ours() -> Contender:
    """What is measured against the others."""
    return Contender(
        name=OURS,
        title="TableForge",
        versions=lambda: (
            f"tableforge {version('tableforge')}, uvicorn {version('uvicorn')},"
            f" uvloop {version('uvloop')}"
        ),
        gives={
            "durability": "a move is on disk before anybody hears of it",
            "recovery": "what was missed is told, also after a restart of the server",
            "redaction": "each role and player is sent what they may see",
            "order": "one order a room, numbered, the same for all",
            "idempotency": "a command sent again under its id is carried out once",
        },
        serve=_serve_ours,
    )


@contextlib.contextmanager
def _serve_ours(folder: Path, core: int | None) -> Iterator[Served]:
    settings = {"PORT": "0", "TABLEFORGE_DATA": str(folder / "data"), **NO_LIMITS}
    with measured(
        "tableforge",
        ["serve"],
        folder=folder,
        environment=settings,
        core=core,
        marker="http://",
    ) as server:
        caller = RestClient(server.address)

        def seats(users: int, room_size: int) -> list[Seat]:
            return lay(caller, users=users, room_size=room_size, progress=lambda number: None)

        try:
            yield Served([(caller.host, caller.port)], [server], seats)
        finally:
            caller.close()
