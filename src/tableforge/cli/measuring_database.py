"""Measuring lists and searches: `bench seed` and `bench database`."""

import json
from pathlib import Path

import click

from tableforge.cli.conduct import as_json_option, settings
from tableforge.cli.measuring import save_option, tell


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
