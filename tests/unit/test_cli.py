"""How commands end: what their failures look like, and what each says of itself."""

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner, Result

from tableforge import cli
from tableforge.cli.conduct import Commands
from tableforge.errors import StartRefused, TableForgeError, Unavailable

WORDS = ("Nothing was done.", "\n- It rains.\n- It snows.\n", "Wait for the sun.")


def ending_with(failure: BaseException, **environment: str | None) -> Result:
    """Run a command that fails like this."""

    @click.group(cls=Commands)
    def program() -> None:
        pass

    @program.command()
    def fall() -> None:
        raise failure

    return CliRunner().invoke(program, ["fall"], env=environment)


def every_command(
    command: click.Command = cli.main, path: tuple[str, ...] = ()
) -> list[tuple[str, ...]]:
    """The path of every command and group."""
    below = command.commands if isinstance(command, click.Group) else {}
    return [
        path,
        *(found for name, child in below.items() for found in every_command(child, (*path, name))),
    ]


@pytest.mark.parametrize(("failure", "code"), [(StartRefused(*WORDS), 2), (Unavailable(*WORDS), 1)])
def test_a_failure_is_told_in_what_why_and_mend(failure: TableForgeError, code: int) -> None:
    ended = ending_with(failure)
    assert ended.exit_code == code
    assert ended.stdout == ""
    assert ended.stderr == "Nothing was done.\n- It rains.\n- It snows.\nWait for the sun.\n"


def test_a_mistake_of_the_program_shows_no_traceback() -> None:
    ended = ending_with(ZeroDivisionError("division by zero"), LOG_LEVEL=None)
    assert ended.exit_code == 1
    assert ended.stderr.splitlines() == [
        "Something went wrong inside TableForge: ZeroDivisionError: division by zero",
        "This is a mistake of the program. Run it again with LOG_LEVEL=debug to see where.",
    ]


def test_a_traceback_is_there_for_whoever_asks_for_it() -> None:
    ended = ending_with(ZeroDivisionError("division by zero"), LOG_LEVEL="debug")
    assert ended.exit_code == 1
    assert "Traceback" in ended.stderr
    assert "in fall" in ended.stderr


def test_settings_that_cannot_be_read_do_not_hide_another_mistake() -> None:
    ended = ending_with(ZeroDivisionError("division by zero"), LOG_LEVEL="loud")
    assert ended.exit_code == 1
    assert "division by zero" in ended.stderr


@pytest.mark.parametrize("path", every_command(), ids=" ".join)
def test_every_command_explains_itself(path: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(cli.main, [*path, "--help"])
    assert shown.exit_code == 0
    assert shown.stdout.startswith("Usage: ")
    assert len(shown.stdout.splitlines()) > 4


def test_the_commands_of_the_contract_are_there() -> None:
    assert {
        ("serve",),
        ("config",),
        ("doctor",),
        ("demo",),
        ("backup",),
        ("restore",),
        ("verify",),
        ("fleet",),
        ("proxy-config",),
        ("bench", "websocket"),
    } <= set(every_command())


def test_commands_that_print_data_print_it_for_programs_as_well() -> None:
    others = [(), ("serve",), ("bench",), ("fleet",), ("proxy-config",)]
    printing = [path for path in every_command() if path not in others]
    for path in printing:
        assert "--json" in CliRunner().invoke(cli.main, [*path, "--help"]).stdout, path


def test_an_unknown_option_is_refused() -> None:
    refused = CliRunner().invoke(cli.main, ["verify", "--deep"])
    assert refused.exit_code == 2
    assert "No such option" in refused.stderr


def test_the_command_line_itself_imports_nothing_heavy() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, tableforge.cli; print(*sys.modules)"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout.split()
    heavy = {"litestar", "uvicorn", "uvloop", "sqlite3", "PIL", "hdrh", "msgspec", "asyncio"}
    assert heavy & set(loaded) == set()
