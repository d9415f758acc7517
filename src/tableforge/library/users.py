"""Who plays here: a user is an id and a name, nothing else is asked of anybody."""

import base64
import hashlib
import secrets

from msgspec import Struct

from tableforge.database import Database, Statement, Step
from tableforge.errors import NotFound

INSERT_USER = Statement("user.insert", "INSERT INTO users (id, name, created_ms) VALUES (?, ?, ?)")
RENAME_USER = Statement("user.rename", "UPDATE users SET name = ? WHERE id = ?", repeatable=True)


class User(Struct, frozen=True):
    """Somebody, as the others know them."""

    id: str
    name: str


def random_id() -> str:
    """16 characters of lower-case base32: 80 bits that say nothing."""
    return base64.b32encode(secrets.token_bytes(10)).decode("ascii").lower()


def digest_of(secret: str) -> bytes:
    """What is stored in place of a token, code or invite.

    A plain digest is enough for secrets of 100 random bits and more, and it makes the look-up independent of how many
    characters a guess has right.
    """
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


class Users:
    """The repository of users."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def rename(self, user_id: str, name: str, *steps: Step) -> None:
        """Give a user another name, in one transaction with these steps; raises NotFound."""
        renamed, *_ = await self._database.write_all([(RENAME_USER, (name, user_id)), *steps])
        if not renamed:
            raise NotFound("There is no such user.")
