"""Drawings: whose they are, and what a stranger's JSON may hold."""

from typing import Any

import pytest

from tableforge.domain.commands import AddDrawing
from tableforge.domain.drawings import DEPTH_MAX, DRAWINGS_MAX, TEXT_MAX, VALUES_MAX
from tableforge.errors import Malformed
from tests.table import ROOM, Table, opened


@pytest.fixture
def table() -> Table:
    return opened(ann="player", bob="player")


def nested(depth: int) -> dict[str, Any]:
    """An object in an object, so many deep."""
    return {"in": nested(depth - 1)} if depth > 1 else {}


def test_dr1_a_drawing_is_its_makers_and_the_gms_to_remove(table: Table) -> None:
    first, second = (table.make("ann", "draw.add", shape={"kind": "dot"}) for _ in "12")
    assert table.view("bob")["drawings"][0]["owner"] == "ann"
    assert table.refusal("bob", "draw.remove", drawing=first).code == "forbidden"
    table.send("gm", "member.role", user="ann", role="spectator")
    assert table.refusal("ann", "draw.remove", drawing=first).code == "forbidden"
    table.send("gm", "member.role", user="ann", role="player")
    table.send("ann", "draw.remove", drawing=first)
    table.send("gm", "draw.remove", drawing=second)
    assert table.room.drawings == {}


@pytest.mark.parametrize(
    "shape",
    [
        {
            "points": [[0.5, 1], [-1e9, 1e9]],
            "closed": True,
            "label": "Here\n\tand there",
            "x": None,
        },
        nested(DEPTH_MAX),
        {"all": [0] * (VALUES_MAX - 2)},
        {"text": "a" * (TEXT_MAX - 4)},
    ],
)
def test_dr2_shape_and_style_are_kept_as_they_came(table: Table, shape: dict[str, Any]) -> None:
    key = table.make("ann", "draw.add", shape=shape, style=shape)
    assert table.room.drawings[key].shape == table.room.drawings[key].style == shape


@pytest.mark.parametrize(
    ("shape", "where"),
    [
        (nested(DEPTH_MAX + 1), "shape.in.in"),
        ({"all": [0] * VALUES_MAX}, "shape.all"),
        ({"text": "a" * TEXT_MAX}, "shape.text"),
        ({"a" * 65: 1}, "shape"),
        ({"text": "bell\a"}, "shape.text"),
        ({"text\0": 1}, "shape"),
        ({"points": [[0, 1], [1e10, 0]]}, "shape.points[1][0]"),
        ({"x": 10**30}, "shape.x"),
    ],
)
def test_dr3_what_is_too_deep_too_big_or_not_plain_is_refused(
    table: Table, shape: dict[str, Any], where: str
) -> None:
    error = table.refusal("ann", "draw.add", shape=shape)
    assert (error.code, where in str(error)) == ("malformed", True)
    assert table.refusal("ann", "draw.add", shape={}, style=shape).code == "malformed"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 10**400, b"bytes"])
def test_dr3_no_number_that_is_not_finite_passes(table: Table, value: Any) -> None:
    with pytest.raises(Malformed):
        table.obey("ann", AddDrawing(ROOM, "id", {"x": value}))


def test_rm9_a_room_holds_a_bounded_number_of_drawings(table: Table) -> None:
    key = table.make("ann", "draw.add", shape={})
    drawing = table.room.drawings[key]
    table.room.drawings.update({f"d{number}": drawing for number in range(DRAWINGS_MAX - 1)})
    assert table.refusal("ann", "draw.add", shape={}).code == "too-large"
