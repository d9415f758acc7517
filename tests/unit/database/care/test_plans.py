"""What is read out of a plan: which indexes it asks for, and what its parameters are compared with."""

from typing import Any

from tableforge.database.care.plans import Bound, Candidate, bounds, candidates

ROWS = {"assets": 50_000.0, "users": 10.0, "sessions": 50_000.0}


def scan(table: str, alias: str, condition: str = "", **more: Any) -> dict[str, Any]:
    """A node that reads through a table."""
    found: dict[str, Any] = {
        "Node Type": "Seq Scan",
        "Relation Name": table,
        "Alias": alias,
        "Total Cost": 1_000.0,
        **more,
    }
    return {**found, "Filter": condition} if condition else found


def asked(plan: dict[str, Any]) -> list[tuple[str, ...]]:
    return [one.columns for one in candidates(plan, ROWS, least_rows=1_000)]


def test_equal_columns_come_before_those_that_are_ranged() -> None:
    plan = scan("assets", "a", "((a.created_ms > $2) AND (a.uploader = $1))")
    assert asked(plan)[0] == ("uploader", "created_ms")
    assert ("uploader",) in asked(plan)


def test_the_order_of_a_sort_above_is_given_by_the_index_too() -> None:
    plan = {
        "Node Type": "Limit",
        "Total Cost": 1.0,
        "Plans": [
            {
                "Node Type": "Sort",
                "Total Cost": 1.0,
                "Sort Key": ["a.created_ms DESC", "a.id DESC"],
                "Plans": [scan("assets", "a", "(a.uploader = $1)")],
            }
        ],
    }
    assert asked(plan)[0] == ("uploader", "created_ms", "id")


def test_a_mixed_order_is_left_to_the_sort() -> None:
    plan = {
        "Node Type": "Sort",
        "Total Cost": 1.0,
        "Sort Key": ["a.created_ms DESC", "a.id"],
        "Plans": [scan("assets", "a", "(a.uploader = $1)")],
    }
    assert asked(plan) == [("uploader",)]


def test_both_sides_of_a_join_are_candidates_but_for_small_tables() -> None:
    plan = {
        "Node Type": "Hash Join",
        "Total Cost": 1.0,
        "Hash Cond": '(s."user" = u.id)',
        "Plans": [scan("sessions", "s"), scan("users", "u")],
    }
    assert candidates(plan, ROWS, least_rows=1_000) == [Candidate("sessions", ("user",))]


def test_small_tables_and_expressions_ask_for_nothing() -> None:
    assert asked(scan("users", "u", "(u.name = $1)")) == []
    assert asked(scan("assets", "a", "(lower(a.name) = $1)")) == []


def test_a_parameter_is_of_the_column_that_it_is_compared_with() -> None:
    condition = (
        "((a.uploader = $1) AND (a.created_ms < $2) AND (a.search ~~ $4)"
        " AND (a.id = ANY ($3)) AND (($5)::text = ''::text))"
    )
    assert sorted(bounds(scan("assets", "a", condition))) == [
        Bound(1, "assets", "uploader", "=", many=False),
        Bound(2, "assets", "created_ms", "<", many=False),
        Bound(3, "assets", "id", "=", many=True),
        Bound(4, "assets", "search", "~~", many=False),
    ]
