"""The naive twin of a room: the rules of docs/spec.md on plain dicts, with copies and comparisons of everything.

Written without looking at `decide` and `evolve`; slow on purpose. `attempt` says what must come of a command: the slug of
the refusal, "nothing", or "done", and then the twin has changed.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from tableforge.domain.dice import roll

Json = dict[str, Any]

RANK = {"spectator": 0, "player": 1, "gm": 2}
BOARD = ("scenes", "tokens", "walls", "doors", "lights", "drawings", "placed")
ON_SCENE = ("tokens", "walls", "doors", "lights", "drawings")
GM_FIELDS = {"layer", "owner", "hidden", "locked"}
TOKEN_FIELDS = {"name", "x", "y", "width", "height", "rotation", "image"} | GM_FIELDS
UNDOABLE = {"scene", "token", "wall", "door", "light", "draw", "turn"}


class Refused(Exception):
    """The slug that a command is refused with."""


class Twin:
    """One room; `now` is everything that a log would rebuild."""

    def __init__(self) -> None:
        self.now: Json = {
            "name": "",
            "visibility": "private",
            "tags": [],
            "settings": {"gm_sees_all": False, "players_add_tokens": True},
            "members": {},
            "banned": [],
            "active": "",
            "turn": None,
            "chat": {},
            **{kind: {} for kind in BOARD},
        }
        self.done: dict[str, list[tuple[str, list[Json]]]] = {}
        self.undone: dict[str, list[tuple[str, list[Json]]]] = {}

    def attempt(
        self,
        by: str,
        command: Json,
        *,
        at: str,
        offset: int,
        seed: bytes,
        ids: Callable[[int], str],
    ) -> str:
        """Carry out a command if it may be; ids that it makes are `ids(0)`, `ids(1)` and so on."""
        self.by, self.at, self.offset, self.seed, self.ids = by, at, offset, seed, ids
        before = deepcopy(self.now)
        kind = command["type"]
        try:
            if kind not in {"room.open", "member.join"} and by not in self.now["members"]:
                raise Refused("not-found")
            getattr(self, kind.replace(".", "_"))(command)
        except Refused as refusal:
            self.now = before
            return str(refusal)
        if kind in {"undo", "redo"}:
            return "done"
        if self.now == before:
            return "nothing"
        if kind.split(".")[0] in UNDOABLE:
            self.done.setdefault(by, []).append((command["id"], differences(before, self.now)))
            self.undone[by] = []
        for user in before["members"].keys() - self.now["members"].keys():
            self.done.pop(user, None)
            self.undone.pop(user, None)
        return "done"

    # Who may

    @property
    def role(self) -> str:
        return str(self.now["members"][self.by]["role"])

    @property
    def gm(self) -> bool:
        return self.role == "gm"

    def need(self, allowed: bool, slug: str = "forbidden") -> None:
        if not allowed:
            raise Refused(slug)

    def front(self) -> str:
        return str(
            self.now["active"] if self.gm else self.now["placed"].get(self.by, self.now["active"])
        )

    def scene(self, command: Json) -> str:
        scene = command.get("scene", self.front())
        self.need(scene in self.now["scenes"] and (self.gm or scene == self.front()), "not-found")
        return str(scene)

    def sees_token(self, key: str) -> bool:
        token = self.now["tokens"].get(key)
        if token is None or self.gm:
            return token is not None
        return bool(
            token["scene"] == self.front() and not token["hidden"] and token["layer"] != "gm"
        )

    def own_token(self, key: str) -> Json:
        self.need(self.sees_token(key), "not-found")
        token: Json = self.now["tokens"][key]
        self.need(self.gm or (self.role == "player" and token["owner"] == self.by))
        return token

    def member(self, user: str) -> Json:
        self.need(user in self.now["members"], "not-found")
        found: Json = self.now["members"][user]
        return found

    def another_gm(self, user: str) -> None:
        others = [one for key, one in self.now["members"].items() if key != user]
        last = self.now["members"][user]["role"] == "gm" and all(
            one["role"] != "gm" for one in others
        )
        self.need(not last, "conflict")

    # Members

    def room_open(self, command: Json) -> None:
        self.need(not self.now["members"], "conflict")
        scene = self.ids(0)
        self.now |= {"name": command["name"], "visibility": command["visibility"], "active": scene}
        self.now["members"][self.by] = {
            "name": command["member_name"],
            "role": "gm",
            "muted": False,
        }
        grid = {"type": "square", "size": 70.0}
        self.now["scenes"][scene] = {
            "id": scene,
            "name": "First scene",
            "width": 30.0,
            "height": 20.0,
            "grid": grid,
            "background": None,
        }

    def member_join(self, command: Json) -> None:
        self.need(self.by not in self.now["banned"])
        seat = self.now["members"].get(self.by)
        if seat is None:
            seat = {"name": command["name"], "role": command["role"], "muted": False}
            self.now["members"][self.by] = seat
        elif RANK[seat["role"]] < RANK[command["role"]]:
            seat["role"] = command["role"]

    def remove(self, user: str) -> None:
        self.another_gm(user)
        for shelf in ("members", "placed", "chat"):
            self.now[shelf].pop(user, None)

    def member_leave(self, command: Json) -> None:
        self.remove(self.by)

    def member_rename(self, command: Json) -> None:
        self.now["members"][self.by]["name"] = command["name"]

    def member_role(self, command: Json) -> None:
        member = self.member(command["user"])
        self.need(self.gm)
        if member["role"] != command["role"]:
            self.another_gm(command["user"])
        member["role"] = command["role"]

    def member_kick(self, command: Json) -> None:
        self.member(command["user"])
        self.need(self.gm)
        self.remove(command["user"])

    def member_ban(self, command: Json) -> None:
        self.member_kick(command)
        self.now["banned"].append(command["user"])

    def member_mute(self, command: Json) -> None:
        member = self.member(command["user"])
        self.need(self.gm)
        member["muted"] = command["muted"]

    def room_update(self, command: Json) -> None:
        self.need(self.gm)
        self.now["settings"] = self.now["settings"] | command.get("settings", {})
        for field in ("name", "visibility", "tags"):
            self.now[field] = command.get(field, self.now[field])

    # Talk

    def tell(self, users: set[str], line: Json) -> None:
        for user in users:
            lines = [*self.now["chat"].get(user, []), {**line, "offset": self.offset}]
            self.now["chat"][user] = lines[-100:]

    def gms(self) -> set[str]:
        return {key for key, one in self.now["members"].items() if one["role"] == "gm"}

    def chat_say(self, command: Json) -> None:
        self.need(not self.now["members"][self.by]["muted"])
        line = {"type": "chat.said", "by": self.by, "at": self.at, "id": command["id"]}
        line["text"] = command["text"]
        if "to" not in command:
            self.tell({""}, line)
            return
        for user in command["to"]:
            self.member(user)
        line["to"] = sorted(set(command["to"]))
        told = {self.by, *command["to"]}
        self.tell(told | (self.gms() if self.now["settings"]["gm_sees_all"] else set()), line)

    def dice_roll(self, command: Json) -> None:
        self.need(self.role != "spectator")
        self.need(not self.now["members"][self.by]["muted"])
        rolled = roll(command["expression"], self.seed)
        line = {"type": "dice.rolled", "by": self.by, "at": self.at, "id": command["id"]}
        line["visibility"] = visibility = command.get("visibility", "public")
        whole = {**line, "expression": rolled.expression, "total": rolled.total}
        whole["dice"] = [
            {"sides": die.sides, "value": die.value, "fate": list(die.fate)} for die in rolled.dice
        ]
        if "label" in command:
            whole["label"] = command["label"]
        if visibility == "public":
            self.tell({""}, whole)
        else:
            self.tell({""}, line)
            self.tell({self.by} | (self.gms() if visibility == "gm" else set()), whole)

    # Scenes

    def scene_create(self, command: Json) -> None:
        self.need(self.gm)
        scene = {"id": self.ids(0), "background": None, "grid": {"type": "square", "size": 70.0}}
        names = ("name", "width", "height", "grid", "background")
        scene |= {name: command[name] for name in names if name in command}
        self.now["scenes"][scene["id"]] = scene

    def scene_import(self, command: Json) -> None:
        self.scene_create(command)
        scene, number = self.ids(0), 1
        for kind in ("walls", "doors", "lights"):
            for thing in command[kind]:
                key = self.ids(number)
                self.now[kind][key] = {"id": key, "scene": scene, **thing}
                number += 1

    def scene_update(self, command: Json) -> None:
        scene = self.scene(command)
        self.need(self.gm)
        names = ("name", "width", "height", "grid", "background")
        self.now["scenes"][scene] |= {name: command[name] for name in names if name in command}

    def scene_activate(self, command: Json) -> None:
        scene = self.scene(command)
        self.need(self.gm)
        self.now["active"] = scene

    def scene_remove(self, command: Json) -> None:
        scene = self.scene(command)
        self.need(self.gm)
        self.need(scene != self.now["active"], "conflict")
        self.drop_scene(scene)

    def drop_scene(self, scene: str) -> None:
        del self.now["scenes"][scene]
        for kind in ON_SCENE:
            kept = {key: one for key, one in self.now[kind].items() if one["scene"] != scene}
            self.now[kind] = kept
        places = self.now["placed"]
        self.now["placed"] = {user: place for user, place in places.items() if place != scene}

    def scene_place(self, command: Json) -> None:
        if command["scene"] is not None:
            self.scene(command)
        for user in command["members"]:
            self.member(user)
        self.need(self.gm)
        for user in command["members"]:
            if command["scene"] is None:
                self.now["placed"].pop(user, None)
            else:
                self.now["placed"][user] = command["scene"]

    # Pieces

    def token_add(self, command: Json) -> None:
        scene = self.scene(command)
        self.need(self.role != "spectator")
        if not self.gm:
            self.need(self.now["settings"]["players_add_tokens"])
            plain = command.get("layer", "object") == "object"
            plain = plain and not command.get("hidden") and not command.get("locked")
            self.need(plain and command.get("owner", self.by) == self.by)
        elif command.get("owner") is not None:
            self.member(command["owner"])
        token = {"width": 1.0, "height": 1.0, "rotation": 0.0, "layer": "object", "image": None}
        token |= {"owner": None if self.gm else self.by, "hidden": False, "locked": False}
        token |= {name: command[name] for name in TOKEN_FIELDS if name in command}
        self.now["tokens"][self.ids(0)] = {"id": self.ids(0), "scene": scene, **token}

    def token_move(self, command: Json) -> None:
        several = "moves" in command
        alone = any(name in command for name in ("token", "x", "y", "rotation"))
        whole = all(name in command for name in ("token", "x", "y"))
        self.need((several and not alone) or (whole and not several), "malformed")
        ways = command["moves"] if several else [command]
        for way in ways:
            self.need(not self.own_token(way["token"])["locked"], "locked")
        self.need(len({way["token"] for way in ways}) == len(ways), "malformed")
        for way in ways:
            pose = {name: way[name] for name in ("x", "y", "rotation") if name in way}
            self.now["tokens"][way["token"]] |= pose

    def token_update(self, command: Json) -> None:
        token = self.own_token(command["token"])
        fields = {name: command[name] for name in TOKEN_FIELDS if name in command}
        if not self.gm:
            self.need(not fields.keys() & GM_FIELDS)
            self.need(not token["locked"], "locked")
        changed = {name for name, value in fields.items() if token[name] != value}
        poses = changed & {"x", "y", "rotation"}
        self.need(not (token["locked"] and poses and fields.get("locked") is not False), "locked")
        if "owner" in changed and fields["owner"] is not None:
            self.member(fields["owner"])
        token |= fields

    def token_remove(self, command: Json) -> None:
        token = self.own_token(command["token"])
        self.need(self.gm or not token["locked"], "locked")
        del self.now["tokens"][command["token"]]

    # Walls, doors, lights

    def wall_set(self, command: Json) -> None:
        self.fixture("walls", "wall", command, ("points",), {})

    def door_set(self, command: Json) -> None:
        self.fixture("doors", "door", command, ("points",), {"state": "closed"})

    def light_set(self, command: Json) -> None:
        defaults = {"color": "#ffffff", "intensity": 1.0}
        self.fixture("lights", "light", command, ("x", "y", "range"), defaults)

    def fixture(
        self, kind: str, name: str, command: Json, needed: tuple[str, ...], defaults: Json
    ) -> None:
        scene = self.scene(command)
        fields = {field: command[field] for field in (*needed, *defaults) if field in command}
        if name not in command:
            self.need(self.gm)
            self.need(not command.get("remove"), "malformed")
            self.need(all(field in fields for field in needed), "malformed")
            key = self.ids(0)
            self.now[kind][key] = {"id": key, "scene": scene, **defaults, **fields}
            return
        thing = self.now[kind].get(command[name])
        self.need(self.gm and thing is not None, "not-found")
        if command.get("remove"):
            del self.now[kind][command[name]]
            return
        self.need(command.get("scene", thing["scene"]) == thing["scene"], "malformed")
        thing |= fields

    # Drawings

    def draw_add(self, command: Json) -> None:
        scene = self.scene(command)
        self.need(self.role != "spectator")
        drawing = {"id": self.ids(0), "scene": scene, "owner": self.by, "shape": command["shape"]}
        self.now["drawings"][self.ids(0)] = {**drawing, "style": command.get("style", {})}

    def draw_remove(self, command: Json) -> None:
        drawing = self.now["drawings"].get(command["drawing"])
        seen = drawing is not None and (self.gm or drawing["scene"] == self.front())
        self.need(seen, "not-found")
        self.need(self.gm or (self.role == "player" and drawing["owner"] == self.by))
        del self.now["drawings"][command["drawing"]]

    # Turns

    def turn_set(self, command: Json) -> None:
        behind = {row["token"] for row in (self.now["turn"] or {"entries": []})["entries"]}
        for row in command["entries"]:
            key = row.get("token")
            known = key is None or self.sees_token(key) or (self.gm and key in behind)
            self.need(known, "not-found")
        self.need(self.gm)
        rows = [{"token": None, **row} for row in command["entries"]]
        if "current" in command:
            self.need(command["current"] < len(rows), "malformed")
        order = sorted(rows, key=lambda row: row["value"], reverse=True)
        current = 0
        if "current" in command:
            chosen = rows[command["current"]]
            current = next(at for at, row in enumerate(order) if row is chosen)
        turn = {"active": True, "round": command.get("round", 1), "current": current}
        self.now["turn"] = {**turn, "entries": order} if rows else None

    def present(self, row: Json) -> bool:
        return row["token"] is None or row["token"] in self.now["tokens"]

    def step(self, forward: bool) -> None:
        turn = self.now["turn"]
        self.need(turn is not None, "conflict")
        self.need(any(self.present(row) for row in turn["entries"]), "conflict")
        rows = len(turn["entries"])
        while True:
            turn["current"] += 1 if forward else -1
            if turn["current"] in {-1, rows}:
                turn["current"] = 0 if forward else rows - 1
                turn["round"] += 1 if forward else -1
            self.need(
                turn["round"] > 0 or not self.present(turn["entries"][turn["current"]]), "conflict"
            )
            if self.present(turn["entries"][turn["current"]]):
                return

    def turn_next(self, command: Json) -> None:
        self.need(self.gm)
        self.step(forward=True)

    def turn_previous(self, command: Json) -> None:
        self.need(self.gm)
        self.step(forward=False)

    def own_turn(self) -> bool:
        key = self.now["turn"]["entries"][self.now["turn"]["current"]]["token"]
        return (
            key is not None and self.sees_token(key) and self.now["tokens"][key]["owner"] == self.by
        )

    def turn_end(self, command: Json) -> None:
        self.need(self.role != "spectator")
        self.need(self.now["turn"] is not None, "conflict")
        self.need(self.gm or self.own_turn())
        self.step(forward=True)

    # Undo and redo

    def undo(self, command: Json) -> None:
        self.need(self.role != "spectator")
        stack = self.done.get(self.by, [])
        self.need(bool(stack), "nothing-to-undo")
        self.reverse(
            [{**one, "was": one["is"], "is": one["was"]} for one in stack[-1][1]], redo=False
        )
        self.undone.setdefault(self.by, []).append(stack.pop())

    def redo(self, command: Json) -> None:
        self.need(self.role != "spectator")
        stack = self.undone.get(self.by, [])
        self.need(bool(stack), "nothing-to-undo")
        self.reverse(stack[-1][1], redo=True)
        self.done[self.by].append(stack.pop())

    def reverse(self, touched: list[Json], *, redo: bool) -> None:
        """Make each thing what it `is` in the end, if it is now what it `was`: in the fields that differ."""
        before = deepcopy(self.now)
        for one in touched:
            self.reverse_one(one, before, redo=redo)
        keys = {(one["kind"], one["key"]) for one in touched}
        for kind, key in keys:
            if kind != "scenes" or key in self.now["scenes"]:
                continue
            left = [
                other
                for shelf in ON_SCENE
                for other, thing in self.now[shelf].items()
                if thing["scene"] == key
            ]
            left += [user for user, place in self.now["placed"].items() if place == key]
            self.need(not left and self.now["active"] != key, "changed-since")
        for kind in ON_SCENE:
            for thing in self.now[kind].values():
                self.need(thing["scene"] in self.now["scenes"], "changed-since")
        for place in (*self.now["placed"].values(), self.now["active"]):
            self.need(place in self.now["scenes"], "changed-since")

    def reverse_one(self, one: Json, before: Json, *, redo: bool) -> None:
        kind, key, was, becomes = one["kind"], one["key"], one["was"], one["is"]
        if kind in {"turn", "active"}:
            self.need(self.gm or (kind == "turn" and self.ended_own(was, becomes, redo=redo)))
            self.need(not self.gm or self.now[kind] == was, "changed-since")
            if self.gm:
                self.now[kind] = deepcopy(becomes)
            return
        self.need(self.gm or kind in {"tokens", "drawings"})
        shelf = self.now[kind]
        if kind == "placed" and key not in self.now["members"]:
            return
        now = shelf.get(key)
        if now is not None and not self.gm and not self.sees(kind, now, before):
            now = None
        fields: set[str] = set()
        if was is None or becomes is None or isinstance(was, str):
            self.need(now == was, "changed-since")
        else:
            fields = {name for name in was if was[name] != becomes[name]}
            place = {"x", "y"} if kind == "tokens" and fields & {"x", "y"} else set()
            same = now is not None and all(now[name] == was[name] for name in fields | place)
            self.need(same, "changed-since")
        if kind in {"tokens", "drawings"}:
            self.allow(kind, now, becomes, fields, before, redo=redo)
        if becomes is None:
            del shelf[key]
        elif fields:
            shelf[key] = {**now, **{name: becomes[name] for name in fields}}
        else:
            shelf[key] = deepcopy(becomes)

    def sees(self, kind: str, thing: Json, room: Json) -> bool:
        front = room["placed"].get(self.by, room["active"])
        plain = kind == "drawings" or (not thing["hidden"] and thing["layer"] != "gm")
        return bool(thing["scene"] == front and plain)

    def allow(
        self,
        kind: str,
        now: Json | None,
        becomes: Json | None,
        fields: set[str],
        room: Json,
        *,
        redo: bool,
    ) -> None:
        whole = becomes if now is None else now
        assert whole is not None
        if kind == "tokens" and self.gm:
            moves = fields & {"x", "y", "rotation"}
            stays = now is not None and now["locked"] and "locked" not in fields
            self.need(not (stays and moves), "locked")
        if self.gm:
            return
        if kind == "tokens" and now is None and redo:
            self.need(self.now["settings"]["players_add_tokens"])
        if now is None:
            self.need(
                whole["scene"] == room["placed"].get(self.by, room["active"]), "changed-since"
            )
        self.need(whole["owner"] == self.by)
        if kind == "tokens":
            self.need(not fields & GM_FIELDS)
            if now is not None:
                self.need(not now["locked"], "locked")
            else:
                self.need(
                    whole["layer"] == "object" and not whole["hidden"] and not whole["locked"]
                )

    def ended_own(self, was: Json | None, becomes: Json | None, *, redo: bool) -> bool:
        """A player takes back, or does again, the end of their own turn; the rows they do not see do not matter."""
        if was is None or becomes is None or was["entries"] != becomes["entries"]:
            return False
        now = self.now["turn"]
        self.need(now is not None and self.seen_turn(now) == self.seen_turn(was), "changed-since")
        if redo:
            if not self.own_turn():
                return False
            self.step(forward=True)
            return True
        place = self.seen_turn(becomes)["current"]
        self.need(place is not None, "changed-since")
        now["current"] = [at for at, row in enumerate(now["entries"]) if self.sees_row(row)][place]
        now["round"] = becomes["round"]
        return self.own_turn()

    def sees_row(self, row: Json) -> bool:
        return row["token"] is None or self.sees_token(row["token"])

    def seen_turn(self, turn: Json) -> Json:
        places = [at for at, row in enumerate(turn["entries"]) if self.sees_row(row)]
        current = places.index(turn["current"]) if turn["current"] in places else None
        return {**turn, "entries": [turn["entries"][at] for at in places], "current": current}


def differences(before: Json, after: Json) -> list[Json]:
    """Everything on the board that one command touched."""
    found = []
    for kind in BOARD:
        for key in before[kind] | after[kind]:
            was, becomes = before[kind].get(key), after[kind].get(key)
            if was != becomes:
                found.append(
                    {"kind": kind, "key": key, "was": deepcopy(was), "is": deepcopy(becomes)}
                )
    for kind in ("turn", "active"):
        if before[kind] != after[kind]:
            values = {"was": deepcopy(before[kind]), "is": deepcopy(after[kind])}
            found.append({"kind": kind, "key": "", **values})
    return found
