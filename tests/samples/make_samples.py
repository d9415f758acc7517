"""Makes the sample files: `python -m tests.samples.make_samples` from the project's root.

`good/` is taken, `bad/` is refused; each file covers one trap of the formats or one trick. All of it is our own. The
sample map is also the demonstration's, as a picture in the package.
"""

import base64
import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from tests.samples import cellar_plan as plan
from tests.samples.draw_cellar import draw

HERE = Path(__file__).parent
DEMO_MAP = HERE.parent.parent / "src" / "tableforge" / "ops" / "demo_map.webp"

SECRET = b"TAKEN AT HOME BY ANNA 52.5163N 13.3777E"
"""What must not be found in any cleaned picture."""


def main() -> None:
    """Write every sample, and the demonstration's map."""
    cellar = encoded(draw(), "WEBP", quality=86, method=6)
    DEMO_MAP.write_bytes(cellar)
    for folder, files in (("good", good(cellar)), ("bad", bad())):
        (HERE / folder).mkdir(exist_ok=True)
        for name, data in files.items():
            (HERE / folder / name).write_bytes(data)


def good(cellar: bytes) -> dict[str, bytes]:
    """Files that are taken, by name."""
    return {"cellar.dd2vtt": cellar_map(cellar), **trap_maps(), **pictures()}


def bad() -> dict[str, bytes]:
    """Files that are refused, by name."""
    return {
        **cut_short(),
        **something_else(),
        **claims(),
        **bombs(),
        **broken_maps(),
    }


# pictures


def small_picture(mode: str = "RGB") -> Image.Image:
    """A corner of a floor, 80 by 48, different in every corner so that turning it shows."""
    image = Image.new(
        mode if mode in ("RGB", "RGBA", "L") else "RGB", (80, 48), "#a88864" if mode != "L" else 150
    )
    pen = ImageDraw.Draw(image)
    light, dark = ("#f0af59", "#2d5558") if mode != "L" else (230, 60)
    pen.rectangle((0, 0, 24, 15), fill=light)
    pen.ellipse((40, 20, 70, 46), fill=dark)
    if mode == "RGBA":
        pen.rectangle((0, 32, 12, 47), fill=(0, 0, 0, 0))
    return image.convert(mode)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    """The picture as a file."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def exif(orientation: int) -> Image.Exif:
    """A camera's block: which way up, and what nobody at the table should know."""
    block = Image.Exif()
    block[0x0112] = orientation
    block[0x010E] = SECRET.decode()
    return block


