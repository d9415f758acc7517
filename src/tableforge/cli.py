"""The commands of the contract: what they take, what they print, and how they end.

A command imports what it needs when it is called: `serve` starts without the tools, the tools without the server.
Exit codes: 0 done, 1 failed or something is wrong, 2 refused before anything was done.
"""

import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

import click

from tableforge.errors import StartRefused, TableForgeError

if TYPE_CHECKING:
    from tableforge.config import Settings
    from tableforge.ops.demo import Entry

FAILED = 1
REFUSED = 2

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
OPENED_AS = {
    "0.0.0.0": ("localhost", "127.0.0.1"),  # noqa: S104 - read, not bound
    "::": ("localhost", "::1"),
    "127.0.0.1": ("127.0.0.1", "localhost"),
    "::1": ("::1", "localhost"),
}
"""What a browser on this machine may open for a value of HOST, the best first; other values are opened as they are."""


class Commands(click.Group):
    """A group whose commands never end in a traceback: whoever runs the program reads what, why and how to mend it."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; its failures become text and an exit code."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except StartRefused as refusal:
            fail(refusal, REFUSED)
        except TableForgeError as failure:
            fail(failure, FAILED)
        except Exception as error:  # noqa: BLE001 - the last to hear of it, and it tells
            if debugging():
                traceback.print_exc()
            else:
                click.echo(
                    f"Something went wrong inside TableForge: {type(error).__name__}: {error}\n"
                    "This is a mistake of the program. Run it again with LOG_LEVEL=debug to see where.",
                    err=True,
                )
            sys.exit(FAILED)


def fail(error: TableForgeError, code: int) -> NoReturn:
    """Print what, why and mend, a line each, and end."""
    parts = (error.what, error.why.strip("\n"), error.mend)
    click.echo("\n".join(part for part in parts if part), err=True)
    sys.exit(code)


def debugging() -> bool:
    """Whether the operator asked for tracebacks; settings that cannot be read ask for nothing."""
    from tableforge.config import read_environment

    try:
        return read_environment().observing.log_level == "debug"
    except StartRefused:
        return False


def settings() -> "Settings":
    """The settings of this process; what looks like a slip of the pen is told on stderr."""
    from tableforge.config import read_environment

    read = read_environment()
    for warning in read.warnings:
        click.echo(f"Note: {warning}", err=True)
    return read


as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="tableforge", prog_name="tableforge")
def main() -> None:
    """A self-hosted, rules-agnostic virtual tabletop.

    Settings come from the environment and from .env in the working folder; `tableforge config` prints them.
    """


@main.command()
def serve() -> None:
    """Serve pages, API and WebSocket on one port until Ctrl+C or SIGTERM.

    HOST and PORT say where (127.0.0.1:8080), TABLEFORGE_DATA where everything is kept (./data).
    """
    from tableforge import bootstrap

    read = settings()
    if not (bootstrap.STATIC / "index.html").is_file():
        click.echo(
            "Note: the web client is not built, so there are no pages. `make web` builds it.",
            err=True,
        )
    bootstrap.run(read, lambda address: click.echo(first_steps(address, read)))


def first_steps(address: str, read: "Settings") -> str:
    """What a person does next, once the server answers at `address`."""
    others = public_addresses(address, read)
    opened = opened_at(address, read)
    is_behind_proxy = opened in others and read.serving.host in LOOPBACK
    said = "TableForge is ready. Behind your proxy:" if is_behind_proxy else "TableForge is ready:"
    lines = [
        f"{said} {opened}",
        "",
        "  1. Open this address in a browser and say your name.",
        "  2. Make a table.",
        "  3. Send its link to the others: the link alone is enough to sit down.",
        "",
        f"Everything is kept in {read.storage.folder}. Ctrl+C stops the server; nothing played is lost.",
    ]
    if read.serving.host in LOOPBACK:
        if not read.access.allowed_hosts:
            lines.append(
                "Only this machine reaches it. For your network: HOST=0.0.0.0 ALLOWED_HOSTS=<this machine's name>."
            )
    elif not others and "*" not in read.served_hosts:
        lines.append(
            "Other machines are refused until ALLOWED_HOSTS names what they type: ALLOWED_HOSTS=<this machine's name>."
        )
    return "\n".join(lines)


def local_address(address: str, read: "Settings") -> str:
    """What a browser on this machine opens for a server at `address`; empty when ALLOWED_HOSTS lets nothing of it in."""
    served = read.served_hosts
    host = urlsplit(address).hostname or ""
    for name in OPENED_AS.get(host, (host,)):
        if name in served or "*" in served:
            return with_host(address, name)
    return ""


def opened_at(address: str, read: "Settings") -> str:
    """The best address there is for a browser: this machine's, else the first that ALLOWED_HOSTS lets others open."""
    others = public_addresses(address, read) or [with_host(address, min(read.served_hosts))]
    return local_address(address, read) or others[0]


