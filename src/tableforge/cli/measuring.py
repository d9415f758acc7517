"""Measuring: `bench`."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from tableforge.cli.conduct import FAILED, REFUSED, as_json_option, settings

if TYPE_CHECKING:
    from tableforge.bench.ground import Makers


Command = TypeVar("Command", bound=Callable[..., Any])


@click.group()
def bench() -> None:
    """Measure a server of its own on this machine, with the machine's floor beside it."""


def assignments(
    ctx: click.Context, parameter: click.Parameter, given: tuple[str, ...]
) -> dict[str, str]:
    """Read NAME=VALUE pairs."""
    pairs = [one.partition("=") for one in given]
    for (name, equals, _), written in zip(pairs, given, strict=True):
        if not (name and equals):
            raise click.BadParameter(f"{written!r} is not of the form NAME=VALUE.")
    return {name: value for name, _, value in pairs}


users_option = click.option(
    "--users", default=1000, show_default=True, type=click.IntRange(1, 20_000)
)
room_size_option = click.option(
    "--room-size", default=10, show_default=True, type=click.IntRange(1, 200), help="Users a room."
)
rate_option = click.option(
    "--rate",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0.01, 100),
    help="Moves a second of each user.",
)
save_option = click.option(
    "--save",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the report as JSON to this file, too.",
)


def settings_option(whose: str) -> Callable[[Command], Command]:
    """Takes settings for what is measured."""
    return click.option(
        "--set",
        "server_settings",
        multiple=True,
        metavar="NAME=VALUE",
        callback=assignments,
        help=f"A setting of the {whose}; may be repeated.",
    )


def refuse_empty_seats(users: int, room_size: int) -> None:
    """Refuse a number of users that leaves a room half full."""
    if users % room_size:
        raise click.BadParameter(
            f"{users} users do not fill rooms of {room_size}.", param_hint="--users"
        )


class Measured(Protocol):
    """What every report can say of itself."""

    @property
    def failed(self) -> bool: ...

    def as_json(self) -> dict[str, Any]: ...


def tell(report: Measured, text: str, *, save: Path | None, as_json: bool) -> None:
    """Print a report, keep it if that is asked for, and end as it went."""
    as_text = json.dumps(report.as_json(), indent=2)
    click.echo(as_text if as_json else text)
    if save is not None:
        save.write_text(f"{as_text}\n", "utf-8")
    if report.failed:
        sys.exit(FAILED)


@bench.command()
@users_option
@room_size_option
@rate_option
@click.option(
    "--seconds", default=60.0, show_default=True, type=click.FloatRange(1, 86_400), help="Measured."
)
@click.option(
    "--warm-up",
    default=5.0,
    show_default=True,
    type=click.FloatRange(0, 3_600),
    help="Seconds of load before that.",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False, writable=True),
    help="Where the server's temporary data goes: the disk to measure.  [default: /var/tmp]",
)
@settings_option("measured server")
@save_option
@as_json_option
def websocket(
    *,
    users: int,
    room_size: int,
    rate: float,
    seconds: float,
    warm_up: float,
    folder: Path | None,
    server_settings: dict[str, str],
    save: Path | None,
    as_json: bool,
) -> None:
    """Durable moves over real sockets: delivery latency, and the server's CPU and memory.

    Starts a server with temporary data. Each user moves a piece of their own at moments fixed before; latency counts
    from then to the arrival at each member of the room. Afterwards the log is compared with what was acknowledged.
    Exits with 1 when anything was lost, doubled, out of order or refused.
    """
    from tableforge.bench.figures import Plan, command_line
    from tableforge.bench.report import text_of
    from tableforge.bench.websocket import run

    refuse_empty_seats(users, room_size)
    plan = Plan(
        users=users,
        room_size=room_size,
        rate=rate,
        seconds=seconds,
        warm_up_seconds=warm_up,
        folder=folder,
        settings=server_settings,
    )
    report = run(plan, command=command_line(plan), progress=lambda line: click.echo(line, err=True))
    tell(report, text_of(report), save=save, as_json=as_json)


@bench.command()
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


@bench.command()
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


