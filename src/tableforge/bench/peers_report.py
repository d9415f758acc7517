"""What was measured against other servers, as a section of a report: who does what for how much, and what they leave out."""

from collections.abc import Iterator
from typing import Final

from tableforge.bench.document import Axis, Kpi, Plot, Section, Series, Table, Target, rounded
from tableforge.bench.peers import PROMISES, Found, Standing

TITLE: Final = "Beside other servers"
SOCKETIO: Final = "socketio"
OVER_SOCKETIO: Final = Target(
    "saturation throughput over Socket.IO's, same core",
    ">=",
    2,
    "times",
    "all --only peers --against socketio",
    own=True,
)
MEBIBYTE: Final = 2**20
NOTES: Final = (
    "The same work for all: every user in a room of that size moves a piece at moments fixed before, all members are told and"
    " the mover is answered; latency is that of the others, from when the move was due. Frames are as long as ours.",
    "CPU is that of all processes of a server, Redis included, each on the one core that the others had too. The load is on"
    " the other core; where it was busy or late, what was delivered is no figure of the server, and is marked so.",
    "Only TableForge writes to disk before anybody hears of a move.",
)


def section_of(found: Found, command: str) -> Section:
    """Judged and laid out; `invalid` is empty, since a peer's figure decides nothing of ours."""
    plan = found.plan
    return Section(
        bench="peers",
        title=TITLE,
        command=command,
        settings={
            "users": str(plan.users),
            "room size": str(plan.room_size),
            "seconds a rate": rounded(plan.seconds),
            "rounds": str(plan.rounds),
            "cores": found.cores,
        },
        kpis=tuple(_kpis(found, command)),
        plots=tuple(_plots(found)),
        tables=tuple(_tables(found)),
        notes=NOTES,
        figures=found.as_json(),
        broken=tuple(_broken(found.standings[0])),
    )


