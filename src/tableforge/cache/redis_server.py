"""The server of the shared level: connected again and again, asked while it answers in time, and otherwise left alone.

All questions of one turn of the loop go out in one piece. A turn that is not answered in time counts against the server; after
some of them in a row it is let go (`breaker`), and a connection made anew is the probe: it must answer in time thrice.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import hiredis
import structlog

from tableforge.cache.breaker import Breaker, State
from tableforge.cache.redis_link import (
    CLOSED,
    HISTORY,
    LOST,
    Answered,
    Link,
    Question,
    history,
    refusal,
)
from tableforge.config.redis_address import CONNECT_TROUBLE, Address, Command

PATIENCE_SECONDS: Final = 2.0
"""How long a connection may take to open."""
HEARTBEAT_SECONDS: Final = 1.0
"""How often a connection is asked whether its server still takes changes."""
PROBES: Final = 3
CLOSE_SECONDS: Final = 1.0
BLOCKED_SECONDS: Final = 0.005
GRACE_SECONDS: Final = 0.002
"""A time-out that comes later than the first of these says that we were busy ourselves: answers that came meanwhile are read
first, for as long as the second."""

Late = Callable[[], None]
"""Told that a turn was not answered in time."""

log = structlog.get_logger(__name__)


class _Turn:
    """What was asked in one turn, when it must be answered by the loop's clock, and whether that is over, well or not."""

    __slots__ = ("due", "late", "over")

    def __init__(self, due: float, late: Late) -> None:
        self.due = due
        self.late = late
        self.over = False


