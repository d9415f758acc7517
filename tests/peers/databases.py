"""What a durable append takes of a database alone: rows of an event's size, one client or several, nothing around them."""

import os
import sqlite3
import subprocess
import time
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

from tableforge.bench.floor import COMMIT_SECONDS, ROW_BYTES, commits
from tableforge.bench.latency import quantiles
from tableforge.bench.peers import Appends, Ground
from tableforge.ops.programs import find_postgres
from tableforge.ops.servers import PostgresServer, scratch
from tests.services import run_sql

SECONDS = 2
CLIENTS = (1, 10)
GROUPED = (1, 10)
TABLE = (
    "CREATE TABLE bare (room bigint, seq bigint, data bytea, PRIMARY KEY (room, seq))",
    "CREATE SEQUENCE bare_seq",
)
INSERT = "INSERT INTO bare VALUES (:client_id, nextval('bare_seq'), decode('{data}', 'hex'));\n"


def on_sqlite(folder: Path, core: int | None) -> Sequence[Appends]:
    """One connection that commits, as the log has it: WAL, and a wait for the disk at each commit."""
    found = []
    for rows in GROUPED:
        done = commits(folder, rows)
        found.append(
            Appends(
                f"{rows} a commit",
                done.latency.count * rows / COMMIT_SECONDS,
                done.latency,
                done.cpu_us / rows,
            )
        )
    return found


def on_postgres(folder: Path, core: int | None) -> Sequence[Appends]:
    """pgbench's clients, each with an INSERT that is its own transaction, on a server that waits for the disk."""
    found = []
    with scratch() as lying:
        server = PostgresServer(lying / "postgres", durable=True)
        server.start()
        try:
            pinned(server.pid, core)
            run_sql(server.url, *TABLE)
            script = folder / "bare.sql"
            script.write_text(INSERT.format(data=bytes(ROW_BYTES).hex()))
            for clients in CLIENTS:
                before, began = cpu_seconds(server.pid), time.monotonic()
                taken = inserted(server.url, script, clients)
                took, cpu = time.monotonic() - began, cpu_seconds(server.pid) - before
                found.append(
                    Appends(
                        f"{clients} at once",
                        len(taken) / took,
                        quantiles(taken),
                        cpu * 1_000_000 / max(1, len(taken)),
                    )
                )
        finally:
            server.stop()
    return found


def inserted(url: str, script: Path, clients: int) -> "array[int]":
    """Insert for some seconds; how long each took, in microseconds."""
    log = script.with_name("inserted")
    subprocess.run(
        [
            str(find_postgres() / "pgbench"),
            *("-n", "-M", "prepared", "-c", str(clients), "-T", str(SECONDS)),
            *("-l", "--log-prefix", str(log), "-f", str(script), url),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    taken = array("Q")
    for part in script.parent.glob("inserted.*"):
        taken.extend(int(line.split()[2]) for line in part.read_text("ascii").splitlines())
        part.unlink()
    return taken


def family(pid: int) -> Iterator[int]:
    """A process and those that it started."""
    yield pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split():
        yield int(child)


def pinned(pid: int, core: int | None) -> None:
    """Keep a server's processes, and those that it will start, on one core."""
    if core is not None:
        for one in family(pid):
            os.sched_setaffinity(one, {core})


def cpu_seconds(pid: int) -> float:
    """What a server's processes took so far, those that have ended included."""
    ticks = 0
    for number, one in enumerate(family(pid)):
        fields = Path(f"/proc/{one}/stat").read_text("ascii").rpartition(")")[2].split()
        # user and system; of the first also what its ended children took
        ticks += sum(int(field) for field in fields[11 : 13 if number else 15])
    return ticks / os.sysconf("SC_CLK_TCK")


def version_of_postgres() -> str:
    """As its program says."""
    told = subprocess.run(
        [str(find_postgres() / "postgres"), "--version"],
        check=True,
        capture_output=True,
        text=True,
    )
    return f"PostgreSQL {told.stdout.split()[2]}"


GROUNDS = (
    Ground(
        name="sqlite",
        title="SQLite",
        versions=lambda: f"SQLite {sqlite3.sqlite_version}",
        append=on_sqlite,
    ),
    Ground(
        name="postgres",
        title="PostgreSQL",
        versions=version_of_postgres,
        append=on_postgres,
    ),
)
