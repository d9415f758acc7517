"""Settings from the environment and `.env`, all mistakes told at once."""

import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from dotenv.parser import parse_stream

from tableforge.config.care import CacheKnobs, CareKnobs
from tableforge.config.fleet import AssetKnobs, DatabaseKnobs, FleetKnobs, RedisKnobs
from tableforge.config.sections import (
    Access,
    EventLogKnobs,
    Limits,
    Observing,
    RoomKnobs,
    Serving,
    SocketKnobs,
    Storage,
    Uploads,
)
from tableforge.config.values import Setting, show_number
from tableforge.errors import StartRefused

OWN_PREFIXES: Final = ("TABLEFORGE_", "LIMIT_", "CACHE_")
"""Names with these prefixes are meant for this program: an unknown one is a slip of the pen."""

WEAK_TOKEN_CHARACTERS: Final = 16


SECTIONS: Final[Mapping[str, type]] = MappingProxyType(
    {
        "serving": Serving,
        "storage": Storage,
        "eventlog": EventLogKnobs,
        "rooms": RoomKnobs,
        "sockets": SocketKnobs,
        "access": Access,
        "limits": Limits,
        "uploads": Uploads,
        "observing": Observing,
        "database": DatabaseKnobs,
        "redis": RedisKnobs,
        "fleet": FleetKnobs,
        "pictures": AssetKnobs,
        "cache": CacheKnobs,
        "care": CareKnobs,
    }
)


