"""Measuring the list of rooms: `bench api`."""

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
    save_option,
    settings_option,
)

if TYPE_CHECKING:
    from tableforge.bench.api import Plan, Report
    from tableforge.bench.document import Section
    from tableforge.bench.suite import Order

QUICK_SECONDS = 0.4
DATA = "The disk to measure: where the servers' temporary data goes.  [default: /var/tmp]"


@click.command()
@click.option("--connections", default=100, show_default=True, type=click.IntRange(1, 10_000))
@click.option(
    "--seconds",
    default=2.0,
    show_default=True,
    type=click.FloatRange(0.1, 600),
    help="Of each round, for each server and way of asking.",
)
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1, 100))
@click.option(
    "--rooms",
    default=10_000,
    show_default=True,
    type=click.IntRange(1_000, 1_000_000),
    help="Made up; three in ten are public.",
)
@quick_option("Short rounds.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False, writable=True),
    help=DATA,
)
@settings_option("measured server")
@out_option
@profile_option
@save_option
@as_json_option
def api(
    *,
    connections: int,
    seconds: float,
    rounds: int,
    rooms: int,
    quick: bool,
    folder: Path | None,
    server_settings: dict[str, str],
    out: Path | None,
    profile: bool,
    save: Path | None,
    as_json: bool,
) -> None:
    """The list of rooms over kept-alive connections: latency, throughput and CPU, beside FastAPI with the same query.

    Starts a server with made-up rooms and asks it for the first page, which lies in its memory, and for lists of which each
    has to be read anew. FastAPI is measured where it is installed beside TableForge. Exits with 1 when an answer was no
    good or the 95th percentile is not below 50 ms, with 2 when the callers were slower than the server.
    """
    from tableforge.bench.api import Plan

    plan = Plan(
        connections=connections,
        seconds=seconds,
        rounds=rounds,
        rooms=rooms,
        folder=folder,
        settings=server_settings,
    )
    with ordered(quick=quick, out=out, profile=profile) as order:
        report = measured(plan, order)
    publish(report, report.text(), order=order, out=out, save=save, as_json=as_json)


def section(order: "Order") -> "Section":
    """The usual load, for `bench all`."""
    from tableforge.bench.api import Plan

    return measured(Plan(), order).section()


def measured(plan: "Plan", order: "Order") -> "Report":
    """What a run found; a quick one is cut short."""
    from tableforge.bench import flame
    from tableforge.bench.api import run

    if order.quick:
        plan = dataclasses.replace(plan, seconds=min(plan.seconds, QUICK_SECONDS))
    profiling = flame.environment(order.out, "api-server") if order.profile else {}
    return run(plan, fill=fill, progress=order.say, profiling=profiling)


def fill(folder: Path, rooms: int) -> None:
    """Make up so many rooms and the people in them."""
    import asyncio

    from tableforge.ops.seed import Amounts, seed

    amounts = Amounts(rooms=rooms, users=max(2, rooms // 5), assets=0, designs=0, seed=1)
    asyncio.run(seed(folder, amounts, add=False, progress=lambda what, done, of: None))
