"""The built client as it is sent."""

import gzip
import os
from pathlib import Path

import pytest

from tableforge.api.web_client import ASK_AGAIN, FOR_EVER, INDEX, WebClient, page_policy
from tableforge.errors import NotFound, Unavailable

PAGE = '<!doctype html><html><head><base href="/" /><title>T</title></head></html>'


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A folder like the one that a build leaves."""
    (tmp_path / "assets").mkdir()
    (tmp_path / INDEX).write_text(PAGE)
    (tmp_path / "mark.svg").write_text("<svg/>")
    (tmp_path / "assets" / "index-Ab_3-xYz.js").write_text("let a = 1;\n" * 500)
    return tmp_path


def test_ht5_the_page_is_based_on_the_sub_path(built: Path) -> None:
    page = WebClient(built, "/table/").file(INDEX)
    assert b'<base href="/table/" />' in page.content
    assert page.content.count(b"<base ") == 1
    assert page.media_type == "text/html"
    assert page.caching == ASK_AGAIN


def test_ht15_files_named_by_their_content_are_kept_for_ever(built: Path) -> None:
    client = WebClient(built, "/")
    script = client.file("assets/index-Ab_3-xYz.js")
    assert script.caching == FOR_EVER
    assert script.media_type == "text/javascript"
    assert script.packed is not None
    assert gzip.decompress(script.packed) == script.content
    mark = client.file("mark.svg")
    assert (mark.caching, mark.media_type, mark.packed) == (ASK_AGAIN, "image/svg+xml", None)


@pytest.mark.parametrize("name", ["../secret", "assets/../../secret", "assets", "", "none.js"])
def test_ht15_nothing_but_the_built_files_is_served(built: Path, name: str) -> None:
    (built.parent / "secret").write_text("secret")
    with pytest.raises(NotFound):
        WebClient(built, "/").file(name)


def test_ht15_a_missing_build_says_what_to_do(tmp_path: Path) -> None:
    client = WebClient(tmp_path / "none", "/")
    with pytest.raises(Unavailable, match="make run"):
        client.file(INDEX)
    with pytest.raises(NotFound):
        client.file("mark.svg")


def test_ht15_a_build_while_serving_is_noticed(built: Path) -> None:
    client = WebClient(built, "/")
    assert b"<title>T</title>" in client.file(INDEX).content
    (built / INDEX).write_text(PAGE.replace("T", "U"))
    os.utime(built / INDEX, ns=(1, 1))
    (built / "mark.svg").unlink()
    assert b"<title>U</title>" in client.file(INDEX).content
    with pytest.raises(NotFound):
        client.file("mark.svg")


def test_ht4_a_page_may_only_do_what_this_server_serves() -> None:
    policy = page_policy("table.example:8080")
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "connect-src 'self' ws://table.example:8080 wss://table.example:8080;" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe-eval" not in policy
    assert "*" not in policy


@pytest.mark.parametrize("host", ["a b", "x; script-src *", "", "a,b", "é"])
def test_ht4_a_strange_host_adds_nothing_to_the_policy(host: str) -> None:
    assert "connect-src 'self';" in page_policy(host)
