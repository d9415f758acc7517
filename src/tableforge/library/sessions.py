"""Sessions: who a token stands for, kept in memory for the calls that ask it all the time.

A token is 256 random bits and known only to its bearer; the database and this process hold its digest. A session slides:
use renews it. Signing out ends it at once, in every instance of a fleet, whatever a look-up that is under way has read
before.
"""

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable

import structlog
from msgspec import Struct, structs

from tableforge.database import Database, Statement
from tableforge.errors import Unauthorized, Unavailable
from tableforge.library.notices import SIGNED_OUT, USER_RENAMED, Notices
from tableforge.library.users import INSERT_USER, User, Users, digest_of, random_id

SESSION_COOKIE = "tableforge_session"

RENEW_AFTER_SECONDS = 3_600.0
"""A session that was renewed less long ago is not written again, unless its whole life is short."""
RENEWALS_A_LIFE = 20
PURGED_AT_ONCE = 100

CODE_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: no letter that is mistaken for a digit."""
CODE_GROUPS = 5
CODE_GROUP_LENGTH = 4
MISREAD = str.maketrans({"O": "0", "I": "1", "L": "1", "-": None, " ": None})

INSERT_SESSION = Statement(
    "session.insert",
    'INSERT INTO sessions (digest, "user", created_ms, seen_ms, expires_ms) VALUES (?, ?, ?, ?, ?)',
)
FIND_SESSION = Statement(
    "session.find",
    "SELECT s.user, u.name, s.seen_ms, s.expires_ms"
    " FROM sessions AS s JOIN users AS u ON u.id = s.user WHERE s.digest = ?",
)
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


class Held(Struct, frozen=True):
    """A session in memory, and from when on its next use is written down."""

    session: Session
    renew_at: float


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


class Sessions:
    """The repository of sessions and recovery codes, with at most `held` sessions in memory.

    With `notices` what ends or renames a session elsewhere is heard of here; while they do not come through, memory is
    not believed and the database asked.

    Raises `Unavailable` while the database is out of reach and memory does not know the answer.
    """

    def __init__(
        self,
        database: Database,
        *,
        lifetime_seconds: float,
        held: int = 10_000,
        clock: Callable[[], float] = time.time,
        notices: Notices | None = None,
    ) -> None:
        self._database = database
        self._notices = notices
        self._users = Users(database)
        self._lifetime = lifetime_seconds
        self._renew_after = min(RENEW_AFTER_SECONDS, lifetime_seconds / RENEWALS_A_LIFE)
        self._bound = held
        self.now = clock
        """The time that `expires` is measured by."""
        self._held: OrderedDict[bytes, Held] = OrderedDict()
        self._ended: OrderedDict[bytes, None] = OrderedDict()
        self._renames = 0
        self._listeners: list[Callable[[str], None]] = []
        if notices is not None:
            notices.on(SIGNED_OUT, self._end)
            notices.on(USER_RENAMED, self._forget_user)
            notices.on_gap(self._held.clear)

    def on_signed_out(self, listener: Callable[[str], None]) -> None:
        """Have `listener` called with the id of every session that is signed out, after its token stopped working."""
        self._listeners.append(listener)

    async def begin(self, name: str) -> Begun:
        """Make a user of this name and sign them in."""
        now = self.now()
        user = User(random_id(), name)
        return await self._begin(user, now, (INSERT_USER, (user.id, name, milliseconds(now))))

    async def recover(self, code: str) -> Begun:
        """Sign the owner of a recovery code in; raises Unauthorized for one that is unknown or was replaced."""
        rows = await self._database.read(FIND_CODE, digest_of(code.upper().translate(MISREAD)))
        if not rows:
            raise Unauthorized(
                "Nobody was signed in.",
                "This recovery code is unknown, or a later one took its place.",
                "Look for slips of the pen, or ask for a code where you are still signed in.",
            )
        return await self._begin(User(*rows[0]), self.now())

    async def _begin(
        self, user: User, now: float, *before: tuple[Statement, tuple[object, ...]]
    ) -> Begun:
        token = secrets.token_urlsafe(32)
        digest, now_ms = digest_of(token), milliseconds(now)
        expires = now + self._lifetime
        await self._database.write_all(
            [
                *before,
                (INSERT_SESSION, (digest, user.id, now_ms, now_ms, milliseconds(expires))),
                (PURGE_SESSIONS, (now_ms, PURGED_AT_ONCE)),
            ]
        )
        session = Session(user.id, user.name, digest.hex(), expires)
        self._hold(digest, Held(session, now + self._renew_after))
        return Begun(token, session)

    def known(self, token: str) -> Session | None:
        """The session of this token if memory alone can say so; otherwise ask `authenticate`."""
        held = self._held.get(digest_of(token))
        now = self.now()
        if held is None or not self._current or now >= held.renew_at or now >= held.session.expires:
            return None
        return held.session

    @property
    def _current(self) -> bool:
        """Whether memory can be believed."""
        return self._notices is None or self._notices.current

    async def authenticate(self, token: str) -> Session:
        """The session of this token, renewed by this use; raises Unauthorized."""
        digest = digest_of(token)
        held = self._held.get(digest)
        if held is None or not self._current:
            held = await self._load(digest)
        else:
            self._held.move_to_end(digest)
        now = self.now()
        if held is None or now >= held.session.expires:
            self._held.pop(digest, None)
            raise not_signed_in()
        if now >= held.renew_at and digest in self._held:
            held = await self._renew(digest, held.session, now)
            if digest in self._ended:
                raise not_signed_in()
        return held.session

    async def _load(self, digest: bytes) -> Held | None:
        renames = self._renames
        rows = await self._database.read(FIND_SESSION, digest)
        # What was read before a sign-out must not bring the session back after it.
        if not rows or digest in self._ended:
            return None
        user_id, name, seen_ms, expires_ms = rows[0]
        session = Session(user_id, name, digest.hex(), expires_ms / 1000)
        held = Held(session, seen_ms / 1000 + self._renew_after)
        if renames == self._renames:
            self._hold(digest, held)
        return held

    async def _renew(self, digest: bytes, session: Session, now: float) -> Held:
        """Let the session's life begin anew; where that cannot be written, it stays good for the life it has.

        Raises Unauthorized if there is no such session any more.
        """
        held = Held(structs.replace(session, expires=now + self._lifetime), now + self._renew_after)
        self._hold(digest, held)
        try:
            renewed = await self._database.write(
                RENEW_SESSION, milliseconds(now), milliseconds(held.session.expires), digest
            )
        except Unavailable as unavailable:
            log.warning("session_not_renewed", reason=str(unavailable))
        else:
            if not renewed:
                self._held.pop(digest, None)
                raise not_signed_in()
        return held

    def _hold(self, digest: bytes, held: Held) -> None:
        self._held[digest] = held
        self._held.move_to_end(digest)
        while len(self._held) > self._bound:
            self._held.popitem(last=False)

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

    def _end(self, session_id: str) -> None:
        digest = bytes.fromhex(session_id)
        self._ended[digest] = None
        while len(self._ended) > self._bound:
            self._ended.popitem(last=False)
        self._held.pop(digest, None)
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
        return structs.replace(session, name=name)

    def _forget_user(self, user_id: str) -> None:
        """Have the sessions of this user read anew, also by look-ups that are under way."""
        self._renames += 1
        for digest in [one for one, held in self._held.items() if held.session.user_id == user_id]:
            del self._held[digest]

    async def recovery_code(self, user_id: str) -> str:
        """Make a code that signs this user in elsewhere; it takes the place of an earlier one."""
        letters = [secrets.choice(CODE_ALPHABET) for _ in range(CODE_GROUPS * CODE_GROUP_LENGTH)]
        code = "".join(letters)
        await self._database.write(SET_CODE, user_id, digest_of(code), milliseconds(self.now()))
        return "-".join(
            code[start : start + CODE_GROUP_LENGTH]
            for start in range(0, len(code), CODE_GROUP_LENGTH)
        )
