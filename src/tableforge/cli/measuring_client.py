"""Measuring the web client in a browser: `bench client`."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tableforge.cli.conduct import as_json_option
from tableforge.cli.measuring import (
    ordered,
    out_option,
    publish,
    quick_option,
    save_option,
    settings_option,
)

if TYPE_CHECKING:
    from tableforge.bench.client import Plan, Report
    from tableforge.bench.document import Section
    from tableforge.bench.suite import Order

QUICK_SECONDS = 0.5
QUICK_PIECES = (100, 1000)
QUICK_ROUNDS = 2
QUICK_LOADS = 1
QUICK_MOVES = 6


@click.command()
@click.option(
    "--seconds",
    default=2.0,
    show_default=True,
    type=click.FloatRange(0.2, 600),
    help="Of each round of watching frames, for each number of pieces.",
)
@click.option(
    "--moves",
    default=36,
    show_default=True,
    type=click.IntRange(3, 10_000),
    help="How many moves are waited for, one after the other.",
)
@click.option(
    "--chromium",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The browser.  [default: Chromium or Chrome on the PATH]",
)
@quick_option("Short rounds, few loads and moves, no 500 pieces.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False, writable=True),
    help="Where the server's temporary data goes: the disk to measure.  [default: /var/tmp]",
)
@settings_option("measured server")
@out_option
@save_option
@as_json_option
def client(
    *,
    seconds: float,
    moves: int,
    chromium: Path | None,
    quick: bool,
    folder: Path | None,
    server_settings: dict[str, str],
    out: Path | None,
    save: Path | None,
    as_json: bool,
) -> None:
    """The web client in Chromium without a window: opening a table, frames and moves with 100 to 1000 pieces, memory.

    Needs the extra tableforge[bench] and Chromium or Google Chrome. Without a graphics card a software renderer draws, and
    the report says so. Exits with 1 when a move never changed the picture or the page reported a mistake, with 2 when there
    is no browser to measure with.
    """
    from tableforge.bench.client import Plan

    plan = Plan(
        seconds=seconds, moves=moves, chromium=chromium, folder=folder, settings=server_settings
    )
    with ordered(quick=quick, out=out, profile=False) as order:
        report = measured(plan, order)
    publish(report, report.text(), order=order, out=out, save=save, as_json=as_json)


def section(order: "Order") -> "Section":
    """The usual load, for `bench all`."""
    from tableforge.bench.client import Plan

    return measured(Plan(), order).section()


def measured(plan: "Plan", order: "Order") -> "Report":
    """What a run found; a quick one is cut short."""
    from tableforge.bench.client import run

    if order.quick:
        plan = dataclasses.replace(
            plan,
            seconds=min(plan.seconds, QUICK_SECONDS),
            pieces=QUICK_PIECES,
            rounds=QUICK_ROUNDS,
            loads=QUICK_LOADS,
            moves=min(plan.moves, QUICK_MOVES),
        )
    return run(plan, progress=order.say)
