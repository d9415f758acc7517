"""Every rule of docs/spec.md is tested, and every test that names a rule has one there."""

import ast
import re
from functools import cache
from pathlib import Path

from tests.project.tree import parsed, text, under

RULE_LINE = re.compile(r"^(?:[-*] |\| |#+ )?\*{0,2}([A-Z]{2}\d{1,3})\*{0,2}\b", re.MULTILINE)
TEST_NAME = re.compile(r"^test_((?:[a-z]{2}\d{1,3}_)+)")
WEB_TITLE = re.compile(r"\b(?:it|test)(?:\.each\([^)]*\))?\(\s*[\"'`]((?:[A-Z]{2}\d{1,3}[ ,:]+)+)")


@cache
def rules() -> list[str]:
    """The numbers that docs/spec.md gives at the beginnings of its lines."""
    return RULE_LINE.findall(text(Path("docs/spec.md")))


@cache
def named_by_tests() -> dict[str, set[str]]:
    """Rule numbers that tests name, each with the files that do."""
    found: dict[str, set[str]] = {}
    for path in under("tests", suffixes=frozenset({".py"})):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                named = TEST_NAME.match(node.name)
                for rule in named[1].upper().strip("_").split("_") if named else ():
                    found.setdefault(rule, set()).add(str(path))
    for path in under("web", suffixes=frozenset({".ts"})):
        for title in WEB_TITLE.findall(text(path)):
            for rule in re.findall(r"[A-Z]{2}\d+", title):
                found.setdefault(rule, set()).add(str(path))
    return found


def test_every_rule_has_one_number_of_its_own() -> None:
    numbers = rules()
    assert len(numbers) > 20
    assert sorted({rule for rule in numbers if numbers.count(rule) > 1}) == []


def test_every_rule_is_tested() -> None:
    assert sorted(set(rules()) - named_by_tests().keys()) == []


def test_every_numbered_test_has_a_rule() -> None:
    unknown = {
        rule: sorted(files) for rule, files in named_by_tests().items() if rule not in rules()
    }
    assert unknown == {}
