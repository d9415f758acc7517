/** Freehand lines, made small enough to keep: what the eye cannot tell apart goes. Pure. */
import type { Point } from "../protocol/types";
import { tidy } from "./grid";

const POINTS_MAX = 400;

/** The line with every point left out that lies within `tolerance` (cells) of the way without it; at most 400 points. */
export function simplified(points: readonly Point[], tolerance: number): Point[] {
  let allowed = tolerance;
  let kept = thinned(points, allowed);
  while (kept.length > POINTS_MAX) {
    allowed *= 1.6;
    kept = thinned(points, allowed);
  }
  return kept.map(({ x, y }) => ({ x: tidy(Math.round(x * 1000) / 1000), y: tidy(Math.round(y * 1000) / 1000) }));
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
