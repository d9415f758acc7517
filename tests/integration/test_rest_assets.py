"""Pictures and maps over REST: taken whole or not at all, seen by whoever may (rules HT of `docs/spec.md`)."""

import hashlib
import io
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tableforge.api.uploads import AT_ONCE_FROM_ONE
from tests.server_process import Person, ServerProcess, running

SAMPLES = Path(__file__).parent.parent / "samples"
GOOD, BAD = SAMPLES / "good", SAMPLES / "bad"
MAX_BYTES = 2 * 1024 * 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that takes small files only."""
    folder = tmp_path_factory.mktemp("assets")
    with running(
        folder, LIMIT_SESSIONS="0", LIMIT_COMMANDS="0", UPLOAD_MAX_BYTES=str(MAX_BYTES)
    ) as server:
        yield server


def kept(server: ServerProcess) -> list[str]:
    """Every file that uploads have left on the disk."""
    data = server.folder / "data"
    return sorted(
        str(path.relative_to(data))
        for folder in ("assets", "incoming")
        for path in (data / folder).rglob("*")
        if path.is_file()
    )


def age(server: ServerProcess) -> None:
    """Let every kept picture look as if it came long ago."""
    for name in kept(server):
        os.utime(server.folder / "data" / name, (1, 1))


def send(person: Person, path: Path, to: str = "/api/assets") -> httpx.Response:
    """Upload a sample file."""
    return person.http.post(to, files={"file": (path.name, path.read_bytes())})


def picture(seed: int) -> bytes:
    """A small picture like no other."""
    written = io.BytesIO()
    Image.new("RGB", (40, 30), (seed % 256, seed // 256 % 256, 7)).save(written, "PNG")
    return written.getvalue()


def test_ht11_a_picture_is_served_to_its_uploader(server: ServerProcess) -> None:
    person = Person(server, "Ada")
    made = send(person, GOOD / "plain.png")
    assert made.status_code == 201, made.text
    asset = made.json()
    assert (asset["kind"], asset["width"], asset["height"]) == ("image/png", 80, 48)
    served = person.http.get(f"/api/assets/{asset['id']}")
    assert served.status_code == 200
    assert served.headers["content-type"] == "image/png"
    assert served.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert served.headers["x-content-type-options"] == "nosniff"
    assert served.headers["content-disposition"] == "inline"
    assert "sandbox" in served.headers["content-security-policy"]
    assert len(served.content) == asset["bytes"]
    assert Image.open(io.BytesIO(served.content)).size == (80, 48)
    small = person.http.get(f"/api/assets/{asset['id']}/thumbnail")
    assert small.headers["content-type"] == "image/webp"
    for answer, path in ((served, ""), (small, "/thumbnail")):
        again = person.http.get(
            f"/api/assets/{asset['id']}{path}", headers={"if-none-match": answer.headers["etag"]}
        )
        assert (again.status_code, again.content) == (304, b"")
        assert "immutable" in again.headers["cache-control"]
    assert served.headers["etag"] != small.headers["etag"]


def test_ht11_nothing_tells_whether_the_bytes_were_known(server: ServerProcess) -> None:
    ada, mallory = Person(server, "Ada"), Person(server, "Mallory")
    content = picture(1)
    first = ada.http.post("/api/assets", files={"file": ("a.png", content)})
    before = kept(server)
    age(server)
    told_first = dict(ada.http.get(f"/api/assets/{first.json()['id']}").headers)
    second = mallory.http.post("/api/assets", files={"file": ("a.png", content)})
    assert kept(server) == before
    one, other = first.json(), second.json()
    assert one["id"] != other["id"]
    assert {**one, "id": ""} == {**other, "id": ""}
    told_then = dict(ada.http.get(f"/api/assets/{one['id']}").headers)
    assert {**told_first, "date": ""} == {**told_then, "date": ""}
    digest = hashlib.sha256(ada.http.get(f"/api/assets/{one['id']}").content).hexdigest()
    told = [str(answer.headers) + answer.text for answer in (first, second)]
    assert not any(digest[:12] in one for one in told)
    assert mallory.http.get(f"/api/assets/{one['id']}").status_code == 404


def test_ht11_a_member_sees_what_the_table_shows_them(server: ServerProcess) -> None:
    gm, player, stranger = (Person(server, name) for name in ("Ada", "Ilse", "Mallory"))
    room, invite = gm.create_room()
    other, _ = gm.create_room("Another")
    player.join(room, invite)
    made = gm.http.post("/api/assets", files={"file": ("orc.png", picture(2))})
    asset = made.json()["id"]
    path = f"/api/assets/{asset}"

    def status(person: Person) -> int:
        small, large = person.http.get(f"{path}/thumbnail"), person.http.get(path)
        assert small.status_code == large.status_code
        return large.status_code

    assert [status(one) for one in (gm, player, stranger)] == [200, 404, 404]
    gm.command(other, "token.add", name="Orc", x=1, y=1, image=asset)
    assert [status(one) for one in (gm, player, stranger)] == [200, 404, 404]
    token = gm.command(room, "token.add", name="Orc", x=1, y=1, image=asset, hidden=True)
    assert [status(one) for one in (gm, player, stranger)] == [200, 404, 404]
    gm.command(room, "token.update", token=token.json()["result"]["id"], hidden=False)
    assert [status(one) for one in (gm, player, stranger)] == [200, 200, 404]
    unseen = stranger.http.get(path)
    never = stranger.http.get("/api/assets/never-was")
    assert (unseen.status_code, unseen.content) == (never.status_code, never.content)
    gm.command(room, "token.remove", token=token.json()["result"]["id"])
    assert [status(one) for one in (gm, player, stranger)] == [200, 404, 404]
    assert httpx.get(f"{server.url}{path}").status_code == 401


def test_ht11_a_picture_cannot_be_put_up_by_its_id_alone(server: ServerProcess) -> None:
    gm, player, outsider = (Person(server, name) for name in ("Ada", "Ilse", "Mallory"))
    room, invite = gm.create_room()
    player.join(room, invite)
    elsewhere, _ = outsider.create_room("Elsewhere")
    asset = gm.http.post("/api/assets", files={"file": ("orc.png", picture(3))}).json()["id"]
    secret = gm.command(room, "token.add", name="Orc", x=1, y=1, image=asset, hidden=True)
    assert secret.status_code == 200
    refused = [
        player.command(room, "token.add", name="Cat", x=1, y=1, image=asset),
        player.command(room, "token.add", name="Cat", x=1, y=1, image="never-was"),
        outsider.command(elsewhere, "scene.create", name="C", width=5, height=5, background=asset),
    ]
    assert [one.status_code for one in refused] == [404, 404, 404]
    assert refused[0].json()["detail"] == refused[1].json()["detail"]
    assert player.http.get(f"/api/assets/{asset}").status_code == 404
    own = player.http.post("/api/assets", files={"file": ("cat.png", picture(4))}).json()["id"]
    assert player.command(room, "token.add", name="Cat", x=1, y=1, image=own).status_code == 200
    copied = gm.command(room, "token.add", name="Kitten", x=2, y=1, image=own)
    assert copied.status_code == 200, "who sees a picture may use it"


def test_ht11_own_pictures_are_listed_and_found(server: ServerProcess) -> None:
    person = Person(server, "Ada")
    for number, name in enumerate(("Forest.png", "forest edge.png", "Cave.png")):
        made = person.http.post(
            "/api/assets",
            params={"tags": "green, Map" if "est" in name else "map"},
            files={"file": (name, picture(100 + number))},
        )
        assert made.status_code == 201

    def names(**query: str) -> list[str]:
        found: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            query_ = {"limit": "2", **query, **cursor}
            page = person.http.get("/api/assets", params=query_).json()
            found += [asset["name"] for asset in page["assets"]]
            if page["next"] is None:
                return found
            cursor = {"cursor": page["next"]}

    assert names() == ["Cave.png", "forest edge.png", "Forest.png"]
    assert names(q="FOREST") == ["forest edge.png", "Forest.png"]
    assert names(tag="green") == ["forest edge.png", "Forest.png"]
    assert names(tag="map", q="cave") == ["Cave.png"]
    assert names(tag="gre") == []
    assert Person(server, "Other").http.get("/api/assets").json() == {"assets": [], "next": None}
    wrong = person.http.get("/api/assets", params={"cursor": "tampered"})
    assert wrong.status_code == 400


@pytest.mark.parametrize(
    "name",
    [
        "cut_short.png",
        "page.png",
        "drawing.svg",
        "continent.png",
        "pixels.png",
        "animated.webp",
        "archive.uvtt",
        "cut_short.uvtt",
        "no_pixels.uvtt",
        "origin_nan.uvtt",
        "page_as_image.uvtt",
        "cut_picture.uvtt",
    ],
)
def test_ht12_a_bad_file_is_refused_and_leaves_nothing(server: ServerProcess, name: str) -> None:
    gm = Person(server, "Ada")
    room, _ = gm.create_room()
    before = kept(server)
    offset = gm.http.get(f"/api/rooms/{room}/snapshot").json()["offset"]
    refused = send(gm, BAD / name, f"/api/rooms/{room}/imports")
    assert refused.status_code in {400, 413}, refused.text
    assert refused.json()["code"] in {"malformed", "too-large"}
    assert refused.json()["why"]
    assert kept(server) == before
    assert gm.http.get(f"/api/rooms/{room}/snapshot").json()["offset"] == offset
    assert gm.http.get("/api/assets").json()["assets"] == []


@pytest.mark.parametrize("name", ["cellar.dd2vtt", "origin.dd2vtt", "colours.uvtt", "bare.df2vtt"])
def test_ht12_a_map_becomes_a_scene_with_all_it_knew(server: ServerProcess, name: str) -> None:
    gm, player = Person(server, "Ada"), Person(server, "Ilse")
    room, invite = gm.create_room()
    player.join(room, invite)
    made = send(gm, GOOD / name, f"/api/rooms/{room}/imports")
    assert made.status_code == 201, made.text
    said = json.loads((GOOD / name).read_bytes())
    state = gm.http.get(f"/api/rooms/{room}/snapshot").json()["room"]
    scene = next(one for one in state["scenes"] if one["id"] == made.json()["scene"]["id"])
    assert scene["width"] == pytest.approx(said["resolution"]["map_size"]["x"])
    assert scene["grid"]["size"] == pytest.approx(said["resolution"]["pixels_per_grid"])
    walls = [one for one in state["walls"] if one["scene"] == scene["id"]]
    assert len(walls) <= len(said.get("line_of_sight", [])) + len(
        said.get("objects_line_of_sight", [])
    )
    if not made.json()["left_out"]:
        assert len([one for one in state["doors"] if one["scene"] == scene["id"]]) == len(
            said.get("portals", [])
        )
    background = f"/api/assets/{scene['background']}"
    assert gm.http.get(background).status_code == 200
    gm.command(room, "scene.activate", scene=scene["id"])
    assert player.http.get(background).status_code == 200
    assert gm.http.delete(f"/api/rooms/{room}").status_code == 204
    assert player.http.get(background).status_code == 404


def test_ht12_what_was_left_out_is_said(server: ServerProcess) -> None:
    gm = Person(server, "Ada")
    room, _ = gm.create_room()
    made = send(gm, GOOD / "not_numbers.dd2vtt", f"/api/rooms/{room}/imports")
    assert made.json()["left_out"]
    plain = send(gm, GOOD / "cellar.dd2vtt", f"/api/rooms/{room}/imports")
    assert plain.json()["left_out"] == []


@pytest.mark.parametrize("name", ["plain.png", "plain.jpg", "plain.webp", "plain.avif"])
def test_ht12_a_plain_picture_becomes_a_map(server: ServerProcess, name: str) -> None:
    gm = Person(server, "Ada")
    room, _ = gm.create_room()
    made = send(gm, GOOD / name, f"/api/rooms/{room}/imports?cell=8")
    assert made.status_code == 201, made.text
    state = gm.http.get(f"/api/rooms/{room}/snapshot").json()["room"]
    scene = next(one for one in state["scenes"] if one["id"] == made.json()["scene"]["id"])
    assert (scene["name"], scene["width"], scene["height"]) == ("plain", 10, 6)
    assert scene["grid"] == {"type": "square", "size": 8}


def test_ht12_imports_are_for_gms_alone(server: ServerProcess) -> None:
    gm, player = Person(server, "Ada"), Person(server, "Ilse")
    room, invite = gm.create_room()
    player.join(room, invite)
    before = kept(server)
    refused = send(player, GOOD / "plain.png", f"/api/rooms/{room}/imports")
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert kept(server) == before


def test_ht12_a_scene_that_the_room_refuses_leaves_no_picture(server: ServerProcess) -> None:
    gm = Person(server, "Ada")
    room, _ = gm.create_room()
    status, number = 200, 1
    while status == 200 and number < 300:
        made = gm.command(room, "scene.create", name=f"Scene {number}", width=5, height=5)
        status, number = made.status_code, number + 1
    assert status in {409, 413}
    before = kept(server)
    refused = gm.http.post(f"/api/rooms/{room}/imports", files={"file": ("a.png", picture(3))})
    assert refused.status_code == status
    assert kept(server) == before
    assert gm.http.get("/api/assets").json()["assets"] == []


def test_ht10_a_file_over_the_limit_is_refused_before_it_has_come(server: ServerProcess) -> None:
    person = Person(server, "Ada")
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as wire:
        wire.sendall(
            f"POST /api/assets HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {person.token}\r\n"
            f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {10**9}\r\n\r\n".encode()
        )
        assert wire.recv(100).startswith(b"HTTP/1.1 413 ")


def chunks(size: int) -> Iterator[bytes]:
    """A form whose length is not said, with a file of this size."""
    yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    for _ in range(size // 65_536):
        yield b"\0" * 65_536
    yield b"\r\n--b--\r\n"


def test_ht10_a_file_is_counted_while_it_comes(server: ServerProcess) -> None:
    person = Person(server, "Ada")
    before = kept(server)
    form = {"content-type": "multipart/form-data; boundary=b"}
    fits = person.http.post("/api/assets", content=chunks(MAX_BYTES // 2), headers=form)
    assert fits.status_code == 400
    refused = person.http.post("/api/assets", content=chunks(MAX_BYTES * 2), headers=form)
    assert (refused.status_code, refused.json()["code"]) == (413, "too-large")
    assert kept(server) == before


def half_sent(server: ServerProcess, person: Person) -> socket.socket:
    """A connection on which an upload has begun and does not go on."""
    wire = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    wire.sendall(
        f"POST /api/assets HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {person.token}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000000\r\n\r\n"
        '--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\nabc'.encode()
    )
    return wire


def arriving(server: ServerProcess) -> int:
    """How many files are on their way."""
    return len(list((server.folder / "data" / "incoming").iterdir()))


def test_ht10_an_upload_that_breaks_off_leaves_nothing(server: ServerProcess) -> None:
    person = Person(server, "Ada")
    before = kept(server)
    with half_sent(server, person):
        wait_until(lambda: arriving(server) == 1)
    wait_until(lambda: kept(server) == before)


def test_ht10_nobody_keeps_the_others_from_sending(server: ServerProcess) -> None:
    greedy, other = Person(server, "Greedy"), Person(server, "Ada")
    with ExitStack() as held:
        for _ in range(AT_ONCE_FROM_ONE):
            held.enter_context(half_sent(server, greedy))
        wait_until(lambda: arriving(server) == AT_ONCE_FROM_ONE)
        refused = send(greedy, GOOD / "plain.png")
        assert (refused.status_code, refused.json()["code"]) == (429, "too-many")
        assert send(other, GOOD / "plain.png").status_code == 201
    wait_until(lambda: arriving(server) == 0)
    assert send(greedy, GOOD / "plain.png").status_code == 201


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait for something that a process beside this one brings about."""
    waiting = threading.Event()
    for _ in range(3000):
        if holds():
            return
        waiting.wait(0.01)
    raise AssertionError("it did not come about")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b"--b--\r\n"),
        ("multipart/form-data; boundary=", b"--b--\r\n"),
        ("multipart/form-data; boundary=b", b""),
        ("multipart/form-data; boundary=b", b"--b--\r\n"),
        ("multipart/form-data; boundary=b", b"nonsense"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="other"; filename="a"\r\n\r\nx\r\n--b--\r\n',
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--b--\r\n',
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx',
        ),
    ],
)
def test_ht10_a_form_that_is_none_is_refused(
    server: ServerProcess, content_type: str, body: bytes
) -> None:
    person = Person(server, "Ada")
    refused = person.http.post("/api/assets", content=body, headers={"content-type": content_type})
    assert (refused.status_code, refused.json()["code"]) == (400, "malformed")


def test_ht10_what_a_killed_server_left_is_gone_after_the_next_start(tmp_path: Path) -> None:
    left = tmp_path / "data" / "incoming" / "left"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half a file")
    with running(tmp_path):
        assert not left.exists()
