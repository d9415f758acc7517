"""What tests of the bus put at it: an instance that remembers what it was told."""

import asyncio
from collections.abc import Callable, Sequence

from tableforge.bus import Bus

DEADLINE = 30.0
CALM = 60.0
"""The silence bound of instances that nothing befalls: a busy machine is no silent bus."""


async def until(holds: Callable[[], object]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(DEADLINE):
        while not holds():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.005)


class Instance:
    """An instance at the bus, with all it was told, in order."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.told: list[tuple[str, bytes | None]] = []
        """Channel and message; None instead of a message says that listening began."""

    async def start(self) -> "Instance":
        await self.bus.start(
            lambda channel, message: self.told.append((channel, message)), self.resumed
        )
        await until(lambda: not any(server.trouble for server in self.bus.servers()))
        return self

    def resumed(self, channels: Sequence[str]) -> None:
        self.told += [(channel, None) for channel in channels]

    def heard(self, channel: str) -> list[bytes]:
        return [message for at, message in self.told if at == channel and message is not None]

    def begun(self, channel: str) -> int:
        return self.told.count((channel, None))

    async def speak(self, channel: str, to: "Instance") -> None:
        """Say something until it is heard: an instance with a short bound may lose its bus to a busy machine."""
        heard = len(to.heard(channel))
        async with asyncio.timeout(DEADLINE):
            while len(to.heard(channel)) == heard:
                self.bus.publish(channel, b"heard")
                await asyncio.sleep(0.01)

    async def listen(self, *channels: str) -> None:
        for channel in channels:
            self.bus.listen(channel)
        await until(lambda: all(map(self.bus.carries, channels)))
