"""What a measurement is asked for and what it finds: plain data, made here, printed and judged in `report`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tableforge.bench.latency import Quantiles
from tableforge.config import without_secrets

WARM_UP_SECONDS = 5.0
REPEATS = 3
TARGET_MS: Final = 10.0
"""The contract's, for the 95th percentile of deliveries to the others."""
BUSY_PERCENT: Final = 90.0
"""A crowd that takes more of its core measures itself."""
LATE_MS: Final = 5.0
"""So does one of whose moves 1 in 100 leave so late: half of what a delivery may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do. `rate` in moves a second for each user; `settings` are the server's, over those that turn limits off.

    The measured seconds are cut into `repeats`. A `sweep` of rates follows, up to where the server or the crowd is at its
    end, and with `overload` ten times what the server takes.
    """

    users: int = 1000
    room_size: int = 10
    rate: float = 1.0
    seconds: float = 60.0
    warm_up_seconds: float = WARM_UP_SECONDS
    repeats: int = REPEATS
    sweep: bool = True
    overload: bool = False
    quick: bool = False
    folder: Path | None = None
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def rounds(self) -> int:
        """How often everybody moves while the clock runs."""
        return max(1, round(self.rate * self.seconds))

    @property
    def usual(self) -> bool:
        """Whether this is the load that the targets are for."""
        return (self.users, self.room_size, self.rate) == (1000, 10, 1.0)

    @property
    def rounds_of_each(self) -> int:
        """How often everybody moves in each of the repeats."""
        return max(1, round(self.rate * self.seconds / self.repeats))

    @property
    def moves_a_second(self) -> float:
        """Of all users."""
        return self.users * self.rate


@dataclass(frozen=True, slots=True)
class Audit:
    """The log afterwards, read over REST: every acknowledged move must be there, once, at its offset, without a gap."""

    events: int
    acknowledged: int
    missing: int
    misplaced: int
    repeated: int
    gaps: int

    @property
    def clean(self) -> bool:
        """Whether the log holds what was promised."""
        return not (self.missing or self.misplaced or self.repeated or self.gaps)


@dataclass(frozen=True, slots=True)
class Spent:
    """What went by while moves were made. CPU is the server's, user and system, of all threads, but for the crowd's own."""

    seconds: float
    cpu_seconds: float
    user_seconds: float
    system_seconds: float
    crowd_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What was measured at one rate (moves a second in all)."""

    rate: float
    moves: int
    delivered: int
    delivered_to_others: int
    refused: int
    missing: int
    errors: int
    first_error: str
    out_of_order: int
    reconnects: int
    others: Quantiles
    everybody: Quantiles
    replies: Quantiles
    sender_lateness: Quantiles
    curve: tuple[tuple[float, float], ...]
    """The latency of deliveries to the others; see `latency.distribution`."""
    spent: Spent

    @property
    def clean(self) -> bool:
        """Whether all came, once and in order."""
        return not (self.errors or self.missing or self.out_of_order)

    @property
    def well(self) -> bool:
        """Whether all arrived in time, and it was not the crowd that was slow."""
        return self.clean and not self.invalid and self.others.p95_ms < TARGET_MS

    @property
    def cpu_us_per_delivery(self) -> float:
        """The mover's own copy included."""
        return self.spent.cpu_seconds * 1_000_000 / max(1, self.delivered)

    @property
    def cpu_us_per_delivery_to_others(self) -> float:
        """The mover's own copy is not counted, though it is paid for."""
        return self.spent.cpu_seconds * 1_000_000 / max(1, self.delivered_to_others)

    @property
    def cpu_us_per_move(self) -> float:
        """Receiving, deciding, storing, and telling everybody."""
        return self.spent.cpu_seconds * 1_000_000 / max(1, self.moves)

    @property
    def cpu_percent_of_a_core(self) -> float:
        """The server's."""
        return 100 * self.spent.cpu_seconds / self.spent.seconds

    @property
    def crowd_percent_of_a_core(self) -> float:
        """The load side's."""
        return 100 * self.spent.crowd_seconds / self.spent.seconds

    @property
    def invalid(self) -> str:
        """Why it says nothing about the server; empty if it does."""
        if self.crowd_percent_of_a_core > BUSY_PERCENT:
            return f"the crowd took {self.crowd_percent_of_a_core:.0f} % of its core"
        if self.sender_lateness.p99_ms > LATE_MS:
            return (
                f"1 in 100 moves left {self.sender_lateness.p99_ms:.1f} ms or more after its time"
            )
        return ""


def command_line(plan: Plan) -> str:
    """The command that repeats a plan."""
    parts = ["tableforge bench websocket", f"--users {plan.users}", f"--rate {plan.rate:g}"]
    parts += [f"--seconds {plan.seconds:g}", f"--room-size {plan.room_size}"]
    parts += (
        [f"--warm-up {plan.warm_up_seconds:g}"] if plan.warm_up_seconds != WARM_UP_SECONDS else []
    )
    parts += [f"--repeats {plan.repeats}"] if plan.repeats != REPEATS else []
    parts += [] if plan.sweep else ["--no-sweep"]
    parts += ["--overload"] if plan.overload else []
    parts += ["--quick"] if plan.quick else []
    parts += [f"--folder {plan.folder}"] if plan.folder else []
    parts += [f"--set {name}={value}" for name, value in without_secrets(plan.settings).items()]
    return " ".join(parts)
