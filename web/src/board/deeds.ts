/** What keys do to pieces. Each asks the table for what it may do, and leaves out what it may not. */
import type { Point, Token } from "../protocol/types";
import type { Board } from "./board";
import { step, tidy } from "./grid";
import { middleOf } from "./hit";
import { placeOf } from "./pieces";

/** What Alt with an arrow moves, in cells. */
const FINE = 0.1;

function movable(board: Board, ids: readonly string[]): Token[] {
  return ids.flatMap((id) => board.pieces.token(id) ?? []).filter((token) => board.port.mayMove(token));
}

/** One step of an arrow key. `fine`: a tenth of a cell, without snapping. False when none of them may be moved. */
export function nudge(board: Board, ids: readonly string[], dx: -1 | 0 | 1, dy: -1 | 0 | 1, fine: boolean): boolean {
  const tokens = movable(board, ids);
  const [lead] = tokens;
  if (!lead) return false;
  const by: Point = fine ? { x: dx * FINE, y: dy * FINE } : step(board.grid, middleOf(lead), dx, dy);
  const to = board.snapped({ x: lead.x + by.x, y: lead.y + by.y }, lead, fine);
  const shift = { x: to.x - lead.x, y: to.y - lead.y };
  void board.move(tokens.map(({ id, x, y }) => ({ token: id, x: tidy(x + shift.x), y: tidy(y + shift.y) })));
  board.frame(tokens.map(({ id }) => id));
  return true;
}

export function turn(board: Board, ids: readonly string[], degrees: number): void {
  const moves = movable(board, ids).map((token) => {
    const { x, y, rotation } = placeOf(token);
    return { token: token.id, x, y, rotation: (((rotation + degrees) % 360) + 360) % 360 };
  });
  if (moves.length > 0) void board.move(moves);
}

export function remove(board: Board, ids: readonly string[]): void {
  const going = ids.filter((id) => {
    const token = board.pieces.token(id);
    return token !== null && board.port.mayRemove(token);
  });
  if (going.length > 0) void board.port.removeTokens(going);
}

/** GMs hide pieces that all can see; when all of them are hidden, they show them. */
export function hide(board: Board, ids: readonly string[]): void {
  const { port, pieces } = board;
  if (port.me.role !== "gm") return;
  const tokens = ids.flatMap((id) => pieces.token(id) ?? []);
  const hidden = !tokens.every((token) => token.hidden);
  for (const token of tokens) if (token.hidden !== hidden) void port.updateToken(token.id, { hidden });
}
