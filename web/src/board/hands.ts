/** Carries out what gestures mean: choosing, carrying, pulling, measuring, drawing, pinging. */
import type { Point } from "../protocol/types";
import type { Board } from "./board";
import { Carrying, Pulling } from "./carrying";
import { panBy, toBoard, zoomTo, type Box } from "./camera";
import { Gestures, type Act, type Handle, type Target } from "./gestures";
import { cellMiddle } from "./grid";
import { frameOf, handleAt, hasHandles } from "./handles";
import { boxBetween, pieceAt, piecesIn, touches } from "./hit";
import { brief, SIGNAL_MS, Throttle } from "./motion";
import { Sketching } from "./sketching";

export class Hands {
  readonly gestures: Gestures;
  readonly sketching: Sketching;
  /** The selection frame, in pixels. */
  frame: Box | null = null;
  /** Space is held. */
  space = false;
  private readonly carrying: Carrying;
  private readonly pulling: Pulling;
  private way: Point[] | null = null;
  private pointer: Point | null = null;
  private readonly tellCursor: Throttle<Point>;
  private readonly tellWay: Throttle<readonly Point[]>;

  constructor(private readonly board: Board) {
    this.gestures = new Gestures(() => ({ tool: board.tool, space: this.space }));
    this.carrying = new Carrying(board);
    this.pulling = new Pulling(board);
    this.sketching = new Sketching(board);
    const { port } = board;
    this.tellCursor = new Throttle(SIGNAL_MS, ({ x, y }) => {
      if (port.scene) port.live.send({ type: "cursor", scene: port.scene.id, x: brief(x), y: brief(y) });
    });
    this.tellWay = new Throttle(SIGNAL_MS, (points) => {
      const told = points.map(({ x, y }) => ({ x: brief(x), y: brief(y) }));
      if (port.scene) port.live.send({ type: "measure", scene: port.scene.id, points: told });
    });
  }

  get busy(): string {
    return this.gestures.doing;
  }

  get landing(): Box[] {
    return this.carrying.landing;
  }

  close(): void {
    this.carrying.close();
    this.tellCursor.close();
    this.tellWay.close();
  }

  /** What lies under a point of the board element; fingers are given more room. */
  targetAt(at: Point, coarse: boolean): Target {
    const { port, pieces, lens, tool } = this.board;
    const handle = tool === "select" ? this.handleAt(at, coarse ? 18 : 8) : null;
    if (handle) return handle;
    const slack = (coarse ? 14 : 3) / (lens.view.zoom * 60);
    const token = pieceAt(pieces.stackedTokens, toBoard(lens.view, at), slack);
    if (!token) return { on: "empty" };
    return { on: "piece", token: token.id, movable: port.mayMove(token), chosen: port.selection.has(token.id) };
  }

  /** A handle of the one chosen piece; its coin itself wins over them. */
  private handleAt(at: Point, reach: number): Target | null {
    const { port, pieces, lens } = this.board;
    const [id, another] = port.selection;
    if (id === undefined || another !== undefined) return null;
    const token = pieces.token(id);
    const shown = pieces.shownBox(id);
    if (!token || !shown || !port.mayMove(token) || touches(token, toBoard(lens.view, at))) return null;
    const box = lens.onScreen(shown);
    const handle = hasHandles(box) ? handleAt(frameOf(box), shown.rotation, at, reach) : null;
    return handle && { on: "handle", token: id, handle };
  }

  /** The pointer is here, in pixels; null when it left. `tells`: the others may see it. */
  hover(at: Point | null, tells: boolean): void {
    this.pointer = at;
    if (at && tells) this.tellCursor.offer(toBoard(this.board.lens.view, at));
    this.refreshCursor();
  }

  /** The board point under the pointer. */
  get pointed(): Point | null {
    return this.pointer && toBoard(this.board.lens.view, this.pointer);
  }

  refreshCursor(): void {
    this.board.host.style.cursor = this.cursor();
  }

  private cursor(): string {
    const { tool } = this.board;
    const doing = this.gestures.doing;
    if (doing === "panning" || doing === "carrying") return "grabbing";
    if (doing === "pulling") return CURSORS[this.pulling.handle ?? "turn"];
    if (this.space || tool === "pan") return "grab";
    if (tool !== "select") return "crosshair";
    if (!this.pointer) return "";
    const target = this.targetAt(this.pointer, false);
    if (target.on === "handle") return CURSORS[target.handle];
    if (target.on === "piece") return target.movable ? "grab" : "pointer";
    return "";
  }

  /** Another view: what is carried or measured stays under the pointer. */
  viewChanged(): void {
    if (!this.pointer) return;
    this.carrying.moveTo(this.pointer, false);
    this.measureTo(this.pointer, false);
  }

