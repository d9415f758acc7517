"""Measuring the cache: `bench cache`."""

import sys
from pathlib import Path

import click

from tableforge.cli.conduct import REFUSED, as_json_option
from tableforge.cli.measuring import save_option, tell


@click.command()
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
