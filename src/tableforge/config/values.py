"""How a setting is declared, written by an operator, read and shown again.

Each maker (`whole`, `size`, `span`, ...) gives a dataclass field its default and, in the field's metadata, the
`Setting` that says what may be written there.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast
from urllib.parse import urlsplit

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30
MINUTE: Final = 60
HOUR: Final = 3_600
DAY: Final = 86_400

SIZES: Final = {"": 1, "b": 1, "byte": 1, "bytes": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9} | {
    name: factor
    for letter, factor in (("k", KIB), ("m", MIB), ("g", GIB))
    for name in (letter, f"{letter}ib")
}
SPANS: Final = {
    name: seconds
    for names, seconds in (
        (("ms", "millisecond", "milliseconds"), 0.001),
        (("s", "sec", "second", "seconds"), 1),
        (("m", "min", "minute", "minutes"), MINUTE),
        (("h", "hour", "hours"), HOUR),
        (("d", "day", "days"), DAY),
        (("w", "week", "weeks"), 7 * DAY),
    )
    for name in names
}
SWITCH_WORDS: Final = {"true": True, "yes": True, "on": True, "1": True} | {
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting as an operator sees it; `parse` raises ValueError for what `accepts` does not say."""

    name: str
    purpose: str
    accepts: str
    unit: str = ""
    parse: Callable[[str], object]
    show: Callable[[object], str] = str
    secret: bool = False
    default_text: str | None = None


def show_number(value: object) -> str:
    """A number without a needless fraction."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def show_size(value: object) -> str:
    """Bytes in the largest binary unit that divides them."""
    size = cast("int", value)
    for factor, unit in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size >= factor and size % factor == 0:
            return f"{size // factor} {unit}"
    return f"{size} byte" if size == 1 else f"{size} bytes"


def show_span(value: object) -> str:
    """Seconds in the largest unit that divides them."""
    span = cast("float", value)
    for seconds, unit in ((DAY, "days"), (HOUR, "hours"), (MINUTE, "minutes")):
        if span >= 2 * seconds and span % seconds == 0:
            return f"{span / seconds:.0f} {unit}"
    return f"{span:g} second" if span == 1 else f"{span:g} seconds"


def show_list(value: object) -> str:
    """Comma-separated, as it is written."""
    return ", ".join(str(item) for item in cast("tuple[object, ...]", value))


def read_size(text: str) -> int:
    """Bytes of "65536", "64 KiB", "64k" or "50 MB"; ValueError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.lower())
    if match is None or match[2] not in SIZES:
        raise ValueError
    return int(float(match[1]) * SIZES[match[2]])


def read_span(text: str) -> float:
    """Seconds of "25", "90 days", "500 ms" or "1h 30m"; ValueError for anything else."""
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text.lower())
    if "".join(text.lower().split()) != "".join(number + unit for number, unit in parts):
        raise ValueError
    if len(parts) == 1 and not parts[0][1]:
        return float(parts[0][0])
    if not parts or any(unit not in SPANS for _, unit in parts):
        raise ValueError
    return math.fsum(float(number) * SPANS[unit] for number, unit in parts)


def read_area(text: str) -> int:
    """Pixels of "268435456" or "16384 x 16384"; ValueError for anything else."""
    sides = re.fullmatch(r"(\d+)\s*[x\u00d7*]\s*(\d+)", text.lower())
    return int(sides[1]) * int(sides[2]) if sides else int(text)


def read_switch(text: str) -> bool:
    """True or false of the words people write for them; ValueError for anything else."""
    if text.lower() not in SWITCH_WORDS:
        raise ValueError
    return SWITCH_WORDS[text.lower()]


def read_matching(pattern: str) -> Callable[[str], str]:
    """A reader that takes a text as it is if the whole of it fits."""

    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError
        return text

    return parse


def read_base_path(text: str) -> str:
    """`/` or `/table/`: what the address of every page begins with."""
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*/?", text) or ".." in text:
        raise ValueError
    return text.rstrip("/") + "/"


def read_origin(text: str) -> str:
    """`https://play.example.org`, in lower case and without a path."""
    parts = urlsplit(text.rstrip("/").lower())
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError
    if parts.path or parts.query or parts.fragment or parts.username:
        raise ValueError
    port = "" if parts.port is None else f":{parts.port}"
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    default_port = {"http": ":80", "https": ":443"}[parts.scheme]
    return f"{parts.scheme}://{host}{'' if port == default_port else port}"


def read_host(text: str) -> str:
    """A host name or address without a port, or `*`."""
    host = text.lower().strip("[]")
    if not re.fullmatch(r"\*|[a-z0-9._:*-]+", host):
        raise ValueError
    return host


def declare(setting: Setting, default: object) -> object:
    """The dataclass field of a setting; a default that can be called is called at start."""
    metadata = {"setting": setting}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata, repr=not setting.secret)


def bounded(read: Callable[[str], float], low: float, high: float) -> Callable[[str], float]:
    """`read`, and ValueError for what lies outside."""

    def parse(text: str) -> float:
        value = read(text)
        if not low <= value <= high:
            raise ValueError
        return value

    return parse


