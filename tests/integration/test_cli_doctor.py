"""`doctor`: it names what is wrong with a place, and how to mend it."""

import json
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tableforge.config import load
from tableforge.ops.doctor import examine
from tableforge.ops.findings import Finding
from tests.command import tableforge
from tests.integration.played import break_page, database, words
from tests.server_process import free_port, running

RESTORE = "Stop the server and `tableforge restore` the newest good backup."


@pytest.fixture
def client(tmp_path: Path) -> Path:
    """A page that stands for the built web client."""
    page = tmp_path / "index.html"
    page.write_text("<!doctype html>")
    return page


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """The place for a folder in memory, where the system lets us have one."""
    yield tmp_path / "small"
    subprocess.run(["umount", tmp_path / "small"], capture_output=True, check=False, timeout=30)


def findings(data: Path, client: Path, *, thorough: bool = False, **settings: str) -> list[Finding]:
    """Everything that `doctor` has to say of a data folder."""
    environment = {"TABLEFORGE_DATA": str(data), "PORT": str(free_port()), **settings}
    return list(examine(load(environment, None), client=client, thorough=thorough))


def bad(found: list[Finding]) -> list[Finding]:
    """What must be mended."""
    return [one for one in found if one.level == "bad"]


def test_a_sound_place_has_nothing_bad(played: Path, client: Path) -> None:
    found = findings(played, client)
    assert bad(found) == []
    by_name = {one.name: one.text for one in found}
    assert by_name["data folder"] == f"{played} can be written."
    assert by_name["server"] == "None runs on this data folder."
    assert by_name["database"].startswith("Its structure is sound (")
    assert by_name["form"].endswith(", as this program writes it.")
    assert by_name["web client"] == "It is built."
    assert "litestar" in by_name["libraries"]
    thorough = {one.name: one.text for one in findings(played, client, thorough=True)}
    assert thorough["database"].startswith("Its structure and indexes are sound (")


def test_before_the_first_start_all_is_well(tmp_path: Path, client: Path) -> None:
    found = findings(tmp_path / "data", client)
    assert bad(found) == []
    assert (
        Finding("ok", "data folder", f"{tmp_path / 'data'} will be made at the first start.")
        in found
    )
    assert not (tmp_path / "data").exists()


def test_it_changes_nothing(played: Path, client: Path) -> None:
    # SQLite's own files of a shared database may come and stay; they say nothing.
    def state() -> list[tuple[str, int, bytes]]:
        return [
            (path.name, path.stat().st_mode, path.read_bytes())
            for path in sorted(played.rglob("*"))
            if path.is_file() and path.suffix not in {".sqlite3-wal", ".sqlite3-shm"}
        ]

    before = state()
    findings(played, client, thorough=True)
    assert state() == before


def test_the_command_prints_a_line_each_and_exits_with_0(played: Path, tmp_path: Path) -> None:
    done = tableforge("doctor", folder=tmp_path, PORT=str(free_port()))
    lines = [line for line in done.stdout.splitlines() if "web client" not in line]
    assert f"ok   data folder  {played} can be written." in lines
    assert done.stderr == ""


def test_the_command_exits_with_1_and_says_how_to_mend(played: Path, tmp_path: Path) -> None:
    (played / "tableforge.sqlite3").write_bytes(b"a letter to my aunt" * 300)
    done = tableforge("doctor", folder=tmp_path, PORT=str(free_port()))
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if "its head is damaged" in line)
    assert lines[at] == (
        f"bad  database     {played / 'tableforge.sqlite3'} is no SQLite database: its head is damaged."
    )
    assert lines[at + 1] == f"{'':18}Mend: {RESTORE}"
    told = tableforge("doctor", "--json", folder=tmp_path, PORT=str(free_port()))
    assert told.returncode == 1
    report = json.loads(told.stdout)
    assert report["well"] is False
    assert {"level", "name", "text", "mend"} == set(report["findings"][0])


def test_a_running_server_is_named_and_is_no_trouble(tmp_path: Path, client: Path) -> None:
    with running(tmp_path) as server:
        found = findings(tmp_path / "data", client, PORT=str(server.port))
        running_as = f"One runs on this data folder (pid {server.pid})."
    assert bad(found) == []
    assert Finding("ok", "server", running_as) in found
    assert Finding("ok", "port", f"The running server has port {server.port}.") in found


