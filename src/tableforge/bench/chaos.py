"""`tableforge bench chaos`: a fleet under steady load, hurt in every way we know, with everything counted that was promised."""

import asyncio
import contextlib
import time
from array import array
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import uvloop

from tableforge.bench.document import Axis, Mark, Plot, Sample, Section, Series, Table
from tableforge.bench.faults import FAULTS, NUMB_SHARE, Fault
from tableforge.bench.ground import Ground, Makers, ground
from tableforge.bench.latency import Quantiles, quantiles
from tableforge.bench.process import allow_open_files
from tableforge.bench.steady import Company, Wrongs
from tableforge.bench.tables import history, lay
from tableforge.bench.targets import LOST, RECOVERY
from tableforge.errors import Unavailable

SPARE_FILES = 512
FEW_RECOVERIES = 4
"""So many of them are too few to be compared."""
FILES_A_PLAYER = 6
SIT_DOWN_SECONDS = 60.0
RECOVERY_SECONDS = 60.0
"""Who has not recovered by then never does."""
REST_SECONDS = 30.0
EVEN_SECONDS = 90.0
EVEN, EVEN_MIN = 0.1, 3
"""The spread is even when no instance is off the mean by more than this part of it, or so few connections."""
LOOK_SECONDS = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`rate` in moves a second for each player; `calm` seconds are measured before and after each fault."""

    players: int = 300
    room_size: int = 8
    rate: float = 0.5
    instances: int = 3
    calm: float = 5.0
    quick: bool = False
    faults: Sequence[str] = tuple(fault.name for fault in FAULTS)

    @property
    def chosen(self) -> list[Fault]:
        """The faults, in the order of the table."""
        return [fault for fault in FAULTS if fault.name in self.faults]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one fault cost. Seconds; `recoveries` from its beginning until each affected player was answered again.

    `outage` is the longest that one player was without a service, `moved` how many an instance asked to go elsewhere,
    `evened` when after the mending the instances had equal shares again.
    """

    fault: str
    what: str
    lasted: float
    acknowledged: int
    lost: int
    doubled: int
    disordered: int
    failed: int
    said: list[str]
    affected: int
    recoveries: list[float]
    moved: int
    outage: float
    evened: float | None
    longest_wait: float
    replies: tuple[Quantiles, Quantiles, Quantiles]
    arrivals: tuple[Quantiles, Quantiles, Quantiles]
    refusals: dict[str, int]
    closes: dict[str, int]
    struck_at: float = 0.0
    mended_at: float = 0.0
    """Seconds since the first fault's calm began."""

    @property
    def recovery(self) -> float:
        """Of the slowest."""
        return max(self.recoveries, default=0.0)

    @property
    def clean(self) -> bool:
        """Whether all promises were kept, and everybody recovered."""
        return not (self.lost or self.doubled or self.disordered or self.failed)


