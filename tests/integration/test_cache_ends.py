"""What an instance that ends could tell nobody, and a database that is not the one Redis knows: rule CA13, as whole servers."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from redis import Redis

from tableforge.ops.servers import PostgresServer, RedisServer
from tests.fleet import FleetProcesses, fleet
from tests.server_process import Person, ServerProcess
from tests.services import run_sql

DEADLINE = 30.0
"""A tenth of how long a list would be served otherwise."""
SECRET = "The Vault"


class Cable:
    """An instance's way to Redis: a user of its own there, which is taken away."""

    def __init__(self, redis: RedisServer, number: int) -> None:
        self._name = f"instance{number}"
        self._redis = redis
        self.url = redis.url_of(number).replace("//", f"//{self._name}:word@")
        self._tell("ACL", "SETUSER", self._name, "on", ">word", "~*", "&*", "+@all")

    def _tell(self, *command: str) -> None:
        with contextlib.closing(Redis(port=self._redis.port)) as client:
            client.execute_command(*command)  # type: ignore[no-untyped-call]  # as its library has it

    def cut(self) -> None:
        """Not one command gets through from here on."""
        self._tell("ACL", "DELUSER", self._name)


@pytest.fixture
def cable(redis: RedisServer, redis_db: int) -> Iterator[Cable]:
    made = Cable(redis, redis_db)
    yield made
    made.cut()


def listed(server: ServerProcess) -> set[str]:
    """The rooms that an instance shows to strangers."""
    answer = httpx.get(f"{server.url}/api/rooms", timeout=DEADLINE)
    assert answer.status_code == 200, answer.text
    return {one["name"] for one in answer.json()["rooms"]}


def shows(server: ServerProcess, names: set[str]) -> None:
    """Wait until strangers see these rooms there."""
    until = time.monotonic() + DEADLINE
    while (seen := listed(server)) != names:
        assert time.monotonic() < until, seen
        time.sleep(0.05)


@pytest.fixture
def made(
    tmp_path: Path, database_url: str, redis_url: str, redis_db: int
) -> Iterator[FleetProcesses]:
    settings = {"REDIS_PUB_SUB_DB": str(redis_db), "INSTANCE_EXPIRY_SECONDS": "2"}
    with fleet(tmp_path, database_url, redis_url, 0, **settings) as empty:
        yield empty


END: dict[str, Callable[[ServerProcess], object]] = {
    "in order": ServerProcess.stop,
    "killed": ServerProcess.kill,
}


@pytest.mark.parametrize("how", END)
def test_ca13_whoever_starts_does_not_believe_what_redis_was_not_told_of(
    made: FleetProcesses, cable: Cable, how: str
) -> None:
    ending = made.add(REDIS_URL=cable.url)
    ada = Person(ending, "Ada")
    rooms = [ada.create_room(name, visibility="public")[0] for name in (SECRET, "The Ruin")]
    shows(ending, {SECRET, "The Ruin"})
    cable.cut()
    hidden = ada.http.patch(f"/api/rooms/{rooms[0]}", json={"visibility": "private"})
    assert hidden.status_code == 200, hidden.text
    assert ada.http.delete(f"/api/rooms/{rooms[1]}").status_code == 204
    END[how](ending)
    later = made.add()
    assert listed(later) == set()


@pytest.mark.parametrize("how", END)
def test_ca13_the_others_forget_what_an_instance_that_ended_may_have_changed(
    made: FleetProcesses, cable: Cable, how: str
) -> None:
    ending = made.add(REDIS_URL=cable.url)
    staying = made.add()
    ada = Person(ending, "Ada")
    room, _ = ada.create_room(SECRET, visibility="public")
    shows(staying, {SECRET})
    cable.cut()
    hidden = ada.http.patch(f"/api/rooms/{room}", json={"visibility": "private"})
    assert hidden.status_code == 200, hidden.text
    END[how](ending)
    shows(staying, set())


def test_ca13_another_database_is_not_taken_for_the_one_that_redis_knows(
    made: FleetProcesses, postgres: PostgresServer, database_url: str
) -> None:
    """As after a restore: what Redis has was never so in this database."""
    ada = Person(made.add(), "Ada")
    ada.create_room(SECRET, visibility="public")
    shows(made.instances[0], {SECRET})
    made.instances[0].stop()
    other = f"{database_url.rsplit('/', 1)[1]}_restored"
    run_sql(postgres.url, f"CREATE DATABASE {other}")
    try:
        later = made.add(DATABASE_URL=postgres.url_of(other))
        assert listed(later) == set()
        later.stop()
    finally:
        run_sql(postgres.url, f"DROP DATABASE {other} WITH (FORCE)")
