/** Labels of the moments on a timeline: beside one another where there is room, and else numbers. */

export interface Flag {
  /** Where its line stands, and how wide its words are, in pixels. */
  readonly at: number;
  readonly width: number;
}

export interface Placed {
  readonly left: number;
  readonly row: number;
}

const GAP = 10;
const INDENT = 5;

/**
 * A place for each label in as few rows as it takes: to the right of its line, or to the left at the right edge.
 * Null when `rows` rows do not hold them without touching.
 */
export function placed(flags: readonly Flag[], left: number, right: number, rows: number): Placed[] | null {
  const taken: [number, number][][] = Array.from({ length: rows }, () => []);
  const found: Placed[] = [];
  for (const flag of flags) {
    const after = flag.at + INDENT;
    const start = after + flag.width > right ? flag.at - INDENT - flag.width : after;
    if (start < left) return null;
    const end = start + flag.width;
    const row = taken.findIndex((spans) => spans.every(([from, to]) => start >= to + GAP || end <= from - GAP));
    if (row < 0) return null;
    taken[row]?.push([start, end]);
    found.push({ left: start, row });
  }
  return found;
}
