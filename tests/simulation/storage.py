"""The shared log of the simulated servers: one store, and each server's way to it, which may be slow, cut, or answer late.

What an append meets on its way is modelled on PostgreSQL: a batch is one statement; its room's head lets it happen once;
a connection can be lost before the statement arrives, after it was committed, or so that it is committed much later; and
the engine sends again, looks its commands up by their keys, and gives up when its patience ends (`eventlog.postgres`, of
which the batch itself is used here).
"""

from collections.abc import Callable, Sequence
from typing import Literal

from tableforge.eventlog import (
    MISSED_AT_MOST,
    Append,
    Appended,
    DuplicateCommand,
    Found,
    Head,
    LogUnavailable,
    Snapshot,
    StoredEvent,
)
from tableforge.eventlog.batch import Batch, Standing
from tableforge.eventlog.group_commit import GroupCommit
from tableforge.eventlog.memory import MemoryEventLog, Store
from tests.simulation.process import Process

PATIENCE_SECONDS = 0.6
"""How long an engine tries before it says that the log is unavailable."""
NOTICED_SECONDS = 0.1
"""How long it takes to find out that a connection was lost."""

CommitFate = Literal["done", "lost", "unanswered", "late"]


class Database:
    """The store, and what becomes of what is sent to it. `fate` and `latency` are drawn anew for every statement."""

    def __init__(self, fate: Callable[[], CommitFate], latency: Callable[[], float]) -> None:
        self.store = Store()
        self.fate = fate
        self.latency = latency
        self.statements = 0

    def head(self, room: str) -> int:
        """Where a room's log ends."""
        return len(self.store.streams[room].events)

    def stands(self, chain: list[Append]) -> bool:
        """Whether the room stands where the writer expects it (EL3)."""
        return self.head(chain[0].room) == chain[0].expected

    def known(self, entry: Append) -> Found | None:
        """What the log has of the command's key (EL4)."""
        return self.store.keys.get(entry.key)

    def execute(self, batch: Batch) -> dict[str, Standing] | None:
        """Carry out one statement: append the chains whose rooms stand where expected and return where the others stand.

        None if a key is taken: then nothing was done at all.
        """
        chains = {
            room: [batch.entries[index] for index in chain] for room, chain in batch.chains.items()
        }
        return self.execute_chains(chains)

    def execute_chains(self, chains: dict[str, list[Append]]) -> dict[str, Standing] | None:
        """See `execute`."""
        self.statements += 1
        fit = [chain for chain in chains.values() if self.stands(chain)]
        if any(self.known(entry) is not None for chain in fit for entry in chain):
            return None
        for chain in fit:
            for entry in chain:
                events = self.store.streams[entry.room].events
                events += [
                    StoredEvent(offset, entry.version, data)
                    for offset, data in enumerate(entry.events, len(events) + 1)
                ]
                if entry.facts is not None:
                    self.store.streams[entry.room].facts = entry.facts
                self.store.keys[entry.key] = Found(len(events), entry.digest)
        return {room: self.standing(chain[0]) for room, chain in chains.items() if chain not in fit}

    def standing(self, entry: Append) -> Standing:
        """Where a room stands that was not moved."""
        events = self.store.streams[entry.room].events
        missed = events[entry.expected : entry.expected + MISSED_AT_MOST]
        return Standing(len(events), self.known(entry), tuple(missed))


