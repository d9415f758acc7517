"""What became slower is told from noise."""

from collections.abc import Mapping, Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tableforge.bench import targets
from tableforge.bench.compare import Change, compare, student_tail
from tableforge.bench.document import Better, Document, Sample, Section

ROUNDS = st.lists(st.floats(0.95, 1.05), min_size=5, max_size=12)
LEVELS = st.floats(0.001, 100_000)


def report(
    samples: Mapping[str, Sequence[float]],
    *,
    better: Better = "lower",
    broken: tuple[str, ...] = (),
    machine: Mapping[str, str] | None = None,
    lost: float = 0,
    settings: Mapping[str, str] | None = None,
    quick: bool = False,
) -> Document:
    section = Section(
        bench="websocket",
        title="",
        command="",
        kpis=(targets.LOST.judged(lost, ""),),
        settings=settings or {},
        samples=tuple(Sample(name, "ms", better, tuple(found)) for name, found in samples.items()),
        broken=broken,
    )
    return Document(
        made="2026-01-01T00:00:00+00:00",
        version="1",
        commit="c",
        machine=machine or {"processor": "one", "load": "0.1"},
        command="",
        quick=quick,
        sections=(section,),
    )


def only(before: Document, after: Document) -> Change:
    [one] = compare(before, after).figures
    return one.change


@given(ROUNDS, ROUNDS, LEVELS, st.floats(1.5, 20))
def test_a_slowdown_of_half_as_much_again_is_found(
    before: list[float], after: list[float], level: float, times: float
) -> None:
    earlier = report({"p95": [level * one for one in before]})
    later = report({"p95": [level * times * one for one in after]})
    assert only(earlier, later) is Change.SLOWER
    assert only(later, earlier) is Change.FASTER
    assert "p95" in compare(earlier, later).worse[0]
    assert not compare(later, earlier).worse


@given(
    st.lists(st.floats(0.9, 1.1), min_size=1, max_size=30),
    st.lists(st.floats(0.9, 1.1), min_size=1, max_size=30),
    LEVELS,
)
def test_what_lies_within_the_band_is_never_a_change(
    before: list[float], after: list[float], level: float
) -> None:
    earlier = report({"p95": [level * one for one in before]})
    later = report({"p95": [level * one for one in after]})
    found = compare(earlier, later)
    assert not found.worse
    assert all(one.change in (Change.SAME, Change.UNCLEAR) for one in found.figures)


@given(st.lists(st.floats(0.001, 1e6), min_size=3, max_size=30))
def test_a_report_is_the_same_as_itself(rounds: list[float]) -> None:
    assert only(report({"p95": rounds}), report({"p95": rounds})) in (Change.SAME, Change.UNCLEAR)


@given(st.permutations([9.0, 10.0, 10.5, 11.0, 30.0]), st.permutations([17.0, 18, 19, 20, 21]))
def test_the_order_of_rounds_is_nothing(before: list[float], after: list[float]) -> None:
    once = compare(report({"p95": before}), report({"p95": after})).figures
    again = compare(report({"p95": sorted(before)}), report({"p95": sorted(after)})).figures
    assert once[0].change is again[0].change
    assert once[0].times == again[0].times


def test_a_few_wild_rounds_hide_nothing() -> None:
    before = [10.0, 10.2, 9.9, 10.1, 10.0, 9.8, 10.1, 80.0]
    after = [15.0, 15.2, 14.9, 15.1, 15.0, 14.8, 15.1, 15.3]
    assert only(report({"p95": before}), report({"p95": after})) is Change.SLOWER


def test_one_who_would_rather_have_more_is_slower_with_less() -> None:
    before = report({"throughput": [100, 101, 102, 99]}, better="higher")
    after = report({"throughput": [60, 61, 62, 59]}, better="higher")
    assert only(before, after) is Change.SLOWER
    assert only(after, before) is Change.FASTER


def test_noise_of_twenty_figures_raises_hardly_an_alarm() -> None:
    chance = Random(7)

    def noisy() -> Document:
        luck = {number: chance.lognormvariate(0, 0.04) for number in range(20)}
        rounds = {
            f"figure {number}": [own * chance.lognormvariate(0, 0.1) for _ in range(6)]
            for number, own in luck.items()
        }
        return report(rounds)

    alarms = sum(bool(compare(noisy(), noisy()).worse) for _ in range(20))
    assert alarms <= 1


def test_rounds_that_lie_far_apart_cannot_tell() -> None:
    wild = report({"p95": [1.0, 10.0, 100.0]})
    assert only(wild, report({"p95": [2.0, 12.0, 150.0]})) is Change.UNCLEAR


def test_a_slower_machine_is_forgiven() -> None:
    before = report({"machine.loop": [2.0, 2.0, 2.01], "p95": [10.0, 10.1, 10.2]})
    after = report({"machine.loop": [3.0, 3.0, 3.01], "p95": [15.0, 15.1, 15.2]})
    found = compare(before, after)
    assert [one.name for one in found.those(Change.SLOWER)] == ["machine.loop"]
    assert any("50% off" in one for one in found.warnings)
    assert not found.worse


def test_a_promise_that_was_kept_before_is_no_noise() -> None:
    kept = report({})
    assert "lost" in compare(kept, report({}, lost=1)).worse[0]
    assert compare(kept, report({}, broken=("one twice",))).worse == ["websocket: one twice"]
    assert compare(report({}, lost=1), report({}, lost=1)).worse == []


def test_what_is_hard_to_compare_is_told() -> None:
    before = report({"p95": [1.0, 1.0, 1.0], "few": [1.0, 1.0]}, settings={"users": "10"})
    after = report(
        {"p95": [1.0, 1.0, 1.0], "few": [1.0, 1.0]},
        settings={"users": "20"},
        machine={"processor": "two", "load": "9"},
        quick=True,
    )
    warnings = compare(before, after).warnings
    for words in ("processor was one", "quick", "users was 10, is 20", "few is not compared"):
        assert any(words in one for one in warnings), words
    assert not any("load" in one for one in warnings)


@pytest.mark.parametrize(
    ("t", "freedom", "tail"),
    [
        (12.706, 1, 0.025),
        (2.776, 4, 0.025),
        (4.604, 4, 0.005),
        (2.228, 10, 0.025),
        (1.96, 1e9, 0.025),
        (0.0, 3, 0.5),
    ],
)
def test_student_as_in_the_tables(t: float, freedom: float, tail: float) -> None:
    assert student_tail(t, freedom) == pytest.approx(tail, rel=0.002)
