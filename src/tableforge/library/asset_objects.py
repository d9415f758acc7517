"""An object store that speaks S3 as the place of a fleet's pictures, through `obstore`."""

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import parse_qsl, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from tableforge.config.fleet import server_name
from tableforge.errors import NotFound, StartRefused, Unavailable
from tableforge.library.asset_blobs import CANNOT_BE_READ, NOT_SWEPT, append, on_disk
from tableforge.library.assets import NO_SUCH_ASSET, NOT_KEPT

if TYPE_CHECKING:
    from obstore.store import ObjectStore, S3Config

REQUEST_SECONDS = 30
RETRIES = 5
RETRY_SECONDS = 60
LISTED_AT_ONCE = 1_000


def s3_of(url: str) -> S3Store:
    """The bucket of an address s3://bucket/prefix?endpoint=…&region=…; what is left out comes from the AWS_ variables.

    Raises `StartRefused` for an option that there is not.
    """
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    plain = options.get("endpoint", "").startswith("http://")
    try:
        return S3Store.from_url(
            parts._replace(query="").geturl(),
            config=cast("S3Config", options),
            client_options={
                "timeout": timedelta(seconds=REQUEST_SECONDS),
                "connect_timeout": timedelta(seconds=REQUEST_SECONDS),
                "allow_http": plain,
            },
            retry_config={
                "max_retries": RETRIES,
                "retry_timeout": timedelta(seconds=RETRY_SECONDS),
            },
        )
    except (BaseError, ValueError, TypeError) as error:
        raise StartRefused(
            "The server did not start.",
            f"ASSETS_URL ({server_name(url)}) cannot be used: {first_line(error)}",
            "Write s3://bucket/prefix with options such as ?region=…&endpoint=https://…",
        ) from error


def first_line(error: Exception) -> str:
    """What an error of the library says for people; the rest is its inner structure, which may repeat the request."""
    return str(error).partition("\n")[0].rstrip(".") + "."


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Failures of the store as ours; `what` did not happen."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound(NO_SUCH_ASSET) from error
    except (BaseError, OSError) as error:
        raise Unavailable(
            what,
            f"The object store says: {first_line(error)}",
            "Try again in a moment; the operator looks at ASSETS_URL and at the store.",
        ) from error


class ObjectBlobs:
    """Objects named after the blobs, `ab/cd/<name>`, below the store's prefix; whole or not there, as object stores are."""

    def __init__(self, store: "ObjectStore") -> None:
        self._store = store

    async def put(self, name: str, source: Path) -> None:
        """See the contract."""
        with refusing(NOT_KEPT):
            await obstore.put_async(self._store, _key(name), source)

    async def size(self, name: str) -> int | None:
        """See the contract."""
        try:
            with refusing(CANNOT_BE_READ):
                return (await obstore.head_async(self._store, _key(name)))["size"]
        except NotFound:
            return None

    async def fetch(self, name: str, target: Path) -> None:
        """See the contract."""
        with refusing(CANNOT_BE_READ):
            result = await obstore.get_async(self._store, _key(name))
            async for portion in result.stream():
                data = bytes(portion)
                await on_disk(CANNOT_BE_READ, lambda: append(target, data))  # noqa: B023 - awaited here

    async def delete(self, name: str) -> None:
        """See the contract."""
        with refusing(NOT_SWEPT):
            try:
                await obstore.delete_async(self._store, _key(name))
            except FileNotFoundError:
                return

    async def older_than(self, seconds: float) -> AsyncIterator[list[str]]:
        """See the contract. An object that is made now shows the store's clock."""
        probe = _key(f"clock-{secrets.token_hex(8)}")
        with refusing(NOT_SWEPT):
            await obstore.put_async(self._store, probe, b"now")
            now = (await obstore.head_async(self._store, probe))["last_modified"]
            await obstore.delete_async(self._store, probe)
            moment = now - timedelta(seconds=seconds)
            async for found in obstore.list(self._store, chunk_size=LISTED_AT_ONCE):
                names = [
                    one["path"].rpartition("/")[2] for one in found if one["last_modified"] < moment
                ]
                if names:
                    yield names


def _key(name: str) -> str:
    return f"{name[:2]}/{name[2:4]}/{name}"
