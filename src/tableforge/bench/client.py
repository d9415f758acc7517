"""`tableforge bench client`: the web client in a real browser at a real server, while somebody else plays.

The browser has no window and, as a rule, no graphics card: a software renderer draws on the cores that the server needs as
well. So these figures are the worst case of a player's machine, and the report says what drew them.
"""

import shutil
import tempfile
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from random import Random
from secrets import token_hex
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from tableforge.bench.document import Axis, Kpi, Plot, Sample, Section, Series, Table, Target
from tableforge.bench.latency import Quantiles, distribution, quantiles
from tableforge.bench.machine import commit, machine
from tableforge.bench.process import measured
from tableforge.bench.websocket import NO_LIMITS, PERSISTENT_TEMPORARY
from tableforge.config import without_secrets
from tableforge.errors import StartRefused, TableForgeError, Unavailable
from tableforge.protocol.rest_client import RestClient

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

CHROMIUMS: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS: Final = (
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-gpu",
    "--enable-unsafe-swiftshader",
)
"""Those of the browser tests: nothing but the page is fetched, and WebGL is there without a graphics card."""
WINDOW: Final = (1440, 900)
PATIENCE_MS: Final = 30_000
COOKIE: Final = "tableforge_session"
BOARD: Final = (60, 40)
WALLS, LIGHTS = 60, 16
MOVES_A_SECOND: Final = 20.0
HANDS: Final = 8
"""Who put pieces on the board at the same time."""
IDLE_SECONDS: Final = 2.0
STILL_SECONDS: Final = 0.35
"""After a move the piece still glides for a while, and the board draws: the next move waits until it is still."""
MISSED_MS: Final = 5_000
MEBIBYTE: Final = 2**20

COLD: Final = Target("link opened to playable table, cold", "<", 3_000, "ms", "client", own=True)
WARM: Final = Target("link opened to playable table, warm", "<", 1_500, "ms", "client", own=True)
SEEN: Final = Target("move of another to picture changed, p95", "<", 100, "ms", "client", own=True)
HEAP: Final = Target("memory of the page's scripts", "<", 128, "MB", "client", own=True)

WATCH: Final = """() => {
  const watch = { frames: [], drawn: [] };
  window.benchWatch = watch;
  let last = 0;
  const tick = (now) => {
    if (last) watch.frames.push(now - last);
    last = now;
    requestAnimationFrame(tick);
  };
  requestAnimationFrame(tick);
  const note = () => watch.drawn.push(performance.timeOrigin + performance.now());
  for (const kind of [WebGL2RenderingContext, WebGLRenderingContext])
    for (const name of ["drawElements", "drawArrays", "drawElementsInstanced", "drawArraysInstanced"]) {
      const draw = kind.prototype[name];
      if (!draw) continue;
      kind.prototype[name] = function (...given) {
        note();
        return draw.apply(this, given);
      };
    }
}"""
"""Notes the time from frame to frame, and when the board hands anything to the renderer, which it does after a change only."""
PLAYABLE: Final = """(pieces) =>
  document.querySelectorAll("[data-token]").length >= pieces &&
  document.body.textContent.includes("Live, all saved") &&
  window.benchWatch.drawn.length > 0 && performance.now()"""
RENDERER: Final = """() => {
  const gl = document.createElement("canvas").getContext("webgl");
  const about = gl && gl.getExtension("WEBGL_debug_renderer_info");
  return about ? gl.getParameter(about.UNMASKED_RENDERER_WEBGL) : "none";
}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do. `pieces` on the board, one measurement each; `seconds` of each round of watching frames."""

    pieces: tuple[int, ...] = (100, 500, 1000)
    rounds: int = 3
    seconds: float = 2.0
    loads: int = 4
    moves: int = 36
    chromium: Path | None = None
    folder: Path | None = None
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def command(self) -> str:
        """The command that repeats it."""
        parts = ["tableforge bench client", f"--seconds {self.seconds:g}", f"--moves {self.moves}"]
        parts += [f"--chromium {self.chromium}"] if self.chromium else []
        parts += [f"--folder {self.folder}"] if self.folder else []
        shown = without_secrets(self.settings)
        return " ".join([*parts, *(f"--set {name}={value}" for name, value in shown.items())])


