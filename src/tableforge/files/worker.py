"""The bounded child: `python -m tableforge.files.worker ORDER`, started by `importer`, one file each.

It bounds itself before it looks at the file, loads the decoders only then, writes to the paths it was given, answers
with one JSON on its output and ends. It inherits no environment; of descriptors it has its output and the server's
error stream.
"""

import contextlib
import errno
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from tableforge.errors import Malformed, TableForgeError, TooLarge, disk_refused
from tableforge.files import MEBIBYTE, NOT_TAKEN, Limits
from tableforge.files.orders import Answer, Map, Order, Picture, Refusal

DESCRIPTORS: Final = 24

_PARSING_BYTES: Final = 256 * MEBIBYTE
_PARSING_COPIES: Final = 6
"""A map's text is held as bytes, as text, as its picture's base64 and as the picture; the rest is for points."""


def main() -> None:
    """Carry out the one order on the command line."""
    order = msgspec.json.decode(sys.argv[1], type=Order)
    bound_this_process(order.limits)
    sys.stdout.buffer.write(msgspec.json.encode(_answer(order)))
    sys.stdout.buffer.flush()


def bound_this_process(limits: Limits) -> None:
    """Take from this process what opening a file does not need; what is exceeded kills or refuses it."""
    for which, most, grace in (
        (resource.RLIMIT_AS, limits.memory_bytes, 0),
        (resource.RLIMIT_CPU, limits.cpu_s, 1),  # the soft one ends it with a signal that tells why
        (resource.RLIMIT_FSIZE, 2 * limits.max_bytes + MEBIBYTE, 0),
        (resource.RLIMIT_NOFILE, DESCRIPTORS, 0),
        (resource.RLIMIT_NPROC, 0, 0),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        _, hard = resource.getrlimit(which)
        bounds = (most, most + grace)
        if hard != resource.RLIM_INFINITY:
            bounds = (min(most, hard), min(most + grace, hard))
        resource.setrlimit(which, bounds)
    os.nice(10)  # the game goes first
    # Where memory runs out in spite of the bounds, this process dies and not the server. Only Linux can be asked that.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")


def _answer(order: Order) -> Answer:
    """Open the file and say what was found, or why not."""
    try:
        if order.what == "map":
            return _open_map(order)
        return _open_picture(order)
    except TableForgeError as error:
        return Refusal(error.code, error.what, error.why, error.mend)
    except MemoryError:
        why = "Opening it takes more memory than is allowed."
        return Refusal(TooLarge.code, NOT_TAKEN, why, "Make it smaller.")
    except OSError as error:
        if error.errno in (errno.EFBIG, errno.ENOMEM):
            why = "Opening it takes more room than is allowed."
            return Refusal(TooLarge.code, NOT_TAKEN, why, "Make it smaller, and save it upright.")
        refused = disk_refused(NOT_TAKEN, error)
        return Refusal(refused.code, refused.what, refused.why, refused.mend)


def _open_picture(order: Order) -> Picture:
    from tableforge.files import pictures  # the decoders are loaded within the bounds

    return pictures.clean(
        Path(order.source), Path(order.target), Path(order.thumbnail), order.limits
    )


def _open_map(order: Order) -> Map | Refusal:
    from tableforge.files import pictures, uvtt

    embedded = Path(order.embedded)
    data = pictures.contents(Path(order.source), order.limits)
    with _memory_bound(_PARSING_BYTES + _PARSING_COPIES * len(data)):
        plan, picture_bytes = uvtt.parse(bytes(data))
        embedded.write_bytes(picture_bytes)
        del data, picture_bytes
    try:
        picture = pictures.clean(embedded, Path(order.target), Path(order.thumbnail), order.limits)
    except (Malformed, TooLarge) as error:
        why = f"Of the picture in its field `image`: {error.why}"
        return Refusal(error.code, error.what, why, error.mend)
    return Map(uvtt.fit(plan, picture), picture)


@contextlib.contextmanager
def _memory_bound(most: int) -> Iterator[None]:
    """Hold this process to less memory for a while: JSON swells to many times its size when it wants to."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (min(most, soft), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


if __name__ == "__main__":
    main()
