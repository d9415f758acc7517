"""The journeys that would shame us: people sit down at a table and play."""

import json
import os
import re
import signal
from pathlib import Path

from playwright.sync_api import WebSocketRoute, expect

from tests.browser.conftest import Sit
from tests.server_process import ServerProcess, running

SAMPLES = Path(__file__).parents[1] / "samples"


def test_a_second_browser_joins_by_link_and_sees_the_move(server: ServerProcess, sit: Sit) -> None:
    mara, ilse = sit(), sit()
    mara.create_table(server.url, "Mara", "The Salt Road")
    ilse.sit_down(mara.invite_link(), "Ilse")
    expect(ilse.page).to_have_url(re.compile(r"/r/[^#]+$"))  # the invite left the address bar
    mara.add_piece("Sable")
    ilse.wait_for_piece("Sable")
    x, y = mara.place_of("Sable")
    at_x, at_y = mara.choose("Sable")
    mouse = mara.page.mouse
    mouse.move(at_x, at_y)
    mouse.down()
    mouse.move(at_x + 60, at_y + 40, steps=6)
    mouse.move(at_x + 130, at_y, steps=6)
    mouse.up()
    mara.page.wait_for_function(
        "(x) => Number(document.querySelector('[data-token]').dataset.x) > x", arg=x
    )
    moved = mara.place_of("Sable")
    assert moved[0] - x >= 2
    assert all(place == round(place) for place in moved), "a piece of one cell snaps to cells"
    ilse.wait_for_place("Sable", moved)
    assert any('"type":"drag"' in frame for frame in ilse.frames), "the way was seen live"
    mara.page.keyboard.press("Control+z")
    ilse.wait_for_place("Sable", (x, y))


def test_keys_alone_move_a_piece_and_take_it_off(server: ServerProcess, sit: Sit) -> None:
    mara = sit()
    mara.create_table(server.url, "Mara", "Keys")
    mara.add_piece("Sable")
    x, y = mara.place_of("Sable")
    piece = mara.page.get_by_role("button", name="Sable").first
    piece.press("ArrowRight")
    mara.wait_for_place("Sable", (x + 1, y))
    piece.press("ArrowDown")
    mara.wait_for_place("Sable", (x + 1, y + 1))
    piece.press("Delete")
    piece.wait_for(state="detached")
    mara.page.get_by_role("button", name="Undo", exact=True).click()
    mara.wait_for_piece("Sable")


def test_a_whisper_never_reaches_the_third(server: ServerProcess, sit: Sit) -> None:
    mara, ilse, tomas = sit(), sit(), sit()
    mara.create_table(server.url, "Mara", "Secrets")
    link = mara.invite_link()
    ilse.sit_down(link, "Ilse")
    tomas.sit_down(link, "Tomas")
    mara.page.get_by_role("button", name=re.compile("Members: .*Tomas")).wait_for()
    mara.say("/w Ilse the key is under the stone")
    expect(ilse.page.get_by_text("the key is under the stone")).to_be_visible()
    expect(ilse.page.get_by_text("to you only")).to_be_visible()
    mara.say("/gmr 1d20 # Stealth")
    ilse.say("hello everyone")
    expect(tomas.page.get_by_text("hello everyone")).to_be_visible()
    expect(tomas.page.get_by_text("Mara rolled in secret")).to_be_visible()
    assert tomas.frames, "frames were listened to"
    for secret in ("under the stone", "Stealth", '"expression"'):
        assert not [frame for frame in tomas.frames if secret in frame]
    assert any("under the stone" in frame for frame in ilse.frames)


def test_rolls_show_each_die_and_a_bad_one_stays_with_its_reason(
    server: ServerProcess, sit: Sit
) -> None:
    mara = sit()
    mara.create_table(server.url, "Mara", "Dice")
    mara.say("/r 2d20kh1+4 # Perception")
    log = mara.page.get_by_role("log", name="Chat")
    expect(log.get_by_text("Perception")).to_be_visible()
    expect(log.get_by_role("img", name=re.compile(r"^\d+, dropped$"))).to_have_count(1)
    mara.page.get_by_role("button", name="Add a d6").click()
    mara.page.get_by_role("button", name="Add a d6, 1 in the roll").click()
    expect(mara.page.get_by_label("Roll expression")).to_have_value("2d6")
    mara.page.get_by_role("button", name="Roll", exact=True).click()
    expect(log.get_by_text("2d6", exact=True)).to_be_visible()
    mara.say("/r 3dd6")
    expect(log.get_by_text("The roll did not count.")).to_be_visible()
    expect(log.get_by_text("character 2")).to_be_visible()
    log.get_by_role("button", name="Let it go").click()
    expect(log.get_by_text("The roll did not count.")).to_have_count(0)


