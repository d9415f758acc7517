"""When something is due (rule MC8 of `docs/spec.md`)."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from tableforge.api.schedules import coming, latest

NIGHTLY = "30 2 * * *"


def at(text: str) -> float:
    """A moment in seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()


def told(moments: Sequence[float]) -> list[str]:
    return [datetime.fromtimestamp(one, UTC).isoformat() for one in moments]


def test_mc8_a_schedule_is_read_in_its_time_zone() -> None:
    now = at("2026-01-10T12:00:00+00:00")
    assert told(coming("0 2 * * *", "UTC", now, 1)) == ["2026-01-11T02:00:00+00:00"]
    assert told(coming("0 2 * * *", "Asia/Tokyo", now, 2)) == [
        "2026-01-10T17:00:00+00:00",
        "2026-01-11T17:00:00+00:00",
    ]
    assert told(coming("0 2 * * *", "America/New_York", now, 1)) == ["2026-01-11T07:00:00+00:00"]


def test_mc8_a_night_whose_hour_is_left_out_or_comes_twice_has_it_once() -> None:
    spring = coming(NIGHTLY, "Europe/Berlin", at("2026-03-28T12:00:00+00:00"), 3)
    assert told(spring) == [
        "2026-03-29T01:00:00+00:00",
        "2026-03-30T00:30:00+00:00",
        "2026-03-31T00:30:00+00:00",
    ]
    autumn = coming(NIGHTLY, "Europe/Berlin", at("2026-10-24T12:00:00+00:00"), 3)
    assert told(autumn) == [
        "2026-10-25T00:30:00+00:00",
        "2026-10-26T01:30:00+00:00",
        "2026-10-27T01:30:00+00:00",
    ]


@pytest.mark.parametrize("day", ["2026-03-28", "2026-03-29", "2026-10-24", "2026-10-25"])
def test_mc8_looking_back_finds_the_moments_that_looking_ahead_foretold(day: str) -> None:
    start = at(f"{day}T00:00:00+00:00")
    for written in (NIGHTLY, "0 * * * *", "*/15 * * * *", "0 2 * * 1"):
        for due in coming(written, "Europe/Berlin", start, 8):
            assert latest(written, "Europe/Berlin", due) == due
            assert latest(written, "Europe/Berlin", due - 1) < due
