"""Universal VTT: what is read of a map, what is left out and listed, and what is refused."""

import base64
import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tableforge.domain.state import Point
from tableforge.errors import Malformed, TooLarge
from tableforge.files import DoorSegment, LightSource, uvtt
from tableforge.files.orders import Picture, Plan
from tests.samples import cellar_plan, make_samples
from tests.samples.make_samples import as_bytes, small_map

GOOD = Path(make_samples.__file__).parent / "good"


def plan_of(name: str) -> Plan:
    return uvtt.parse((GOOD / name).read_bytes())[0]


def parse(document: dict[str, Any]) -> Plan:
    return uvtt.parse(as_bytes(document))[0]


def at(x: float, y: float) -> dict[str, float]:
    return {"x": x, "y": y}


def test_fi7_the_cellar_has_everything_that_was_drawn() -> None:
    plan, picture = uvtt.parse((GOOD / "cellar.dd2vtt").read_bytes())
    assert (plan.width, plan.height, plan.pixels_per_cell) == (24, 16, 70)
    assert len(plan.walls) == 2 + len(cellar_plan.PILLARS)
    assert plan.walls[0][:3] == (Point(0, 6), Point(3, 6), Point(3, 3))
    assert [door.state for door in plan.doors] == ["closed", "closed", "closed", "open"]
    assert plan.doors[0] == DoorSegment((Point(11, 5), Point(11, 6)), "closed")
    assert len(plan.lights) == len(cellar_plan.LIGHTS)
    assert plan.lights[0] == LightSource(4, 3.3, 5, "#ffb65c", 1)
    assert plan.skipped == ()
    assert picture[8:12] == b"WEBP"


def test_fi7_the_origin_is_subtracted_from_everything() -> None:
    plan = plan_of("origin.dd2vtt")
    assert plan.walls == ((Point(-2, 3.5), Point(4, 3.5), Point(4, 6.5)),)
    assert plan.doors[0].points == (Point(-2, 3.5), Point(-2, 4.5))
    assert (plan.lights[0].x, plan.lights[0].y) == (1, 4.5)


def test_a_fractional_size_is_kept() -> None:
    plan = plan_of("fractional.uvtt")
    assert (plan.width, plan.height, plan.pixels_per_cell) == (6.4, 3.84, 12.5)


def test_colours_with_and_without_transparency() -> None:
    lights = plan_of("colours.uvtt").lights
    assert [light.color for light in lights] == ["#ff8800"] * 4 + ["#ffffff"] * 3
    assert [light.intensity for light in lights] == [0.502, 1, 1, 1, 1, 1, 1]
    assert plan_of("colours.uvtt").skipped == (
        "lights[4].color is not a colour, taken as white",
        "lights[5].color is not a colour, taken as white",
    )


def test_lists_that_are_not_there_are_empty() -> None:
    plan = plan_of("bare.df2vtt")
    assert (plan.doors, plan.lights, plan.skipped) == ((), (), ())
    assert plan.walls == ((Point(1, 1), Point(7, 1), Point(7, 4)),)


def test_a_picture_with_a_data_address_line_breaks_and_a_byte_order_mark() -> None:
    assert uvtt.parse((GOOD / "data_address.uvtt").read_bytes())[1][8:12] == b"WEBP"


def test_fi8_points_that_are_no_numbers_are_left_out_and_listed() -> None:
    plan = plan_of("not_numbers.dd2vtt")
    assert plan.walls == (
        (Point(1, 1), Point(2, 2), Point(4, 4)),
        (Point(6, 6), Point(7, 7)),
    )
    assert plan.doors == ()
    assert plan.lights == (LightSource(1, 1, 1000, "#ffffff", 2),)
    assert plan.skipped == (
        "line_of_sight[0][1].x is not a number within the board",
        "line_of_sight[0][3].y is not a number within the board",
        "line_of_sight[1][0].x is not a number within the board",
        "line_of_sight[1] has fewer than two points",
        "line_of_sight[2][0].y is not a number within the board",
        "line_of_sight[2][1].x is not a number within the board",
        "line_of_sight[2][2].x is not a number within the board",
        "line_of_sight[2][3] is a number, not a point",
        "line_of_sight[3] is a text, not a list of points",
        "portals[0].bounds[0].x is not a number within the board",
        "portals[0].bounds is not two points",
        "portals[1].bounds is not two points",
        "portals[2] is nothing, not an object",
        "lights[0].position.y is not a number within the board",
        "lights[1].range is not a number from 0 up",
        "lights[2].range is 5000, taken as 1000",
    )


