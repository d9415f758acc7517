"""The protocol by hand: one connection, each object written and read as it is on the wire."""

import asyncio
import json
from types import TracebackType
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Origin

from tests.server_process import Person, ServerProcess

DEADLINE = 30.0


class Raw:
    """Replies are kept by their id, pushes in their order; pings are answered as clients do."""

    def __init__(
        self,
        server: ServerProcess,
        token: str | None = None,
        *,
        origin: str | None = None,
        cookie: str | None = None,
        answers_pings: bool = True,
    ) -> None:
        self._server = server
        self._token = token
        self._origin = Origin(origin) if origin else None
        self._headers = {"cookie": cookie} if cookie else {}
        self._answers_pings = answers_pings
        self._next = 1
        self.pings = 0
        self.replies: dict[int, dict[str, Any]] = {}
        self.pushes: list[dict[str, Any]] = []
        self.closed: tuple[int, str] | None = None

    async def __aenter__(self) -> Self:
        self.wire: ClientConnection = await connect(
            self._server.websocket,
            origin=self._origin,
            additional_headers=self._headers,
            compression=None,
            max_size=None,
            ping_interval=None,
        )
        self._changed = asyncio.Event()
        self._reader = asyncio.create_task(self._read())
        if self._token is not None:
            self.connected = await self.call(connect={"token": self._token})
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.wire.close()
        await self._reader

    async def _read(self) -> None:
        try:
            async for message in self.wire:
                for line in str(message).split("\n"):
                    self._take(json.loads(line))
                self._changed.set()
        except ConnectionClosed:
            pass
        self.closed = (self.wire.close_code or 0, self.wire.close_reason or "")
        self._changed.set()

    def _take(self, one: dict[str, Any]) -> None:
        if not one:
            self.pings += 1
            if self._answers_pings:
                self._pong = asyncio.ensure_future(self.wire.send("{}"))
        elif "id" in one:
            assert one["id"] not in self.replies, "a command was answered twice"
            self.replies[one["id"]] = one
        else:
            self.pushes.append(one["push"])

    async def wait_until(self, condition: Any) -> None:
        """Wait for a condition on what was received; fails when the connection ends first."""
        async with asyncio.timeout(DEADLINE):
            while not condition():
                assert self.closed is None, f"closed: {self.closed}"
                self._changed.clear()
                await self._changed.wait()

    async def wait_for_close(self) -> tuple[int, str]:
        """Wait for the server to close the connection; its code and reason."""
        async with asyncio.timeout(DEADLINE):
            while self.closed is None:
                self._changed.clear()
                await self._changed.wait()
        return self.closed

    def next_id(self) -> int:
        self._next += 1
        return self._next - 1

    async def call(self, **request: Any) -> dict[str, Any]:
        """One command and its reply, whole."""
        number = self.next_id()
        await self.wire.send(json.dumps({"id": number, **request}))
        await self.wait_until(lambda: number in self.replies)
        return self.replies[number]

    async def subscribe(self, channel: str, **more: Any) -> dict[str, Any]:
        """Subscribe and return the result."""
        reply = await self.call(subscribe={"channel": channel, "recoverable": True, **more})
        result: dict[str, Any] = reply["subscribe"]
        return result

    async def command(self, room: str, type_: str, **body: Any) -> dict[str, Any]:
        """A room's command; the reply's data or the error."""
        number = self.next_id()
        data = {"room": room, "id": f"raw-{number}", "type": type_, **body}
        await self.wire.send(
            json.dumps({"id": number, "rpc": {"method": "room.command", "data": data}})
        )
        await self.wait_until(lambda: number in self.replies)
        reply = self.replies[number]
        outcome: dict[str, Any] = reply["rpc"]["data"] if "rpc" in reply else reply["error"]
        return outcome

    def events(self, room: str) -> list[dict[str, Any]]:
        """The publications of a room so far."""
        return [
            one["pub"] for one in self.pushes if one["channel"] == f"room:{room}" and "pub" in one
        ]

    async def wait_for_offset(self, room: str, offset: int) -> list[dict[str, Any]]:
        """Wait for a room's event at this offset; all its publications so far."""
        await self.wait_until(lambda: any(one["offset"] >= offset for one in self.events(room)))
        return self.events(room)


async def people(server: ServerProcess, *names: str) -> list[Person]:
    """Somebody for each name."""
    return await asyncio.to_thread(lambda: [Person(server, name) for name in names])


async def table(server: ServerProcess, *players: str) -> tuple[str, list[Person]]:
    """A room with its GM and some players."""
    found = await people(server, "Mara", *players)

    def sit() -> str:
        room, invite = found[0].create_room()
        for player in found[1:]:
            player.join(room, invite)
        return room

    return await asyncio.to_thread(sit), found
