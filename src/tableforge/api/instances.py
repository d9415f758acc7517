"""For the operator: which instances serve, what each carries, and draining one of them."""

from typing import Any, Final

from litestar import get, post
from litestar.params import FromPath
from msgspec import Struct

from tableforge.api.auth import require_admin
from tableforge.api.caller import Caller
from tableforge.api.documents import documented
from tableforge.api.house import house_of
from tableforge.api.orders import Actions, moment
from tableforge.errors import Forbidden, NotFound
from tableforge.hub.steward import State, state_of
from tableforge.library.instances import Instance, Load
from tableforge.library.runs import Action


class InstanceLine(Struct, frozen=True):
    """One instance as the registry knows it.

    `ready` is whether it serves and takes connections, as far as is known of the others; what one that is gone carried is 0. `seen` is when it was heard of last, `cpu` its share of one core,
    `loop_lag_ms` the longest that its event loop was held up since the heartbeat before.
    """

    id: str
    version: str
    state: State
    ready: bool
    draining: bool
    started: str
    seen: str
    connections: int
    rooms: int
    cpu: float
    loop_lag_ms: float
    weight: int


class InstanceList(Struct, frozen=True):
    """Every instance that the registry names, by id."""

    instances: list[InstanceLine]


def line_of(one: Instance, *, serves: bool) -> InstanceLine:
    """An instance as it is told; `serves` is whether what it needs is there."""
    state = state_of(one)
    load = one.load if one.alive else Load()
    return InstanceLine(
        id=one.id,
        version=one.version,
        state=state,
        ready=state == "serving" and serves,
        draining=state == "draining",
        started=moment(one.started),
        seen=moment(one.seen),
        connections=load.connections,
        rooms=load.rooms,
        cpu=load.cpu,
        loop_lag_ms=load.loop_lag_ms,
        weight=one.weight,
    )


@get(
    "/api/admin/instances",
    opt=documented(gives={200: InstanceList}, refuses=(Forbidden,), tag="admin"),
)
async def list_instances(request: Caller) -> InstanceList:
    """List the instances with their load, those that are not heard of any more included for a day.

    As of this instance's last heartbeat, so that it is answered while the database is away.
    """
    await require_admin(request)
    house = house_of(request)
    mine, serves = house.settings.serving.instance_id, house.unready() is None
    listing = house.steward.listing()
    return InstanceList([line_of(one, serves=serves or one.id != mine) for one in listing])


@post(
    "/api/admin/instances/{instance:str}/drain",
    status_code=200,
    opt=documented(gives={200: Actions}, refuses=(NotFound,), tag="admin"),
)
async def drain_instance(request: Caller, instance: FromPath[str]) -> Actions:
    """Drain an instance as SIGTERM does: its clients are sent elsewhere over DRAIN_SECONDS, then its process ends.

    It takes no new connections from then on, and exits with 0; whatever supervises it may start it anew.
    """
    await require_admin(request)
    drain = await house_of(request).steward.drain(instance)
    return Actions(
        [Action(f"drain {instance}", drain.before, drain.after, drain.verdict, drain.reason)]
    )


ROUTES: Final[list[Any]] = [list_instances, drain_instance]
