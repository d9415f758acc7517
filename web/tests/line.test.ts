/** The plate: everything is saved only when that is known. */
import { describe, expect, it } from "vitest";
import { UNREACHABLE } from "../src/protocol/problem";
import { lineOf, stuckWords, type LineState } from "../src/room/line";
import type { Pending } from "../src/room/pending";

const NOW = 100_000;
const say = (ago: number, sent = 1): Pending => ({
  id: `${ago}`,
  command: { type: "chat.say", text: "hello" },
  askedAt: NOW - ago,
  sent,
  acknowledged: null,
});

function words(state: Partial<LineState>): string {
  const { tone, words: said } = lineOf({
    now: NOW,
    connected: true,
    everLive: true,
    lostAt: NOW,
    roundTrip: 0,
    putOff: null,
    open: [],
    ...state,
  });
  return `${tone}: ${said}`;
}

const away = { ...UNREACHABLE, status: 503, code: "unavailable" };

describe("the plate", () => {
  it.each<[string, Partial<LineState>]>([
    ["live: Live, all saved", {}],
    ["live: Live, all saved", { open: [say(200)] }],
    ["live: Saving 1 change", { open: [say(400)] }],
    ["wait: Saving 2 changes", { open: [say(900), say(100)] }],
    ["wait: 1 change waits, no answer for 8 s", { open: [say(8_300, 2)] }],
    ["wait: 2 changes wait, no answer for 15 s", { open: [say(19_000, 4), say(50, 0)] }],
    ["wait: Slow line, 900 ms", { roundTrip: 890 }],
    ["wait: Cannot save now, 1 change waits", { putOff: away, open: [say(100, 2)] }],
    ["wait: Too much at once, 3 changes wait", { putOff: { ...away, status: 429 }, open: [say(9), say(8), say(7)] }],
    ["wait: 2 changes wait", { connected: false, lostAt: NOW - 100, open: [say(100), say(50)] }],
    ["wait: Finding the table again", { connected: false, lostAt: NOW - 100 }],
    ["wait: Finding the table", { connected: false, everLive: false, lostAt: NOW - 100 }],
  ])("says %s", (said, state) => {
    expect(words(state)).toBe(said);
  });

  it("says since when it is offline", () => {
    expect(words({ connected: false, lostAt: NOW - 400 })).toMatch(/^off: Offline since /u);
  });
});

describe("what has had no answer for long", () => {
  it("may have happened, once it was sent", () => {
    expect(stuckWords([say(16_000)], true, null)).toBe(
      "Not answered yet: 1 change waits and is sent again until the table answers. " +
        "Giving up only ends the sending: it may have happened.",
    );
    expect(stuckWords([say(16_000, 0), say(16_000, 0)], true, away)).toBe(
      "The table cannot save right now: 2 changes wait and are sent again until the table answers.",
    );
  });
});
