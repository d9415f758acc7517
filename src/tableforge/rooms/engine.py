"""The command path: load the room, decide, append, and once that is durable fold, publish and answer.

No task, no lock and no future on the way of a command whose room is in memory: one loop turn decides, the log's callback
does the rest. Everything else (loading, recovery, listings) may wait.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import msgspec
import structlog

from tableforge.domain.commands import Command, HouseCommand, OpenRoom
from tableforge.domain.decider import decide, evolve, result_of
from tableforge.domain.events import (
    Event,
    MemberChanged,
    MemberJoined,
    MemberRemoved,
    RoomChanged,
    RoomCreated,
)
from tableforge.domain.state import Given, Room
from tableforge.errors import IdempotencyMismatch, TableForgeError, TooMany, Unavailable
from tableforge.eventlog import (
    DuplicateCommand,
    EventLog,
    Facts,
    Found,
    Snapshot,
    StreamMissing,
    VersionConflict,
)
from tableforge.protocol import codec
from tableforge.rooms.limits import TokenBuckets
from tableforge.rooms.live import Answer, Entry, LiveRoom, Publish, Reply
from tableforge.rooms.loading import load
from tableforge.rooms.views import Ring, Viewed, view
from tableforge.telemetry import COMMANDS, COUNTERS, MESSAGES

ATTEMPTS = 5
"""How often a command is decided anew when what it was decided on did not reach the disk."""

UNLOADED_WITHOUT_SNAPSHOT = 100
"""A room with fewer new events than this is folded from its last snapshot quickly enough."""

FACTUAL = (RoomCreated, RoomChanged, MemberJoined, MemberChanged, MemberRemoved)
"""Events after which listings know something new."""

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


class Randomness:
    """Fresh random bytes for decisions, drawn from the system in blocks to spare a system call for each command."""

    SIZE = 16
    BLOCK = 4096

    def __init__(self) -> None:
        self._block = b""
        self._at = 0

    def draw(self) -> bytes:
        """16 bytes that nobody has seen before."""
        if self._at >= len(self._block):
            self._block, self._at = secrets.token_bytes(self.BLOCK), 0
        self._at += self.SIZE
        return self._block[self._at - self.SIZE : self._at]


class Clock:
    """The time as events carry it: RFC 3339, UTC, milliseconds; formatted once a millisecond."""

    def __init__(self) -> None:
        self._millisecond = 0
        self._text = ""

    def now(self) -> str:
        """The present time."""
        millisecond = time.time_ns() // 1_000_000
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            moment = datetime.fromtimestamp(millisecond / 1000, UTC)
            self._text = moment.isoformat(timespec="milliseconds")[:-6] + "Z"
        return self._text


def command_key(room: str, user: str, command_id: str) -> bytes:
    """What identifies a command for ever: a digest over (room, member, command id)."""
    return blake2b(f"{room}\0{user}\0{command_id}".encode(), digest_size=16).digest()


def body_digest(command: Command | HouseCommand) -> bytes:
    """A digest of what the command asks for, so that an id cannot be used for two different things."""
    return blake2b(codec.encode(command), digest_size=8).digest()


def facts_of(room: Room) -> Facts:
    """What listings know of this room."""
    seats = tuple((member.id, member.role) for member in room.members.values())
    return Facts(room.name, room.visibility, room.tags, seats)


def mismatch(command_id: str) -> IdempotencyMismatch:
    """The refusal of an id that stands for another command already."""
    return IdempotencyMismatch(
        "The command was not carried out.",
        f"Its id {command_id!r} was used before for another command.",
        "Give each new command an id of its own.",
    )


class RoomEngine:
    """The rooms in memory. `publish` hears of every durable event, in order, before its command is answered;
    `listened` tells whether anybody is connected to a room."""

    def __init__(
        self,
        log: EventLog,
        bounds: RoomBounds,
        *,
        publish: Publish,
        listened: Callable[[str], bool],
    ) -> None:
        self._log = log
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
        prior = live.recent.get((user, command.id))
        if prior is not None:
            if prior.digest != body_digest(command):
                answer(mismatch(command.id))
            elif isinstance(prior, Entry):
                prior.answers.append(answer)
            else:
                answer(prior.reply)
            return
        self._decide(live, user, command, [answer], now, attempts=0)

    def _decide(
        self,
        live: LiveRoom,
        user: str,
        command: Command | HouseCommand,
        answers: list[Answer],
        began: float,
        attempts: int,
    ) -> None:
        room = live.head
        given = Given(user, self._clock.now(), self._random.draw())
        datas: list[bytes] = []
        viewed: list[Viewed] = []
        facts: Facts | None = None
        refusal: TableForgeError | None = None
        events: tuple[Event, ...] = ()
        try:
            events = decide(room, command, given)
            for event in events:
                after = evolve(room, event)
                data = codec.encode(event)
                datas.append(data)
                viewed.append(view(room, event, after, data))
                if isinstance(event, FACTUAL):
                    facts = facts_of(after)
                room = after
        except TableForgeError as refused:
            refusal = refused
        except Exception as error:  # a mistake in a rule must not take the other rooms along
            log.error("a command could not be decided", kind=type(command).__name__, exc_info=error)
            refusal = Unavailable("The command was not carried out.", "The server made a mistake.")
        if refusal is not None or not events:
            self._chore(self._answer_unappended(live, user, command, answers, refusal, began))
            return
        entry = Entry(
            live.id,
            live.head.version,
            codec.EVENT_FORM,
            tuple(datas),
            command_key(live.id, user, command.id),
            body_digest(command),
            self._appended,  # type: ignore[arg-type]  # the log hands back what it was given
            facts,
            live.epoch if live.head.version == 0 else None,
            live=live,
            user=user,
            command=command,
            happened=events,
            after=room,
            viewed=viewed,
            answers=answers,
            began=began,
            life=live.life,
            attempts=attempts,
        )
        live.head = room
        live.pending.append(entry)
        live.recent[user, command.id] = entry
        self._log.append_nowait(entry)

    def _appended(self, entry: Entry, failure: TableForgeError | None) -> None:
        live = entry.live
        live.pending.popleft()
        if failure is not None:
            self._failed(entry, failure)
            return
        live.durable = entry.after
        publish = self._publish
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
        if live.durable.version - live.saved >= self._bounds.snapshot_every:
            self._chore(self._save(live))

    def _failed(self, entry: Entry, failure: TableForgeError) -> None:
        live = entry.live
        live.recent.pop((entry.user, entry.command.id), None)
        if entry.life == live.life:
            live.give_up()
        if isinstance(failure, DuplicateCommand):
            self._chore(self._answer_repeat(entry, failure.found))
        elif (
            isinstance(failure, VersionConflict) and entry.attempts < ATTEMPTS and not live.dropped
        ):
            self._decide(
                live, entry.user, entry.command, entry.answers, entry.began, entry.attempts + 1
            )
        else:
            if isinstance(failure, VersionConflict):
                failure = Unavailable(
                    "The command was not carried out.",
                    "The room was busy, or is being closed.",
                    "Send it again.",
                )
            for answer in entry.answers:
                answer(failure)
        if not live.durable.version and not live.pending:
            self.drop(live)  # its very first command failed: there is no such room

    async def _answer_unappended(
        self,
        live: LiveRoom,
        user: str,
        command: Command | HouseCommand,
        answers: list[Answer],
        refusal: TableForgeError | None,
        began: float,
    ) -> None:
        """A refused command, or one that changes nothing, may be the repeat of one that the log knows."""
        outcome: Reply | TableForgeError
        try:
            found = await self._log.find(live.id, command_key(live.id, user, command.id))
            if found is not None:
                outcome = await self._first_reply(live.id, command, found)
            elif refusal is not None:
                outcome = refusal
            elif live.pending:
                self._follow(live.pending[-1], user, command, answers, began)
                return
            else:
                outcome = Reply(live.durable.version)
        except TableForgeError as failure:
            outcome = failure
        for answer in answers:
            answer(outcome)
        COMMANDS.observe(time.monotonic() - began)

    def _follow(
        self,
        entry: Entry,
        user: str,
        command: Command | HouseCommand,
        answers: list[Answer],
        began: float,
    ) -> None:
        """Answer a command that changed nothing once what it was decided on is durable, or decide it anew.

        It may be somebody else's entry: of its outcome nothing but the offset is the sender's business.
        """

        def ended(outcome: Reply | TableForgeError) -> None:
            if isinstance(outcome, TableForgeError):
                self._decide(entry.live, user, command, answers, began, attempts=0)
            else:
                for answer in answers:
                    answer(Reply(outcome.offset))

        entry.answers.append(ended)

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
        task = asyncio.get_running_loop().create_task(work)
        self._chores.add(task)
        task.add_done_callback(self._chore_done)

    def _chore_done(self, task: "asyncio.Task[None]") -> None:
        self._chores.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a background task of the rooms failed", error=repr(error))

    # Rooms in and out of memory

    def create(self, user: str, command: OpenRoom, answer: Answer) -> None:
        """Begin a room's log with its first command; refused if there is such a room already.

        Raises `Unavailable` when as many rooms as may be are in use.
        """
        if len(self._live) >= self._bounds.in_memory:
            self._make_place()
        room = Room(command.room)
        live = LiveRoom(
            room, epoch=secrets.token_hex(8), ring=self._ring(), saved=0, now=time.monotonic()
        )
        self._live[room.id] = live
        self._decide(live, user, command, [answer], live.used, attempts=0)

    def live_nowait(self, room: str) -> LiveRoom | None:
        """The room if it is in memory."""
        return self._live.get(room)

    async def open(self, room: str) -> LiveRoom:
        """The room, loaded from the log if need be; one load at a time for each room.

        Raises `StreamMissing`, or `Unavailable` when as many rooms as may be are in use.
        """
        live = self._live.get(room)
        if live is not None and live.durable.version > 0:
            return live
        task = self._opening.get(room)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._load(room))
            self._opening[room] = task
            task.add_done_callback(lambda _: self._opening.pop(room, None))
        return await asyncio.shield(task)

    async def _load(self, room: str) -> LiveRoom:
        if len(self._live) >= self._bounds.in_memory:
            self._make_place()
        loaded = await load(self._log, room, self._ring())
        if loaded is None:
            raise StreamMissing(room)
        live = LiveRoom(
            loaded.room,
            epoch=loaded.epoch,
            ring=loaded.ring,
            saved=loaded.saved,
            now=time.monotonic(),
        )
        self._live[room] = live
        return live

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
        self.drop(min(idle, key=lambda live: live.used))

    def _busy(self, live: LiveRoom) -> bool:
        return bool(live.pending) or self._listened(live.id)

    def drop(self, live: LiveRoom) -> None:
        """Take a room out of memory. What is under way for it is still answered, but no longer tried again."""
        live.dropped = True
        if self._live.get(live.id) is live:
            del self._live[live.id]

    def sweep(self) -> None:
        """Take the rooms out of memory that nobody has used for a while, each with a snapshot of its last state."""
        oldest = time.monotonic() - self._bounds.idle_seconds
        for live in [
            room for room in self._live.values() if room.used < oldest and not self._busy(room)
        ]:
            self.drop(live)
            if live.durable.version - live.saved >= UNLOADED_WITHOUT_SNAPSHOT:
                self._chore(self._save(live))

    async def _save(self, live: LiveRoom) -> None:
        room = live.durable
        live.saved = room.version
        data = await asyncio.to_thread(codec.encode_room, room)
        await self._log.save_snapshot(room.id, Snapshot(room.version, codec.ROOM_FORM, data))

    @property
    def rooms_in_memory(self) -> int:
        """How many rooms are in memory."""
        return len(self._live)

    async def close(self) -> None:
        """Wait for what is under way, at most ten seconds."""
        async with asyncio.timeout(10):
            await self._log.wait_for_idle()
            while self._chores:
                await asyncio.wait(set(self._chores))
