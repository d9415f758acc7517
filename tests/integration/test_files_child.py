"""The bounded child for real: what it takes and refuses, what holds it, and that nothing is ever left behind."""

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import msgspec
import pytest
from PIL import Image

from tableforge.errors import (
    Malformed,
    TableForgeError,
    TooLarge,
    TooMany,
    Unavailable,
)
from tableforge.files import CleanImage, ImportedScene, Limits
from tableforge.files.importer import Importer
from tableforge.files.orders import Answer, Order, Refusal
from tests.samples import make_samples
from tests.samples.make_samples import encoded, flat_png, repeated_scans

SAMPLES = Path(make_samples.__file__).parent
DEADLINE_SECONDS = 20.0


@pytest.fixture(scope="session")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole and legal picture of some 100 kB that takes seconds: a hundred passes over 64 million pixels."""
    path = tmp_path_factory.mktemp("slow") / "slow.jpg"
    path.write_bytes(repeated_scans(8000, 8000, 99))
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def left_in(folder: Path) -> list[Path]:
    """What lies in a folder."""
    return sorted(folder.iterdir())


def children_of(out: Path) -> list[int]:
    """The processes that were told to write into this folder."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and os.fsencode(str(out)) in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


async def wait_for_child(out: Path) -> int:
    """The child's process id, as soon as it has bounded itself."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        for pid in children_of(out):
            with contextlib.suppress(OSError):
                if limits_of(pid)["Max core file size"] == "0" and left_in(out):
                    return pid
        await asyncio.sleep(0.01)
    pytest.fail("the child did not begin in time")


def limits_of(pid: int) -> dict[str, str]:
    """The soft limits of a process by their names in /proc."""
    lines = Path(f"/proc/{pid}/limits").read_text("ascii").splitlines()[1:]
    return {line[:26].strip(): line[26:47].strip() for line in lines}


def told_to(pid: int) -> tuple[list[str], str]:
    """The names in a process's environment, and how readily the kernel ends it when memory is short."""
    place = Path(f"/proc/{pid}")
    lines = (place / "environ").read_bytes().decode().split("\0")
    names = [line.partition("=")[0] for line in lines if line]
    return names, (place / "oom_score_adj").read_text("ascii").strip()


def opened_by(pid: int) -> set[str]:
    """What a process's descriptors lead to."""
    return {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()}


@contextlib.asynccontextmanager
async def opening(
    importer: Importer, source: Path, out: Path
) -> AsyncIterator[asyncio.Task[CleanImage]]:
    """A picture being opened, given up in the end."""
    task = asyncio.create_task(importer.inspect_and_clean(source, out))
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, TableForgeError):
            await task


@pytest.mark.parametrize("path", sorted((SAMPLES / "bad").iterdir()), ids=lambda path: path.name)
async def test_fi2_a_bad_file_is_refused_and_nothing_is_left_behind(path: Path, out: Path) -> None:
    with pytest.raises((Malformed, TooLarge)) as refusal:
        await Importer(Limits()).read(path, out, filename=path.name)
    assert refusal.value.what == "The file was not taken."
    assert refusal.value.why
    assert refusal.value.mend
    assert left_in(out) == []
    assert path in left_in(path.parent)


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in sorted((SAMPLES / "good").iterdir())
        if "turned" in path.name or "vtt" in path.suffix
    ],
    ids=lambda path: path.name,
)
async def test_a_good_file_leaves_a_picture_and_its_thumbnail(path: Path, out: Path) -> None:
    result = await Importer(Limits()).read(path, out, filename=f"C:\\maps\\{path.name}")
    image = result.image if isinstance(result, ImportedScene) else result
    if isinstance(result, ImportedScene):
        assert result.name == path.stem
    assert left_in(out) == sorted((image.path, image.thumbnail_path))
    assert image.bytes == image.path.stat().st_size