@dataclass(frozen=True, slots=True)
class Timeline:
    """What went on, second by second of the run: commands acknowledged, their p95 in ms, and players who were not served."""

    acknowledged: tuple[tuple[float, float], ...] = ()
    p95_ms: tuple[tuple[float, float], ...] = ()
    unserved: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Chaos:
    """All of it."""

    plan: Plan
    machine: Mapping[str, str]
    outcomes: list[Outcome]
    timeline: Timeline = Timeline()
    command: str = "tableforge bench chaos"

    @property
    def failed(self) -> bool:
        """Whether a promise was broken."""
        return not all(outcome.clean for outcome in self.outcomes)

    def as_json(self) -> dict[str, Any]:
        """The report as plain values."""
        return {
            "bench": "chaos",
            "plan": asdict(self.plan),
            "machine": dict(self.machine),
            "outcomes": [
                {**asdict(one), "recovery": one.recovery, "clean": one.clean}
                for one in self.outcomes
            ],
            "failed": self.failed,
        }

    @property
    def broken(self) -> tuple[str, ...]:
        """What happened that must not, in words."""
        return tuple(
            f"{one.fault}: {'; '.join(one.said[:3]) or 'failed'}"
            for one in self.outcomes
            if not one.clean
        )

    def section(self) -> Section:
        """Judged, as a part of a document."""
        killed = [one for one in self.outcomes if one.fault == "instance-killed"]
        recovery = max((one.recovery for one in killed), default=None)
        wrong = sum(one.lost + one.doubled + one.disordered for one in self.outcomes)
        return Section(
            bench="chaos",
            title="Faults",
            command=self.command,
            settings={
                "players": str(self.plan.players),
                "room size": str(self.plan.room_size),
                "moves a second of each": f"{self.plan.rate:g}",
                "instances": str(self.plan.instances),
                "faults": ", ".join(one.fault for one in self.outcomes),
            },
            kpis=(
                RECOVERY.judged(
                    recovery, self.command, "" if killed else "no instance was killed in this run"
                ),
                LOST.judged(wrong if self.outcomes else None, self.command),
            ),
            samples=tuple(
                Sample(f"chaos.recovery {one.fault}", "s", "lower", rounds, band=0.5)
                for one in self.outcomes
                if len(rounds := tuple(each for each in one.recoveries if each > 0))
                > FEW_RECOVERIES
            ),
            plots=tuple(self._plots()),
            tables=(self._table(),),
            notes=tuple(f"{one.fault}: {one.what}." for one in self.outcomes),
            figures=self.as_json(),
            broken=self.broken,
        )

    def _plots(self) -> Iterator[Plot]:
        marks = tuple(
            mark
            for one in self.outcomes
            for mark in (Mark(one.struck_at, one.fault), Mark(one.mended_at, "mended"))
        )
        time_axis = Axis("time", "s")
        for name, title, unit, points in (
            (
                "chaos-acknowledged",
                "Commands acknowledged a second",
                "",
                self.timeline.acknowledged,
            ),
            ("chaos-p95", "p95 of an answer, second by second", "ms", self.timeline.p95_ms),
            ("chaos-unserved", "Players who were not served", "", self.timeline.unserved),
        ):
            yield Plot(
                name=name,
                title=title,
                kind="line",
                x=time_axis,
                y=Axis(unit or "count", unit, log=unit == "ms"),
                series=(Series(title, points),),
                marks=marks,
            )
        affected = [one for one in self.outcomes if one.recoveries]
        if affected:
            yield Plot(
                name="chaos-recovery",
                title="Recovery of players, from the beginning of a fault",
                kind="bars",
                x=Axis("fault", ""),
                y=Axis("recovery", "s"),
                series=(
                    Series(
                        "median",
                        tuple((n, median(one.recoveries)) for n, one in enumerate(affected)),
                    ),
                    Series("slowest", tuple((n, one.recovery) for n, one in enumerate(affected))),
                ),
                labels=tuple(one.fault for one in affected),
                note="Of those whom the fault touched; how long the fault itself lasts is in it.",
            )

    def _table(self) -> Table:
        return Table(
            "What each fault cost",
            (
                "fault",
                "lasted s",
                "acknowledged",
                "lost",
                "doubled",
                "out of order",
                "affected",
                "recovery s",
                "outage s",
                "even again s",
            ),
            tuple(
                (
                    one.fault,
                    f"{one.lasted:.1f}",
                    str(one.acknowledged),
                    str(one.lost),
                    str(one.doubled),
                    str(one.disordered),
                    str(one.affected),
                    f"{one.recovery:.2f}",
                    f"{one.outage:.2f}",
                    _evened(one).strip(),
                )
                for one in self.outcomes
            ),
        )

    def text(self) -> str:
        """The table."""
        head = (
            f"{'fault':20} {'lasted':>6} {'acknow-':>8} {'lost':>5} {'dou-':>5} {'out of':>6} {'affect-':>7} {'moved':>5}"
            f" {'recovery':>8} {'outage':>6} {'longest':>7} {'even':>5}   answered p95 ms          delivered p95 ms\n"
            f"{'':20} {'s':>6} {'ledged':>8} {'':5} {'bled':>5} {'order':>6} {'ed':>7} {'':5}"
            f" {'s':>8} {'s':>6} {'wait s':>7} {'s':>5}   before  during  after    before  during  after"
        )
        lines = [
            f"{one.fault:20} {one.lasted:6.1f} {one.acknowledged:8} {one.lost:5} {one.doubled:5}"
            f" {one.disordered:6} {one.affected:7} {one.moved:5} {one.recovery:8.2f} {one.outage:6.2f}"
            f" {one.longest_wait:7.2f} {_evened(one)}   {_p95(one.replies)}   {_p95(one.arrivals)}{'' if one.clean else '   FAILED'}"
            for one in self.outcomes
        ]
        said = [f"{one.fault}: {line}" for one in self.outcomes for line in one.said]
        plan = self.plan
        return "\n".join(
            (
                f"{plan.players} players in rooms of {plan.room_size}, {plan.rate:g} moves a second each, over"
                f" {plan.instances} instances behind a balancer; PostgreSQL waits for the disk",
                head,
                *lines,
                *said,
            )
        )


