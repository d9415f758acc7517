"""The texts of statements as PostgreSQL gets them."""

import pytest

from tableforge.database import Statement
from tableforge.database.migrations import scripts
from tableforge.database.postgres import text_of


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("SELECT 1", "SELECT 1"),
        ("a = ? AND b = ?", "a = $1 AND b = $2"),
        ("a = ?2 AND b = ?1 OR c = ?2", "a = $2 AND b = $1 OR c = $2"),
        ("a = ?3 AND b = ?", "a = $3 AND b = $4"),
        ("a = '?' AND b = ?", "a = '?' AND b = $1"),
        ("a = 'it''s ?1' AND b = ?", "a = 'it''s ?1' AND b = $1"),
        ('"odd?name" = ?', '"odd?name" = $1'),
        ("a = ? -- is it?\nAND b = ?", "a = $1 -- is it?\nAND b = $2"),
        ("a LIKE ? ESCAPE '\\' AND b = ?", "a LIKE $1 ESCAPE '\\' AND b = $2"),
    ],
)
def test_db15_placeholders_become_postgresql_s(written: str, sent: str) -> None:
    assert text_of(Statement("test", written)) == sent
    assert text_of(Statement("test", "not this", written)) == sent


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_db8_scripts_are_numbered_without_a_gap(engine: str) -> None:
    assert [step.number for step in scripts(engine)] == list(range(1, len(scripts(engine)) + 1))
