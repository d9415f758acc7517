"""Which lists a change of a room makes others (rule CR1 of `docs/spec.md`)."""

import pytest
from msgspec.structs import replace

from tableforge.domain.state import Member, Room
from tableforge.rooms.cached import tags_changed

GM = Member("mara", "Mara", "gm", 1)
BO = Member("bo", "Bo", "player", 2)
NOT_YET = Room("r")
PRIVATE = Room("r", version=2, name="The Salt Road", members={"mara": GM, "bo": BO})
PUBLIC = replace(PRIVATE, visibility="public")
OF_BOTH = {"room:r", "rooms_of:mara", "rooms_of:bo"}


@pytest.mark.parametrize(
    ("before", "after", "tags"),
    [
        (NOT_YET, PRIVATE, OF_BOTH),
        (NOT_YET, PUBLIC, {*OF_BOTH, "public_rooms"}),
        (PRIVATE, replace(PRIVATE, version=3), {"room:r"}),
        (PRIVATE, replace(PRIVATE, name="Open Sea"), OF_BOTH),
        (PUBLIC, replace(PUBLIC, tags=("sea",)), {*OF_BOTH, "public_rooms"}),
        (PRIVATE, PUBLIC, {*OF_BOTH, "public_rooms"}),
        (PUBLIC, PRIVATE, {*OF_BOTH, "public_rooms"}),
        (PUBLIC, replace(PUBLIC, members={"mara": GM}), {"room:r", "rooms_of:bo"}),
        (
            PRIVATE,
            replace(PRIVATE, members={"mara": GM, "bo": replace(BO, role="gm")}),
            {"room:r"},
        ),
        (PRIVATE, None, OF_BOTH),
        (PUBLIC, None, {*OF_BOTH, "public_rooms"}),
    ],
)
def test_cr1_a_change_drops_the_lists_that_it_makes_others(
    before: Room, after: Room | None, tags: set[str]
) -> None:
    assert set(tags_changed(before, after)) == tags