@bench.command()
@click.option("--rooms", default=100_000, show_default=True, type=click.IntRange(0, 10_000_000))
@click.option("--users", default=20_000, show_default=True, type=click.IntRange(1, 10_000_000))
@click.option("--assets", default=1_000_000, show_default=True, type=click.IntRange(0, 100_000_000))
@click.option(
    "--designs",
    default=20_000,
    show_default=True,
    type=click.IntRange(0, 10_000_000),
    help="Half game systems, half templates.",
)
@click.option("--seed", default=1, show_default=True, help="The same number makes the same.")
@click.option("--add", is_flag=True, help="Also to a database that has rooms already.")
@as_json_option
def seed(
    *, rooms: int, users: int, assets: int, designs: int, seed: int, add: bool, as_json: bool
) -> None:
    """Fill a database with made-up rooms, people, pictures' rows and designs, to measure what lists and searches take.

    DATABASE_URL, or else TABLEFORGE_DATA, says which database; it needs no server. All of it is made, or nothing.
    """
    import asyncio

    from tableforge.cli.keeping import Progress
    from tableforge.ops.seed import Amounts
    from tableforge.ops.seed import seed as fill

    read = settings()
    amounts = Amounts(rooms, users, assets, designs, seed)
    place = read.database if read.database.chosen else read.storage.folder
    with Progress() as progress:
        asyncio.run(fill(place, amounts, add=add, progress=progress))
    if as_json:
        click.echo(json.dumps(amounts._asdict()))
    else:
        click.echo(
            f"{rooms} rooms, {users} users, {assets} assets and {designs} designs are there."
        )


@bench.command()
@click.option(
    "--pages",
    default=200,
    show_default=True,
    type=click.IntRange(1, 100_000),
    help="Of each question.",
)
@click.option("--seed", default=1, show_default=True, help="The same number asks for the same.")
@click.option("--plans", is_flag=True, help="Print how the database goes about each statement.")
@save_option
@as_json_option
def database(*, pages: int, seed: int, plans: bool, save: Path | None, as_json: bool) -> None:
    """How long lists and searches take on the database of DATABASE_URL, or else TABLEFORGE_DATA, filled by `bench seed`.

    Asks for pages at random depths of every list, by text and tag, what is rare and what is absent included. Exits with 1
    when the p95 of any of them is not below 25 ms, with 2 when there is nothing to measure.
    """
    import asyncio

    from tableforge.bench.database import Report, run
    from tableforge.bootstrap.questions import asked

    read = settings()

    async def measure() -> Report:
        async with asked(read) as desk:
            return await run(
                desk.questions,
                pages=pages,
                seed=seed,
                server=desk.server,
                contents=desk.contents,
                plans=desk.plans,
                progress=lambda line: click.echo(line, err=True),
            )

    report = asyncio.run(measure())
    tell(report, report.text(plans=plans), save=save, as_json=as_json)


@bench.command("cache")
@click.option(
    "--part",
    "parts",
    multiple=True,
    type=click.Choice(("hits", "ratios", "stampede", "shared")),
    help="Only this; may be repeated.  [default: all]",
)
@click.option(
    "--redis",
    metavar="URL",
    help="The server of the shared level; it keeps nothing of it.  [default: Valkey in a temporary folder]",
)
@click.option("--seed", default=1, show_default=True, help="The same number asks for the same.")
@click.option("--quick", is_flag=True, help="Shorter loads and fewer rounds.")
@save_option
@as_json_option
def cache(
    *,
    parts: tuple[str, ...],
    redis: str | None,
    seed: int,
    quick: bool,
    save: Path | None,
    as_json: bool,
) -> None:
    """What a hit in memory costs, what is hit, how many load at once, and what the shared level adds to a bare GET.

    Beside ours stands what is installed of cashews, aiocache, theine and cachebox. Exits with 1 when a target is missed,
    with 2 when nothing could be measured.
    """
    import dataclasses
    from secrets import token_hex

    from tableforge.bench.cache import PARTS, QUICK, Plan, SharedLevel, run
    from tableforge.cli.keeping import Progress
    from tableforge.config import CacheKnobs, RedisKnobs
    from tableforge.ops.servers import RedisServer, scratch

    def shared_level(url: str) -> SharedLevel:
        from tableforge.bootstrap.caching import redis_level

        # A machine that is busy is measured as well: it may answer late, but not be given up.
        patient = CacheKnobs(redis_hard_ms=5_000)
        return redis_level(RedisKnobs(url=url), patient, secret=token_hex(16), origin="bench")

    with scratch() as folder, Progress() as progress:
        valkey = RedisServer(folder)

        def server() -> str:
            if redis:
                return redis
            valkey.start()
            return valkey.url

        try:
            report = run(
                dataclasses.replace(QUICK if quick else Plan(), seed=seed),
                parts or PARTS,
                server=server,
                make=shared_level,
                told=progress,
            )
        finally:
            valkey.stop()
    if not report.measured:
        click.echo(report.text(), err=True)
        sys.exit(REFUSED)
    tell(report, report.text(), save=save, as_json=as_json)
