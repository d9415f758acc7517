/** The freehand line under the pen. */
import { Graphics } from "pixi.js";
import type { Point } from "../protocol/types";
import type { Board } from "./board";
import { CELL, toBoard } from "./camera";
import { strokeThrough } from "./layers/drawings";
import type { Color } from "./palette";
import { simplified } from "./stroke";

/** Of a line, in cells. */
const WIDTH = 0.07;
/** Points nearer to each other than this, in cells at 100 %, are one. */
const NEAR = 0.03;

export class Sketching {
  readonly pen = new Graphics();
  private points: Point[] | null = null;

  constructor(private readonly board: Board) {}

  start(at: Point): void {
    this.points = [toBoard(this.board.lens.view, at)];
  }

  moveTo(at: Point): void {
    const { points, pen, board } = this;
    const last = points?.at(-1);
    if (!points || !last) return;
    const { view } = board.lens;
    const to = toBoard(view, at);
    if (Math.hypot(to.x - last.x, to.y - last.y) * view.zoom < NEAR) return;
    points.push(to);
    pen.clear();
    strokeThrough(pen, points);
    pen.stroke({ width: WIDTH * CELL, color: this.color.hex, cap: "round", join: "round" });
  }

  /** Ask for it; the sketch stays until the table has the line. */
  async keep(): Promise<void> {
    const { points, board } = this;
    this.points = null;
    if (!points) return;
    const line = simplified(points, 0.02 / board.lens.view.zoom);
    await board.port.addDrawing({ type: "line", points: line }, { color: this.color.css, width: WIDTH });
    if (this.points === null) this.cancel(); // else the next line is already under way
  }

  cancel(): void {
    this.points = null;
    if (this.pen.destroyed) return;
    this.pen.clear();
    this.board.redraw();
  }

  private get color(): Color {
    const { port, palette } = this.board;
    return palette.player(port.person(port.me.id)?.mark ?? 0);
  }
}
