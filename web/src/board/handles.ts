/** Where the handles of a chosen piece's frame stand, and what pulling one of them does. Pure; screen pixels unless said. */
import type { Point } from "../protocol/types";
import type { Box } from "./camera";
import type { Handle } from "./gestures";
import { tidy } from "./grid";
import type { Place } from "./motion";

/** The frame stands this far outside of the piece's box. */
export const FRAME_GAP = 3;
/** Side of a corner's square, length of the turn handle's arm, and its radius. */
export const CORNER = 8;
export const ARM = 16;
export const KNOB = 5;
/** Smallest and largest side a piece may be pulled to, in cells. */
const SIDE_MIN = 0.25;
const SIDE_MAX = 40;

/** A frame smaller than this has no handles: they would cover the piece. */
const HANDLES_FROM = 24;

export function hasHandles(box: Box): boolean {
  return box.width >= HANDLES_FROM && box.height >= HANDLES_FROM;
}

export function frameOf(box: Box): Box {
  return {
    x: box.x - FRAME_GAP,
    y: box.y - FRAME_GAP,
    width: box.width + 2 * FRAME_GAP,
    height: box.height + 2 * FRAME_GAP,
  };
}

/** The turn handle stands to the right, and goes round with the piece. */
export function handlePoints(frame: Box, rotation: number): Record<Handle, Point> & { arm: Point } {
  const { x, y, width, height } = frame;
  const middle = { x: x + width / 2, y: y + height / 2 };
  const angle = (rotation * Math.PI) / 180;
  const edge = toEdge(width / 2, height / 2, angle);
  const along = (length: number): Point => ({
    x: middle.x + Math.cos(angle) * length,
    y: middle.y + Math.sin(angle) * length,
  });
  return {
    nw: { x, y },
    ne: { x: x + width, y },
    sw: { x, y: y + height },
    se: { x: x + width, y: y + height },
    arm: along(edge),
    turn: along(edge + ARM),
  };
}

function toEdge(halfWidth: number, halfHeight: number, angle: number): number {
  const across = Math.abs(Math.cos(angle)) < 1e-9 ? Infinity : halfWidth / Math.abs(Math.cos(angle));
  const down = Math.abs(Math.sin(angle)) < 1e-9 ? Infinity : halfHeight / Math.abs(Math.sin(angle));
  return Math.min(across, down);
}

/** Which handle lies within `reach` of the point? */
export function handleAt(frame: Box, rotation: number, at: Point, reach: number): Handle | null {
  const points = handlePoints(frame, rotation);
  const order: readonly Handle[] = ["turn", "se", "ne", "sw", "nw"];
  return order.find((name) => Math.hypot(points[name].x - at.x, points[name].y - at.y) <= reach) ?? null;
}

/** Degrees clockwise, 0 to 360, of a piece whose turn handle is pulled towards `to`; by 15 unless `free`. Points in cells. */
export function turnedTo(middle: Point, to: Point, free: boolean): number {
  const degrees = (Math.atan2(to.y - middle.y, to.x - middle.x) * 180) / Math.PI;
  const stepped = free ? Math.round(degrees) : Math.round(degrees / 15) * 15;
  return ((stepped % 360) + 360) % 360;
}

/** The box (cells) after a corner is pulled to `to`; the opposite corner stays, sides go by half cells unless `free`. */
export function pulled(box: Box & Place, corner: Exclude<Handle, "turn">, to: Point, free: boolean): Box {
  const step = free ? 0.05 : 0.5;
  const left = corner === "nw" || corner === "sw";
  const above = corner === "nw" || corner === "ne";
  const side = (length: number): number => {
    const stepped = Math.round(length / step) * step;
    return tidy(Math.min(SIDE_MAX, Math.max(free ? SIDE_MIN : 0.5, stepped)));
  };
  const right = box.x + box.width;
  const bottom = box.y + box.height;
  let width = side(left ? right - to.x : to.x - box.x);
  let height = side(above ? bottom - to.y : to.y - box.y);
  // a coin stays a coin: both sides follow the longer pull
  if (Math.abs(box.width - box.height) < 1e-6) width = height = Math.max(width, height);
  return { x: tidy(left ? right - width : box.x), y: tidy(above ? bottom - height : box.y), width, height };
}
