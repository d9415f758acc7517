"""What a file really is, by its first bytes; its name and its sender's word count for nothing."""

import re
from typing import Final

import puremagic

from tableforge.errors import Malformed
from tableforge.files import NOT_TAKEN, PictureKind

HEAD_BYTES: Final = 4096
"""How much of a file is enough to tell."""

ACCEPTED: Final = "PNG, JPEG, WebP or AVIF"

_UNKNOWN: Final = "of no known kind"
_SURE_ENOUGH: Final = 0.4

_MARKUP = re.compile(rb"<(!doctype\s+html|html|head|body|script|svg|\?xml)\b", re.IGNORECASE)
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis")


def recognise(head: bytes) -> PictureKind:
    """Tell which of the accepted kinds of picture begins like this.

    Raises Malformed naming what it is instead.
    """
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[4:8] == b"ftyp" and b"avif" in _brands(head):
        return "image/avif"
    why = f"It is {describe(head)}, and only pictures as {ACCEPTED} are taken."
    raise Malformed(NOT_TAKEN, why, "Save it as one of these.")


def describe(head: bytes) -> str:
    """Name in words what begins like this, for a refusal: "a ZIP archive", "an HTML page"."""
    if not head:
        return "empty"
    for test, words in (
        (head.startswith(b"\x89PNG\r\n\x1a\n"), "a PNG picture"),
        (head.startswith(b"\xff\xd8\xff"), "a JPEG picture"),
        (head[:4] == b"RIFF" and head[8:12] == b"WEBP", "a WebP picture"),
        (head[4:8] == b"ftyp" and b"avif" in _brands(head), "an AVIF picture"),
        (head[4:8] == b"ftyp" and b"avis" in _brands(head), "an AVIF film"),
        (head[4:8] == b"ftyp" and _brands(head).startswith(_HEIF_BRANDS), "a HEIC picture"),
        (head[:4] == b"GIF8", "a GIF picture"),
        (head[:4] in (b"PK\x03\x04", b"PK\x05\x06"), "a ZIP archive"),
    ):
        if test:
            return words
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if markup := _markup(text):
        return markup
    if text.startswith((b"{", b"[")):
        return "a JSON object" if text.startswith(b"{") else "a JSON list"
    return _by_puremagic(head)


def _brands(head: bytes) -> bytes:
    """All brands that an ISO media file claims, the major one first."""
    size = min(int.from_bytes(head[:4], "big"), len(head))
    return head[8:12] + head[16:size]


def _markup(text: bytes) -> str | None:
    if not text.startswith(b"<"):
        return None
    names = {found.lower().split()[0] for found in _MARKUP.findall(text)}
    if b"svg" in names:
        return "an SVG drawing, which can carry scripts"
    if names - {b"?xml"}:
        return "an HTML page"
    return "an XML text"


def _by_puremagic(head: bytes) -> str:
    try:
        best = puremagic.magic_string(head)[0]
    except (puremagic.PureError, ValueError):
        return _UNKNOWN
    return f"something like “{best.name}”" if best.confidence >= _SURE_ENOUGH else _UNKNOWN
