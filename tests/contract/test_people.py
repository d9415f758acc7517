"""What holds for sessions, recovery codes and invites on the database that keeps them."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tableforge.config import DatabaseKnobs
from tableforge.database import Database, DatabaseUnavailable, Row, Statement, Step
from tableforge.database.postgres import PostgresDatabase
from tableforge.database.sqlite import FILE_NAME, SqliteDatabase
from tableforge.errors import Gone, NotFound, TooLarge, Unauthorized
from tableforge.library import invites as invites_module
from tableforge.library.invites import Invites
from tableforge.library.sessions import Sessions
from tableforge.library.users import Users
from tests.local_cache import KNOBS, POLICIES, local_cache

LIFETIME_SECONDS = 1_000.0


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.seconds = 1_700_000_000.0

    def __call__(self) -> float:
        return self.seconds


class Gated:
    """The database with a gate before the answers of its reads, and a disk that may be full."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.open = asyncio.Event()
        self.open.set()
        self.was_read = asyncio.Event()
        self.full = False
        self.away = False

    async def read(self, statement: Statement, *params: object) -> list[Row]:
        if self.away:
            raise DatabaseUnavailable("Nothing was read.", "The disk does not answer.")
        rows = await self._database.read(statement, *params)
        self.was_read.set()
        await self.open.wait()
        return rows

    async def write(self, statement: Statement, *params: object) -> int:
        return (await self.write_all([(statement, params)]))[0]

    async def write_all(self, steps: Sequence[Step]) -> list[int]:
        if self.full:
            raise DatabaseUnavailable("Nothing was saved.", "The disk is full.")
        return await self._database.write_all(steps)


