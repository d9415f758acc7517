"""What the server is made of: nothing unreachable, nothing undeclared, nothing declared in vain."""

import ast
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import grimp
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.project.tree import ROOT, parsed, text, under

ENTRY = "tableforge.__main__"
BESIDE_THE_PROGRAM = {
    "tableforge.eventlog.memory": "the engine that tests run on, kept honest by the log's contract",
    "tableforge.protocol.schema": "what `make gen` makes the client's types from",
}
NAMED_ONLY = {"tzdata", "uvloop", "httptools", "fastapi"}
"""Packages that are imported by their names alone: by uvicorn, and by the program that a bench starts beside ours."""


@cache
def graph() -> grimp.ImportGraph:
    """Every import of the server."""
    return grimp.build_graph("tableforge", include_external_packages=True, cache_dir=None)


def file_of(module: str) -> Path:
    """Where one of our modules stands."""
    path = Path("src", *module.split("."))
    package = path / "__init__.py"
    return package if (ROOT / package).exists() else path.with_suffix(".py")


def own_modules() -> set[str]:
    """Every module of the server by its dotted name."""
    return {module for module in graph().modules if module.split(".")[0] == "tableforge"}


def named_in(module: str) -> set[str]:
    """Modules that a module names in a string: what it starts as a process of its own."""
    strings = {
        node.value
        for node in ast.walk(parsed(file_of(module)))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return strings & own_modules()


def reachable() -> set[str]:
    """Every module that starting the program can come to."""
    seen: set[str] = set()
    waiting = {ENTRY}
    while waiting:
        module = waiting.pop()
        seen.add(module)
        near = {
            name
            for name in graph().find_modules_directly_imported_by(module)
            if name.split(".")[0] == "tableforge"
        }
        parts = module.split(".")
        parents = {".".join(parts[:count]) for count in range(1, len(parts))}
        waiting |= (near | parents | named_in(module)) - seen
    return seen


def manifest() -> dict[str, object]:
    """What pyproject.toml says."""
    return tomllib.loads(text(Path("pyproject.toml")))


def requirements() -> list[Requirement]:
    """What the server needs at run time."""
    project = manifest()["project"]
    assert isinstance(project, dict)
    return [Requirement(line) for line in project["dependencies"]]


def extra(name: str) -> list[Requirement]:
    """What an extra of the package adds."""
    project = manifest()["project"]
    assert isinstance(project, dict)
    return [Requirement(line) for line in project["optional-dependencies"][name]]


def group(name: str) -> list[Requirement]:
    """What a dependency group names by itself, without what it includes."""
    groups = manifest()["dependency-groups"]
    assert isinstance(groups, dict)
    return [Requirement(line) for line in groups[name] if isinstance(line, str)]


def pins() -> dict[str, list[str]]:
    """Version pins of requirements.lock by package: one, or one for each Python."""
    found: dict[str, list[str]] = {}
    for name, version in re.findall(
        r"^([A-Za-z0-9_.-]+)==([^ ;\\]+)", text(Path("requirements.lock")), re.MULTILINE
    ):
        found.setdefault(canonicalize_name(name), []).append(version)
    return found


def third_party(*folders: str) -> set[str]:
    """The top names of packages that are imported below these folders and are not ours."""
    names: set[str] = set()
    for path in under(*folders, suffixes=frozenset({".py"})):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add((node.module or "").split(".")[0])
    return names - sys.stdlib_module_names - {"tableforge", "tests", "docs", "hatch_build"}


owners = cache(packages_distributions)


def distributions(names: set[str]) -> set[str]:
    """The packages that bring these top names."""
    known = owners()
    return {canonicalize_name(owner) for name in names for owner in known.get(name, [name])}


def test_every_module_can_be_reached_from_the_program() -> None:
    assert ENTRY in own_modules()
    assert own_modules() - reachable() == set(BESIDE_THE_PROGRAM)


def test_what_the_server_imports_is_declared_and_what_is_declared_is_imported() -> None:
    declared = {
        canonicalize_name(requirement.name) for requirement in [*requirements(), *extra("bench")]
    }
    imported = distributions(third_party("src"))
    assert sorted(imported - declared) == []
    assert sorted(declared - imported - NAMED_ONLY) == []


def test_what_tests_import_is_declared() -> None:
    declared = {
        canonicalize_name(requirement.name)
        for requirement in [*requirements(), *group("dev"), *group("build")]
    }
    assert sorted(distributions(third_party("tests", "docs")) - declared) == []


def test_every_requirement_is_pinned_within_its_bounds() -> None:
    pinned = pins()
    for requirement in [*requirements(), *group("dev"), *group("build")]:
        versions = pinned.get(canonicalize_name(requirement.name), [])
        assert versions, f"{requirement} is not in requirements.lock: run `make lock`"
        assert all(requirement.specifier.contains(version) for version in versions), requirement


def test_every_pin_has_a_hash() -> None:
    blocks = re.split(r"^(?=[A-Za-z0-9])", text(Path("requirements.lock")), flags=re.MULTILINE)
    pinned = [block for block in blocks if re.match(r"[A-Za-z0-9_.-]+==", block)]
    assert len(pinned) > 20
    assert [block.split()[0] for block in pinned if "--hash=sha256:" not in block] == []


def test_uvicorn_is_one_release_exactly() -> None:
    uvicorn = next(one for one in requirements() if one.name == "uvicorn")
    assert [one.operator for one in uvicorn.specifier] == ["=="]
