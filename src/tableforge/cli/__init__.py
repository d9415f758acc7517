"""The commands of the contract: what they take, what they print, and how they end.

A command imports what it needs when it is called: `serve` starts without the tools, the tools without the server.
"""

import click

from tableforge.cli.benches import bench
from tableforge.cli.conduct import Commands
from tableforge.cli.fleets import fleet, proxy_config
from tableforge.cli.keeping import backup, config, doctor, migrate, restore, verify
from tableforge.cli.measuring_capacity import capacity
from tableforge.cli.serving import demo, serve


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="tableforge", prog_name="tableforge")
def main() -> None:
    """A self-hosted, rules-agnostic virtual tabletop.

    Settings come from the environment and from .env in the working folder; `tableforge config` prints them.
    """


for command in (
    serve,
    config,
    doctor,
    demo,
    backup,
    restore,
    verify,
    migrate,
    fleet,
    proxy_config,
    bench,
    capacity,
):
    main.add_command(command)
