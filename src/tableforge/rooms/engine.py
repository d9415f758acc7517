"""The command path: load the room, decide, append, and once that is durable fold, publish and answer.

No task, no lock and no future on the way of a command whose room is in memory: one loop turn decides, the log's callback
does the rest. Everything else (loading, recovery, listings) may wait.
"""

import asyncio
import contextlib
import secrets
import time
from bisect import insort
from collections.abc import Callable, Coroutine, Sequence
from hashlib import blake2b
from itertools import count
from typing import Any

import msgspec
import structlog

from tableforge.domain.commands import Command, HouseCommand, OpenRoom
from tableforge.domain.decider import evolve, result_of
from tableforge.domain.state import Given, Room
from tableforge.errors import IdempotencyMismatch, TableForgeError, TooMany, Unavailable
from tableforge.eventlog import (
    DuplicateCommand,
    EventLog,
    Found,
    StoredEvent,
    StreamMissing,
    VersionConflict,
)
from tableforge.protocol import codec
from tableforge.rooms.cached import CachedRooms
from tableforge.rooms.decided import FACTUAL, Decided, decided_on
from tableforge.rooms.given import Clock, Randomness
from tableforge.rooms.limits import TokenBuckets
from tableforge.rooms.live import Answer, Entry, LiveRoom, Peers, Publish, Reply, Waiting
from tableforge.rooms.loading import PAGE, Pause, load
from tableforge.rooms.turns import Pace, Turns
from tableforge.rooms.views import Ring, view
from tableforge.telemetry import COMMANDS, COUNTERS, MESSAGES

CONTENTION_SECONDS = 5.0
"""How long a command is decided anew when what it was decided on is not what the log holds."""

WAITING_MAX = 5_000
"""Commands of one room that may wait while it catches up with its log."""

UNLOADED_WITHOUT_SNAPSHOT = 100
"""A room with fewer new events than this is folded from its last snapshot quickly enough."""

LEFT_SECONDS = 3.0
"""How long an instance that ends gives to handing its rooms to the cache."""

log = structlog.get_logger(__name__)


