"""Every form that was ever stored is read (rule HI7 of `docs/spec.md`)."""

from tableforge.domain.state import Room
from tableforge.protocol import codec


def test_hi7_every_form_that_there_was_has_its_step_to_the_next() -> None:
    """A log may have lost its beginning to a snapshot of any of them: without the step its room could not be opened."""
    assert codec.ROOM_UPCASTERS.keys() == set(range(1, codec.ROOM_FORM))
    assert codec.EVENT_UPCASTERS.keys() == set(range(1, codec.EVENT_FORM))
    room = Room("r", version=7)
    assert codec.decode_room(codec.ROOM_FORM, codec.encode_room(room)) == room
    assert codec.decode_room(codec.ROOM_FORM + 1, codec.encode_room(room)) is None
