"""Opening strangers' files from the server's side: one bounded child at a time, and nothing left behind on refusal."""

import asyncio
import contextlib
import re
import secrets
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, Literal, Self

import msgspec

import tableforge
from tableforge.errors import (
    Malformed,
    TableForgeError,
    TooLarge,
    TooMany,
    Unavailable,
    disk_refused,
)
from tableforge.files import (
    MEBIBYTE,
    NOT_TAKEN,
    SCENE_ENDINGS,
    CleanImage,
    ImportedScene,
    Limits,
    worker,
)
from tableforge.files.orders import Answer, Map, Order, Picture, Refusal

_ANSWER_BYTES: Final = 8 * MEBIBYTE
_NAME_CHARACTERS: Final = 80
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_ANSWERS: Final[msgspec.json.Decoder[Answer]] = msgspec.json.Decoder(Answer)
_ERRORS: Final[dict[str, type[TableForgeError]]] = {
    kind.code: kind for kind in (Malformed, TooLarge, Unavailable)
}


class _Paths:
    """Where one file's results go; removed on leaving unless they were kept."""

    def __init__(self, folder: Path) -> None:
        stem = secrets.token_hex(8)
        self.target = folder / f"{stem}.picture"
        self.thumbnail = folder / f"{stem}.thumbnail"
        self.embedded = folder / f"{stem}.embedded"
        self._doomed = {self.target, self.thumbnail, self.embedded}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for path in self._doomed:
            with contextlib.suppress(
                OSError
            ):  # a disk that refuses this has refused the file before
                path.unlink()

    def order(self, what: Literal["picture", "map"], source: Path, limits: Limits) -> Order:
        """Tell the child what to open and where to write."""
        return Order(
            what=what,
            source=str(source.absolute()),
            target=str(self.target.absolute()),
            thumbnail=str(self.thumbnail.absolute()),
            embedded=str(self.embedded.absolute()),
            limits=limits,
        )

    def keep(self, picture: Picture) -> CleanImage:
        """Hand picture and thumbnail over to whoever asked."""
        self._doomed = {self.embedded}
        return CleanImage(
            digest=picture.digest,
            kind=picture.kind,
            width=picture.width,
            height=picture.height,
            bytes=picture.bytes,
            path=self.target,
            thumbnail_path=self.thumbnail,
        )


class Importer:
    """Opens pictures and maps for everybody, one at a time.

    Each method raises Malformed or TooLarge saying what is wrong with the file, TooMany when `limits.waiting` others
    wait already, and Unavailable when the turn does not come in time or the disk refuses. Then, and when the caller is
    cancelled, nothing of the file is left in `out_dir`; what is returned lies there and belongs to the caller, who
    also removes `source`.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._busy = asyncio.Lock()
        self._waiting = 0

    async def read(
        self, source: Path, out_dir: Path, *, filename: str
    ) -> CleanImage | ImportedScene:
        """Open whatever was sent: a map if it is JSON or its name says so, else a picture."""
        if filename.lower().endswith(SCENE_ENDINGS) or await asyncio.to_thread(_is_json, source):
            return await self.read_map(source, out_dir, filename=filename)
        return await self.inspect_and_clean(source, out_dir)

    async def inspect_and_clean(self, source: Path, out_dir: Path) -> CleanImage:
        """Open a PNG, JPEG, WebP or AVIF picture and return a proven copy without metadata, and its thumbnail."""
        with _Paths(out_dir) as paths:
            answer = await self._ask("picture", source, paths)
            if not isinstance(answer, Picture):
                raise _broken_down()
            return paths.keep(answer)

    async def read_map(self, source: Path, out_dir: Path, *, filename: str) -> ImportedScene:
        """Open a Universal VTT file; the scene is named after the file."""
        with _Paths(out_dir) as paths:
            answer = await self._ask("map", source, paths)
            if not isinstance(answer, Map):
                raise _broken_down()
            plan = answer.plan
            return ImportedScene(
                name=_title(filename),
                width=plan.width,
                height=plan.height,
                pixels_per_cell=plan.pixels_per_cell,
                image=paths.keep(answer.picture),
                walls=plan.walls,
                doors=plan.doors,
                lights=plan.lights,
                skipped=plan.skipped,
            )

    async def _ask(self, what: Literal["picture", "map"], source: Path, paths: _Paths) -> Answer:
        order = paths.order(what, source, self._limits)
        async with self._turn():
            try:
                async with asyncio.timeout(self._limits.wall_s):
                    status, output = await _run_child(msgspec.json.encode(order).decode())
            except TimeoutError as error:
                why = f"Opening it takes more than {self._limits.wall_s:g} seconds."
                raise TooLarge(NOT_TAKEN, why, "Save it smaller or in another format.") from error
        if status:
            raise self._meaning(status)
        try:
            answer = _ANSWERS.decode(output)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise _broken_down() from error
        if isinstance(answer, Refusal):
            raise _ERRORS.get(answer.code, Malformed)(answer.what, answer.why, answer.mend)
        return answer

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self._waiting >= self._limits.waiting:
            raise TooMany(
                NOT_TAKEN,
                f"{self._waiting} other files wait to be opened.",
                "Try again in a minute.",
            )
        self._waiting += 1
        try:
            async with asyncio.timeout(self._limits.wait_s):
                await self._busy.acquire()
        except TimeoutError as error:
            why = "Other files take long to open."
            raise Unavailable(NOT_TAKEN, why, "Try again in a minute.") from error
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._busy.release()

    def _meaning(self, status: int) -> TableForgeError:
        """Say why the child ended without an answer."""
        if status == -signal.SIGXCPU:
            why = f"Opening it takes more than {self._limits.cpu_s} seconds of the processor."
            return TooLarge(NOT_TAKEN, why, "Save it smaller or in another format.")
        if status == -signal.SIGKILL:
            why = "The server ran out of memory while opening it."
            return TooLarge(NOT_TAKEN, why, "Save it smaller.")
        if status < 0:
            return _broken_down()
        why = f"The process that opens files ended with {status}."
        return Unavailable(NOT_TAKEN, why, "Look into the server's error output.")


async def _run_child(order: str) -> tuple[int, bytes]:
    """Run the worker on one order and return its exit status and what it said; it does not outlive this call."""
    root = Path(tableforge.__file__).parent.parent
    try:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-s", "-P", "-m", worker.__name__, order),
            stdin=DEVNULL,
            stdout=PIPE,
            env={"PYTHONPATH": str(root)},
            cwd="/",
        )
    except OSError as error:
        raise disk_refused(NOT_TAKEN, error) from error
    try:
        output = await _read_all(child)
        return await child.wait(), output
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()


async def _read_all(child: Process) -> bytes:
    """Read the child's answer to its end, and not beyond what an honest answer needs."""
    output = bytearray()
    while child.stdout is not None and (part := await child.stdout.read(MEBIBYTE)):
        output += part
        if len(output) > _ANSWER_BYTES:
            raise _broken_down()
    return bytes(output)


def _broken_down() -> Malformed:
    return Malformed(NOT_TAKEN, "The decoder broke down over it.", "Save it again, or otherwise.")


def _is_json(source: Path) -> bool:
    with source.open("rb") as file:
        return file.read(256).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")


def _title(filename: str) -> str:
    """A scene's name from a file's: without folder, ending and control characters."""
    base = re.split(r"[/\\]", filename)[-1]
    stem = re.sub(r"\.(dd2vtt|uvtt|df2vtt|json)$", "", base, flags=re.IGNORECASE)
    return _CONTROL.sub(" ", stem).strip()[:_NAME_CHARACTERS].strip() or "Imported map"
