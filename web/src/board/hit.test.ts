// @vitest-environment node
import { describe, expect, it } from "vitest";
import { frameOf, handleAt, handlePoints, pulled, turnedTo } from "./handles";
import { boxBetween, emptyNear, pieceAt, piecesIn, stacked, touches } from "./hit";
import { between, numbers, token } from "./testing";

describe("stacking", () => {
  it("lays layer on layer, large below small, else as they came", () => {
    const order = stacked([
      token("small", 0, 0),
      token("gm", 0, 0, { layer: "gm", width: 4, height: 4 }),
      token("floor", 0, 0, { layer: "map" }),
      token("large", 0, 0, { width: 2, height: 2 }),
      token("later", 0, 0),
    ]);
    expect(order.map(({ id }) => id)).toEqual(["floor", "large", "small", "later", "gm"]);
  });
});

describe("the piece under the pointer", () => {
  const rat = token("rat", 4, 4);
  const vane = token("vane", 5, 4);

  it("is round: the corners of its box are not it", () => {
    expect(touches(rat, { x: 4.5, y: 4.5 })).toBe(true);
    expect(touches(rat, { x: 4.02, y: 4.02 })).toBe(false);
    expect(touches(token("crate", 4, 4, { layer: "map" }), { x: 4.02, y: 4.02 })).toBe(true);
  });

  it("has rounded ends when it is not square", () => {
    const boat = token("boat", 0, 0, { width: 3, height: 1 });
    expect(touches(boat, { x: 1.5, y: 0.05 })).toBe(true);
    expect(touches(boat, { x: 0.05, y: 0.05 })).toBe(false);
    expect(touches(boat, { x: 0.05, y: 0.5 })).toBe(true);
  });

  it("is the topmost, and an exact hit wins over a near one", () => {
    const order = stacked([rat, vane, token("on top", 4, 4)]);
    expect(pieceAt(order, { x: 4.5, y: 4.5 }, 0)?.id).toBe("on top");
    expect(pieceAt([rat, vane], { x: 5.03, y: 4.45 }, 0.3)?.id).toBe("vane");
    expect(pieceAt([rat, vane], { x: 4.5, y: 3.9 }, 0.3)?.id).toBe("rat");
    expect(pieceAt([rat, vane], { x: 4.5, y: 3.9 }, 0)).toBeNull();
  });
});

describe("the selection frame", () => {
  it("takes what it covers by more than the edge, whichever corner it began at", () => {
    const pieces = [token("a", 0, 0), token("b", 2, 2), token("c", 9, 9)];
    const frame = boxBetween({ x: 3, y: 2.6 }, { x: -0.5, y: -0.5 });
    expect(piecesIn(pieces, frame).map(({ id }) => id)).toEqual(["a", "b"]);
    expect(piecesIn(pieces, boxBetween({ x: 0.8, y: 0 }, { x: 1.9, y: 1 }))).toEqual([]);
  });

  it("takes scenery only when there is nothing else", () => {
    const crate = token("crate", 1, 0, { layer: "map" });
    expect(piecesIn([crate, token("a", 0, 0)], { x: 0, y: 0, width: 3, height: 1 }).map(({ id }) => id)).toEqual(["a"]);
    expect(piecesIn([crate], { x: 0, y: 0, width: 3, height: 1 })).toEqual([crate]);
  });
});

describe("a place for a new piece", () => {
  it("is a whole cell on which nobody stands", () => {
    const crowd = Array.from({ length: 25 }, (_, k) => token(`t${k}`, k % 5, Math.floor(k / 5)));
    const at = emptyNear(crowd, "square", { x: 2.5, y: 2.5 });
    expect(Number.isInteger(at.x) && Number.isInteger(at.y)).toBe(true);
    expect(crowd.some(({ x, y }) => x === at.x && y === at.y)).toBe(false);
    expect(emptyNear([], "square", { x: 2.5, y: 2.5 })).toEqual({ x: 2, y: 2 });
  });
});

describe("handles", () => {
  const frame = frameOf({ x: 100, y: 100, width: 60, height: 60 });

  it("are found where they are drawn, at every turn", () => {
    for (let rotation = 0; rotation < 360; rotation += 15) {
      const points = handlePoints(frame, rotation);
      for (const name of ["nw", "ne", "sw", "se", "turn"] as const) {
        if (name !== "turn" && Math.hypot(points[name].x - points.turn.x, points[name].y - points.turn.y) < 16)
          continue;
        expect(handleAt(frame, rotation, points[name], 8)).toBe(name);
      }
    }
    expect(handleAt(frame, 0, { x: 130, y: 130 }, 8)).toBeNull();
  });

  it("turns to where it is pulled, by fifteen degrees", () => {
    const middle = { x: 5, y: 5 };
    expect(turnedTo(middle, { x: 9, y: 5 }, false)).toBe(0);
    expect(turnedTo(middle, { x: 5, y: 9 }, false)).toBe(90);
    expect(turnedTo(middle, { x: 5, y: 1 }, false)).toBe(270);
    const next = numbers(3);
    for (let k = 0; k < 100; k++) {
      const degrees = turnedTo(middle, { x: between(next, 0, 10), y: between(next, 0, 10) }, false);
      expect(degrees % 15).toBe(0);
      expect(degrees >= 0 && degrees < 360).toBe(true);
    }
  });

  it("keeps the opposite corner when one is pulled, and a coin round", () => {
    const box = { x: 4, y: 4, width: 1, height: 1, rotation: 0 };
    expect(pulled(box, "se", { x: 6.1, y: 5.2 }, false)).toEqual({ x: 4, y: 4, width: 2, height: 2 });
    expect(pulled(box, "nw", { x: 2.9, y: 3.4 }, false)).toEqual({ x: 3, y: 3, width: 2, height: 2 });
    expect(pulled(box, "ne", { x: 4.1, y: 4.9 }, false)).toEqual({ x: 4, y: 4.5, width: 0.5, height: 0.5 });
    expect(pulled({ ...box, width: 2 }, "sw", { x: 3, y: 6 }, false)).toEqual({ x: 3, y: 4, width: 3, height: 2 });
    expect(pulled(box, "se", { x: 999, y: 999 }, true).width).toBe(40);
  });
});
