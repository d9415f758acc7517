"""A room against its naive twin, and every user's stream against what they are shown.

After each command the machine asks: was it refused with the slug that the twin gives; is the room what the twin is; does
everybody who reads only what they are told arrive at what a snapshot would show them; is that the same from a snapshot
that was stored on the way, and from the log alone.
"""

from collections import defaultdict
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tableforge.domain.commands import HouseCommand
from tableforge.domain.decider import replay
from tableforge.domain.ids import fresh_id
from tableforge.domain.state import Room
from tableforge.domain.visibility import Step, is_public, redact
from tableforge.errors import TableForgeError
from tableforge.protocol import codec
from tests.machines.room_twin import Twin
from tests.reader import Reader, canonical
from tests.table import NOWHERE, ROOM, Table, moment, plain

USERS = ("gm", "gm2", "ann", "bob", "cid", "eve")
HOUSE = {"room.open", "member.join", "member.leave", "member.rename", "scene.import"}
KINDS = ("scenes", "tokens", "walls", "doors", "lights", "drawings")
NOT_AS_IT_WAS = {"changed-since", "forbidden", "locked"}

users = st.sampled_from(("gm", "ann", "bob", "cid", "ann", "gm2", "eve"))
players = st.sampled_from(("ann", "bob", "gm"))
masters = st.sampled_from(("gm", "gm", "gm", "gm2", "gm2", "ann"))
guests = st.sampled_from(("eve", "eve", "bob", "gm2", "gm"))
numbers = st.integers(0, 3).map(float)
picks = st.integers(0, 7)
NOTHING = 7
flags = st.booleans()
roles = st.sampled_from(("gm", "player", "spectator"))
layers = st.sampled_from(("map", "object", "object", "gm"))
points = st.tuples(numbers, numbers).map(lambda at: {"x": at[0], "y": at[1]})
shapes = st.sampled_from(
    ({"kind": "circle", "r": 2.5}, {"kind": "line", "points": [[0, 0], [1, 2]]})
)
some = st.sets(users, min_size=1, max_size=3).map(sorted)


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A value, or none, which leaves the field out."""
    return st.none() | values


class RoomMachine(RuleBasedStateMachine):
    """The whole vocabulary, by members of every role and by strangers."""

    def __init__(self) -> None:
        super().__init__()
        self.table = Table()
        self.twin = Twin()
        self.readers = {user: Reader(self.table.view(user)) for user in USERS}
        self.ids: dict[str, list[str]] = defaultdict(list)
        self.saved: tuple[bytes, int] | None = None

    def play(self, by: str, kind: str, *, null: str = "", **fields: Any) -> None:
        """Send a command and hold what comes of it against the twin; None leaves a field out, `null` names one sent so."""
        sent = {name: value for name, value in fields.items() if value is not None}
        sent |= {null: None} if null else {}
        command = {"room": ROOM, "id": f"c{self.table.tried}", "type": kind, **sent}
        given = self.table.given(by)
        expected = self.twin.attempt(
            by,
            command,
            at=moment(self.table.tried),
            offset=self.table.room.version + 1,
            seed=given.seed,
            ids=lambda number: fresh_id(given, number),
        )
        steps: list[Step] = []
        try:
            if kind in HOUSE:
                steps = self.table.obey(by, msgspec.convert(command, HouseCommand))
            else:
                steps = self.table.obey(by, codec.decode_command(msgspec.json.encode(command)))
            outcome = "done" if steps else "nothing"
        except TableForgeError as error:
            outcome = error.code
        if kind in {"undo", "redo"} and {expected, outcome} <= NOT_AS_IT_WAS:
            # Several pieces may be in the way for several reasons; which is named first is nobody's promise.
            expected = outcome
        assert outcome == expected, (by, command)
        for step in steps:
            self.hear(step)
        self.remember_ids()

    def hear(self, step: Step) -> None:
        """Every user takes in what they are told of one event."""
        stored = codec.encode(step.event)
        assert codec.decode_event(codec.EVENT_FORM, stored) == step.event
        public = is_public(step)
        for user, reader in self.readers.items():
            told = codec.encode(redact(step, user))
            assert not public or told == stored, "public, but not to all"
            reader.take(msgspec.json.decode(told), step.after.version)
            left = user in step.before.members and user not in step.after.members
            view = plain(redact(step.after, user))
            if left:
                self.readers[user] = Reader(view)
            else:
                assert canonical(reader.view) == canonical(view), (user, told)

    def remember_ids(self) -> None:
        for kind in KINDS:
            known = self.ids[kind]
            known.extend(key for key in getattr(self.table.room, kind) if key not in known)

    def pick(self, kind: str, number: int) -> str:
        """The id of something that is there or was, the newest first, or of nothing."""
        known = self.ids[kind][::-1][:NOTHING]
        return known[number % len(known)] if known and number != NOTHING else NOWHERE

    @initialize()
    def sit_down(self) -> None:
        self.play("gm", "room.open", name="Cellar", visibility="private", member_name="Gm")
        for user, role in (
            ("gm2", "gm"),
            ("ann", "player"),
            ("bob", "player"),
            ("cid", "spectator"),
        ):
            self.play(user, "member.join", name=user.title(), role=role)
        self.play("gm", "scene.create", name="Crypt", width=10.0, height=10.0)
        crypt = self.pick("scenes", 0)
        self.play("gm", "token.add", name="Ghoul", x=1.0, y=1.0, hidden=True)
        self.play("gm", "token.add", name="Bat", x=1.0, y=1.0, scene=crypt)
        ends = [{"x": 0.0, "y": 0.0}, {"x": 1.0, "y": 0.0}]
        self.play("gm", "wall.set", points=ends)
        self.play("gm", "door.set", points=ends)
        self.play("gm2", "light.set", x=0.0, y=0.0, range=2.0)
        for user in ("gm", "ann", "bob"):
            self.play(user, "draw.add", shape={"kind": "dot"})
            self.play(user, "token.add", name=user.title(), x=0.0, y=0.0)

    # Pieces

    @rule(
        by=users, hidden=flags, locked=flags, layer=layers, owner=maybe(users), scene=maybe(picks)
    )
    def add_any_token(
        self, by: str, hidden: bool, locked: bool, layer: str, owner: str | None, scene: int | None
    ) -> None:
        fields: dict[str, Any] = {
            "hidden": hidden,
            "locked": locked,
            "layer": layer,
            "owner": owner,
        }
        where = None if scene is None else self.pick("scenes", scene)
        self.play(by, "token.add", name="Imp", x=0.0, y=0.0, scene=where, image="a" * 16, **fields)

    @rule(by=players, x=numbers)
    def add_token(self, by: str, x: float) -> None:
        self.play(by, "token.add", name="Rat", x=x, y=1.0)

    @rule(by=users, token=picks, x=numbers, y=numbers, rotation=maybe(numbers))
    def move(self, by: str, token: int, x: float, y: float, rotation: float | None) -> None:
        self.play(by, "token.move", token=self.pick("tokens", token), x=x, y=y, rotation=rotation)

    @rule(
        by=players, tokens=st.lists(picks, min_size=1, max_size=3), x=numbers, turn=maybe(numbers)
    )
    def move_several(self, by: str, tokens: list[int], x: float, turn: float | None) -> None:
        turned = {} if turn is None else {"rotation": turn}
        moves = [
            {"token": self.pick("tokens", token), "x": x, "y": 0.0, **turned} for token in tokens
        ]
        self.play(by, "token.move", moves=moves)

    @rule(
        by=st.sampled_from(("gm", "gm", "ann", "bob", "cid")),
        token=picks,
        fields=st.fixed_dictionaries(
            {},
            optional={
                "name": st.sampled_from(("Imp", "Ogre")),
                "x": numbers,
                "width": st.sampled_from((1.0, 2.0)),
                "rotation": numbers,
                "image": st.sampled_from(("a" * 16, "b" * 16)),
                "owner": users,
            },
        ),
        hidden=maybe(flags),
        locked=maybe(flags),
        layer=maybe(layers),
    )
    def update_token(
        self,
        by: str,
        token: int,
        fields: dict[str, Any],
        hidden: bool | None,
        locked: bool | None,
        layer: str | None,
    ) -> None:
        fields |= {"hidden": hidden, "locked": locked, "layer": layer}
        self.play(by, "token.update", token=self.pick("tokens", token), **fields)

    @rule(by=players, token=picks, name=st.sampled_from(("Tom", "Kit")))
    def rename_token(self, by: str, token: int, name: str) -> None:
        self.play(by, "token.update", token=self.pick("tokens", token), name=name)

    @rule(by=users, token=picks)
    def remove_token(self, by: str, token: int) -> None:
        self.play(by, "token.remove", token=self.pick("tokens", token))

    # Scenes and what stands on them

    @rule(by=masters, width=st.sampled_from((10.0, 20.0)))
    def create_scene(self, by: str, width: float) -> None:
        grid = {"type": "hex_row", "size": 50.0}
        self.play(by, "scene.create", name="Moor", width=width, height=10.0, grid=grid)

    @rule(by=masters, walls=st.lists(st.lists(points, min_size=2, max_size=2), max_size=2))
    def import_scene(self, by: str, walls: list[Any]) -> None:
        light = {"x": 1.0, "y": 1.0, "range": 5.0, "color": "#ffeecc", "intensity": 1.0}
        door = {"points": [{"x": 0.0, "y": 0.0}, {"x": 1.0, "y": 0.0}], "state": "open"}
        grid = {"type": "square", "size": 70.0}
        things: dict[str, Any] = {
            "walls": [{"points": wall} for wall in walls],
            "doors": [door],
            "lights": [light],
        }
        things |= {"width": 5.0, "height": 5.0}
        self.play(by, "scene.import", name="Map", grid=grid, background="m" * 16, **things)

    @rule(by=users, scene=picks, name=st.sampled_from(("Keep", "Gate")), height=maybe(numbers))
    def update_scene(self, by: str, scene: int, name: str, height: float | None) -> None:
        height = None if height is None else height + 1
        self.play(by, "scene.update", scene=self.pick("scenes", scene), name=name, height=height)

    @rule(by=masters, scene=picks)
    def activate_scene(self, by: str, scene: int) -> None:
        self.play(by, "scene.activate", scene=self.pick("scenes", scene))

    @rule(by=masters, scene=picks)
    def remove_scene(self, by: str, scene: int) -> None:
        self.play(by, "scene.remove", scene=self.pick("scenes", scene))

    @rule(by=masters, scene=picks, members=some)
    def place(self, by: str, scene: int, members: list[str]) -> None:
        self.play(by, "scene.place", scene=self.pick("scenes", scene), members=members)

    @rule(by=masters, members=some)
    def let_follow(self, by: str, members: list[str]) -> None:
        self.play(by, "scene.place", members=members, null="scene")

    @rule(
        by=masters,
        kind=st.sampled_from(("wall", "door")),
        thing=maybe(picks),
        ends=maybe(st.lists(points, min_size=2, max_size=2)),
        scene=maybe(picks),
        remove=flags,
    )
    def set_wall_or_door(
        self,
        by: str,
        kind: str,
        thing: int | None,
        ends: list[Any] | None,
        scene: int | None,
        remove: bool,
    ) -> None:
        named = {} if thing is None else {kind: self.pick(f"{kind}s", thing)}
        where = None if scene is None else self.pick("scenes", scene)
        gone = True if remove and thing is not None else None
        self.play(by, f"{kind}.set", points=ends, scene=where, remove=gone, **named)

    @rule(by=masters, light=maybe(picks), x=numbers, reach=maybe(numbers), remove=flags)
    def set_light(
        self, by: str, light: int | None, x: float, reach: float | None, remove: bool
    ) -> None:
        named = {} if light is None else {"light": self.pick("lights", light)}
        self.play(
            by, "light.set", x=x, y=0.0, range=reach, remove=True if remove else None, **named
        )

    @rule(by=users, shape=shapes, scene=maybe(picks))
    def draw(self, by: str, shape: dict[str, Any], scene: int | None) -> None:
        where = None if scene is None else self.pick("scenes", scene)
        self.play(by, "draw.add", shape=shape, style={"color": "#ff0000"}, scene=where)

    @rule(by=users, drawing=picks)
    def wipe(self, by: str, drawing: int) -> None:
        self.play(by, "draw.remove", drawing=self.pick("drawings", drawing))

    # Turns

    @rule(
        by=masters,
        tokens=st.lists(st.tuples(maybe(picks), numbers), max_size=4),
        current=maybe(st.integers(0, 3)),
    )
    def set_turn(
        self, by: str, tokens: list[tuple[int | None, float]], current: int | None
    ) -> None:
        rows: list[dict[str, Any]] = []
        for number, (token, value) in enumerate(tokens):
            bound = {} if token is None else {"token": self.pick("tokens", token)}
            rows.append({"name": f"row {number}", "value": value, **bound})
        self.play(by, "turn.set", entries=rows, current=current)

    @rule(by=users, kind=st.sampled_from(("turn.next", "turn.previous", "turn.end", "turn.end")))
    def turn(self, by: str, kind: str) -> None:
        self.play(by, kind)

    @rule(by=st.sampled_from(("ann", "bob")), token=picks)
    def fight_and_end(self, by: str, token: int) -> None:
        row = {"name": "Own", "value": 9.0, "token": self.pick("tokens", token)}
        self.play("gm", "turn.set", entries=[row, {"name": "Lair", "value": 1.0}])
        self.play(by, "turn.end")

    # Talk and people

    @rule(by=users, to=maybe(some))
    def say(self, by: str, to: list[str] | None) -> None:
        self.play(by, "chat.say", text="psst", to=to)

    @rule(
        by=users, visibility=st.sampled_from(("public", "gm", "self")), label=maybe(st.just("hit"))
    )
    def roll(self, by: str, visibility: str, label: str | None) -> None:
        self.play(by, "dice.roll", expression="2d6+1", visibility=visibility, label=label)

    @rule(by=guests, role=roles)
    def join(self, by: str, role: str) -> None:
        self.play(by, "member.join", name=by.title(), role=role)

    @rule(by=guests)
    def leave(self, by: str) -> None:
        self.play(by, "member.leave")

    @rule(by=users, name=st.sampled_from(("Zed", "Yan")))
    def rename(self, by: str, name: str) -> None:
        self.play(by, "member.rename", name=name)

    @rule(by=masters, user=users, role=roles)
    def change_role(self, by: str, user: str, role: str) -> None:
        self.play(by, "member.role", user=user, role=role)

    @rule(
        by=masters, user=guests, kind=st.sampled_from(("member.kick", "member.kick", "member.ban"))
    )
    def remove_member(self, by: str, user: str, kind: str) -> None:
        self.play(by, kind, user=user)

    @rule(by=masters, user=users, muted=flags)
    def mute(self, by: str, user: str, muted: bool) -> None:
        self.play(by, "member.mute", user=user, muted=muted)

    @rule(by=masters, all_seen=maybe(flags), adding=maybe(flags), name=maybe(st.just("Attic")))
    def update_room(
        self, by: str, all_seen: bool | None, adding: bool | None, name: str | None
    ) -> None:
        wanted = {"gm_sees_all": all_seen, "players_add_tokens": adding}
        settings = {key: value for key, value in wanted.items() if value is not None}
        tags = ["horror"] if name else None
        self.play(by, "room.update", settings=settings or None, name=name, tags=tags)

    # Undo, redo

    @rule(by=users)
    def undo(self, by: str) -> None:
        self.play(by, "undo")

    @rule(by=st.sampled_from(("gm", "ann", "bob")))
    def undo_and_redo(self, by: str) -> None:
        self.play(by, "undo")
        self.play(by, "redo")

    @rule(by=users)
    def redo(self, by: str) -> None:
        self.play(by, "redo")

    # What must always hold

    @rule()
    def save(self) -> None:
        """Store a snapshot; at the end it and the tail of the log must make the room."""
        self.saved = codec.encode_room(self.table.room), len(self.table.log)

    @invariant()
    def the_twin_agrees(self) -> None:
        room, now = plain(self.table.room), self.twin.now
        assert {name: room[name] for name in now if name != "members"} == {
            name: value for name, value in plain(now).items() if name != "members"
        }
        members = {key: dict(one) for key, one in room["members"].items()}
        for key, one in members.items():
            assert one.pop("id") == key
            assert 0 < one.pop("since") <= room["version"]
        assert members == now["members"]

    def teardown(self) -> None:
        """The log alone makes the room, and so does any snapshot with its tail."""
        room, log = self.table.room, self.table.log
        assert replay(Room(ROOM), log) == room
        assert room.version == len(log)
        assert codec.decode_room(codec.ROOM_FORM, codec.encode_room(room)) == room
        if self.saved is not None:
            stored, length = self.saved
            middle = codec.decode_room(codec.ROOM_FORM, stored)
            assert middle is not None
            assert replay(middle, log[length:]) == room


TestRoomMachine = RoomMachine.TestCase
TestRoomMachine.settings = settings(max_examples=40, stateful_step_count=40)
