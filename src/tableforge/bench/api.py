"""`tableforge bench api`: the list of rooms over HTTP, from memory and anew each time, beside FastAPI with the same query.

Both servers run on one core and are asked in turn by the same callers on the other, so that what the machine does besides
concerns both.
"""

import asyncio
import gc
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import uvloop

from tableforge.bench.callers import Callers, Heard
from tableforge.bench.document import Axis, Kpi, Plot, Sample, Section, Series, Table, Target
from tableforge.bench.latency import Quantiles, distribution, middle, quantiles
from tableforge.bench.machine import commit, machine
from tableforge.bench.process import (
    MeasuredProcess,
    allow_open_files,
    measured,
    pinned_to,
    two_cores,
)
from tableforge.bench.targets import API_P95
from tableforge.bench.websocket import (
    NO_LIMITS,
    NOT_PROFILED,
    PERSISTENT_TEMPORARY,
    SPARE_FILES,
)
from tableforge.config import without_secrets
from tableforge.errors import Unavailable
from tableforge.protocol.rest_client import RestClient

OURS: Final = "TableForge"
PEER: Final = "FastAPI"
DATABASE: Final = "tableforge.sqlite3"
PEER_PACKAGE: Final = "fastapi"
PEER_MISSING: Final = "FastAPI is not installed. Install it beside TableForge: pip install fastapi, and measure again."

Kind = Literal["cached", "uncached"]
KINDS: Final[tuple[Kind, ...]] = ("cached", "uncached")
CONNECTIONS: Final = 100
ANOTHER_LOAD: Final = "it is for 100 connections"
PACE: Final = 0.6
"""Which part of what a server gives at most is asked for where latency is measured from due moments."""
STRIDE: Final = 3
LIMITS: Final = range(36, 66)
"""Page sizes of the lists that are asked for anew, about the default of 50, at every third room as a place to begin."""
COMPARED: Final = 25
NOT_MEASURED: Final = "The servers were not compared."
ALIKE: Final = "Bring the query of tableforge.bench.fastapi_rooms in line with that of the log."
WARM_SECONDS: Final = 0.4
BUSY: Final = 90.0
"""Percent of a core from which on the callers may have been what was slow."""

