"""Measuring lists and searches: `bench seed` and `bench database`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from tableforge.cli.conduct import as_json_option, settings
from tableforge.cli.measuring import (
    ordered,
    out_option,
    profile_option,
    publish,
    quick_option,
    save_option,
)

if TYPE_CHECKING:
    from tableforge.bench.database import Report
    from tableforge.bench.document import Section
    from tableforge.bench.suite import Order
    from tableforge.config import Settings

PAGES: Final = 200
QUICK_PAGES: Final = 25
AMOUNTS: Final = (20_000, 4_000, 150_000, 4_000)
"""Rooms, users, assets and designs that are made up for `bench all`."""
QUICK_AMOUNTS: Final = (2_000, 400, 10_000, 400)


@click.command()
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


@click.command()
@click.option(
    "--pages",
    default=PAGES,
    show_default=True,
    type=click.IntRange(1, 100_000),
    help="Of each question.",
)
@click.option("--seed", default=1, show_default=True, help="The same number asks for the same.")
@click.option("--plans", is_flag=True, help="Print how the database goes about each statement.")
@click.option(
    "--made-up",
    is_flag=True,
    help="Ask a PostgreSQL of its own (SQLite where there is none) with made-up data.",
)
@quick_option("Few pages, of few data where they are made up.")
@save_option
@out_option
@profile_option
@as_json_option
def database(
    *,
    pages: int,
    seed: int,
    plans: bool,
    made_up: bool,
    quick: bool,
    save: Path | None,
    out: Path | None,
    profile: bool,
    as_json: bool,
) -> None:
    """How long lists and searches take on the database of DATABASE_URL, or else TABLEFORGE_DATA, filled by `bench seed`.

    Asks for pages at random depths of every list, by text and tag, what is rare and what is absent included. Exits with 1
    when the p95 of any of them is not below 25 ms, with 2 when there is nothing to measure.
    """
    pages = min(pages, QUICK_PAGES) if quick else pages
    command = f"tableforge bench database --pages {pages} --seed {seed}" + " --made-up" * made_up
    with ordered(quick=quick, out=out, profile=profile) as order:
        if made_up:
            report = made_up_report(order, pages=pages, seed=seed, command=command)
        else:
            report = asked_report(settings(), order, pages=pages, seed=seed, command=command)
    publish(report, report.text(plans=plans), order=order, out=out, save=save, as_json=as_json)


def asked_report(
    read: "Settings", order: "Order", *, pages: int, seed: int, command: str
) -> "Report":
    """Ask the database that the settings name."""
    import asyncio

    from tableforge.bench.database import Report, run
    from tableforge.bench.flame import here
    from tableforge.bootstrap.questions import asked

    async def measure() -> Report:
        async with asked(read) as desk:
            return await run(
                desk.questions,
                pages=pages,
                seed=seed,
                server=desk.server,
                contents=desk.contents,
                plans=desk.plans,
                progress=order.told,
                command=command,
            )

    with here(order.out, "database", wanted=order.profile):
        return asyncio.run(measure())


def made_up_report(order: "Order", *, pages: int, seed: int, command: str) -> "Report":
    """Ask a PostgreSQL of its own in a temporary folder, or SQLite where PostgreSQL is not installed."""
    import asyncio
    import shutil
    import tempfile
    from secrets import token_hex

    from tableforge.bench.suite import data_folder
    from tableforge.config import load
    from tableforge.errors import StartRefused
    from tableforge.ops.seed import Amounts
    from tableforge.ops.seed import seed as fill
    from tableforge.ops.servers import PostgresServer, scratch

    amounts = Amounts(*(QUICK_AMOUNTS if order.quick else AMOUNTS), seed)
    folder = Path(tempfile.mkdtemp(prefix="tableforge-bench-", dir=data_folder()))
    with scratch() as running:
        server = PostgresServer(running / "postgres")
        try:
            try:
                server.start()
                own = {"DATABASE_URL": server.url, "ADMIN_TOKEN": token_hex(16)}
                read = load({**own, "TABLEFORGE_DATA": str(folder)}, None)
            except StartRefused as refusal:
                order.say(f"SQLite is measured: {refusal.detail}")
                read = load({"TABLEFORGE_DATA": str(folder)}, None)
            place = read.database if read.database.chosen else read.storage.folder
            asyncio.run(fill(place, amounts, add=False, progress=order.told))
            return asked_report(read, order, pages=pages, seed=seed, command=command)
        finally:
            server.stop()
            shutil.rmtree(folder, ignore_errors=True)


def section(order: "Order") -> "Section":
    """Made-up data, for `bench all`."""
    pages = QUICK_PAGES if order.quick else PAGES
    command = f"tableforge bench database --made-up --pages {pages}" + " --quick" * order.quick
    return made_up_report(order, pages=pages, seed=1, command=command).section()
