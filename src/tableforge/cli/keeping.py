"""Keeping an installation: its settings, its health, and what was played."""

import json
import sys
import time
from pathlib import Path

import click

from tableforge.cli.conduct import FAILED, as_json_option, fail, settings
from tableforge.errors import TableForgeError

LINE_SECONDS = 5.0
"""How often it is told how far something is, where nobody watches."""


@click.command()
@as_json_option
def config(*, as_json: bool) -> None:
    """Print every setting with its value and where it comes from; secrets are masked."""
    from tableforge.config import read_environment

    read = read_environment()
    lines = read.effective()
    if as_json:
        found = [
            {
                "name": one.name,
                "value": one.value,
                "unit": one.unit,
                "default": one.default,
                "source": one.source,
            }
            for one in lines
        ]
        click.echo(json.dumps({"settings": found, "warnings": list(read.warnings)}, indent=2))
        return
    name_width = max(len(one.name) for one in lines)
    value_width = min(32, max(len(one.value) for one in lines))
    for one in lines:
        value = f"{one.value} {one.unit}".rstrip()
        source = one.source
        if one.name == "ADMIN_TOKEN" and source == "default":
            source = f"generated: {read.storage.admin_token}"
        elif source != "default":
            source = f"{source} (default: {one.default})"
        click.echo(f"{one.name:{name_width}}  {value:{value_width}}  {source}".rstrip())
    for warning in read.warnings:
        click.echo(f"Note: {warning}", err=True)


@click.command()
@click.option(
    "--thorough", is_flag=True, help="Compare every index of the database with its table."
)
@as_json_option
def doctor(*, thorough: bool, as_json: bool) -> None:
    """Look whether a server can run here, and say what to mend. Changes nothing.

    Exits with 1 when something is bad.
    """
    from tableforge import bootstrap
    from tableforge.config import read_environment
    from tableforge.ops.doctor import examine

    client = bootstrap.STATIC / "index.html"
    findings = list(examine(read_environment(), client=client, thorough=thorough))
    is_well = all(one.level != "bad" for one in findings)
    if as_json:
        plain = [
            {"level": one.level, "name": one.name, "text": one.text, "mend": one.mend}
            for one in findings
        ]
        click.echo(json.dumps({"well": is_well, "findings": plain}, indent=2))
    else:
        for one in findings:
            click.echo(f"{one.level:5}{one.name:13}{one.text}")
            if one.mend:
                click.echo(f"{'':18}Mend: {one.mend}")
    if not is_well:
        sys.exit(FAILED)


class Progress:
    """Follows on stderr what is being done: bars where a person watches, else a line now and then."""

    def __init__(self) -> None:
        from rich import progress
        from rich.console import Console

        console = Console(stderr=True)
        self._bars = progress.Progress(
            *progress.Progress.get_default_columns()[:2],
            progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, progress.TaskID] = {}
        self._told = time.monotonic()

    def __enter__(self) -> "Progress":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def __call__(self, what: str, done: int, of: int) -> None:
        """Show how far it is."""
        if self._bars.disable:
            if time.monotonic() - self._told >= LINE_SECONDS:
                self._told = time.monotonic()
                click.echo(f"{what}: {done} of {of}", err=True)
            return
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=of)
        self._bars.update(self._tasks[what], completed=done, total=of)

    def say(self, line: str) -> None:
        """Tell one line above the bars."""
        if self._bars.disable:
            click.echo(line, err=True)
        else:
            self._bars.console.print(line, markup=False, highlight=False)


@click.command()
@click.argument("target", type=click.Path(path_type=Path))
@as_json_option
def backup(*, target: Path, as_json: bool) -> None:
    """Copy everything that was played to TARGET, also while servers run on it.

    TARGET is a place that is free, or a folder in which the backup gets a name of its own. The copy is of one moment and
    has the digest of every file in it. Exits with 1 when a picture was lost before.
    """
    import asyncio

    from tableforge.ops.backup import back_up

    with Progress() as progress:
        made = asyncio.run(back_up(settings(), target, progress))
    manifest = made.manifest
    size = sum(entry.bytes for entry in manifest.files)
    if as_json:
        found = {
            "backup": str(made.folder),
            "rooms": manifest.rooms,
            "events": manifest.events,
            "files": len(manifest.files),
            "bytes": size,
            "lost": list(manifest.lost),
        }
        click.echo(json.dumps(found, indent=2))
    else:
        click.echo(
            f"{made.folder}: {manifest.rooms} rooms with {manifest.events} events,"
            f" {len(manifest.files)} files, {size / 2**20:.1f} MiB."
        )
    if manifest.lost:
        click.echo(
            f"{len(manifest.lost)} pictures were gone or damaged in the data folder already."
            " `tableforge verify` names them.",
            err=True,
        )
        sys.exit(FAILED)


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--replace", is_flag=True, help="Move aside what the data folder holds now.")
@as_json_option
def restore(*, source: Path, replace: bool, as_json: bool) -> None:
    """Bring the backup SOURCE back into the data folder, which no server may be using; `migrate` brings it into a fleet.

    Every digest is checked before anything is changed. Each room gets a new epoch, so that clients load it anew.
    """
    import asyncio

    from tableforge.ops.restore import restore as bring_back

    read = settings()
    storage = read.storage
    with Progress() as progress:
        restored = asyncio.run(bring_back(read, source, replace=replace, progress=progress))
    if as_json:
        found = {
            "folder": str(storage.folder),
            "rooms": restored.rooms,
            "events": restored.manifest.events,
            "aside": str(restored.aside) if restored.aside else None,
        }
        click.echo(json.dumps(found, indent=2))
        return
    click.echo(
        f"{storage.folder} holds {restored.rooms} rooms with {restored.manifest.events} events,"
        f" as of {restored.manifest.made}."
    )
    if restored.aside:
        click.echo(f"What was there before lies in {restored.aside}; remove it when all is well.")