def test_what_people_write_is_never_markup(server: ServerProcess, sit: Sit) -> None:
    mara = sit()
    nasty = '<img src=x onerror="document.title=1">'
    mara.create_table(server.url, nasty, nasty)
    mara.say(nasty)
    expect(mara.page.get_by_role("log").get_by_text(nasty).last).to_be_visible()
    mara.add_piece("<b>Sable</b>")
    assert mara.page.locator("img[src=x], b b").count() == 0
    expect(mara.page).to_have_title(f"{nasty}, TableForge")


def test_turns_go_round_and_the_owner_ends_their_own(server: ServerProcess, sit: Sit) -> None:
    mara, ilse = sit(), sit()
    mara.create_table(server.url, "Mara", "Turns")
    ilse.sit_down(mara.invite_link(), "Ilse")
    ilse.add_piece("Sable")
    mara.wait_for_piece("Sable")
    mara.choose("Sable")
    mara.page.get_by_role("tab", name="Turn order").click()
    mara.page.get_by_role("button", name="Add Sable").click()
    mara.page.get_by_label("Name to add").fill("Bilge rats")
    mara.page.get_by_role("textbox", name="Value", exact=True).fill("-3")
    mara.page.get_by_role("button", name="Add the name").click()
    bar = ilse.page.get_by_role("region", name="Turn order")
    expect(bar).to_contain_text(re.compile("Sable.s turn"))
    expect(bar).to_contain_text("Bilge rats is next")
    bar.get_by_role("button", name="End turn").click()
    expect(bar).to_contain_text(re.compile("Bilge rats. turn"))
    expect(bar.get_by_role("button")).to_have_count(0)
    mara.page.get_by_role("region", name="Turn order").get_by_role(
        "button", name="Next turn"
    ).click()
    expect(bar).to_contain_text("Round 2")


def test_a_refused_move_rolls_back_and_says_why(server: ServerProcess, sit: Sit) -> None:
    """Mara's line keeps back that the piece was locked meanwhile, so that only the server's refusal can tell her."""
    mara, noor = sit(), sit()

    def keep_back_the_lock(line: WebSocketRoute) -> None:
        server_side = line.connect_to_server()

        def pass_on(frame: str | bytes) -> None:
            if '"locked":true' not in str(frame):
                line.send(frame)

        server_side.on_message(pass_on)

    mara.page.route_web_socket(re.compile(r"/ws\?room="), keep_back_the_lock)
    mara.create_table(server.url, "Mara", "Locked")
    mara.add_piece("Sable")
    noor.sit_down(mara.invite_link("GM"), "Noor")
    noor.wait_for_piece("Sable")
    noor.choose("Sable")
    noor.page.get_by_role("button", name="Lock in place").click()
    expect(noor.page.get_by_role("button", name="Unlock")).to_be_visible()
    place = mara.place_of("Sable")
    mara.page.get_by_role("button", name="Sable").first.press("ArrowRight")
    expect(mara.page.get_by_role("alert").get_by_text("Sable did not move.")).to_be_visible()
    expect(mara.page.get_by_role("alert").get_by_text("locked")).to_be_visible()
    mara.wait_for_place("Sable", place)


def test_a_restart_of_the_server_loses_nothing(tmp_path: Path, sit: Sit) -> None:
    mara, ilse = sit(), sit()
    with running(tmp_path, LIMIT_SESSIONS="0") as server:
        mara.create_table(server.url, "Mara", "Storm")
        ilse.sit_down(mara.invite_link(), "Ilse")
        mara.add_piece("Sable")
        ilse.wait_for_piece("Sable")
        x, y = mara.place_of("Sable")
        server.kill()
        expect(mara.page.get_by_text(re.compile("^Offline since"))).to_be_visible()
        mara.page.get_by_role("button", name="Sable").first.press("ArrowRight")
        mara.wait_for_place("Sable", (x + 1, y))
        mara.say("still here")
        expect(mara.page.get_by_text("2 changes wait here")).to_be_visible()
        server.start()
        mara.wait_for_live()
        ilse.wait_for_live()
        ilse.wait_for_place("Sable", (x + 1, y))
        expect(ilse.page.get_by_text("still here")).to_be_visible()
        ilse.say("so am I")
        expect(mara.page.get_by_text("so am I")).to_be_visible()
        expect(mara.page.get_by_role("log").get_by_text("still here")).to_have_count(1)


