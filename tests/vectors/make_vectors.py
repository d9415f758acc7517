"""Recorded streams with the views they must lead to, for every client's fold: `python -m tests.vectors.make_vectors`.

One file a story and reader: {"name", "viewer", "snapshot", "events": [{"offset", "data"}], "expected"}. The snapshot and
`expected` are the `room` of the contract's snapshot; lists but `chat` and the rows of `turn` may be in any order.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tableforge.domain.commands import (
    At,
    ImportedDoor,
    ImportedLight,
    ImportedWall,
    ImportScene,
    JoinRoom,
    LeaveRoom,
    RenameMember,
)
from tableforge.domain.state import Grid
from tableforge.domain.visibility import Step
from tests.table import ROOM, opened

FOLDER = Path(__file__).parent
READERS = ("gm", "ann", "cid")


class Story:
    """A table whose steps are recorded from `begin` on."""

    def __init__(self) -> None:
        self.table = opened(ann="player", bob="player", cid="spectator")
        self.steps: list[Step] = []
        self.recording = False
        self.snapshots: dict[str, Any] = {}

    def begin(self) -> None:
        """From here on every step is part of the vector."""
        self.snapshots = {reader: self.table.view(reader) for reader in READERS}
        self.recording = True

    def send(self, by: str, kind: str, **fields: Any) -> None:
        """One command of the story."""
        self.note(self.table.send(by, kind, **fields))

    def make(self, by: str, kind: str, **fields: Any) -> str:
        """One command of the story that makes something; gives its id."""
        before = set(self.table.room.scenes) | set(self.table.room.tokens)
        before |= {*self.table.room.walls, *self.table.room.doors, *self.table.room.lights}
        before |= self.table.room.drawings.keys()
        self.send(by, kind, **fields)
        room = self.table.room
        shelves = (room.scenes, room.tokens, room.walls, room.doors, room.lights, room.drawings)
        (made,) = {key for shelf in shelves for key in shelf} - before
        return made

    def note(self, steps: list[Step]) -> None:
        """Record steps that a command led to."""
        if self.recording:
            self.steps.extend(steps)

    def vector(self, name: str, reader: str) -> dict[str, Any]:
        """The story as one reader is told it."""
        told = self.table.told(reader, self.steps)
        offsets = (step.after.version for step in self.steps)
        return {
            "name": name,
            "viewer": reader,
            "snapshot": self.snapshots[reader],
            "events": [
                {"offset": at, "data": data} for at, data in zip(offsets, told, strict=True)
            ],
            "expected": self.table.view(reader),
        }


def members(story: Story) -> None:
    """Seats, names, roles, voices and the room's own fields."""
    story.begin()
    story.send("gm", "room.update", name="The Attic", tags=["horror", "one-shot"])
    story.send("gm", "room.update", visibility="public", settings={"gm_sees_all": True})
    story.note(story.table.obey("bob", RenameMember(ROOM, "rename", "Robert")))
    story.send("gm", "member.mute", user="bob", muted=True)
    story.send("gm", "member.role", user="cid", role="player")
    story.send("gm", "member.kick", user="bob")


def people_come(story: Story) -> None:
    """Somebody sits down, somebody leaves, somebody is banned."""
    story.begin()
    story.note(story.table.obey("dot", JoinRoom(ROOM, "join", "Dot", "player")))
    story.note(story.table.obey("bob", LeaveRoom(ROOM, "leave")))
    story.send("gm", "member.ban", user="dot")


def promotion(story: Story) -> None:
    """A player becomes a GM, sees everything, and is a player again."""
    story.send("gm", "token.add", name="Spy", x=3, y=3, hidden=True)
    scene = story.make("gm", "scene.create", name="Crypt", width=10, height=10)
    story.send("gm", "token.add", name="Bat", x=1, y=1, scene=scene)
    story.send("gm", "wall.set", points=[{"x": 0, "y": 0}, {"x": 4, "y": 0}])
    story.send("gm", "light.set", x=1, y=1, range=6)
    story.send("gm", "scene.place", scene=scene, members=["bob"])
    story.begin()
    story.send("gm", "member.role", user="ann", role="gm")
    story.send("ann", "door.set", points=[{"x": 4, "y": 0}, {"x": 5, "y": 0}])
    story.send("gm", "member.role", user="ann", role="player")


