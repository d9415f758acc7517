"""Scenes: one is active, members may be placed on others, and one that goes takes everything along."""

from typing import Any

import pytest

from tableforge.domain.scenes import SCENES_MAX
from tests.table import NOWHERE, Table, opened

SIZE: dict[str, Any] = {"width": 10, "height": 10}


@pytest.fixture
def table() -> Table:
    return opened(ann="player", bob="player")


@pytest.fixture
def crypt(table: Table) -> str:
    return table.make("gm", "scene.create", name="Crypt", **SIZE)


def scenes_of(table: Table, user: str) -> set[str]:
    """The scenes that a user sees."""
    return {scene["id"] for scene in table.view(user)["scenes"]}


def test_sc1_a_gm_sees_all_scenes_and_others_the_active_one(table: Table, crypt: str) -> None:
    hall = table.room.active
    assert scenes_of(table, "gm") == {hall, crypt}
    assert scenes_of(table, "ann") == {hall}
    table.send("gm", "scene.activate", scene=crypt)
    assert scenes_of(table, "ann") == {crypt}
    assert [one["active"] for one in table.view("gm")["scenes"]] == [False, True]


def test_sc2_members_see_the_scene_they_were_placed_on_until_they_follow_again(
    table: Table, crypt: str
) -> None:
    hall = table.room.active
    table.send("gm", "scene.place", scene=crypt, members=["ann"])
    assert (scenes_of(table, "ann"), scenes_of(table, "bob")) == ({crypt}, {hall})
    assert [one["active"] for one in table.view("ann")["scenes"]] == [True]
    other = table.make("gm", "scene.create", name="Moor", **SIZE)
    table.send("gm", "scene.activate", scene=other)
    assert (scenes_of(table, "ann"), scenes_of(table, "bob")) == ({crypt}, {other})
    table.send("gm", "scene.place", scene=None, members=["ann"])
    assert scenes_of(table, "ann") == {other}


def test_sc2_the_places_of_others_are_the_gms_to_know(table: Table, crypt: str) -> None:
    table.send("gm", "scene.place", scene=crypt, members=["ann", "bob"])
    places = [{"id": "ann", "scene": crypt}, {"id": "bob", "scene": crypt}]
    assert table.view("gm")["placed"] == places
    assert table.view("ann")["placed"] == places[:1]


def test_sc3_a_scene_left_out_is_the_one_in_front_of_the_sender(table: Table, crypt: str) -> None:
    table.send("gm", "scene.place", scene=crypt, members=["ann"])
    for by, scene in (("ann", crypt), ("bob", table.room.active), ("gm", table.room.active)):
        token = table.make(by, "token.add", name="Cat", x=0, y=0)
        assert table.room.tokens[token].scene == scene


def test_sc4_the_active_scene_is_not_removed(table: Table, crypt: str) -> None:
    hall = table.room.active
    assert table.refusal("gm", "scene.remove", scene=hall).code == "conflict"
    table.send("gm", "scene.activate", scene=crypt)
    table.send("gm", "scene.remove", scene=hall)
    assert table.room.scenes.keys() == {crypt}


def test_sc5_a_removed_scene_takes_everything_on_it_along(table: Table, crypt: str) -> None:
    ends = [{"x": 0, "y": 0}, {"x": 1, "y": 0}]
    for scene in (crypt, table.room.active):
        table.send("gm", "token.add", name="Cat", x=0, y=0, scene=scene)
        table.send("gm", "wall.set", points=ends, scene=scene)
        table.send("gm", "door.set", points=ends, scene=scene)
        table.send("gm", "light.set", x=1, y=1, range=2, scene=scene)
        table.send("gm", "draw.add", shape={}, scene=scene)
    table.send("gm", "scene.place", scene=crypt, members=["ann"])
    table.send("gm", "scene.remove", scene=crypt)
    view = table.view("gm")
    for kind in ("tokens", "walls", "doors", "lights", "drawings"):
        assert [one["scene"] for one in view[kind]] == [table.room.active], kind
    assert view["placed"] == []
    assert scenes_of(table, "ann") == {table.room.active}


def test_sc6_only_those_who_change_place_are_named(table: Table, crypt: str) -> None:
    table.send("gm", "scene.place", scene=crypt, members=["ann"])
    (step,) = table.send("gm", "scene.place", scene=crypt, members=["bob", "ann", "bob"])
    assert table.told("gm", [step])[0]["members"] == ["bob"]


def test_sc6_only_members_are_placed_and_only_on_scenes(table: Table, crypt: str) -> None:
    place = "scene.place"
    assert table.refusal("gm", place, scene=crypt, members=[NOWHERE]).code == "not-found"
    assert table.refusal("gm", place, scene=NOWHERE, members=["ann"]).code == "not-found"


def test_an_update_tells_only_what_changed(table: Table, crypt: str) -> None:
    grid = {"type": "none", "size": 50}
    fields = {"name": "Crypt", "grid": grid, "background": "b" * 16}
    (step,) = table.send("gm", "scene.update", scene=crypt, **fields)
    told = table.told("gm", [step])[0]
    assert {key: told[key] for key in told.keys() - {"type", "by", "at", "id"}} == {
        "scene": crypt,
        "grid": grid,
        "background": "b" * 16,
    }


def test_rm9_a_room_holds_a_bounded_number_of_scenes(table: Table, crypt: str) -> None:
    scene = table.room.scenes[crypt]
    table.room.scenes.update({f"s{number}": scene for number in range(SCENES_MAX - 2)})
    assert table.refusal("gm", "scene.create", name="Moor", **SIZE).code == "too-large"
