"""The calling side of REST, for the program's own tools; players' programs use any client there is."""

import http.client
import secrets
from typing import Any
from urllib.parse import SplitResult, urlsplit

import msgspec

from tableforge.errors import Unavailable

ANSWER_SECONDS = 60.0
SCHEMES = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}


class RestClient:
    """Calls to one server over one connection that is kept open. `address` is the server's base, as in `serve`'s words."""

    def __init__(self, address: str) -> None:
        parts = _parts(address if "://" in address else f"http://{address}")
        self.host = parts.hostname or ""
        self.port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        self.base = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._path = parts.path.rstrip("/")
        self._connection = SCHEMES[parts.scheme](self.host, self.port, timeout=ANSWER_SECONDS)

    @property
    def websocket(self) -> str:
        """The address of the WebSocket."""
        return f"ws{self.base.removeprefix('http')}/ws"

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def call(self, method: str, path: str, body: Any = None, *, token: str = "") -> Any:
        """One call with a JSON body, its answer parsed; raises Unavailable for any answer but a good one."""
        content = None if body is None else msgspec.json.encode(body)
        kind = "" if body is None else "application/json"
        return self._send(method, path, content, kind, token)

    def upload(self, path: str, name: str, content: bytes, *, token: str) -> Any:
        """Send a file as the form's field `file`."""
        boundary = secrets.token_hex(16)
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        form = b"%b%b\r\n--%b--\r\n" % (head.encode(), content, boundary.encode())
        return self._send("POST", path, form, f"multipart/form-data; boundary={boundary}", token)

    def _send(self, method: str, path: str, content: bytes | None, kind: str, token: str) -> Any:
        headers = {"Content-Type": kind} if kind else {}
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
