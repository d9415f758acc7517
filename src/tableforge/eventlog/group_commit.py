"""Group commit: appends that arrive while the disk is busy share the next commit.

A writer at rest commits at the end of the loop turn in which the first append came; a busy one begins no sooner than
`interval` after its last commit began. The interval is the largest lever on CPU per event (see docs/adr): it costs about
a millisecond of delivery under load and nothing at rest. The idea is that of the group commit of database logs
(DeWitt et al., "Implementation techniques for main memory database systems", SIGMOD 1984).
"""

import asyncio
from collections import deque
from collections.abc import Callable

import structlog

from tableforge.errors import TableForgeError
from tableforge.eventlog import (
    Append,
    Appended,
    DuplicateCommand,
    LogUnavailable,
    StreamMissing,
    VersionConflict,
)

log = structlog.get_logger(__name__)

SHARED_INTERVAL_SECONDS = 0.008
"""The longest interval that other writers to the same log bring about."""

Commit = Callable[[list[Append], Callable[[Appended], None]], None]
"""Writes a batch in one transaction and calls back, on the event loop, with one outcome an append."""


class GroupCommit:
    """Owns the pending appends; one batch is out at a time.

    `interval` in seconds; `bound` is how many appends may wait before further ones are refused.
    """

    def __init__(self, commit: Commit, *, interval: float, bound: int = 20_000) -> None:
        self._commit = commit
        self._alone = self._interval = interval
        self._bound = bound
        self._pending: list[Append] = []
        self._out: list[Append] = []
        self._sent: list[bool] | None = None
        """Which of those that are out were sent; None if all were."""
        self._untold: deque[Append] = deque()
        """Refused appends of the batch that just ended whose writers have not heard of it yet."""
        self._scheduled = False
        self._began = float("-inf")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle: asyncio.Event = asyncio.Event()
        self._idle.set()

    def append_nowait(self, entry: Append) -> None:
        """Queue an append for the next commit, or refuse it at once when too many wait."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        if len(self._pending) >= self._bound:
            loop.call_soon(
                entry.done,
                entry,
                LogUnavailable(
                    "The command was not carried out.",
                    f"{self._bound} commands wait for the disk already.",
                    "Send it again in a moment.",
                ),
            )
            return
        if self._untold and any(
            one.room == entry.room and entry.expected > one.expected and not one.withdrawn
            for one in self._untold
        ):
            entry.withdrawn = True  # decided while others are told, on what is refused already
        self._pending.append(entry)
        if not self._scheduled and not self._out:
            self._schedule(loop)

    def share(self, writers: int) -> None:
        """So many processes append to the log, this one among them: it is to see as many commits as from one alone.

        Each of them then has as many events in a commit, and in what follows each commit, as one alone would have.
        """
        self._interval = max(self._alone, min(self._alone * writers, SHARED_INTERVAL_SECONDS))

    async def wait_for_idle(self) -> None:
        """Return once nothing is pending or under way; the caller bounds the wait."""
        await self._idle.wait()

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        self._scheduled = True
        self._idle.clear()
        due = self._began + self._interval
        if due <= loop.time():
            loop.call_soon(self._flush)
        else:
            loop.call_at(due, self._flush)

    def _flush(self) -> None:
        assert self._loop is not None
        self._scheduled = False
        self._began = self._loop.time()
        self._out, self._pending = self._pending, []
        self._sent = None
        sent = [entry for entry in self._out if not entry.withdrawn]
        if len(sent) < len(self._out):
            self._sent = [not entry.withdrawn for entry in self._out]
            if not sent:
                self._loop.call_soon(self._finished, [])
                return
        self._commit(sent, self._finished)

    def _finished(self, outcomes: Appended) -> None:
        assert self._loop is not None
        batch, self._out = self._out, []
        if self._sent is not None:
            of_sent = iter(outcomes)
            outcomes = [
                next(of_sent) if was_sent else withdrawn(entry)
                for entry, was_sent in zip(batch, self._sent, strict=True)
            ]
        if any(outcomes):
            # Writers who were refused must be able to withdraw what they have built on it before the next batch goes out.
            self._withdraw_behind(batch, outcomes)
            self._tell(batch, outcomes)
            self._go_on()
        else:
            # The disk gets its next batch before this one's receivers get their frames.
            self._go_on()
            self._tell(batch, outcomes)
        if not self._pending and not self._out and not self._scheduled:
            self._idle.set()

    def _go_on(self) -> None:
        assert self._loop is not None
        if self._pending and not self._out and not self._scheduled:
            if self._began + self._interval <= self._loop.time():
                self._flush()
            else:
                self._schedule(self._loop)

    def _tell(self, batch: list[Append], outcomes: Appended) -> None:
        for entry, outcome in zip(batch, outcomes, strict=True):
            if self._untold and self._untold[0] is entry:
                self._untold.popleft()
            try:
                entry.done(entry, outcome)
            except Exception as error:  # the others of the batch must still hear of theirs
                log.error("the end of an append was not taken", room=entry.room, exc_info=error)

    def _withdraw_behind(self, batch: list[Append], outcomes: Appended) -> None:
        """Mark what waits and was built on an append that was refused: where it expects to stand, others may stand.

        A writer who had withdrawn that one knows, and has decided anew what waits by now.
        """
        refused: dict[str, int] = {}
        for entry, outcome in zip(batch, outcomes, strict=True):
            if outcome is not None and not entry.withdrawn:
                self._untold.append(entry)
                refused[entry.room] = min(refused.get(entry.room, entry.expected), entry.expected)
        for entry in self._pending:
            if entry.room in refused and entry.expected > refused[entry.room]:
                entry.withdrawn = True


def withdrawn(entry: Append) -> VersionConflict:
    """The outcome of an append that was not sent."""
    return VersionConflict(entry.room, expected=entry.expected, actual=entry.expected)


def one_by_one(
    batch: list[Append], write: Callable[[Append], None]
) -> list[TableForgeError | None]:
    """Write appends singly and return their outcomes; what was built on a refused one is not tried."""
    refused: dict[str, int] = {}
    outcomes: list[TableForgeError | None] = []
    for entry in batch:
        try:
            if entry.expected > refused.get(entry.room, entry.expected):
                raise withdrawn(entry)
            write(entry)
            outcomes.append(None)
        except (VersionConflict, DuplicateCommand, StreamMissing) as refusal:
            refused[entry.room] = min(refused.get(entry.room, entry.expected), entry.expected)
            outcomes.append(refusal)
    return outcomes
