"""The HTTP application: the routes, what happens to errors, and the edge around both."""

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, cast

from litestar import Litestar
from litestar.datastructures import State

from tableforge.api import assets as asset_routes
from tableforge.api import health, imports, pages
from tableforge.api import rooms as room_routes
from tableforge.api import sessions as session_routes
from tableforge.api.body import BODY_BYTES
from tableforge.api.documents import openapi
from tableforge.api.doorkeeper import Doorkeeper
from tableforge.api.edge import Application, Edge
from tableforge.api.house import House
from tableforge.api.problems import answer_problem
from tableforge.api.showcase import Showcase
from tableforge.api.uploads import Inbox
from tableforge.api.web_client import WebClient
from tableforge.config import Settings
from tableforge.errors import TableForgeError
from tableforge.files.importer import Importer
from tableforge.library.assets import Assets
from tableforge.library.invites import Invites
from tableforge.library.sessions import Sessions
from tableforge.rooms.service import RoomService

ROUTES: Final[list[Any]] = [
    *health.ROUTES,
    *session_routes.ROUTES,
    *room_routes.ROUTES,
    *imports.ROUTES,
    *asset_routes.ROUTES,
    *pages.ROUTES,
]


def create_app(
    *,
    settings: Settings,
    rooms: RoomService,
    sessions: Sessions,
    invites: Invites,
    assets: Assets,
    importer: Importer,
    inbox: Inbox,
    static: Path,
    admin_token: str,
    unready: Callable[[], TableForgeError | None],
) -> Application:
    """The ASGI application over the parts of one server. It starts and stops nothing: whoever made the parts does.

    `static` is the folder of the built web client. `admin_token` is the one in force, set or generated. `unready` says
    what keeps the server from serving, None when nothing does.
    """
    base_path = settings.serving.base_path
    house = House(
        settings=settings,
        rooms=rooms,
        sessions=sessions,
        invites=invites,
        assets=assets,
        importer=importer,
        inbox=inbox,
        showcase=Showcase(rooms),
        client=WebClient(static, base_path),
        doorkeeper=Doorkeeper(settings.limits),
        admin_token=admin_token,
        unready=unready,
    )
    app = Litestar(
        route_handlers=list(ROUTES),
        exception_handlers={Exception: answer_problem},
        state=State({"house": house}),
        openapi_config=None,
        logging_config=None,
        request_max_body_size=BODY_BYTES,
    )
    app.state.document = openapi(app, version=version("tableforge"), base_path=base_path)
    return Edge(cast("Application", app), settings)
