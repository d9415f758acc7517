// @vitest-environment node
import { describe, expect, it } from "vitest";
import type { GridType, Point } from "../protocol/types";
import {
  cellAt,
  cellCentre,
  cellCorners,
  distance,
  HEX_RADIUS,
  HEX_STEP,
  inCells,
  pathLength,
  snap,
  step,
  type Cell,
} from "./grid";
import { hexLines } from "./hex_lines";
import { between, numbers } from "./testing";

const next = numbers(11);
const anyPoint = (): Point => ({ x: between(next, -30, 30), y: between(next, -30, 30) });
const anyCell = (): Cell => ({ column: Math.floor(between(next, -20, 20)), row: Math.floor(between(next, -20, 20)) });
const HEXES = ["hex_row", "hex_column"] as const;
const CELLED: readonly GridType[] = ["square", ...HEXES];

describe("cells", () => {
  it.each(CELLED)("%s: a cell's middle lies in the cell", (grid) => {
    for (let k = 0; k < 300; k++) {
      const cell = anyCell();
      expect(cellAt(grid, cellCentre(grid, cell))).toEqual(cell);
    }
  });

  it.each(HEXES)("%s: every point lies in the hex whose middle is nearest", (grid) => {
    for (let k = 0; k < 300; k++) {
      const at = anyPoint();
      const cell = cellAt(grid, at);
      const far = (other: Cell): number => {
        const middle = cellCentre(grid, other);
        return Math.hypot(middle.x - at.x, middle.y - at.y);
      };
      expect(far(cell)).toBeLessThanOrEqual(HEX_RADIUS + 1e-9);
      for (let dc = -2; dc <= 2; dc++) {
        for (let dr = -2; dr <= 2; dr++) {
          expect(far(cell)).toBeLessThanOrEqual(far({ column: cell.column + dc, row: cell.row + dr }) + 1e-9);
        }
      }
    }
  });

  it.each(HEXES)("%s: opposite sides are 1 apart, and the first hex touches both axes", (grid) => {
    const corners = cellCorners(grid, { column: 0, row: 0 });
    const xs = corners.map(({ x }) => x);
    const ys = corners.map(({ y }) => y);
    expect(Math.min(...xs)).toBeCloseTo(0, 9);
    expect(Math.min(...ys)).toBeCloseTo(0, 9);
    const width = Math.max(...xs);
    const height = Math.max(...ys);
    expect(Math.min(width, height)).toBeCloseTo(1, 9);
    expect(Math.max(width, height)).toBeCloseTo(2 * HEX_RADIUS, 9);
    expect(grid === "hex_row" ? width : height).toBeCloseTo(1, 9);
  });
});

describe("snapping", () => {
  it("whole sizes stand on whole squares", () => {
    for (let k = 0; k < 200; k++) {
      const at = anyPoint();
      const side = 1 + Math.floor(between(next, 0, 4));
      const to = snap("square", at, { width: side, height: side });
      expect(Number.isInteger(to.x) && Number.isInteger(to.y)).toBe(true);
      expect(Math.abs(to.x - at.x)).toBeLessThanOrEqual(0.5 + 1e-9);
    }
  });

  it("half sizes stand in the quarters of a square, small ones in its middle, one and a half on halves", () => {
    expect(snap("square", { x: 3.4, y: 3.6 }, { width: 0.5, height: 0.5 })).toEqual({ x: 3.5, y: 3.5 });
    expect(snap("square", { x: 3.1, y: 3.2 }, { width: 0.5, height: 0.5 })).toEqual({ x: 3, y: 3 });
    expect(snap("square", { x: 3.4, y: 3 }, { width: 0.8, height: 0.8 })).toEqual({ x: 3.1, y: 3.1 });
    expect(snap("square", { x: 3.3, y: 3.2 }, { width: 1.5, height: 1.5 })).toEqual({ x: 3.5, y: 3 });
    expect(snap("square", { x: -0.6, y: -0.4 }, { width: 1, height: 2 })).toEqual({ x: -1, y: 0 });
  });

  it.each(HEXES)("%s: pieces of one cell stand on middles, of two on corners, of three on middles", (grid) => {
    for (let k = 0; k < 200; k++) {
      for (const side of [1, 2, 3]) {
        const at = anyPoint();
        const to = snap(grid, at, { width: side, height: side });
        const middle = { x: to.x + side / 2, y: to.y + side / 2 };
        const cell = cellAt(grid, { x: at.x + side / 2, y: at.y + side / 2 });
        const stands = side === 2 ? cellCorners(grid, cell) : [cellCentre(grid, cell)];
        const off = Math.min(...stands.map((point) => Math.hypot(point.x - middle.x, point.y - middle.y)));
        expect(off).toBeLessThan(1e-5);
      }
    }
  });

  it.each(["square", ...HEXES] as const)("%s: what is snapped stays where it is", (grid) => {
    for (let k = 0; k < 200; k++) {
      const side = [0.5, 1, 2, 3][k % 4] ?? 1;
      const once = snap(grid, anyPoint(), { width: side, height: side });
      const twice = snap(grid, once, { width: side, height: side });
      expect(twice.x).toBeCloseTo(once.x, 5);
      expect(twice.y).toBeCloseTo(once.y, 5);
    }
  });

  it("leaves a board without a grid alone", () => {
    expect(snap("none", { x: 1.2345, y: -2.5 }, { width: 1, height: 1 })).toEqual({ x: 1.2345, y: -2.5 });
  });
});

