"""Which moments of the schedules were taken: of all instances that see a moment come, one gets it.

A moment is computed from the schedule alone, so it is the same number everywhere, however the clocks differ.
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

    async def take(self, kind: str, due: int) -> bool:
        """Take a moment (seconds since 1970) upon oneself; False if somebody has it, or a later one."""
        return await self._database.write(TAKE, kind, due) == 1

    async def taken(self) -> dict[str, int]:
        """The newest moment of each kind that somebody took."""
        return {row[0]: row[1] for row in await self._database.read(TAKEN)}
