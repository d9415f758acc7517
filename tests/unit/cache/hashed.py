"""Keys whose hashes are the same in every process, so that what is sampled by them is, too."""

from hashlib import blake2b


class Hashed(str):
    """A key with a hash of its own."""

    __slots__ = ("_hash",)
    _hash: int

    def __new__(cls, text: str) -> "Hashed":
        """The key of this text."""
        key = super().__new__(cls, text)
        key._hash = int.from_bytes(blake2b(text.encode(), digest_size=7).digest())
        return key

    def __eq__(self, other: object) -> bool:
        return str.__eq__(self, other) is True

    def __hash__(self) -> int:
        return self._hash
