import { describe, expect, it } from "vitest";
import type { Die } from "../src/protocol/types";
import { parseTableLink } from "../src/room/link";
import { readSignal } from "../src/room/live";
import { initials, marksOf } from "../src/room/people";
import { pressed } from "../src/room/keys";
import { bonusOf, shownDie } from "../src/room/rolls";
import { countOf, withDie, withoutDie } from "../src/room/tray";
import { counted, figure, listed, progressInBytes, whenWas } from "../src/room/words";

describe("a link to a table", () => {
  it.each([
    ["https://table.example/r/abc#inv-1", { room: "abc", invite: "inv-1" }],
    ["https://table.example/games/r/abc#inv", { room: "abc", invite: "inv" }],
    ["table.example/r/abc", { room: "abc", invite: null }],
    ["/r/abc/#x", { room: "abc", invite: "x" }],
    ["r/a%20b", { room: "a b", invite: null }],
  ])("%s", (text, table) => expect(parseTableLink(text)).toEqual(table));

  it.each(["", "hello", "https://table.example/", "https://table.example/r/", "https://x/room/abc"])(
    "is not %s",
    (text) => expect(parseTableLink(text)).toBeNull(),
  );
});

describe("marks", () => {
  const member = (id: string) => ({ id, name: id, role: "player" as const, online: true, muted: false });

  it("differ for up to eight members", () => {
    const marks = marksOf(Array.from({ length: 8 }, (_, at) => member(`user-${at}`)));
    expect(new Set(marks.values()).size).toBe(8);
  });

  it("stay when somebody sits down later", () => {
    const first = marksOf([member("a"), member("b")]);
    const then = marksOf([member("a"), member("b"), member("c")]);
    expect([then.get("a"), then.get("b")]).toEqual([first.get("a"), first.get("b")]);
  });

  it("give initials that whole letters make", () => {
    expect(["Mara", "ann marie", "é", "Élan Vital"].map(initials)).toEqual(["MA", "AM", "É", "ÉV"]);
  });
});

describe("the dice tray", () => {
  it("adds, counts and takes away", () => {
    expect(withDie("", "6")).toBe("1d6");
    expect(withDie("1d6", "6")).toBe("2d6");
    expect(withDie("2d6 + 3", "8")).toBe("2d6 + 1d8 + 3");
    expect(withDie("2d6", "%")).toBe("2d6 + 1d%");
    expect(countOf("2d6 + 3", "6")).toBe(2);
    expect(withoutDie("2d6 + 3", "6")).toBe("1d6 + 3");
    expect(withoutDie("1d8 + 2d6", "8")).toBe("2d6");
    expect(withoutDie("1d8", "8")).toBe("");
  });

  it("leaves groups alone that say more than how many", () => {
    expect(countOf("2d20kh1", "20")).toBe(0);
    expect(withDie("2d20kh1", "20")).toBe("2d20kh1 + 1d20");
    expect(countOf("3d10", "10")).toBe(3);
    expect(countOf("3d100", "10")).toBe(0);
  });
});

describe("a roll", () => {
  const die = (value: number, ...fate: Die["fate"]): Die => ({ sides: 20, value, fate });

  it("says what became of a die", () => {
    expect(shownDie(die(6, "dropped"))).toMatchObject({ out: true, words: "6, dropped" });
    expect(shownDie(die(20, "kept"))).toMatchObject({ out: false, best: true, words: "20" });
    expect(shownDie(die(20, "kept", "exploded")).words).toBe("20, exploded");
  });

  it("shows a bonus only when it adds up", () => {
    const dice = [die(17, "kept"), die(6, "dropped")];
    expect(bonusOf({ expression: "2d20kh1+4", total: 21, dice })).toBe("+ 4");
    expect(bonusOf({ expression: "2d20kh1 - 4", total: 13, dice })).toBe("− 4");
    expect(bonusOf({ expression: "(2d20kh1)*2+4", total: 38, dice })).toBe("");
  });
});

describe("signals from others", () => {
  it("are taken only when they look right", () => {
    expect(readSignal({ type: "cursor", scene: "s", x: 1, y: 2 })).toEqual({ type: "cursor", scene: "s", x: 1, y: 2 });
    expect(readSignal({ type: "cursor", scene: "s", x: "1", y: 2 })).toBeNull();
    expect(readSignal({ type: "drag", scene: "s" })).toEqual({ type: "drag", scene: "s", moves: [] });
    expect(readSignal({ type: "drag", scene: "s", moves: [{ token: "t", x: 1, y: 1 }, { token: 5 }, null] })).toEqual({
      type: "drag",
      scene: "s",
      moves: [{ token: "t", x: 1, y: 1 }],
    });
    expect([readSignal(null), readSignal("x"), readSignal({ type: "boom", scene: "s" })]).toEqual([null, null, null]);
  });
});

describe("words", () => {
  it("count, list and measure", () => {
    expect([counted(1, "move"), counted(2, "move"), counted(1200, "move")]).toEqual([
      "1 move",
      "2 moves",
      "1,200 moves",
    ]);
    expect([listed([]), listed(["A"]), listed(["A", "B"]), listed(["A", "B", "C"])]).toEqual([
      "",
      "A",
      "A and B",
      "A, B and C",
    ]);
    expect(progressInBytes(11_200_000, 18_400_000)).toBe("11.2 of 18.4 MB");
    expect(figure(-2.5)).toBe("−2.5");
  });

  it("say yesterday on the day after, whatever the hour", () => {
    const now = new Date(2026, 10, 24, 0, 5);
    expect(whenWas(new Date(2026, 10, 23, 23, 55).toISOString(), now)).toMatch(/^Yesterday/u);
    expect(whenWas(new Date(2026, 10, 24, 0, 1).toISOString(), now)).toMatch(/^Today/u);
  });
});

describe("keys", () => {
  const key = (fields: KeyboardEventInit) => pressed(new KeyboardEvent("keydown", fields));

  it("are named as they are pressed", () => {
    expect(key({ key: "z", ctrlKey: true })).toBe("Ctrl+z");
    expect(key({ key: "Z", ctrlKey: true, shiftKey: true })).toBe("Ctrl+Shift+z");
    expect(key({ key: "?", shiftKey: true, code: "Slash" })).toBe("?");
    expect(key({ key: "!", shiftKey: true, code: "Digit1" })).toBe("Shift+1");
    expect(key({ key: "V" })).toBe("v");
  });
});
