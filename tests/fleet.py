"""Several instances of the server over one database and one bus, each a process of its own."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.server_process import ServerProcess

ADMIN_TOKEN = "the-token-of-all-instances"


class FleetProcesses:
    """`settings` hold for every instance; each gets a name, a port and a data folder of its own."""

    def __init__(
        self, folder: Path, database_url: str, redis_url: str = "", **settings: str
    ) -> None:
        self.folder = folder
        self.settings = {
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "ADMIN_TOKEN": ADMIN_TOKEN,
            "LIMIT_SESSIONS": "0",
            "LIMIT_COMMANDS": "0",
            "LIMIT_LIVE": "0",
            "DRAIN_SECONDS": "5",
            **settings,
        }
        self.instances: list[ServerProcess] = []

    def add(self, *, wait_for_ready: bool = True, **settings: str) -> ServerProcess:
        """Start another instance."""
        name = settings.get("INSTANCE_ID", f"i{len(self.instances) + 1}")
        more = {**self.settings, "INSTANCE_ID": name, **settings}
        server = ServerProcess(self.folder / name, **more)
        self.instances.append(server)
        server.start(wait_for_ready=wait_for_ready)
        return server

    def stop(self) -> None:
        """Stop all, at the same time."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(ServerProcess.stop, self.instances))


@contextlib.contextmanager
def fleet(
    folder: Path, database_url: str, redis_url: str, instances: int, **settings: str
) -> Iterator[FleetProcesses]:
    """A fleet for the length of a `with` block."""
    made = FleetProcesses(folder, database_url, redis_url, **settings)
    try:
        for _ in range(instances):
            made.add(wait_for_ready=False)
        for server in made.instances:
            server.wait_for_ready()
        yield made
    finally:
        made.stop()
