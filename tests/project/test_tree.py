"""What the tree may hold: names, sizes, places, and nothing that belongs to one machine."""

import json
import re
from pathlib import Path

from tests.project.tree import BINARY, ROOT, documents, files, text, under

MAX_LINES = 800
ROOT_ENTRIES = {
    ".ci",
    ".editorconfig",
    ".gitattributes",
    ".gitignore",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "docker",
    "docs",
    "hatch_build.py",
    "k8s",
    "pyproject.toml",
    "requirements.lock",
    "src",
    "tests",
    "web",
}
HOLLOW_NAME = re.compile(
    r"^(utils?|helpers?|common|misc|manager)$"
    r"|(^|[_-])(new|old|v\d|phase\d*|fixed|simple|enhanced|optimized|final|status|summary|progress)([_-]|$)"
)
ONE_MACHINE = re.compile(r"/wor[k]/(main|steering|\.|shared)|/roo[t]/|/far[m]/|/tm[p]/tf\b")
INDEX_ADDRESS = re.compile(
    r"pypi\.org|pythonhosted\.org|registry\.npmjs|npmjs\.com/[^ ]*\.tgz|debian\.org/debian"
    r"|--(extra-)?index-url|--find-links"
)
UNFINISHED = re.compile(
    r"\b(TODO|FIXME|XXX|HACK)\b|\bNotImplementedError\b|pragma: no cover|coming soon"
)
CANNOT_FAIL = re.compile(
    r"pytest\.(mark\.)?(skip|xfail|skipif|importorskip)\b|\b(it|test|describe)\.(skip|todo)\b|assert True\b"
)
PICTOGRAM = re.compile("[\U0001f300-\U0001faff\u2705\u274c\u2728\u26a0]")
SUPPRESSION = re.compile(r"#\s*(?P<kind>noqa|type: ignore)(?P<rest>.*)")
EXPLAINED = re.compile(r"(:\s*[A-Z]+\d+(,\s*[A-Z]+\d+)*|\[[a-z-]+(,\s*[a-z-]+)*\])\s+[#-]\s*\w+")


def lines_matching(pattern: re.Pattern[str], paths: list[Path]) -> list[str]:
    """`path:line: text` of every line that matches, this folder's own patterns left out."""
    return [
        f"{path}:{number}: {line.strip()[:100]}"
        for path in paths
        if path.parts[:2] != ("tests", "project")
        for number, line in enumerate(text(path).splitlines(), 1)
        if pattern.search(line)
    ]


def readable() -> list[Path]:
    """Every file that is text."""
    return [
        path
        for path in files()
        if path.suffix not in BINARY and path.parts[:2] != ("tests", "samples")
    ]


def test_no_file_is_empty() -> None:
    assert [str(path) for path in files() if (ROOT / path).stat().st_size == 0] == []


def test_no_file_is_too_long_to_read() -> None:
    long = {str(path): len(text(path).splitlines()) for path in under()}
    assert {path: count for path, count in long.items() if count > MAX_LINES} == {}


def test_the_root_holds_what_the_style_guide_names_and_nothing_else() -> None:
    assert {path.parts[0] for path in files()} - ROOT_ENTRIES == set()


def test_names_say_what_a_file_is() -> None:
    named = [path for path in under() + documents() if path.parts[:2] != ("docs", "adr")]
    assert [str(path) for path in named if HOLLOW_NAME.search(path.stem.lower())] == []


def test_nothing_belongs_to_one_machine() -> None:
    assert lines_matching(ONE_MACHINE, readable()) == []


def test_no_package_index_is_named() -> None:
    assert lines_matching(INDEX_ADDRESS, readable()) == []


def test_the_lock_of_the_web_client_holds_no_addresses() -> None:
    packages = json.loads(text(Path("web/package-lock.json")))["packages"]
    assert packages
    assert [name for name, package in packages.items() if "resolved" in package] == []
    assert [name for name, package in packages.items() if name and "integrity" not in package] == []


def test_nothing_is_left_unfinished() -> None:
    assert lines_matching(UNFINISHED, under()) == []


def test_no_test_is_passed_over() -> None:
    assert lines_matching(CANNOT_FAIL, under("tests", "web")) == []


def test_no_pictograms() -> None:
    assert lines_matching(PICTOGRAM, under("src", "web", "docs") + documents()) == []


def test_every_suppression_names_its_rule_and_its_reason() -> None:
    unexplained = [
        f"{path}: {found['kind']}{found['rest']}"
        for path in under("src", "tests", "docs", suffixes=frozenset({".py"}))
        if path.parts[:2] != ("tests", "project")
        for found in SUPPRESSION.finditer(text(path))
        if not EXPLAINED.match(found["rest"])
    ]
    assert unexplained == []


def test_only_the_settings_read_the_environment() -> None:
    readers = lines_matching(
        re.compile(r"\bos\.(environ|getenv)\b"), under("src", suffixes=frozenset({".py"}))
    )
    assert [line for line in readers if not line.startswith("src/tableforge/config/")] == []


def test_chance_comes_from_the_operating_system() -> None:
    weak = re.compile(r"^\s*(import random|from random import)|\bMath\.random\(")
    assert lines_matching(weak, under("src", "web")) == []
