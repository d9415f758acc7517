/** The parallel list: the board for keyboard and screen reader, one button a piece. */
import type { GridType, Token } from "../protocol/types";
import { cellAt } from "./grid";
import { middleOf } from "./hit";

export interface Row {
  readonly token: Token;
  readonly name: string;
}

/** Owner's name as the list speaks it; null for nobody's piece. */
export type OwnerName = (token: Token) => string | null;

/** The cell a piece is said to stand in: that of its middle, for large square ones that of their top left corner. */
export function cellOf(grid: GridType, token: Token): { column: number; row: number } {
  if (grid === "hex_row" || grid === "hex_column") return cellAt(grid, middleOf(token));
  const column = Math.floor(token.x + Math.min(token.width, 1) / 2);
  const row = Math.floor(token.y + Math.min(token.height, 1) / 2);
  return { column, row };
}

/** Turn order first, then as one reads: row by row, left to right; name and id settle ties, so the order is stable. */
export function inOrder(grid: GridType, tokens: readonly Token[], turnOrder: readonly string[]): Token[] {
  const turn = new Map(turnOrder.map((id, index) => [id, index]));
  const keyed = tokens.map((token) => ({ token, cell: cellOf(grid, token), turn: turn.get(token.id) ?? Infinity }));
  keyed.sort(
    (a, b) =>
      (a.turn === b.turn ? 0 : a.turn - b.turn) ||
      a.cell.row - b.cell.row ||
      a.cell.column - b.cell.column ||
      a.token.name.localeCompare(b.token.name) ||
      (a.token.id < b.token.id ? -1 : 1),
  );
  return keyed.map((entry) => entry.token);
}

/** "Sable, cell 8 8, yours, hidden, its turn". */
export function nameOf(grid: GridType, token: Token, owner: string | null, hasTurn: boolean): string {
  const cell = cellOf(grid, token);
  const parts = [token.name, `cell ${cell.column} ${cell.row}`];
  if (owner !== null) parts.push(owner);
  if (token.hidden) parts.push("hidden");
  else if (token.layer === "gm") parts.push("only the GM sees it");
  if (token.layer === "map") parts.push("part of the map");
  if (token.locked) parts.push("locked");
  if (hasTurn) parts.push("its turn");
  return parts.join(", ");
}

export function rows(
  grid: GridType,
  tokens: readonly Token[],
  turnOrder: readonly string[],
  turnToken: string | null,
  ownerName: OwnerName,
): Row[] {
  return inOrder(grid, tokens, turnOrder).map((token) => ({
    token,
    name: nameOf(grid, token, ownerName(token), token.id === turnToken),
  }));
}
