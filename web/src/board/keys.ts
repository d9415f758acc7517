/** Keys of the board: on the canvas for what is chosen, in the parallel list for the piece whose button has the focus. */
import type { Tool } from "../room/board_port";
import type { Point } from "../protocol/types";
import type { Board } from "./board";
import { hide, nudge, remove, turn } from "./deeds";
import { distance, inCells, step } from "./grid";
import { middleOf } from "./hit";

const ARROWS: Readonly<Record<string, readonly [-1 | 0 | 1, -1 | 0 | 1]>> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};
const TOOLS: Readonly<Record<string, Tool>> = { v: "select", h: "pan", m: "measure", d: "draw" };
const TURN_DEGREES = 15;
/** Holding an arrow moves this often at most: each step is a command of its own. */
const REPEAT_MS = 80;

export function listenToKeys(board: Board): () => void {
  const keys = new Keys(board);
  const ending = new AbortController();
  const { signal } = ending;
  // on the document, so that the board hears them before the page around it does
  document.addEventListener("keydown", (event) => keys.down(event), { signal });
  document.addEventListener("keyup", (event) => keys.up(event), { signal });
  window.addEventListener("blur", () => keys.releaseSpace(), { signal });
  return () => ending.abort();
}

class Keys {
  /** The keyboard's own ruler, from a piece to wherever the arrows lead. */
  private way: { from: Point; to: Point } | null = null;
  private steppedAt = 0;

  constructor(private readonly board: Board) {}

  down(event: KeyboardEvent): void {
    if (event.defaultPrevented || !this.concernsBoard(event.target)) return;
    if (this.handle(event)) event.preventDefault();
  }

  up(event: KeyboardEvent): void {
    if (event.key === " ") this.releaseSpace();
  }

  releaseSpace(): void {
    const { hands } = this.board;
    if (!hands.space) return;
    hands.space = false;
    hands.refreshCursor();
  }

  /** Only where no other part of the page waits for keys. */
  private concernsBoard(target: EventTarget | null): boolean {
    return target === document.body || (target instanceof Node && this.board.host.contains(target));
  }

  /** The pieces a key speaks of: the focused one, else the chosen ones. */
  private get ids(): string[] {
    const { focusedPiece, port } = this.board;
    return focusedPiece === null ? [...port.selection] : [focusedPiece];
  }

  /** True when the key meant something here. */
  private handle(event: KeyboardEvent): boolean {
    const { board } = this;
    const { hands } = board;
    if (event.key === "Escape") return this.escape();
    if (event.ctrlKey || event.metaKey) return false;
    const arrow = ARROWS[event.key];
    if (arrow) return this.arrow(arrow[0], arrow[1], event);
    switch (event.key) {
      case " ":
        return this.spaceDown(event);
      case "Delete":
      case "Backspace":
        remove(board, this.ids);
        return this.ids.length > 0;
      default:
        break;
    }
    if (event.altKey) return false;
    const key = event.key.toLowerCase();
    switch (key) {
      case "q":
      case "e":
        turn(board, this.ids, key === "q" ? -TURN_DEGREES : TURN_DEGREES);
        return this.ids.length > 0;
      case "x":
        hide(board, this.ids);
        return this.ids.length > 0;
      case "p":
        return this.ping();
      default:
        break;
    }
    if (key === "m" && board.focusedPiece !== null) return this.measureFrom(board.focusedPiece);
    const tool = TOOLS[key];
    if (tool === undefined || event.repeat) return false;
    hands.cancel();
    board.hooks.tool(tool);
    return true;
  }

  private escape(): boolean {
    const { board } = this;
    if (this.way) {
      this.endWay();
      return true;
    }
    if (board.hands.busy !== "idle") {
      board.hands.cancel();
      return true;
    }
    if (board.port.selection.size === 0) return false;
    board.port.select([]);
    return true;
  }

  private arrow(dx: -1 | 0 | 1, dy: -1 | 0 | 1, event: KeyboardEvent): boolean {
    const { board } = this;
    if (this.way) {
      this.lengthen(dx, dy);
      return true;
    }
    const { ids } = this;
    if (ids.length === 0) return false;
    const now = performance.now();
    if (event.repeat && now - this.steppedAt < REPEAT_MS) return true;
    this.steppedAt = now;
    if (!nudge(board, ids, dx, dy, event.altKey) && !event.repeat) board.hooks.say(this.whyNot(ids));
    return true;
  }

  private whyNot(ids: readonly string[]): string {
    const token = this.board.pieces.token(ids[0] ?? "");
    if (!token) return "";
    return token.locked ? `${token.name} is locked.` : `${token.name} is not yours to move.`;
  }

  private spaceDown(event: KeyboardEvent): boolean {
    const { hands } = this.board;
    if (event.target instanceof HTMLButtonElement) return false;
    if (hands.busy === "measuring") {
      if (!event.repeat) hands.run(hands.gestures.feed({ type: "waypoint" }));
      return true;
    }
    hands.space = true;
    hands.refreshCursor();
    return true;
  }

  private ping(): boolean {
    const { board } = this;
    const focused = board.focusedPiece === null ? null : board.pieces.token(board.focusedPiece);
    const at = focused ? middleOf(focused) : board.hands.pointed;
    if (at) board.hands.ping(at);
    else board.hooks.tool("ping");
    return true;
  }

  /** M on a piece's button: arrows then measure from it, and the length is spoken. */
  private measureFrom(id: string): boolean {
    const token = this.board.pieces.token(id);
    if (!token) return false;
    if (this.way) {
      this.endWay();
      return true;
    }
    const from = middleOf(token);
    this.way = { from, to: from };
    this.board.hooks.say(`Measuring from ${token.name}. Arrow keys lengthen, Escape ends.`);
    return true;
  }

  private lengthen(dx: -1 | 0 | 1, dy: -1 | 0 | 1): void {
    const { board, way } = this;
    if (!way) return;
    const by = step(board.grid, way.to, dx, dy);
    way.to = { x: way.to.x + by.x, y: way.to.y + by.y };
    board.hands.showWay([way.from, way.to]);
    board.hooks.say(inCells(distance(board.grid, way.from, way.to)));
  }

  private endWay(): void {
    this.way = null;
    this.board.hands.showWay(null);
  }
}
