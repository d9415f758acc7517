/**
 * Where the view stands. Pure: every function takes a view and gives the next one.
 * Board lengths are cells; screen lengths are CSS pixels from the board element's top left corner.
 */
import type { Point } from "../protocol/types";

/** CSS pixels of one cell at 100 %. */
export const CELL = 60;
export const ZOOM_MIN = 0.1;
export const ZOOM_MAX = 4;

/** `x`, `y`: where the corner of cell 0 0 lies on the screen. */
export interface View {
  readonly zoom: number;
  readonly x: number;
  readonly y: number;
}

export interface Size {
  readonly width: number;
  readonly height: number;
}

/** A rectangle in cells, or in pixels where said. */
export interface Box extends Size {
  readonly x: number;
  readonly y: number;
}

/** What the chrome covers along each edge, in CSS pixels. */
export interface Inset {
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
  readonly left: number;
}

/** Stops of the zoom buttons; the wheel glides between them. */
const STOPS = [0.1, 0.15, 0.25, 0.33, 0.5, 0.67, 0.75, 1, 1.25, 1.5, 2, 2.5, 3, 4];
/** Fit-to-scene leaves this much around the scene, and never enlarges a small scene beyond this zoom. */
const FIT_MARGIN = 24;
const FIT_ZOOM_MAX = 1.5;

export function clampZoom(zoom: number): number {
  return Math.min(ZOOM_MAX, Math.max(ZOOM_MIN, zoom));
}

/** CSS pixels of one cell in this view. */
export function scaleOf(view: View): number {
  return view.zoom * CELL;
}

export function toScreen(view: View, at: Point): Point {
  const scale = scaleOf(view);
  return { x: view.x + at.x * scale, y: view.y + at.y * scale };
}

export function toBoard(view: View, at: Point): Point {
  const scale = scaleOf(view);
  return { x: (at.x - view.x) / scale, y: (at.y - view.y) / scale };
}

export function panBy(view: View, dx: number, dy: number): View {
  return { zoom: view.zoom, x: view.x + dx, y: view.y + dy };
}

/** Change the zoom so that what lies under the screen point `at` stays there. */
export function zoomTo(view: View, zoom: number, at: Point): View {
  const next = clampZoom(zoom);
  const ratio = next / view.zoom;
  return { zoom: next, x: at.x - (at.x - view.x) * ratio, y: at.y - (at.y - view.y) * ratio };
}

/** The next stop of the zoom buttons, up (`1`) or down (`-1`). */
export function nextStop(zoom: number, direction: 1 | -1): number {
  const near = 0.005;
  if (direction > 0) return STOPS.find((stop) => stop > zoom + near) ?? ZOOM_MAX;
  return STOPS.findLast((stop) => stop < zoom - near) ?? ZOOM_MIN;
}

/** How much one turn of the wheel zooms; pinching on a trackpad arrives as a wheel with Ctrl held. */
export function wheelFactor(deltaY: number, deltaMode: number, pinch: boolean): number {
  const pixels = deltaMode === 1 ? deltaY * 20 : deltaMode === 2 ? deltaY * 400 : deltaY;
  const bounded = Math.max(-240, Math.min(240, pixels));
  return Math.exp(-bounded * (pinch ? 0.01 : 0.0016));
}

/** The part of the board element that no chrome covers, in CSS pixels; never empty. */
export function freeArea(size: Size, inset: Inset): Box {
  const width = size.width - inset.left - inset.right;
  const height = size.height - inset.top - inset.bottom;
  if (width < 40 || height < 40) {
    return { x: 0, y: 0, width: Math.max(1, size.width), height: Math.max(1, size.height) };
  }
  return { x: inset.left, y: inset.top, width, height };
}

export function centreOf(box: Box): Point {
  return { x: box.x + box.width / 2, y: box.y + box.height / 2 };
}

/** The view in which the whole of `box` (cells) stands in the middle of the free area (pixels). */
export function fit(box: Box, free: Box): View {
  const width = Math.max(box.width, 1) * CELL;
  const height = Math.max(box.height, 1) * CELL;
  const room = { width: Math.max(1, free.width - 2 * FIT_MARGIN), height: Math.max(1, free.height - 2 * FIT_MARGIN) };
  const zoom = clampZoom(Math.min(room.width / width, room.height / height, FIT_ZOOM_MAX));
  return centredOn(centreOf(box), zoom, free);
}

/** The view in which the board point `at` stands in the middle of the free area. */
export function centredOn(at: Point, zoom: number, free: Box): View {
  const middle = centreOf(free);
  return { zoom, x: middle.x - at.x * CELL * zoom, y: middle.y - at.y * CELL * zoom };
}

/** The nearest view whose middle looks at `bounds` (cells), so that nobody gets lost beside the table. */
export function bounded(view: View, bounds: Box, free: Box): View {
  const middle = centreOf(free);
  const at = toBoard(view, middle);
  const x = Math.min(Math.max(at.x, bounds.x), bounds.x + bounds.width);
  const y = Math.min(Math.max(at.y, bounds.y), bounds.y + bounds.height);
  if (x === at.x && y === at.y) return view;
  return centredOn({ x, y }, view.zoom, free);
}

/** The least movement that brings `box` (cells) into the free area; the zoom stays unless the box is larger. */
export function revealed(view: View, box: Box, free: Box): View {
  const scale = scaleOf(view);
  if (box.width * scale > free.width || box.height * scale > free.height) return fit(box, free);
  const edge = Math.min(48, (free.width - box.width * scale) / 2, (free.height - box.height * scale) / 2);
  const left = view.x + box.x * scale;
  const top = view.y + box.y * scale;
  const slide = (from: number, length: number, low: number, high: number): number =>
    from < low ? low - from : from + length > high ? high - from - length : 0;
  const dx = slide(left, box.width * scale, free.x + edge, free.x + free.width - edge);
  const dy = slide(top, box.height * scale, free.y + edge, free.y + free.height - edge);
  return dx === 0 && dy === 0 ? view : panBy(view, dx, dy);
}

/** What part of the board the element shows, in cells. */
export function visibleBox(view: View, size: Size): Box {
  const from = toBoard(view, { x: 0, y: 0 });
  const scale = scaleOf(view);
  return { x: from.x, y: from.y, width: size.width / scale, height: size.height / scale };
}

/** Between two views; zoom goes by ratio, so that the movement looks even. `t` from 0 to 1. */
export function between(from: View, to: View, t: number): View {
  if (t >= 1) return to;
  const zoom = from.zoom * (to.zoom / from.zoom) ** t;
  const same = Math.abs(to.zoom - from.zoom) < 1e-9;
  const part = same ? t : (zoom - from.zoom) / (to.zoom - from.zoom);
  return { zoom, x: from.x + (to.x - from.x) * part, y: from.y + (to.y - from.y) * part };
}

/** The smallest box around all of them; null for none. */
export function around(boxes: Iterable<Box>): Box | null {
  let left = Infinity;
  let top = Infinity;
  let right = -Infinity;
  let bottom = -Infinity;
  for (const box of boxes) {
    left = Math.min(left, box.x);
    top = Math.min(top, box.y);
    right = Math.max(right, box.x + box.width);
    bottom = Math.max(bottom, box.y + box.height);
  }
  return left > right ? null : { x: left, y: top, width: right - left, height: bottom - top };
}

export function overlaps(a: Box, b: Box): boolean {
  return a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;
}

export function grown(box: Box, by: number): Box {
  return { x: box.x - by, y: box.y - by, width: box.width + 2 * by, height: box.height + 2 * by };
}
