"""Assets: pictures that were uploaded, a row for each upload and the bytes once, known by their digest.

The bytes go in before the row that refers to them: whatever a crash leaves over is bytes without a row, which `sweep`
takes away. An id says nothing of the bytes, so that nobody learns from it whether they were known. Where the bytes lie is
decided in `asset_stores`.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Struct, structs

from tableforge.cache import Built, Cache
from tableforge.cache.policies import Asset as Asset
from tableforge.cache.policies import Policies, Rows
from tableforge.database import Database, Row, Statement
from tableforge.database.finding import Listing, listing, page
from tableforge.errors import Malformed, NotFound, TooLarge
from tableforge.library.changes import changing
from tableforge.library.users import random_id

NOT_KEPT = "The picture was not kept."
NO_SUCH_ASSET = "There is no such asset."

NAME_CHARACTERS = 200
TAGS_AN_ASSET = 20
TAG_CHARACTERS = 40
LISTED_AT_MOST = 200
LONGEST_ID = 64
"""What is longer is the id of nothing."""
GRACE_SECONDS = 3_600.0
"""Bytes without a row are left alone for this long: their row may be on its way."""
ADDED_AT_ONCE = 64
"""Into how many lanes digests are spread; uploads of one lane wait for each other."""

COLUMNS = "id, digest, kind, width, height, bytes, uploader, room, name, tags, created_ms"

# SQLite has one writer. In PostgreSQL the transaction that counts and inserts waits for others of the same owner, so that
# two uploads at once cannot both take the last room. What belongs to no room counts against its uploader.
LOCK_OWNER = Statement(
    "asset.lock_owner",
    "SELECT ?1",
    postgres="SELECT pg_advisory_xact_lock(hashtextextended(?1::text, 0))",
    repeatable=True,
)
INSERT_ASSET = Statement(
    "asset.insert",
    f"INSERT INTO assets ({COLUMNS}, search)"  # noqa: S608 - names of columns, no values
    " SELECT CAST(?1 AS TEXT), CAST(?2 AS TEXT), CAST(?3 AS TEXT), CAST(?4 AS INTEGER), CAST(?5 AS INTEGER),"
    " CAST(?6 AS BIGINT), CAST(?7 AS TEXT), CAST(?8 AS TEXT), CAST(?9 AS TEXT), CAST(?10 AS TEXT),"
    " CAST(?11 AS BIGINT), CAST(?12 AS TEXT)"
    " WHERE ?6 + (SELECT coalesce(sum(bytes), 0) FROM assets"
    " WHERE room = ?8 OR (?8 IS NULL AND room IS NULL AND uploader = ?7)) <= CAST(?13 AS BIGINT)",
)
FIND_ASSET = Statement(
    "asset.find",
    f"SELECT {COLUMNS} FROM assets WHERE id = ?",  # noqa: S608 - names of columns, no values
)
DELETE_ASSET = Statement("asset.delete", "DELETE FROM assets WHERE id = ?")
IS_DIGEST_USED = Statement("asset.digest_used", "SELECT 1 FROM assets WHERE digest = ? LIMIT 1")

LIST_OF_USER = listing(
    "asset.of_user",
    "assets",
    COLUMNS,
    keys=("uploader",),
    owner="'@' || ?1",
    terms="asset_terms(uploader, room, tags, search)",
)
LIST_OF_ROOM = listing(
    "asset.of_room",
    "assets",
    COLUMNS,
    keys=("room",),
    owner="'!' || ?1",
    terms="asset_terms(uploader, room, tags, search)",
)


class AssetPage(Struct, frozen=True):
    """Assets, newest first, and where the next page begins, None at the end; a page may be short although more follow."""

    assets: tuple[Asset, ...]
    next: str | None


class NewPicture(Protocol):
    """A clean picture and its thumbnail, lying on the same disk as the assets; what an importer returns.

    `digest` is the sha256 of the bytes in hex, `kind` their media type.
    """

    @property
    def digest(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def path(self) -> Path: ...
    @property
    def thumbnail_path(self) -> Path: ...


class AssetBytes(Protocol):
    """Where the bytes lie. Every method raises Unavailable when that place fails; then nothing was changed."""

    async def put(self, picture: NewPicture, claim: str) -> None:
        """Take bytes and thumbnail over, durably; both files are gone from where they lay, whatever happens (AS1).

        Bytes that are known already are kept as they are, and their grace begins again. `claim` is the id under which the
        upload will be listed.
        """
        ...

    async def locate(self, digest: str, *, thumbnail: bool) -> Path:
        """The file to serve; raises NotFound where it should be and is not (AS2)."""
        ...

    async def discard(self, digest: str, claim: str) -> None:
        """Take bytes that no row refers to away, if no other upload ever claimed them; else they wait for `sweep`."""
        ...

    async def sweep(self, used: Callable[[str], Awaitable[bool]]) -> int:
        """Take all bytes away whose grace is over and that no row refers to (AS3), and return how many there were.

        `used` tells whether a row refers to a digest. May run in several processes at once, beside uploads in others.
        """
        ...


def user_tag(user: str) -> str:
    """What lists of a user's uploads are tagged with."""
    return f"assets_of_user:{user}"


