"""A full disk and a damaged page: what cannot be done is refused with words, what can be served is served."""

import contextlib
import json
import os
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.command import tableforge
from tests.integration.played import break_page, words
from tests.integration.raw_client import Raw, table
from tests.server_process import Person, ServerProcess, running

DEADLINE_SECONDS = 60.0
SMALL_BYTES = 4 << 20


def eventually(what: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not what():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.05)


class SmallDisk:
    """A disk of a few megabytes that can be filled up and emptied.

    Where the system lets nobody mount one, the server's files are kept from growing instead; to the server that is another
    error of the same kind.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={SMALL_BYTES}", "tmpfs", folder],
            capture_output=True,
            check=False,
            timeout=30,
        )
        self.mounted = made.returncode == 0

    def fill(self, pid: int) -> None:
        """Leave no room."""
        if not self.mounted:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
            return
        with (
            (self._folder / "filler").open("wb", buffering=0) as filler,
            contextlib.suppress(OSError),
        ):
            while True:
                filler.write(bytes(4096))

    def empty(self, pid: int) -> None:
        """Make room again."""
        if not self.mounted:
            unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)
            return
        (self._folder / "filler").unlink()

    def gone(self) -> None:
        """Give it back."""
        if self.mounted:
            subprocess.run(["umount", self._folder], check=True, timeout=30)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A small disk below the test's folder."""
    made = SmallDisk(tmp_path / "small")
    yield made
    made.gone()


def ready(server: ServerProcess) -> int:
    """What `/ready` answers."""
    return httpx.get(f"{server.url}/ready", timeout=30).status_code


def health(server: ServerProcess) -> int:
    """What `/health` answers."""
    return httpx.get(f"{server.url}/health", timeout=30).status_code


async def test_a_full_disk_refuses_changes_and_serves_the_rest(
    disk: SmallDisk, tmp_path: Path
) -> None:
    data = tmp_path / "small" / "data"
    with running(tmp_path, TABLEFORGE_DATA=str(data), LIMIT_COMMANDS="0") as server:
        room, (mara, bo) = await table(server, "Bo")
        said = mara.command(room, "chat.say", text="before")
        head = said.json()["offset"]
        async with Raw(server, bo.token) as listening:
            await listening.subscribe(f"room:{room}")
            disk.fill(server.pid)
            refused = [
                mara.command(room, "chat.say", text=f"lost {number} " + "and more " * 400)
                for number in range(20)
            ]
            failed = [one for one in refused if one.status_code != 200]
            assert failed, "the disk was not full"
            for answer in failed:
                assert answer.status_code == 503
                problem = answer.json()
                assert problem["code"] == "unavailable"
                assert problem["detail"].startswith(
                    "The command was not saved, so it did not happen."
                )
                if disk.mounted:
                    assert "The disk is full." in problem["detail"]
            # What needs no disk goes on.
            assert health(server) == 200
            assert mara.http.get(f"/api/rooms/{room}/snapshot").status_code == 200
            assert mara.http.get("/api/rooms").status_code == 200
            assert ready(server) == 503
            doctor = tableforge("doctor", folder=tmp_path, data=data, PORT=str(server.port))
            assert doctor.returncode == 1 or not disk.mounted, doctor.stdout
            if disk.mounted:
                assert "bad  data folder  The disk is full." in doctor.stdout
            accepted = len(refused) - len(failed)
            disk.empty(server.pid)
            eventually(lambda: ready(server) == 200)
            after = mara.command(room, "chat.say", text="after")
            assert after.status_code == 200, after.text
            assert after.json()["offset"] == head + accepted + 1
            heard = await listening.wait_for_offset(room, after.json()["offset"])
        # Nobody heard what was refused.
        assert [one["offset"] for one in heard] == list(range(head + 1, head + accepted + 2))
        assert heard[-1]["data"]["text"] == "after"
    verified = tableforge("verify", folder=tmp_path, data=data)
    assert verified.returncode == 0, verified.stdout


async def test_a_start_on_a_full_disk_is_refused(disk: SmallDisk, tmp_path: Path) -> None:
    if not disk.mounted:
        return
    disk.fill(os.getpid())
    done = tableforge("serve", folder=tmp_path, data=tmp_path / "small" / "data", PORT="0")
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[0] == "The server did not start."
    disk.empty(os.getpid())


def test_a_damaged_page_costs_its_room_and_no_other(tmp_path: Path) -> None:
    with running(tmp_path, LIMIT_COMMANDS="0") as server:
        mara = Person(server, "Mara")
        broken, whole = (mara.create_room(name)[0] for name in ("Broken", "Whole"))
        for number, room in enumerate((broken, whole)):
            for word in range(60):
                mara.command(room, "chat.say", text=words(number, word))
    break_page(tmp_path / "data", words(0, 20).encode())
    with running(tmp_path, LIMIT_COMMANDS="0") as server:
        mara.http = mara.http.__class__(base_url=server.url, headers=mara.http.headers, timeout=30)
        # What lies on the damaged page is refused with words, whoever asks in whatever way.
        for path in ("events?limit=1000", "snapshot"):
            refused = mara.http.get(f"/api/rooms/{broken}/{path}")
            assert refused.status_code == 503, refused.text
            assert refused.json()["code"] == "unavailable"
            assert "A page of the database is damaged." in refused.json()["detail"]
            assert "tableforge doctor" in refused.json()["detail"]
        assert mara.command(broken, "chat.say", text="into the void").status_code == 503
        # Everything else goes on.
        assert health(server) == 200
        assert ready(server) == 200
        listed = {room["id"] for room in mara.http.get("/api/rooms").json()["rooms"]}
        assert listed == {broken, whole}
        history = mara.http.get(f"/api/rooms/{whole}/events?limit=1000").json()["events"]
        assert len(history) == 61
        said = mara.command(whole, "chat.say", text="we play on")
        assert said.status_code == 200
        assert said.json()["offset"] == 62
        assert mara.create_room("Another")[0]
        doctor = tableforge("doctor", "--json", folder=tmp_path, PORT=str(server.port))
        mara.http.close()
    assert doctor.returncode == 1
    told = [one for one in json.loads(doctor.stdout)["findings"] if one["level"] == "bad"]
    assert [one["name"] for one in told] == ["database"]
    assert told[0]["text"].startswith("Table events is damaged: ")
    assert told[0]["mend"] == "Stop the server and `tableforge restore` the newest good backup."