class SimulatedLog(MemoryEventLog):
    """One server's event log. While `cut_until` lies ahead, nothing comes through."""

    def __init__(self, database: Database, process: Process, world: Process) -> None:
        super().__init__(database.store)
        self._database = database
        self._process = process
        self._world = world
        self._group = GroupCommit(self._commit, interval=0.002)
        self.cut_until = 0.0

    async def _trip(self, deadline: float) -> None:
        """One way through the network; raises `LogUnavailable` when that takes too long."""
        await self._pause(self._database.latency())
        while (wait := self.cut_until - self._process.time()) > 0:
            left = deadline - self._process.time()
            if left <= 0:
                raise LogUnavailable("The log was not reached.", "The database is away.")
            await self._pause(min(wait, left))

    async def _pause(self, seconds: float) -> None:
        future = self._process.create_future()
        timer = self._process.call_later(seconds, future.set_result, None)
        try:
            await future
        finally:
            timer.cancel()

    # Appends

    def _commit(self, batch: list[Append], finished: Callable[[Appended], None]) -> None:
        task = self._process.create_task(self._write(batch, finished))
        self._writing = task

    async def _write(self, entries: list[Append], finished: Callable[[Appended], None]) -> None:
        batch = Batch(entries)
        await self._settle(batch)
        finished(batch.outcomes)

    async def _settle(self, batch: Batch) -> None:
        deadline = self._process.time() + PATIENCE_SECONDS
        unsure = False
        while batch.waiting:
            batch.begin_round()
            sent = False
            try:
                await self._trip(deadline)
                fate = self._database.fate()
                sent = fate != "lost"
                refused = self._send(batch, fate)
                await self._trip(deadline)
                await self._decide(batch, refused, deadline, unsure=unsure)
            except (ConnectionError, LogUnavailable):
                unsure = unsure or sent
                batch.send_again()
                if self._process.time() + NOTICED_SECONDS >= deadline:
                    batch.refuse_rest(LogUnavailable("It is not known whether it was saved."))
                    return
                await self._pause(NOTICED_SECONDS)

    def _send(self, batch: Batch, fate: CommitFate) -> dict[str, Standing] | None:
        if fate == "late":
            chains = {
                room: [batch.entries[index] for index in chain]
                for room, chain in batch.chains.items()
            }
            delay = 10 * self._database.latency()
            self._world.call_later(delay, self._database.execute_chains, chains)
        if fate in {"done", "unanswered"}:
            refused = self._database.execute(batch)
            if fate == "done":
                return refused
        raise ConnectionError

    async def _decide(
        self,
        batch: Batch,
        refused: dict[str, Standing] | None,
        deadline: float,
        *,
        unsure: bool,
    ) -> None:
        if refused is None:
            batch.send_again()
            batch.keys_repeat = True
            await self._take_out_known(batch, deadline, unsure=unsure)
            return
        batch.chains = {room: batch.chains[room] for room in refused}
        firsts = {chain[0]: room for room, chain in batch.chains.items()}
        batch.send_again()
        if unsure and firsts:
            await self._take_out_known(batch, deadline, unsure=True)
        for index in sorted(firsts.keys() & set(batch.waiting)):
            batch.refuse_unmoved(index, refused[firsts[index]])

    async def _take_out_known(self, batch: Batch, deadline: float, *, unsure: bool) -> None:
        await self._trip(deadline)
        known = {index: self._database.known(batch.entries[index]) for index in batch.waiting}
        await self._trip(deadline)
        waiting: list[int] = []
        repeated: list[tuple[int, Found]] = []
        for index, found in known.items():
            entry = batch.entries[index]
            if found is None:
                waiting.append(index)
            elif not (unsure and found.offset == entry.last and self._is_stored(entry)):
                waiting.append(index)
                repeated.append((index, found))
        batch.waiting = waiting
        for index, earlier in reversed(repeated):
            batch.refuse(index, DuplicateCommand(batch.entries[index].room, earlier))

    def _is_stored(self, entry: Append) -> bool:
        stored = self.store.streams[entry.room].events[entry.last - 1]
        return stored.data == entry.events[-1]

    # Questions

    async def _there(self) -> float:
        deadline = self._process.time() + PATIENCE_SECONDS
        await self._trip(deadline)
        return deadline

    async def head(self, room: str) -> Head | None:
        """See the contract."""
        deadline = await self._there()
        found = await super().head(room)
        await self._trip(deadline)
        return found

    async def heads(self, rooms: Sequence[str]) -> dict[str, Head]:
        """See the contract."""
        deadline = await self._there()
        streams = self.store.streams
        found = {
            room: Head(streams[room].epoch, len(streams[room].events))
            for room in rooms
            if room in streams
        }
        await self._trip(deadline)
        return found

    async def read(self, room: str, *, after: int, limit: int) -> list[StoredEvent]:
        """See the contract."""
        deadline = await self._there()
        rows = await super().read(room, after=after, limit=limit)
        await self._trip(deadline)
        return rows

    async def find(self, room: str, key: bytes) -> Found | None:
        """See the contract."""
        deadline = await self._there()
        found = await super().find(room, key)
        await self._trip(deadline)
        return found

    async def snapshot_at(self, room: str, offset: int) -> Snapshot | None:
        """See the contract."""
        deadline = await self._there()
        found = await super().snapshot_at(room, offset)
        await self._trip(deadline)
        return found

    async def save_snapshot(self, room: str, snapshot: Snapshot) -> None:
        """See the contract."""
        await self._there()
        await super().save_snapshot(room, snapshot)
