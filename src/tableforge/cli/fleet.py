"""Many instances: a fleet to try on this machine, and the proxy in front of one."""

from typing import TYPE_CHECKING

import click

from tableforge.cli.conduct import settings
from tableforge.errors import Malformed

if TYPE_CHECKING:
    from tableforge.ops.proxies import Strategy

STRATEGIES: "tuple[Strategy, ...]" = (
    "round_robin",
    "least_connections",
    "weighted",
    "room_affinity",
)
FIGURES = "127.0.0.1:8404"


@click.command("proxy-config")
@click.argument("proxy", type=click.Choice(["haproxy", "nginx"]))
@click.option(
    "--strategy",
    type=click.Choice(STRATEGIES),
    help="How connections are spread.  [default: LOAD_BALANCER_STRATEGY]",
)
@click.option(
    "--instance",
    "instances",
    multiple=True,
    required=True,
    metavar="NAME=HOST:PORT[@WEIGHT]",
    help="One instance, by its INSTANCE_ID; to be repeated.",
)
@click.option("--listen", required=True, metavar="HOST:PORT", help="Where players connect.")
@click.option("--base-path", metavar="PATH", help="Serve below it.  [default: BASE_PATH]")
@click.option(
    "--figures",
    default=FIGURES,
    show_default=True,
    metavar="HOST:PORT",
    help="Where HAProxy shows its state, and its metrics at /metrics.",
)
def proxy_config(
    *,
    proxy: str,
    strategy: "Strategy | None",
    instances: tuple[str, ...],
    listen: str,
    base_path: str | None,
    figures: str,
) -> None:
    """Print a complete configuration of HAProxy or nginx for a fleet of instances.

    Looks after WebSockets that are quiet, instances that drain or die, and the address of the player that an instance
    sees. WS_PING_SECONDS is taken from the settings. `haproxy -c -f FILE` and `nginx -t -c FILE` check what was made.
    """
    from tableforge.config.values import read_base_path
    from tableforge.ops import proxies

    read = settings()
    try:
        base = read.serving.base_path if base_path is None else read_base_path(base_path)
    except ValueError:
        raise click.BadParameter(
            "Write a path such as / or /table/.", param_hint="--base-path"
        ) from None
    try:
        plan = proxies.Plan(
            strategy=read.fleet.strategy if strategy is None else strategy,
            instances=[proxies.read_instance(one) for one in instances],
            listen=proxies.read_address(listen),
            figures=proxies.read_address(figures),
            base_path=base,
            ping_seconds=read.sockets.ping_seconds,
        )
        written = {"haproxy": proxies.haproxy, "nginx": proxies.nginx}[proxy](plan)
    except Malformed as error:
        raise click.UsageError(error.detail) from None
    click.echo(written, nl=False)
