"""Measuring several instances: `bench scaling`."""

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
    "--seconds", default=30.0, show_default=True, type=click.FloatRange(1, 86_400), help="A run."
)
@click.option(
    "--instances",
    "counts",
    default="1,2",
    show_default=True,
    metavar="N,...",
    callback=lambda ctx, parameter, given: counted(given),
    help="How many instances to measure, in turn.",
)
@click.option(
    "--together",
    is_flag=True,
    help="Keep the members of a room on one instance, as room_affinity does.",
)
@click.option("--rounds", default=2, show_default=True, type=click.IntRange(1, 100))
@settings_option("instances")
@save_option
@as_json_option
def scaling(
    *,
    users: int,
    room_size: int,
    rate: float,
    seconds: float,
    counts: list[int],
    together: bool,
    rounds: int,
    server_settings: dict[str, str],
    save: Path | None,
    as_json: bool,
) -> None:
    """The same load on one instance and on several, the members of each room spread over all of them.

    Starts PostgreSQL (which waits for the disk) and Valkey in a temporary folder. Needs the extra tableforge[fleet], or
    those servers installed. Exits with 1 when anything was lost, doubled, out of order or refused.
    """
    from tableforge.bench.figures import Plan
    from tableforge.bench.scaling import run
    from tableforge.ops.servers import PostgresServer, RedisServer, scratch

    refuse_empty_seats(users, room_size)
    plan = Plan(
        users=users, room_size=room_size, rate=rate, seconds=seconds, settings=server_settings
    )
    with scratch() as folder:
        database, bus = PostgresServer(folder / "postgres"), RedisServer(folder / "valkey")
        try:
            database.start()
            bus.start()
            report = run(
                plan,
                services={"DATABASE_URL": database.url, "REDIS_URL": bus.url},
                counts=counts,
                rounds=rounds,
                together=together,
                progress=lambda line: click.echo(line, err=True),
            )
        finally:
            bus.stop()
            database.stop()
    tell(report, report.text(), save=save, as_json=as_json)


def counted(given: str) -> list[int]:
    """Read numbers of instances."""
    found = [int(one) if one.strip().isdecimal() else 0 for one in given.split(",")]
    if not found or not all(1 <= one <= 16 for one in found):
        raise click.BadParameter(f"{given!r} is not a list of numbers from 1 to 16, as in 1,2,3.")
    return found