def whole(
    name: str, default: int, *, low: int, high: int, purpose: str, unit: str = "", zero: str = ""
) -> int:
    """A whole number; `zero` says what 0 means where it is no amount."""
    setting = Setting(
        name=name,
        purpose=purpose,
        accepts=f"a whole number from {low} to {high}" + (f" (0 = {zero})" if zero else ""),
        unit=unit,
        parse=bounded(int, low, high),
    )
    return cast("int", declare(setting, default))


def size(name: str, default: int, *, low: int, high: int, purpose: str) -> int:
    """An amount of bytes."""
    setting = Setting(
        name=name,
        purpose=purpose,
        accepts=f"a size from {show_size(low)} to {show_size(high)}, as in 64 KiB or 65536",
        unit="bytes",
        parse=bounded(read_size, low, high),
        show=show_size,
    )
    return cast("int", declare(setting, default))


def pixels(name: str, default: int, *, high: int, purpose: str) -> int:
    """An area, written as a number of pixels or as width x height."""
    setting = Setting(
        name=name,
        purpose=purpose,
        accepts=f"a number of pixels from 1 to {high}, as in 4096 x 4096",
        unit="pixels",
        parse=bounded(read_area, 1, high),
    )
    return cast("int", declare(setting, default))


def span(name: str, default: float, *, low: float, high: float, purpose: str) -> float:
    """A time, in seconds unless it says otherwise."""
    setting = Setting(
        name=name,
        purpose=purpose,
        accepts=f"a time from {show_span(low)} to {show_span(high)}, as in 25 (seconds) or 2 days",
        unit="seconds",
        parse=bounded(read_span, low, high),
        show=show_span,
    )
    return cast("float", declare(setting, default))


def milliseconds(name: str, default: float, *, low: float, high: float, purpose: str) -> float:
    """A short time, a plain number of milliseconds."""
    setting = Setting(
        name=name,
        purpose=purpose,
        accepts=f"milliseconds from {low:g} to {high:g}",
        unit="ms",
        parse=bounded(float, low, high),
        show=show_number,
    )
    return cast("float", declare(setting, default))


def fraction(name: str, default: float, *, purpose: str) -> float:
    """A share of a whole."""
    setting = Setting(
        name=name,
        purpose=purpose,
        accepts="a number from 0.001 to 1",
        parse=bounded(float, 0.001, 1),
        show=show_number,
    )
    return cast("float", declare(setting, default))


def switch(name: str, *, default: bool, purpose: str) -> bool:
    """On or off."""
    setting = Setting(
        name=name,
        purpose=purpose,
        accepts="true or false",
        parse=read_switch,
        show=lambda value: str(value).lower(),
    )
    return cast("bool", declare(setting, default))


def choice(name: str, choices: Sequence[str], *, purpose: str) -> str:
    """One of some words; the first is the default."""

    def parse(written: str) -> str:
        if written.lower() not in choices:
            raise ValueError
        return written.lower()

    accepts = f"{', '.join(choices[:-1])} or {choices[-1]}"
    setting = Setting(name=name, purpose=purpose, accepts=accepts, parse=parse)
    return cast("str", declare(setting, choices[0]))


def text(
    name: str,
    default: str | Callable[[], str],
    *,
    accepts: str,
    parse: Callable[[str], str],
    purpose: str,
    default_text: str | None = None,
) -> str:
    """A word with a form of its own."""
    setting = Setting(
        name=name, purpose=purpose, accepts=accepts, parse=parse, default_text=default_text
    )
    return cast("str", declare(setting, default))


def secret(name: str, *, pattern: str, accepts: str, purpose: str) -> str | None:
    """A word that is never shown and has no default."""
    setting = Setting(
        name=name,
        purpose=purpose,
        accepts=accepts,
        parse=read_matching(pattern),
        secret=True,
        default_text="not set",
    )
    return cast("str | None", declare(setting, None))


def folder(name: str, default: str, *, purpose: str) -> Path:
    """A folder, made absolute when it is read; `default` is relative to the working folder."""

    def parse(written: str) -> Path:
        return Path(written).expanduser().absolute()

    setting = Setting(
        name=name, purpose=purpose, accepts="a folder", parse=parse, default_text=f"./{default}"
    )
    return cast("Path", declare(setting, lambda: parse(default)))


def listing(
    name: str,
    default: tuple[object, ...],
    *,
    accepts: str,
    item: Callable[[str], object],
    purpose: str,
    default_text: str,
) -> tuple[object, ...]:
    """Comma-separated; the word `none` is the empty list."""

    def parse(written: str) -> tuple[object, ...]:
        if written.lower() == "none":
            return ()
        return tuple(item(part.strip()) for part in written.split(",") if part.strip())

    setting = Setting(
        name=name,
        purpose=purpose,
        accepts=accepts,
        parse=parse,
        show=show_list,
        default_text=default_text,
    )
    return cast("tuple[object, ...]", declare(setting, default))
