"""Benches in one document: what cannot be measured is told, and how the command ends."""

from pathlib import Path

import pytest

from tableforge.bench import targets
from tableforge.bench.document import Document, Section, Target, Verdict
from tableforge.bench.suite import Bench, Order, ending, run, table, unpublished
from tableforge.errors import Unavailable

OWN = Target("own", "<", 1, "ms", "cache", own=True)


def order(tmp_path: Path) -> Order:
    return Order(quick=True, told=lambda what, done, of: None, say=lambda line: None, out=tmp_path)


def measured(section: Section, tmp_path: Path) -> Document:
    bench = Bench(section.bench, section.title, lambda order: section)
    return run([bench], order(tmp_path), command="c", folder=tmp_path)


def cache(hit_rate: float, own: float = 0, broken: tuple[str, ...] = ()) -> Section:
    return Section(
        bench="cache",
        title="Cache",
        command="c",
        kpis=(targets.HIT_RATE.judged(hit_rate, "c"), OWN.judged(own, "c")),
        broken=broken,
    )


@pytest.mark.parametrize(
    ("section", "code"),
    [
        (cache(95), 0),
        (cache(80), 1),
        (cache(95, own=5), 0),
        (cache(95, broken=("lost",)), 1),
        (unpublished(cache(95), "the crowd was the bottleneck"), 2),
        (unpublished(cache(80), "the crowd was the bottleneck"), 2),
    ],
)
def test_how_a_command_ends(section: Section, code: int, tmp_path: Path) -> None:
    assert ending(measured(section, tmp_path)) == code


@pytest.mark.parametrize("error", [Unavailable("No.", "It is not there."), OSError("full")])
def test_a_bench_that_cannot_be_run_stops_no_other(error: Exception, tmp_path: Path) -> None:
    def fails(order: Order) -> Section:
        raise error

    benches = [Bench("chaos", "Faults", fails), Bench("cache", "Cache", lambda order: cache(95))]
    found = run(benches, order(tmp_path), command="c", folder=tmp_path)
    assert [one.bench for one in found.sections] == ["chaos", "cache", "machine"]
    assert found.sections[0].invalid
    assert ending(found) == 2
    verdicts = {kpi.name: kpi for kpi in table(found)}
    assert verdicts[targets.RECOVERY.name].verdict is Verdict.UNMEASURED
    assert verdicts[targets.RECOVERY.name].why == found.sections[0].invalid
    assert verdicts[targets.HIT_RATE.name].verdict is Verdict.MET


def test_the_whole_contract_stands_in_the_table(tmp_path: Path) -> None:
    found = table(measured(cache(95), tmp_path))
    assert [kpi.name for kpi in found] == [target.name for target in targets.CONTRACT] + ["own"]
    assert all(kpi.why for kpi in found if kpi.value is None)


def test_a_quick_run_says_so(tmp_path: Path) -> None:
    found = measured(cache(95), tmp_path)
    assert found.quick
    assert found.sections[0].notes[0].startswith("A quick run")
