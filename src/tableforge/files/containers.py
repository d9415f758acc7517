"""The frames around the pixels of PNG, JPEG and WebP: read for their size, rewritten without metadata.

The compressed pixels are copied as they are, so that nothing is lost or grows; what the frame says of the photographer,
the place and the program is left out, and so is all that follows the picture's end. Colour profiles stay: without
them colours would shift. All of it is slicing: the work is proportional to the file's bytes, whatever it claims.
"""

import re
import struct
import zlib
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from tableforge.errors import Malformed, TooLarge
from tableforge.files import MEBIBYTE, NOT_TAKEN, PictureKind

CheckSize = Callable[[int, int], None]
"""Called with width and height as soon as the header tells them; raises when they pass the limits."""

PROFILE_BYTES: Final = MEBIBYTE
TEXT_BYTES: Final = MEBIBYTE
PNG_CHUNKS: Final = 200_000
JPEG_SCANS: Final = 100

SAVE_AGAIN: Final = "Open it in an image program and save it again."


class Stripped(Struct, frozen=True):
    """A picture's frame as read, and the pieces of the file without its metadata.

    `decode_bytes` is the memory that decoding takes; `exif` the block, left out of the pieces, that
    may say how the picture must be turned; `on_its_side` that the format itself says so, and viewers do it.
    """

    kind: PictureKind
    width: int
    height: int
    decode_bytes: int
    pieces: list[memoryview | bytes]
    exif: bytes | None = None
    lossless: bool = True
    on_its_side: bool = False


def damaged(kind: str, why: str) -> Malformed:
    """Refuse a picture whose frame does not hold together."""
    return Malformed(NOT_TAKEN, f"The {kind} is damaged: {why}.", SAVE_AGAIN)


def cut_off(kind: str, why: str) -> Malformed:
    """Refuse a picture that ends too early."""
    return Malformed(
        NOT_TAKEN, f"The {kind} is cut off: {why}.", "Download or export it again, to its end."
    )


def animated(kind: str) -> Malformed:
    """Refuse a film: only still pictures lie on a table."""
    return Malformed(
        NOT_TAKEN, f"The {kind} is animated, and only still pictures are taken.", "Send one frame."
    )


# PNG

_PNG_KEPT = {
    b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"cHRM", b"gAMA", b"sRGB", b"iCCP", b"sBIT", b"cICP",
}  # fmt: skip
_PNG_BYTES_A_PIXEL = {0: 2, 2: 4, 3: 1, 4: 4, 6: 4}  # by colour type, as Pillow holds it


def strip_png(data: memoryview, check_size: CheckSize) -> Stripped:
    """Read and rewrite a PNG; text that unpacks beyond measure is a bomb and refused."""
    pieces: list[memoryview | bytes] = [data[:8]]
    width = height = colour = 0
    exif: bytes | None = None
    pixels = False
    at = 8
    for _ in range(PNG_CHUNKS):
        name, body, end = _png_chunk(data, at)
        if (name == b"IHDR") != (at == 8):
            raise damaged("PNG", "its header IHDR is not where it belongs")
        if name == b"IHDR":
            width, height, colour = _png_header(body)
            check_size(width, height)
        elif name == b"acTL":
            raise animated("PNG")
        elif name == b"eXIf":
            exif = bytes(body)
        elif name in (b"zTXt", b"iTXt", b"iCCP"):
            _refuse_bomb(name.decode(), bytes(body))
        if name in _PNG_KEPT:
            pieces.append(data[at:end])
        elif not name[0] & 0x20:
            raise damaged("PNG", f"it has an unknown critical chunk {name.decode()}")
        pixels = pixels or name == b"IDAT"
        if name == b"IEND":
            break
        at = end
    else:
        raise TooLarge(NOT_TAKEN, f"The PNG has more than {PNG_CHUNKS} chunks.", SAVE_AGAIN)
    if not pixels:
        raise damaged("PNG", "it has no pixels (IDAT)")
    return Stripped(
        "image/png", width, height, width * height * _PNG_BYTES_A_PIXEL[colour], pieces, exif
    )


