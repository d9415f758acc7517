"""The ring: the newest events without a gap, within its bounds."""

from hypothesis import given
from hypothesis import strategies as st

from tableforge.rooms.views import Ring, Viewed


def seen(offset: int, size: int) -> Viewed:
    return Viewed(offset, b"x" * size, {}, b"")


@given(st.lists(st.integers(0, 60), max_size=60), st.integers(0, 20), st.integers(0, 200))
def test_ro9_a_ring_keeps_the_newest_within_its_bounds(
    sizes: list[int], events: int, size: int
) -> None:
    ring = Ring(events, size)
    for offset, length in enumerate(sizes, 1):
        ring.append(seen(offset, length))
        here = ring.newest(len(ring))
        assert here is not None
        assert len(here) <= events
        assert sum(one.size for one in here) <= size
        assert [one.offset for one in here] == list(range(offset - len(here) + 1, offset + 1))
        assert ring.newest(len(ring) + 1) is None
        assert ring.newest(-1) is None


def test_ro9_what_is_too_large_for_the_ring_leaves_it_empty() -> None:
    ring = Ring(10, 100)
    ring.append(seen(1, 50))
    ring.append(seen(2, 101))
    assert ring.newest(0) == []
    assert len(ring) == 0
    ring.append(seen(3, 100))
    assert ring.newest(1) == [seen(3, 100)]
