"""The names of channels: `room:<id>` carries a room's events, `room:<id>:live` what is never stored."""

ROOM = "room:"
LIVE = ":live"


def room_channel(room: str) -> str:
    """The channel of a room's events, towards clients and between instances."""
    return ROOM + room


def live_channel(room: str) -> str:
    """The channel of a room's live signals."""
    return f"{ROOM}{room}{LIVE}"


def room_of(channel: str) -> tuple[str, bool] | None:
    """The room of a channel and whether it is its live one; None for a channel of another kind."""
    if not channel.startswith(ROOM):
        return None
    live = channel.endswith(LIVE)
    room = channel[len(ROOM) : -len(LIVE)] if live else channel[len(ROOM) :]
    return (room, live) if room else None