def _png_chunk(data: memoryview, at: int) -> tuple[bytes, memoryview, int]:
    if at + 12 > len(data):
        raise cut_off("PNG", "its end IEND is missing")
    length, name = struct.unpack_from(">I4s", data, at)
    end = at + 12 + length
    if not name.isalpha() or not name.isascii():
        raise damaged("PNG", f"there is no chunk at byte {at}")
    if end > len(data):
        missing = end - len(data)
        raise cut_off("PNG", f"{missing} bytes of its chunk {name.decode()} are missing")
    if zlib.crc32(data[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
        raise damaged("PNG", f"the checksum of its chunk {name.decode()} is wrong")
    return name, data[at + 8 : end - 4], end


def _png_header(body: memoryview) -> tuple[int, int, int]:
    if len(body) != 13:
        raise damaged("PNG", "its header IHDR has the wrong length")
    width, height, _, colour = struct.unpack_from(">IIBB", body)
    if colour not in _PNG_BYTES_A_PIXEL:
        raise damaged("PNG", f"its header IHDR names an unknown colour type {colour}")
    return width, height, colour


def _refuse_bomb(name: str, body: bytes) -> None:
    """Unpack the compressed part of a chunk as far as the bound and no further."""
    rest = body.partition(b"\0")[2]
    if name == "iTXt":
        if rest[:1] != b"\x01":
            return  # not compressed
        rest = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    else:
        rest = rest[1:]
    unpacker = zlib.decompressobj()
    try:
        unpacker.decompress(rest, TEXT_BYTES)
    except zlib.error as error:
        raise damaged("PNG", f"its chunk {name} does not unpack") from error
    if unpacker.unconsumed_tail:
        raise Malformed(
            NOT_TAKEN,
            f"The PNG's chunk {name} unpacks to more than {TEXT_BYTES} bytes.",
            SAVE_AGAIN,
        )


# JPEG

_JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_JPEG_TABLES = {0xC4, 0xDB, 0xDD}  # Huffman, quantisation, restart interval
_JPEG_SHOWN = {0xC0: "baseline", 0xC1: "extended", 0xC2: "progressive"}
_JPEG_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JFIF = b"\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"


class _Jpeg(Struct):
    """What the walk through the segments has found so far."""

    width: int = 0
    height: int = 0
    coefficients: float = 0.0
    scans: int = 0
    profile: int = 0
    exif: bytes | None = None


def strip_jpeg(data: memoryview, check_size: CheckSize) -> Stripped:
    """Read and rewrite a JPEG, keeping its compressed pixels, tables and colour profile."""
    pieces: list[memoryview | bytes] = [data[:2]]
    seen = _Jpeg()
    at = 2
    while True:
        if at + 2 > len(data):
            raise cut_off("JPEG", "its end marker EOI is missing")
        if data[at] != 0xFF:
            raise damaged("JPEG", f"there is no marker at byte {at}")
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker == 0xD9:
            pieces.append(b"\xff\xd9")
            break
        end = _jpeg_segment_end(data, at, marker)
        if marker == 0xDA:
            end = _jpeg_scan_end(data, end, seen)
            pieces.append(data[at:end])
        elif marker in _JPEG_FRAMES:
            _jpeg_frame(data[at + 4 : end], marker, seen)
            check_size(seen.width, seen.height)
            pieces.append(data[at:end])
        elif marker in _JPEG_TABLES:
            pieces.append(data[at:end])
        elif 0xE0 <= marker <= 0xEF:
            pieces.extend(_jpeg_application(data[at:end], marker, seen))
        elif marker != 0xFE:
            raise damaged("JPEG", f"it has an unknown marker {marker:02X} at byte {at}")
        at = end
    if not seen.scans:
        raise damaged("JPEG", "it has no pixels (SOS)")
    # Several scans are gathered as coefficients before the first pixel can be made; one scan is read row by row.
    held = seen.coefficients if seen.scans > 1 else 0.0
    return Stripped(
        "image/jpeg",
        seen.width,
        seen.height,
        int(seen.width * seen.height * held),
        pieces,
        seen.exif,
        lossless=False,
    )


def _jpeg_segment_end(data: memoryview, at: int, marker: int) -> int:
    if at + 4 > len(data):
        raise cut_off("JPEG", "its end marker EOI is missing")
    (length,) = struct.unpack_from(">H", data, at + 2)
    end: int = at + 2 + length
    if length < 2 or marker < 0xC0 or 0xD0 <= marker <= 0xD8:
        raise damaged("JPEG", f"there is no segment at byte {at}")
    if end > len(data):
        raise cut_off("JPEG", f"{end - len(data)} bytes of its segment {marker:02X} are missing")
    return end


def _jpeg_scan_end(data: memoryview, start: int, seen: _Jpeg) -> int:
    seen.scans += 1
    if not seen.width:
        raise damaged("JPEG", "its pixels come before its header SOF")
    if seen.scans > JPEG_SCANS:
        raise TooLarge(NOT_TAKEN, f"The JPEG has more than {JPEG_SCANS} scans.", SAVE_AGAIN)
    found = _JPEG_MARKER.search(data, start)
    if found is None:
        raise cut_off("JPEG", "its end marker EOI is missing")
    return found.start()


def _jpeg_frame(body: memoryview, marker: int, seen: _Jpeg) -> None:
    if marker not in _JPEG_SHOWN:
        raise Malformed(NOT_TAKEN, "It is a kind of JPEG that browsers cannot show.", SAVE_AGAIN)
    if seen.width:
        raise damaged("JPEG", "it has two headers SOF")
    if len(body) < 6 or len(body) < 6 + 3 * body[5]:
        raise damaged("JPEG", "its header SOF is too short")
    _, seen.height, seen.width, components = struct.unpack_from(">BHHB", body)
    factors = [divmod(body[7 + 3 * index], 16) for index in range(components)]
    if not factors or not all(1 <= h <= 4 and 1 <= v <= 4 for h, v in factors):
        raise damaged("JPEG", "its header SOF names impossible components")
    widest, tallest = max(h for h, _ in factors), max(v for _, v in factors)
    seen.coefficients = 2 * sum(h * v for h, v in factors) / (widest * tallest)


def _jpeg_application(
    segment: memoryview, marker: int, seen: _Jpeg
) -> tuple[memoryview | bytes, ...]:
    """Keep of the programs' own segments what the pixels need: which file it is, its colours, its transform."""
    body = segment[4:]
    if marker == 0xE0 and bytes(body[:5]) == b"JFIF\0":
        return (_JFIF,)
    if marker == 0xE1 and bytes(body[:6]) == b"Exif\0\0" and seen.exif is None:
        seen.exif = bytes(body[6:])
    if marker == 0xE2 and bytes(body[:12]) == b"ICC_PROFILE\0":
        seen.profile += len(body)
        if seen.profile > PROFILE_BYTES:
            raise TooLarge(
                NOT_TAKEN, f"The JPEG's colour profile is over {PROFILE_BYTES} bytes.", SAVE_AGAIN
            )
        return (segment,)
    if marker == 0xEE and bytes(body[:5]) == b"Adobe" and len(body) >= 12:
        return (b"\xff\xee\x00\x0e" + bytes(body[:12]),)
    return ()


# WebP

_WEBP_HEADERS = {b"VP8X", b"VP8 ", b"VP8L"}
_WEBP_KEPT = {b"VP8 ", b"VP8L", b"ALPH", b"ICCP"}
_WEBP_ANIMATED, _WEBP_ALPHA, _WEBP_PROFILE = 0x02, 0x10, 0x20
_WEBP_BYTES_A_PIXEL = (
    17  # the animation decoder's two canvases, its output, Pillow's copy; measured
)


def strip_webp(data: memoryview, check_size: CheckSize) -> Stripped:
    """Read and rewrite a still WebP."""
    size = int.from_bytes(data[4:8], "little") + 8
    if size > len(data):
        raise cut_off("WebP", f"{size - len(data)} bytes are missing")
    pieces: list[memoryview | bytes] = []
    width = height = 0
    lossless = pixels = profile = False
    at, first = 12, True
    while at < size and not pixels:
        name, body, end = _webp_chunk(data[:size], at)
        if (name not in _WEBP_HEADERS) if first else (name == b"VP8X"):
            raise damaged("WebP", "its header is not where it belongs")
        if name in _WEBP_HEADERS:
            width, height = _webp_size(name, body)
            check_size(width, height)
        if name in (b"ANIM", b"ANMF") or (name == b"VP8X" and body[0] & _WEBP_ANIMATED):
            raise animated("WebP")
        if name == b"ICCP":
            profile = len(body) <= PROFILE_BYTES
        if name == b"VP8X":
            pieces.append(bytes(data[at : at + 18]))
        elif name in _WEBP_KEPT and (name != b"ICCP" or profile):
            pieces.append(data[at:end])
        lossless = name == b"VP8L"
        pixels = name in (b"VP8 ", b"VP8L")
        at, first = end, False
    if not pixels:
        raise damaged("WebP", "it has no pixels (VP8 or VP8L)")
    _webp_flags(pieces, profile=profile)
    length = 4 + sum(len(piece) for piece in pieces)
    pieces.insert(0, b"RIFF" + struct.pack("<I", length) + b"WEBP")
    decode_bytes = width * height * _WEBP_BYTES_A_PIXEL
    return Stripped(
        "image/webp", width, height, decode_bytes, pieces, _webp_exif(data[:size], at), lossless
    )


def _webp_chunk(data: memoryview, at: int) -> tuple[bytes, memoryview, int]:
    if at + 8 > len(data):
        raise cut_off("WebP", "a chunk's header is missing")
    name, length = struct.unpack_from("<4sI", data, at)
    end = at + 8 + length + (length & 1)
    if end > len(data):
        raise cut_off("WebP", f"{end - len(data)} bytes of the chunk at byte {at} are missing")
    return name, data[at + 8 : at + 8 + length], end


def _webp_size(name: bytes, body: memoryview) -> tuple[int, int]:
    if len(body) < 10:
        raise damaged("WebP", "its header is too short")
    if name == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if name == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", body, 6)
    return width & 0x3FFF, height & 0x3FFF


def _webp_flags(pieces: list[memoryview | bytes], *, profile: bool) -> None:
    """Let the extended header promise only what is still there."""
    header = bytes(pieces[0])
    if header[:4] != b"VP8X":
        return
    flags = header[8] & _WEBP_ALPHA | (_WEBP_PROFILE if profile else 0)
    pieces[0] = b"VP8X" + struct.pack("<IB", 10, flags) + bytes(3) + header[12:18]


def _webp_exif(data: memoryview, at: int) -> bytes | None:
    """Find the block that says how the picture must be turned among the chunks behind the pixels."""
    while at < len(data):
        name, body, at = _webp_chunk(data, at)
        if name == b"EXIF":
            return bytes(body).removeprefix(b"Exif\0\0")
    return None
