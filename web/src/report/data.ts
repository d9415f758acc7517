/** What the page carries to be drawn, as src/tableforge/bench/page.py writes it. */

export interface Axis {
  readonly label: string;
  readonly unit: string;
  readonly log: boolean;
}

export interface Series {
  readonly name: string;
  readonly role: "measured" | "ideal" | "peer";
  /** By x, whatever has no place on the axes left out. */
  readonly points: readonly (readonly [number, number])[];
  /** Number of the colour; 0 is that of targets and ideals. */
  readonly tone: number;
  /** As in stroke-dasharray. */
  readonly dash: string;
}

export interface Mark {
  readonly x: number;
  readonly label: string;
}

export interface Plot {
  readonly title: string;
  readonly kind: "line" | "points";
  readonly x: Axis;
  readonly y: Axis;
  readonly series: readonly Series[];
  readonly marks: readonly Mark[];
}

/** One column of x and one of y for each series: undefined where a series has no point at this x. */
export function columns(plot: Plot): [number[], ...(number | undefined)[][]] {
  const places = [...new Set(plot.series.flatMap((one) => one.points.map(([x]) => x)))].sort((a, b) => a - b);
  const ys = plot.series.map((one) => {
    const found = new Map(one.points);
    return places.map((x) => found.get(x));
  });
  return [places, ...ys];
}

/** The index of the point of this column that is nearest to an x, or null in an empty one. */
export function nearest(xs: readonly number[], ys: readonly (number | undefined)[], x: number): number | null {
  let best: number | null = null;
  xs.forEach((at, index) => {
    if (ys[index] === undefined) return;
    if (best === null || Math.abs(at - x) < Math.abs((xs[best] ?? 0) - x)) best = index;
  });
  return best;
}
