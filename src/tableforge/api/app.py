"""The HTTP application: the routes, what happens to errors, and the edge around both."""

import re
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final, cast

from litestar import HttpMethod, Litestar, Response, route
from litestar.datastructures import State
from litestar.handlers import HTTPRouteHandler

from tableforge.api import assets as asset_routes
from tableforge.api import caching as cache_routes
from tableforge.api import care as care_routes
from tableforge.api import database, health, imports, instances, pages, runs, systems
from tableforge.api import rooms as room_routes
from tableforge.api import sessions as session_routes
from tableforge.api.body import BODY_BYTES
from tableforge.api.caller import Caller
from tableforge.api.documents import openapi
from tableforge.api.doorkeeper import Doorkeeper
from tableforge.api.edge import Application, Edge
from tableforge.api.house import Caching, Caring, House
from tableforge.api.orders import Orders
from tableforge.api.problems import allow, answer_problem
from tableforge.api.showcase import Showcase
from tableforge.api.uploads import Inbox
from tableforge.api.web_client import WebClient
from tableforge.bus import BusServer
from tableforge.config import Settings
from tableforge.database.cards import Observed
from tableforge.errors import TableForgeError
from tableforge.files.importer import Importer
from tableforge.hub.steward import Steward
from tableforge.library.assets import Assets
from tableforge.library.invites import Invites
from tableforge.library.sessions import Sessions
from tableforge.library.systems import Designs
from tableforge.rooms.service import RoomService

ROUTES: Final[list[HTTPRouteHandler]] = [
    *health.ROUTES,
    *session_routes.ROUTES,
    *room_routes.ROUTES,
    *imports.ROUTES,
    *asset_routes.ROUTES,
    *systems.ROUTES,
    *instances.ROUTES,
    *runs.ROUTES,
    *care_routes.ROUTES,
    *database.ROUTES,
    *cache_routes.ROUTES,
    *pages.ROUTES,
]


PARAMETER_TYPE: Final = re.compile(r":\w+(?=})")


def options_of(routes: list[HTTPRouteHandler]) -> HTTPRouteHandler:
    """Answers OPTIONS for all addresses: the framework's own answer forgets methods that came later."""
    methods: dict[str, set[str]] = {}
    for handler in routes:
        for path in handler.paths:
            plain = PARAMETER_TYPE.sub("", path)
            methods.setdefault(plain, {"OPTIONS"}).update(map(str, handler.http_methods))
    paths = sorted({path for handler in routes for path in handler.paths})

    @route(paths, http_method=[HttpMethod.OPTIONS], status_code=204)
    async def options(request: Caller) -> Response[None]:
        template = request.scope["path_template"]
        return Response(None, status_code=204, headers={"allow": allow(methods[template])})

    return options


def create_app(
    *,
    settings: Settings,
    rooms: RoomService,
    sessions: Sessions,
    invites: Invites,
    assets: Assets,
    designs: Designs,
    importer: Importer,
    inbox: Inbox,
    static: Path,
    admin_token: str,
    unready: Callable[[], TableForgeError | None],
    bus: Callable[[], Sequence[BusServer]],
    steward: Steward,
    orders: Orders,
    observed: Observed,
    caching: Caching,
    caring: Caring,
) -> Application:
    """The ASGI application over the parts of one server. It starts and stops nothing: whoever made the parts does.

    `static` is the folder of the built web client. `admin_token` is the one in force, set or generated. `unready` says
    what keeps the server from serving, None when nothing does; `observed` what the database lets be seen of itself; `bus`
    how the servers of the bus are doing.
    """
    base_path = settings.serving.base_path
    house = House(
        settings=settings,
        rooms=rooms,
        sessions=sessions,
        invites=invites,
        assets=assets,
        designs=designs,
        importer=importer,
        inbox=inbox,
        showcase=Showcase(rooms),
        client=WebClient(static, base_path),
        doorkeeper=Doorkeeper(settings.limits),
        admin_token=admin_token,
        unready=unready,
        bus=bus,
        steward=steward,
        orders=orders,
        observed=observed,
        caching=caching,
        caring=caring,
    )
    app = Litestar(
        route_handlers=[options_of(ROUTES), *ROUTES],
        exception_handlers={Exception: answer_problem},
        state=State({"house": house}),
        openapi_config=None,
        logging_config=None,
        request_max_body_size=BODY_BYTES,
    )
    app.state.document = openapi(app, version=version("tableforge"), base_path=base_path)
    return Edge(cast("Application", app), settings)
