"""What holds for notices between instances, on real PostgreSQL (rules NO of `docs/spec.md`)."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

import asyncpg
import pytest

from tableforge.config import DatabaseKnobs
from tableforge.database import DatabaseUnavailable, Row, Statement, Step
from tableforge.database.postgres import PostgresDatabase
from tableforge.errors import Unauthorized
from tableforge.library import notices as notices_module
from tableforge.library.notices import KEPT_SECONDS, Notice, Notices
from tableforge.library.sessions import Sessions
from tests.local_cache import POLICIES, local_cache

TRUSTED_SECONDS = 10.0
KIND = "room_deleted"

COUNT = Statement("test.count", "SELECT about FROM notices ORDER BY about")
AGE = Statement("test.age", "UPDATE notices SET at = at - interval '2 days' WHERE about = ?")


class Clock:
    """A monotonic clock that a test sets."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


class Cut:
    """The database as an instance sees it that may be cut off from it, or may see another one in its place."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database
        self.away = False
        self.shifted = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.was_read = asyncio.Event()
        self.was_written = asyncio.Event()
        self.refused = asyncio.Event()

    async def read(self, statement: Statement, *params: object) -> list[Row]:
        if self.away:
            self.refused.set()
            raise DatabaseUnavailable("Nothing was read.", "The database does not answer.")
        rows = await self._database.read(statement, *params)
        self.was_read.set()
        await self.gate.wait()
        if statement is notices_module.READ and self.shifted:
            return [(row[0] - self.shifted, row[1], "a standby", *row[3:]) for row in rows]
        return rows

    async def write(self, statement: Statement, *params: object) -> int:
        return (await self.write_all([(statement, params)]))[0]

    async def write_all(self, steps: Sequence[Step]) -> list[int]:
        if self.away:
            raise DatabaseUnavailable("Nothing was saved.", "The database does not answer.")
        done = await self._database.write_all(steps)
        self.was_written.set()
        await self.gate.wait()
        return done


@pytest.fixture
async def shared(database_url: str) -> AsyncIterator[PostgresDatabase]:
    async with PostgresDatabase(DatabaseKnobs(url=database_url, pool_min=0), "test") as opened:
        await opened.started()
        yield opened


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Instance:
    """One instance with its notices; `bus` are the others that its hints reach."""

    def __init__(self, shared: PostgresDatabase, clock: Clock) -> None:
        self.database = Cut(shared)
        self.bus: list[Instance] = []
        self.heard: list[str] = []
        self.notices = Notices(
            self.database, hint=self._hint, trusted_seconds=TRUSTED_SECONDS, clock=clock
        )
        self.notices.on(KIND, self.heard.append)
        self.sessions = sessions_of(self)
        self.signed_out: list[str] = []
        self.sessions.on_signed_out(self.signed_out.append)

    def _hint(self, notice: Notice) -> None:
        for other in self.bus:
            other.notices.heard(*notice)


def sessions_of(one: Instance, clock: Callable[[], float] = time.time) -> Sessions:
    """The sessions of an instance, with nothing in memory."""
    return Sessions(
        *(one.database, local_cache(), POLICIES.user_sessions),
        lifetime_seconds=1e6,
        clock=clock,
        notices=one.notices,
    )


@pytest.fixture
async def pair(shared: PostgresDatabase, clock: Clock) -> tuple[Instance, Instance]:
    a, b = Instance(shared, clock), Instance(shared, clock)
    for one in (a, b):
        await one.notices.catch_up()
    return a, b


async def test_no1_a_notice_reaches_the_others_by_the_bus_at_once(
    pair: tuple[Instance, Instance],
) -> None:
    a, b = pair
    a.bus = [b]
    await a.notices.give(KIND, "r1")
    assert a.heard == b.heard == ["r1"]


async def test_no1_a_notice_that_the_bus_lost_is_read(pair: tuple[Instance, Instance]) -> None:
    a, b = pair
    for room in ("r1", "r2"):
        await a.notices.give(KIND, room)
    assert b.heard == []
    await b.notices.catch_up()
    assert b.heard == ["r1", "r2"]


async def test_no1_what_could_not_be_written_is_told_to_nobody(
    pair: tuple[Instance, Instance],
) -> None:
    a, b = pair
    a.bus, a.database.away = [b], True
    with pytest.raises(DatabaseUnavailable):
        await a.notices.give(KIND, "r1")
    a.database.away = False
    await a.notices.catch_up()
    await b.notices.catch_up()
    assert a.heard == b.heard == []


async def test_no2_each_is_acted_on_once_however_often_and_by_whichever_way_it_comes(
    pair: tuple[Instance, Instance],
) -> None:
    a, b = pair
    a.bus = [b, b]
    await a.notices.give(KIND, "r1")
    for one in (a, b, b):
        await one.notices.catch_up()
    a.bus = []
    await a.notices.give(KIND, "r2")
    for one in (b, b, a):
        await one.notices.catch_up()
    assert a.heard == b.heard == ["r1", "r2"]


async def test_no2_a_transaction_that_takes_long_is_not_passed_over(
    pair: tuple[Instance, Instance], database_url: str
) -> None:
    """One that began earlier becomes visible later, behind others that were read already."""
    a, b = pair
    slow = await asyncpg.connect(database_url)
    try:
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute("INSERT INTO notices (number, kind, about) VALUES (1, $1, 'slow')", KIND)
        for number in range(5):
            await a.notices.give(KIND, f"quick {number}")
            await b.notices.catch_up()
        assert "slow" not in b.heard
        await transaction.commit()
    finally:
        await slow.close()
    await b.notices.catch_up()
    assert b.heard == [f"quick {number}" for number in range(5)] + ["slow"]


async def test_no3_an_instance_acts_on_nothing_from_before_it_began(
    pair: tuple[Instance, Instance], shared: PostgresDatabase, clock: Clock
) -> None:
    a, _ = pair
    await a.notices.give(KIND, "before")
    late = Instance(shared, clock)
    await late.notices.catch_up()
    await a.notices.give(KIND, "after")
    await late.notices.catch_up()
    assert late.heard == ["after"]


async def test_no3_notices_are_kept_for_a_day(
    pair: tuple[Instance, Instance], shared: PostgresDatabase, clock: Clock
) -> None:
    a, _ = pair
    for room in ("old", "young"):
        await a.notices.give(KIND, room)
    await shared.write(AGE, "old")
    clock.seconds += notices_module.PURGE_SECONDS + 1
    await a.notices.catch_up()
    assert await shared.read(COUNT) == [("young",)]


@pytest.mark.parametrize("why", ["away too long", "too many", "another database"])
async def test_no4_whoever_may_have_missed_some_for_good_forgets_what_it_held(
    pair: tuple[Instance, Instance],
    clock: Clock,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a, b = pair
    begun = await b.sessions.begin("Ada")
    await b.notices.catch_up()
    assert b.sessions.known(begun.token) is not None
    if why == "away too long":
        clock.seconds += KEPT_SECONDS + 1
    elif why == "too many":
        monkeypatch.setattr(notices_module, "READ_AT_MOST", 3)
        for number in range(5):
            await a.notices.give(KIND, str(number))
    else:
        b.database.shifted = 1_000_000
    await b.notices.catch_up()
    assert b.sessions.known(begun.token) is None
    assert (await b.sessions.authenticate(begun.token)).user_id == begun.session.user_id


async def test_no5_signing_out_ends_the_token_on_every_instance(
    pair: tuple[Instance, Instance],
) -> None:
    a, b = pair
    a.bus = [b]
    by_bus, by_reading = await a.sessions.begin("Ada"), await a.sessions.begin("Bob")
    for begun in (by_bus, by_reading):
        await b.sessions.authenticate(begun.token)
    await a.sessions.sign_out(by_bus.session)
    assert b.signed_out == [by_bus.session.session_id]
    a.bus = []
    await a.sessions.sign_out(by_reading.session)
    assert b.sessions.known(by_reading.token) is not None
    await b.notices.catch_up()
    assert (
        a.signed_out
        == b.signed_out
        == [
            by_bus.session.session_id,
            by_reading.session.session_id,
        ]
    )
    for one in (a, b):
        for begun in (by_bus, by_reading):
            assert one.sessions.known(begun.token) is None
            with pytest.raises(Unauthorized):
                await one.sessions.authenticate(begun.token)


async def test_no5_a_look_up_under_way_does_not_bring_a_session_back(
    pair: tuple[Instance, Instance],
) -> None:
    a, b = pair
    a.bus = [b]
    begun = await a.sessions.begin("Ada")
    b.database.gate.clear()
    b.database.was_read.clear()
    looking = asyncio.create_task(b.sessions.authenticate(begun.token))
    await b.database.was_read.wait()
    await a.sessions.sign_out(begun.session)
    b.database.gate.set()
    with pytest.raises(Unauthorized):
        await looking
    assert b.sessions.known(begun.token) is None


async def test_no5_memory_is_not_believed_for_long_without_notices(
    pair: tuple[Instance, Instance], clock: Clock
) -> None:
    a, b = pair
    begun, other = await a.sessions.begin("Ada"), await a.sessions.begin("Bob")
    for one in (begun, other):
        await b.sessions.authenticate(one.token)
    await a.sessions.sign_out(begun.session)
    clock.seconds += TRUSTED_SECONDS - 1
    b.database.away = True
    assert b.sessions.known(begun.token) is not None
    clock.seconds += 1
    assert b.sessions.known(begun.token) is None
    with pytest.raises(DatabaseUnavailable):
        await b.sessions.authenticate(begun.token)
    b.database.away = False
    with pytest.raises(Unauthorized):
        await b.sessions.authenticate(begun.token)
    assert (await b.sessions.authenticate(other.token)).user_id == other.session.user_id


async def test_no5_a_session_that_ended_elsewhere_is_not_renewed(
    shared: PostgresDatabase, clock: Clock
) -> None:
    """Also where its notice is still under way."""
    clock_of_b = Clock()
    a, b = Instance(shared, clock), Instance(shared, clock)
    for one in (a, b):
        await one.notices.catch_up()
    sessions = sessions_of(b, clock=clock_of_b)
    begun = await sessions.begin("Ada")
    await a.sessions.sign_out(begun.session)
    clock_of_b.seconds += 100_000
    with pytest.raises(Unauthorized):
        await sessions.authenticate(begun.token)


async def test_no5_a_renewal_under_way_does_not_bring_a_session_back(
    shared: PostgresDatabase, clock: Clock
) -> None:
    clock_of_b = Clock()
    a, b = Instance(shared, clock), Instance(shared, clock)
    a.bus = [b]
    for one in (a, b):
        await one.notices.catch_up()
    sessions = sessions_of(b, clock=clock_of_b)
    begun = await sessions.begin("Ada")
    clock_of_b.seconds += 100_000
    b.database.gate.clear()
    b.database.was_written.clear()
    renewing = asyncio.create_task(sessions.authenticate(begun.token))
    await b.database.was_written.wait()
    await a.sessions.sign_out(begun.session)
    b.database.gate.set()
    with pytest.raises(Unauthorized):
        await renewing
    assert sessions.known(begun.token) is None


async def test_no6_a_new_name_is_known_on_every_instance(pair: tuple[Instance, Instance]) -> None:
    a, b = pair
    a.bus = [b]
    begun = await a.sessions.begin("Ada")
    await b.sessions.authenticate(begun.token)
    await a.sessions.rename(begun.session, "Countess")
    for one in (a, b):
        assert (await one.sessions.authenticate(begun.token)).name == "Countess"


async def test_no7_they_are_looked_for_by_themselves_and_sooner_when_the_bus_may_have_lost_one(
    pair: tuple[Instance, Instance],
) -> None:
    a, b = pair
    came = asyncio.Event()
    b.notices.on(KIND, lambda about: came.set())
    for every, uncarried, carried, hurry in (
        (0.05, 60.0, True, False),
        (60.0, 0.05, False, False),
        (60.0, 60.0, True, True),
    ):
        came.clear()
        following = asyncio.create_task(
            b.notices.follow(
                partial(bool, carried),
                every_seconds=every,
                uncarried_seconds=uncarried,
            )
        )
        await a.notices.give(KIND, "r")
        if hurry:
            b.notices.hurry()
        async with asyncio.timeout(30):
            await came.wait()
        following.cancel()
        await asyncio.wait([following])


async def test_no7_a_database_that_is_away_for_a_while_ends_nothing(
    pair: tuple[Instance, Instance],
) -> None:
    a, b = pair
    came = asyncio.Event()
    b.notices.on(KIND, lambda about: came.set())
    b.database.away = True
    following = asyncio.create_task(
        b.notices.follow(lambda: True, every_seconds=0.02, uncarried_seconds=0.02)
    )
    await a.notices.give(KIND, "r")
    await b.database.refused.wait()
    assert not came.is_set()
    b.database.away = False
    async with asyncio.timeout(30):
        await came.wait()
    following.cancel()
    await asyncio.wait([following])


async def position(one: Instance) -> int:
    """The position of what is read now."""
    rows = await one.database.read(notices_module.READ, notices_module.NEWEST, 1)
    found: int = rows[0][0]
    return found


async def wait_until_read_behind(one: Instance, floor: int) -> None:
    """Return once what is read now counts from this floor on: others of the server's transactions may hold it back."""
    async with asyncio.timeout(30):
        while await position(one) < floor:  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(0.01)


