"""`bench all`, `compare` and `report` from the command line: the files they write, and how they end."""

import json
from dataclasses import replace
from pathlib import Path
from statistics import median

import jsonschema_rs
import pytest

from tableforge.bench.document import Document, Sample, read, schema, written
from tableforge.bench.targets import CONTRACT
from tests.command import tableforge


@pytest.fixture(scope="module")
def written_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a short bench wrote."""
    folder = tmp_path_factory.mktemp("all")
    only = ("--only", "database", "--quick", "--out", "report")
    done = tableforge("bench", "all", *only, folder=folder)
    assert done.returncode in (0, 1), done.stderr
    for target in CONTRACT:
        assert target.name.split()[0] in done.stdout
    assert "A quick run" in done.stdout
    return folder / "report"


def test_the_report_obeys_its_schema(written_report: Path) -> None:
    plain = json.loads((written_report / "report.json").read_bytes())
    jsonschema_rs.validate(schema(), plain)
    assert plain["quick"]
    assert [one["bench"] for one in plain["sections"]] == ["database", "machine"]
    assert "database query p95" in (written_report / "report.html").read_text("utf-8")


def test_the_page_is_written_anew(written_report: Path, tmp_path: Path) -> None:
    for name in (written_report / "report.json", written_report):
        again = ("bench", "report", name, "--out", tmp_path / name.name, "--json")
        done = tableforge(*again, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == json.loads((written_report / "report.json").read_bytes())
        assert (tmp_path / name.name / "report.html").exists()


def slowed(report: Document, times: float) -> Document:
    """The same, with every round of the database so many times as slow."""

    def sample(one: Sample) -> Sample:
        slow = times if one.name.startswith("database") else 1.0
        return replace(one, rounds=tuple(slow * found for found in one.rounds))

    sections = [replace(one, samples=tuple(map(sample, one.samples))) for one in report.sections]
    return replace(report, sections=tuple(sections))


def test_a_slowdown_is_named_and_the_same_is_not(written_report: Path, tmp_path: Path) -> None:
    first = written_report / "report.json"
    slow = tmp_path / "slow.json"
    slow.write_bytes(written(slowed(steady(read(first)), 3.0)))
    same = tmp_path / "same.json"
    same.write_bytes(written(steady(read(first))))
    done = tableforge("bench", "compare", same, slow, folder=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "WORSE: database.p95" in done.stdout
    done = tableforge("bench", "compare", first, first, "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["worse"] == []


def steady(report: Document) -> Document:
    """The same without what the machine did to it: rounds that hardly differ."""

    def sample(one: Sample) -> Sample:
        middle = median(one.rounds)
        return replace(one, rounds=tuple(middle * (1 + n / 100) for n in range(5)))

    sections = [replace(one, samples=tuple(map(sample, one.samples))) for one in report.sections]
    return replace(report, sections=tuple(sections))


def test_reports_that_share_nothing_are_told(written_report: Path, tmp_path: Path) -> None:
    whole = read(written_report / "report.json")
    bare = tmp_path / "bare.json"
    # The last section is the machine's own, which says nothing of TableForge.
    for shared in ((), whole.sections[-1:]):
        bare.write_bytes(written(replace(whole, sections=shared)))
        done = tableforge("bench", "compare", bare, written_report, folder=tmp_path)
        assert done.returncode == 2
        assert "Nothing was compared" in done.stderr
        assert "Nothing became worse" not in done.stdout


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    for command in (("compare", "a.json", "a.json"), ("report", "a.json"), ("report", ".")):
        done = tableforge("bench", *command, folder=tmp_path)
        assert done.returncode == 2
        assert "The report was not read." in done.stderr


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--only", "weather"), "There is no bench weather."),
        (("--only", "api", "--against", "nobody"), "There is no peer nobody."),
        (("--out", "/dev/null/report"), "Nothing was measured: the report could not be written."),
    ],
)
def test_what_cannot_end_well_is_refused_at_the_start(
    arguments: tuple[str, ...], why: str, tmp_path: Path
) -> None:
    done = tableforge("bench", "all", *arguments, folder=tmp_path)
    assert done.returncode == 2
    assert why in done.stderr
