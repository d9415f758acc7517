"""The pages: the web client, and the interface's document as a page. All of it comes from this server alone."""

import html
from typing import Any, Final

import msgspec
from litestar import Response, get
from litestar.params import FromPath

from tableforge.api.caller import Caller, peer_in
from tableforge.api.edge import header
from tableforge.api.house import house_of
from tableforge.api.web_client import INDEX, StaticFile, page_policy


def send_file(request: Caller, file: StaticFile, *, page: bool = False) -> Response[bytes]:
    """Answer with a file, or with 304 where the browser has it."""
    asked = request.scope["headers"]
    headers = {"etag": file.etag, "cache-control": file.caching, "vary": "accept-encoding"}
    if page:
        headers["content-security-policy"] = page_policy(peer_in(request).host)
    if file.etag in header(asked, b"if-none-match"):
        return Response(b"", status_code=304, headers=headers)
    content = file.content
    if file.packed is not None and "gzip" in header(asked, b"accept-encoding"):
        content = file.packed
        headers["content-encoding"] = "gzip"
    return Response(content, media_type=file.media_type, headers=headers)


@get("/")
async def lobby(request: Caller) -> Response[bytes]:
    """The lobby."""
    return send_file(request, house_of(request).client.file(INDEX), page=True)


@get("/r/{room:str}")
async def table(request: Caller, room: FromPath[str]) -> Response[bytes]:
    """The table; the same page for every room, whether or not it exists."""
    return send_file(request, house_of(request).client.file(INDEX), page=True)


@get("/{name:path}")
async def static(request: Caller, name: FromPath[str]) -> Response[bytes]:
    """A file of the web client."""
    return send_file(request, house_of(request).client.file(name.lstrip("/")))


@get("/api/openapi.json")
async def document(request: Caller) -> Response[bytes]:
    """The interface's document."""
    return Response(request.app.state.document, media_type="application/json")


@get("/api/docs")
async def docs(request: Caller) -> Response[bytes]:
    """The interface's document as a page: no script, nothing from elsewhere."""
    return Response(
        docs_page(request.app.state.document),
        media_type="text/html",
        headers={"content-security-policy": page_policy(peer_in(request).host)},
    )


def docs_page(document: bytes) -> bytes:
    """Every call with what it takes and gives, as plain HTML."""
    described: dict[str, Any] = msgspec.json.decode(document)
    rows = []
    for path, methods in described["paths"].items():
        for method, said in methods.items():
            answers = "".join(
                f"<li><code>{status}</code> {html.escape(answer['description'])}</li>"
                for status, answer in said["responses"].items()
            )
            rows.append(
                f"<section><h2><code>{method.upper()} {html.escape(path)}</code></h2>"
                f"<p>{html.escape(said['summary'])}. {html.escape(said.get('description', ''))}</p>"
                f"<ul>{answers}</ul></section>"
            )
    title = html.escape(f"{described['info']['title']} {described['info']['version']}")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{title}: REST interface</title></head>'
        f"<body><h1>{title}: REST interface</h1>"
        f"<p>{html.escape(described['info']['description'])} "
        'The whole of it, with every type: <a href="openapi.json">openapi.json</a>.</p>'
        f"{''.join(rows)}</body></html>"
    ).encode()


ROUTES: Final[list[Any]] = [lobby, table, static, document, docs]
