"""Two tables that differ only in what somebody may not see must look the same to them: event by event, byte by byte.

Both tables go through the same open commands. In between, a second GM does secret things, other ones at each table; what
they have in common is only that each is one event. Ann reads both, and pokes at ids that are there at one of them.
"""

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tableforge.domain.commands import At as Spot
from tableforge.domain.commands import ImportedWall, ImportScene
from tableforge.domain.state import Grid
from tableforge.domain.visibility import Step, redact, visible_assets
from tableforge.errors import TableForgeError
from tableforge.protocol.codec import encode
from tests.table import ROOM, Table, opened

Act = Callable[[Table], list[Step]]

SECRETIVE = "eve"
"""A GM who does nothing that Ann may see."""

texts = st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=1, max_size=12)
spots = st.integers(0, 9).map(float)
ends = st.lists(st.fixed_dictionaries({"x": spots, "y": spots}), min_size=2, max_size=2)
out_of_sight: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    ({"hidden": True}, {"layer": "gm"}, {"hidden": True, "layer": "gm"})
)


class Pair:
    """Two tables with the same open past."""

    def __init__(self) -> None:
        self.tables = [opened(ann="player", bob="player", eve="gm") for _ in "ab"]
        self.compare([[], []])
        past: tuple[tuple[str, str, dict[str, Any]], ...] = (
            ("gm", "scene.create", {"name": "Elsewhere", "width": 9, "height": 9}),
            ("ann", "token.add", {"name": "Ann", "x": 0, "y": 0}),
            ("gm", "token.add", {"name": "Wolf", "x": 3, "y": 3}),
            ("gm", "token.add", {"name": "Spy", "x": 5, "y": 5, "hidden": True}),
            ("gm", "token.add", {"name": "Ghoul", "x": 5, "y": 5, "layer": "gm"}),
        )
        for by, kind, fields in past:
            self.openly(by, kind, **fields)
        self.pieces = list(self.tables[0].room.tokens)
        self.wolf = self.pieces[1]

    def compare(self, steps: list[list[Step]]) -> None:
        """Ann is told the same, and shown the same."""
        one, other = (
            [encode(redact(step, "ann")) for step in done] + [encode(redact(table.room, "ann"))]
            for table, done in zip(self.tables, steps, strict=True)
        )
        assert one == other
        assert len({visible_assets(table.room, "ann") for table in self.tables}) == 1

    def openly(self, by: str, kind: str, **fields: Any) -> None:
        """The same command at both tables: the answer is the same, and so is what Ann is told of it."""
        answers: list[str] = []
        steps: list[list[Step]] = []
        for table in self.tables:
            try:
                steps.append(table.send(by, kind, **fields))
                answers.append("done")
            except TableForgeError as error:
                steps.append([])
                answers.append(f"{error.code}: {error}")
        assert answers[0] == answers[1]
        self.compare(steps)

    def secretly(self, acts: tuple[Act, Act]) -> None:
        """One secret event at each table."""
        steps = []
        for table, act in zip(self.tables, acts, strict=True):
            before = table.tried
            try:
                done = act(table)
            except TableForgeError:
                done = []
            steps.append(done or table.send(SECRETIVE, "chat.say", text="hm", to=[SECRETIVE]))
            table.tried = before + 1
        assert [len(done) for done in steps] == [1, 1]
        self.compare(steps)

    def ids(self) -> list[str]:
        """Ids of everything at either table, the same for both."""
        shelves = (
            shelf
            for table in self.tables
            for shelf in (
                table.room.tokens,
                table.room.scenes,
                table.room.walls,
                table.room.doors,
                table.room.drawings,
            )
        )
        return sorted({key for shelf in shelves for key in shelf})


def secret_token(table: Table, number: int) -> str:
    """A piece that Ann does not see."""
    hidden = [
        key for key, token in table.room.tokens.items() if token.hidden or token.layer == "gm"
    ]
    return hidden[number % len(hidden)]


def secret_scene(table: Table, number: int) -> str:
    """A scene that Ann does not see."""
    scenes = [key for key in table.room.scenes if key != table.room.active]
    return scenes[number % len(scenes)]


@st.composite
def secrets(draw: st.DrawFn) -> Act:
    """Something that only GMs, or only the sender, may know of."""
    number, x, y, text = draw(st.integers(0, 9)), draw(spots), draw(spots), draw(texts)
    hiding, points = draw(out_of_sight), draw(ends)
    someone = draw(st.sampled_from(("ann", "bob", "gm")))

    def imported(table: Table) -> list[Step]:
        walls = (ImportedWall((Spot(x, y), Spot(y, x))),)
        command = ImportScene(ROOM, "import", text, 5.0, 5.0, Grid(), text, walls)
        return table.obey(SECRETIVE, command)

    def on_token(kind: str, **fields: Any) -> Act:
        return lambda table: table.send(
            SECRETIVE, kind, token=secret_token(table, number), **fields
        )

    def on_scene(kind: str, **fields: Any) -> Act:
        return lambda table: table.send(
            SECRETIVE, kind, scene=secret_scene(table, number), **fields
        )

    def sent(kind: str, **fields: Any) -> Act:
        return lambda table: table.send(SECRETIVE, kind, **fields)

    acts: tuple[Act, ...] = (
        sent("token.add", name=text, x=x, y=y, owner=someone, image=text, **hiding),
        on_token("token.move", x=x, y=y, rotation=x),
        on_token("token.update", name=text, owner=someone),
        on_token("token.update", width=x + 1),
        sent("wall.set", points=points),
        sent("door.set", points=points),
        sent("light.set", x=x, y=y, range=y),
        sent("scene.create", name=text, width=x + 1, height=y + 1, background=text),
        on_scene("scene.update", name=text),
        on_scene("token.add", name=text, x=x, y=y, hidden=True),
        on_scene("draw.add", shape={"text": text}),
        sent("chat.say", text=text, to=["gm"]),
        sent("chat.say", text=text, to=["bob", "gm"]),
        sent("undo"),
        sent("redo"),
        imported,
    )
    return draw(st.sampled_from(acts))


