"""The capacity model: what a load costs, as a sum of prices, and how many instances carry it.

Every figure of a server (processor time, memory, statements, bytes) is a linear function of countable things: connections,
rooms, commands, commits, deliveries, events heard from other instances. The prices come from measured runs
(`capacity_sweep`) by least squares on relative errors, without negative ones (Lawson and Hanson, "Solving Least Squares
Problems", 1974, chapter 23, in the plain form that drops the most negative price and solves again). What is counted
follows from users, room size and rate; only the number of commits needs a thought, see `commits`.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

import msgspec

from tableforge.errors import Malformed

Mode = Literal["embedded", "fleet"]

SHIPPED: Final = Path(__file__).with_name("capacity_model.json")
"""Measured on the machine that it names."""
FIRST_MILLISECONDS: Final = tuple(quarter / 4 for quarter in range(8, 81))
MICROSECONDS_MORE: Final = tuple(range(0, 301, 10))
"""What a disk may take from one commit of a busy writer to the next (LOG_COMMIT_INTERVAL_MS at least), and for each command
more in it."""
LONGEST_SECONDS: Final = 1.0
RING_EVENTS: Final = 500
"""Default of ROOM_RECENT_EVENTS."""
REMEMBERED: Final = 1000
"""Commands of a room that are answered again from memory."""
DEEDS: Final = 50
"""What each member of a room may take back."""


class Load(NamedTuple):
    """What players do. `rate` in commands a second for each; `seconds` is for how long, which fills what rooms remember."""

    users: int
    room_size: int
    rate: float
    seconds: float = 3600.0

    @property
    def rooms(self) -> float:
        """Tables in play."""
        return self.users / self.room_size

    @property
    def commands(self) -> float:
        """A second."""
        return self.users * self.rate

    @property
    def deliveries(self) -> float:
        """A second: every command reaches all members of its room."""
        return self.commands * self.room_size


class Spread(NamedTuple):
    """How players lie on instances; `touched` is on how many of them a room has members."""

    mode: Mode
    instances: int
    touched: float


def spread(mode: Mode, instances: int, room_size: int, *, together: bool) -> Spread:
    """Connections dealt out one by one, by a balancer that knows no rooms, or room by room."""
    if together or instances == 1:
        return Spread(mode, instances, 1.0)
    return Spread(mode, instances, instances * (1 - (1 - 1 / instances) ** room_size))


class Disk(NamedTuple):
    """From one commit of a busy writer to the next: so long, and so much longer for each command in it."""

    first_ms: float
    more_us: float


def commits(commands: float, disk: Disk) -> float:
    """Commits a second of a writer to which commands come at random, and who is busy for an interval after each.

    Whatever comes within the interval shares the next commit; if nothing does, it begins with the next command. The more
    share one, the longer it takes.
    """
    if not commands:
        return 0.0
    left = 1 - commands * disk.more_us / 1e6
    interval = disk.first_ms / 1e3 / left if left > 0 else LONGEST_SECONDS
    interval = min(interval, LONGEST_SECONDS)
    return 1 / (interval + math.exp(-commands * interval) / commands)


def counted(load: Load, spread: Spread, disk: Disk) -> dict[str, float]:
    """What prices are paid for: a second, or as it stands, over all instances."""
    in_room = load.commands / load.rooms * load.seconds
    held = load.rooms * spread.touched
    return {
        "instance": float(spread.instances),
        "connection": float(load.users),
        "room": held,
        "command": load.commands,
        "commit": commits(load.commands / spread.instances, disk) * spread.instances,
        "delivery": load.deliveries,
        "heard": load.commands * (spread.touched - 1),
        "deed": load.users * spread.touched * min(load.rate * load.seconds, DEEDS),
        "recent event": held * min(in_room, RING_EVENTS),
        "remembered command": load.rooms * min(in_room, REMEMBERED),
    }


PAID_FOR: Final[Mapping[str, tuple[str, ...]]] = {
    "cpu": ("instance", "connection", "command", "commit", "delivery", "heard"),
    "memory": ("instance", "connection", "room", "deed", "recent event", "remembered command"),
    "kernel": ("instance", "connection"),
    "commits": ("commit",),
    "statements": ("instance", "commit"),
    "rows": ("command",),
    "written": ("instance", "command", "commit"),
    "network": ("connection", "command", "delivery"),
    "database cpu": ("instance", "command", "commit"),
    "redis cpu": ("instance", "command", "heard"),
    "redis messages": ("instance", "command", "heard"),
    "redis bytes": ("instance", "command", "heard"),
}
"""Each figure with what is paid for in it. CPU in microseconds a second, memory in bytes, the others a second."""
SAME_EVERYWHERE: Final = {
    "cpu": ("connection", "delivery"),
    "memory": ("deed", "recent event", "remembered command"),
}
"""What the embedded mode shows better, and costs the same in a fleet: the code is the same."""
UNEVEN: Final = frozenset({"kernel"})
"""Figures that are off by as much whether they are small or large; their errors are parts of the largest."""
UNITS: Final[Mapping[str, str]] = {
    "cpu": "us",
    "memory": "bytes",
    "kernel": "bytes",
    "commits": "",
    "statements": "",
    "rows": "",
    "written": "bytes",
    "network": "bytes",
    "database cpu": "us",
    "redis cpu": "us",
    "redis messages": "",
    "redis bytes": "bytes",
}


class Observed(msgspec.Struct, frozen=True):
    """One measured run: the load, where it lay, the figures of `PAID_FOR`, and whether the fit was to know of it."""

    load: Load
    spread: Spread
    figures: dict[str, float]
    held_out: bool
    p95_ms: float
    crowd_percent: float


Prices = dict[str, dict[str, float]]
"""By figure and by what is paid for."""


class Error(NamedTuple):
    """Relative errors of one figure: over the fitted runs, and of the runs that the fit did not know."""

    fitted: float
    held_out: float


class Fitted(msgspec.Struct, frozen=True):
    """One mode: prices, errors, its disk, and what was measured at least and at most."""

    prices: Prices
    disk: Disk
    errors: dict[str, Error]
    least: dict[str, float]
    most: dict[str, float]


class Model(msgspec.Struct, frozen=True):
    """Prices of both modes with the runs that they come from."""

    machine: dict[str, str]
    commit: str
    command: str
    modes: dict[Mode, Fitted]
    runs: list[Observed]


# The fit


def solved(rows: Sequence[Sequence[float]], values: Sequence[float]) -> list[float]:
    """Least squares by the normal equations, Gauss with pivots; columns are scaled, and a dependent one gets nothing."""
    width = len(rows[0])
    scale = [max(abs(row[at]) for row in rows) or 1.0 for at in range(width)]
    table = [
        [
            *(sum(row[a] * row[b] / scale[a] / scale[b] for row in rows) for b in range(width)),
            sum(row[a] / scale[a] * value for row, value in zip(rows, values, strict=True)),
        ]
        for a in range(width)
    ]
    free = []
    for at in range(width):
        pivot = max(range(at, width), key=lambda row: abs(table[row][at]))
        table[at], table[pivot] = table[pivot], table[at]
        if abs(table[at][at]) < 1e-9:
            free.append(at)
            continue
        for other in range(width):
            if other != at:
                share = table[other][at] / table[at][at]
                table[other] = [
                    one - share * two for one, two in zip(table[other], table[at], strict=True)
                ]
    return [
        0.0 if at in free else table[at][width] / table[at][at] / scale[at] for at in range(width)
    ]


def fit(
    names: Sequence[str],
    counts: Sequence[Mapping[str, float]],
    values: Sequence[float],
    weights: Sequence[float],
    given: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Prices that come nearest to the values in parts of the weights, none of them negative; some may be `given`."""
    given = given or {}
    known = [one for one in zip(counts, values, weights, strict=True) if one[2] > 0]
    kept = [name for name in names if name not in given and any(count[name] for count, *_ in known)]
    while kept and known:
        rows = [[count[name] / weight for name in kept] for count, _, weight in known]
        rests = [(value - priced(given, count)) / weight for count, value, weight in known]
        prices = dict(zip(kept, solved(rows, rests), strict=True))
        lowest = min(prices, key=lambda name: prices[name] * max(c[name] for c, *_ in known))
        if prices[lowest] >= 0:
            return {name: given.get(name, prices.get(name, 0.0)) for name in names}
        kept.remove(lowest)
    return {name: given.get(name, 0.0) for name in names}


