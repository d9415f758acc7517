"""The shape of a report: judged, written, read and described by its schema."""

import json
import math
from pathlib import Path

import jsonschema_rs
import pytest

from tableforge.bench.document import (
    Axis,
    Document,
    Mark,
    Plot,
    Sample,
    Section,
    Series,
    Sign,
    Table,
    Target,
    Verdict,
    read,
    rounded,
    schema,
    written,
)
from tableforge.errors import Malformed

SCHEMA = Path("docs/bench-report.schema.json")

REPORT = Document(
    made="2026-01-01T00:00:00+00:00",
    version="1",
    commit="c",
    machine={"processor": "one"},
    command="tableforge bench all",
    quick=True,
    sections=(
        Section(
            bench="cache",
            title="Cache",
            command="tableforge bench cache",
            kpis=(Target("hits", ">", 90, "%", "cache").judged(95.0, "c"),),
            samples=(Sample("cache.hit", "ns", "lower", (1.0, 2.0, 3.0)),),
            plots=(
                Plot(
                    name="p",
                    title="P",
                    kind="line",
                    x=Axis("time", "s"),
                    y=Axis("p95", "ms", log=True),
                    series=(Series("measured", ((0.0, 1.0), (1.0, 2.0))),),
                    marks=(Mark(0.5, "killed"),),
                ),
            ),
            tables=(Table("T", ("a", "b"), (("1", "2"),)),),
            figures={"folder": Path("somewhere"), "list": [1, None]},
        ),
    ),
)


@pytest.mark.parametrize(
    ("sign", "value", "verdict"),
    [
        ("<", 9.9, Verdict.MET),
        ("<", 10.0, Verdict.MISSED),
        ("<=", 10.0, Verdict.MET),
        (">", 10.0, Verdict.MISSED),
        (">=", 10.0, Verdict.MET),
        (">=", 9.9, Verdict.MISSED),
        ("<", None, Verdict.UNMEASURED),
        ("<", math.nan, Verdict.UNMEASURED),
        (">", math.inf, Verdict.UNMEASURED),
    ],
)
def test_a_figure_is_held_against_its_target(
    sign: Sign, value: float | None, verdict: Verdict
) -> None:
    kpi = Target("figure", sign, 10, "ms", "cache").judged(value, "c")
    assert kpi.verdict is verdict
    assert (kpi.value is None) == (verdict is Verdict.UNMEASURED)


def test_what_was_written_is_read_and_obeys_the_schema(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.write_bytes(written(REPORT))
    found = read(file)
    assert found.sections[0].samples == REPORT.sections[0].samples
    assert found.sections[0].plots == REPORT.sections[0].plots
    assert found.sections[0].kpis == REPORT.sections[0].kpis
    jsonschema_rs.validate(schema(), json.loads(file.read_bytes()))


def test_the_manual_has_the_schema() -> None:
    now = json.loads(json.dumps(schema()))
    assert json.loads(SCHEMA.read_text("utf-8")) == now, "run `make gen` and commit it"


@pytest.mark.parametrize("content", [b"", b"[]", b'{"schema": 2}', b"\xff", b'{"schema": 1}'])
def test_what_is_no_report_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.write_bytes(content)
    with pytest.raises(Malformed, match="is no report"):
        read(file)


def test_a_report_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(Malformed, match="cannot be opened"):
        read(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (50, "50"),
        (0.01234, "0.0123"),
        (12.345, "12.3"),
        (99.99, "100.0"),
        (12345.6, "12346"),
    ],
)
def test_figures_are_rounded_for_people(value: float, text: str) -> None:
    assert rounded(value) == text
