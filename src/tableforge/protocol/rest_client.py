"""The calling side of REST, for the program's own tools; players' programs use any client there is."""

import http.client
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

import msgspec

from tableforge.errors import Unavailable

ANSWER_SECONDS = 60.0
SCHEMES = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}


class RestClient:
    """Calls to one server over one connection that is kept open. `address` is the server's base, as in `serve`'s words.

    `host` is the name to ask for, where the server does not answer for the one in `address`.
    """

    def __init__(self, address: str, *, host: str = "") -> None:
        parts = _parts(address if "://" in address else f"http://{address}")
        self.host = parts.hostname or ""
        self.port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        self.base = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._path = parts.path.rstrip("/")
        self._asked_for: Mapping[str, str] = {"Host": host} if host else {}
        self._connection = SCHEMES[parts.scheme](self.host, self.port, timeout=ANSWER_SECONDS)

    @property
    def websocket(self) -> str:
        """The address of the WebSocket, with the name to ask for; the connection itself goes to `host` and `port`."""
        named = self.base
        if asked := self._asked_for.get("Host"):
            named = f"{self.base.partition('//')[0]}//{asked}{self._path}"
        return f"ws{named.removeprefix('http')}/ws"

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def call(
        self, method: str, path: str, body: Any = None, *, token: str = "", cookie: str = ""
    ) -> Any:
        """One call with a JSON body, its answer parsed; raises Unavailable for any answer but a good one.

        `token` goes as the bearer, `cookie` is the header of that name as it stands.
        """
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        if cookie:
            headers["Cookie"] = cookie
        return self._send(method, path, content, headers, token)

    def upload(self, path: str, name: str, content: bytes, *, token: str) -> Any:
        """Send a file as the form's field `file`."""
        boundary = secrets.token_hex(16)
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        form = b"%b%b\r\n--%b--\r\n" % (head.encode(), content, boundary.encode())
        kind = f"multipart/form-data; boundary={boundary}"
        return self._send("POST", path, form, {"Content-Type": kind}, token)

    def _send(
        self,
        method: str,
        path: str,
        content: bytes | None,
        said: Mapping[str, str],
        token: str,
    ) -> Any:
        headers = {**self._asked_for, **said}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        try:
            self._connection.request(method, f"{self._path}{path}", content, headers)
            answer = self._connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise Unavailable(
                f"{method} {path} was not answered.",
                f"{self.base}: {str(error) or type(error).__name__}.",
                "Look whether the server runs there.",
            ) from error
        if answer.status >= 300:
            raise Unavailable(
                f"{method} {path} was refused.",
                f"The server answered {answer.status}: {_reason(text)}",
                "",
            )
        return msgspec.json.decode(text) if text else None


def _parts(address: str) -> SplitResult:
    try:
        parts = urlsplit(address)
        if parts.scheme in SCHEMES and parts.hostname and parts.port != 0:
            return parts
    except ValueError:
        pass
    raise Unavailable(
        "The server was not called.",
        f"{address!r} is no address of one.",
        "Give the address that `tableforge serve` prints, such as http://127.0.0.1:8080/.",
    )


def _reason(text: bytes) -> str:
    try:
        return str(msgspec.json.decode(text)["detail"])
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError):
        return text[:300].decode("utf-8", "replace")
