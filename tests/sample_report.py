"""A report with everything that a page may have to show, in figures like those of a real run."""

import math
import random
from collections.abc import Sequence

from tableforge.bench import targets
from tableforge.bench.document import (
    Axis,
    Document,
    Kpi,
    Mark,
    Plot,
    Sample,
    Section,
    Series,
    Table,
    Target,
    Verdict,
)

SECONDS = Axis("time", "s")
PERCENTILE = Axis("1 / (1 - quantile)", "", log=True)
CRASH = 18.4


def document() -> Document:
    """The whole of it: met and missed, own and the contract's, one section that must not be published."""
    return Document(
        made="2026-11-24T15:42:07+00:00",
        version="0.1.0",
        commit="e3fa7e6c41d2-dirty",
        machine={
            "system": "Linux 6.8.0 x86_64",
            "processor": "AMD EPYC 7763 64-Core Processor, 2 cores",
            "memory": "7.8 GiB",
            "disk": "ext4 at /var/tmp/tableforge-bench-ab12cd34",
            "python": "3.11.9",
            "sqlite": "3.46.1",
            "load": "0.41 0.38 0.30",
            "uvicorn": "0.54.0",
            "uvloop": "0.22.1",
            "websockets": "17.0",
            "postgresql": "18.1",
            "valkey": "9.0.1",
        },
        command="tableforge bench all --against socketio,ws,uvicorn",
        quick=False,
        sections=(api(), websocket(), scaling(), database(), cache(), chaos(), client()),
    )


def judged(target: Target, value: float | None, why: str = "") -> Kpi:
    """A figure held against its target."""
    return target.judged(value, f"tableforge bench {target.bench}", why)


def distribution(
    p50: float, p99: float, most: float, count: int
) -> tuple[tuple[float, float], ...]:
    """Latency by 1/(1-q) up to what so many values tell."""
    points = []
    x = 1.0
    while x <= count:
        share = math.log10(x) / 2
        points.append((x, min(most, p50 * (p99 / p50) ** (share**1.4) * 0.7 ** (1 / x))))
        x *= 1.25
    return tuple(points)


def saturating(most: float, quickest: float, knee: float) -> tuple[tuple[float, float], ...]:
    """Throughput and latency at ever more connections."""
    connections = (1, 4, 10, 25, 50, 100, 200, 400)
    return tuple((most * n / (n + 3), quickest * (1 + (n / knee) ** 1.6)) for n in connections)


def noisy(seed: int, level: float, count: int, by: float = 0.08) -> list[float]:
    """A line that wavers."""
    chance = random.Random(seed)
    return [level * (1 + chance.gauss(0, by)) for _ in range(count)]


def rounds(name: str, unit: str, *values: float) -> Sample:
    """Lower is better."""
    return Sample(name, unit, "lower", values)


def api() -> Section:
    """Requests a second and latency, against FastAPI's default stack."""
    return Section(
        bench="api",
        title="REST API",
        command="tableforge bench api --connections 100 --seconds 20",
        settings={"connections": "100", "seconds": "20", "rooms": "10000", "processes": "2"},
        kpis=(
            judged(targets.API_P95, 14.2),
            Target("cached list p95", "<", 20, "ms", "api", own=True).judged(
                6.83, "tableforge bench api"
            ),
            Target("throughput over FastAPI, cached", ">", 2.5, "times", "api", own=True).judged(
                3.61, "tableforge bench api"
            ),
            Target("throughput over FastAPI, uncached", ">", 1.4, "times", "api", own=True).judged(
                1.32, "tableforge bench api"
            ),
        ),
        samples=(
            rounds("api.cached_p95", "ms", 6.83, 7.02, 6.71),
            rounds("api.uncached_p95", "ms", 14.2, 13.8, 15.1),
            Sample("api.cached_rate", "requests/s", "higher", (8934, 9120, 8871)),
        ),
        plots=(
            Plot(
                name="latency",
                title="Reply to /api/rooms at 100 connections",
                kind="line",
                x=PERCENTILE,
                y=Axis("latency", "ms", log=True),
                series=(
                    Series("cached", distribution(4.1, 9.4, 31, 90_000)),
                    Series("uncached", distribution(9.6, 21, 58, 40_000)),
                    Series("FastAPI", distribution(14.2, 38, 120, 30_000), "peer"),
                    Series("target", ((1, 50), (90_000, 50)), "ideal"),
                ),
            ),
            Plot(
                name="saturation",
                title="Throughput against latency",
                kind="line",
                x=Axis("throughput", "requests/s"),
                y=Axis("p95", "ms", log=True),
                series=(
                    Series("cached", saturating(9300, 0.61, 24)),
                    Series("uncached", saturating(4150, 1.3, 22)),
                    Series("FastAPI", saturating(2580, 2.1, 18), "peer"),
                ),
                note="Each point is a number of connections, from 1 to 400.",
            ),
        ),
    )


