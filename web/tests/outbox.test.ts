/** What was done and not confirmed: nothing is called failed that may have happened, and the order stays. */
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Unanswered, type Reply } from "../src/protocol/connection";
import { Refusal, UNREACHABLE, type Problem } from "../src/protocol/problem";
import type { RoomCommand } from "../src/protocol/types";
import { AGAIN_AT_MOST_MS, Outbox } from "../src/room/outbox";
import type { Pending } from "../src/room/pending";

interface Sent {
  id: string;
  answer: (reply: Reply) => void;
  fail: (why: unknown) => void;
}

const line = (text: string): RoomCommand => ({ type: "chat.say", text });
const away: Problem = { ...UNREACHABLE, status: 503, code: "unavailable" };

let sent: Sent[];
let list: readonly Pending[];
let putOff: Problem | null;
let reached: number;
let outbox: Outbox;

beforeEach(() => {
  vi.useFakeTimers();
  sent = [];
  list = [];
  putOff = null;
  reached = 10;
  outbox = new Outbox({
    send: (id) => new Promise((answer, fail) => sent.push({ id, answer, fail })),
    reached: () => reached,
    changed: (now, why) => {
      list = now;
      putOff = why;
    },
  });
  outbox.opened();
});

afterEach(() => {
  outbox.closed();
  vi.useRealTimers();
});

const ids = (): string[] => sent.map(({ id }) => id);
const settle = (): Promise<unknown> => vi.advanceTimersByTimeAsync(0);
const longEnough = (): Promise<unknown> => vi.advanceTimersByTimeAsync(AGAIN_AT_MOST_MS);

describe("the outbox", () => {
  it("pipelines what is in no doubt", async () => {
    const asked = [outbox.add("a", line("one")), outbox.add("b", line("two"))];
    expect(ids()).toEqual(["a", "b"]);
    sent[0]?.answer({ offset: 9 });
    sent[1]?.answer({ offset: 10 });
    await expect(Promise.all(asked)).resolves.toEqual([{ offset: 9 }, { offset: 10 }]);
    expect(list).toEqual([]);
  });

  it("sends again under the same id what was not answered, and nothing before that", async () => {
    const first = outbox.add("a", line("one"));
    sent[0]?.fail(new Unanswered());
    await settle();
    void outbox.add("b", line("two"));
    void outbox.add("c", line("three"));
    expect(ids()).toEqual(["a"]);
    await longEnough();
    expect(ids()).toEqual(["a", "a"]);
    sent[1]?.answer({ offset: 10 });
    await expect(first).resolves.toEqual({ offset: 10 });
    await settle();
    expect(ids()).toEqual(["a", "a", "b", "c"]);
  });

  it("keeps the order of what a broken line had in flight, one at a time", async () => {
    void outbox.add("a", line("one"));
    void outbox.add("b", line("two"));
    outbox.closed();
    for (const one of sent) one.fail(new Unanswered());
    await settle();
    void outbox.add("c", line("three"));
    void outbox.add("d", line("four"));
    expect(ids()).toEqual(["a", "b"]);
    outbox.opened();
    expect(ids().slice(2)).toEqual(["a"]);
    sent[2]?.answer({ offset: 10 });
    await settle();
    expect(ids().slice(3)).toEqual(["b"]);
    sent[3]?.answer({ offset: 10 });
    await settle();
    expect(ids().slice(4)).toEqual(["c", "d"]);
  });

  it("sends at once on a new line, whatever it waited for on the old", async () => {
    void outbox.add("a", line("one"));
    sent[0]?.fail(new Unanswered());
    await settle();
    outbox.closed();
    outbox.opened();
    expect(ids()).toEqual(["a", "a"]);
  });

  it("takes its event for an answer", async () => {
    const asked = outbox.add("a", line("one"));
    sent[0]?.fail(new Unanswered());
    await settle();
    outbox.heard(11, "a");
    await expect(asked).resolves.toEqual({ offset: 11 });
    expect(list).toEqual([]);
    await longEnough();
    expect(ids()).toEqual(["a"]);
  });

  it("is done by its event while it flies, though the reply never comes", async () => {
    const asked = outbox.add("a", line("one"));
    reached = 11;
    outbox.heard(11, "a");
    expect(list).toEqual([]);
    sent[0]?.fail(new Unanswered());
    await expect(asked).resolves.toEqual({ offset: 11 });
    await longEnough();
    expect(ids()).toEqual(["a"]);
  });

  it("waits longer each time while the table puts it off, and says why", async () => {
    void outbox.add("a", line("one"));
    const gaps: number[] = [];
    for (let tries = 1; tries <= 8; tries += 1) {
      const at = Date.now();
      sent.at(-1)?.fail(new Unanswered(away));
      await settle();
      expect(putOff).toBe(away);
      while (sent.length === tries) await vi.advanceTimersByTimeAsync(50);
      gaps.push(Date.now() - at);
    }
    expect(new Set(ids())).toEqual(new Set(["a"]));
    expect(gaps[0]).toBeLessThanOrEqual(550);
    expect(gaps[7]).toBeGreaterThanOrEqual(AGAIN_AT_MOST_MS / 2);
    expect(Math.max(...gaps)).toBeLessThanOrEqual(AGAIN_AT_MOST_MS + 50);
    sent.at(-1)?.answer({ offset: 10 });
    await settle();
    expect([list, putOff]).toEqual([[], null]);
  });

  it("tells a refusal, and goes on with the rest", async () => {
    const refusal = new Refusal({ ...UNREACHABLE, status: 409, code: "locked" });
    const asked = outbox.add("a", line("one"));
    sent[0]?.fail(new Unanswered());
    const told = expect(asked).rejects.toBe(refusal);
    await settle();
    void outbox.add("b", line("two"));
    await longEnough();
    sent[1]?.fail(refusal);
    await told;
    await settle();
    expect(ids()).toEqual(["a", "a", "b"]);
  });

  it("says what is known of what was given up, and goes on behind it", async () => {
    const asked = outbox.add("a", line("one"));
    const told = expect(asked).rejects.toThrow("may have happened");
    sent[0]?.fail(new Unanswered());
    await settle();
    void outbox.add("b", line("two"));
    expect(outbox.giveUp(new Set(["a"])).why).toContain("may have happened");
    await told;
    await longEnough();
    expect(ids()).toEqual(["a", "b"]);
  });

  it("knows that what never left did not happen", async () => {
    outbox.closed();
    const told = expect(outbox.add("a", line("one"))).rejects.toThrow("Nothing happened.");
    expect(outbox.giveUp(new Set(["a"])).code).toBe("given-up");
    await told;
  });
});