def pieces(story: Story) -> None:
    """Pieces come, move alone and together, change, and go."""
    story.begin()
    hero = story.make("ann", "token.add", name="Hero", x=1, y=2)
    other = story.make(
        "gm", "token.add", name="Wolf", x=5.5, y=2, width=2, height=2, image="w" * 16
    )
    story.send("ann", "token.move", token=hero, x=2.25, y=2)
    story.send("gm", "token.move", token=other, x=6, y=3, rotation=90)
    moves = [{"token": hero, "x": 3, "y": 3}, {"token": other, "x": 7, "y": 3, "rotation": 180}]
    story.send("gm", "token.move", moves=moves)
    story.send("gm", "token.update", token=other, name="Dire wolf", owner="bob", locked=True)
    story.send("gm", "token.update", token=other, locked=False, image=None)
    story.send("gm", "token.remove", token=other)


def hiding(story: Story) -> None:
    """Pieces go out of sight and come back, moved and renamed in between."""
    spy = story.make("gm", "token.add", name="Spy", x=1, y=1)
    wolf = story.make("gm", "token.add", name="Wolf", x=5, y=5)
    rows = [{"name": "Spy", "value": 18, "token": spy}, {"name": "Wolf", "value": 7, "token": wolf}]
    story.send("gm", "turn.set", entries=rows)
    story.begin()
    story.send("gm", "token.update", token=spy, hidden=True, name="Assassin", x=9)
    story.send("gm", "token.move", token=spy, x=9, y=8)
    moves = [{"token": spy, "x": 8, "y": 8}, {"token": wolf, "x": 4, "y": 4}]
    story.send("gm", "token.move", moves=moves)
    story.send("gm", "turn.next")
    story.send("gm", "turn.next")
    story.send("gm", "token.update", token=spy, hidden=False)
    story.send("gm", "token.update", token=wolf, layer="gm")
    story.send("gm", "token.remove", token=wolf)


def scenes(story: Story) -> None:
    """Scenes are made, changed, activated; members are placed; a scene goes and takes everything along."""
    hall = story.table.room.active
    story.send("ann", "token.add", name="Hero", x=1, y=2)
    story.begin()
    grid = {"type": "hex_row", "size": 64}
    crypt = story.make("gm", "scene.create", name="Crypt", width=20, height=15, grid=grid)
    story.send("gm", "token.add", name="Ghoul", x=3, y=3, scene=crypt)
    story.send("gm", "token.add", name="Trap", x=4, y=4, scene=crypt, hidden=True)
    story.send("gm", "draw.add", shape={"kind": "circle", "r": 2}, scene=crypt)
    story.send("gm", "scene.update", scene=crypt, name="Deep crypt", background="b" * 16)
    story.send("gm", "scene.place", scene=crypt, members=["ann", "bob"])
    story.send("gm", "scene.update", scene=hall, name="Hall")
    story.send("gm", "scene.place", scene=None, members=["bob"])
    story.send("gm", "scene.activate", scene=crypt)
    story.send("gm", "scene.place", scene=None, members=["ann"])
    story.send("gm", "scene.place", scene=hall, members=["cid"])
    story.send("gm", "scene.remove", scene=hall)


def fixtures(story: Story) -> None:
    """Walls, doors and lights, one by one and from a file."""
    story.begin()
    corner = [{"x": 0, "y": 0}, {"x": 4, "y": 0}, {"x": 4, "y": 4}]
    wall = story.make("gm", "wall.set", points=corner)
    door = story.make("gm", "door.set", points=[{"x": 4, "y": 4}, {"x": 5, "y": 4}])
    light = story.make("gm", "light.set", x=2, y=2, range=6, color="#ffcc88", intensity=0.8)
    story.send("gm", "wall.set", wall=wall, points=corner[:2])
    story.send("gm", "door.set", door=door, state="open")
    story.send("gm", "light.set", light=light, range=8)
    command = ImportScene(
        room=ROOM,
        id="import",
        name="Cellar",
        width=12.0,
        height=9.0,
        grid=Grid("square", 50.0),
        background="c" * 16,
        walls=(ImportedWall((At(0.0, 0.0), At(12.0, 0.0))),),
        doors=(ImportedDoor((At(3.0, 0.0), At(4.0, 0.0)), "closed"),),
        lights=(ImportedLight(6.0, 4.5, 5.0, "#ffeedd", 1.0),),
    )
    story.note(story.table.obey("gm", command))
    story.send("gm", "wall.set", wall=wall, remove=True)
    story.send("gm", "door.set", door=door, remove=True)
    story.send("gm", "light.set", light=light, remove=True)


def drawings(story: Story) -> None:
    """Annotations come and go."""
    story.begin()
    line = {"kind": "line", "points": [[1, 1], [2.5, 3], [4, 1]]}
    drawn = story.make("ann", "draw.add", shape=line, style={"color": "#c02020", "width": 0.1})
    story.send("gm", "draw.add", shape={"kind": "cone", "at": [3, 3], "angle": 53.1})
    story.send("ann", "draw.remove", drawing=drawn)


