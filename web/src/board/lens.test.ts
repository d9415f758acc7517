import { beforeEach, describe, expect, it } from "vitest";
import type { Scene } from "../protocol/types";
import { centreOf, panBy, toBoard, type Inset } from "./camera";
import { Lens } from "./lens";

const SCENE: Scene = {
  id: "s1",
  name: "Cellar",
  width: 30,
  height: 20,
  grid: { type: "square", size: 70 },
  background: null,
  active: true,
};
const OTHER: Scene = { ...SCENE, id: "s2", width: 10, height: 10 };
const MIDDLE = { x: 15, y: 10 };

let inset: Inset;
let lens: Lens;

beforeEach(() => {
  inset = { top: 72, right: 372, bottom: 128, left: 72 };
  const around = {
    extent: () => ({ x: 0, y: 0, width: 30, height: 20 }),
    inset: () => inset,
    travelMs: () => 0,
    changed: () => undefined,
  };
  lens = new Lens(around, { width: 1280, height: 800 });
  lens.change(null, SCENE);
});

const near = (at: { x: number; y: number }): void => {
  expect(lens.middle.x).toBeCloseTo(at.x, 6);
  expect(lens.middle.y).toBeCloseTo(at.y, 6);
};

describe("a scene that is shown as a whole", () => {
  it("stays whole when the dock folds", () => {
    const { zoom } = lens.view;
    inset = { ...inset, right: 72 };
    lens.reframe();
    near(MIDDLE);
    expect(lens.view.zoom).toBeGreaterThan(zoom);
  });

  it("stays whole when the window changes", () => {
    const { zoom } = lens.view;
    lens.resize({ width: 900, height: 600 });
    near(MIDDLE);
    expect(lens.view.zoom).toBeLessThan(zoom);
  });

  it("is whole again in a changed window after another scene was on view", () => {
    lens.change("s1", OTHER);
    lens.resize({ width: 900, height: 600 });
    lens.change("s2", SCENE);
    near(MIDDLE);
  });
});

describe("a view that somebody chose", () => {
  it("does not move when the dock folds", () => {
    lens.look(panBy(lens.view, 40, 20));
    const chosen = lens.view;
    inset = { ...inset, right: 72 };
    lens.reframe();
    expect(lens.view).toEqual(chosen);
  });

  it("keeps zoom and middle when the window changes", () => {
    lens.step(1);
    const { zoom } = lens.view;
    const at = toBoard(lens.view, centreOf(lens.free));
    lens.resize({ width: 900, height: 600 });
    near(at);
    expect(lens.view.zoom).toBe(zoom);
  });

  it("gives way to the whole scene when that is asked for", () => {
    lens.step(1);
    lens.fit(SCENE);
    lens.resize({ width: 900, height: 600 });
    near(MIDDLE);
  });
});