@pytest.mark.parametrize(
    "word", ["nan", "-nan", "NaN", "inf", "-Infinity", "1.#QNAN", "-1.#IND", "1e999", "null"]
)
def test_every_way_to_write_no_number(word: str) -> None:
    text = json.dumps(
        small_map(line_of_sight=[[at(1, 1), {"x": "HERE", "y": 2}, at(3, 3)]], note='nan "inf" \\')
    )
    plan, _ = uvtt.parse(text.replace('"HERE"', word).encode())
    assert plan.walls == ((Point(1, 1), Point(3, 3)),)
    assert plan.skipped == ("line_of_sight[0][1].x is not a number within the board",)


def test_the_list_of_what_was_left_out_ends_with_a_count() -> None:
    plan = parse(small_map(lights=[None] * 150))
    assert len(plan.skipped) == uvtt.SKIPPED_SHOWN + 1
    assert plan.skipped[-1] == "and 50 more"


def test_a_long_wall_goes_on_where_it_was_cut() -> None:
    count = 2 * uvtt.WALL_POINTS + 7
    plan = parse(small_map(line_of_sight=[[at(x, 0) for x in range(count)]]))
    assert [len(wall) for wall in plan.walls] == [500, 500, 9]
    assert all(one[-1] == two[0] for one, two in zip(plan.walls, plan.walls[1:], strict=False))
    assert plan.walls[-1][-1] == Point(count - 1, 0)


def test_a_wall_of_exactly_the_longest_length_is_not_cut() -> None:
    plan = parse(small_map(line_of_sight=[[at(x, 0) for x in range(uvtt.WALL_POINTS)]]))
    assert [len(wall) for wall in plan.walls] == [uvtt.WALL_POINTS]


@pytest.mark.parametrize(
    ("field", "most", "entry"),
    [
        ("line_of_sight", uvtt.POLYLINES, []),
        ("objects_line_of_sight", uvtt.POLYLINES, []),
        ("portals", uvtt.DOORS, {}),
        ("lights", uvtt.LIGHTS, {}),
    ],
)
def test_fi9_too_many_entries_are_refused_with_the_field_and_the_limit(
    field: str, most: int, entry: object
) -> None:
    parse(small_map(**{field: [entry] * most}))
    with pytest.raises(TooLarge) as refusal:
        parse(small_map(**{field: [entry] * (most + 1)}))
    assert f"`{field}` has {most + 1} entries, and at most {most}" in refusal.value.why


