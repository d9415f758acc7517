"""What is guarded: the stations of a command from its frame to every member's socket, each by itself, with its yardstick."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count as counting
from pathlib import Path
from typing import Any, cast

import msgspec
from uvloop import Loop
from websockets.frames import apply_mask  # type: ignore[attr-defined]  # its C code, or its Python

from tableforge.api.audience import Audience
from tableforge.api.websocket import header_at
from tableforge.database.sqlite import SqliteDatabase
from tableforge.domain.commands import Command
from tableforge.domain.decider import decide, evolve
from tableforge.domain.state import Given, Room
from tableforge.domain.visibility import Step
from tableforge.errors import TableForgeError
from tableforge.eventlog import Append, Appended, Facts
from tableforge.eventlog.group_commit import GroupCommit
from tableforge.eventlog.memory import MemoryEventLog
from tableforge.eventlog.sqlite import SqliteEventLog
from tableforge.hub.hub import Channel, Hub
from tableforge.hub.session import Session
from tableforge.protocol import codec
from tableforge.protocol.channels import room_channel
from tableforge.protocol.close_codes import CloseCode
from tableforge.protocol.frames import decode_client
from tableforge.rooms.engine import RoomBounds, RoomEngine
from tableforge.rooms.live import LiveRoom, Reply
from tableforge.rooms.views import Ring, Viewed, view
from tests.guard import references
from tests.local_cache import cached_rooms
from tests.table import ROOM, Table, opened

MEMBERS = 10
BATCH = 20
"""Appends of one commit, over as many rooms as there are members."""
UNBOUNDED = RoomBounds(
    recent_events=1000,
    recent_bytes=1_000_000,
    snapshot_every=10**9,
    in_memory=100,
    idle_seconds=0,
    commands_rate=0,
    commands_burst=0,
)

Slice = Callable[[int], None]
"""Does something so many times."""


@dataclass(frozen=True, slots=True)
class Operation:
    """`run` and `reference` do their work `count` and `reference_count` times in a slice; `clear` tidies up after one.

    What the disk has a part in takes several `turns` a round: it is less even.
    """

    name: str
    what: str
    run: Slice
    count: int
    reference: Slice
    reference_count: int
    clear: Callable[[], object] = bool
    turns: int = 1


@contextlib.contextmanager
def operations(folder: Path) -> Iterator[list[Operation]]:
    """Everything set up, on a loop of its own; files lie in `folder`."""
    loop = Loop()
    asyncio.set_event_loop(loop)
    with contextlib.ExitStack() as stack:
        stack.callback(loop.close)
        table, steps, commands = played()
        yield [
            decoding(commands),
            deciding(table.room, commands),
            redacting(steps),
            encoding(steps),
            appending(loop, stack),
            committing(loop, folder, stack),
            publishing(steps),
            delivering(loop, steps, stack),
        ]


def played() -> tuple[Table, list[Step], list[tuple[str, Command]]]:
    """A table with ten members and thirty pieces, what happened there, and what each would do next."""
    users = [f"user-{number:012}" for number in range(MEMBERS - 1)]
    table = opened(**dict.fromkeys(users, "player"))  # type: ignore[arg-type]  # roles
    pieces = {
        user: [
            table.make(user, "token.add", name=f"Piece {number}", x=number, y=1)
            for number in range(3)
        ]
        for user in users
    }
    spy = table.make("gm", "token.add", name="Spy", x=3, y=3, hidden=True)
    commands: list[tuple[str, Command]] = []
    steps: list[Step] = []
    for number, user in enumerate(users * 2):
        fields = {"token": pieces[user][number % 3], "x": number + 0.5, "y": number * 1.25}
        commands.append((user, table.command("token.move", **fields)))
        steps += table.send(user, "token.move", **{**fields, "x": number + 7.0})
    for user in users[:2]:
        text = f"{user} opens the door and listens."
        deeds: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
            ("chat.say", {"text": text}, {}),
            ("dice.roll", {"expression": "2d6+3"}, {}),
            ("token.update", {"token": pieces[user][0], "name": "Scout"}, {"name": "Guide"}),
            ("chat.say", {"text": "Hush.", "to": [users[3]]}, {}),
        )
        for kind, body, done in deeds:
            commands.append((user, table.command(kind, **body)))
            steps += table.send(user, kind, **{**body, **done})
    for x in range(4):
        steps += table.send("gm", "token.move", token=spy, x=x + 5, y=x)
    steps += table.send("gm", "token.update", token=spy, hidden=False)
    return table, steps, commands


def decoding(commands: list[tuple[str, Command]]) -> Operation:
    """A client's frame to a command."""
    mask = b"\x5a\x13\xc4\x77"
    frames = []
    for number, (_, command) in enumerate(commands):
        body = msgspec.json.encode(
            {"id": number + 1, "rpc": {"method": "room.command", "data": command}}
        )
        size = (
            b"%c" % (0x80 | len(body))
            if len(body) < 126
            else b"\xfe" + len(body).to_bytes(2, "big")
        )
        frames.append(b"\x81" + size + mask + apply_mask(body, mask))

    def run(count: int) -> None:
        size = len(frames)
        for number in range(count):
            frame = frames[number % size]
            header = header_at(frame, 0)
            assert header is not None
            at, length, _ = header
            rpc = decode_client(apply_mask(frame[at : at + length], frame[at - 4 : at])).rpc
            assert rpc is not None
            codec.decode_command(rpc.data)

    return Operation("decode", "a frame to a command", run, 250, references.reading, 400)


