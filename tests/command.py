"""The command line as a shell calls it: a process, its exit code, and what it printed."""

import os
import subprocess
import sys
from pathlib import Path

DEADLINE_SECONDS = 120
INHERITED = {"PATH", "HOME", "LANG", "TMPDIR"}


def tableforge(
    *arguments: str | Path, folder: Path, data: Path | None = None, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run `tableforge` in `folder` with these settings and no others; the data folder is `folder`/data unless named."""
    return subprocess.run(
        [sys.executable, "-m", "tableforge", *map(str, arguments)],
        env={
            **{name: value for name, value in os.environ.items() if name in INHERITED},
            "TABLEFORGE_DATA": str(data or folder / "data"),
            **settings,
        },
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
