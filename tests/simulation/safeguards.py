"""What keeps a fleet's rooms right, each to be taken away: the seeds must notice.

Everything here is done to the simulation or from outside to the product; the product has no switch for any of it.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from tableforge.eventlog import Append, Found
from tableforge.eventlog.group_commit import GroupCommit
from tableforge.protocol.bus_messages import EventsHappened
from tableforge.rooms.engine import BUSY, RoomEngine
from tableforge.rooms.following import Follower
from tableforge.rooms.live import LiveRoom, Waiting
from tests.simulation import servers
from tests.simulation.storage import Database, SimulatedLog

Patch = pytest.MonkeyPatch
Removal = Callable[[Patch], None]


def version_check(patch: Patch) -> None:
    """EL3: an append is taken wherever the log stands."""
    patch.setattr(Database, "stands", lambda self, chain: True)


def withdrawal(patch: Patch) -> None:
    """EL13: what was decided on a refused command is sent all the same."""
    patch.setattr(GroupCommit, "_withdraw_behind", lambda self, batch, outcomes: None)


def command_keys(patch: Patch) -> None:
    """EL4: the log does not know commands again."""

    async def find(self: SimulatedLog, room: str, key: bytes) -> Found | None:
        return None

    patch.setattr(Database, "known", lambda self, entry: None)
    patch.setattr(SimulatedLog, "find", find)


def gap_fill(patch: Patch) -> None:
    """What is missing is not read from the log."""
    patch.setattr(RoomEngine, "follow", lambda self, live, upto: None)


def position_check(patch: Patch) -> None:
    """While the bus says that it carries, nobody asks where the log ends."""
    patch.setattr(servers, "CHECK_SECONDS", 1e9)


def durable_before_told(patch: Patch) -> None:
    """What is decided is told at once, whatever becomes of it."""
    append = SimulatedLog.append_nowait

    def told_at_once(self: SimulatedLog, entry: Append) -> None:
        unheard = Append(
            entry.room,
            entry.expected,
            entry.version,
            entry.events,
            entry.key,
            entry.digest,
            lambda entry, outcome: None,
            entry.facts,
            entry.opens,
        )
        append(self, unheard)
        asyncio.get_running_loop().call_soon(entry.done, entry, None)

    patch.setattr(SimulatedLog, "append_nowait", told_at_once)


def catching_up_before_refusal(patch: Patch) -> None:
    """A refusal is given on what the instance happens to know."""
    answer = RoomEngine._answer_unappended

    async def at_once(self: RoomEngine, live: LiveRoom, one: Waiting, *more: Any) -> None:
        await answer(self, live, one._replace(sure=True), *more)

    patch.setattr(RoomEngine, "_answer_unappended", at_once)


def catching_up_before_snapshots(patch: Patch) -> None:
    """Whoever comes is shown the room as this instance happens to know it."""
    opened = RoomEngine.open

    async def at_once(self: RoomEngine, room: str) -> LiveRoom:
        live = self.live_nowait(room)
        return live if live is not None and live.durable.version else await opened(self, room)

    patch.setattr(RoomEngine, "open", at_once)


def waiting_for_the_base_of_a_refusal(patch: Patch) -> None:
    """A refusal is given whatever becomes of the command it was decided behind."""

    def at_once(self: RoomEngine, entry: Any, one: Waiting, outcome: Any) -> None:
        for answer in one.answers:
            answer(outcome)

    patch.setattr(RoomEngine, "_answer_behind", at_once)


def holding_back_behind_a_doubtful_command(patch: Patch) -> None:
    """RO10: what a member sends behind a command of which the log is asked does not wait for it."""
    patch.setattr(RoomEngine, "_doubt", lambda self, live, one: None)


def places_of_what_is_decided_anew(patch: Patch) -> None:
    """RO10: what must be decided anew stands behind whatever came meanwhile."""

    def at_the_end(self: RoomEngine, live: LiveRoom, ones: Sequence[Waiting]) -> None:
        for one in ones:
            if live.dropped:
                self._refuse(one, BUSY)
            else:
                live.waiting.append(one)
        self._drain(live)

    patch.setattr(RoomEngine, "_again", at_the_end)


def positions_of_messages(patch: Patch) -> None:
    """Whatever the bus brings is taken for what comes next."""
    heard = Follower.heard

    def taken(self: Follower, room: str, message: EventsHappened) -> None:
        live = self.engine.live_nowait(room)
        if live is not None:
            message = replace(message, first=live.durable.version + 1)
        heard(self, room, message)

    patch.setattr(Follower, "heard", taken)


SAFEGUARDS: dict[str, Removal] = {
    "version check": version_check,
    "withdrawal of what was built on a refused append": withdrawal,
    "command keys": command_keys,
    "gap fill": gap_fill,
    "position check": position_check,
    "positions of what the bus brings": positions_of_messages,
    "durable before told": durable_before_told,
    "catching up before a refusal": catching_up_before_refusal,
    "catching up before a snapshot": catching_up_before_snapshots,
    "waiting for what a refusal was decided on": waiting_for_the_base_of_a_refusal,
    "holding back behind a doubtful command": holding_back_behind_a_doubtful_command,
    "places of what is decided anew": places_of_what_is_decided_anew,
}
