"""Game systems, room templates, and rooms made of them, over REST (rules LF of `docs/spec.md`)."""

import json
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tableforge.domain import dice_grammar
from tests.command import tableforge
from tests.server_process import Person, ServerProcess

PICTURE = Path(__file__).parent.parent / "samples" / "good" / "plain.png"
SYSTEM: dict[str, Any] = {
    "name": "Salt & Sorcery",
    "tags": ["Sea", "d20"],
    "attributes": [
        {"key": "might", "name": "Might", "default": 10},
        {"key": "folk", "name": "Folk", "kind": "choice", "choices": ["Elf", "Orc"]},
    ],
    "macros": [{"key": "hit", "name": "Hit", "expression": "2d20kh1+4"}],
    "decks": [{"name": "Fate", "cards": [{"name": "The Tide", "count": 3}]}],
    "sheets": [{"name": "Hero", "fields": [{"attribute": "might", "width": 6}, {"macro": "hit"}]}],
    "extra": {"theme": {"ink": "#123456"}},
}


def test_lf5_a_system_is_kept_in_versions_and_private_until_it_is_public(
    server: ServerProcess,
) -> None:
    maker, stranger = Person(server, "Ada"), Person(server, "Ilse")
    made = maker.http.post("/api/systems", json=SYSTEM)
    assert made.status_code == 201, made.text
    system = made.json()
    address = f"/api/systems/{system['id']}"
    assert (system["version"], system["mine"], system["tags"]) == (1, True, ["sea", "d20"])
    assert system["macros"][0]["expression"] == "2d20kh1+4"
    never = stranger.http.get("/api/systems/aaaaaaaaaaaaaaaa")
    for answer in (
        stranger.http.get(address),
        stranger.http.post(address, json=SYSTEM),
        stranger.http.get(f"{address}?version=9"),
    ):
        assert answer.status_code == 404
        assert answer.json()["code"] == never.json()["code"] == "not-found"
    assert stranger.http.get(address).content.replace(
        system["id"].encode(), b""
    ) == never.content.replace(b"aaaaaaaaaaaaaaaa", b"")
    changed = {**SYSTEM, "name": "Salt", "visibility": "public", "macros": [], "sheets": []}
    assert maker.http.post(address, json=changed).json()["version"] == 2
    seen = stranger.http.get(address).json()
    assert (seen["name"], seen["version"], seen["newest"], seen["mine"]) == ("Salt", 2, 2, False)
    assert seen["macros"] == []
    for earlier in (1, 3):
        kept_back = stranger.http.get(f"{address}?version={earlier}")
        assert (kept_back.status_code, kept_back.json()["code"]) == (404, "not-found")
    assert stranger.http.get(f"{address}?version=2").json() == seen
    assert maker.http.get(f"{address}?version=1").json()["macros"] == system["macros"]
    assert stranger.http.post(address, json=SYSTEM).status_code == 403
    assert maker.http.get(f"{address}?version=3").status_code == 404
    listed = stranger.http.get("/api/systems", params={"q": "SALT", "tag": "SEA"}).json()
    assert [(one["id"], one["mine"]) for one in listed["systems"]] == [(system["id"], False)]
    assert listed["next"] is None
    assert stranger.http.get("/api/systems", params={"tag": "se"}).json()["systems"] == []


