"""What is said and rolled, who is told, and what is remembered."""

import pytest

from tests.table import NOWHERE, Table, opened, plain


@pytest.fixture
def table() -> Table:
    return opened(ann="player", bob="player", eve="gm", cid="spectator")


def lines_of(table: Table, user: str) -> list[str]:
    """The texts that a user's snapshot shows."""
    return [line["text"] for line in table.view(user)["chat"]]


def test_ch1_a_whisper_reaches_its_ends_and_nobody_else(table: Table) -> None:
    steps = table.send("ann", "chat.say", text="psst", to=["bob", "cid", "bob"])
    for user in ("ann", "bob", "cid"):
        assert table.told(user, steps)[0]["text"] == "psst"
        assert lines_of(table, user) == ["psst"]
    for user in ("gm", "eve", "stranger"):
        assert table.told(user, steps) == [{"type": "hidden"}]
        assert lines_of(table, user) == []
    assert table.told("bob", steps)[0]["to"] == ["bob", "cid"]


def test_ch1_a_whisper_goes_to_members(table: Table) -> None:
    assert table.refusal("ann", "chat.say", text="psst", to=["bob", NOWHERE]).code == "not-found"
    table.send("ann", "chat.say", text="note to self", to=["ann"])
    assert lines_of(table, "ann") == ["note to self"]


def test_ch2_with_gm_sees_all_gms_overhear_from_then_on(table: Table) -> None:
    table.send("ann", "chat.say", text="before", to=["bob"])
    table.send("gm", "room.update", settings={"gm_sees_all": True})
    steps = table.send("ann", "chat.say", text="after", to=["bob"])
    table.send("gm", "room.update", settings={"gm_sees_all": False})
    table.send("ann", "chat.say", text="again", to=["bob"])
    assert table.told("eve", steps)[0]["text"] == "after"
    assert lines_of(table, "eve") == ["after"]
    assert lines_of(table, "cid") == []
    assert lines_of(table, "bob") == ["before", "after", "again"]


def test_ch2_what_was_told_is_settled_when_it_is_said(table: Table) -> None:
    table.send("gm", "dice.roll", expression="1d6", visibility="gm")
    table.send("gm", "member.role", user="ann", role="gm")
    table.send("gm", "member.role", user="eve", role="player")
    (to_ann,), (to_eve,) = table.view("ann")["chat"], table.view("eve")["chat"]
    assert "total" not in to_ann
    assert "total" in to_eve


def test_ch3_the_server_rolls_and_the_event_holds_every_die(table: Table) -> None:
    (step,) = table.send("ann", "dice.roll", expression="3d6kh2+1", label="Hit")
    told = plain(step.event)
    assert (told["expression"], told["visibility"], told["label"]) == ("3d6kh2+1", "public", "Hit")
    assert [die["sides"] for die in told["dice"]] == [6, 6, 6]
    kept = sum(die["value"] for die in told["dice"] if "kept" in die["fate"])
    assert told["total"] == kept + 1
    assert table.told("cid", [step]) == [told]


@pytest.mark.parametrize(
    ("visibility", "seen_by"),
    [
        ("public", {"ann", "bob", "gm", "eve", "cid"}),
        ("gm", {"ann", "gm", "eve"}),
        ("self", {"ann"}),
    ],
)
def test_ch4_a_hidden_roll_is_shown_to_whom_it_is_for(
    table: Table, visibility: str, seen_by: set[str]
) -> None:
    table.send("gm", "room.update", settings={"gm_sees_all": True})
    steps = table.send("ann", "dice.roll", expression="1d20", visibility=visibility, label="x")
    for user in ("ann", "bob", "gm", "eve", "cid", "stranger"):
        (told,), (line,) = table.told(user, steps), table.view(user)["chat"]
        whole = user in seen_by or visibility == "public"
        assert told.keys() >= {"type", "by", "at", "id", "visibility"}
        assert (told.keys() & {"expression", "total", "dice", "label"} != set()) == whole
        assert {**told, "offset": table.room.version} == line


def test_ch5_everybody_keeps_the_last_hundred_lines_that_they_were_told(table: Table) -> None:
    for number in range(60):
        table.send("ann", "chat.say", text=f"all {number}")
        table.send("ann", "chat.say", text=f"bob {number}", to=["bob"])
    assert lines_of(table, "cid") == [f"all {number}" for number in range(60)]
    told = [text for number in range(60) for text in (f"all {number}", f"bob {number}")]
    assert lines_of(table, "bob") == told[-100:]
    for number in range(150):
        table.send("ann", "chat.say", text=f"psst {number}", to=["gm"])
    assert lines_of(table, "bob") == told[-100:]
    assert max(len(lines) for lines in table.room.chat.values()) <= 100


def test_ch5_offsets_of_lines_are_those_of_their_events(table: Table) -> None:
    steps = table.send("ann", "chat.say", text="one") + table.send("bob", "chat.say", text="two")
    offsets = [line["offset"] for line in table.view("ann")["chat"]]
    assert offsets == [step.after.version for step in steps]


def test_an_ill_formed_roll_is_refused(table: Table) -> None:
    assert table.refusal("ann", "dice.roll", expression="2d").code == "malformed"
    assert table.refusal("ann", "dice.roll", expression="1/0").code == "conflict"
