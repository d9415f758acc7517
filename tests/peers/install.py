"""Installs what the peers need, as the locks here have it, into folders that git ignores: `make peers`.

`packages()` alone is what the ordinary tests need.
"""

import subprocess
import sys

from hatch_build import BuildFailed, install_packages, say
from tests.peers.contenders import ENVIRONMENT, NODE, PYTHON

PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--require-hashes")


def packages() -> None:
    """The npm packages; does nothing when they are there. Raises BuildFailed with what to do."""
    install_packages(NODE, "the peers that run on Node")


def environment() -> None:
    """The Python packages, in an environment of their own: they must not come near the project's."""
    python = ENVIRONMENT / "bin" / "python"
    requirements = PYTHON / "requirements.txt"
    stamp = ENVIRONMENT / ".requirements"
    if stamp.exists() and stamp.read_text("utf-8") == requirements.read_text("utf-8"):
        return
    say("Installing the peers that run on Python (once, and after a change of them) ...")
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)],
        [str(python), *PIP, "--requirement", str(requirements)],
    ):
        if subprocess.run(command, check=False).returncode:
            raise BuildFailed(f"`{' '.join(command)}` failed; its own words stand above.")
    stamp.write_text(requirements.read_text("utf-8"), "utf-8")


if __name__ == "__main__":
    try:
        packages()
        environment()
    except BuildFailed as failed:
        say(str(failed))
        sys.exit(2)
