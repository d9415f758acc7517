"""The address of an object store, and its failures; the store's behaviour is in the contract suite of assets."""

from pathlib import Path

import pytest
from obstore.store import S3Store

from tableforge.errors import StartRefused, Unavailable
from tableforge.library.asset_objects import ObjectBlobs, s3_of
from tests.server_process import free_port

NOWHERE = "s3://pictures/here?endpoint=http://127.0.0.1:{port}&region=x&access_key_id=me&secret_access_key=hidden-word"


def test_the_address_names_bucket_prefix_and_options() -> None:
    store = s3_of(NOWHERE.format(port=9))
    assert isinstance(store, S3Store)
    assert store.prefix == "here"
    assert store.config["bucket"] == "pictures"
    assert store.config["endpoint"] == "http://127.0.0.1:9"


def test_an_option_that_there_is_not_is_refused_without_the_secrets() -> None:
    with pytest.raises(StartRefused, match="colour") as refused:
        s3_of("s3://pictures?colour=red&secret_access_key=hidden-word")
    assert "hidden-word" not in str(refused.value)


async def test_a_store_that_is_away_is_unavailable_without_the_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tableforge.library.asset_objects.RETRIES", 0)
    blobs = ObjectBlobs(s3_of(NOWHERE.format(port=free_port())))
    (tmp_path / "a").write_bytes(b"a")
    for call in (
        blobs.put("name", tmp_path / "a"),
        blobs.size("name"),
        blobs.fetch("name", tmp_path / "b"),
        blobs.delete("name"),
    ):
        with pytest.raises(Unavailable, match="The object store says") as refused:
            await call
        assert "hidden-word" not in str(refused.value)
