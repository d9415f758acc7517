"""How fast the log is on PostgreSQL, beside what the same server does for pgbench: `python -m tests.bench.log_on_postgres`.

Not a test: figures of a noisy machine fail nothing. It starts a PostgreSQL of its own with fsync on, and prints

- a bare `INSERT … COMMIT` of one pgbench client, and one append at a time through the log: medians and their ratio;
- many busy rooms through `RoomService`, each command decided, appended, folded and answered: commands a second, p50, p95.
"""

import argparse
import asyncio
import json
import subprocess
import time
from pathlib import Path
from statistics import median, quantiles

import uvloop

from tableforge.config import DatabaseKnobs
from tableforge.database.postgres import PostgresDatabase
from tableforge.domain.commands import AddToken, MoveToken
from tableforge.errors import TableForgeError
from tableforge.eventlog import Append, Facts
from tableforge.eventlog.postgres import PostgresEventLog
from tableforge.ops.programs import find_postgres
from tableforge.ops.servers import PostgresServer, scratch
from tableforge.rooms.engine import RoomBounds, RoomEngine
from tableforge.rooms.live import Reply
from tableforge.rooms.service import RoomService
from tests.local_cache import cached_rooms
from tests.services import run_sql

BOUNDS = RoomBounds(
    recent_events=500,
    recent_bytes=1 << 20,
    snapshot_every=1_000,
    in_memory=2_000,
    idle_seconds=300,
    commands_rate=0,
    commands_burst=0,
)
EVENT = b'{"type":"token.moved","by":"u","at":"2026-01-01T00:00:00.000Z","id":"c","token":"t","x":1.5,"y":2.5}'


