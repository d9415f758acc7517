"""A database whose answers to changes are lost, or late."""

import asyncio
from collections.abc import Sequence

from tableforge.database import Database, DatabaseUnavailable, Row, Statement, Step


class Unsure:
    """A database that is lost between a commit and its answer if `lost`; else, with `committed` set, it answers only once
    `answering` is.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.lost = False
        self.committed: asyncio.Event | None = None
        self.answering = asyncio.Event()

    async def read(self, statement: Statement, *params: object) -> list[Row]:
        """See the contract."""
        return await self._database.read(statement, *params)

    async def write(self, statement: Statement, *params: object) -> int:
        """See the contract."""
        return (await self.write_all([(statement, params)]))[0]

    async def write_all(self, steps: Sequence[Step]) -> list[int]:
        """See the contract."""
        counts = await self._database.write_all(steps)
        if self.lost:
            raise DatabaseUnavailable("It is not known whether this was saved.")
        if self.committed is not None:
            self.committed.set()
            await self.answering.wait()
        return counts
