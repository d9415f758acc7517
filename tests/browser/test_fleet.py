"""Two people at one table, each through another instance of a fleet, while one instance dies."""

import os
import signal
import time
from pathlib import Path

from tableforge.ops.servers import free_port
from tests.browser.conftest import Seat, Sit
from tests.fleet_trial import PATIENCE, Trial


def test_the_death_of_an_instance_is_a_moment_offline(tmp_path: Path, sit: Sit) -> None:
    trial = Trial(tmp_path / "fleet", free_port())
    mara, ilse = sit(), sit()
    with trial.running():
        mara.create_table(trial.url, "Mara", "The Salt Road")
        ilse.sit_down(mara.invite_link(), "Ilse")
        apart(trial, ilse)
        for seat, piece in ((mara, "Sable"), (mara, "Rook")):
            seat.add_piece(piece)
            ilse.wait_for_piece(piece)
        os.kill(trial.process_of("instance-1"), signal.SIGKILL)
        mara.add_piece("Heron")
        mara.say("did you see that")
        ilse.say("see what?")
        for seat, name in ((mara, "mara"), (ilse, "ilse")):
            seat.wait_for_piece("Heron")
            seat.page.get_by_text("did you see that").wait_for()
            seat.page.get_by_text("see what?").wait_for()
            seat.wait_for_live()
            seat.page.screenshot(path=tmp_path / f"{name}.png")
        x, y = ilse.place_of("Heron")
        mara.page.get_by_role("button", name="Heron").first.press("ArrowRight")
        ilse.wait_for_place("Heron", (x + 1, y))
        assert mara.page.locator("[data-token]").count() == 3, "each piece once"
        assert ilse.page.get_by_text("see what?").count() == 1


def apart(trial: Trial, seat: Seat) -> None:
    """Have two seats hang on two instances: whoever sits with the other comes in again."""
    deadline = time.monotonic() + PATIENCE
    while True:
        time.sleep(1.2)  # the registry tells of the last heartbeat
        carried = sorted(str(one["connections"]) for one in trial.instances())
        if carried == ["1", "1"]:
            return
        assert time.monotonic() < deadline, carried
        if carried == ["0", "2"]:
            seat.page.reload()
            seat.wait_for_live()
