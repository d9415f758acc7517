"""Measuring durable moves over real sockets: `bench websocket`."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tableforge.cli.conduct import as_json_option
from tableforge.cli.measuring import (
    ordered,
    out_option,
    profile_option,
    publish,
    quick_option,
    rate_option,
    refuse_empty_seats,
    room_size_option,
    save_option,
    settings_option,
    users_option,
)
from tableforge.cli.measuring_peers import against_option
from tableforge.cli.measuring_peers import section as beside

if TYPE_CHECKING:
    from tableforge.bench.document import Section
    from tableforge.bench.figures import Plan
    from tableforge.bench.report import Report
    from tableforge.bench.suite import Order

QUICK_SECONDS, QUICK_WARM_UP = 4.5, 1.0


@click.command()
@users_option
@room_size_option
@rate_option
@click.option(
    "--seconds",
    default=60.0,
    show_default=True,
    type=click.FloatRange(1, 86_400),
    help="Measured in all.",
)
@click.option(
    "--warm-up",
    default=5.0,
    show_default=True,
    type=click.FloatRange(0, 3_600),
    help="Seconds of load before that.",
)
@click.option(
    "--repeats",
    default=3,
    show_default=True,
    type=click.IntRange(1, 100),
    help="Into how many rounds the seconds are cut.",
)
@click.option(
    "--sweep/--no-sweep",
    default=True,
    help="Then rising rates, up to saturation.  [default: sweep]",
)
@click.option(
    "--overload", is_flag=True, help="Then ten times the rate that the sweep found to be the most."
)
@quick_option("Short rounds, few rates.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False, writable=True),
    help="Where the server's temporary data goes: the disk to measure.  [default: /var/tmp]",
)
@settings_option("measured server")
@against_option
@out_option
@profile_option
@save_option
@as_json_option
def websocket(
    *,
    users: int,
    room_size: int,
    rate: float,
    seconds: float,
    warm_up: float,
    repeats: int,
    sweep: bool,
    overload: bool,
    quick: bool,
    folder: Path | None,
    server_settings: dict[str, str],
    against: tuple[str, ...],
    out: Path | None,
    profile: bool,
    save: Path | None,
    as_json: bool,
) -> None:
    """Durable moves over real sockets: delivery latency, and the server's CPU and memory.

    Starts a server with temporary data. Each user moves a piece of their own at moments fixed before; latency counts
    from then to the arrival at each member of the room. Then the rate rises until the server is at its end. Afterwards
    the log is compared with what was acknowledged. Exits with 1 when anything was lost, doubled, out of order or refused,
    or a target of the contract is missed; with 2 when the players were slower than the server.
    """
    from tableforge.bench.figures import Plan
    from tableforge.bench.peers_report import text_of

    refuse_empty_seats(users, room_size)
    plan = Plan(
        users=users,
        room_size=room_size,
        rate=rate,
        seconds=seconds,
        warm_up_seconds=warm_up,
        repeats=repeats,
        sweep=sweep,
        overload=overload,
        folder=folder,
        settings=server_settings,
    )
    with ordered(quick=quick, out=out, profile=profile, against=against) as order:
        report = measured(plan, order)
        also = [beside(order)] if against else []
    text = "\n\n".join([report.text(), *map(text_of, also)])
    publish(report, text, order=order, out=out, save=save, as_json=as_json, also=also)


def section(order: "Order") -> "Section":
    """The usual load, for `bench all`."""
    from tableforge.bench.figures import Plan

    return measured(Plan(), order).section()


def measured(plan: "Plan", order: "Order") -> "Report":
    """What a run found; a quick one is cut short."""
    from tableforge.bench import flame
    from tableforge.bench.figures import command_line
    from tableforge.bench.websocket import run

    if order.quick:
        plan = dataclasses.replace(
            plan,
            seconds=min(plan.seconds, QUICK_SECONDS),
            warm_up_seconds=min(plan.warm_up_seconds, QUICK_WARM_UP),
            quick=True,
        )
    profiling = flame.environment(order.out, "websocket-server") if order.profile else {}
    return run(plan, command=command_line(plan), progress=order.say, profiling=profiling)
