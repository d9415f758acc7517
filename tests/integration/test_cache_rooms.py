"""Rooms and people of a fleet that starts anew on a warm Redis, as whole servers."""

import re
from pathlib import Path

import httpx

from tests.fleet import fleet
from tests.server_process import Person, ServerProcess

ROOMS = 5


def statements(server: ServerProcess) -> dict[str, int]:
    """How often each named statement ran on this instance."""
    text = httpx.get(f"{server.url}/metrics", timeout=30).text
    found = re.findall(r'db_query_duration_seconds_count\{statement="([^"]+)"\} (\d+)', text)
    return {name: int(count) for name, count in found}


def test_cr2_a_rollout_on_a_warm_redis_asks_for_heads_and_what_changed(
    tmp_path: Path, database_url: str, redis_url: str, redis_db: int
) -> None:
    settings = {"REDIS_PUB_SUB_DB": str(redis_db), "DRAIN_SECONDS": "3"}
    with fleet(tmp_path, database_url, redis_url, 1, **settings) as made:
        (before,) = made.instances
        mara = Person(before, "Mara")
        rooms = []
        for number in range(ROOMS):
            room, _ = mara.create_room(f"Room {number}")
            for line in range(5):
                assert mara.command(room, "chat.say", text=f"line {line}").status_code == 200
            rooms.append(room)
        assert before.stop() == 0
        after = made.add()
        bearer = {"authorization": f"Bearer {mara.token}"}
        with httpx.Client(base_url=after.url, headers=bearer, timeout=30) as http:
            for room in rooms:
                shown = http.get(f"/api/rooms/{room}/snapshot").json()
                assert shown["offset"] == 6
        ran = statements(after)
    assert ran["log_head"] == ROOMS
    assert "log_snapshot" not in ran
    assert "log_read" not in ran
