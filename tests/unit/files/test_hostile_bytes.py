"""Samples with bytes changed, taken out and put in: a result or a refusal, and nothing else ever."""

import contextlib
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tableforge.errors import Malformed, TooLarge
from tableforge.files import Limits, pictures, uvtt
from tests.samples import make_samples

GOOD = Path(make_samples.__file__).parent / "good"
LIMITS = Limits(max_pixels=250_000, max_side=4_000)
PICTURES = ["talkative.png", "palette.png", "talkative.jpg", "progressive.jpg", "talkative.webp", "turned.webp", "talkative.avif", "turned.avif"]  # fmt: skip

Change = Callable[[bytes], bytes]


def replaced(at: float, new: bytes, skipped: int) -> Change:
    """Put `new` in the place of `skipped` bytes."""

    def change(data: bytes) -> bytes:
        start = int(at * len(data))
        return data[:start] + new + data[start + skipped :]

    return change


changes = st.lists(
    st.builds(
        replaced,
        st.floats(0, 1),
        st.binary(max_size=4)
        | st.sampled_from([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"]),
        st.integers(0, 4) | st.integers(0, 200),
    ),
    min_size=1,
    max_size=4,
)


def changed(data: bytes, how: list[Change]) -> bytes:
    for change in how:
        data = change(data)
    return data


@pytest.mark.parametrize("name", PICTURES)
@settings(max_examples=30)
@given(how=changes)
def test_a_changed_picture_is_cleaned_or_refused(name: str, how: list[Change]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "source"), Path(folder, "target")
        source.write_bytes(changed((GOOD / name).read_bytes(), how))
        with contextlib.suppress(Malformed, TooLarge):
            picture = pictures.clean(source, target, Path(folder, "thumbnail"), LIMITS)
            assert picture.bytes == target.stat().st_size
            assert picture.width * picture.height <= LIMITS.max_pixels


@pytest.mark.parametrize("name", ["talkative.png", "palette.png", "deep.png"])
@settings(max_examples=30)
@given(how=changes, which=st.integers(0, 9))
def test_a_png_changed_behind_right_checksums_too(name: str, how: list[Change], which: int) -> None:
    data = (GOOD / name).read_bytes()
    pieces, at = [], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        pieces.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
        if pieces[-1][0] == b"IEND":
            break
    number = which % len(pieces)
    pieces[number] = (pieces[number][0], changed(pieces[number][1], how))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source")
        source.write_bytes(data[:8] + b"".join(make_samples.chunk(*piece) for piece in pieces))
        with contextlib.suppress(Malformed, TooLarge):
            pictures.clean(source, Path(folder, "target"), Path(folder, "thumbnail"), LIMITS)


@settings(max_examples=100)
@given(how=changes)
def test_a_changed_map_is_read_or_refused(how: list[Change]) -> None:
    with contextlib.suppress(Malformed, TooLarge):
        uvtt.parse(changed((GOOD / "not_numbers.dd2vtt").read_bytes(), how))


@settings(max_examples=80)
@given(data=st.binary(max_size=300) | st.builds(bytes.__add__, st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\x40\0\0\0WEBP", b"\0\0\0\x14ftypavif\0\0\0\0avif"]), st.binary(max_size=300)))  # fmt: skip
def test_any_bytes_are_refused(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source")
        source.write_bytes(data)
        with pytest.raises((Malformed, TooLarge)):
            pictures.clean(source, Path(folder, "target"), Path(folder, "thumbnail"), LIMITS)
