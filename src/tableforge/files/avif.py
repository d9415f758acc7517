"""The frame around an AVIF picture: read for its size, and its metadata blanked where it stands.

An AVIF finds its pixels by byte positions, so nothing may move: what is to go is overwritten with zeros, and the boxes
and items that held it are renamed to `free`, which every reader passes over.
"""

import struct
from collections.abc import Iterator
from typing import Final

from msgspec import Struct, field

from tableforge.files.containers import CheckSize, Stripped, animated, cut_off, damaged

_ITEMS: Final = 1000
_BOXES: Final = 4000
_PIXEL_ITEMS = {b"av01", b"grid", b"iovl", b"tmap"}
_META_BOXES = {b"hdlr", b"pitm", b"iloc", b"iinf", b"iprp", b"iref", b"idat", b"grpl", b"dinf"}
_PLAIN_BYTES_A_PIXEL = 10  # 8 bits, colour at half the resolution, no transparency; measured
_RICH_BYTES_A_PIXEL = 18  # 10 or 12 bits, full colour resolution, transparency; measured


class _Box(Struct, frozen=True):
    """A box's name, where it begins, where its content begins, and where it ends."""

    name: bytes
    at: int
    body: int
    end: int


class _Frame(Struct):
    """What the boxes of `meta` say."""

    primary: int = -1
    items: dict[int, tuple[bytes, _Box]] = field(default_factory=dict)
    extents: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    properties: list[_Box] = field(default_factory=list)
    associations: dict[int, list[int]] = field(default_factory=dict)


def strip_avif(data: memoryview, check_size: CheckSize) -> Stripped:
    """Read a still AVIF and blank what is not needed to show it."""
    clean = bytearray(data)
    meta: _Box | None = None
    for box in _boxes(data, 0, len(data)):
        if box.name == b"moov":
            raise animated("AVIF")
        if box.name == b"meta" and meta is None:
            meta = box
        elif box.name not in (b"ftyp", b"mdat"):
            _blank(clean, box)
    if meta is None:
        raise damaged("AVIF", "its header meta is missing")
    frame = _read_meta(data, meta, clean)
    width, height, on_its_side, rich = _shape(data, frame)
    check_size(width, height)
    for item, (name, entry) in frame.items.items():
        for start, end in frame.extents.get(item, ()):
            if end > len(data):
                raise cut_off("AVIF", f"{end - len(data)} bytes of its pixels are missing")
            if name not in _PIXEL_ITEMS:
                clean[start:end] = bytes(end - start)
        if name not in _PIXEL_ITEMS:
            _blank_entry(clean, entry)
    if frame.items.get(frame.primary, (b"",))[0] not in _PIXEL_ITEMS:
        raise damaged("AVIF", "it has no picture (pitm)")
    bytes_a_pixel = _RICH_BYTES_A_PIXEL if rich else _PLAIN_BYTES_A_PIXEL
    return Stripped(
        "image/avif",
        width,
        height,
        width * height * bytes_a_pixel,
        [bytes(clean)],
        lossless=False,
        on_its_side=on_its_side,
    )


def _boxes(data: memoryview, start: int, end: int) -> Iterator[_Box]:
    """Walk the boxes that lie side by side in a stretch of the file."""
    at = start
    for _ in range(_BOXES):
        if at == end:
            return
        if at + 8 > end:
            raise cut_off("AVIF", f"the box at byte {at} has no header")
        size, name = struct.unpack_from(">I4s", data, at)
        body = at + 8
        if size == 1 and at + 16 <= end:
            (size,) = struct.unpack_from(">Q", data, body)
            body += 8
        elif size == 0 and end == len(data):
            size = end - at
        if size < body - at:
            raise damaged("AVIF", f"the box at byte {at} has an impossible size")
        if at + size > end:
            raise cut_off("AVIF", f"{at + size - end} bytes of its box at byte {at} are missing")
        yield _Box(name, at, body, at + size)
        at += size
    raise damaged("AVIF", f"it has more than {_BOXES} boxes")


def _blank(clean: bytearray, box: _Box) -> None:
    clean[box.at + 4 : box.at + 8] = b"free"
    clean[box.body : box.end] = bytes(box.end - box.body)


def _blank_entry(clean: bytearray, entry: _Box) -> None:
    """Keep of an item's entry only its number, under a type that readers pass over."""
    number = 2 if clean[entry.body] == 2 else 4
    kind = entry.body + 4 + number + 2
    clean[kind : kind + 4] = b"free"
    clean[kind + 4 : entry.end] = bytes(entry.end - kind - 4)


class _Reader:
    """Big-endian numbers one after the other within a box; its end is the end of the file's patience."""

    def __init__(self, data: memoryview, box: _Box) -> None:
        self._data, self._at, self._end, self._name = data, box.body, box.end, box.name

    def take(self, size: int) -> int:
        """Read the next `size` bytes as a number; none is 0."""
        at = self._at
        self._at += size
        if self._at > self._end:
            raise damaged("AVIF", f"its box {self._name.decode('latin-1')} is too short")
        return int.from_bytes(self._data[at : self._at], "big")

    @property
    def rest(self) -> tuple[int, int]:
        """Where what has not been read begins and ends."""
        return self._at, self._end