def test_lf4_what_a_further_system_leaves_out_stays_and_those_before_keep_their_names(
    server: ServerProcess,
) -> None:
    maker, stranger = Person(server, "Ada"), Person(server, "Ilse")
    first = maker.http.post("/api/systems", json={**SYSTEM, "visibility": "public"}).json()
    address = f"/api/systems/{first['id']}"
    second = maker.http.post(address, json={"decks": []}).json()
    counted = {"version": 2, "newest": 2, "updated": second["updated"]}
    assert second == {**first, "decks": [], **counted}
    changed = {"name": "Salt", "tags": [], "visibility": "private"}
    third = maker.http.post(address, json=changed).json()
    assert third == {**second, **changed, "version": 3, "newest": 3, "updated": third["updated"]}
    assert stranger.http.get(f"{address}?version=1").status_code == 404
    seen = [maker.http.get(f"{address}?version={number}").json() for number in (1, 2, 3)]
    now_true = {"newest": 3, "visibility": "private"}
    assert seen == [{**one, **now_true} for one in (first, second, third)]
    assert maker.http.get(address).json() == third
    (line,) = maker.http.get("/api/systems", params={"q": "salt", "limit": "1"}).json()["systems"]
    assert line == {key: third[key] for key in line}


def test_lf4_what_a_further_template_leaves_out_stays(server: ServerProcess) -> None:
    gm = Person(server, "Ada")
    room, _ = gm.create_room("The Cellar")
    wanted = {"room": room, "name": "Cellar", "tags": ["horror"], "visibility": "public"}
    first = gm.http.post("/api/templates", json=wanted).json()
    address = f"/api/templates/{first['id']}"
    assert gm.http.post(address, json={"room": room}).json() == first
    gm.http.patch(f"/api/rooms/{room}", json={"settings": {"players_add_tokens": False}})
    second = gm.http.post(address, json={"room": room}).json()
    counted = {"version": 2, "newest": 2, "updated": second["updated"]}
    assert second == {**first, "layout": second["layout"], **counted}
    assert second["layout"]["settings"]["players_add_tokens"] is False
    third = gm.http.post(address, json={"room": room, "name": "Vault", "tags": []}).json()
    assert (third["name"], third["tags"], third["visibility"]) == ("Vault", [], "public")
    assert gm.http.get(f"{address}?version=2").json() == {**second, "newest": 3}


def test_lf5_times_are_moments_and_defaults_are_filled_in(server: ServerProcess) -> None:
    maker = Person(server, "Ada")
    made = maker.http.post("/api/systems", json=SYSTEM).json()
    for moment in (made["created"], made["updated"]):
        assert moment.endswith("Z")
        assert abs(datetime.now(UTC) - datetime.fromisoformat(moment)) < timedelta(minutes=10)
    might = {"key": "might", "name": "Might", "kind": "number", "default": 10}
    assert made["attributes"][0] == {**might, "minimum": None, "maximum": None, "choices": []}
    assert made["macros"][0]["visibility"] == "public"
    bare = {"name": "Fate", "cards": [{"name": "Tide"}]}
    again = maker.http.post(f"/api/systems/{made['id']}", json={"decks": [bare]}).json()
    card = {"name": "Tide", "face": None, "back": None, "count": 1}
    assert again["decks"] == [{"name": "Fate", "cards": [card]}]
    assert again["sheets"][0]["fields"][1] == {
        "attribute": None,
        "macro": "hit",
        "text": None,
        "width": 12,
    }
    parts = {key: again[key] for key in ("attributes", "macros", "decks", "sheets", "extra")}
    sent_back = maker.http.post(f"/api/systems/{made['id']}", json=parts)
    assert {key: sent_back.json()[key] for key in parts} == parts


