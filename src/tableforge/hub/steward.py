"""What an instance does for the fleet all the time: it tells how it is, hears who else lives, and keeps the spread even.

Alone, without a registry, it knows itself only; whoever asks for the instances or wants one drained need not care.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Literal, NamedTuple, get_args

import structlog
from msgspec import structs

from tableforge.config import FleetKnobs
from tableforge.errors import NotFound, StartRefused, Unavailable
from tableforge.hub.balance import Balancer, Standing
from tableforge.hub.farewell import cheapest_first
from tableforge.hub.hub import Hub
from tableforge.hub.presence import Presence
from tableforge.hub.session import Session
from tableforge.library.instances import Instance, Instances, Load, Myself
from tableforge.protocol.close_codes import CloseCode
from tableforge.telemetry import COUNTERS

WATCH_SECONDS = 0.25
"""How often the event loop's delay is measured, presence looked after and the spread considered."""
STALE_HEARTBEATS = 3
"""After this many heartbeats without an answer the others' load is not known well enough to send anybody there."""
PURGE_SECONDS = 3_600.0

State = Literal["serving", "draining", "gone"]
STATES: tuple[State, ...] = get_args(State)

log = structlog.get_logger(__name__)


class Drain(NamedTuple):
    """What came of an order to drain an instance: its state before and after, and why."""

    before: State
    after: State
    verdict: Literal["done", "skipped"]
    reason: str


def state_of(instance: Instance) -> State:
    """How an instance is doing."""
    if not instance.alive:
        return "gone"
    return "draining" if instance.load.draining else "serving"


