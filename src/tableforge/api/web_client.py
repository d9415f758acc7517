"""The built web client in memory, as it is sent, and what its pages may do in a browser."""

import gzip
import hashlib
import html
import mimetypes
import re
from pathlib import Path
from typing import Final

from msgspec import Struct

from tableforge.errors import NotFound, Unavailable

INDEX: Final = "index.html"
NEVER: Final = -1
BASE_TAG: Final = re.compile(rb'<base href="[^"]*"\s*/?>')
HASHED: Final = re.compile(r"-[A-Za-z0-9_-]{8}\.[a-z0-9]+$")
"""How Vite writes the digest of a file's content into its name."""

FOR_EVER = "public, max-age=31536000, immutable"
ASK_AGAIN = "no-cache"
COMPRESSIBLE = ("text/", "application/json", "image/svg+xml")
SMALLEST_COMPRESSED_BYTES = 1024
TYPES = {
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
    ".webmanifest": "application/manifest+json",
    ".map": "application/json",
}
SAFE_HOST: Final = re.compile(r"[a-z0-9.:\[\]_-]+")


class StaticFile(Struct, frozen=True):
    """A file as it is sent; `packed` is its gzip form where that is worth it."""

    content: bytes
    packed: bytes | None
    media_type: str
    etag: str
    caching: str


def static_file(name: str, content: bytes) -> StaticFile:
    """Make a file ready to be sent."""
    suffix = Path(name).suffix
    media_type = TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    worth = media_type.startswith(COMPRESSIBLE) and len(content) >= SMALLEST_COMPRESSED_BYTES
    return StaticFile(
        content,
        gzip.compress(content, 6, mtime=0) if worth else None,
        media_type,
        f'"{hashlib.sha256(content).hexdigest()[:32]}"',
        FOR_EVER if HASHED.search(name) else ASK_AGAIN,
    )


class WebClient:
    """The built client in memory, read anew when a build has replaced it."""

    def __init__(self, folder: Path, base_path: str) -> None:
        self._folder = folder
        self._base_tag = f'<base href="{html.escape(base_path)}" />'.encode()
        self._read_at = NEVER
        self._files: dict[str, StaticFile] = {}

    def file(self, name: str) -> StaticFile:
        """One file by its path below the client's folder.

        Raises NotFound, or Unavailable when the client was not built.
        """
        if not self._refresh() and name == INDEX:
            raise Unavailable(
                "The web client is not here.",
                "It was not built into this installation.",
                "Run `make run` in the source tree, or install the package with `pip install .`.",
            )
        found = self._files.get(name)
        if found is None:
            raise NotFound(f"There is nothing at /{name}.")
        return found

    def _refresh(self) -> bool:
        """Look whether a build took place; returns whether there is a client at all."""
        index = self._folder / INDEX
        try:
            changed_at = index.stat().st_mtime_ns
        except OSError:
            self._files.clear()
            self._read_at = NEVER
            return False
        if changed_at == self._read_at:
            return True
        files = {}
        for path in sorted(self._folder.rglob("*")):
            if path.is_file():
                name = path.relative_to(self._folder).as_posix()
                files[name] = static_file(name, path.read_bytes())
        page = BASE_TAG.sub(lambda _: self._base_tag, index.read_bytes(), count=1)
        files[INDEX] = static_file(INDEX, page)
        self._files, self._read_at = files, changed_at
        return True


def page_policy(host: str) -> str:
    """What a page may do; Safari does not count a WebSocket of the same host as 'self', so it is named."""
    sockets = f" ws://{host} wss://{host}" if SAFE_HOST.fullmatch(host) else ""
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "style-src-attr 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self'",
            f"connect-src 'self'{sockets}",
            "worker-src 'self'",
            "manifest-src 'self'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )
