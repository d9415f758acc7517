"""Invites: what lets somebody into a room, with which role, how often and until when."""

import secrets
import time
from collections.abc import Callable

import msgspec

from tableforge.database import Database, Statement
from tableforge.domain.state import Role
from tableforge.errors import Gone, NotFound, TooLarge
from tableforge.library.users import digest_of

INVITES_A_ROOM = 1_000
DEAD_KEPT_SECONDS = 30 * 86_400.0
"""How long an invite that is used up or expired can still say so."""

PURGE_INVITES = Statement(
    "invite.purge",
    "DELETE FROM invites WHERE room = ? AND created_ms < ? AND (uses_left <= 0 OR expires_ms <= ?)",
    repeatable=True,
)
INSERT_INVITE = Statement(
    "invite.insert",
    "INSERT INTO invites (digest, room, role, uses_left, expires_ms, created_by, created_ms)"
    " SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7"
    " WHERE (SELECT count(*) FROM invites WHERE room = ?2) < ?8",
)
FIND_INVITE = Statement(
    "invite.find", "SELECT role, uses_left, expires_ms FROM invites WHERE digest = ? AND room = ?"
)
TAKE_USE = Statement(
    "invite.take",
    "UPDATE invites SET uses_left = uses_left - 1 WHERE digest = ? AND room = ?"
    " AND (uses_left IS NULL OR uses_left > 0) AND (expires_ms IS NULL OR expires_ms > ?)",
)
GIVE_USE_BACK = Statement(
    "invite.give_back", "UPDATE invites SET uses_left = uses_left + 1 WHERE digest = ? AND room = ?"
)
DELETE_INVITE = Statement("invite.delete", "DELETE FROM invites WHERE digest = ? AND room = ?")

InviteRow = tuple[Role, int | None, int | None]
"""Role, uses left, and the end of its life in milliseconds since 1970."""


def unknown() -> NotFound:
    """The refusal of an invite that is none."""
    return NotFound(
        "There is no such invite.",
        "It was deleted, or belongs to another room.",
        "Ask whoever runs the room for a fresh one.",
    )


def spent() -> Gone:
    """The refusal of an invite that was good once."""
    return Gone(
        "This invite no longer works.",
        "It has expired, or all its uses are taken.",
        "Ask whoever runs the room for a fresh one.",
    )


class Invites:
    """The repository of invites. Only their digests are kept."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    async def create(
        self,
        room: str,
        role: Role,
        *,
        by: str,
        uses: int | None = None,
        expires: float | None = None,
    ) -> str:
        """Make an invite; `uses` and `expires` (seconds since 1970) left out mean no limit.

        Raises TooLarge when the room has `INVITES_A_ROOM` invites already.
        """
        invite = secrets.token_urlsafe(16)
        now_ms = self._now_ms()
        ends_ms = None if expires is None else int(expires * 1000)
        row = (digest_of(invite), room, role, uses, ends_ms, by, now_ms, INVITES_A_ROOM)
        long_ago_ms = now_ms - int(DEAD_KEPT_SECONDS * 1000)
        _, made = await self._database.write_all(
            [(PURGE_INVITES, (room, long_ago_ms, now_ms)), (INSERT_INVITE, row)]
        )
        if not made:
            raise TooLarge(
                "The invite was not made.",
                f"This room has {INVITES_A_ROOM} invites, as many as there may be.",
                "Delete some that nobody needs.",
            )
        return invite

    async def role_of(self, room: str, invite: str) -> Role:
        """What an invite would make of whoever redeems it now; raises NotFound or Gone."""
        rows = await self._database.read(FIND_INVITE, digest_of(invite), room)
        if not rows:
            raise unknown()
        row: InviteRow = msgspec.convert(rows[0], InviteRow)
        role, uses_left, expires_ms = row
        if (uses_left is not None and uses_left <= 0) or (
            expires_ms is not None and expires_ms <= self._now_ms()
        ):
            raise spent()
        return role

    async def redeem(self, room: str, invite: str) -> Role:
        """Take one use, all or none: of two who ask for the last one, one gets it. Raises NotFound or Gone."""
        role = await self.role_of(room, invite)
        if not await self._database.write(TAKE_USE, digest_of(invite), room, self._now_ms()):
            raise spent()
        return role

    async def give_back(self, room: str, invite: str) -> None:
        """Return a use that led to no seat."""
        await self._database.write(GIVE_USE_BACK, digest_of(invite), room)

    async def delete(self, room: str, invite: str) -> None:
        """Let an invite open nothing any more; raises NotFound."""
        if not await self._database.write(DELETE_INVITE, digest_of(invite), room):
            raise unknown()
