"""kill -9 in the middle of twenty people's commands: what was acknowledged is there, and nobody saw what is not."""

import asyncio
import json
import random
import secrets
import sqlite3
import sys
from collections.abc import Awaitable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from websockets.exceptions import ConnectionClosed

from tests.command import tableforge
from tests.integration.raw_client import Raw
from tests.server_process import Person, ServerProcess

ROOMS = 4
MEMBERS_A_ROOM = 5
KILLS = 3
KILLS_IN_A_SOAK = 100
IN_FLIGHT = 8
DEADLINE_SECONDS = 60.0
SETTINGS = {
    "LIMIT_SESSIONS": "0",
    "LIMIT_COMMANDS": "0",
    # Small, so that kills also fall into the writing of snapshots and recovery reads the log itself.
    "SNAPSHOT_EVERY_EVENTS": "50",
    "ROOM_RECENT_EVENTS": "20",
}

Log = dict[int, dict[str, Any]]
"""A room's events by their offset."""


class Member:
    """One person at one table, over all lives of the server: what they asked for, were answered, and saw."""

    def __init__(self, person: Person, room: str, chance: random.Random) -> None:
        self.person = person
        self.room = room
        self.others: list[str] = []
        self.piece = ""
        self._chance = chance
        self._commands = 0
        self.asked: dict[str, dict[str, Any]] = {}
        self.answered: dict[str, dict[str, Any]] = {}
        self.seen: Log = {}
        self.compared = 0
        self._epoch = ""
        self._offset = 0
        self._raw: Raw | None = None
        self._numbers: dict[int, str] = {}

    async def sit_down(self, server: ServerProcess) -> None:
        """Connect and listen, from where the last connection ended; everything missed comes, in order."""
        raw = await Raw(server, self.person.token).__aenter__()
        self._raw, self._numbers = raw, {}
        channel = f"room:{self.room}"
        if not self._epoch:
            result = await raw.subscribe(channel)
            self._epoch, self._offset = result["epoch"], result["offset"]
            return
        result = await raw.subscribe(channel, recover=True, offset=self._offset, epoch=self._epoch)
        assert result["recovered"], "the log lost what this member's position stands for"
        assert result["epoch"] == self._epoch
        self._saw(result.get("publications", []))

    def _saw(self, publications: Iterable[dict[str, Any]]) -> None:
        for publication in publications:
            assert publication["offset"] == self._offset + 1, "a gap, or an event twice"
            self._offset = publication["offset"]
            self.seen[self._offset] = publication["data"]

    async def get_up(self) -> None:
        """Take down what the connection brought; it may be gone."""
        raw, self._raw = self._raw, None
        assert raw is not None
        await raw.__aexit__(None, None, None)
        self._saw(raw.events(self.room))
        for number, name in self._numbers.items():
            reply = raw.replies.get(number)
            if reply is not None:
                assert "rpc" in reply, reply
                self.answered[name] = reply["rpc"]["data"]

    @property
    def answers(self) -> int:
        """How many of this connection's commands are answered."""
        if self._raw is None:
            return 0
        return sum(number in self._raw.replies for number in self._numbers)

    def _deed(self) -> dict[str, Any]:
        chance = self._chance
        match chance.randrange(6):
            case 0:
                return {"type": "chat.say", "text": f"word {self._commands}"}
            case 1:
                to = [chance.choice(self.others)]
                return {"type": "chat.say", "text": f"whisper {self._commands}", "to": to}
            case 2:
                visibility = chance.choice(("public", "gm", "self"))
                return {"type": "dice.roll", "expression": "3d6", "visibility": visibility}
            case _:
                self._commands += 1
                return {
                    "type": "token.move",
                    "token": self.piece,
                    "x": self._commands,
                    "y": chance.randrange(20),
                }

    async def _send(self, name: str) -> None:
        assert self._raw is not None
        number = self._raw.next_id()
        self._numbers[number] = name
        data = {"room": self.room, "id": name, **self.asked[name]}
        order = {"id": number, "rpc": {"method": "room.command", "data": data}}
        await self._raw.wire.send(json.dumps(order))

    async def play(self, hunt: "Hunt") -> None:
        """Give commands, some at once, until the connection is gone."""
        assert self._raw is not None
        while self._raw.closed is None:
            name = f"{len(self.asked)}"
            self.asked[name] = self._deed()
            try:
                await self._send(name)
            except ConnectionClosed:
                return
            if not await self._few_in_flight():
                return
            hunt.look()

    async def _few_in_flight(self) -> bool:
        """Wait until only a few commands are unanswered; False when the connection ends before."""
        assert self._raw is not None
        bound = len(self._numbers) - IN_FLIGHT
        try:
            await self._raw.wait_until(lambda: self.answers > bound)
        except AssertionError:
            if self._raw.closed is None:
                raise
            return False
        return True

    async def ask_again(self) -> None:
        """Repeat every command that was not answered, and wait for all answers."""
        assert self._raw is not None
        for name in [one for one in self.asked if one not in self.answered]:
            await self._send(name)
        await self._raw.wait_until(lambda: self.answers == len(self._numbers))


class Hunt:
    """Waits until everybody together has so many answers."""

    def __init__(self, members: list[Member], answers: int) -> None:
        self._members = members
        self._answers = answers
        self.over = asyncio.Event()

    def look(self) -> None:
        """Called after each command."""
        if sum(member.answers for member in self._members) >= self._answers:
            self.over.set()


