"""Orders of the operator: carried out within the request where they take less than half a minute, else as a run to ask for."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Final

import structlog
from litestar import Response
from msgspec import Struct

from tableforge.errors import Conflict, TableForgeError
from tableforge.library.runs import Action, Runs, Verdict
from tableforge.telemetry import COUNTERS

WITHIN_SECONDS = 25.0
"""How long a request waits for what it ordered."""
TELL_SECONDS = 2.0
"""How often a run says how far it is."""

log = structlog.get_logger(__name__)

GRAVEST_FIRST: Final[Sequence[Verdict]] = ("failed", "reverted", "done", "skipped")

Tell = Callable[[str], None]
"""Says how far an order is, in words."""
Order = Callable[[Tell], Awaitable[Sequence[Action]]]
"""Carries an order out. A `TableForgeError` that it raises becomes an action that failed."""


class Actions(Struct, frozen=True):
    """What an order of the operator led to."""

    actions: Sequence[Action]


class Started(Struct, frozen=True):
    """An order that takes longer: ask for the run."""

    run: str


class Busy(Conflict):
    """The same order is being carried out already."""


class Orders:
    """Carries out the operator's orders, and those of schedules, one of a kind at a time on this instance."""

    def __init__(self, runs: Runs) -> None:
        self.runs = runs
        self._under_way: dict[str, asyncio.Task[Sequence[Action]] | None] = {}

    async def close(self) -> None:
        """Break off what is under way."""
        tasks = [task for task in self._under_way.values() if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def begin(self, kind: str, order: Order) -> tuple[str, "asyncio.Task[Sequence[Action]]"]:
        """Begin an order; returns its run's id, and the task, which never fails. Raises `Busy`, `DatabaseUnavailable`."""
        if kind in self._under_way:
            raise Busy(
                "Nothing was begun.",
                f"This instance carries out `{kind}` already.",
                "Wait for it to end, then send the order again.",
            )
        self._under_way[kind] = None
        try:
            run = await self.runs.begin(kind)
            task = asyncio.get_running_loop().create_task(self._carry_out(kind, run, order))
        except BaseException:
            del self._under_way[kind]
            raise
        self._under_way[kind] = task
        task.add_done_callback(lambda _: self._under_way.pop(kind))
        return run, task

    async def _carry_out(self, kind: str, run: str, order: Order) -> Sequence[Action]:
        told = [""]
        telling = asyncio.get_running_loop().create_task(self._tell(run, told))
        actions: Sequence[Action]
        try:
            actions = await order(lambda progress: told.__setitem__(0, progress))
        except TableForgeError as error:
            actions = [Action(kind, "", told[0], "failed", str(error))]
        except asyncio.CancelledError:
            actions = [Action(kind, "", told[0], "failed", "This instance stopped.")]
            raise
        except Exception as error:
            log.error("an order failed", kind=kind, exc_info=error)
            actions = [
                Action(
                    kind, "", told[0], "failed", "The server made a mistake; its log says which."
                )
            ]
        finally:
            telling.cancel()
            COUNTERS.runs[kind, verdict_of(actions)] += 1
            with contextlib.suppress(TableForgeError):
                await self.runs.end(run, actions)
        return actions

    async def _tell(self, run: str, told: list[str]) -> None:
        while True:
            await asyncio.sleep(TELL_SECONDS)
            with contextlib.suppress(TableForgeError):
                await self.runs.tell(run, told[0])

    async def answer(self, kind: str, order: Order) -> Response[Actions | Started]:
        """Carry out an order and answer the request: 200 with the actions, or 202 with the run when it takes longer."""
        run, task = await self.begin(kind, order)
        done, _ = await asyncio.wait({task}, timeout=WITHIN_SECONDS)
        if not done:
            return Response(Started(run), status_code=202)
        return Response(Actions(task.result()), status_code=200)


def verdict_of(actions: Sequence[Action]) -> Verdict:
    """A run's verdict: the gravest of its actions, `skipped` where nothing was to be done."""
    found = {action.verdict for action in actions}
    return next((one for one in GRAVEST_FIRST if one in found), "skipped")


def moment(seconds: float) -> str:
    """A time as the interface tells it: RFC 3339, UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
