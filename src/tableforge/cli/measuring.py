"""Measuring: what the commands of `bench` have in common, their options, their report, and how they end."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from tableforge.cli.conduct import REFUSED, fail

if TYPE_CHECKING:
    from tableforge.bench.document import Section
    from tableforge.bench.suite import Order

Command = TypeVar("Command", bound=Callable[..., Any])
REPORT_FOLDER = Path("bench-report")
"""Where `bench all` writes, and any bench a profile, unless told otherwise; in the working folder."""


def assignments(
    ctx: click.Context, parameter: click.Parameter, given: tuple[str, ...]
) -> dict[str, str]:
    """Read settings as NAME=VALUE."""
    pairs = [one.partition("=") for one in given]
    for (name, equals, _), written in zip(pairs, given, strict=True):
        if not (name and equals):
            raise click.BadParameter(f"{written!r} is not of the form NAME=VALUE.")
    found = {name: value for name, _, value in pairs}
    if found:
        from tableforge.config import setting_names

        strange = sorted(found.keys() - setting_names())
        if strange:
            raise click.BadParameter(
                f"There is no setting {', '.join(strange)}; `tableforge config` lists all."
            )
    return found


def writable(ctx: click.Context, parameter: click.Parameter, given: Path | None) -> Path | None:
    """Refuse a file that could not be written in the end."""
    if given is not None and not os.access(given if given.exists() else given.parent, os.W_OK):
        raise click.BadParameter(
            f"{given} cannot be written: name a file in a folder that is there."
        )
    return given


users_option = click.option(
    "--users", default=1000, show_default=True, type=click.IntRange(1, 20_000)
)
room_size_option = click.option(
    "--room-size", default=10, show_default=True, type=click.IntRange(1, 200), help="Users a room."
)
rate_option = click.option(
    "--rate",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0.01, 100),
    help="Moves a second of each user.",
)
save_option = click.option(
    "--save",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=writable,
    help="Write the bare figures as JSON to this file, too.",
)
out_option = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write report.html and report.json to this folder.",
)
profile_option = click.option(
    "--profile",
    is_flag=True,
    help="Write a flame graph beside the report; needs the extra tableforge[bench].",
)


def quick_option(what: str) -> Callable[[Command], Command]:
    """Takes the short form; `what` says what is short about it."""
    return click.option("--quick", is_flag=True, help=what)


def settings_option(whose: str) -> Callable[[Command], Command]:
    """Takes settings for what is measured."""
    return click.option(
        "--set",
        "server_settings",
        multiple=True,
        metavar="NAME=VALUE",
        callback=assignments,
        help=f"A setting of the {whose}; may be repeated.",
    )


def refuse_empty_seats(users: int, room_size: int) -> None:
    """Refuse a number of users that leaves a room half full."""
    if users % room_size:
        raise click.BadParameter(
            f"{users} users do not fill rooms of {room_size}.", param_hint="--users"
        )


class Measured(Protocol):
    """What every report can say of itself."""

    def as_json(self) -> dict[str, Any]:
        """The figures as plain values."""
        ...

    def section(self) -> "Section":
        """The figures judged, as a part of a document."""
        ...


@contextmanager
def ordered(
    *, quick: bool, out: Path | None, profile: bool, against: tuple[str, ...] = ()
) -> "Iterator[Order]":
    """An order for a bench, its progress on stderr. What it needs in the end is looked for at once, before minutes were
    measured: the report's page and its place, the profiler, the other servers. Whoever cannot measure ends as refused."""
    from tableforge.bench import suite
    from tableforge.bench.flame import check_profiler
    from tableforge.bench.page import check_built
    from tableforge.cli.keeping import Progress
    from tableforge.errors import TableForgeError
    from tableforge.telemetry import configure_logging

    configure_logging(level="error")
    try:
        if out is not None:
            check_built()
        if profile:
            check_profiler()
        if out is not None or profile:
            suite.check_writable(out or REPORT_FOLDER)
        if against:
            from tableforge.bench import peers

            peers.check(against)
        with Progress() as progress:
            yield suite.Order(
                quick=quick,
                told=progress,
                say=progress.say,
                out=out or REPORT_FOLDER,
                profile=profile,
                against=against,
            )
    except TableForgeError as failure:
        fail(failure, REFUSED)


def publish(
    report: Measured,
    text: str,
    *,
    order: "Order",
    out: Path | None,
    save: Path | None,
    as_json: bool,
    also: "Sequence[Section]" = (),
) -> None:
    """Print what a bench found, keep it where that is asked for, and end as it went: 0, 1 or 2."""
    from tableforge.bench import suite
    from tableforge.bench.document import REPORT_HTML

    section = report.section()
    others = {other.bench: other.figures for other in also}
    figures = json.dumps({**report.as_json(), **others}, indent=2)
    click.echo(figures if as_json else text)
    if save is not None:
        save.write_text(f"{figures}\n", "utf-8")
    found = suite.document(
        [section, *also], command=section.command, folder=suite.data_folder(), order=order
    )
    if out is not None:
        suite.save(found, out)
        click.echo(f"The report: {out / REPORT_HTML}", err=True)
    code = suite.ending(found)
    if code == REFUSED:
        click.echo(f"Not measured: {section.invalid}", err=True)
    if code:
        sys.exit(code)
