"""A standby takes over from a primary that died, under two instances: with nothing lost, and with the last moves lost."""

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncpg

from tableforge.ops.programs import find_postgres
from tableforge.ops.servers import UNPRIVILEGED, PostgresServer, Server
from tests.fleet import fleet
from tests.integration.raw_client import Raw, table
from tests.server_process import Person, ServerProcess

FAILOVER_SECONDS = 60.0

NewServer = Callable[[Server], Server]


class Standby(PostgresServer):
    """Streams from a primary, of which its first start makes a copy."""

    def __init__(self, folder: Path, primary: PostgresServer) -> None:
        super().__init__(folder)
        self.primary = primary

    def prepare(self) -> None:
        if self.identity().startswith("user:"):
            shutil.chown(self.folder, UNPRIVILEGED)
        copying = self.run_as_child(
            [
                *(str(find_postgres() / "pg_basebackup"), "-D", str(self.data), "-R"),
                *("-X", "stream", "-c", "fast", "-d"),
                f"host=127.0.0.1 port={self.primary.port} user={self.primary.user}",
            ],
            stdout=subprocess.PIPE,
        )
        said, _ = copying.communicate(timeout=FAILOVER_SECONDS)
        assert copying.returncode == 0, said


async def ask(server: PostgresServer, *statements: str) -> object:
    """What the last of these answers."""
    connection = await asyncpg.connect(server.url)
    try:
        return [await connection.fetchval(statement) for statement in statements][-1]
    finally:
        await connection.close()


async def until(server: PostgresServer, question: str, answer: object) -> None:
    async with asyncio.timeout(FAILOVER_SECONDS):
        while await ask(server, question) != answer:  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(0.05)


async def say(raw: Raw, room: str, text: str) -> int:
    """Say it until it is acknowledged, each time as another command; the offset."""
    async with asyncio.timeout(FAILOVER_SECONDS):
        while "offset" not in (reply := await raw.command(room, "chat.say", text=text)):
            assert reply.get("temporary"), reply
            await asyncio.sleep(0.1)
    return int(reply["offset"])


class Failover:
    """A primary with a standby, a table at two instances, and one member at each."""

    def __init__(self, primary: PostgresServer, standby: Standby) -> None:
        self.primary, self.standby = primary, standby
        self.room = ""
        self.epoch = ""
        self.at: tuple[Raw, Raw]
        self.second: ServerProcess
        self.bo: Person

    async def happen(self) -> None:
        """The primary dies, and the standby takes its place."""
        await asyncio.to_thread(self.primary.kill)
        assert await ask(self.standby, "SELECT pg_promote()") is True

    async def heard_again(self, from_offset: int) -> dict[str, object]:
        """What somebody is told who was cut off at this position and comes back through the second instance."""
        async with Raw(self.second, self.bo.token) as back:
            return await back.subscribe(
                f"room:{self.room}", recover=True, offset=from_offset, epoch=self.epoch
            )


@contextlib.asynccontextmanager
async def playing(
    folder: Path,
    services: Path,
    new_server: NewServer,
    primary: PostgresServer,
    redis_url: str,
    redis_db: int,
) -> AsyncIterator[Failover]:
    standby = Standby(services / f"standby-{primary.port}", primary)
    await asyncio.to_thread(new_server, standby)
    both = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
    url = f"postgresql://{primary.user}@{both}/postgres"
    made = Failover(primary, standby)
    with fleet(folder, url, redis_url, 2, REDIS_PUB_SUB_DB=str(redis_db)) as servers:
        first, made.second = servers.instances
        made.room, (mara, made.bo) = await table(first, "Bo")
        async with Raw(first, mara.token) as here, Raw(made.second, made.bo.token) as there:
            made.at = (here, there)
            joined = [await raw.subscribe(f"room:{made.room}") for raw in made.at]
            made.epoch = str(joined[0]["epoch"])
            yield made


async def test_a_synchronous_standby_takes_over_and_nothing_is_lost(
    tmp_path: Path,
    services_folder: Path,
    new_server: NewServer,
    new_postgres: Callable[..., PostgresServer],
    redis_url: str,
    redis_db: int,
) -> None:
    primary = await asyncio.to_thread(new_postgres)
    async with playing(
        tmp_path, services_folder, new_server, primary, redis_url, redis_db
    ) as failover:
        await ask(
            primary,
            "ALTER SYSTEM SET synchronous_standby_names = '*'",
            "SELECT pg_reload_conf()",
        )
        await until(primary, "SELECT sync_state FROM pg_stat_replication", "sync")
        here, there = failover.at
        offsets = [await say(here, failover.room, f"before {number}") for number in range(5)]
        await failover.happen()
        offsets += [
            await say(raw, failover.room, f"after {number}")
            for number, raw in enumerate((there, here, there))
        ]
        assert offsets == list(range(offsets[0], offsets[0] + 8))
        for raw in (here, there):
            heard = await raw.wait_for_offset(failover.room, offsets[-1])
            assert [event["offset"] for event in heard] == offsets
        again = await failover.heard_again(offsets[0] - 1)
        assert again["recovered"] is True
        assert again["epoch"] == failover.epoch


async def test_a_log_that_lost_its_tail_gets_a_new_epoch(
    tmp_path: Path,
    services_folder: Path,
    new_server: NewServer,
    new_postgres: Callable[..., PostgresServer],
    redis_url: str,
    redis_db: int,
) -> None:
    primary = await asyncio.to_thread(new_postgres)
    async with playing(
        tmp_path, services_folder, new_server, primary, redis_url, redis_db
    ) as failover:
        here, there = failover.at
        kept = await say(here, failover.room, "kept")
        await until(failover.standby, "SELECT max(seq) FROM events", kept)
        await ask(
            failover.standby,
            "ALTER SYSTEM SET primary_conninfo = ''",
            "SELECT pg_reload_conf()",
        )
        await until(failover.standby, "SELECT count(*) FROM pg_stat_wal_receiver", 0)
        lost = [await say(here, failover.room, f"lost {number}") for number in range(3)][-1]
        await there.wait_for_offset(failover.room, lost)
        await failover.happen()
        for raw in (here, there):
            await raw.wait_until(
                lambda raw=raw: any(
                    one.get("unsubscribe", {}).get("code") == 2502 for one in raw.pushes
                )
            )
        assert await say(there, failover.room, "after") == kept + 1
        again = await failover.heard_again(lost)
        assert not again.get("recovered")
        assert again["epoch"] != failover.epoch
        snapshot = again["data"]
        assert isinstance(snapshot, dict)
        assert [line["text"] for line in snapshot["room"]["chat"]] == ["kept", "after"]
