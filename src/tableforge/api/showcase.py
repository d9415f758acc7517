"""Who may see which asset."""

from collections import OrderedDict
from typing import Final

from tableforge.errors import NotFound
from tableforge.library.assets import Asset
from tableforge.rooms.service import RoomService

REMEMBERED: Final = 10_000


class Showcase:
    """Decides who may see an asset: its uploader, and members of a room whose view of it refers to the asset.

    Remembers in which room an asset was seen last, so that the next one to ask need not have all their rooms searched.
    """

    def __init__(self, rooms: RoomService) -> None:
        self._rooms = rooms
        self._seen_in: OrderedDict[str, str] = OrderedDict()

    async def admit(self, asset: Asset, user: str) -> None:
        """Let those pass who may see the asset; raises NotFound for all others."""
        if asset.uploader == user:
            return
        likely = [self._seen_in.get(asset.id), asset.room]
        tried = list(dict.fromkeys(room for room in likely if room is not None))
        for room in tried:
            if await self._shows(room, asset, user):
                return
        for look in (self._rooms.likely_rooms, self._rooms.rooms_with_seat):
            for room in await look(user):
                if room not in tried and await self._shows(room, asset, user):
                    return
                tried.append(room)
        raise NotFound("There is no such asset.")

    async def _shows(self, room: str, asset: Asset, user: str) -> bool:
        if asset.id not in await self._rooms.visible_assets(room, user):
            return False
        self._seen_in[asset.id] = room
        self._seen_in.move_to_end(asset.id)
        if len(self._seen_in) > REMEMBERED:
            self._seen_in.popitem(last=False)
        return True
