"""What the seeds found, each as a story of its own, told without chance. More stand in tests/unit/rooms/test_following.py."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tableforge.domain.commands import JoinRoom, KickMember, Say
from tableforge.errors import TableForgeError
from tableforge.rooms.live import Reply
from tests.simulation.checks import Answered, Refusal, Sent
from tests.simulation.clients import Client
from tests.simulation.process import Clock, simulated
from tests.simulation.servers import Server
from tests.simulation.world import World

ROOM = "room0"


class Calm(World):
    """Nothing happens by itself, and the bus swallows everything; `way` is the server that the balancer picks."""

    way: Server | None = None

    def _draw_temper(self) -> None:
        self._net = self._db = self._bus = 0.001
        self._bus_drops, self._bus_doubles, self._commits_fail = 1.0, 0.0, 0.0
        self._kinds, self._pace = [], 0.0

    def pick_server(self) -> Server:
        return self.way or self.servers[0]

    def meet(self, user: str, server: Server) -> Client:
        """A client that is connected to this server, and listens if it may."""
        self.way = server
        client = Client(self, user)
        self.wait(lambda: ROOM in client.on | client.out)
        return client

    def wait(self, done: Callable[[], object]) -> None:
        """Let time pass, ten seconds at most."""
        assert self.clock.run(lambda: bool(done()), self.clock.now + 10.0)

    def outcome(self, sent: Sent) -> Answered | Refusal:
        """What became of a command."""
        self.wait(lambda: sent.outcome)
        assert sent.outcome is not None
        return sent.outcome


@contextmanager
def calm() -> Iterator[Calm]:
    """A calm world, whose checks must have found nothing at its end."""
    clock = Clock(0)
    with simulated(clock):
        try:
            world = Calm(clock)
            world.wait(lambda: all(ROOM in client.on for client in world.clients))
            yield world
            assert clock.failures == []
        finally:
            clock.close()


def test_whoever_took_a_seat_through_one_instance_may_speak_through_another() -> None:
    with calm() as world:
        here, there = world.servers[:2]
        world.meet("user1", there)
        guest = world.meet("guest", there)
        answers: list[Reply | TableForgeError] = []
        join = JoinRoom(ROOM, "join-guest", "Guest", "player")
        here.house(ROOM, "guest", join, world.process, answers.append)
        world.wait(lambda: answers)
        assert isinstance(answers[0], Reply)
        guest.issue(Say(ROOM, "s1", "Good evening"))
        assert isinstance(world.outcome(world.checks.commands["guest", "s1"]), Answered)


def test_whoever_lost_their_seat_through_one_instance_may_not_speak_through_another() -> None:
    with calm() as world:
        here, there = world.servers[:2]
        gm = world.meet("user0", here)
        other = world.meet("user1", there)
        gm.issue(KickMember(ROOM, "k1", "user1"))
        assert isinstance(world.outcome(world.checks.commands["user0", "k1"]), Answered)
        other.issue(Say(ROOM, "s1", "I am still here"))
        refusal = world.outcome(world.checks.commands["user1", "s1"])
        assert isinstance(refusal, Refusal)
        assert refusal.message == "not-found"


@pytest.mark.parametrize("seconds", [0.05, 1.0, 4.0])
def test_a_stopped_instance_goes_on_and_overwrites_nothing(seconds: float) -> None:
    with calm() as world:
        here, there = world.servers[:2]
        stopped = world.meet("user0", here)
        other = world.meet("user1", there)
        stopped.issue(Say(ROOM, "s1", "One"))
        here.process.stopped_until = world.clock.now + seconds
        other.issue(Say(ROOM, "s2", "Two"))
        first = world.outcome(world.checks.commands["user1", "s2"])
        second = world.outcome(world.checks.commands["user0", "s1"])
        assert isinstance(first, Answered)
        assert isinstance(second, Answered)
        assert first.offset < second.offset
        world.wait(lambda: stopped.positions[ROOM][1] == second.offset)