def test_a_server_that_stands_still_carries_out_once_what_it_was_sent(
    tmp_path: Path, sit: Sit
) -> None:
    mara, ilse = sit(), sit()
    with running(tmp_path, LIMIT_SESSIONS="0") as server:
        mara.create_table(server.url, "Mara", "Still")
        ilse.sit_down(mara.invite_link(), "Ilse")
        os.kill(server.pid, signal.SIGSTOP)
        try:
            mara.say("is anybody there")
            mara.say("/r 1d20 # Listen")
            expect(mara.page.get_by_text(re.compile("^2 changes wait, no answer"))).to_be_visible()
            expect(mara.page.get_by_text(re.compile("^Offline since"))).to_be_visible()
        finally:
            os.kill(server.pid, signal.SIGCONT)
        for seat in (mara, ilse):
            seat.wait_for_live()
            log = seat.page.get_by_role("log")
            expect(log.get_by_text("Listen")).to_be_visible()
            expect(log.locator("ol > li").filter(has_text="is anybody there")).to_have_count(1)
            expect(log.locator("ol > li").filter(has_text="Listen")).to_have_count(1)
            expect(log.locator(".msg").first).to_contain_text("is anybody there")
            expect(log.get_by_role("button")).to_have_count(0)


def test_a_map_is_brought_in_and_a_bad_file_is_refused(server: ServerProcess, sit: Sit) -> None:
    mara, ilse = sit(), sit()
    mara.create_table(server.url, "Mara", "Maps")
    ilse.sit_down(mara.invite_link(), "Ilse")
    mara.page.get_by_role("tab", name="Scenes").click()
    mara.page.get_by_role("button", name="Bring in a map").click()
    dialog = mara.page.get_by_role("dialog", name="Bring in a map")
    dialog.get_by_label("Map files").set_input_files(
        [SAMPLES / "good/cellar.dd2vtt", SAMPLES / "bad/cut_short.uvtt"]
    )
    good = dialog.get_by_role("listitem").filter(has_text="cellar.dd2vtt")
    bad = dialog.get_by_role("listitem").filter(has_text="cut_short.uvtt")
    expect(bad).to_contain_text("Not brought in")
    expect(good).to_contain_text("cells")
    expect(good).to_contain_text("walls")
    expect(dialog).to_contain_text("1 ready, 1 not brought in")
    good.get_by_role("button", name="Look at it").click()
    picture = mara.page.get_by_role("img", name=re.compile("Map: cellar"))
    expect(picture).to_be_visible()
    scenes = mara.page.get_by_role("navigation", name="Scenes").get_by_role("button")
    expect(scenes.filter(has_text="cellar")).to_have_attribute("aria-current", "true")
    expect(mara.page.get_by_role("list", name="Scenes").get_by_role("listitem")).to_have_count(2)
    assert not [frame for frame in ilse.frames if "cellar" in frame], "players see nothing yet"
    mara.page.get_by_role("button", name="Bring everyone here").click()
    expect(ilse.page.get_by_role("img", name=re.compile("Map: cellar"))).to_be_visible()
    assert not [frame for frame in ilse.frames if '"walls":[{' in frame], "walls are the GM's"
    expect(ilse.page.get_by_text("Everyone moved to cellar")).to_be_visible()


def test_a_picture_becomes_a_piece(server: ServerProcess, sit: Sit) -> None:
    mara, ilse = sit(), sit()
    mara.create_table(server.url, "Mara", "Faces")
    ilse.sit_down(mara.invite_link(), "Ilse")
    mara.page.get_by_role("button", name="Add a piece").click()
    mara.page.get_by_label("Picture of the piece").set_input_files(SAMPLES / "good/plain.png")
    expect(mara.page.get_by_role("button", name="Choose another picture")).to_be_visible()
    expect(mara.page.get_by_label("Name", exact=True)).to_have_value("plain")
    with ilse.page.expect_response(lambda answer: "/api/assets/" in answer.url) as picture:
        mara.page.get_by_role("button", name="Put on the board").click()
    assert picture.value.status == 200
    mara.page.get_by_role("button", name="Add a piece").click()
    mara.page.get_by_label("Picture of the piece").set_input_files(SAMPLES / "bad/drawing.svg")
    expect(mara.page.get_by_role("dialog").get_by_role("alert")).to_be_visible()


