"""The committed vectors are what the server does today, and the reference reader folds each of them."""

from typing import Any, get_args

import pytest

from tableforge.domain.events import Seen
from tests.reader import Reader, canonical
from tests.vectors.make_vectors import FOLDER, vectors, written

VECTORS = vectors()


@pytest.mark.parametrize("file", sorted(VECTORS))
def test_rd10_a_reader_of_the_stream_arrives_at_the_snapshot(file: str) -> None:
    vector = VECTORS[file]
    reader = Reader(vector["snapshot"])
    for event in vector["events"]:
        reader.take(event["data"], event["offset"])
    assert canonical(reader.view) == canonical(vector["expected"])


def test_the_committed_vectors_are_those_of_this_server() -> None:
    committed = {path.name: path.read_text("utf-8") for path in FOLDER.glob("*.json")}
    made = {file: written(vector) for file, vector in VECTORS.items()}
    assert committed == made, "run `python -m tests.vectors.make_vectors` and commit what it writes"


def test_the_vectors_tell_of_every_event_and_of_all_that_comes_and_goes() -> None:
    def types(data: dict[str, Any]) -> set[str]:
        parts = (types(part) for part in data.get("events", ()))
        return {data["type"], *data.get("shown", ()), *data.get("gone", ())}.union(*parts)

    told = (types(event["data"]) for vector in VECTORS.values() for event in vector["events"])
    kinds = {str(kind.__struct_config__.tag) for kind in get_args(Seen)} - {"room.created"}
    things = {"scenes", "tokens", "walls", "doors", "lights", "drawings", "placed"}
    assert kinds | things | {"turn"} <= set[str]().union(*told)
