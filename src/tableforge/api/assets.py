"""Pictures: taken in, listed to whom they belong, served to whoever may see them."""

from email.utils import formatdate
from typing import Annotated, Any, Final

from litestar import Response, get, post
from litestar.datastructures import ETag
from litestar.params import FromPath
from litestar.response import File
from msgspec import UNSET, Meta, Struct, UnsetType

from tableforge.api.auth import signed_in
from tableforge.api.body import queried
from tableforge.api.caller import Caller
from tableforge.api.documents import MULTIPART, UPLOAD, documented
from tableforge.api.edge import header
from tableforge.api.house import house_of
from tableforge.errors import NotFound
from tableforge.library.assets import Asset

CACHING: Final = "private, max-age=31536000, immutable"
"""An asset's bytes never change, but who may see it does: no shared cache may keep it."""
POLICY: Final = "default-src 'none'; sandbox; frame-ancestors 'none'"
THUMBNAIL_TYPE: Final = "image/webp"


class AssetQuery(Struct, frozen=True):
    """Which of the caller's pictures to list: a part of the name, a tag."""

    q: Annotated[str, Meta(max_length=80)] = ""
    tag: Annotated[str, Meta(max_length=40)] = ""
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    cursor: Annotated[str, Meta(max_length=64)] = ""


class UploadQuery(Struct, frozen=True):
    """Tags to find the picture by, separated by commas."""

    tags: Annotated[str, Meta(max_length=800)] | UnsetType = UNSET


class SeenAsset(Struct, frozen=True):
    """A picture as its uploader sees it: `kind` is its media type, `bytes` its size without metadata."""

    id: str
    kind: str
    width: int
    height: int
    bytes: int
    name: str
    tags: tuple[str, ...]


class SeenAssets(Struct, frozen=True):
    """Pictures, newest first; `next` is the cursor of the following page."""

    assets: list[SeenAsset]
    next: str | None


def seen(asset: Asset) -> SeenAsset:
    """What an uploader is told of an asset; its digest is nobody's business."""
    return SeenAsset(
        asset.id, asset.kind, asset.width, asset.height, asset.bytes, asset.name, asset.tags
    )


@post(
    "/api/assets",
    request_max_body_size=None,
    opt=documented(
        takes=MULTIPART, query=UploadQuery, gives={201: SeenAsset}, refuses=UPLOAD, tag="asset"
    ),
)
async def upload_asset(request: Caller) -> SeenAsset:
    """Keep a picture (PNG, JPEG, WebP or AVIF); it is checked, and its metadata is left out."""
    house = house_of(request)
    session = await signed_in(request)
    tags = queried(request, UploadQuery).tags
    async with house.inbox.take(request, session.user_id) as upload:
        picture = await house.importer.inspect_and_clean(upload.path, house.inbox.folder)
        asset = await house.assets.add(
            picture,
            uploader=session.user_id,
            room=None,
            name=upload.name,
            tags=[tag for tag in tags.split(",") if tag.strip()] if isinstance(tags, str) else [],
        )
    return seen(asset)


@get(
    "/api/assets",
    opt=documented(query=AssetQuery, gives={200: SeenAssets}, tag="asset"),
)
async def list_assets(request: Caller) -> SeenAssets:
    """List the caller's own pictures, newest first."""
    session = await signed_in(request)
    query = queried(request, AssetQuery)
    page = await house_of(request).assets.list_of_user(
        session.user_id, text=query.q, tag=query.tag, limit=query.limit, after=query.cursor
    )
    return SeenAssets([seen(asset) for asset in page.assets], page.next)


@get(
    "/api/assets/{asset:str}",
    opt=documented(gives={200: "image/*", 304: None}, refuses=(NotFound,), tag="asset"),
)
async def get_asset(request: Caller, asset: FromPath[str]) -> Response[bytes] | File:
    """The picture, for its uploader and for members who see it at a table."""
    return await served(request, asset, thumbnail=False)


@get(
    "/api/assets/{asset:str}/thumbnail",
    opt=documented(gives={200: "image/*", 304: None}, refuses=(NotFound,), tag="asset"),
)
async def get_thumbnail(request: Caller, asset: FromPath[str]) -> Response[bytes] | File:
    """The picture made small, for the same people."""
    return await served(request, asset, thumbnail=True)


async def served(request: Caller, asset_id: str, *, thumbnail: bool) -> Response[bytes] | File:
    """The asset's bytes, or that the browser has them."""
    house = house_of(request)
    session = await signed_in(request)
    asset = await house.assets.find(asset_id)
    await house.showcase.admit(asset, session.user_id)
    mark = ETag(value=f"{asset.id}-small" if thumbnail else asset.id)
    headers = {
        "cache-control": CACHING,
        "content-security-policy": POLICY,
        "content-disposition": "inline",
        # The file's own time would tell that somebody else sent the same bytes.
        "last-modified": formatdate(asset.created_ms / 1000, usegmt=True),
    }
    if mark.to_header() in header(request.scope["headers"], b"if-none-match"):
        return Response(b"", status_code=304, headers={**headers, "etag": mark.to_header()})
    return File(
        await house.assets.file_of(asset, thumbnail=thumbnail),
        media_type=THUMBNAIL_TYPE if thumbnail else asset.kind,
        headers=headers,
        etag=mark,
    )


ROUTES: Final[list[Any]] = [upload_asset, list_assets, get_asset, get_thumbnail]
