/**
 * Geometry of the four grids. All lengths are in cells, Cartesian. On hex grids 1 is the distance between opposite
 * sides; the hex of column 0, row 0 touches both axes; odd rows (`hex_row`) or columns (`hex_column`) stand half a
 * cell further on. `none` has no cells to snap to, and measures in straight lines.
 */
import type { GridType, Point } from "../protocol/types";

/** Distance between two rows of `hex_row`, or two columns of `hex_column`. */
export const HEX_STEP = Math.sqrt(3) / 2;
/** From a hex's middle to its corners. */
export const HEX_RADIUS = 1 / Math.sqrt(3);

export interface Cell {
  readonly column: number;
  readonly row: number;
}

interface Extent {
  readonly width: number;
  readonly height: number;
}

const isOdd = (n: number): boolean => (n & 1) === 1;

export function cellCentre(grid: GridType, cell: Cell): Point {
  switch (grid) {
    case "hex_row":
      return { x: cell.column + (isOdd(cell.row) ? 1 : 0.5), y: HEX_RADIUS + cell.row * HEX_STEP };
    case "hex_column":
      return { x: HEX_RADIUS + cell.column * HEX_STEP, y: cell.row + (isOdd(cell.column) ? 1 : 0.5) };
    default:
      return { x: cell.column + 0.5, y: cell.row + 0.5 };
  }
}

export function cellAt(grid: GridType, at: Point): Cell {
  if (grid === "hex_row") return nearestHex(at, (cell) => cellCentre("hex_row", cell), false);
  if (grid === "hex_column") return nearestHex(at, (cell) => cellCentre("hex_column", cell), true);
  return { column: Math.floor(at.x), row: Math.floor(at.y) };
}

/** A hex is the set of points nearest to its middle, so the nearest middle among the candidates is the hex. */
function nearestHex(at: Point, centre: (cell: Cell) => Point, columns: boolean): Cell {
  const along = columns ? at.x : at.y;
  const across = columns ? at.y : at.x;
  const line = Math.round((along - HEX_RADIUS) / HEX_STEP);
  let best: Cell = { column: 0, row: 0 };
  let least = Infinity;
  for (let k = line - 1; k <= line + 1; k++) {
    const near = Math.round(across - (isOdd(k) ? 1 : 0.5));
    const cell = columns ? { column: k, row: near } : { column: near, row: k };
    const middle = centre(cell);
    const distance = (middle.x - at.x) ** 2 + (middle.y - at.y) ** 2;
    if (distance < least - 1e-12) {
      least = distance;
      best = cell;
    }
  }
  return best;
}

/** Corners of the cell, clockwise. */
export function cellCorners(grid: GridType, cell: Cell): Point[] {
  const middle = cellCentre(grid, cell);
  if (grid === "hex_row" || grid === "hex_column") {
    const turn = grid === "hex_row" ? Math.PI / 6 : 0;
    return Array.from({ length: 6 }, (_, k) => {
      const angle = turn + (k * Math.PI) / 3;
      return { x: middle.x + HEX_RADIUS * Math.cos(angle), y: middle.y + HEX_RADIUS * Math.sin(angle) };
    });
  }
  return [
    { x: middle.x - 0.5, y: middle.y - 0.5 },
    { x: middle.x + 0.5, y: middle.y - 0.5 },
    { x: middle.x + 0.5, y: middle.y + 0.5 },
    { x: middle.x - 0.5, y: middle.y + 0.5 },
  ];
}

/** Top left corner for a piece of this size let go with its corner at `at`. */
export function snap(grid: GridType, at: Point, size: Extent): Point {
  if (grid === "none") return { x: tidy(at.x), y: tidy(at.y) };
  if (grid === "square") return { x: snapAlong(at.x, size.width), y: snapAlong(at.y, size.height) };
  const middle = { x: at.x + size.width / 2, y: at.y + size.height / 2 };
  const to = snapHex(grid, middle, Math.max(size.width, size.height));
  return { x: tidy(to.x - size.width / 2), y: tidy(to.y - size.height / 2) };
}

/**
 * Whole sizes stand on whole cells; sizes like 1.5 on half cells; small ones in the middle of a cell, or of the half,
 * third … of it where two, three … of them fit side by side.
 */
