"""What is sealed is opened as it was, and nothing else is."""

import json
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tableforge.cache import Kept
from tableforge.cache.envelope import (
    LENGTH,
    MAGIC,
    VALUE_BYTES,
    About,
    Envelopes,
    Serialization,
    decode_value,
    encode_value,
)

SAMPLES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "envelopes.json").read_text("utf-8")
)
"""What was written by released forms of the envelope: `sealed` in hex under `token`, `region` and `key`."""

OURS = Envelopes("token", 100)
KEPT = Kept(
    form=3, position=7, built=1.5, tags=("room:r", "ü"), moment=b"moment", value=b"ab" * 500
)


class Row(msgspec.Struct, frozen=True):
    """A value as policies have them."""

    id: str
    data: bytes
    cells: tuple[tuple[int | float | str | bool | None, ...], ...]


ROW = Row("ü", b"\x00\xff", ((1, 2.5, "x", True, None),))


@given(
    st.builds(
        Kept,
        form=st.integers(0, 2**31),
        position=st.integers(-(2**63), 2**63 - 1),
        built=st.floats(allow_nan=False),
        tags=st.lists(st.text(), max_size=5).map(tuple),
        moment=st.binary(max_size=50),
        value=st.binary(max_size=400),
    ),
    st.text(),
)
def test_ca11_what_is_sealed_is_opened_as_it_was(kept: Kept, key: str) -> None:
    name = OURS.name("region", key)
    assert OURS.open(name, OURS.seal(name, kept)) == kept


@given(st.data())
def test_ca11_whatever_is_altered_is_not_opened(data: st.DataObject) -> None:
    name = OURS.name("region", "key")
    sealed = OURS.seal(name, KEPT)
    at = data.draw(st.integers(0, len(sealed) - 1))
    bit = data.draw(st.integers(0, 7))
    altered = sealed[:at] + bytes([sealed[at] ^ 1 << bit]) + sealed[at + 1 :]
    assert OURS.open(name, altered) is None
    assert OURS.open(name, sealed[:at]) is None
    assert OURS.open(name, sealed + data.draw(st.binary(min_size=1, max_size=9))) is None


@given(st.binary(max_size=200))
def test_ca11_noise_is_not_opened(noise: bytes) -> None:
    assert OURS.open(OURS.name("region", "key"), noise) is None
    assert OURS.open(OURS.name("region", "key"), MAGIC + noise) is None


def test_ca11_a_value_is_bound_to_its_key_and_its_token() -> None:
    name = OURS.name("region", "key")
    sealed = OURS.seal(name, KEPT)
    others = [("region", "kez"), ("regio", "nkey"), ("regionk", "ey")]
    assert len({name, *(OURS.name(*other) for other in others)}) == 4
    assert [OURS.open(OURS.name(*other), sealed) for other in others] == [None] * 3
    stranger = Envelopes("another token", 100)
    assert stranger.name("region", "key") != name
    assert stranger.open(name, sealed) is None
    assert OURS.open(name, stranger.seal(name, KEPT)) is None


def test_nothing_of_a_key_can_be_read_from_its_name() -> None:
    assert len({len(OURS.name("sessions", "secret" * count)) for count in range(9)}) == 1
    assert "secret" not in OURS.name("sessions", "secret")


@pytest.mark.parametrize(("over", "smaller"), [(10, True), (10_000, False), (None, False)])
def test_large_values_are_compressed_where_that_helps(over: int | None, smaller: bool) -> None:
    envelopes = Envelopes("token", over)
    name = envelopes.name("region", "key")
    assert (len(envelopes.seal(name, KEPT)) < 500) == smaller
    assert OURS.open(name, envelopes.seal(name, KEPT)) == KEPT
    noise = msgspec.structs.replace(KEPT, value=bytes(range(200)))
    assert OURS.open(name, envelopes.seal(name, noise)) == noise


def forged(unpacked: int, packed: bytes) -> Kept | None:
    """A value as somebody who knows the token may have written it wrongly."""
    name = OURS.name("region", "key")
    about = msgspec.msgpack.encode(About(1, 1, 1.0, b"", (), unpacked))
    content = LENGTH.pack(len(about)) + about + packed
    return OURS.open(name, MAGIC + OURS._seal(name, content) + content)


def test_ca11_nothing_is_unpacked_beyond_its_length_or_the_bound() -> None:
    packed = zlib.compress(bytes(1_000))
    assert forged(1_000, packed) is not None
    assert forged(-1, packed) is not None
    for unpacked in (0, 999, 1_001, VALUE_BYTES + 1, 2**62):
        assert forged(unpacked, packed) is None
    assert forged(1_000, packed[:-1]) is None
    assert forged(1_000, packed + b"x") is None
    assert forged(1_000, b"no zlib") is None
    bomb = zlib.compress(bytes(VALUE_BYTES + 1))
    assert forged(VALUE_BYTES, bomb) is None
    assert forged(VALUE_BYTES + 1, bomb) is None


def test_ca11_what_is_said_about_a_value_must_have_its_form() -> None:
    name = OURS.name("region", "key")
    abouts = (b"", b"\xc1", msgspec.msgpack.encode([1, 2]), msgspec.msgpack.encode({}))
    contents = [LENGTH.pack(len(about)) + about for about in abouts]
    for content in (b"", b"\0", *contents, LENGTH.pack(2**31), LENGTH.pack(9) + b"short"):
        assert OURS.open(name, MAGIC + OURS._seal(name, content) + content) is None


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: str(sample["note"]))
def test_ca11_what_was_written_before_is_opened_or_counts_as_missing(
    sample: dict[str, Any],
) -> None:
    envelopes = Envelopes(sample["token"], None)
    found = envelopes.open(
        envelopes.name(sample["region"], sample["key"]), bytes.fromhex(sample["sealed"])
    )
    if sample["expected"] is None:
        assert found is None
    else:
        assert found == msgspec.convert(sample["expected"], Kept)
        assert decode_value(Row, found.value) == ROW


@pytest.mark.parametrize("serialization", ["json", "msgpack"])
def test_values_are_written_and_read_in_either_serialization(serialization: Serialization) -> None:
    written = encode_value(ROW, serialization)
    assert decode_value(Row, written) == ROW
    assert decode_value(Row, memoryview(written).tobytes()) == ROW


@pytest.mark.parametrize(
    "written",
    [
        b"",
        b"j",
        b"m",
        b"x{}",
        b"j{}",
        b"j" + b"[" * 100_000,
        b"m" + b"\x91" * 100_000,
        b'j{"id": "\xff"}',
        b'j{"id": 1, "data": "", "cells": []}',
        encode_value(ROW, "json")[:-1],
        encode_value(ROW, "msgpack")[:-1],
        encode_value(ROW, "msgpack") + b"\0",
    ],
    ids=lambda written: repr(written[:12]),
)
def test_ca11_bytes_that_are_no_value_of_the_kind_count_as_missing(written: bytes) -> None:
    assert decode_value(Row, written) is None