def test_another_program_has_the_port(tmp_path: Path, client: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = findings(tmp_path / "data", client, PORT=str(port))
    assert bad(found) == [
        Finding(
            "bad",
            "port",
            f"Another program has port {port} on 127.0.0.1.",
            "Stop it, or set PORT to another.",
        )
    ]


def test_the_client_is_not_built(tmp_path: Path) -> None:
    page = tmp_path / "nowhere" / "index.html"
    assert bad(findings(tmp_path / "data", page)) == [
        Finding(
            "bad",
            "web client",
            f"{page} is missing, so the server has no pages.",
            "Run `make web`, or install TableForge again.",
        )
    ]


def test_the_folder_is_a_file(tmp_path: Path, client: Path) -> None:
    (tmp_path / "data").write_text("mine")
    assert bad(findings(tmp_path / "data", client)) == [
        Finding(
            "bad",
            "data folder",
            f"{tmp_path / 'data'} is a file.",
            "Move it away, or point TABLEFORGE_DATA at a folder.",
        )
    ]


def test_others_may_look_in(played: Path, client: Path) -> None:
    played.chmod(0o755)
    (played / "admin-token").chmod(0o644)
    warned = [one for one in findings(played, client) if one.level == "warn"]
    assert (
        Finding(
            "warn",
            "data folder",
            "Every user of this machine may look into it.",
            f"chmod o-rwx {played}",
        )
        in warned
    )
    token = played / "admin-token"
    assert (
        Finding("warn", "admin token", f"Others may read {token}.", f"chmod 600 {token}") in warned
    )


def test_a_setting_that_looks_like_a_slip(tmp_path: Path, client: Path) -> None:
    found = findings(tmp_path / "data", client, LIMIT_LIFE="1")
    (warned,) = [one for one in found if one.name == "settings"]
    assert warned.level == "warn"
    assert warned.text.startswith("LIMIT_LIFE (environment) is no setting of TableForge")


def test_the_damaged_table_is_named(played: Path, client: Path) -> None:
    break_page(played, words(1, 20).encode())
    (found,) = bad(findings(played, client))
    assert found.name == "database"
    assert found.text.startswith("Table events is damaged: ")
    assert found.mend == RESTORE


def test_an_index_that_lost_a_row_shows_in_a_thorough_look(played: Path, client: Path) -> None:
    with database(played) as file:
        file.execute("PRAGMA writable_schema=ON")
        file.execute(
            "UPDATE sqlite_schema SET sql = replace(sql, 'room, seq', 'seq, room') WHERE name = 'events_order'"
        )
    assert bad(findings(played, client)) == []
    (found,) = bad(findings(played, client, thorough=True))
    assert found.text.startswith("Table events is damaged: ")
    assert "missing from index events_order" in found.text


def test_a_damaged_first_page(played: Path, client: Path) -> None:
    path = played / "tableforge.sqlite3"
    content = bytearray(path.read_bytes())
    content[100:4096] = b"\xa5" * 3996
    path.write_bytes(content)
    (found,) = bad(findings(played, client))
    assert found.name == "database"
    assert found.mend == RESTORE


def test_a_newer_database(played: Path, client: Path) -> None:
    with closing(sqlite3.connect(played / "tableforge.sqlite3")) as file:
        file.execute("PRAGMA user_version=999")
    (found,) = bad(findings(played, client))
    assert found.name == "form"
    assert "form 999" in found.text


def test_a_disk_in_memory_or_nearly_full(small_disk: Path, client: Path) -> None:
    """Where we may not mount one, the folder lies on the disk of the tests, which has room."""
    small_disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", small_disk],
        capture_output=True,
        check=False,
        timeout=30,
    )
    found = [one for one in findings(small_disk / "data", client) if one.name == "disk"]
    if made.returncode == 0:
        assert [one.level for one in found] == ["warn", "bad"]
        assert "lies in memory (tmpfs)" in found[0].text
        assert found[1].text == "8 MiB free."
    else:
        assert found