def _evened(one: Outcome) -> str:
    return f"{one.evened:5.1f}" if one.evened is not None else "never"


def _p95(three: tuple[Quantiles, ...]) -> str:
    return " ".join(f"{one.p95_ms:7.1f}" for one in three)


def run(
    plan: Plan,
    folder: Path,
    makers: Makers,
    *,
    settings: Mapping[str, str],
    machine: Mapping[str, str],
    progress: Callable[[str], None],
    command: str,
    profiling: Mapping[str, str],
) -> Chaos:
    """Do one fault after the other; raises Unavailable when the fleet does not start."""
    allow_open_files(plan.players * FILES_A_PLAYER + SPARE_FILES)

    async def whole() -> Chaos:
        outcomes = []
        async with playing(plan, folder, makers, settings, profiling) as (fleet, company):
            began = time.monotonic()
            for fault in plan.chosen:
                progress(f"{fault.name}: {fault.what} ...")
                outcomes.append(await suffer(fleet, company, fault, plan, began))
                progress(_told(outcomes[-1]))
            timeline = _timeline(company, began, time.monotonic())
        return Chaos(plan, machine, outcomes, timeline, command)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(whole())


def _told(one: Outcome) -> str:
    verdict = "all promises kept" if one.clean else f"FAILED: {'; '.join(one.said[:3])}"
    return (
        f"{one.fault}: {one.acknowledged} acknowledged, {one.affected} players affected,"
        f" recovered after {one.recovery:.2f} s, {verdict}"
    )


@asynccontextmanager
async def playing(
    plan: Plan,
    folder: Path,
    makers: Makers,
    settings: Mapping[str, str],
    profiling: Mapping[str, str] | None = None,
) -> AsyncIterator[tuple[Ground, Company]]:
    """The fleet with everybody seated; a tenth of the players take the bad road. Raises Unavailable."""
    async with ground(folder, makers, settings, plan.instances, profiling) as fleet:
        caller = fleet.rest()
        try:
            seats = await asyncio.to_thread(
                lambda: lay(
                    caller,
                    users=plan.players,
                    room_size=plan.room_size,
                    progress=lambda number: None,
                )
            )
        finally:
            caller.close()
        addresses = [
            ("127.0.0.1", fleet.road.port if number % NUMB_SHARE == 1 else fleet.balancer.port)
            for number in range(plan.players)
        ]
        company = Company(seats, addresses, rate=plan.rate)
        try:
            try:
                await company.sit_down(SIT_DOWN_SECONDS)
            except TimeoutError as error:
                raise Unavailable(
                    "The measurement did not begin.",
                    f"The players could not sit down: {dict(company.refusals + company.closes)}",
                ) from error
            company.resting = False
            await even(fleet)
            yield fleet, company
        finally:
            await company.leave()


def _timeline(company: Company, began: float, ended: float) -> Timeline:
    """Second by second; a second without an answer has no p95."""
    each: dict[int, array[int]] = {}
    for at, took in zip(company.replies.at, company.replies.took, strict=True):
        if at >= began:
            each.setdefault(int(at - began), array("Q")).append(took)
    seconds = range(int(ended - began))
    return Timeline(
        tuple((float(one), float(len(each.get(one, ())))) for one in seconds),
        tuple((float(one), quantiles(each[one]).p95_ms) for one in seconds if one in each),
        tuple(
            (
                float(one),
                float(
                    sum(
                        spell.began < began + one + 1 and spell.ended > began + one
                        for spell in company.spells
                    )
                ),
            )
            for one in seconds
        ),
    )


