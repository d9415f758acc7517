/** The lines of a hex grid, each once, for a part of a scene. Pure. */
import type { GridType, Point } from "../protocol/types";
import type { Box, Size } from "./camera";
import { cellAt, cellCorners, type Cell } from "./grid";

/** The neighbour beyond the edge from corner k to corner k + 1. */
function neighbour(grid: GridType, { column, row }: Cell, k: number): Cell {
  if (grid === "hex_row") {
    const right = column + (row & 1);
    const left = right - 1;
    const beyond: readonly Cell[] = [
      { column: right, row: row + 1 },
      { column: left, row: row + 1 },
      { column: column - 1, row },
      { column: left, row: row - 1 },
      { column: right, row: row - 1 },
      { column: column + 1, row },
    ];
    return beyond[k] ?? { column, row };
  }
  const below = row + (column & 1);
  const above = below - 1;
  const beyond: readonly Cell[] = [
    { column: column + 1, row: below },
    { column, row: row + 1 },
    { column: column - 1, row: below },
    { column: column - 1, row: above },
    { column, row: row - 1 },
    { column: column + 1, row: above },
  ];
  return beyond[k] ?? { column, row };
}

function ownsEdge(cell: Cell, other: Cell): boolean {
  return cell.row < other.row || (cell.row === other.row && cell.column < other.column);
}

/** Segments as x1, y1, x2, y2, … in cells, of the hexes that touch `part` of the scene, cut off at the scene's edges. */
export function hexLines(grid: "hex_row" | "hex_column", scene: Size, part: Box): number[] {
  const left = Math.max(0, part.x);
  const top = Math.max(0, part.y);
  const right = Math.min(scene.width, part.x + part.width);
  const bottom = Math.min(scene.height, part.y + part.height);
  if (left >= right || top >= bottom) return [];
  const from = cellAt(grid, { x: left, y: top });
  const to = cellAt(grid, { x: right, y: bottom });
  const lines: number[] = [];
  for (let row = from.row - 1; row <= to.row + 1; row++) {
    for (let column = from.column - 1; column <= to.column + 1; column++) {
      const cell = { column, row };
      const corners = cellCorners(grid, cell);
      for (let k = 0; k < 6; k++) {
        // each line belongs to one of its two hexes
        if (!ownsEdge(cell, neighbour(grid, cell, k))) continue;
        const a = corners[k];
        const b = corners[(k + 1) % 6];
        if (a && b) addClipped(lines, a, b, scene);
      }
    }
  }
  return lines;
}

/** Liang and Barsky: the part of the line that lies on the scene. */
function addClipped(lines: number[], a: Point, b: Point, scene: Size): void {
  const dx = b.x - a.x;
  const dy = b.y - a.y;
  let enter = 0;
  let leave = 1;
  for (const [towards, room] of [
    [-dx, a.x],
    [dx, scene.width - a.x],
    [-dy, a.y],
    [dy, scene.height - a.y],
  ] as const) {
    if (towards === 0) {
      if (room < 0) return;
      continue;
    }
    const t = room / towards;
    if (towards < 0) enter = Math.max(enter, t);
    else leave = Math.min(leave, t);
  }
  if (enter < leave) lines.push(a.x + dx * enter, a.y + dy * enter, a.x + dx * leave, a.y + dy * leave);
}