def room_tag(room: str) -> str:
    """What lists of the uploads into a room are tagged with."""
    return f"assets_of_room:{room}"


class Assets:
    """The repository of assets. What is known of them is read through `cache`; the bytes are not.

    `room_max_bytes` bounds what one room keeps, and what one user keeps outside of rooms. Every method raises
    Unavailable when the database or the disk fails; then nothing was changed.
    """

    def __init__(
        self,
        database: Database,
        stored: AssetBytes,
        cache: Cache,
        policies: Policies,
        *,
        room_max_bytes: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._stored = stored
        self._cache = cache
        self._rows = policies.asset_metadata
        self._lists = policies.query_results
        self._room_max_bytes = room_max_bytes
        self._clock = clock
        self._lanes = [asyncio.Lock() for _ in range(ADDED_AT_ONCE)]

    async def add(
        self,
        picture: NewPicture,
        *,
        uploader: str,
        room: str | None,
        name: str,
        tags: Iterable[str] = (),
    ) -> Asset:
        """Keep a picture; its files are gone from where they lay, whatever happens.

        Raises TooLarge when the room, or for `room=None` the uploader, has no space for it (AS4), Malformed for bad tags.
        """
        try:
            asset = Asset(
                id=random_id(),
                digest=picture.digest,
                kind=picture.kind,
                width=picture.width,
                height=picture.height,
                bytes=picture.bytes,
                uploader=uploader,
                room=room,
                name=printable(name)[:NAME_CHARACTERS],
                tags=usable_tags(tags),
                created_ms=int(self._clock() * 1000),
            )
            async with self._lane(asset.digest):
                await self._stored.put(picture, asset.id)
                if not await changing(self._insert(asset), lambda: self._changed(asset)):
                    await self._discard_unless_used(asset)
                    raise self._no_space(asset)
        finally:
            await asyncio.to_thread(remove_files, picture.path, picture.thumbnail_path)
        return asset

    async def find(self, asset_id: str) -> Asset:
        """Look an asset up; raises NotFound. Who may see it is not decided here."""
        asset_id = printable(asset_id)

        async def load() -> Built[Asset] | None:
            rows = await self._database.read(FIND_ASSET, asset_id)
            return Built(asset_of(rows[0])) if rows else None

        found = None
        if len(asset_id) <= LONGEST_ID:
            found = await self._cache.get(self._rows, asset_id, load)
        if found is None:
            raise NotFound(NO_SUCH_ASSET)
        return found

    async def uploaded_by(self, asset_id: str, user: str) -> bool:
        """Whether this user sent the asset; False as well for one that never was."""
        try:
            return (await self.find(asset_id)).uploader == user
        except NotFound:
            return False

    async def list_of_user(
        self, user: str, *, text: str = "", tag: str = "", limit: int = 50, after: str = ""
    ) -> AssetPage:
        """What a user uploaded, filtered by a part of the name and by a tag; `after` is a page's `next`."""
        return await self._list(LIST_OF_USER, user_tag(user), user, text, tag, limit, after)

    async def list_of_room(
        self, room: str, *, text: str = "", tag: str = "", limit: int = 50, after: str = ""
    ) -> AssetPage:
        """What was uploaded into a room; see `list_of_user`."""
        return await self._list(LIST_OF_ROOM, room_tag(room), room, text, tag, limit, after)

    async def file_of(self, asset: Asset, *, thumbnail: bool = False) -> Path:
        """The file to serve, which never changes; raises NotFound when it is lost."""
        return await self._stored.locate(asset.digest, thumbnail=thumbnail)

    async def remove(self, asset: Asset) -> None:
        """Take back an asset that nothing refers to, and its bytes unless another upload has the same."""
        async with self._lane(asset.digest):
            await changing(
                self._database.write(DELETE_ASSET, asset.id), lambda: self._changed(asset)
            )
            await self._discard_unless_used(asset)

    async def sweep(self) -> int:
        """Take away bytes that no row refers to any more, and return how many there were."""
        return await self._stored.sweep(self._is_used)

    def _lane(self, digest: str) -> asyncio.Lock:
        """Within this process nothing of a digest is taken away between its bytes and its row; `put` says what holds
        between processes.
        """
        return self._lanes[int(digest[:8], 16) % ADDED_AT_ONCE]

    async def _insert(self, asset: Asset) -> int:
        row = (
            asset.id,
            asset.digest,
            asset.kind,
            asset.width,
            asset.height,
            asset.bytes,
            asset.uploader,
            asset.room,
            asset.name,
            json.dumps(asset.tags, ensure_ascii=False),
            asset.created_ms,
            asset.name.casefold(),
            self._room_max_bytes,
        )
        owner = f"room {asset.room}" if asset.room is not None else f"user {asset.uploader}"
        return (await self._database.write_all([(LOCK_OWNER, (owner,)), (INSERT_ASSET, row)]))[-1]

    def _changed(self, asset: Asset) -> None:
        """An asset has come or gone, or may have."""
        self._cache.drop(self._rows, asset.id)
        self._cache.drop_tag(user_tag(asset.uploader))
        if asset.room is not None:
            self._cache.drop_tag(room_tag(asset.room))

    async def _is_used(self, digest: str) -> bool:
        return bool(await self._database.read(IS_DIGEST_USED, digest))

    async def _discard_unless_used(self, asset: Asset) -> None:
        if not await self._is_used(asset.digest):
            await self._stored.discard(asset.digest, asset.id)

    def _no_space(self, asset: Asset) -> TooLarge:
        whose = "You keep" if asset.room is None else "This room keeps"
        return TooLarge(
            NOT_KEPT,
            f"{whose} at most {self._room_max_bytes} bytes of pictures, and its {asset.bytes} do not fit.",
            "Send a smaller one, or have the server's operator raise ROOM_MAX_ASSET_BYTES.",
        )

    async def _list(
        self, listed: Listing, owned: str, owner: str, text: str, tag: str, limit: int, after: str
    ) -> AssetPage:
        limit = max(1, min(limit, LISTED_AT_MOST))
        part, tag = printable(text).casefold(), printable(tag).casefold()
        behind = position_of(after)

        async def load() -> Built[Rows]:
            found = await page(
                *(self._database.read, listed, owner, part, tag, *behind),
                limit=limit,
                part=part,
                tag=tag,
            )
            last = asset_of(found.last) if found.last is not None else None
            return Built(Rows(tuple(found.rows), f"{last.created_ms}.{last.id}" if last else None))

        question = msgspec.json.encode((listed.walk.name, owner, part, tag, behind, limit))
        found = await self._cache.get(
            self._lists, blake2b(question, digest_size=16).hexdigest(), load, tags=(owned,)
        )
        assert found is not None  # an empty page is one as well
        following = found.next if isinstance(found.next, str) else None
        return AssetPage(tuple(map(asset_of, found.rows)), following)


def asset_of(row: Row) -> Asset:
    """A row of the table as an asset."""
    asset = Asset(*row)
    return structs.replace(asset, tags=tuple(json.loads(row[9])))


def position_of(cursor: str) -> tuple[int, str]:
    """Where a page begins: right below this moment and id; without a cursor, at the newest."""
    if not cursor:
        return (1 << 63) - 1, ""
    moment, _, asset_id = cursor.partition(".")
    if not (moment.isascii() and moment.isdecimal() and len(moment) <= 18):
        raise Malformed("Nothing was listed.", "The cursor is not one of ours.", "Leave it out.")
    return int(moment), printable(asset_id)


def printable(text: str) -> str:
    """The text with what cannot be shown, or stored, turned into spaces."""
    return "".join(sign if sign.isprintable() else " " for sign in text).strip()


def usable_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Tags folded, each once, in the order given; raises Malformed for too many or too long ones."""
    folded = tuple(dict.fromkeys(printable(tag).casefold() for tag in tags))
    if len(folded) > TAGS_AN_ASSET or not all(1 <= len(tag) <= TAG_CHARACTERS for tag in folded):
        raise Malformed(
            NOT_KEPT,
            f"At most {TAGS_AN_ASSET} tags of 1 to {TAG_CHARACTERS} characters are taken.",
            "Use fewer or shorter ones.",
        )
    return folded


def remove_files(*paths: Path) -> None:
    """Take files away that may be gone already; a disk that refuses has refused what they were for before."""
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()
