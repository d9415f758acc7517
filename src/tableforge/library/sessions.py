"""Sessions: who a token stands for, read through the cache for the calls that ask it all the time.

A token is 256 random bits and known only to its bearer; the database and the cache hold its digest. A session slides:
use renews it. Signing out ends it at once, in every instance of a fleet, whatever a look-up that is under way has read
before. What lies in memory is dropped when a notice tells of it; what another instance has put into the shared level is
believed only if it was read behind everything that is known to have been told about the session and its user.
"""

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable

import structlog
from msgspec import Struct, structs

from tableforge.cache import Built, Cache, Policy
from tableforge.cache.policies import SessionRow
from tableforge.database import Database, Statement
from tableforge.errors import Unauthorized, Unavailable
from tableforge.library.notices import NEWEST, SIGNED_OUT, USER_RENAMED, Notices
from tableforge.library.users import INSERT_USER, User, Users, digest_of, random_id

SESSION_COOKIE = "tableforge_session"

RENEW_AFTER_SECONDS = 3_600.0
"""A session that was renewed less long ago is not written again, unless its whole life is short."""
RENEWALS_A_LIFE = 20
PURGED_AT_ONCE = 100
ENDED_REMEMBERED = 10_000
"""Sessions that ended here while a look-up of them may have been under way."""