def deciding(room: Room, commands: list[tuple[str, Command]]) -> Operation:
    """A command to its events and the room behind them."""
    given = [Given(user, "2030-01-01T00:00:00.000Z", b"0123456789abcdef") for user, _ in commands]
    asked = [command for _, command in commands]

    def run(count: int) -> None:
        size = len(asked)
        for number in range(count):
            at = number % size
            after = room
            for event in decide(room, asked[at], given[at]):
                after = evolve(after, event)

    return Operation(
        "decide",
        "a command to its events and the room behind them",
        run,
        104,
        references.rules,
        300,
    )


def redacting(steps: list[Step]) -> Operation:
    """An event to what each of the members may see of it."""
    stored = [(step.before, step.event, step.after, codec.encode(step.event)) for step in steps]

    def run(count: int) -> None:
        size = len(stored)
        for number in range(count):
            view(*stored[number % size])

    return Operation(
        "redact",
        "an event to what each member sees of it",
        run,
        2 * len(stored),
        references.rules,
        300,
    )


def encoding(steps: list[Step]) -> Operation:
    """An event to its bytes in the log and the frame that carries them."""
    channel = Channel(room_channel(ROOM))
    events = [step.event for step in steps]

    def run(count: int) -> None:
        size = len(events)
        for number in range(count):
            channel.frame(codec.encode(events[number % size]), number)

    return Operation(
        "encode", "an event to its bytes and its frame", run, 400, references.writing, 500
    )


class InstantLog(MemoryEventLog):
    """Group commit with a disk that takes no time and keeps nothing but what opened the rooms."""

    def __init__(self) -> None:
        super().__init__()
        self.instantly = GroupCommit(self._at_once, interval=0.0)

    def _at_once(self, batch: list[Append], finished: Callable[[Appended], None]) -> None:
        asyncio.get_running_loop().call_soon(finished, [None] * len(batch))


def appending(loop: Loop, stack: contextlib.ExitStack) -> Operation:
    """A command through its room and the log's queue to its answer; the disk takes no time."""
    log = InstantLog()
    audience = Audience(Hub())
    engine = RoomEngine(
        log,
        cached_rooms(log),
        UNBOUNDED,
        publish=audience.hear,
        listened=audience.listened,
        invalidated=audience.invalidated,
    )
    table = opened(**{f"user-{number}": "player" for number in range(MEMBERS - 1)})  # type: ignore[arg-type]  # roles
    piece = table.make("user-0", "token.add", name="Piece", x=0, y=0)
    ring = Ring(UNBOUNDED.recent_events, UNBOUNDED.recent_bytes)
    live = LiveRoom(table.room, epoch="e", server=None, ring=ring, saved=0, now=0.0, turns=None)
    log.append_nowait = log.instantly.append_nowait  # type: ignore[method-assign]  # the log of a disk without delay
    move = table.command("token.move", token=piece, x=0, y=1)
    numbers = counting()

    async def some(count: int) -> None:
        answered: asyncio.Future[None] = loop.create_future()
        left = count

        def answer(outcome: Reply | TableForgeError) -> None:
            nonlocal left
            assert isinstance(outcome, Reply)
            left -= 1
            if not left:
                answered.set_result(None)

        for _ in range(count):
            number = next(numbers)
            command = msgspec.structs.replace(move, id=f"m{number}", x=float(number % 97))
            engine.execute(live, "user-0", command, answer)
        await answered

    return Operation(
        "append",
        "a command through its room and the log's queue to its answer",
        lambda count: loop.run_until_complete(some(count)),
        60,
        references.rules,
        300,
    )