def _read_meta(data: memoryview, meta: _Box, clean: bytearray) -> _Frame:
    frame = _Frame()
    idat: int | None = None
    located: _Box | None = None
    for box in _boxes(data, meta.body + 4, meta.end):
        reader = _Reader(data, box)
        if box.name == b"pitm":
            frame.primary = reader.take(2 if reader.take(4) >> 24 == 0 else 4)
        elif box.name == b"iinf":
            reader.take(2 if reader.take(4) >> 24 == 0 else 4)
            _read_items(data, reader, frame)
        elif box.name == b"iloc":
            located = box
        elif box.name == b"iprp":
            _read_properties(data, box, frame, clean)
        elif box.name == b"idat":
            idat = box.body
        elif box.name not in _META_BOXES:
            _blank(clean, box)
    if located is None:
        raise damaged("AVIF", "its box iloc is missing")
    _read_places(data, located, frame, idat)
    for box in frame.properties:
        if box.name == b"udes":  # a title and a description in words
            _blank(clean, box)
    return frame


def _read_items(data: memoryview, reader: _Reader, frame: _Frame) -> None:
    for entry in _boxes(data, *reader.rest):
        words = _Reader(data, entry)
        version = words.take(4) >> 24
        if version not in (2, 3):
            raise damaged("AVIF", "its box infe has an unknown version")
        item = words.take(2 if version == 2 else 4)
        words.take(2)
        frame.items[item] = (words.take(4).to_bytes(4, "big"), entry)
    if len(frame.items) > _ITEMS:
        raise damaged("AVIF", f"it has more than {_ITEMS} items")


def _read_places(data: memoryview, box: _Box, frame: _Frame, idat: int | None) -> None:
    reader = _Reader(data, box)
    version = reader.take(4) >> 24
    sizes = reader.take(2)
    offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_size = sizes & 15 if version else 0
    number = 4 if version == 2 else 2
    for _ in range(min(reader.take(number), _ITEMS)):
        item = reader.take(number)
        method = reader.take(2) & 15 if version else 0
        reader.take(2)
        base = reader.take(base_size)
        if method == 1 and idat is not None:
            base += idat
        elif method:
            raise damaged("AVIF", f"its item {item} lies where readers do not look")
        places = frame.extents.setdefault(item, [])
        for _ in range(reader.take(2)):
            reader.take(index_size)
            start, length = base + reader.take(offset_size), reader.take(length_size)
            if not length:
                raise damaged("AVIF", f"its item {item} has no length")
            places.append((start, start + length))
        if len(places) > _ITEMS:
            raise damaged("AVIF", f"its item {item} lies in more than {_ITEMS} places")


def _read_properties(data: memoryview, box: _Box, frame: _Frame, clean: bytearray) -> None:
    for part in _boxes(data, box.body, box.end):
        if part.name == b"ipco":
            frame.properties.extend(_boxes(data, part.body, part.end))
        elif part.name == b"ipma":
            _read_associations(_Reader(data, part), frame)
        else:
            _blank(clean, part)


def _read_associations(reader: _Reader, frame: _Frame) -> None:
    head = reader.take(4)
    number = 2 if head >> 24 == 0 else 4
    wide = head & 1
    for _ in range(min(reader.take(4), _ITEMS)):
        item = reader.take(number)
        indexes = [
            reader.take(2) & 0x7FFF if wide else reader.take(1) & 0x7F
            for _ in range(reader.take(1))
        ]
        frame.associations.setdefault(item, []).extend(indexes)


def _shape(data: memoryview, frame: _Frame) -> tuple[int, int, bool, bool]:
    """Width and height as coded, whether it is shown on its side, and whether its pixels take much memory."""
    width = height = 0
    on_its_side = False
    for index in frame.associations.get(frame.primary, ()):
        if not 0 < index <= len(frame.properties):
            continue
        box = frame.properties[index - 1]
        reader = _Reader(data, box)
        if box.name == b"ispe":
            reader.take(4)
            width, height = reader.take(4), reader.take(4)
        elif box.name == b"irot":
            on_its_side = bool(reader.take(1) & 1)
    if not width or not height:
        raise damaged("AVIF", "it does not say how large it is (ispe)")
    rich = any(_is_rich(data, box) for box in frame.properties)
    return width, height, on_its_side, rich


def _is_rich(data: memoryview, box: _Box) -> bool:
    """Whether a property tells of more than 8 bits, full colour resolution or transparency."""
    if box.name == b"auxC":
        return True
    if box.name != b"av1C":
        return False
    reader = _Reader(data, box)
    reader.take(2)
    flags = reader.take(1)
    more_bits, half_wide, half_high = flags & 0x40, flags & 0x08, flags & 0x04
    return bool(more_bits or not (half_wide and half_high))