def test_roles_change_and_people_are_taken_off(server: ServerProcess, sit: Sit) -> None:
    mara, ilse = sit(), sit()
    mara.create_table(server.url, "Mara", "Roles")
    ilse.sit_down(mara.invite_link("Spectator"), "Ilse")
    expect(ilse.page.get_by_role("region", name="Dice tray")).to_have_count(0)
    mara.page.get_by_role("tab", name="Members").click()
    mara.page.get_by_role("button", name="What to do with Ilse").click()
    mara.page.get_by_role("menuitemradio", name="Make player").click()
    expect(ilse.page.get_by_role("region", name="Dice tray")).to_be_visible()
    mara.page.get_by_role("button", name="What to do with Ilse").click()
    mara.page.get_by_role("menuitem", name="Take off the table").click()
    gone = ilse.page.get_by_role("alertdialog", name="You are off this table")
    gone.get_by_role("button", name="To the lobby").click()
    expect(ilse.page.get_by_role("heading", name="No tables yet")).to_be_visible()


def test_a_recovery_code_brings_the_same_person_back(server: ServerProcess, sit: Sit) -> None:
    mara, elsewhere = sit(), sit()
    mara.create_table(server.url, "Mara", "The Long Road")
    note = mara.page.get_by_role("region", name="Recovery code")
    code = note.get_by_role("textbox").input_value()
    mara.page.get_by_role("button", name="Table menu").click()
    mara.page.get_by_role("menuitem", name="Recovery code").click()
    dialog = mara.page.get_by_role("dialog", name="Your recovery code")
    expect(dialog.get_by_role("textbox")).to_have_value(code)
    expect(note).to_have_count(0)
    elsewhere.page.goto(server.url)
    elsewhere.page.get_by_role("button", name="Been here before").click()
    elsewhere.page.get_by_role("textbox", name="Recovery code").fill(code)
    elsewhere.page.get_by_role("button", name="Bring me back").click()
    table = elsewhere.page.get_by_role("link", name=re.compile("The Long Road"))
    expect(table).to_contain_text("GM")
    table.click()
    elsewhere.wait_for_live()


def test_open_tables_take_anyone_and_others_do_not_exist(server: ServerProcess, sit: Sit) -> None:
    mara, stranger = sit(), sit()
    mara.page.goto(server.url)
    mara.page.get_by_label("Your name at the table").fill("Mara")
    mara.page.get_by_label("New table").fill("Harbour of Thieves")
    mara.page.get_by_role("radio", name="Everyone").click()
    mara.page.get_by_role("button", name="Create table").click()
    mara.wait_for_live()
    stranger.page.goto(server.url)
    stranger.page.get_by_label("Your name at the table").fill("Wen")
    stranger.page.get_by_role("button", name="Sit down at Harbour of Thieves").click()
    stranger.wait_for_live()
    mara.page.get_by_role("button", name="Table menu").click()
    mara.page.get_by_role("menuitem", name="To the lobby").click()
    mara.create_table(server.url, "Mara", "Closed doors")
    stranger.page.goto(mara.page.url)
    expect(stranger.page.get_by_text("There is no table for you at this address.")).to_be_visible()


def test_everything_works_under_a_path_of_a_proxy(tmp_path: Path, sit: Sit) -> None:
    mara, ilse = sit(), sit()
    with running(tmp_path, BASE_PATH="/games/", LIMIT_SESSIONS="0") as server:
        mara.create_table(f"{server.url}/games/", "Mara", "Inside")
        assert "/games/r/" in mara.page.url
        link = mara.invite_link()
        ilse.sit_down(link, "Ilse")
        ilse.say("hello")
        expect(mara.page.get_by_text("hello")).to_be_visible()


def test_a_page_that_loses_its_session_asks_for_a_name(server: ServerProcess, sit: Sit) -> None:
    mara = sit()
    mara.create_table(server.url, "Mara", "Gone")
    token = next(
        cookie["value"]
        for cookie in mara.page.context.cookies()
        if cookie.get("name") == "tableforge_session"
    )
    assert token not in json.dumps(mara.page.evaluate("() => [document.cookie, {...localStorage}]"))
    mara.page.evaluate("() => fetch('api/session', { method: 'DELETE' }).then(() => null)")
    expect(mara.page.get_by_label("Your name at the table")).to_be_visible()
