"""Measuring against other servers: `--against`, of `bench websocket` and `bench all`."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tableforge.bench.document import Section
    from tableforge.bench.suite import Order


def names(
    ctx: click.Context, parameter: click.Parameter, given: tuple[str, ...]
) -> tuple[str, ...]:
    """Read names, each for itself or with commas between them."""
    return tuple(name.strip() for one in given for name in one.split(",") if name.strip())


against_option = click.option(
    "--against",
    multiple=True,
    metavar="PEER,...",
    callback=names,
    help="Then the same work on these servers too: socketio, socketio-redis, python-socketio, ws, uvicorn, sqlite, postgres,"
    " or all. Only in a checkout, after `make peers`.",
)


def section(order: "Order") -> "Section":
    """Ours and those that the order names, in turn."""
    from tableforge.bench import peers
    from tableforge.bench.peers_report import section_of

    words = ["tableforge bench all --only peers", "--quick" * order.quick]
    words += [f"--against {name}" for name in order.against]
    found = peers.run(
        order.against, peers.QUICK if order.quick else peers.Plan(), progress=order.say
    )
    return section_of(found, " ".join(word for word in words if word))