def talk(story: Story) -> None:
    """Chat, whispers and rolls, in the open and not."""
    story.send("ann", "chat.say", text="Is anybody here?")
    story.begin()
    story.send("gm", "chat.say", text="The door creaks.\nSlowly.")
    story.send("gm", "chat.say", text="You alone hear a voice.", to=["ann"])
    story.send("bob", "chat.say", text="I do not trust her.", to=["gm", "bob"])
    story.send("ann", "dice.roll", expression="4d6kh3 # strength", label="Strength")
    story.send("gm", "dice.roll", expression="1d20+4", visibility="gm")
    story.send("bob", "dice.roll", expression="1d6", visibility="self")
    story.send("gm", "room.update", settings={"gm_sees_all": True})
    story.send("bob", "chat.say", text="Now the GM overhears this.", to=["bob"])


def turns(story: Story) -> None:
    """The order of turns, with a row that only the GM sees."""
    hero = story.make("ann", "token.add", name="Hero", x=1, y=2)
    spy = story.make("gm", "token.add", name="Spy", x=3, y=3, hidden=True)
    story.begin()
    rows = [
        {"name": "Lair", "value": 20},
        {"name": "Hero", "value": 21, "token": hero},
        {"name": "Spy", "value": 20.5, "token": spy},
    ]
    story.send("gm", "turn.set", entries=rows)
    story.send("ann", "turn.end")
    story.send("gm", "turn.next")
    story.send("gm", "turn.next")
    story.send("gm", "turn.previous")
    story.send("gm", "token.remove", token=hero)
    story.send("gm", "turn.set", entries=[])


def undoing(story: Story) -> None:
    """Undo and redo of what some see and others do not."""
    hall = story.table.room.active
    crypt = story.make("gm", "scene.create", name="Crypt", width=10, height=10)
    ghoul = story.make("gm", "token.add", name="Ghoul", x=1, y=1, scene=crypt)
    hero = story.make("ann", "token.add", name="Hero", x=1, y=2)
    story.begin()
    for sequence in ("token.move", "token.remove"):
        fields = {"x": 4, "y": 4} if sequence == "token.move" else {}
        story.send("ann", sequence, token=hero, **fields)
        for turn in ("undo", "redo", "undo"):
            story.send("ann", turn)
    story.send("gm", "token.update", token=hero, hidden=True)
    story.send("gm", "undo")
    story.send("gm", "scene.activate", scene=crypt)
    story.send("gm", "undo")
    story.send("gm", "scene.remove", scene=crypt)
    story.send("gm", "undo")
    story.send("gm", "redo")
    story.send("gm", "undo")
    moves = [{"token": ghoul, "x": 2, "y": 2}, {"token": hero, "x": 2, "y": 2}]
    story.send("gm", "token.move", moves=moves)
    story.send("gm", "undo")
    story.send("gm", "scene.place", scene=crypt, members=["ann"])
    story.send("gm", "undo")
    story.send("gm", "wall.set", points=[{"x": 0, "y": 0}, {"x": 4, "y": 0}], scene=hall)
    story.send("gm", "undo")


STORIES: dict[str, Callable[[Story], None]] = {
    "members": members,
    "people-come": people_come,
    "promotion": promotion,
    "pieces": pieces,
    "hiding": hiding,
    "scenes": scenes,
    "fixtures": fixtures,
    "drawings": drawings,
    "talk": talk,
    "turns": turns,
    "undoing": undoing,
}


def vectors() -> dict[str, dict[str, Any]]:
    """Every vector by its file name."""
    made = {}
    for name, tell in STORIES.items():
        story = Story()
        tell(story)
        for reader in READERS:
            made[f"{name}.{reader}.json"] = story.vector(name, reader)
    return made


def written(vector: dict[str, Any]) -> str:
    """A vector as its file holds it: one event a line."""
    lines = ",\n".join("    " + json.dumps(event) for event in vector["events"])
    return (
        "{\n"
        f'  "name": {json.dumps(vector["name"])},\n'
        f'  "viewer": {json.dumps(vector["viewer"])},\n'
        f'  "snapshot": {json.dumps(vector["snapshot"])},\n'
        f'  "events": [\n{lines}\n  ],\n'
        f'  "expected": {json.dumps(vector["expected"])}\n'
        "}\n"
    )


if __name__ == "__main__":
    for stale in FOLDER.glob("*.json"):
        stale.unlink()
    for file, vector in vectors().items():
        (FOLDER / file).write_text(written(vector), "utf-8")