async def all_of(work: Iterable[Awaitable[None]]) -> None:
    """Wait for several at once, with a deadline."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        await asyncio.gather(*work)


def seated(server: ServerProcess, chance: random.Random) -> list[Member]:
    """Rooms full of people, each with a piece of their own."""
    members: list[Member] = []
    for table in range(ROOMS):
        people = [Person(server, f"Person {table}.{seat}") for seat in range(MEMBERS_A_ROOM)]
        room, invite = people[0].create_room(f"Table {table}")
        for person in people[1:]:
            person.join(room, invite)
        for person in people:
            member = Member(person, room, random.Random(chance.random()))
            added = person.command(room, "token.add", name=person.name, x=0, y=0)
            member.piece = added.json()["result"]["id"]
            member.others = [other.id for other in people if other is not person]
            members.append(member)
    return members


def logs_of(data: Path) -> dict[str, Log]:
    """All logs, read from the file itself; without a gap."""
    logs: dict[str, Log] = {}
    with closing(sqlite3.connect(f"file:{data / 'tableforge.sqlite3'}?mode=ro", uri=True)) as file:
        rows = file.execute(
            "SELECT r.id, e.seq, e.data FROM events e JOIN rooms r ON r.num = e.room ORDER BY e.room, e.seq"
        )
        for room, offset, event in rows:
            log = logs.setdefault(room, {})
            assert offset == len(log) + 1, f"a gap in {room}"
            log[offset] = json.loads(event)
    return logs


def history_of(member: Member, since: int) -> Log:
    """A room's log behind an offset as this member was allowed to see it."""
    found: Log = {}
    after: int | None = since
    while after is not None:
        page = member.person.http.get(
            f"/api/rooms/{member.room}/events", params={"after": after, "limit": 1000}
        ).json()
        found |= {one["offset"]: one["event"] for one in page["events"]}
        after = page["next"]
    return found


def places_of(log: Log) -> dict[tuple[str, str], int]:
    """Where each command stands; none stands twice."""
    places: dict[tuple[str, str], int] = {}
    for offset, event in log.items():
        command = (event["by"], event["id"])
        assert command not in places, f"{command} was carried out twice"
        places[command] = offset
    return places


def check(members: list[Member], data: Path, *, whole: bool = False) -> None:
    """Nothing acknowledged is missing, nothing seen is gone, nothing stands twice.

    What was seen is compared as far as it is new, and from the beginning for the `whole`.
    """
    logs = logs_of(data)
    places = {room: places_of(log) for room, log in logs.items()}
    for member in members:
        for name, answer in member.answered.items():
            offset = places[member.room].get((member.person.id, name))
            assert offset == answer["offset"], (
                f"acknowledged at {answer['offset']}, found at {offset}"
            )
            if member.asked[name]["type"] == "dice.roll":
                assert answer["result"]["total"] == logs[member.room][answer["offset"]]["total"]
        since = 0 if whole else member.compared
        history = history_of(member, since)
        seen = {offset: event for offset, event in member.seen.items() if offset > since}
        assert {offset: history.get(offset) for offset in seen} == seen
        member.compared = max(member.seen, default=0)


async def one_life(members: list[Member], server: ServerProcess, chance: random.Random) -> None:
    """Everybody plays until the server is killed, comes back to the next one, and asks again."""
    await all_of(member.sit_down(server) for member in members)
    hunt = Hunt(members, chance.randrange(20, 600))
    playing = [asyncio.create_task(member.play(hunt)) for member in members]

    async def killing() -> None:
        await hunt.over.wait()
        # Not always in the same place behind an answer.
        await asyncio.sleep(chance.uniform(0, 0.01))
        await asyncio.to_thread(server.kill)

    await all_of([killing()])
    await all_of(playing)
    await all_of(member.get_up() for member in members)
    await asyncio.to_thread(server.start)
    await asyncio.to_thread(check, members, server.folder / "data")
    before = await asyncio.to_thread(logs_of, server.folder / "data")
    known = {room: places_of(log) for room, log in before.items()}
    unanswered = [
        (member, name) for member in members for name in member.asked if name not in member.answered
    ]
    await all_of(member.sit_down(server) for member in members)
    await all_of(member.ask_again() for member in members)
    await all_of(member.get_up() for member in members)
    for member, name in unanswered:
        first = known[member.room].get((member.person.id, name))
        assert first in (None, member.answered[name]["offset"]), "carried out before, elsewhere"
    await asyncio.to_thread(check, members, server.folder / "data")


async def test_nothing_acknowledged_is_lost_when_the_process_is_killed(
    tmp_path: Path, soak: bool
) -> None:
    seed = secrets.randbits(32)
    sys.stdout.write(f"seed {seed}\n")
    chance = random.Random(seed)
    server = ServerProcess(tmp_path, **SETTINGS)
    try:
        await asyncio.to_thread(server.start)
        members = await asyncio.to_thread(seated, server, chance)
        for _ in range(KILLS_IN_A_SOAK if soak else KILLS):
            await one_life(members, server, chance)
        await asyncio.to_thread(check, members, tmp_path / "data", whole=True)
        assert sum(len(member.answered) for member in members) > 100
    finally:
        await asyncio.to_thread(server.stop)
    verified = await asyncio.to_thread(tableforge, "verify", folder=tmp_path)
    assert verified.returncode == 0, verified.stdout + verified.stderr
