import { flushSync } from "svelte";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Problem } from "../src/protocol/problem";
import { RoomStore } from "../src/room/room_store.svelte";
import { FarEnd } from "./far_end";
import { room, scene, token } from "./room";

let end: FarEnd;
let store: RoomStore;
let refusals: Problem[];
let notes: string[];

async function open(): Promise<void> {
  end.install();
  store = new RoomStore("r1", { note: (text) => notes.push(text), refuse: (problem) => refusals.push(problem) });
  store.open();
  await vi.waitFor(() => expect(store.connected).toBe(true));
}

beforeEach(() => {
  document.head.innerHTML = '<base href="http://localhost/">';
  end = new FarEnd(room());
  refusals = [];
  notes = [];
});

afterEach(() => store.close());

const xOf = (id = "t1") => store.tokens.find((one) => one.id === id)?.x;

describe("the room store", () => {
  it("shows the snapshot, then what happens", async () => {
    await open();
    expect(store.scene?.name).toBe("Cellar");
    end.happen({ type: "token.moved", token: "t1", x: 6, y: 6, by: "u2", at: "", id: "c" });
    await vi.waitFor(() => expect(xOf()).toBe(6));
  });

  it("moves at once, and stays there when the event comes after the reply", async () => {
    end.answer = () => ({ rpc: { data: { offset: 1 } } });
    await open();
    void store.moveTokens([{ token: "t1", x: 9, y: 2 }]);
    expect(xOf()).toBe(9);
    await vi.waitFor(() => expect(store.pending[0]?.acknowledged).toBe(1));
    expect(xOf()).toBe(9);
    end.happen({ type: "token.moved", token: "t1", x: 9, y: 2, by: "u1", at: "", id: end.heard[0]?.id ?? "" });
    await vi.waitFor(() => expect(store.pending).toEqual([]));
    expect(xOf()).toBe(9);
  });

  it("goes back when refused, and says why in words that name the piece", async () => {
    end.answer = () => ({
      error: { code: 409, message: "locked", detail: "Nothing was changed. The piece is locked. A GM can unlock it." },
    });
    await open();
    await store.moveTokens([{ token: "t1", x: 9, y: 2 }]);
    expect(xOf()).toBe(1);
    expect(refusals).toHaveLength(1);
    expect(refusals[0]).toMatchObject({ what: "Sable did not move.", why: "The piece is locked. A GM can unlock it." });
  });

  it("calls the end of one's own deeds no failure", async () => {
    end.answer = () => ({ error: { code: 409, message: "nothing-to-undo", detail: "Nothing was undone or redone." } });
    await open();
    await store.undo();
    expect(notes).toEqual(["Nothing of yours is left to undo."]);
    expect(refusals).toEqual([]);
  });

  it("sends again under the same id what the line cut off, and does it once", async () => {
    end.answer = () => undefined;
    await open();
    const asked = store.ask({ type: "chat.say", text: "hello" });
    await vi.waitFor(() => expect(end.heard).toHaveLength(1));
    end.answer = () => ({ rpc: { data: { offset: end.offset } } });
    end.cut();
    await vi.waitFor(() => expect(store.connected).toBe(false));
    await vi.waitFor(() => expect(end.heard).toHaveLength(2), 5_000);
    expect(end.heard[1]?.id).toBe(end.heard[0]?.id);
    await expect(asked).resolves.toEqual({ offset: 0 });
  });

  it("does not send again what it recovered as done", async () => {
    end.answer = () => undefined;
    await open();
    const asked = store.ask({ type: "chat.say", text: "hello" });
    await vi.waitFor(() => expect(end.heard).toHaveLength(1));
    end.happen({ type: "chat.said", text: "hello", by: "u1", at: "", id: end.heard[0]?.id ?? "" }, false);
    end.cut();
    await expect(asked).resolves.toEqual({ offset: 1 });
    expect(store.chat.map((line) => line.type === "chat.said" && line.text)).toEqual(["hello"]);
    expect(end.heard).toHaveLength(1);
  });

  it("sends again what the table could not save just now, and never says it failed", async () => {
    end.answer = () => ({ error: { code: 503, message: "unavailable", temporary: true, detail: "The log is away." } });
    await open();
    const said = store.say({ type: "chat.say", text: "hello" });
    await vi.waitFor(() => expect(end.heard).toHaveLength(2), 5_000);
    expect(store.line.words).toBe("Cannot save now, 1 change waits");
    end.answer = () => ({ rpc: { data: { offset: end.offset } } });
    await said;
    expect(new Set(end.heard.map(({ id }) => id)).size).toBe(1);
    expect([store.refused, store.pending, store.line.words]).toEqual([[], [], "Live, all saved"]);
  });

  it("takes a refusal back when the line is said after all", async () => {
    end.answer = () => ({ error: { code: 409, message: "conflict", detail: "Not now." } });
    await open();
    await store.say({ type: "chat.say", text: "hello" });
    expect(store.refused).toHaveLength(1);
    end.happen({ type: "chat.said", text: "hello", by: "u1", at: "", id: end.heard[0]?.id ?? "" });
    await vi.waitFor(() => expect(store.refused).toEqual([]));
  });

  it("leaves a server that stands still, and brings what it was asked to the next", async () => {
    vi.useFakeTimers();
    try {
      end.install();
      store = new RoomStore("r1", { note: (text) => notes.push(text), refuse: (problem) => refusals.push(problem) });
      store.open();
      await vi.advanceTimersByTimeAsync(100);
      end.stands = true;
      const said = store.say({ type: "chat.say", text: "hello" });
      await vi.advanceTimersByTimeAsync(4_000);
      expect(store.line.words).toMatch(/^1 change waits, no answer for [34] s$/u);
      end.stands = false;
      await vi.advanceTimersByTimeAsync(2_000);
      await said;
      expect(end.heard).toHaveLength(2);
      expect(end.heard[1]?.id).toBe(end.heard[0]?.id);
      expect([store.refused, end.subscribes]).toEqual([[], 2]);
    } finally {
      vi.useRealTimers();
    }
  });

  it("stays with a server that answers others while it saves slowly", async () => {
    vi.useFakeTimers();
    try {
      end.install();
      store = new RoomStore("r1", { note: (text) => notes.push(text), refuse: (problem) => refusals.push(problem) });
      store.open();
      await vi.advanceTimersByTimeAsync(100);
      end.answer = () => undefined;
      void store.moveTokens([{ token: "t1", x: 4, y: 4 }]);
      await vi.advanceTimersByTimeAsync(16_000);
      expect([end.subscribes, refusals, xOf()]).toEqual([1, [], 4]);
      expect(new Set(end.heard.map(({ id }) => id)).size).toBe(1);
      expect(store.lost).toMatch(/^Not answered yet: 1 change waits/u);
      store.lostAction?.run();
      await vi.advanceTimersByTimeAsync(10);
      expect(notes).toEqual([
        "It is no longer sent. It may have happened after all. Look at the table before you do it again.",
      ]);
      expect([store.pending, refusals, xOf(), store.lost]).toEqual([[], [], 1, null]);
    } finally {
      vi.useRealTimers();
    }
  });

  it("keeps moves while the line is down", async () => {
    await open();
    end.up = false;
    end.cut();
    await vi.waitFor(() => expect(store.connected).toBe(false));
    void store.moveTokens([{ token: "t1", x: 4, y: 4 }]);
    expect(xOf()).toBe(4);
    expect(end.heard).toHaveLength(0);
    end.up = true;
    await vi.waitFor(() => expect(end.heard).toHaveLength(1), 5_000);
  });

  it("takes what it missed in order, and none twice", async () => {
    await open();
    for (const x of [2, 3, 4])
      end.happen({ type: "token.moved", token: "t1", x, y: 0, by: "u2", at: "", id: `${x}` }, false);
    end.cut();
    await vi.waitFor(() => expect(xOf()).toBe(4), 5_000);
    expect([store.offset, end.subscribes]).toEqual([3, 2]);
  });

  it("asks for the room anew when an event is missing", async () => {
    await open();
    end.offset = 4;
    end.room = room({ tokens: [token({ x: 12 })] });
    end.push("room:r1", { pub: { offset: 5, data: { type: "token.removed", token: "t1" } } });
    await vi.waitFor(() => expect(xOf()).toBe(12));
    expect(end.subscribes).toBe(2);
  });

  it("lays no hand on what a bad signal says", async () => {
    const heard: unknown[] = [];
    await open();
    store.live.onSignal((signal) => heard.push(signal));
    const info = { user: "u2", client: "x" };
    end.push("room:r1:live", { pub: { data: { type: "cursor", scene: "s1", x: "NaN" }, info } });
    end.push("room:r1:live", { pub: { data: { type: "ping", scene: "s1", x: 1, y: 1 }, info } });
    await vi.waitFor(() => expect(heard).toEqual([{ type: "ping", scene: "s1", x: 1, y: 1 }]));
  });

  it("shows who is here, and who writes", async () => {
    end.presence = { a: { user: "u2", client: "a" } };
    await open();
    await vi.waitFor(() => expect(store.personOf("u2").online).toBe(true));
    end.push("room:r1:live", { pub: { data: { type: "typing" }, info: { user: "u2", client: "a" } } });
    await vi.waitFor(() => expect(store.typing).toEqual(["Ilse"]));
    end.push("room:r1", { leave: { info: { user: "u2", client: "a" } } });
    await vi.waitFor(() => expect(store.personOf("u2").online).toBe(false));
  });

  it("lets a GM look elsewhere, and follows the active scene otherwise", async () => {
    end.room = room({ scenes: [scene(), scene({ id: "s2", name: "Vault", active: false })] });
    await open();
    store.view("s2");
    expect([store.scene?.name, store.tokens.length]).toEqual(["Vault", 0]);
    store.view("s1");
    end.happen({ type: "scene.activated", scene: "s2", by: "u1", at: "", id: "c" });
    await vi.waitFor(() => expect(store.scene?.name).toBe("Vault"));
    expect(store.notes.map(({ text }) => text)).toEqual(["Everyone moved to Vault"]);
  });

  it("tells the board once for several changes", async () => {
    await open();
    const hear = vi.fn();
    const stop = store.onChange(hear);
    flushSync();
    hear.mockClear();
    store.select(["t1"]);
    store.select([]);
    store.select(["t1"]);
    flushSync();
    expect(hear).toHaveBeenCalledTimes(1);
    stop();
  });

  it("says when it was taken off the table", async () => {
    await open();
    end.push("room:r1", { unsubscribe: { code: 2000, reason: "removed" } });
    await vi.waitFor(() => expect(store.closed).toBe("removed"));
  });
});
