"""What `tableforge doctor` finds."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "bad"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, how it is, and how to mend it where it is not well."""

    level: Level
    name: str
    text: str
    mend: str = ""
