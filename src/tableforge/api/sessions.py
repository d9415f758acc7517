"""Who am I: sign in with a name or a recovery code, rename, sign out."""

import secrets
from typing import Annotated, Any, Final

from litestar import Response, delete, get, patch, post
from msgspec import UNSET, Meta, Struct, UnsetType

from tableforge.api.auth import (
    cookie_for,
    require_password,
    signed_in,
)
from tableforge.api.body import decoded
from tableforge.api.caller import Caller, bearer_of, peer_in
from tableforge.api.documents import documented
from tableforge.api.edge import session_cookie
from tableforge.api.house import house_of
from tableforge.domain.commands import Name, RenameMember
from tableforge.errors import Conflict, Malformed, NotFound, TooMany, Unauthorized
from tableforge.library.sessions import Begun
from tableforge.library.users import User

Secret = Annotated[str, Meta(min_length=1, max_length=512)]


class SignIn(Struct, frozen=True):
    """Either a name for somebody who has not been here, or the recovery code of somebody who has."""

    name: Name | UnsetType = UNSET
    recovery: Annotated[str, Meta(min_length=1, max_length=64)] | UnsetType = UNSET
    password: Secret | None = None


SignInBody = Annotated[
    SignIn, Meta(extra_json_schema={"oneOf": [{"required": ["name"]}, {"required": ["recovery"]}]})
]


class NewName(Struct, frozen=True):
    """What the others shall call the caller."""

    name: Name


class SignedIn(Struct, frozen=True):
    """The bearer token, and whom it stands for."""

    token: str
    user: User


class WhoAmI(Struct, frozen=True):
    """Whom the session stands for."""

    user: User


class RecoveryCode(Struct, frozen=True):
    """Brings the same user back on another device."""

    code: str


@post(
    "/api/session",
    opt=documented(
        takes=SignInBody,
        gives={201: SignedIn},
        refuses=(Unauthorized, TooMany),
        session=False,
        tag="session",
    ),
)
async def sign_in(request: Caller) -> Response[SignedIn]:
    """Sign in: make a user of this name, or come back with a recovery code.

    The token is the bearer token of REST and the `token` of the WebSocket connect; browsers also get it as a cookie.
    Where the server has a password, it is asked with the name.
    """
    house = house_of(request)
    wanted = await decoded(request, SignIn)
    house.doorkeeper.admit(peer_in(request))
    begun = await begin(request, wanted)
    return Response(
        SignedIn(begun.token, begun.session.user),
        status_code=201,
        cookies=[cookie_for(request, house.settings, begun.token)],
    )


async def begin(request: Caller, wanted: SignIn) -> Begun:
    """Make the session that was asked for."""
    house = house_of(request)
    if isinstance(wanted.name, str) and wanted.recovery is UNSET:
        require_password(wanted.password, house.settings.access.access_password)
        return await house.sessions.begin(wanted.name)
    if isinstance(wanted.recovery, str) and wanted.name is UNSET:
        return await house.sessions.recover(wanted.recovery)
    raise Malformed(
        "Nobody was signed in.",
        "The body has to hold either `name` or `recovery`.",
        "Send one of them.",
    )


@get("/api/session", opt=documented(gives={200: WhoAmI}, tag="session"))
async def who_am_i(request: Caller) -> Response[WhoAmI]:
    """Tell whom the session stands for, and renew a browser's cookie."""
    session = await signed_in(request)
    cookies = []
    if not bearer_of(request):
        token = session_cookie(request.scope["headers"])
        cookies.append(cookie_for(request, house_of(request).settings, token))
    return Response(WhoAmI(session.user), cookies=cookies)


@patch(
    "/api/session",
    opt=documented(takes=NewName, gives={200: WhoAmI}, refuses=(TooMany,), tag="session"),
)
async def rename(request: Caller) -> WhoAmI:
    """Take another name, in every room as well."""
    house = house_of(request)
    session = await signed_in(request)
    wanted = await decoded(request, NewName)
    renamed = await house.sessions.rename(session, wanted.name)
    for room in await house.rooms.rooms_with_seat(session.user_id):
        command = RenameMember(room=room, id=secrets.token_hex(8), name=wanted.name)
        try:
            await house.rooms.house(room, session.user_id, command)
        except (NotFound, Conflict):
            continue  # the room, or the seat in it, went away meanwhile
    return WhoAmI(renamed.user)


@delete("/api/session", opt=documented(gives={204: None}, tag="session"))
async def sign_out(request: Caller) -> Response[None]:
    """Sign out: the token stops working at once, and its sockets are closed."""
    house = house_of(request)
    session = await signed_in(request)
    await house.sessions.sign_out(session)
    return Response(None, status_code=204, cookies=[cookie_for(request, house.settings, "")])


@post(
    "/api/session/recovery",
    opt=documented(gives={201: RecoveryCode}, tag="session"),
)
async def make_recovery_code(request: Caller) -> RecoveryCode:
    """Get a code that brings the same user back on another device; an earlier one stops working."""
    session = await signed_in(request)
    return RecoveryCode(await house_of(request).sessions.recovery_code(session.user_id))


ROUTES: Final[list[Any]] = [sign_in, who_am_i, rename, sign_out, make_recovery_code]
