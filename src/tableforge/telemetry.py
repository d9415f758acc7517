"""Every metric and the log format, declared once.

What is counted on the hot path is counted in plain integers; the Prometheus client reads them only when it is asked. An
increment costs what an attribute costs, and an observation a bisection: about a fifth of a microsecond.
"""

import logging
import sys
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from itertools import accumulate
from time import perf_counter
from types import TracebackType
from typing import Any, Final, Literal, NamedTuple

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics_core import Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

EXPOSITION_TYPE: Final = CONTENT_TYPE_LATEST

FAST = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""Upper bounds in seconds for what should take milliseconds."""

FAMILY_LIMIT = 500
"""Label values a family keeps apart; what comes later is counted under "other"."""


class Histogram:
    """How long something took, in buckets. Not locked: a lost count under threads is worth less than a lock."""

    __slots__ = ("_bounds", "at_once", "counts", "longest_seconds", "total_seconds")

    def __init__(self, bounds: tuple[float, ...] = FAST) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.at_once = 0
        self.longest_seconds = 0.0
        self.total_seconds = 0.0

    def observe(self, seconds: float) -> None:
        """Count one that took this long; 0 says that it took no time at all."""
        self.counts[bisect_left(self._bounds, seconds)] += 1
        self.total_seconds += seconds
        if seconds > self.longest_seconds:
            self.longest_seconds = seconds
        elif not seconds:
            self.at_once += 1

    @property
    def count(self) -> int:
        """How many were observed."""
        return sum(self.counts)

    def quantile(self, share: float) -> float:
        """The time in seconds that this share of all stayed within, read from the buckets: even within each of them.

        0 where nothing was observed; the last bound for what lies above it; never more than the longest that was seen.
        """
        wanted = share * self.count
        if wanted <= self.at_once:
            return 0.0
        below = 0
        lower = 0.0
        for bound, inside in zip(self._bounds, self.counts, strict=False):
            if inside and below + inside >= wanted:
                read = lower + (bound - lower) * max(0.0, wanted - below) / inside
                return min(read, self.longest_seconds)
            below += inside
            lower = bound
        return lower if self.count else 0.0

    def add(self, other: "Histogram") -> None:
        """Count what another one of the same bounds has counted."""
        self.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        self.at_once += other.at_once
        self.longest_seconds = max(self.longest_seconds, other.longest_seconds)
        self.total_seconds += other.total_seconds

    def buckets(self) -> list[tuple[str, int]]:
        """Upper bounds as Prometheus writes them, with how many were at or below each."""
        names = [*(repr(bound) for bound in self._bounds), "+Inf"]
        return list(zip(names, accumulate(self.counts), strict=True))


class Stopwatch:
    """Observes the time between entering and leaving, whichever way it is left."""

    __slots__ = ("_histogram", "_started")

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = perf_counter()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._histogram.observe(perf_counter() - self._started)


class Family:
    """Histograms told apart by labels, whose values are bounded: names from the code, never ids of rooms or users."""

    def __init__(self, bounds: tuple[float, ...] = FAST) -> None:
        self._bounds = bounds
        self._members: dict[tuple[str, ...], Histogram] = {}

    def of(self, *labels: str) -> Histogram:
        """The histogram of these label values; hold on to it where it is used often."""
        member = self._members.get(labels)
        if member is None:
            if len(self._members) >= FAMILY_LIMIT:
                labels = ("other",) * len(labels)
            member = self._members.setdefault(labels, Histogram(self._bounds))
        return member

    def time(self, *labels: str) -> Stopwatch:
        """Time a `with` block."""
        return Stopwatch(self.of(*labels))

    def members(self) -> Iterable[tuple[tuple[str, ...], Histogram]]:
        """All that were observed, in the order of their label values."""
        return sorted(self._members.items())


class Tally:
    """Sums told apart by one label, whose values are bounded as a family's are. Not locked, for the same reason."""

    __slots__ = ("_sums",)

    def __init__(self) -> None:
        self._sums: dict[str, int] = {}

    def add(self, label: str, count: int) -> None:
        """Count this many more."""
        if label not in self._sums and len(self._sums) >= FAMILY_LIMIT:
            label = "other"
        self._sums[label] = self._sums.get(label, 0) + count

    def of(self, label: str) -> int:
        """What was counted of one."""
        return self._sums.get(label, 0)

    def sums(self) -> Iterable[tuple[tuple[str, ...], int]]:
        """All of them, in the order of their labels."""
        return sorted(((label,), count) for label, count in self._sums.copy().items())


