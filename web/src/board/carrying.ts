/** Pieces in the hand: they follow the pointer, show where they will land, and let the others see them on the way. */
import type { Move } from "../room/board_port";
import type { Point } from "../protocol/types";
import type { Board } from "./board";
import { toBoard, type Box, type Size } from "./camera";
import type { Handle } from "./gestures";
import { distance, tidy } from "./grid";
import { pulled, turnedTo } from "./handles";
import { brief, SIGNAL_MS, Throttle, type Place } from "./motion";

/** While pieces are held still the others are told again, so that they keep the preview. */
const HELD_AGAIN_MS = 1500;
/** More pieces than this are carried without a preview: the others see them land. */
const PREVIEW_MAX = 100;
/** So many landing places are shown. */
const LANDINGS_MAX = 12;

interface Load {
  readonly lead: string;
  readonly grabbed: Point;
  readonly from: ReadonlyMap<string, Place & Size>;
  /** Where each will land. */
  moves: Move[];
}

export class Carrying {
  private load: Load | null = null;
  private again: ReturnType<typeof setInterval> | null = null;
  /** The others were told something that must end. */
  private told = false;
  private readonly tellers: Throttle<readonly Move[]>;

  constructor(private readonly board: Board) {
    this.tellers = new Throttle(SIGNAL_MS, (moves) => this.send(moves));
  }

  /** The piece under the pointer; null when nothing is carried. */
  get lead(): string | null {
    return this.load?.lead ?? null;
  }

  /** Boxes in pixels where the pieces will land. */
  get landing(): Box[] {
    const { load } = this;
    if (!load) return [];
    return load.moves.slice(0, LANDINGS_MAX).flatMap(({ token, x, y }) => {
      const size = load.from.get(token);
      return size ? [this.board.lens.onScreen({ x, y, width: size.width, height: size.height })] : [];
    });
  }

  /** Take up this piece, and with it all chosen ones if it is chosen. */
  lift(token: string, at: Point): void {
    const { port, pieces, lens } = this.board;
    const ids = port.selection.has(token) ? [...port.selection] : [token];
    const from = new Map<string, Place & Size>();
    for (const id of ids) {
      const one = pieces.token(id);
      const shown = pieces.shownBox(id);
      if (one && shown && port.mayMove(one)) from.set(id, shown);
    }
    if (!from.has(token)) return;
    this.load = { lead: token, grabbed: toBoard(lens.view, at), from, moves: [] };
    this.again = setInterval(() => this.tell(), HELD_AGAIN_MS);
  }

  moveTo(at: Point, free: boolean): void {
    const { load, board } = this;
    const lead = load?.from.get(load.lead);
    if (!load || !lead) return;
    const to = toBoard(board.lens.view, at);
    const dx = to.x - load.grabbed.x;
    const dy = to.y - load.grabbed.y;
    for (const [id, { x, y, rotation }] of load.from) board.pieces.hold(id, { x: x + dx, y: y + dy, rotation });
    // the piece under the pointer snaps; the others keep their places around it
    const landed = board.snapped({ x: lead.x + dx, y: lead.y + dy }, lead, free);
    load.moves = [...load.from].map(([token, { x, y }]) => ({
      token,
      x: tidy(x + landed.x - lead.x),
      y: tidy(y + landed.y - lead.y),
    }));
    const a = { x: lead.x + lead.width / 2, y: lead.y + lead.height / 2 };
    const b = { x: landed.x + lead.width / 2, y: landed.y + lead.height / 2 };
    this.showWay(distance(board.grid, a, b) > 0 ? [a, b] : [], Math.max(0, lead.height / 2 - 0.1));
    this.tell();
  }

