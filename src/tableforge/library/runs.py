"""Runs: what was ordered or scheduled and done to the server itself, with how it went.

They are rows in the database, so that any instance can tell of a run that another one carries out. One whose instance is
not heard of any more ends as failed.
"""

import asyncio
import secrets
from collections.abc import Coroutine, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from tableforge.database import Database, Row, Statement
from tableforge.errors import NotFound

KEPT_SECONDS = 90 * 86_400.0
SILENT_SECONDS = 60.0
"""A run that its instance has not told of for this long is over, whatever became of it."""
LISTED_AT_MOST = 500

Verdict = Literal["done", "skipped", "reverted", "failed"]

_COLUMNS_SQLITE = "id, kind, instance, started, coalesce(ended, 0), (julianday('now') - 2440587.5) * 86400.0 - seen, progress, actions"
_COLUMNS_POSTGRES = (
    "id, kind, instance, extract(epoch FROM started)::float8, coalesce(extract(epoch FROM ended), 0)::float8,"
    " extract(epoch FROM clock_timestamp() - seen)::float8, progress, actions"
)

BEGIN = Statement(
    "run.begin",
    "INSERT INTO runs (id, kind, instance) VALUES (?, ?, ?) ON CONFLICT (id) DO NOTHING",
    repeatable=True,
)
TELL = Statement(
    "run.tell",
    "UPDATE runs SET progress = ?2, seen = (julianday('now') - 2440587.5) * 86400.0 WHERE id = ?1",
    "UPDATE runs SET progress = ?2, seen = clock_timestamp() WHERE id = ?1",
    repeatable=True,
)
END = Statement(
    "run.end",
    "UPDATE runs SET actions = ?2, progress = '', ended = (julianday('now') - 2440587.5) * 86400.0, seen = (julianday('now') - 2440587.5) * 86400.0 WHERE id = ?1",
    "UPDATE runs SET actions = ?2, progress = '', ended = clock_timestamp(), seen = clock_timestamp() WHERE id = ?1",
    repeatable=True,
)
FIND = Statement(
    "run.find",
    f"SELECT {_COLUMNS_SQLITE} FROM runs WHERE id = ?",  # noqa: S608 - names of columns, no values
    f"SELECT {_COLUMNS_POSTGRES} FROM runs WHERE id = ?",  # noqa: S608 - names of columns, no values
    background=True,
)
LATEST = Statement(
    "run.latest",
    f"SELECT {_COLUMNS_SQLITE} FROM runs ORDER BY started DESC, id DESC LIMIT ?",  # noqa: S608 - names of columns, no values
    f"SELECT {_COLUMNS_POSTGRES} FROM runs ORDER BY started DESC, id DESC LIMIT ?",  # noqa: S608 - names of columns, no values
    background=True,
)
PURGE = Statement(
    "run.purge",
    "DELETE FROM runs WHERE started < (julianday('now') - 2440587.5) * 86400.0 - ?",
    "DELETE FROM runs WHERE started < clock_timestamp() - make_interval(secs => CAST(? AS double precision))",
    repeatable=True,
    background=True,
)


class Action(Struct, frozen=True):
    """What was done to one thing: how it was before and is now, and why."""

    action: str
    before: str
    after: str
    verdict: Verdict
    reason: str


class Run(Struct, frozen=True):
    """One run. Times in seconds since 1970; `ended` is 0 while it lasts, `progress` says how far it is."""

    id: str
    kind: str
    instance: str
    started: float
    ended: float
    progress: str
    actions: tuple[Action, ...]

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes."""
        return self.ended > 0


_actions = msgspec.json.Decoder(tuple[Action, ...])


def run_of(row: Row) -> Run:
    """A row of the table as a run; one that is silent for too long was cut short."""
    run_id, kind, instance, started, ended, silent, progress, actions = row
    done = _actions.decode(actions)
    if not ended and silent > SILENT_SECONDS:
        lost = Action(kind, "", progress, "failed", f"Instance {instance} ended before it did.")
        return Run(run_id, kind, instance, started, started, "", (*done, lost))
    return Run(run_id, kind, instance, started, ended, progress, done)


async def answered(asked: Coroutine[Any, Any, object], *, within: float) -> bool:
    """Whether the database answered within so many seconds; raises what it raises. To give a question up takes no time here."""
    task = asyncio.get_running_loop().create_task(asked)
    try:
        done, _ = await asyncio.wait({task}, timeout=within)
    finally:
        task.add_done_callback(lambda one: one.cancelled() or one.exception())
        task.cancel()
    if done:
        task.result()
    return bool(done)


def run_id() -> str:
    """The id of another run."""
    return secrets.token_hex(8)


class Runs:
    """The repository of runs. Every method raises `DatabaseUnavailable`."""

    def __init__(self, database: Database, *, instance: str) -> None:
        self._database = database
        self._instance = instance

    async def begin(self, kind: str, run: str = "") -> str:
        """Write down that a run begins, and return its id; once, however often it is tried with an id of `run_id`."""
        run = run or run_id()
        await self._database.write(BEGIN, run, kind, self._instance)
        await self._database.write(PURGE, KEPT_SECONDS)
        return run

    async def tell(self, run: str, progress: str) -> None:
        """Say how far a run is; also a sign of life, so at least every few seconds."""
        await self._database.write(TELL, run, progress)

    async def end(self, run: str, actions: Sequence[Action]) -> None:
        """A run is over."""
        await self._database.write(END, run, msgspec.json.encode(actions).decode())

    async def find(self, run: str) -> Run:
        """Look a run up; raises NotFound."""
        rows = await self._database.read(FIND, run) if run.isascii() and run.isalnum() else []
        if not rows:
            raise NotFound("There is no such run.", "", "Runs are known for ninety days.")
        return run_of(rows[0])

    async def latest(self, limit: int) -> list[Run]:
        """The newest runs first, at most `limit` (500 at most)."""
        return [
            run_of(row) for row in await self._database.read(LATEST, min(limit, LISTED_AT_MOST))
        ]
