"""The rules of the table in one sentence: `decide` says what follows from a command, `evolve` what follows from an event.

`decide` may refuse, with one of the errors of `tableforge.errors`, and then nothing changes; no events mean that nothing
would change. `evolve` never refuses, since the event already happened; it copies no more than the dict that changes.
"""

from collections.abc import Iterable, Sequence
from typing import assert_never

from msgspec import UNSET
from msgspec.structs import replace

from tableforge.domain import (
    chat,
    deeds,
    drawings,
    initiative,
    players,
    scenes,
    tokens,
    undo,
    walls,
)
from tableforge.domain import commands as c
from tableforge.domain import events as e
from tableforge.domain.commands import Command, HouseCommand
from tableforge.domain.events import Event, Result
from tableforge.domain.state import Door, Given, Light, Room, Wall


def decide(room: Room, command: Command | HouseCommand, given: Given) -> tuple[Event, ...]:  # noqa: C901  # one case a command
    """The events that a command leads to; none if it would change nothing. Raises what refuses it."""
    match command:
        case c.MoveToken():
            return tokens.move(room, command, given)
        case c.Say():
            return chat.say(room, command, given)
        case c.RollDice():
            return chat.roll_dice(room, command, given)
        case c.AddToken():
            return tokens.add(room, command, given)
        case c.UpdateToken():
            return tokens.update(room, command, given)
        case c.RemoveToken():
            return tokens.remove(room, command, given)
        case c.SetTurn():
            return initiative.set_order(room, command, given)
        case c.NextTurn():
            return initiative.pass_on(room, command, given)
        case c.PreviousTurn():
            return initiative.go_back(room, command, given)
        case c.EndTurn():
            return initiative.end_own(room, command, given)
        case c.AddDrawing():
            return drawings.add(room, command, given)
        case c.RemoveDrawing():
            return drawings.remove(room, command, given)
        case c.CreateScene():
            return scenes.create(room, command, given)
        case c.UpdateScene():
            return scenes.update(room, command, given)
        case c.ActivateScene():
            return scenes.activate(room, command, given)
        case c.RemoveScene():
            return scenes.remove(room, command, given)
        case c.PlaceMembers():
            return scenes.place(room, command, given)
        case c.SetWall():
            return walls.set_wall(room, command, given)
        case c.SetDoor():
            return walls.set_door(room, command, given)
        case c.SetLight():
            return walls.set_light(room, command, given)
        case c.ChangeRole():
            return players.change_role(room, command, given)
        case c.KickMember():
            return players.kick(room, command, given)
        case c.BanMember():
            return players.ban(room, command, given)
        case c.MuteMember():
            return players.mute(room, command, given)
        case c.UpdateRoom():
            return players.update_room(room, command, given)
        case c.Undo():
            return undo.undo(room, command, given)
        case c.Redo():
            return undo.redo(room, command, given)
        case c.OpenRoom():
            return players.open_room(room, command, given)
        case c.JoinRoom():
            return players.join(room, command, given)
        case c.LeaveRoom():
            return players.leave(room, command, given)
        case c.RenameMember():
            return players.rename(room, command, given)
        case c.ImportScene():
            return walls.import_scene(room, command, given)
        case _:
            assert_never(command)


def evolve(room: Room, event: Event) -> Room:
    """The room after an event, one version on, with what its member may now undo."""
    match event:
        case e.TokenMoved():
            return _moved(room, event)
        case e.Undone():
            after, kept = apply(room, event), deeds.with_undone(room, event.by)
        case e.Redone():
            after, kept = apply(room, event), deeds.with_redone(room, event.by)
        case _:
            after = apply(room, event)
            kept = after.deeds
            changes = deeds.changes_of(room, event, after)
            if changes:
                kept = deeds.with_deed(room, event.by, event.id, changes)
    return replace(after, version=room.version + 1, deeds=kept)


def _moved(room: Room, event: e.TokenMoved) -> Room:
    """`evolve` for the event that outnumbers all others, with one copy of the room instead of two."""
    moved = tokens.moved_tokens(room.tokens, event)
    changes = deeds.poses(room.tokens, event, moved)
    kept = deeds.with_deed(room, event.by, event.id, changes)
    return replace(room, version=room.version + 1, tokens=moved, deeds=kept)


def apply(room: Room, event: Event) -> Room:  # noqa: C901  # one case an event
    """The table after an event, at the same version: what `evolve` and the parts of an undone command share."""
    match event:
        case e.TokenMoved():
            return tokens.moved(room, event)
        case e.Said():
            return chat.said(room, event)
        case e.Rolled():
            return chat.rolled(room, event)
        case e.TokenAdded():
            return tokens.added(room, event)
        case e.TokenUpdated():
            return tokens.updated(room, event)
        case e.TokenRemoved():
            return tokens.removed(room, event)
        case e.TurnChanged():
            return initiative.changed(room, event)
        case e.DrawingAdded():
            return drawings.added(room, event)
        case e.DrawingRemoved():
            return drawings.removed(room, event)
        case e.SceneCreated():
            return scenes.created(room, event)
        case e.SceneUpdated():
            return scenes.updated(room, event)
        case e.SceneActivated():
            return scenes.activated(room, event)
        case e.SceneRemoved():
            return scenes.removed(room, event)
        case e.MembersPlaced():
            return scenes.placed(room, event)
        case e.WallsChanged():
            return walls.walls_changed(room, event)
        case e.DoorsChanged():
            return walls.doors_changed(room, event)
        case e.LightsChanged():
            return walls.lights_changed(room, event)
        case e.RoomCreated():
            return players.created(room, event)
        case e.RoomChanged():
            return players.changed(room, event)
        case e.MemberJoined():
            return players.member_joined(room, event)
        case e.MemberChanged():
            return players.member_changed(room, event)
        case e.MemberRemoved():
            return players.member_removed(room, event)
        case e.Undone() | e.Redone():
            for part in event.events:
                room = apply(room, part)
            return room
        case _:
            assert_never(event)


def replay(room: Room, events: Iterable[Event]) -> Room:
    """The room after all these events."""
    for event in events:
        room = evolve(room, event)
    return room


def result_of(events: tuple[Event, ...]) -> Result | None:
    """What a reply carries beside the offset: the id of what was made, or the roll. The same events give the same."""
    for event in events:
        match event:
            case e.SceneCreated():
                return {"id": event.scene.id}
            case e.TokenAdded():
                return {"id": event.token.id}
            case e.DrawingAdded():
                return {"id": event.drawing.id}
            case e.WallsChanged():
                return _id_of(event.walls)
            case e.DoorsChanged():
                return _id_of(event.doors)
            case e.LightsChanged():
                return _id_of(event.lights)
            case e.Rolled():
                fields = ("expression", "total", "dice", "visibility", "label")
                return {
                    field: value
                    for field in fields
                    if (value := getattr(event, field)) is not UNSET
                }
            case e.Undone() | e.Redone():
                return {"of": event.of}
            case _:
                pass
    return None


def _id_of(put: Sequence[Wall | Door | Light]) -> Result | None:
    return {"id": put[0].id} if put else None
