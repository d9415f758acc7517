"""Walls, doors and lights, one by one and from a file."""

from typing import Any

import pytest

from tableforge.domain.commands import At, ImportedDoor, ImportedLight, ImportedWall, ImportScene
from tableforge.domain.decider import result_of
from tableforge.domain.state import Grid
from tableforge.domain.walls import DOORS_MAX, LIGHTS_MAX, WALL_POINTS_MAX, WALLS_MAX
from tableforge.errors import Forbidden, Malformed, TooLarge
from tests.table import NOWHERE, ROOM, Table, opened

ENDS = [{"x": 0.0, "y": 0.0}, {"x": 4.0, "y": 0.0}]
KINDS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("wall", {"points": ENDS}, {"points": [*ENDS, {"x": 4.0, "y": 4.0}]}),
    ("door", {"points": ENDS}, {"state": "open"}),
    ("light", {"x": 1.0, "y": 1.0, "range": 6.0}, {"range": 8.0, "color": "#ffcc88"}),
]


@pytest.fixture
def table() -> Table:
    return opened(ann="player")


def cellar(**fields: Any) -> ImportScene:
    """A map as an importer hands it over."""
    given = {
        "name": "Cellar",
        "width": 12.0,
        "height": 9.0,
        "grid": Grid("square", 50.0),
        "background": "c" * 16,
        "walls": (ImportedWall((At(0.0, 0.0), At(12.0, 0.0))),) * 2,
        "doors": (ImportedDoor((At(3.0, 0.0), At(4.0, 0.0)), "closed"),),
        "lights": (ImportedLight(6.0, 4.5, 5.0, "#ffeedd", 1.0),),
    }
    return ImportScene(room=ROOM, id="import", **{**given, **fields})


@pytest.mark.parametrize(("kind", "made", "changed"), KINDS)
def test_wl1_one_is_made_changed_and_taken_away(
    table: Table, kind: str, made: dict[str, Any], changed: dict[str, Any]
) -> None:
    key = table.make("gm", f"{kind}.set", **made)
    (thing,) = table.view("gm")[f"{kind}s"]
    assert made.items() <= thing.items()
    assert (thing["id"], thing["scene"]) == (key, table.room.active)
    table.send("gm", f"{kind}.set", **{kind: key}, **changed)
    (thing,) = table.view("gm")[f"{kind}s"]
    assert {**made, **changed}.items() <= thing.items()
    (step,) = table.send("gm", f"{kind}.set", **{kind: key}, remove=True)
    assert table.told("gm", [step])[0]["removed"] == [key]
    assert table.view("gm")[f"{kind}s"] == []


@pytest.mark.parametrize(("kind", "made", "changed"), KINDS)
def test_wl2_they_are_the_gms_to_see_and_to_change(
    table: Table, kind: str, made: dict[str, Any], changed: dict[str, Any]
) -> None:
    key = table.make("gm", f"{kind}.set", **made)
    steps = table.send("gm", f"{kind}.set", **{kind: key}, **changed)
    assert table.told("ann", steps) == [{"type": "hidden"}]
    assert table.view("ann")[f"{kind}s"] == []
    assert table.refusal("ann", f"{kind}.set", **made).code == "forbidden"
    assert table.refusal("ann", f"{kind}.set", **{kind: key}, **changed).code == "not-found"


@pytest.mark.parametrize(("kind", "made", "changed"), KINDS)
def test_wl3_what_makes_no_sense_is_refused(
    table: Table, kind: str, made: dict[str, Any], changed: dict[str, Any]
) -> None:
    key = table.make("gm", f"{kind}.set", **made)
    elsewhere = table.make("gm", "scene.create", name="Crypt", width=5, height=5)
    for field in made:
        fields = {name: value for name, value in made.items() if name != field}
        assert table.refusal("gm", f"{kind}.set", **fields).code == "malformed"
    assert table.refusal("gm", f"{kind}.set", remove=True).code == "malformed"
    assert table.refusal("gm", f"{kind}.set", **{kind: NOWHERE}, **changed).code == "not-found"
    moved = table.refusal("gm", f"{kind}.set", **{kind: key}, scene=elsewhere)
    assert moved.code == "malformed"


def test_wl4_a_scene_from_a_file_comes_whole_in_one_event(table: Table) -> None:
    (step,) = table.obey("gm", cellar())
    view = table.view("gm")
    result = result_of((step.event,))
    assert result is not None
    scene = result["id"]
    assert [one["id"] for one in view["scenes"] if not one["active"]] == [scene]
    assert [len(view[kind]) for kind in ("walls", "doors", "lights")] == [2, 1, 1]
    things = [*view["walls"], *view["doors"], *view["lights"]]
    assert {thing["scene"] for thing in things} == {scene}
    assert len({thing["id"] for thing in (*things, {"id": scene})}) == 5
    assert table.told("ann", [step]) == [{"type": "hidden"}]


@pytest.mark.parametrize(
    "fields",
    [
        {"walls": (ImportedWall((At(0.0, float("nan")), At(1.0, 0.0))),)},
        {"doors": (ImportedDoor((At(0.0, 0.0), At(float("inf"), 0.0)), "open"),)},
        {"lights": (ImportedLight(1e6, 4.5, 5.0, "#ffeedd", 1.0),)},
        {"lights": (ImportedLight(1.0, 4.5, float("nan"), "#ffeedd", 1.0),)},
    ],
)
def test_wl4_nothing_comes_of_a_file_with_numbers_out_of_range(
    table: Table, fields: dict[str, Any]
) -> None:
    with pytest.raises(Malformed):
        table.obey("gm", cellar(**fields))
    assert len(table.room.scenes) == 1


def test_wl4_only_a_gm_imports(table: Table) -> None:
    with pytest.raises(Forbidden):
        table.obey("ann", cellar())


@pytest.mark.parametrize(
    "fields",
    [
        {"walls": (ImportedWall((At(0.0, 0.0), At(1.0, 0.0))),) * (WALLS_MAX + 1)},
        {"walls": (ImportedWall((At(0.0, 0.0),) * 500),) * (WALL_POINTS_MAX // 500 + 1)},
        {"doors": (ImportedDoor((At(0.0, 0.0), At(1.0, 0.0)), "open"),) * (DOORS_MAX + 1)},
        {"lights": (ImportedLight(1.0, 4.5, 5.0, "#ffeedd", 1.0),) * (LIGHTS_MAX + 1)},
    ],
)
def test_rm9_a_room_holds_a_bounded_number_of_walls_doors_and_lights(
    table: Table, fields: dict[str, Any]
) -> None:
    with pytest.raises(TooLarge):
        table.obey("gm", cellar(**fields))


def test_rm9_a_wall_that_grows_counts_as_well(table: Table) -> None:
    (step,) = table.obey("gm", cellar(walls=(ImportedWall((At(0.0, 0.0),) * 500),) * 200))
    wall = next(iter(step.after.walls))
    table.send("gm", "wall.set", wall=wall, points=[{"x": 0, "y": 0}] * 498)
    table.send("gm", "wall.set", points=ENDS)
    grown = [{"x": 0, "y": 0}] * 499
    assert table.refusal("gm", "wall.set", wall=wall, points=grown).code == "too-large"
