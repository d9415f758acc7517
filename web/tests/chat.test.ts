/** Lines that the table refused: where they stand, and how they are mended. */
import { cleanup, fireEvent, render, screen } from "@testing-library/svelte";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import Chat from "../src/panels/Chat.svelte";
import { RoomStore } from "../src/room/room_store.svelte";
import { FarEnd } from "./far_end";
import { room } from "./room";

let end: FarEnd;
let store: RoomStore;

beforeEach(async () => {
  document.head.innerHTML = '<base href="http://localhost/">';
  end = new FarEnd(room());
  end.install();
  store = new RoomStore("r1", { note: () => undefined, refuse: () => undefined });
  store.open();
  await vi.waitFor(() => expect(store.connected).toBe(true));
  end.answer = () => ({ error: { code: 400, message: "malformed", detail: "Nothing was rolled. A die has sides." } });
  await store.say({ type: "dice.roll", expression: "2d", visibility: "gm", label: "Shove" });
});

afterEach(() => {
  cleanup();
  store.close();
});

describe("a refused line", () => {
  it("stays above what is said later", async () => {
    const { container } = render(Chat, { store });
    end.happen({ type: "chat.said", text: "what now", by: "u2", at: "2026-11-24T20:58:00.000Z", id: "c" });
    await screen.findByText("what now");
    const rows = [...container.querySelectorAll("ol > li")].map(({ textContent }) => textContent);
    expect(rows[0]).toContain("A die has sides.");
    expect(rows[1]).toContain("what now");
  });

  it("comes back into the composer to be changed", async () => {
    render(Chat, { store });
    expect(screen.queryByRole("button", { name: "Try again" })).toBeNull();
    await fireEvent.click(screen.getByRole("button", { name: "Change it" }));
    expect(screen.getByLabelText<HTMLTextAreaElement>("Say something").value).toBe("/gmr 2d # Shove");
    expect(store.refused).toEqual([]);
  });

  it("throws away nothing that is being written", async () => {
    render(Chat, { store });
    const field = screen.getByLabelText<HTMLTextAreaElement>("Say something");
    await fireEvent.input(field, { target: { value: "half a line" } });
    await fireEvent.click(screen.getByRole("button", { name: "Change it" }));
    expect(field.value).toBe("half a line");
    expect(store.refused).toHaveLength(1);
  });
});

describe("a line without an answer", () => {
  it("is never called unsaid, and says so when it lasts", async () => {
    end.answer = () => undefined;
    const { container } = render(Chat, { store });
    const began = Date.now();
    void store.say({ type: "chat.say", text: "is anybody there" });
    await screen.findByText("is anybody there");
    expect(screen.queryByText("Not answered yet.")).toBeNull();
    const clock = vi.spyOn(Date, "now").mockReturnValue(began + 15_500);
    await screen.findByText("Not answered yet.");
    clock.mockRestore();
    expect(container.textContent).toContain("it may be said after all");
    expect(container.textContent).not.toContain("This was not said");
    await fireEvent.click(screen.getByRole("button", { name: "Give up" }));
    expect(screen.queryByText("is anybody there")).toBeNull();
    end.happen({ type: "chat.said", text: "is anybody there", by: "u1", at: "", id: end.heard.at(-1)?.id ?? "" });
    await screen.findByText("is anybody there");
  });
});