def websocket() -> Section:
    """Durable moves to every member."""
    users = (10, 100, 250, 500, 1000, 2000)
    rates = (1000, 2000, 4000, 6000, 8000)
    return Section(
        bench="websocket",
        title="WebSocket delivery",
        command="tableforge bench websocket --users 1000 --rate 1 --seconds 60 --room-size 10",
        settings={
            "users": "1000",
            "room size": "10",
            "rate": "1 a second",
            "seconds": "60",
            "warm-up": "5 s",
            "cores": "one for the server, one for the crowd",
        },
        kpis=(
            judged(targets.DELIVERY_P95, 4.63),
            judged(targets.USERS, 1000),
            judged(targets.MEMORY, 118),
            judged(targets.CPU, 31.4),
            judged(targets.CONNECTION_FAILURES, 0),
            judged(targets.ERROR_RATE, 0),
            judged(targets.USE_AT_THE_KNEE, 73),
            Target(
                "CPU a delivery at 6000 moves a second", "<", 12, "µs", "websocket", own=True
            ).judged(11.2, "tableforge bench websocket --rate 6"),
        ),
        samples=(
            rounds("websocket.delivery_p95", "ms", 4.63, 4.41, 4.92, 4.55, 4.60),
            rounds("websocket.delivery_p99", "ms", 7.7, 7.2, 9.6, 7.5, 7.6),
            rounds("websocket.cpu_us_per_delivery", "µs", 17.1, 17.3, 16.9, 17.0, 17.2),
            rounds("websocket.memory", "MB", 118, 118, 119, 118, 118),
        ),
        plots=(
            Plot(
                name="latency",
                title="Move due to move received",
                kind="line",
                x=PERCENTILE,
                y=Axis("latency", "ms", log=True),
                series=(
                    Series("received by others", distribution(2.31, 7.7, 24, 540_000)),
                    Series("answered to the mover", distribution(2.12, 6.9, 21, 60_000)),
                    Series("bare commit", distribution(1.1, 3.2, 12, 60_000), "peer"),
                    Series("target, p95", ((1, 10), (540_000, 10)), "ideal"),
                ),
                note="Bare commit: the same disk, a row a commit, before and after the load.",
            ),
            Plot(
                name="cpu",
                title="CPU a delivery against rate",
                kind="line",
                x=Axis("durable moves", "a second"),
                y=Axis("CPU", "µs a delivery"),
                series=(
                    Series(
                        "one instance",
                        tuple(zip(rates, (17.1, 14.0, 12.1, 11.2, 10.8), strict=True)),
                    ),
                    Series(
                        "two instances",
                        tuple(zip(rates, (24.3, 20.8, 18.0, 16.9, 16.2), strict=True)),
                    ),
                    Series("target", ((1000, 18), (6000, 12)), "ideal"),
                ),
            ),
            Plot(
                name="memory",
                title="Memory against users",
                kind="points",
                x=Axis("users", ""),
                y=Axis("resident", "MB"),
                series=(
                    Series("idle", tuple((n, 71 + n * 0.0114) for n in users)),
                    Series("moving", tuple((n, 74 + n * 0.044) for n in users)),
                    Series("512 MB", ((10, 512), (2000, 512)), "ideal"),
                ),
            ),
            peers(),
        ),
        tables=(
            Table(
                "Peers, the same work in the same run",
                ("Peer", "Version", "Deliveries a second", "p95", "Saturated", "What it lacks"),
                (
                    ("TableForge", "0.1.0", "82,400", "9.1 ms", "server core", "–"),
                    (
                        "Socket.IO",
                        "4.8.1",
                        "33,900",
                        "14.8 ms",
                        "server core",
                        "durability, recovery, redaction",
                    ),
                    (
                        "Socket.IO + Redis, two processes",
                        "4.8.1",
                        "27,100",
                        "19.3 ms",
                        "both cores",
                        "durability, redaction",
                    ),
                    (
                        "python-socketio",
                        "5.14",
                        "9,720",
                        "41 ms",
                        "server core",
                        "durability, recovery, redaction",
                    ),
                    (
                        "ws",
                        "8.18.3",
                        "128,000",
                        "4.2 ms",
                        "load side",
                        "everything but the fan-out",
                    ),
                ),
            ),
        ),
        notes=(
            "Latency counts from the moment a move was due, so a server that stalls is not let off.",
            "The log was read back over REST: 65,000 acknowledged moves, none missing, none twice, no gap.",
        ),
    )


