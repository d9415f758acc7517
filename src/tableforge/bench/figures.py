"""What a measurement is asked for and what it finds: plain data, made here, printed elsewhere."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tableforge.bench.floor import Floor
from tableforge.bench.latency import Quantiles
from tableforge.bench.process import Memory
from tableforge.config import without_secrets

WARM_UP_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do. `rate` in moves a second for each user; `settings` are the server's, over those that turn limits off."""

    users: int = 1000
    room_size: int = 10
    rate: float = 1.0
    seconds: float = 60.0
    warm_up_seconds: float = WARM_UP_SECONDS
    folder: Path | None = None
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def rounds(self) -> int:
        """How often everybody moves while the clock runs."""
        return max(1, round(self.rate * self.seconds))


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
class Figures:
    """What was measured. CPU is the server's, user and system, of all threads, while the measured moves were made."""

    moves: int
    seconds: float
    delivered: int
    delivered_to_others: int
    missing: int
    errors: int
    first_error: str
    out_of_order: int
    reconnects: int
    others: Quantiles
    everybody: Quantiles
    replies: Quantiles
    sender_lateness: Quantiles
    cpu_seconds: float
    user_seconds: float
    system_seconds: float
    cpu_us_per_delivery: float
    cpu_us_per_delivery_to_others: float
    cpu_us_per_move: float
    cpu_percent_of_a_core: float
    crowd_percent_of_a_core: float
    memory: Memory
    connected_memory: Memory
    audit: Audit


@dataclass(frozen=True, slots=True)
class Report:
    """A run with everything that is needed to read it."""

    command: str
    commit: str
    machine: Mapping[str, str]
    plan: Plan
    cores: str
    floor_before: Floor
    figures: Figures
    floor_after: Floor

    @property
    def failed(self) -> bool:
        """Whether something happened that must not: an error, a lost or doubled move, a wrong order."""
        figures = self.figures
        return bool(
            figures.errors or figures.missing or figures.out_of_order or not figures.audit.clean
        )

    def as_json(self) -> dict[str, Any]:
        """The report as plain values."""
        plain: dict[str, Any] = asdict(self)
        plain["plan"]["folder"] = str(self.plan.folder or "")
        plain["plan"]["settings"] = without_secrets(self.plan.settings)
        return {"bench": "websocket", **plain, "failed": self.failed}


def command_line(plan: Plan) -> str:
    """The command that repeats a plan."""
    parts = ["tableforge bench websocket", f"--users {plan.users}", f"--rate {plan.rate:g}"]
    parts += [f"--seconds {plan.seconds:g}", f"--room-size {plan.room_size}"]
    parts += (
        [f"--warm-up {plan.warm_up_seconds:g}"] if plan.warm_up_seconds != WARM_UP_SECONDS else []
    )
    parts += [f"--folder {plan.folder}"] if plan.folder else []
    parts += [f"--set {name}={value}" for name, value in without_secrets(plan.settings).items()]
    return " ".join(parts)
