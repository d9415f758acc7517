import { describe, expect, it } from "vitest";
import { columns, nearest, type Plot } from "./data";

const plot: Plot = {
  title: "Two lines",
  kind: "line",
  x: { label: "users", unit: "", log: false },
  y: { label: "latency", unit: "ms", log: false },
  series: [
    { name: "a", role: "measured", tone: 1, dash: "", points: [[1, 10], [3, 30]] }, // prettier-ignore
    { name: "b", role: "ideal", tone: 0, dash: "5 4", points: [[2, 5]] },
  ],
  marks: [],
};

describe("columns", () => {
  it("has one row for each x of any series, and nothing where a series has no point", () => {
    expect(columns(plot)).toEqual([
      [1, 2, 3],
      [10, undefined, 30],
      [undefined, 5, undefined],
    ]);
  });
});

describe("nearest", () => {
  it("finds the nearest point that the series has", () => {
    const [xs, a = [], b = []] = columns(plot);
    expect(nearest(xs, a, 1.9)).toBe(0);
    expect(nearest(xs, a, 2.1)).toBe(2);
    expect(nearest(xs, b, 99)).toBe(1);
    expect(nearest(xs, [undefined, undefined, undefined], 1)).toBeNull();
  });
});