class Counters:
    """Plain numbers that the gateway and the rooms count in: `COUNTERS.messages_in += 1`."""

    __slots__ = (
        "bus_dropped",
        "bus_in",
        "bus_out",
        "bus_servers",
        "bus_servers_up",
        "connection_attempts",
        "connection_failures",
        "connections",
        "instance",
        "instances",
        "instances_cut_off",
        "instances_unheard",
        "messages_in",
        "messages_out",
        "pool_busy",
        "pool_idle",
        "pool_refused",
        "pool_waiting",
        "room_conflicts",
        "room_events",
        "rooms_live",
        "runs",
        "sent_away_drain",
        "sent_away_rebalance",
    )

    def __init__(self) -> None:
        self.bus_in = 0
        self.bus_out = 0
        self.bus_dropped = 0
        self.bus_servers = 0
        self.bus_servers_up = 0
        self.connections = 0
        self.connection_attempts = 0
        self.connection_failures = 0
        self.messages_in = 0
        self.messages_out = 0
        self.room_events = 0
        self.room_conflicts = 0
        self.rooms_live = 0
        self.runs: Counter[tuple[str, str]] = Counter()
        """Orders and schedules that were carried out, by their kind and verdict."""
        self.pool_idle = 0
        self.pool_busy = 0
        self.pool_waiting = 0
        self.pool_refused = 0
        self.sent_away_drain = 0
        self.sent_away_rebalance = 0
        self.instances = {"serving": 0, "draining": 0, "gone": 0}
        """How many instances the registry names, by their state."""
        self.instances_cut_off = 0
        self.instances_unheard = 0
        self.instance: tuple[str, str] = ("", "")
        """The instance's id and the program's version."""


COUNTERS: Final = Counters()
MESSAGES: Final = Histogram()
COMMANDS: Final = Histogram()
BUS_LAG: Final = Histogram()
EVENT_LAG: Final = Histogram()
STATEMENTS: Final = Family()
ROWS: Final = Tally()
POOL_WAITS: Final = Family()
REQUESTS: Final = Family()

CACHE: "Final[list[Callable[[], Iterable[tuple[str, tuple[str, ...], float | Histogram]]]]]" = []
"""What reads the metrics of the cache, at most one: names, values of the labels, values."""

Kind = Literal["counter", "gauge", "histogram"]
Reading = Iterable[tuple[tuple[str, ...], float | Histogram]]


class Declared(NamedTuple):
    """One metric: its name as dashboards use it, what it says, and its labels."""

    name: str
    kind: Kind
    says: str
    labels: tuple[str, ...] = ()


