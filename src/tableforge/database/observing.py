"""What every statement costs, and why some took long: never with a value of a parameter.

A statement is watched from its beginning to its end, on whichever thread it runs. One that took longer than the threshold
is kept with the shapes of its parameters, who it waited for, and soon afterwards its plan, for which an engine is asked
beside the game. All that is kept is bounded.
"""

import asyncio
import re
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from threading import Lock
from time import perf_counter
from types import TracebackType
from typing import Final, Self

import structlog
from msgspec import Struct

from tableforge.database import DatabaseUnavailable
from tableforge.telemetry import FAMILY_LIMIT, ROWS, STATEMENTS, Histogram

TEXTS = 1_000
"""How many texts are remembered with their names."""
SLOW_STATEMENTS = 200
"""How many statements are kept that were slow; the one that was not slow for the longest time makes room."""
EXAMPLES = 5
"""How many of its slow runs are kept of each, the latest ones."""
SHAPES = 32
"""How many of its parameters are described."""
BLOCKERS = 8
"""How many others are named that one run waited for."""
TEXT_LENGTH = 10_000
CUT_LENGTH = 90
"""The least length at which PostgreSQL cuts off what it tells of a text."""
PLAN_LENGTH = 20_000
EXPLAIN_AGAIN_SECONDS = 60.0
LATELY_SECONDS = 300.0
"""What was the slowest is told of this window and the one before."""
FASTEST_LOOK_SECONDS, SLOWEST_LOOK_SECONDS = 0.05, 0.5
"""How often is looked who waits, half of the threshold within these bounds."""

log = structlog.get_logger(__name__)


class ParameterShape(Struct, frozen=True):
    """What is told of a parameter: its type, and how many characters, bytes or elements it has, where it has any."""

    type: str
    length: int | None = None


class Blocker(Struct, frozen=True):
    """A session that held what a statement waited for.

    `statement` is the name of what it ran last, `query` its text without literals; both null where it is not one of ours.
    `idle` is whether it did nothing but keep its transaction open.
    """

    pid: int
    application: str
    state: str
    wait: str | None
    transaction_seconds: float | None
    statement: str | None
    query: str | None


class Example(Struct, frozen=True):
    """One slow run. `at` is when it ended, in seconds of the epoch; `ended` is done, cancelled, or why it failed."""

    at: float
    seconds: float
    rows: int
    ended: str
    parameters: tuple[ParameterShape, ...]
    wait: str | None
    blockers: tuple[Blocker, ...]


class StatementFigures(Struct, frozen=True):
    """What a statement has cost since the start, in milliseconds; `slowest_lately_ms` in the last five to ten minutes."""

    name: str
    count: int
    rows: int
    total_ms: float
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    slowest_ms: float
    slowest_lately_ms: float


class Slow(Struct, frozen=True):
    """A statement that was slow `times` times: its text with placeholders, its figures, its latest slow runs and its plan.

    Without a plan `plan_reason` says why; `plan_at` is in seconds of the epoch.
    """

    figures: StatementFigures
    text: str
    times: int
    examples: tuple[Example, ...]
    plan: str | None
    plan_reason: str
    plan_at: float | None


class Running(Struct, frozen=True):
    """A statement that is over the threshold and has not ended."""

    name: str
    seconds: float
    wait: str | None
    blockers: tuple[Blocker, ...]


def shape_of(value: object) -> ParameterShape:
    """The type and the length of a parameter."""
    match value:
        case None:
            return ParameterShape("null")
        case bool():
            return ParameterShape("boolean")
        case int():
            return ParameterShape("integer")
        case float():
            return ParameterShape("number")
        case str():
            return ParameterShape("text", len(value))
        case bytes() | bytearray() | memoryview():
            return ParameterShape("bytes", len(value))
        case list() | tuple():
            of = f" of {shape_of(value[0]).type}" if value else ""
            return ParameterShape(f"list{of}", len(value))
        case _:
            return ParameterShape(type(value).__name__)


