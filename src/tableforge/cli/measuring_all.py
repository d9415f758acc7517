"""Measuring everything, and what is done with reports: `bench all`, `bench compare` and `bench report`."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tableforge.cli.conduct import FAILED, REFUSED, as_json_option, fail
from tableforge.cli.measuring import (
    REPORT_FOLDER,
    ordered,
    out_option,
    profile_option,
    quick_option,
)
from tableforge.cli.measuring_peers import against_option

if TYPE_CHECKING:
    from tableforge.bench.compare import Comparison
    from tableforge.bench.document import Document
    from tableforge.bench.suite import Bench

WIDTH = 160
"""Of a table that no terminal bounds."""
NOTHING_SHARED = "no figure of a bench has enough rounds above zero in both reports"
COLOURS = {"met": "green", "missed": "bold red", "unmeasured": "yellow"}


def benches(*, against: bool) -> "Sequence[Bench]":
    """All of them, in the order in which they run; other servers last, if there are some to be measured against."""
    from tableforge.bench.suite import Bench
    from tableforge.cli import measuring_api as api
    from tableforge.cli import measuring_cache as cache
    from tableforge.cli import measuring_chaos as chaos
    from tableforge.cli import measuring_client as client
    from tableforge.cli import measuring_database as database
    from tableforge.cli import measuring_peers as peers
    from tableforge.cli import measuring_scaling as scaling
    from tableforge.cli import measuring_websocket as websocket

    return (
        Bench("api", "The list of rooms over HTTP", api.section),
        Bench("websocket", "Durable moves over real sockets, one instance", websocket.section),
        Bench("cache", "Cache", cache.section),
        Bench("database", "Database", database.section),
        Bench("scaling", "Several instances", scaling.section),
        Bench("chaos", "Faults", chaos.section),
        Bench("client", "Web client", client.section),
        *([Bench("peers", "Beside other servers", peers.section)] if against else []),
    )


@click.command("all")
@quick_option("All in under two minutes: short loads, small data, few faults.")
@against_option
@click.option(
    "--only",
    metavar="NAME,...",
    help="Only these benches, in one report all the same.  [default: all]",
)
@out_option
@profile_option
@as_json_option
def everything(
    *,
    quick: bool,
    against: tuple[str, ...],
    only: str | None,
    out: Path | None,
    profile: bool,
    as_json: bool,
) -> None:
    """Every bench, one after the other, in one report: HTML with plots, and JSON beside it.

    A bench that cannot be run is told, and the others go on. Exits with 1 when a target of the contract is missed or
    something was lost, doubled or out of order; with 2 when a bench could not be measured.
    """
    from tableforge.bench import suite
    from tableforge.bench.document import REPORT_HTML, written

    known = benches(against=bool(against))
    names = only.split(",") if only else [one.name for one in known]
    unknown = set(names) - {one.name for one in known}
    if unknown:
        raise click.BadParameter(
            f"There is no bench {', '.join(sorted(unknown))}.", param_hint="--only"
        )
    folder = out or REPORT_FOLDER
    words = ["tableforge bench all", "--quick" * quick, *(f"--against {one}" for one in against)]
    words += [f"--only {only}"] if only else []
    with ordered(quick=quick, out=folder, profile=profile, against=against) as order:
        found = suite.run(
            [one for one in known if one.name in names],
            order,
            command=" ".join(word for word in words if word),
            folder=suite.data_folder(),
        )
    if as_json:
        click.echo(written(found), nl=False)
    else:
        show(found)
    suite.save(found, folder)
    click.echo(f"The report: {folder / REPORT_HTML}", err=True)
    if code := suite.ending(found):
        sys.exit(code)


def show(found: "Document") -> None:
    """Print the table of targets, and what went wrong."""
    from rich.markup import escape
    from rich.table import Table

    from tableforge.bench import suite

    table = Table("target of", "target", "measured", "verdict", "command")
    for kpi in suite.table(found):
        colour = COLOURS[kpi.verdict.value]
        verdict = f"[{colour}]{kpi.verdict.value}[/]" + (" (own target)" if kpi.own else "")
        table.add_row(
            escape(kpi.name), escape(kpi.target), escape(kpi.measured), verdict, escape(kpi.command)
        )
    if found.quick:
        table.title = suite.QUICK_NOTE
    printed(table)
    for section in found.sections:
        for what in section.broken:
            click.echo(f"{section.bench}: BROKEN: {what}")
        if section.invalid:
            click.echo(f"{section.bench} was not measured: {section.invalid}", err=True)
    for kpi in found.kpis():
        if kpi.value is None and kpi.why:
            click.echo(f"{kpi.name} was not measured: {kpi.why}", err=True)


def printed(table: object) -> None:
    """Print what rich makes, as wide as the terminal, or as wide as it needs where there is none."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print(table)


report_argument = click.Path(path_type=Path)


def opened(path: Path) -> "Document":
    """The report in this file, or in this folder; what is none ends the command as refused."""
    from tableforge.bench import document
    from tableforge.errors import Malformed

    try:
        return document.read(path / document.REPORT_JSON if path.is_dir() else path)
    except Malformed as refusal:
        fail(refusal, REFUSED)


@click.command()
@click.argument("before", type=report_argument)
@click.argument("after", type=report_argument)
@as_json_option
def compare(*, before: Path, after: Path, as_json: bool) -> None:
    """Hold the report AFTER against the report BEFORE (both report.json, or its folder), and tell what is change and what noise.

    A figure has changed when its rounds could hardly have moved so far by chance, and moved further than another run of
    the same build does. Another machine and other settings are warned of. Exits with 1 when something became worse, with 2
    when there is nothing to compare.
    """
    from dataclasses import asdict

    from tableforge.bench.compare import compare as held_against

    found = held_against(opened(before), opened(after))
    if as_json:
        click.echo(json.dumps({**asdict(found), "worse": found.worse}, indent=2))
    else:
        tell_comparison(found)
    if found.worse:
        sys.exit(FAILED)
    if not found.of_benches:
        click.echo(f"Nothing was compared: {NOTHING_SHARED}.", err=True)
        sys.exit(REFUSED)


def tell_comparison(found: "Comparison") -> None:
    """Print all figures, and what became worse."""
    from rich.markup import escape
    from rich.table import Table

    for warning in found.warnings:
        click.echo(f"Note: {warning}", err=True)
    table = Table("figure", "before", "after", "times worse", "by chance", "can tell", "")
    for one in found.figures:
        table.add_row(
            escape(one.name),
            f"{one.before:.4g} {one.unit}",
            f"{one.after:.4g} {one.unit}",
            f"{one.times:.2f}",
            f"{one.chance:.1g}",
            f"{one.tells:.0%}",
            one.change.value,
        )
    printed(table)
    for line in found.worse:
        click.echo(f"WORSE: {line}")
    if found.of_benches and not found.worse:
        click.echo("Nothing became worse.")


@click.command()
@click.argument("report", type=report_argument, default=REPORT_FOLDER)
@out_option
@as_json_option
def report(*, report: Path, out: Path | None, as_json: bool) -> None:
    """Print the targets of a report.json (or of its folder) again, and write its HTML anew, beside it or to --out."""
    from tableforge.bench import suite
    from tableforge.bench.document import REPORT_HTML, written

    found = opened(report)
    folder = out or (report if report.is_dir() else report.parent)
    if as_json:
        click.echo(written(found), nl=False)
    else:
        show(found)
    suite.save(found, folder)
    click.echo(f"The report: {folder / REPORT_HTML}", err=True)
