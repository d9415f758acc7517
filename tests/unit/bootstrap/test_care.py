"""When maintenance is put off, and when no history may be taken away (rules MC9 and HI8 of `docs/spec.md`)."""

import pytest

from tableforge.bootstrap.care import busy, unlike
from tableforge.library.instances import Instance, Load


def instance(name: str, load: Load, *, alive: bool = True, version: str = "1") -> Instance:
    return Instance(
        id=name,
        incarnation="one",
        version=version,
        started=0.0,
        seen=0.0,
        silent_seconds=0.0,
        alive=alive,
        load=load,
        weight=1,
        has_bus=True,
    )


QUIET = instance("quiet", Load(cpu=0.3, loop_lag_ms=20.0))


@pytest.mark.parametrize(
    ("others", "pool", "why"),
    [
        ([], (3, 20), ""),
        ([], (40, 0), ""),
        ([instance("full", Load(cpu=0.93))], (3, 20), "instance full uses 93% of its core"),
        ([instance("late", Load(loop_lag_ms=400.0))], (3, 20), "instance late is behind by 400 ms"),
        ([instance("dead", Load(cpu=1.0), alive=False)], (3, 20), ""),
        ([], (16, 20), "16 of 20 connections to the database are in use"),
    ],
)
def test_mc9_a_busy_instance_or_a_full_pool_puts_maintenance_off(
    others: list[Instance], pool: tuple[int, int], why: str
) -> None:
    assert busy([QUIET, *others], pool_busy=pool[0], pool_max=pool[1]) == why


def test_hi8_versions_that_serve_side_by_side_are_in_the_way() -> None:
    later = instance("later", Load(), version="2")
    gone = instance("gone", Load(), version="2", alive=False)
    assert unlike([]) == unlike([QUIET, QUIET, gone]) == unlike([later]) == ""
    assert unlike([QUIET, later]) == "Versions 1 and 2 serve side by side."
