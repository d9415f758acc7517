"""Sending clients away, so that they come back elsewhere: whom first, and spread over time.

A client that is asked to go connects again within a second or two and misses nothing, but each one costs its next
instance a handshake and a look at what it missed; a thousand at once would be a storm of our own making.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable
from secrets import SystemRandom

from tableforge.hub.hub import Hub
from tableforge.hub.session import PARTING_SECONDS, Session, Wire
from tableforge.protocol.close_codes import CloseCode
from tableforge.telemetry import COUNTERS

SLICE_SECONDS = 0.1
PACE_MIN = 50.0
"""Clients a second: few of them need not wait for the end of the time that many would take."""

chance = SystemRandom()


def cheapest_first(sessions: Iterable[Session], hub: Hub) -> list[Session]:
    """Those whose way back costs least come first: nothing waits for them, few channels, small rooms."""
    sizes: dict[str, int] = {}

    def size(channel: str) -> int:
        if channel not in sizes:
            sizes[channel] = len(hub.local_infos(channel))
        return sizes[channel]

    def cost(session: Session) -> tuple[bool, int, int, float]:
        channels = session.channels
        return (
            session.wire.buffered() > 0,
            len(channels),
            max(map(size, channels), default=0),
            chance.random(),
        )

    return sorted(sessions, key=cost)


async def send_away(
    connections: Callable[[], Collection[Wire]], hub: Hub, *, over_seconds: float
) -> None:
    """Close every connection with 3001, spread over at most this time; those that come meanwhile as well.

    Connections that have not said who they are go first. Returns once all are about to go, which is early if they are few.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + over_seconds
    told: set[Wire] = set()
    carry = parted = 0.0
    while True:
        waiting = [wire for wire in connections() if wire not in told]
        if not waiting:
            await asyncio.sleep(parted - loop.time())
            return
        left = deadline - loop.time()
        carry += max(len(waiting) / max(left, SLICE_SECONDS), PACE_MIN) * SLICE_SECONDS
        for wire in in_order(waiting, hub)[: int(carry)]:
            told.add(wire)
            COUNTERS.sent_away_drain += 1
            if not wire.part(CloseCode.SHUTDOWN):
                parted = loop.time() + PARTING_SECONDS
        carry -= int(carry)
        await asyncio.sleep(SLICE_SECONDS if left > 0 else 0)


def in_order(wires: Iterable[Wire], hub: Hub) -> list[Wire]:
    """Strangers first, then the cheapest."""
    sessions = {session.wire: session for session in hub.sessions()}
    known = [sessions[wire] for wire in wires if wire in sessions]
    strangers = [wire for wire in wires if wire not in sessions]
    return [*strangers, *(session.wire for session in cheapest_first(known, hub))]
