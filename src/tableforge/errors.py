"""The one shape every failure takes: what did not happen, why, and how to mend it."""

import errno
from typing import ClassVar


class TableForgeError(Exception):
    """A failure that is told to somebody: a player, an operator, a program.

    `code` is the stable slug of the contract, `http_status` what HTTP and the WebSocket answer with it.
    """

    code: ClassVar[str] = "unavailable"
    http_status: ClassVar[int] = 503

    def __init__(self, what: str, why: str = "", mend: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.mend = mend

    @property
    def detail(self) -> str:
        """What, why and mend in one line of sentences."""
        return " ".join(part for part in (self.what, self.why, self.mend) if part)

    def __str__(self) -> str:
        return self.detail


class Malformed(TableForgeError):
    """The input cannot be what it claims to be."""

    code = "malformed"
    http_status = 400


class Unauthorized(TableForgeError):
    """Nobody is known by these credentials."""

    code = "unauthorized"
    http_status = 401


class Forbidden(TableForgeError):
    """The caller is known and may see this, but may not do it."""

    code = "forbidden"
    http_status = 403


class NotFound(TableForgeError):
    """There is no such thing, or the caller may not know that there is."""

    code = "not-found"
    http_status = 404


class Gone(TableForgeError):
    """It was there once and will not come back under this address."""

    code = "gone"
    http_status = 410


class Conflict(TableForgeError):
    """The request makes sense, but not in the present state."""

    code = "conflict"
    http_status = 409


class Locked(Conflict):
    """The piece or the table is locked."""

    code = "locked"


class NothingToUndo(Conflict):
    """The caller has no command left to take back, or to do again."""

    code = "nothing-to-undo"


class ChangedSince(Conflict):
    """Somebody changed what the command had touched; taking it back would undo their work."""

    code = "changed-since"


class IdempotencyMismatch(Conflict):
    """This command id was used before with another body."""

    code = "idempotency-mismatch"


class TooLarge(TableForgeError):
    """More bytes, pixels or things than the limit allows."""

    code = "too-large"
    http_status = 413


class TooMany(TableForgeError):
    """More requests than the rate allows."""

    code = "too-many"
    http_status = 429


class Draining(TableForgeError):
    """This server is about to stop and takes nothing new."""

    code = "draining"


class Unavailable(TableForgeError):
    """Something this request needs is out of reach for now; nothing was changed."""


def disk_refused(what: str, error: OSError) -> Unavailable:
    """Say what the disk's refusal means for whoever asked, and how an operator mends it; `what` did not happen."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        why, mend = (
            "The disk is full.",
            "Free some room on the server's disk; nothing else is needed.",
        )
    elif error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        why, mend = (
            "The data folder cannot be written.",
            "Give the server's user the right to write there.",
        )
    else:
        why, mend = (
            f"The disk says: {error.strerror or error}.",
            "Run `tableforge doctor` on the server.",
        )
    return Unavailable(what, why, mend)


class StartRefused(TableForgeError):
    """The server will not start like this; the command line prints it and exits with 2."""

    code = "start-refused"