def text_of(section: Section) -> str:
    """The tables for a terminal."""
    lines = [section.command]
    for table in section.tables:
        rows = (table.columns, *table.rows)
        widths = [max(len(row[at]) for row in rows) for at in range(len(table.columns))]
        lines += ["", table.title]
        lines += [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
    lines += [""]
    lines += [
        f"{kpi.name}: {kpi.measured} ({kpi.target}): {kpi.verdict} {kpi.why}".rstrip()
        for kpi in section.kpis
    ]
    return "\n".join(lines)


def _kpis(found: Found, command: str) -> Iterator[Kpi]:
    ours = found.standings[0]
    for other in found.standings:
        if other.name == SOCKETIO:
            mine, theirs = ours.saturation(), other.saturation()
            value = mine / theirs if mine and theirs else None
            why = "" if value else f"the limit was {_limits(ours)} for us, {_limits(other)} for it"
            yield OVER_SOCKETIO.judged(value, command, why)


def _limits(standing: Standing) -> str:
    return " or ".join(sorted(limit or "nobody" for limit in standing.limits()))


def _broken(ours: Standing) -> Iterator[str]:
    for steps in ours.rounds:
        for step in steps:
            if step.out_of_order:
                yield f"{step.out_of_order} deliveries of ours were out of order at {step.due_per_second:.0f} a second"
            if step.errors:
                yield f"{step.errors} errors of ours at {step.due_per_second:.0f} a second: {step.first_error}"
            if step.missing and not step.limit:
                yield f"{step.missing} deliveries of ours were missing at {step.due_per_second:.0f} a second"


def _tables(found: Found) -> Iterator[Table]:
    plan, ours = found.plan, found.standings[0]
    calm = f"at {plan.rates[0] * plan.room_size:.0f}/s"
    yield Table(
        "Peers",
        (
            "server",
            f"CPU us a delivery {calm}",
            "at the last rate",
            f"p50 / p95 / p99 ms {calm}",
            "deliveries a second with p95 below 10 ms",
            "at most",
            "limit",
            "server / load side % of a core",
            "memory MiB",
            "ours, times its throughput",
            f"its CPU a delivery, times ours {calm}",
        ),
        tuple(_row(one, ours) for one in found.standings),
    )
    yield Table(
        "What each does, and what it does not",
        ("server", "versions", *PROMISES),
        tuple(
            (one.title, one.versions, *(one.gives[promise] for promise in PROMISES))
            for one in found.standings
        ),
    )
    if found.grounds:
        yield Table(
            "Durable appends by a database alone",
            ("database", "how", "rows a second", "p50 / p95 / p99 ms", "CPU us a row"),
            tuple(_appends(found)),
        )


def _appends(found: Found) -> Iterator[tuple[str, ...]]:
    for ground in found.grounds:
        for one in ground.appends:
            taken = one.latency
            yield (
                f"{ground.title} ({ground.versions})",
                one.how,
                f"{one.rows_per_second:.0f}",
                f"{taken.p50_ms:.2f} / {taken.p95_ms:.2f} / {taken.p99_ms:.2f}",
                rounded(one.cpu_us),
            )
    ours, room_size = found.standings[0], found.plan.room_size
    moves = f"{ours.most() / room_size:.0f}"
    name = "TableForge, with all that it does"
    yield name, f"moves, each told to {room_size}", moves, "", rounded(ours.cpu_us(-1) * room_size)


def _row(one: Standing, ours: Standing) -> tuple[str, ...]:
    calm, most = one.calm(), one.ends()
    latency = calm.latency
    low, high = (pick(step.delivered_per_second for step in most) for pick in (min, max))
    spread = f" ({low:.0f}-{high:.0f})" if len(most) > 1 else ""
    mine, theirs = ours.saturation(), one.saturation()
    busiest = most[len(most) // 2]
    late = "" if calm.timely else " (late load)"
    return (
        one.title,
        rounded(one.cpu_us()),
        rounded(one.cpu_us(-1)),
        f"{latency.p50_ms:.2f} / {latency.p95_ms:.2f} / {latency.p99_ms:.2f}{late}",
        f"{one.in_time():.0f}",
        f"{'' if theirs else 'over '}{one.most():.0f}{spread}",
        _limits(one),
        f"{busiest.server_percent:.0f} / {busiest.crowd_percent:.0f}",
        f"{one.memory_bytes / MEBIBYTE:.0f}",
        f"{mine / theirs:.2f}" if mine and theirs else "–",
        f"{one.cpu_us() / ours.cpu_us():.2f}",
    )


def _plots(found: Found) -> Iterator[Plot]:
    def series(value: str) -> tuple[Series, ...]:
        return tuple(
            Series(
                one.title,
                tuple(
                    (
                        step.delivered_per_second,
                        step.latency.p95_ms if value == "p95" else step.cpu_us,
                    )
                    for step in one.rounds[len(one.rounds) // 2]
                    if step.timely
                ),
                "peer" if number else "measured",
            )
            for number, one in enumerate(found.standings)
        )

    throughput = Axis("deliveries", "1/s")
    yield Plot(
        name="peers-latency",
        title="Throughput against latency, to saturation",
        kind="line",
        x=throughput,
        y=Axis("delivery p95", "ms", log=True),
        series=series("p95"),
        note="Rates at which the load side itself was late or busy are left out.",
    )
    yield Plot(
        name="peers-cpu",
        title="CPU of a delivery against throughput",
        kind="line",
        x=throughput,
        y=Axis("server's CPU a delivery", "us"),
        series=series("cpu"),
    )
    yield Plot(
        name="peers-most",
        title="Deliveries a second at most, on one core",
        kind="bars",
        x=Axis("server", ""),
        y=Axis("deliveries", "1/s"),
        series=tuple(
            Series(one.title, ((float(number), one.most()),), "peer" if number else "measured")
            for number, one in enumerate(found.standings)
            if one.saturation()
        ),
        labels=tuple(one.title for one in found.standings),
        note="Who has no bar was not measured to the end: the load side was the limit.",
    )
