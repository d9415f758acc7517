"""Orders of the operator: carried out within the request where they take less than half a minute, else as a run to ask for."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import structlog
from litestar import Response
from msgspec import Struct, structs

from tableforge.errors import Conflict, TableForgeError
from tableforge.library.runs import Action, Runs, Verdict, answered, run_id
from tableforge.telemetry import COUNTERS

WITHIN_SECONDS = 25.0
"""How long a request waits for what it ordered."""
TELL_SECONDS = 2.0
"""How often a run says how far it is."""
RECORD_SECONDS: Final = 2.0
"""How long an order that needs no database waits for it to take down the run."""
LATE_SECONDS: Final = 5.0
"""How often it is tried to take down runs that were carried out without."""
LATE_AT_MOST: Final = 100
"""So many such runs are kept, the newest."""
UNRECORDED: Final = (
    "The database does not answer, so no run tells of this yet; one will when it does."
)

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


class Late(NamedTuple):
    """A run that is over and that the database does not know of."""

    kind: str
    run: str
    actions: Sequence[Action]


class Orders:
    """Carries out the operator's orders, and those of schedules, one of a kind at a time on this instance.

    An order that is `alone` needs no database: it is carried out though its run cannot be taken down, which is made up for.
    """

    def __init__(
        self,
        runs: Runs,
        *,
        record_seconds: float = RECORD_SECONDS,
        late_seconds: float = LATE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.runs = runs
        self._record_seconds = record_seconds
        self._late_seconds = late_seconds
        self._clock = clock
        self._under_way: dict[str, asyncio.Task[Sequence[Action]] | None] = {}
        self._late: deque[Late] = deque(maxlen=LATE_AT_MOST)
        self._making_up: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Break off what is under way."""
        tasks: list[asyncio.Task[Any]] = [
            one for one in self._under_way.values() if one is not None
        ]
        if self._making_up is not None:
            tasks.append(self._making_up)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def begin(
        self, kind: str, order: Order, *, alone: bool = False
    ) -> tuple[str, "asyncio.Task[Sequence[Action]]"]:
        """Begin an order; returns its run's id, and the task, which never fails.

        Raises `Busy`, and `DatabaseUnavailable` unless it is `alone`.
        """
        if kind in self._under_way:
            raise Busy(
                "Nothing was begun.",
                f"This instance carries out `{kind}` already.",
                "Wait for it to end, then send the order again.",
            )
        self._under_way[kind] = None
        try:
            run = run_id()
            answers = True
            if alone:
                answers = await self._in_time(self.runs.begin(kind, run))
            else:
                await self.runs.begin(kind, run)
            carried_out = self._carry_out(Late(kind, run, ()), order, alone=alone, answers=answers)
            task = asyncio.get_running_loop().create_task(carried_out)
        except BaseException:
            del self._under_way[kind]
            raise
        self._under_way[kind] = task
        task.add_done_callback(lambda _: self._under_way.pop(kind))
        return run, task

    async def _carry_out(
        self, begun: Late, order: Order, *, alone: bool, answers: bool
    ) -> Sequence[Action]:
        kind, run, _ = begun
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
            if not alone:
                with contextlib.suppress(TableForgeError):
                    await self.runs.end(run, actions)
        if alone:
            actions = await self._take_down(Late(kind, run, actions), answers=answers)
        return actions

    async def note(
        self, kind: str, actions: Sequence[Action], *, wait: bool = True
    ) -> Sequence[Action]:
        """Take down as a run what was done without one, now or (without `wait`) soon; the actions, which say if it has to wait."""
        COUNTERS.runs[kind, verdict_of(actions)] += 1
        return await self._take_down(Late(kind, run_id(), actions), answers=wait)

    async def _take_down(self, over: Late, *, answers: bool) -> Sequence[Action]:
        """Take down a run that is over, now if the database `answers`, or later."""
        if answers and await self._in_time(self._write(over)):
            return over.actions
        at = f"Carried out at {moment(self._clock())}, and taken down when the database answered."
        self._late.append(over._replace(actions=with_reason(over.actions, at)))
        if self._making_up is None or self._making_up.done():
            self._making_up = asyncio.get_running_loop().create_task(self._make_up())
        return with_reason(over.actions, UNRECORDED)

    async def _write(self, over: Late) -> None:
        await self.runs.begin(over.kind, over.run)
        await self.runs.end(over.run, over.actions)

    async def _make_up(self) -> None:
        """Take down what the database was not there for."""
        while self._late:
            over = self._late[0]
            try:
                await self._write(over)
            except TableForgeError:
                await asyncio.sleep(self._late_seconds)
                continue
            if self._late and self._late[0] is over:
                self._late.popleft()

    async def _in_time(self, asked: Coroutine[Any, Any, object]) -> bool:
        """Whether the database did what it was asked, within `record_seconds`."""
        try:
            return await answered(asked, within=self._record_seconds)
        except TableForgeError:
            return False

    async def _tell(self, run: str, told: list[str]) -> None:
        while True:
            await asyncio.sleep(TELL_SECONDS)
            with contextlib.suppress(TableForgeError):
                await self.runs.tell(run, told[0])

    async def answer(
        self, kind: str, order: Order, *, alone: bool = False
    ) -> Response[Actions | Started]:
        """Carry out an order and answer the request: 200 with the actions, or 202 with the run when it takes longer."""
        run, task = await self.begin(kind, order, alone=alone)
        done, _ = await asyncio.wait({task}, timeout=WITHIN_SECONDS)
        if not done:
            return Response(Started(run), status_code=202)
        return Response(Actions(task.result()), status_code=200)


def verdict_of(actions: Sequence[Action]) -> Verdict:
    """A run's verdict: the gravest of its actions, `skipped` where nothing was to be done."""
    found = {action.verdict for action in actions}
    return next((one for one in GRAVEST_FIRST if one in found), "skipped")


def with_reason(actions: Sequence[Action], more: str) -> list[Action]:
    """The actions, the first of them with one more reason."""
    return [
        structs.replace(one, reason=f"{one.reason} {more}".strip()) if number == 0 else one
        for number, one in enumerate(actions)
    ]


def moment(seconds: float) -> str:
    """A time as the interface tells it: RFC 3339, UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
