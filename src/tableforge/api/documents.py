"""The OpenAPI document, made from the routes and from the very types that their bodies and answers are decoded with.

The framework's own generator describes its lenient converters, not our strict decoders; msgspec describes its own.
"""

import inspect
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, get_args

import msgspec
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct

from tableforge.api.problems import PROBLEM_TYPE, TITLES, Internal, Misdirected, Problem
from tableforge.domain.commands import Command
from tableforge.errors import (
    Conflict,
    Forbidden,
    Gone,
    Malformed,
    NotFound,
    TableForgeError,
    TooLarge,
    TooMany,
    Unauthorized,
    Unavailable,
)

REFERENCE = "#/components/schemas/{name}"
JSON = "application/json"
MULTIPART = "multipart/form-data"
DOCUMENTED = "documented"

Refusals = tuple[type[TableForgeError], ...]

ANYWHERE: Refusals = (Misdirected, Internal, Unavailable)
"""What any call may be refused with, whatever it asks for."""
CHANGES: Refusals = (Malformed, Forbidden, TooLarge)
"""What any call that changes something may be refused with: a body that is none, a page of somebody else's."""


class Documented(Struct, frozen=True, kw_only=True):
    """What a route takes and gives.

    `takes` is the type of its JSON body, or the media type of another. `gives` maps the status of each good answer to its
    type, to a media type for what is not JSON, or to None for no body.
    """

    gives: Mapping[int, Any]
    takes: Any = None
    query: type[Struct] | None = None
    refuses: Refusals = ()
    session: bool = True
    tag: str = "room"


def documented(**said: Any) -> dict[str, Any]:
    """The options of a route handler that put it into the document."""
    return {DOCUMENTED: Documented(**said)}


def routes_of(app: Litestar) -> Iterable[tuple[str, str, HTTPRouteHandler, Documented]]:
    """Every documented route: its path, method, handler and what was said of it."""
    for route in sorted(app.routes, key=lambda one: one.path):
        for handler in getattr(route, "route_handlers", []):
            said = handler.opt.get(DOCUMENTED)
            if said is not None:
                for method in sorted(handler.http_methods):
                    yield route.path_format, str(method), handler, said


def openapi(app: Litestar, *, version: str, base_path: str) -> bytes:
    """The whole document as JSON."""
    routes = list(routes_of(app))
    types: list[Any] = [Problem]
    for _, _, _, said in routes:
        types += [one for one in (said.takes, said.query, *said.gives.values()) if is_type(one)]
    unique = list(dict.fromkeys(types))
    schemas, components = msgspec.json.schema_components(unique, ref_template=REFERENCE)
    schema_of = dict(zip(unique, schemas, strict=True))
    for command in get_args(Command):
        components[command.__name__]["required"].remove("room")  # the path names it
    paths: dict[str, dict[str, Any]] = {}
    for path, method, handler, said in routes:
        paths.setdefault(path, {})[method.lower()] = operation(
            path, method, handler, said, schema_of, components
        )
    for query in {said.query for _, _, _, said in routes if said.query is not None}:
        del components[query.__name__]  # its fields stand among the parameters
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "TableForge",
                "version": version,
                "description": "The table's REST interface. Every error is a problem document (RFC 9457).",
            },
            "servers": [{"url": base_path.rstrip("/") or "/"}],
            "paths": paths,
            "components": {
                "schemas": components,
                "securitySchemes": {
                    "bearer": {"type": "http", "scheme": "bearer"},
                },
            },
        }
    )


def is_type(said: Any) -> bool:
    """Whether this names a type with a schema, rather than a media type or nothing."""
    return said is not None and not isinstance(said, str)


def operation(
    path: str,
    method: str,
    handler: HTTPRouteHandler,
    said: Documented,
    schema_of: Mapping[Any, Any],
    components: Mapping[str, Any],
) -> dict[str, Any]:
    """One method of one path."""
    function = handler.fn
    words = inspect.getdoc(function) or ""
    summary, _, rest = words.partition("\n")
    made: dict[str, Any] = {
        "operationId": function.__name__,
        "tags": [said.tag],
        "summary": summary.rstrip("."),
        "responses": dict(answers(said, method, schema_of)),
    }
    if rest.strip():
        made["description"] = rest.strip()
    if said.session:
        made["security"] = [{"bearer": []}]
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in in_braces(path)
    ]
    if said.query is not None:
        parameters += query_parameters(components[said.query.__name__])
    if parameters:
        made["parameters"] = parameters
    if said.takes is not None:
        made["requestBody"] = {
            "required": needs_body(said.takes, components),
            "content": dict([content(said.takes, schema_of)]),
        }
    return made


def needs_body(said: Any, components: Mapping[str, Any]) -> bool:
    """Whether there is nothing to do without a body: where nothing in it has to be said, there is."""
    if isinstance(said, type):
        return bool(components[said.__name__]["required"])
    return True


def in_braces(path: str) -> list[str]:
    """The names of a path's parameters."""
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]


def query_parameters(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The parameters that a query type's fields are."""
    return [
        {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": one}
        for name, one in schema["properties"].items()
    ]


def content(said: Any, schema_of: Mapping[Any, Any]) -> tuple[str, Any]:
    """A body: JSON of a type, a file sent as a form, or bytes of some media type."""
    if is_type(said):
        return JSON, {"schema": schema_of[said]}
    if said == MULTIPART:
        file = {"type": "string", "format": "binary"}
        return said, {
            "schema": {"type": "object", "properties": {"file": file}, "required": ["file"]}
        }
    return said, {"schema": {"type": "string"}}


def answers(
    said: Documented, method: str, schema_of: Mapping[Any, Any]
) -> Iterable[tuple[str, dict[str, Any]]]:
    """The good answers and every refusal that may come instead."""
    for status, given in said.gives.items():
        answer: dict[str, Any] = {"description": HTTPStatus(status).phrase}
        if given is not None:
            answer["content"] = dict([content(given, schema_of)])
        yield str(status), answer
    refused = [*said.refuses, *ANYWHERE]
    if said.session:
        refused.append(Unauthorized)
    if said.query is not None:
        refused.append(Malformed)
    if method != "GET":
        refused += CHANGES
    problem = {PROBLEM_TYPE: {"schema": schema_of[Problem]}}
    by_status: dict[int, set[str]] = {}
    for one in refused:
        by_status.setdefault(one.http_status, set()).add(one.code)
    for status, codes in sorted(by_status.items()):
        words = "; ".join(TITLES[code] for code in sorted(codes))
        yield str(status), {"description": words, "content": problem}


ROOM: Refusals = (NotFound,)
"""What any call to a room may be refused with."""
COMMAND: Refusals = (NotFound, Conflict, TooMany)
"""What any command to a room may be refused with."""
INVITE: Refusals = (NotFound, Gone, Conflict, TooMany)
"""What redeeming an invite may be refused with."""
UPLOAD: Refusals = (TooLarge, TooMany)
"""What any file may be refused with."""
