"""What cleaning does to a picture: nothing is left of its metadata, and nothing is lost of its pixels."""

import errno
import hashlib
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageOps

from tableforge.errors import Malformed, TooLarge
from tableforge.files import Limits, pictures
from tableforge.files.orders import Picture
from tests.samples import make_samples
from tests.samples.make_samples import SECRET, encoded, small_picture

GOOD = Path(make_samples.__file__).parent / "good"
KINDS = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp", "avif": "image/avif"}
PICTURES = sorted(path.name for path in GOOD.iterdir() if path.suffix[1:] in KINDS)


def clean(source: Path, folder: Path, limits: Limits | None = None) -> Picture:
    return pictures.clean(source, folder / "target", folder / "thumbnail", limits or Limits())


def clean_bytes(data: bytes, folder: Path, limits: Limits | None = None) -> Picture:
    (folder / "source").write_bytes(data)
    return clean(folder / "source", folder, limits)


def shown(path: Path) -> Image.Image:
    """A picture as a viewer shows it."""
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", upright.size, "#606060"), upright)


def difference(one: Image.Image, other: Image.Image) -> int:
    """The largest difference of any channel of any pixel."""
    assert one.size == other.size
    extrema = ImageChops.difference(one, other).getextrema()
    return max(int(channel[1]) for channel in extrema if isinstance(channel, tuple))


@pytest.mark.parametrize("name", PICTURES)
def test_fi3_what_is_kept_looks_like_what_came(name: str, tmp_path: Path) -> None:
    picture = clean(GOOD / name, tmp_path)
    before, after = shown(GOOD / name), shown(tmp_path / "target")
    assert (picture.width, picture.height) == after.size
    # Only a JPEG that had to be turned is compressed again.
    assert difference(before, after) <= (12 if name == "turned.jpg" else 0)


@pytest.mark.parametrize("name", PICTURES)
def test_the_kind_is_what_the_content_says(name: str, tmp_path: Path) -> None:
    expected = "image/jpeg" if name == "jpeg_inside.png" else KINDS[name.rpartition(".")[2]]
    assert clean(GOOD / name, tmp_path).kind == expected


@pytest.mark.parametrize("name", PICTURES)
def test_fi3_nothing_is_left_that_the_camera_or_the_program_wrote(
    name: str, tmp_path: Path
) -> None:
    clean(GOOD / name, tmp_path)
    for file in ("target", "thumbnail"):
        assert SECRET not in (tmp_path / file).read_bytes()
        with Image.open(tmp_path / file) as image:
            image.load()
            assert not image.getexif().get(0x010E)
            assert not {"xmp", "comment", "Comment", "exif", "Author", "Title"} & set(
                image.info
            ) - (
                {"exif"}
                if name == "turned.avif"
                else set()  # made up by Pillow of the frame's own turn
            )


@pytest.mark.parametrize("name", [name for name in PICTURES if "talkative" in name])
def test_the_samples_do_carry_what_must_go(name: str) -> None:
    assert SECRET in (GOOD / name).read_bytes()


@pytest.mark.parametrize("name", PICTURES)
def test_cleaning_again_changes_nothing(name: str, tmp_path: Path) -> None:
    first = clean(GOOD / name, tmp_path)
    (tmp_path / "target").rename(tmp_path / "again")
    assert clean(tmp_path / "again", tmp_path) == first


def test_the_digest_is_that_of_the_bytes_kept(tmp_path: Path) -> None:
    picture = clean(GOOD / "talkative.png", tmp_path)
    assert picture.digest == hashlib.sha256((tmp_path / "target").read_bytes()).hexdigest()
    assert picture.digest == clean(GOOD / "plain.png", tmp_path).digest


@pytest.mark.parametrize("name", ["turned.png", "turned.jpg", "turned.webp", "turned.avif"])
def test_fi3_a_turned_picture_stands_upright_and_so_does_its_thumbnail(
    name: str, tmp_path: Path
) -> None:
    picture = clean(GOOD / name, tmp_path)
    assert (picture.width, picture.height) == (48, 80)
    assert difference(shown(tmp_path / "target"), shown(tmp_path / "thumbnail")) < 120
    assert shown(tmp_path / "thumbnail").size == (48, 80)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("size", [(1300, 900), (5000, 3), (1, 4000)])
