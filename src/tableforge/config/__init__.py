"""Settings are read once, at start: no other module looks at the environment, each is handed its own section."""

from tableforge.config.care import CacheKnobs, CareKnobs, Eviction
from tableforge.config.fleet import (
    AssetKnobs,
    DatabaseKnobs,
    FleetKnobs,
    RedisKnobs,
    server_name,
    split_address,
)
from tableforge.config.reading import (
    SECTIONS,
    Effective,
    Settings,
    declared,
    default_text,
    load,
    read_environment,
    surroundings,
    unit_of,
    without_secrets,
)
from tableforge.config.sections import (
    Access,
    EventLogKnobs,
    Limits,
    Network,
    Observing,
    RoomKnobs,
    Serving,
    SocketKnobs,
    Storage,
    Uploads,
)
from tableforge.config.values import Setting

__all__ = [
    "SECTIONS",
    "Access",
    "AssetKnobs",
    "CacheKnobs",
    "CareKnobs",
    "DatabaseKnobs",
    "Effective",
    "EventLogKnobs",
    "Eviction",
    "FleetKnobs",
    "Limits",
    "Network",
    "Observing",
    "RedisKnobs",
    "RoomKnobs",
    "Serving",
    "Setting",
    "Settings",
    "SocketKnobs",
    "Storage",
    "Uploads",
    "declared",
    "default_text",
    "load",
    "read_environment",
    "server_name",
    "split_address",
    "surroundings",
    "unit_of",
    "without_secrets",
]
