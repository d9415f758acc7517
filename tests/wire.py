"""Connections without sockets, for what is done to many of them."""

import asyncio
from collections.abc import Callable

from tableforge.hub.hub import Hub
from tableforge.hub.session import Session
from tableforge.protocol.close_codes import CloseCode


class Wire:
    """A connection that remembers when and how it was closed; it is gone a moment later."""

    def __init__(self, connections: "set[Wire] | None" = None, *, waiting_bytes: int = 0) -> None:
        self.waiting_bytes = waiting_bytes
        self.closed: tuple[float, CloseCode] | None = None
        self._connections = connections
        if connections is not None:
            connections.add(self)

    @property
    def write(self) -> Callable[[bytes], None]:
        return lambda data: None

    @property
    def buffered(self) -> Callable[[], int]:
        return lambda: self.waiting_bytes

    def allow(self, size: int) -> None:
        """Nothing is bounded here."""

    def close(self, code: CloseCode, reason: str = "") -> None:
        loop = asyncio.get_running_loop()
        assert self.closed is None
        self.closed = (loop.time(), code)
        if self._connections is not None:
            loop.call_later(0.01, self._connections.discard, self)

    def part(self, code: CloseCode) -> bool:
        """Its peer never waits for anything."""
        self.close(code)
        return True


def connected(hub: Hub, wire: Wire, *channels: str) -> Session:
    session = Session(wire, client=f"c{id(wire)}", user="u", name="U", session_id="s")
    hub.connected(session)
    for name in channels:
        hub.subscribe(session, name, role="player", join_leave=False, reply=b"{}")
    return session
