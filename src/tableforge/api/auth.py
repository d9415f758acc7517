"""Who asks: tokens to sessions; passwords and bearer tokens compared in constant time."""

import hmac

from litestar.datastructures import Cookie

from tableforge.api.caller import Caller, bearer_of, peer_in
from tableforge.api.edge import session_cookie
from tableforge.api.house import house_of
from tableforge.config import Settings
from tableforge.errors import Forbidden, Unauthorized
from tableforge.library.sessions import SESSION_COOKIE, Session

ADMIN_ONLY = "Only the bearer of the server's ADMIN_TOKEN may do this."
ADMIN_MEND = "Send that token as `Authorization: Bearer`, with the session in the cookie."

ADMIN_SET = "Send the value of ADMIN_TOKEN, which whoever runs this server has set."
ADMIN_KEPT = "Send what stands in the file `admin-token` of the server's data folder."


async def signed_in(request: Caller, *, bearer: bool = True) -> Session:
    """The session of the caller, by cookie or (unless that is somebody else's) bearer token; raises Unauthorized."""
    token = (bearer and bearer_of(request)) or session_cookie(request.scope["headers"])
    if not token:
        raise Unauthorized(
            "You are not signed in.",
            "The request carries neither a bearer token nor the session's cookie.",
            "POST /api/session with your name to get a token.",
        )
    return await house_of(request).sessions.authenticate(token)


async def signed_in_if_known(request: Caller) -> Session | None:
    """The session of the caller, None without one; a bearer token that is no good raises Unauthorized."""
    if bearer_of(request):
        return await signed_in(request)
    token = session_cookie(request.scope["headers"])
    if not token:
        return None
    try:
        return await house_of(request).sessions.authenticate(token)
    except Unauthorized:
        return None


def same_secret(said: str, known: str) -> bool:
    """Compare without telling by the time taken how much was right."""
    return hmac.compare_digest(said.encode("utf-8"), known.encode("utf-8"))


async def require_admin(request: Caller) -> None:
    """Let the bearer of ADMIN_TOKEN pass; raises Forbidden for a player's token, Unauthorized for any other."""
    said = bearer_of(request)
    house = house_of(request)
    if same_secret(said, house.admin_token):
        return
    if said:
        try:
            await house.sessions.authenticate(said)
        except Unauthorized as unknown:
            where = ADMIN_SET if house.settings.access.admin_token is not None else ADMIN_KEPT
            why = "The bearer token is neither the operator's nor that of a session."
            raise Unauthorized("Nothing was done.", why, where) from unknown
    elif await signed_in_if_known(request) is None:
        raise Unauthorized("Nothing was done.", ADMIN_ONLY, ADMIN_MEND)
    raise Forbidden("Nothing was done.", ADMIN_ONLY, ADMIN_MEND)


def require_bearer(request: Caller, known: str) -> None:
    """Let the bearer of a token that the operator set pass; raises Unauthorized."""
    if not same_secret(bearer_of(request), known):
        raise Unauthorized("Nothing is told without the right bearer token.")


def require_password(said: str | None, known: str | None) -> None:
    """Ask for the server's password, if it has one; raises Unauthorized."""
    if known is not None and not same_secret(said or "", known):
        raise Unauthorized(
            "You were not let in.",
            "This server asks for a password." if said is None else "The password is not right.",
            "Ask whoever runs it.",
        )


def cookie_for(request: Caller, settings: Settings, token: str) -> Cookie:
    """The cookie that keeps a browser signed in; an empty token takes it away."""
    return Cookie(
        key=SESSION_COOKIE,
        value=token,
        path=settings.serving.base_path,
        max_age=int(settings.access.session_lifetime_seconds) if token else 0,
        httponly=True,
        samesite="lax",
        secure=peer_in(request).scheme == "https",
    )
