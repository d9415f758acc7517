"""Which indexes a plan asks for: pure reading of PostgreSQL's plans, in JSON.

Every candidate is only a guess. Whether the planner would take it, and whether that helps, is found out by trying.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

Node = Mapping[str, Any]

MOST_COLUMNS = 3
MOST_CANDIDATES = 6

NAME = r'(?:\w+|"(?:[^"]|"")+")'
COLUMN = re.compile(rf"(?P<alias>{NAME})\.(?P<column>{NAME})")
_VALUE = r"(?:\$\d+|'(?:[^']|'')*'|-?\d+(?:\.\d+)?|true|false|\(\$\d+\)|ANY \()"
COMPARED = re.compile(
    rf"(?P<alias>{NAME})\.(?P<column>{NAME})(?:\)?::[\w ]+)? (?P<how>=|<=|>=|<|>) (?P<value>{_VALUE})"
)
JOINED = re.compile(rf"(?P<a>{NAME})\.(?P<ac>{NAME}) = (?P<b>{NAME})\.(?P<bc>{NAME})")
PARAMETER = re.compile(
    rf"(?P<alias>{NAME})\.(?P<column>{NAME})(?:\)?::[\w ]+)? (?P<how>=|<=|>=|<>|<|>|!?~~\*?)"
    r" (?P<any>ANY )?\(*\$(?P<number>\d+)"
)
ROWS = re.compile(r"(?:\bROW)?\(([^()]+)\)\s*(<=|>=|=|<|>)\s*(?:ROW)?\(([^()]+)\)")
CONDITIONS = (
    *("Filter", "Index Cond", "Recheck Cond", "Hash Cond", "Merge Cond", "Join Filter"),
    *("TID Cond", "One-Time Filter"),
)
JOINS = ("Hash Cond", "Merge Cond", "Join Filter")
READS = ("Seq Scan", "Index Scan", "Index Only Scan", "Bitmap Heap Scan")


class Candidate(NamedTuple):
    """An index that may help: columns in their order."""

    table: str
    columns: tuple[str, ...]


class Bound(NamedTuple):
    """What a parameter of a statement is compared with: a column, by an operator; `many` where it is a list."""

    number: int
    table: str
    column: str
    how: str
    many: bool


def bare(name: str) -> str:
    """A name without its quotes."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def unrolled(condition: str) -> str:
    """The condition with rows that are compared taken apart: which columns take part in it, and with which values."""

    def apart(match: re.Match[str]) -> str:
        ours, theirs = match[1].split(","), match[3].split(",")
        if len(ours) != len(theirs):
            return match[0]
        pairs = zip(ours, theirs, strict=True)
        return " AND ".join(f"{our.strip()} {match[2]} {their.strip()}" for our, their in pairs)

    return ROWS.sub(apart, condition)


def nodes(plan: Node, above: tuple[Node, ...] = ()) -> Iterator[tuple[Node, tuple[Node, ...]]]:
    """Every node of a plan with those above it, the nearest last."""
    yield plan, above
    for below in plan.get("Plans", ()):
        yield from nodes(below, (*above, plan))


def cost(plan: Node) -> float:
    """What the planner thinks that a plan takes, in its own units."""
    return float(plan["Total Cost"])


def tables(plan: Node) -> dict[str, str]:
    """Which table each alias of a plan stands for."""
    return {
        str(node["Alias"]): str(node["Relation Name"])
        for node, _ in nodes(plan)
        if "Relation Name" in node
    }


def bounds(plan: Node) -> list[Bound]:
    """What the parameters of a statement are compared with, as far as its plan says."""
    known = tables(plan)
    found: dict[int, Bound] = {}
    for node, _ in nodes(plan):
        for condition in CONDITIONS:
            for match in PARAMETER.finditer(unrolled(str(node.get(condition, "")))):
                table = known.get(bare(match["alias"]))
                if table is not None:
                    number = int(match["number"])
                    column = bare(match["column"])
                    found[number] = Bound(
                        number, table, column, match["how"], match["any"] is not None
                    )
    return list(found.values())


class _Asked:
    """What a plan wants to know of one alias."""

    def __init__(self) -> None:
        self.equal: list[str] = []
        self.ranged: list[str] = []
        self.joined: list[str] = []
        self.sorted: list[str] = []


def candidates(plan: Node, rows: Mapping[str, float], *, least_rows: float) -> list[Candidate]:
    """Indexes that may spare a plan reading through tables of at least `least_rows` rows; `rows` says how many each has."""
    known = tables(plan)
    asked: dict[str, _Asked] = defaultdict(_Asked)
    read: list[str] = []
    for node, above in nodes(plan):
        if node["Node Type"].removeprefix("Parallel ") in READS and "Relation Name" in node:
            alias = str(node["Alias"])
            if rows.get(known[alias], 0) >= least_rows and (
                node["Node Type"] == "Seq Scan" or "Filter" in node
            ):
                read.append(alias)
                asked[alias].sorted = _order(above, alias)
        for condition in CONDITIONS:
            _compared(unrolled(str(node.get(condition, ""))), asked)
        for condition in JOINS:
            for match in JOINED.finditer(str(node.get(condition, ""))):
                asked[bare(match["a"])].joined.append(bare(match["ac"]))
                asked[bare(match["b"])].joined.append(bare(match["bc"]))
    found: dict[Candidate, None] = {}
    for alias in read:
        for columns in _orders(asked[alias]):
            found[Candidate(known[alias], columns)] = None
    return list(found)


def _compared(condition: str, asked: Mapping[str, _Asked]) -> None:
    for match in COMPARED.finditer(condition):
        one = asked[bare(match["alias"])]
        (one.equal if match["how"] == "=" else one.ranged).append(bare(match["column"]))


def _order(above: Sequence[Node], alias: str) -> list[str]:
    """The columns of this alias that a sort above it goes by, if an index can give that order."""
    for node in reversed(above):
        keys = [str(key) for key in node.get("Sort Key", ())]
        if not keys:
            continue
        matches = [COLUMN.match(key) for key in keys]
        if len({key.endswith(" DESC") for key in keys}) > 1:
            return []
        columns = [
            bare(one["column"])
            for one in matches
            if one is not None and bare(one["alias"]) == alias
        ]
        return columns if len(columns) == len(keys) else []
    return []


def _orders(asked: _Asked) -> list[tuple[str, ...]]:
    """Columns in the orders that are worth a try, the widest first: equal ones before those that are ranged or sorted by."""

    def put(*parts: Sequence[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(column for part in parts for column in part))[:MOST_COLUMNS]

    equal = list(dict.fromkeys(asked.equal))
    joined = list(dict.fromkeys(asked.joined))
    wanted = [
        put(joined[:1], equal, asked.sorted) if joined else (),
        put(equal, asked.sorted) if asked.sorted else (),
        put(equal, asked.ranged[:1]),
        put(equal),
        *(put([one]) for one in (*equal, *joined)),
        put(asked.ranged[:1]),
    ]
    return list(dict.fromkeys(one for one in wanted if one))[:MOST_CANDIDATES]