  drop(): void {
    const { load, board } = this;
    if (!load) return;
    const moves = load.moves.filter(({ token, x, y }) => {
      const from = load.from.get(token);
      return from !== undefined && (Math.abs(from.x - x) > 1e-6 || Math.abs(from.y - y) > 1e-6);
    });
    this.end();
    const done = moves.length > 0 ? board.move(moves) : Promise.resolve();
    board.release([...load.from.keys()], board.palette.fastMs);
    // the others' preview stays until the move itself has reached them
    void done.finally(() => this.endPreview());
  }

  putBack(): void {
    const { load, board } = this;
    if (!load) return;
    this.end();
    board.release([...load.from.keys()], board.palette.glideMs);
    this.endPreview();
  }

  close(): void {
    if (this.again !== null) clearInterval(this.again);
    this.tellers.close();
  }

  private end(): void {
    this.load = null;
    this.tellers.drop();
    if (this.again !== null) clearInterval(this.again);
    this.again = null;
    this.showWay([]);
  }

  private showWay(points: readonly Point[], clear = 0): void {
    this.board.rulers.set("me", points, this.board.palette.of.select, performance.now(), clear);
  }

  private tell(): void {
    const { load } = this;
    if (!load) return;
    const { pieces } = this.board;
    // what the others do not see is not spoken of
    const open = [...load.from.keys()].filter((id) => {
      const token = pieces.token(id);
      return token !== null && !token.hidden && token.layer !== "gm";
    });
    if (open.length === 0 || open.length > PREVIEW_MAX) return;
    const moves = open.flatMap((token) => {
      const shown = pieces.shownBox(token);
      return shown ? [{ token, x: brief(shown.x), y: brief(shown.y) }] : [];
    });
    this.told = true;
    this.tellers.offer(moves);
  }

  private endPreview(): void {
    if (this.load !== null || !this.told) return;
    this.told = false;
    this.send([]);
  }

  private send(moves: readonly Move[]): void {
    const { port } = this.board;
    if (port.scene) port.live.send({ type: "drag", scene: port.scene.id, moves: [...moves] });
  }
}

/** A handle in the hand: the piece turns or grows, and is asked for when let go. */
export class Pulling {
  private pull: {
    readonly token: string;
    readonly handle: Handle;
    readonly from: Box & { rotation: number };
    to: (Box & { rotation: number }) | null;
  } | null = null;

  constructor(private readonly board: Board) {}

  get token(): string | null {
    return this.pull?.token ?? null;
  }

  get handle(): Handle | null {
    return this.pull?.handle ?? null;
  }

  grab(token: string, handle: Handle): void {
    const from = this.board.pieces.shownBox(token);
    if (from) this.pull = { token, handle, from, to: null };
  }

  moveTo(at: Point, free: boolean): void {
    const { pull, board } = this;
    if (!pull) return;
    const to = toBoard(board.lens.view, at);
    const { from, handle } = pull;
    const loose = free || !board.snapping;
    if (handle === "turn") {
      const middle = { x: from.x + from.width / 2, y: from.y + from.height / 2 };
      pull.to = { ...from, rotation: turnedTo(middle, to, loose) };
    } else pull.to = { ...pulled(from, handle, to, loose), rotation: from.rotation };
    board.pieces.hold(pull.token, pull.to, { width: pull.to.width, height: pull.to.height });
  }

  letGo(): void {
    const { pull, board } = this;
    this.pull = null;
    if (!pull) return;
    const { token, from, to } = pull;
    const back = (): void => board.release([token], board.palette.fastMs);
    if (!to) {
      back();
      return;
    }
    const { x, y, width, height, rotation } = to;
    if (width !== from.width || height !== from.height) {
      // the list shows a new size only once it is agreed: hold on until then
      void board.port.updateToken(token, { x, y, width, height }).finally(back);
      return;
    }
    if (rotation !== from.rotation) void board.move([{ token, x, y, rotation }]);
    back();
  }

  putBack(): void {
    const { pull, board } = this;
    this.pull = null;
    if (pull) board.release([pull.token], board.palette.glideMs);
  }
}
