/** What people write is text, everywhere and always. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { render, screen } from "@testing-library/svelte";
import { afterEach, describe, expect, it, vi } from "vitest";
import ChatLine from "../src/panels/ChatLine.svelte";
import type { ChatLine as Line } from "../src/protocol/types";
import { RoomStore } from "../src/room/room_store.svelte";
import { FarEnd } from "./far_end";
import { room } from "./room";

const SOURCES = join(import.meta.dirname, "../src");
const files = readdirSync(SOURCES, { recursive: true, encoding: "utf8" }).filter((name) =>
  /\.(svelte|ts)$/u.test(name),
);

describe("no markup is made from text", () => {
  it.each(files)("%s", (name) => {
    const code = readFileSync(join(SOURCES, name), "utf8");
    expect(code).not.toMatch(/\{@html|innerHTML|outerHTML|insertAdjacentHTML|document\.write/u);
  });
});

describe("a chat line", () => {
  let store: RoomStore | undefined;
  afterEach(() => store?.close());

  async function show(line: Line): Promise<HTMLElement> {
    document.head.innerHTML = '<base href="http://localhost/">';
    new FarEnd(room()).install();
    store = new RoomStore("r1", { note: () => undefined, refuse: () => undefined });
    store.open();
    await vi.waitFor(() => expect(store?.connected).toBe(true));
    return render(ChatLine, { line, store }).container;
  }

  const by = { offset: 1, by: "u2", at: "2026-11-24T20:58:00.000Z", id: "c" };
  const said = (text: string, to?: string[]): Line => ({ type: "chat.said", ...by, text, ...(to && { to }) });

  it("shows tags as they were typed", async () => {
    const box = await show(said('<img src=x onerror="alert(1)"> <b>hi</b>'));
    expect(box.querySelector("img, b:not(.who b)")).toBeNull();
    expect(screen.getByText('<img src=x onerror="alert(1)"> <b>hi</b>')).toBeTruthy();
  });

  it("says for whom a whisper is", async () => {
    const box = await show(said("psst", ["u1"]));
    expect(box.textContent).toContain("to you only");
    expect(box.querySelector(".secret")).not.toBeNull();
  });

  it("names the fate of every die", async () => {
    const dice = [
      { sides: 20, value: 17, fate: ["kept" as const] },
      { sides: 20, value: 6, fate: ["dropped" as const] },
    ];
    await show({ type: "dice.rolled", ...by, visibility: "public", expression: "2d20kh1+4", total: 21, dice });
    expect(screen.getByRole("img", { name: "6, dropped" }).className).toContain("cut");
    expect(screen.getByText("+ 4")).toBeTruthy();
  });

  it("tells of a secret roll only that there was one", async () => {
    const box = await show({ type: "dice.rolled", ...by, visibility: "gm" });
    expect(box.textContent).toContain("Ilse rolled in secret");
  });
});
