"""Rooms over REST: listing, joining, reading, commands (rules HT of `docs/spec.md`)."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.server_process import Person, ServerProcess


def told(answer: httpx.Response) -> tuple[int, bytes]:
    """What an answer tells: its status and its body."""
    return answer.status_code, answer.content


def pages(person: Person, **query: str) -> list[str]:
    """The ids of all rooms of a listing, page by page."""
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = person.http.get("/api/rooms", params={"limit": "2", **query, **cursor}).json()
        assert len(page["rooms"]) <= 2
        found += [room["id"] for room in page["rooms"]]
        if page["next"] is None:
            return found
        cursor = {"cursor": page["next"]}


def test_ht17_listings_show_own_rooms_then_public_ones_each_once(server: ServerProcess) -> None:
    gm, player = Person(server, "Ada"), Person(server, "Ilse")
    mark = f"listed by {gm.id}"
    private = [gm.create_room(f"{mark} {number}")[0] for number in range(3)]
    public = [gm.create_room(f"{mark} p{number}", visibility="public")[0] for number in range(3)]
    joined, invite = gm.create_room(f"{mark} joined")
    player.join(joined, invite)
    assert sorted(pages(gm, q=mark.upper())) == sorted([*private, *public, joined])
    theirs = pages(player, q=mark)
    assert theirs[0] == joined
    assert sorted(theirs[1:]) == sorted(public)
    anybody = httpx.get(f"{server.url}/api/rooms", params={"q": mark}).json()
    assert {room["id"] for room in anybody["rooms"]} == set(public)
    line = next(room for room in anybody["rooms"] if room["id"] == public[0])
    assert line["members"] == 1
    assert datetime.fromisoformat(line["updated"]).tzinfo is not None


def test_ht17_rooms_are_found_by_tag(server: ServerProcess) -> None:
    gm = Person(server, "Ada")
    room, _ = gm.create_room(visibility="public")
    tag = f"tag-{gm.id}"
    changed = gm.http.patch(f"/api/rooms/{room}", json={"tags": [tag, "horror"]})
    assert changed.json()["tags"] == [tag, "horror"]
    assert pages(gm, tag=tag) == [room]
    assert pages(gm, tag=tag[:-1]) == []


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=201", "limit=x", "limit=", "cursor=zz", "cursor=p", "cursor=p-1", "cursor=pÂ²",
     "cursor=" + "1" * 65, "q=" + "a" * 81, "q=%00", "tag=a%00b"],
)  # fmt: skip
def test_ht7_a_query_that_is_none_is_refused_with_400(server: ServerProcess, query: str) -> None:
    refused = httpx.get(f"{server.url}/api/rooms?{query}")
    assert (refused.status_code, refused.json()["code"]) == (400, "malformed")


def test_ht9_the_creator_is_gm_and_the_link_seats_a_player(server: ServerProcess) -> None:
    gm, player = Person(server, "Ada"), Person(server, "Ilse")
    made = gm.http.post("/api/rooms", json={"name": "The Salt Road"})
    assert made.status_code == 201
    room = made.json()["id"]
    assert made.json() == {
        "id": room, "name": "The Salt Road", "role": "gm", "invite": made.json()["invite"],
    }  # fmt: skip
    joined = player.http.post(f"/api/rooms/{room}/join", json={"invite": made.json()["invite"]})
    assert (joined.status_code, joined.json()) == (200, {"role": "player"})
    snapshot = player.http.get(f"/api/rooms/{room}/snapshot").json()
    assert snapshot["offset"] >= 2
    assert snapshot["epoch"]
    state = snapshot["room"]
    assert state["me"] == {"id": player.id, "role": "player"}
    assert state["visibility"] == "private"
    (scene,) = state["scenes"]
    assert (scene["width"], scene["height"], scene["grid"]["type"]) == (30, 20, "square")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("PATCH", "", {"name": "x"}),
        ("DELETE", "", None),
        ("GET", "/snapshot", None),
        ("GET", "/events", None),
        ("POST", "/join", {}),
        ("POST", "/join", {"invite": "guess"}),
        ("POST", "/invites", {"role": "gm"}),
        ("DELETE", "/invites/guess", None),
        ("DELETE", "/members/me", None),
        ("POST", "/commands", {"type": "chat.say", "id": "1", "text": "hello"}),
    ],
)
def test_ht8_a_private_room_is_to_strangers_as_one_that_never_was(
    server: ServerProcess, method: str, path: str, body: dict[str, str] | None
) -> None:
    gm, stranger = Person(server, "Ada"), Person(server, "Mallory")
    room, _ = gm.create_room()
    there, nowhere = (
        stranger.http.request(method, f"/api/rooms/{one}{path}", json=body)
        for one in (room, "never-was")
    )
    assert told(there) == told(nowhere)
    assert there.status_code == 404
    assert gm.http.get(f"/api/rooms/{room}").status_code == 200


def test_ht8_an_upload_by_a_stranger_is_refused_in_the_same_words(server: ServerProcess) -> None:
    gm, stranger = Person(server, "Ada"), Person(server, "Mallory")
    room, _ = gm.create_room()
    there, nowhere = (
        stranger.http.post(f"/api/rooms/{one}/imports", files={"file": ("a.png", b"x")})
        for one in (room, "never-was")
    )
    assert told(there) == told(nowhere)
    assert there.status_code == 404


def test_ht9_a_public_room_needs_no_invite_and_the_higher_role_stays(
    server: ServerProcess,
) -> None:
    gm, player = Person(server, "Ada"), Person(server, "Ilse")
    room, invite = gm.create_room(visibility="public")
    join = f"/api/rooms/{room}/join"
    assert player.http.get(f"/api/rooms/{room}/snapshot").status_code == 403
    assert player.http.post(join, json={}).json() == {"role": "player"}
    assert player.http.post(join).json() == {"role": "player"}
    assert gm.http.post(join, json={"invite": invite}).json() == {"role": "gm"}
    wrong = player.http.post(join, json={"invite": "guess"})
    assert (wrong.status_code, wrong.json()["what"]) == (404, "There is no such invite.")

    def invited(**wanted: object) -> str:
        made = gm.http.post(f"/api/rooms/{room}/invites", json=wanted)
        assert made.status_code == 201, made.text
        invite: str = made.json()["invite"]
        return invite

    watching = invited(role="spectator", uses=1)
    assert player.http.post(join, json={"invite": watching}).json() == {"role": "player"}
    late = Person(server, "Late")
    assert late.http.post(join, json={"invite": watching}).json() == {"role": "spectator"}
    ruling = invited(role="gm", uses=1)
    assert player.http.post(join, json={"invite": ruling}).json() == {"role": "gm"}
    spent = late.http.post(join, json={"invite": ruling})
    assert (spent.status_code, spent.json()["code"]) == (410, "gone")


def test_ht9_of_many_at_the_last_seat_one_gets_it(server: ServerProcess) -> None:
    gm = Person(server, "Ada")
    room, _ = gm.create_room()
    made = gm.http.post(f"/api/rooms/{room}/invites", json={"role": "player", "uses": 2})
    body = {"invite": made.json()["invite"]}
    crowd = [Person(server, f"Guest {number}") for number in range(6)]
    with ThreadPoolExecutor(len(crowd)) as pool:
        answers = list(
            pool.map(lambda one: one.http.post(f"/api/rooms/{room}/join", json=body), crowd)
        )
    assert sorted(one.status_code for one in answers) == [200, 200, 410, 410, 410, 410]
    assert len(gm.http.get(f"/api/rooms/{room}").json()["members"]) == 3


def test_ht9_invites_are_made_and_deleted_by_gms_alone(server: ServerProcess) -> None:
    gm, player = Person(server, "Ada"), Person(server, "Ilse")
    room, invite = gm.create_room()
    player.join(room, invite)
    path = f"/api/rooms/{room}/invites"
    assert player.http.post(path, json={"role": "player"}).status_code == 403
    assert player.http.delete(f"{path}/{invite}").status_code == 403
    yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    for wrong in (
        {"role": "god"},
        {"role": "player", "uses": 0},
        {"role": "player", "uses": "1"},
        {"role": "player", "expires": "tomorrow"},
        {"role": "player", "expires": "2030-01-01T00:00:00"},
        {"role": "player", "expires": yesterday},
    ):
        assert gm.http.post(path, json=wrong).status_code == 400, wrong
    assert gm.http.delete(f"{path}/{invite}").status_code == 204
    assert gm.http.delete(f"{path}/{invite}").status_code == 404
    late = Person(server, "Late")
    assert late.http.post(f"/api/rooms/{room}/join", json={"invite": invite}).status_code == 404


def test_ht9_a_banned_member_gets_no_seat_and_takes_no_use(server: ServerProcess) -> None:
    gm, player = Person(server, "Ada"), Person(server, "Ilse")
    room, invite = gm.create_room()
    player.join(room, invite)
    made = gm.http.post(f"/api/rooms/{room}/invites", json={"role": "player", "uses": 1})
    assert gm.command(room, "member.ban", user=player.id).status_code == 200
    path, body = f"/api/rooms/{room}/join", {"invite": made.json()["invite"]}
    refused = player.http.post(path, json=body)
    assert refused.status_code in {403, 404}
    assert Person(server, "Late").http.post(path, json=body).json() == {"role": "player"}


def test_ht9_whoever_leaves_is_gone_and_the_last_gm_cannot(server: ServerProcess) -> None:
    gm, player = Person(server, "Ada"), Person(server, "Ilse")
    room, invite = gm.create_room()
    player.join(room, invite)
    leave = f"/api/rooms/{room}/members/me"
    refused = gm.http.delete(leave)
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert player.http.delete(leave).status_code == 204
    assert player.http.get(f"/api/rooms/{room}").status_code == 404
    assert player.http.delete(leave).status_code == 404


def test_ht9_a_room_is_changed_and_deleted_by_gms_alone(server: ServerProcess) -> None:
    gm, player = Person(server, "Ada"), Person(server, "Ilse")
    room, invite = gm.create_room()
    player.join(room, invite)
    path = f"/api/rooms/{room}"
    assert player.http.patch(path, json={"name": "Mine"}).status_code == 403
    assert player.http.delete(path).status_code == 403
    changed = gm.http.patch(
        path, json={"name": "Ours", "visibility": "public", "settings": {"gm_sees_all": True}}
    ).json()
    assert (changed["name"], changed["visibility"]) == ("Ours", "public")
    assert changed["settings"] == {"gm_sees_all": True, "players_add_tokens": True}
    assert player.http.get(path).json() == changed
    assert gm.http.patch(path, json={}).json() == changed
    assert gm.http.delete(path).status_code == 204
    for person in (gm, player):
        assert person.http.get(path).status_code == 404
        assert room not in pages(person)


def test_ht19_commands_and_history_over_rest(server: ServerProcess) -> None:
    gm, player = Person(server, "Ada"), Person(server, "Ilse")
    room, invite = gm.create_room()
    player.join(room, invite)
    path = f"/api/rooms/{room}"
    start = gm.http.get(f"{path}/snapshot").json()["offset"]
    command = {"id": "c1", "type": "token.add", "name": "Mimic", "x": 1, "y": 2, "hidden": True}
    first = gm.http.post(f"{path}/commands", json=command)
    assert first.status_code == 200
    assert first.json()["offset"] == start + 1
    token = first.json()["result"]["id"]
    again = gm.http.post(f"{path}/commands", json={"room": room, **command})
    assert again.json() == first.json()
    other = gm.http.post(f"{path}/commands", json={**command, "name": "Chest"})
    assert (other.status_code, other.json()["code"]) == (409, "idempotency-mismatch")
    elsewhere = gm.http.post(f"{path}/commands", json={**command, "room": "elsewhere"})
    assert elsewhere.status_code == 400
    whisper = player.command(room, "chat.say", text="psst", to=[gm.id])
    assert whisper.json() == {"offset": start + 2}

    def history(person: Person, **query: int) -> list[tuple[int, str]]:
        page = person.http.get(f"{path}/events", params={"after": start, **query}).json()
        return [(one["offset"], one["event"]["type"]) for one in page["events"]]

    assert history(gm) == [(start + 1, "token.added"), (start + 2, "chat.said")]
    assert history(player) == [(start + 1, "hidden"), (start + 2, "chat.said")]
    assert history(gm, limit=1) == [(start + 1, "token.added")]
    page = gm.http.get(f"{path}/events", params={"after": start, "limit": 1}).json()
    assert page["next"] == start + 1
    last = gm.http.get(f"{path}/events", params={"after": start + 1}).json()
    assert last["next"] is None
    assert token not in player.http.get(f"{path}/events").text
    assert gm.http.get(f"{path}/events", params={"after": 10**9}).json() == {
        "events": [],
        "next": None,
    }


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"{", b'"x"', b'{"id":"1"}', b'{"type":"nope","id":"1"}', b"\xff"]
)
def test_ht7_a_command_that_is_none_is_refused_with_400(server: ServerProcess, body: bytes) -> None:
    gm = Person(server, "Ada")
    room, _ = gm.create_room()
    refused = gm.http.post(f"/api/rooms/{room}/commands", content=body)
    assert (refused.status_code, refused.json()["code"]) == (400, "malformed")
