"""The care of the database, wired to the server that it must not disturb."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from tableforge.api.house import Caring
from tableforge.api.maintenance import MAINTENANCE, Caretaker, Pruning
from tableforge.api.orders import Orders
from tableforge.api.schedules import Schedule, Scheduler
from tableforge.bootstrap.stores import Store
from tableforge.config import Settings
from tableforge.errors import StartRefused
from tableforge.hub.steward import Steward
from tableforge.library.instances import Instance
from tableforge.library.retention import Retention
from tableforge.library.schedules import ScheduleTurns
from tableforge.rooms.pruning import History
from tableforge.rooms.service import FOLDED_TOGETHER
from tableforge.telemetry import COUNTERS

BUSY_CPU = 0.8
BUSY_LAG_MS = 250.0
BUSY_POOL = 0.8


def busy(instances: Sequence[Instance], *, pool_busy: int, pool_max: int) -> str:
    """Why now is a bad time to care for the database, or nothing: an instance, or our pool, has much to do.

    Without a pool `pool_max` is 0.
    """
    for one in instances:
        if one.alive and one.load.cpu > BUSY_CPU:
            return f"instance {one.id} uses {one.load.cpu:.0%} of its core"
        if one.alive and one.load.loop_lag_ms > BUSY_LAG_MS:
            return f"instance {one.id} is behind by {one.load.loop_lag_ms:.0f} ms"
    if pool_max and pool_busy >= pool_max * BUSY_POOL:
        return f"{pool_busy} of {pool_max} connections to the database are in use"
    return ""


def unlike(instances: Sequence[Instance]) -> str:
    """Why no history may be taken away: an instance of another version may take a log that lacks its beginning for whole."""
    versions = sorted({one.version for one in instances if one.alive})
    return f"Versions {' and '.join(versions)} serve side by side." if len(versions) > 1 else ""


def pruning(settings: Settings, store: Store, steward: Steward) -> Pruning | None:
    """What is done about old history: nothing, unless the operator asked for it.

    As many events stay as the settings let anybody look back for: to bring a client up to date, many of them from a
    common place on, and to fill a room's memory of its newest.
    """
    days = settings.care.history_days
    if not days:
        return None
    rooms = settings.rooms
    kept = max(rooms.recovery_events, rooms.recent_events) + FOLDED_TOGETHER
    history = History(store.log, kept_events=kept)
    return Pruning(history, days, lambda: unlike(steward.listing()))


@contextlib.asynccontextmanager
async def caring(
    settings: Settings,
    store: Store,
    orders: Orders,
    steward: Steward,
    ready: "asyncio.Task[None]",
) -> AsyncIterator[Caring]:
    """Care for the database, and begin what is scheduled once the server is `ready`."""
    is_fleet = settings.database.chosen
    caretaker = Caretaker(
        store.care,
        store.ledger,
        Retention(store.database, has_notices=is_fleet),
        busy=lambda: busy(
            steward.listing(),
            pool_busy=COUNTERS.pool_busy,
            pool_max=settings.database.pool_max if is_fleet else 0,
        ),
        ids_kept_seconds=settings.care.command_ids_kept_seconds,
        pruning=pruning(settings, store, steward),
    )
    scheduler = Scheduler(
        [Schedule(MAINTENANCE, settings.care.maintenance, caretaker.maintain)],
        ScheduleTurns(store.database),
        orders,
        zone=settings.care.zone,
    )

    async def run() -> None:
        with contextlib.suppress(StartRefused):
            await asyncio.shield(ready)
            await scheduler.run()

    task = asyncio.create_task(run())
    try:
        yield Caring(caretaker=caretaker, scheduler=scheduler)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await caretaker.close()