def readings() -> Iterator[tuple[Declared, Reading]]:
    """Every metric of the program with what it reads at this moment."""
    count = COUNTERS

    def single(value: float | Histogram) -> Reading:
        return (((), value),)

    yield (
        Declared("websocket_connections", "gauge", "WebSocket connections that are open now."),
        single(count.connections),
    )
    yield (
        Declared(
            "websocket_connections_total",
            "gauge",
            "The same as websocket_connections, under the name that the source's dashboard asks for.",
        ),
        single(count.connections),
    )
    yield (
        Declared(
            "websocket_connections_per_pod",
            "gauge",
            "Open WebSocket connections of this instance, for the autoscaler.",
        ),
        single(count.connections),
    )
    yield (
        Declared(
            "websocket_connection_attempts_total",
            "counter",
            "WebSocket handshakes that were begun.",
        ),
        single(count.connection_attempts),
    )
    yield (
        Declared(
            "websocket_connection_failures_total",
            "counter",
            "WebSocket handshakes and connects that were refused or broke off.",
        ),
        single(count.connection_failures),
    )
    yield (
        Declared(
            "websocket_messages_total",
            "counter",
            "Protocol messages received from and sent to clients.",
            ("direction",),
        ),
        ((("in",), count.messages_in), (("out",), count.messages_out)),
    )
    yield (
        Declared(
            "websocket_message_latency_seconds",
            "histogram",
            "From a command's arrival to the moment its event was written to the members' sockets.",
        ),
        single(MESSAGES),
    )
    yield (
        Declared(
            "room_command_duration_seconds",
            "histogram",
            "From a command's arrival at its room to its durable end, refusals included.",
        ),
        single(COMMANDS),
    )
    yield (
        Declared("room_events_total", "counter", "Events appended to the logs of all rooms."),
        single(count.room_events),
    )
    yield (
        Declared(
            "room_conflicts_total",
            "counter",
            "Commands decided anew because another instance wrote to their room first.",
        ),
        single(count.room_conflicts),
    )
    yield (
        Declared(
            "room_event_lag_seconds",
            "histogram",
            "From an event's commit on another instance to its delivery here; the hosts' clocks are compared.",
        ),
        single(EVENT_LAG),
    )
    yield (
        Declared(
            "bus_messages_total",
            "counter",
            "Messages that came over the bus, were given to it, or were dropped because a server of it was away.",
            ("direction",),
        ),
        ((("in",), count.bus_in), (("out",), count.bus_out), (("dropped",), count.bus_dropped)),
    )
    yield (
        Declared(
            "bus_lag_seconds",
            "histogram",
            "Time in which this instance's own messages go round the bus.",
        ),
        single(BUS_LAG),
    )
    yield (
        Declared(
            "bus_servers",
            "gauge",
            "Servers of the bus that carry this instance's messages, and that do not.",
            ("state",),
        ),
        (
            (("up",), count.bus_servers_up),
            (("down",), count.bus_servers - count.bus_servers_up),
        ),
    )
    yield (
        Declared("rooms_live", "gauge", "Rooms held in memory now."),
        single(count.rooms_live),
    )
    yield (
        Declared(
            "db_query_duration_seconds",
            "histogram",
            "Time of database statements, by their name.",
            ("statement",),
        ),
        STATEMENTS.members(),
    )
    yield (
        Declared(
            "db_pool_connections",
            "gauge",
            "Connections to the database in use and at rest, beside those that write the log and look on, and who waits for one.",
            ("state",),
        ),
        (
            (("busy",), count.pool_busy),
            (("idle",), count.pool_idle),
            (("waiting",), count.pool_waiting),
        ),
    )
    yield (
        Declared(
            "db_pool_wait_seconds",
            "histogram",
            "How long a use waited for its connection; use is game, or background for lists, searches and chores.",
            ("use",),
        ),
        POOL_WAITS.members(),
    )
    yield (
        Declared(
            "db_pool_refused_total",
            "counter",
            "Lists, searches and chores that were refused because no connection was free within DB_POOL_WAIT.",
        ),
        single(count.pool_refused),
    )
    yield (
        Declared(
            "db_rows_total",
            "counter",
            "Rows that database statements read or changed, by their name.",
            ("statement",),
        ),
        ROWS.sums(),
    )
    yield (
        Declared(
            "http_request_duration_seconds",
            "histogram",
            "Time of HTTP requests, by method, route template and status.",
            ("method", "route", "status"),
        ),
        REQUESTS.members(),
    )
    yield (
        Declared(
            "instances",
            "gauge",
            "Instances of the fleet as this one knows them: serving, draining, or not heard of any more.",
            ("state",),
        ),
        [((state,), known) for state, known in count.instances.items()],
    )
    yield (
        Declared(
            "instances_cut_off",
            "gauge",
            "Living instances that do not reach the bus: the others read the log for what they do.",
        ),
        single(count.instances_cut_off),
    )
    yield (
        Declared(
            "instances_unheard",
            "gauge",
            "Living instances whose messages do not come over the bus to this one: another bus, or another token.",
        ),
        single(count.instances_unheard),
    )
    yield (
        Declared(
            "websocket_sent_away_total",
            "counter",
            "Clients asked to connect again elsewhere, because this instance stops or has more than its share.",
            ("reason",),
        ),
        ((("drain",), count.sent_away_drain), (("rebalance",), count.sent_away_rebalance)),
    )
    yield (
        Declared(
            "optimization_runs_total",
            "counter",
            "Orders of the operator and schedules that this instance carried out, by their gravest verdict.",
            ("kind", "verdict"),
        ),
        sorted(count.runs.items()),
    )
    yield (
        Declared(
            "instance_info",
            "gauge",
            "Always 1; its labels say who answers.",
            ("instance", "version"),
        ),
        ((count.instance, 1),),
    )
    yield from cache_readings()


