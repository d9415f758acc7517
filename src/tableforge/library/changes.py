"""Changes that end whoever waits for them, and after which caches forget what may have changed."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

Result = TypeVar("Result")

_under_way: Final[set[asyncio.Task[Any]]] = set()
"""The loop itself holds its tasks but weakly."""


async def to_the_end(work: Coroutine[Any, Any, Result]) -> Result:
    """Await work that goes on when its caller is cancelled: what it does last is done in any case."""
    task = asyncio.create_task(work)
    _under_way.add(task)
    task.add_done_callback(_under_way.discard)
    return await asyncio.shield(task)


async def changing(work: Coroutine[Any, Any, Result], changed: Callable[[], None]) -> Result:
    """Await a change of the database and call `changed` behind it, however it ended: a change that failed may have come
    about, since a server can be lost between a commit and its answer.

    Called as well when the caller leaves before the end.
    """

    async def whole() -> Result:
        try:
            return await work
        finally:
            changed()

    try:
        return await to_the_end(whole())
    except asyncio.CancelledError:
        changed()
        raise
