"""What happens between the lines of the protocol: things that change while a client waits for its answer."""

import asyncio

from tableforge.domain.commands import ChangeRole, Command, HouseCommand, JoinRoom, OpenRoom, Say
from tableforge.eventlog import StoredEvent
from tableforge.rooms.live import Reply
from tests.machines.session_world import Client, Server, SlowLog

ROOM = "room"


class HeldLog(SlowLog):
    """Appends go through; reads of many events wait for the test."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.reading = asyncio.Event()
        self.go.set()

    async def read(self, room: str, *, after: int, limit: int) -> list[StoredEvent]:
        self.reading.set()
        await self.go.wait()
        return await super().read(room, after=after, limit=limit)


async def carried_out(
    server: Server, log: SlowLog, user: str, command: Command | HouseCommand
) -> Reply:
    future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    live = server.engine.live_nowait(ROOM)
    assert live is not None
    server.engine.execute(live, user, command, future.set_result)  # type: ignore[arg-type]  # a refusal would be shown
    log.commit(9)
    reply = await future
    assert isinstance(reply, Reply)
    return reply


async def test_whose_role_changes_while_what_they_missed_is_read_begins_anew() -> None:
    log = HeldLog()
    server = Server(log)
    created: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    server.engine.create(
        "usergm", OpenRoom(ROOM, "open", "The Salt Road", "private", "Mara"), created.set_result
    )
    log.commit(1)
    assert isinstance(await created, Reply)
    live = await server.engine.open(ROOM)
    joined = await carried_out(server, log, "userann", JoinRoom(ROOM, "join", "Ann", "player"))
    for number in range(5):
        await carried_out(server, log, "usergm", Say(ROOM, f"s{number}", "a line"))

    ann = Client("userann", ROOM)
    ann.position = (joined.offset, live.epoch)
    log.go.clear()
    log.reading.clear()
    ann.connect(server)
    await log.reading.wait()
    changed = await carried_out(server, log, "usergm", ChangeRole(ROOM, "role", "userann", "gm"))
    log.go.set()
    while not ann.subscribed:
        await asyncio.sleep(0.001)
        ann.deliver(99)
    assert ann.recovered == [], "what they saw in another role is not what this one sees"
    assert [offset for offset, _ in ann.snapshots] == [changed.offset]
