/** Drawings that members left on the board: freehand lines, and the plain shapes of templates. */
import { Container, Graphics } from "pixi.js";
import type { Drawing, Point } from "../../protocol/types";
import { CELL } from "../camera";
import type { Palette } from "../palette";

const WIDTH = 0.07;
const POINTS_MAX = 2000;

export class Drawings {
  readonly node = new Container();
  private readonly known = new Map<string, { drawing: Drawing; pen: Graphics }>();

  update(drawings: readonly Drawing[], palette: Palette): void {
    const present = new Set(drawings.map(({ id }) => id));
    for (const [id, { pen }] of this.known) {
      if (present.has(id)) continue;
      pen.destroy();
      this.known.delete(id);
    }
    for (const drawing of drawings) {
      const known = this.known.get(drawing.id);
      if (known?.drawing === drawing) continue;
      known?.pen.destroy();
      const pen = draw(drawing, palette);
      this.known.set(drawing.id, { drawing, pen });
      this.node.addChild(pen);
    }
  }
}

/** Shapes come from other clients: what does not look like one is not drawn. */
function draw(drawing: Drawing, palette: Palette): Graphics {
  const { shape, style } = drawing;
  const pen = new Graphics();
  const color = colorOf(style["color"]) ?? palette.of.select.hex;
  const width = Math.min(2, Math.max(0.01, numberOf(style["width"]) ?? WIDTH)) * CELL;
  const line = { width, color, cap: "round", join: "round" } as const;
  const fill = colorOf(style["fill"]);
  const x = (numberOf(shape["x"]) ?? 0) * CELL;
  const y = (numberOf(shape["y"]) ?? 0) * CELL;
  switch (shape["type"]) {
    case "line":
    case "polygon": {
      const points = pointsOf(shape["points"]);
      if (points.length === 0) return pen;
      strokeThrough(pen, points);
      if (shape["type"] === "polygon") pen.closePath();
      break;
    }
    case "rect":
      pen.rect(x, y, (numberOf(shape["width"]) ?? 0) * CELL, (numberOf(shape["height"]) ?? 0) * CELL);
      break;
    case "circle":
      pen.circle(x, y, Math.max(0, numberOf(shape["radius"]) ?? 0) * CELL);
      break;
    default:
      return pen;
  }
  if (fill !== null && shape["type"] !== "line") pen.fill({ color: fill, alpha: 0.25 });
  return pen.stroke(line);
}

/** A smooth way through hand-drawn points: curves between the middles of neighbours. */
export function strokeThrough(pen: Graphics, points: readonly Point[]): void {
  const [first] = points;
  if (!first) return;
  pen.moveTo(first.x * CELL, first.y * CELL);
  if (points.length === 1) {
    pen.lineTo(first.x * CELL + 0.01, first.y * CELL);
    return;
  }
  for (let k = 1; k < points.length - 1; k++) {
    const a = points[k];
    const b = points[k + 1];
    if (a && b) pen.quadraticCurveTo(a.x * CELL, a.y * CELL, ((a.x + b.x) / 2) * CELL, ((a.y + b.y) / 2) * CELL);
  }
  const last = points.at(-1);
  if (last) pen.lineTo(last.x * CELL, last.y * CELL);
}

function numberOf(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

export function colorOf(value: unknown): number | null {
  return typeof value === "string" && /^#[0-9a-f]{6}$/i.test(value) ? Number.parseInt(value.slice(1), 16) : null;
}

function pointsOf(value: unknown): Point[] {
  if (!Array.isArray(value)) return [];
  return value.slice(0, POINTS_MAX).flatMap((point: unknown) => {
    const { x, y } = (point ?? {}) as Record<string, unknown>;
    const at = { x: numberOf(x), y: numberOf(y) };
    return at.x !== null && at.y !== null ? [{ x: at.x, y: at.y }] : [];
  });
}
