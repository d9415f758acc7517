"""Measuring what faults cost: `bench chaos`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tableforge.cli.conduct import as_json_option
from tableforge.cli.measuring import save_option, settings_option, tell

if TYPE_CHECKING:
    from tableforge.bench.ground import Makers


@click.command()
@click.option("--players", default=300, show_default=True, type=click.IntRange(2, 5_000))
@click.option("--room-size", default=8, show_default=True, type=click.IntRange(1, 200))
@click.option(
    "--rate",
    default=0.5,
    show_default=True,
    type=click.FloatRange(0.01, 100),
    help="Moves a second of each player.",
)
@click.option(
    "--faults", metavar="NAME,...", help="Only these; --faults list shows them.  [default: all]"
)
@click.option("--quick", is_flag=True, help="Shorter faults and fewer players.")
@settings_option("instances")
@save_option
@as_json_option
def chaos(
    *,
    players: int,
    room_size: int,
    rate: float,
    faults: str | None,
    quick: bool,
    server_settings: dict[str, str],
    save: Path | None,
    as_json: bool,
) -> None:
    """Hurt a fleet under load in every way we know, and hold what it promised against what it did.

    Starts PostgreSQL (which waits for the disk), Valkey, HAProxy and three instances in a temporary folder. Needs the
    extra tableforge[fleet], or those servers installed. Exits with 1 when a command that was acknowledged was lost,
    doubled or reordered, when a player missed an event, or never recovered.
    """
    from tableforge.bench.chaos import Plan, run
    from tableforge.bench.faults import FAULTS
    from tableforge.bench.machine import machine
    from tableforge.ops.servers import scratch

    if faults == "list":
        click.echo("\n".join(f"{fault.name:20} {fault.what}" for fault in FAULTS))
        return
    names = faults.split(",") if faults else [fault.name for fault in FAULTS]
    unknown = set(names) - {fault.name for fault in FAULTS}
    if unknown:
        raise click.BadParameter(
            f"There is no fault {', '.join(sorted(unknown))}.", param_hint="--faults"
        )
    plan = Plan(
        players=min(players, 100) if quick else players,
        room_size=room_size,
        rate=rate,
        calm=2.0 if quick else 5.0,
        quick=quick,
        faults=names,
    )
    with scratch() as folder:
        report = run(
            plan,
            folder,
            servers_of_a_fleet(),
            settings=server_settings,
            machine=machine(folder),
            progress=lambda line: click.echo(line, err=True),
        )
    tell(report, report.text(), save=save, as_json=as_json)


def servers_of_a_fleet() -> "Makers":
    """What a bench that knows no makers needs to start a fleet."""
    from tableforge.bench.ground import Makers
    from tableforge.ops import proxies
    from tableforge.ops.fleet import InstanceServer
    from tableforge.ops.servers import HaproxyServer, PostgresServer, RedisServer, free_port

    def balancer(folder: Path, ports: Mapping[str, int]) -> HaproxyServer:
        port = free_port()
        plan = proxies.Plan(
            strategy="least_connections",
            instances=[
                proxies.Instance(name, proxies.Address("127.0.0.1", at))
                for name, at in ports.items()
            ],
            listen=proxies.Address("127.0.0.1", port),
            figures=proxies.Address("127.0.0.1", free_port()),
        )
        return HaproxyServer(folder, port, configuration=proxies.haproxy(plan))

    return Makers(PostgresServer, RedisServer, InstanceServer, balancer)