def priced(prices: Mapping[str, float], counts: Mapping[str, float]) -> float:
    """What something costs."""
    return sum(price * counts[name] for name, price in prices.items())


def disk_of(runs: Sequence[Observed]) -> Disk:
    """The disk with which `commits` comes nearest to what was counted."""

    def off(disk: Disk) -> float:
        return sum(
            (counted(run.load, run.spread, disk)["commit"] / run.figures["commits"] - 1) ** 2
            for run in runs
        )

    return min((Disk(one, two) for one in FIRST_MILLISECONDS for two in MICROSECONDS_MORE), key=off)


def fitted(runs: Sequence[Observed], given: Mapping[str, Mapping[str, float]]) -> Fitted:
    """The prices of one mode from its runs, and how far off they are; those `given` for a figure are taken as they are.

    A commit's price comes from the commits that there were, as the errors come from those that the model foresees.
    """
    disk = disk_of([run for run in runs if not run.held_out])
    foreseen = [counted(run.load, run.spread, disk) for run in runs]
    met = [
        {**counts, "commit": run.figures["commits"]}
        for counts, run in zip(foreseen, runs, strict=True)
    ]
    used = [at for at, run in enumerate(runs) if not run.held_out]
    prices: Prices = {}
    errors: dict[str, Error] = {}
    for figure, names in PAID_FOR.items():
        if figure not in runs[0].figures:
            continue
        values = [run.figures[figure] for run in runs]
        weights = [max(values)] * len(values) if figure in UNEVEN else values
        prices[figure] = fit(
            names,
            [met[at] for at in used],
            [values[at] for at in used],
            [weights[at] for at in used],
            given.get(figure),
        )
        off = [
            abs(priced(prices[figure], counts) - value) / weight if weight > 0 else 0.0
            for counts, value, weight in zip(foreseen, values, weights, strict=True)
        ]
        errors[figure] = Error(
            max((off[at] for at in used), default=0.0),
            max((off[at] for at, run in enumerate(runs) if run.held_out), default=0.0),
        )
    ranges = [measures(run.load, run.spread) for run in runs]
    return Fitted(
        prices,
        disk,
        errors,
        {name: min(one[name] for one in ranges) for name in ranges[0]},
        {name: max(one[name] for one in ranges) for name in ranges[0]},
    )


