"""A run: servers, clients, what they do and what befalls them, all drawn from one seed.

    python -m tests.simulation 4711      replays a run and prints what happened

First the faults, then peace: once nothing more befalls anybody, all must agree in bounded time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tableforge.domain import commands as c
from tableforge.domain.commands import Command, JoinRoom, OpenRoom
from tableforge.domain.decider import decide, evolve
from tableforge.domain.state import Given, Role, Room
from tableforge.errors import TableForgeError
from tableforge.eventlog import StoredEvent
from tableforge.eventlog.memory import Stream
from tableforge.protocol import codec
from tableforge.rooms.decided import facts_of
from tests.memory_bus import Exchange
from tests.simulation.checks import Checks
from tests.simulation.clients import Client
from tests.simulation.process import Clock, simulated
from tests.simulation.servers import Server
from tests.simulation.storage import CommitFate, Database

SILENCE_SECONDS = 0.4
PEACE_SECONDS = 5.0
"""How long it may take after the last fault until everybody holds the same."""
CHECK_EVERY = 0.05
LAST_WORDS_SECONDS = 0.3

FAULTS = ("crash", "stall", "cut", "silence", "away", "storm", "wall clock")


@dataclass
class Outcome:
    """What became of a run."""

    seed: int
    failures: list[str]
    commands: int
    deliveries: int
    faults: int
    settled_seconds: float
    """Simulated ones, from the last fault until everybody held the same."""
    trace: list[str]


class World:
    """Everything that lives on one clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.chance = clock.chance
        self.process = self.clock.start("world")
        self._draw_temper()
        self.database = Database(self._commit_fate, self._db_latency)
        self.checks = Checks(self.clock, self.database)
        self.exchange = Exchange(fate=self._bus_fate, silence_seconds=SILENCE_SECONDS)
        self.bus_is_dead = False
        self.peace = False
        self.has_screens = self.chance.random() < 0.3
        self._numbers = 0
        self._faults = 0
        self.rooms = [f"room{number}" for number in range(self.chance.choice((1, 1, 2)))]
        self.users = [f"user{number}" for number in range(self.chance.randint(3, 5))]
        self._opened = {room: self._open_table(room) for room in self.rooms}
        self.servers = [Server(self, f"s{number}") for number in range(self.chance.choice((2, 3)))]
        self.clients = [Client(self, user) for user in self.users]

    def _draw_temper(self) -> None:
        """Each run is quiet in some ways and wild in others: all of it at once would hide more than it finds."""
        draw = self.chance.choice
        self._net = draw((0.0005, 0.002, 0.01))
        self._db = draw((0.0002, 0.001, 0.005))
        self._bus = draw((0.0002, 0.001, 0.02))
        self._bus_drops = draw((0.0, 0.0, 0.05, 0.3, 1.0))
        self._bus_doubles = draw((0.0, 0.1))
        self._commits_fail = draw((0.0, 0.0, 0.05, 0.2))
        self._kinds = [kind for kind in FAULTS if self.chance.random() < 0.5]
        self._pace = draw((0.005, 0.02, 0.08))

    # Delays and fates

    def net_latency(self) -> float:
        """Between a client and a server, one way."""
        return self.chance.expovariate(1.0) * self._net

    def _db_latency(self) -> float:
        slow = 20 if not self.peace and self.chance.random() < 0.02 else 1
        return self.chance.expovariate(1.0) * self._db * slow

    def _commit_fate(self) -> CommitFate:
        if not self.peace and self.chance.random() < self._commits_fail:
            return self.chance.choice(("lost", "unanswered", "late"))
        return "done"

    def _bus_fate(
        self, sender: str, receiver: str, channel: str, message: bytes
    ) -> Sequence[float]:
        if not self.peace and self.chance.random() < self._bus_drops:
            return ()
        times = 2 if self.chance.random() < self._bus_doubles else 1
        return [self.chance.expovariate(1.0) * self._bus for _ in range(times)]

    def pick_server(self) -> Server:
        """What a load balancer does: any server that runs, as far as it knows."""
        return self.chance.choice(self.servers)

    def fresh_id(self) -> str:
        """A new command's id."""
        self._numbers += 1
        return f"c{self._numbers}"

    # The tables

    def _open_table(self, room: str) -> int:
        """Write the first events of a room straight into the log; returns how many."""
        state = Room(room)
        events: list[StoredEvent] = []
        roles: list[Role] = ["gm", "player", "player", "gm", "spectator"]
        given: list[tuple[str, OpenRoom | JoinRoom]] = [
            (self.users[0], OpenRoom(room, "open", "The Salt Road", "private", "Gm")),
            *(
                (user, JoinRoom(room, f"join{user}", user.title(), role))
                for user, role in zip(self.users[1:], roles[1:], strict=False)
            ),
        ]
        for user, command in given:
            moment = Given(user, "2030-01-01T00:00:00.000Z", self.chance.randbytes(16))
            for event in decide(state, command, moment):
                state = evolve(state, event)
                events.append(StoredEvent(state.version, codec.EVENT_FORM, codec.encode(event)))
        streams = self.database.store.streams
        streams[room] = Stream(len(streams) + 1, f"epoch-{room}", facts_of(state), events)
        self.checks.open_table(room, len(events))
        return len(events)

    # What the players do

    def _command(self, client: Client, room: str) -> Command:
        """Mostly what the table as it is would allow: what is refused for good reasons tells little."""
        state = self.checks.history(room).states[-1]
        for _ in range(3):
            command = self._any_command(client, room, state)
            if not isinstance(self.checks.decided(state, client.user, command), TableForgeError):
                return command
        return self._any_command(client, room, state)

    def _any_command(self, client: Client, room: str, state: Room) -> Command:
        chance, user, name = self.chance, client.user, self.fresh_id()
        tokens = list(state.tokens) or ["none"]
        mine = [key for key, token in state.tokens.items() if token.owner == user] or tokens
        token = chance.choice(mine if chance.random() < 0.7 else tokens)
        other = chance.choice(self.users)
        whole = float(chance.randint(0, 9))
        kinds: list[tuple[int, Callable[[], Command]]] = [
            (3, lambda: c.AddToken(room, name, "Piece", whole, 1.0)),
            (1, lambda: c.AddToken(room, name, "Veiled", whole, 1.0, owner=other, hidden=True)),
            (8, lambda: c.MoveToken(room, name, token=token, x=whole, y=2.0)),
            (2, lambda: c.RemoveToken(room, name, token)),
            (1, lambda: c.UpdateToken(room, name, token, hidden=chance.random() < 0.5)),
            (1, lambda: c.UpdateToken(room, name, token, locked=chance.random() < 0.4)),
            (1, lambda: c.UpdateToken(room, name, token, owner=other)),
            (2, lambda: c.Say(room, name, "Hush", to=(other,))),
            (1, lambda: c.Say(room, name, "Aloud")),
            (2, lambda: c.RollDice(room, name, "2d6", chance.choice(("public", "gm", "self")))),
            (2, lambda: c.Undo(room, name)),
            (1, lambda: c.Redo(room, name)),
            (1, lambda: c.SetTurn(room, name, (c.TurnRow("A", 2.0), c.TurnRow("B", 1.0, token)))),
            (3, lambda: c.NextTurn(room, name)),
            (1, lambda: c.UpdateRoom(room, name, name=chance.choice(("Salt", "Sand")))),
            (1, lambda: c.MuteMember(room, name, other, chance.random() < 0.5)),
            (1, lambda: c.ChangeRole(room, name, other, chance.choice(("gm", "player", "player")))),
            (1, lambda: c.KickMember(room, name, other)),
        ]
        (make,) = chance.choices([kind for _, kind in kinds], [weight for weight, _ in kinds])
        return make()

    def _play(self, left: int) -> None:
        client = self.chance.choice(self.clients)
        room = self.chance.choice(self.rooms)
        burst = min(left, self.chance.choice((1, 1, 1, 2, 4)))
        for _ in range(burst):
            client.issue(self._command(client, room))
        if left > burst:
            self.process.call_later(
                self.chance.expovariate(1.0) * self._pace * burst, self._play, left - burst
            )
        else:
            # The last words may be lost as well: peace does not begin before they were.
            self.process.call_later(LAST_WORDS_SECONDS, self._stop_playing)

    def _stop_playing(self) -> None:
        self._playing = False

    # What befalls them

    def _strike(self, left: int) -> None:
        if left == 0:
            self._striking = False
            return
        kind = self.chance.choice(self._kinds)
        server = self.chance.choice(self.servers)
        self._faults += 1
        seconds = self.chance.choice((0.02, 0.2, 1.0)) * self.chance.uniform(0.5, 1.5)
        self.clock.note(f"-- {kind} of {server.process.name} for {seconds:.3f} s")
        if kind == "crash" and server.up:
            server.crash()
            self.process.call_later(seconds, server.boot)
        elif kind == "stall" and server.up:
            server.process.stopped_until = self.clock.now + seconds
        elif kind == "cut":
            self._cut(self.chance.choice(self.clients))
        elif kind == "storm":
            for client in self.clients:
                self._cut(client)
        elif kind == "silence" and server.up:
            server.bus.cut_off()
            self.process.call_later(seconds, self._restore, server)
        elif kind == "away":
            server.log.cut_until = max(server.log.cut_until, self.clock.now + seconds)
        elif kind == "wall clock":
            server.process.wall_ahead = self.chance.uniform(-3600.0, 3600.0)
        pause = self.chance.expovariate(1.0) * self._between
        self.process.call_later(pause, self._strike, left - 1)

    def _cut(self, client: Client) -> None:
        if client.line is not None:
            client.line.cut(
                notice=self.chance.uniform(0.0, 0.3), server_notice=self.chance.uniform(0.0, 1.0)
            )

    def _restore(self, server: Server) -> None:
        if server.up and not self.bus_is_dead and server.bus.silent_since is not None:
            self.exchange.restore(server.name)

    def _silence_for_ever(self) -> None:
        self.clock.note("-- the bus dies")
        self.bus_is_dead = True
        for endpoint in self.exchange.endpoints.values():
            endpoint.cut_off()

    # The run

    def run(self) -> Outcome:
        """Let it all happen."""
        self._playing = self._striking = True
        commands = self.chance.randint(15, 50)
        self.process.call_later(0.1, self._play, commands)
        strikes = self.chance.randint(3, 14) if self._kinds else 0
        self._between = (commands * self._pace + 0.3) / max(1, strikes)
        self.process.call_later(0.1, self._strike, strikes)
        if self.chance.random() < 0.15:
            self.process.call_later(self.chance.uniform(0.0, 0.5), self._silence_for_ever)
        clock = self.clock
        clock.run(lambda: not (self._playing or self._striking) or bool(clock.failures), 120.0)
        clock.note("-- peace")
        self.peace = True
        struck = clock.now
        if not clock.failures:
            self._settle()
        return Outcome(
            seed=clock.seed,
            failures=clock.failures,
            commands=commands,
            deliveries=self.checks.deliveries,
            faults=self._faults,
            settled_seconds=clock.now - struck,
            trace=clock.trace or [],
        )

    def _settle(self) -> None:
        clock = self.clock
        deadline = clock.now + PEACE_SECONDS
        while not clock.failures and (apart := self._apart()) is not None:
            if clock.now >= deadline:
                clock.complain(f"{PEACE_SECONDS} s after the last fault: {apart}")
                return
            clock.run(lambda: bool(clock.failures), clock.now + CHECK_EVERY)
        if not clock.failures:
            for room, given in self._opened.items():
                self.checks.log(room, given)
            self.checks.order()
            for server in self.servers:
                self.checks.memory(server.name, server.engine)
            for client in self.clients:
                for room, reader in client.views.items():
                    self.checks.screen(client.user, room, reader.view)

    def _apart(self) -> str | None:
        """Who does not hold what the log holds, or waits for an answer; None if all is well."""
        for client in self.clients:
            if client.unanswered:
                return f"{client.user} waits for {[sent.name for sent in client.unanswered]}"
            for room in self.rooms:
                head = self.database.head(room)
                if client.user not in self.checks.history(room).states[-1].members:
                    return f"{client.user} has no seat at {room}"
                if room not in client.on:
                    return f"{client.user} is not on {room}"
                if client.positions[room][1] != head:
                    return f"{client.user} stands at {client.positions[room]} of {room}, whose log ends at {head}"
        for server in self.servers:
            if not server.up:
                return f"{server.name} is down"
        return None


def run_seed(seed: int, *, traced: bool = False) -> Outcome:
    """One run from its seed."""
    clock = Clock(seed, traced=traced)
    with simulated(clock):
        try:
            return World(clock).run()
        finally:
            clock.close()
