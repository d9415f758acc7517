/** Colours and marks: every member owns a colour and a shape, the same on every screen of the table. */
import type { Member } from "../protocol/types";

/** Outlines in a 14 x 14 box, in the order of `--player-1` to `--player-8`. */
export const MARKS: readonly { name: string; path: string }[] = [
  { name: "Ember disc", path: "M7 2a5 5 0 1 1 0 10A5 5 0 0 1 7 2z" },
  { name: "Wheat triangle", path: "M7 1.6 13 12H1z" },
  { name: "Moss square", path: "M2.2 2.2h9.6v9.6H2.2z" },
  { name: "Lagoon diamond", path: "M7 .8 13.2 7 7 13.2.8 7z" },
  { name: "Sky hexagon", path: "M4 1.8h6L13 7l-3 5.2H4L1 7z" },
  { name: "Indigo star", path: "m7 .6 1.9 4.3 4.6.4-3.5 3 1.1 4.6L7 10.4l-4.1 2.5L4 8.3.5 5.3l4.6-.4z" },
  { name: "Plum cross", path: "M5 1h4v4h4v4H9v4H5V9H1V5h4z" },
  {
    name: "Bone ring",
    path: "M7 1.2a5.8 5.8 0 1 0 0 11.6A5.8 5.8 0 0 0 7 1.2zm0 3.5a2.3 2.3 0 1 1 0 4.6 2.3 2.3 0 0 1 0-4.6z",
  },
];

/**
 * The mark of each member, 1 to 8: the one their id asks for, or the next free one, so that up to eight people at a table
 * all differ, and nobody's mark moves when somebody of a later seat comes or goes.
 */
export function marksOf(members: readonly Member[]): Map<string, number> {
  const marks = new Map<string, number>();
  const taken = new Set<number>();
  for (const { id } of members) {
    if (taken.size === MARKS.length) taken.clear();
    let mark = wish(id);
    while (taken.has(mark)) mark = (mark + 1) % MARKS.length;
    taken.add(mark);
    marks.set(id, mark + 1);
  }
  return marks;
}

function wish(id: string): number {
  let sum = 0;
  for (const letter of id) sum = (sum * 31 + (letter.codePointAt(0) ?? 0)) >>> 0;
  return sum % MARKS.length;
}

/** Two letters for an avatar: of the first two words, or of the only one. */
export function initials(name: string): string {
  const words = name.trim().split(/\s+/u);
  const letters = words.length > 1 ? words.slice(0, 2).map((word) => [...word][0] ?? "") : [...(words[0] ?? "")];
  return letters.slice(0, 2).join("").toLocaleUpperCase();
}
