"""From settings to a server that answers on its port, and down again in order."""

import asyncio
import contextlib
import errno
import gc
import logging
import socket
import sys
import time
from collections.abc import Callable
from types import FrameType

import structlog
import uvicorn
import uvloop

from tableforge.api.listener import Listener
from tableforge.bootstrap.assembly import Assembly, assemble
from tableforge.config import Settings
from tableforge.errors import StartRefused, TableForgeError, Unavailable
from tableforge.hub.farewell import send_away
from tableforge.telemetry import COUNTERS, configure_logging

BACKLOG = 4096
HOUSEKEEPING_SECONDS = 5.0
ASSET_SWEEP_SECONDS = 86_400.0
STOPPING_SECONDS = 3
NOTICED_SECONDS = 3.0
"""How long a balancer that asks `/ready` every second or so may take to see that an instance is about to stop."""
GOODBYES = 0.8
"""The part of DRAIN_SECONDS over which clients are sent away; the rest is for what they left behind."""
SWITCH_SECONDS = 0.0005
"""How long the writer thread waits for the interpreter beside a busy loop: a tenth of Python's default."""

log = structlog.get_logger(__name__)


class Server(uvicorn.Server):
    """uvicorn, but sent away in our order: clients first, while the listener still answers, then the server.

    uvicorn itself would close its listener at once and cut all connections; a second signal still does that.
    """

    def __init__(self, config: uvicorn.Config, drain: Callable[[], "asyncio.Task[None]"]) -> None:
        super().__init__(config)
        self._drain = drain
        self._draining: asyncio.Task[None] | None = None
        self._serving_on: asyncio.AbstractEventLoop | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        self._serving_on = asyncio.get_running_loop()
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called by the signal: begin to drain; the server stops when that is done."""
        if self._draining is not None or self._serving_on is None:
            super().handle_exit(sig, frame)
            return
        self._serving_on.call_soon_threadsafe(self.stop_in_order)

    def stop_in_order(self) -> None:
        """Begin to drain, unless that has begun; the server stops when it is done."""
        if self._draining is not None:
            return
        self._draining = self._drain()
        self._draining.add_done_callback(self._drained)

    def _drained(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("draining failed", error=repr(error))
        self.should_exit = True


def bind(settings: Settings) -> list[socket.socket]:
    """Take the port, on every address that HOST stands for; raises `StartRefused`."""
    host, port = settings.serving.host, settings.serving.port
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            one = socket.socket(family, kind, protocol)
            sockets.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if port == 0 and len(sockets) > 1:
                address = (address[0], sockets[0].getsockname()[1], *address[2:])
            one.bind(address)
            one.listen(BACKLOG)
    except OSError as error:
        for one in sockets:
            one.close()
        if error.errno == errno.EADDRINUSE:
            why, mend = (
                f"Port {port} on {host} is in use.",
                "Stop what listens there, or set PORT to another.",
            )
        elif error.errno == errno.EACCES:
            why, mend = f"Port {port} needs more rights.", "Set PORT to 1024 or higher."
        else:
            why, mend = (
                f"{host} port {port} cannot be listened on: {error.strerror or error}.",
                "Mend HOST.",
            )
        raise StartRefused("The server did not start.", why, mend) from error
    return sockets


async def housekeeping(assembly: Assembly) -> None:
    """What has to be done now and then; a chore that fails is told in the log and tried again at its next time."""
    sweep_due = 0.0
    told = ""
    while True:
        await asyncio.sleep(HOUSEKEEPING_SECONDS)
        try:
            assembly.engine.sweep()
            COUNTERS.rooms_live = assembly.engine.rooms_in_memory
            trouble = assembly.store.trouble()
            why = trouble.why if trouble is not None else ""
            if why and why != told and not assembly.settings.database.chosen:
                log.warning("database in trouble", why=why)  # PostgreSQL's engine tells by itself
            told = why
            if trouble is not None:
                with contextlib.suppress(Unavailable):
                    await assembly.store.probe()
            elif time.monotonic() >= sweep_due:
                sweep_due = time.monotonic() + ASSET_SWEEP_SECONDS
                await assembly.assets.sweep()
        except TableForgeError as error:
            log.warning("housekeeping failed", reason=error.why or error.what)


class Stop:
    """Whether the server is about to stop, whether it takes nobody any more, and why if nobody told it to stop."""

    def __init__(self) -> None:
        self.begun = False
        self.closed = False
        self.because: StartRefused | None = None
        self.server: Server | None = None

    def __call__(self, because: StartRefused | None) -> None:
        """Stop the server in order."""
        self.because = self.because or because
        if self.server is not None:
            self.server.stop_in_order()


async def drain(assembly: Assembly, stop: Stop) -> None:
    """Send everybody away and finish what was begun; all within DRAIN_SECONDS.

    Where there may be other instances, the balancer first gets the time to see that this one is not ready: who is sent
    away sooner would be sent back here, and who comes meanwhile is not turned away.
    """
    settings = assembly.settings
    seconds = settings.serving.drain_seconds
    noticed = min(NOTICED_SECONDS, seconds / 5) if settings.database.chosen else 0.0
    stop.begun = True
    log.info("draining", connections=COUNTERS.connections, within_seconds=seconds)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.sleep(noticed)
            stop.closed = True
            await send_away(
                lambda: assembly.endpoint.connections,
                assembly.hub,
                over_seconds=seconds * GOODBYES - noticed if settings.database.chosen else 0.0,
            )
            await assembly.engine.close()
            await assembly.endpoint.wait_for_none()


async def serve(settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve until a signal says to stop. `announce` is told the address once the server answers there.

    Raises `StartRefused` when it cannot start: port or data folder in use, folder not writable, damaged database; later
    on as well, when a fleet's database turns out to refuse us.
    """
    for chatty in ("uvicorn.error", "websockets"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    configure_logging(
        level=settings.observing.log_level, as_json=settings.observing.log_format == "json"
    )
    sockets = bind(settings)
    stop = Stop()
    try:
        async with assemble(
            settings, draining=lambda: stop.begun, refusing=lambda: stop.closed, stop=stop
        ) as assembly:

            def begin_to_drain() -> "asyncio.Task[None]":
                return asyncio.get_running_loop().create_task(drain(assembly, stop))

            stop.server = server = Server(configured(assembly), begin_to_drain)
            port = sockets[0].getsockname()[1]
            host = settings.serving.host
            name = f"[{host}]" if ":" in host else host

            def started(ready: "asyncio.Task[None]") -> None:
                if ready.cancelled():
                    return
                if ready.exception() is None:
                    announce(f"http://{name}:{port}{settings.serving.base_path}")
                else:
                    server.should_exit = True

            quiet_interpreter()
            chores = asyncio.create_task(housekeeping(assembly))
            assembly.ready.add_done_callback(started)
            try:
                await server.serve(sockets)
            finally:
                chores.cancel()
            log.info("stopped")
            if stop.because is not None:
                raise stop.because
            if assembly.ready.done():
                await assembly.ready
    finally:
        for one in sockets:
            one.close()


def configured(assembly: Assembly) -> uvicorn.Config:
    """uvicorn with our own protocols, and nothing of its own around them."""
    return uvicorn.Config(
        assembly.app,
        loop="none",
        http=Listener,
        ws=assembly.endpoint.protocol_class(),
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=STOPPING_SECONDS,
    )


def quiet_interpreter() -> None:
    """Spare the collector what lives as long as the process, and let the writer thread in sooner."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    sys.setswitchinterval(SWITCH_SECONDS)


def run(settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve in this process, on uvloop, until SIGTERM or SIGINT."""
    with (
        contextlib.suppress(KeyboardInterrupt),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(serve(settings, announce))
