"""What names and colours may be is the same for whoever checks them: us, and clients by the schema."""

import jsonschema_rs
import msgspec
import pytest

from tableforge.domain.commands import Colour, Name, Tag


@pytest.mark.parametrize(
    ("kind", "text", "fits"),
    [
        (Name, "Brannoch the Brave", True),
        (Name, "漢 é", True),
        (Name, "Brannoch\n", False),
        (Name, "\nBrannoch", False),
        (Name, "\n", False),
        (Name, "Bran\nnoch", False),
        (Name, "Brannoch\u0085", False),
        (Tag, "sea", True),
        (Tag, "sea\n", False),
        (Colour, "#12aBcd", True),
        (Colour, "#12abcd\n", False),
        (Colour, "#12abcde", False),
    ],
)
def test_a_line_feed_behind_a_name_or_colour_is_refused(
    kind: object, text: str, fits: bool
) -> None:
    schema = jsonschema_rs.validator_for(msgspec.json.schema(kind))
    assert schema.is_valid(text) is fits
    raw = msgspec.json.encode(text)
    if fits:
        assert msgspec.json.decode(raw, type=kind) == text
    else:
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(raw, type=kind)
