"""A fleet of caches in a time of its own: one shared level in memory, and a bus that takes a while or is cut."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from msgspec import Struct

from tableforge.cache import Built, Load, Policy
from tableforge.cache.two_level import TwoLevelCache
from tableforge.config import CacheKnobs
from tests import virtual_time
from tests.memory_shared import MemoryServer, MemoryShared


class Thing(Struct, frozen=True):
    """A value."""

    number: int


THINGS = Policy(
    region="things",
    kind=Thing,
    form=1,
    fresh=100.0,
    stale=20.0,
    on_error=200.0,
    missing=5.0,
    uncarried=2.0,
    local_entries=100,
    shared_entries=1000,
)
GUARDED = Policy(
    region="guarded",
    kind=Thing,
    form=1,
    fresh=100.0,
    lasts=False,
    local_entries=100,
    shared_entries=1000,
)
MINUTE = 60.0


def now() -> float:
    return asyncio.get_running_loop().time()


class Truth:
    """What the values truly are; `seconds` is how long a reader takes, who reads at its beginning or (`late`) its end."""

    def __init__(self, number: int | None = 1) -> None:
        self.number = number
        self.seconds = 0.0
        self.late = False
        self.position = 0
        self.tags: tuple[str, ...] = ()
        self.reads = 0
        self.fails: Exception | None = None

    async def load(self) -> Built[Thing] | None:
        self.reads += 1
        number, position = self.number, self.position
        if self.seconds:
            await asyncio.sleep(self.seconds)
        if self.fails is not None:
            raise self.fails
        if self.late:
            number, position = self.number, self.position
        return None if number is None else Built(Thing(number), position, self.tags)


class World:
    """Instances of one fleet: what one tells the others arrives after `lag` seconds, unless the bus is `cut`."""

    def __init__(self) -> None:
        self.server = MemoryServer(clock=now)
        self.instances: list[TwoLevelCache] = []
        self.levels: list[MemoryShared] = []
        self.lag = 0.01
        self.cut = False

    def instance(self, knobs: CacheKnobs | None = None, **more: Any) -> TwoLevelCache:
        shared = MemoryShared(self.server)
        made: TwoLevelCache = make(
            knobs,
            shared=shared,
            tell=lambda *said: self.tell(made, *said),
            carries=lambda: not self.cut,
            **more,
        )
        made.start()
        self.instances.append(made)
        self.levels.append(shared)
        return made

    def tell(self, teller: TwoLevelCache, *said: Any) -> None:
        for other in self.instances:
            if other is not teller and not self.cut:
                asyncio.get_running_loop().call_later(self.lag, other.heard, *said)

    async def close(self) -> None:
        for one in self.instances:
            await one.close()


def make(knobs: CacheKnobs | None = None, **more: Any) -> TwoLevelCache:
    return TwoLevelCache(
        [THINGS, GUARDED],
        knobs or CacheKnobs(),
        clock=now,
        wall=lambda: 1_000_000.0 + now(),
        chance=lambda: 0.0,
        **more,
    )


def in_its_own_time(
    test: Callable[[World], Coroutine[Any, Any, None]],
) -> Callable[[], None]:
    """Runs a test's story in virtual time, and sees that it leaves no task behind."""

    async def story() -> None:
        world = World()
        await test(world)
        await world.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert left == set()

    def run() -> None:
        virtual_time.run(story())

    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    return run


async def number(
    cache: TwoLevelCache,
    load: Load[Thing],
    key: str = "k",
    *,
    policy: Policy[Thing] = THINGS,
    floor: int = 0,
    tags: Sequence[str] = (),
) -> int | None:
    found = await cache.get(policy, key, load, floor=floor, tags=tags)
    return None if found is None else found.number
