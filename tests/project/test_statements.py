"""What the server asks of its database is declared: each statement has a name, and a name one text (rule DB17)."""

import ast
import importlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tableforge.database import Statement
from tableforge.eventlog import batch
from tests.project.tree import parsed, under

SERVER = (
    "api",
    "bootstrap",
    "bus",
    "cache",
    "database",
    "eventlog",
    "files",
    "hub",
    "library",
    "rooms",
)
"""What runs in a server; `ops`, `bench` and `cli` are tools beside it."""
SENDS = frozenset(
    {
        "copy_records_to_table",
        "cursor",
        "execute",
        "executemany",
        "executescript",
        "fetch",
        "fetchmany",
        "fetchrow",
        "fetchval",
        "prepare",
    }
)
SENDERS = frozenset({"connection", "copy", "cursor", "other", "prepared", "writer"})
"""What connections are called, with or without a `_` before it."""
THE_CARE = "database/care/"
"""Works beside the pool, on connections of its own and on the writer's thread: questions to the catalogue, plans, runs of
statements that have names, and changes of form whose names of tables vary. The ledger's statements have names."""
PAST_THE_NAMES = {
    "database/postgres.py": {
        "dial": "sets a session up",
        "probe": "asks whether the server takes changes",
        "_change": "the named path",
        "read": "the named path",
        "form_of": "looks which migrations there were",
        "migrate": "brings the tables to the present form",
        "tune": "gives tables their settings for autovacuum",
    },
    "database/sqlite.py": {
        "connect": "sets a connection up",
        "form_of": "looks which migrations there were",
        "migrate": "brings the tables to the present form",
        "_work": "begins and ends transactions",
        "probe": "writes a page that says nothing",
        "_read": "sets a connection up",
        "read": "the named path",
        "change": "the named path",
    },
    "database/large_indexes.py": {
        "index_large_tables": "a step of migrations that a transaction cannot hold",
        "index_small_tables": "the same for tables that hold little",
        "missing_indexes": "looks which of these steps there were",
    },
    "database/cards/postgres.py": {
        "_ask": "the named path",
        "_dialled": "sets the session up",
        "explain": "asks for the plan of a statement that has its name",
    },
    "database/cards/sqlite.py": {
        "_ask": "the named path",
        "_explain": "asks for the plan of a statement that has its name",
    },
    "eventlog/postgres.py": {
        "_connected": "sets the writer's session up",
        "_ask": "the named path of the writer",
    },
    "eventlog/sqlite.py": {
        "_write": "a batch of appends, counted as a whole",
        "_write_one": "a part of such a batch",
        "_head": "a part of such a batch",
    },
}
"""Functions below src/tableforge that may send what has no name, each with what it does."""


CARE = ("database", "care")
"""Its questions are of the catalogue, its changes of indexes and of what plans hold: composed from names of tables, sent over
connections of its own beside the game, one after the other, each within a time of its own."""


def modules() -> Iterator[tuple[Path, str]]:
    """Every module of the server, its file and its dotted name."""
    for path in under("src", suffixes=frozenset({".py"})):
        if path.parts[2] in SERVER:
            parts = path.with_suffix("").parts[1:]
            yield path, ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def statements_in(value: object, depth: int = 3) -> Iterator[Statement]:
    """The statements that a name of a module holds, in lists and tuples of statements as well."""
    if isinstance(value, Statement):
        yield value
    elif isinstance(value, dict) and depth:
        for one in value.values():
            yield from statements_in(one, depth - 1)
    elif isinstance(value, list | tuple) and depth:
        for one in value:
            yield from statements_in(one, depth - 1)


def declared(engine: str, other: str) -> dict[str, dict[str, set[str]]]:
    """Every name with its texts for one engine, and where each stands."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for _, module in modules():
        if f".{other}" in module:
            continue
        for value in vars(importlib.import_module(module)).values():
            for one in statements_in(value):
                text = one.postgres if engine == "postgres" and one.postgres else one.sql
                found[one.name][text].add(module)
    return found


def test_db17_the_writer_of_the_log_names_its_statements_as_well() -> None:
    texts = {
        value
        for name, value in vars(batch).items()
        if isinstance(value, str) and name.isupper() and value.startswith(("WITH", "SELECT e."))
    }
    assert texts == batch.NAMES.keys()
    names = list(batch.NAMES.values())
    assert len(names) == len(set(names))
    assert set(names).isdisjoint(declared("postgres", "sqlite"))


def test_db17_every_statement_has_a_name_and_every_name_one_text() -> None:
    for engine, other in (("postgres", "sqlite"), ("sqlite", "postgres")):
        found = declared(engine, other)
        assert len(found) > 50
        assert [name for name in found if not name.strip()] == []
        assert {
            name: sorted(map(sorted, texts.values()))
            for name, texts in found.items()
            if len(texts) > 1
        } == {}


def functions(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Every call with the name of the outermost function, or method, that it stands in."""

    def below(node: ast.AST, name: str) -> Iterator[tuple[str, ast.Call]]:
        for child in ast.iter_child_nodes(node):
            inner = name
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and not name:
                inner = child.name
            if isinstance(child, ast.Call):
                yield name, child
            yield from below(child, inner)

    return below(tree, "")


def last_name(node: ast.expr) -> str:
    """`self._connection` and `connection` are both a connection."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.lstrip("_")
        case _:
            return ""


def test_db17_what_is_sent_to_the_database_goes_by_its_name() -> None:
    sent: dict[str, set[str]] = defaultdict(set)
    for path, _ in modules():
        if path.parts[2:4] == CARE:
            continue
        for function, call in functions(parsed(path)):
            if (
                THE_CARE not in path.as_posix()
                and isinstance(call.func, ast.Attribute)
                and call.func.attr in SENDS
                and last_name(call.func.value) in SENDERS
            ):
                sent["/".join(path.parts[2:])].add(function)
    listed = {path: set(named) for path, named in PAST_THE_NAMES.items()}
    assert dict(sent) == listed
