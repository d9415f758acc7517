"""The care of the database as orders: by the operator's hand, and by the schedule when there is little to do."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import NamedTuple

from tableforge.api.orders import Order, Tell
from tableforge.database.care import Card, Care, Outcome, Verdict, Wish
from tableforge.database.care.ledger import Ledger
from tableforge.errors import TableForgeError
from tableforge.library.retention import Retention
from tableforge.library.runs import Action
from tableforge.rooms.pruning import History

OPTIMIZE = "optimize-database"
MAINTENANCE = "maintenance"
MAINTAIN_SECONDS = 1_800.0
FORGET_SECONDS = 300.0
HISTORY_SECONDS = 1_800.0
HISTORY = "take away old history"
CLOCKS_APART = timedelta(hours=1)
"""A command's id is known for a day, whichever instance's clock dated its event."""
TROUBLES_TOLD = 5
PUT_OFF_SECONDS = 60.0
PUT_OFF_AT_MOST_SECONDS = 4 * 3_600.0
LEAST_KEPT_SECONDS = 86_400.0
"""A command's id is known for this long at least, whatever the settings say."""
OTHERS = "Another order or another instance of the fleet cares for the database now."


class Pruning(NamedTuple):
    """The history that is taken away is that of before so many days; `obstacle` says what forbids that for now, or nothing."""

    history: History
    days: int
    obstacle: Callable[[], str]


class Caretaker:
    """Carries out what an order or a schedule says, one at a time in the whole fleet.

    `busy` says why now is a bad time, or nothing. Without `pruning` all history is kept.
    """

    def __init__(
        self,
        care: Care,
        ledger: Ledger,
        retention: Retention,
        *,
        busy: Callable[[], str],
        ids_kept_seconds: float,
        pruning: Pruning | None = None,
        put_off_seconds: float = PUT_OFF_SECONDS,
    ) -> None:
        self.care = care
        self.ledger = ledger
        self._retention = retention
        self._busy = busy
        self._ids_kept = ids_kept_seconds
        self._pruning = pruning
        self._put_off = put_off_seconds
        self._advising: asyncio.Task[list[Card]] | None = None

    async def advice(self) -> Sequence[Card]:
        """What the database lacks; whoever asks while it is being asked gets the same answer. Raises `DatabaseUnavailable`.

        So advice takes one connection, however many ask.
        """
        if self._advising is None or self._advising.done():
            self._advising = asyncio.create_task(self.care.advice())
        return await asyncio.shield(self._advising)

    async def close(self) -> None:
        """Ask no further."""
        if self._advising is not None:
            self._advising.cancel()
            await asyncio.gather(self._advising, return_exceptions=True)

    def optimize(self, wish: Wish | None) -> Order:
        """The order to mend what can be mended safely, or to try one index."""

        async def order(tell: Tell) -> Sequence[Action]:
            async with self.care.alone() as alone:
                if not alone:
                    return [Action(OPTIMIZE, "", "", "skipped", OTHERS)]
                return actions_of(await self.care.optimize(tell, wish=wish))

        return order

    async def maintain(self, tell: Tell) -> Sequence[Action]:
        """Clean, check a sample, prune; put off while there is much to do."""
        deadline = monotonic() + PUT_OFF_AT_MOST_SECONDS
        put_off = ""
        while why := self._busy():
            put_off = why
            if monotonic() >= deadline:
                after = f"There was too much to do for {PUT_OFF_AT_MOST_SECONDS / 3600:.0f} hours: {why}."
                return [Action(MAINTENANCE, "", "", "skipped", after)]
            tell(f"put off: {why}")
            await asyncio.sleep(self._put_off)
        async with self.care.alone() as alone:
            if not alone:
                return [Action(MAINTENANCE, "", "", "skipped", OTHERS)]
            waited = [Action("wait for a quiet time", put_off, "", "done", "")] if put_off else []
            actions = await carried_out("look after the tables", self._tables(tell))
            actions += await carried_out("prune", self._retention.prune(tell))
            if self._pruning is not None:
                actions += await carried_out(HISTORY, self._shorten(tell, self._pruning))
            if self._ids_kept:
                actions += await carried_out("forget ids", self._forget(tell))
            return [*waited, *actions]

    async def _tables(self, tell: Tell) -> list[Action]:
        return actions_of(await self.care.maintain(tell, within_seconds=MAINTAIN_SECONDS))

    async def _shorten(self, tell: Tell, pruning: Pruning) -> list[Action]:
        moment = datetime.now(UTC) - timedelta(days=pruning.days) - CLOCKS_APART
        before = moment.strftime("%Y-%m-%dT%H:%M:%S")
        deadline = monotonic() + HISTORY_SECONDS

        def enough() -> str:
            late = "There was no time left for all." if monotonic() > deadline else ""
            return pruning.obstacle() or self._busy() or late

        if why := pruning.obstacle():
            return [Action(HISTORY, f"before {before}", "", "skipped", why)]
        if right := await pruning.history.lacking_right():
            return [Action(HISTORY, f"before {before}", "", "failed", f"{right}.")]
        done = await pruning.history.prune(before, tell=tell, enough=enough)
        after = f"{done.events} events of {done.rooms} rooms taken away"
        reason = " ".join([*done.troubles[:TROUBLES_TOLD], done.stopped]).strip()
        verdict: Verdict = "failed" if done.troubles else "done"
        return [Action(HISTORY, f"before {before}", after, verdict, reason)]

    async def _forget(self, tell: Tell) -> list[Action]:
        kept = timedelta(seconds=max(self._ids_kept, LEAST_KEPT_SECONDS))
        before = (datetime.now(UTC) - kept).strftime("%Y-%m-%dT%H:%M:%S")
        outcome = await self.care.forget_keys(tell, before=before, within_seconds=FORGET_SECONDS)
        return actions_of([outcome])


async def carried_out(name: str, work: Awaitable[list[Action]]) -> list[Action]:
    """One part of the night's work; its failure is told and leaves the other parts alone."""
    try:
        return await work
    except TableForgeError as error:
        return [Action(name, "", "", "failed", error.detail)]


def actions_of(outcomes: Sequence[Outcome]) -> list[Action]:
    """What was done, as it is told."""
    return [Action(*outcome) for outcome in outcomes]