def test_the_thumbnail_is_small_and_shows_the_whole(
    form: str, size: tuple[int, int], tmp_path: Path
) -> None:
    check_thumbnail(form, size, tmp_path)


def test_the_thumbnail_of_a_picture_that_is_shrunk_in_bands(tmp_path: Path) -> None:
    check_thumbnail("PNG", (1300, 1100), tmp_path)


def check_thumbnail(form: str, size: tuple[int, int], tmp_path: Path) -> None:
    """The four corners of the thumbnail look like the picture's."""
    image = small_picture().resize(size)
    clean_bytes(encoded(image, form), tmp_path)
    thumbnail = shown(tmp_path / "thumbnail")
    assert max(thumbnail.size) == 512
    straight = image.convert("RGBA").resize(thumbnail.size, Image.Resampling.BOX, reducing_gap=None)
    corners = [
        (0, 0),
        (thumbnail.width - 1, 0),
        (0, thumbnail.height - 1),
        (thumbnail.width - 1, thumbnail.height - 1),
    ]
    for corner in corners:
        one, other = thumbnail.getpixel(corner), straight.getpixel(corner)
        assert isinstance(one, tuple)
        assert isinstance(other, tuple)
        assert max(abs(a - b) for a, b in zip(one, other, strict=True)) < 40


def test_transparency_stays_in_the_thumbnail(tmp_path: Path) -> None:
    clean(GOOD / "transparent.png", tmp_path)
    with Image.open(tmp_path / "thumbnail") as thumbnail:
        assert thumbnail.getchannel("A").getextrema() == (0, 255)


def test_sixteen_bits_stay_in_the_picture_and_shine_through_in_the_thumbnail(
    tmp_path: Path,
) -> None:
    clean(GOOD / "deep.png", tmp_path)
    assert (tmp_path / "target").read_bytes() == (GOOD / "deep.png").read_bytes()
    thumbnail = shown(tmp_path / "thumbnail").convert("L")
    greys = list(thumbnail.crop((0, 0, 4, 1)).tobytes())
    assert max(abs(grey - 31 * x) for x, grey in enumerate(greys)) < 30


def test_a_colour_profile_stays(tmp_path: Path) -> None:
    profile = b"\0\0\x02\x0clcms" + bytes(300)
    for form in ("PNG", "JPEG", "WEBP"):
        clean_bytes(encoded(small_picture(), form, icc_profile=profile), tmp_path)
        with Image.open(tmp_path / "target") as image:
            assert image.info["icc_profile"] == profile


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(max_pixels=80 * 48 - 1), "at most 3839 pixels"),
        (Limits(max_side=79), "79 along a side"),
        (Limits(max_bytes=100), "at most 100 are taken"),
        (Limits(memory_bytes=90 << 20), "MiB of memory"),
    ],
    ids=["pixels", "side", "bytes", "memory"],
)
@pytest.mark.parametrize("name", ["plain.png", "plain.jpg", "plain.webp", "plain.avif"])
def test_fi4_each_limit_refuses_in_words(
    limits: Limits, words: str, name: str, tmp_path: Path
) -> None:
    with pytest.raises(TooLarge) as refusal:
        clean(GOOD / name, tmp_path, limits)
    assert words in refusal.value.why
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["plain.png", "plain.jpg", "plain.webp", "plain.avif"])
def test_fi4_exactly_at_the_limits_it_is_taken(name: str, tmp_path: Path) -> None:
    size = (GOOD / name).stat().st_size
    assert (
        clean(GOOD / name, tmp_path, Limits(max_pixels=80 * 48, max_side=80, max_bytes=size)).width
        == 80
    )


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Malformed, match="empty"):
        clean_bytes(b"", tmp_path)


def test_a_full_disk_is_not_the_picture_s_fault(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left") as refusal:
        pictures.clean(
            GOOD / "plain.jpg",
            Path("/dev/full"),
            tmp_path / "thumbnail",
            Limits(),
        )
    assert refusal.value.errno == errno.ENOSPC
