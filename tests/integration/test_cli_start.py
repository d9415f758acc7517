"""`serve` and `config` in a shell: what they print when all is well, and why a server does not start when it is not."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tableforge.cli.serving import first_steps
from tableforge.config import load
from tests.command import tableforge
from tests.server_process import ServerProcess, free_port, running

NOBODY = 65534


@pytest.fixture
def port() -> str:
    """A port that is free."""
    return str(free_port())


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def refusal(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines of a refused start."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return [line for line in done.stderr.splitlines() if not line.startswith("Note: ")]


def test_serve_prints_the_address_and_the_first_steps(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        shown = server.output()
    lines = [line for line in shown.splitlines() if not line.startswith("Note: ")]
    assert lines == [
        f"TableForge is ready: http://127.0.0.1:{server.port}/",
        "",
        "  1. Open this address in a browser and say your name.",
        "  2. Make a table.",
        "  3. Send its link to the others: the link alone is enough to sit down.",
        "",
        f"Everything is kept in {tmp_path / 'data'}. Ctrl+C stops the server; nothing played is lost.",
        "Only this machine reaches it. For your network: HOST=0.0.0.0 ALLOWED_HOSTS=<this machine's name>.",
    ]


@pytest.mark.parametrize(
    ("named", "first", "last"),
    [
        (
            {"ALLOWED_HOSTS": "play.example.org", "BASE_PATH": "/table/"},
            "TableForge is ready. Behind your proxy: https://play.example.org/table/",
            "Everything is kept in",
        ),
        (
            {"ALLOWED_HOSTS": "play.example.org, localhost"},
            "TableForge is ready: http://localhost:{port}/",
            "Everything is kept in",
        ),
        (
            {"HOST": "0.0.0.0"},  # noqa: S104 - what is printed for it is the matter
            "TableForge is ready: http://localhost:{port}/",
            "Other machines are refused until ALLOWED_HOSTS names what they type:",
        ),
        (
            {"HOST": "0.0.0.0", "ALLOWED_HOSTS": "box.lan"},  # noqa: S104 - likewise
            "TableForge is ready: http://box.lan:{port}/",
            "Everything is kept in",
        ),
        (
            {"HOST": "0.0.0.0", "ALLOWED_HOSTS": "*"},  # noqa: S104 - likewise
            "TableForge is ready: http://localhost:{port}/",
            "Everything is kept in",
        ),
        (
            {"ALLOWED_HOSTS": "::1"},
            "TableForge is ready: http://[::1]:{port}/",
            "Everything is kept in",
        ),
    ],
)
def test_serve_prints_an_address_that_it_answers_at(
    named: dict[str, str], first: str, last: str
) -> None:
    read = load(named, None)
    host = named.get("HOST", "127.0.0.1")
    lines = first_steps(f"http://{host}:8080{read.serving.base_path}", read).splitlines()
    assert lines[0] == first.format(port=8080)
    assert lines[-1].startswith(last)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_serve_stops_on_a_signal(tmp_path: Path, how: signal.Signals) -> None:
    server = ServerProcess(tmp_path)
    server.start()
    assert server._end(how) == 0
    assert "Traceback" not in server.output()


def test_the_port_is_in_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert refusal(tableforge("serve", folder=tmp_path, PORT=str(port))) == [
            "The server did not start.",
            f"Port {port} on 127.0.0.1 is in use.",
            "Stop what listens there, or set PORT to another.",
        ]


def test_the_host_is_not_of_this_machine(tmp_path: Path, port: str) -> None:
    lines = refusal(tableforge("serve", folder=tmp_path, PORT=port, HOST="192.0.2.1"))
    assert lines[0] == "The server did not start."
    assert lines[1].startswith(f"192.0.2.1 port {port} cannot be listened on: ")
    assert lines[2] == "Mend HOST."


def test_the_data_folder_is_in_use(tmp_path: Path, port: str) -> None:
    with running(tmp_path) as server:
        assert refusal(tableforge("serve", folder=tmp_path, PORT=port)) == [
            "The server did not start.",
            f"The data folder {tmp_path / 'data'} is in use by another process (pid {server.pid}).",
            "Stop that server, or point TABLEFORGE_DATA at another folder.",
        ]


def test_settings_that_make_no_sense_are_told_all_at_once(tmp_path: Path) -> None:
    lines = refusal(tableforge("serve", folder=tmp_path, PORT="door", DRAIN_SECONDS="long"))
    assert lines == [
        "2 settings cannot be used, so nothing was started:",
        "- PORT (environment): 'door' is not a whole number from 0 to 65535 (0 = a free one)."
        " Mend it, or leave it out for the default: 8080.",
        "- DRAIN_SECONDS (environment): 'long' is not a time from 0 seconds to 60 minutes, as in 25 (seconds) or"
        " 2 days. Mend it, or leave it out for the default: 25 seconds.",
        "`tableforge config` prints what is in force; docs/settings.md describes every setting.",
    ]


def test_a_fleet_must_share_its_admin_token(tmp_path: Path) -> None:
    lines = refusal(tableforge("serve", folder=tmp_path, DATABASE_HOST="db.example.org"))
    assert lines[0] == "One setting cannot be used, so nothing was started:"
    assert "ADMIN_TOKEN is not set" in lines[1]


def test_the_database_is_damaged(tmp_path: Path, port: str) -> None:
    database = tmp_path / "data" / "tableforge.sqlite3"
    database.parent.mkdir()
    database.write_bytes(b"this was a database once" * 1000)
    assert refusal(tableforge("serve", folder=tmp_path, PORT=port)) == [
        "The server did not start.",
        f"The database {database} cannot be opened: file is not a database.",
        "Run `tableforge doctor`; if the file is damaged, restore the newest good backup.",
    ]


def test_the_data_folder_is_of_a_newer_program(tmp_path: Path, port: str) -> None:
    database = tmp_path / "data" / "tableforge.sqlite3"
    database.parent.mkdir()
    with closing(sqlite3.connect(database)) as file:
        file.execute("PRAGMA user_version=999")
    lines = refusal(tableforge("serve", folder=tmp_path, PORT=port))
    assert lines[0] == "The server did not start."
    assert lines[1].startswith(f"{database} was written by a newer TableForge (form 999; ")
    assert lines[2] == "Install that version or a later one, or point TABLEFORGE_DATA elsewhere."


@pytest.mark.parametrize("below", ["", "table"])
def test_the_data_folder_is_a_file(tmp_path: Path, port: str, below: str) -> None:
    (tmp_path / "data").write_text("not a folder")
    data = tmp_path / "data" / below
    assert refusal(tableforge("serve", folder=tmp_path, data=data, PORT=port)) == [
        "The server did not start.",
        f"The data folder {data} is a file or lies below one, so it is no folder.",
        "Move that file away, or point TABLEFORGE_DATA at a folder.",
    ]


def as_nobody(command: str, folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a user without rights: what root may do, permissions do not show."""
    program = (
        "import encodings.idna, os, sys\n"
        "import tableforge.bootstrap, tableforge.ops.doctor\n"
        "from tableforge.cli import main\n"
        f"if os.geteuid() == 0: os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        f"main([{command!r}])\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        env={"PATH": os.defpath, **settings},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_data_folder_cannot_be_written(open_folder: Path, port: str) -> None:
    data = open_folder / "data"
    data.mkdir(mode=0o755)
    data.chmod(0o555)
    done = as_nobody("serve", open_folder, TABLEFORGE_DATA=str(data), PORT=port)
    assert refusal(done) == [
        "The server did not start.",
        f"The data folder {data} cannot be written: Permission denied.",
        "Give this user the right to write there, or point TABLEFORGE_DATA at another folder.",
    ]
    found = as_nobody("doctor", open_folder, TABLEFORGE_DATA=str(data), PORT=port)
    assert found.returncode == 1
    assert f"bad  data folder  {data} cannot be written: Permission denied." in found.stdout


def test_config_prints_what_is_in_force_and_masks_secrets(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=9123\nADMIN_TOKEN=correct-horse-battery\n")
    shown = tableforge("config", folder=tmp_path, LIMIT_LIVE="7")
    assert shown.returncode == 0
    assert shown.stderr == ""
    lines = {line.split()[0]: line.split(maxsplit=1)[1] for line in shown.stdout.splitlines()}
    assert lines["PORT"].split() == ["9123", ".env", "(default:", "8080)"]
    assert lines["LIMIT_LIVE"].split() == [
        *("7", "per", "second", "environment", "(default:", "60)")
    ]
    assert lines["LOG_COMMIT_INTERVAL_MS"].split() == ["2", "ms", "default"]
    assert lines["HOST"].split() == ["127.0.0.1", "default"]
    assert lines["ADMIN_TOKEN"].split()[:2] == ["********", ".env"]
    assert "correct-horse" not in shown.stdout


def test_config_says_where_the_generated_admin_token_lies(tmp_path: Path) -> None:
    shown = tableforge("config", folder=tmp_path)
    (line,) = [line for line in shown.stdout.splitlines() if line.startswith("ADMIN_TOKEN")]
    assert line.endswith(f"generated: {tmp_path / 'data' / 'admin-token'}")


def test_config_prints_json(tmp_path: Path) -> None:
    shown = tableforge("config", "--json", folder=tmp_path, PORT="9124", LIMIT_LIFE="1")
    assert shown.returncode == 0
    found = json.loads(shown.stdout)
    by_name = {one["name"]: one for one in found["settings"]}
    assert by_name["PORT"] == {
        "name": "PORT",
        "value": "9124",
        "unit": "",
        "default": "8080",
        "source": "environment",
    }
    assert (by_name["LIMIT_LIVE"]["value"], by_name["LIMIT_LIVE"]["unit"]) == ("60", "per second")
    assert found["warnings"] == [
        "LIMIT_LIFE (environment) is no setting of TableForge and does nothing. Did you mean LIMIT_LIVE?"
    ]


def test_output_into_a_pipe_that_closes_early_is_no_mistake(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "tableforge", "config"],
            env={"PATH": os.defpath},
            cwd=tmp_path,
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == ""
