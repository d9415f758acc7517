"""Rooms, players and pieces for a measurement, made over REST, and the rooms' logs read back the same way."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tableforge.protocol.rest_client import RestClient

PAGE = 1000


@dataclass(frozen=True, slots=True)
class Seat:
    """One player's place: the session's token, the room, and the player's own piece there."""

    token: str
    room: str
    piece: str


def lay(
    caller: RestClient, *, users: int, room_size: int, progress: Callable[[int], None]
) -> list[Seat]:
    """Make rooms of `room_size` and seat all users, each with a piece; the first of a room is its GM."""
    seats: list[Seat] = []
    room, invite = "", ""
    for number in range(users):
        token = caller.call("POST", "/api/session", {"name": f"Player {number + 1}"})["token"]
        if number % room_size == 0:
            name = f"Bench {number // room_size + 1}"
            made = caller.call("POST", "/api/rooms", {"name": name}, token=token)
            room, invite = made["id"], made["invite"]
        else:
            caller.call("POST", f"/api/rooms/{room}/join", {"invite": invite}, token=token)
        command = {
            "room": room,
            "id": "piece",
            "type": "token.add",
            "name": f"Piece {number + 1}",
            "x": 0,
            "y": number % room_size,
        }
        reply = caller.call("POST", f"/api/rooms/{room}/commands", command, token=token)
        seats.append(Seat(token, room, reply["result"]["id"]))
        progress(number + 1)
    return seats


def history(caller: RestClient, seat: Seat, begin: int = 0) -> Iterator[tuple[int, str]]:
    """A room's log behind an offset as one member may see it: offset and command id of each event."""
    after: int | None = begin
    while after is not None:
        path = f"/api/rooms/{seat.room}/events?after={after}&limit={PAGE}"
        page = caller.call("GET", path, token=seat.token)
        for event in page["events"]:
            yield event["offset"], event["event"].get("id", "")
        after = page["next"]
