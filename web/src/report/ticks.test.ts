import { describe, expect, it } from "vitest";
import { figure, powers, quantiles, share, short, spanX, spanY, told } from "./ticks";

describe("figures", () => {
  it("have three digits that say something, and commas", () => {
    expect([0, 4.6289, 14.25, 0.71, 1234.5, 128000, -3.5, NaN].map(figure)).toEqual([
      "0", "4.63", "14.3", "0.710", "1,235", "128,000", "−3.50", "–",
    ]); // prettier-ignore
  });

  it("are short on an axis", () => {
    expect([0, 0.5, 2500, 20_000, 1_500_000].map(short)).toEqual(["0", "0.5", "2,500", "20 k", "1.5 M"]);
  });

  it("are told with their unit", () => {
    expect(told(4.63, { label: "latency", unit: "ms", log: false })).toBe("4.63 ms");
    expect(told(1000, { label: "percentile", unit: "percentile", log: true })).toBe("99.9 %");
    expect(told(1_764_000_000, { label: "", unit: "time", log: false })).toBe("2025-11-24 16:00");
  });
});

describe("axes of logarithms", () => {
  it("have powers of ten, and steps between where those are few", () => {
    expect(powers(1, 10_000)).toEqual([1, 10, 100, 1000, 10_000]);
    expect(powers(2, 50)).toEqual([2, 5, 10, 20, 50]);
  });

  it("begin and end at figures that they show", () => {
    expect(spanY(2.3, 31, true)).toEqual([2, 50]);
    expect(spanY(5.1, 5200, true)).toEqual([1, 10_000]);
  });

  it("name the percentiles that there is room for, up to what was measured", () => {
    expect(quantiles(1000, 0.1).map(share)).toEqual(["50 %", "90 %", "95 %", "99 %", "99.9 %"]);
    expect(quantiles(1000, 0.4).map(share)).toEqual(["50 %", "90 %", "99 %", "99.9 %"]);
    expect(quantiles(15, 0.1).map(share)).toEqual(["50 %", "90 %"]);
  });
});

describe("plain axes", () => {
  it("begin at zero", () => {
    const [low, high] = spanY(10.8, 24.3, false);
    expect(low).toBe(0);
    expect(high).toBeGreaterThan(24.3);
    expect(spanY(Infinity, -Infinity, false)).toEqual([0, 1]);
    expect(spanY(0, 0, false)[1]).toBeGreaterThan(0);
  });

  it("have a width even for one point, and keep scattered ones off the edge", () => {
    expect(spanX(5, 5, false, false)).toEqual([4, 6]);
    expect(spanX(0, 100, false, false)).toEqual([0, 100]);
    expect(spanX(0, 100, false, true)).toEqual([-4, 104]);
  });
});
