"""Serving and playing: `serve` and `demo`, and the addresses under which a server is opened."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from tableforge.cli.conduct import as_json_option, settings
from tableforge.errors import TableForgeError

if TYPE_CHECKING:
    from tableforge.config import Settings
    from tableforge.ops.demo import Entry

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
OPENED_AS = {
    "0.0.0.0": ("localhost", "127.0.0.1"),  # noqa: S104 - read, not bound
    "::": ("localhost", "::1"),
    "127.0.0.1": ("127.0.0.1", "localhost"),
    "::1": ("::1", "localhost"),
}
"""What a browser on this machine may open for a value of HOST, the best first; other values are opened as they are."""


@click.command()
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


@click.command()
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
