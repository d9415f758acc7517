"""Files on their way in: streamed to the disk while they are counted, never whole in memory, gone when nobody took them."""

import asyncio
import contextlib
import secrets
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import IO, Final

from litestar.exceptions import ClientException
from msgspec import Struct
from multipart import (
    MultipartError,
    MultipartSegment,
    ParserLimitReached,
    PushMultipartParser,
    parse_options_header,
)

from tableforge.api.caller import Caller
from tableforge.api.edge import header
from tableforge.errors import Malformed, TooLarge, TooMany, disk_refused

FOLDER: Final = "incoming"
FIELD: Final = "file"
NOT_TAKEN: Final = "The file was not taken."
AT_ONCE: Final = 16
AT_ONCE_FROM_ONE: Final = 4
WHOLE_SECONDS: Final = 900.0
"""How long an upload may take in all."""
SILENT_SECONDS: Final = 60.0
"""How long an upload may send nothing before it is given up."""
WRITTEN_BYTES: Final = 256 * 1024
FORM_BYTES: Final = 64 * 1024
"""What a form may hold beside its file: boundaries, headers, other fields."""
PARTS: Final = 16
NAME_CHARACTERS: Final = 255


class Upload(Struct, frozen=True):
    """A file that has arrived: where it lies for now, what its sender calls it, and its size in bytes."""

    path: Path
    name: str
    bytes: int


class Inbox:
    """Takes uploads into a folder of its own, which is empty again when all of them are done.

    One server has the folder for itself: what lies there at the start is left over from one that was killed.
    """

    def __init__(self, data: Path, *, max_bytes: int) -> None:
        self.folder = data / FOLDER
        self._max_bytes = max_bytes
        self._taken: Counter[str] = Counter()

    def open(self) -> None:
        """Make the folder, empty; raises Unavailable when the disk refuses."""
        try:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise disk_refused("No file can be taken.", error) from error

    @contextlib.asynccontextmanager
    async def take(self, request: Caller, user: str) -> AsyncIterator[Upload]:
        """Receive the request's file; it is there for the time of the block.

        Raises Malformed for a form that is none, TooLarge while reading, TooMany when as many uploads as may be are on
        their way, from this user or from all, Unavailable when the disk refuses.
        """
        if self._taken[user] >= AT_ONCE_FROM_ONE or self._taken.total() >= AT_ONCE:
            raise TooMany(
                NOT_TAKEN, "Too many files are on their way just now.", "Try again in a moment."
            )
        self._taken[user] += 1
        path = self.folder / secrets.token_hex(8)
        try:
            yield await self._receive(request, path)
        finally:
            self._taken[user] -= 1
            self._taken += Counter()  # forgets who has none on its way
            await asyncio.to_thread(path.unlink, missing_ok=True)

    async def _receive(self, request: Caller, path: Path) -> Upload:
        headers = request.scope["headers"]
        form = Form(
            header(headers, b"content-type"), header(headers, b"content-length"), self._max_bytes
        )
        try:
            with await asyncio.to_thread(path.open, "xb") as file:
                await self._write(request, form, file)
        except OSError as error:
            raise disk_refused(NOT_TAKEN, error) from error
        if not form.complete:
            raise Malformed(
                NOT_TAKEN,
                f"The form holds no field `{FIELD}` with a file, or was cut off.",
                f"Send the file as the field `{FIELD}` of a multipart/form-data body.",
            )
        return Upload(path, form.name, form.bytes)

    async def _write(self, request: Caller, form: "Form", file: IO[bytes]) -> None:
        pending: list[bytes] = []
        waiting = 0
        async for chunk in patiently(request):
            for piece in form.feed(chunk):
                pending.append(piece)
                waiting += len(piece)
            if waiting >= WRITTEN_BYTES:
                await asyncio.to_thread(file.writelines, pending)
                pending, waiting = [], 0
        await asyncio.to_thread(file.writelines, pending)


async def patiently(request: Caller) -> AsyncIterator[bytes]:
    """The body's chunks, as long as they keep coming; raises Malformed when they do not."""
    stream = request.stream()
    loop = asyncio.get_running_loop()
    end = loop.time() + WHOLE_SECONDS
    try:
        while True:
            async with asyncio.timeout_at(min(end, loop.time() + SILENT_SECONDS)):
                chunk = await anext(stream, None)
            if chunk is None:
                return
            yield chunk
    except TimeoutError as error:
        raise Malformed(NOT_TAKEN, "It came too slowly.", "Send it again.") from error
    except ClientException as error:
        raise Malformed(NOT_TAKEN, "The connection was cut off.", "Send it again.") from error


class Form:
    """A multipart form of which one file is wanted; the other fields are passed over."""

    def __init__(self, content_type: str, content_length: str, max_bytes: int) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get("boundary", "")
        if kind != "multipart/form-data" or not boundary:
            raise Malformed(
                NOT_TAKEN,
                "The body is no form.",
                f"Send the file as the field `{FIELD}` of a multipart/form-data body.",
            )
        if content_length.isdecimal() and int(content_length) > max_bytes + FORM_BYTES:
            raise too_large(max_bytes)
        self._max_bytes = max_bytes
        self._parser = self._made(boundary, max_bytes)
        self._in_file = False
        self._read = 0
        self.name = ""
        self.bytes = 0
        self.complete = False

    def _made(self, boundary: str, max_bytes: int) -> PushMultipartParser:
        try:
            # Not strict: that refuses the line break behind the last boundary when it comes in a piece of its own.
            return PushMultipartParser(
                boundary, max_segment_size=max_bytes, max_segment_count=PARTS
            )
        except MultipartError as error:
            raise unreadable(error) from error

    def feed(self, chunk: bytes) -> Iterable[bytes]:
        """The pieces of the file that this chunk of the body holds; raises Malformed or TooLarge."""
        self._read += len(chunk)
        if self._read > self._max_bytes + FORM_BYTES:
            raise too_large(self._max_bytes)
        if not chunk:
            return
        try:
            for event in self._parser.parse(chunk):
                if isinstance(event, MultipartSegment):
                    self._begin(event)
                elif event is None:
                    self.complete = self.complete or self._in_file
                    self._in_file = False
                elif self._in_file:
                    self.bytes += len(event)
                    yield bytes(event)
        except ParserLimitReached as error:
            raise too_large(self._max_bytes) from error
        except MultipartError as error:
            raise unreadable(error) from error

    def _begin(self, segment: MultipartSegment) -> None:
        wanted = segment.name == FIELD and segment.filename is not None
        self._in_file = wanted and not self.complete
        if self._in_file:
            self.name = "".join(filter(str.isprintable, segment.filename or ""))[:NAME_CHARACTERS]


def too_large(max_bytes: int) -> TooLarge:
    """The refusal of a file over the limit."""
    return TooLarge(
        NOT_TAKEN,
        f"It is larger than {max_bytes / 1_048_576:g} MiB.",
        "Save it smaller, or have the server's operator raise UPLOAD_MAX_BYTES.",
    )


def unreadable(error: MultipartError) -> Malformed:
    """The refusal of a form that breaks its own rules."""
    return Malformed(NOT_TAKEN, f"The form cannot be read: {error}.", "Send it again.")