@click.command()
@as_json_option
def verify(*, as_json: bool) -> None:
    """Walk through every room's log and every picture, also while a server runs.

    Logs must be without a gap, decodable and fold; snapshots and listings must say the same; pictures must be there with
    their digest. Exits with 1 when something is wrong, and says what.
    """
    import asyncio

    from tableforge.ops.verify import verify as walk_through

    with Progress() as progress:
        verdict = asyncio.run(walk_through(settings(), progress))
    if as_json:
        plain = verdict._asdict() | {"problems": [one._asdict() for one in verdict.problems]}
        click.echo(json.dumps(plain, indent=2))
    else:
        click.echo(
            f"{verdict.rooms} rooms, {verdict.events} events, {verdict.snapshots} snapshots,"
            f" {verdict.pictures} pictures: {len(verdict.problems) or 'no'} problems."
            + (f" {verdict.shortened} logs begin at a snapshot." if verdict.shortened else "")
        )
        for where, text in verdict.problems:
            click.echo(f"{where}: {text}")
    if verdict.problems:
        sys.exit(FAILED)


@click.command()
@click.option(
    "--from", "source", help="A data folder, or postgresql://….  [default: TABLEFORGE_DATA]"
)
@click.option(
    "--to", "target", help="A data folder, or postgresql://….  [default: what DATABASE_URL says]"
)
@click.option("--room", metavar="ID", help="Move this room alone, with whoever has a seat there.")
@click.option("--dry-run", is_flag=True, help="Compare, and say what would be done.")
@click.option("--force", is_flag=True, help="Also while servers of the source's fleet run.")
@click.option(
    "--schema-only",
    is_flag=True,
    help="Bring the tables of --to to the present form and stop: before a new version is rolled out.",
)
@as_json_option
def migrate(
    *,
    source: str | None,
    target: str | None,
    room: str | None,
    dry_run: bool,
    force: bool,
    schema_only: bool,
    as_json: bool,
) -> None:
    """Move everything from a data folder into a fleet's database, or back.

    Rooms with their whole logs, people and their sessions, invites and pictures. Every room is read back and compared by
    digest. No server may use the source meanwhile. Run again, it goes on where it stopped; what is there already is left
    alone. A room that is there with another log is refused. Exits with 1 when something stayed behind.
    """
    import asyncio

    from tableforge.ops import migrate as moving

    read = settings()
    if target is None and not read.database.chosen:
        raise click.UsageError("Say where to: --to FOLDER, --to postgresql://…, or DATABASE_URL.")
    there = read.database if target is None else moving.place_of(target, read)
    here = read.storage.folder if source is None else moving.place_of(source, read)
    if schema_only:
        before, after = asyncio.run(moving.bring_up(there))
        if as_json:
            click.echo(
                json.dumps({"target": moving.name_of(there), "before": before, "after": after})
            )
        else:
            click.echo(f"{moving.name_of(there)} has form {after}; it had form {before}.")
        return
    try:
        with Progress() as progress:
            moved = asyncio.run(
                moving.move(
                    read, here, there, room=room, dry_run=dry_run, force=force, progress=progress
                )
            )
    except KeyboardInterrupt:
        fail(
            TableForgeError(
                "Not everything was moved.",
                "You stopped it. Each room is there whole or not at all: nothing is half there.",
                "Run this again: it goes on where it stopped.",
            ),
            FAILED,
        )
    if as_json:
        plain = moved._asdict() | {"rooms": [one._asdict() for one in moved.rooms]}
        click.echo(json.dumps(plain | {"whole": moved.is_whole, "dry_run": dry_run}, indent=2))
    else:
        click.echo(moved.as_text())
    if not moved.is_whole:
        sys.exit(FAILED)