async def test_no8_what_was_read_before_a_notice_is_told_from_what_was_read_behind_it(
    pair: tuple[Instance, Instance], shared: PostgresDatabase, clock: Clock
) -> None:
    a, b = pair
    a.bus = [b]
    assert Instance(shared, clock).notices.newest("r1") == notices_module.NEWEST
    await wait_until_read_behind(a, b.notices.newest("r1"))
    before = await position(a)
    await a.notices.give(KIND, "r1")
    for one in (a, b):
        assert one.notices.newest("r1") == notices_module.NEWEST, "heard of, its place not known"
        assert one.notices.newest("r2", "r3") <= before
        await one.notices.catch_up()
        assert before < one.notices.newest("r1") == one.notices.newest("r2", "r1")
        assert one.notices.newest("r2") <= before
        await wait_until_read_behind(a, one.notices.newest("r1"))


async def test_no8_a_hint_that_comes_late_changes_nothing(
    pair: tuple[Instance, Instance],
) -> None:
    a, b = pair
    notice = a.notices.draft(KIND, "r1")
    statement, params = notice.step
    await a.database.write(statement, *params)
    await b.notices.catch_up()
    known = b.notices.newest("r1")
    b.notices.heard(*notice)
    assert b.notices.newest("r1") == known < notices_module.NEWEST


@pytest.mark.parametrize("way", ["read", "heard"])
async def test_no8_of_more_than_fit_in_memory_less_is_believed(
    pair: tuple[Instance, Instance], way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair
    monkeypatch.setattr(notices_module, "REMEMBERED", 3)
    if way == "heard":
        a.bus = [b]
    before = await position(a)
    for number in range(6):
        await a.notices.give(KIND, f"r{number}")
    if way == "heard":
        assert b.notices.newest("another") == notices_module.NEWEST
    await b.notices.catch_up()
    for about in (*(f"r{number}" for number in range(6)), "another"):
        assert before < b.notices.newest(about) < notices_module.NEWEST
        await wait_until_read_behind(a, b.notices.newest(about))