class Steward:
    """The background work of one instance, from when it has its place in the registry until it stops.

    `connections` and `rooms` count what it carries, `cut_off` whether the bus carries nothing of it; `draining` says whether it is about to stop, `drain` makes it so.
    `superseded` is called if another process took our place in the registry while we were silent: this one must stop. `lost`
    is called when another instance may have ended without a word of what it did last, `share` at each heartbeat with how
    many instances live, this one included.
    """

    def __init__(
        self,
        me: Myself,
        *,
        hub: Hub,
        knobs: FleetKnobs,
        connections: Callable[[], int],
        rooms: Callable[[], int],
        draining: Callable[[], bool],
        cut_off: Callable[[], bool],
        drain: Callable[[], None],
        superseded: Callable[[StartRefused], None],
        lost: Callable[[], None],
        share: Callable[[int], None],
        instances: Instances | None = None,
        presence: Presence | None = None,
    ) -> None:
        self._me = me
        self._hub = hub
        self._knobs = knobs
        self._connections = connections
        self._rooms = rooms
        self._draining = draining
        self._cut_off = cut_off
        self._drain = drain
        self._superseded = superseded
        self._lost = lost
        self._share = share
        self._instances = instances
        self._presence = presence
        self._balancer = Balancer(knobs.strategy, over_seconds=knobs.rebalance_seconds)
        self._movable: dict[Session, None] = {}
        self._epoch = 0
        self._others: tuple[Instance, ...] = ()
        self._gone: set[str] = set()
        self._heard_at = float("-inf")
        self._started = time.time()
        self._load = Load()
        self._lag = 0.0
        self._silent = False
        self._purged_at = time.monotonic()
        self._work: asyncio.Task[None] | None = None
        self._measured = (time.monotonic(), time.process_time())

    # What others may ask

    def listing(self) -> list[Instance]:
        """All instances in the registry as of the last heartbeat, by id; this one as it is now."""
        mine = Instance(
            id=self._me.id,
            incarnation=self._me.incarnation,
            version=self._me.version,
            started=self._started,
            seen=time.time(),
            silent_seconds=0.0,
            alive=True,
            load=structs.replace(
                self._load,
                connections=self._connections(),
                rooms=self._rooms(),
                draining=self._draining(),
            ),
            weight=self._me.weight,
            has_bus=self._me.has_bus,
        )
        return sorted((mine, *self._others), key=lambda one: one.id)

    def living(self) -> list[Instance]:
        """The other instances that serve or drain."""
        return [one for one in self._others if one.alive]

    async def drain(self, instance_id: str) -> Drain:
        """Have an instance drain and stop, as if it had been sent SIGTERM; raises NotFound, `DatabaseUnavailable`."""
        one = next((one for one in self.listing() if one.id == instance_id), None)
        if one is None:
            raise NotFound(
                f"There is no instance {instance_id}.",
                "The registry does not name it.",
                "GET /api/admin/instances lists those that it does.",
            )
        state = state_of(one)
        if state == "draining":
            return Drain(state, state, "skipped", "It is being drained already.")
        if state == "gone":
            silent = round(one.silent_seconds)
            return Drain(state, state, "skipped", f"It has not been heard of for {silent} s.")
        if one.origin == self._me.origin:
            self._drain()
        elif self._instances is None or not await self._instances.ask_to_drain(one):
            return Drain(state, "gone", "skipped", "It has left the fleet.")
        others = sum(state_of(other) == "serving" for other in self.listing()) - (
            one.origin != self._me.origin
        )
        reason = "It sends its clients away over DRAIN_SECONDS, then its process ends."
        if not others:
            reason += " No other instance serves: they will wait for one."
        return Drain(state, "draining", "done", reason)

    # What happens all the time

    def start(self) -> None:
        """Begin to work; `close` ends it."""
        self._work = asyncio.get_running_loop().create_task(self._run_all())

    async def close(self) -> None:
        """Stop working."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait([self._work])

    async def _run_all(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._again_and_again(self._watch))
            group.create_task(self._again_and_again(self._beat))

    async def _again_and_again(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            try:
                await work()
            except Exception as error:  # without a heartbeat the others would take us for gone
                log.error("the steward failed", exc_info=error)
                await asyncio.sleep(self._knobs.heartbeat_seconds)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + WATCH_SECONDS
        await asyncio.sleep(WATCH_SECONDS)
        self._lag = max(self._lag, loop.time() - due)
        if self._presence is not None:
            self._presence.tick()
        self._even_out(loop.time())

    async def _beat(self) -> None:
        self._load = self._measure()
        if self._instances is not None:
            try:
                async with asyncio.timeout(self._knobs.expiry_seconds):
                    await self._tell(self._instances)
                self._silent = False
            except (Unavailable, TimeoutError) as error:
                if not self._silent:
                    why = error.why if isinstance(error, Unavailable) else "The database is slow."
                    log.warning("no_heartbeat", reason=why)
                self._silent = True
        self._share(1 + len(self.living()))
        states = [state_of(one) for one in self.listing()]
        COUNTERS.instances = {state: states.count(state) for state in STATES}
        COUNTERS.instances_cut_off = sum(one.alive and one.load.cut_off for one in self.listing())
        await asyncio.sleep(self._knobs.heartbeat_seconds)

    def _measure(self) -> Load:
        (then, used_then), now, used = self._measured, time.monotonic(), time.process_time()
        self._measured = (now, used)
        lag, self._lag = self._lag, 0.0
        return Load(
            connections=self._connections(),
            rooms=self._rooms(),
            cpu=round((used - used_then) / max(now - then, 1e-3), 3),
            loop_lag_ms=round(lag * 1000, 1),
            draining=self._draining(),
            cut_off=self._cut_off(),
        )

    async def _tell(self, instances: Instances) -> None:
        pulse = await instances.heartbeat(self._load)
        now = asyncio.get_running_loop().time()
        missed = float("-inf") < self._heard_at < now - self._knobs.expiry_seconds
        self._heard_at = now
        known = self._others
        before = {one.origin for one in known if one.alive}
        self._others = tuple(one for one in pulse.instances if one.origin != self._me.origin)
        alive = {one.origin for one in self._others if one.alive}
        if self._found_gone(known, missed=missed):
            self._lost()
        if self._presence is not None:
            for origin in before - alive:
                self._presence.gone(origin)
        if time.monotonic() - self._purged_at > PURGE_SECONDS:
            self._purged_at = time.monotonic()
            await instances.purge()
        if pulse.superseded is not None:
            self._superseded(pulse.superseded)
        elif pulse.drain_asked and not self._draining():
            self._drain()

    def _found_gone(self, known: Sequence[Instance], *, missed: bool) -> bool:
        """Whether one of the others is gone, though it did not leave: it is still named, or another start of it is.

        `known` are those of our heartbeat before. If that was longer ago than an expiry (`missed`), whoever is not among
        them may be in the place of one that we never saw.
        """
        origins, listed = ({one.origin for one in some} for some in (known, self._others))
        ids = {one.id for one in self._others}
        replaced = any(
            one.origin not in listed and one.id in ids and one.origin not in self._gone
            for one in known
        )
        before, self._gone = self._gone, {one.origin for one in self._others if not one.alive}
        return replaced or bool(self._gone - before) or (missed and not listed <= origins)

    def _even_out(self, now: float) -> None:
        if (
            self._draining()
            or now - self._heard_at > STALE_HEARTBEATS * self._knobs.heartbeat_seconds
        ):
            return
        others = [
            Standing(one.origin, one.load.connections, one.weight)
            for one in self._others
            if state_of(one) == "serving"
        ]
        mine = Standing(self._me.origin, self._connections(), self._me.weight)
        count = self._balancer.due(now, mine, others)
        if self._epoch != self._balancer.epoch:
            self._epoch = self._balancer.epoch
            self._movable = dict.fromkeys(self._hub.sessions())
        if not count:
            return
        # Who is cheap to move may have changed since.
        here = [one for one in self._hub.sessions() if one in self._movable]
        for session in cheapest_first(here, self._hub)[:count]:
            del self._movable[session]
            COUNTERS.sent_away_rebalance += 1
            session.wire.part(CloseCode.REBALANCE)
