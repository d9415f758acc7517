"""When a statement counts as better, and which statements may be run to find out."""

import pytest

from tableforge.database.care import Measure, helped, is_read_only, judged


def measured(*times: float, work: int) -> Measure:
    return Measure(times, work, "pages")


def test_one_slow_run_among_fast_ones_decides_nothing() -> None:
    before = measured(*[10.0] * 10, 11.0, work=1_000)
    assert helped(before, measured(*[0.1] * 10, 90.0, work=30))
    assert not helped(measured(*[0.1] * 10, 90.0, work=30), measured(*[0.1] * 11, work=30))


def test_faster_alone_is_not_better_and_less_work_alone_is_not_either() -> None:
    before = measured(*[10.0] * 11, work=1_000)
    assert not helped(before, measured(*[1.0] * 11, work=1_000))
    assert not helped(before, measured(*[9.0] * 11, work=10))


def test_what_decides_is_what_is_told() -> None:
    before, after = measured(*[10.0] * 11, work=1_000), measured(*[1.0] * 11, work=100)
    assert str(before) == "median 10 ms (p95 10 ms), 1000 pages in 11 runs together"
    assert judged("room.find", before, after) == (
        "room.find is better for it: median 10 to 1 ms, 1000 to 100 pages."
    )
    assert judged("room.find", before, before) == (
        "room.find gained too little: median 10 to 10 ms, 1000 to 1000 pages."
        " An index stays for half of the median and 20% fewer pages."
    )


@pytest.mark.parametrize(
    ("text", "only_reads"),
    [
        ("SELECT 1 FROM events WHERE room = $1", True),
        (" WITH a AS (SELECT 1) SELECT * FROM a", True),
        ("WITH a AS (DELETE FROM rooms RETURNING 1) SELECT * FROM a", False),
        ("UPDATE rooms SET name = $1", False),
        ("SELECT pg_advisory_xact_lock(1)", False),
        ("SELECT nextval('a')", False),
        ("SELECT * FROM rooms FOR UPDATE", False),
        ("SHOW server_version", False),
    ],
)
def test_only_what_reads_is_run_for_a_measurement(text: str, only_reads: bool) -> None:
    assert is_read_only(text) is only_reads
