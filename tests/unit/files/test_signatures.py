"""A file is what its first bytes are."""

import pytest

from tableforge.errors import Malformed
from tableforge.files.signatures import describe, recognise


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"", "empty"),
        (b"PK\x03\x04rest", "a ZIP archive"),
        (b"GIF89a", "a GIF picture"),
        (b"  <!DOCTYPE html><p>", "an HTML page"),
        (b"<script>alert(1)</script>", "an HTML page"),
        (b"<html><body><svg></svg>", "an SVG drawing, which can carry scripts"),
        (b"\xef\xbb\xbf<?xml version='1.0'?><svg>", "an SVG drawing, which can carry scripts"),
        (b"<?xml version='1.0'?><deck>", "an XML text"),
        (b'{"a": 1}', "a JSON object"),
        (b"[1]", "a JSON list"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC picture"),
        (b"\0\0\0\x18ftypavis\0\0\0\0msf1miaf", "an AVIF film"),
        (b"%PDF-1.7\n", "something like “Adobe Portable Document Format file”"),
        (b"hello world", "of no known kind"),
    ],
)  # fmt: skip
def test_fi1_what_is_refused_is_called_by_its_name(head: bytes, words: str) -> None:
    assert describe(head) == words
    with pytest.raises(Malformed) as refusal:
        recognise(head)
    assert words in refusal.value.why


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        (b"\0\0\0\x1cftypavif\0\0\0\0mif1avifmiaf", "image/avif"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0miafavifmif1", "image/avif"),
    ],
)
def test_fi1_the_four_kinds_are_recognised(head: bytes, kind: str) -> None:
    assert recognise(head) == kind
