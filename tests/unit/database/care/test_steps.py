"""What is read out of a statement of SQLite: the tables, the columns, and values that belong together."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from tableforge.database.care import Unmeasurable
from tableforge.database.care.plans import Candidate
from tableforge.database.care.steps import STEPS, Reading, numbered

LISTING = (
    "SELECT a.id, ':?' FROM assets AS a WHERE (a.uploader) = (?) AND (made, id) < (?, ?)"
    " AND (? = '' OR name LIKE ?) ORDER BY made DESC, id DESC LIMIT ?"
)


@pytest.fixture
def memory() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(
            "CREATE TABLE assets (id TEXT PRIMARY KEY, uploader TEXT, made INT, name TEXT)"
        )
        connection.execute("CREATE TABLE users (id TEXT PRIMARY KEY, called TEXT)")
        rows = [
            (f"a{number}", f"u{number % 50}", number, f"word {number}") for number in range(2_000)
        ]
        connection.executemany("INSERT INTO assets VALUES (?, ?, ?, ?)", rows)
        yield connection


def test_parameters_are_numbered_but_for_those_in_literals() -> None:
    assert (
        numbered("SELECT '?', ? WHERE a = ?3 AND b = ?") == "SELECT '?', ?1 WHERE a = ?3 AND b = ?4"
    )


def test_rows_that_are_compared_ask_for_the_index_that_gives_their_order(
    memory: sqlite3.Connection,
) -> None:
    reading = Reading(memory, LISTING)
    assert reading.candidates(memory)[0] == Candidate("assets", ("uploader", "made", "id"))


def test_values_are_drawn_from_one_row_at_a_time(memory: sqlite3.Connection) -> None:
    for uploader, made, asset, part, pattern, limit in Reading(memory, LISTING).draw(memory):
        assert asset == f"a{made}"
        assert uploader == f"u{int(str(made)) % 50}"
        assert (part, limit) == ("", 50)
        assert pattern == "%wor%"


def test_an_index_lessens_the_steps_and_nothing_else_does(memory: sqlite3.Connection) -> None:
    reading = Reading(memory, LISTING)
    drawn = reading.draw(memory)
    before = reading.measure(memory, drawn)
    assert abs(reading.measure(memory, drawn).work - before.work) <= STEPS * len(drawn)  # rounded
    memory.execute("CREATE INDEX helping ON assets (uploader, made, id)")
    assert Reading(memory, LISTING).measure(memory, drawn).work < before.work / 2


def test_both_sides_of_a_join_are_seen(memory: sqlite3.Connection) -> None:
    text = "SELECT * FROM users u JOIN assets a ON a.uploader = u.id WHERE u.called = ?"
    found = Reading(memory, text).candidates(memory)
    assert Candidate("assets", ("uploader",)) in found or Candidate("users", ("called",)) in found


@pytest.mark.parametrize(
    "text", ["SELECT nothing FROM nowhere", "SELECT id FROM assets WHERE x = ?"]
)
def test_what_does_not_fit_the_tables_is_left_alone(memory: sqlite3.Connection, text: str) -> None:
    with pytest.raises(Unmeasurable):
        Reading(memory, text).candidates(memory)