function snapAlong(at: number, length: number): number {
  if (length >= 1) {
    const step = Math.abs(length - Math.round(length)) < 0.01 ? 1 : 0.5;
    return tidy(Math.round(at / step) * step);
  }
  const parts = Math.max(1, Math.floor(1 / Math.max(length, 0.05) + 1e-6));
  const part = Math.floor((at + length / 2) * parts);
  return tidy((part + 0.5) / parts - length / 2);
}

/** Odd sizes stand on a hex's middle, even ones on the corner where three hexes meet, halves also beside the middle. */
function snapHex(grid: GridType, middle: Point, size: number): Point {
  const cell = cellAt(grid, middle);
  const centre = cellCentre(grid, cell);
  const corners = cellCorners(grid, cell);
  if (size >= 1.5) return Math.round(size) % 2 === 0 ? nearest(middle, corners) : centre;
  if (size > 0.6) return centre;
  const beside = corners.map((corner, k) => {
    const next = corners[(k + 1) % 6] ?? corner;
    return {
      x: centre.x + (corner.x + next.x - 2 * centre.x) / 4,
      y: centre.y + (corner.y + next.y - 2 * centre.y) / 4,
    };
  });
  return nearest(middle, [centre, ...beside]);
}

function nearest(at: Point, among: readonly Point[]): Point {
  let best = at;
  let least = Infinity;
  for (const point of among) {
    const distance = (point.x - at.x) ** 2 + (point.y - at.y) ** 2;
    if (distance < least) {
      least = distance;
      best = point;
    }
  }
  return best;
}

/** Six decimals are enough for any board, and keep `0.1 + 0.2` off the wire. */
export function tidy(value: number): number {
  return Math.round(value * 1e6) / 1e6 + 0;
}

/** The middle of the cell under `at`; the point itself where there are no cells. */
export function cellMiddle(grid: GridType, at: Point): Point {
  return grid === "none" ? at : cellCentre(grid, cellAt(grid, at));
}

/**
 * One step of an arrow key from `at` (a piece's middle): one cell, or along the rows or columns of a hex grid, where
 * up and down (or left and right) alternate so that a step there and back ends where it began.
 */
export function step(grid: GridType, at: Point, dx: -1 | 0 | 1, dy: -1 | 0 | 1): Point {
  if (grid === "hex_row" && dy !== 0) {
    const shift = isOdd(cellAt(grid, at).row) ? -0.5 : 0.5;
    return { x: dx + shift, y: dy * HEX_STEP };
  }
  if (grid === "hex_column" && dx !== 0) {
    const shift = isOdd(cellAt(grid, at).column) ? -0.5 : 0.5;
    return { x: dx * HEX_STEP, y: dy + shift };
  }
  return { x: dx, y: dy };
}

/** Cells between two points: diagonals count as one on squares; straight lines where there is no grid. */
export function distance(grid: GridType, from: Point, to: Point): number {
  const dx = to.x - from.x;
  const dy = to.y - from.y;
  if (grid === "none") return Math.hypot(dx, dy);
  const a = cellAt(grid, from);
  const b = cellAt(grid, to);
  if (grid === "square") return Math.max(Math.abs(a.column - b.column), Math.abs(a.row - b.row));
  const p = axial(grid, a);
  const q = axial(grid, b);
  const u = p.column - q.column;
  const v = p.row - q.row;
  return (Math.abs(u) + Math.abs(v) + Math.abs(u + v)) / 2;
}

function axial(grid: GridType, cell: Cell): Cell {
  const shift = (n: number): number => (n - (n & 1)) / 2;
  return grid === "hex_row"
    ? { column: cell.column - shift(cell.row), row: cell.row }
    : { column: cell.column, row: cell.row - shift(cell.column) };
}

/** Length of a measured way over all its corners. */
export function pathLength(grid: GridType, points: readonly Point[]): number {
  let total = 0;
  for (let k = 1; k < points.length; k++) {
    const from = points[k - 1];
    const to = points[k];
    if (from && to) total += distance(grid, from, to);
  }
  return total;
}

/** "1 cell", "4 cells", "2.5 cells". */
export function inCells(length: number): string {
  const rounded = Math.round(length * 10) / 10;
  return `${rounded.toLocaleString("en")} ${rounded === 1 ? "cell" : "cells"}`;
}
