"""Whether the process lives, whether it serves, and what it measures."""

from typing import Any, Final, Literal

from litestar import Response, get
from msgspec import Struct

from tableforge.api.auth import require_bearer
from tableforge.api.caller import Caller
from tableforge.api.documents import documented
from tableforge.api.house import house_of
from tableforge.errors import Draining, NotFound, Unauthorized, Unavailable
from tableforge.telemetry import EXPOSITION_TYPE, exposition


class Alive(Struct, frozen=True):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Ready(Struct, frozen=True):
    """The server serves. `bus` names the servers of a fleet's bus, each "ok" or what is wrong with it: while one is not
    ok, events of other instances are read from the log, and arrive a little later."""

    status: Literal["ready"] = "ready"
    bus: dict[str, str] = {}


@get("/health", opt=documented(gives={200: Alive}, session=False, tag="server"))
async def health(request: Caller) -> Alive:
    """Tell that the process is alive; touches nothing else."""
    return Alive()


@get(
    "/ready",
    opt=documented(
        gives={200: Ready}, refuses=(Draining, Unavailable), session=False, tag="server"
    ),
)
async def ready(request: Caller) -> Ready:
    """Tell whether the server serves, and which part keeps it from it."""
    house = house_of(request)
    reason = house.unready()
    if reason is not None:
        raise reason
    return Ready(bus={server.name: server.trouble or "ok" for server in house.bus()})


@get(
    "/metrics",
    opt=documented(
        gives={200: "text/plain"}, refuses=(NotFound, Unauthorized), session=False, tag="server"
    ),
)
async def metrics(request: Caller) -> Response[bytes]:
    """All metrics as Prometheus text; with METRICS_TOKEN set, for its bearer only."""
    observing = house_of(request).settings.observing
    if not observing.prometheus_enabled:
        raise NotFound(
            "There are no metrics here.",
            "PROMETHEUS_ENABLED is false.",
            "The server's operator can turn them on.",
        )
    if observing.metrics_token is not None:
        require_bearer(request, observing.metrics_token)
    return Response(exposition(), headers={"content-type": EXPOSITION_TYPE})


ROUTES: Final[list[Any]] = [health, ready, metrics]
