"""Whoever plays by keyboard or screen reader: axe finds nothing serious on any page, by day or by night."""

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import DESK, Seat, Sit
from tests.server_process import ServerProcess

AXE = Path(__file__).parents[2] / "web/node_modules/axe-core/axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]
PHONE = (390, 844)


def offences(page: Page, part: str) -> list[dict[str, Any]]:
    """What axe holds against the page, or a part of it, as it is now."""
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(AXE.read_text("utf-8"))
    found = page.evaluate(
        "([part, rules]) => axe.run(part, { runOnly: rules, resultTypes: ['violations'] })",
        [part, RULES],
    )
    return [
        {
            "rule": one["id"],
            "help": one["help"],
            "at": [node["html"][:160] for node in one["nodes"]],
        }
        for one in found["violations"]
    ]


def assert_accessible(page: Page, what: str, part: str = "html") -> None:
    """Nothing serious, and nothing else either."""
    found = offences(page, part)
    assert found == [], f"{what}: {json.dumps(found, indent=1)}"


@pytest.fixture(params=["dark", "light"])
def theme(request: pytest.FixtureRequest) -> str:
    """By night and by day."""
    return str(request.param)


@pytest.fixture
def table(server: ServerProcess, sit: Sit, theme: str) -> Seat:
    """A table with something on it: pieces, talk, rolls, turns."""
    mara = sit(theme=theme)
    mara.create_table(server.url, "Mara", "The Salt Road")
    mara.add_piece("Sable")
    mara.say("Anything down there?")
    mara.say("/r 2d20kh1+4 # Perception")
    mara.say("/sr d20 # Stealth")
    mara.page.get_by_text("Stealth").wait_for()
    return mara


def test_the_lobby(server: ServerProcess, sit: Sit, theme: str) -> None:
    seat = sit(theme=theme)
    seat.page.goto(server.url)
    seat.page.get_by_role("heading", name="No tables yet").wait_for()
    assert_accessible(seat.page, "an empty lobby")
    seat.page.get_by_role("button", name="Create table").click()
    expect(seat.page.get_by_text("The others need something to call you.")).to_be_visible()
    assert_accessible(seat.page, "a lobby with a field to mend")
    seat.page.get_by_role("button", name="Been here before").click()
    assert_accessible(seat.page, "coming back")
    seat.page.goto(f"{server.url}/r/nowhere")
    seat.page.get_by_role("button", name="Sit down").wait_for()
    assert_accessible(seat.page, "sitting down")


def test_the_table_and_its_dialogs(table: Seat) -> None:
    page = table.page
    assert_accessible(page, "chat")
    table.choose("Sable")
    assert_accessible(page, "a chosen piece")
    page.get_by_role("tab", name="Turn order").click()
    page.get_by_role("button", name="Add Sable").click()
    page.get_by_role("region", name="Turn order").wait_for()
    for tab in ("Turn order", "Members", "Scenes"):
        page.get_by_role("tab", name=tab).click()
        assert_accessible(page, tab, "main")
    page.keyboard.press("?")
    assert_accessible(page, "keys", "dialog")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Table menu").click()
    page.get_by_role("menuitem", name="Keys").wait_for()
    assert_accessible(page, "the menu", ".menu:popover-open")
    page.keyboard.press("Escape")
    for item in ("Invite", "Bring in a map", "New scene", "Table settings", "Recovery code"):
        page.get_by_role("button", name="Table menu").click()
        page.get_by_role("menuitem", name=item).wait_for()
        page.get_by_role("menuitem", name=item).click()
        page.get_by_role("dialog").wait_for()
        assert_accessible(page, item, "dialog")
        page.keyboard.press("Escape")
        page.get_by_role("dialog").wait_for(state="detached")
    page.get_by_role("button", name="Add a piece").click()
    assert_accessible(page, "adding a piece", "dialog")


def test_a_phone(table: Seat) -> None:
    page = table.page
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    for sheet in ("Dice", "Chat", "Turns", "More"):
        page.get_by_role("navigation", name="Table").get_by_role("button", name=sheet).click()
        page.get_by_role("region", name=sheet).or_(
            page.get_by_role("region", name="Turn order")
        ).first.wait_for()
        assert_accessible(page, f"{sheet} on a phone", "main")
        overflow = page.evaluate(
            "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert overflow <= 0, f"{sheet} is wider than the phone"


def test_the_keyboard_gets_everywhere(server: ServerProcess, sit: Sit) -> None:
    """F6 walks the parts of the page, a dialog keeps the focus and gives it back."""
    mara = sit()
    mara.create_table(server.url, "Mara", "Keys")
    page = mara.page
    seen: list[str] = []
    for _ in range(12):
        page.keyboard.press("F6")
        seen.append(
            page.evaluate(
                """() => document.activeElement.closest('[data-region]')?.className.split(' ')[0]"""
            )
        )
    for part in ("board", "dice", "rail", "zoom", "top", "dock"):
        assert part in seen, seen
    opener = page.get_by_role("button", name="Keys (?)")
    opener.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Keys")
    expect(dialog).to_be_visible()
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.closest('dialog') !== null")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(opener).to_be_focused()


def test_text_at_twice_the_size_stays_whole(server: ServerProcess, sit: Sit) -> None:
    seat = sit((DESK[0] // 2, DESK[1] // 2))
    seat.page.goto(server.url)
    seat.page.get_by_role("button", name="Create table").wait_for()
    overflow = seat.page.evaluate(
        "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    assert overflow <= 0
