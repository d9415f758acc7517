/** How a roll is shown: which dice, what became of each, and the bonus that was added, if that can be told. */
import type { Die, Roll } from "../protocol/types";
import { figure } from "./words";

/** More dice than this are folded away behind a button. */
export const DICE_SHOWN = 40;

export interface ShownDie {
  text: string;
  /** Counted for nothing: dropped, or rolled again. */
  out: boolean;
  exploded: boolean;
  rerolled: boolean;
  success: boolean;
  failure: boolean;
  best: boolean;
  words: string;
}

const FATES: Readonly<Record<string, string>> = {
  dropped: "dropped",
  exploded: "exploded",
  rerolled: "rolled again",
  success: "a success",
  failure: "a failure",
};

export function shownDie(die: Die): ShownDie {
  const has = (fate: Die["fate"][number]): boolean => die.fate.includes(fate);
  const out = has("dropped") || has("rerolled");
  const fates = die.fate.flatMap((fate) => FATES[fate] ?? []);
  return {
    text: figure(die.value),
    out,
    exploded: has("exploded"),
    rerolled: has("rerolled"),
    success: has("success"),
    failure: has("failure"),
    best: !out && die.sides === 20 && die.value === 20,
    words: [figure(die.value), ...fates].join(", "),
  };
}

/** "+ 4" when the expression ends in a bonus and the counted dice with it make the total; else nothing is claimed. */
export function bonusOf(roll: Roll): string {
  const bonus = /([+-])\s*(\d+(?:\.\d+)?)\s*$/u.exec(roll.expression ?? "");
  if (!bonus || roll.total === undefined) return "";
  const size = Number(bonus[2]) * (bonus[1] === "-" ? -1 : 1);
  const counted = (roll.dice ?? [])
    .filter(({ fate }) => !fate.includes("dropped") && !fate.includes("rerolled"))
    .reduce((sum, { value }) => sum + value, 0);
  return counted + size === roll.total ? `${bonus[1] === "-" ? "−" : "+"} ${bonus[2]}` : "";
}
