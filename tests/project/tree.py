"""The files of the project as git knows them: tracked, or new and not ignored."""

import ast
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
CODE = frozenset({".py", ".ts", ".svelte", ".css", ".html", ".sh", ".sql"})
BINARY = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".avif", ".gif", ".woff2", ".zip", ".db", ".bin", ".ico"}
)


@cache
def files() -> tuple[Path, ...]:
    """Every file of the tree, relative to the root."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout.split("\0")
    return tuple(sorted(Path(name) for name in listed if name and (ROOT / name).is_file()))


def under(*folders: str, suffixes: frozenset[str] = CODE) -> list[Path]:
    """Files with these endings below these folders; without folders, in the whole tree."""
    return [
        path
        for path in files()
        if path.suffix in suffixes and (not folders or path.parts[0] in folders)
    ]


@cache
def text(path: Path) -> str:
    """The text of a file of the tree."""
    return (ROOT / path).read_text("utf-8")


@cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a Python file of the tree."""
    return ast.parse(text(path))


def documents() -> list[Path]:
    """Every Markdown document."""
    return under(suffixes=frozenset({".md"}))
