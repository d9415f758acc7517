"""The parts of one server, put together."""

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tableforge.api.app import create_app
from tableforge.api.audience import Audience
from tableforge.api.centrifuge import Gateway, GatewaySettings, keep_signal
from tableforge.api.edge import Application
from tableforge.api.orders import Orders
from tableforge.api.uploads import Inbox
from tableforge.api.websocket import Endpoint
from tableforge.bootstrap.caching import caching
from tableforge.bootstrap.care import caring
from tableforge.bootstrap.fleet import Fleet, myself
from tableforge.bootstrap.stores import Store, embedded, shared
from tableforge.config import Settings
from tableforge.errors import Draining, StartRefused, TableForgeError, Unavailable
from tableforge.files import Limits as FileLimits
from tableforge.files.importer import Importer
from tableforge.hub.hub import Hub
from tableforge.hub.steward import Steward
from tableforge.library.assets import Assets
from tableforge.library.invites import Invites
from tableforge.library.runs import Runs
from tableforge.library.sessions import Sessions
from tableforge.library.systems import Designs
from tableforge.rooms.cached import CachedRooms
from tableforge.rooms.engine import RoomBounds, RoomEngine
from tableforge.rooms.service import RoomService
from tableforge.telemetry import COUNTERS

STATIC = Path(__file__).parent.parent / "web" / "static"

STARTING = Unavailable(
    "This server is about to serve.", "It has not started yet.", "Try again in a moment."
)

