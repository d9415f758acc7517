"""Real servers for the tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server_process import ServerProcess, running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server for the tests of a module, with limits that do not stand in their way."""
    folder: Path = tmp_path_factory.mktemp("server")
    with running(folder, LIMIT_SESSIONS="0", LIMIT_COMMANDS="0", LIMIT_LIVE="0") as server:
        yield server
