"""A file in a form, in whatever pieces it comes."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tableforge.api.uploads import FORM_BYTES, Form
from tableforge.errors import Malformed, TooLarge

MULTIPART = "multipart/form-data; boundary=seam"


def form_of(content: bytes, *, name: str = "map.png", field: str = "file") -> bytes:
    """A form as a browser sends it, with a field before and one behind the file."""
    return (
        b'--seam\r\nContent-Disposition: form-data; name="title"\r\n\r\nThe cellar\r\n'
        + f'--seam\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n'.encode()
        + b"Content-Type: image/png\r\n\r\n"
        + content
        + b'\r\n--seam\r\nContent-Disposition: form-data; name="more"\r\n\r\nyes\r\n--seam--\r\n'
    )


def read(body: bytes, cuts: list[int], max_bytes: int = 10_000) -> tuple[Form, bytes]:
    """Feed a body cut at these places."""
    form = Form(MULTIPART, "", max_bytes)
    places = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    pieces = [body[start:end] for start, end in pairwise(places)]
    return form, b"".join(part for piece in pieces for part in form.feed(piece))


@given(
    st.one_of(
        st.binary(max_size=500),
        st.lists(st.sampled_from([b"\r\n", b"--seam", b"\r\n--sea", b"--", b"x"])).map(b"".join),
    ).filter(lambda content: b"\r\n--seam" not in b"\r\n" + content),
    st.lists(st.integers(0, 2_000), max_size=20),
)
def test_ht10_the_file_is_the_same_however_it_is_cut(content: bytes, cuts: list[int]) -> None:
    form, found = read(form_of(content), cuts)
    assert found == content
    assert form.complete
    assert (form.name, form.bytes) == ("map.png", len(content))


@given(st.integers(0, 400), st.lists(st.integers(0, 2_000), max_size=5))
def test_ht10_a_form_that_is_cut_short_is_not_complete(missing: int, cuts: list[int]) -> None:
    body = form_of(b"x" * 100)
    end = body.index(b"\r\n--seam\r\n", 200) + len(b"\r\n--seam\r\n")
    form, _ = read(body[: max(0, end - 1 - missing)], cuts)
    assert not form.complete


def test_ht10_a_file_as_large_as_allowed_is_taken_and_no_larger() -> None:
    form, found = read(form_of(b"x" * 10_000), [])
    assert (form.complete, len(found)) == (True, 10_000)
    with pytest.raises(TooLarge):
        read(form_of(b"x" * 10_001), [])
    with pytest.raises(TooLarge):
        Form(MULTIPART, str(10_000 + FORM_BYTES + 1), 10_000)


def test_ht10_what_stands_beside_the_file_is_counted_as_well() -> None:
    part = b'--seam\r\nContent-Disposition: form-data; name="x"\r\n\r\n' + b"y" * 99 + b"\r\n"
    with pytest.raises(TooLarge):
        read(part * (FORM_BYTES // len(part) + 3), [], max_bytes=100)


def test_ht10_only_a_file_under_the_right_name_is_wanted() -> None:
    form, found = read(form_of(b"content", field="other"), [])
    assert (form.complete, found) == (False, b"")


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("a\u0000b\u001b.png", "ab.png"),
        ("\u00e4\U0001f409.png", "\u00e4\U0001f409.png"),
        ("x" * 999, "x" * 255),
    ],
)
def test_ht10_a_name_is_kept_as_far_as_it_can_be_shown(name: str, kept: str) -> None:
    assert read(form_of(b"x", name=name), [])[0].name == kept


@pytest.mark.parametrize(
    "content_type", ["", "application/json", "multipart/form-data", "multipart/mixed; boundary=x"]
)
def test_ht10_what_is_no_form_is_refused(content_type: str) -> None:
    with pytest.raises(Malformed):
        Form(content_type, "", 100)


@pytest.mark.parametrize("body", [b"--seam\r\nno header\r\n\r\n", b"--seam\nx: y\r\n\r\n"])
def test_ht10_a_form_that_breaks_its_own_rules_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed):
        read(body, [])


def test_ht10_what_stands_around_the_form_is_passed_over() -> None:
    form, found = read(b"hello\r\n" + form_of(b"content") + b"\r\nbye", [])
    assert (form.complete, found) == (True, b"content")
    assert not read(b"nonsense", [])[0].complete
