"""The timing wheel on the loop's real clock, with ticks so short that nobody waits."""

import asyncio

from tableforge.hub.wheel import TimingWheel

DEADLINE = 30.0


class Sleeper:
    """Remembers when it was woken, and says when it wants to be woken next."""

    def __init__(self, *delays: float) -> None:
        self._delays = list(delays)
        self.woken: list[float] = []
        self.done = asyncio.Event()

    def due(self, now: float) -> float | None:
        self.woken.append(now)
        if self._delays:
            return self._delays.pop(0)
        self.done.set()
        return None


async def test_nobody_is_woken_too_early_and_everybody_is_woken() -> None:
    wheel = TimingWheel(tick=0.005, slots=64)
    began = asyncio.get_running_loop().time()
    sleepers = {delay: Sleeper() for delay in (0.0, 0.02, 0.05, 0.1, 0.2)}
    for delay, sleeper in sleepers.items():
        wheel.schedule(sleeper, delay)
    async with asyncio.timeout(DEADLINE):
        for sleeper in sleepers.values():
            await sleeper.done.wait()
    for delay, sleeper in sleepers.items():
        assert len(sleeper.woken) == 1
        assert sleeper.woken[0] - began >= delay - 0.005
    order = sorted(sleepers, key=lambda delay: sleepers[delay].woken[0])
    assert order == sorted(sleepers)


async def test_who_asks_again_is_woken_again() -> None:
    wheel = TimingWheel(tick=0.002, slots=16)
    sleeper = Sleeper(0.004, 0.004, 0.004)
    wheel.schedule(sleeper, 0.004)
    async with asyncio.timeout(DEADLINE):
        await sleeper.done.wait()
    assert len(sleeper.woken) == 4


async def test_who_is_cancelled_sleeps_on() -> None:
    wheel = TimingWheel(tick=0.002, slots=16)
    kept, cancelled = Sleeper(), Sleeper()
    wheel.schedule(cancelled, 0.002)
    wheel.schedule(kept, 0.01)
    wheel.cancel(cancelled)
    async with asyncio.timeout(DEADLINE):
        await kept.done.wait()
    assert cancelled.woken == []


async def test_a_later_time_replaces_the_earlier_one() -> None:
    wheel = TimingWheel(tick=0.002, slots=64)
    sleeper, other = Sleeper(), Sleeper()
    wheel.schedule(sleeper, 0.002)
    wheel.schedule(sleeper, 0.08)
    wheel.schedule(other, 0.04)
    async with asyncio.timeout(DEADLINE):
        await other.done.wait()
        assert sleeper.woken == []
        await sleeper.done.wait()
    assert len(sleeper.woken) == 1
