// @vitest-environment node
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Glide, Throttle } from "./motion";
import { simplified } from "./stroke";
import { between, numbers } from "./testing";

describe("gliding", () => {
  it("begins at one place, ends exactly at the other, and turns the shorter way round", () => {
    const glide = new Glide({ x: 0, y: 0, rotation: 350 }, { x: 4, y: -2, rotation: 10 }, 1000, 180);
    expect(glide.at(1000)).toEqual({ x: 0, y: 0, rotation: 350 });
    expect(glide.at(1090).rotation).toBeGreaterThan(350);
    expect(glide.at(1180)).toEqual({ x: 4, y: -2, rotation: 10 });
    expect(glide.done(1179)).toBe(false);
    expect(glide.done(1180)).toBe(true);
  });

  it("takes no time for whoever asked for less motion", () => {
    const glide = new Glide({ x: 0, y: 0, rotation: 0 }, { x: 4, y: 0, rotation: 0 }, 1000, 0);
    expect(glide.done(1000)).toBe(true);
    expect(glide.at(1000).x).toBe(4);
  });
});

describe("signals", () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it("go at most thirty times a second, the last one always", () => {
    const sent: number[] = [];
    const throttle = new Throttle<number>(34, (value) => sent.push(value));
    for (let k = 0; k < 100; k++) {
      throttle.offer(k);
      vi.advanceTimersByTime(10);
    }
    vi.advanceTimersByTime(100);
    expect(sent[0]).toBe(0);
    expect(sent.at(-1)).toBe(99);
    expect(sent.length).toBeLessThanOrEqual(31);
    expect(vi.getTimerCount()).toBe(0);
  });

  it("are forgotten when what they tell of has ended", () => {
    const sent: string[] = [];
    const throttle = new Throttle<string>(34, (value) => sent.push(value));
    throttle.offer("first");
    throttle.offer("late");
    throttle.drop();
    vi.advanceTimersByTime(100);
    expect(sent).toEqual(["first"]);
    throttle.offer("open");
    throttle.close();
    expect(vi.getTimerCount()).toBe(0);
  });
});

describe("freehand lines", () => {
  it("keep their ends and stay within tolerance of what was drawn", () => {
    const next = numbers(21);
    let x = 0;
    let y = 0;
    const drawn = Array.from({ length: 600 }, () => ({
      x: (x += between(next, 0, 0.1)),
      y: (y += between(next, -0.1, 0.1)),
    }));
    const kept = simplified(drawn, 0.05);
    expect(kept.length).toBeLessThan(drawn.length / 2);
    expect(kept[0]?.x).toBeCloseTo(drawn[0]?.x ?? -1, 3);
    expect(kept.at(-1)?.x).toBeCloseTo(drawn.at(-1)?.x ?? -1, 3);
    for (const point of drawn) {
      const off = Math.min(
        ...kept.slice(1).map((b, k) => {
          const a = kept[k] ?? b;
          const length = (b.x - a.x) ** 2 + (b.y - a.y) ** 2;
          const t =
            length === 0
              ? 0
              : Math.min(1, Math.max(0, ((point.x - a.x) * (b.x - a.x) + (point.y - a.y) * (b.y - a.y)) / length));
          return Math.hypot(point.x - a.x - t * (b.x - a.x), point.y - a.y - t * (b.y - a.y));
        }),
      );
      expect(off).toBeLessThan(0.06);
    }
  });

  it("never pass the most a drawing may hold", () => {
    const wild = Array.from({ length: 9000 }, (_, k) => ({ x: k * 0.01, y: k % 2 }));
    expect(simplified(wild, 0.001).length).toBeLessThanOrEqual(400);
    expect(simplified([{ x: 1, y: 1 }], 0.1)).toEqual([{ x: 1, y: 1 }]);
  });
});
