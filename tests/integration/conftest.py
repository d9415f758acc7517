"""Real servers for the tests of this folder."""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from tableforge.bootstrap import assemble
from tableforge.config import load
from tests.integration.played import play
from tests.server_process import ServerProcess, running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server for the tests of a module, with limits that do not stand in their way."""
    folder: Path = tmp_path_factory.mktemp("server")
    with running(folder, LIMIT_SESSIONS="0", LIMIT_COMMANDS="0", LIMIT_LIVE="0") as server:
        yield server


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[httpx.AsyncClient]]]:
    """Puts a server together in this process, with settings by name, and makes a client that comes from an address."""
    async with AsyncExitStack() as stack:

        async def open_with(
            address: str = "127.0.0.1",
            *,
            draining: Callable[[], bool] = lambda: False,
            **named: str,
        ) -> httpx.AsyncClient:
            settings = load({"TABLEFORGE_DATA": str(tmp_path / "data"), **named}, None)
            assembly = await stack.enter_async_context(
                assemble(settings, draining=draining, refusing=draining, stop=lambda because: None)
            )
            transport = httpx.ASGITransport(assembly.app, client=(address, 1))
            return await stack.enter_async_context(
                httpx.AsyncClient(transport=transport, base_url="http://localhost")
            )

        yield open_with


@pytest.fixture(scope="session")
def played_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder in which something was played; for all tests, so that none may change it."""
    return play(tmp_path_factory.mktemp("played"))


@pytest.fixture
def played(played_once: Path, tmp_path: Path) -> Path:
    """A copy of that data folder, below the test's own folder."""
    return Path(shutil.copytree(played_once, tmp_path / "data"))


@pytest.fixture
def say(
    request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], None]:
    """Tells whoever runs the tests what was measured."""
    terminal = request.config.pluginmanager.get_plugin("terminalreporter")
    assert terminal is not None

    def tell(line: str) -> None:
        with capsys.disabled():
            terminal.write_line(f"\n{line}")

    return tell
