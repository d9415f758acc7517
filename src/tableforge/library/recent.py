"""Where there was activity of late: what is worth having in memory before somebody asks for it."""

from typing import Final

from tableforge.database import Database, Statement

USERS_AT_MOST: Final = 500

# A session's end is pushed back by its use, so the latest ends are those of the users who were here last; an index has them.
RECENT_ROOMS = Statement(
    "room.recent",
    "SELECT r.id FROM (SELECT user, max(expires_ms) AS seen FROM"
    " (SELECT user, expires_ms FROM sessions ORDER BY expires_ms DESC LIMIT ?1) GROUP BY user) AS u"
    " JOIN seats AS s ON s.user = u.user JOIN rooms AS r ON r.num = s.room WHERE r.deleted_at IS NULL"
    " GROUP BY r.id ORDER BY max(u.seen) DESC, r.id LIMIT ?2",
    'SELECT s.room FROM (SELECT "user", max(expires_ms) AS seen FROM'
    ' (SELECT "user", expires_ms FROM sessions ORDER BY expires_ms DESC LIMIT ?1) AS t GROUP BY "user") AS u'
    ' JOIN seats AS s ON s."user" = u."user" JOIN room_heads AS h ON h.room = s.room WHERE h.deleted_at IS NULL'
    " GROUP BY s.room ORDER BY max(u.seen) DESC, s.room LIMIT ?2",
    background=True,
)


async def recent_rooms(database: Database, limit: int) -> list[str]:
    """The rooms of the users who were here last, theirs first; at most `limit`. Raises `DatabaseUnavailable`."""
    return [row[0] for row in await database.read(RECENT_ROOMS, USERS_AT_MOST, limit)]
