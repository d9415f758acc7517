"""The contract of a database: named statements, run in bounded time, durable when a write returns.

The name of a statement is its label in metrics and in messages. Parameters are always bound, never put into the text.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from tableforge.errors import Unavailable

Row = tuple[Any, ...]
Step = tuple["Statement", tuple[object, ...]]

SERVER = "to_hex(CAST(extract(epoch FROM pg_postmaster_start_time()) * 1000000 AS bigint))"
"""In PostgreSQL: which running server answers, as text. A standby that takes over is another one than the server whose
place it takes, though it holds the same rows and counts its transactions on from the same numbers."""


class Statement(NamedTuple):
    """A piece of SQL and the name under which its time is counted.

    Parameters are written `?`, or `?1`, `?2` where one stands in several places. `postgres` is the text for PostgreSQL
    where the dialects differ, with the same parameters. A change is `repeatable` if running it a second time leaves the
    database as the first time did, and its row count means nothing to whoever asked: such a change is sent again when a
    lost connection leaves open whether it happened. Lists, searches, chores and the operator's questions are in the
    `background`: they leave some connections to the game, and are refused with `DatabaseBusy` when none is free soon.
    """

    name: str
    sql: str
    postgres: str | None = None
    repeatable: bool = False
    background: bool = False


class DatabaseUnavailable(Unavailable):
    """The database could not do what was asked.

    Nothing was changed, unless the text says that this is not known: a server that is lost between a commit and its
    answer leaves that open (DB2).
    """


class DatabaseBusy(DatabaseUnavailable):
    """Every connection that this may use is in use; nothing was done, and it may be asked again in a moment."""


class Database(Protocol):
    """What outlives the process, apart from the rooms' own logs.

    Every method raises `DatabaseUnavailable` when the disk or the server fails (DB1); then nothing was changed, or the
    error says that this is not known (DB2).
    """

    async def read(self, statement: Statement, *params: object) -> list[Row]:
        """Run a query and return all its rows; sees every write that returned before the call (DB3)."""
        ...

    async def write(self, statement: Statement, *params: object) -> int:
        """Run one change in a transaction of its own and return how many rows it touched; durable on return (DB4)."""
        ...

    async def write_all(self, steps: Sequence[Step]) -> list[int]:
        """Run several changes in one transaction, all or none (DB5), and return each one's row count."""
        ...