@dataclass(frozen=True, slots=True)
class Effective:
    """One line of `tableforge config`: secrets are masked; `unit` stands behind plain numbers and is not written."""

    name: str
    value: str
    default: str
    unit: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All sections; `warnings` are sentences about names that look like slips of the pen."""

    serving: Serving = field(default_factory=Serving)
    storage: Storage = field(default_factory=Storage)
    eventlog: EventLogKnobs = field(default_factory=EventLogKnobs)
    rooms: RoomKnobs = field(default_factory=RoomKnobs)
    sockets: SocketKnobs = field(default_factory=SocketKnobs)
    access: Access = field(default_factory=Access)
    limits: Limits = field(default_factory=Limits)
    uploads: Uploads = field(default_factory=Uploads)
    observing: Observing = field(default_factory=Observing)
    database: DatabaseKnobs = field(default_factory=DatabaseKnobs)
    redis: RedisKnobs = field(default_factory=RedisKnobs)
    fleet: FleetKnobs = field(default_factory=FleetKnobs)
    pictures: AssetKnobs = field(default_factory=AssetKnobs)
    cache: CacheKnobs = field(default_factory=CacheKnobs)
    care: CareKnobs = field(default_factory=CareKnobs)
    warnings: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)

    def effective(self) -> list[Effective]:
        """Every setting with its value in force and where it comes from, in the order of `docs/settings.md`."""
        return [
            Effective(
                name=setting.name,
                value=shown(setting, getattr(getattr(self, section), attribute)),
                default=default_text(setting, default),
                unit=unit_of(setting),
                source=self.sources.get(setting.name, "default"),
            )
            for section, attribute, setting, default in declared()
        ]

    @property
    def served_hosts(self) -> frozenset[str]:
        """The host names that requests may be for; `*` among them lets any through."""
        if self.access.allowed_hosts:
            return frozenset(self.access.allowed_hosts)
        origins = (urlsplit(origin).hostname or "" for origin in self.access.allowed_origins)
        return frozenset({"localhost", "127.0.0.1", "::1", self.serving.host.lower(), *origins})


def declared() -> Iterator[tuple[str, str, Setting, object]]:
    """Each setting with its section, its field there and its default (None where it is made at start)."""
    for section, kind in SECTIONS.items():
        for attribute in fields(kind):
            default = attribute.default if attribute.default_factory is MISSING else None
            yield section, attribute.name, attribute.metadata["setting"], default


def setting_names() -> frozenset[str]:
    """All names under which a setting can be given, those of files that hold secrets too."""
    settings = [setting for _, _, setting, _ in declared()]
    return frozenset(
        {one.name for one in settings} | {f"{one.name}_FILE" for one in settings if one.secret}
    )


def shown(setting: Setting, value: object) -> str:
    """A value as it may be printed."""
    if value is None:
        return ""
    return "********" if setting.secret else setting.show(value)


def without_secrets(written: Mapping[str, str]) -> dict[str, str]:
    """Settings as an environment has them, for a report: those that are secret as asterisks."""
    kept = {setting.name for _, _, setting, _ in declared() if setting.secret}
    return {name: "********" if name in kept else value for name, value in written.items()}


def unit_of(setting: Setting) -> str:
    """The unit of a plain number, empty for all else: sizes and times show theirs themselves."""
    return setting.unit if setting.show in {str, show_number} else ""


def default_text(setting: Setting, default: object) -> str:
    """The default in words or as it would be written."""
    return setting.default_text or shown(setting, default)


@dataclass(frozen=True, slots=True)
class _Source:
    """Where names and values stand; `label` is what an operator calls it."""

    label: str
    values: Mapping[str, str]


def read_environment() -> Settings:
    """The settings of this process: its environment, and `.env` of the working folder."""
    return load(os.environ, Path(".env"))


def surroundings() -> Mapping[str, str]:
    """The environment itself: for programs that are started from here, and for where they lie."""
    return os.environ


def load(environ: Mapping[str, str], dotenv: Path | None) -> Settings:
    """Read all settings; `environ` wins over the file `dotenv`, which need not exist.

    An empty value counts as not set. Raises StartRefused that names every setting that cannot be used.
    """
    mistakes: list[str] = []
    places = [_Source("environment", environ)]
    if dotenv is not None and dotenv.is_file():
        places.append(_Source(str(dotenv), _read_dotenv(dotenv, mistakes)))

    sources: dict[str, str] = {}
    sections: dict[str, dict[str, object]] = {section: {} for section in SECTIONS}
    for section, attribute, setting, default in declared():
        try:
            found = _find(setting, places)
        except _Unreadable as unreadable:
            mistakes.append(str(unreadable))
            continue
        if found is None:
            continue
        text, sources[setting.name] = found
        try:
            sections[section][attribute] = setting.parse(text)
        except ValueError:
            written = "its value" if setting.secret else f"'{text}'"
            mistakes.append(
                f"{setting.name} ({sources[setting.name]}): {written} is not {setting.accepts}."
                f" Mend it, or leave it out for the default: {default_text(setting, default)}."
            )
    values = {section: kind(**sections[section]) for section, kind in SECTIONS.items()}
    settings = Settings(**values, sources=sources, warnings=tuple(_warnings(places, sections)))
    if not mistakes:
        mistakes += _fleet_mistakes(settings)
    if mistakes:
        raise StartRefused(
            what=f"{_count(len(mistakes))} cannot be used, so nothing was started:",
            why="".join(f"\n- {mistake}" for mistake in mistakes) + "\n",
            mend="`tableforge config` prints what is in force; docs/settings.md describes every setting.",
        )
    return settings


def _count(mistakes: int) -> str:
    return "One setting" if mistakes == 1 else f"{mistakes} settings"


class _Unreadable(Exception):
    """A file that a setting names cannot be read; the message is the mistake to tell."""


def _find(setting: Setting, places: list[_Source]) -> tuple[str, str] | None:
    """The text of a setting and its source; None when it is set nowhere."""
    pointer = f"{setting.name}_FILE"
    for place in places:
        text = place.values.get(setting.name, "")
        path = place.values.get(pointer, "") if setting.secret else ""
        if text.strip() and path:
            raise _Unreadable(
                f"{setting.name} and {pointer} ({place.label}) are both set. Leave one of them out."
            )
        if text.strip():
            return (text if setting.secret else text.strip()), place.label
        if path:
            return _read_secret(pointer, Path(path)), f"file {path}"
    return None


def _read_secret(pointer: str, path: Path) -> str:
    try:
        return path.read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise _Unreadable(
            f"{pointer}: {path} cannot be read ({reason}). Name a text file that this user may read."
        ) from error


def _read_dotenv(path: Path, mistakes: list[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8") as lines:
            for binding in parse_stream(lines):
                if binding.error:
                    mistakes.append(
                        f"{path}, line {binding.original.line}: it is not of the form NAME=value."
                        " Write it so, or begin the line with #."
                    )
                elif binding.key is not None:
                    values[binding.key] = binding.value or ""
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        mistakes.append(f"{path} cannot be read ({reason}). Mend or remove the file.")
    return values


def _fleet_mistakes(settings: "Settings") -> Iterator[str]:
    """What each setting allows alone and all of them together do not."""
    database = settings.database
    if not database.chosen:
        return
    if settings.access.admin_token is None:
        yield (
            "ADMIN_TOKEN is not set: the instances of a fleet must share one. Set it, or ADMIN_TOKEN_FILE, to the same"
            " secret on all of them."
        )
    if database.pool_min > database.pool_max:
        yield (
            f"DB_POOL_MIN ({database.pool_min}) is over DB_POOL_MAX ({database.pool_max})."
            " Lower the one or raise the other."
        )


def _warnings(places: list[_Source], sections: Mapping[str, Mapping[str, object]]) -> Iterator[str]:
    known = [setting.name for _, _, setting, _ in declared()]
    for place in places:
        for name in sorted(place.values.keys() - setting_names()):
            if name.startswith(OWN_PREFIXES):
                near = difflib.get_close_matches(name, known, n=1)
                hint = f" Did you mean {near[0]}?" if near else ""
                yield f"{name} ({place.label}) is no setting of TableForge and does nothing.{hint}"
    if any(sections["redis"].get(name) for name in ("host", "url", "bus_urls")) and not any(
        sections["database"].get(name) for name in ("host", "url")
    ):
        yield (
            "Redis is set without DATABASE_HOST or DATABASE_URL: one process with SQLite needs no bus, and does not"
            " use it."
        )
    token = sections["access"].get("admin_token")
    if isinstance(token, str) and len(token) < WEAK_TOKEN_CHARACTERS:
        yield f"ADMIN_TOKEN is short: {WEAK_TOKEN_CHARACTERS} characters or more are hard to guess."
