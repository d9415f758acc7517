/** Where the marks of an axis stand, and how figures are written. */
import type { Axis } from "./data";

/** Shares that people ask for, the plainest first. */
const SHARES = [0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999, 0.95];

/** Three digits that say something, thousands parted by commas, a true minus. */
export function figure(value: number): string {
  if (!Number.isFinite(value)) return "–";
  const large = Math.abs(value) >= 1000 || Number.isInteger(value);
  const digits = large ? 0 : Math.min(9, Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value)))));
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }).replace("-", "−");
}

/** The same on an axis: no digits that all its figures have as zeros, and k, M for what is long. */
export function short(value: number): string {
  const size = Math.abs(value);
  if (size >= 1e6) return `${trimmed(value / 1e6)} M`;
  if (size >= 1e4) return `${trimmed(value / 1e3)} k`;
  return trimmed(value);
}

function trimmed(value: number): string {
  return Number(value.toPrecision(4)).toLocaleString("en", { maximumFractionDigits: 6 }).replace("-", "−");
}

/** The share that stands at x = 1/(1-share). */
export function share(x: number): string {
  return `${Number((100 * (1 - 1 / x)).toPrecision(7))} %`;
}

/** Powers of ten; with 2 and 5 times them where there are fewer than three. */
export function powers(low: number, high: number): number[] {
  const first = Math.floor(Math.log10(low) + 1e-9);
  const last = Math.ceil(Math.log10(high) - 1e-9);
  const factors = high / low <= 100.001 ? [1, 2, 5] : [1];
  const every = Math.max(1, Math.ceil((last - first) / 8));
  const found: number[] = [];
  for (let power = first; power <= last; power += every)
    for (const factor of factors) found.push(Number((factor * 10 ** power).toPrecision(3)));
  return found.filter((one) => one >= low * (1 - 1e-9) && one <= high * (1 + 1e-9));
}

/** The quantiles on an axis of percentiles, of which each keeps `apart` (in decades) from the plainer ones. */
export function quantiles(high: number, apart: number): number[] {
  const kept: number[] = [];
  for (const one of SHARES) {
    const x = 1 / (1 - one);
    if (x > high * 1.001) continue;
    if (kept.every((other) => Math.abs(Math.log10(other) - Math.log10(x)) >= apart)) kept.push(x);
  }
  return kept.sort((a, b) => a - b);
}

/** A value of an axis with its unit. */
export function told(value: number, axis: Axis): string {
  if (axis.unit === "percentile") return share(value);
  if (axis.unit === "time") return new Date(value * 1000).toISOString().slice(0, 16).replace("T", " ");
  return axis.unit ? `${figure(value)} ${axis.unit}` : figure(value);
}

/** Above the highest point. */
const HEADROOM = 1.08;

/** From the first point to the last; scattered ones keep off the edges. */
export function spanX(low: number, high: number, log: boolean, scattered: boolean): [number, number] {
  if (!(high > low)) return log ? [(low || 1) / 2, (high || 1) * 2] : [low - 1, high + 1];
  if (!scattered) return [low, high];
  if (log) return [low / 1.3, high * 1.3];
  const pad = (high - low) * 0.04;
  return [low - pad, high + pad];
}

/** From zero, so that what looks twice as high is; on a log axis between the figures that `powers` writes. */
export function spanY(low: number, high: number, log: boolean): [number, number] {
  if (!Number.isFinite(low) || !Number.isFinite(high)) return log ? [1, 10] : [0, 1];
  if (log && high / low > 100) return [10 ** Math.floor(Math.log10(low)), 10 ** Math.ceil(Math.log10(high))];
  if (log) return [under(low), over(high)];
  const top = high > 0 ? high : 0;
  const bottom = low < 0 ? low : 0;
  return [bottom * HEADROOM, (top === bottom ? bottom + 1 : top) * HEADROOM];
}

const FACTORS = [1, 2, 5, 10];

function under(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value) + 1e-9);
  return power * Math.max(...FACTORS.filter((one) => one * power <= value * (1 + 1e-9)));
}

function over(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value) - 1e-9);
  return power * Math.min(...FACTORS.filter((one) => one * power >= value * (1 - 1e-9)));
}
