"""Rooms as a bare fan-out on uvicorn: what our own ground takes for the frames alone, without log, rules or roles."""

import itertools
import socket
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
import uvicorn

Send = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass(slots=True)
class Room:
    """Who listens, and how many moves there were."""

    channel: str
    members: list[Send] = field(default_factory=list)
    offset: int = 0


rooms: dict[str, Room] = {}
connections = itertools.count(1)


async def app(
    scope: dict[str, Any], receive: Callable[[], Awaitable[dict[str, Any]]], send: Send
) -> None:
    """One connection; anything but a WebSocket is not served."""
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept"})
    by = f"{next(connections):016}"
    room = Room("")
    while (message := await receive())["type"] == "websocket.receive":
        command = msgspec.json.decode(message["text"])
        if "rpc" in command:
            moved = command["rpc"]["data"]
            room.offset += 1
            at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            data = {"type": "token.moved", "by": by, "at": at}
            data |= {name: moved[name] for name in ("id", "token", "x", "y")}
            pub = {"data": data, "offset": room.offset}
            push = {"push": {"channel": room.channel, "pub": pub}}
            frame = {"type": "websocket.send", "text": msgspec.json.encode(push).decode()}
            answer = {"id": command["id"], "rpc": {"data": {"offset": room.offset}}}
            for member in room.members:
                await member(frame)
            await send({"type": "websocket.send", "text": msgspec.json.encode(answer).decode()})
        elif "subscribe" in command:
            channel = command["subscribe"]["channel"]
            room = rooms.setdefault(channel, Room(channel))
            room.members.append(send)
            result = {"epoch": "none", "offset": room.offset}
            answer = {"id": command["id"], "subscribe": result}
            await send({"type": "websocket.send", "text": msgspec.json.encode(answer).decode()})
    if send in room.members:
        room.members.remove(send)


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    sys.stdout.write(f"listening:{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    config = uvicorn.Config(
        app, loop="uvloop", ws="websockets-sansio", lifespan="off", log_level="warning"
    )
    uvicorn.Server(config).run(sockets=[listener])