def bare_insert_ms(server: PostgresServer, folder: Path, seconds: int) -> float:
    """The median of one client that inserts a row of an event's size and commits, in milliseconds."""
    run_sql(
        server.url,
        "CREATE TABLE IF NOT EXISTS bare (room text, seq bigint, data bytea, PRIMARY KEY (room, seq))",
        "CREATE SEQUENCE IF NOT EXISTS bare_seq",
    )
    script = folder / "bare.sql"
    script.write_text(
        f"INSERT INTO bare VALUES ('r', nextval('bare_seq'), decode('{EVENT.hex()}', 'hex'));\n"  # noqa: S608 - our own bytes
    )
    subprocess.run(
        [
            str(find_postgres() / "pgbench"),
            *("-n", "-c", "1", "-M", "prepared", "-T", str(seconds), "-l"),
            *("--log-prefix", str(folder / "bare"), "-f", str(script), server.url),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    lines = [line for log in folder.glob("bare.*[0-9]") for line in log.read_text().splitlines()]
    for log in folder.glob("bare.*[0-9]"):
        log.unlink()
    return median(int(line.split()[2]) for line in lines) / 1000


async def appended(log: PostgresEventLog, entry: Append) -> None:
    """Append and wait."""
    ended: asyncio.Future[TableForgeError | None] = asyncio.get_running_loop().create_future()
    entry.done = lambda _, outcome: ended.set_result(outcome)
    log.append_nowait(entry)
    refusal = await ended
    if refusal is not None:
        raise refusal


def nobody(*_: object) -> None:
    """The outcome is not looked at here."""


async def single_ms(log: PostgresEventLog, seconds: int) -> float:
    """The median of one append at a time, in milliseconds."""
    await appended(
        log,
        Append("one", 0, 1, (EVENT,), bytes(16), b"d", nobody, Facts("n", "private", (), ()), "e"),
    )
    taken: list[float] = []
    offset = 1
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        key = offset.to_bytes(16, "big")
        await appended(log, Append("one", offset, 1, (EVENT,), key, b"d", nobody))
        taken.append(time.perf_counter() - began)
        offset += 1
    return median(taken) * 1000


async def busy(log: PostgresEventLog, rooms: int, in_flight: int, seconds: int) -> dict[str, float]:
    """All rooms busy, each with so many commands under way; figures in milliseconds."""
    cached = cached_rooms(log)
    engine = RoomEngine(
        log,
        cached,
        BOUNDS,
        publish=nobody,
        listened=lambda room: True,
        invalidated=nobody,
    )

    async def uploaded(asset: str, user: str) -> bool:
        return False

    async def deleted(room: str) -> None:
        return None

    service = RoomService(
        log,
        cached,
        engine,
        recovery_events=5_000,
        online=lambda room: frozenset(),
        uploaded=uploaded,
        deleted=deleted,
    )
    taken: list[float] = []
    until = time.perf_counter() + seconds

    async def play(number: int) -> None:
        room = await service.create("gm", "Mara", f"Room {number}", "private")
        live = await service.open(room)
        pieces: list[str] = []
        for one in range(in_flight):
            made = await service.house(
                room, "gm", AddToken(room=room, id=f"a{one}", name="Piece", x=1, y=1)
            )
            assert made.result is not None
            pieces.append(made.result["id"])
        ended = asyncio.Event()
        under_way = 0
        count = 0

        def move(piece: str) -> None:
            nonlocal under_way, count
            began = time.perf_counter()
            if began >= until:
                under_way -= 1
                if not under_way:
                    ended.set()
                return
            count += 1

            def answer(outcome: Reply | TableForgeError) -> None:
                if isinstance(outcome, TableForgeError):
                    raise outcome
                taken.append(time.perf_counter() - began)
                move(piece)

            command = MoveToken(
                room=room, id=f"m{count}", token=piece, x=float(count % 30), y=float(count % 20)
            )
            engine.execute(live, "gm", command, answer)

        under_way = in_flight
        for piece in pieces:
            move(piece)
        await ended.wait()

    began = time.perf_counter()
    await asyncio.gather(*(play(number) for number in range(rooms)))
    cuts = quantiles(taken, n=100)
    return {
        "commands_per_second": round(len(taken) / (time.perf_counter() - began)),
        "p50_ms": round(cuts[49] * 1000, 2),
        "p95_ms": round(cuts[94] * 1000, 2),
        "p99_ms": round(cuts[98] * 1000, 2),
    }


async def measure(server: PostgresServer, folder: Path, options: argparse.Namespace) -> None:
    """Everything, one after the other."""
    async with PostgresDatabase(DatabaseKnobs(url=server.url), "bench") as database:
        await database.started()
        log = PostgresEventLog(database, commit_interval=options.interval / 1000)
        try:
            pairs = []
            for _ in range(options.rounds):
                bare = await asyncio.to_thread(bare_insert_ms, server, folder, options.seconds)
                pairs.append((bare, await single_ms_of(database, options)))
            for bare, ours in pairs:
                print(
                    f"one at a time: pgbench {bare:.3f} ms, append {ours:.3f} ms, ratio {ours / bare:.2f}"
                )
            for in_flight in options.in_flight:
                found = await busy(log, options.rooms, in_flight, options.seconds)
                print(f"{options.rooms} rooms, {in_flight} under way in each: {json.dumps(found)}")
        finally:
            await log.close()


async def single_ms_of(database: PostgresDatabase, options: argparse.Namespace) -> float:
    """A log of its own for one round; the room of the round before is taken away."""
    log = PostgresEventLog(database, commit_interval=0)
    try:
        return await single_ms(log, options.seconds)
    finally:
        await log.close()
        await asyncio.to_thread(
            run_sql,
            options.url,
            "DELETE FROM events WHERE room = 'one'",
            "DELETE FROM room_heads WHERE room = 'one'",
            "DELETE FROM rooms WHERE id = 'one'",
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rooms", type=int, default=100)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 2, 5])
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--interval", type=float, default=2.0, help="LOG_COMMIT_INTERVAL_MS")
    options = parser.parse_args()
    with scratch() as folder:
        server = PostgresServer(folder / "postgres", durable=True)
        server.start()
        try:
            options.url = server.url
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(measure(server, folder, options))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
