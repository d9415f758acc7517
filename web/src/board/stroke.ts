/** Freehand lines, made small enough to keep: what the eye cannot tell apart goes. Pure. */
import type { Point } from "../protocol/types";
import { tidy } from "./grid";

const POINTS_MAX = 400;

/** Looked at in full; of longer lines evenly spread points are. */
const LOOKED_AT = 3000;

/** The line with every point left out that lies within `tolerance` (cells) of the way without it; at most 400 points. */
export function simplified(points: readonly Point[], tolerance: number): Point[] {
  const kept = spread(thinned(spread(points, LOOKED_AT), tolerance), POINTS_MAX);
  return kept.map(({ x, y }) => ({ x: tidy(Math.round(x * 1000) / 1000), y: tidy(Math.round(y * 1000) / 1000) }));
}

/** At most so many of them, evenly picked, both ends among them. */
function spread(points: readonly Point[], most: number): readonly Point[] {
  if (points.length <= most) return points;
  const step = (points.length - 1) / (most - 1);
  return Array.from({ length: most }, (_, k) => points[Math.round(k * step)]).filter((point) => point !== undefined);
}

/** Ramer, Douglas and Peucker, without recursion: a hand may draw thousands of points. */
function thinned(points: readonly Point[], tolerance: number): Point[] {
  if (points.length < 3) return [...points];
  const keep = new Set([0, points.length - 1]);
  const spans: [number, number][] = [[0, points.length - 1]];
  for (let span = spans.pop(); span; span = spans.pop()) {
    const [from, to] = span;
    const a = points[from];
    const b = points[to];
    if (!a || !b) continue;
    let farthest = -1;
    let most = tolerance;
    for (let k = from + 1; k < to; k++) {
      const point = points[k];
      if (!point) continue;
      const off = offLine(point, a, b);
      if (off > most) {
        most = off;
        farthest = k;
      }
    }
    if (farthest < 0) continue;
    keep.add(farthest);
    spans.push([from, farthest], [farthest, to]);
  }
  return points.filter((_, k) => keep.has(k));
}

function offLine(point: Point, a: Point, b: Point): number {
  const dx = b.x - a.x;
  const dy = b.y - a.y;
  const length = dx * dx + dy * dy;
  const t = length === 0 ? 0 : Math.min(1, Math.max(0, ((point.x - a.x) * dx + (point.y - a.y) * dy) / length));
  return Math.hypot(point.x - a.x - t * dx, point.y - a.y - t * dy);
}