async def suffer(
    fleet: Ground, company: Company, fault: Fault, plan: Plan, origin: float = 0.0
) -> Outcome:
    """Load, the fault, recovery, load; then everybody rests, and the promises are compared with the log.

    Moments are told in seconds since `origin`.
    """
    company.wrongs = Wrongs()
    company.refusals.clear()
    company.closes.clear()
    acknowledged = company.acknowledged
    company.resting = False
    began = time.monotonic()
    await asyncio.sleep(plan.calm)
    struck = time.monotonic()
    async with asyncio.timeout(10 * RECOVERY_SECONDS):
        await fault.doing(fleet, company, fault.quick if plan.quick else fault.seconds)
    mended = time.monotonic()
    evening = asyncio.get_running_loop().create_task(even(fleet))
    try:
        await company.until(company.well, RECOVERY_SECONDS)
    except TimeoutError:
        ill = [player.number for player in company.players if player.ill_since]
        company.wrongs.add("failed", f"players {ill} did not recover")
    await asyncio.sleep(struck + plan.calm - time.monotonic())
    recovered = time.monotonic()
    await asyncio.sleep(plan.calm)
    evened = await evening
    await company.rest(REST_SECONDS)
    ended = time.monotonic()
    company.compare(await asyncio.to_thread(_logs, fleet, company))
    spells = [spell for spell in company.spells if spell.ended > struck]
    last = {spell.player: spell.ended - struck for spell in spells if not spell.asked}
    during = company.replies.between(struck, recovered)
    wrongs = company.wrongs
    phases = ((began, struck), (struck, recovered), (recovered, ended))
    replies, arrivals = (
        [quantiles(timed.between(*phase)) for phase in phases]
        for timed in (company.replies, company.arrivals)
    )
    return Outcome(
        fault=fault.name,
        what=fault.what,
        lasted=mended - struck,
        acknowledged=company.acknowledged - acknowledged,
        lost=wrongs.lost,
        doubled=wrongs.doubled,
        disordered=wrongs.disordered,
        failed=wrongs.failed,
        said=wrongs.said,
        affected=len(last),
        recoveries=sorted(round(one, 3) for one in last.values()),
        moved=len({spell.player for spell in spells if spell.asked}),
        outage=max((spell.ended - spell.began for spell in spells), default=0.0),
        evened=None if evened is None else max(0.0, evened - mended),
        longest_wait=max(during, default=0) / 1e6,
        replies=(replies[0], replies[1], replies[2]),
        arrivals=(arrivals[0], arrivals[1], arrivals[2]),
        refusals=dict(company.refusals),
        closes=dict(company.closes),
        struck_at=round(struck - origin, 2),
        mended_at=round(mended - origin, 2),
    )


async def even(fleet: Ground) -> float | None:
    """Wait until the players are spread evenly; the moment, or None where it did not come about."""
    deadline = time.monotonic() + EVEN_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(Unavailable, OSError):
            spread = await asyncio.to_thread(fleet.spread)
            mean = sum(spread) / max(1, len(spread))
            off = max((abs(one - mean) for one in spread), default=0.0)
            if len(spread) == len(fleet.instances) and off <= max(EVEN * mean, EVEN_MIN):
                return time.monotonic()
        await asyncio.sleep(LOOK_SECONDS)
    return None


def _logs(fleet: Ground, company: Company) -> dict[str, list[tuple[int, str]]]:
    """Read the rooms' logs; the players are well before the balancer has seen that its instances are."""
    deadline = time.monotonic() + RECOVERY_SECONDS
    while True:
        caller = fleet.rest()
        try:
            return {
                room: list(history(caller, table.seat, table.read))
                for room, table in company.tables.items()
            }
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(LOOK_SECONDS)
        finally:
            caller.close()
