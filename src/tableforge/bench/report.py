"""A report as a person reads it."""

from collections.abc import Iterator

from tableforge.bench.figures import Figures, Report
from tableforge.bench.floor import Commits, FanOut, Floor
from tableforge.bench.latency import Quantiles
from tableforge.config import without_secrets

MEBIBYTE = 2**20
WIDTH = 46


def text_of(report: Report) -> str:
    """The whole report, a table for each part."""
    return "\n".join(
        (
            *_head(report),
            "",
            *_load(report.figures),
            "",
            *_cost(report.figures),
            "",
            *_floor(report.floor_before, report.floor_after, report.figures),
            "",
            *_verdict(report.figures),
        )
    )


def _line(name: str, value: str) -> str:
    return f"  {name:{WIDTH}}{value}"


def _head(report: Report) -> Iterator[str]:
    yield f"{report.command}"
    yield _line("commit", report.commit)
    for name in ("system", "processor", "memory", "disk", "load"):
        yield _line(name, report.machine[name])
    versions = ("python", "sqlite", "uvicorn", "uvloop", "websockets", "msgspec")
    yield _line("versions", ", ".join(f"{name} {report.machine[name]}" for name in versions))
    shown = without_secrets(report.plan.settings)
    settings = " ".join(f"{name}={value}" for name, value in shown.items())
    yield _line("settings of the server", f"no limits {settings}".strip())
    yield _line("cores", report.cores)


def _quantiles(found: Quantiles) -> str:
    return (
        f"p50 {found.p50_ms:7.2f}   p95 {found.p95_ms:7.2f}   p99 {found.p99_ms:7.2f}"
        f"   max {found.max_ms:7.1f} ms"
    )


def _load(figures: Figures) -> Iterator[str]:
    yield f"Durable moves: {figures.moves} in {figures.seconds:.1f} s, latency from when each was due"
    yield _line("received by the other members", _quantiles(figures.others))
    yield _line("received by everybody, the mover too", _quantiles(figures.everybody))
    yield _line("answered to the mover", _quantiles(figures.replies))
    yield _line("of it the crowd's own lateness in sending", _quantiles(figures.sender_lateness))
    yield _line(
        "deliveries, to others / in all", f"{figures.delivered_to_others} / {figures.delivered}"
    )
    yield _line(
        "errors / missing / out of order / reconnects",
        f"{figures.errors} / {figures.missing} / {figures.out_of_order} / {figures.reconnects}",
    )
    if figures.first_error:
        yield _line("first error", figures.first_error)
    audit = figures.audit
    yield _line(
        "the log: acknowledged / missing / twice",
        f"{audit.acknowledged} / {audit.missing} / {audit.repeated}",
    )
    yield _line(
        "the log: events / gaps / misplaced",
        f"{audit.events} / {audit.gaps} / {audit.misplaced}",
    )


def _cost(figures: Figures) -> Iterator[str]:
    yield "What the server paid (all threads, user and system)"
    yield _line(
        "CPU a delivery to another member", f"{figures.cpu_us_per_delivery_to_others:.1f} us"
    )
    yield _line("CPU a delivery, the mover's own included", f"{figures.cpu_us_per_delivery:.1f} us")
    yield _line("CPU a move", f"{figures.cpu_us_per_move:.0f} us")
    yield _line(
        "CPU in all",
        f"{figures.cpu_seconds:.2f} s, {figures.cpu_percent_of_a_core:.1f} % of a core"
        f" (user {figures.user_seconds:.2f} s, system {figures.system_seconds:.2f} s)",
    )
    yield _line("the crowd's own CPU", f"{figures.crowd_percent_of_a_core:.1f} % of a core")
    yield _line(
        "memory: resident at most / proportional now",
        f"{figures.memory.peak_bytes / MEBIBYTE:.0f}"
        f" / {figures.memory.proportional_bytes / MEBIBYTE:.0f} MiB",
    )
    yield _line(
        "memory when all had connected",
        f"{figures.connected_memory.peak_bytes / MEBIBYTE:.0f}"
        f" / {figures.connected_memory.proportional_bytes / MEBIBYTE:.0f} MiB",
    )


def _floor(before: Floor, after: Floor, figures: Figures) -> Iterator[str]:
    yield "The machine's floor in the same run, before and after"
    for name, floor in (("before", before), ("after", after)):
        yield _commits(name, floor.commit)
        yield _commits(name, floor.commit_of_ten)
        yield _fan_out(name, floor.echo)
        yield _fan_out(name, floor.fan_out)
    bare = (before.fan_out.cpu_us + after.fan_out.cpu_us) / 2
    yield _line(
        "server's CPU a delivery, times the bare one", f"{figures.cpu_us_per_delivery / bare:.1f}"
    )


def _commits(when: str, commits: Commits) -> str:
    rows = "1 row" if commits.rows == 1 else f"{commits.rows} rows"
    return _line(
        f"{when}: durable commit of {rows}",
        f"{_quantiles(commits.latency)}   {commits.cpu_us:.0f} us CPU",
    )


def _fan_out(when: str, found: FanOut) -> str:
    name = "loopback echo" if found.group == 1 else f"bare frame to {found.group} members"
    return _line(
        f"{when}: {name}", f"{_quantiles(found.latency)}   {found.cpu_us:.1f} us CPU a frame"
    )


def _verdict(figures: Figures) -> Iterator[str]:
    clean = not (figures.errors or figures.missing or figures.out_of_order)
    for name, met in (
        ("delivery p95 to the others under 10 ms", figures.others.p95_ms < 10),
        ("no error, and the log as promised", clean and figures.audit.clean),
        ("server under 256 MiB", figures.memory.peak_bytes < 256 * MEBIBYTE),
    ):
        yield _line(name, "met" if met else "NOT MET")
