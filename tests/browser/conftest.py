"""People in browsers: real Chromium, the real client, a real server."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, WebSocket, sync_playwright

from tests.server_process import ServerProcess, running

CLIENT = Path(__file__).parents[2] / "src/tableforge/web/static/index.html"
FLAGS = (
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-gpu",
    "--enable-unsafe-swiftshader",
)
"""Pages are put together without a GPU, which is quick; the board still has WebGL, drawn in software."""
PATIENCE_MS = 30_000
DESK = (1440, 900)
EXPECTED = ("status of 4", "ERR_CONNECTION", "WebSocket connection to")
"""Lines of the console that belong to the journeys: what the server refuses, and a server that is down."""


@dataclass
class Seat:
    """One person's browser: the page, every frame that came over its socket, and every mistake it reported."""

    page: Page
    frames: list[str] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)

    def listen(self) -> None:
        """Note what comes over the line and what goes wrong."""
        self.page.on("websocket", self._listen_to)
        self.page.on("pageerror", lambda error: self.mistakes.append(str(error)))
        self.page.on("console", self._note)

    def _listen_to(self, socket: WebSocket) -> None:
        socket.on("framereceived", lambda frame: self.frames.append(str(frame)))

    def _note(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not any(word in message.text for word in EXPECTED):
            self.mistakes.append(message.text)

    def create_table(self, url: str, name: str, table: str) -> None:
        """From the lobby to a new table."""
        self.page.goto(url)
        self.page.get_by_label("Your name at the table").fill(name)
        self.page.get_by_label("New table").fill(table)
        self.page.get_by_role("button", name="Create table").click()
        self.wait_for_live()

    def sit_down(self, link: str, name: str) -> None:
        """From a link to a seat: the link asks for a name and nothing else."""
        self.page.goto(link)
        self.page.get_by_label("Your name at the table").fill(name)
        self.page.get_by_role("button", name="Sit down").click()
        self.wait_for_live()

    def wait_for_live(self) -> None:
        """The plate says that the table is there and everything saved."""
        self.page.get_by_text("Live, all saved").wait_for()

    def invite_link(self, role: str = "Player") -> str:
        """Make a link as a GM does."""
        self.page.get_by_role("button", name="Invite").click()
        self.page.get_by_role("radio", name=role, exact=True).click()
        link = self.page.get_by_label("Link", exact=True)
        self.page.wait_for_function(
            "() => document.querySelector('dialog input')?.value.includes('#')"
        )
        made = link.input_value()
        self.page.keyboard.press("Escape")
        return made

    def add_piece(self, name: str) -> None:
        """Put a piece on the board."""
        self.page.get_by_role("button", name="Add a piece").click()
        self.page.get_by_label("Name", exact=True).fill(name)
        self.page.get_by_role("button", name="Put on the board").click()
        self.wait_for_piece(name)

    def wait_for_piece(self, name: str) -> None:
        """The piece is in the parallel list of the board."""
        self.page.get_by_role("button", name=name).first.wait_for(state="attached")

    def choose(self, name: str) -> tuple[float, float]:
        """Choose a piece by keyboard; where its middle is in the window, told by the bar above it."""
        self.page.get_by_role("button", name=name).first.press("Enter")
        bar = self.page.get_by_role("toolbar", name=name)
        bar.wait_for()
        box = bar.bounding_box()
        assert box is not None
        return box["x"] + box["width"] / 2, box["y"] + box["height"] + 30

    def place_of(self, name: str) -> tuple[float, float]:
        """Where the piece stands, in cells."""
        piece = self.page.get_by_role("button", name=name).first
        x, y = piece.get_attribute("data-x"), piece.get_attribute("data-y")
        assert x is not None
        assert y is not None
        return float(x), float(y)

    def wait_for_place(self, name: str, place: tuple[float, float]) -> None:
        """The piece has come to a place."""
        self.page.wait_for_function(
            """([name, x, y]) => [...document.querySelectorAll('[data-token]')].some((piece) =>
                piece.textContent.trim().startsWith(name) && Number(piece.dataset.x) === x
                && Number(piece.dataset.y) === y)""",
            arg=[name, *place],
        )

    def say(self, line: str) -> None:
        """Type a line into the chat."""
        self.page.get_by_label("Say something").fill(line)
        self.page.get_by_label("Say something").press("Enter")


Sit = Callable[..., Seat]


@pytest.fixture(scope="session")
def browser(chromium: Path) -> Iterator[Browser]:
    """One browser for all; every person gets a profile of their own in it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def sit(browser: Browser) -> Iterator[Sit]:
    """Opens a browser for one more person; at the end nobody's page may have reported a mistake."""
    seats: list[Seat] = []

    def open_one(
        size: tuple[int, int] = DESK, *, theme: str = "dark", less_motion: bool = True
    ) -> Seat:
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            reduced_motion="reduce" if less_motion else "no-preference",
        )
        context.set_default_timeout(PATIENCE_MS)
        context.add_init_script(f"localStorage.setItem('tableforge.theme', '{theme}')")
        seat = Seat(context.new_page())
        seat.listen()
        seats.append(seat)
        return seat

    yield open_one
    for seat in seats:
        seat.page.context.close()
    assert [seat.mistakes for seat in seats if seat.mistakes] == []


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with the built client."""
    if not CLIENT.exists():
        pytest.fail("The web client is not built: run `make packages`, or `make test`.")
    with running(tmp_path_factory.mktemp("server"), LIMIT_SESSIONS="0") as server:
        yield server
