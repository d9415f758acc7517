"""Peers: each adapter does the work of the crowd, and what was measured is judged by who was the limit."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tableforge.bench import peers
from tableforge.bench.document import Verdict
from tableforge.bench.latency import Quantiles
from tableforge.bench.peers import PROMISES, Found, Plan, Standing, Step, adapters, chosen, climb
from tableforge.bench.peers_report import section_of, text_of
from tableforge.errors import Malformed, Unavailable
from tests.peers import contenders
from tests.peers.install import packages

TINY = Plan(users=20, seconds=0.3, warm_up_seconds=0.1, rates=(200,), rounds=1)
IN_THE_PROJECTS_OWN = ("socketio", "socketio-redis", "ws", "uvicorn")
"""The others need an environment of their own, and run by hand."""


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    packages()


@pytest.mark.parametrize("name", IN_THE_PROJECTS_OWN)
def test_a_peer_tells_every_member_of_every_move(name: str, tmp_path: Path) -> None:
    (peer,), _ = chosen([name], adapters())
    assert peer.versions()
    assert set(peer.gives) == set(PROMISES)
    with peer.serve(tmp_path, None) as served:
        seats = served.seats(TINY.users, TINY.room_size)
        (step,) = asyncio.run(climb(TINY, served, seats, lambda words: None))
        assert served.memory_bytes() > 1 << 20
    assert (step.missing, step.out_of_order, step.errors) == (0, 0, 0), step.first_error
    assert step.latency.count == 60 * 9
    assert 0 < step.latency.p50_ms <= step.latency.p99_ms
    assert step.cpu_us > 0


def test_a_peer_that_nobody_knows_is_refused_with_the_names_of_all() -> None:
    with pytest.raises(
        Malformed, match=r"There is no peer socketoi\. Name some of socketio, .*all"
    ):
        chosen(["socketoi", "ws"], adapters())


def test_all_of_them_are_chosen_by_one_name() -> None:
    found, grounds = chosen(["all"], adapters())
    assert [one.name for one in found][:2] == ["socketio", "socketio-redis"]
    assert [one.name for one in grounds] == ["sqlite", "postgres"]


def test_without_a_checkout_the_mend_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(peers, "__file__", str(tmp_path / "a/b/c/peers.py"))
    with pytest.raises(Unavailable, match=r"an installed package does not have.*make setup peers"):
        adapters()


def test_what_is_not_installed_is_named_with_its_mend(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(contenders, "PACKAGES", tmp_path)
    with pytest.raises(
        Unavailable, match=r"The npm package ws is not installed\. Run `make peers`"
    ):
        contenders.packages_of_node("ws")


def step(rate: float, delivered: float, *, server: float = 50, crowd: float = 50) -> Step:
    """A rate as it might have been measured."""
    latency = Quantiles(1, 1.0, 2.0, 3.0, 4.0)
    return Step(
        due_per_second=rate,
        delivered_per_second=delivered,
        latency=latency,
        lateness=Quantiles(1, 0.1, 0.2, 0.3, 0.4),
        cpu_us=10.0,
        server_percent=server,
        crowd_percent=crowd,
        crowd_waited_percent=0.0,
        missing=0,
        out_of_order=0,
        errors=0,
        first_error="",
    )


def standing(name: str, rounds: Sequence[tuple[Step, ...]]) -> Standing:
    """Somebody with these rounds."""
    gives = dict.fromkeys(PROMISES, "none")
    return Standing(
        name=name, title=name, versions="1", gives=gives, rounds=tuple(rounds), memory_bytes=1
    )


def found(ours: Sequence[tuple[Step, ...]], theirs: Sequence[tuple[Step, ...]]) -> Found:
    """Ours beside Socket.IO."""
    both = (standing("tableforge", ours), standing("socketio", theirs))
    return Found(plan=Plan(), cores="two", standings=both, grounds=())


CALM = step(10_000, 10_000)


def test_the_ratio_is_that_of_the_rounds_in_the_middle() -> None:
    ours = [(CALM, step(200_000, most, server=99)) for most in (90_000, 100_000, 110_000)]
    theirs = [(CALM, step(200_000, most, server=98)) for most in (30_000, 40_000, 80_000)]
    section = section_of(found(ours, theirs), "bench")
    (kpi,) = section.kpis
    assert (kpi.value, kpi.verdict, kpi.own) == (2.5, Verdict.MET, True)
    assert "40000 (30000-80000)" in text_of(section)
    assert section.broken == ()


def test_where_the_load_side_was_the_limit_no_figure_of_the_server_is_published() -> None:
    ours = [(CALM, step(200_000, 100_000, server=97, crowd=95))]
    theirs = [(CALM, step(200_000, 40_000, server=99))]
    section = section_of(found(ours, theirs), "bench")
    (kpi,) = section.kpis
    assert (kpi.value, kpi.verdict) == (None, Verdict.UNMEASURED)
    assert kpi.why == "the limit was load side for us, server for it"
    bars = next(plot for plot in section.plots if plot.kind == "bars")
    assert [series.name for series in bars.series] == ["socketio"]
    assert "over 100000" in text_of(section)


def test_a_crowd_that_sends_late_measures_itself_however_busy_the_server_is() -> None:
    late = replace(CALM, lateness=Quantiles(1, 0.1, 2.0, 6.0, 9.0), server_percent=99)
    assert (late.limit, late.timely) == ("load side", False)
    assert (CALM.limit, CALM.timely) == ("", True)


def test_the_rate_that_is_served_in_time_is_the_last_below_ten_milliseconds() -> None:
    slow = replace(CALM, delivered_per_second=40_000, latency=Quantiles(1, 5.0, 10.0, 11.0, 12.0))
    assert standing("ours", [(CALM, slow)]).in_time() == 10_000
    assert standing("ours", [(slow,)]).in_time() == 0


def test_what_must_not_happen_to_us_is_told_at_any_speed() -> None:
    section = section_of(found([(replace(CALM, out_of_order=3),)], [(CALM,)]), "bench")
    assert section.broken == ("3 deliveries of ours were out of order at 10000 a second",)