def test_fi9_too_many_points_in_all_are_refused() -> None:
    half = [at(0, 0)] * (uvtt.POINTS // 2)
    parse(small_map(line_of_sight=[half], objects_line_of_sight=[half]))
    with pytest.raises(TooLarge, match=r"objects_line_of_sight\[1\]"):
        parse(small_map(line_of_sight=[half], objects_line_of_sight=[half, [at(0, 0)]]))


def test_coordinates_beyond_the_board_are_left_out() -> None:
    document = small_map(
        line_of_sight=[[at(1, 1), at(100_001, 1), at(2, 2)], [at(99_999, 0), at(-99_999, 0)]]
    )
    document["resolution"]["map_origin"] = at(-2, 0)
    plan = parse(document)
    assert plan.walls == ((Point(3, 1), Point(4, 2)),)
    assert plan.skipped[1:] == (
        "line_of_sight[1][0] is too far away",
        "line_of_sight[1] has fewer than two points",
    )


@pytest.mark.parametrize("padding", ["", "=", "=="])
def test_base64_without_its_padding_is_read(padding: str) -> None:
    picture = b"picture"[: 7 - len(padding)]
    text = base64.b64encode(picture).decode().rstrip("=")
    assert uvtt.parse(as_bytes(small_map(image=text)))[1] == picture


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (7, "is a number, not a base64 text"),
        (["x"], "is a list, not"),
        ("data:image/png,%89PNG", "is a data address without base64"),
        ("data:image/png;base64,", "is empty"),
        ("QUJDR", "is not base64 or is cut off"),
        ("QUJ-_w==", "is not base64"),
        ("QÜ==", "is not base64"),
    ],
)
def test_a_picture_that_cannot_be_read_names_its_field(image: object, words: str) -> None:
    with pytest.raises(Malformed) as refusal:
        parse(small_map(image=image))
    assert f"`image` {words}" in refusal.value.why


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("resolution", [], "`resolution` is a list, not an object"),
        ("resolution", "x", "`resolution` is a text, not an object"),
        ("resolution.map_size", 7, "`resolution.map_size` is a number, not an object"),
        ("resolution.map_size.y", True, "`resolution.map_size.y` is not a number"),
        ("resolution.map_size.y", -1, "`resolution.map_size.y` is -1, and must be over 0"),
        ("resolution.map_size.y", 10_001, "and at most 10000"),
        ("resolution.map_size.y", None, "`resolution.map_size.y` is not a number"),
        ("resolution.pixels_per_grid", {}, "`resolution.pixels_per_grid` is not a number"),
        ("resolution.map_origin", 3, "`resolution.map_origin` is a number, not an object"),
        ("resolution.map_origin", {"y": 1}, "`resolution.map_origin.x` is not a number"),
        ("portals", 3, "`portals` is a number, not a list"),
        ("objects_line_of_sight", False, "`objects_line_of_sight` is true or false, not a list"),
    ],
)  # fmt: skip
def test_fi8_a_field_of_the_wrong_kind_is_named(path: str, value: object, words: str) -> None:
    document = small_map()
    *parents, last = path.split(".")
    place = document
    for parent in parents:
        place = place[parent]
    place[last] = value
    with pytest.raises(Malformed) as refusal:
        parse(document)
    assert words in refusal.value.why


def test_a_picture_of_another_size_is_believed_and_told() -> None:
    plan = plan_of("other_size.uvtt")
    assert plan.pixels_per_cell == 140
    fitted = uvtt.fit(plan, Picture("", "image/png", 80, 48, 1))
    assert fitted.pixels_per_cell == 10
    assert fitted.skipped == (
        "resolution: promises a picture of 1120 × 672 pixels, it has 80 × 48; it is stretched over the map",
    )
    assert uvtt.fit(fitted, Picture("", "image/png", 80, 48, 1)) == fitted


numbers = st.floats() | st.integers() | st.none() | st.text(max_size=3) | st.booleans()
spots = st.fixed_dictionaries({}, optional={"x": numbers, "y": numbers}) | numbers
anything = st.recursive(
    numbers,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
)


@given(
    changes=st.fixed_dictionaries(
        {},
        optional={
            "resolution": st.fixed_dictionaries({}, optional={"map_origin": spots, "map_size": spots, "pixels_per_grid": numbers}) | anything,
            "line_of_sight": st.lists(st.lists(spots, max_size=5) | anything, max_size=5) | anything,
            "objects_line_of_sight": anything,
            "portals": st.lists(st.fixed_dictionaries({}, optional={"bounds": st.lists(spots, max_size=3), "closed": anything}) | anything, max_size=4) | anything,
            "lights": st.lists(
                st.fixed_dictionaries({}, optional={"position": spots, "range": numbers, "intensity": numbers, "color": anything}) | anything,
                max_size=4,
            ) | anything,
            "image": st.text() | anything,
        },
    )
)  # fmt: skip
def test_whatever_the_fields_hold_it_is_a_plan_within_bounds_or_a_refusal(
    changes: dict[str, Any],
) -> None:
    with contextlib.suppress(Malformed, TooLarge):
        check_bounds(parse(small_map(**changes)))


def check_bounds(plan: Plan) -> None:
    """What the table's own commands would take."""
    assert 0 < plan.width <= 10_000
    assert 0 < plan.height <= 10_000
    spots = [
        *(point for wall in plan.walls for point in wall),
        *(end for door in plan.doors for end in door.points),
    ]
    assert all(abs(value) <= 100_000 for spot in spots for value in (spot.x, spot.y))
    assert all(2 <= len(wall) <= uvtt.WALL_POINTS for wall in plan.walls)
    assert all(0 <= light.range <= 1000 and 0 <= light.intensity <= 100 for light in plan.lights)
