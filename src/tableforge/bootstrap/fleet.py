"""One instance among others: the bus, the registry, presence and notices, wired to the rooms and the hub."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Sequence
from importlib.metadata import version
from typing import Any

import structlog

from tableforge.api.audience import Audience
from tableforge.api.backplane import Backplane
from tableforge.api.house import Caching
from tableforge.bootstrap.stores import Store
from tableforge.bus import Bus, BusServer
from tableforge.config import Settings
from tableforge.errors import TableForgeError, Unavailable
from tableforge.hub.hub import Hub
from tableforge.hub.presence import Presence
from tableforge.library.instances import Instance, Instances, Myself
from tableforge.library.notices import CACHE_DOUBTFUL, ROOM_DELETED, Notices
from tableforge.protocol.bus_messages import Present
from tableforge.protocol.channels import live_channel, room_channel
from tableforge.protocol.frames import ClientInfo
from tableforge.rooms.engine import RoomEngine
from tableforge.rooms.following import Follower
from tableforge.telemetry import COUNTERS

NOTICES_SECONDS = 1.0
"""How often notices are looked for while the bus carries them."""
TRUSTED_SECONDS = 30.0
"""How long sessions in memory count while nothing can be heard of sign-outs, neither from the bus nor the database."""
POSITIONS_SECONDS = 2.0
"""How often a room's position is compared with the log's while the bus carries it."""
LEAVING_SECONDS = 2.0
"""How long a process that ends waits for the registry to let it go; the others notice anyway."""

UNHEARD = "not heard over the bus: has it the same REDIS_ settings and ADMIN_TOKEN?"

log = structlog.get_logger(__name__)


def _bus(settings: Settings, origin: str) -> Bus | None:
    if not settings.redis.chosen:
        return None
    from tableforge.bus.redis import RedisBus

    return RedisBus(
        settings.redis,
        silence_seconds=settings.fleet.bus_silence_seconds,
        origin=origin,
        secret=settings.access.admin_token or "",
    )


def myself(settings: Settings) -> Myself:
    """How this process is known to the others."""
    return Myself(
        id=settings.serving.instance_id,
        version=version("tableforge"),
        weight=settings.fleet.weight,
        has_bus=settings.redis.chosen,
        scaling=settings.fleet.scaling,
    )


class Fleet:
    """This instance's dealings with the others. Raises `StartRefused` for a bus that cannot be meant."""

    def __init__(self, settings: Settings, store: Store, hub: Hub, audience: Audience) -> None:
        knobs = settings.fleet
        self._settings = settings
        self._hub = hub
        self._audience = audience
        self._tasks: set[asyncio.Task[None]] = set()
        self._others: Callable[[], Sequence[Instance]] = tuple
        self._untold: Callable[[], int] = int
        self._unheard: set[str] = set()
        self.me = myself(settings)
        self.bus = _bus(settings, self.me.origin)
        self.backplane = Backplane(
            self.bus,
            origin=self.me.origin,
            hub=hub,
            droppable_over=settings.sockets.buffer_bytes // 8,
        )
        self.notices = Notices(
            store.database,
            hint=self.backplane.hint,
            trusted_seconds=TRUSTED_SECONDS,
        )
        self.instances = Instances(
            store.database,
            self.me,
            heartbeat_seconds=knobs.heartbeat_seconds,
            expiry_seconds=knobs.expiry_seconds,
        )
        self.presence = Presence(
            self.me.origin,
            send=self.backplane.say,
            local=self._here,
            changed=self._moved,
            carried=self._carried,
            expiry_seconds=knobs.expiry_seconds,
        )
        self.follower = Follower(
            store.log,
            self.bus,
            origin=self.me.origin,
            heads_interval=knobs.heads_interval_ms / 1000,
            check_interval=POSITIONS_SECONDS,
            listened=audience.listened,
            deleted=audience.deleted,
            forgotten=self.presence.forget,
        )
        hub.join_fleet(self.presence)
        self.notices.on(ROOM_DELETED, self._room_deleted)

    def bus_servers(self) -> Sequence[BusServer]:
        """How the servers of the bus are doing, and which instances are not heard there; none without a bus."""
        servers = self.bus.servers() if self.bus is not None else ()
        return [*servers, *(BusServer(f"instance {one}", UNHEARD) for one in sorted(self._unheard))]

    def cut_off(self) -> bool:
        """Whether a server of the bus does not carry what this instance tells."""
        return self.bus is not None and any(server.trouble for server in self.bus.servers())

    def _doubtful(self) -> bool:
        """Whether events may come to be that the bus does not bring us."""
        return bool(self._unheard) or any(one.load.cut_off for one in self._others())

    def carries_changes(self) -> bool:
        """Whether the bus brings what any other instance drops from the cache."""
        return self.bus is None or (self.backplane.carries_notices() and not self._doubtful())

    async def start(
        self, engine: RoomEngine, caching: Caching, *, others: Callable[[], Sequence[Instance]]
    ) -> None:
        """Hear the others from now on; the database need not be there yet. `others` are those that live."""
        self._engine = engine
        self._others = others
        self._untold = lambda: caching.cache.untold
        self.follower.follow(engine, doubtful=self._doubtful)
        await self.backplane.start(
            self.follower,
            self.presence,
            self.notices,
            cache=caching.cache,
            emergency=caching.emergency,
        )

    async def enter(self) -> None:
        """The database is there: take our place among the instances. Raises `StartRefused`."""
        while True:
            try:
                await self.instances.register()
                await self.notices.catch_up()
                break
            except Unavailable as unavailable:
                log.warning("not among the instances yet", reason=unavailable.why)
                await asyncio.sleep(self._settings.fleet.heartbeat_seconds)
        self._run(
            self.notices.follow(
                self.backplane.carries_notices,
                every_seconds=NOTICES_SECONDS,
                uncarried_seconds=self._settings.fleet.heads_interval_ms * 4 / 1000,
            )
        )
        if self.bus is not None:
            self._run(self._stay_in_touch())

    async def _stay_in_touch(self) -> None:
        """Be heard on the bus, and find out who is not: the canary of an instance meets only itself, on whichever bus."""
        knobs = self._settings.fleet
        bound = knobs.bus_silence_seconds + 3 * knobs.heartbeat_seconds
        known: dict[str, float] = {}
        while True:
            self.backplane.tell_alive()
            now = time.monotonic()
            living = {one.origin: one.id for one in self._others()}
            known = {origin: known.get(origin, now) for origin in living}
            heard = self.backplane.heard_at
            for origin in heard.keys() - living.keys():
                if now - heard[origin] > bound:
                    del heard[origin]
            unheard = {
                living[origin]
                for origin, since in known.items()
                if now - max(since, heard.get(origin, 0.0)) > bound
            }
            for one in sorted(unheard - self._unheard):
                log.warning(
                    "an instance is not heard over the bus: the log is read for what it does",
                    other=one,
                    mend="REDIS_HOST or REDIS_URL, REDIS_BUS_URLS, REDIS_PUB_SUB_DB and ADMIN_TOKEN"
                    " must be the same on all instances",
                )
            self._unheard = unheard
            COUNTERS.instances_unheard = len(unheard)
            await asyncio.sleep(knobs.heartbeat_seconds)

    async def close(self) -> None:
        """Leave in order. The cache has ended: what it could not tell by now it never will."""
        doubtful = bool(self._untold()) or self.cut_off()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.follower.close()
        self.presence.close()
        if self.bus is not None:
            await self.bus.close()
        with contextlib.suppress(TableForgeError, TimeoutError):
            async with asyncio.timeout(LEAVING_SECONDS):
                if doubtful:  # without this said we do not leave either: to be gone says the same
                    await self.notices.give(CACHE_DOUBTFUL, self.me.origin)
                await self.instances.leave()

    async def deleted(self, room: str) -> None:
        """A room was deleted here: everybody is to know."""
        self._audience.deleted(room)
        await self.notices.give(ROOM_DELETED, room)

    def _room_deleted(self, room: str) -> None:
        live = self._engine.live_nowait(room)
        if live is not None:
            self._engine.drop(live)
        self._audience.deleted(room)

    def _here(self, room: str) -> Sequence[Present]:
        """Who is in a room through this instance."""
        return [
            Present(
                info.client,
                info.user,
                info.conn_info.get("name", ""),
                info.chan_info.get("role", ""),
                live,
            )
            for live, name in ((False, room_channel(room)), (True, live_channel(room)))
            for info in self._hub.local_infos(name)
        ]

    def _carried(self, room: str) -> bool:
        """Whether silence on a room's channel means anything: not while some instance cannot be heard there."""
        bus = self.bus
        return bus is not None and bus.carries(room_channel(room)) and not self._doubtful()

    def _moved(
        self,
        room: str,
        live: bool,  # noqa: FBT001  # as Presence calls it
        joined: Sequence[ClientInfo],
        left: Sequence[ClientInfo],
    ) -> None:
        self._hub.told(live_channel(room) if live else room_channel(room), joined, left)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a task of the fleet failed", exc_info=error)
