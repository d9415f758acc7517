"""The disk cache of a fleet's instance: whole files, once for all who ask, the longest unused thrown away."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tableforge.errors import NotFound, Unavailable
from tableforge.library.asset_cache import KEPT_SECONDS, UNFINISHED, AssetCache

Fetch = Callable[[Path], Awaitable[None]]


def write(path: Path, content: bytes, *, unused: float = 0.0) -> None:
    """Make a file that was not used for so long."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    age(path, unused)


def brings(content: bytes) -> Fetch:
    """A fetch that writes this."""

    async def fetch(target: Path) -> None:
        write(target, content)

    return fetch


async def never(target: Path) -> None:
    """A fetch that must not be needed."""
    raise AssertionError(target)


def kept(folder: Path) -> set[str]:
    """What lies in the cache."""
    return {path.name for path in folder.iterdir()}


def age(path: Path, seconds: float) -> None:
    """Make a file unused for so long."""
    then = time.time() - seconds
    os.utime(path, (then, then))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "asset-cache"


@pytest.fixture
def cache(folder: Path) -> AssetCache:
    return AssetCache(folder, max_bytes=100)


async def test_what_was_fetched_is_not_fetched_again(cache: AssetCache, folder: Path) -> None:
    assert (await cache.file("a", brings(b"one"))).read_bytes() == b"one"
    assert await cache.file("a", never) == folder / "a"
    assert await AssetCache(folder, max_bytes=100).file("a", never) == folder / "a"


async def test_many_who_ask_at_once_wait_for_one_fetch(cache: AssetCache) -> None:
    asked = 0
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def fetch(target: Path) -> None:
        nonlocal asked
        asked += 1
        begun.set()
        await go_on.wait()
        write(target, b"one")

    waiting = [asyncio.create_task(cache.file("a", fetch)) for _ in range(20)]
    impatient = asyncio.create_task(cache.file("a", fetch))
    await begun.wait()
    impatient.cancel()
    go_on.set()
    paths = await asyncio.gather(*waiting)
    assert {path.read_bytes() for path in paths} == {b"one"}
    assert asked == 1


async def test_a_fetch_that_fails_leaves_nothing_and_is_tried_again(
    cache: AssetCache, folder: Path
) -> None:
    async def fails(target: Path) -> None:
        write(target, b"half")
        raise NotFound("There is no such asset.")

    for _ in range(2):
        with pytest.raises(NotFound):
            await cache.file("a", fails)
        assert kept(folder) == set()
    assert (await cache.file("a", brings(b"whole"))).read_bytes() == b"whole"


async def test_the_longest_unused_goes_first(cache: AssetCache, folder: Path) -> None:
    for name, unused in (("a", 400), ("b", 300), ("c", 200)):
        age(await cache.file(name, brings(b"x" * 30)), unused)
    again = AssetCache(folder, max_bytes=100)
    await again.file("a", never)
    await again.file("d", brings(b"x" * 30))
    assert kept(folder) == {"a", "c", "d"}


async def test_what_was_just_used_stays_even_when_there_is_too_much(
    cache: AssetCache, folder: Path
) -> None:
    for name in "abcd":
        await cache.file(name, brings(b"x" * 60))
    assert kept(folder) == set("abcd"), "a reader may be about to open each of them"
    for name in "abcd":
        age(folder / name, KEPT_SECONDS * 2)
    again = AssetCache(folder, max_bytes=100)
    await again.file("e", brings(b"x" * 60))
    assert kept(folder) == {"e"}


async def test_a_file_that_was_thrown_away_by_another_is_fetched_anew(cache: AssetCache) -> None:
    (await cache.file("a", brings(b"one"))).unlink()
    assert (await cache.file("a", brings(b"one"))).read_bytes() == b"one"


async def test_what_a_killed_process_left_half_written_goes_after_an_hour(folder: Path) -> None:
    for name, unused in (("old", 4_000), ("new", 10)):
        write(folder / f"{UNFINISHED}{name}", b"half", unused=unused)
    await AssetCache(folder, max_bytes=100).file("a", brings(b"one"))
    assert kept(folder) == {"a", f"{UNFINISHED}new"}


async def test_a_disk_that_refuses_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unavailable):
        await AssetCache(tmp_path / "file" / "x", max_bytes=100).file("a", never)
