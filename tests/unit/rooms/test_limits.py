"""Token buckets, with the clock in the test's hand."""

from hypothesis import given
from hypothesis import strategies as st

from tableforge.rooms.limits import TokenBuckets


def test_a_burst_then_the_rate() -> None:
    buckets = TokenBuckets(rate=2, burst=3)
    assert [buckets.take("ada", 0.0) for _ in range(4)] == [True, True, True, False]
    assert buckets.take("ada", 0.4) is False
    assert buckets.take("ada", 0.5) is True
    assert buckets.take("ada", 0.5) is False
    assert [buckets.take("ada", 100.0) for _ in range(4)] == [True, True, True, False]


def test_each_key_has_a_bucket_of_its_own() -> None:
    buckets = TokenBuckets(rate=1, burst=1)
    assert buckets.take("ada", 0.0)
    assert buckets.take("bo", 0.0)
    assert not buckets.take("ada", 0.0)


def test_no_rate_is_no_limit() -> None:
    buckets = TokenBuckets(rate=0, burst=0)
    assert all(buckets.take("ada", 0.0) for _ in range(10_000))


def test_only_so_many_keys_are_remembered() -> None:
    buckets = TokenBuckets(rate=1, burst=1, bound=2)
    assert buckets.take("one", 0.0)
    assert buckets.take("two", 0.0)
    assert buckets.take("three", 0.0)
    assert not buckets.take("three", 0.0)
    assert buckets.take("one", 0.0), "the longest unused is forgotten, which can only be generous"


@given(
    st.integers(1, 50),
    st.integers(1, 50),
    st.lists(st.floats(0, 3, allow_nan=False), min_size=1, max_size=200),
)
def test_never_more_than_the_burst_and_what_flowed_in(
    rate: int, burst: int, pauses: list[float]
) -> None:
    buckets = TokenBuckets(rate=rate, burst=burst)
    now, taken = 0.0, 0
    for pause in pauses:
        now += pause
        taken += buckets.take("ada", now)
        assert taken <= burst + rate * now + 1e-6
