"""Bots that sit at a demonstration's table: they walk, talk and roll over the WebSocket as people do."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from secrets import SystemRandom
from typing import Any

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from tableforge.errors import Unavailable
from tableforge.ops.demo import Entry, Host, Person, Table
from tableforge.protocol.rest_client import RestClient

HALLS = ((3, 3, 11, 9), (15, 3, 20, 8), (14, 11, 20, 15), (4, 11, 10, 15))
"""Rooms of the map in which one can walk about: left, top, right, bottom, in cells."""

SAYINGS = (
    "Did you hear that?",
    "I keep to the wall.",
    "Hold the light higher.",
    "There is writing on this stone.",
    "We should not split up. Again.",
    "My boots are full of water.",
    "I search the room.",
    "Ready when you are.",
    "That is not a rat.",
    "Let us go back for the rope.",
)
ROLLS = ("1d20+4", "2d6", "1d8+3", "2d20kh1+5", "4d6dl1", "1d100", "3d6!")
PAUSE_SECONDS = (0.6, 2.4)
"""Between two deeds of one bot, at least and at most."""

REPLY_SECONDS = 20.0
ATTEMPTS = 20
RETRY_SECONDS = 1.0

chance = SystemRandom()


@dataclass(slots=True)
class Tally:
    """What the bots did together; `replies` in seconds."""

    moves: int = 0
    words: int = 0
    rolls: int = 0
    refused: int = 0
    reconnects: int = 0
    replies: list[float] = field(default_factory=list)

    def slowest_of(self, share: float) -> float:
        """The reply time in milliseconds that this share of all commands stayed under."""
        ordered = sorted(self.replies) or [0.0]
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def show(
    address: str,
    entry: Entry,
    *,
    bots: int,
    seconds: float | None,
    announce: Callable[[Table], None],
) -> Tally:
    """Set a table on the server at `address`, tell of it, and let bots play there until Ctrl+C or until the time is up.

    Raises Unavailable when the server refuses something or stays away.
    """
    client = RestClient(address, host=entry.host)
    try:
        table = Host(client, entry).set_table(bots)
    finally:
        client.close()
    announce(table)
    tally = Tally()
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(play(client, table, bots, seconds=seconds, tally=tally))
    except* Unavailable as failures:
        raise failures.exceptions[0] from failures
    return tally


async def play(
    server: RestClient, table: Table, bots: int, *, seconds: float | None, tally: Tally
) -> None:
    """Let some companions of the table play, until the time is up or the task is cancelled."""
    deadline = time.monotonic() + seconds if seconds is not None else float("inf")
    async with asyncio.TaskGroup() as group:
        for number, person in enumerate(table.companions[:bots]):
            hall = HALLS[number // 4 % len(HALLS)]
            group.create_task(Bot(server, table, person, hall, tally).live(deadline))


class Bot:
    """One companion, at one connection after the other."""

    def __init__(
        self,
        server: RestClient,
        table: Table,
        person: Person,
        hall: tuple[int, int, int, int],
        tally: Tally,
    ) -> None:
        self._server = server
        self._table = table
        self._person = person
        self._hall = hall
        self._tally = tally
        self._left, self._top, right, bottom = hall
        self._x, self._y = chance.randrange(hall[0], right), chance.randrange(hall[1], bottom)
        self._last_id = 0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def live(self, deadline: float) -> None:
        """Play, and come back when the connection is lost; raises Unavailable when the server stays away."""
        failures = 0
        while time.monotonic() < deadline:
            began = time.monotonic()
            try:
                server = self._server
                async with connect(
                    server.websocket, host=server.host, port=server.port, compression=None
                ) as socket:
                    await self._sit(socket, deadline)
            except (OSError, WebSocketException, TimeoutError) as error:
                failures = failures + 1 if time.monotonic() - began < REPLY_SECONDS else 1
                self._tally.reconnects += 1
                if failures >= ATTEMPTS:
                    raise Unavailable(
                        f"{self._person.name} left the table.",
                        f"The server could not be reached {ATTEMPTS} times in a row: {error}.",
                        "Look whether it runs.",
                    ) from error
                await asyncio.sleep(RETRY_SECONDS)

    async def _sit(self, socket: ClientConnection, deadline: float) -> None:
        """Connect, subscribe, and do one thing after the other."""
        listening = asyncio.create_task(self._listen(socket))
        try:
            await self._ask(socket, "connect", {"token": self._person.token, "name": "demo"})
            await self._ask(socket, "subscribe", {"channel": f"room:{self._table.room}"})
            while time.monotonic() < deadline and not listening.done():
                await self._do_something(socket)
                pause = chance.uniform(*PAUSE_SECONDS)
                await asyncio.sleep(min(pause, max(0.0, deadline - time.monotonic())))
            if listening.done():
                await listening
        finally:
            listening.cancel()
            for waiting in self._waiting.values():
                waiting.cancel()
            self._waiting.clear()

    async def _listen(self, socket: ClientConnection) -> None:
        async for message in socket:
            for line in message.splitlines():
                reply = msgspec.json.decode(line)
                if not reply:
                    await socket.send("{}")
                elif "id" in reply and (waiting := self._waiting.pop(reply["id"], None)):
                    waiting.set_result(reply)

    async def _ask(self, socket: ClientConnection, method: str, body: dict[str, Any]) -> bool:
        """Send one command of the protocol and wait for its reply; False when it was refused."""
        self._last_id += 1
        reply = asyncio.get_running_loop().create_future()
        self._waiting[self._last_id] = reply
        order = msgspec.json.encode({"id": self._last_id, method: body})
        await socket.send(order.decode())
        async with asyncio.timeout(REPLY_SECONDS):
            return "error" not in await reply

    async def _do_something(self, socket: ClientConnection) -> None:
        tally = self._tally
        deed = chance.random()
        body: dict[str, Any]
        if deed < 0.8:
            tally.moves += 1
            body = {"type": "token.move", "token": self._person.piece, **self._step()}
        elif deed < 0.9:
            tally.words += 1
            body = {"type": "chat.say", "text": chance.choice(SAYINGS)}
        else:
            tally.rolls += 1
            body = {"type": "dice.roll", "expression": chance.choice(ROLLS)}
        command = {"room": self._table.room, "id": f"{time.time_ns():x}", **body}
        began = time.monotonic()
        if not await self._ask(socket, "rpc", {"method": "room.command", "data": command}):
            tally.refused += 1
        tally.replies.append(time.monotonic() - began)

    def _step(self) -> dict[str, float]:
        """One cell on, within the hall."""
        left, top, right, bottom = self._hall
        self._x = min(right - 1, max(left, self._x + chance.choice((-1, 0, 1))))
        self._y = min(bottom - 1, max(top, self._y + chance.choice((-1, 1))))
        return {"x": self._x, "y": self._y}
