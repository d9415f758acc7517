"""Every sample file, opened by the child's own functions within this process."""

from pathlib import Path

import pytest

from tableforge.errors import Malformed, TableForgeError, TooLarge
from tableforge.files import SCENE_ENDINGS, Limits, pictures, uvtt
from tableforge.files.orders import Picture, Plan
from tests.samples import make_samples

SAMPLES = Path(make_samples.__file__).parent
LIMITS = Limits()

REFUSALS: dict[str, tuple[type[TableForgeError], str]] = {
    "animated.avif": (Malformed, "animated"),
    "animated.png": (Malformed, "animated"),
    "animated.webp": (Malformed, "animated"),
    "archive.jpg": (Malformed, "a ZIP archive"),
    "archive.uvtt": (Malformed, "a ZIP archive"),
    "continent.avif": (TooLarge, "width and height are 60000 × 60000"),
    "continent.jpg": (TooLarge, "width and height are 65500 × 65500"),
    "continent.png": (TooLarge, "width and height are 100000 × 100000"),
    "continent.webp": (TooLarge, "width and height are 16777216 × 16777216"),
    "cut_inside.png": (Malformed, "do not decode to the end"),
    "cut_picture.uvtt": (Malformed, "The PNG is cut off"),
    "cut_short.avif": (Malformed, "The AVIF is cut off"),
    "cut_short.jpg": (Malformed, "The JPEG is cut off"),
    "cut_short.png": (Malformed, "The PNG is cut off"),
    "cut_short.uvtt": (Malformed, "not a whole JSON text"),
    "cut_short.webp": (Malformed, "The WebP is cut off"),
    "digits.uvtt": (Malformed, "thousands of digits"),
    "drawing.png": (Malformed, "an SVG drawing"),
    "drawing.svg": (Malformed, "an SVG drawing"),
    "empty_image.uvtt": (Malformed, "`image` is empty"),
    "latin.uvtt": (Malformed, "not UTF-8"),
    "lights_as_text.uvtt": (Malformed, "`lights` is a text, not a list"),
    "list.uvtt": (Malformed, "a JSON list"),
    "map.png": (Malformed, "a JSON object"),
    "nested.uvtt": (Malformed, "nested too deeply"),
    "no_image.uvtt": (Malformed, "`image` is missing"),
    "no_map_size.uvtt": (Malformed, "`resolution.map_size` is missing"),
    "no_pixels.uvtt": (Malformed, "`resolution.pixels_per_grid` is missing"),
    "no_resolution.uvtt": (Malformed, "`resolution` is missing"),
    "no_size.png": (Malformed, "0 × 0 pixels"),
    "no_width.uvtt": (Malformed, "`resolution.map_size.x` is missing"),
    "not_base64.uvtt": (Malformed, "`image` is not base64"),
    "origin_nan.uvtt": (Malformed, "`resolution.map_origin.y` is not a number"),
    "page.dd2vtt": (Malformed, "an HTML page"),
    "page.png": (Malformed, "an HTML page"),
    "page_as_image.uvtt": (Malformed, "an HTML page"),
    "picture.uvtt": (Malformed, "a PNG picture"),
    "pixels.png": (TooLarge, "width and height are 32000 × 9000"),
    "profile.png": (Malformed, "chunk iCCP unpacks to more"),
    "scans.jpg": (TooLarge, "scans"),
    "still.gif": (Malformed, "a GIF picture"),
    "text.png": (Malformed, "chunk zTXt unpacks to more"),
    "walls_as_object.uvtt": (Malformed, "`line_of_sight` is an object, not a list"),
    "width_as_text.uvtt": (Malformed, "`resolution.map_size.x` is not a number"),
    "width_endless.uvtt": (Malformed, "`resolution.map_size.x` is not a usable number"),
    "width_nan.uvtt": (Malformed, "`resolution.map_size.x` is not a number"),
    "width_zero.uvtt": (Malformed, "`resolution.map_size.x` is 0"),
    "words.png": (Malformed, "chunk iTXt unpacks to more"),
}
"""What is refused, as which error, and the words that tell why."""


def open_file(path: Path, folder: Path) -> tuple[Plan | None, Picture]:
    """What the bounded child does with a file, without the bounds."""
    source, plan = path, None
    if path.suffix in SCENE_ENDINGS:
        plan, embedded = uvtt.parse(path.read_bytes())
        source = folder / "embedded"
        source.write_bytes(embedded)
    picture = pictures.clean(source, folder / "target", folder / "thumbnail", LIMITS)
    return (uvtt.fit(plan, picture) if plan else None), picture


def test_every_bad_sample_has_a_line_in_the_table() -> None:
    assert {path.name for path in (SAMPLES / "bad").iterdir()} == set(REFUSALS)


def test_the_committed_samples_are_those_that_the_script_makes() -> None:
    made = set(make_samples.good(b"")), set(make_samples.bad())
    assert made == tuple(
        {path.name for path in (SAMPLES / folder).iterdir()} for folder in ("good", "bad")
    )


@pytest.mark.parametrize("name", REFUSALS)
def test_fi2_a_bad_file_is_refused_in_words_that_say_why(name: str, tmp_path: Path) -> None:
    kind, words = REFUSALS[name]
    with pytest.raises(kind) as refusal:
        open_file(SAMPLES / "bad" / name, tmp_path)
    assert refusal.type is kind
    assert words in refusal.value.why
    assert refusal.value.mend


@pytest.mark.parametrize("path", sorted((SAMPLES / "good").iterdir()), ids=lambda path: path.name)
def test_a_good_file_is_taken(path: Path, tmp_path: Path) -> None:
    plan, picture = open_file(path, tmp_path)
    assert (plan is None) == (path.suffix not in SCENE_ENDINGS)
    assert picture.bytes == (tmp_path / "target").stat().st_size
    assert (tmp_path / "thumbnail").read_bytes()[8:12] == b"WEBP"
