"""What is read through the cache is what the database says, whatever was done before and by whichever instance."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest
from msgspec import Struct
from msgspec.structs import replace

from tableforge.cache.policies import RoomSnapshot as KeptRoom
from tableforge.cache.policies import Rows
from tableforge.database import Statement
from tableforge.domain.commands import (
    ChangeRole,
    Command,
    HouseCommand,
    JoinRoom,
    KickMember,
    LeaveRoom,
    Say,
    UpdateRoom,
)
from tableforge.domain.decider import evolve
from tableforge.domain.state import Role, Room, Visibility
from tableforge.errors import NotFound, TableForgeError, Unauthorized
from tableforge.eventlog import StoredEvent
from tableforge.library.notices import NEWEST, READ
from tableforge.library.sessions import Begun
from tableforge.protocol import codec
from tableforge.telemetry import STATEMENTS
from tests.cached_world import BOUNDS, Fleet, Instance, fleet_of
from tests.local_cache import POLICIES

USERS = ("mara", "bo", "ilse")
STEPS = 40


class Picture(Struct, frozen=True):
    """What an importer returns."""

    digest: str
    kind: str
    width: int
    height: int
    bytes: int
    path: Path
    thumbnail_path: Path


@pytest.fixture(params=["sqlite", "postgres"])
async def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Fleet]:
    """One instance on SQLite, two on PostgreSQL."""
    url = request.getfixturevalue("database_url") if request.param == "postgres" else None
    async with fleet_of(tmp_path, url, 2 if url else 1) as made:
        yield made


@pytest.fixture
async def pair(database_url: str, tmp_path: Path) -> AsyncIterator[Fleet]:
    """Two instances."""
    async with fleet_of(tmp_path, database_url, 2) as made:
        yield made


class Steps:
    """Random deeds, drawn from a seed; each may be refused, and then changes nothing."""

    def __init__(self, fleet: Fleet, seed: int, folder: Path) -> None:
        self.fleet = fleet
        self.chance = random.Random(seed)
        self.folder = folder
        self.number = 0
        self.rooms: list[str] = []
        self.assets: list[str] = []
        self.begun: list[Begun] = []

    async def step(self, one: Instance) -> None:
        """Do something on this instance."""
        self.number += 1
        deeds: list[Callable[[Instance], Awaitable[None]]] = [
            *(self.create, self.update, self.update, self.seat, self.seat, self.seat, self.say),
            *(self.delete, self.unload, self.upload, self.take_back),
            *(self.sign_in, self.rename, self.sign_out),
        ]
        try:
            await self.chance.choice(deeds)(one)
        except TableForgeError:
            return

    @property
    def id(self) -> str:
        return f"step-{self.number}"

    async def create(self, one: Instance) -> None:
        kinds: tuple[Visibility, ...] = ("public", "private")
        visibility = self.chance.choice(kinds)
        name = f"Room {self.chance.choice('abc')}{self.number}"
        user = self.chance.choice(USERS)
        self.rooms.append(await one.rooms.create(user, user.title(), name, visibility))

    async def _do(self, one: Instance, user: str, make: Callable[[str], object]) -> None:
        if self.rooms:
            room = self.chance.choice(self.rooms)
            command = make(room)
            assert isinstance(command, Command | HouseCommand)
            await one.house(room, user, command)

    async def update(self, one: Instance) -> None:
        changes = self.chance.choice(
            (
                {"name": f"Other {self.number}"},
                {"visibility": self.chance.choice(("public", "private"))},
                {"tags": tuple(self.chance.sample(("sea", "salt"), self.chance.randrange(3)))},
            )
        )
        await self._do(
            *(one, self.chance.choice(USERS)),
            lambda room: UpdateRoom(room=room, id=self.id, **changes),
        )

    async def seat(self, one: Instance) -> None:
        user, other = self.chance.choice(USERS), self.chance.choice(USERS)
        roles: tuple[Role, ...] = ("gm", "player", "spectator")
        role = self.chance.choice(roles)
        make = self.chance.choice(
            (
                lambda room: JoinRoom(room=room, id=self.id, name=user.title(), role=role),
                lambda room: LeaveRoom(room=room, id=self.id),
                lambda room: ChangeRole(room=room, id=self.id, user=other, role=role),
                lambda room: KickMember(room=room, id=self.id, user=other),
            )
        )
        await self._do(one, user, make)

    async def say(self, one: Instance) -> None:
        await self._do(
            *(one, self.chance.choice(USERS)),
            lambda room: Say(room=room, id=self.id, text="hear, hear"),
        )

    async def delete(self, one: Instance) -> None:
        if self.rooms and self.chance.random() < 0.5:
            await one.rooms.delete(self.chance.choice(self.rooms), self.chance.choice(USERS))

    async def unload(self, one: Instance) -> None:
        one.engine.sweep()

    async def upload(self, one: Instance) -> None:
        content = f"picture {self.number}".encode()
        path, thumbnail = (
            self.folder / f"{self.number}.picture",
            self.folder / f"{self.number}.small",
        )
        path.write_bytes(content)
        thumbnail.write_bytes(content)
        picture = Picture(
            hashlib.sha256(content).hexdigest(), "image/png", 1, 1, len(content), path, thumbnail
        )
        asset = await one.assets.add(
            picture,
            uploader=self.chance.choice(USERS),
            room=self.chance.choice((None, "r1")),
            name=f"Map {self.chance.choice('abc')}",
            tags=self.chance.choice(((), ("sea",))),
        )
        self.assets.append(asset.id)

    async def take_back(self, one: Instance) -> None:
        if self.assets:
            await one.assets.remove(await one.assets.find(self.chance.choice(self.assets)))

    async def sign_in(self, one: Instance) -> None:
        self.begun.append(await one.sessions.begin("Ada"))

    async def rename(self, one: Instance) -> None:
        if self.begun:
            session = self.chance.choice(self.begun).session
            await one.sessions.rename(session, f"Ada {self.number}")

    async def sign_out(self, one: Instance) -> None:
        if self.begun:
            await one.sessions.sign_out(self.chance.choice(self.begun).session)


async def folded(one: Instance, room: str) -> Room | None:
    """The room from all its events."""
    if await one.log.head(room) is None:
        return None
    state = Room(room)
    for row in await one.log.read(room, after=0, limit=10_000):
        state = evolve(state, codec.decode_event(row.version, row.data))
    return state


async def check_rooms(one: Instance, steps: Steps) -> None:
    """Rooms and their lists are what the log says."""
    chance = steps.chance
    for user in (*USERS, ""):
        for public in (True, False):
            question = {
                "user": user,
                "public": public,
                "query": chance.choice(("", "", "room a")),
                "tag": chance.choice(("", "", "sea")),
                "before": None,
                "limit": chance.choice((2, 50)),
            }
            told = await one.cached.list_rooms(**question)  # type: ignore[arg-type]  # as the method wants
            assert told == await one.log.list_rooms(**question), question  # type: ignore[arg-type]  # as the method wants
        assert await one.rooms.likely_rooms(user) == await one.log.seats(user)
    if steps.rooms:
        room = chance.choice(steps.rooms)
        try:
            shown = (await one.rooms.open(room)).durable
        except NotFound:
            shown = None
        assert shown == await folded(one, room)


FIND_SESSION = Statement(
    "test.session",
    "SELECT u.name FROM sessions s JOIN users u ON u.id = s.user WHERE s.digest = ?",
)


async def check_people(one: Instance, steps: Steps) -> None:
    """Sessions are what the database says."""
    for begun in steps.begun:
        try:
            name = (await one.sessions.authenticate(begun.token)).name
            told = [(name,)]
        except Unauthorized:
            told = []
        digest = bytes.fromhex(begun.session.session_id)
        assert told == await one.database.read(FIND_SESSION, digest)


FIND_ASSETS = Statement("test.assets", "SELECT id, uploader, room FROM assets ORDER BY id")


async def check_assets(one: Instance, steps: Steps) -> None:
    """Assets are what the database says."""
    rows = await one.database.read(FIND_ASSETS)
    for asset in steps.assets:
        try:
            found = [(await one.assets.find(asset)).id]
        except NotFound:
            found = []
        assert found == [row[0] for row in rows if row[0] == asset]
    for user in USERS:
        page = await one.assets.list_of_user(user)
        assert {asset.id for asset in page.assets} == {row[0] for row in rows if row[1] == user}
    page = await one.assets.list_of_room("r1")
    assert {asset.id for asset in page.assets} == {row[0] for row in rows if row[2] == "r1"}


@pytest.mark.parametrize("seed", [1, 2])
async def test_cr1_after_each_step_everything_that_is_cached_is_what_the_database_says(
    fleet: Fleet, seed: int, tmp_path: Path
) -> None:
    steps = Steps(fleet, seed, tmp_path)
    for _ in range(STEPS):
        one = steps.chance.choice(fleet.instances)
        await steps.step(one)
        await check_rooms(one, steps)
        await check_people(one, steps)
        await check_assets(one, steps)
        await one.settled()
        other = steps.chance.choice(fleet.instances)
        await check_rooms(other, steps)
        await check_people(other, steps)
        await check_assets(other, steps)
    hits = sum(region.hits for region in fleet.instances[0].cache.local.regions.values())
    assert hits > 50, "the cache has to have answered"


# Rooms


def asked(statements: dict[str, int]) -> dict[str, int]:
    """How often each statement ran since then."""
    now = {labels[0]: one.count for labels, one in STATEMENTS.members()}
    return {
        name: count - statements.get(name, 0)
        for name, count in now.items()
        if count > statements.get(name, 0)
    }


def so_far() -> dict[str, int]:
    """How often each statement ran."""
    return {labels[0]: one.count for labels, one in STATEMENTS.members()}


async def talked(one: Instance, lines: int) -> str:
    """A room with so much said in it."""
    room = await one.rooms.create("mara", "Mara", "The Salt Road", "private")
    for number in range(lines):
        await one.house(room, "mara", Say(room=room, id=f"{room} {number}", text="hear, hear"))
    await one.engine.close()
    return room


async def test_cr2_a_room_that_did_not_change_costs_the_question_where_its_log_ends(
    fleet: Fleet,
) -> None:
    one = fleet.instances[0]
    room = await talked(one, 35)
    expected = (await one.rooms.open(room)).durable
    one.engine.sweep()
    await one.engine.close()
    before = so_far()
    again = await one.rooms.open(room)
    assert asked(before) == {"log_head": 1}
    assert again.durable == expected
    assert again.saved == 30


async def test_cr2_a_fleet_on_a_warm_shared_level_reads_what_changed_and_where_logs_end(
    pair: Fleet,
) -> None:
    one, other = pair.instances
    rooms = [await talked(one, lines) for lines in (0, 7, 35)]
    expected = {room: (await one.rooms.open(room)).durable for room in rooms}
    await one.close()
    changed = rooms[1]
    await other.house(changed, "mara", Say(room=changed, id="later", text="later"))
    expected[changed] = (await other.rooms.open(changed)).durable
    late = await pair.start()
    before = so_far()
    for room in rooms:
        assert (await late.rooms.open(room)).durable == expected[room]
    assert asked(before) == {"log_head": 3, "log_read": 1}


async def test_cr3_no_snapshot_is_taken_from_another_life_of_the_log(
    fleet: Fleet,
) -> None:
    """A restored room has another epoch, a standby that took over is another server, and may have lost the newest."""
    one = fleet.instances[0]
    room = await talked(one, 35)
    live = await one.rooms.open(room)
    true = live.durable
    wrong = await talked(one, 5)
    lie = (await one.rooms.open(wrong)).durable
    for change in ("epoch", "server", "ahead", "form", "damaged"):
        one.engine.drop(live)
        one.cache.clear("room_states")
        await one.settled()
        offset = 99 if change == "ahead" else 36
        kept = KeptRoom(
            epoch="another" if change == "epoch" else live.epoch,
            server="another" if change == "server" else str(live.server),
            offset=offset,
            saved=0,
            version=999 if change == "form" else codec.ROOM_FORM,
            data=b"{" if change == "damaged" else codec.encode_room(replace(lie, version=offset)),
        )
        one.cache.put(POLICIES.room_states, room, kept, position=kept.offset)
        live = await one.rooms.open(room)
        assert live.durable == true, change


async def test_cr3_a_snapshot_from_far_behind_is_worth_less_than_the_log_s(fleet: Fleet) -> None:
    one = fleet.instances[0]
    room = await talked(one, 5)
    early = await one.rooms.open(room)
    await one.cached.keep(early)
    kept = one.cache.peek(POLICIES.room_states, room)
    for number in range(60):
        await one.house(room, "mara", Say(room=room, id=f"more {number}", text="hear, hear"))
    await one.engine.close()
    one.engine.drop(early)
    one.cache.clear("room_states")
    await one.settled()
    assert kept is not None
    one.cache.put(POLICIES.room_states, room, kept, position=kept.offset)
    read: list[int] = []
    reading = one.log.read

    async def counted(of: str, *, after: int, limit: int) -> list[StoredEvent]:
        rows = await reading(of, after=after, limit=limit)
        read.append(len(rows))
        return rows

    one.log.read = counted  # type: ignore[method-assign, assignment]  # to count
    assert (await one.rooms.open(room)).durable == early.durable
    assert sum(read) <= BOUNDS.snapshot_every + BOUNDS.recent_events


async def test_cr4_a_deleted_room_comes_back_from_no_cache(fleet: Fleet) -> None:
    one = fleet.instances[0]
    room = await talked(one, 5)
    one.engine.sweep()
    await one.engine.close()
    assert [row.id for row in (await one.rooms.rooms_of("mara", limit=9, cursor=None)).rooms] == [
        room
    ]
    await one.rooms.delete(room, "mara")
    assert (await one.rooms.rooms_of("mara", limit=9, cursor=None)).rooms == []
    with pytest.raises(NotFound):
        await one.rooms.open(room)


# People, against a shared level that lags behind or a bus that brings nothing


async def known_to_all(pair: Fleet) -> Begun:
    """A session that the shared level has, read where everything told so far was known."""
    one, other = pair.instances
    begun = await one.sessions.begin("Ada")
    for instance in (one, other):
        assert instance.notices is not None
        await instance.notices.catch_up()
        floor = instance.notices.newest(begun.session.session_id, begun.session.user_id)
        async with asyncio.timeout(30):
            # Others of the server's transactions may hold back the position of what is read.
            while (await other.database.read(READ, NEWEST, 1))[0][0] < floor:  # noqa: ASYNC110 - only asking tells
                await asyncio.sleep(0.01)
    await other.sessions.authenticate(begun.token)
    await other.settled()
    # What is dropped from here on neither the shared level hears of nor the others.
    other.misses_drops = True
    assert one.shared is not None
    one.shared.away = True
    return begun


async def test_cr5_people_who_come_from_another_instance_cost_no_question(pair: Fleet) -> None:
    one, _ = pair.instances
    begun = await known_to_all(pair)
    assert one.shared is not None
    one.shared.away = False
    one.cache.local.clear()
    before = so_far()
    assert (await one.sessions.authenticate(begun.token)).name == "Ada"
    assert asked(before) == {}


@pytest.mark.parametrize("heard", ["by bus", "by reading"])
async def test_cr5_a_sign_out_that_is_known_is_never_undone_by_the_shared_level(
    pair: Fleet, heard: str
) -> None:
    """It knows nothing of the drop: the instance that signed out could not tell it."""
    one, other = pair.instances
    begun = await known_to_all(pair)
    assert other.notices is not None
    other.deaf = heard == "by reading"
    other.cache.local.clear()
    await one.sessions.sign_out(begun.session)
    if heard == "by reading":
        await other.notices.catch_up()
    for _ in range(2):
        with pytest.raises(Unauthorized):
            await other.fresh_sessions().authenticate(begun.token)
        await other.notices.catch_up()


async def test_cr5_who_begins_after_a_sign_out_does_not_believe_what_was_read_before(
    pair: Fleet,
) -> None:
    one, _ = pair.instances
    begun = await known_to_all(pair)
    await one.sessions.sign_out(begun.session)
    late = await pair.start()
    with pytest.raises(Unauthorized):
        await late.sessions.authenticate(begun.token)


async def test_cr5_a_new_name_that_is_known_is_never_undone_by_the_shared_level(
    pair: Fleet,
) -> None:
    one, other = pair.instances
    begun = await known_to_all(pair)
    other.cache.local.clear()
    await one.sessions.rename(begun.session, "Countess")
    assert other.notices is not None
    for _ in range(2):
        assert (await other.sessions.authenticate(begun.token)).name == "Countess"
        await other.notices.catch_up()
        other.cache.local.clear()


async def test_cr5_while_a_long_transaction_runs_people_come_in_all_the_same(
    pair: Fleet, database_url: str
) -> None:
    """It holds back the position of all that is read meanwhile."""
    one, other = pair.instances
    begun = await known_to_all(pair)
    slow = await asyncpg.connect(database_url)
    try:
        await slow.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        await slow.execute("SELECT pg_current_xact_id()")
        await one.sessions.rename(begun.session, "Countess")
        late = await pair.start()
        for instance in (one, other, late):
            assert instance.notices is not None
            await instance.notices.catch_up()
            for _ in range(2):
                assert (await instance.sessions.authenticate(begun.token)).name == "Countess"
    finally:
        await slow.close()


async def test_cr5_what_was_read_from_another_server_counts_for_nothing(pair: Fleet) -> None:
    """A standby that took over counts its transactions on from where it stands, perhaps below what was read before."""
    one, other = pair.instances
    begun = await known_to_all(pair)
    for instance in (one, other):
        assert instance.notices is not None
        instance.notices.server = "a standby"
    before = so_far()
    await one.sessions.authenticate(begun.token)
    assert asked(before) == {"session.find": 1}


async def test_cr6_who_was_kicked_or_lost_a_role_is_told_so_whatever_the_cache_says(
    pair: Fleet,
) -> None:
    """The other instance hears nothing, and lists are as old as they may be; what somebody may do is in the room's log."""
    one, other = pair.instances
    room = await one.rooms.create("mara", "Mara", "The Salt Road", "private")
    join = JoinRoom(room=room, id="join", name="Bo", role="player")
    await one.house(room, "bo", join)
    assert await other.rooms.role(room, "bo") == "player"
    other.deaf = True
    await one.house(room, "mara", ChangeRole(room=room, id="role", user="bo", role="spectator"))
    assert await other.rooms.role(room, "bo") == "spectator"
    await one.house(room, "mara", KickMember(room=room, id="kick", user="bo"))
    other.cache.put(POLICIES.user_seats, "bo", Rows(((room,),)))
    assert await other.rooms.likely_rooms("bo") == [room], "it lags behind"
    assert await other.rooms.role(room, "bo") is None
    with pytest.raises(NotFound):
        await other.rooms.snapshot(room, "bo")
    assert await other.rooms.visible_assets(room, "bo") == frozenset()


async def test_cr6_many_who_ask_for_one_list_at_once_ask_the_database_once(fleet: Fleet) -> None:
    one = fleet.instances[0]
    await one.rooms.create("mara", "Mara", "The Salt Road", "public")
    await one.engine.close()
    before = so_far()
    lists = await asyncio.gather(
        *(one.rooms.rooms_of(None, limit=9, cursor=None) for _ in range(50))
    )
    assert all(len(found.rooms) == 1 for found in lists)
    assert list(asked(before).values()) == [1]
