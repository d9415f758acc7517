"""A request as the handlers get it, with what the edge found out about it."""

from typing import Any, cast

from litestar import Request

from tableforge.api.edge import PEER, header
from tableforge.api.peers import Peer

BEARER = "bearer "

Caller = Request[Any, Any, Any]


def peer_in(request: Caller) -> Peer:
    """Who asks, as the edge found out."""
    return cast("Peer", cast("dict[str, Any]", request.scope)[PEER])


def bearer_of(request: Caller) -> str:
    """The bearer token of the request; empty if there is none."""
    said = header(request.scope["headers"], b"authorization")
    return said[len(BEARER) :].strip() if said.lower().startswith(BEARER) else ""