LITERAL = re.compile(
    r"""(?P<comment>--[^\n]*|/\*.*?\*/)
    |(?P<name>"(?:[^"]|"")*")
    |(?P<dollar>\$(?P<tag>(?:[A-Za-z_]\w*)?)\$.*?\$(?P=tag)\$)
    |(?P<escaped>\b[eE]'(?:[^'\\]|''|\\.)*')
    |(?P<text>(?:\b[bBxXnN]|\b[uU]&)?'(?:[^']|'')*')
    |(?P<open>(?:['"]|/\*|\$(?:[A-Za-z_]\w*)?\$).*)
    |(?P<word>\$\d+|[A-Za-z_]\w*)
    |(?P<number>(?:\d[\d_]*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?\w*)""",
    re.VERBOSE | re.DOTALL,
)
"""Where a literal has no end, the server has cut the text off."""
INSTEAD = {"comment": " ", "open": "…"}


def without_literals(text: str) -> str:
    """A text of SQL with `?` for every literal, and without comments."""

    def kept(match: re.Match[str]) -> str:
        kind = match.lastgroup or ""
        return match[0] if kind in ("name", "word") else INSTEAD.get(kind, "?")

    return LITERAL.sub(kept, text).strip()


class Kept:
    """What is kept of one statement that was slow."""

    __slots__ = (
        "asked_at",
        "examples",
        "name",
        "parameters",
        "plan",
        "plan_at",
        "plan_reason",
        "settings",
        "text",
        "times",
    )

    def __init__(self, watch: "Watch") -> None:
        self.name = watch.name
        self.text = watch.text
        self.parameters = len(watch.params)
        self.settings = watch.settings
        self.times = 0
        self.examples: deque[Example] = deque(maxlen=EXAMPLES)
        self.plan: str | None = None
        self.plan_reason = "It was not asked for yet."
        self.plan_at: float | None = None
        self.asked_at = float("-inf")


class Watch:
    """Watches one run of a statement: `with observer.watch(…) as watch: …; watch.rows = 3`.

    `backend` is the process that serves it, where there is one. An engine's look at who waits for whom fills `wait` and
    `blockers` while it lasts.
    """

    __slots__ = (
        "_observer",
        "backend",
        "blockers",
        "name",
        "params",
        "rows",
        "settings",
        "started",
        "text",
        "wait",
    )

    def __init__(
        self,
        observer: "Observer",
        name: str,
        text: str,
        params: Sequence[object],
        backend: int,
        settings: str,
    ) -> None:
        self._observer = observer
        self.name = name
        self.text = text
        self.params = params
        self.backend = backend
        self.settings = settings
        self.rows = 0
        self.wait: str | None = None
        self.blockers: dict[int, Blocker] = {}
        self.started = 0.0

    def __enter__(self) -> Self:
        self._observer.running.add(self)
        self.started = perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        seconds = perf_counter() - self.started
        self._observer.running.discard(self)
        self._observer.ended(self, seconds, error)


class Peak:
    """The longest run of this window and of the one before."""

    __slots__ = ("before", "longest", "since")

    def __init__(self) -> None:
        self.since = self.longest = self.before = 0.0

    def see(self, seconds: float, now: float) -> None:
        """Take note of a run."""
        if now - self.since > LATELY_SECONDS:
            self.before = self.longest if now - self.since <= 2 * LATELY_SECONDS else 0.0
            self.longest, self.since = 0.0, now
        if seconds > self.longest:
            self.longest = seconds

    def lately(self, now: float) -> float:
        """The longest run of the last one or two windows."""
        if now - self.since > 2 * LATELY_SECONDS:
            return 0.0
        return max(self.longest, self.before if now - self.since <= LATELY_SECONDS else 0.0)


Explain = Callable[[str, int, str], Awaitable[str]]
"""Gives the plan of a text with so many parameters, under the session's settings that it ran with; raises
`DatabaseUnavailable` with the reason."""
Look = Callable[[Sequence[Watch]], Awaitable[None]]
"""Finds out for whom these wait."""


