// @vitest-environment node
import { describe, expect, it } from "vitest";
import {
  between as betweenViews,
  bounded,
  centreOf,
  fit,
  freeArea,
  nextStop,
  revealed,
  scaleOf,
  toBoard,
  toScreen,
  visibleBox,
  wheelFactor,
  ZOOM_MAX,
  ZOOM_MIN,
  zoomTo,
  type View,
} from "./camera";
import { between, numbers } from "./testing";

const next = numbers(7);
const anyView = (): View => ({ zoom: between(next, 0.1, 4), x: between(next, -900, 900), y: between(next, -900, 900) });
const anyPoint = (): { x: number; y: number } => ({ x: between(next, -40, 60), y: between(next, -40, 60) });
const size = { width: 1200, height: 800 };
const inset = { top: 70, right: 372, bottom: 12, left: 72 };

describe("camera", () => {
  it("screen and board are each other's inverse", () => {
    for (let k = 0; k < 200; k++) {
      const view = anyView();
      const at = anyPoint();
      const back = toBoard(view, toScreen(view, at));
      expect(back.x).toBeCloseTo(at.x, 6);
      expect(back.y).toBeCloseTo(at.y, 6);
    }
  });

  it("zooming keeps what lies under the pointer, and stays within its bounds", () => {
    for (let k = 0; k < 200; k++) {
      const view = anyView();
      const pointer = { x: between(next, 0, 1200), y: between(next, 0, 800) };
      const under = toBoard(view, pointer);
      const zoomed = zoomTo(view, between(next, 0.01, 9), pointer);
      expect(zoomed.zoom).toBeGreaterThanOrEqual(ZOOM_MIN);
      expect(zoomed.zoom).toBeLessThanOrEqual(ZOOM_MAX);
      const still = toBoard(zoomed, pointer);
      expect(still.x).toBeCloseTo(under.x, 6);
      expect(still.y).toBeCloseTo(under.y, 6);
    }
  });

  it("fits a scene into the middle of the free area, whole", () => {
    for (let k = 0; k < 100; k++) {
      const box = { x: 0, y: 0, width: between(next, 1, 90), height: between(next, 1, 90) };
      const free = freeArea(size, inset);
      const view = fit(box, free);
      const from = toScreen(view, { x: 0, y: 0 });
      const to = toScreen(view, { x: box.width, y: box.height });
      if (view.zoom > ZOOM_MIN) {
        expect(from.x).toBeGreaterThanOrEqual(free.x);
        expect(from.y).toBeGreaterThanOrEqual(free.y);
        expect(to.x).toBeLessThanOrEqual(free.x + free.width);
        expect(to.y).toBeLessThanOrEqual(free.y + free.height);
      }
      expect((from.x + to.x) / 2).toBeCloseTo(centreOf(free).x, 6);
      expect((from.y + to.y) / 2).toBeCloseTo(centreOf(free).y, 6);
    }
  });

  it("never loses the table: the middle of the view looks at it", () => {
    const bounds = { x: -2, y: 0, width: 32, height: 20 };
    const free = freeArea(size, inset);
    for (let k = 0; k < 200; k++) {
      const view = bounded({ ...anyView(), x: between(next, -9e4, 9e4), y: between(next, -9e4, 9e4) }, bounds, free);
      const middle = toBoard(view, centreOf(free));
      expect(middle.x).toBeGreaterThanOrEqual(bounds.x - 1e-6);
      expect(middle.x).toBeLessThanOrEqual(bounds.x + bounds.width + 1e-6);
      expect(middle.y).toBeGreaterThanOrEqual(bounds.y - 1e-6);
      expect(middle.y).toBeLessThanOrEqual(bounds.y + bounds.height + 1e-6);
      expect(bounded(view, bounds, free)).toEqual(view);
    }
  });

  it("reveals a piece with the least movement, and moves nothing for one in view", () => {
    const free = freeArea(size, inset);
    for (let k = 0; k < 200; k++) {
      const view = anyView();
      const box = { ...anyPoint(), width: 1, height: 1 };
      const shown = revealed(view, box, free);
      const corner = toScreen(shown, box);
      const side = scaleOf(shown);
      expect(corner.x).toBeGreaterThanOrEqual(free.x - 1e-6);
      expect(corner.y).toBeGreaterThanOrEqual(free.y - 1e-6);
      expect(corner.x + side).toBeLessThanOrEqual(free.x + free.width + 1e-6);
      expect(corner.y + side).toBeLessThanOrEqual(free.y + free.height + 1e-6);
      expect(shown.zoom).toBe(view.zoom);
    }
    const there: View = { zoom: 1, x: 0, y: 0 };
    expect(revealed(there, { x: 6, y: 6, width: 1, height: 1 }, free)).toBe(there);
  });

  it("zooms out to reveal what is larger than the free area", () => {
    const free = freeArea(size, inset);
    const box = { x: 5, y: 5, width: 80, height: 10 };
    expect(revealed({ zoom: 2, x: 0, y: 0 }, box, free)).toEqual(fit(box, free));
  });

  it("goes through the stops of the zoom buttons and ends at both ends", () => {
    let zoom = 1;
    for (let k = 0; k < 20; k++) zoom = nextStop(zoom, 1);
    expect(zoom).toBe(ZOOM_MAX);
    for (let k = 0; k < 30; k++) zoom = nextStop(zoom, -1);
    expect(zoom).toBe(ZOOM_MIN);
    expect(nextStop(0.9, 1)).toBe(1);
    expect(nextStop(0.9, -1)).toBe(0.75);
  });

  it("turns the wheel the same way in pixels and in lines, and there and back ends where it began", () => {
    expect(wheelFactor(100, 0, false)).toBeLessThan(1);
    expect(wheelFactor(5, 1, false)).toBeCloseTo(wheelFactor(100, 0, false), 9);
    expect(wheelFactor(100, 0, false) * wheelFactor(-100, 0, false)).toBeCloseTo(1, 9);
    expect(wheelFactor(10, 0, true)).toBeLessThan(wheelFactor(10, 0, false));
  });

  it("ignores chrome that would leave nothing free", () => {
    expect(freeArea({ width: 300, height: 200 }, inset)).toEqual({ x: 0, y: 0, width: 300, height: 200 });
  });

  it("travels from one view to another and arrives exactly", () => {
    const from: View = { zoom: 0.5, x: 10, y: 20 };
    const to: View = { zoom: 2, x: -400, y: 90 };
    expect(betweenViews(from, to, 0)).toEqual(from);
    expect(betweenViews(from, to, 1)).toEqual(to);
    expect(betweenViews(from, to, 0.5).zoom).toBeCloseTo(1, 9);
    expect(betweenViews(from, { ...from, x: 110 }, 0.5).x).toBe(60);
  });

  it("knows what part of the board is on view", () => {
    expect(visibleBox({ zoom: 1, x: -60, y: 0 }, { width: 600, height: 300 })).toEqual({
      x: 1,
      y: 0,
      width: 10,
      height: 5,
    });
  });
});