async def test_the_cellar_arrives_whole(out: Path) -> None:
    path = SAMPLES / "good" / "cellar.dd2vtt"
    scene = await Importer(Limits()).read_map(path, out, filename=path.name)
    assert (scene.name, scene.width, scene.height, scene.pixels_per_cell) == ("cellar", 24, 16, 70)
    assert (scene.image.kind, scene.image.width, scene.image.height) == ("image/webp", 1680, 1120)
    assert (len(scene.walls), len(scene.doors), len(scene.lights)) == (6, 4, 12)
    assert scene.skipped == ()


@pytest.mark.parametrize(
    ("filename", "name"),
    [
        ("", "Imported map"),
        ("../../.uvtt", "Imported map"),
        ("a\x00b.UVTT", "a b"),
        ("x" * 200, "x" * 80),
    ],
)
async def test_a_scene_is_named_after_its_file(filename: str, name: str, out: Path) -> None:
    scene = await Importer(Limits()).read_map(
        SAMPLES / "good" / "bare.df2vtt", out, filename=filename
    )
    assert scene.name == name


async def test_fi6_the_wall_clock_ends_a_picture_that_takes_too_long(slow: Path, out: Path) -> None:
    with pytest.raises(TooLarge, match=r"more than 0\.7 seconds"):
        await Importer(Limits(wall_s=0.7)).inspect_and_clean(slow, out)
    assert left_in(out) == []
    assert children_of(out) == []


async def test_fi6_the_processor_s_clock_does_too(slow: Path, out: Path) -> None:
    with pytest.raises(TooLarge, match="more than 1 seconds of the processor"):
        await Importer(Limits(cpu_s=1)).inspect_and_clean(slow, out)
    assert left_in(out) == []


async def test_fi5_json_that_swells_is_stopped_and_costs_the_server_nothing(
    tmp_path: Path, out: Path
) -> None:
    bomb = tmp_path / "bomb.uvtt"
    bomb.write_bytes(b'{"resolution":[' + b"[]," * 7_000_000 + b"0]}")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(TooLarge, match="memory"):
        await Importer(Limits()).read(bomb, out, filename=bomb.name)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024
    assert left_in(out) == []


async def test_fi4_pixels_within_the_limit_that_need_too_much_memory_are_refused(
    tmp_path: Path, out: Path
) -> None:
    source = tmp_path / "flat.png"
    source.write_bytes(flat_png(16_384, 16_384))
    with pytest.raises(TooLarge, match="Opening a PNG of 16384 × 16384 takes"):
        await Importer(Limits(memory_bytes=256 << 20)).inspect_and_clean(source, out)
    assert left_in(out) == []


@pytest.mark.parametrize(
    ("form", "options", "mebibytes"),
    [
        ("PNG", {}, 200),
        ("JPEG", {}, 200),
        ("JPEG", {"progressive": True, "subsampling": 0}, 200),
        ("JPEG", {"exif": make_samples.exif(6)}, 200),
        ("WEBP", {"lossless": True, "quality": 0, "method": 0}, 260),
        ("WEBP", {"quality": 50, "method": 0}, 200),
        ("AVIF", {"speed": 10}, 200),
        ("AVIF", {"speed": 10, "subsampling": "4:4:4"}, 260),
    ],
)  # fmt: skip
async def test_what_the_header_lets_pass_does_fit_into_the_memory(
    form: str, options: dict[str, object], mebibytes: int, tmp_path: Path, out: Path
) -> None:
    """The estimate from the header is no less than what the decoders take: it is refused before, or it is opened."""
    noise = Image.frombytes("RGB", (256, 256), Random(7).randbytes(196_608)).resize((2000, 1400))
    source = tmp_path / "source"
    source.write_bytes(encoded(noise, form, **options))
    for bound in range(100, mebibytes + 1, 30):
        result = await outcome(Importer(Limits(memory_bytes=bound << 20)), source, out)
        if isinstance(result, CleanImage):
            return
        assert "MiB of memory, and" in result.why
    pytest.fail(f"{mebibytes} MiB were not enough")


