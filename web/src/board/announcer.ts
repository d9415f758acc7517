/**
 * Gathers what others do into one sentence, so that a screen reader is spoken to at most once in two seconds.
 * Pure: the caller gives the time and asks when it is due.
 */
import type { BoardNews } from "../room/board_port";
import type { GridType, Point, Token } from "../protocol/types";
import { distance, inCells } from "./grid";
import { middleOf } from "./hit";

export const GATHER_MS = 2000;
/** More pieces than this of one person are counted, not named. */
const NAMED = 3;

interface Gathered {
  by: string;
  kind: BoardNews["kind"];
  /** Latest state by piece, and where its movement began. */
  tokens: Map<string, { token: Token; from: Point | null }>;
}

export class Announcer {
  private waiting: Gathered[] = [];
  private spokenAt = -Infinity;

  /** `placeBefore`: where the piece's middle stood before this news, when known. */
  add(news: BoardNews, placeBefore: (id: string) => Point | null): void {
    let group = this.waiting.find((one) => one.by === news.by.name && one.kind === news.kind);
    if (!group) {
      group = { by: news.by.name, kind: news.kind, tokens: new Map() };
      this.waiting.push(group);
    }
    for (const token of news.tokens) {
      const from = group.tokens.get(token.id)?.from ?? placeBefore(token.id);
      group.tokens.set(token.id, { token, from });
    }
  }

  /** Milliseconds until something may be said; null when there is nothing to say. */
  dueIn(now: number): number | null {
    return this.waiting.length === 0 ? null : Math.max(0, this.spokenAt + GATHER_MS - now);
  }

  /** The sentence, and the waiting list is empty again. */
  speak(now: number, grid: GridType): string {
    const said = this.waiting.map((group) => sentence(group, grid)).join(". ");
    this.waiting = [];
    this.spokenAt = now;
    return said;
  }
}

const VERB: Record<BoardNews["kind"], string> = { moved: "moved", added: "added", removed: "removed" };

function sentence(group: Gathered, grid: GridType): string {
  const entries = [...group.tokens.values()];
  const names = entries.map((entry) => entry.token.name);
  const what = names.length > NAMED ? `${names.length} pieces` : joined(names);
  const only = entries.length === 1 ? entries[0] : undefined;
  if (group.kind === "moved" && only?.from) {
    const far = distance(grid, only.from, middleOf(only.token));
    if (far > 0) return `${group.by} moved ${what}, ${inCells(far)}`;
  }
  return `${group.by} ${VERB[group.kind]} ${what}`;
}

function joined(names: readonly string[]): string {
  if (names.length < 2) return names.join("");
  return `${names.slice(0, -1).join(", ")} and ${names.at(-1) ?? ""}`;
}
