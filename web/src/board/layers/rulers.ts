/** Measured ways, one's own and the others': dots, corners, and the length in cells. Screen space. */
import { Container, Graphics, Sprite } from "pixi.js";
import type { GridType, Point } from "../../protocol/types";
import { plate } from "../art";
import { scaleOf, toScreen, type View } from "../camera";
import { inCells, pathLength } from "../grid";
import type { Color, Palette } from "../palette";
import type { Textures } from "../textures";

const FADE_MS = 600;
/** A way nobody tells of any more goes. */
const SILENT_MS = 8000;
const DOT_GAP = 8;
const DOTS_MAX = 400;

interface Way {
  points: readonly Point[];
  /** How far above its end the label clears, in cells. */
  clear: number;
  readonly color: Color;
  /** When it was last told of, and whether it has ended. */
  heard: number;
  ended: boolean;
  readonly node: Container;
  readonly pen: Graphics;
  readonly label: Sprite;
}

export class Rulers {
  readonly node = new Container();
  private readonly ways = new Map<string, Way>();

  /**
   * Points in cells; an empty list ends the way, which then fades. `who` keeps different people's ways apart; `clear`
   * keeps the label off a piece at the way's end.
   */
  set(who: string, points: readonly Point[], color: Color, now: number, clear = 0): void {
    const known = this.ways.get(who);
    if (points.length < 2) {
      if (known && !known.ended) {
        known.ended = true;
        known.heard = now;
      }
      return;
    }
    const way = known ?? this.add(who, color);
    way.points = points;
    way.clear = clear;
    way.heard = now;
    way.ended = false;
  }

  clear(): void {
    for (const way of this.ways.values()) way.node.destroy({ children: true });
    this.ways.clear();
  }

  /** True while one fades or may have to. */
  draw(now: number, view: View, grid: GridType, pixelRatio: number, textures: Textures, palette: Palette): boolean {
    let fading = false;
    for (const [who, way] of this.ways) {
      const silent = now - way.heard;
      if (!way.ended && silent > SILENT_MS && who !== "me") {
        way.ended = true;
        way.heard = now;
      }
      const alpha = way.ended ? 1 - (now - way.heard) / FADE_MS : 1;
      if (alpha <= 0) {
        way.node.destroy({ children: true });
        this.ways.delete(who);
        continue;
      }
      if (way.ended) fading = true;
      way.node.alpha = alpha;
      drawWay(way, view, grid, pixelRatio, textures, palette);
    }
    return fading;
  }

  private add(who: string, color: Color): Way {
    const node = new Container();
    const pen = new Graphics();
    const label = new Sprite({ anchor: 0.5, roundPixels: true });
    node.addChild(pen, label);
    this.node.addChild(node);
    const way: Way = { points: [], clear: 0, color, heard: 0, ended: false, node, pen, label };
    this.ways.set(who, way);
    return way;
  }
}

function drawWay(way: Way, view: View, grid: GridType, pixelRatio: number, textures: Textures, palette: Palette): void {
  const { pen, label, color } = way;
  const points = way.points.map((point) => toScreen(view, point));
  const [first] = points;
  const last = points.at(-1);
  if (!first || !last) return;
  pen.clear();
  pen.moveTo(first.x, first.y);
  for (const { x, y } of points.slice(1)) pen.lineTo(x, y);
  pen.stroke({ width: 6, color: palette.of.keyline.hex, alpha: 0.65, cap: "round", join: "round" });
  for (const dot of dotsAlong(points)) pen.circle(dot.x, dot.y, 1.4);
  pen.fill({ color: color.hex });
  for (const { x, y } of points) pen.circle(x, y, 4.5);
  pen.fill({ color: palette.of.keyline.hex }).stroke({ width: 1.75, color: color.hex });
  const text = inCells(pathLength(grid, way.points));
  const key = `m|${text}|${color.hex}|${pixelRatio}`;
  label.texture = textures.get(key, pixelRatio, () =>
    plate({ text, edge: color, size: "measure" }, pixelRatio, palette),
  );
  label.position.set(last.x, last.y - 30 - way.clear * scaleOf(view));
}

/** Evenly along the whole way. */
export function dotsAlong(points: readonly Point[]): Point[] {
  const dots: Point[] = [];
  let carry = 0;
  for (let k = 1; k < points.length; k++) {
    const a = points[k - 1];
    const b = points[k];
    if (!a || !b) continue;
    const length = Math.hypot(b.x - a.x, b.y - a.y);
    for (let at = carry; at < length && dots.length < DOTS_MAX; at += DOT_GAP) {
      dots.push({ x: a.x + ((b.x - a.x) * at) / length, y: a.y + ((b.y - a.y) * at) / length });
      carry = at + DOT_GAP;
    }
    carry -= length;
    if (carry < 0) carry = 0;
  }
  return dots;
}
