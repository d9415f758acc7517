"""What the simulation counts, for the end of the report."""

from collections import Counter

import pytest

from tests.simulation.world import Outcome

_counted: Counter[str] = Counter()


def count(outcome: Outcome) -> None:
    """Add a run to the report."""
    _counted["runs"] += 1
    _counted["commands"] += outcome.commands
    _counted["deliveries"] += outcome.deliveries
    _counted["faults"] += outcome.faults


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how much was simulated."""
    if _counted:
        numbers = ", ".join(f"{number} {name}" for name, number in _counted.items())
        terminalreporter.write_line(f"simulated: {numbers}")
