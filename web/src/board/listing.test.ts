// @vitest-environment node
import { describe, expect, it } from "vitest";
import type { Person } from "../room/board_port";
import { Announcer, GATHER_MS } from "./announcer";
import { middleOf } from "./hit";
import { inOrder, nameOf, rows } from "./listing";
import { between, numbers, token } from "./testing";

const person = (name: string): Person => ({ id: name, name, mark: 1, markPath: "", online: true });

describe("the parallel list", () => {
  it("goes by turn order, then as one reads", () => {
    const pieces = [
      token("low", 1, 9),
      token("right", 7, 2),
      token("left", 1, 2.4),
      token("slow", 0, 0),
      token("quick", 9, 9),
    ];
    const order = inOrder("square", pieces, ["quick", "slow"]).map(({ id }) => id);
    expect(order).toEqual(["quick", "slow", "left", "right", "low"]);
  });

  it("is the same whatever order the pieces come in", () => {
    const next = numbers(5);
    const pieces = Array.from({ length: 40 }, (_, k) =>
      token(`t${k}`, Math.floor(between(next, 0, 6)), Math.floor(between(next, 0, 4))),
    );
    const expected = inOrder("square", pieces, ["t9"]).map(({ id }) => id);
    for (let round = 0; round < 20; round++) {
      const shuffled = [...pieces].sort(() => next() - 0.5);
      expect(inOrder("square", shuffled, ["t9"]).map(({ id }) => id)).toEqual(expected);
    }
  });

  it("names a piece by cell, owner and state", () => {
    const sable = token("Sable", 8, 8, { hidden: true });
    expect(nameOf("square", sable, "yours", true)).toBe("Sable, cell 8 8, yours, hidden, its turn");
    expect(nameOf("square", token("Kestrel", 14.2, 9, { locked: true }), "Noor", false)).toBe(
      "Kestrel, cell 14 9, Noor, locked",
    );
    expect(nameOf("square", token("Warden", 14, 3, { width: 2, height: 2 }), null, false)).toBe("Warden, cell 14 3");
    expect(nameOf("square", token("Note", 0, 0, { layer: "gm" }), null, false)).toBe(
      "Note, cell 0 0, only the GM sees it",
    );
    expect(nameOf("hex_row", token("Hexed", 1, 0.94), null, false)).toBe("Hexed, cell 1 1");
  });

  it("gives rows with the piece itself", () => {
    const pieces = [token("a", 0, 0, { owner: "u" }), token("b", 1, 0)];
    const list = rows("square", pieces, ["b"], "b", ({ owner }) => owner && "Ilse");
    expect(list.map(({ name }) => name)).toEqual(["b, cell 1 0, its turn", "a, cell 0 0, Ilse"]);
    expect(list[1]?.token).toBe(pieces[0]);
  });
});

describe("the announcer", () => {
  it("speaks at once, then at most once in two seconds, gathered", () => {
    const announcer = new Announcer();
    expect(announcer.dueIn(0)).toBeNull();
    const vane = token("Captain Vane", 5, 4);
    announcer.add({ kind: "moved", by: person("Tomas"), tokens: [vane] }, () => ({ x: 1.5, y: 4.5 }));
    expect(announcer.dueIn(10_000)).toBe(0);
    expect(announcer.speak(10_000, "square")).toBe("Tomas moved Captain Vane, 4 cells");
    expect(announcer.dueIn(10_001)).toBeNull();
    announcer.add({ kind: "moved", by: person("Tomas"), tokens: [token("Captain Vane", 6, 4)] }, () => middleOf(vane));
    announcer.add({ kind: "moved", by: person("Tomas"), tokens: [token("Captain Vane", 8, 4)] }, () => ({
      x: 6.5,
      y: 4.5,
    }));
    announcer.add({ kind: "added", by: person("Mara"), tokens: [token("Rat", 1, 1)] }, () => null);
    expect(announcer.dueIn(10_500)).toBe(GATHER_MS - 500);
    expect(announcer.speak(12_000, "square")).toBe("Tomas moved Captain Vane, 3 cells. Mara added Rat");
  });

  it("counts many, and says no distance where there is none", () => {
    const announcer = new Announcer();
    const crowd = ["a", "b", "c", "d"].map((id, k) => token(id, k, 0));
    announcer.add({ kind: "moved", by: person("Noor"), tokens: crowd }, () => ({ x: 9, y: 9 }));
    announcer.add({ kind: "removed", by: person("Noor"), tokens: crowd.slice(0, 2) }, () => null);
    expect(announcer.speak(0, "square")).toBe("Noor moved 4 pieces. Noor removed a and b");
    announcer.add({ kind: "moved", by: person("Noor"), tokens: [token("a", 0, 0)] }, () => ({ x: 0.5, y: 0.5 }));
    expect(announcer.speak(5000, "square")).toBe("Noor moved a");
  });
});
