"""Rooms on python-socketio, as its documentation serves it: ASGI on uvicorn. Runs in the peers' own environment."""

import socket
import sys
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

# Not in the project's environment, and so not for its type checker.
socketio: Any = import_module("socketio")
uvicorn: Any = import_module("uvicorn")

server = socketio.AsyncServer(async_mode="asgi", transports=["websocket"])
offsets: dict[str, int] = {}


async def join(connection: str, room: str) -> int:
    """Let a connection hear a room; answers how many moves there were."""
    await server.enter_room(connection, room)
    return offsets.get(room, 0)


async def move(connection: str, command: dict[str, Any]) -> int:
    """Tell the room of a move; answers its number."""
    room = command["room"]
    offset = offsets[room] = offsets.get(room, 0) + 1
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    data = {"type": "token.moved", "by": connection[:16], "at": at}
    data |= {name: command[name] for name in ("id", "token", "x", "y")}
    push = {"channel": f"room:{room}", "pub": {"data": data, "offset": offset}}
    await server.emit("push", push, room=room)
    return offset


if __name__ == "__main__":
    server.on("join", join)
    server.on("move", move)
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    sys.stdout.write(f"listening:{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    config = uvicorn.Config(socketio.ASGIApp(server), lifespan="off", log_level="warning")
    uvicorn.Server(config).run(sockets=[listener])