def measures(load: Load, spread: Spread) -> dict[str, float]:
    """What a run has to lie between to be no extrapolation."""
    return {
        "instances": float(spread.instances),
        "users an instance": load.users / spread.instances,
        "users a room": float(load.room_size),
        "rooms an instance": load.rooms * spread.touched / spread.instances,
        "commands a second of a user": load.rate,
        "commands a second of an instance": load.commands / spread.instances,
        "deliveries a second of an instance": load.deliveries / spread.instances,
    }


def made(
    runs: Sequence[Observed], *, machine: Mapping[str, str], commit: str, command: str
) -> Model:
    """A model from all runs.

    What costs the same in both modes is taken from the embedded mode's runs, which go farther.
    """
    modes: dict[Mode, Fitted] = {}
    given: dict[str, dict[str, float]] = {}
    for mode in ("embedded", "fleet"):
        of_mode = [run for run in runs if run.spread.mode == mode]
        if of_mode:
            modes[mode] = fitted(of_mode, given)
            for figure, names in SAME_EVERYWHERE.items():
                prices = modes[mode].prices[figure]
                given[figure] = {name: prices[name] for name in names}
    return Model(dict(machine), commit, command, modes, list(runs))


# The file


def read(path: Path = SHIPPED) -> Model:
    """A model as it was written; raises Malformed."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Model)
    except OSError as error:
        raise Malformed(
            "The model was not read.",
            f"{path} cannot be opened: {error.strerror}.",
            "Name a file that `tableforge bench capacity` wrote, or leave --model out.",
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(
            "The model was not read.",
            f"{path} is no capacity model: {error}",
            "Name a file that `tableforge bench capacity` wrote, or leave --model out.",
        ) from error


def written(model: Model) -> bytes:
    """The model as JSON for people to read."""
    return msgspec.json.format(msgspec.json.encode(model), indent=2) + b"\n"