def peers() -> Plot:
    """Bars of several systems."""
    names = (
        "TableForge",
        "ws, bare",
        "uvicorn, bare",
        "Socket.IO",
        "Socket.IO + Redis, two processes",
        "python-socketio",
    )
    values = (82_400, 128_000, 96_300, 33_900, 27_100, 9_720)
    return Plot(
        name="peers",
        title="Deliveries at saturation, one core",
        kind="bars",
        x=Axis("system", ""),
        y=Axis("deliveries", "a second"),
        series=(
            Series("TableForge", ((0, values[0]),)),
            Series("peers", tuple(enumerate(values))[1:], "peer"),
        ),
        labels=names,
        note="TableForge commits every move to the disk; no peer does.",
    )


def scaling() -> Section:
    """More instances."""
    return Section(
        bench="scaling",
        title="Scaling",
        command="tableforge bench scaling --users 1000 --instances 1,2,3",
        settings={"users": "1000", "room size": "10", "balancer": "HAProxy, leastconn"},
        kpis=(
            judged(targets.DELIVERY_P95_OF_TWO, 7.91),
            judged(targets.DISTRIBUTION, 11.8),
            judged(targets.EFFICIENCY, 86.4),
        ),
        samples=(rounds("scaling.delivery_p95_of_two", "ms", 7.91, 7.66, 8.2),),
        plots=(
            Plot(
                name="curve",
                title="Deliveries for a CPU second",
                kind="line",
                x=Axis("instances", ""),
                y=Axis("throughput", "times one instance"),
                series=(
                    Series("rooms spread", ((1, 1), (2, 1.73), (3, 2.41))),
                    Series("rooms together", ((1, 1), (2, 1.97), (3, 2.93))),
                    Series("ideal", ((1, 1), (3, 3)), "ideal"),
                ),
            ),
            Plot(
                name="load",
                title="Connections by instance",
                kind="bars",
                x=Axis("instance", ""),
                y=Axis("connections", ""),
                series=(
                    Series("at first", ((0, 334), (1, 333), (2, 333))),
                    Series("after a rolling restart", ((0, 372), (1, 321), (2, 307))),
                    Series("± 10 %", ((0, 366), (1, 366), (2, 366)), "ideal"),
                ),
                labels=("instance-1", "instance-2", "instance-3"),
            ),
        ),
    )


def database() -> Section:
    """One that must not be published."""
    why = "The load side was the bottleneck: it took 97 % of its core."
    return Section(
        bench="database",
        title="Database",
        command="tableforge bench database --pages 200",
        settings={"rows": "1,000,000 assets, 100,000 rooms", "database": "PostgreSQL 18.1"},
        kpis=(judged(targets.QUERY_P95, None, why),),
        invalid=why,
    )


def cache() -> Section:
    """Hit ratio and cost."""
    sizes = (50, 100, 200, 500, 1000, 2000, 5000, 10_000)

    def curve(knee: float, most: float) -> tuple[tuple[float, float], ...]:
        return tuple((n, most * (1 - math.exp(-((n / knee) ** 0.55)))) for n in sizes)

    return Section(
        bench="cache",
        title="Cache",
        command="tableforge bench cache",
        settings={"trace": "evenings of a week", "requests": "2,000,000", "seed": "1"},
        kpis=(
            judged(targets.HIT_RATE, 94.1),
            Target("hit in memory", "<", 2, "µs", "cache", own=True).judged(
                0.71, "tableforge bench cache --part hits"
            ),
        ),
        samples=(rounds("cache.hit", "µs", 0.71, 0.70, 0.74),),
        plots=(
            Plot(
                name="ratio",
                title="Hit ratio against size",
                kind="line",
                x=Axis("entries", "", log=True),
                y=Axis("hits", "%"),
                series=(
                    Series("ours", curve(210, 97)),
                    Series("W-TinyLFU, theine", curve(240, 96.5), "peer"),
                    Series("LRU, cachebox", curve(420, 95), "peer"),
                    Series("FIFO", curve(600, 93.5), "peer"),
                    Series("LFU", curve(520, 90), "peer"),
                    Series("best possible", curve(130, 98.4), "ideal"),
                ),
            ),
            Plot(
                name="hit",
                title="A hit in memory",
                kind="bars",
                x=Axis("cache", ""),
                y=Axis("time of a hit", "µs", log=True),
                series=(
                    Series("ours", ((0, 0.71),)),
                    Series("peers", ((1, 0.42), (2, 1.9), (3, 11.4), (4, 38.2)), "peer"),
                ),
                labels=("ours", "cachebox", "theine", "cashews", "aiocache"),
            ),
        ),
    )


