"""Sessions through cuts, restarts and a failing disk, against a naive twin: the log itself, redacted from the beginning."""

import json
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec import UNSET

from tableforge.domain.decider import evolve
from tableforge.domain.events import MemberChanged
from tableforge.domain.state import Room
from tableforge.domain.visibility import Step, redact
from tableforge.protocol import codec
from tests.machines.session_world import World

users = st.sampled_from(World.USERS)
few = st.integers(1, 4)
coordinates = st.integers(-3, 3)
fates = st.tuples(
    st.sampled_from([0, 1, 9, 9]), st.frozensets(st.sampled_from(World.USERS), min_size=1)
)
"""What becomes of a command at once: how many appends the disk writes, and to whom the network delivers."""

Fate = tuple[int, frozenset[str]]


class SessionMachine(RuleBasedStateMachine):
    """Every client hears each event once, in order, as it may see it; what was acknowledged is in the log once."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.numbers = 0

    def teardown(self) -> None:
        try:
            self.drain()
            self.acknowledged_commands_are_in_the_log_once()
            self.everybody_heard_what_they_may()
            self.everything_is_right()
        finally:
            self.world.close()

    @initialize()
    def everybody_comes(self) -> None:
        for client in self.world.clients.values():
            self.world.do(lambda client=client: client.connect(self.world.server))
            client.deliver(100)

    def give(self, user: str, fate: Fate, type_: str, /, **body: Any) -> None:
        client = self.world.clients[user]
        if client.conversation is None or client.line.closed is not None:
            return
        self.numbers += 1
        command = {"room": self.world.room, "id": f"c{self.numbers}", "type": type_, **body}
        self.world.do(lambda: client.command(command))
        written, delivered = fate
        self.world.do(lambda: self.world.log.commit(written))
        for other in delivered:
            self.world.clients[other].deliver(100)

    def tokens(self) -> list[str]:
        live = self.world.server.engine.live_nowait(self.world.room)
        return list(live.head.tokens) if live is not None else []

    @rule(user=users, fate=fates, text=st.sampled_from(["hello", "the key", "…"]))
    def says(self, user: str, fate: Fate, text: str) -> None:
        self.give(user, fate, "chat.say", text=text)

    @rule(user=users, fate=fates, to=users)
    def whispers(self, user: str, fate: Fate, to: str) -> None:
        self.give(user, fate, "chat.say", text=f"only {to}", to=[to])

    @rule(user=users, fate=fates, hidden=st.booleans(), x=coordinates)
    def adds(self, user: str, fate: Fate, x: int, *, hidden: bool) -> None:
        self.give(user, fate, "token.add", name="piece", x=x, y=0, hidden=hidden)

    @rule(user=users, fate=fates, at=st.integers(0, 5), x=coordinates)
    def moves(self, user: str, fate: Fate, at: int, x: int) -> None:
        tokens = self.tokens()
        if tokens:
            self.give(user, fate, "token.move", token=tokens[at % len(tokens)], x=x, y=1)

    @rule(fate=fates, at=st.integers(0, 5), hidden=st.booleans())
    def hides(self, fate: Fate, at: int, *, hidden: bool) -> None:
        tokens = self.tokens()
        if tokens:
            token = tokens[at % len(tokens)]
            self.give(World.USERS[0], fate, "token.update", token=token, hidden=hidden)

    @rule(user=st.sampled_from(World.USERS[1:]), fate=fates, role=st.sampled_from(["player", "gm"]))
    def changes_role(self, user: str, fate: Fate, role: str) -> None:
        self.give(World.USERS[0], fate, "member.role", user=user, role=role)

    @rule(fate=fates, activate=st.booleans(), at=st.integers(0, 3))
    def changes_the_scene(self, fate: Fate, at: int, *, activate: bool) -> None:
        live = self.world.server.engine.live_nowait(self.world.room)
        scenes = list(live.head.scenes) if live is not None else []
        if activate and scenes:
            scene = scenes[at % len(scenes)]
            self.give(World.USERS[0], fate, "scene.activate", scene=scene)
        else:
            self.give(World.USERS[0], fate, "scene.create", name="Crypt", width=5, height=5)

    @rule(user=st.sampled_from(World.USERS[1:]), fate=fates, at=st.integers(-1, 3))
    def places(self, user: str, fate: Fate, at: int) -> None:
        live = self.world.server.engine.live_nowait(self.world.room)
        scenes = list(live.head.scenes) if live is not None else []
        scene = scenes[at % len(scenes)] if scenes and at >= 0 else None
        self.give(World.USERS[0], fate, "scene.place", scene=scene, members=[user])

    @rule(user=users, fate=fates)
    def undoes(self, user: str, fate: Fate) -> None:
        self.give(user, fate, "undo")

    @rule(user=users)
    def asks_twice(self, user: str) -> None:
        """The same command again while its first answer is still on its way."""
        client = self.world.clients[user]
        if client.unanswered and client.conversation is not None and client.line.closed is None:
            body = next(iter(client.unanswered.values()))
            self.world.do(lambda: client.command(body))

    @rule(user=users)
    def blinks(self, user: str) -> None:
        """Cut off and back at once, as on a train."""
        client = self.world.clients[user]
        self.world.do(client.cut)
        self.world.do(lambda: client.connect(self.world.server))
        client.deliver(100)

    @rule(user=users)
    def sends_again(self, user: str) -> None:
        """What was cut off before it was answered is sent again under its id."""
        client = self.world.clients[user]
        if client.lost and client.conversation is not None and client.line.closed is None:
            body = client.lost.pop()
            self.world.do(lambda: client.command(body))

    @rule(count=few)
    def disk_writes(self, count: int) -> None:
        self.world.do(lambda: self.world.log.commit(count))

    @rule(count=few)
    def disk_refuses(self, count: int) -> None:
        self.world.do(lambda: self.world.log.refuse(count))

    @rule(user=users, count=few)
    def network_delivers(self, user: str, count: int) -> None:
        self.world.clients[user].deliver(count)

    @rule(user=users)
    def is_cut_off(self, user: str) -> None:
        self.world.do(self.world.clients[user].cut)

    @rule(user=users)
    def comes_back(self, user: str) -> None:
        client = self.world.clients[user]
        if client.conversation is None:
            self.world.do(lambda: client.connect(self.world.server))

    @rule(user=users)
    def subscribes_again(self, user: str) -> None:
        """What a client does after an unsubscribe that asks for it: its position is no good any more."""
        client = self.world.clients[user]
        if client.conversation is not None and not client.subscribed and not client.line.frames:
            self.world.do(client.cut)
            self.world.do(lambda: client.connect(self.world.server))

    @rule(user=users)
    def opens_another_tab(self, user: str) -> None:
        """A client that knows nothing yet, whatever is on its way to the disk."""
        client = self.world.clients[user]
        self.world.do(client.cut)
        client.position = None
        self.world.do(lambda: client.connect(self.world.server))

    @rule(user=users)
    def is_cut_off_after_the_disk_wrote(self, user: str) -> None:
        """The worst moment: it happened, and nobody heard of it; then the server dies and the command comes again."""
        client = self.world.clients[user]
        self.world.do(lambda: self.world.log.commit(100))
        self.world.do(self.world.restart)
        self.world.do(lambda: client.connect(self.world.server))
        client.deliver(100)
        for body in client.lost:
            self.world.do(lambda body=body: client.command(body))
        client.lost.clear()

    @rule()
    def room_leaves_memory(self) -> None:
        self.world.do(self.world.server.engine.sweep)

    @rule(really=st.sampled_from([False, False, False, True]))
    def server_is_killed(self, *, really: bool) -> None:
        if really:
            self.world.do(self.world.restart)

    def drain(self) -> None:
        """The disk recovers, everybody comes back, everything is delivered."""
        world = self.world
        for _ in range(6):
            world.do(lambda: world.log.commit(1000))
            for client in world.clients.values():
                client.deliver(10_000)
                if client.conversation is None or not client.subscribed:
                    world.do(client.cut)
                    world.do(lambda client=client: client.connect(world.server))
                client.deliver(10_000)

    def stored(self) -> list[Any]:
        rows = self.world.run(self.world.log.read(self.world.room, after=0, limit=100_000))
        return [codec.decode_event(row.version, row.data) for row in rows]

    @invariant()
    def acknowledged_commands_are_in_the_log_once(self) -> None:
        events = self.stored()
        for client in self.world.clients.values():
            for command, reply in client.replies.items():
                made = [
                    number
                    for number, event in enumerate(events, 1)
                    if (event.by, event.id) == (client.user, command)
                ]
                if "offset" not in reply:
                    # Refused once and sent again, it may have happened without the sender knowing it yet.
                    doubtful = {body["id"] for body in (*client.unanswered.values(), *client.lost)}
                    assert not made or command in doubtful, "what was refused had happened"
                    continue
                # A command that changed nothing made no event; every other made its events once.
                assert not made or made[-1] == reply["offset"]
                assert made == list(range(made[0], made[0] + len(made))) if made else True
                assert reply["offset"] <= len(events)

    @invariant()
    def everybody_heard_what_they_may(self) -> None:
        room = Room(self.world.room)
        told: dict[str, list[Any]] = {user: [] for user in World.USERS}
        for event in self.stored():
            after = evolve(room, event)
            for user in World.USERS:
                told[user].append(json.loads(codec.encode(redact(Step(room, event, after), user))))
            room = after
        for client in self.world.clients.values():
            assert client.position is None or client.position[0] <= room.version
            for offset, data in client.heard:
                assert data == told[client.user][offset - 1]

    def everything_is_right(self) -> None:
        """After all is said: everybody is at the head, and a fresh snapshot says the same to old and new."""
        events = self.stored()
        room = Room(self.world.room)
        for event in events:
            room = evolve(room, event)
        live = self.world.server.engine.live_nowait(self.world.room)
        assert live is not None
        assert live.durable == live.head == room
        for client in self.world.clients.values():
            assert client.position is not None
            assert client.position[0] == len(events)
            for start, end in client.recovered:
                for event in events[start:end]:
                    # What was told under another role is not made good by events under this one.
                    assert not (
                        isinstance(event, MemberChanged)
                        and event.user == client.user
                        and event.role is not UNSET
                    )
            for offset, seen in client.snapshots:
                then = Room(self.world.room)
                for event in events[:offset]:
                    then = evolve(then, event)
                expected = json.loads(codec.encode(redact(then, client.user)))
                assert without_presence(seen) == without_presence(expected)


def without_presence(room: dict[str, Any]) -> dict[str, Any]:
    """A snapshot without who is online, which no log knows."""
    members = [{**member, "online": None} for member in room["members"]]
    return {**room, "members": members}


SessionMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=50)
TestSessions = SessionMachine.TestCase