def test_lf5_fields_and_parameters_that_there_are_not_are_refused(server: ServerProcess) -> None:
    maker = Person(server, "Ada")
    room, _ = maker.create_room("The Cellar")
    template = {"room": room, "name": "Cellar"}
    refused = []
    for path, body in (("/api/systems", SYSTEM), ("/api/templates", template)):
        made = maker.http.post(path, json=body).json()
        address = f"{path}/{made['id']}"
        refused += [maker.http.post(one, json={**body, "strange": 1}) for one in (path, address)]
        refused += [maker.http.post(f"{one}?strange=1", json=body) for one in (path, address)]
        refused += [maker.http.get(f"{one}?strange=1") for one in (path, address)]
        assert maker.http.get(address).json()["newest"] == 1
    assert len(refused) == 12
    for answer in refused:
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed")
        assert "`strange`" in answer.json()["detail"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "a\u0000b"},
        {"name": ""},
        {"name": "Salt\n"},
        {"tags": ["sea\n"]},
        {"tags": ["x" * 41]},
        {"tags": ["x"] * 21},
        {"macros": [{"key": "hit", "name": "Hit", "expression": "2d"}]},
        {"macros": [{"key": "hit", "name": "Hit", "expression": "1d6"}] * 2},
        {"attributes": [{"key": "Might", "name": "Might"}]},
        {"attributes": [{"key": "might\n", "name": "Might"}]},
        {"attributes": [{"key": "might", "name": "Might", "kind": "choice"}]},
        {"attributes": [{"key": "might", "name": "Might", "default": "ten"}]},
        {"attributes": [{"key": "might", "name": "Might", "strange": 1}]},
        {"macros": [{"key": f"k{n}", "name": "M", "expression": "1"} for n in range(201)]},
        {
            "macros": [
                {"key": f"k{n}", "name": "M", "expression": "1" + "+1" * 99} for n in range(51)
            ],
            "sheets": [],
        },
        {"decks": [{"name": "Fate", "cards": [{"name": "A", "count": 999}] * 6}]},
        {"sheets": [{"name": "Hero", "fields": [{"attribute": "luck"}]}]},
        {"sheets": [{"name": "Hero", "fields": [{}]}]},
        {"extra": {"a": {"b": {"c": {"d": {"e": {"f": {"g": 1}}}}}}}},
        {"extra": {"a": "\u0007"}},
        {"extra": []},
        {"visibility": "secret"},
    ],
)
def test_lf5_a_system_that_makes_no_sense_is_refused(
    server: ServerProcess, wrong: dict[str, Any]
) -> None:
    maker = Person(server, "Ada")
    refused = maker.http.post("/api/systems", json={**SYSTEM, **wrong})
    assert (refused.status_code, refused.json()["code"]) == (400, "malformed")
    listed = maker.http.get("/api/systems").json()["systems"]
    assert not any(one["mine"] for one in listed)


def test_lf9_who_sends_too_many_designs_is_asked_to_wait(server: ServerProcess) -> None:
    maker, other = Person(server, "Ada"), Person(server, "Bo")
    answers = (maker.http.post("/api/systems", json={}) for _ in range(1_000))
    refused = next(answer for answer in answers if answer.status_code != 400)
    assert (refused.status_code, refused.json()["code"]) == (429, "too-many")
    assert other.http.post("/api/systems", json=SYSTEM).status_code == 201


async def test_lf9_macros_are_read_beside_the_loop(
    opened: Callable[..., Awaitable[httpx.AsyncClient]], monkeypatch: pytest.MonkeyPatch
) -> None:
    read_in: list[int] = []
    parse = dice_grammar.parse

    def watched(text: str) -> dice_grammar.Expression:
        read_in.append(threading.get_ident())
        return parse(text)

    monkeypatch.setattr(dice_grammar, "parse", watched)
    http = await opened()
    session = (await http.post("/api/session", json={"name": "Ada"})).json()
    signed_in = {"authorization": f"Bearer {session['token']}"}
    made = await http.post("/api/systems", json=SYSTEM, headers=signed_in)
    address = f"/api/systems/{made.json()['id']}"
    again = await http.post(address, json={"tags": []}, headers=signed_in)
    assert (made.status_code, again.status_code) == (201, 201)
    assert len(read_in) == 2
    assert threading.get_ident() not in read_in


