"""Presence across instances, on a bus that loses, doubles and delays, in virtual time (rules PR of `docs/spec.md`)."""

import asyncio
import random
from collections.abc import Callable, Sequence
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tableforge.hub.presence import GATHER_SECONDS, ORIGINS_MAX, Presence
from tableforge.protocol.bus_messages import (
    Present,
    Roster,
    WhoIsThere,
    decode_message,
    encode_message,
)
from tableforge.protocol.channels import room_channel, room_of
from tableforge.protocol.frames import ClientInfo
from tests.memory_bus import Exchange, MemoryBus, at_once
from tests.virtual_time import run

EXPIRY_SECONDS = 6.0
REGISTRY_SECONDS = 7.0
"""After this the registry knows that an instance is gone."""
SOON = 4 * GATHER_SECONDS
ROOMS = ("r1", "r2")

Told = tuple[bool, str]
"""Whether it is about the live channel, and the client."""


class Instance:
    """One start of one instance, with those who are connected to it."""

    def __init__(self, fleet: "Fleet", name: str, number: int) -> None:
        self.fleet = fleet
        self.name = name
        self.origin = f"{name}~{number}"
        self.here: dict[str, list[Present]] = {room: [] for room in ROOMS}
        self.told: dict[str, set[Told]] = {room: set() for room in ROOMS}
        """Who is elsewhere by what joins and leaves said."""
        self.sent: list[tuple[float, str, Roster | WhoIsThere]] = []
        self.bus: MemoryBus = fleet.exchange.endpoint(name)
        self.presence = Presence(
            self.origin,
            send=self.send,
            local=lambda room: self.here[room],
            changed=self.changed,
            carried=lambda room: self.bus.carries(room_channel(room)),
            expiry_seconds=EXPIRY_SECONDS,
            clock=asyncio.get_running_loop().time,
        )
        self.ticking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.bus.start(self.hear, self.resumed)
        for room in ROOMS:
            self.bus.listen(room_channel(room))
        self.ticking = asyncio.create_task(self.tick())

    async def tick(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            self.presence.tick()
            for origin, since in self.fleet.dead.items():
                if asyncio.get_running_loop().time() - since > REGISTRY_SECONDS:
                    self.presence.gone(origin)

    def send(self, room: str, message: Roster | WhoIsThere) -> None:
        self.sent.append((asyncio.get_running_loop().time(), room, message))
        self.bus.publish(room_channel(room), encode_message(message))

    def hear(self, channel: str, data: bytes) -> None:
        place, message = room_of(channel), decode_message(data)
        assert place is not None
        assert isinstance(message, Roster | WhoIsThere)
        self.presence.heard(place[0], message)

    def resumed(self, channels: Sequence[str]) -> None:
        for channel in channels:
            self.presence.appeared(channel.removeprefix("room:"))

    def changed(
        self, room: str, live: bool, joined: Sequence[ClientInfo], left: Sequence[ClientInfo]
    ) -> None:
        assert joined or left
        for info in left:
            self.told[room].remove((live, info.client))
        for info in joined:
            assert (live, info.client) not in self.told[room]
            self.told[room].add((live, info.client))

    def connect(self, room: str, client: str, *, live: bool = False) -> None:
        self.here[room].append(Present(client, f"user-{client}", client.title(), "player", live))
        self.presence.touch(room)

    def disconnect(self, room: str) -> None:
        if self.here[room]:
            self.here[room].pop(0)
            self.presence.touch(room)

    def seen(self, room: str) -> set[Told]:
        return {
            (live, info.client)
            for live in (False, True)
            for info in self.presence.others(room, live=live)
        }

    async def end(self) -> None:
        assert self.ticking is not None
        self.ticking.cancel()
        await self.bus.close()


class Fleet:
    """Instances by name; `dead` are those that the registry is about to find dead, since when."""

    def __init__(self) -> None:
        self.exchange = Exchange()
        self.live: dict[str, Instance] = {}
        self.dead: dict[str, float] = {}
        self._numbers = count(1)

    async def start(self, *names: str) -> list[Instance]:
        for name in names:
            self.live[name] = Instance(self, name, next(self._numbers))
            await self.live[name].start()
        await asyncio.sleep(SOON)
        return [self.live[name] for name in names]

    async def kill(self, name: str) -> None:
        one = self.live.pop(name)
        self.dead[one.origin] = asyncio.get_running_loop().time()
        await one.end()

    async def stop(self, name: str) -> None:
        one = self.live.pop(name)
        for room in ROOMS:
            one.here[room].clear()
        one.presence.close()
        await one.end()

    async def end(self) -> None:
        for name in list(self.live):
            await self.kill(name)

    def truth(self, but: Instance, room: str) -> set[Told]:
        return {
            (one.live, one.client)
            for other in self.live.values()
            if other is not but
            for one in other.here[room]
        }

    def agree(self) -> None:
        for one in self.live.values():
            for room in ROOMS:
                assert one.seen(room) == self.truth(one, room), (one.name, room)
                assert one.told[room] == one.seen(room), (one.name, room)


def test_pr1_who_is_connected_elsewhere_is_known_at_once() -> None:
    async def story() -> None:
        fleet = Fleet()
        a, b = await fleet.start("a", "b")
        a.connect("r1", "ada")
        a.connect("r1", "ada", live=True)
        b.connect("r1", "bob")
        await asyncio.sleep(SOON)
        fleet.agree()
        (info,) = b.presence.others("r1", live=True)
        assert info == ClientInfo("user-ada", "ada", {"name": "Ada"}, {"role": "player"})
        assert b.presence.others("r2", live=False) == []
        a.disconnect("r1")
        (late,) = await fleet.start("c")
        fleet.agree()
        assert late.seen("r1") == {(True, "ada"), (False, "bob")}
        await fleet.end()

    run(story())


def test_pr1_a_member_who_is_known_by_another_name_neither_leaves_nor_joins() -> None:
    async def story() -> None:
        fleet = Fleet()
        a, b = await fleet.start("a", "b")
        a.connect("r1", "ada")
        await asyncio.sleep(SOON)
        a.here["r1"] = [Present("ada", "user-ada", "Countess", "gm", live=False)]
        a.presence.touch("r1")
        b.told["r1"].clear()
        await asyncio.sleep(SOON)
        assert b.told["r1"] == set()
        (info,) = b.presence.others("r1", live=False)
        assert (info.conn_info, info.chan_info) == ({"name": "Countess"}, {"role": "gm"})
        await fleet.end()

    run(story())


@pytest.mark.parametrize("bus", ["carries", "is away"])
def test_pr2_ten_seconds_after_a_kill_nobody_is_connected_through_it(bus: str) -> None:
    async def story() -> None:
        fleet = Fleet()
        a, b = await fleet.start("a", "b")
        a.connect("r1", "ada")
        await asyncio.sleep(60)
        fleet.agree()
        if bus == "is away":
            fleet.exchange.silence("b")
        await fleet.kill("a")
        await asyncio.sleep(10)
        assert b.seen("r1") == b.told["r1"] == set()
        await fleet.end()

    run(story())


def test_pr3_a_stop_in_order_leaves_nobody_behind_and_a_restart_begins_anew() -> None:
    async def story() -> None:
        fleet = Fleet()
        a, b = await fleet.start("a", "b")
        a.connect("r1", "ada")
        await asyncio.sleep(SOON)
        old = [message for _, room, message in a.sent if room == "r1"]
        await fleet.stop("a")
        await asyncio.sleep(SOON)
        fleet.agree()
        for message in old:
            b.presence.heard("r1", message)
        assert b.seen("r1") == set()
        (again,) = await fleet.start("a")
        again.connect("r1", "ada")
        await asyncio.sleep(SOON)
        fleet.agree()
        await fleet.end()

    run(story())


def test_pr3_a_room_that_is_no_longer_followed_is_forgotten_on_both_sides() -> None:
    async def story() -> None:
        fleet = Fleet()
        a, b = await fleet.start("a", "b")
        a.connect("r1", "ada")
        b.connect("r1", "bob")
        await asyncio.sleep(SOON)
        a.here["r1"].clear()
        a.bus.unlisten(room_channel("r1"))
        a.presence.forget("r1")
        a.told["r1"].clear()
        await asyncio.sleep(SOON)
        assert a.seen("r1") == b.seen("r1") == set()
        b.presence.heard("r3", Roster("a", 1, ()))
        assert b.presence.others("r3", live=False) == []
        await fleet.end()

    run(story())


WHATEVER = (
    *("connect", "connect", "watch", "disconnect", "kill", "stop", "start", "start"),
    *("cut", "mend", "lossy", "tidy", "wait", "wait long"),
)
Step = tuple[str, str, str]
STEPS = st.lists(
    st.tuples(st.sampled_from(WHATEVER), st.sampled_from("abc"), st.sampled_from(ROOMS)),
    max_size=40,
)


def lossy(chance: random.Random) -> Callable[[str, str, str, bytes], Sequence[float]]:
    return lambda *_: [chance.uniform(0, 0.5) for _ in range(chance.choice((0, 1, 1, 2)))]


async def befall(fleet: Fleet, step: Step, chance: random.Random) -> None:
    """Let one thing happen to the world."""
    what, name, _ = step
    if what == "wait":
        await asyncio.sleep(chance.uniform(0, 1))
    elif what == "wait long":
        await asyncio.sleep(chance.uniform(0, 15))
    elif what == "lossy":
        fleet.exchange.fate = lossy(chance)
    elif what == "tidy":
        fleet.exchange.fate = at_once
    elif what == "start" and name not in fleet.live:
        await fleet.start(name)
    elif name in fleet.live:
        await happen(fleet, step, f"client-{chance.getrandbits(64)}")


async def happen(fleet: Fleet, step: Step, client: str) -> None:
    """Let one thing happen to a live instance."""
    what, name, room = step
    if what in {"connect", "watch"}:
        fleet.live[name].connect(room, client, live=what == "watch")
    elif what == "disconnect":
        fleet.live[name].disconnect(room)
    elif what == "kill":
        await fleet.kill(name)
    elif what == "stop":
        await fleet.stop(name)
    elif what == "cut":
        fleet.exchange.silence(name)
    elif what == "mend":
        fleet.exchange.restore(name)


@given(steps=STEPS, seed=st.integers(0, 2**32))
def test_pr4_whatever_was_lost_doubled_or_delayed_everybody_agrees_in_the_end(
    steps: list[Step], seed: int
) -> None:
    async def story() -> None:
        chance = random.Random(seed)
        fleet = Fleet()
        await fleet.start("a", "b", "c")
        for step in steps:
            await befall(fleet, step, chance)
            for one in fleet.live.values():
                assert all(one.told[room] == one.seen(room) for room in ROOMS)
        fleet.exchange.fate = at_once
        for name in fleet.live:
            fleet.exchange.restore(name)
        for calm in (10, 60):
            await asyncio.sleep(calm)
            fleet.agree()
        await fleet.end()

    run(story())


def test_pr5_while_the_bus_is_away_nobody_leaves_but_with_their_instance() -> None:
    async def story() -> None:
        fleet = Fleet()
        a, b, c = await fleet.start("a", "b", "c")
        a.connect("r1", "ada")
        c.connect("r1", "cid")
        await asyncio.sleep(SOON)
        for name in "abc":
            fleet.exchange.silence(name)
        # The bus is believed for a moment longer, less than it takes for a roster to run out.
        await asyncio.sleep(60)
        assert b.seen("r1") == {(False, "ada"), (False, "cid")}
        await fleet.kill("c")
        await asyncio.sleep(10)
        assert b.seen("r1") == b.told["r1"] == {(False, "ada")}
        for name in "ab":
            fleet.exchange.restore(name)
        await asyncio.sleep(60)
        fleet.agree()
        await fleet.end()

    run(story())


class Alone:
    """One instance with a clock and a bus that the test sets; `left` are those it saw leave."""

    def __init__(self) -> None:
        self.now = 0.0
        self.carried = True
        self.left: list[str] = []
        self.presence = Presence(
            "b~1",
            send=lambda room, message: None,
            local=lambda room: (),
            changed=lambda room, live, joined, left: self.left.extend(one.client for one in left),
            carried=lambda room: self.carried,
            expiry_seconds=EXPIRY_SECONDS,
            clock=lambda: self.now,
        )
        self.presence.appeared("r1")
        ada = Present("ada", "user-ada", "Ada", "gm", live=False)
        self.presence.heard("r1", Roster("a~1", 1, (ada,)))

    def pass_by(self, seconds: float) -> None:
        for _ in range(int(seconds * 2)):
            self.now += 0.5
            self.presence.tick()


async def test_pr5_when_the_bus_is_back_the_others_get_the_time_to_say_who_is_there() -> None:
    alone = Alone()
    alone.carried = False
    alone.pass_by(60)
    alone.carried = True
    alone.presence.appeared("r1")
    alone.pass_by(EXPIRY_SECONDS - 1)
    assert alone.left == []
    alone.pass_by(2)
    assert alone.left == ["ada"]


async def test_pr6_an_instance_that_stood_still_takes_nobody_for_gone() -> None:
    alone = Alone()
    alone.now += 30
    alone.presence.tick()
    assert alone.left == []
    alone.pass_by(EXPIRY_SECONDS + 1)
    assert alone.left == ["ada"]


def test_pr7_changes_of_one_moment_are_told_in_one_message() -> None:
    async def story() -> None:
        fleet = Fleet()
        a, b = await fleet.start("a", "b")
        before = len(a.sent)
        for number in range(100):
            a.connect("r1", f"client-{number}")
        await asyncio.sleep(SOON)
        assert len(a.sent) == before + 1
        fleet.agree()
        assert len(b.seen("r1")) == 100
        await fleet.end()

    run(story())


def test_pr7_rosters_that_nobody_waits_for_are_renewed_seldom() -> None:
    async def story() -> None:
        fleet = Fleet()
        a, b = await fleet.start("a", "b")
        b.bus.unlisten(room_channel("r2"))
        b.presence.forget("r2")
        for room in ROOMS:
            a.connect(room, "ada")
        await asyncio.sleep(60)
        begun = asyncio.get_running_loop().time()
        await asyncio.sleep(180)
        sent = {
            room: len([at for at, where, _ in a.sent if where == room and at > begun])
            for room in ROOMS
        }
        assert 180 / 2.5 < sent["r1"] < 180 / 1
        assert sent["r2"] < 180 / 10
        assert b.seen("r1") == {(False, "ada")}
        await fleet.end()

    run(story())


def test_pr7_what_is_remembered_of_a_room_is_bounded() -> None:
    async def story() -> None:
        fleet = Fleet()
        (a,) = await fleet.start("a")
        for number in range(2 * ORIGINS_MAX):
            ada = Present(f"ada-{number}", "user-ada", "Ada", "gm", live=False)
            a.presence.heard("r1", Roster(f"x~{number}", 1, (ada,)))
        assert len(a.presence.others("r1", live=False)) == ORIGINS_MAX
        await asyncio.sleep(10)
        assert a.presence.others("r1", live=False) == []
        await fleet.end()

    run(story())
