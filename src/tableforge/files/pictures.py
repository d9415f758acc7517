"""Making a stranger's picture safe to serve: the part that decodes, so it runs in the bounded child only.

The frame is read and rewritten first (`containers`, `avif`), and the result is what Pillow must decode to its end: what
was proven is byte for byte what is served. Only a picture that its EXIF block turns is encoded anew.
"""

import hashlib
import mmap
from pathlib import Path
from typing import Any, Final

from PIL import AvifImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from tableforge.errors import Malformed, TooLarge
from tableforge.files import MEBIBYTE, NOT_TAKEN, Limits, PictureKind
from tableforge.files.avif import strip_avif
from tableforge.files.containers import (
    Stripped,
    damaged,
    strip_jpeg,
    strip_png,
    strip_webp,
)
from tableforge.files.orders import Picture
from tableforge.files.signatures import HEAD_BYTES, recognise

_STRIPS: Final = {
    "image/png": strip_png,
    "image/jpeg": strip_jpeg,
    "image/webp": strip_webp,
    "image/avif": strip_avif,
}
_DECODERS: Final[dict[PictureKind, type[ImageFile.ImageFile]]] = {
    "image/png": PngImagePlugin.PngImageFile,
    "image/jpeg": JpegImagePlugin.JpegImageFile,
    "image/webp": WebPImagePlugin.WebPImageFile,
    "image/avif": AvifImagePlugin.AvifImageFile,
}
_WORDS: Final[dict[PictureKind, str]] = {
    "image/png": "PNG",
    "image/jpeg": "JPEG",
    "image/webp": "WebP",
    "image/avif": "AVIF",
}
_INTERPRETER_BYTES: Final = 96 * MEBIBYTE
"""Address space of the child beside file and pixels: Python, Pillow's libraries, a thumbnail."""

_COPIES_OF_FILE: Final = 4
_BAND_PIXELS: Final = MEBIBYTE
_PROFILE_IN_THUMBNAIL: Final = 16 * 1024

_ORIENTATION: Final = 0x0112
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS: Final = (5, 6, 7, 8)


def contents(source: Path, limits: Limits) -> memoryview:
    """The file as it lies on the disk, unless it is empty or over the limit."""
    size = source.stat().st_size
    if not size:
        raise Malformed(NOT_TAKEN, "It is empty.", "Choose the file again.")
    if size > limits.max_bytes:
        why = f"It has {size} bytes, and at most {limits.max_bytes} are taken."
        raise TooLarge(NOT_TAKEN, why, "Save it smaller, for example as WebP.")
    with source.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def clean(source: Path, target: Path, thumbnail: Path, limits: Limits) -> Picture:
    """Write a proven copy of the picture without metadata to `target`, and its thumbnail.

    Raises Malformed or TooLarge, and OSError with its `errno` where the disk refuses.
    """
    data = contents(source, limits)
    kind = recognise(bytes(data[:HEAD_BYTES]))
    stripped = _strip(kind, data, limits)
    orientation = _orientation(stripped.exif)
    _check_memory(stripped, len(data), limits, turned=orientation in _TURNS)
    with target.open("wb") as file:
        file.writelines(stripped.pieces)
    stripped.pieces.clear()
    width, height = stripped.width, stripped.height
    if orientation in _TURNS:
        _turn(target, stripped, orientation)
        width, height = (height, width) if orientation in _SIDEWAYS else (width, height)
    _write_thumbnail(target, thumbnail, kind, (width, height), limits.thumbnail_px)
    if stripped.on_its_side:
        width, height = height, width
    with target.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Picture(digest, kind, width, height, target.stat().st_size)


def _strip(kind: PictureKind, data: memoryview, limits: Limits) -> Stripped:
    def check_size(width: int, height: int) -> None:
        if not width or not height:
            raise damaged(_WORDS[kind], f"its header says {width} × {height} pixels")
        if width * height > limits.max_pixels or max(width, height) > limits.max_side:
            raise TooLarge(
                NOT_TAKEN,
                f"Its width and height are {width} × {height}; at most {limits.max_pixels} pixels in all "
                f"and {limits.max_side} along a side are taken.",
                "Scale it down.",
            )

    return _STRIPS[kind](data, check_size)