def furnished(gm: Person, room: str, player: Person) -> None:
    """A table with something of everything, and secrets between two of its people."""
    made = gm.command(room, "scene.create", name="Cellar", width=12, height=9).json()
    scene = made["result"]["id"]
    gm.command(room, "scene.activate", scene=scene)
    gm.command(room, "token.add", name="Warden", x=3, y=4, hidden=True, rotation=90)
    gm.command(room, "wall.set", points=[{"x": 0, "y": 0}, {"x": 4, "y": 0}])
    gm.command(room, "door.set", points=[{"x": 4, "y": 0}, {"x": 5, "y": 0}], state="open")
    gm.command(room, "light.set", x=2, y=2, range=5, color="#ffb65c", intensity=1)
    player.command(room, "token.add", name="Brannoch", x=1, y=1)
    player.command(room, "draw.add", shape={"kind": "line"}, style={"ink": "red"})
    player.command(room, "chat.say", text="a word for nobody else", to=[player.id])
    gm.command(room, "chat.say", text="said to all")
    gm.command(room, "turn.set", entries=[{"name": "Brannoch", "value": 3}])
    gm.http.patch(f"/api/rooms/{room}", json={"settings": {"players_add_tokens": False}})


CONTENT = ("scenes", "tokens", "walls", "doors", "lights", "drawings")


def content(snapshot: dict[str, Any]) -> dict[str, Any]:
    """What is on the boards, by the names of the scenes in place of ids, and without who it belongs to."""
    room = snapshot["room"]
    names = {scene["id"]: scene["name"] for scene in room["scenes"]}
    found: dict[str, Any] = {"settings": room["settings"]}
    for kind in CONTENT:
        things = [
            {
                key: names.get(value, value) if key == "scene" else value
                for key, value in thing.items()
                if key not in {"id", "owner"}
            }
            for thing in room[kind]
        ]
        found[kind] = sorted(things, key=repr)
    return found


def test_lf6_a_room_made_of_a_template_equals_the_one_it_was_made_of(
    server: ServerProcess,
) -> None:
    gm, player, stranger = (Person(server, name) for name in ("Ada", "Bo", "Cy"))
    room, invite = gm.create_room("The Cellar")
    player.join(room, invite)
    furnished(gm, room, player)
    wanted = {"room": room, "name": "Cellar", "tags": ["horror"], "visibility": "public"}
    assert player.http.post("/api/templates", json=wanted).status_code == 403
    assert stranger.http.post("/api/templates", json=wanted).status_code == 404
    made = gm.http.post("/api/templates", json=wanted)
    assert made.status_code == 201, made.text
    template = made.json()
    for secret in (player.id, gm.id, "said to all", "a word for", "Ada", room):
        assert secret not in made.text.replace(f'"owner":"{secret}"', "")
    assert f'"owner":"{player.id}"' not in made.text
    answer = stranger.http.post("/api/rooms", json={"name": "Mine", "template": template["id"]})
    assert answer.status_code == 201, answer.text
    copy = answer.json()["id"]
    before = gm.http.get(f"/api/rooms/{room}/snapshot").json()
    after = stranger.http.get(f"/api/rooms/{copy}/snapshot").json()
    assert content(after) == content(before)
    assert len(after["room"]["scenes"]) == 2
    assert [one["id"] for one in after["room"]["members"]] == [stranger.id]
    assert (after["room"]["me"]["role"], after["room"]["chat"]) == ("gm", [])
    assert after["room"]["turn"] is None
    assert {one["owner"] for one in after["room"]["tokens"]} == {None}
    assert {one["owner"] for one in after["room"]["drawings"]} == {stranger.id}
    ids = {kind: {one["id"] for one in before["room"][kind]} for kind in CONTENT}
    assert not any(one["id"] in ids[kind] for kind in CONTENT for one in after["room"][kind])
    gm.command(room, "token.add", name="Late", x=0, y=0)
    again = gm.http.post(f"/api/templates/{template['id']}", json=wanted)
    assert (again.status_code, again.json()["version"]) == (201, 2)
    address = f"/api/templates/{template['id']}"
    assert gm.http.get(address, params={"version": "1"}).json()["layout"] == template["layout"]
    assert stranger.http.get(address, params={"version": "1"}).status_code == 404
    assert "Late" in stranger.http.get(address).text
    assert stranger.http.post(address, json=wanted).status_code in {403, 404}