class Server:
    """`bound` is the time in which an answer must come, in seconds; `client` our name in CLIENT LIST.

    `reads` is asked at the end of each turn for the questions that were gathered, and whom to tell when they are late.
    """

    def __init__(
        self,
        address: Address,
        *,
        bound: float,
        client: str,
        reads: Callable[[], tuple[list[Question], Late]],
    ) -> None:
        self._address = address
        self._client = client
        self._reads = reads
        self._link: Link | None = None
        self._queue: list[Question] = []
        self._scheduled = False
        self._turns: deque[_Turn] = deque()
        self._wake = 0.0
        """When turns are looked at next, by the loop's clock; 0 while there are none."""
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop
        self.bound = bound
        self.breaker = Breaker()
        self.name = address.name

    @property
    def is_open(self) -> bool:
        """Whether it is not asked."""
        return self._link is None or self._link.lost.done()

    @property
    def run(self) -> bytes:
        """Which run of the server answers; empty while none does."""
        return self._link.run if self._link is not None else b""

    @property
    def state(self) -> State:
        """The breaker's; open from the moment on at which a connection is lost."""
        return "open" if self.is_open and self.breaker.is_closed else self.breaker.state

    @property
    def trouble(self) -> str:
        """Why it is or was last not asked; empty if it never was."""
        if self._link is not None and self._link.lost.done():
            return self._link.lost.result()
        return self.breaker.trouble if self.breaker.opened or not self.breaker.is_closed else ""

    def start(self) -> None:
        """Connect and stay connected, in the background."""
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._keep_connected())

    async def close(self) -> None:
        """Send what waits, and let go."""
        if self._link is not None:
            self._flush()
        link, self._link = self._link, None
        if link is not None:
            await link.finish(CLOSE_SECONDS)
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait((task,), timeout=CLOSE_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._address.close()

    # Questions

    def send(self, command: Command, answered: Answered) -> None:
        """Ask with all else of this turn; LOST at once while the server is not asked."""
        if self.is_open:
            answered(LOST)
            return
        self._queue.append((command, answered))
        self.turn()

    def turn(self) -> None:
        """There is something to ask in this turn."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    async def ask(self, *commands: Command) -> list[Any] | None:
        """Answers to commands, errors among them; None if they did not come in time."""
        if self.is_open:
            return None
        answers: list[Any] = []
        whole: asyncio.Future[list[Any] | None] = self._loop.create_future()

        def answered(answer: object) -> None:
            answers.append(answer)
            if len(answers) == len(commands) and not whole.done():
                whole.set_result(None if LOST in answers else answers)

        for command in commands:
            self.send(command, answered)
        timer = self._loop.call_later(self.bound, self.give_up, whole)
        try:
            return await whole
        finally:
            timer.cancel()

    def give_up(self, waiting: asyncio.Future[Any]) -> None:
        """Let somebody wait no longer; what still comes for them is thrown away."""
        if not waiting.done():
            waiting.set_result(None)

    def refused(self, error: hiredis.ReplyError) -> None:
        """It answers, but not as the server that we need: a replica, one that still loads, one that keeps us out."""
        if self._link is not None:
            self._link.lose(refusal(error))

    def _flush(self) -> None:
        self._scheduled = False
        questions, self._queue = self._queue, []
        reads, late = self._reads()
        questions += reads
        if not questions:
            return
        if self._link is None:
            for _, answered in questions:
                answered(LOST)
            return
        turn = _Turn(self._loop.time() + self.bound, late)
        self._turns.append(turn)
        if not self._wake:
            self._wake_in(self.bound)
        command, last = questions[-1]

        def answered_all(answer: object) -> None:
            if not turn.over and answer is not LOST:
                self.breaker.succeed()
            turn.over = True
            if self._turns and self._turns[0] is turn:
                self._turns.popleft()
            last(answer)

        questions[-1] = (command, answered_all)
        self._link.send(questions)

    def _watch(self) -> None:
        """Look for turns whose time is over; one timer for all of them, since nearly all are answered long before."""
        turns, now = self._turns, self._loop.time()
        if now - self._wake > BLOCKED_SECONDS:
            self._wake_in(GRACE_SECONDS)
            return
        while turns and (turns[0].over or turns[0].due <= now):
            turn = turns.popleft()
            if not turn.over:
                turn.over = True
                turn.late()
                self._fail()
        if turns:
            self._wake_in(turns[0].due - now)
        else:
            self._wake = 0.0

    def _wake_in(self, seconds: float) -> None:
        self._wake = self._loop.time() + seconds
        self._loop.call_later(seconds, self._watch)

    def _fail(self) -> None:
        why = f"it did not answer within {self.bound * 1000:g} ms"
        if self.breaker.fail(why) and self._link is not None:
            self._link.lose(why)

    # The connection

    async def _keep_connected(self) -> None:
        said = ""
        while True:
            await asyncio.sleep(self.breaker.pause())
            self.breaker.probe()
            try:
                link = await self._connected()
                why = await self._use(link)
                if why == CLOSED:
                    return
            except TimeoutError:
                why = "it does not answer in time"
            except CONNECT_TROUBLE as error:
                why = str(error) or type(error).__name__
            except Exception as error:
                # Whatever it was, to give up here would be to do without the shared level for good.
                why = repr(error)
                log.error("connecting to the cache failed", server=self.name, exc_info=error)
            if why != said:
                log.warning("the shared cache is not asked", server=self.name, reason=why)
            said = why
            if self.breaker.state != "open":
                self.breaker.trip(why)

    async def _connected(self) -> Link:
        """A connection whose server answers in time; raises CONNECT_TROUBLE or `TimeoutError`."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            link = await self._address.connect(Link, self._client)
        try:
            for _ in range(PROBES):
                async with asyncio.timeout(self.bound):
                    await link.ask((b"PING",))
        except BaseException:
            link.lose("it did not answer in time")
            raise
        return link

    async def _use(self, link: Link) -> str:
        """Have it asked until the connection is lost or its server is none to ask; why that was."""
        moved = self._loop.create_task(self._address.wait_until_moved())
        self._link = link
        self.breaker.close()
        try:
            while True:
                await asyncio.wait(
                    (link.lost, moved),
                    timeout=HEARTBEAT_SECONDS,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if link.lost.done():
                    return link.lost.result()
                if moved.done():
                    return "the Sentinels name another primary"
                self.send(HISTORY, self._heard)
        finally:
            moved.cancel()
            self._link = None
            link.lose("given up")

    def _heard(self, replication: object) -> None:
        """It is still the server that it was, or else it is let go."""
        if self._link is None or replication is LOST:
            return
        if isinstance(replication, hiredis.ReplyError):
            self.refused(replication)
        elif history(replication) != self._link.history:
            self._link.lose("it is or was a replica")


def errors(answers: Sequence[object]) -> list[hiredis.ReplyError]:
    """Those of some answers that are errors."""
    return [answer for answer in answers if isinstance(answer, hiredis.ReplyError)]
