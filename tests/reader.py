"""A client as the contract describes it: it takes `gone`, then `shown`, then the event, and only assigns, adds and removes.

Works on parsed JSON alone and knows nothing of the server's code, so that it can be held against it.
"""

from copy import deepcopy
from typing import Any

CHAT_SHOWN = 100
KINDS = ("scenes", "tokens", "walls", "doors", "lights", "drawings", "placed")
ON_SCENE = ("tokens", "walls", "doors", "lights", "drawings", "placed")

JsonObject = dict[str, Any]


def canonical(view: JsonObject) -> JsonObject:
    """A view with its lists in one order: but for chat and turn order, theirs means nothing."""
    ordered = {kind: sorted(view[kind], key=lambda one: one["id"]) for kind in (*KINDS, "members")}
    return {**view, **ordered}


class Reader:
    """One member's picture of the room, from a snapshot and what was told since."""

    def __init__(self, view: JsonObject) -> None:
        self.view = deepcopy(view)

    def take(self, data: JsonObject, offset: int) -> None:
        """Take in one publication."""
        data = deepcopy(data)
        for kind, ids in data.get("gone", {}).items():
            for key in ids:
                self._drop(kind, key)
        for kind, things in data.get("shown", {}).items():
            if kind == "turn":
                self.view["turn"] = things
                continue
            for thing in things:
                self._put(kind, thing)
        getattr(self, "_" + data["type"].replace(".", "_"))(data, offset)

    def _put(self, kind: str, thing: JsonObject) -> None:
        for at, known in enumerate(self.view[kind]):
            if known["id"] == thing["id"]:
                self.view[kind][at] = thing
                return
        self.view[kind].append(thing)

    def _drop(self, kind: str, key: str) -> None:
        self.view[kind] = [thing for thing in self.view[kind] if thing["id"] != key]

    def _assign(self, kind: str, key: str, fields: JsonObject) -> None:
        for thing in self.view[kind]:
            if thing["id"] == key:
                thing.update({name: value for name, value in fields.items() if name in thing})

    # One method an event

    def _hidden(self, data: JsonObject, offset: int) -> None:
        assert data == {"type": "hidden"}

    def _room_created(self, data: JsonObject, offset: int) -> None:
        me = self.view["me"]
        member = {"id": data["by"], "name": data["member_name"], "role": "gm"}
        self._put("members", {**member, "online": False, "muted": False})
        self._put("scenes", {**data["scene"], "active": True})
        self.view["name"], self.view["visibility"] = data["name"], data["visibility"]
        if me["id"] == data["by"]:
            me["role"] = "gm"

    def _room_changed(self, data: JsonObject, offset: int) -> None:
        for name in ("name", "visibility", "tags", "settings"):
            if name in data:
                self.view[name] = data[name]

    def _member_joined(self, data: JsonObject, offset: int) -> None:
        member = {"id": data["user"], "name": data["name"], "role": data["role"]}
        self._put("members", {**member, "online": False, "muted": False})
        if data["user"] == self.view["me"]["id"]:
            self.view["me"]["role"] = data["role"]

    def _member_changed(self, data: JsonObject, offset: int) -> None:
        names = ("name", "role", "muted")
        fields: JsonObject = {name: data[name] for name in names if name in data}
        self._assign("members", data["user"], fields)
        if data["user"] == self.view["me"]["id"] and "role" in data:
            self.view["me"]["role"] = data["role"]

    def _member_removed(self, data: JsonObject, offset: int) -> None:
        self._drop("members", data["user"])
        self._drop("placed", data["user"])

    def _scene_created(self, data: JsonObject, offset: int) -> None:
        self._put("scenes", {**data["scene"], "active": False})
        for kind in ("tokens", "walls", "doors", "lights", "drawings"):
            for thing in data.get(kind, ()):
                self._put(kind, thing)

    def _scene_updated(self, data: JsonObject, offset: int) -> None:
        names = ("name", "width", "height", "grid", "background")
        fields: JsonObject = {name: data[name] for name in names if name in data}
        self._assign("scenes", data["scene"], fields)

    def _scene_activated(self, data: JsonObject, offset: int) -> None:
        for scene in self.view["scenes"]:
            scene["active"] = scene["id"] == data["scene"]

    def _scene_removed(self, data: JsonObject, offset: int) -> None:
        self._drop("scenes", data["scene"])
        for kind in ON_SCENE:
            kept = [thing for thing in self.view[kind] if thing["scene"] != data["scene"]]
            self.view[kind] = kept

    def _scene_placed(self, data: JsonObject, offset: int) -> None:
        for user in data["members"]:
            if data["scene"] is None:
                self._drop("placed", user)
            else:
                self._put("placed", {"id": user, "scene": data["scene"]})

    def _token_added(self, data: JsonObject, offset: int) -> None:
        self._put("tokens", data["token"])

    def _token_moved(self, data: JsonObject, offset: int) -> None:
        for way in data.get("moves", [data]):
            pose = {name: way[name] for name in ("x", "y", "rotation") if name in way}
            self._assign("tokens", way["token"], pose)

    def _token_updated(self, data: JsonObject, offset: int) -> None:
        own = {"type", "by", "at", "id", "token", "shown", "gone"}
        fields = {name: value for name, value in data.items() if name not in own}
        self._assign("tokens", data["token"], fields)

    def _token_removed(self, data: JsonObject, offset: int) -> None:
        self._drop("tokens", data["token"])

    def _wall_changed(self, data: JsonObject, offset: int) -> None:
        self._changed("walls", data)

    def _door_changed(self, data: JsonObject, offset: int) -> None:
        self._changed("doors", data)

    def _light_changed(self, data: JsonObject, offset: int) -> None:
        self._changed("lights", data)

    def _changed(self, kind: str, data: JsonObject) -> None:
        for key in data.get("removed", ()):
            self._drop(kind, key)
        for thing in data.get(kind, ()):
            self._put(kind, thing)

    def _draw_added(self, data: JsonObject, offset: int) -> None:
        self._put("drawings", data["drawing"])

    def _draw_removed(self, data: JsonObject, offset: int) -> None:
        self._drop("drawings", data["drawing"])

    def _turn_changed(self, data: JsonObject, offset: int) -> None:
        self.view["turn"] = data["turn"]

    def _chat_said(self, data: JsonObject, offset: int) -> None:
        self.view["chat"] = [*self.view["chat"], {**data, "offset": offset}][-CHAT_SHOWN:]

    def _dice_rolled(self, data: JsonObject, offset: int) -> None:
        self._chat_said(data, offset)

    def _undone(self, data: JsonObject, offset: int) -> None:
        for part in data["events"]:
            self.take(part, offset)

    def _redone(self, data: JsonObject, offset: int) -> None:
        self._undone(data, offset)