def _orientation(exif: bytes | None) -> int:
    """How the picture must be turned to stand upright; 1 where nothing legible says so."""
    if not exif:
        return 1
    block = Image.Exif()
    try:
        block.load(exif)
        return int(block.get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - whatever is wrong with it, the block is left out anyway
        return 1


def _check_memory(stripped: Stripped, file_bytes: int, limits: Limits, *, turned: bool) -> None:
    needed = _INTERPRETER_BYTES + _COPIES_OF_FILE * file_bytes + stripped.decode_bytes
    if turned:
        needed += 8 * stripped.width * stripped.height
    if needed > limits.memory_bytes:
        word = _WORDS[stripped.kind]
        raise TooLarge(
            NOT_TAKEN,
            f"Opening a {word} of {stripped.width} × {stripped.height} takes {needed // MEBIBYTE} MiB of memory, "
            f"and {limits.memory_bytes // MEBIBYTE} are allowed.",
            "Scale it down, or save it upright as a plain JPEG or PNG.",
        )


def _decode(path: Path, kind: PictureKind, size: tuple[int, int], long_edge: int) -> Image.Image:
    """Decode the whole file; a JPEG into fewer pixels where `long_edge` needs no more."""
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    try:
        with path.open("rb") as file:
            image = _DECODERS[kind](file)
            if image.size != size:
                raise ValueError(f"the header says {size}, the pixels {image.size}")
            if kind == "image/jpeg" and long_edge:
                scale = max(1, max(size) // long_edge)
                image.draft(image.mode, (max(1, size[0] // scale), max(1, size[1] // scale)))
            image.load()
    except MemoryError as error:
        raise TooLarge(NOT_TAKEN, "Its pixels take too much memory.", "Scale it down.") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's fault
        raise damaged(_WORDS[kind], f"its pixels do not decode to the end ({error})") from error
    return image


def _turn(path: Path, stripped: Stripped, orientation: int) -> None:
    """Encode the picture anew as it is meant to be seen, since nothing will say so any more."""
    kind = stripped.kind
    image = _decode(path, kind, (stripped.width, stripped.height), 0)
    options: dict[str, Any] = {"icc_profile": image.info.get("icc_profile")}
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        options["qtables"] = image.quantization
        options["subsampling"] = JpegImagePlugin.get_sampling(image)
    elif kind == "image/webp":
        options |= {"lossless": stripped.lossless, "exact": True, "quality": 90}
    upright = image.transpose(_TURNS[orientation])
    del image
    upright.save(path, format=_WORDS[kind].upper(), **options)


def _write_thumbnail(
    path: Path, thumbnail: Path, kind: PictureKind, size: tuple[int, int], long_edge: int
) -> None:
    """Decode the file to its end and write a small WebP of it."""
    image = _decode(path, kind, size, long_edge)
    turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))  # what an AVIF itself asks for
    profile = image.info.get("icc_profile") or b""
    small = _reduced(image, long_edge)
    del image
    small.thumbnail((long_edge, long_edge), Image.Resampling.LANCZOS)
    if turn is not None:
        small = small.transpose(turn)
    if len(profile) > _PROFILE_IN_THUMBNAIL:
        profile = b""
    small.save(thumbnail, format="WEBP", quality=80, icc_profile=profile)


def _reduced(image: Image.Image, long_edge: int) -> Image.Image:
    """Shrink by a whole factor, not below `long_edge`, band by band: no second copy of a large picture is made."""
    mode = "RGBA" if image.has_transparency_data else "RGB"
    factor = max(1, max(image.size) // long_edge)
    small = Image.new(mode, (-(-image.width // factor), -(-image.height // factor)))
    rows = factor * max(1, _BAND_PIXELS // (image.width * factor))
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        if band.mode.startswith("I"):
            band = band.point(lambda level: level / 256).convert("L")
        small.paste(band.convert(mode).reduce(factor), (0, top // factor))
    return small
