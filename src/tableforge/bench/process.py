"""A program under measurement in a process of its own: started on a core of its own, read through /proc, stopped by id."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tableforge.errors import Unavailable

START_SECONDS = 60.0
STOP_SECONDS = 40.0
PAGE_KIB = 1024


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes: the most that ever lay in memory, and the share that is this process's own now."""

    peak_bytes: int
    proportional_bytes: int


class MeasuredProcess:
    """A running child; `address` is what it printed once it was ready."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log
        self.address = ""

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def cpu_seconds(self) -> float:
        """User and system time of all its threads so far: the process's CPU clock, which the kernel keeps in nanoseconds."""
        # What clock_getcpuclockid(3) computes; Python offers it for threads only.
        return time.clock_gettime((~self.pid << 3) | 2)

    def user_and_system_seconds(self) -> tuple[float, float]:
        """The same time in its two parts, in clock ticks, as /proc/<pid>/stat has it."""
        fields = Path(f"/proc/{self.pid}/stat").read_text("ascii").rpartition(")")[2].split()
        tick = os.sysconf("SC_CLK_TCK")
        return int(fields[11]) / tick, int(fields[12]) / tick

    def memory(self) -> Memory:
        """What it takes of the machine's memory."""
        status = Path(f"/proc/{self.pid}/status").read_text("ascii", "replace")
        rollup = Path(f"/proc/{self.pid}/smaps_rollup").read_text("ascii", "replace")
        return Memory(_kib(status, "VmHWM:"), _kib(rollup, "Pss:"))

    def printed(self) -> str:
        """Everything it wrote so far."""
        return self._log.read_text("utf-8", "replace")

    def wait_for(self, marker: str) -> None:
        """Wait until it printed a line with `marker` and keep what follows; raises Unavailable with what it said instead."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            _, found, rest = self.printed().partition(marker)
            line, ended, _ = rest.partition("\n")
            if found and ended:
                self.address = marker + line
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.02)
        raise Unavailable(
            "The measurement did not begin.",
            f"The process to measure did not start: {self.printed().strip() or 'it said nothing'}",
            "Run it by hand to see why.",
        )

    def stop(self) -> None:
        """End it as an operator does, and hard when that takes too long."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def _kib(text: str, name: str) -> int:
    line = next(one for one in text.splitlines() if one.startswith(name))
    return int(line.split()[1]) * PAGE_KIB


@contextlib.contextmanager
def measured(
    module: str,
    arguments: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    core: int | None,
    marker: str,
) -> Iterator[MeasuredProcess]:
    """Run `python -m module` in `folder` with nothing but this environment, on one core if there is one for it.

    It is ready when it prints a line with `marker`.
    """
    with measured_program(
        [sys.executable, "-m", module, *arguments],
        folder / f"{module.rpartition('.')[2]}.log",
        environment=environment,
        core=core,
        marker=marker,
    ) as child:
        yield child


@contextlib.contextmanager
def measured_program(
    command: Sequence[str],
    log: Path,
    *,
    environment: Mapping[str, str],
    core: int | None,
    marker: str,
) -> Iterator[MeasuredProcess]:
    """The same for any program; it runs in the folder of its `log`."""
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - what a bench names
            command,
            cwd=log.parent,
            env={"PATH": os.defpath, "PYTHONUNBUFFERED": "1", **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    child = MeasuredProcess(process, log)
    try:
        if core is not None:
            os.sched_setaffinity(process.pid, {core})
        child.wait_for(marker)
        yield child
    finally:
        child.stop()


def two_cores() -> tuple[int, int] | None:
    """A core for the measured process and another for who measures; None where there is only one."""
    cores = sorted(os.sched_getaffinity(0))
    return (cores[0], cores[1]) if len(cores) > 1 else None


@contextlib.contextmanager
def pinned_to(core: int | None) -> Iterator[None]:
    """Keep this process on one core for the length of a block."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def allow_open_files(wanted: int) -> None:
    """Let this process and its children open so many files; raises Unavailable when the system does not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise Unavailable(
            "The measurement did not begin.",
            f"It needs {wanted} open files, this system allows {hard}.",
            f"Raise the hard limit (ulimit -Hn {wanted}), or measure with fewer users.",
        )
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
