/** The lines of a hex grid, each once, for a part of a scene. Pure. */
import type { GridType } from "../protocol/types";
import type { Box, Size } from "./camera";
import { cellAt, cellCentre, cellCorners, type Cell } from "./grid";

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

/** A hex belongs to the scene when its middle lies on it. */
function inScene(grid: GridType, cell: Cell, scene: Size): boolean {
  const { x, y } = cellCentre(grid, cell);
  return x > 0 && y > 0 && x < scene.width && y < scene.height;
}

function ownsEdge(cell: Cell, other: Cell): boolean {
  return cell.row < other.row || (cell.row === other.row && cell.column < other.column);
}

/** Segments as x1, y1, x2, y2, … in cells, of the scene's hexes that touch `part`. */
export function hexLines(grid: "hex_row" | "hex_column", scene: Size, part: Box): number[] {
  const clip = {
    left: Math.max(0, part.x),
    top: Math.max(0, part.y),
    right: Math.min(scene.width, part.x + part.width),
    bottom: Math.min(scene.height, part.y + part.height),
  };
  if (clip.left >= clip.right || clip.top >= clip.bottom) return [];
  const from = cellAt(grid, { x: clip.left, y: clip.top });
  const to = cellAt(grid, { x: clip.right, y: clip.bottom });
  const lines: number[] = [];
  for (let row = from.row - 1; row <= to.row + 1; row++) {
    for (let column = from.column - 1; column <= to.column + 1; column++) {
      const cell = { column, row };
      if (!inScene(grid, cell, scene)) continue;
      const corners = cellCorners(grid, cell);
      for (let k = 0; k < 6; k++) {
        const other = neighbour(grid, cell, k);
        if (!ownsEdge(cell, other) && inScene(grid, other, scene)) continue;
        const a = corners[k];
        const b = corners[(k + 1) % 6];
        if (a && b) lines.push(a.x, a.y, b.x, b.y);
      }
    }
  }
  return lines;
}