class Observer:
    """The figures of one database's statements, and those that took longer than `slow_seconds`; `log_all` logs every one.

    Statements may end on any thread.
    """

    def __init__(self, *, slow_seconds: float, log_all: bool) -> None:
        self.slow_seconds: Final = slow_seconds
        self.log_all: Final = log_all
        self.running: set[Watch] = set()
        self._peaks: dict[str, Peak] = {}
        self._slow: OrderedDict[str, Kept] = OrderedDict()
        self._lock = Lock()
        self._texts: dict[str, str] = {}

    def watch(
        self,
        name: str,
        text: str,
        params: Sequence[object] = (),
        *,
        backend: int = 0,
        settings: str = "",
    ) -> Watch:
        """Watch one run of a statement: its name and the text that is sent."""
        if text not in self._texts and len(self._texts) < TEXTS:
            self._texts[text] = name
        return Watch(self, name, text, params, backend, settings)

    def ended(self, watch: Watch, seconds: float, error: BaseException | None) -> None:
        """Count a run that has ended, well or not."""
        name = watch.name
        peak = self._peaks.get(name)
        if peak is None:
            if len(self._peaks) >= FAMILY_LIMIT:
                name = watch.name = "other"
            peak = self._peaks.setdefault(name, Peak())
        STATEMENTS.of(name).observe(seconds)
        ROWS.add(name, watch.rows)
        peak.see(seconds, watch.started)
        if seconds > self.slow_seconds:
            self._was_slow(watch, seconds, how_it_ended(error))
        elif self.log_all:
            log.info("statement", statement=name, milliseconds=in_ms(seconds), rows=watch.rows)

    def _was_slow(self, watch: Watch, seconds: float, ended: str) -> None:
        shapes = tuple(shape_of(value) for value in watch.params[:SHAPES])
        example = Example(
            at=time.time(),
            seconds=seconds,
            rows=watch.rows,
            ended=ended,
            parameters=shapes,
            wait=watch.wait,
            blockers=tuple(watch.blockers.values()),
        )
        with self._lock:
            kept = self._slow.get(watch.text)
            if kept is None:
                if len(self._slow) >= SLOW_STATEMENTS:
                    self._slow.popitem(last=False)
                kept = self._slow[watch.text] = Kept(watch)
            self._slow.move_to_end(watch.text)
            kept.times += 1
            kept.examples.append(example)
        log.warning(
            "slow statement",
            statement=watch.name,
            milliseconds=in_ms(seconds),
            rows=watch.rows,
            ended=ended,
            waited_for=[one.statement or one.application for one in example.blockers],
        )

    def texts(self) -> dict[str, str]:
        """The texts that have run, with their names."""
        return self._texts.copy()

    def name_of(self, text: str) -> str | None:
        """The name of a statement of ours with this text, or this beginning where the server cut it off."""
        name = self._texts.get(text)
        if name is None and len(text) >= CUT_LENGTH:
            texts = self._texts.copy()
            name = next((texts[one] for one in texts if one.startswith(text)), None)
        return name

    def figures(self) -> list[StatementFigures]:
        """What every statement has cost, the costliest first."""
        now = perf_counter()
        peaks = self._peaks.copy()
        found = (self._figures_of(name, peak.lately(now)) for name, peak in peaks.items())
        return sorted(found, key=lambda one: -one.total_ms)

    def _figures_of(self, name: str, slowest_lately: float) -> StatementFigures:
        return figures(name, STATEMENTS.of(name), ROWS.of(name), slowest_lately)

    def total(self) -> StatementFigures:
        """What all statements together have cost."""
        now = perf_counter()
        whole, rows, lately = Histogram(), 0, 0.0
        for name, peak in self._peaks.copy().items():
            whole.add(STATEMENTS.of(name))
            rows += ROWS.of(name)
            lately = max(lately, peak.lately(now))
        return figures("all", whole, rows, lately)

    def slow(self) -> list[Slow]:
        """The statements that were slow, the latest first."""
        now = perf_counter()
        with self._lock:
            return [
                Slow(
                    figures=self._figures_of(kept.name, self._peaks[kept.name].lately(now)),
                    text=kept.text[:TEXT_LENGTH],
                    times=kept.times,
                    examples=tuple(reversed(kept.examples)),
                    plan=kept.plan,
                    plan_reason=kept.plan_reason,
                    plan_at=kept.plan_at,
                )
                for kept in reversed(self._slow.values())
            ]

    def over_threshold(self) -> list[Watch]:
        """What is over the threshold and runs on, the longest first."""
        now = perf_counter()
        found = [one for one in list(self.running) if 0.0 < one.started < now - self.slow_seconds]
        return sorted(found, key=lambda one: one.started)

    def running_long(self) -> list[Running]:
        """The same, as it is told."""
        now = perf_counter()
        return [
            Running(one.name, now - one.started, one.wait, tuple(one.blockers.values()))
            for one in self.over_threshold()
        ]

    def _next_to_explain(self) -> Kept | None:
        now = perf_counter()
        with self._lock:
            for kept in reversed(self._slow.values()):
                asked_since = kept.plan_at is not None and kept.examples[-1].at < kept.plan_at
                if not asked_since and now - kept.asked_at > EXPLAIN_AGAIN_SECONDS:
                    kept.asked_at = now
                    return kept
        return None

    async def attend(self, explain: Explain, look: Look | None = None) -> None:
        """Look at who waits for whom, and ask for plans, one at a time, until cancelled.

        What is asked of the engine bounds itself. A mistake in that is told in the log, and does not end the looking.
        """
        pause = min(max(self.slow_seconds / 2, FASTEST_LOOK_SECONDS), SLOWEST_LOOK_SECONDS)
        while True:
            await asyncio.sleep(pause)
            try:
                waiting = self.over_threshold()
                if look is not None and waiting:
                    await look(waiting)
            except DatabaseUnavailable as unavailable:
                log.debug("nobody tells who waits for whom", reason=unavailable.why)
            except Exception as error:
                log.error("looking on failed", exc_info=error)
            kept = self._next_to_explain()
            if kept is not None:
                await self._explain(kept, explain)

    async def _explain(self, kept: Kept, explain: Explain) -> None:
        try:
            plan = await explain(kept.text, kept.parameters, kept.settings)
            kept.plan = plan[:PLAN_LENGTH]
            kept.plan_reason, kept.plan_at = "", time.time()
        except DatabaseUnavailable as unavailable:
            kept.plan_reason = unavailable.why
        except Exception as error:
            kept.plan_reason = "The server made a mistake; its log says which."
            log.error("a statement was not explained", statement=kept.name, exc_info=error)


def in_ms(seconds: float) -> float:
    """Milliseconds, to a thousandth."""
    return round(seconds * 1000, 3)


def figures(name: str, histogram: Histogram, rows: int, slowest_lately: float) -> StatementFigures:
    """The figures that a histogram gives."""
    count = histogram.count
    return StatementFigures(
        name=name,
        count=count,
        rows=rows,
        total_ms=in_ms(histogram.total_seconds),
        mean_ms=in_ms(histogram.total_seconds / count) if count else 0.0,
        p50_ms=in_ms(histogram.quantile(0.5)),
        p95_ms=in_ms(histogram.quantile(0.95)),
        p99_ms=in_ms(histogram.quantile(0.99)),
        slowest_ms=in_ms(histogram.longest_seconds),
        slowest_lately_ms=in_ms(slowest_lately),
    )


def how_it_ended(error: BaseException | None) -> str:
    """In a word; never with the text of an error, which may hold values."""
    match error:
        case None:
            return "done"
        case asyncio.CancelledError():
            return "cancelled"
        case TimeoutError():
            return "timeout"
        case _:
            return str(getattr(error, "sqlstate", None) or type(error).__name__)