CACHE_METRICS: Final = (
    Declared(
        "cache_hits_total",
        "counter",
        "Values that were found: in the memory of this instance (level local), or in Redis after that (shared).",
        ("level", "region"),
    ),
    Declared(
        "cache_misses_total",
        "counter",
        "Values that were not found there, or did not count any more.",
        ("level", "region"),
    ),
    Declared(
        "cache_stale_served_total",
        "counter",
        "Values served beyond their time, while they were loaded anew or because that failed.",
        ("level", "region"),
    ),
    Declared("cache_entries", "gauge", "Values in the memory of this instance.", ("region",)),
    Declared("cache_bytes", "gauge", "What they take there, estimated.", ("region",)),
    Declared(
        "cache_evictions_total",
        "counter",
        "Values that left that memory: for lack of room, at their end, by a change, by an order.",
        ("cause", "region"),
    ),
    Declared(
        "cache_load_duration_seconds",
        "histogram",
        "Time to read a value where it truly is, after both levels missed it.",
        ("region",),
    ),
    Declared(
        "cache_load_failures_total",
        "counter",
        "Such reads that failed.",
        ("region",),
    ),
    Declared(
        "cache_breaker_open",
        "gauge",
        "1 while Redis is not asked for values because it is away or too slow.",
    ),
    Declared(
        "cache_changes_untold",
        "gauge",
        "Changes that wait until the shared level can be told; they are made up for when it is back.",
    ),
    Declared(
        "cache_emergency",
        "gauge",
        "1 while this instance serves from its memory alone, as ordered.",
    ),
)


def cache_readings() -> Iterator[tuple[Declared, Reading]]:
    """The metrics of the cache."""
    found: dict[str, list[tuple[tuple[str, ...], float | Histogram]]] = {}
    for source in CACHE:
        for name, labels, value in source():
            found.setdefault(name, []).append((labels, value))
    for declared in CACHE_METRICS:
        yield declared, found.get(declared.name, [])


def samples(declared: Declared, reading: Reading) -> Iterator[Sample]:
    """The lines of one metric."""
    for values, value in reading:
        labels = dict(zip(declared.labels, values, strict=True))
        if isinstance(value, Histogram):
            for bound, below in value.buckets():
                yield Sample(f"{declared.name}_bucket", {**labels, "le": bound}, below)
            yield Sample(f"{declared.name}_count", labels, value.count)
            yield Sample(f"{declared.name}_sum", labels, value.total_seconds)
        else:
            yield Sample(declared.name, labels, value)


class Readings(Collector):
    """Hands the plain numbers to the Prometheus client when it is asked for them."""

    def collect(self) -> Iterator[Metric]:
        """See the Prometheus client."""
        for declared, reading in readings():
            name = declared.name
            metric = Metric(
                name.removesuffix("_total") if declared.kind == "counter" else name,
                declared.says,
                declared.kind,
            )
            metric.samples.extend(samples(declared, reading))
            yield metric


def registry() -> CollectorRegistry:
    """The program's metrics with those of the process and the interpreter."""
    made = CollectorRegistry()
    made.register(Readings())
    ProcessCollector(registry=made)
    PlatformCollector(registry=made)
    GCCollector(registry=made)
    return made


REGISTRY: Final = registry()


def exposition() -> bytes:
    """All metrics in Prometheus' text format, of the content type `EXPOSITION_TYPE`."""
    return generate_latest(REGISTRY)


def markdown() -> str:
    """The table of metrics for the manual."""
    lines = [
        "# Metrics",
        "",
        "Served as Prometheus text under `/metrics`. Label values are bounded: no room or user is named.",
        "The `process_*` and `python_*` metrics of the Prometheus client stand beside these.",
        "",
        "| name | kind | labels | meaning |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| `{one.name}` | {one.kind} | {', '.join(f'`{label}`' for label in one.labels) or 'none'} | {one.says} |"
        for one, _ in readings()
    ]
    return "\n".join(lines) + "\n"


SECRET_WORDS = ("token", "password", "secret", "invite", "recovery", "cookie", "authorization")
MASK = "********"


def without_secrets(
    logger: object, method: str, entry: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A structlog step: whatever is named like a secret leaves the process as asterisks."""
    for key in entry:
        if any(word in key.lower() for word in SECRET_WORDS):
            entry[key] = MASK
    return entry


def configure_logging(*, level: str = "info", as_json: bool = False) -> None:
    """Send structlog's and the standard library's records to stderr in one format.

    `as_json` writes one object a line, for collectors; otherwise lines for a person, coloured on a terminal. Tracebacks
    carry no values of variables: a token may be among them.
    """
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        without_secrets,
    ]
    last: list[structlog.types.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if as_json
        else [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