@dataclass(frozen=True, slots=True)
class Frames:
    """Times from one frame to the next with so many pieces, in ms, a tuple for each round."""

    pieces: int
    rounds: tuple[tuple[float, ...], ...]

    def quantiles(self) -> Quantiles:
        """Of all rounds."""
        return quantiles(_microseconds(value for one in self.rounds for value in one))

    def p95(self) -> tuple[float, ...]:
        """Of each round."""
        return tuple(quantiles(_microseconds(one)).p95_ms for one in self.rounds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a browser saw. Milliseconds; `seen` is from a move's sending to the first drawing after it."""

    plan: Plan
    commit: str
    machine: Mapping[str, str]
    browser: str
    renderer: str
    cold: tuple[float, ...]
    warm: tuple[float, ...]
    frames: tuple[Frames, ...]
    seen: tuple[float, ...]
    unseen: int
    heap_bytes: Mapping[int, int]
    complaints: tuple[str, ...]

    @property
    def software(self) -> bool:
        """Whether a processor draws in place of a graphics card."""
        return any(name in self.renderer for name in ("SwiftShader", "llvmpipe", "none"))

    @property
    def broken(self) -> tuple[str, ...]:
        """What must not be at any speed."""
        lost = f"{self.unseen} moves never changed the picture"
        said = (f"the page reported a mistake: {one}" for one in self.complaints)
        return ((lost,) if self.unseen else ()) + tuple(said)

    def as_json(self) -> dict[str, Any]:
        """The report as plain values."""
        plain: dict[str, Any] = asdict(self)
        plain["plan"] |= {
            "folder": str(self.plan.folder or ""),
            "chromium": str(self.plan.chromium or ""),
            "settings": without_secrets(self.plan.settings),
        }
        plain["heap_bytes"] = {str(pieces): size for pieces, size in self.heap_bytes.items()}
        return {"bench": "client", **plain, "failed": bool(self.broken)}

    def kpis(self) -> Iterator[Kpi]:
        """All are the bench's own targets."""
        command = self.plan.command
        yield COLD.judged(median(self.cold), command)
        yield WARM.judged(median(self.warm), command)
        for one in self.frames:
            name = f"frame p95 at {one.pieces} pieces, others moving"
            target = Target(name, "<", 33.4, "ms", "client", own=True)
            why = "drawn by a software renderer" if self.software else ""
            yield target.judged(one.quantiles().p95_ms, command, why)
        yield SEEN.judged(self._seen().p95_ms if self.seen else None, command)
        yield HEAP.judged(max(self.heap_bytes.values()) / MEBIBYTE, command)

    def _seen(self) -> Quantiles:
        return quantiles(_microseconds(self.seen))

    def samples(self) -> Iterator[Sample]:
        """What a comparison looks at."""
        yield Sample("client.cold", "ms", "lower", self.cold, 0.4)
        yield Sample("client.warm", "ms", "lower", self.warm, 0.4)
        for one in self.frames:
            yield Sample(f"client.frame_p95_{one.pieces}", "ms", "lower", one.p95(), 0.5)
        third = max(1, len(self.seen) // 3)
        parts = (self.seen[at : at + third] for at in range(0, third * 3, third))
        yield Sample("client.seen_p50", "ms", "lower", tuple(median(one) for one in parts if one))

    def plots(self) -> Iterator[Plot]:
        """Frames, and how long a move takes to be seen."""
        found = [one.quantiles() for one in self.frames]
        yield Plot(
            name="client.frames",
            title="Time of a frame while others move",
            kind="bars",
            x=Axis("pieces", ""),
            y=Axis("from frame to frame", "ms"),
            series=(
                Series("p50", tuple((at, one.p50_ms) for at, one in enumerate(found))),
                Series("p95", tuple((at, one.p95_ms) for at, one in enumerate(found))),
                Series("30 a second", tuple((at, 33.3) for at in range(len(found))), "ideal"),
            ),
            labels=tuple(f"{one.pieces} pieces" for one in self.frames),
            note=f"{MOVES_A_SECOND:g} moves a second, {WALLS} walls and {LIGHTS} lights. "
            + self._drawn_by(),
        )
        yield Plot(
            name="client.distribution",
            title="Frames, the slow ones",
            kind="line",
            x=Axis("1 / (1 - quantile)", "", log=True),
            y=Axis("from frame to frame", "ms", log=True),
            series=tuple(
                Series(
                    f"{one.pieces} pieces",
                    distribution(_microseconds(value for part in one.rounds for value in part)),
                )
                for one in self.frames
            ),
        )
        yield Plot(
            name="client.seen",
            title="From another's move to the picture",
            kind="line",
            x=Axis("1 / (1 - quantile)", "", log=True),
            y=Axis("latency", "ms"),
            series=(Series("sent to drawn", distribution(_microseconds(self.seen))),),
            note=f"With {self.frames[-1].pieces} pieces; durable before it is sent on.",
        )
        yield Plot(
            name="client.loads",
            title="From the link to a table to play at",
            kind="bars",
            x=Axis("load", ""),
            y=Axis("time", "ms"),
            series=(
                Series("cold", tuple(enumerate(self.cold))),
                Series("warm", tuple(enumerate(self.warm))),
            ),
            labels=tuple(f"load {number + 1}" for number in range(len(self.cold))),
            note="Cold: a browser that was never here. Warm: the same one again.",
        )

    def _drawn_by(self) -> str:
        if self.software:
            return f"A software renderer draws here ({self.renderer}); a graphics card is quicker."
        return f"Drawn by {self.renderer}."

    def table(self) -> Table:
        """A line for each number of pieces."""
        rows = (
            (
                str(one.pieces),
                str(found.count),
                f"{found.p50_ms:.1f}",
                f"{found.p95_ms:.1f}",
                f"{found.p99_ms:.1f}",
                f"{found.max_ms:.1f}",
                f"{self.heap_bytes[one.pieces] / MEBIBYTE:.1f}",
            )
            for one in self.frames
            for found in (one.quantiles(),)
        )
        columns = ("pieces", "frames", "p50 ms", "p95 ms", "p99 ms", "max ms", "heap MB")
        return Table("Frames while others move", columns, tuple(rows))

    def section(self) -> Section:
        """All of it in the shape of the one report."""
        return Section(
            bench="client",
            title="Web client",
            command=self.plan.command,
            settings={
                "browser": self.browser,
                "renderer": self.renderer,
                "window": f"{WINDOW[0]} × {WINDOW[1]}",
                **without_secrets(self.plan.settings),
            },
            kpis=tuple(self.kpis()),
            samples=tuple(self.samples()),
            plots=tuple(self.plots()),
            tables=(self.table(),),
            notes=(
                self._drawn_by() + " Browser, renderer and server share the machine's cores.",
                "Playable: all pieces are listed, the board has drawn, and the line says that all is saved."
                " Seen: the board handed a changed picture to the renderer; the screen shows it a frame later.",
            ),
            figures=self.as_json(),
            broken=self.broken,
        )

    def text(self) -> str:
        """The report as a person reads it."""
        lines = [self.plan.command, f"commit {self.commit}; {self.browser}; {self._drawn_by()}", ""]
        lines += [f"  {one.name:48}{one.measured:>12}   {one.target}" for one in self.kpis()]
        table = self.table()
        lines += ["", "  ".join(f"{name:>8}" for name in table.columns)]
        lines += ["  ".join(f"{cell:>8}" for cell in row) for row in table.rows]
        return "\n".join([*lines, *(f"BROKEN: {one}" for one in self.broken)])


def _microseconds(milliseconds: Iterator[float] | Sequence[float]) -> "array[int]":
    return array("Q", (max(1, round(1000 * value)) for value in milliseconds))


def run(plan: Plan, *, progress: Callable[[str], None]) -> Report:
    """Measure; raises StartRefused where there is no browser to measure with, Unavailable when it or the server fails."""
    if find_spec("playwright") is None:
        raise StartRefused(
            "Nothing was measured.",
            "The client is measured by playwright, which is not installed.",
            "Install tableforge[bench] and a Chromium.",
        )
    from playwright.sync_api import Error, sync_playwright

    program = chromium(plan.chromium)
    parent = plan.folder or (PERSISTENT_TEMPORARY if PERSISTENT_TEMPORARY.is_dir() else None)
    folder = Path(tempfile.mkdtemp(prefix="tableforge-bench-", dir=parent))
    settings = {"PORT": "0", "TABLEFORGE_DATA": str(folder / "data"), **NO_LIMITS}
    try:
        with (
            measured(
                "tableforge",
                ["serve"],
                folder=folder,
                environment={**settings, **plan.settings},
                core=None,
                marker="http://",
            ) as server,
            sync_playwright() as playwright,
        ):
            browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
            try:
                return Run(plan, browser, server.address, progress).whole(folder)
            finally:
                browser.close()
    except Error as error:
        raise Unavailable(
            "The client was not measured.",
            f"The browser gave up: {error.message.splitlines()[0]}",
            f"Look whether {program} runs on this machine.",
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def chromium(given: Path | None) -> Path:
    """The browser to measure with; raises StartRefused where there is none."""
    found = (shutil.which(str(name)) for name in ([given] if given else CHROMIUMS))
    program = next((one for one in found if one), None)
    if program is None:
        raise StartRefused(
            "Nothing was measured.",
            f"{given} is no program." if given else "There is no Chromium on the PATH.",
            "Install Chromium or Google Chrome, or name one with --chromium.",
        )
    return Path(program)


class Run:
    """One measurement: a table, the one who moves, and the one who looks."""

    def __init__(
        self, plan: Plan, browser: "Browser", address: str, progress: Callable[[str], None]
    ) -> None:
        self._plan = plan
        self._browser = browser
        self._say = progress
        self._address = address.rstrip("/")
        self._caller = RestClient(address)
        self._chance = Random(1)  # noqa: S311 - places of pieces, the same in every run
        self._used = time.monotonic()
        self._complaints: list[str] = []
        self._token = self._session("Mara")
        made = self._caller.call("POST", "/api/rooms", {"name": "Bench"}, token=self._token)
        self._room = made["id"]
        self._link = f"{self._address}/r/{self._room}#{made['invite']}"
        self._pieces: list[str] = []

    def whole(self, folder: Path) -> Report:
        """Lay the table, open it, watch it, one after the other."""
        plan = self._plan
        self._lay_board()
        self._put(plan.pieces[0])
        cold, warm = self._loads()
        with self._looking() as (page, context, _):
            renderer = page.evaluate(RENDERER)
            devtools = context.new_cdp_session(page)
            frames: list[Frames] = []
            heap: dict[int, int] = {}
            for pieces in plan.pieces:
                self._put(pieces)
                page.wait_for_function(PLAYABLE, arg=pieces)
                self._say(f"Watching frames with {pieces} pieces ...")
                frames.append(Frames(pieces, self._frames(page)))
                devtools.send("HeapProfiler.collectGarbage")
                heap[pieces] = devtools.send("Runtime.getHeapUsage")["usedSize"]
            self._say("Waiting for moves to be seen ...")
            seen, unseen = self._seen(page)
        self._caller.close()
        return Report(
            plan=plan,
            commit=commit(),
            machine=machine(folder),
            browser=f"Chromium {self._browser.version}, no window",
            renderer=renderer,
            cold=cold,
            warm=warm,
            frames=tuple(frames),
            seen=seen,
            unseen=unseen,
            heap_bytes=heap,
            complaints=tuple(self._complaints),
        )

    # The table

    def _session(self, name: str) -> str:
        token: str = self._fresh().call("POST", "/api/session", {"name": name})["token"]
        return token

    def _command(self, type_: str, **body: Any) -> Any:
        return self._send(self._fresh(), type_, body)

    def _fresh(self) -> RestClient:
        """The caller, to connect anew where the server may have let go of a connection that lay idle."""
        now = time.monotonic()
        if now - self._used > IDLE_SECONDS:
            self._caller.close()
        self._used = now
        return self._caller

    def _send(self, caller: RestClient, type_: str, body: Mapping[str, Any]) -> Any:
        command = {"room": self._room, "id": token_hex(8), "type": type_, **body}
        path = f"/api/rooms/{self._room}/commands"
        return caller.call("POST", path, command, token=self._token)

    def _place(self) -> dict[str, float]:
        return {
            "x": float(self._chance.randrange(BOARD[0])),
            "y": float(self._chance.randrange(BOARD[1])),
        }

    def _lay_board(self) -> None:
        grid = {"type": "square"}
        made = self._command(
            "scene.create", name="Hall", width=BOARD[0], height=BOARD[1], grid=grid
        )
        self._command("scene.activate", scene=made["result"]["id"])
        for _ in range(WALLS):
            at = self._place()
            other = {"x": at["x"] + self._chance.randrange(1, 6), "y": at["y"]}
            self._command("wall.set", points=[at, other])
        for _ in range(LIGHTS):
            self._command("light.set", **self._place(), range=6, color="#ffd08a", intensity=0.6)

    def _put(self, pieces: int) -> None:
        """Bring the board to so many pieces, several at a time."""
        bodies = [
            {"name": f"Piece {number + 1}", **self._place()}
            for number in range(len(self._pieces), pieces)
        ]
        with ThreadPoolExecutor(HANDS) as hands:
            shares = (bodies[hand::HANDS] for hand in range(HANDS))
            for found in hands.map(self._added, shares):
                self._pieces += found

    def _added(self, bodies: Sequence[Mapping[str, Any]]) -> list[str]:
        caller = RestClient(self._address)
        try:
            return [self._send(caller, "token.add", body)["result"]["id"] for body in bodies]
        finally:
            caller.close()

    # The one who looks

    @contextmanager
    def _looking(self) -> "Iterator[tuple[Page, BrowserContext, float]]":
        """A browser that was never here, with a session, at the table; and how long it took to get there."""
        context = self._browser.new_context(
            viewport={"width": WINDOW[0], "height": WINDOW[1]}, reduced_motion="no-preference"
        )
        try:
            context.set_default_timeout(PATIENCE_MS)
            context.add_init_script(f"({WATCH})()")
            cookie = {"name": COOKIE, "value": self._session("Ilse"), "url": self._address}
            context.add_cookies([cookie])  # type: ignore[list-item]  # a TypedDict of playwright's own
            page = context.new_page()
            page.on("pageerror", lambda error: self._complaints.append(str(error)))
            opened = self._open(page)
            yield page, context, opened
        finally:
            context.close()

    def _open(self, page: "Page") -> float:
        page.goto(self._link, wait_until="commit")
        found = page.wait_for_function(PLAYABLE, arg=len(self._pieces), polling="raf")
        return float(found.json_value())

    def _loads(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        cold: list[float] = []
        warm: list[float] = []
        for number in range(self._plan.loads):
            self._say(f"Opening the link, {number + 1} of {self._plan.loads} ...")
            with self._looking() as (page, _, opened):
                cold.append(opened)
                page.goto("about:blank")
                warm.append(self._open(page))
        return tuple(cold), tuple(warm)

    def _frames(self, page: "Page") -> tuple[tuple[float, ...], ...]:
        rounds: list[tuple[float, ...]] = []
        with self._moving():
            for _ in range(self._plan.rounds):
                page.evaluate("() => { window.benchWatch.frames.length = 0; }")
                page.wait_for_timeout(1000 * self._plan.seconds)
                rounds.append(tuple(page.evaluate("() => window.benchWatch.frames")))
        return tuple(rounds)

    @contextmanager
    def _moving(self) -> Iterator[None]:
        """Somebody moves a piece after the other, each at its time, until the block ends."""
        over = threading.Event()
        failed: list[TableForgeError] = []

        def move() -> None:
            caller = RestClient(self._address)
            due = time.monotonic()
            try:
                while not over.wait(max(0.0, due - time.monotonic())):
                    piece = self._chance.choice(self._pieces)
                    self._send(caller, "token.move", {"token": piece, **self._place()})
                    due += 1 / MOVES_A_SECOND
            except TableForgeError as error:
                failed.append(error)
            finally:
                caller.close()

        mover = threading.Thread(target=move, name="mover")
        mover.start()
        try:
            yield
        finally:
            over.set()
            mover.join()
        if failed:
            raise failed[0]

    def _seen(self, page: "Page") -> tuple[tuple[float, ...], int]:
        """Single moves on a board that stands still, each from its sending to the first drawing after it."""
        found: list[float] = []
        unseen = 0
        for number in range(self._plan.moves):
            page.wait_for_function(
                """(still) => performance.timeOrigin + performance.now()
                    - (window.benchWatch.drawn.at(-1) ?? 0) > still""",
                arg=1000 * STILL_SECONDS,
            )
            page.evaluate("() => { window.benchWatch.drawn.length = 0; }")
            # The page's clock and ours are the machine's.
            sent = 1000 * time.time()
            piece = self._pieces[number % len(self._pieces)]
            self._command("token.move", token=piece, x=BOARD[0] / 2, y=number % BOARD[1])
            try:
                drawn = page.wait_for_function(
                    "() => window.benchWatch.drawn[0]", polling=10, timeout=MISSED_MS
                )
            except _timeout():
                unseen += 1
                continue
            found.append(float(drawn.json_value()) - sent)
        return tuple(found), unseen


def _timeout() -> type[Exception]:
    from playwright.sync_api import TimeoutError as PlaywrightTimeout

    return PlaywrightTimeout
