"""What the handlers work with: made once by whoever starts the server, found again in every request."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from tableforge.api.caller import Caller
from tableforge.api.doorkeeper import Doorkeeper
from tableforge.api.maintenance import Caretaker
from tableforge.api.orders import Orders
from tableforge.api.schedules import Scheduler
from tableforge.api.showcase import Showcase
from tableforge.api.uploads import Inbox
from tableforge.api.web_client import WebClient
from tableforge.bus import BusServer
from tableforge.cache.two_level import TwoLevelCache
from tableforge.config import Settings
from tableforge.database.cards import Observed
from tableforge.errors import TableForgeError
from tableforge.files.importer import Importer
from tableforge.hub.steward import Steward
from tableforge.library.assets import Assets
from tableforge.library.emergency import Emergency
from tableforge.library.invites import Invites
from tableforge.library.sessions import Sessions
from tableforge.library.systems import Designs
from tableforge.rooms.service import RoomService


@dataclass(frozen=True, slots=True, kw_only=True)
class Caching:
    """The cache and what orders to it need. `recent_rooms` names the rooms of recent activity, at most so many."""

    cache: TwoLevelCache
    emergency: Emergency
    recent_rooms: Callable[[int], Awaitable[Sequence[str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caring:
    """Who cares for the database, and what is begun by itself."""

    caretaker: Caretaker
    scheduler: Scheduler


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """The parts behind the edge.

    `unready` names what keeps the server from serving, None when nothing does. `admin_token` is the one in force, set or
    generated.
    """

    settings: Settings
    rooms: RoomService
    sessions: Sessions
    invites: Invites
    assets: Assets
    designs: Designs
    importer: Importer
    inbox: Inbox
    showcase: Showcase
    client: WebClient
    doorkeeper: Doorkeeper
    admin_token: str
    unready: Callable[[], TableForgeError | None]
    bus: Callable[[], Sequence[BusServer]]
    steward: Steward
    orders: Orders
    observed: Observed
    caching: Caching
    caring: Caring


def house_of(request: Caller) -> House:
    """The parts behind the edge that this request came through."""
    house: House = request.app.state.house
    return house
