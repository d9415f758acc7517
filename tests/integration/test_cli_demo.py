"""`demo`: a table that a person can sit down at by its link, with bots that play there."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.command import tableforge
from tests.server_process import Person, ServerProcess, free_port, running


def seen_by(server: ServerProcess, link: str) -> tuple[Person, dict[str, Any]]:
    """Somebody who sits down by a link alone, and the room as they see it."""
    parts = urlsplit(link)
    assert f"{parts.scheme}://{parts.netloc}" == server.url
    room = parts.path.removeprefix("/r/")
    person = Person(server, "Guest")
    person.join(room, parts.fragment)
    found = person.http.get(f"/api/rooms/{room}/snapshot").json()["room"]
    return person, found


def test_on_a_running_server_it_sets_a_table_and_plays(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        done = tableforge(
            "demo", "--seconds", "3", "--json", folder=tmp_path, PORT=str(server.port)
        )
        assert done.returncode == 0, done.stderr
        told, played = map(json.loads, done.stdout.splitlines())
        _, player = seen_by(server, told["link"])
        _, master = seen_by(server, told["gm_link"])
    assert played["moves"] + played["words"] + played["rolls"] > 0
    assert played["refused"] == 0
    assert player["me"]["role"] == "player"
    assert master["me"]["role"] == "gm"
    (scene,) = player["scenes"]
    assert (scene["name"], scene["active"]) == ("The Drowned Cellar", True)
    assert scene["background"]
    assert (scene["width"], scene["height"]) == (24, 16)
    assert {"Isolde Marrow", "Drowned Warden"} <= {token["name"] for token in player["tokens"]}
    # What is hidden stays hidden, at a demonstration as well.
    secret = {"Something in the Pool", "Trapped Flagstone"}
    assert not secret & {token["name"] for token in player["tokens"]}
    assert secret <= {token["name"] for token in master["tokens"]}
    assert len(master["doors"]) == 4
    assert player["turn"]["active"]
    assert len(player["turn"]["entries"]) == 6
    kinds = {line["type"] for line in player["chat"]}
    assert kinds == {"chat.said", "dice.rolled"}
    assert not any("breathes" in line.get("text", "") for line in player["chat"])


def test_without_a_server_it_starts_one_and_stops_it(tmp_path: Path) -> None:
    port = str(free_port())
    done = tableforge("demo", "--seconds", "1", "--bots", "2", folder=tmp_path, PORT=port)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"TableForge is ready: http://127.0.0.1:{port}/  (Ctrl+C stops it)"
    assert lines[1].startswith(f"A table is set. Sit down as a player:  http://127.0.0.1:{port}/r/")
    assert lines[3] == "2 bots play for 1 s."
    assert " moves, " in lines[4]
    verified = tableforge("verify", folder=tmp_path)
    assert verified.returncode == 0, verified.stdout
    assert verified.stdout.startswith("1 rooms, ")


def test_more_bots_than_companions_are_hirelings(tmp_path: Path) -> None:
    with running(tmp_path, BASE_PATH="/play/") as server:
        url = f"{server.url}/play/"
        done = tableforge(
            "demo", "--url", url, "--bots", "6", "--seconds", "1", "--json", folder=tmp_path
        )
        assert done.returncode == 0, done.stderr
        link = json.loads(done.stdout.splitlines()[0])["link"]
    assert link.startswith(f"{url}r/")


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    port = free_port()
    done = tableforge("demo", "--url", f"http://127.0.0.1:{port}", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "POST /api/session was not answered.",
        f"http://127.0.0.1:{port}: [Errno 111] Connection refused.",
        "Look whether the server runs there.",
    ]


def test_an_address_that_is_none(tmp_path: Path) -> None:
    done = tableforge("demo", "--url", "127.0.0.1:door", folder=tmp_path)
    assert done.returncode == 1
    assert "'http://127.0.0.1:door' is no address of one." in done.stderr


def test_a_server_that_asks_for_a_password_refuses_with_its_words(tmp_path: Path) -> None:
    with running(tmp_path, ACCESS_PASSWORD="sesame") as server:
        done = tableforge("demo", "--url", server.url, folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "POST /api/session was refused."
    assert "password" in done.stderr


@pytest.mark.parametrize(
    "guard",
    [
        {"ACCESS_PASSWORD": "sesame"},
        {"ROOM_CREATION": "admin"},
        {"ROOM_CREATION": "admin", "ADMIN_TOKEN": "the-operator-knows-it"},
        {"ALLOWED_HOSTS": "play.example.org", "ACCESS_PASSWORD": "sesame"},
        {"ALLOWED_HOSTS": "*.example.org"},
    ],
    ids=" ".join,
)
def test_it_gets_into_the_installation_s_own_server_however_it_is_guarded(
    tmp_path: Path, guard: dict[str, str]
) -> None:
    with running(tmp_path, **guard) as server:
        done = tableforge(
            *("demo", "--seconds", "1", "--json"),
            folder=tmp_path,
            data=None,
            **guard,
            PORT=str(server.port),
        )
    assert done.returncode == 0, done.stderr
    told, played = map(json.loads, done.stdout.splitlines())
    base = server.url
    if "ALLOWED_HOSTS" in guard:
        base = f"https://{guard['ALLOWED_HOSTS'].replace('*', 'tableforge')}"
    assert told["link"].startswith(f"{base}/r/")
    assert (played["refused"], played["reconnects"]) == (0, 0)
    assert played["moves"] + played["words"] + played["rolls"] > 0


def test_a_guarded_server_of_its_own_is_opened_as_well(tmp_path: Path) -> None:
    guard = {"ROOM_CREATION": "admin", "ACCESS_PASSWORD": "sesame", "ALLOWED_HOSTS": "a.example"}
    port = str(free_port())
    done = tableforge("demo", "--seconds", "1", folder=tmp_path, data=None, **guard, PORT=port)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("TableForge is ready: https://a.example/  (Ctrl+C stops it)")
