"""`tableforge demo`: a table to look at, with a map, pieces, a turn order and some history, made as any client makes one."""

from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from tableforge.library.sessions import SESSION_COOKIE
from tableforge.protocol.rest_client import RestClient

MAP_FILE = "demo_map.webp"
ROOM_NAME = "The Drowned Cellar"
GAME_MASTER = "Mara (GM)"
COMPANIONS = ("Isolde", "Brannoch", "Quill", "Tamsin")

PARTY = (
    ("Isolde Marrow", 4.0, 4.0),
    ("Brannoch the Grey", 4.0, 6.0),
    ("Quill", 2.0, 6.0),
    ("Tamsin Reed", 5.0, 3.0),
)
"""The companions' pieces, in their order, and where they stand: in the hall of the map."""

OTHERS: tuple[dict[str, Any], ...] = (
    {"name": "Drowned Warden", "x": 16.5, "y": 4.5, "width": 2, "height": 2},
    {"name": "Cellar Rat", "x": 15.0, "y": 12.0},
    {"name": "Cellar Rat", "x": 16.0, "y": 13.0},
    {"name": "Oaken Chest", "x": 18.0, "y": 13.0, "locked": True},
    {"name": "Something in the Pool", "x": 16.0, "y": 6.0, "hidden": True},
    {"name": "Trapped Flagstone", "x": 12.0, "y": 5.0, "layer": "gm"},
)
DOORS: tuple[dict[str, Any], ...] = (
    {"points": [{"x": 11, "y": 5}, {"x": 11, "y": 6}], "state": "closed"},
    {"points": [{"x": 6, "y": 9}, {"x": 7, "y": 9}], "state": "closed"},
    {"points": [{"x": 17, "y": 11}, {"x": 18, "y": 11}], "state": "closed"},
    {"points": [{"x": 10, "y": 13}, {"x": 10, "y": 14}], "state": "open"},
)
LIGHTS: tuple[dict[str, Any], ...] = (
    {"x": 4.0, "y": 3.3, "range": 5, "color": "#ffb65c", "intensity": 1},
    {"x": 10.0, "y": 3.3, "range": 5, "color": "#ffb65c", "intensity": 1},
    {"x": 17.5, "y": 5.5, "range": 4.5, "color": "#7fd6d0", "intensity": 0.8},
    {"x": 16.2, "y": 11.35, "range": 5, "color": "#ffb65c", "intensity": 1},
)
TALK: tuple[tuple[int, str], ...] = (
    (0, "The stairs are wet. Somebody came up here not long ago."),
    (1, "Or something. Torches up, and stay behind me."),
    (2, "I can hear water moving, and there is no wind down here."),
    (3, "Two doors. I listen at the one to the east."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """How one gets into a server that does not let everybody in; what is empty is not asked for.

    `host` is a name that the server answers for, `public` the base of the links for people, both where the server's own
    address will not do.
    """

    password: str = field(default="", repr=False)
    admin_token: str = field(default="", repr=False)
    host: str = ""
    public: str = ""


OPEN = Entry()
"""A server that lets everybody in."""


@dataclass(slots=True)
class Person:
    """Somebody with a session; `piece` is theirs at the table."""

    name: str
    id: str
    token: str
    piece: str = ""


@dataclass(slots=True)
class Table:
    """The finished table, and the links for a player and for a second game master."""

    room: str
    invite: str
    link: str
    game_master_link: str
    game_master: Person
    companions: list[Person] = field(default_factory=list)


class Host:
    """Sets the table over REST. Its commands are numbered, so that none of them is ever carried out twice."""

    def __init__(self, client: RestClient, entry: Entry = OPEN) -> None:
        self._client = client
        self._entry = entry
        self._commands = 0

    def set_table(self, companions: int) -> Table:
        """Make the whole room with at least four companions; raises Unavailable when the server refuses something."""
        call = self._client.call
        gm = self.person(GAME_MASTER)
        made = self._room(gm)
        room, invite = made["id"], made["invite"]
        second = call("POST", f"/api/rooms/{room}/invites", {"role": "gm"}, token=gm.token)
        address = f"{self._entry.public.rstrip('/') or self._client.base}/r/{room}"
        table = Table(room, invite, f"{address}#{invite}", f"{address}#{second['invite']}", gm)
        self._lay_map(table)
        for number in range(max(companions, len(COMPANIONS))):
            table.companions.append(self._companion(table, number))
        self._tell_history(table)
        return table

    def person(self, name: str) -> Person:
        """Somebody new on this server."""
        password = {"password": self._entry.password} if self._entry.password else {}
        made = self._client.call("POST", "/api/session", {"name": name, **password})
        return Person(name, made["user"]["id"], made["token"])

    def _room(self, gm: Person) -> Any:
        """Where only the operator makes rooms, the bearer is the operator's and the cookie says whose room it is."""
        wanted = {"name": ROOM_NAME}
        operator = self._entry.admin_token
        if not operator:
            return self._client.call("POST", "/api/rooms", wanted, token=gm.token)
        cookie = f"{SESSION_COOKIE}={gm.token}"
        return self._client.call("POST", "/api/rooms", wanted, token=operator, cookie=cookie)

    def command(self, table: Table, by: Person, kind: str, **body: Any) -> Any:
        """Carry out one command and return its result."""
        self._commands += 1
        order = {"room": table.room, "id": f"demo-{self._commands}", "type": kind, **body}
        path = f"/api/rooms/{table.room}/commands"
        return self._client.call("POST", path, order, token=by.token).get("result")

    def _lay_map(self, table: Table) -> None:
        """The map takes the place of the scene that every room begins with."""
        gm = table.game_master
        path = f"/api/rooms/{table.room}"
        before = self._client.call("GET", f"{path}/snapshot", token=gm.token)
        content = (resources.files("tableforge.ops") / MAP_FILE).read_bytes()
        name = f"{ROOM_NAME}.webp"
        made = self._client.upload(f"{path}/imports", name, content, token=gm.token)
        self.command(table, gm, "scene.activate", scene=made["scene"]["id"])
        for scene in before["room"]["scenes"]:
            self.command(table, gm, "scene.remove", scene=scene["id"])
        for door in DOORS:
            self.command(table, gm, "door.set", **door)
        for light in LIGHTS:
            self.command(table, gm, "light.set", **light)

    def _companion(self, table: Table, number: int) -> Person:
        named = number < len(COMPANIONS)
        person = self.person(COMPANIONS[number] if named else f"Hireling {number + 1}")
        joining = {"invite": table.invite}
        self._client.call("POST", f"/api/rooms/{table.room}/join", joining, token=person.token)
        piece, x, y = PARTY[number] if named else (person.name, 3.0 + number % 8, 3.0 + number % 6)
        person.piece = self.command(table, person, "token.add", name=piece, x=x, y=y)["id"]
        return person

    def _tell_history(self, table: Table) -> None:
        gm, party = table.game_master, table.companions
        foes = [self.command(table, gm, "token.add", **piece)["id"] for piece in OTHERS]
        self.command(
            table, gm, "chat.say", text="The cellar door gives way. Below, black water and a light."
        )
        for speaker, text in TALK:
            self.command(table, party[speaker], "chat.say", text=text)
        roll = {"expression": "1d20+5", "label": "Listening"}
        self.command(table, party[3], "dice.roll", **roll)
        self.command(table, gm, "dice.roll", expression="1d20+3", visibility="gm")
        whisper = "Behind the east door somebody breathes."
        self.command(table, gm, "chat.say", text=whisper, to=[party[3].id])
        self.command(table, party[1], "token.move", token=party[1].piece, x=9, y=5)
        self.command(table, party[0], "token.move", token=party[0].piece, x=8, y=6)
        initiative = {"expression": "1d20", "label": "Initiative"}
        entries = [
            {
                "name": PARTY[number][0],
                "token": person.piece,
                "value": self.command(table, person, "dice.roll", **initiative)["total"],
            }
            for number, person in enumerate(party[: len(PARTY)])
        ]
        entries.append({"name": "Drowned Warden", "token": foes[0], "value": 12})
        entries.append({"name": "Cellar Rats", "token": foes[1], "value": 7})
        self.command(table, gm, "turn.set", entries=entries)
        self.command(table, gm, "turn.next")
        attack = {"expression": "2d20kh1+6", "label": "Longsword, with advantage"}
        self.command(table, party[1], "dice.roll", **attack)
        damage = {"expression": "1d8+4", "label": "Damage"}
        self.command(table, party[1], "dice.roll", **damage)
        self.command(table, gm, "chat.say", text="The warden staggers, and the water rises.")