def committing(loop: Loop, folder: Path, stack: contextlib.ExitStack) -> Operation:
    """Appends to SQLite, one commit for all of them."""
    database = SqliteDatabase(folder)
    loop.run_until_complete(database.__aenter__())
    stack.callback(lambda: loop.run_until_complete(database.__aexit__(None, None, None)))
    log = SqliteEventLog(database, commit_interval=0.0)
    bare = references.Commits(folder)
    stack.callback(bare.close)
    data = (
        b'{"type":"token.moved","by":"user-000000000001","at":"2030-01-01T00:00:00.000Z","id":"m%d",'
        + bytes(120).replace(b"\0", b" ")
        + b"}"
    )
    rooms = [f"room-{number:011}" for number in range(MEMBERS)]
    ends = dict.fromkeys(rooms, 0)
    numbers = counting()
    facts = Facts("Bench", "private", (), (("gm", "gm"),))

    async def some(count: int) -> None:
        ended: asyncio.Future[None] = loop.create_future()
        left = count

        def done(entry: Append, failure: TableForgeError | None) -> None:
            nonlocal left
            if failure is not None:
                raise failure
            left -= 1
            if not left:
                ended.set_result(None)

        for number in range(count):
            room, at = rooms[number % MEMBERS], next(numbers)
            head = ends[room]
            opens = None if head else f"epoch-{room}"
            key = (at * 2654435761).to_bytes(16, "big")
            log.append_nowait(
                Append(
                    *(room, head, 1, (data % at,), key, b"digested", done),
                    *(facts if opens else None, opens),
                )
            )
            ends[room] = head + 1
        await ended

    loop.run_until_complete(some(MEMBERS))
    return Operation(
        "commit",
        f"{BATCH} appends to SQLite in one commit",
        lambda count: loop.run_until_complete(some(count)),
        BATCH,
        bare,
        BATCH,
        turns=3,
    )


class Socket:
    """What a session needs of its connection, with nobody at the other end unless `write` leads there."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self.write = write
        self.buffered: Callable[[], int] = int

    def close(self, code: CloseCode, reason: str = "") -> None:
        raise AssertionError(code, reason)

    def part(self, code: CloseCode) -> bool:
        raise AssertionError(code)

    def allow(self, size: int) -> None:
        """Everything is allowed."""


def audience_of(writes: list[Callable[[bytes], None]]) -> Audience:
    """A room's members, each with a way to write to them."""
    hub = Hub()
    for number, write in enumerate(writes):
        user = f"user-{number:012}"
        session = Session(Socket(write), client=f"c{number}", user=user, name=user, session_id=user)
        hub.connected(session)
        hub.subscribe(session, room_channel(ROOM), role="player", join_leave=False, reply=b"{}")
    return Audience(hub)


def heard(steps: list[Step]) -> list[Viewed]:
    """What members are told of."""
    return [view(step.before, step.event, step.after, codec.encode(step.event)) for step in steps]


def publishing(steps: list[Step]) -> Operation:
    """An event to the members' write calls; the sockets take no time."""
    audience = audience_of([b"".startswith for _ in range(MEMBERS)])  # type: ignore[misc]  # takes bytes, does nothing
    views, events = heard(steps), [step.event for step in steps]
    live = LiveRoom(
        steps[-1].after, epoch="e", server=None, ring=Ring(1, 1), saved=0, now=0.0, turns=None
    )

    def run(count: int) -> None:
        size = len(events)
        for number in range(count):
            audience.hear(live, views[number % size], events[number % size])

    return Operation(
        "publish", "an event to its members' write calls", run, 200, references.rules, 300
    )


def delivering(loop: Loop, steps: list[Step], stack: contextlib.ExitStack) -> Operation:
    """An event to the members' sockets."""
    ours, bare = references.Pairs(MEMBERS), references.Pairs(MEMBERS)
    stack.callback(bare.close)
    stack.callback(ours.close)
    made = [
        loop.run_until_complete(loop.connect_accepted_socket(asyncio.Protocol, near))
        for near in ours.near
    ]
    # uvloop's transports are none by inheritance.
    transports = [cast("asyncio.Transport", transport) for transport, _ in made]
    for transport in transports:
        stack.callback(transport.abort)
    audience = audience_of([transport.write for transport in transports])
    moves = [step for step in steps if step.event.__struct_config__.tag == "token.moved"][:16]
    views, events = heard(moves), [step.event for step in moves]
    live = LiveRoom(
        steps[-1].after, epoch="e", server=None, ring=Ring(1, 1), saved=0, now=0.0, turns=None
    )
    everyone = views[0].everyone
    assert everyone is not None
    frame = Channel(room_channel(ROOM)).frame(everyone, 1)

    async def some(count: int) -> None:
        size = len(events)
        for number in range(count):
            audience.hear(live, views[number % size], events[number % size])
            await asyncio.sleep(0)  # what was written leaves at the end of a turn

    def clear() -> None:
        ours.drain()
        bare.drain()

    return Operation(
        "deliver",
        f"an event to {MEMBERS} sockets",
        lambda count: loop.run_until_complete(some(count)),
        16,
        references.Sending(bare, frame),
        16,
        clear,
    )
