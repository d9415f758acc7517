"""The group of all commands that measure: `bench`."""

import click

from tableforge.cli.measuring_all import compare, everything, report
from tableforge.cli.measuring_api import api
from tableforge.cli.measuring_cache import cache
from tableforge.cli.measuring_capacity import bench_capacity
from tableforge.cli.measuring_chaos import chaos
from tableforge.cli.measuring_client import client
from tableforge.cli.measuring_database import database, seed
from tableforge.cli.measuring_scaling import scaling
from tableforge.cli.measuring_websocket import websocket


@click.group()
def bench() -> None:
    """Measure a server of its own on this machine, with the machine's floor beside it."""


for command in (
    everything,
    websocket,
    api,
    scaling,
    chaos,
    cache,
    database,
    client,
    bench_capacity,
    compare,
    report,
    seed,
):
    bench.add_command(command)
