"""The outermost layer: what holds for every HTTP request, whatever it asks for.

It stands outside the framework, so that answers the framework makes by itself pass through it as well: sub-path, proxies,
host check, cross-site check, browser safety headers, timing.
"""

import re
from collections.abc import Awaitable, Callable, MutableMapping
from html import escape
from time import perf_counter
from typing import Any

from tableforge.api.peers import HeaderList, Peer, host_is_served, origin_is_ours, peer_of
from tableforge.api.problems import PROBLEM_TYPE, Misdirected, headers_of, problem_of
from tableforge.config import Settings
from tableforge.errors import Forbidden, TableForgeError
from tableforge.library.sessions import SESSION_COOKIE
from tableforge.protocol import codec
from tableforge.telemetry import REQUESTS

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
READING = frozenset({"GET", "HEAD", "OPTIONS"})
PROBES = frozenset({"/health", "/ready"})
"""Asked by orchestrators under whatever address they know; they tell nothing that a rebound page could use."""

API_POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
UNLESS_SAID = ((b"content-security-policy", API_POLICY.encode()), (b"cache-control", b"no-store"))
PREFLIGHT_SECONDS = 600
HOST_SHOWN = 100
HOST_CHARACTERS = re.compile(r"[^a-z0-9._:-]")
PEER = "tableforge.peer"

Headers = list[tuple[bytes, bytes]]
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
"""The ASGI interface, in plain types."""


def header(headers: HeaderList, name: bytes) -> str:
    """One header of the request; empty if it is not there."""
    return next((value.decode("latin-1") for key, value in headers if key == name), "")


def session_cookie(headers: HeaderList) -> str:
    """The session's token from the cookies; empty if there is none."""
    for key, value in headers:
        if key == b"cookie":
            for part in value.decode("latin-1").split(";"):
                name, _, content = part.strip().partition("=")
                if name == SESSION_COOKIE:
                    return content.strip('"')
    return ""


class Edge:
    """Wraps the framework's application; passes anything but HTTP on untouched."""

    def __init__(self, app: Application, settings: Settings) -> None:
        self._app = app
        self._base = settings.serving.base_path
        self._proxies = settings.access.trusted_proxies
        self._origins = settings.access.allowed_origins
        self._served = settings.served_hosts
        self._metrics_guarded = settings.observing.metrics_token is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = perf_counter()
        path, method = self._below_base(scope["path"]), scope["method"]
        peer = peer_of(
            scope["headers"],
            address=(scope["client"] or ("", 0))[0],
            scheme=scope["scheme"],
            proxies=self._proxies,
        )
        # The server leaves the body out for HEAD by itself.
        asked = "GET" if method == "HEAD" else method
        inner: Scope = {**scope, "root_path": "", "path": path, "method": asked, PEER: peer}
        origin = header(scope["headers"], b"origin")
        extra = self._cross_origin(origin, peer)
        status = 0

        async def send_safely(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = guarded([*message["headers"], *extra])
            await send(message)

        try:
            self._check_host(path, peer)
            if (
                extra
                and method == "OPTIONS"
                and header(scope["headers"], b"access-control-request-method")
            ):
                await send_preflight(send_safely)
                return
            if method not in READING:
                self._check_site(scope["headers"], origin, peer)
            await self._app(inner, receive, send_safely)
        except Misdirected as refusal:
            is_page = method == "GET" and "text/html" in header(scope["headers"], b"accept")
            await (send_page if is_page else send_problem)(send_safely, refusal)
        except TableForgeError as refusal:
            await send_problem(send_safely, refusal)
        finally:
            route = str(inner.get("path_template", "none"))
            known = method if method in METHODS else "other"
            REQUESTS.of(known, route, str(status)).observe(perf_counter() - began)

    def _below_base(self, path: str) -> str:
        """The path below BASE_PATH; a proxy that strips the sub-path itself is understood as well."""
        if path.startswith(self._base):
            return path[len(self._base) - 1 :]
        return "/" if f"{path}/" == self._base else path

    def _check_host(self, path: str, peer: Peer) -> None:
        open_to_all = path in PROBES or (path == "/metrics" and self._metrics_guarded)
        if open_to_all or host_is_served(peer.hostname, self._served):
            return
        asked = shown_host(peer.hostname)
        raise Misdirected(
            "The request was not carried out.",
            f"This server does not answer for the host {asked!r}."
            if asked
            else "The request names no host that could be served.",
            "Open it by a name it knows, or have its operator add this one to ALLOWED_HOSTS.",
        )

    def _check_site(self, headers: HeaderList, origin: str, peer: Peer) -> None:
        """Refuse changes that a page of somebody else's would make in its visitor's name."""
        site = header(headers, b"sec-fetch-site")
        if site == "same-origin":
            return  # no page can write this header: the browser itself says so
        if origin:
            ours = origin_is_ours(origin, peer, self._origins)
        elif site:
            ours = False
        else:
            ours = bool(header(headers, b"authorization")) or not session_cookie(headers)
        if not ours:
            raise Forbidden(
                "Nothing was changed.",
                "It is not certain that the request comes from a page of this server.",
                "Scripts send the token as `Authorization: Bearer`; other pages need ALLOWED_ORIGINS.",
            )

    def _cross_origin(self, origin: str, peer: Peer) -> Headers:
        """What lets pages of the allowed origins read answers; nothing for all others."""
        if origin.lower() not in self._origins:
            return []
        return [
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"access-control-allow-credentials", b"true"),
            (b"vary", b"origin"),
        ]


def shown_host(hostname: str) -> str:
    """What may be repeated of a host that a stranger asked for: the characters of host names, at most 100."""
    return HOST_CHARACTERS.sub("?", hostname[:HOST_SHOWN])


def guarded(headers: Headers) -> Headers:
    """An answer's headers with those that keep browsers from harm."""
    said = {name.lower() for name, _ in headers}
    return [*headers, *ALWAYS, *(pair for pair in UNLESS_SAID if pair[0] not in said)]


async def send_page(send: Send, error: TableForgeError) -> None:
    """Answer a person who opened an address in a browser with the same words as a plain page."""
    text = "".join(f"<p>{escape(part)}</p>" for part in (error.what, error.why, error.mend) if part)
    body = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>TableForge</title></head>'
        f"<body>{text}</body></html>"
    ).encode()
    raw = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", str(len(body)).encode("ascii")),
    ]
    await send({"type": "http.response.start", "status": error.http_status, "headers": raw})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def send_problem(send: Send, error: TableForgeError) -> None:
    """Answer with a problem document without the framework's help."""
    body = codec.encode(problem_of(error))
    headers = {"content-type": PROBLEM_TYPE, "content-length": str(len(body)), **headers_of(error)}
    raw = [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.http_status, "headers": raw})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def send_preflight(send: Send) -> None:
    """Tell a browser that a page of an allowed origin may send what it is about to."""
    headers = [
        (b"access-control-allow-methods", b"GET, POST, PATCH, DELETE"),
        (b"access-control-allow-headers", b"authorization, content-type"),
        (b"access-control-max-age", str(PREFLIGHT_SECONDS).encode("ascii")),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