def chunk(name: bytes, body: bytes) -> bytes:
    """A PNG chunk."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def with_chunks(png: bytes, *chunks: bytes) -> bytes:
    """A PNG with more chunks behind its header."""
    return png[:33] + b"".join(chunks) + png[33:]


def pictures() -> dict[str, bytes]:
    """Pictures of every kind that carry what must be left out."""
    rgb, png = small_picture(), encoded(small_picture(), "PNG")
    xmp = b"<x:xmpmeta>" + SECRET + b"</x:xmpmeta>"
    talkative = with_chunks(
        png,
        chunk(b"tEXt", b"Comment\0" + SECRET),
        chunk(b"zTXt", b"Author\0\0" + zlib.compress(SECRET)),
        chunk(b"iTXt", b"Title\0\0\0de\0\0" + SECRET),
        chunk(b"tIME", bytes(7)),
    )
    palette = small_picture("RGBA").quantize(16)
    deep = Image.frombytes("I;16", (4, 2), struct.pack("<8H", *range(0, 64000, 8000)))
    return {
        "plain.png": png,
        "talkative.png": talkative + SECRET,
        "turned.png": encoded(rgb, "PNG", exif=exif(6)),
        "palette.png": encoded(palette, "PNG"),
        "interlaced.png": interlaced_png(),
        "deep.png": encoded(deep, "PNG"),
        "transparent.png": encoded(small_picture("RGBA"), "PNG"),
        "plain.jpg": encoded(rgb, "JPEG", quality=80),
        "talkative.jpg": encoded(rgb, "JPEG", quality=80, exif=exif(1), comment=SECRET, xmp=xmp) + SECRET,
        "turned.jpg": encoded(rgb, "JPEG", quality=80, exif=exif(6)),
        "progressive.jpg": encoded(rgb, "JPEG", quality=80, progressive=True),
        "grey.jpg": encoded(small_picture("L"), "JPEG", quality=80),
        "print.jpg": encoded(rgb.convert("CMYK"), "JPEG", quality=80),
        "plain.webp": encoded(rgb, "WEBP", quality=80),
        "talkative.webp": encoded(rgb, "WEBP", quality=80, exif=exif(1), xmp=xmp) + SECRET,
        "turned.webp": encoded(small_picture("RGBA"), "WEBP", lossless=True, exif=exif(8)),
        "plain.avif": encoded(rgb, "AVIF", quality=80),
        "talkative.avif": encoded(rgb, "AVIF", quality=80, exif=exif(1), xmp=xmp),
        "turned.avif": encoded(small_picture("RGBA"), "AVIF", quality=80, exif=exif(6)),
        "jpeg_inside.png": encoded(rgb, "JPEG", quality=80),
    }  # fmt: skip


def interlaced_png() -> bytes:
    """A one-pixel Adam7 PNG, which Pillow reads but does not write."""
    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 1)
    pixels = zlib.compress(b"\0\x20\x40\x60")
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


# maps


def points(line: list[plan.Place]) -> list[dict[str, float]]:
    """A polyline as Universal VTT writes it."""
    return [{"x": round(x, 3), "y": round(y, 3)} for x, y in line]


def cellar_map(picture: bytes) -> bytes:
    """The drowned cellar with all it has."""
    doors = [(segment, True) for segment in plan.CLOSED_DOORS] + [
        (segment, False) for segment in plan.OPEN_DOORS
    ]
    document = {
        "format": 0.3,
        "resolution": {
            "map_origin": {"x": 0, "y": 0},
            "map_size": {"x": plan.WIDTH, "y": plan.HEIGHT},
            "pixels_per_grid": plan.PIXELS_PER_CELL,
        },
        "line_of_sight": [points(line) for line in plan.walls()],
        "objects_line_of_sight": [points(line) for line in plan.pillars()],
        "portals": [
            {
                "position": {"x": (x1 + x2) / 2, "y": (y1 + y2) / 2},
                "bounds": points([(x1, y1), (x2, y2)]),
                "rotation": 0 if y1 == y2 else 1.570796,
                "closed": closed,
                "freestanding": False,
            }
            for ((x1, y1), (x2, y2)), closed in doors
        ],
        "lights": [
            {"position": {"x": x, "y": y}, "range": reach, "intensity": strength, "color": colour, "shadows": True}
            for x, y, reach, colour, strength in plan.LIGHTS
        ],
        "environment": {"baked_lighting": True, "ambient_light": "ff20262b"},
        "image": base64.b64encode(picture).decode(),
    }  # fmt: skip
    return json.dumps(document, indent="\t").encode()


def small_map(**changes: Any) -> dict[str, Any]:
    """A map of 8 by 4.8 cells with one wall, one door and one light."""
    document: dict[str, Any] = {
        "format": 0.3,
        "resolution": {
            "map_origin": {"x": 0, "y": 0},
            "map_size": {"x": 8, "y": 4.8},
            "pixels_per_grid": 10,
        },
        "line_of_sight": [points([(1, 1), (7, 1), (7, 4)])],
        "portals": [{"position": {"x": 1, "y": 2}, "bounds": points([(1, 1), (1, 2)]), "closed": True}],
        "lights": [{"position": {"x": 4, "y": 2}, "range": 3, "intensity": 0.5, "color": "ffeccd8b"}],
        "image": base64.b64encode(encoded(small_picture(), "PNG")).decode(),
    }  # fmt: skip
    return document | changes


def as_bytes(document: dict[str, Any]) -> bytes:
    """A map as a file."""
    return json.dumps(document).encode()


def trap_maps() -> dict[str, bytes]:
    """What map editors really write."""
    origin = small_map()
    origin["resolution"]["map_origin"] = {"x": 3, "y": -2.5}
    fractional = small_map()
    fractional["resolution"] |= {"map_size": {"x": 6.4, "y": 3.84}, "pixels_per_grid": 12.5}
    other_size = small_map()
    other_size["resolution"]["pixels_per_grid"] = 140
    light = {"position": {"x": 1, "y": 1}, "range": 2, "intensity": 1}
    colours = small_map(
        lights=[
            light | {"color": colour}
            for colour in ("80ff8800", "FF8800", "#ff8800", "00ff8800", "orange", 16746496)
        ]
        + [{"position": {"x": 1, "y": 1}, "range": 2}]
    )
    bare = small_map()
    for left_out in ("portals", "lights", "format"):
        del bare[left_out]
    del bare["resolution"]["map_origin"]
    webp = base64.encodebytes(encoded(small_picture(), "WEBP")).decode()
    return {
        "origin.dd2vtt": as_bytes(origin),
        "fractional.uvtt": as_bytes(fractional),
        "other_size.uvtt": as_bytes(other_size),
        "colours.uvtt": as_bytes(colours),
        "bare.df2vtt": as_bytes(bare),
        "data_address.uvtt": b"\xef\xbb\xbf" + as_bytes(small_map(image=f"data:image/webp;base64,{webp}")),
        "not_numbers.dd2vtt": not_numbers(),
    }  # fmt: skip


def not_numbers() -> bytes:
    """Coordinates in every form in which programs write what is no number."""
    document = as_bytes(
        small_map(
            line_of_sight=[
                [{"x": 1, "y": 1}, {"x": "NAN", "y": 1}, {"x": 2, "y": 2}, {"x": 3, "y": None}, {"x": 4, "y": 4}],
                [{"x": "INF", "y": 1}, {"x": 5, "y": 5}],
                [{"x": 1, "y": True}, {"x": "2", "y": 2}, {"y": 3}, 7, {"x": 6, "y": 6}, {"x": 7, "y": 7}],
                "a wall",
            ],
            portals=[{"bounds": [{"x": "NAN", "y": 1}, {"x": 1, "y": 2}]}, {"closed": False}, None],
            lights=[
                {"position": {"x": 1, "y": "NAN"}, "range": 2},
                {"position": {"x": 1, "y": 1}, "range": -2},
                {"position": {"x": 1, "y": 1}, "range": 5000, "intensity": 2},
            ],
            note='a text with nan, "quoted inf" and \\ in it',
        )
    )  # fmt: skip
    return document.replace(b'"NAN"', b"-nan").replace(b'"INF"', b"1e999")


# what is refused


def cut_short() -> dict[str, bytes]:
    """Files of which the end is missing."""
    noise = Image.frombytes(
        "RGB", (96, 96), (zlib.compress(bytes(range(256)) * 64, 9) * 200)[: 96 * 96 * 3]
    )
    kinds = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "avif": "AVIF"}
    cut = {f"cut_short.{end}": _half(encoded(noise, form)) for end, form in kinds.items()}
    png = encoded(noise, "PNG")
    body = zlib.compress(bytes(2000))
    return cut | {
        "cut_short.uvtt": as_bytes(small_map())[:-200],
        "cut_inside.png": png[:33] + chunk(b"IDAT", body) + chunk(b"IEND", b""),
        "cut_picture.uvtt": as_bytes(small_map(image=base64.b64encode(_half(png)).decode())),
    }


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def something_else() -> dict[str, bytes]:
    """Other kinds of file under names that promise a picture or a map."""
    page = b"<!doctype html>\n<html><body><script>alert(document.cookie)</script></body></html>\n"
    drawing = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>\n'
    archive = b"PK\x03\x04\x14\0\0\0\0\0" + bytes(40) + b"PK\x05\x06" + bytes(18)
    frames = [small_picture(), small_picture().rotate(180)]
    animated = {"save_all": True, "append_images": frames[1:], "duration": 100}
    return {
        "page.png": page,
        "drawing.png": drawing,
        "drawing.svg": drawing,
        "archive.uvtt": archive,
        "archive.jpg": archive,
        "picture.uvtt": encoded(small_picture(), "PNG"),
        "page.dd2vtt": page,
        "map.png": as_bytes({"name": "not a map"}),
        "still.gif": encoded(small_picture(), "GIF"),
        "animated.webp": encoded(frames[0], "WEBP", **animated),
        "animated.png": encoded(frames[0], "PNG", **animated),
        "animated.avif": encoded(frames[0], "AVIF", **animated),
        "list.uvtt": b"[1, 2, 3]\n",
        "latin.uvtt": '{"image": "Höhle"}'.encode("latin-1"),
    }  # fmt: skip


def claims() -> dict[str, bytes]:
    """Small files whose headers promise a continent."""
    rgb = small_picture()
    png = encoded(rgb, "PNG")
    huge_png = (
        png[:8] + chunk(b"IHDR", struct.pack(">II", 100_000, 100_000) + png[24:29]) + png[33:]
    )
    jpeg = encoded(rgb, "JPEG")
    at = jpeg.index(b"\xff\xc0") + 5
    huge_jpeg = jpeg[:at] + struct.pack(">HH", 65_500, 65_500) + jpeg[at + 4 :]
    webp = bytearray(encoded(small_picture("RGBA"), "WEBP", quality=50))
    webp[24:30] = b"\xff\xff\xff" * 2
    avif = encoded(rgb, "AVIF")
    return {
        "continent.png": huge_png,
        "continent.jpg": huge_jpeg,
        "continent.webp": bytes(webp),
        "continent.avif": _claim(avif, 60_000, 60_000),
        "no_size.png": png[:8] + chunk(b"IHDR", bytes(8) + png[24:29]) + png[33:],
    }


def _claim(avif: bytes, width: int, height: int) -> bytes:
    at = avif.index(b"ispe") + 8
    return avif[:at] + struct.pack(">II", width, height) + avif[at + 8 :]


def bombs() -> dict[str, bytes]:
    """Files that are whole and swell."""
    png = encoded(small_picture(), "PNG")
    swelling = zlib.compress(bytes(24 << 20), 9)
    return {
        "pixels.png": flat_png(32_000, 9_000),
        "text.png": with_chunks(png, chunk(b"zTXt", b"Comment\0\0" + swelling)),
        "words.png": with_chunks(png, chunk(b"iTXt", b"Comment\0\1\0\0\0" + swelling)),
        "profile.png": with_chunks(png, chunk(b"iCCP", b"p\0\0" + swelling)),
        "scans.jpg": repeated_scans(64, 64, 101),
        "nested.uvtt": b'{"resolution":' + b"[" * 60_000,
        "digits.uvtt": b'{"resolution":' + b"9" * 6_000 + b"}",
    }


def flat_png(width: int, height: int) -> bytes:
    """A whole PNG of one grey, a bit a pixel."""
    packer = zlib.compressobj(9)
    row = bytes(1 + -(-width // 8))
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    )


def repeated_scans(width: int, height: int, scans: int) -> bytes:
    """A grey progressive JPEG whose last scan comes over and over: each one is a pass over all pixels."""
    jpeg = encoded(Image.new("L", (width, height), 90), "JPEG", progressive=True)
    last = jpeg.rindex(b"\xff\xda")
    tables = jpeg.rindex(b"\xff\xc4", 0, last)
    scan = jpeg[tables:-2]
    return jpeg[:-2] + scan * (scans - jpeg.count(b"\xff\xda")) + jpeg[-2:]


def broken_maps() -> dict[str, bytes]:
    """Maps that lack what cannot be guessed."""
    maps: dict[str, Callable[[dict[str, Any]], Any]] = {
        "no_resolution.uvtt": lambda m: m.pop("resolution"),
        "no_map_size.uvtt": lambda m: m["resolution"].pop("map_size"),
        "no_width.uvtt": lambda m: m["resolution"]["map_size"].pop("x"),
        "no_pixels.uvtt": lambda m: m["resolution"].pop("pixels_per_grid"),
        "no_image.uvtt": lambda m: m.pop("image"),
        "empty_image.uvtt": lambda m: m.update(image=""),
        "not_base64.uvtt": lambda m: m.update(image="here: be dragons"),
        "page_as_image.uvtt": lambda m: m.update(image=base64.b64encode(b"<html></html>").decode()),
        "width_as_text.uvtt": lambda m: m["resolution"]["map_size"].update(x="24"),
        "width_nan.uvtt": lambda m: m["resolution"]["map_size"].update(x=float("nan")),
        "width_zero.uvtt": lambda m: m["resolution"]["map_size"].update(x=0),
        "width_endless.uvtt": lambda m: m["resolution"]["map_size"].update(x=1e300),
        "origin_nan.uvtt": lambda m: m["resolution"]["map_origin"].update(y=float("nan")),
        "walls_as_object.uvtt": lambda m: m.update(line_of_sight={"x": 1}),
        "lights_as_text.uvtt": lambda m: m.update(lights="many"),
    }
    broken = {}
    for name, breaks in maps.items():
        document = small_map()
        breaks(document)
        broken[name] = as_bytes(document)
    return broken


if __name__ == "__main__":
    main()
