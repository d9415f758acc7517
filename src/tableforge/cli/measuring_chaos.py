"""Measuring what faults cost: `bench chaos`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

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
    from tableforge.bench.chaos import Chaos
    from tableforge.bench.document import Section
    from tableforge.bench.ground import Makers
    from tableforge.bench.suite import Order

PLAYERS: Final = 300
QUICK_PLAYERS: Final = 100
OF_ALL: Final = (
    "instance-killed",
    "rolling-restart",
    "postgres-killed",
    "redis-killed",
    "redis-cut-off",
    "balancer-reset",
)
"""The faults of `bench all`; `bench chaos` has more."""
QUICK_FLEET: Final = {"REBALANCE_SECONDS": "2", "DRAIN_SECONDS": "8"}
"""In a quick run instances end sooner, and even out their loads more often, than they do by default."""
QUICK_EASE_IN: Final = 2
"""Seconds in which the balancer gives an instance that starts its share, in a quick run."""
QUICK_OF_ALL: Final = ("instance-killed", "redis-killed")


@click.command()
@click.option("--players", default=PLAYERS, show_default=True, type=click.IntRange(2, 5_000))
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
@quick_option("Shorter faults and fewer players.")
@settings_option("instances")
@save_option
@out_option
@profile_option
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
    out: Path | None,
    profile: bool,
    as_json: bool,
) -> None:
    """Hurt a fleet under load in every way we know, and hold what it promised against what it did.

    Starts PostgreSQL (which waits for the disk), Valkey, HAProxy and three instances in a temporary folder. Needs the
    extra tableforge[fleet], or those servers installed. Exits with 1 when a command that was acknowledged was lost,
    doubled or reordered, when a player missed an event, or never recovered.
    """
    from tableforge.bench.faults import FAULTS

    if faults == "list":
        click.echo("\n".join(f"{fault.name:20} {fault.what}" for fault in FAULTS))
        return
    names = faults.split(",") if faults else [fault.name for fault in FAULTS]
    unknown = set(names) - {fault.name for fault in FAULTS}
    if unknown:
        raise click.BadParameter(
            f"There is no fault {', '.join(sorted(unknown))}.", param_hint="--faults"
        )
    with ordered(quick=quick, out=out, profile=profile) as order:
        report = measured(
            order,
            names,
            players=min(players, QUICK_PLAYERS) if quick else players,
            room_size=room_size,
            rate=rate,
            server_settings=server_settings,
        )
    publish(report, report.text(), order=order, out=out, save=save, as_json=as_json)


def measured(
    order: "Order",
    faults: Sequence[str],
    *,
    players: int,
    room_size: int = 8,
    rate: float = 0.5,
    server_settings: Mapping[str, str] | None = None,
) -> "Chaos":
    """Do these faults to a fleet."""
    from tableforge.bench import flame
    from tableforge.bench.chaos import Plan, run
    from tableforge.bench.machine import machine
    from tableforge.ops.servers import scratch

    plan = Plan(
        players=players,
        room_size=room_size,
        rate=rate,
        calm=2.0 if order.quick else 5.0,
        quick=order.quick,
        faults=faults,
    )
    command = f"tableforge bench chaos --players {players} --faults {','.join(faults)}"
    with scratch() as folder:
        return run(
            plan,
            folder,
            servers_of_a_fleet(quick=order.quick),
            settings=server_settings or {},
            machine=machine(folder),
            progress=order.say,
            command=command + " --quick" * order.quick,
            profiling=flame.environment(order.out, "chaos-instance") if order.profile else {},
        )


def section(order: "Order") -> "Section":
    """The faults that matter most, for `bench all`; in a quick one, an instance and Redis are killed."""
    if order.quick:
        players = QUICK_PLAYERS // 2
        return measured(order, QUICK_OF_ALL, players=players, server_settings=QUICK_FLEET).section()
    return measured(order, OF_ALL, players=PLAYERS).section()


def servers_of_a_fleet(*, quick: bool = False) -> "Makers":
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
            ease_in_seconds=QUICK_EASE_IN if quick else proxies.EASE_IN_SECONDS,
        )
        return HaproxyServer(folder, port, configuration=proxies.haproxy(plan))

    return Makers(PostgresServer, RedisServer, InstanceServer, balancer)
