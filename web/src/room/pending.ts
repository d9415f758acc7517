/**
 * Commands on their way. Moves among them are laid over the room at once (optimistic) and taken back when refused.
 * A command leaves the list when its event was applied, when the room has passed the offset of its reply, or when it was
 * refused; one whose answer was lost stays, and is sent again under its own id, which does it once at most.
 */
import type { Move, RoomCommand, Token } from "../protocol/types";

export interface Pending {
  readonly id: string;
  readonly command: RoomCommand;
  readonly askedAt: number;
  /** How often it was sent: from the first time on, it may have happened. */
  readonly sent: number;
  /** The offset of the reply; null until it came. */
  readonly acknowledged: number | null;
}

/** How many deeds may wait for a line that is down; bounded, so that nobody plays for an hour into the void. */
export const WAITING_AT_MOST = 200;

export function withPending(list: readonly Pending[], id: string, command: RoomCommand, now: number): Pending[] {
  return [...list, { id, command, askedAt: now, sent: 0, acknowledged: null }];
}

export function withoutPending(list: readonly Pending[], id: string): readonly Pending[] {
  return list.some((one) => one.id === id) ? list.filter((one) => one.id !== id) : list;
}

export function withSending(list: readonly Pending[], id: string): readonly Pending[] {
  return list.map((one) => (one.id === id ? { ...one, sent: one.sent + 1 } : one));
}

/** A reply came: the command stays laid over the room until the room itself has reached `offset`. */
export function acknowledge(list: readonly Pending[], id: string, offset: number, reached: number): readonly Pending[] {
  if (offset <= reached) return withoutPending(list, id);
  return list.map((one) => (one.id === id ? { ...one, acknowledged: offset } : one));
}

/** The room has come to `offset`; `id` is the command of the event that brought it there, if it was an own one. */
export function settled(list: readonly Pending[], offset: number, id: string | null): readonly Pending[] {
  const left = list.filter((one) => one.id !== id && (one.acknowledged === null || one.acknowledged > offset));
  return left.length === list.length ? list : left;
}

export function unanswered(list: readonly Pending[]): readonly Pending[] {
  return list.filter((one) => one.acknowledged === null);
}

function movesOf(command: RoomCommand): readonly Move[] {
  if (command.type !== "token.move") return [];
  const { token, x, y, rotation, moves = [] } = command;
  if (token === undefined || x === undefined || y === undefined) return moves;
  return [{ token, x, y, ...(rotation !== undefined && { rotation }) }];
}

/** The pieces as their mover already sees them: the room's, with every move on its way laid over, oldest first. */
export function overlay(tokens: Token[], list: readonly Pending[]): Token[] {
  const ways = new Map<string, Partial<Token>>();
  const gone = new Set<string>();
  for (const { command } of list) {
    for (const { token, x, y, rotation } of movesOf(command)) {
      ways.set(token, { ...ways.get(token), x, y, ...(rotation !== undefined && { rotation }) });
    }
    if (command.type === "token.remove") gone.add(command.token);
  }
  if (ways.size === 0 && gone.size === 0) return tokens;
  return tokens
    .filter((token) => !gone.has(token.id))
    .map((token) => (ways.has(token.id) ? { ...token, ...ways.get(token.id) } : token));
}
