"""Pictures of a fleet with whole servers: one instance takes them in and dies, another serves them."""

import hashlib
from pathlib import Path

import httpx
import pytest

from tests.command import tableforge
from tests.fleet import fleet
from tests.integration.played import ROOMS
from tests.server_process import Person

PICTURE = Path(__file__).parent.parent / "samples" / "good" / "talkative.png"


@pytest.mark.parametrize("shared", [False, True], ids=["in the database", "in a shared folder"])
def test_as5_what_a_killed_instance_took_in_another_serves(
    database_url: str, redis_url: str, redis_db: int, tmp_path: Path, shared: bool
) -> None:
    more = {"ASSETS_URL": f"file://{tmp_path / 'shared'}"} if shared else {}
    with fleet(
        tmp_path, database_url, redis_url, 2, REDIS_PUB_SUB_DB=str(redis_db), **more
    ) as made:
        first, second = made.instances
        mara = Person(first, "Mara")
        sent = mara.http.post(
            "/api/assets", files={"file": (PICTURE.name, PICTURE.read_bytes(), "image/png")}
        )
        assert sent.status_code == 201, sent.text
        asset = sent.json()["id"]
        here = mara.http.get(f"/api/assets/{asset}")
        small = mara.http.get(f"/api/assets/{asset}/thumbnail")
        assert here.status_code == small.status_code == 200
        first.kill()
        there = httpx.Client(
            base_url=second.url, headers={"authorization": f"Bearer {mara.token}"}, timeout=30
        )
        with there:
            for path, content in (("", here.content), ("/thumbnail", small.content)):
                found = there.get(f"/api/assets/{asset}{path}")
                assert found.status_code == 200, found.text
                assert hashlib.sha256(found.content).digest() == hashlib.sha256(content).digest()


def test_mv1_a_laptop_s_rooms_are_played_on_in_a_fleet_and_brought_back(
    played: Path, database_url: str, redis_url: str, redis_db: int, tmp_path: Path
) -> None:
    there = tableforge("migrate", "--from", played, "--to", database_url, folder=tmp_path)
    assert there.returncode == 0, there.stdout + there.stderr
    with fleet(tmp_path, database_url, redis_url, 2, REDIS_PUB_SUB_DB=str(redis_db)) as made:
        first, second = made.instances
        bo = Person(first, "Bo the younger")
        assert bo.create_room("Made in the fleet")
        served = tableforge(
            *("migrate", "--from", database_url, "--to", tmp_path / "no"), folder=tmp_path
        )
        assert served.returncode == 2
        assert "Servers run on" in served.stderr
        for instance in (first, second):
            assert instance.stop() == 0
    back = tmp_path / "back"
    returned = tableforge("migrate", "--from", database_url, "--to", back, folder=tmp_path)
    assert returned.returncode == 0, returned.stdout + returned.stderr
    assert returned.stdout.count("moved ") == ROOMS + 1
    sound = tableforge("verify", folder=tmp_path, data=back)
    assert sound.returncode == 0, sound.stdout
