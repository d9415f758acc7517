"""What travels, as JSON Schema: the web client's types are made from it, so that nobody types them by hand.

Names are those of the wire, where the server's own differ: what it calls a room's view is the client's room.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, get_args

import msgspec

from tableforge.domain import dice, events, state, visibility
from tableforge.domain.commands import Command
from tableforge.domain.events import Event, Seen
from tableforge.domain.signals import Signal
from tableforge.domain.state import ChatLine, GridType, Layer, Role, Visibility
from tableforge.domain.visibility import RoomView

WIRE_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "RoomView": "Room",
        "SeenMember": "Member",
        "SeenScene": "Scene",
        "Scene": "StoredScene",
        "Ping": "PingSignal",
        "Cursor": "CursorSignal",
        "Drag": "DragSignal",
        "Typing": "TypingSignal",
        "Measure": "MeasureSignal",
    }
)
WORDS: Final[Mapping[str, Any]] = MappingProxyType(
    {"Role": Role, "Visibility": Visibility, "Layer": Layer, "GridType": GridType}
)
"""Closed lists of words that the client names too."""

DRAFT = "http://json-schema.org/draft-07/schema#"
PREFIX = "#/$defs/"


def document() -> dict[str, Any]:
    """One schema whose `$defs` hold every event, command, signal and room that travels."""
    unions = {
        "RoomEvent": Seen,
        "StoredEvent": Event,
        "RoomCommand": Command,
        "RoomSignal": Signal,
        "ChatLine": ChatLine,
    }
    schemas, parts = msgspec.json.schema_components(
        [RoomView, *unions.values()], ref_template=PREFIX + "{name}"
    )
    definitions = {WIRE_NAMES.get(name, name): part for name, part in parts.items()}
    members = {
        union: [wire_reference(part) for part in schema["anyOf"]]
        for union, schema in zip(unions, schemas[1:], strict=True)
    }
    named_unions = {frozenset(refs): union for union, refs in members.items()}
    words = {frozenset(get_args(alias)): name for name, alias in WORDS.items()}
    named = {name: {"enum": list(get_args(alias))} for name, alias in WORDS.items()}

    always_there = {
        WIRE_NAMES.get(kind.__name__, kind.__name__)
        for kind in structs()
        if not kind.__struct_config__.omit_defaults
    }
    for name in always_there & definitions.keys():
        fields = definitions[name]["properties"]
        definitions[name]["required"] = [
            field
            for field, shape in fields.items()
            if "default" in shape or field in definitions[name].get("required", ())
        ]

    def on_the_wire(node: dict[str, Any]) -> dict[str, Any]:
        if "$ref" in node:
            return {"$ref": wire_reference(node)}
        union = named_unions.get(frozenset(part.get("$ref", "") for part in node.get("anyOf", ())))
        if union is not None:
            return {"$ref": PREFIX + union}
        if "prefixItems" in node:
            return {"type": "array", "items": node["prefixItems"], "additionalItems": False}
        if "enum" in node and frozenset(node["enum"]) in words:
            return {"$ref": PREFIX + words[frozenset(node["enum"])]}
        if (
            node.get("type") == "object"
            and not {"properties", "additionalProperties"} & node.keys()
        ):
            node["additionalProperties"] = True
        if isinstance(node.get("description"), str):
            node["description"] = inspect.cleandoc(node["description"])
        return {key: value for key, value in node.items() if key not in {"title", "default"}}

    spelt_out = {
        union: {"anyOf": [{"$ref": reference} for reference in refs]}
        for union, refs in members.items()
    }
    return {"$schema": DRAFT, "$defs": {**walked(definitions, on_the_wire), **spelt_out, **named}}


def wire_reference(node: Mapping[str, str]) -> str:
    """Where a reference leads, under the name that the thing has on the wire."""
    name = node["$ref"].removeprefix(PREFIX)
    return PREFIX + WIRE_NAMES.get(name, name)


def structs() -> Iterator[type[msgspec.Struct]]:
    """What the server sends: where it leaves no defaults out, a client finds every field."""
    for module in (dice, events, state, visibility):
        for kind in vars(module).values():
            if (
                isinstance(kind, type)
                and issubclass(kind, msgspec.Struct)
                and kind.__module__ == module.__name__
            ):
                yield kind


def walked(node: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """A schema with every object in it changed, the inner ones first."""
    if isinstance(node, list):
        return [walked(part, change) for part in node]
    if isinstance(node, dict):
        return change({key: walked(part, change) for key, part in node.items()})
    return node
