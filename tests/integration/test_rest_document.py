"""The OpenAPI document says what the server does: nothing fails, nothing is answered that it does not name (HT13)."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server_process import Person, ServerProcess

CALLS = {
    "GET /health", "GET /ready", "GET /metrics",
    "GET /api/admin/instances", "POST /api/admin/instances/{instance}/drain",
    "GET /api/admin/database/advice", "POST /api/admin/optimize/database",
    "GET /api/admin/optimize/schedules", "GET /api/admin/optimize/history", "GET /api/admin/runs/{run}",
    "POST /api/session", "GET /api/session", "PATCH /api/session", "DELETE /api/session",
    "POST /api/session/recovery",
    "GET /api/rooms", "POST /api/rooms",
    "GET /api/rooms/{room}", "PATCH /api/rooms/{room}", "DELETE /api/rooms/{room}",
    "POST /api/rooms/{room}/join", "DELETE /api/rooms/{room}/members/me",
    "POST /api/rooms/{room}/invites", "DELETE /api/rooms/{room}/invites/{invite}",
    "GET /api/rooms/{room}/snapshot", "GET /api/rooms/{room}/events",
    "POST /api/rooms/{room}/commands", "POST /api/rooms/{room}/imports",
    "POST /api/assets", "GET /api/assets",
    "GET /api/assets/{asset}", "GET /api/assets/{asset}/thumbnail",
    "GET /api/systems", "POST /api/systems", "GET /api/systems/{system}", "POST /api/systems/{system}",
    "GET /api/templates", "POST /api/templates",
    "GET /api/templates/{template}", "POST /api/templates/{template}",
    "GET /api/admin/cache/stats", "POST /api/admin/cache/clear", "POST /api/admin/cache/warm",
    "POST /api/admin/cache/rebuild", "POST /api/admin/cache/emergency-mode", "POST /api/admin/optimize/cache",
    "GET /api/admin/database/stats", "GET /api/admin/database/slow-queries",
}  # fmt: skip
"""The contract's calls that this version has."""

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")

REFUSED = [400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 428, 429, "5xx"]
"""What counts as a refusal of input that the document does not allow: the tool's own list, and 413."""

ENDING = ("sign_out", "delete_room")
"""Operations after which the others would only be told that nobody is there any more."""


@pytest.fixture
def document(server: ServerProcess) -> dict[str, Any]:
    """The document as it is served."""
    answer = httpx.get(f"{server.url}/api/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    found: dict[str, Any] = answer.json()
    return found


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every operation by its method and path."""
    return {
        f"{method.upper()} {path}": said
        for path, methods in document["paths"].items()
        for method, said in methods.items()
    }


def test_ht13_the_document_names_every_call(document: dict[str, Any]) -> None:
    found = operations(document)
    assert found.keys() == CALLS
    ids = [said["operationId"] for said in found.values()]
    assert len(ids) == len(set(ids))
    assert all(said["summary"] for said in found.values())


def test_ht13_every_refusal_in_it_is_a_problem_document(document: dict[str, Any]) -> None:
    for said in operations(document).values():
        refusals = {one: answer for one, answer in said["responses"].items() if one >= "400"}
        assert {"421", "500", "503"} <= refusals.keys()
        assert all("application/problem+json" in one["content"] for one in refusals.values())
        assert ("401" in refusals) >= ("security" in said)


def test_ht13_every_type_it_refers_to_is_in_it(document: dict[str, Any]) -> None:
    named = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert named == document["components"]["schemas"].keys()


def fuzz(server: ServerProcess, folder: Path, person: Person, *options: str) -> None:
    """Let schemathesis try whatever the document allows, and what it does not."""
    room, _ = person.create_room()
    config = folder / "schemathesis.toml"
    config.write_text(
        f'[parameters]\n"path.room" = "{room}"\n'
        # A list with too many things in it may be refused for its size alone.
        f"[checks.negative_data_rejection]\nexpected-statuses = {json.dumps(REFUSED)}\n"
    )
    done = subprocess.run(
        [
            *(str(SCHEMATHESIS), "--config-file", str(config), "run"),
            f"{server.url}/api/openapi.json",
            *("--header", f"Authorization: Bearer {person.token}"),
            *("--workers", "1", "--generation-deterministic", "--no-color"),
            # What a picture is, and which time lies ahead, no schema can say: there valid input is refused.
            *("--exclude-checks", "positive_data_acceptance"),
            *options,
        ],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


def test_ht13_nothing_fails_and_nothing_undocumented_is_answered(
    server: ServerProcess, tmp_path: Path, soak: bool
) -> None:
    keep = [part for name in ENDING for part in ("--exclude-operation-id", name)]
    long = ["--max-examples", "200"]
    short = ["--max-examples", "6", "--phases", "coverage,fuzzing"]
    fuzz(server, tmp_path, Person(server, "Fuzz"), *keep, *(long if soak else short))


@pytest.mark.parametrize("name", ENDING)
def test_ht13_nor_by_what_ends_a_session_or_a_room(
    server: ServerProcess, tmp_path: Path, name: str
) -> None:
    person = Person(server, "Fuzz")
    options = ("--include-operation-id", name, "--max-examples", "6")
    fuzz(server, tmp_path, person, *options, "--phases", "coverage,fuzzing")
