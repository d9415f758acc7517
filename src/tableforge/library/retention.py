"""What is kept for a while only: sessions that have ended, notices that everybody has heard, runs of last season."""

import time
from collections.abc import Callable

from tableforge.database import Database, Statement
from tableforge.library import notices, runs
from tableforge.library.runs import Action
from tableforge.library.sessions import PURGE_SESSIONS, milliseconds

PORTION = 1_000
PORTIONS_AT_MOST = 1_000
"""What one night does not finish the next one does."""


class Retention:
    """Takes away what is over. Every method raises `DatabaseUnavailable`.

    `has_notices` is whether this database keeps notices, as that of a fleet does.
    """

    def __init__(
        self, database: Database, *, has_notices: bool, clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._has_notices = has_notices
        self._clock = clock

    async def prune(self, tell: Callable[[str], None]) -> list[Action]:
        """Take away all that is over; returns what it was."""
        tell("sessions that have ended")
        ended = 0
        for _ in range(PORTIONS_AT_MOST):
            count = await self._database.write(PURGE_SESSIONS, milliseconds(self._clock()), PORTION)
            ended += count
            if count < PORTION:
                break
        actions = [action_of("sessions that have ended", ended)]
        chores: list[tuple[str, Statement, float]] = [
            ("runs of long ago", runs.PURGE, runs.KEPT_SECONDS)
        ]
        if self._has_notices:
            chores.append(("notices that are old", notices.PURGE, notices.KEPT_SECONDS))
        for what, statement, kept_seconds in chores:
            tell(what)
            actions.append(action_of(what, await self._database.write(statement, kept_seconds)))
        return actions


def action_of(what: str, count: int) -> Action:
    """What was taken away, as an action."""
    if count == 0:
        return Action(f"prune {what}", "0 rows", "0 rows", "skipped", "There are none.")
    return Action(f"prune {what}", f"{count} rows", "0 rows", "done", "")
