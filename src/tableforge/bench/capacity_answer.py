"""What a load needs, read off the capacity model: how many instances, how full each, and what it asks of what lies behind."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from tableforge.bench.capacity import (
    UNITS,
    Error,
    Load,
    Mode,
    Model,
    Prices,
    Spread,
    counted,
    measures,
    priced,
    spread,
)
from tableforge.bench.document import rounded
from tableforge.errors import Malformed

INSTANCES_MAX: Final = 64
MEBIBYTE: Final = 2**20
FULL_CORE_US: Final = 1_000_000
LEEWAY: Final = 0.02
"""Part by which a load may leave what was measured and is not called an extrapolation."""
WIDTH: Final = 34


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How full an instance may be: percent of a core, bytes, connections; `together` keeps a room on one instance.

    `mode` None takes the embedded mode where one instance is enough, else a fleet.
    """

    cpu_percent: float = 70.0
    memory_bytes: int = 512 * MEBIBYTE
    connections: int = 5000
    together: bool = False
    mode: Mode | None = None


class Answer(NamedTuple):
    """What a load needs. `figures` are those of the model, over all instances; `because` says what decided the number of
    instances, `extrapolated` what lies outside of what was measured."""

    load: Load
    spread: Spread
    figures: dict[str, float]
    prices: Prices
    errors: dict[str, Error]
    because: str
    extrapolated: list[str]
    machine: dict[str, str]
    commit: str

    def each(self, figure: str) -> float:
        """A figure of one instance."""
        return self.figures[figure] / self.spread.instances

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "load": {
                **self.load._asdict(),
                "rooms": self.load.rooms,
                "commands_per_second": self.load.commands,
                "deliveries_per_second": self.load.deliveries,
            },
            "mode": self.spread.mode,
            "instances": self.spread.instances,
            "because": self.because,
            "instance": {
                "cpu_percent_of_a_core": self.each("cpu") / FULL_CORE_US * 100,
                "memory_bytes": self.each("memory"),
                "kernel_memory_bytes": self.each("kernel"),
                "connections": self.load.users / self.spread.instances,
            },
            "all": {
                _key(name): {
                    "value": value,
                    "error": self.errors[name].held_out,
                    "error_of_fit": self.errors[name].fitted,
                }
                for name, value in self.figures.items()
            },
            "prices": {_key(name): prices for name, prices in self.prices.items()},
            "extrapolated": self.extrapolated,
            "measured_on": self.machine,
            "commit": self.commit,
        }

    def text(self) -> str:
        """For people."""
        return "\n".join(_lines(self))


def _key(figure: str) -> str:
    unit = {"us": "us_per_second", "": "per_second"}.get(UNITS[figure], "")
    if figure in {"written", "network", "redis bytes"}:
        unit = "bytes_per_second"
    elif figure in {"memory", "kernel"}:
        unit = "bytes"
    return f"{figure.replace(' ', '_')}_{unit}".replace("bytes_bytes", "bytes")


def answered(model: Model, load: Load, bounds: Bounds) -> Answer:
    """The fewest instances that carry a load; raises Malformed where there is no such number."""
    why = ""
    tried: list[tuple[Mode, int]] = []
    if bounds.mode != "fleet":
        tried.append(("embedded", 1))
    if bounds.mode != "embedded":
        first = 1 if bounds.mode == "fleet" else 2
        tried += [("fleet", count) for count in range(first, INSTANCES_MAX + 1)]
    for mode, count in tried:
        if mode not in model.modes:
            raise Malformed(
                "There is no answer.",
                f"{_sentence(why or f'the mode {mode} is asked for')}, and this model knows no runs of the mode {mode}.",
                "Measure it with `tableforge bench capacity`, or leave --model out.",
            )
        found = _carried(model, load, spread(mode, count, load.room_size, together=bounds.together))
        overfull = _overfull(found, bounds)
        if not overfull:
            return found._replace(because=why or "one instance is enough")
        why = f"{count} {'instance' if count == 1 else 'instances'} would {overfull}"
    raise Malformed(
        "There is no answer.",
        f"{_sentence(why)}, and {'the embedded mode has one' if bounds.mode == 'embedded' else 'more are not reckoned with'}.",
        "Allow more of an instance (--cpu, --memory, --connections), or reckon with fewer users, smaller rooms or a lower rate.",
    )


def _sentence(words: str) -> str:
    """With a large letter in front."""
    return f"{words[:1].upper()}{words[1:]}"


def _carried(model: Model, load: Load, spread: Spread) -> Answer:
    known = model.modes[spread.mode]
    counts = counted(load, spread, known.disk)
    outside = []
    for name, value in measures(load, spread).items():
        if value > known.most[name] * (1 + LEEWAY):
            outside.append(f"{name}: {rounded(value)}, measured up to {rounded(known.most[name])}")
        elif value < known.least[name] * (1 - LEEWAY) and name in {"users a room"}:
            outside.append(f"{name}: {rounded(value)}, measured from {rounded(known.least[name])}")
    figures = {name: priced(prices, counts) for name, prices in known.prices.items()}
    return Answer(
        load, spread, figures, known.prices, known.errors, "", outside, model.machine, model.commit
    )


