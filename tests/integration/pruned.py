"""A data folder with a room whose old history was taken away, for tests of those who read it from outside."""

import asyncio
from pathlib import Path

from tableforge.domain.commands import JoinRoom
from tests.cached_world import fleet_of
from tests.long_rooms import clocked, opened, prune, say

BEGINS = 40
"""Behind which event the room of `shortened` begins; its newest is number 62."""


async def _played(folder: Path, url: str | None) -> str:
    async with fleet_of(folder, url, 1) as fleet:
        one = fleet.instances[0]
        clocked(one)
        room = await opened(one)
        await one.house(room, "bo", JoinRoom(room=room, id="j", name="Bo", role="player"))
        await say(one, room, 60)
    _tidy(folder)
    return room


def _tidy(folder: Path) -> None:
    """`fleet_of` makes a folder for pictures in each life."""
    for assets in folder.glob("assets-*"):
        assets.rmdir()


async def _shortened(folder: Path, url: str | None) -> None:
    _tidy(folder)
    async with fleet_of(folder, url, 1) as fleet:
        assert (await prune(fleet.instances[0].log)).troubles == []
    _tidy(folder)


def play(folder: Path, url: str | None = None) -> str:
    """Play in a room for a while; returns its id."""
    folder.mkdir(parents=True, exist_ok=True)
    return asyncio.run(_played(folder, url))


def shorten(folder: Path, url: str | None = None) -> None:
    """Take its old history away."""
    asyncio.run(_shortened(folder, url))
