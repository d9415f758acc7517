/** Which piece lies under a point or in a frame, and in what order pieces lie on each other. */
import type { GridType, Layer, Point, Token } from "../protocol/types";
import { type Box, overlaps } from "./camera";
import { snap } from "./grid";

const FLOOR: Record<Layer, number> = { map: 0, object: 1, gm: 2 };

export function boxOf(token: Token): Box {
  return { x: token.x, y: token.y, width: token.width, height: token.height };
}

export function middleOf(token: Token): Point {
  return { x: token.x + token.width / 2, y: token.y + token.height / 2 };
}

/** Bottom first: layer by layer, in each the large pieces below the small, else in the order they came. */
export function stacked(tokens: readonly Token[]): Token[] {
  return [...tokens].sort((a, b) => FLOOR[a.layer] - FLOOR[b.layer] || b.width * b.height - a.width * a.height);
}

/** Is the point on the piece's coin, or within `slack` cells of it? Pieces of the map layer fill their whole box. */
export function touches(token: Token, at: Point, slack = 0): boolean {
  const middle = middleOf(token);
  const dx = Math.abs(at.x - middle.x);
  const dy = Math.abs(at.y - middle.y);
  const rx = token.width / 2 + slack;
  const ry = token.height / 2 + slack;
  if (dx > rx || dy > ry) return false;
  if (token.layer === "map") return true;
  // a coin is a box with fully rounded ends: measure from its middle line
  const round = Math.min(rx, ry);
  return Math.hypot(Math.max(0, dx - (rx - round)), Math.max(0, dy - (ry - round))) <= round;
}

/**
 * The topmost piece under the point; `slack` (cells) helps fingers and small pieces, but an exact hit wins over a near
 * one. `order` is bottom first, as `stacked` gives it.
 */
export function pieceAt(order: readonly Token[], at: Point, slack: number): Token | null {
  let near: Token | null = null;
  let least = Infinity;
  for (let k = order.length - 1; k >= 0; k--) {
    const token = order[k];
    if (!token) continue;
    if (touches(token, at)) return token;
    if (slack > 0 && touches(token, at, slack)) {
      const middle = middleOf(token);
      const distance = Math.hypot(at.x - middle.x, at.y - middle.y);
      if (distance < least) {
        least = distance;
        near = token;
      }
    }
  }
  return near;
}

/** The box between two opposite corners, whichever they are. */
export function boxBetween(a: Point, b: Point): Box {
  return { x: Math.min(a.x, b.x), y: Math.min(a.y, b.y), width: Math.abs(a.x - b.x), height: Math.abs(a.y - b.y) };
}

/**
 * Pieces that a selection frame takes: those whose middle half it touches, so that brushing an edge does not count.
 * Scenery of the map layer is taken only when nothing else is in the frame.
 */
export function piecesIn(order: readonly Token[], frame: Box): Token[] {
  const taken = order.filter((token) => {
    const inner = {
      x: token.x + token.width / 4,
      y: token.y + token.height / 4,
      width: token.width / 2,
      height: token.height / 2,
    };
    return overlaps(inner, frame);
  });
  const pieces = taken.filter((token) => token.layer !== "map");
  return pieces.length > 0 ? pieces : taken;
}

const RINGS = 12;

/** Top left corner of a cell near `middle` on which no piece stands, for a piece of one cell. */
export function emptyNear(tokens: readonly Token[], grid: GridType, middle: Point): Point {
  const unit = { width: 1, height: 1 };
  const cells = grid === "none" ? "square" : grid;
  const standing = tokens.filter((token) => token.layer !== "map");
  const corner = (x: number, y: number): Point => snap(cells, { x: x - 0.5, y: y - 0.5 }, unit);
  for (let ring = 0; ring < RINGS; ring++) {
    const around = Math.max(1, ring * 8);
    for (let k = 0; k < around; k++) {
      const angle = (k / around) * 2 * Math.PI;
      const at = corner(middle.x + Math.cos(angle) * ring, middle.y + Math.sin(angle) * ring);
      const centre = { x: at.x + 0.5, y: at.y + 0.5 };
      if (!standing.some((token) => touches(token, centre))) return at;
    }
  }
  return corner(middle.x, middle.y);
}
