"""What a figure must be read with: the machine, the disk, the versions and the commit."""

import os
import platform
import sqlite3
import subprocess
from importlib.metadata import version
from math import inf
from pathlib import Path
from time import thread_time

from tableforge.database.disks import file_system

PACKAGES = ("uvicorn", "uvloop", "httptools", "websockets", "msgspec", "litestar")
LOOPS = 5
PACKAGE = Path(__file__).parent.parent


def machine(folder: Path) -> dict[str, str]:
    """The machine in words; `folder` says which disk."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": f"{processor()}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{memory / 2**30:.1f} GiB",
        "disk": f"{file_system(folder)} at {folder}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "load": " ".join(f"{value:.2f}" for value in os.getloadavg()),
        **{name: version(name) for name in PACKAGES},
    }


def loop_ms() -> float:
    """Milliseconds of the processor that a fixed piece of work takes, the best of a few: how fast the machine is now."""
    best = inf
    for _ in range(LOOPS):
        began = thread_time()
        table = {str(number): number for number in range(20_000)}
        assert sum(table[str(number)] for number in range(0, 20_000, 7)) > 0
        best = min(best, thread_time() - began)
    return best * 1000


def processor() -> str:
    """The processor's name as the kernel has it."""
    lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def commit() -> str:
    """The commit of the source that runs, marked when it was changed since; the version where there is no repository."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],  # noqa: S607 - git of the PATH
            cwd=PACKAGE,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return f"tableforge {version('tableforge')}"
    return described.stdout.strip()
