"""Every failure as an RFC 9457 problem document, those of the framework included."""

from collections.abc import Collection
from http import HTTPStatus
from typing import Any

import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException
from msgspec import Struct

from tableforge.errors import (
    Forbidden,
    Malformed,
    NotFound,
    TableForgeError,
    TooLarge,
    TooMany,
    Unauthorized,
)
from tableforge.protocol import codec

PROBLEM_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5

TITLES = {
    "malformed": "The request was not understood",
    "unauthorized": "Not signed in",
    "forbidden": "Not allowed",
    "not-found": "Not found",
    "method-not-allowed": "Not done with this address",
    "gone": "No longer there",
    "locked": "Locked",
    "conflict": "Not possible now",
    "nothing-to-undo": "Nothing to undo",
    "changed-since": "Changed since",
    "idempotency-mismatch": "Command id used before",
    "not-enough-cards": "Not enough cards",
    "too-large": "Too large",
    "misdirected": "Wrong host",
    "too-many": "Too many requests",
    "internal": "The server failed",
    "draining": "The server is stopping",
    "unavailable": "Not available now",
}


class Problem(Struct, frozen=True):
    """A problem document; `detail` joins what, why and mend, which also stand alone for clients that lay them out."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    what: str
    why: str
    mend: str


class MethodNotAllowed(TableForgeError):
    """The address is there, but not for this method."""

    code = "method-not-allowed"
    http_status = 405


class Misdirected(TableForgeError):
    """The request is for a host that this server does not answer for."""

    code = "misdirected"
    http_status = 421


class Internal(TableForgeError):
    """A mistake in the program; its log has the details, the caller gets none."""

    code = "internal"
    http_status = 500


log = structlog.get_logger(__name__)


def problem_of(error: TableForgeError) -> Problem:
    """The document that tells this error."""
    return Problem(
        type=f"/problems/{error.code}",
        title=TITLES.get(error.code, HTTPStatus(error.http_status).phrase),
        status=error.http_status,
        detail=error.detail,
        code=error.code,
        what=error.what,
        why=error.why,
        mend=error.mend,
    )


def headers_of(error: TableForgeError) -> dict[str, str]:
    """What HTTP wants said beside the document."""
    if error.http_status == HTTPStatus.UNAUTHORIZED:
        return {"www-authenticate": "Bearer"}
    if error.http_status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        return {"retry-after": str(RETRY_AFTER_SECONDS)}
    return {}


def from_framework(error: HTTPException, path: str) -> TableForgeError:
    """Say in our words what the framework refused."""
    match error.status_code:
        case HTTPStatus.NOT_FOUND:
            return NotFound(
                f"There is nothing at {path}.", "", "Look at /api/openapi.json for what is there."
            )
        case HTTPStatus.METHOD_NOT_ALLOWED:
            return MethodNotAllowed(
                f"{path} does not take this method.",
                "",
                "The Allow header names those that it takes.",
            )
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return TooLarge(
                "The request was not read.", "Its body is larger than this address takes."
            )
        case HTTPStatus.UNAUTHORIZED:
            return Unauthorized("You are not signed in.")
        case HTTPStatus.FORBIDDEN:
            return Forbidden("This is not allowed.")
        case HTTPStatus.TOO_MANY_REQUESTS:
            return TooMany("Too many requests came in a short time.")
        case status if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return Malformed("The request was not understood.", str(error.detail))
        case _:
            return failed()


def allow(methods: Collection[str]) -> str:
    """The Allow header of an address: whatever gives a body on GET is also asked by HEAD."""
    return ", ".join(sorted({*methods, *(("HEAD",) if "GET" in methods else ())}))


def failed() -> Internal:
    """What is told of a mistake in the program: nothing but that it happened."""
    return Internal(
        "The request was not carried out.",
        "The server made a mistake.",
        "Try again; if it happens again, the server's log tells its operator why.",
    )


def answer_problem(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Litestar's exception handler for every error there is."""
    extra: dict[str, str] = {}
    match error:
        case TableForgeError():
            told: TableForgeError = error
        case HTTPException():
            told = from_framework(error, request.scope["path"])
            allowed = (error.headers or {}).get("allow")
            extra = {"allow": allow(allowed.split(", "))} if allowed else {}
        case _:
            told = failed()
    if isinstance(told, Internal):
        log.error("request_failed", path=request.scope.get("path_template"), exc_info=error)
    return Response(
        codec.encode(problem_of(told)),
        status_code=told.http_status,
        media_type=PROBLEM_TYPE,
        headers={**headers_of(told), **extra},
    )
