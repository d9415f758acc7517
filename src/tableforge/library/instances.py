"""The registry of a fleet: which instances serve from this database, and what each of them carries.

Times are the database's, so that the instances' clocks need not agree. Whether an instance lives is judged by whether its
heartbeat moves while ours does: neither a clock that jumps, nor a database that was away, nor a pause of our own makes the
others look dead.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import NamedTuple

from msgspec import Struct, field, structs

from tableforge.database import Database, Row, Statement
from tableforge.errors import StartRefused

WATCH_SECONDS = 0.25
"""How often a heartbeat is looked at that may be a dead instance's last."""

# Two statements in one transaction: what the second one sees is read after the lock was taken.
LOCK_REGISTRY = Statement("instance.lock", "SELECT pg_advisory_xact_lock(7234017283807667301)")
ENTER = Statement(
    "instance.enter",
    "INSERT INTO instances (id, incarnation, has_bus, scaling, version, weight)"
    " SELECT CAST(?1 AS text), CAST(?2 AS text), CAST(?4 AS boolean), CAST(?5 AS boolean),"
    " CAST(?6 AS text), CAST(?7 AS integer)"
    " WHERE NOT EXISTS (SELECT FROM instances AS o WHERE o.incarnation <> ?2"
    " AND o.seen > clock_timestamp() - make_interval(secs => CAST(?3 AS double precision))"
    " AND (o.id = ?1 OR NOT (o.has_bus AND o.scaling AND CAST(?4 AS boolean) AND CAST(?5 AS boolean))))"
    " ON CONFLICT (id) DO UPDATE SET incarnation = excluded.incarnation, version = excluded.version,"
    " started = excluded.started, seen = excluded.seen, connections = 0, rooms = 0, cpu = 0, loop_lag_ms = 0,"
    " cut_off = false,"
    " draining = false, drain_asked = false, weight = excluded.weight, has_bus = excluded.has_bus,"
    " scaling = excluded.scaling",
)
IN_THE_WAY = Statement(
    "instance.in_the_way",
    "SELECT o.id, o.incarnation, o.has_bus, o.seen FROM instances AS o WHERE o.incarnation <> ?2"
    " AND o.seen > clock_timestamp() - make_interval(secs => CAST(?3 AS double precision))"
    " AND (o.id = ?1 OR NOT (o.has_bus AND o.scaling AND CAST(?4 AS boolean) AND CAST(?5 AS boolean)))",
)
HEARTBEAT = Statement(
    "instance.heartbeat",
    "WITH mine AS (UPDATE instances SET seen = clock_timestamp(), connections = CAST(?3 AS bigint),"
    " rooms = CAST(?4 AS bigint), cpu = CAST(?5 AS double precision), loop_lag_ms = CAST(?6 AS double precision),"
    " draining = CAST(?7 AS boolean), cut_off = CAST(?8 AS boolean) WHERE id = ?1 AND incarnation = ?2 RETURNING id)"
    " SELECT id, incarnation, version, CAST(EXTRACT(EPOCH FROM started) AS double precision),"
    " CAST(EXTRACT(EPOCH FROM seen) AS double precision), connections, rooms, cpu, loop_lag_ms, draining, cut_off, weight,"
    " has_bus, drain_asked, CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS double precision),"
    " (SELECT count(*) FROM mine)"
    " FROM instances ORDER BY seen DESC LIMIT 1000",
)
ASK_TO_DRAIN = Statement(
    "instance.ask_to_drain",
    "UPDATE instances SET drain_asked = true WHERE id = ? AND incarnation = ?",
    repeatable=True,
)
LEAVE = Statement(
    "instance.leave", "DELETE FROM instances WHERE id = ? AND incarnation = ?", repeatable=True
)
PURGE = Statement(
    "instance.purge",
    "DELETE FROM instances WHERE seen < clock_timestamp() - interval '1 day'",
    repeatable=True,
)


class Myself(Struct, frozen=True, kw_only=True):
    """How an instance enters the registry.

    `has_bus` is whether a bus is set, `scaling` whether it may serve beside others. `incarnation` tells this start of the
    process from every other one.
    """

    id: str
    version: str
    weight: int = 1
    has_bus: bool = False
    scaling: bool = False
    incarnation: str = field(default_factory=lambda: secrets.token_hex(6))

    @property
    def origin(self) -> str:
        """What names this process in messages to the others."""
        return origin_of(self.id, self.incarnation)


class Load(Struct, frozen=True, kw_only=True):
    """What an instance carries now. `cpu` is its share of one core, `loop_lag_ms` the worst delay of its event loop lately.

    `cut_off` is whether a server of the bus does not carry its messages: the others do not hear of what it does.
    """

    connections: int = 0
    rooms: int = 0
    cpu: float = 0.0
    loop_lag_ms: float = 0.0
    draining: bool = False
    cut_off: bool = False


class Instance(Struct, frozen=True, kw_only=True):
    """One instance as it was heard of last: `started` and `seen` in seconds since 1970, by the database's clock.

    `silent_seconds` is for how long its heartbeat has not moved while ours did; `alive` is whether that counts as serving.
    """

    id: str
    incarnation: str
    version: str
    started: float
    seen: float
    silent_seconds: float
    alive: bool
    load: Load
    weight: int
    has_bus: bool

    @property
    def origin(self) -> str:
        """What names this process in its messages."""
        return origin_of(self.id, self.incarnation)


class Pulse(Struct, frozen=True):
    """What a heartbeat brought back: orders for us, and everybody in the registry."""

    instances: tuple[Instance, ...] = ()
    drain_asked: bool = False
    superseded: StartRefused | None = None
    """Set when another process took our place in the registry while we were silent."""