def chaos() -> Section:
    """Faults in a fleet under load."""
    count = 120
    p95 = noisy(3, 6.2, count)
    served = noisy(4, 150, count, 0.03)
    faults = (
        (CRASH, "instance killed", 9, 2100.0),
        (44.0, "Redis away", 6, 160.0),
        (66.0, "database paused", 5, 5200.0),
        (78.0, "bad network", 8, 480.0),
        (92.0, "clock ahead", 1, 9.0),
        (103.0, "rolling restart", 7, 240.0),
    )
    for at, _, length, most in faults:
        for second in range(length):
            index = int(at) + second
            p95[index] = most * math.exp(-second * 0.7) + p95[index]
            served[index] *= 0.55 + 0.45 * second / length
    return Section(
        bench="chaos",
        title="Chaos",
        command="tableforge bench chaos --players 300",
        settings={"players": "300", "instances": "3", "DRAIN_SECONDS": "5"},
        kpis=(judged(targets.RECOVERY, 3.42), judged(targets.LOST, 0)),
        plots=(
            Plot(
                name="timeline",
                title="Delivery while things break",
                kind="line",
                x=SECONDS,
                y=Axis("p95 of each second", "ms", log=True),
                series=(
                    Series("delivery p95", tuple(enumerate(p95))),
                    Series("target", ((0, 10), (count - 1, 10)), "ideal"),
                ),
                marks=tuple(Mark(at, name) for at, name, _, _ in faults),
            ),
            Plot(
                name="served",
                title="Moves acknowledged",
                kind="line",
                x=SECONDS,
                y=Axis("moves", "a second"),
                series=(Series("acknowledged", tuple(enumerate(served))),),
                marks=(Mark(CRASH, "instance killed"), Mark(66, "database paused")),
            ),
        ),
        tables=(
            Table(
                "Faults",
                ("Fault", "Back to normal", "Acknowledged", "Lost", "Doubled"),
                tuple(
                    (name, f"{length * 0.38:.2f} s", f"{length * 148:,}", "0", "0")
                    for _, name, length, _ in faults
                ),
            ),
        ),
    )


def client() -> Section:
    """The web client."""
    frames: Sequence[tuple[float, float, float]] = (
        (100, 16.7, 17.4),
        (500, 21, 34),
        (1000, 38, 71),
    )
    return Section(
        bench="client",
        title="Web client",
        command="tableforge bench client",
        settings={"browser": "Chromium 141, software renderer", "window": "1440 × 900"},
        kpis=(
            Target("link to playable table, cold", "<", 3000, "ms", "client", own=True).judged(
                1840, "tableforge bench client"
            ),
            Target("frame p95, 500 tokens", "<", 33, "ms", "client", own=True).judged(
                34, "tableforge bench client", "a software renderer draws here"
            ),
        ),
        plots=(
            Plot(
                name="frames",
                title="Frame time while others move",
                kind="bars",
                x=Axis("tokens", ""),
                y=Axis("time of a frame", "ms"),
                series=(
                    Series("p50", tuple((i, p50) for i, (_, p50, _) in enumerate(frames))),
                    Series("p95", tuple((i, p95) for i, (_, _, p95) in enumerate(frames))),
                    Series("30 frames a second", ((0, 33.3), (1, 33.3), (2, 33.3)), "ideal"),
                ),
                labels=tuple(f"{tokens:.0f} tokens" for tokens, _, _ in frames),
            ),
        ),
        notes=("Nothing here has a graphics card: a software renderer draws, on the same cores.",),
    )


def week() -> Document:
    """What is no benchmark at all: a report of a week, with days along its axis and no target."""
    start = 1_764_000_000
    days = tuple((start + hour * 3600.0, value) for hour, value in enumerate(noisy(9, 420, 168)))
    return Document(
        made="2026-11-30T00:05:00+00:00",
        version="0.1.0",
        commit="e3fa7e6c41d2",
        machine={},
        command="tableforge report week",
        quick=False,
        sections=(
            Section(
                bench="week",
                title="People",
                command="tableforge report week",
                plots=(
                    Plot(
                        name="people",
                        title="People at tables",
                        kind="line",
                        x=Axis("", "time"),
                        y=Axis("people", ""),
                        series=(Series("connected", days),),
                    ),
                ),
            ),
        ),
    )


def verdicts(shown: Document) -> dict[Verdict, int]:
    """How many of each."""
    return {one: sum(kpi.verdict is one for kpi in shown.kpis()) for one in Verdict}
