"""Flame graphs by pyinstrument, which samples from inside: no right to trace another process is needed, as in containers.

Each profile is two files: HTML that opens anywhere, with the calls over time, and what https://www.speedscope.app reads.
"""

import contextlib
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tableforge.bench.document import file_name
from tableforge.errors import Unavailable

if TYPE_CHECKING:
    from pyinstrument import Profiler

SECONDS = 0.004
"""Between two samples: a profile of some minutes opens in a browser."""
HOOK = """
import atexit, os, pathlib
from tableforge.config import surroundings
surroundings().pop("PYTHONPATH")
from tableforge.bench.flame import SECONDS, keep
from pyinstrument import Profiler
profiler = Profiler(SECONDS, async_mode="disabled")
folder = pathlib.Path(__file__).parent
atexit.register(lambda: keep(profiler, folder.parent, f"{folder.name}-{os.getpid()}"))
profiler.start()
"""
"""Python's own start-up hook: the process is sampled from its first import to its end; what it starts itself is not."""


def check_profiler() -> None:
    """Raises Unavailable where pyinstrument is not installed."""
    if find_spec("pyinstrument") is None:
        raise Unavailable(
            "Nothing was measured.",
            "A profile needs pyinstrument, which is not installed.",
            "Install tableforge[bench], or leave out --profile.",
        )


def environment(out: Path, name: str) -> Mapping[str, str]:
    """What a Python process needs in its environment to leave its profile in `out` when it ends on its own or by SIGTERM.

    The main thread alone is looked at, which is where a server works.
    """
    folder = out.absolute() / file_name(name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(HOOK, "utf-8")
    return {"PYTHONPATH": str(folder)}


@contextlib.contextmanager
def here(out: Path, name: str, *, wanted: bool) -> Iterator[None]:
    """Profile this thread for the length of a block, if that is wanted."""
    if not wanted:
        yield
        return
    from pyinstrument import Profiler

    out.mkdir(parents=True, exist_ok=True)
    profiler = Profiler(SECONDS, async_mode="disabled")
    profiler.start()
    try:
        yield
    finally:
        keep(profiler, out, file_name(name))


def keep(profiler: "Profiler", out: Path, name: str) -> None:
    """End a profile and write it: NAME.html and NAME.speedscope.json."""
    from pyinstrument.renderers import HTMLRenderer, SpeedscopeRenderer

    session = profiler.stop()
    (out / f"{name}.html").write_text(HTMLRenderer().render(session), "utf-8")
    (out / f"{name}.speedscope.json").write_text(SpeedscopeRenderer().render(session), "utf-8")
