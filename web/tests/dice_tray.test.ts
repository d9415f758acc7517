/** A roll is answered where it was made, whether or not the chat is in sight. */
import { cleanup, fireEvent, render, screen } from "@testing-library/svelte";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { toasts } from "../src/parts/toasts.svelte";
import DiceTray from "../src/panels/DiceTray.svelte";
import { RoomStore } from "../src/room/room_store.svelte";
import { FarEnd } from "./far_end";
import { room } from "./room";

let end: FarEnd;
let store: RoomStore;

beforeEach(async () => {
  document.head.innerHTML = '<base href="http://localhost/">';
  toasts.list = [];
  end = new FarEnd(room());
  end.install();
  store = new RoomStore("r1", { note: () => undefined, refuse: () => undefined });
  store.open();
  await vi.waitFor(() => expect(store.connected).toBe(true));
});

afterEach(() => {
  cleanup();
  store.close();
});

async function roll(expression: string): Promise<void> {
  await fireEvent.input(screen.getByLabelText("Roll expression"), { target: { value: expression } });
  await fireEvent.click(screen.getByRole("button", { name: "Roll" }));
}

/** The table rolls: its answer comes first, the roll itself after it. */
function answerWith(total: number): void {
  end.answer = ({ id, expression }) => {
    queueMicrotask(() =>
      end.happen({
        type: "dice.rolled",
        expression: String(expression),
        visibility: "public",
        total,
        dice: [],
        by: "u1",
        at: "2026-11-24T20:58:00.000Z",
        id,
      }),
    );
    return { rpc: { data: { offset: end.offset + 1 } } };
  };
}

function refuse(): void {
  end.answer = () => ({ error: { code: 400, message: "malformed", detail: "Nothing was rolled. A die has sides." } });
}

describe("the dice tray", () => {
  it("tells the total in a toast while the chat is out of sight", async () => {
    answerWith(9);
    render(DiceTray, { store, unseen: true });
    await roll("2d6 + 3");
    await vi.waitFor(() => expect(toasts.list.map(({ text }) => text)).toEqual(["2d6 + 3: 9"]));
  });

  it("says nothing twice while the chat is in sight", async () => {
    answerWith(9);
    render(DiceTray, { store });
    await roll("2d6 + 3");
    await vi.waitFor(() => expect(store.chat).toHaveLength(1));
    expect(toasts.list).toEqual([]);
  });

  it("keeps a wrong expression, with its reason beside it", async () => {
    refuse();
    render(DiceTray, { store });
    await roll("2d");
    expect((await screen.findByRole("alert")).textContent).toContain("A die has sides.");
    expect(screen.getByLabelText<HTMLInputElement>("Roll expression").value).toBe("2d");
    await fireEvent.input(screen.getByLabelText("Roll expression"), { target: { value: "2d6" } });
    expect(screen.queryByRole("alert")).toBeNull();
  });

  it("puts the reason in the place of the last roll on a phone", async () => {
    answerWith(9);
    const { container } = render(DiceTray, { store, sheet: true });
    await roll("2d6 + 3");
    await vi.waitFor(() => expect(container.querySelector(".lastroll")).not.toBeNull());
    refuse();
    await roll("2d");
    await screen.findByRole("alert");
    expect(container.querySelector(".lastroll")).toBeNull();
  });
});