def public_addresses(address: str, read: "Settings") -> list[str]:
    """What others open. A server that listens on this machine alone is reached by them through a proxy, which speaks TLS."""
    served = read.served_hosts
    names = [one for one in read.access.allowed_hosts if one not in LOOPBACK | {"*"}]
    names += sorted(served - LOOPBACK - OPENED_AS.keys() - {"", *names})
    if read.serving.host in LOOPBACK:
        return [f"https://{bracketed(name)}{read.serving.base_path}" for name in names]
    return [with_host(address, name) for name in names]


def with_host(address: str, name: str) -> str:
    """The address with another host, its port and path kept."""
    parts = urlsplit(address)
    return parts._replace(netloc=f"{bracketed(name)}:{parts.port}").geturl()


def bracketed(name: str) -> str:
    """A host as addresses write it."""
    return f"[{name}]" if ":" in name else name


@main.command()
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


@main.command()
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
    """A line on stderr that follows what is being done, where a person watches."""

    def __init__(self) -> None:
        self._watched = sys.stderr.isatty()
        self._shown = ""

    def __call__(self, what: str, done: int, of: int) -> None:
        """Show how far it is; a step that is through keeps its line."""
        percent = 100 * done // of if of else 100
        line = f"{what}: {done} of {of} ({percent} %)"
        if self._watched and line != self._shown:
            self._shown = line
            click.echo(f"\r\033[K{line}", err=True, nl=done >= of)


@main.command()
@click.argument("target", type=click.Path(path_type=Path))
@as_json_option
def backup(*, target: Path, as_json: bool) -> None:
    """Copy everything that was played to TARGET, also while a server runs on it.

    TARGET is a place that is free, or a folder in which the backup gets a name of its own. The copy is of one moment and
    has the digest of every file in it. Exits with 1 when a picture was lost before.
    """
    import asyncio

    from tableforge.ops.backup import back_up

    made = asyncio.run(back_up(settings().storage, target, Progress()))
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


@main.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--replace", is_flag=True, help="Move aside what the data folder holds now.")
@as_json_option
def restore(*, source: Path, replace: bool, as_json: bool) -> None:
    """Bring the backup SOURCE back into the data folder, which no server may be using.

    Every digest is checked before anything is changed. Each room gets a new epoch, so that clients load it anew.
    """
    import asyncio

    from tableforge.ops.restore import restore as bring_back

    storage = settings().storage
    restored = asyncio.run(bring_back(storage, source, replace=replace, progress=Progress()))
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


@main.command()
@as_json_option
def verify(*, as_json: bool) -> None:
    """Walk through every room's log and every picture, also while a server runs.

    Logs must be without a gap, decodable and fold; snapshots and listings must say the same; pictures must be there with
    their digest. Exits with 1 when something is wrong, and says what.
    """
    import asyncio

    from tableforge.ops.verify import verify as walk_through

    verdict = asyncio.run(walk_through(settings().storage, Progress()))
    if as_json:
        plain = verdict._asdict() | {"problems": [one._asdict() for one in verdict.problems]}
        click.echo(json.dumps(plain, indent=2))
    else:
        click.echo(
            f"{verdict.rooms} rooms, {verdict.events} events, {verdict.snapshots} snapshots,"
            f" {verdict.pictures} pictures: {len(verdict.problems) or 'no'} problems."
        )
        for where, text in verdict.problems:
            click.echo(f"{where}: {text}")
    if verdict.problems:
        sys.exit(FAILED)