def _overfull(found: Answer, bounds: Bounds) -> str:
    """What an instance would have too much of, in words; empty if nothing."""
    cpu = found.each("cpu") / FULL_CORE_US * 100
    connections = found.load.users / found.spread.instances
    if connections > bounds.connections:
        return f"have {connections:.0f} connections each, {bounds.connections} are allowed"
    if cpu > bounds.cpu_percent:
        return f"take {cpu:.0f} % of a core each, {bounds.cpu_percent:g} are allowed"
    if found.each("memory") > bounds.memory_bytes:
        return (
            f"take {found.each('memory') / MEBIBYTE:.0f} MiB each,"
            f" {bounds.memory_bytes / MEBIBYTE:.0f} are allowed"
        )
    return ""


def _line(name: str, value: str) -> str:
    return f"  {name:{WIDTH}}{value}"


def _lines(found: Answer) -> Iterator[str]:
    load, where = found.load, found.spread
    yield (
        f"{load.users} users in rooms of {load.room_size}, {load.rate:g} commands a second each:"
        f" {load.commands:.0f} commands and {load.deliveries:.0f} deliveries a second"
    )
    yield _line("instances", f"{where.instances}, {_mode(found)}")
    yield _line("why so many", found.because)
    yield "Each instance"
    yield _line("CPU", f"{found.each('cpu') / 10_000:.0f} % of a core {_error(found, 'cpu')}")
    yield _line("memory, resident", f"{_bytes(found.each('memory'))} {_error(found, 'memory')}")
    yield _line(
        "memory of the kernel for it", f"{_bytes(found.each('kernel'))} {_error(found, 'kernel')}"
    )
    yield _line("connections", f"{load.users / where.instances:.0f}")
    yield "Database" + (" (SQLite, in the same process)" if where.mode == "embedded" else "")
    for name, words in (
        ("commits", "commits of the log"),
        ("statements", "statements in all"),
        ("rows", "events written"),
    ):
        yield _line(words, f"{found.figures[name]:.0f} a second {_error(found, name)}")
    yield _line(
        "bytes written", f"{_bytes(found.figures['written'])} a second {_error(found, 'written')}"
    )
    if where.mode == "fleet":
        yield _line(
            "CPU of PostgreSQL",
            f"{found.figures['database cpu'] / 10_000:.0f} % of a core {_error(found, 'database cpu')}",
        )
        yield "Redis"
        yield _line(
            "commands",
            f"{found.figures['redis messages']:.0f} a second {_error(found, 'redis messages')}",
        )
        yield _line(
            "bytes in and out",
            f"{_bytes(found.figures['redis bytes'])} a second {_error(found, 'redis bytes')}",
        )
        yield _line(
            "CPU",
            f"{found.figures['redis cpu'] / 10_000:.1f} % of a core {_error(found, 'redis cpu')}",
        )
    yield "Network to and from the players, with TCP and IP"
    yield _line("bytes", f"{_bytes(found.figures['network'])} a second {_error(found, 'network')}")
    yield "What one costs, CPU of the servers"
    for name, price in found.prices["cpu"].items():
        if price:
            yield _line(_PRICED[name], f"{rounded(price)} us")
    for name, price in found.prices["memory"].items():
        if price:
            yield _line(f"{_PRICED[name]}, memory", f"{_bytes(price)}")
    yield from (f"EXTRAPOLATED: {what}" for what in found.extrapolated)
    on = found.machine
    yield (
        f"Measured on {on.get('processor', '?')}, Python {on.get('python', '?')}, {on.get('disk', '?')},"
        f" commit {found.commit}. The error is the largest of runs that the fit did not know."
        " Another machine: `tableforge bench capacity` measures it."
    )


_PRICED: Final = {
    "instance": "an instance at rest",
    "connection": "a connection",
    "room": "a room",
    "command": "a command",
    "commit": "a commit",
    "delivery": "a delivery",
    "heard": "an event heard from another",
    "deed": "a deed that may be undone",
    "recent event": "a recent event",
    "remembered command": "a remembered command",
}


def _mode(found: Answer) -> str:
    if found.spread.mode == "embedded":
        return "embedded: SQLite, no other service"
    return "a fleet with PostgreSQL and Redis, the members of a room " + (
        "on one instance"
        if found.spread.touched == 1
        else f"on {found.spread.touched:.1f} instances"
    )


def _error(found: Answer, figure: str) -> str:
    error = found.errors[figure].held_out
    return f"(±{max(1, round(error * 100))} %)"


def _bytes(value: float) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", MEBIBYTE), ("KiB", 1024)):
        if value >= size:
            return f"{rounded(value / size)} {unit}"
    return f"{rounded(value)} B"
