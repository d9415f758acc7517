"""How every command behaves: what its failures look like, how it ends, and where its settings come from.

Exit codes: 0 done, 1 failed or something is wrong, 2 refused before anything was done.
"""

import sys
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

import click

from tableforge.errors import StartRefused, TableForgeError

if TYPE_CHECKING:
    from tableforge.config import Settings

FAILED = 1
REFUSED = 2


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
    """The settings of this process; what looks like a slip of the pen is told on stderr.

    A tool says itself what went wrong, so its parts log errors alone; `serve` has its log begin anew.
    """
    from tableforge.config import read_environment
    from tableforge.telemetry import configure_logging

    read = read_environment()
    configure_logging(level="debug" if read.observing.log_level == "debug" else "error")
    for warning in read.warnings:
        click.echo(f"Note: {warning}", err=True)
    return read


as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