CODE_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: no letter that is mistaken for a digit."""
CODE_GROUPS = 5
CODE_GROUP_LENGTH = 4
MISREAD = str.maketrans({"O": "0", "I": "1", "L": "1", "-": None, " ": None})

INSERT_SESSION = Statement(
    "session.insert",
    'INSERT INTO sessions (digest, "user", created_ms, seen_ms, expires_ms) VALUES (?, ?, ?, ?, ?)',
)
_FOUND = "FROM sessions AS s JOIN users AS u ON u.id = s.user WHERE s.digest = ?"
FIND_SESSION = Statement(
    "session.find",
    f"SELECT s.user, u.name, s.seen_ms, s.expires_ms, 0 {_FOUND}",
    postgres="SELECT s.user, u.name, s.seen_ms, s.expires_ms,"
    f" CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint) {_FOUND}",
)
"""With the position that it was read at, as notices count (see `library.notices`)."""
RENEW_SESSION = Statement(
    "session.renew",
    "UPDATE sessions SET seen_ms = ?, expires_ms = ? WHERE digest = ?",
    repeatable=True,
)
DELETE_SESSION = Statement(
    "session.delete", "DELETE FROM sessions WHERE digest = ?", repeatable=True
)
PURGE_SESSIONS = Statement(
    "session.purge",
    "DELETE FROM sessions WHERE digest IN"
    " (SELECT digest FROM sessions WHERE expires_ms < ? ORDER BY expires_ms LIMIT ?)",
    repeatable=True,
)
SET_CODE = Statement(
    "recovery.set",
    'INSERT INTO recovery_codes ("user", digest, created_ms) VALUES (?, ?, ?)'
    ' ON CONFLICT ("user") DO UPDATE SET digest = excluded.digest, created_ms = excluded.created_ms',
    repeatable=True,
)
FIND_CODE = Statement(
    "recovery.find",
    "SELECT u.id, u.name FROM recovery_codes AS r JOIN users AS u ON u.id = r.user"
    " WHERE r.digest = ?",
)

log = structlog.get_logger(__name__)


class Session(Struct, frozen=True):
    """Somebody who is signed in. `expires` is in seconds since 1970; `session_id` is no secret."""

    user_id: str
    name: str
    session_id: str
    expires: float

    @property
    def user(self) -> User:
        """The user as the others know them."""
        return User(self.user_id, self.name)


class Begun(Struct, frozen=True):
    """A session at its start: the only time that its token is known here."""

    token: str
    session: Session


def milliseconds(seconds: float) -> int:
    """Seconds as the database keeps them."""
    return int(seconds * 1000)


def not_signed_in() -> Unauthorized:
    """The refusal of a token that stands for nobody."""
    return Unauthorized(
        "You are not signed in.",
        "This session is unknown here: it has ended, or was signed out.",
        "Tell your name again, or bring your user back with its recovery code.",
    )


def session_of(digest: bytes, row: SessionRow) -> Session:
    """A session as those who asked for it know it."""
    return Session(row.user_id, row.name, digest.hex(), row.expires_ms / 1000)


def user_tag(user_id: str) -> str:
    """What the sessions of a user are tagged with."""
    return f"user:{user_id}"


class Sessions:
    """The repository of sessions and recovery codes, read through `cache` under `policy`.

    With `notices` what ends or renames a session elsewhere is heard of here; while they do not come through, memory is
    not believed and the database asked.

    Raises `Unavailable` while the database is out of reach and memory does not know the answer.
    """

    def __init__(
        self,
        database: Database,
        cache: Cache,
        policy: Policy[SessionRow],
        *,
        lifetime_seconds: float,
        clock: Callable[[], float] = time.time,
        notices: Notices | None = None,
    ) -> None:
        self._database = database
        self._cache = cache
        self._policy = policy
        self._notices = notices
        self._users = Users(database)
        self._lifetime = lifetime_seconds
        self._renew_after = min(RENEW_AFTER_SECONDS, lifetime_seconds / RENEWALS_A_LIFE)
        self.now = clock
        """The time that `expires` is measured by."""
        self._ended: OrderedDict[bytes, None] = OrderedDict()
        self._listeners: list[Callable[[str], None]] = []
        if notices is not None:
            notices.on(SIGNED_OUT, self._end)
            notices.on(USER_RENAMED, self._forget_user)

    def on_signed_out(self, listener: Callable[[str], None]) -> None:
        """Have `listener` called with the id of every session that is signed out, after its token stopped working."""
        self._listeners.append(listener)

    async def begin(self, name: str) -> Begun:
        """Make a user of this name and sign them in."""
        now = self.now()
        user = User(random_id(), name)
        position = self._position
        token, digest, row = await self._begin(
            user, now, (INSERT_USER, (user.id, name, milliseconds(now)))
        )
        # Nobody can have been told anything about either yet.
        self._put(digest, structs.replace(row, read_at=position))
        return Begun(token, session_of(digest, row))

    async def recover(self, code: str) -> Begun:
        """Sign the owner of a recovery code in; raises Unauthorized for one that is unknown or was replaced."""
        rows = await self._database.read(FIND_CODE, digest_of(code.upper().translate(MISREAD)))
        if not rows:
            raise Unauthorized(
                "Nobody was signed in.",
                "This recovery code is unknown, or a later one took its place.",
                "Look for slips of the pen, or ask for a code where you are still signed in.",
            )
        token, digest, row = await self._begin(User(*rows[0]), self.now())
        return Begun(token, session_of(digest, row))

    async def _begin(
        self, user: User, now: float, *before: tuple[Statement, tuple[object, ...]]
    ) -> tuple[str, bytes, SessionRow]:
        token = secrets.token_urlsafe(32)
        digest, now_ms = digest_of(token), milliseconds(now)
        expires_ms = milliseconds(now + self._lifetime)
        await self._database.write_all(
            [
                *before,
                (INSERT_SESSION, (digest, user.id, now_ms, now_ms, expires_ms)),
                (PURGE_SESSIONS, (now_ms, PURGED_AT_ONCE)),
            ]
        )
        return token, digest, SessionRow(user.id, user.name, now_ms, expires_ms, 0)

    def known(self, token: str) -> Session | None:
        """The session of this token if memory alone can say so; otherwise ask `authenticate`."""
        digest = digest_of(token)
        row = self._held(digest) if self._current else None
        now = self.now()
        if row is None or now >= self._renew_at(row) or now >= row.expires_ms / 1000:
            return None
        return session_of(digest, row)

    @property
    def _current(self) -> bool:
        """Whether memory can be believed."""
        return self._notices is None or self._notices.current

    @property
    def _position(self) -> int:
        """What is read from now on, or lies in memory now, is of this position or a later one."""
        return self._notices.position if self._notices is not None else 0

    def _key(self, digest: bytes) -> str:
        """Positions of another server of the database say nothing about this one's."""
        return f"{digest.hex()}.{self._notices.server}" if self._notices else digest.hex()

    def _held(self, digest: bytes) -> SessionRow | None:
        floor = self._notices.since if self._notices is not None else 0
        return self._cache.peek(self._policy, self._key(digest), floor=floor)

    def _put(self, digest: bytes, row: SessionRow) -> None:
        self._cache.put(
            self._policy,
            self._key(digest),
            row,
            position=row.read_at,
            tags=(user_tag(row.user_id),),
        )

    def _renew_at(self, row: SessionRow) -> float:
        """From when on the next use of a session is written down."""
        return row.seen_ms / 1000 + self._renew_after

    async def authenticate(self, token: str) -> Session:
        """The session of this token, renewed by this use; raises Unauthorized."""
        digest = digest_of(token)
        row = self._held(digest) if self._current else None
        if row is None:
            row = await self._load(digest, self._floor(digest.hex()))
        if row is not None and self.now() >= row.expires_ms / 1000:
            row = await self._load(digest, NEWEST)  # it may have been renewed elsewhere
        now = self.now()
        # What was read before a sign-out must not bring the session back after it.
        if row is None or now >= row.expires_ms / 1000 or digest in self._ended:
            raise not_signed_in()
        if now >= self._renew_at(row) and (held := self._held(digest)) is not None:
            row = await self._renew(digest, held, now)
            if digest in self._ended:
                raise not_signed_in()
        return session_of(digest, row)

    def _floor(self, *about: str) -> int:
        """From which position on what somebody has read about these is believed."""
        if self._notices is None:
            return 0
        return self._notices.newest(*about) if self._notices.current else NEWEST

    async def _load(self, digest: bytes, floor: int) -> SessionRow | None:
        async def load() -> Built[SessionRow] | None:
            rows = await self._database.read(FIND_SESSION, digest)
            if not rows:
                return None
            row = SessionRow(*rows[0])
            return Built(row, position=row.read_at, tags=(user_tag(row.user_id),))

        key = self._key(digest)
        row = await self._cache.get(self._policy, key, load, floor=floor)
        if row is not None and floor < NEWEST and row.read_at < self._floor(row.user_id):
            row = await self._cache.get(self._policy, key, load, floor=NEWEST)
        return row

    async def _renew(self, digest: bytes, held: SessionRow, now: float) -> SessionRow:
        """Let the session's life begin anew; where that cannot be written, it stays good for the life it has.

        Raises Unauthorized if there is no such session any more.
        """
        row = structs.replace(
            held,
            seen_ms=milliseconds(now),
            expires_ms=milliseconds(now + self._lifetime),
            read_at=max(held.read_at, self._position),
        )
        self._put(digest, row)  # at once, so that not every use meanwhile writes as well
        try:
            renewed = await self._database.write(RENEW_SESSION, row.seen_ms, row.expires_ms, digest)
        except Unavailable as unavailable:
            log.warning("session_not_renewed", reason=str(unavailable))
        else:
            if not renewed:
                self._cache.drop(self._policy, self._key(digest))
                raise not_signed_in()
        return row

    async def sign_out(self, session: Session) -> None:
        """End this session: when this returns its token works nowhere here, and the other instances are being told."""
        digest = bytes.fromhex(session.session_id)
        if self._notices is None:
            await self._database.write(DELETE_SESSION, digest)
            self._end(session.session_id)
        else:
            notice = self._notices.draft(SIGNED_OUT, session.session_id)
            await self._database.write_all([(DELETE_SESSION, (digest,)), notice.step])
            self._notices.told(notice)
        self._cache.drop(self._policy, self._key(digest))

    def _end(self, session_id: str) -> None:
        digest = bytes.fromhex(session_id)
        self._ended[digest] = None
        while len(self._ended) > ENDED_REMEMBERED:
            self._ended.popitem(last=False)
        self._cache.forget(self._policy, self._key(digest))
        for listener in self._listeners:
            listener(session_id)

    async def rename(self, session: Session, name: str) -> Session:
        """Give the session's user another name, in all their sessions."""
        if self._notices is None:
            await self._users.rename(session.user_id, name)
            self._forget_user(session.user_id)
        else:
            notice = self._notices.draft(USER_RENAMED, session.user_id)
            await self._users.rename(session.user_id, name, notice.step)
            self._notices.told(notice)
        self._cache.drop_tag(user_tag(session.user_id))
        return structs.replace(session, name=name)

    def _forget_user(self, user_id: str) -> None:
        """Have the sessions of this user read anew, also by look-ups that are under way."""
        self._cache.forget_tag(user_tag(user_id))

    async def recovery_code(self, user_id: str) -> str:
        """Make a code that signs this user in elsewhere; it takes the place of an earlier one."""
        letters = [secrets.choice(CODE_ALPHABET) for _ in range(CODE_GROUPS * CODE_GROUP_LENGTH)]
        code = "".join(letters)
        await self._database.write(SET_CODE, user_id, digest_of(code), milliseconds(self.now()))
        return "-".join(
            code[start : start + CODE_GROUP_LENGTH]
            for start in range(0, len(code), CODE_GROUP_LENGTH)
        )