describe("steps of the arrow keys", () => {
  it.each(CELLED)("%s: lead to a neighbour, and back", (grid) => {
    for (let k = 0; k < 200; k++) {
      const cell = anyCell();
      const at = cellCentre(grid, cell);
      for (const [dx, dy] of [
        [1, 0],
        [-1, 0],
        [0, 1],
        [0, -1],
      ] as const) {
        const by = step(grid, at, dx, dy);
        const to = { x: at.x + by.x, y: at.y + by.y };
        expect(distance(grid, at, to)).toBe(1);
        const middle = cellCentre(grid, cellAt(grid, to));
        expect(Math.hypot(middle.x - to.x, middle.y - to.y)).toBeLessThan(1e-9);
        const back = step(grid, to, -dx as -1 | 0 | 1, -dy as -1 | 0 | 1);
        expect(to.x + back.x).toBeCloseTo(at.x, 9);
        expect(to.y + back.y).toBeCloseTo(at.y, 9);
      }
    }
  });
});

describe("distance", () => {
  it.each(CELLED)("%s: is a metric in whole cells", (grid) => {
    for (let k = 0; k < 200; k++) {
      const [a, b, c] = [anyPoint(), anyPoint(), anyPoint()];
      const ab = distance(grid, a, b);
      expect(Number.isInteger(ab)).toBe(true);
      expect(distance(grid, b, a)).toBe(ab);
      expect(distance(grid, a, a)).toBe(0);
      expect(ab).toBeLessThanOrEqual(distance(grid, a, c) + distance(grid, c, b));
    }
  });

  it.each(HEXES)("%s: counts the hexes of a walk", (grid) => {
    // breadth first over neighbours, as a naive twin
    const start: Cell = { column: 2, row: 3 };
    const key = ({ column, row }: Cell): string => `${column},${row}`;
    const found = new Map([[key(start), 0]]);
    let ring = [start];
    for (let far = 1; far <= 5; far++) {
      const outer: Cell[] = [];
      for (const cell of ring) {
        const middle = cellCentre(grid, cell);
        for (let k = 0; k < 6; k++) {
          const angle = (grid === "hex_row" ? 0 : Math.PI / 6) + (k * Math.PI) / 3;
          const other = cellAt(grid, { x: middle.x + Math.cos(angle), y: middle.y + Math.sin(angle) });
          if (found.has(key(other))) continue;
          found.set(key(other), far);
          outer.push(other);
        }
      }
      ring = outer;
    }
    expect(found.size).toBe(91);
    for (const [cell, far] of found) {
      const [column = 0, row = 0] = cell.split(",").map(Number);
      expect(distance(grid, cellCentre(grid, start), cellCentre(grid, { column, row }))).toBe(far);
    }
  });

  it("counts diagonals as one on squares, and straight lines without a grid", () => {
    expect(distance("square", { x: 0.5, y: 0.5 }, { x: 3.5, y: 2.5 })).toBe(3);
    expect(distance("none", { x: 0, y: 0 }, { x: 3, y: 4 })).toBe(5);
    expect(
      pathLength("square", [
        { x: 0.5, y: 0.5 },
        { x: 2.5, y: 1.5 },
        { x: 4.5, y: 1.5 },
      ]),
    ).toBe(4);
    expect(pathLength("square", [{ x: 1, y: 1 }])).toBe(0);
  });

  it("speaks of cells", () => {
    expect([inCells(1), inCells(4), inCells(2.46), inCells(0)]).toEqual(["1 cell", "4 cells", "2.5 cells", "0 cells"]);
  });
});

describe("lines of a hex grid", () => {
  const scene = { width: 9, height: 7 };

  it.each(HEXES)("%s: lie on the scene, each once", (grid) => {
    const lines = hexLines(grid, scene, { x: -5, y: -5, width: 30, height: 30 });
    const seen = new Set<string>();
    expect(lines.length % 4).toBe(0);
    for (let k = 0; k < lines.length; k += 4) {
      const [x1 = 0, y1 = 0, x2 = 0, y2 = 0] = lines.slice(k, k + 4);
      for (const [x, y] of [
        [x1, y1],
        [x2, y2],
      ] as const) {
        expect(x).toBeGreaterThanOrEqual(-1e-9);
        expect(y).toBeGreaterThanOrEqual(-1e-9);
        expect(x).toBeLessThanOrEqual(scene.width + 1e-9);
        expect(y).toBeLessThanOrEqual(scene.height + 1e-9);
      }
      expect(Math.hypot(x2 - x1, y2 - y1)).toBeLessThanOrEqual(HEX_RADIUS + 1e-9);
      const middle = `${((x1 + x2) / 2).toFixed(6)} ${((y1 + y2) / 2).toFixed(6)}`;
      expect(seen.has(middle)).toBe(false);
      seen.add(middle);
    }
  });

  it.each(HEXES)("%s: surround every hex that lies wholly on the scene", (grid) => {
    const lines = hexLines(grid, scene, { x: 0, y: 0, ...scene });
    const middles = new Set<string>();
    const name = (a: Point, b: Point): string => `${((a.x + b.x) / 2).toFixed(6)} ${((a.y + b.y) / 2).toFixed(6)}`;
    for (let k = 0; k < lines.length; k += 4) {
      const [x1 = 0, y1 = 0, x2 = 0, y2 = 0] = lines.slice(k, k + 4);
      middles.add(name({ x: x1, y: y1 }, { x: x2, y: y2 }));
    }
    const corners = cellCorners(grid, { column: 3, row: 3 });
    corners.forEach((corner, k) => expect(middles.has(name(corner, corners[(k + 1) % 6] ?? corner))).toBe(true));
    expect(HEX_STEP).toBeCloseTo(0.866, 3);
  });

  it("draws nothing beside the scene", () => {
    expect(hexLines("hex_row", scene, { x: 20, y: 0, width: 5, height: 5 })).toEqual([]);
  });
});