@pytest.fixture(params=["sqlite", "postgres"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Gated]:
    if request.param == "sqlite":
        async with SqliteDatabase(tmp_path) as embedded:
            yield Gated(embedded)
    else:
        url: str = request.getfixturevalue("database_url")
        async with PostgresDatabase(DatabaseKnobs(url=url, pool_min=0), "one") as shared:
            yield Gated(shared)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(database: Gated, clock: Clock) -> Sessions:
    return restarted(database, clock)


@pytest.fixture
def invites(database: Gated, clock: Clock) -> Invites:
    return Invites(database, clock=clock)


def restarted(database: Gated, clock: Clock, *, entries: int = 100) -> Sessions:
    """The sessions as a process that has just started knows them."""
    return Sessions(
        *(database, local_cache(entries=entries), POLICIES.user_sessions),
        lifetime_seconds=LIFETIME_SECONDS,
        clock=clock,
    )


EVERY_ROW = Statement(
    "test.all",
    "SELECT u::text FROM users u UNION ALL SELECT s::text FROM sessions s"
    " UNION ALL SELECT r::text FROM recovery_codes r UNION ALL SELECT i::text FROM invites i",
)


def files_of(folder: Path) -> bytes:
    """Everything that SQLite wrote, its journal included."""
    return b"".join(path.read_bytes() for path in folder.glob(f"{FILE_NAME}*"))


async def all_bytes(database: Gated, folder: Path) -> bytes:
    """Everything that the database keeps: SQLite's files, or each row of PostgreSQL with its bytes as such and in hex."""
    files = await asyncio.to_thread(files_of, folder)
    if files:
        return files
    texts = [str(row[0]) for row in await database.read(EVERY_ROW)]
    assert len(texts) == 4
    raw = [bytes.fromhex(found) for text in texts for found in re.findall(r"\\x([0-9a-f]+)", text)]
    return "".join(texts).encode() + b"".join(raw)


class TestSessions:
    async def test_se1_a_token_stands_for_its_user_across_restarts(
        self, database: Gated, clock: Clock, sessions: Sessions
    ) -> None:
        begun = await sessions.begin("Ada")
        found = await restarted(database, clock).authenticate(begun.token)
        assert (found.user_id, found.name) == (begun.session.user_id, "Ada")

    async def test_se1_every_token_and_user_is_another(self, sessions: Sessions) -> None:
        first, second = await sessions.begin("Ada"), await sessions.begin("Ada")
        assert first.token != second.token
        assert first.session.user_id != second.session.user_id

    @pytest.mark.parametrize("token", ["", "x", "\udcff", "ä" * 1000])
    async def test_se1_what_is_no_token_stands_for_nobody(
        self, sessions: Sessions, token: str
    ) -> None:
        with pytest.raises(Unauthorized):
            await sessions.authenticate(token)
        assert sessions.known(token) is None

    async def test_se2_the_disk_holds_neither_tokens_nor_codes_nor_invites(
        self, tmp_path: Path, database: Gated, sessions: Sessions, invites: Invites
    ) -> None:
        begun = await sessions.begin("Ada")
        code = await sessions.recovery_code(begun.session.user_id)
        invite = await invites.create("room", "player", by="gm")
        written = await all_bytes(database, tmp_path)
        assert b"Ada" in written
        for secret in (begun.token, code, code.replace("-", ""), invite):
            assert secret.encode() not in written

    async def test_se3_signing_out_ends_a_token_at_once_and_tells(
        self, database: Gated, clock: Clock, sessions: Sessions
    ) -> None:
        told: list[str] = []
        sessions.on_signed_out(told.append)
        begun, other = await sessions.begin("Ada"), await sessions.begin("Bob")
        await sessions.sign_out(begun.session)
        assert sessions.known(begun.token) is None
        for knowing in (sessions, restarted(database, clock)):
            with pytest.raises(Unauthorized):
                await knowing.authenticate(begun.token)
        assert told == [begun.session.session_id]
        assert sessions.known(other.token) == other.session

    async def test_se3_a_look_up_under_way_does_not_bring_a_session_back(
        self, database: Gated, clock: Clock, sessions: Sessions
    ) -> None:
        begun = await sessions.begin("Ada")
        fresh = restarted(database, clock)
        database.open.clear()
        looking = asyncio.create_task(fresh.authenticate(begun.token))
        await database.was_read.wait()
        await fresh.sign_out(begun.session)
        database.open.set()
        with pytest.raises(Unauthorized):
            await looking
        with pytest.raises(Unauthorized):
            await fresh.authenticate(begun.token)

    async def test_se3_a_sign_out_that_the_disk_refuses_changes_nothing(
        self, database: Gated, sessions: Sessions
    ) -> None:
        begun = await sessions.begin("Ada")
        database.full = True
        with pytest.raises(DatabaseUnavailable):
            await sessions.sign_out(begun.session)
        assert await sessions.authenticate(begun.token) == begun.session

    async def test_se4_use_renews_a_session_and_disuse_ends_it(
        self, database: Gated, clock: Clock, sessions: Sessions
    ) -> None:
        begun = await sessions.begin("Ada")
        for _ in range(4):
            clock.seconds += LIFETIME_SECONDS * 0.9
            renewed = await sessions.authenticate(begun.token)
            assert renewed.expires == clock.seconds + LIFETIME_SECONDS
        assert (await restarted(database, clock).authenticate(begun.token)).name == "Ada"
        clock.seconds += LIFETIME_SECONDS
        for knowing in (sessions, restarted(database, clock)):
            assert knowing.known(begun.token) is None
            with pytest.raises(Unauthorized):
                await knowing.authenticate(begun.token)

    async def test_se4_a_recent_use_is_not_written_again(
        self, database: Gated, clock: Clock, sessions: Sessions
    ) -> None:
        begun = await sessions.begin("Ada")
        database.full = True
        clock.seconds += LIFETIME_SECONDS / 100
        assert sessions.known(begun.token) == begun.session
        assert await sessions.authenticate(begun.token) == begun.session

    async def test_se4_a_session_that_cannot_be_renewed_is_still_good(
        self, database: Gated, clock: Clock, sessions: Sessions
    ) -> None:
        begun = await sessions.begin("Ada")
        database.full = True
        clock.seconds += LIFETIME_SECONDS * 0.9
        assert (await sessions.authenticate(begun.token)).user_id == begun.session.user_id

    async def test_se4_a_session_that_was_in_memory_for_long_is_still_good_while_the_disk_refuses(
        self, database: Gated, clock: Clock
    ) -> None:
        cache_clock = Clock()
        sessions = Sessions(
            *(database, local_cache(clock=cache_clock), POLICIES.user_sessions),
            lifetime_seconds=LIFETIME_SECONDS,
            clock=clock,
        )
        begun = await sessions.begin("Ada")
        cache_clock.seconds += POLICIES.user_sessions.fresh + 1
        database.away = database.full = True
        assert await sessions.authenticate(begun.token) == begun.session
        await sessions.authenticate(begun.token)
        database.away = False
        cache_clock.seconds += 2
        assert await sessions.authenticate(begun.token) == begun.session

    async def test_se4_sessions_that_ended_leave_the_disk(
        self, database: Gated, clock: Clock, sessions: Sessions
    ) -> None:
        count = Statement("test.count", "SELECT count(*) FROM sessions")
        await sessions.begin("Ada")
        clock.seconds += LIFETIME_SECONDS + 1
        await sessions.begin("Bob")
        assert await database.read(count) == [(1,)]

    async def test_se5_a_code_brings_the_same_user_back_until_another_takes_its_place(
        self, sessions: Sessions
    ) -> None:
        begun = await sessions.begin("Ada")
        first = await sessions.recovery_code(begun.session.user_id)
        assert [len(group) for group in first.split("-")] == [4] * 5
        back = await sessions.recover(first)
        assert back.session.user_id == begun.session.user_id
        assert back.token != begun.token
        await sessions.sign_out(back.session)
        assert await sessions.authenticate(begun.token) == begun.session
        second = await sessions.recovery_code(begun.session.user_id)
        assert (await sessions.recover(second)).session.user_id == begun.session.user_id
        with pytest.raises(Unauthorized):
            await sessions.recover(first)

    async def test_se5_a_code_forgives_how_people_write(self, sessions: Sessions) -> None:
        begun = await sessions.begin("Ada")
        code = await sessions.recovery_code(begun.session.user_id)
        sloppy = code.lower().replace("-", " ").replace("0", "o").replace("1", "l")
        assert (await sessions.recover(sloppy)).session.user_id == begun.session.user_id
        with pytest.raises(Unauthorized):
            await sessions.recover(code[:-1])

    async def test_se6_a_new_name_shows_in_all_sessions_of_its_user(
        self, database: Gated, clock: Clock, sessions: Sessions
    ) -> None:
        begun = await sessions.begin("Ada")
        code = await sessions.recovery_code(begun.session.user_id)
        other = await sessions.recover(code)
        stranger = await sessions.begin("Ada")
        assert (await sessions.rename(begun.session, "Countess")).name == "Countess"
        for token in (begun.token, other.token):
            assert (await sessions.authenticate(token)).name == "Countess"
            assert (await restarted(database, clock).authenticate(token)).name == "Countess"
        assert (await sessions.authenticate(stranger.token)).name == "Ada"

    async def test_se6_a_look_up_under_way_does_not_keep_the_name_before(
        self, database: Gated, clock: Clock, sessions: Sessions
    ) -> None:
        begun = await sessions.begin("Ada")
        fresh = restarted(database, clock)
        database.open.clear()
        looking = asyncio.create_task(fresh.authenticate(begun.token))
        await database.was_read.wait()
        await fresh.rename(begun.session, "Countess")
        database.open.set()
        await looking
        assert (await fresh.authenticate(begun.token)).name == "Countess"

    async def test_se6_nobody_renames_a_user_who_never_was(self, database: Gated) -> None:
        with pytest.raises(NotFound):
            await Users(database).rename("nobody", "Ada")

    async def test_se7_memory_holds_a_bounded_number_and_the_disk_all(
        self, database: Gated, clock: Clock
    ) -> None:
        few = restarted(database, clock, entries=1)
        assert POLICIES.user_sessions.local_entries == 10 * KNOBS.app_entries
        begun = [await few.begin(f"user {number}") for number in range(14)]
        assert sum(few.known(one.token) is not None for one in begun) == 10
        for one in begun:
            assert (await few.authenticate(one.token)).user_id == one.session.user_id


class TestInvites:
    async def test_in1_an_invite_gives_its_role_in_its_room_as_often_as_it_is_used(
        self, invites: Invites
    ) -> None:
        for role in ("gm", "player", "spectator"):
            invite = await invites.create("room", role, by="gm")
            assert [await invites.redeem("room", invite) for _ in range(3)] == [role] * 3
            with pytest.raises(NotFound):
                await invites.redeem("another", invite)

    async def test_in2_of_all_who_ask_for_the_last_use_one_gets_it(self, invites: Invites) -> None:
        invite = await invites.create("room", "player", by="gm", uses=3)
        outcomes = await asyncio.gather(
            *(invites.redeem("room", invite) for _ in range(12)), return_exceptions=True
        )
        assert outcomes.count("player") == 3
        assert sum(isinstance(outcome, Gone) for outcome in outcomes) == 9

    async def test_in2_a_use_that_led_to_no_seat_can_be_given_back(self, invites: Invites) -> None:
        invite = await invites.create("room", "player", by="gm", uses=1)
        await invites.redeem("room", invite)
        await invites.give_back("room", invite)
        assert await invites.role_of("room", invite) == "player"
        assert await invites.redeem("room", invite) == "player"
        with pytest.raises(Gone):
            await invites.role_of("room", invite)

    async def test_in3_an_invite_ends_at_its_time(self, invites: Invites, clock: Clock) -> None:
        invite = await invites.create("room", "player", by="gm", expires=clock.seconds + 60)
        assert await invites.redeem("room", invite) == "player"
        clock.seconds += 60
        with pytest.raises(Gone):
            await invites.redeem("room", invite)
        with pytest.raises(Gone):
            await invites.role_of("room", invite)

    async def test_in3_a_deleted_invite_opens_nothing(self, invites: Invites) -> None:
        invite = await invites.create("room", "player", by="gm")
        with pytest.raises(NotFound):
            await invites.delete("another", invite)
        assert await invites.redeem("room", invite) == "player"
        await invites.delete("room", invite)
        with pytest.raises(NotFound):
            await invites.redeem("room", invite)
        with pytest.raises(NotFound):
            await invites.delete("room", invite)

    async def test_in4_a_room_has_a_bounded_number_of_invites(
        self, invites: Invites, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(invites_module, "INVITES_A_ROOM", 3)
        for _ in range(3):
            await invites.create("room", "player", by="gm", expires=clock.seconds + 60)
        with pytest.raises(TooLarge):
            await invites.create("room", "player", by="gm")
        assert await invites.create("another", "player", by="gm")
        clock.seconds += invites_module.DEAD_KEPT_SECONDS + 61
        assert await invites.create("room", "player", by="gm")