class _Observed(NamedTuple):
    seen: float
    silent: float


def origin_of(instance: str, incarnation: str) -> str:
    """An instance's id with the start of its process."""
    return f"{instance}~{incarnation}"


class Instances:
    """The registry as one instance sees it; every method raises `DatabaseUnavailable` while the database is away."""

    def __init__(
        self,
        database: Database,
        me: Myself,
        *,
        heartbeat_seconds: float,
        expiry_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.me = me
        self._database = database
        self._heartbeat = heartbeat_seconds
        self._expiry = expiry_seconds
        self._clock = clock
        self._last_beat = 0.0
        self._observed: dict[str, _Observed] = {}

    async def register(self) -> None:
        """Enter the registry; raises `StartRefused` beside a live instance of the same id, or one that must be alone.

        An instance that was heard of a moment ago may be dead all the same, killed and started anew: it is watched until
        its heartbeat moves, which refuses us at once, or until it counts as gone.
        """
        me = self.me
        ours = (me.id, me.incarnation, self._expiry, me.has_bus, me.scaling)
        first: dict[str, datetime] = {}
        deadline = self._clock() + self._expiry + 2 * self._heartbeat
        while True:
            _, entered = await self._database.write_all(
                [(LOCK_REGISTRY, ()), (ENTER, (*ours, me.version, me.weight))]
            )
            if entered:
                self._last_beat = self._clock()
                return
            for rival, incarnation, has_bus, seen in await self._database.read(IN_THE_WAY, *ours):
                moved = first.setdefault(incarnation, seen) != seen
                if moved or self._clock() >= deadline:
                    raise self._refusal(rival, has_bus=has_bus)
            await asyncio.sleep(min(WATCH_SECONDS, self._heartbeat))

    def _refusal(self, rival: str, *, has_bus: bool) -> StartRefused:
        what = "The server did not start."
        if rival == self.me.id:
            return StartRefused(
                what,
                f"An instance with INSTANCE_ID {rival} serves from this database already.",
                "Give each instance an INSTANCE_ID of its own, or leave it out.",
            )
        if not self.me.has_bus:
            why = "this one has no Redis"
        elif not self.me.scaling:
            why = "WEBSOCKET_SCALING_ENABLED is false here"
        else:
            why = (
                "that one has no Redis"
                if not has_bus
                else "WEBSOCKET_SCALING_ENABLED is false there"
            )
        return StartRefused(
            what,
            f"Instance {rival} serves from this database already, and {why}: they could not tell each other what happens.",
            "Stop that instance, or give every instance the same REDIS_HOST or REDIS_URL and WEBSOCKET_SCALING_ENABLED=true.",
        )

    async def heartbeat(self, load: Load) -> Pulse:
        """Say that we live and what we carry; hear of all the others, and whether somebody wants us to drain."""
        me = self.me
        rows = await self._database.read(
            HEARTBEAT,
            me.id,
            me.incarnation,
            load.connections,
            load.rooms,
            load.cpu,
            load.loop_lag_ms,
            load.draining,
            load.cut_off,
        )
        now = self._clock()
        # What we could not observe is not held against the others.
        passed = min(now - self._last_beat, 2 * self._heartbeat)
        self._last_beat = now
        before, self._observed = self._observed, {}
        pulse = Pulse(tuple(self._instance(row, load, before, passed) for row in rows))
        ours = next((row for row in rows if row[0] == me.id), None)
        if ours is not None and ours[1] == me.incarnation:
            return structs.replace(pulse, drain_asked=ours[-3])
        if ours is not None:
            return structs.replace(pulse, superseded=self._refusal(me.id, has_bus=True))
        # The row is gone: purged while we were away for a day, or lost with a restored database.
        try:
            await self.register()
        except StartRefused as refused:
            return structs.replace(pulse, superseded=refused)
        return pulse

    def _instance(
        self, row: Row, load: Load, before: Mapping[str, _Observed], passed: float
    ) -> Instance:
        (id_, incarnation, version, started, seen, connections, rooms, cpu, lag, draining) = row[
            :10
        ]
        cut_off, weight, has_bus, _, now, _ = row[10:]
        origin = origin_of(id_, incarnation)
        if origin == self.me.origin:
            seen, silent = now, 0.0
        else:
            load = Load(
                connections=connections,
                rooms=rooms,
                cpu=cpu,
                loop_lag_ms=lag,
                draining=draining,
                cut_off=cut_off,
            )
            known = before.get(origin)
            if known is None:
                silent = max(0.0, now - seen)
            else:
                silent = known.silent + passed if known.seen == seen else 0.0
            self._observed[origin] = _Observed(seen, silent)
        return Instance(
            id=id_,
            incarnation=incarnation,
            version=version,
            started=started,
            seen=seen,
            silent_seconds=silent,
            alive=silent < self._expiry,
            load=load,
            weight=weight,
            has_bus=has_bus,
        )

    async def ask_to_drain(self, instance: Instance) -> bool:
        """Leave word for this instance to drain; False if it has left meanwhile."""
        return bool(await self._database.write(ASK_TO_DRAIN, instance.id, instance.incarnation))

    async def leave(self) -> None:
        """Go out of the registry: the others need not wait to see that we are gone."""
        await self._database.write(LEAVE, self.me.id, self.me.incarnation)

    async def purge(self) -> None:
        """Take away the rows of instances that have been dead for a day."""
        await self._database.write(PURGE)
