"""What a fleet to try tells of its processes, and what its instances are given."""

from pathlib import Path

import pytest
from rich.console import Console

from tableforge.cli.fleets import table_of
from tableforge.ops.fleet import InstanceServer, Load, Standing, changes

UP = Standing("Valkey", 7000, 11, "up", is_well=True)
SERVING = Standing("instance-1", 7001, 12, "ready", True, Load(41, 3, 0.26, 1.23))
DEAD = Standing("instance-1", 7001, 12, "ended by SIGKILL", False, None, "nothing starts it again")


def test_a_change_is_told_once_with_its_detail() -> None:
    assert [line.split(" ", 1)[1] for line in changes([], [UP, SERVING])] == [
        "Valkey: up (port 7000, pid 11)",
        "instance-1: ready (port 7001, pid 12)",
    ]
    assert changes([UP, SERVING], [UP, SERVING._replace(load=None)]) == []
    (told,) = changes([UP, SERVING], [UP, DEAD])
    assert told.endswith(" instance-1: ended by SIGKILL: nothing starts it again")


def test_the_table_has_a_row_for_each_and_no_load_of_the_dead() -> None:
    console = Console(width=100)
    with console.capture() as shown:
        console.print(table_of([UP, SERVING, DEAD._replace(name="[2]", load=SERVING.load)]))
    rows = [line.split() for line in shown.get().splitlines()]
    assert rows[1] == ["Valkey", "up", "7000", "11"]
    assert rows[2] == ["instance-1", "ready", "7001", "12", "41", "3", "26%", "1.2", "ms"]
    assert rows[3] == ["[2]", "ended", "by", "SIGKILL", "7001", "12"]


def test_an_instance_has_the_callers_settings_but_for_what_makes_it_one_of_this_fleet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMIT_COMMANDS", "0")
    monkeypatch.setenv("DATABASE_HOST", "elsewhere")
    monkeypatch.setenv("REDIS_BUS_URLS", "redis://elsewhere")
    monkeypatch.setenv("ADMIN_TOKEN_FILE", "/elsewhere")
    monkeypatch.setenv("INSTANCE_ID", "elsewhere")
    monkeypatch.setenv("DRAIN_SECONDS", "2 minutes")
    one = InstanceServer("instance-1", tmp_path, {"ADMIN_TOKEN": "here", "DATABASE_URL": "here"})
    given = one.environment()
    assert "elsewhere" not in " ".join(given.values())
    assert given["ADMIN_TOKEN"] == given["DATABASE_URL"] == "here"
    assert given["LIMIT_COMMANDS"] == "0"
    assert given["INSTANCE_ID"] == "instance-1"
    assert one.stop_seconds > 120