async def outcome(importer: Importer, source: Path, out: Path) -> CleanImage | TooLarge:
    """The picture, or its refusal."""
    try:
        return await importer.inspect_and_clean(source, out)
    except TooLarge as refusal:
        return refusal


async def test_fi6_the_child_is_bound_and_inherits_nothing(
    slow: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADMIN_TOKEN", "hush")
    limits = Limits(max_bytes=1 << 20, memory_bytes=600 << 20, cpu_s=9)
    async with opening(Importer(limits), slow, out):
        pid = await wait_for_child(out)
        held = limits_of(pid)
        assert held["Max address space"] == str(600 << 20)
        assert held["Max cpu time"] == "9"
        assert held["Max file size"] == str(3 << 20)
        assert held["Max open files"] == "24"
        assert held["Max processes"] == "0"
        assert told_to(pid) == (["PYTHONPATH"], "1000")
        assert not any("socket" in name for name in opened_by(pid))
    assert children_of(out) == []
    assert left_in(out) == []


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (signal.SIGKILL, TooLarge, "ran out of memory"),
        (signal.SIGSEGV, Malformed, "broke down"),
        (signal.SIGXCPU, TooLarge, "of the processor"),
    ],
)
async def test_fi6_a_child_that_dies_is_a_refusal(
    number: signal.Signals, kind: type[TableForgeError], words: str, slow: Path, out: Path
) -> None:
    async with opening(Importer(Limits()), slow, out) as task:
        os.kill(await wait_for_child(out), number)
        with pytest.raises(kind, match=words):
            await task
    assert left_in(out) == []


async def test_fi6_one_file_at_a_time_a_bounded_queue_and_a_bounded_wait(
    slow: Path, out: Path
) -> None:
    importer = Importer(Limits(waiting=1, wait_s=0.5))
    async with opening(importer, slow, out):
        await wait_for_child(out)
        async with opening(importer, SAMPLES / "good" / "plain.png", out) as second:
            await asyncio.sleep(0)
            with pytest.raises(TooMany):
                await importer.inspect_and_clean(SAMPLES / "good" / "plain.png", out)
            assert len(children_of(out)) == 1
            with pytest.raises(Unavailable, match="Other files take long"):
                await second
    await importer.inspect_and_clean(SAMPLES / "good" / "plain.png", out)
    assert len(left_in(out)) == 2


@pytest.mark.parametrize(
    ("name", "words"), [("nowhere", "No such file or directory"), ("file", "Not a directory")]
)
async def test_fi2_a_folder_that_cannot_be_written_is_the_disk_s_fault(
    name: str, words: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"in the way")
    with pytest.raises(Unavailable, match=f"The disk says: {words}"):
        await Importer(Limits()).inspect_and_clean(SAMPLES / "good" / "plain.png", tmp_path / name)


@pytest.mark.parametrize(("what", "sample"), [("picture", "plain.png"), ("map", "bare.df2vtt")])
def test_fi2_a_full_disk_is_told_as_such(what: str, sample: str, tmp_path: Path) -> None:
    order = Order(
        what="map" if what == "map" else "picture",
        source=str(SAMPLES / "good" / sample),
        target="/dev/full",
        thumbnail=str(tmp_path / "thumbnail"),
        embedded=str(tmp_path / "embedded"),
        limits=Limits(),
    )
    done = subprocess.run(
        [sys.executable, "-m", "tableforge.files.worker", msgspec.json.encode(order).decode()],
        capture_output=True,
        timeout=DEADLINE_SECONDS,
        check=True,
    )
    answer: Answer = msgspec.json.decode(done.stdout, type=Answer)
    assert isinstance(answer, Refusal)
    assert (answer.code, answer.why) == ("unavailable", "The disk is full.")


def test_the_server_loads_no_decoder() -> None:
    code = "import sys, tableforge.files.importer; sys.exit('PIL' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=DEADLINE_SECONDS)
