"""Measuring the cache: `bench cache`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tableforge.cli.conduct import as_json_option
from tableforge.cli.measuring import (
    ordered,
    out_option,
    profile_option,
    publish,
    quick_option,
    save_option,
)

if TYPE_CHECKING:
    from tableforge.bench.cache_report import CacheReport
    from tableforge.bench.document import Section
    from tableforge.bench.suite import Order


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
@quick_option("Shorter loads and fewer rounds.")
@save_option
@out_option
@profile_option
@as_json_option
def cache(
    *,
    parts: tuple[str, ...],
    redis: str | None,
    seed: int,
    quick: bool,
    save: Path | None,
    out: Path | None,
    profile: bool,
    as_json: bool,
) -> None:
    """What a hit in memory costs, what is hit, how many load at once, and what the shared level adds to a bare GET.

    Beside ours stands what is installed of cashews, aiocache, theine and cachebox. Exits with 1 when no more than 90 % of an
    evening are hit, or many who miss a key at once load it more than once; with 2 when nothing could be measured. Targets of
    our own are told, too.
    """
    with ordered(quick=quick, out=out, profile=profile) as order:
        report = measured(order, parts=parts, redis=redis, seed=seed)
    publish(report, report.text(), order=order, out=out, save=save, as_json=as_json)


def measured(
    order: "Order", *, parts: Sequence[str], redis: str | None, seed: int
) -> "CacheReport":
    """Measure these parts, or all."""
    import dataclasses
    from secrets import token_hex

    from tableforge.bench.cache import PARTS, SharedLevel, run
    from tableforge.bench.cache_report import QUICK, Plan
    from tableforge.bench.flame import here
    from tableforge.config import CacheKnobs, RedisKnobs
    from tableforge.ops.servers import RedisServer, scratch

    def shared_level(url: str) -> SharedLevel:
        from tableforge.bootstrap.caching import redis_level

        # A machine that is busy is measured as well: it may answer late, but not be given up.
        patient = CacheKnobs(redis_hard_ms=5_000)
        return redis_level(RedisKnobs(url=url), patient, secret=token_hex(16), origin="bench")

    words = ["tableforge bench cache", "--quick" * order.quick, f"--seed {seed}" * (seed != 1)]
    words += [f"--part {part}" for part in parts]
    with scratch() as folder:
        valkey = RedisServer(folder)

        def server() -> str:
            if redis:
                return redis
            valkey.start()
            return valkey.url

        try:
            with here(order.out, "cache", wanted=order.profile):
                return run(
                    dataclasses.replace(QUICK if order.quick else Plan(), seed=seed),
                    parts or PARTS,
                    server=server,
                    make=shared_level,
                    told=order.told,
                    command=" ".join(word for word in words if word),
                )
        finally:
            valkey.stop()


def section(order: "Order") -> "Section":
    """All parts, for `bench all`."""
    return measured(order, parts=(), redis=None, seed=1).section()
