"""Measuring several instances: `bench scaling`."""

from collections.abc import Sequence
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
    rate_option,
    refuse_empty_seats,
    room_size_option,
    save_option,
    settings_option,
    users_option,
)
from tableforge.cli.measuring_chaos import QUICK_FLEET, servers_of_a_fleet

if TYPE_CHECKING:
    from tableforge.bench.document import Section
    from tableforge.bench.figures import Plan
    from tableforge.bench.scaling_report import Scaling
    from tableforge.bench.spread import Spread
    from tableforge.bench.suite import Order

PLACED: Final = {"both": (True, False), "together": (True,), "spread": (False,)}
SECONDS_OF_ALL: Final = 8.0
ROUNDS_OF_ALL: Final = 3
WARM_UP_SECONDS: Final = 3.0
QUICK_SECONDS: Final = 2.5
QUICK_WARM_UP: Final = 1.0
QUICK_USERS: Final = 200
QUICK_RATE: Final = 3.0
"""Of each, where there are few of them: some hundred moves a second wake servers as often as the whole load does."""
SPREAD_PLAYERS: Final = 300
QUICK_SPREAD_PLAYERS: Final = 64


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
    "--rooms",
    type=click.Choice(["both", "together", "spread"]),
    default="both",
    show_default=True,
    help="The members of a room on one instance, as room_affinity places them, on all of them, or each in turn.",
)
@click.option("--rounds", default=2, show_default=True, type=click.IntRange(1, 100))
@click.option(
    "--spread/--no-spread",
    default=True,
    help="Then look at how a balancer spreads players, through a rolling restart.  [default: spread]",
)
@quick_option("One short round, with 200 users at most.")
@settings_option("instances")
@save_option
@out_option
@profile_option
@as_json_option
def scaling(
    *,
    users: int,
    room_size: int,
    rate: float,
    seconds: float,
    counts: list[int],
    rooms: str,
    rounds: int,
    spread: bool,
    quick: bool,
    server_settings: dict[str, str],
    save: Path | None,
    out: Path | None,
    profile: bool,
    as_json: bool,
) -> None:
    """The same load on one instance and on several, the members of a room together and spread over them.

    Starts PostgreSQL (which waits for the disk) and Valkey in a temporary folder. Needs the extra tableforge[fleet], or
    those servers installed. Exits with 1 when anything was lost, doubled, out of order or refused, or a target of the
    contract is missed; with 2 when the players were slower than the servers.
    """
    from tableforge.bench.figures import Plan

    refuse_empty_seats(users, room_size)
    plan = Plan(
        users=users,
        room_size=room_size,
        rate=rate,
        seconds=seconds,
        warm_up_seconds=WARM_UP_SECONDS,
        settings=server_settings,
    )
    with ordered(quick=quick, out=out, profile=profile) as order:
        report = measured(plan, order, counts=counts, rounds=rounds, rooms=rooms, spread=spread)
    publish(report, report.text(), order=order, out=out, save=save, as_json=as_json)


def measured(
    plan: "Plan",
    order: "Order",
    *,
    counts: Sequence[int],
    rounds: int,
    rooms: str = "both",
    spread: bool = True,
) -> "Scaling":
    """What the runs found; a quick one is cut short."""
    import dataclasses

    from tableforge.bench import flame
    from tableforge.bench.scaling import run
    from tableforge.bench.scaling_report import Layout
    from tableforge.ops.servers import PostgresServer, RedisServer, scratch

    if order.quick:
        users = min(plan.users, QUICK_USERS - QUICK_USERS % plan.room_size or plan.room_size)
        plan = dataclasses.replace(
            plan,
            users=users,
            rate=QUICK_RATE if plan.rate == 1.0 else plan.rate,
            seconds=min(plan.seconds, QUICK_SECONDS),
            warm_up_seconds=QUICK_WARM_UP,
            quick=True,
        )
        rounds = 1
    command = (
        f"tableforge bench scaling --users {plan.users} --room-size {plan.room_size} --rate {plan.rate:g}"
        f" --seconds {plan.seconds:g} --instances {','.join(map(str, counts))} --rounds {rounds}"
        + f" --rooms {rooms}" * (rooms != "both")
        + " --no-spread" * (not spread)
        + " --quick" * order.quick
    )
    layouts = [
        Layout(count, together)
        for count in counts
        for together in ([True] if count == 1 else PLACED[rooms])
    ]
    profiling = flame.environment(order.out, "scaling-instance") if order.profile else {}
    with scratch() as folder:
        database, bus = PostgresServer(folder / "postgres"), RedisServer(folder / "valkey")
        try:
            database.start()
            bus.start()
            return run(
                plan,
                services={"DATABASE_URL": database.url, "REDIS_URL": bus.url, **profiling},
                layouts=layouts,
                rounds=rounds,
                progress=order.say,
                command=command,
                spread=(lambda: spread_of(order, folder / "spread")) if spread else None,
            )
        finally:
            bus.stop()
            database.stop()


def spread_of(order: "Order", folder: Path) -> "Spread":
    """How players are spread over a whole fleet, which is made in this folder."""
    from tableforge.bench.chaos import Plan
    from tableforge.bench.spread import measure

    folder.mkdir(mode=0o711)
    players = QUICK_SPREAD_PLAYERS if order.quick else SPREAD_PLAYERS
    fleet = Plan(players=players, instances=2 if order.quick else 3, rate=0.2)
    hurry = QUICK_FLEET if order.quick else {}
    makers = servers_of_a_fleet(quick=order.quick)
    return measure(folder, makers, fleet, hurry, quick=order.quick)


def section(order: "Order") -> "Section":
    """One and two instances, for `bench all`."""
    from tableforge.bench.figures import Plan

    plan = Plan(seconds=SECONDS_OF_ALL, warm_up_seconds=WARM_UP_SECONDS)
    return measured(plan, order, counts=(1, 2), rounds=ROUNDS_OF_ALL).section()


def counted(given: str) -> list[int]:
    """Read numbers of instances."""
    found = [int(one) if one.strip().isdecimal() else 0 for one in given.split(",")]
    if not found or not all(1 <= one <= 16 for one in found):
        raise click.BadParameter(f"{given!r} is not a list of numbers from 1 to 16, as in 1,2,3.")
    return found
