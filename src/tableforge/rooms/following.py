"""What other instances append to rooms that are in this one's memory: by the bus when it works, from the log when not.

A message of the bus is a hint that carries the events. Whatever it lacks, brings twice or in another order, and whatever
did not come at all, is found out by positions: a gap by the next message, silence by asking the log for the heads of many
rooms in one question.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import structlog

from tableforge.bus import Bus
from tableforge.errors import TableForgeError
from tableforge.eventlog import EventLog, Head, StoredEvent
from tableforge.protocol.bus_messages import EventsHappened, encode_message
from tableforge.protocol.channels import room_channel
from tableforge.rooms.engine import RoomEngine
from tableforge.rooms.live import Entry, LiveRoom
from tableforge.telemetry import EVENT_LAG

GAP_SECONDS = 0.01
"""How long an event that came too early waits for the ones before it: two instances may overtake each other."""
EARLY_MAX = 500
"""Events of one room that are kept because they came too early."""

log = structlog.get_logger(__name__)


class Follower:
    """The `Peers` of a room engine in a fleet.

    `origin` names this process; `deleted` hears of rooms that are gone, `forgotten` of those that leave memory. `heads_interval` (seconds) is how often the log is
    asked about rooms that the bus does not carry, `check_interval` how often about all others.
    """

    def __init__(
        self,
        log: EventLog,
        bus: Bus | None,
        *,
        origin: str,
        heads_interval: float,
        check_interval: float,
        listened: Callable[[str], bool],
        deleted: Callable[[str], None],
        forgotten: Callable[[str], None],
    ) -> None:
        self._log = log
        self._bus = bus
        self.origin = origin
        self._heads_interval = heads_interval
        self._check_interval = check_interval
        self._listened = listened
        self._deleted = deleted
        self._forgotten = forgotten
        self._engine: RoomEngine | None = None
        self._doubtful: Callable[[], bool] = bool
        self._early: dict[str, dict[int, StoredEvent]] = {}
        self._asked: dict[LiveRoom, asyncio.Future[Head | None]] = {}
        self._asking: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def engine(self) -> RoomEngine:
        """The engine whose rooms are followed."""
        assert self._engine is not None
        return self._engine

    def follow(self, engine: RoomEngine, *, doubtful: Callable[[], bool] = bool) -> None:
        """Begin to watch over the rooms of this engine; `close` ends it.

        While it is `doubtful` whether the bus brings everything, since some instance cannot reach it, the log is asked.
        """
        self._doubtful = doubtful
        self._engine = engine
        self._start(self._watch())

    async def close(self) -> None:
        """Stop watching."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # Peers

    def opened(self, live: LiveRoom) -> None:
        """See `Peers`."""
        if self._bus is not None:
            self._bus.listen(room_channel(live.id))

    def closed(self, live: LiveRoom) -> None:
        """See `Peers`."""
        self._early.pop(live.id, None)
        self._forgotten(live.id)
        if self._bus is not None:
            self._bus.unlisten(room_channel(live.id))

    def appended(self, entry: Entry) -> None:
        """See `Peers`."""
        if self._bus is not None:
            live = entry.live
            message = EventsHappened(
                self.origin,
                time.time() * 1000,
                live.epoch,
                entry.expected + 1,
                entry.version,
                entry.events,
            )
            self._bus.publish(room_channel(live.id), encode_message(message))
        if self._early:
            self._take_early(entry.live)

    async def caught_up(self, live: LiveRoom) -> None:
        """See `Peers`. Those who ask while a question is on its way share the next one."""
        future = self._asked.get(live)
        if future is None:
            future = self._asked[live] = asyncio.get_running_loop().create_future()
            if self._asking is None:
                self._asking = asyncio.get_running_loop().create_task(self._ask())
                self._keep(self._asking)
        head = await asyncio.shield(future)
        if head is not None and not live.dropped:
            await self.engine.reach(live, head.offset)

    # From the bus

    def heard(self, room: str, message: EventsHappened) -> None:
        """Take what another instance appended."""
        live = self.engine.live_nowait(room)
        if live is None or not live.durable.version:
            return
        if message.epoch != live.epoch:
            self._start(self._look_at([live]))
            return
        last = message.first + len(message.events) - 1
        durable = live.durable.version
        if last <= durable:
            self.engine.wrote(live, message.origin)
            return
        EVENT_LAG.observe(max(0.0, time.time() - message.sent_ms / 1000))
        rows = [
            StoredEvent(offset, message.version, data)
            for offset, data in enumerate(message.events, message.first)
        ]
        if message.first <= durable + 1:
            self.engine.apply(live, rows, message.origin)
            if self._early:
                self._take_early(live)
        if live.durable.version < last and not live.dropped:
            early = self._early.setdefault(room, {})
            if not early:
                asyncio.get_running_loop().call_later(GAP_SECONDS, self._mind_the_gap, live)
            if len(early) < EARLY_MAX:
                early.update((row.offset, row) for row in rows)

    def resumed(self, rooms: Sequence[str]) -> None:
        """The bus carries these rooms from now on; what was appended before is asked for."""
        found = [self.engine.live_nowait(room) for room in rooms]
        self._start(self._look_at([live for live in found if live is not None]))

    def _take_early(self, live: LiveRoom) -> None:
        """What came too early may have its turn now."""
        early = self._early.get(live.id)
        if early is None:
            return
        while (row := early.pop(live.durable.version + 1, None)) is not None:
            known = live.durable.version
            self.engine.apply(live, [row])
            if live.durable.version == known:
                early[row.offset] = row
                break
        if not early or max(early) <= live.durable.version:
            del self._early[live.id]

    def _mind_the_gap(self, live: LiveRoom) -> None:
        self._take_early(live)
        early = self._early.pop(live.id, None)
        if early:
            self.engine.follow(live, max(early))

    # From the log

    async def _ask(self) -> None:
        try:
            while self._asked:
                asked, self._asked = self._asked, {}
                try:
                    heads = await self._heads(list(asked))
                except TableForgeError as unavailable:
                    for future in asked.values():
                        future.set_exception(unavailable)
                        future.exception()  # whoever asked may be gone
                else:
                    for live, future in asked.items():
                        future.set_result(heads.get(live.id))
        finally:
            self._asking = None

    async def _heads(self, rooms: Sequence[LiveRoom]) -> dict[str, Head]:
        """Ask where the rooms' logs end, and act on what cannot be what it was."""
        known = {live: live.durable.version for live in rooms if live.durable.version}
        heads = await self._log.heads([live.id for live in known])
        for live, offset in known.items():
            head = heads.get(live.id)
            if live.dropped:
                continue
            if head is None:
                self.engine.drop(live)
                self._deleted(live.id)
            elif head.epoch != live.epoch:
                self.engine.invalidate(live)
            elif head.offset < offset:
                self.engine.log_lost(live)
        return heads

    async def _look_at(self, rooms: Sequence[LiveRoom]) -> None:
        """Bring these rooms up to where their logs end."""
        try:
            heads = await self._heads(rooms)
        except TableForgeError as unavailable:
            log.warning("the log cannot be asked for news", reason=str(unavailable))
            return
        for live in rooms:
            head = heads.get(live.id)
            if head is not None:
                self.engine.follow(live, head.offset)

    async def _watch(self) -> None:
        bus = self._bus
        checked = time.monotonic()
        while True:
            await asyncio.sleep(self._heads_interval)
            rooms = [live for live in self.engine.rooms() if self._listened(live.id)]
            now = time.monotonic()
            if now - checked >= self._check_interval:
                checked = now
            elif bus is not None and not self._doubtful():
                rooms = [live for live in rooms if not bus.carries(room_channel(live.id))]
            if rooms:
                try:
                    await self._look_at(rooms)
                except (
                    Exception
                ) as error:  # a room that cannot be folded must not keep the others from their news
                    log.error("looking for news failed", exc_info=error)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._keep(asyncio.get_running_loop().create_task(work))

    def _keep(self, task: "asyncio.Task[None]") -> None:
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("following the other instances failed", exc_info=error)
