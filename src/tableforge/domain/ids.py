"""Ids of what the table makes: opaque, and unguessable because the seed of a decision is."""

from base64 import b32encode
from hashlib import blake2b

from tableforge.domain.state import Given

_DIGEST_BYTES = 10
"""80 bits: 16 characters of base32 without padding."""


def fresh_id(given: Given, counter: int = 0) -> str:
    """The id number `counter` of this decision: 16 characters of lower-case base32."""
    digest = blake2b(
        counter.to_bytes(4, "big"),
        key=given.seed,
        digest_size=_DIGEST_BYTES,
        person=b"tableforge.id",
    ).digest()
    return b32encode(digest).decode().lower()
