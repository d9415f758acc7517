"""The load on the list of rooms: what it counts is what happened, and what waited is counted from when it was due."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tableforge.bench.api import OURS, PEER, PEER_MISSING, Plan, Report, Round
from tableforge.bench.callers import Callers
from tableforge.bench.document import Verdict
from tableforge.bench.latency import Quantiles
from tests.command import tableforge

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
REQUEST = b"GET / HTTP/1.1\r\n\r\n"
STALL_SECONDS = 0.4

Answer = Callable[[int, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[tuple[str, int]]:
    """A server whose answer to the request of each number is a function's."""
    count = 0

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        connections.append(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                count += 1
                await answer(count, writer)
        with contextlib.suppress(ConnectionError):
            writer.close()
            await writer.wait_closed()

    connections: list[Any] = []
    server = await asyncio.start_server(served, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()
        await asyncio.gather(*connections)


async def test_a_server_that_halts_shows_in_every_request_that_was_due_meanwhile() -> None:
    async def answer(number: int, writer: asyncio.StreamWriter) -> None:
        if number == 20:
            await asyncio.sleep(STALL_SECONDS)
        writer.write(GOOD)

    async with serving(answer) as address:
        callers = Callers(address, 1, [REQUEST])
        await callers.connect()
        heard = await callers.pace(200, 0.5)
        callers.leave()
    assert (heard.errors, len(heard.latency)) == (0, 100)
    # One request was slow; the seventy or so that were due behind it waited as well.
    half = STALL_SECONDS / 2 * 1_000_000
    assert max(heard.latency) > 2 * half
    assert sum(taken > half for taken in heard.latency) > 30


async def test_answers_come_in_pieces_and_are_counted_whole() -> None:
    async def answer(number: int, writer: asyncio.StreamWriter) -> None:
        for piece in (GOOD[:9], GOOD[9:-3], GOOD[-3:]):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)

    async with serving(answer) as address:
        callers = Callers(address, 3, [REQUEST])
        await callers.connect()
        heard = await callers.press(0.2)
        callers.leave()
    assert heard.errors == 0
    assert 0 < heard.answers <= len(heard.latency) <= heard.answers + 3
    assert heard.own_seconds > 0


async def test_refusals_and_lost_connections_are_errors() -> None:
    async def answer(number: int, writer: asyncio.StreamWriter) -> None:
        if number == 2:
            writer.write(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")
        elif number == 3:
            writer.close()
        else:
            writer.write(GOOD)

    async with serving(answer) as address:
        callers = Callers(address, 1, [REQUEST])
        await callers.connect()
        heard = await callers.pace(100, 0.1)
        callers.leave()
    assert heard.errors >= 2
    assert heard.first_error.startswith("HTTP/1.1 503")


def test_a_small_run_asks_from_memory_and_anew(tmp_path: Path) -> None:
    done = tableforge(
        *("bench", "api", "--quick", "--connections", "10", "--rounds", "2", "--rooms", "1000"),
        *("--folder", tmp_path, "--save", tmp_path / "report.json"),
        folder=tmp_path,
    )
    # On a busy machine the callers may have been late; then nothing is published.
    assert done.returncode in {0, 2}, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["failed"] is False
    assert report["hit_ratio"]["cached"] > 0.9 > 0.5 > report["hit_ratio"]["uncached"]
    servers = {OURS, PEER} if find_spec("fastapi") else {OURS}
    for server in servers:
        for kind in ("cached", "uncached"):
            rounds = [
                one for one in report["rounds"] if (one["server"], one["kind"]) == (server, kind)
            ]
            assert [one["rate"] > 0 for one in rounds] == [False, True] * 2
            assert all(one["answers"] and not one["errors"] for one in rounds)
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    assert "lists came from the server's memory" in done.stdout


NONE = Quantiles(1000, 1.0, 2.0, 3.0, 4.0)
ROUND = Round(
    server=OURS,
    kind="cached",
    rate=0.0,
    seconds=2.0,
    answers=2000,
    errors=0,
    first_error="",
    latency=NONE,
    curve=((1.0, 1.0), (10.0, 2.0)),
    lateness=Quantiles(0, 0.0, 0.0, 0.0, 0.0),
    server_cpu_us=100.0,
    server_percent=100.0,
    callers_percent=20.0,
)


def report_of(*rounds: Round, peer: str = "1") -> Report:
    """A report of these rounds."""
    return Report(
        plan=Plan(),
        commit="",
        machine={"processor": ""},
        cores="",
        peer=peer,
        rounds=rounds,
        hit_ratio={"cached": 1.0, "uncached": 0.0},
        memory_bytes={},
    )


def both(one: Round) -> tuple[Round, ...]:
    """The same for both lists and servers, FastAPI at half of the throughput."""
    anew = replace(one, kind="uncached", latency=replace(NONE, p95_ms=60.0))
    peers = [replace(mine, server=PEER, answers=mine.answers // 2) for mine in (one, anew)]
    return one, anew, *peers


def test_each_target_is_held_against_its_list_and_throughput_against_the_peer() -> None:
    section = report_of(*both(ROUND)).section()
    found = {kpi.name: (kpi.value, kpi.verdict) for kpi in section.kpis}
    assert found == {
        "API response p95": (2.0, Verdict.MET),
        "API p95, list from memory": (2.0, Verdict.MET),
        "API p95, list read anew": (60.0, Verdict.MISSED),
        "API throughput, list from memory, times FastAPI's": (2.0, Verdict.MISSED),
        "API throughput, list read anew, times FastAPI's": (2.0, Verdict.MET),
    }
    assert not section.missed
    slow = replace(ROUND, latency=replace(NONE, p95_ms=60.0))
    assert report_of(*both(slow)).section().missed


def test_without_the_peer_its_row_is_unmeasured_and_says_the_mend() -> None:
    ours = both(ROUND)[:2]
    kpis = [kpi for kpi in report_of(*ours, peer="").section().kpis if "FastAPI" in kpi.name]
    assert [(kpi.verdict, kpi.why) for kpi in kpis] == [(Verdict.UNMEASURED, PEER_MISSING)] * 2


def test_callers_that_were_the_bottleneck_publish_nothing() -> None:
    section = report_of(*both(replace(ROUND, callers_percent=95.0))).section()
    assert section.invalid == "the callers took 95 % of a core"
    assert {kpi.verdict for kpi in section.kpis} == {Verdict.UNMEASURED}
    late = replace(ROUND, rate=100.0, lateness=Quantiles(9, 1.0, 2.0, 26.0, 30.0))
    assert "left more than 25 ms after its time" in late.invalid


def test_errors_break_a_promise() -> None:
    broken = report_of(*both(replace(ROUND, errors=2, first_error="503"))).section().broken
    assert broken == ("4 requests had no good answer; the first: 503",)