  /** Stop whatever is going on, with nothing changed. */
  cancel(): void {
    this.run(this.gestures.feed({ type: "escape" }));
  }

  /** When a piece in the hand is gone from the list, the hand lets go. */
  listChanged(gone: readonly string[]): void {
    const held = this.carrying.lead ?? this.pulling.token;
    if (held !== null && gone.includes(held)) this.cancel();
  }

  run(acts: readonly Act[]): void {
    for (const act of acts) this.perform(act);
    if (acts.length === 0) return;
    this.refreshCursor();
    this.board.redraw();
  }

  private perform(act: Act): void {
    const { board, carrying, pulling, sketching } = this;
    const { port, lens } = board;
    switch (act.do) {
      case "choose":
        return port.select(act.add ? [...port.selection, act.token] : [act.token]);
      case "toggle":
        return port.select([...port.selection].filter((id) => id !== act.token));
      case "clear":
        return port.selection.size > 0 ? port.select([]) : undefined;
      case "open":
      case "menu":
        return board.hooks.open(act.token);
      case "lift":
        return carrying.lift(act.token, act.at);
      case "carry":
        this.pointer = act.at;
        return carrying.moveTo(act.at, act.free);
      case "drop":
        carrying.moveTo(act.at, act.free);
        return carrying.drop();
      case "grab":
        return pulling.grab(act.token, act.handle);
      case "pull":
        return pulling.moveTo(act.at, act.free);
      case "letGo":
        pulling.moveTo(act.at, act.free);
        return pulling.letGo();
      case "putBack":
        carrying.putBack();
        return pulling.putBack();
      case "frame":
        this.frame = boxBetween(act.from, act.to);
        return;
      case "frameEnd":
        this.frame = null;
        return this.chooseIn(boxBetween(toBoard(lens.view, act.from), toBoard(lens.view, act.to)), act.add);
      case "frameCancel":
        this.frame = null;
        return;
      case "pan":
        return lens.look(panBy(lens.view, act.dx, act.dy));
      case "pinch":
        return lens.look(panBy(zoomTo(lens.view, lens.view.zoom * act.factor, act.at), act.dx, act.dy));
      case "panStart":
      case "panEnd":
        return;
      case "measureStart": {
        this.pointer = act.at;
        const from = this.measured(act.at, act.free);
        this.way = [from, from];
        return;
      }
      case "measureTo":
        this.pointer = act.at;
        return this.measureTo(act.at, act.free);
      case "measureCorner":
        this.way?.push(this.way.at(-1) ?? { x: 0, y: 0 });
        return;
      case "measureEnd":
        return this.showWay(null);
      case "ping":
        this.ping(toBoard(lens.view, act.at));
        return board.tool === "ping" ? board.hooks.tool("select") : undefined;
      case "strokeStart":
        return sketching.start(act.at);
      case "strokeTo":
        return sketching.moveTo(act.at);
      case "strokeEnd":
        sketching.moveTo(act.at);
        void sketching.keep();
        return;
      case "strokeCancel":
        return sketching.cancel();
    }
  }

  private chooseIn(box: Box, add: boolean): void {
    const { port, pieces } = this.board;
    const inside = piecesIn(pieces.stackedTokens, box);
    const mine = inside.filter((token) => port.mayMove(token));
    const taken = (mine.length > 0 ? mine : inside).map(({ id }) => id);
    port.select(add ? new Set([...port.selection, ...taken]) : taken);
  }

  private measured(at: Point, free: boolean): Point {
    const point = toBoard(this.board.lens.view, at);
    return free || !this.board.snapping ? point : cellMiddle(this.board.grid, point);
  }

  private measureTo(at: Point, free: boolean): void {
    if (this.way) this.showWay([...this.way.slice(0, -1), this.measured(at, free)]);
  }

  /** Shows a measured way (cells) here and to the others; null ends it. */
  showWay(points: Point[] | null): void {
    const { board } = this;
    this.way = points;
    board.rulers.set("me", points ?? [], board.palette.of.select, performance.now());
    this.tellWay.offer(points ?? []);
    board.redraw();
  }

  /** Points the others to a place (cells). */
  ping(at: Point): void {
    const { board } = this;
    const { port } = board;
    if (!port.scene) return;
    const mark = port.person(port.me.id)?.mark ?? 0;
    board.company.ping(board.palette.player(mark), at, performance.now());
    port.live.send({ type: "ping", scene: port.scene.id, x: brief(at.x), y: brief(at.y) });
    board.redraw();
  }
}

const CURSORS: Record<Handle, string> = {
  turn: "grab",
  nw: "nwse-resize",
  se: "nwse-resize",
  ne: "nesw-resize",
  sw: "nesw-resize",
};