class RoomBounds(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of the rooms in memory; each is a setting."""

    recent_events: int
    recent_bytes: int
    snapshot_every: int
    in_memory: int
    idle_seconds: float
    commands_rate: float
    commands_burst: float


def command_key(room: str, user: str, command_id: str) -> bytes:
    """What identifies a command for ever: a digest over (room, member, command id)."""
    return blake2b(f"{room}\0{user}\0{command_id}".encode(), digest_size=16).digest()


def body_digest(command: Command | HouseCommand) -> bytes:
    """A digest of what the command asks for, so that an id cannot be used for two different things."""
    return blake2b(codec.encode(command), digest_size=8).digest()


def mismatch(command_id: str) -> IdempotencyMismatch:
    """The refusal of an id that stands for another command already."""
    return IdempotencyMismatch(
        "The command was not carried out.",
        f"Its id {command_id!r} was used before for another command.",
        "Give each new command an id of its own.",
    )


def waiting(entry: Entry) -> Waiting:
    """The command of an entry, to be decided anew in its place."""
    return Waiting(entry.number, entry.user, entry.command, entry.answers, entry.began)


BUSY = Unavailable(
    "The command was not carried out.", "The room is busy, or is being closed.", "Send it again."
)
"""The answer when a room cannot keep up."""

REACHING_ATTEMPTS = 100
"""How often the log is read again when what is known to be there does not come."""


class RoomEngine:
    """The rooms in memory. `publish` hears of every durable event, in order, before its command is answered;
    `listened` tells whether anybody is connected to a room, `invalidated` sends them back for a snapshot; `peers` are the other instances that append to the same log."""

    def __init__(
        self,
        log: EventLog,
        cached: CachedRooms,
        bounds: RoomBounds,
        *,
        publish: Publish,
        listened: Callable[[str], bool],
        invalidated: Callable[[str], None],
        peers: Peers | None = None,
    ) -> None:
        self._log = log
        self._cached = cached
        self._happened = cached.happened
        self._invalidated = invalidated
        self._peers = peers
        self._origin = peers.origin if peers is not None else ""
        self._appends = Pace()
        self._numbers = count(1)
        self._bounds = bounds
        self._publish = publish
        self._listened = listened
        self._live: dict[str, LiveRoom] = {}
        self._opening: dict[str, asyncio.Task[LiveRoom]] = {}
        self._chores: set[asyncio.Task[None]] = set()
        self._random = Randomness()
        self._clock = Clock()
        self._buckets = TokenBuckets(rate=bounds.commands_rate, burst=bounds.commands_burst)

    # The command path

    def execute(
        self, live: LiveRoom, user: str, command: Command | HouseCommand, answer: Answer
    ) -> None:
        """Carry out one command on a room in memory; `answer` is called once, when it is durable or refused."""
        now = time.monotonic()
        live.used = now
        if not self._buckets.take((live.id, user), now):
            answer(
                TooMany(
                    "The command was not carried out.",
                    "Too many commands came from you in a short time.",
                    "Send it again in a moment.",
                )
            )
            return
        one = Waiting(next(self._numbers), user, command, [answer], now)
        if live.dropped or len(live.waiting) + len(live.held) >= WAITING_MAX:
            self._refuse(one, BUSY)
        elif live.waiting or live.behind is not None or self._pause(live, now):
            live.waiting.append(one)
            self._drain(live)
        else:
            self._admit(live, one)

    def _pause(self, live: LiveRoom, now: float) -> float:
        """How long until this instance may write to the room, in seconds."""
        return live.turns.wait(now) if live.turns is not None else 0.0

    def _again(self, live: LiveRoom, ones: Sequence[Waiting]) -> None:
        """Have commands decided anew, before those that came after them."""
        for one in ones:
            if live.dropped:
                self._refuse(one, BUSY)
            else:
                insort(live.waiting, one, key=lambda waiting: waiting.number)
        self._drain(live)

    def _drain(self, live: LiveRoom) -> None:
        """Decide what waits, unless something keeps it waiting."""
        if live.timer is not None:
            live.timer.cancel()
            live.timer = None
        if live.behind is not None or not live.waiting:
            return
        pause = self._pause(live, time.monotonic())
        if pause:
            live.timer = asyncio.get_running_loop().call_later(pause, self._drain, live)
            return
        waiting, live.waiting = live.waiting, []
        for one in waiting:
            self._admit(live, one)

    def _admit(self, live: LiveRoom, one: Waiting) -> None:
        """Decide a command, unless it is the repeat of one that is known, or stands behind a doubtful one of its user."""
        doubted = live.doubted.get(one.user)
        if doubted and one.number > min(doubted):
            live.held.append(one)
            return
        prior = live.recent.get((one.user, one.command.id))
        if prior is not None:
            outcome: Reply | TableForgeError
            if prior.digest != body_digest(one.command):
                outcome = mismatch(one.command.id)
            elif isinstance(prior, Entry):
                prior.answers.extend(one.answers)
                return
            else:
                outcome = prior.reply
            for answer in one.answers:
                answer(outcome)
        elif live.dropped:
            self._refuse(one, BUSY)
        else:
            self._decide(live, one)

    def _refuse(self, one: Waiting, refusal: TableForgeError) -> None:
        for answer in one.answers:
            answer(refusal)

    def _given(self, user: str) -> Given:
        return Given(user, self._clock.now(), self._random.draw())

    def _decide(self, live: LiveRoom, one: Waiting, decided: Decided | None = None) -> None:
        user, command = one.user, one.command
        if decided is None:
            decided = decided_on(live.head, command, self._given(user))
        if decided.refusal is not None or not decided.events:
            self._doubt(live, one)
            self._chore(self._answer_unappended(live, one, decided.refusal, live.head, live.life))
            return
        entry = Entry(
            live.id,
            live.head.version,
            codec.EVENT_FORM,
            decided.datas,
            command_key(live.id, user, command.id),
            body_digest(command),
            self._appended,  # type: ignore[arg-type]  # the log hands back what it was given
            decided.facts,
            live.epoch if live.head.version == 0 else None,
            live=live,
            user=user,
            command=command,
            happened=decided.events,
            after=decided.after,
            viewed=decided.viewed,
            answers=one.answers,
            began=one.began,
            life=live.life,
            known=live.durable.version,
            number=one.number,
            sent=time.monotonic(),
        )
        live.head = decided.after
        live.pending.append(entry)
        if live.turns is not None:
            live.turns.wrote(self._origin, entry.sent)
        live.recent[user, command.id] = entry
        self._log.append_nowait(entry)

    def _doubt(self, live: LiveRoom, one: Waiting) -> None:
        """Hold back what its user sends behind a command that may have to be decided anew, until it is answered."""
        doubted = live.doubted.setdefault(one.user, set())
        if one.number in doubted:
            return
        doubted.add(one.number)

        def answered(outcome: Reply | TableForgeError) -> None:
            doubted.discard(one.number)
            if not doubted:
                live.doubted.pop(one.user, None)
            theirs = [held for held in live.held if held.user == one.user]
            if theirs:
                live.held = [held for held in live.held if held.user != one.user]
                self._again(live, theirs)

        one.answers.append(answered)

    def _appended(self, entry: Entry, failure: TableForgeError | None) -> None:
        live = entry.live
        # The first, unless it is refused because too many wait for the disk.
        live.pending.remove(entry)
        if entry.superseded:
            return
        if failure is not None:
            self._failed(entry, failure)
            return
        if entry.facts is not None:
            self._cached.changed(live.durable, entry.after)
        else:
            self._happened(live.tag)
        live.durable = entry.after
        publish = self._publish
        if live.dropped:
            self._appended_to_dropped(entry)
            return
        for viewed, event in zip(entry.viewed, entry.happened, strict=True):
            live.ring.append(viewed)
            publish(live, viewed, event)
        COUNTERS.room_events += len(entry.viewed)
        MESSAGES.observe(time.monotonic() - entry.began)
        reply = Reply(entry.last, result_of(entry.happened))
        live.remember(entry, reply)
        for answer in entry.answers:
            answer(reply)
        COMMANDS.observe(time.monotonic() - entry.began)
        if self._peers is not None:
            self._peers.appended(entry)
            if entry.opens is not None:
                self._chore(self._cached.place(live))
        if live.turns is not None:
            now = time.monotonic()
            self._appends.took(now - entry.sent)
            live.turns.wrote(self._origin, now)
        if live.wanted > entry.last:
            self.follow(live, live.wanted)  # what stood behind our own event
        # Of all instances, the one whose command passes the mark saves.
        every = self._bounds.snapshot_every
        if entry.last // every > entry.expected // every:
            self._chore(self._cached.save(live))

    def _appended_to_dropped(self, entry: Entry) -> None:
        """A command ended after its room left memory: whoever holds the room by now reads it from the log."""
        now_live = self._live.get(entry.room)
        if now_live is not None:
            self.follow(now_live, entry.last)
        if self._peers is not None:
            self._peers.appended(entry)
        for answer in entry.answers:
            answer(Reply(entry.last, result_of(entry.happened)))

    def _failed(self, entry: Entry, failure: TableForgeError) -> None:
        live = entry.live
        live.recent.pop((entry.user, entry.command.id), None)
        behind: list[Waiting] = []
        if entry.life == live.life:
            live.give_up()
            # What was built on it will be refused as well, but later: what comes meanwhile must not get in front of it.
            stale = isinstance(failure, DuplicateCommand | VersionConflict)
            behind = self._withdraw(live, unsent_only=not stale)
        if isinstance(failure, DuplicateCommand):
            self._chore(self._answer_repeat(entry, failure.found))
            self.follow(live, failure.found.offset)
            self._again(live, behind)
        elif not isinstance(failure, VersionConflict):
            self._refuse(waiting(entry), failure)
            self._again(live, behind)
        elif live.dropped or (now := time.monotonic()) - entry.began > CONTENTION_SECONDS:
            self._refuse(waiting(entry), BUSY)
            self._again(live, behind)
        elif failure.actual < entry.known:
            self._refuse(waiting(entry), BUSY)
            self.log_lost(live)
            self._again(live, behind)
        else:
            if failure.actual > entry.known:
                COUNTERS.room_conflicts += 1
                if live.turns is not None:
                    live.turns.collided(now)
            overtaken = self._advance(live, failure.missed)
            # Of one that was withdrawn nobody asked where the log ends.
            if failure.actual > entry.expected:
                self.follow(live, failure.actual)
            self._again(live, [waiting(entry), *behind, *overtaken])
        if not live.durable.version and not live.pending:
            self.drop(live)  # its very first command failed: there is no such room

    # What other writers appended

    def apply(self, live: LiveRoom, rows: Sequence[StoredEvent], origin: str = "") -> None:
        """Fold and publish what others appended, as far as it follows on what the room holds.

        Commands that were decided on what is now out of date are decided anew, in their order. `origin` names the instance
        that appended it, if that is known.
        """
        if origin and live.turns is not None:
            live.turns.wrote(origin, time.monotonic())
        self._again(live, self._advance(live, rows))

    def wrote(self, live: LiveRoom, origin: str) -> None:
        """Another instance's append became known: it may be our turn to write now."""
        if live.turns is not None:
            live.turns.wrote(origin, time.monotonic())
            if live.waiting:
                self._drain(live)

    def _advance(self, live: LiveRoom, rows: Sequence[StoredEvent]) -> list[Waiting]:
        """Fold and publish; returns the commands that must be decided anew because of it.

        With what cannot be folded, such as an event of a later release, the room leaves memory: nobody may be left
        waiting on it, and whoever opens it anew is told why.
        """
        overtaken: list[Waiting] = []
        try:
            self._fold(live, rows, overtaken)
        except Exception as error:
            log.error("an event could not be folded", room=live.id, exc_info=error)
            self.invalidate(live)
        return overtaken

    def _fold(self, live: LiveRoom, rows: Sequence[StoredEvent], overtaken: list[Waiting]) -> None:
        for row in rows:
            before = live.durable
            if row.offset <= before.version:
                continue
            event = codec.decode_event(row.version, row.data)
            mine = next((one for one in live.pending if not one.superseded), None)
            if row.offset > before.version + 1 or (
                mine is not None and (mine.command.id, mine.user) == (event.id, event.by)
            ):
                # A gap; or our own command, of whose outcome we are about to hear.
                break
            after = evolve(before, event)
            viewed = view(before, event, after, row.data)
            live.durable = after
            if live.head is before:
                live.head = after
            else:
                overtaken += self._withdraw(live)
                live.give_up()
            live.ring.append(viewed)
            if isinstance(event, FACTUAL):
                self._cached.changed(before, after)
            else:
                self._cached.heard(live)
            self._publish(live, viewed, event)

    def _withdraw(self, live: LiveRoom, *, unsent_only: bool = False) -> list[Waiting]:
        """Take back what is on its way; returns its commands, to be decided anew.

        `unsent_only` leaves out what failed together with what was built on: it is told so itself.
        """
        ours = [entry for entry in live.pending if not entry.superseded]
        taken = [entry for entry in ours if entry.withdrawn] if unsent_only else ours
        if taken:
            # The log must take nothing that is decided anew for built on these.
            for entry in ours:
                entry.withdrawn = True
        for entry in taken:
            entry.superseded = True
            live.recent.pop((entry.user, entry.command.id), None)
        return [waiting(entry) for entry in taken]

    def follow(self, live: LiveRoom, upto: int) -> None:
        """Read from the log what the room lacks up to an offset; its commands wait meanwhile."""
        if live.durable.version >= upto or live.dropped:
            return
        live.wanted = max(live.wanted, upto)
        if live.behind is None:
            live.behind = asyncio.get_running_loop().create_task(self._follow(live))
            self._keep(live.behind)

    async def _follow(self, live: LiveRoom) -> None:
        refusal: TableForgeError | None = None
        pause = Pause()
        try:
            while live.durable.version < live.wanted and not live.dropped:
                known, wanted = live.durable.version, live.wanted
                rows = await self._log.read(live.id, after=known, limit=PAGE)
                if rows and rows[0].offset > known + 1:
                    self.invalidate(live)  # it lagged until what it lacks was taken away
                    break
                self.apply(live, rows)
                if not rows and live.wanted == wanted:
                    live.wanted = known  # whoever spoke of more was wrong
                elif rows and live.durable.version == known:
                    break  # it is our own command that stands next, or the room is gone
                await pause.now_and_then()
        except TableForgeError as unavailable:
            refusal = unavailable
        finally:
            live.behind = None
            if refusal is not None:
                refused, live.waiting = live.waiting, []
                for one in refused:
                    self._refuse(one, refusal)
            self._drain(live)

    async def reach(self, live: LiveRoom, offset: int) -> None:
        """Return once the room holds everything up to an offset that the log is known to hold, or has left memory.

        Raises `Unavailable` when the log does not give it.
        """
        for _ in range(REACHING_ATTEMPTS):
            if live.durable.version >= offset or live.dropped:
                return
            self.follow(live, offset)
            if live.behind is not None:
                await asyncio.shield(live.behind)
            mine = next((entry for entry in live.pending if not entry.superseded), None)
            if mine is not None and live.durable.version < offset:
                await self._outcome_of(mine)  # it may be what stands next in the log
        if live.durable.version < offset and not live.dropped:
            raise BUSY

    async def _outcome_of(self, entry: Entry) -> None:
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def answer(outcome: Reply | TableForgeError) -> None:
            if not ended.done():
                ended.set_result(None)

        entry.answers.append(answer)
        await ended

    # Answers to what appends nothing

    async def _answer_unappended(
        self,
        live: LiveRoom,
        one: Waiting,
        refusal: TableForgeError | None,
        decided_on: Room,
        life: int,
    ) -> None:
        """A refused command, or one that changes nothing, may be the repeat of one that the log knows, or have been
        decided on what another instance has changed meanwhile, or on what never came to be."""
        outcome: Reply | TableForgeError
        try:
            found = await self._log.find(live.id, command_key(live.id, one.user, one.command.id))
            if found is not None:
                outcome = await self._first_reply(live.id, one.command, found)
            else:
                if self._peers is not None and not one.sure:
                    await self._peers.caught_up(live)
                    if live.head is not decided_on:
                        # In its place: what its user sent before it may have been taken back meanwhile, and wait.
                        self._again(live, [one._replace(sure=True)])
                        return
                if live.life != life:
                    self._decide_anew(live, one)
                    return
                outcome = refusal or Reply(decided_on.version)
                ahead = next((entry for entry in live.pending if entry.after is decided_on), None)
                if ahead is not None:
                    self._answer_behind(ahead, one, outcome)
                    return
        except TableForgeError as failure:
            outcome = failure
        for answer in one.answers:
            answer(outcome)
        COMMANDS.observe(time.monotonic() - one.began)

    def _answer_behind(self, entry: Entry, one: Waiting, outcome: Reply | TableForgeError) -> None:
        """Answer a command that changed nothing once what it was decided on is durable, or decide it anew.

        It may be somebody else's entry: of its outcome nothing is the sender's business.
        """

        def ended(of_entry: Reply | TableForgeError) -> None:
            # The entry's command may have been carried out after all, but behind something else.
            if isinstance(of_entry, TableForgeError) or entry.live.durable is not entry.after:
                self._decide_anew(entry.live, one)
            else:
                for answer in one.answers:
                    answer(outcome)

        entry.answers.append(ended)

    def _decide_anew(self, live: LiveRoom, one: Waiting) -> None:
        """What a command was decided on never came to be."""
        if time.monotonic() - one.began > CONTENTION_SECONDS:
            self._refuse(one, BUSY)
        else:
            self._again(live, [one])

    async def _answer_repeat(self, entry: Entry, found: Found) -> None:
        outcome: Reply | TableForgeError
        try:
            outcome = await self._first_reply(entry.room, entry.command, found)
        except TableForgeError as failure:
            outcome = failure
        for answer in entry.answers:
            answer(outcome)

    async def _first_reply(
        self, room: str, command: Command | HouseCommand, found: Found
    ) -> Reply | TableForgeError:
        if found.digest != body_digest(command):
            return mismatch(command.id)
        stored = await self._log.read(room, after=max(0, found.offset - 16), limit=16)
        events = [
            codec.decode_event(row.version, row.data)
            for row in stored
            if row.offset <= found.offset
        ]
        if not events:
            raise StreamMissing(room)
        last = events[-1]
        made = tuple(event for event in events if event.id == command.id and event.by == last.by)
        return Reply(found.offset, result_of(made))

    def _chore(self, work: Coroutine[Any, Any, None]) -> None:
        self._keep(asyncio.get_running_loop().create_task(work))

    def _keep(self, task: "asyncio.Task[None]") -> None:
        self._chores.add(task)
        task.add_done_callback(self._chore_done)

    def _chore_done(self, task: "asyncio.Task[None]") -> None:
        self._chores.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a background task of the rooms failed", error=repr(error))

    # Rooms in and out of memory

    async def prepared(self, user: str, command: OpenRoom) -> Decided:
        """What a room's first command comes to, worked out beside the loop: one with a layout may take long."""
        return await asyncio.to_thread(decided_on, Room(command.room), command, self._given(user))

    def create(
        self, user: str, command: OpenRoom, answer: Answer, decided: Decided | None = None
    ) -> None:
        """Begin a room's log with its first command, `prepared` or not; refused if there is such a room already.

        Raises `Unavailable` when as many rooms as may be are in use.
        """
        if len(self._live) >= self._bounds.in_memory:
            self._make_place()
        room = Room(command.room)
        live = LiveRoom(
            room,
            epoch=secrets.token_hex(8),
            server="" if self._peers is None else None,
            ring=self._ring(),
            saved=0,
            now=time.monotonic(),
            turns=self._turns(),
        )
        self._hold(live)
        self._decide(
            live, Waiting(next(self._numbers), user, command, [answer], live.used), decided
        )

    def live_nowait(self, room: str) -> LiveRoom | None:
        """The room if it is in memory."""
        return self._live.get(room)

    def _hold(self, live: LiveRoom) -> None:
        self._live[live.id] = live
        if self._peers is not None:
            self._peers.opened(live)

    @property
    def alone(self) -> bool:
        """Whether nobody else appends to the log: what is in memory is all there is."""
        return self._peers is None

    def rooms(self) -> list[LiveRoom]:
        """The rooms in memory."""
        return list(self._live.values())

    async def open(self, room: str) -> LiveRoom:
        """The room, loaded from the log if need be; one load at a time for each room.

        It holds whatever was acknowledged before the call, by whichever instance. Raises `StreamMissing`, or `Unavailable`
        when as many rooms as may be are in use.
        """
        while True:
            live = self._live.get(room)
            if live is not None and live.durable.version > 0:
                if self._peers is None:
                    return live
                await self._peers.caught_up(live)
                if not live.dropped:
                    return live
            elif (task := self._opening.get(room)) is not None:
                # It began before this call, and may have read the log before what was acknowledged since.
                await asyncio.shield(task)
            else:
                task = asyncio.get_running_loop().create_task(self._load(room))
                self._opening[room] = task
                task.add_done_callback(lambda _: self._opening.pop(room, None))
                return await asyncio.shield(task)

    async def _load(self, room: str) -> LiveRoom:
        loaded = await load(
            *(self._log, self._cached, room, self._ring()),
            snapshot_every=self._bounds.snapshot_every,
        )
        if loaded is None:
            raise StreamMissing(room)  # a room that is none takes nobody's place
        if len(self._live) >= self._bounds.in_memory:
            self._make_place()
        live = LiveRoom(
            loaded.room,
            epoch=loaded.epoch,
            server=loaded.server,
            ring=loaded.ring,
            saved=loaded.saved,
            now=time.monotonic(),
            turns=self._turns(),
        )
        self._hold(live)
        return live

    def _turns(self) -> Turns | None:
        return Turns(self._origin, self._appends) if self._peers is not None else None

    def _ring(self) -> Ring:
        return Ring(self._bounds.recent_events, self._bounds.recent_bytes)

    def _make_place(self) -> None:
        idle = [live for live in self._live.values() if not self._busy(live)]
        if not idle:
            raise Unavailable(
                "The room was not opened.",
                f"{len(self._live)} rooms are in use on this server, as many as ROOMS_IN_MEMORY allows.",
                "Try again later, or raise ROOMS_IN_MEMORY.",
            )
        self._unload(min(idle, key=lambda live: live.used))

    def _busy(self, live: LiveRoom) -> bool:
        return bool(live.pending or live.waiting or live.held or live.behind) or self._listened(
            live.id
        )

    def drop(self, live: LiveRoom) -> None:
        """Take a room out of memory. What is under way for it is still answered, but no longer tried again."""
        live.dropped = True
        if self._live.get(live.id) is live:
            del self._live[live.id]
            if self._peers is not None:
                self._peers.closed(live)

    def invalidate(self, live: LiveRoom) -> None:
        """Take a room out of memory that is not what the log holds; whoever listens begins anew with a snapshot."""
        self.drop(live)
        self._invalidated(live.id)

    def log_lost(self, live: LiveRoom) -> None:
        """The log ends before what it once acknowledged, as after a fail-over to a late standby: begin another life of it,
        so that nobody takes the new events for those that are lost."""
        log.error("the log lost its tail", room=live.id, held=live.durable.version)
        self.invalidate(live)
        self._chore(self._log.renew_epoch(live.id, secrets.token_hex(8)))

    def sweep(self) -> None:
        """Take the rooms out of memory that nobody has used for a while, each with a snapshot of its last state."""
        oldest = time.monotonic() - self._bounds.idle_seconds
        for live in [
            room for room in self._live.values() if room.used < oldest and not self._busy(room)
        ]:
            self._unload(live)

    def _unload(self, live: LiveRoom) -> None:
        self.drop(live)
        if live.durable.version - live.saved >= UNLOADED_WITHOUT_SNAPSHOT:
            self._chore(self._cached.save(live))
        else:
            self._chore(self._cached.keep(live))

    @property
    def rooms_in_memory(self) -> int:
        """How many rooms are in memory."""
        return len(self._live)

    async def close(self) -> None:
        """Wait for what is under way, at most ten seconds, and leave the rooms to the other instances' cache."""
        async with asyncio.timeout(10):
            await self._log.wait_for_idle()
            while self._chores:
                await asyncio.wait(set(self._chores))
        if self._peers is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LEFT_SECONDS):
                    await self._leave()

    async def _leave(self) -> None:
        pause = Pause()
        for live in sorted(self._live.values(), key=lambda live: -live.used):
            await self._cached.keep(live)
            await pause.now_and_then()
