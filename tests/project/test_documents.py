"""The documents say what the code does: every name in them is one of the program's, and the other way round."""

import re
from functools import cache
from pathlib import Path

import click
import pytest

from docs.generate import pages
from tableforge import cli
from tableforge.bench.document import SIGNS
from tableforge.bench.targets import CONTRACT
from tableforge.protocol.codec import command_types
from tests.project.tree import ROOT, documents, text

README = Path("README.md")
MAKEFILE = Path("Makefile")
SLUGS = {
    "malformed": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not-found": 404,
    "gone": 410,
    "locked": 409,
    "conflict": 409,
    "nothing-to-undo": 409,
    "changed-since": 409,
    "idempotency-mismatch": 409,
    "too-large": 413,
    "too-many": 429,
    "draining": 503,
    "unavailable": 503,
}
"""The slugs that the contract fixes, with their statuses."""


generated = cache(pages)


@pytest.mark.parametrize("page", ["settings.md", "metrics.md", "errors.md"])
def test_generated_pages_are_up_to_date(page: str) -> None:
    assert text(Path("docs", page)) == generated()[page], "run `make gen` and commit what it writes"


def test_every_slug_of_the_contract_stands_with_its_status() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (\d+) \|", text(Path("docs/errors.md")), re.MULTILINE)
    assert {slug: int(status) for slug, status in rows}.items() >= SLUGS.items()


def test_every_command_of_the_vocabulary_is_described() -> None:
    protocol = text(Path("docs/protocol.md"))
    assert [kind for kind in command_types() if f"`{kind}" not in protocol] == []


def test_the_readme_names_both_commands() -> None:
    assert "make run" in text(README)
    assert "make test" in text(README)


def test_every_make_command_in_a_document_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", text(MAKEFILE), re.MULTILINE))
    named = {
        (str(path), name)
        for path in documents()
        for name in re.findall(r"(?:`|^\s*)make ([a-z-]+)", text(path), re.MULTILINE)
    }
    assert named
    assert sorted(one for one in named if one[1] not in targets) == []


def test_every_make_command_is_listed_with_what_it_does() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", text(MAKEFILE), re.MULTILINE)
    assert phony is not None
    listed = set(re.findall(r"^([a-z-]+):.*## \w", text(MAKEFILE), re.MULTILINE))
    steps = {"packages", "web", "test-web", "test-python"}
    assert set(phony[1].split()) - steps == listed


def subcommands(command: click.Command, path: str = "tableforge") -> set[str]:
    """Every way to call the program, as `tableforge bench websocket`."""
    if not isinstance(command, click.Group):
        return {path}
    below = (subcommands(child, f"{path} {name}") for name, child in command.commands.items())
    return {path}.union(*below)


def test_every_program_call_in_a_document_exists() -> None:
    known = subcommands(cli.main)
    called = {
        (str(path), call.strip())
        for path in documents()
        for call in re.findall(r"`(tableforge(?: [a-z][a-z-]*)+)", text(path))
    }
    groups = {name for name in known if any(other.startswith(f"{name} ") for other in known)}
    for path, call in sorted(called):
        words = call.split()
        depth = 3 if " ".join(words[:2]) in groups else 2
        assert " ".join(words[:depth]) in known, f"{path} calls `{call}`"


def test_every_subcommand_is_in_the_documents() -> None:
    written = "\n".join(text(path) for path in documents())
    assert [name for name in sorted(subcommands(cli.main)) if name not in written] == []


def test_every_target_of_the_contract_is_in_the_manual_of_benchmarks() -> None:
    targets = [
        f"| {one.name} | {SIGNS[one.sign]} {one.limit:g} {one.unit}".rstrip()
        + f" | `tableforge bench {one.bench}` |"
        for one in CONTRACT
    ]
    lines = text(Path("docs/benchmarks.md")).splitlines()
    begin = lines.index("| figure | target | command |") + 2
    assert lines[begin : begin + len(targets) + 1] == [*targets, ""]


def test_links_between_documents_lead_somewhere() -> None:
    broken = [
        f"{path}: {target}"
        for path in documents()
        for target in re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", text(path))
        if not (ROOT / path.parent / target).exists()
    ]
    assert broken == []


def test_documents_describe_what_is_and_not_how_far_it_is() -> None:
    telling = re.compile(
        r"\b(phase \d|milestone|sprint|week \d|\d+ ?% (done|complete)|is complete|not yet implemented)\b",
        re.IGNORECASE,
    )
    allowed = {Path("CHANGELOG.md")}
    found = [
        f"{path}: {match[0]}"
        for path in documents()
        if path not in allowed and path.parts[:2] != ("docs", "adr")
        for match in telling.finditer(text(path))
    ]
    assert found == []


def test_the_changelog_has_a_place_for_what_comes() -> None:
    assert re.search(r"^## \[?Unreleased\]?$", text(Path("CHANGELOG.md")), re.MULTILINE)
