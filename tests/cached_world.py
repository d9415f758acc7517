"""Instances of one server or of a fleet, each with a cache, over one database and one shared level; the bus is at once."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tableforge.cache.coherence import Key
from tableforge.config import DatabaseKnobs
from tableforge.database import Database
from tableforge.database.postgres import PostgresDatabase
from tableforge.database.sqlite import SqliteDatabase
from tableforge.domain.commands import Command, HouseCommand
from tableforge.eventlog import EventLog
from tableforge.eventlog.postgres import PostgresEventLog
from tableforge.eventlog.sqlite import SqliteEventLog
from tableforge.library.asset_stores import FolderBytes
from tableforge.library.assets import Assets
from tableforge.library.notices import Notice, Notices
from tableforge.library.sessions import Sessions
from tableforge.rooms.cached import CachedRooms
from tableforge.rooms.engine import RoomBounds, RoomEngine
from tableforge.rooms.following import Follower
from tableforge.rooms.live import Reply
from tableforge.rooms.service import RoomService
from tests.local_cache import POLICIES, cache_on
from tests.memory_shared import MemoryServer, MemoryShared

BOUNDS = RoomBounds(
    recent_events=5,
    recent_bytes=1_000_000,
    snapshot_every=10,
    in_memory=100,
    idle_seconds=0,
    commands_rate=0,
    commands_burst=0,
)
LIFETIME_SECONDS = 1e6


class Instance:
    """One instance. `bus` are the others that it reaches; `deaf` is set while it hears none of them, `misses_drops` while
    notices alone come through."""

    _ids = itertools.count()

    def __init__(
        self, database: Database, log: EventLog, shared: MemoryShared | None, folder: Path
    ) -> None:
        self.database = database
        self.log = log
        self.shared = shared
        self.bus: list[Instance] = []
        self.deaf = self.misses_drops = False
        self.cache = cache_on(shared, tell=self._tell)
        self.cached = CachedRooms(log, self.cache, POLICIES)
        self.follower: Follower | None = None
        self.notices: Notices | None = None
        if shared is not None:
            self.notices = Notices(database, hint=self._hint, trusted_seconds=30.0)
            self.follower = Follower(
                log,
                None,
                origin=f"instance {next(self._ids)}",
                heads_interval=3600.0,
                check_interval=3600.0,
                listened=lambda room: False,
                deleted=lambda room: None,
                forgotten=lambda room: None,
            )
        self.engine = RoomEngine(
            log,
            self.cached,
            BOUNDS,
            publish=lambda *_: None,
            listened=lambda room: False,
            invalidated=lambda room: None,
            peers=self.follower,
        )
        if self.follower is not None:
            self.follower.follow(self.engine)
        self.rooms = RoomService(
            log,
            self.cached,
            self.engine,
            recovery_events=100,
            online=lambda room: frozenset(),
            uploaded=self._uploaded,
            deleted=self._deleted,
        )
        self.assets = Assets(
            *(database, FolderBytes(folder), self.cache, POLICIES), room_max_bytes=1_000_000
        )
        self.sessions = self.fresh_sessions()

    def fresh_sessions(self) -> Sessions:
        """The sessions as this instance knows them."""
        return Sessions(
            *(self.database, self.cache, POLICIES.user_sessions),
            lifetime_seconds=LIFETIME_SECONDS,
            notices=self.notices,
        )

    def _tell(
        self,
        told: bool,
        keys: Sequence[Key],
        tags: Sequence[str],
        regions: Sequence[str],
    ) -> None:
        for other in self.bus:
            if not other.deaf and not other.misses_drops:
                other.cache.heard(told, keys, tags, regions)

    def _hint(self, notice: Notice) -> None:
        for other in self.bus:
            if not other.deaf and other.notices is not None:
                other.notices.heard(*notice)

    async def _uploaded(self, asset: str, user: str) -> bool:
        return False

    async def _deleted(self, room: str) -> None:
        return None

    async def house(self, room: str, user: str, command: Command | HouseCommand) -> Reply:
        """See `RoomService.house`."""
        return await self.rooms.house(room, user, command)

    async def settled(self) -> None:
        """Return once the shared level and the others know of what was dropped and put here."""
        async with asyncio.timeout(30):
            await self.cache.settled()
            for _ in range(10):
                await asyncio.sleep(0)

    async def close(self) -> None:
        """Leave in order, once."""
        if self.shared is not None:
            self.shared.away = False
        await self.engine.close()
        if self.follower is not None:
            await self.follower.close()
        await self.cache.close()


class Fleet:
    """Instances on one PostgreSQL and one shared level, or one on SQLite."""

    def __init__(self, stack: AsyncExitStack, folder: Path, url: str | None) -> None:
        self._stack = stack
        self._folder = folder
        self._url = url
        self.server = MemoryServer()
        self.instances: list[Instance] = []

    async def start(self) -> Instance:
        """Start another instance; the others and it hear each other."""
        (assets := self._folder / f"assets-{len(self.instances)}").mkdir()
        if self._url is None:
            database = await self._stack.enter_async_context(SqliteDatabase(self._folder))
            one = Instance(database, SqliteEventLog(database, commit_interval=0.0), None, assets)
        else:
            knobs = DatabaseKnobs(url=self._url, pool_min=0)
            shared = await self._stack.enter_async_context(PostgresDatabase(knobs, "test"))
            await shared.started()
            log = PostgresEventLog(shared, commit_interval=0.0)
            self._stack.push_async_callback(log.close)
            one = Instance(shared, log, MemoryShared(self.server), assets)
        one.cache.start()
        if one.notices is not None:
            await one.notices.catch_up()
        self._stack.push_async_callback(one.close)
        for other in self.instances:
            other.bus.append(one)
            one.bus.append(other)
        self.instances.append(one)
        return one


@asynccontextmanager
async def fleet_of(folder: Path, url: str | None, instances: int) -> AsyncIterator[Fleet]:
    """So many instances; on SQLite (no `url`) there can be one."""
    async with AsyncExitStack() as stack:
        fleet = Fleet(stack, folder, url)
        for _ in range(instances):
            await fleet.start()
        yield fleet