@st.composite
def open_acts(draw: st.DrawFn) -> Callable[[Pair], None]:
    """Something that happens at both tables; Ann's own part pokes at whatever is there at either."""
    x, y, text, number = draw(spots), draw(spots), draw(texts), draw(st.integers(0, 99))

    def poke(kind: str, fields: Callable[[str], dict[str, Any]]) -> Callable[[Pair], None]:
        def act(pair: Pair) -> None:
            ids = pair.ids()
            pair.openly("ann", kind, **fields(ids[number % len(ids)]))

        return act

    def sent(by: str, kind: str, **fields: Any) -> Callable[[Pair], None]:
        return lambda pair: pair.openly(by, kind, **fields)

    def wolf(kind: str, **fields: Any) -> Callable[[Pair], None]:
        return lambda pair: pair.openly("gm", kind, token=pair.wolf, **fields)

    def group(pair: Pair) -> None:
        rooms = [table.room for table in pair.tables]
        common = sorted(rooms[0].tokens.keys() & rooms[1].tokens.keys())
        moves = [{"token": key, "x": x, "y": y} for key in common]
        pair.openly("gm", "token.move", moves=moves)

    def order(pair: Pair) -> None:
        rows = [{"name": key, "value": at % 3, "token": key} for at, key in enumerate(pair.pieces)]
        pair.openly("gm", "turn.set", entries=rows)

    acts: tuple[Callable[[Pair], None], ...] = (
        poke("token.move", lambda key: {"token": key, "x": x, "y": y}),
        poke("token.update", lambda key: {"token": key, "name": text}),
        poke("token.update", lambda key: {"token": key, "hidden": False}),
        poke("token.remove", lambda key: {"token": key}),
        poke("token.add", lambda key: {"name": text, "x": x, "y": y, "scene": key}),
        poke("scene.activate", lambda key: {"scene": key}),
        poke("scene.place", lambda key: {"scene": key, "members": ["ann"]}),
        poke("scene.remove", lambda key: {"scene": key}),
        poke("wall.set", lambda key: {"wall": key, "remove": True}),
        poke("door.set", lambda key: {"door": key, "state": "open"}),
        poke("draw.remove", lambda key: {"drawing": key}),
        poke("draw.add", lambda key: {"shape": {}, "scene": key}),
        poke("turn.set", lambda key: {"entries": [{"name": text, "value": x, "token": key}]}),
        sent("ann", "turn.end"),
        sent("ann", "undo"),
        sent("ann", "redo"),
        sent("ann", "token.add", name="Cat", x=x, y=y),
        sent("ann", "chat.say", text=text, to=["eve"]),
        sent("bob", "chat.say", text=text),
        sent("bob", "token.add", name="Dog", x=x, y=y),
        sent("gm", "turn.next"),
        wolf("token.move", x=x, y=y),
        wolf("token.update", width=x + 1),
        group,
        order,
    )
    return draw(st.sampled_from(acts))


@given(
    st.lists(
        st.one_of(
            open_acts(),
            st.tuples(secrets(), secrets()).map(lambda acts: lambda pair: pair.secretly(acts)),
        ),
        max_size=25,
    )
)
def test_rd1_tables_that_differ_out_of_sight_look_the_same(
    acts: list[Callable[[Pair], None]],
) -> None:
    pair = Pair()
    for act in acts:
        act(pair)


@given(texts, texts, st.sampled_from(("gm", "self")), st.sampled_from(("1d20", "3d6+2")))
def test_rd5_of_a_hidden_roll_others_learn_that_there_was_one(
    one: str, other: str, visibility: str, expression: str
) -> None:
    tables = [opened(ann="player", bob="player") for _ in "ab"]
    told = []
    for table, label, dice in zip(tables, (one, other), ("1d4", expression), strict=True):
        steps = table.send("bob", "dice.roll", expression=dice, label=label, visibility=visibility)
        told.append([encode(redact(steps[0], "ann")), encode(redact(table.room, "ann"))])
        assert table.told("ann", steps)[0].keys() == {"type", "by", "at", "id", "visibility"}
        assert table.told("bob", steps)[0]["label"] == label
        assert ("total" in table.told("gm", steps)[0]) == (visibility == "gm")
    assert told[0] == told[1]
