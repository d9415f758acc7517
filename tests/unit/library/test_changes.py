"""Changes go on without their callers, and tell when they end (rule CR7)."""

import asyncio

import pytest

from tableforge.library.changes import changing


async def test_cr7_a_change_whose_caller_left_goes_on_and_tells_when_it_ends() -> None:
    begun, go_on, ended, all_told = (asyncio.Event() for _ in range(4))
    told: list[bool] = []

    async def change() -> None:
        begun.set()
        await go_on.wait()
        ended.set()

    def changed() -> None:
        told.append(ended.is_set())
        if len(told) == 2:
            all_told.set()

    waiting = asyncio.create_task(changing(change(), changed))
    await begun.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert told == [False]
    go_on.set()
    await all_told.wait()
    assert told == [False, True]


async def test_cr7_a_change_that_failed_tells_too() -> None:
    told: list[str] = []

    async def change() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await changing(change(), lambda: told.append("told"))
    assert told == ["told"]
