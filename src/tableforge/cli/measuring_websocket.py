"""Measuring durable moves over real sockets: `bench websocket`."""

from pathlib import Path

import click

from tableforge.cli.conduct import as_json_option
from tableforge.cli.measuring import (
    rate_option,
    refuse_empty_seats,
    room_size_option,
    save_option,
    settings_option,
    tell,
    users_option,
)


@click.command()
@users_option
@room_size_option
@rate_option
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
@settings_option("measured server")
@save_option
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

    refuse_empty_seats(users, room_size)
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
    tell(report, text_of(report), save=save, as_json=as_json)