STOPPING = Draining("This server is about to stop.", "", "Connect again in a moment.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """The parts of one running server. `ready` ends once it serves, or with the reason why it never will."""

    settings: Settings
    store: Store
    engine: RoomEngine
    assets: Assets
    hub: Hub
    endpoint: Endpoint
    app: Application
    ready: "asyncio.Task[None]"


@contextlib.asynccontextmanager
async def assemble(
    settings: Settings,
    *,
    draining: Callable[[], bool],
    refusing: Callable[[], bool],
    stop: Callable[[StartRefused | None], None],
) -> AsyncIterator[Assembly]:
    """Open what there is and put the parts together; raises `StartRefused`.

    `draining` says whether the server is about to stop, `refusing` whether it takes no connections any more, `stop` makes
    it so; with the reason where another process has taken its place.

    A fleet's database need not be there yet: `/ready` says so until it is.
    """
    is_fleet = settings.database.chosen
    async with (
        (shared if is_fleet else embedded)(settings) as store,
        contextlib.AsyncExitStack() as around,
    ):
        hub = Hub()
        audience = Audience(hub)
        fleet = Fleet(settings, store, hub, audience) if is_fleet else None
        cached, regions = await around.enter_async_context(caching(settings, store, fleet))

        cached_rooms = CachedRooms(store.log, cached.cache, regions)
        engine = RoomEngine(
            store.log,
            cached_rooms,
            RoomBounds(
                recent_events=settings.rooms.recent_events,
                recent_bytes=settings.rooms.recent_bytes,
                snapshot_every=settings.eventlog.snapshot_every_events,
                in_memory=settings.rooms.in_memory,
                idle_seconds=settings.rooms.idle_seconds,
                commands_rate=settings.limits.commands_per_second,
                commands_burst=settings.limits.commands_burst,
            ),
            publish=audience.hear,
            listened=audience.listened,
            invalidated=audience.invalidated,
            peers=fleet.follower if fleet is not None else None,
        )
        assets = Assets(
            *(store.database, store.pictures, cached.cache, regions),
            room_max_bytes=settings.uploads.room_max_bytes,
        )
        rooms = RoomService(
            store.log,
            cached_rooms,
            engine,
            recovery_events=settings.rooms.recovery_events,
            online=audience.online,
            uploaded=assets.uploaded_by,
            deleted=fleet.deleted if fleet is not None else audience.told_of_deletion,
        )
        sessions = Sessions(
            store.database,
            cached.cache,
            regions.user_sessions,
            lifetime_seconds=settings.access.session_lifetime_seconds,
            notices=fleet.notices if fleet is not None else None,
        )
        sessions.on_signed_out(hub.sign_out)

        steward = Steward(
            fleet.me if fleet is not None else myself(settings),
            hub=hub,
            knobs=settings.fleet,
            connections=lambda: COUNTERS.connections,
            rooms=lambda: engine.rooms_in_memory,
            draining=draining,
            cut_off=fleet.cut_off if fleet is not None else bool,
            drain=lambda: stop(None),
            superseded=stop,
            lost=cached.cache.doubt,
            share=store.share,
            instances=fleet.instances if fleet is not None else None,
            presence=fleet.presence if fleet is not None else None,
        )

        async def start() -> None:
            await store.started()
            if fleet is not None:
                await fleet.enter()
            steward.start()

        async with contextlib.AsyncExitStack() as stack:
            if fleet is not None:
                await fleet.start(engine, cached, others=steward.living)
                stack.push_async_callback(fleet.close)
            stack.push_async_callback(cached.cache.close)
            stack.push_async_callback(steward.close)
            ready = asyncio.create_task(start())
            stack.callback(ready.cancel)
            if not is_fleet:
                await ready

            closing, unready = readiness(
                store, ready, draining=draining, refusing=refusing, is_fleet=is_fleet
            )
            orders = Orders(Runs(store.database, instance=settings.serving.instance_id))
            stack.push_async_callback(orders.close)
            cared = await stack.enter_async_context(caring(settings, store, orders, steward, ready))
            gateway = Gateway(
                GatewaySettings(
                    ping_seconds=round(settings.sockets.ping_seconds),
                    pong_seconds=settings.sockets.pong_seconds,
                    connect_seconds=settings.sockets.connect_timeout_seconds,
                    buffer_bytes=settings.sockets.buffer_bytes,
                    message_bytes=settings.sockets.max_message_bytes,
                    live_rate=settings.limits.live_per_second,
                ),
                hub=hub,
                rooms=rooms,
                sessions=sessions,
                relay=fleet.backplane.relay if fleet is not None else keep_signal,
            )
            inbox = Inbox(settings.storage.folder, max_bytes=settings.uploads.max_bytes)
            inbox.open()
            COUNTERS.instance = (settings.serving.instance_id, version("tableforge"))
            yield Assembly(
                settings=settings,
                store=store,
                engine=engine,
                assets=assets,
                hub=hub,
                endpoint=Endpoint(gateway, settings, unready=closing),
                app=create_app(
                    settings=settings,
                    rooms=rooms,
                    sessions=sessions,
                    invites=Invites(store.database),
                    assets=assets,
                    designs=Designs(store.database, cached.cache, regions),
                    importer=Importer(
                        FileLimits(
                            max_bytes=settings.uploads.max_bytes,
                            max_pixels=settings.uploads.max_pixels,
                        )
                    ),
                    inbox=inbox,
                    static=STATIC,
                    admin_token=admin_token(settings),
                    unready=unready,
                    bus=fleet.bus_servers if fleet is not None else tuple,
                    steward=steward,
                    orders=orders,
                    caching=cached,
                    caring=cared,
                    observed=store.observed,
                ),
                ready=ready,
            )


Trouble = Callable[[], TableForgeError | None]


def readiness(
    store: Store,
    ready: "asyncio.Task[None]",
    *,
    draining: Callable[[], bool],
    refusing: Callable[[], bool],
    is_fleet: bool,
) -> tuple[Trouble, Trouble]:
    """What keeps connections from being taken, and what keeps the server from counting as ready; None when nothing does."""

    def troubled() -> TableForgeError | None:
        trouble = store.trouble()
        if trouble is None or not is_fleet:
            return trouble
        return Unavailable("This server is waiting for its database.", trouble.why, trouble.mend)

    def closing() -> TableForgeError | None:
        if refusing():
            return STOPPING
        if not ready.done():
            return troubled() or STARTING
        return None

    def unready() -> TableForgeError | None:
        return (STOPPING if draining() else closing()) or troubled()

    return closing, unready


def admin_token(settings: Settings) -> str:
    """The token of /api/admin: the setting, else the one that was once generated into the data folder."""
    if settings.access.admin_token is not None:
        return settings.access.admin_token
    path = settings.storage.admin_token
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        token = secrets.token_urlsafe(32)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(token + "\n")
        return token
