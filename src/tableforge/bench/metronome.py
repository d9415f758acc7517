"""A tick far finer than the event loop's own timers, whose grain is a millisecond: as much as what is measured."""

import asyncio
import contextlib
import ctypes
import os
from collections.abc import Callable, Iterator

CLOCK_MONOTONIC = 1
NONBLOCK = os.O_NONBLOCK | os.O_CLOEXEC


class _Period(ctypes.Structure):
    """The kernel's `struct itimerspec`."""

    _fields_ = (
        ("every_seconds", ctypes.c_long),
        ("every_nanoseconds", ctypes.c_long),
        ("first_seconds", ctypes.c_long),
        ("first_nanoseconds", ctypes.c_long),
    )


@contextlib.contextmanager
def ticking(every_microseconds: int, tick: Callable[[], None]) -> Iterator[None]:
    """Call `tick` on the running loop with this period for the length of a block; late ticks are not made up for."""
    loop = asyncio.get_running_loop()
    libc = ctypes.CDLL(None, use_errno=True)
    timer = libc.timerfd_create(CLOCK_MONOTONIC, NONBLOCK)
    if timer < 0:
        raise OSError(ctypes.get_errno(), "timerfd_create")
    nanoseconds = every_microseconds * 1000
    try:
        period = _Period(0, nanoseconds, 0, nanoseconds)
        if libc.timerfd_settime(timer, 0, ctypes.byref(period), None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

        def due() -> None:
            with contextlib.suppress(BlockingIOError):
                os.read(timer, 8)
            tick()

        loop.add_reader(timer, due)
        try:
            yield
        finally:
            loop.remove_reader(timer)
    finally:
        os.close(timer)
