"""What is kept of statements (rules DB17 to DB19): figures, slow runs, and never a value."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from threading import Thread

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tableforge.database import DatabaseUnavailable
from tableforge.database.observing import (
    EXAMPLES,
    LATELY_SECONDS,
    SLOW_STATEMENTS,
    Blocker,
    Observer,
    ParameterShape,
    Peak,
    Slow,
    Watch,
    shape_of,
    without_literals,
)
from tests.virtual_time import run

SECRET = "hunter2-the-value"


def observer(*, slow_seconds: float = -1.0) -> Observer:
    """One to whom everything is slow, unless said otherwise."""
    return Observer(slow_seconds=slow_seconds, log_all=False)


def once(seen: Observer, name: str, text: str, *params: object, rows: int = 0) -> None:
    with seen.watch(name, text, params) as watch:
        watch.rows = rows


def test_db17_every_run_counts_with_its_rows_also_those_that_failed() -> None:
    seen = observer(slow_seconds=60.0)
    once(seen, "unit.counted", "SELECT 1", rows=3)
    watch = seen.watch("unit.counted", "SELECT 1")
    watch.rows = 1
    with pytest.raises(ValueError, match="no"), watch:
        raise ValueError("no")
    (figures,) = seen.figures()
    assert (figures.name, figures.count, figures.rows) == ("unit.counted", 2, 4)
    assert 0 < figures.p50_ms <= figures.p95_ms <= figures.p99_ms <= figures.slowest_ms
    assert figures.slowest_lately_ms == figures.slowest_ms
    assert figures.mean_ms == pytest.approx(figures.total_ms / 2, abs=0.001)
    assert seen.total().count == 2
    assert seen.slow() == []
    assert seen.running_long() == []


def test_db17_the_slowest_run_is_that_of_two_windows() -> None:
    peak = Peak()
    peak.see(3.0, 1000.0)
    peak.see(1.0, 1001.0)
    assert peak.lately(1000.0 + LATELY_SECONDS) == 3.0
    peak.see(2.0, 1001.0 + LATELY_SECONDS)
    assert peak.lately(1002.0 + LATELY_SECONDS) == 3.0
    peak.see(0.5, 1002.0 + 2 * LATELY_SECONDS)
    assert peak.lately(1003.0 + 2 * LATELY_SECONDS) == 2.0
    assert peak.lately(1003.0 + 5 * LATELY_SECONDS) == 0.0


def test_db18_a_slow_run_keeps_shapes_and_never_values() -> None:
    seen = observer()
    values = (
        SECRET,
        SECRET.encode(),
        4711,
        47.11,
        True,
        None,
        [SECRET, SECRET],
        (),
        datetime.now(UTC),
    )
    once(seen, "unit.shapes", "SELECT ?", *values, rows=1)
    (slow,) = seen.slow()
    (example,) = slow.examples
    length = len(SECRET)
    assert example.parameters == (
        ParameterShape("text", length),
        ParameterShape("bytes", length),
        ParameterShape("integer"),
        ParameterShape("number"),
        ParameterShape("boolean"),
        ParameterShape("null"),
        ParameterShape("list of text", 2),
        ParameterShape("list", 0),
        ParameterShape("datetime"),
    )
    assert (slow.text, slow.times, example.rows, example.ended) == ("SELECT ?", 1, 1, "done")
    told = msgspec.json.encode(seen.slow()).decode()
    assert SECRET not in told
    assert "4711" not in told


@given(st.one_of(st.text(min_size=9), st.binary(min_size=9), st.integers(10**9), st.floats(1e9)))
def test_db18_a_shape_does_not_hold_its_value(value: object) -> None:
    assert str(value) not in repr(shape_of(value))


def test_db18_how_a_run_ended_is_told_in_a_word() -> None:
    class Refused(Exception):
        sqlstate = "57014"

    seen = observer()
    for error in (Refused(SECRET), KeyError(SECRET), TimeoutError(SECRET)):
        with pytest.raises(type(error)), seen.watch("unit.ended", "SELECT 2"):
            raise error
    with pytest.raises(asyncio.CancelledError), seen.watch("unit.ended", "SELECT 2"):
        raise asyncio.CancelledError
    (slow,) = seen.slow()
    assert [one.ended for one in slow.examples] == ["cancelled", "timeout", "KeyError", "57014"]


def test_db18_what_is_kept_is_bounded_and_the_latest_comes_first() -> None:
    seen = observer()
    for number in range(SLOW_STATEMENTS + 20):
        once(seen, "unit.bounded", f"SELECT {number}")
    for _ in range(EXAMPLES + 3):
        once(seen, "unit.bounded", "SELECT 50")
    kept = seen.slow()
    assert len(kept) == SLOW_STATEMENTS
    assert (kept[0].text, kept[0].times, len(kept[0].examples)) == ("SELECT 50", 9, EXAMPLES)
    assert kept[-1].text == "SELECT 20"


def test_db17_statements_may_end_on_any_thread() -> None:
    seen = observer()

    def many() -> None:
        for _ in range(200):
            once(seen, "unit.threads", "SELECT 3")

    threads = [Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen.slow()[0].times == 800
    assert not seen.running


def test_db19_plans_come_one_at_a_time_once_a_minute_and_say_why_they_are_missing() -> None:
    async def scene() -> None:
        seen = observer()
        asked: list[tuple[str, int]] = []

        async def explain(text: str, parameters: int, settings: str) -> str:
            asked.append((text, parameters))
            if text == "BROKEN":
                raise DatabaseUnavailable("", "There is no plan for this.")
            return f"plan of {text} under {settings}"

        attending = asyncio.create_task(seen.attend(explain))
        with seen.watch("unit.planned", "SELECT ?", [SECRET], settings="SET x"):
            pass
        once(seen, "unit.broken", "BROKEN")
        await asyncio.sleep(10)
        assert sorted(asked) == [("BROKEN", 0), ("SELECT ?", 1)]
        plans: dict[str, Slow] = {one.text: one for one in seen.slow()}
        assert plans["SELECT ?"].plan == "plan of SELECT ? under SET x"
        assert plans["SELECT ?"].plan_at is not None
        assert (plans["BROKEN"].plan, plans["BROKEN"].plan_reason) == (
            None,
            "There is no plan for this.",
        )
        attending.cancel()
        await asyncio.gather(attending, return_exceptions=True)

    run(scene())


def test_db19_who_waits_is_looked_at_while_it_waits() -> None:
    blocker = Blocker(7, "tableforge/two", "active", None, 1.0, "unit.other", "UPDATE x SET y = ?")

    async def scene() -> None:
        seen = observer()

        async def explain(text: str, parameters: int, settings: str) -> str:
            return ""

        async def look(waiting: Sequence[Watch]) -> None:
            for watch in waiting:
                watch.wait = "Lock: relation"
                watch.blockers[blocker.pid] = blocker

        attending = asyncio.create_task(seen.attend(explain, look))
        with seen.watch("unit.waits", "SELECT 4"):
            await asyncio.sleep(2)
            (running,) = seen.running_long()
            assert (running.name, running.wait, running.blockers) == (
                "unit.waits",
                "Lock: relation",
                (blocker,),
            )
        assert seen.running_long() == []
        assert seen.slow()[0].examples[0].blockers == (blocker,)
        attending.cancel()
        await asyncio.gather(attending, return_exceptions=True)

    run(scene())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("SELECT $1, t1.c2 FROM t1 LIMIT $2", "SELECT $1, t1.c2 FROM t1 LIMIT $2"),
        ("SELECT 'it''s', 12.5e3, .5, 0x1F, 1_000 FROM t", "SELECT ?, ?, ?, ?, ? FROM t"),
        (r"SELECT E'a\'b', N'c', U&'d', B'01', $tag$e'f$tag$, $$g$$", "SELECT ?, ?, ?, ?, ?, ?"),
        ('SELECT "a ""b"" \'c" FROM t', 'SELECT "a ""b"" \'c" FROM t'),
        ("SELECT 1 -- of 'me'\n, /* it's */ 2", "SELECT ?  \n,   ?"),
        ("SELECT a FROM t WHERE b = 'cut off her", "SELECT a FROM t WHERE b = …"),
        ("SELECT a /* cut off her", "SELECT a …"),
        ("SELECT $a$ cut off her", "SELECT …"),
    ],
)
def test_db18_texts_of_other_sessions_are_told_without_literals(text: str, told: str) -> None:
    assert without_literals(text) == told


@given(st.text(alphabet="abc'\"$\\-/* \n;", max_size=40), st.sampled_from(["{}", "E{}", "x {} y"]))
def test_db18_no_quoted_value_is_ever_told(value: str, around: str) -> None:
    """Whatever stands in it, as PostgreSQL quotes it."""
    secret = f"hunter{value}2"
    escaped = secret.replace("'", "''").replace("\\", "\\\\")
    quoted = f"E'{escaped}'"
    assert "hunter" not in without_literals(f"SELECT {around.removeprefix('E').format(quoted)}, 1")


def test_db17_a_statement_is_known_by_the_beginning_of_its_text() -> None:
    seen = observer()
    text = "SELECT " + ", ".join(f"column_{number}" for number in range(300))
    once(seen, "unit.long", text)
    assert seen.name_of(text) == seen.name_of(text[:1023]) == "unit.long"
    assert seen.name_of("SELECT ") is None
