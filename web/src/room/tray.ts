/** The dice tray writes an ordinary expression: pressing a die adds one, taking away removes one, and the text stays text. */

export const DICE = ["4", "6", "8", "10", "12", "20", "%"] as const;
export type Sides = (typeof DICE)[number];

/** A plain group of this die: not one with keep, explode or the like behind it, which is left to its writer. */
function group(sides: Sides): RegExp {
  return new RegExp(String.raw`(?<![\w.)])(\d*)d${sides}(?![\w!%<>=])`, "iu");
}

export function countOf(expression: string, sides: Sides): number {
  const found = group(sides).exec(expression);
  return found ? Number(found[1] || 1) : 0;
}

export function withDie(expression: string, sides: Sides): string {
  const count = countOf(expression, sides);
  if (count > 0) return expression.replace(group(sides), `${count + 1}d${sides}`);
  const before = expression.trim();
  return before === "" ? `1d${sides}` : placed(before, `1d${sides}`);
}

/** Dice stand before a closing bonus, as people write them: 2d6 and then 1d8 + 3. */
function placed(before: string, die: string): string {
  const bonus = /^(.*\S)(\s*[+-]\s*\d+)$/u.exec(before);
  return bonus ? `${bonus[1]} + ${die}${bonus[2]}` : `${before} + ${die}`;
}

export function withoutDie(expression: string, sides: Sides): string {
  const count = countOf(expression, sides);
  if (count === 0) return expression;
  if (count > 1) return expression.replace(group(sides), `${count - 1}d${sides}`);
  return expression
    .replace(new RegExp(String.raw`\s*[+-]?\s*${group(sides).source}`, "iu"), "")
    .replace(/^\s*\+\s*/u, "")
    .trim();
}
