"""How values are written to the shared level, so that only what our fleet wrote there, under this key, is ever read.

Whoever reaches the server may put anything there, and half of a value may be left of one. So each value is sealed: a keyed
digest over its key, what is said about it, and its bytes. What was moved, cut off, altered, or written under another
ADMIN_TOKEN is not opened. zlib at its lowest level compresses what is large: zstandard takes a half to a fifth of its time and
leaves a tenth to a third less, which is no reason for a dependency (docs/shared-cache.md has the figures).
"""

import struct
import zlib
from hashlib import blake2b
from hmac import compare_digest
from typing import Any, Final, Literal, TypeVar

import msgspec
from msgspec import Struct

from tableforge.cache import Kept

V = TypeVar("V")

VALUE_BYTES: Final = 16 << 20
"""A larger value is not written, and nothing is unpacked beyond it."""
LEVEL: Final = 1
MAGIC: Final = b"tfc\x01"
"""Program and form of the envelope; each form that was released has samples in tests/unit/cache/envelopes.json."""
SEAL_BYTES: Final = 16
SEALED_AT: Final = len(MAGIC) + SEAL_BYTES
LENGTH: Final = struct.Struct("<I")
"""First of what is sealed: the length of what is said about the value. That and the value follow."""

Serialization = Literal["json", "msgpack"]


class About(Struct, frozen=True, array_like=True):
    """What stands before a value; `unpacked` is its length if it is compressed, else -1."""

    form: int
    position: int
    built: float
    moment: bytes
    tags: tuple[str, ...]
    unpacked: int


_encode_about = msgspec.msgpack.Encoder().encode
_decode_about = msgspec.msgpack.Decoder(About).decode


class Envelopes:
    """Seals and opens under the instances' common secret. `compress_over`: values of more bytes are compressed; None: none."""

    def __init__(self, secret: str, compress_over: int | None) -> None:
        key = blake2b(secret.encode(), person=b"tableforge cache").digest()
        self._naming = blake2b(key=key, digest_size=16, person=b"name")
        self._sealing = blake2b(key=key, digest_size=SEAL_BYTES, person=b"seal")
        self._compress_over = VALUE_BYTES if compress_over is None else compress_over

    def name(self, region: str, key: str) -> str:
        """What a value is called on the server: nothing of the key can be read from it."""
        digest = self._naming.copy()
        digest.update(f"{len(region)}:{region}{key}".encode())
        return digest.hexdigest()

    def seal(self, name: str, kept: Kept) -> bytes:
        """A value as it is written under this name."""
        value, unpacked = kept.value, -1
        if len(value) > self._compress_over:
            packed = zlib.compress(value, LEVEL)
            if len(packed) < len(value):
                value, unpacked = packed, len(value)
        about = _encode_about(
            About(kept.form, kept.position, kept.built, kept.moment, kept.tags, unpacked)
        )
        content = LENGTH.pack(len(about)) + about + value
        return MAGIC + self._seal(name, content) + content

    def open(self, name: str, sealed: bytes) -> Kept | None:
        """What was sealed under this name by somebody who knows the secret; else None."""
        content = memoryview(sealed)[SEALED_AT:]
        if len(content) < LENGTH.size or not sealed.startswith(MAGIC):
            return None
        if not compare_digest(sealed[len(MAGIC) : SEALED_AT], self._seal(name, content)):
            return None
        (length,) = LENGTH.unpack_from(content)
        value: bytes = sealed[SEALED_AT + LENGTH.size + length :]
        try:
            about = _decode_about(content[LENGTH.size : LENGTH.size + length])
            if about.unpacked >= 0:
                value = _unpacked(value, about.unpacked)
        except (msgspec.MsgspecError, zlib.error, ValueError):
            return None
        return Kept(
            form=about.form,
            position=about.position,
            built=about.built,
            tags=about.tags,
            moment=about.moment,
            value=value,
        )

    def _seal(self, name: str, content: bytes | memoryview) -> bytes:
        """The seal of what stands behind it; names are all of one length, so that nothing can pass for the end of one."""
        digest = self._sealing.copy()
        digest.update(name.encode())
        digest.update(content)
        return digest.digest()


def _unpacked(packed: bytes, size: int) -> bytes:
    """Raises `ValueError` or `zlib.error` for what does not unpack to exactly so many bytes."""
    if not 0 < size <= VALUE_BYTES:
        raise ValueError(size)
    unpacking = zlib.decompressobj()
    value = unpacking.decompress(packed, size)
    if len(value) != size or unpacking.decompress(unpacking.unconsumed_tail, 1):
        raise ValueError(size)
    if not unpacking.eof or unpacking.unused_data:
        raise ValueError(size)
    return value


def encode_value(value: object, serialization: Serialization) -> bytes:
    """A policy's value as bytes that say how they were written, so that instances may differ in it."""
    if serialization == "json":
        return b"j" + msgspec.json.encode(value)
    return b"m" + msgspec.msgpack.encode(value)


_decoders: dict[tuple[type[Any], bytes], Any] = {}


def decode_value(kind: type[V], data: bytes) -> V | None:
    """A value of this kind; None if the bytes are none."""
    decoder = _decoder(kind, data[:1])
    if decoder is None:
        return None
    try:
        value: V = decoder.decode(memoryview(data)[1:])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return value


def _decoder(kind: type[Any], serialization: bytes) -> Any:
    """One decoder for each kind, since making them takes time; kinds are those of the policies."""
    decoder = _decoders.get((kind, serialization))
    if decoder is None and serialization in (b"j", b"m"):
        package = msgspec.json if serialization == b"j" else msgspec.msgpack
        decoder = _decoders[kind, serialization] = package.Decoder(kind)
    return decoder
