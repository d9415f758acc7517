"""Measuring: `bench`."""

import json
import sys
from pathlib import Path

import click

from tableforge.cli.conduct import FAILED, as_json_option


@click.group()
def bench() -> None:
    """Measure a server of its own on this machine, with the machine's floor beside it."""


def assignments(
    ctx: click.Context, parameter: click.Parameter, given: tuple[str, ...]
) -> dict[str, str]:
    """Read NAME=VALUE pairs."""
    pairs = [one.partition("=") for one in given]
    for (name, equals, _), written in zip(pairs, given, strict=True):
        if not (name and equals):
            raise click.BadParameter(f"{written!r} is not of the form NAME=VALUE.")
    return {name: value for name, _, value in pairs}


@bench.command()
@click.option("--users", default=1000, show_default=True, type=click.IntRange(1, 20_000))
@click.option(
    "--room-size", default=10, show_default=True, type=click.IntRange(1, 200), help="Users a room."
)
@click.option(
    "--rate",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0.01, 100),
    help="Moves a second of each user.",
)
@click.option(
    "--seconds", default=60.0, show_default=True, type=click.FloatRange(1, 86_400), help="Measured."
)
@click.option(
    "--warm-up",
    default=5.0,
    show_default=True,
    type=click.FloatRange(0, 3_600),
    help="Seconds of load before that.",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False, writable=True),
    help="Where the server's temporary data goes: the disk to measure.  [default: /var/tmp]",
)
@click.option(
    "--set",
    "server_settings",
    multiple=True,
    metavar="NAME=VALUE",
    callback=assignments,
    help="A setting of the measured server; may be repeated.",
)
@click.option(
    "--save",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the report as JSON to this file, too.",
)
@as_json_option
def websocket(
    *,
    users: int,
    room_size: int,
    rate: float,
    seconds: float,
    warm_up: float,
    folder: Path | None,
    server_settings: dict[str, str],
    save: Path | None,
    as_json: bool,
) -> None:
    """Durable moves over real sockets: delivery latency, and the server's CPU and memory.

    Starts a server with temporary data. Each user moves a piece of their own at moments fixed before; latency counts
    from then to the arrival at each member of the room. Afterwards the log is compared with what was acknowledged.
    Exits with 1 when anything was lost, doubled, out of order or refused.
    """
    from tableforge.bench.figures import Plan, command_line
    from tableforge.bench.report import text_of
    from tableforge.bench.websocket import run

    if users % room_size:
        raise click.BadParameter(
            f"{users} users do not fill rooms of {room_size}.", param_hint="--users"
        )
    plan = Plan(
        users=users,
        room_size=room_size,
        rate=rate,
        seconds=seconds,
        warm_up_seconds=warm_up,
        folder=folder,
        settings=server_settings,
    )
    report = run(plan, command=command_line(plan), progress=lambda line: click.echo(line, err=True))
    as_text = json.dumps(report.as_json(), indent=2)
    click.echo(as_text if as_json else text_of(report))
    if save is not None:
        save.write_text(f"{as_text}\n", "utf-8")
    if report.failed:
        sys.exit(FAILED)
