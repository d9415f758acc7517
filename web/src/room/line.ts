/** What the plate says of the line. It calls everything saved only when that is known. */
import type { Problem } from "../protocol/problem";
import type { Pending } from "./pending";
import { counted, timeOfDay } from "./words";

export interface Line {
  tone: "live" | "wait" | "off";
  words: string;
}

export interface LineState {
  now: number;
  connected: boolean;
  everLive: boolean;
  /** When the line went down, if it is down. */
  lostAt: number;
  /** How long the last answer took, in milliseconds, as long as that says something about now. */
  roundTrip: number;
  putOff: Problem | null;
  /** What has no answer yet, oldest first. */
  open: readonly Pending[];
}

/** From then on a deed without an answer is told of where it was done, with a way to give up on it. */
export const NOT_ANSWERED_MS = 15_000;
const QUIET_MS = 300;
const SLOW_MS = 600;
const SILENT_MS = 2_000;
const FINDING_MS = 3_000;
const TOO_MANY = 429;

export function lineOf({ now, connected, everLive, lostAt, roundTrip, putOff, open }: LineState): Line {
  if (!connected) {
    if (!everLive)
      return { tone: "wait", words: now - lostAt > FINDING_MS ? "Still looking for the table" : "Finding the table" };
    if (now - lostAt >= QUIET_MS) return { tone: "off", words: `Offline since ${timeOfDay(lostAt)}` };
    return { tone: "wait", words: open.length > 0 ? waits(open.length) : "Finding the table again" };
  }
  const [first] = open;
  if (first === undefined) {
    return roundTrip > SLOW_MS
      ? { tone: "wait", words: `Slow line, ${Math.round(roundTrip / 50) * 50} ms` }
      : { tone: "live", words: "Live, all saved" };
  }
  const wait = now - first.askedAt;
  if (putOff !== null) {
    const why = putOff.status === TOO_MANY ? "Too much at once" : "Cannot save now";
    return { tone: "wait", words: `${why}, ${waits(open.length)}` };
  }
  if (wait > SILENT_MS) return { tone: "wait", words: `${waits(open.length)}, no answer for ${seconds(wait)} s` };
  if (wait <= QUIET_MS && first.sent <= 1) return { tone: "live", words: "Live, all saved" };
  const moves = open.every(({ command }) => command.type === "token.move");
  return {
    tone: wait > SLOW_MS ? "wait" : "live",
    words: `Saving ${counted(open.length, moves ? "move" : "change")}`,
  };
}

/** Said of deeds that have had no answer for long, beside the way to give up on them. */
export function stuckWords(stuck: readonly Pending[], connected: boolean, putOff: Problem | null): string {
  const end = stuck.some(({ sent }) => sent > 0) ? "Giving up only ends the sending: it may have happened." : "";
  if (!connected) return end;
  const what = putOff === null ? "Not answered yet" : "The table cannot save right now";
  return `${what}: ${waits(stuck.length)} and ${stuck.length === 1 ? "is" : "are"} sent again until the table answers. ${end}`.trim();
}

/** "1 change waits", "3 changes wait". */
export const waits = (count: number): string => `${counted(count, "change")} ${count === 1 ? "waits" : "wait"}`;

/** Whole seconds, from ten on by fives: what is read out should not change every second for long. */
function seconds(ms: number): number {
  const whole = Math.floor(ms / 1000);
  return whole < 10 ? whole : whole - (whole % 5);
}
