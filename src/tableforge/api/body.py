"""What requests say, read strictly: the types of the documentation are the ones that decode."""

from typing import TypeVar

import msgspec

from tableforge.api.caller import Caller
from tableforge.errors import Malformed
from tableforge.protocol import codec

BODY_BYTES = 256 * 1024
"""The largest JSON body taken; files have a bound of their own."""

T = TypeVar("T", bound=msgspec.Struct)


def not_understood(error: Exception, what: str) -> Malformed:
    """Say what is wrong with a body or query, and where."""
    return Malformed(
        what, codec.malformed(error, what).why, "Its form stands in /api/openapi.json."
    )


async def decoded(request: Caller, kind: type[T]) -> T:
    """The JSON body as this type; raises Malformed with the path of what is wrong.

    No body counts as an empty object, since several calls need nothing said.
    """
    raw = await request.body()
    try:
        return msgspec.json.decode(raw or b"{}", type=kind)
    except codec.UNREADABLE as error:
        raise not_understood(error, "The body was not understood.") from error


def queried(request: Caller, kind: type[T]) -> T:
    """The query as this type; a name that comes twice counts once, the last time. Raises Malformed."""
    try:
        return msgspec.convert(dict(request.query_params), kind, strict=False)
    except msgspec.MsgspecError as error:
        raise not_understood(error, "The query was not understood.") from error