P95_CACHED: Final = Target("API p95, list from memory", "<", 20, "ms", "api", own=True)
P95_UNCACHED: Final = Target("API p95, list read anew", "<", 50, "ms", "api", own=True)
TIMES_CACHED: Final = Target(
    "API throughput, list from memory, times FastAPI's", ">", 2.5, "", "api", own=True
)
TIMES_UNCACHED: Final = Target(
    "API throughput, list read anew, times FastAPI's", ">", 1.4, "", "api", own=True
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do. `seconds` of each round and way of asking; `settings` are the server's, over those without limits."""

    connections: int = CONNECTIONS
    seconds: float = 2.0
    rounds: int = 3
    rooms: int = 10_000
    folder: Path | None = None
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def command(self) -> str:
        """The command that repeats it."""
        parts = ["tableforge bench api", f"--connections {self.connections}"]
        parts += [f"--seconds {self.seconds:g}", f"--rounds {self.rounds}", f"--rooms {self.rooms}"]
        parts += [f"--folder {self.folder}"] if self.folder else []
        shown = without_secrets(self.settings)
        parts += [f"--set {name}={value}" for name, value in shown.items()]
        return " ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One server asked in one way: as fast as it answers (`rate` 0), or at a rate, latency from when each was due."""

    server: str
    kind: Kind
    rate: float
    seconds: float
    answers: int
    errors: int
    first_error: str
    latency: Quantiles
    curve: tuple[tuple[float, float], ...]
    lateness: Quantiles
    server_cpu_us: float
    server_percent: float
    callers_percent: float

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return self.answers / self.seconds

    @property
    def invalid(self) -> str:
        """Why it says nothing about the server; empty if it does."""
        if self.callers_percent > BUSY:
            return f"the callers took {self.callers_percent:.0f} % of a core"
        limit = API_P95.limit / 2
        if self.rate and self.lateness.p99_ms > limit:
            return f"1 in 100 requests left more than {limit:g} ms after its time"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A run with everything that is needed to read it. `hit_ratio` is the server's own count for its list of rooms."""

    plan: Plan
    commit: str
    machine: Mapping[str, str]
    cores: str
    peer: str
    """The peer's version; empty where it is not installed."""
    rounds: tuple[Round, ...]
    hit_ratio: Mapping[str, float]
    memory_bytes: Mapping[str, int]

    def of(self, server: str, kind: Kind, *, paced: bool = False) -> list[Round]:
        """The rounds of one kind."""
        return [
            one
            for one in self.rounds
            if (one.server, one.kind, one.rate > 0) == (server, kind, paced)
        ]

    @property
    def errors(self) -> int:
        """Of our own server."""
        return sum(one.errors for one in self.rounds if one.server == OURS)

    @property
    def invalid(self) -> str:
        """Why its figures must not be published."""
        return next((one.invalid for one in self.rounds if one.invalid), "")

    @property
    def broken(self) -> tuple[str, ...]:
        """What must not be at any speed."""
        first = next(
            (one.first_error for one in self.rounds if one.server == OURS and one.errors), ""
        )
        return (f"{self.errors} requests had no good answer; the first: {first}",) * bool(
            self.errors
        )

    def as_json(self) -> dict[str, Any]:
        """The report as plain values."""
        plain: dict[str, Any] = asdict(self)
        plain["plan"]["folder"] = str(self.plan.folder or "")
        plain["plan"]["settings"] = without_secrets(self.plan.settings)
        return {"bench": "api", **plain, "failed": bool(self.broken)}

    # What it says

    def kpis(self) -> Iterator[Kpi]:
        """Every target with the median of the rounds."""
        command, invalid = self.plan.command, self.invalid
        p95 = {kind: middle([one.latency.p95_ms for one in self.of(OURS, kind)]) for kind in KINDS}
        unusual = "" if self.plan.connections == CONNECTIONS else ANOTHER_LOAD
        for target, value in (
            # The contract names the bare address, as load tools ask for it.
            (API_P95, p95["cached"]),
            (P95_CACHED, p95["cached"]),
            (P95_UNCACHED, p95["uncached"]),
        ):
            why = invalid or unusual
            yield target.judged(None if why else value, command, why)
        for target, kind in ((TIMES_CACHED, KINDS[0]), (TIMES_UNCACHED, KINDS[1])):
            why = invalid or ("" if self.peer else PEER_MISSING)
            yield target.judged(None if why else self.times(kind), command, why)

    def times(self, kind: Kind) -> float:
        """Our throughput over the peer's: the median of the rounds' quotients."""
        pairs = zip(self.of(OURS, kind), self.of(PEER, kind), strict=True)
        return middle([ours.per_second / peer.per_second for ours, peer in pairs])

    def samples(self) -> Iterator[Sample]:
        """What a comparison looks at."""
        for kind in KINDS:
            flat, paced = self.of(OURS, kind), self.of(OURS, kind, paced=True)
            rates = tuple(one.per_second for one in flat)
            yield Sample(f"api.{kind}_requests_per_second", "1/s", "higher", rates)
            p95 = tuple(one.latency.p95_ms for one in flat)
            yield Sample(f"api.{kind}_p95", "ms", "lower", p95)
            due = tuple(one.latency.p95_ms for one in paced)
            yield Sample(f"api.{kind}_paced_p95", "ms", "lower", due)
            cpu = tuple(one.server_cpu_us for one in flat)
            yield Sample(f"api.{kind}_cpu", "us", "lower", cpu)

    def plots(self) -> Iterator[Plot]:
        """Throughput of both, and latency as a curve."""
        names = [(server, kind) for kind in KINDS for server in self.servers]
        yield Plot(
            name="api.throughput",
            title=f"Lists of rooms a second, {self.plan.connections} connections, one core",
            kind="bars",
            x=Axis("server and list", ""),
            y=Axis("answers", "1/s"),
            series=(
                Series(
                    "answers a second",
                    tuple(
                        (place, middle([one.per_second for one in self.of(*name)]))
                        for place, name in enumerate(names)
                    ),
                ),
            ),
            labels=tuple(f"{server}, {kind}" for server, kind in names),
        )
        yield Plot(
            name="api.latency",
            title="Latency from when a request was due",
            kind="line",
            x=Axis("1 / (1 - quantile)", "", log=True),
            y=Axis("latency", "ms", log=True),
            series=tuple(
                Series(
                    f"{server}, {kind}, {middle([one.rate for one in rounds]):.0f}/s",
                    median_round(rounds).curve,
                    "measured" if server == OURS else "peer",
                )
                for server, kind in names
                if (rounds := self.of(server, kind, paced=True))
            ),
            note=f"Each is asked for {PACE:.0%} of what it gives at most.",
        )

    @property
    def servers(self) -> tuple[str, ...]:
        """Those that were measured."""
        return (OURS, PEER) if self.peer else (OURS,)

    def table(self) -> Table:
        """A line for each server and way of asking."""
        columns = ("server", "list", "asked", "answers/s", "min-max", "p50 ms", "p95", "p99")
        more = ("p99.9", "max", "CPU us", "server %", "callers %", "errors")
        return Table(
            f"{self.plan.connections} connections, {self.plan.rounds} rounds of"
            f" {self.plan.seconds:g} s; the medians",
            columns + more,
            tuple(
                _row(rounds)
                for kind in KINDS
                for server in self.servers
                for paced in (False, True)
                if (rounds := self.of(server, kind, paced=paced))
            ),
        )

    def notes(self) -> Iterator[str]:
        """What the figures must be read with."""
        for kind in KINDS:
            yield (
                f"{kind}: {self.hit_ratio[kind]:.1%} of the lists came from the server's memory,"
                " by its own count."
            )
        yield (
            "As fast as answered: each connection asks again once it has its answer; the p95 of the targets is this one."
            " At a rate: latency counts from when the request was due."
        )
        if self.peer:
            yield (
                f"FastAPI {self.peer} on uvicorn with its defaults but no log of requests, SQLite in threads as its manual"
                " has it; its answers were compared with ours. It has no sessions, no cache, no safety headers, no metrics."
            )
        else:
            yield PEER_MISSING
        for server, size in self.memory_bytes.items():
            yield f"{server}: {size / 2**20:.0f} MiB resident at most."

    def section(self) -> Section:
        """All of it in the shape of the one report."""
        return Section(
            bench="api",
            title="The list of rooms over HTTP",
            command=self.plan.command,
            settings=dict(without_secrets(self.plan.settings)),
            kpis=tuple(self.kpis()),
            samples=tuple(self.samples()),
            plots=tuple(self.plots()),
            tables=(self.table(),),
            notes=tuple(self.notes()),
            figures={
                "rounds": [asdict(one) for one in self.rounds],
                "hit_ratio": dict(self.hit_ratio),
                "memory_bytes": dict(self.memory_bytes),
            },
            invalid=self.invalid,
            broken=self.broken,
        )

    def text(self) -> str:
        """The report as a person reads it."""
        table = self.table()
        rows = [table.columns, *table.rows]
        widths = [max(len(row[at]) for row in rows) for at in range(len(table.columns))]
        lines = [
            self.plan.command,
            f"commit {self.commit}; {self.machine['processor']}; {self.cores}",
            "",
            table.title,
        ]
        for row in rows:
            cells = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            lines.append("  " + "  ".join(cells))
        lines += ["", *self.notes(), ""]
        for kpi in self.kpis():
            lines.append(f"  {kpi.name:54}{kpi.measured:>12}  {kpi.target:10} {kpi.verdict}")
        if self.invalid:
            lines.append(f"Not to be published: {self.invalid}.")
        return "\n".join(lines)


def median_round(rounds: Sequence[Round]) -> Round:
    """The one in the middle by its p95."""
    return sorted(rounds, key=lambda one: one.latency.p95_ms)[len(rounds) // 2]


def _row(rounds: Sequence[Round]) -> tuple[str, ...]:
    rates = [one.per_second for one in rounds]

    def at(read: Callable[[Round], float], form: str = ".2f") -> str:
        return format(middle([read(one) for one in rounds]), form)

    return (
        rounds[0].server,
        rounds[0].kind,
        at(lambda one: one.rate, ".0f") + "/s" if rounds[0].rate else "as answered",
        at(lambda one: one.per_second, ".0f"),
        f"{min(rates):.0f}-{max(rates):.0f}",
        at(lambda one: one.latency.p50_ms),
        at(lambda one: one.latency.p95_ms),
        at(lambda one: one.latency.p99_ms),
        at(lambda one: one.latency.p999_ms),
        at(lambda one: one.latency.max_ms),
        at(lambda one: one.server_cpu_us, ".0f"),
        at(lambda one: one.server_percent, ".0f"),
        at(lambda one: one.callers_percent, ".0f"),
        str(sum(one.errors for one in rounds)),
    )


def run(
    plan: Plan,
    *,
    fill: Callable[[Path, int], None],
    progress: Callable[[str], None],
    profiling: Mapping[str, str] = NOT_PROFILED,
) -> Report:
    """Measure; raises Unavailable when a server does not start. `fill` puts so many rooms into a data folder.

    `profiling` goes into our server's environment besides the settings.
    """
    allow_open_files(plan.connections + SPARE_FILES)
    parent = plan.folder or (PERSISTENT_TEMPORARY if PERSISTENT_TEMPORARY.is_dir() else None)
    folder = Path(tempfile.mkdtemp(prefix="tableforge-bench-", dir=parent))
    described, cores = machine(folder), two_cores()
    server_core, own_core = cores or (None, None)
    try:
        progress(f"Making {plan.rooms} rooms ...")
        fill(folder / "data", plan.rooms)
        with pinned_to(own_core), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            measurement = _Run(plan, folder, server_core, progress, profiling)
            return runner.run(measurement.whole(described, "a core each" if cores else "one core"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Asked:
    """A running server with the requests for it, in the same order for each."""

    def __init__(self, name: str, process: MeasuredProcess) -> None:
        self.name = name
        self.process = process
        self.base = process.address.split()[0].rstrip("/")
        parts = urlsplit(self.base)
        self.address = (parts.hostname or "", parts.port or 0)
        self.paths = ["/api/rooms", *self._others()]

    def _others(self) -> list[str]:
        """Lists that differ from each other in where they begin or how much they show, shuffled."""
        caller = RestClient(self.base)
        paths = []
        cursor: str | int | None = caller.call("GET", "/api/rooms?limit=1")["next"]
        while cursor is not None:
            paths += [f"/api/rooms?limit={limit}&cursor={cursor}" for limit in LIMITS]
            cursor = caller.call("GET", f"/api/rooms?limit={STRIDE}&cursor={cursor}")["next"]
        caller.close()
        Random(1).shuffle(paths)  # noqa: S311 - the same order for each server
        return paths

    def requests(self, kind: Kind) -> list[bytes]:
        """What to send."""
        paths = self.paths[:1] if kind == "cached" else self.paths[1:]
        host = self.base.partition("//")[2]
        return [f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode() for path in paths]


def compare(ours: Asked, peer: Asked) -> None:
    """See that both answer the same; raises Unavailable when they do not."""
    callers = RestClient(ours.base), RestClient(peer.base)
    if len(ours.paths) != len(peer.paths):
        raise Unavailable(NOT_MEASURED, "FastAPI's list is of another length than ours.", ALIKE)
    for paths in list(zip(ours.paths, peer.paths, strict=True))[:COMPARED]:
        answers = [
            caller.call("GET", path)["rooms"] for caller, path in zip(callers, paths, strict=True)
        ]
        if answers[0] != answers[1]:
            raise Unavailable(NOT_MEASURED, f"FastAPI answers another list to {paths[1]}.", ALIKE)
    for caller in callers:
        caller.close()


class _Run:
    """One measurement."""

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        core: int | None,
        progress: Callable[[str], None],
        profiling: Mapping[str, str],
    ) -> None:
        self._plan = plan
        self._folder = folder
        self._core = core
        self._progress = progress
        self._profiling = profiling
        self._admin = secrets.token_hex(32)

    async def whole(self, described: Mapping[str, str], cores: str) -> Report:
        """Both servers up, then round by round."""
        plan = self._plan
        with ExitStack() as stack:
            self._progress("Starting the servers, reading what to ask for ...")
            asked = [Asked(OURS, stack.enter_context(self._ours()))]
            if find_spec(PEER_PACKAGE) is not None:
                asked.append(Asked(PEER, stack.enter_context(self._peer())))
                compare(*asked)
            rounds, ratio = await self._rounds(asked)
            memory = {one.name: one.process.memory().peak_bytes for one in asked}
        return Report(
            plan=plan,
            commit=commit(),
            machine=described,
            cores=cores,
            peer=version(PEER_PACKAGE) if len(asked) > 1 else "",
            rounds=tuple(rounds),
            hit_ratio=ratio,
            memory_bytes=memory,
        )

    def _ours(self) -> AbstractContextManager[MeasuredProcess]:
        environment = {"PORT": "0", "TABLEFORGE_DATA": str(self._folder / "data"), **NO_LIMITS}
        return measured(
            "tableforge",
            ["serve"],
            folder=self._folder,
            environment={
                **environment,
                **self._profiling,
                "ADMIN_TOKEN": self._admin,
                **self._plan.settings,
            },
            core=self._core,
            marker="http://",
        )

    def _peer(self) -> AbstractContextManager[MeasuredProcess]:
        return measured(
            "tableforge.bench.fastapi_rooms",
            [str(self._folder / "data" / DATABASE)],
            folder=self._folder,
            environment={"PYTHONPATH": os.pathsep.join(sys.path)},
            core=self._core,
            marker="http://",
        )

    async def _rounds(self, asked: Sequence[Asked]) -> tuple[list[Round], dict[str, float]]:
        plan = self._plan
        ratio: dict[str, float] = {}
        rounds = []
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            for kind in KINDS:
                crews = [
                    Callers(one.address, plan.connections, one.requests(kind)) for one in asked
                ]
                before = self._counts(asked[0])
                for number in range(plan.rounds):
                    self._progress(f"{kind}: round {number + 1} of {plan.rounds}")
                    for server, callers in zip(asked, crews, strict=True):
                        rounds += [one async for one in self._round(server, kind, callers)]
                hits, misses = (
                    after - ago for after, ago in zip(self._counts(asked[0]), before, strict=True)
                )
                ratio[kind] = hits / max(1, hits + misses)
        finally:
            gc.enable()
        return rounds, ratio

    def _counts(self, ours: Asked) -> tuple[int, int]:
        """How often the server's memory had a list, and had not."""
        caller = RestClient(ours.base)
        told = caller.call("GET", "/api/admin/cache/stats", token=self._admin)
        caller.close()
        found = next(
            one
            for one in told["levels"]
            if (one["level"], one["region"]) == ("local", "query_results")
        )
        return found["hits"], found["misses"]

    async def _round(self, server: Asked, kind: Kind, callers: Callers) -> AsyncIterator[Round]:
        """As fast as it answers, then at a part of that."""
        plan = self._plan
        await callers.connect()
        try:
            await callers.press(min(WARM_SECONDS, plan.seconds))
            before = server.process.cpu_seconds()
            heard = await callers.press(plan.seconds)
            flat = _found(server, kind, 0.0, heard, server.process.cpu_seconds() - before)
            yield flat
            rate = PACE * flat.per_second
            before = server.process.cpu_seconds()
            heard = await callers.pace(rate, plan.seconds)
            yield _found(server, kind, rate, heard, server.process.cpu_seconds() - before)
        finally:
            callers.leave()


def _found(server: Asked, kind: Kind, rate: float, heard: Heard, cpu: float) -> Round:
    return Round(
        server=server.name,
        kind=kind,
        rate=rate,
        seconds=heard.seconds,
        answers=heard.answers,
        errors=heard.errors,
        first_error=heard.first_error,
        latency=quantiles(heard.latency),
        curve=distribution(heard.latency),
        lateness=quantiles(heard.lateness),
        # The last few answers came after the clock was stopped, and so did a part of the CPU.
        server_cpu_us=cpu * 1_000_000 / max(1, len(heard.latency)),
        server_percent=100 * cpu / heard.seconds,
        callers_percent=100 * heard.own_seconds / heard.seconds,
    )