def test_lf6_a_template_takes_no_picture_of_others_with_it(server: ServerProcess) -> None:
    gm, player, stranger = (Person(server, name) for name in ("Ada", "Bo", "Cy"))
    room, invite = gm.create_room("The Cellar")
    player.join(room, invite)
    theirs, own = (
        person.http.post("/api/assets", files={"file": ("a.png", PICTURE.read_bytes())}).json()[
            "id"
        ]
        for person in (player, gm)
    )
    for person, picture in ((player, theirs), (gm, own)):
        person.command(room, "token.add", name=f"Of {person.id}", x=1, y=1, image=picture)
    gm.command(room, "scene.create", name="Plan", width=9, height=9, background=theirs)
    wanted = {"room": room, "name": "Cellar", "visibility": "public"}
    layout = gm.http.post("/api/templates", json=wanted).json()
    images = {one["name"]: one["image"] for one in layout["layout"]["tokens"]}
    assert images == {f"Of {player.id}": None, f"Of {gm.id}": own}
    assert {one["background"] for one in layout["layout"]["scenes"]} == {None}
    stranger.http.post("/api/rooms", json={"name": "Mine", "template": layout["id"]})
    assert stranger.http.get(f"/api/assets/{own}").status_code == 200
    assert stranger.http.get(f"/api/assets/{theirs}").status_code == 404


def test_lf6_a_template_that_the_caller_may_not_see_makes_no_room(server: ServerProcess) -> None:
    gm, stranger = Person(server, "Ada"), Person(server, "Cy")
    room, _ = gm.create_room("The Cellar")
    made = gm.http.post("/api/templates", json={"room": room, "name": "Cellar"}).json()
    for template in (made["id"], "aaaaaaaaaaaaaaaa"):
        refused = stranger.http.post("/api/rooms", json={"name": "Mine", "template": template})
        assert (refused.status_code, refused.json()["code"]) == (404, "not-found")
    assert stranger.http.get("/api/rooms", params={"q": "Mine"}).json()["rooms"] == []
    listed = stranger.http.get("/api/templates").json()["templates"]
    assert made["id"] not in {one["id"] for one in listed}
    mine = gm.http.get("/api/templates", params={"q": "cell"}).json()["templates"]
    assert [one["id"] for one in mine if one["mine"]] == [made["id"]]


def test_lf7_a_seeded_database_is_the_same_again_refuses_others_and_is_measured(
    tmp_path: Path,
) -> None:
    few = ("--rooms", "300", "--users", "40", "--assets", "900", "--designs", "60")
    nothing = tableforge("bench", "database", folder=tmp_path)
    assert nothing.returncode == 2, nothing.stderr
    first = tableforge("bench", "seed", *few, folder=tmp_path, data=tmp_path / "one")
    assert first.returncode == 0, first.stderr
    refused = tableforge("bench", "seed", *few, folder=tmp_path, data=tmp_path / "one")
    assert refused.returncode == 2
    assert "300 rooms" in refused.stderr
    more = tableforge(
        *("bench", "seed", "--add", "--seed", "2", *few), folder=tmp_path, data=tmp_path / "one"
    )
    assert more.returncode == 0, more.stderr
    measured = tableforge(
        *("bench", "database", "--pages", "5", "--json"), folder=tmp_path, data=tmp_path / "one"
    )

    report = json.loads(measured.stdout)
    assert measured.returncode == int(not all(one["met"] for one in report["answers"]))
    assert (report["contents"]["rooms"], report["contents"]["assets"]) == (600, 1800)
    by_name = {one["name"]: one for one in report["answers"]}
    assert by_name["public rooms, the first page"]["rows"] == 250
    assert by_name["public rooms, absent text"]["rows"] == 0
    assert "rooms_listed" in report["plans"]["log_list_public_walk"]
