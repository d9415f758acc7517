"""The numbered scripts that bring a database to the present form, a folder for each engine; they only go forward.

A script for PostgreSQL may only add: instances of the version before serve on while it runs, and after it.
"""

from importlib import resources
from typing import NamedTuple


class Script(NamedTuple):
    """One step: its number, which is the database's form after it, its file's name, and its SQL."""

    number: int
    name: str
    text: str


def scripts(engine: str) -> list[Script]:
    """The steps of an engine, `sqlite` or `postgres`, in order."""
    found = []
    for entry in (resources.files(__package__) / engine).iterdir():
        if entry.name.endswith(".sql"):
            number = int(entry.name.split("_", 1)[0])
            found.append(Script(number, entry.name, entry.read_text(encoding="utf-8")))
    return sorted(found)