@main.command()
@click.option("--url", help="The server to play on, as `serve` prints it.  [default: the one here]")
@click.option(
    "--bots",
    default=4,
    show_default=True,
    type=click.IntRange(0, 500),
    help="How many of the companions play by themselves.",
)
@click.option(
    "--seconds", type=click.FloatRange(0.1, 86_400 * 30), help="Then stop.  [default: at Ctrl+C]"
)
@as_json_option
def demo(*, url: str | None, bots: int, seconds: float | None, as_json: bool) -> None:
    """Set a table to look at, with some history and bots that play there.

    Map, pieces, turn order and talk are made as any client makes them. Uses the server that runs with these settings,
    with its password and admin token where it asks for them, or the one at --url, which must let anybody in; where none
    runs it starts one on the data folder and stops it at the end. The table stays. Prints the link with which a person
    sits down.
    """
    from tableforge.ops.bots import Tally, show
    from tableforge.ops.demo import OPEN, Table

    def announce(table: Table) -> None:
        if as_json:
            found = {"room": table.room, "link": table.link, "gm_link": table.game_master_link}
            click.echo(json.dumps(found))
        else:
            click.echo(f"A table is set. Sit down as a player:  {table.link}")
            click.echo(f"As a second game master:               {table.game_master_link}")
            if bots:
                until = f"for {seconds:g} s" if seconds else "until Ctrl+C"
                click.echo(f"{bots} bots play {until}.")

    def report(tally: Tally) -> None:
        if not bots:
            return
        p50, p95 = tally.slowest_of(0.5), tally.slowest_of(0.95)
        if as_json:
            counts = {
                name: getattr(tally, name)
                for name in ("moves", "words", "rolls", "refused", "reconnects")
            }
            click.echo(json.dumps({**counts, "reply_p50_ms": p50, "reply_p95_ms": p95}))
        else:
            click.echo(
                f"{tally.moves} moves, {tally.words} words, {tally.rolls} rolls; {tally.refused} refused;"
                f" answered in {p50:.1f} ms (p95 {p95:.1f} ms)."
            )

    def perform(address: str, entry: "Entry") -> None:
        report(show(address, entry, bots=bots, seconds=seconds, announce=announce))

    if url is not None:
        perform(url, OPEN)
        return
    read = settings()
    if (address := running_server(read)) is not None:
        perform(address, entry_to(address, read))
        return

    def perform_here(address: str) -> None:
        perform(address, entry_to(address, read))

    serve_while(perform_here, read, stops=seconds is not None, quiet=as_json)


def entry_to(address: str, read: "Settings") -> "Entry":
    """How to get into this installation's own server at `address`; the running server has made the admin token's file."""
    from tableforge.ops.demo import Entry

    operator = ""
    if read.access.room_creation == "admin":
        operator = read.access.admin_token or generated_token(read.storage.admin_token)
    public = opened_at(address, read).replace("*.", "tableforge.")
    return Entry(
        password=read.access.access_password or "",
        admin_token=operator,
        host=urlsplit(public).netloc,
        public=public,
    )


def running_server(read: "Settings") -> str | None:
    """The address of the server that runs with these settings; None when nobody answers there."""
    from tableforge.errors import Unavailable
    from tableforge.protocol.rest_client import RestClient

    serving = read.serving
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(serving.host, serving.host)  # noqa: S104 - read, not bound
    address = f"http://{host}:{serving.port}{serving.base_path}"
    client = RestClient(address)
    try:
        client.call("GET", "/health")
    except Unavailable:
        return None
    finally:
        client.close()
    return address


