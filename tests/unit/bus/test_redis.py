"""Which servers may be named, and which channel lives where."""

import pytest

from tableforge.bus.redis import RedisBus
from tableforge.config import RedisKnobs
from tableforge.errors import StartRefused


def test_a_server_that_is_named_twice_is_refused() -> None:
    with pytest.raises(StartRefused, match="twice") as refusal:
        RedisBus(
            RedisKnobs(bus_urls="redis://:hunter2@a:1,redis://:hunter3@a:1"),
            silence_seconds=2,
            origin="ada",
        )
    assert "hunter" not in str(refusal.value)


def test_bu6_all_instances_find_a_channel_at_the_same_server_and_a_further_one_moves_few() -> None:
    def homes(bus_urls: str) -> list[str]:
        bus = RedisBus(RedisKnobs(bus_urls=bus_urls), silence_seconds=2, origin="ada")
        return [bus._place(f"room:{number}")[0].name for number in range(1_000)]

    three = homes("redis://a:1,redis://b:1,redis://c:1")
    assert homes("redis://:secret@c:1,redis://a:1,redis://b:1") == three
    assert all(three.count(name) > 250 for name in set(three))
    four = homes("redis://a:1,redis://b:1,redis://c:1,redis://d:1")
    moved = {after for before, after in zip(three, four, strict=True) if before != after}
    assert moved == {"redis://d:1"}
