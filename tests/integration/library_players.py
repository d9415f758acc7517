"""Players with the unmodified `centrifuge-python`: a move is sent again under its id until it is answered, nothing more."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import centrifuge

from tableforge.bench.ground import Ground
from tableforge.bench.steady import Company, Event, Order, Publication, Steady
from tableforge.bench.tables import Seat, history, lay

SIT_DOWN_SECONDS = 60.0
ANSWER_SECONDS = 60.0
CUT_SECONDS = 1.0
"""Whose instance is killed sees the end of the connection within this time; later ones were asked to go elsewhere."""


class LibraryPlayer(centrifuge.ClientEventHandler, centrifuge.SubscriptionEventHandler):  # type: ignore[misc]  # untyped
    """`failures` is what a program that uses the library was told went wrong with a command or its subscription."""

    def __init__(self, company: Company, seat: Seat, ledger: Steady, url: str) -> None:
        self._company = company
        self._seat = seat
        self._ledger = ledger
        self.failures: list[str] = []
        self.lost_at: list[float] = []
        self.answered_at: list[float] = []
        self.client = centrifuge.Client(
            f"{url}?room={seat.room}", events=self, token=seat.token, proxy=None
        )
        self._subscription = self.client.new_subscription(
            f"room:{seat.room}", self, recoverable=True
        )
        self._moves = 0

    async def sit_down(self) -> None:
        await self.client.connect()
        await self._subscription.subscribe()
        await self._subscription.ready(timeout=SIT_DOWN_SECONDS)

    async def on_publication(self, ctx: centrifuge.PublicationContext) -> None:
        told = Publication(ctx.pub.offset, Event(ctx.pub.data.get("id", "")))
        self._ledger.arrived(told, time.monotonic())

    async def on_subscribed(self, ctx: centrifuge.SubscribedContext) -> None:
        if ctx.was_recovering and not ctx.recovered:
            self._company.wrongs.add("lost", f"player {self._ledger.number} was not recovered")
        if not ctx.was_recovering:
            self._ledger.offset = ctx.stream_position.offset

    async def on_connecting(self, ctx: centrifuge.ConnectingContext) -> None:
        if self.answered_at:
            self.lost_at.append(time.monotonic())

    async def on_disconnected(self, ctx: centrifuge.DisconnectedContext) -> None:
        if not self._company.closing:
            self.failures.append(f"disconnected for good: {ctx.code} {ctx.reason}")

    async def on_unsubscribed(self, ctx: centrifuge.UnsubscribedContext) -> None:
        if not self._company.closing:
            self.failures.append(f"unsubscribed: {ctx.code} {ctx.reason}")

    async def move(self) -> None:
        """One move, until it is answered."""
        self._moves += 1
        number = self._ledger.number
        name = f"m{number}-{self._moves}"
        began = time.monotonic()
        order = self._company.orders[name] = Order(name, number, self._moves, began)
        command = {
            "room": self._seat.room,
            "id": name,
            "type": "token.move",
            "token": self._seat.piece,
            "x": self._moves % 28 + 0.5,
            "y": number % 18,
        }
        async with asyncio.timeout(ANSWER_SECONDS):
            while not order.offset:
                try:
                    reply = await self.client.rpc("room.command", command)
                    order.offset = reply.data["offset"]
                except (centrifuge.CentrifugeError, TimeoutError) as error:
                    self.failures.append(f"{name}: {error!r}")
                    await asyncio.sleep(0.05)
        self.answered_at.append(time.monotonic())
        self._company.acknowledged += 1
        self._company.replies.add(time.monotonic(), time.monotonic() - began)

    async def play(self, period: float) -> None:
        """Move for as long as the company plays."""
        while not self._company.resting:
            await self.move()
            await asyncio.sleep(period)


class Library:
    """All of them, with the ledger that the bench's own players have."""

    def __init__(self, fleet: Ground, seats: Sequence[Seat]) -> None:
        self._fleet = fleet
        self.company = Company(seats, [("127.0.0.1", fleet.balancer.port)] * len(seats), rate=1)
        url = f"ws://127.0.0.1:{fleet.balancer.port}/ws"
        self.players = [
            LibraryPlayer(self.company, seat, ledger, url)
            for seat, ledger in zip(seats, self.company.players, strict=True)
        ]
        self._playing: asyncio.Future[Any] | None = None

    @property
    def failures(self) -> list[str]:
        """What all of them were told went wrong."""
        return [failure for player in self.players for failure in player.failures]

    def begin(self, period: float) -> None:
        """Everybody moves, again and again."""
        self.company.resting = False
        self._playing = asyncio.gather(*(player.play(period) for player in self.players))

    async def go_on(self, rounds: int = 2) -> None:
        """Return once everybody was answered so many times more; whatever stops a player is raised."""
        assert self._playing is not None
        wanted = [len(player.answered_at) + rounds for player in self.players]
        async with asyncio.timeout(ANSWER_SECONDS + 10):
            while any(
                len(player.answered_at) < count
                for player, count in zip(self.players, wanted, strict=True)
            ):
                if self._playing.done():
                    self._playing.result()
                await asyncio.sleep(0.02)

    def recoveries(self, since: float) -> list[float]:
        """For each player who lost the connection right then: seconds until a command was answered again."""
        found = []
        for player in self.players:
            lost = [at for at in player.lost_at if since <= at < since + CUT_SECONDS]
            if lost:
                after = next((at for at in player.answered_at if at > lost[0]), float("inf"))
                found.append(round(after - since, 2))
        return sorted(found)

    async def end(self) -> None:
        """Stop moving, wait until all is answered and told, and compare it with the log."""
        assert self._playing is not None
        self.company.resting = True
        await self._playing
        await self.company.rest(ANSWER_SECONDS)

        def read() -> dict[str, list[tuple[int, str]]]:
            caller = self._fleet.rest()
            try:
                return {
                    room: list(history(caller, table.seat, table.read))
                    for room, table in self.company.tables.items()
                }
            finally:
                caller.close()

        self.company.compare(await asyncio.to_thread(read))


@asynccontextmanager
async def library_players(fleet: Ground, count: int, room_size: int) -> AsyncIterator[Library]:
    """So many players at their tables, connected through the balancer."""

    def seat() -> list[Seat]:
        caller = fleet.rest()
        try:
            return lay(caller, users=count, room_size=room_size, progress=lambda number: None)
        finally:
            caller.close()

    library = Library(fleet, await asyncio.to_thread(seat))
    try:
        for at in range(0, count, 20):
            few = library.players[at : at + 20]
            await asyncio.gather(*(player.sit_down() for player in few))
        yield library
    finally:
        library.company.closing = library.company.resting = True
        await asyncio.gather(*(player.client.disconnect() for player in library.players))
