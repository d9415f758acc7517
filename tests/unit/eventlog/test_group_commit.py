"""When the next commit begins, and what waits for it when writers decide anew while the last one's outcomes are being told."""

import asyncio
from collections.abc import Callable

import pytest

from tableforge.errors import TableForgeError
from tableforge.eventlog import Append, Appended, VersionConflict
from tableforge.eventlog.group_commit import GroupCommit
from tests import virtual_time


class Room:
    """A log of one room whose head others move; `sent` are the offsets at which appends were tried."""

    def __init__(self, head: int) -> None:
        self.head = head
        self.sent: list[int] = []
        self.group = GroupCommit(self._commit, interval=0)
        self.outcomes: dict[bytes, TableForgeError | None] = {}

    def _commit(self, batch: list[Append], finished: Callable[[Appended], None]) -> None:
        outcomes: list[TableForgeError | None] = []
        for entry in batch:
            self.sent.append(entry.expected)
            if entry.expected == self.head:
                self.head = entry.last
                outcomes.append(None)
            else:
                outcomes.append(
                    VersionConflict(entry.room, expected=entry.expected, actual=self.head)
                )
        asyncio.get_running_loop().call_soon(finished, outcomes)

    def append(
        self, name: bytes, expected: int, then: Callable[[], object] = lambda: None
    ) -> Append:
        """Submit an append of one event; `then` is done when its outcome is told."""

        def done(entry: Append, outcome: TableForgeError | None) -> None:
            self.outcomes[name] = outcome
            then()

        entry = Append("room", expected, 1, (b"{}",), name, b"", done)
        self.group.append_nowait(entry)
        return entry


async def test_el13_what_is_built_on_a_refusal_that_was_not_told_yet_is_not_sent() -> None:
    """Somebody else's event stands exactly where the refused one wanted to, so that the log itself would take it."""
    room = Room(head=6)
    stale = room.append(b"stale", 6, lambda: room.append(b"built on it", 6))
    stale.withdrawn = True
    room.append(b"refused", 5)
    await room.group.wait_for_idle()
    assert isinstance(room.outcomes[b"refused"], VersionConflict)
    assert isinstance(room.outcomes[b"built on it"], VersionConflict)
    assert room.sent == [5]


async def test_el13_what_is_decided_anew_once_the_refusal_is_told_is_sent() -> None:
    room = Room(head=6)
    room.append(b"refused", 5, lambda: room.append(b"anew", 6))
    await room.group.wait_for_idle()
    assert room.outcomes[b"anew"] is None
    assert room.sent == [5, 6]


async def test_el13_what_is_decided_anew_in_place_of_what_its_writer_took_back_is_sent() -> None:
    room = Room(head=7)

    def decide_anew() -> None:
        behind.withdrawn = True
        room.append(b"first anew", 7)
        room.append(b"second anew", 8)

    room.append(b"first", 5, decide_anew)
    behind = room.append(b"second", 6)
    await room.group.wait_for_idle()
    assert room.outcomes[b"first anew"] is room.outcomes[b"second anew"] is None
    assert room.sent == [5, 6, 7, 8]


@pytest.mark.parametrize(
    ("interval", "writers", "apart"),
    [(2, 1, 2), (2, 2, 4), (2, 3, 6), (2, 50, 8), (20, 3, 20), (0, 3, 0)],
)
def test_el16_writers_of_one_log_commit_as_often_together_as_one_alone(
    interval: float, writers: int, apart: float
) -> None:
    """In milliseconds: how far apart a busy writer's commits are, and that it commits at once after a rest."""
    begun: list[float] = []

    async def play() -> None:
        loop = asyncio.get_running_loop()

        def commit(batch: list[Append], finished: Callable[[Appended], None]) -> None:
            begun.append(loop.time() * 1000)
            loop.call_soon(finished, [None] * len(batch))

        group = GroupCommit(commit, interval=interval / 1000)
        group.share(writers)

        def again(entry: Append, outcome: TableForgeError | None) -> None:
            if len(begun) < 3:
                append()

        def append() -> None:
            group.append_nowait(Append("room", 0, 1, (b"{}",), b"key", b"", again))

        for _ in range(2):
            append()
            await group.wait_for_idle()
            assert len(begun) == 3
            assert begun[0] == pytest.approx(loop.time() * 1000 - 2 * apart)
            begun.clear()
            await asyncio.sleep(1)

    virtual_time.run(play())
