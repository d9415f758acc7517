"""Which moments of the schedules were taken: of all instances that see a moment come, one gets it.

A moment is computed from the schedule alone, so it is the same number everywhere, however the clocks differ. One that had
passed when the first server came upon the database was missed by nobody: it is kept as a negative number, so that it is
not made up for, and not told of as taken either.
"""

from tableforge.database import Database, Statement

TAKE = Statement(
    "schedule.take",
    "INSERT INTO schedule_turns (kind, due) VALUES (?, ?) ON CONFLICT (kind)"
    " DO UPDATE SET due = excluded.due WHERE schedule_turns.due < excluded.due",
    background=True,
)
TAKEN = Statement("schedule.taken", "SELECT kind, due FROM schedule_turns", background=True)


class ScheduleTurns:
    """The repository of moments that were taken. Every method raises `DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, kind: str, passed: int) -> None:
        """Note the moment behind which this database has a history."""
        await self._database.write(TAKE, kind, -passed)

    async def take(self, kind: str, due: int) -> bool:
        """Take a moment (seconds since 1970) upon oneself; False if somebody has it, or a later one."""
        return await self._database.write(TAKE, kind, due) == 1

    async def taken(self) -> dict[str, int]:
        """The newest moment of each kind that somebody took."""
        return {kind: due for kind, due in await self._database.read(TAKEN) if due > 0}

    async def passed(self, kind: str) -> int | None:
        """The newest moment of a kind that is not to be made up for; None on a database without a history."""
        moments = {row[0]: abs(row[1]) for row in await self._database.read(TAKEN)}
        return moments.get(kind)