def generated_token(path: Path) -> str:
    """The admin token that was generated into the data folder; empty where this user may not read it."""
    try:
        return path.read_text("ascii").strip()
    except OSError:
        return ""


def serve_while(
    perform: Callable[[str], None], read: "Settings", *, stops: bool, quiet: bool
) -> None:
    """Serve in this process, with a performance beside it; when that `stops`, or fails, the server stops as well."""
    import os
    import signal
    import threading

    from tableforge import bootstrap

    failures: list[TableForgeError] = []

    def beside(address: str) -> None:
        try:
            perform(address)
        except TableForgeError as error:
            failures.append(error)
        if stops or failures:
            os.kill(os.getpid(), signal.SIGTERM)

    def announce(address: str) -> None:
        if not quiet:
            click.echo(f"TableForge is ready: {opened_at(address, read)}  (Ctrl+C stops it)")
        threading.Thread(target=beside, args=(address,), name="demo", daemon=True).start()

    bootstrap.run(read, announce)
    if failures:
        raise failures[0]


@main.group()
def bench() -> None:
    """Measure a server of its own on this machine, with the machine's floor beside it."""


def assignments(
    ctx: click.Context, parameter: click.Parameter, given: tuple[str, ...]
) -> dict[str, str]:
    """Read NAME=VALUE pairs."""
    pairs = [one.partition("=") for one in given]
    for (name, equals, _), written in zip(pairs, given, strict=True):
        if not (name and equals):
            raise click.BadParameter(f"{written!r} is not of the form NAME=VALUE.")
    return {name: value for name, _, value in pairs}


@bench.command()
@click.option("--users", default=1000, show_default=True, type=click.IntRange(1, 20_000))
@click.option(
    "--room-size", default=10, show_default=True, type=click.IntRange(1, 200), help="Users a room."
)
@click.option(
    "--rate",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0.01, 100),
    help="Moves a second of each user.",
)
@click.option(
    "--seconds", default=60.0, show_default=True, type=click.FloatRange(1, 86_400), help="Measured."
)
@click.option(
    "--warm-up",
    default=5.0,
    show_default=True,
    type=click.FloatRange(0, 3_600),
    help="Seconds of load before that.",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False, writable=True),
    help="Where the server's temporary data goes: the disk to measure.  [default: /var/tmp]",
)
@click.option(
    "--set",
    "server_settings",
    multiple=True,
    metavar="NAME=VALUE",
    callback=assignments,
    help="A setting of the measured server; may be repeated.",
)
@click.option(
    "--save",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the report as JSON to this file, too.",
)
@as_json_option
def websocket(
    *,
    users: int,
    room_size: int,
    rate: float,
    seconds: float,
    warm_up: float,
    folder: Path | None,
    server_settings: dict[str, str],
    save: Path | None,
    as_json: bool,
) -> None:
    """Durable moves over real sockets: delivery latency, and the server's CPU and memory.

    Starts a server with temporary data. Each user moves a piece of their own at moments fixed before; latency counts
    from then to the arrival at each member of the room. Afterwards the log is compared with what was acknowledged.
    Exits with 1 when anything was lost, doubled, out of order or refused.
    """
    from tableforge.bench.figures import Plan, command_line
    from tableforge.bench.report import text_of
    from tableforge.bench.websocket import run

    if users % room_size:
        raise click.BadParameter(
            f"{users} users do not fill rooms of {room_size}.", param_hint="--users"
        )
    plan = Plan(
        users=users,
        room_size=room_size,
        rate=rate,
        seconds=seconds,
        warm_up_seconds=warm_up,
        folder=folder,
        settings=server_settings,
    )
    report = run(plan, command=command_line(plan), progress=lambda line: click.echo(line, err=True))
    as_text = json.dumps(report.as_json(), indent=2)
    click.echo(as_text if as_json else text_of(report))
    if save is not None:
        save.write_text(f"{as_text}\n", "utf-8")
    if report.failed:
        sys.exit(FAILED)
