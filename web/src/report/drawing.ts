/** One plot on a canvas: axes, lines, what happened when, and what stands under the pointer. */
import uPlot from "uplot";
import { columns, nearest, type Plot, type Series } from "./data";
import { placed, type Placed } from "./flags";
import { powers, quantiles, share, short, spanX, spanY, told } from "./ticks";

const FONT = '11px "Instrument Sans", system-ui, sans-serif';
const ROW = 15;
const ROWS = 3;
const FEW_POINTS = 40;
const NARROW = 480;
const AXIS_GAP = 8;
/** How far apart points may be that are told together, in pixels. */
const TOGETHER = 16;
const HOUR = 3600;
const DAY = 24 * HOUR;
/** Steps of a calendar, in seconds. */
const SPANS = [60, 300, 900, 1800, HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY, 14 * DAY, 28 * DAY];

/** Resolves a colour of the style sheet as it is now. */
export type Ink = (token: string) => string;

export function inkOf(probe: HTMLElement): Ink {
  return (token) => {
    probe.style.color = `var(${token})`;
    return getComputedStyle(probe).color;
  };
}

function dashes(series: Series): number[] {
  return series.dash.split(" ").filter(Boolean).map(Number);
}

function tone(series: Series): string {
  return series.tone ? `--chart-${series.tone}` : "--chart-target";
}

/** A drawn plot; `repaint` after a change of colours. */
export class Drawing {
  readonly #plot: Plot;
  readonly #host: HTMLElement;
  readonly #ink: Ink;
  readonly #told: (words: string) => void;
  readonly #tip = document.createElement("div");
  #chart: uPlot;
  #index = -1;

  constructor(plot: Plot, host: HTMLElement, ink: Ink, saying: (words: string) => void) {
    this.#plot = plot;
    this.#host = host;
    this.#ink = ink;
    this.#told = saying;
    this.#tip.className = "tip";
    this.#tip.hidden = true;
    this.#chart = this.#made();
    host.addEventListener("keydown", (event) => this.#walk(event));
    host.addEventListener("blur", () => this.#leave());
  }

  resize(): void {
    if (this.#host.clientWidth !== this.#chart.width) this.repaint();
  }

  repaint(): void {
    this.#chart.destroy();
    this.#chart = this.#made();
  }

  #made(): uPlot {
    const data = columns(this.#plot);
    const width = this.#host.clientWidth;
    const chart = new uPlot(this.#options(width), data as uPlot.AlignedData, this.#host);
    chart.over.append(this.#tip);
    return chart;
  }

  #options(width: number): uPlot.Options {
    const { x, y, series, kind } = this.#plot;
    const rows = this.#rows(width);
    return {
      width,
      height: (width < NARROW ? 216 : 248) + rows * ROW,
      padding: [8 + rows * ROW, 20, 0, 0],
      legend: { show: false },
      scales: {
        x: {
          time: false,
          distr: x.log ? 3 : 1,
          range: (_, low, high) => spanX(low, high, x.log, kind === "points"),
        },
        y: { distr: y.log ? 3 : 1, range: (_, low, high) => spanY(low, high, y.log) },
      },
      axes: [this.#axisX(), this.#axisY()],
      cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
      series: [{}, ...series.map((one) => this.#line(one))],
      hooks: {
        draw: [(chart) => this.#flags(chart)],
        setCursor: [(chart) => this.#point(chart)],
      },
    };
  }

  #line(one: Series): uPlot.Series {
    const colour = this.#ink(tone(one));
    const ideal = one.role === "ideal";
    const scattered = this.#plot.kind === "points" && !ideal;
    return {
      stroke: colour,
      width: scattered ? 0 : ideal ? 1.25 : 1.75,
      dash: dashes(one),
      spanGaps: true,
      points: {
        show: !ideal && (scattered || one.points.length <= FEW_POINTS),
        size: scattered ? 7 : 6,
        width: one.role === "peer" ? 1.5 : 0,
        stroke: colour,
        fill: one.role === "peer" ? this.#ink("--surface-1") : colour,
      },
      ...(scattered ? { paths: () => null } : {}),
    };
  }

  #axisX(): uPlot.Axis {
    const { x } = this.#plot;
    const plain: uPlot.Axis = {
      ...this.#axis(),
      size: 26,
      space: 64,
      ...(this.#counts
        ? { incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 1e6, 1e7] }
        : {}),
    };
    if (x.unit === "time") return { ...plain, incrs: SPANS, values: (_, at) => at.map(moment) };
    if (!x.log) return { ...plain, values: (_, at) => at.map(short) };
    const percentiles = x.unit === "percentile";
    return {
      ...plain,
      splits: (chart, _, low, high) => {
        const apart = (46 / Math.max(1, chart.bbox.width / devicePixelRatio)) * Math.log10(high / low);
        return percentiles ? quantiles(high, apart) : powers(low, high);
      },
      filter: (_, at) => at,
      values: (_, at) => at.map(percentiles ? share : short),
    };
  }

  /** Whether x has whole numbers only: there are no one and a half instances. */
  get #counts(): boolean {
    return (
      this.#plot.x.unit !== "time" && this.#plot.series.every((one) => one.points.every(([x]) => Number.isInteger(x)))
    );
  }

  #axisY(): uPlot.Axis {
    const plain: uPlot.Axis = {
      ...this.#axis(),
      space: 36,
      size: (_, values) => 14 + Math.max(8, ...(values ?? []).map((one) => one.length * 6.2)),
      values: (_, at) => at.map(short),
    };
    if (!this.#plot.y.log) return plain;
    return { ...plain, splits: (_, __, low, high) => powers(low, high), filter: (_, at) => at };
  }

  #axis(): uPlot.Axis {
    return {
      stroke: this.#ink("--ink-3"),
      font: FONT,
      gap: AXIS_GAP,
      grid: { stroke: this.#ink("--line-1"), width: 1 },
      ticks: { show: false },
      border: { show: false },
    };
  }

  // What happened when

  /** How many rows the labels of the marks will want above the plot. */
  #rows(width: number): number {
    const { marks, series } = this.#plot;
    if (!marks.length) return 0;
    const xs = series.flatMap((one) => one.points.map(([x]) => x));
    const [low, high] = spanX(Math.min(...xs), Math.max(...xs), this.#plot.x.log, false);
    const left = 48; // about: the axis has not been measured yet
    const at = (x: number): number => left + ((x - low) / (high - low)) * (width - left - 20);
    const found = this.#placed(at, left, width - 8);
    return found === null ? 1 : Math.max(...found.map((one) => one.row)) + 1;
  }

  #placed(at: (x: number) => number, left: number, right: number): Placed[] | null {
    const context = document.createElement("canvas").getContext("2d");
    if (context === null) return null;
    context.font = FONT;
    const flags = this.#sorted().map((mark) => ({ at: at(mark.x), width: context.measureText(mark.label).width }));
    return placed(flags, left, right, ROWS);
  }

  #sorted(): Plot["marks"] {
    return [...this.#plot.marks].sort((a, b) => a.x - b.x);
  }

  #flags(chart: uPlot): void {
    const marks = this.#sorted();
    if (!marks.length) return;
    const scale = devicePixelRatio;
    const { left, top, width, height } = chart.bbox;
    const at = (x: number): number => chart.valToPos(x, "x", true) / scale;
    const places = this.#placed(at, left / scale, (left + width) / scale + 12);
    this.#host.closest("figure")?.toggleAttribute("data-numbered", places === null);
    const context = chart.ctx;
    context.save();
    context.scale(scale, scale);
    context.font = FONT;
    context.strokeStyle = this.#ink("--warn");
    context.lineWidth = 1;
    context.textAlign = "left";
    context.textBaseline = "alphabetic";
    const floor = (top + height) / scale;
    const labels = marks.map((mark, number) => {
      const x = Math.round(at(mark.x)) + 0.5;
      const place = places?.[number] ?? { left: x - 3, row: 0 };
      const base = top / scale - 6 - (this.#heightOf(places) - place.row - 1) * ROW;
      context.setLineDash([3, 3]);
      context.beginPath();
      context.moveTo(x, places ? base - 9 : base + 4);
      context.lineTo(x, floor);
      context.stroke();
      return { words: places ? mark.label : String(number + 1), left: place.left, base };
    });
    // over the lines of other marks
    for (const { words, left: from, base } of labels) {
      context.fillStyle = this.#ink("--surface-1");
      context.fillRect(from - 2, base - 10, context.measureText(words).width + 4, 13);
      context.fillStyle = this.#ink("--warn");
      context.fillText(words, from, base);
    }
    context.restore();
  }

  #heightOf(places: Placed[] | null): number {
    return places ? Math.max(...places.map((one) => one.row)) + 1 : 1;
  }

  // What stands under the pointer

  #point(chart: uPlot): void {
    const at = chart.cursor.left ?? -1;
    if (at < 0) {
      this.#tip.hidden = true;
      return;
    }
    this.#show(chart, chart.posToVal(at, "x"));
  }

  #show(chart: uPlot, x: number): string {
    const [xs, ...ys] = columns(this.#plot);
    const found = this.#plot.series.flatMap((one, number) => {
      const column = ys[number] ?? [];
      const index = nearest(xs, column, x);
      return index === null ? [] : [{ one, at: xs[index] ?? x, y: column[index] ?? NaN }];
    });
    const drawn = found.filter(({ one }) => one.role !== "ideal");
    const place = (drawn.length ? drawn : found).reduce(
      (best, { at }) => (Math.abs(at - x) < Math.abs(best - x) ? at : best),
      Infinity,
    );
    const here = chart.valToPos(place, "x");
    // a level line has no points between its ends, and is told everywhere
    const near = found.filter(({ one, at }) => level(one) || Math.abs(chart.valToPos(at, "x") - here) <= TOGETHER);
    const lines = near.map(({ one, y }) => line(one, told(y, this.#plot.y)));
    const words = near.map(({ one, y }) => `${one.name} ${told(y, this.#plot.y)}`);
    const head = document.createElement("b");
    head.textContent = told(place, this.#plot.x);
    this.#tip.replaceChildren(head, ...lines);
    this.#tip.hidden = false;
    const width = chart.bbox.width / devicePixelRatio;
    this.#tip.style.transform = `translateX(${here > width / 2 ? here - this.#tip.offsetWidth - 12 : here + 12}px)`;
    return `${head.textContent}: ${words.join(", ")}`;
  }

  #walk(event: KeyboardEvent): void {
    const [xs] = columns(this.#plot);
    const steps: Record<string, number> = {
      ArrowLeft: this.#index - 1,
      ArrowRight: this.#index + 1,
      Home: 0,
      End: xs.length - 1,
    };
    if (event.key === "Escape") this.#leave();
    const wanted = steps[event.key];
    if (wanted === undefined) return;
    event.preventDefault();
    this.#index = Math.max(0, Math.min(xs.length - 1, wanted));
    const x = xs[this.#index] ?? 0;
    this.#chart.setCursor({ left: this.#chart.valToPos(x, "x"), top: 10 });
    this.#told(this.#show(this.#chart, x));
  }

  #leave(): void {
    this.#index = -1;
    this.#tip.hidden = true;
    this.#chart.setCursor({ left: -10, top: -10 });
  }
}

function level(series: Series): boolean {
  return series.role === "ideal" && series.points.every(([, y]) => y === series.points[0]?.[1]);
}

function line(series: Series, value: string): HTMLElement {
  const row = document.createElement("span");
  const key = document.createElement("i");
  key.className = `tone-${series.tone}`;
  const name = document.createElement("span");
  name.textContent = series.name;
  const figure = document.createElement("span");
  figure.textContent = value;
  row.append(key, name, figure);
  return row;
}

/** Day at midnight, else the time. */
function moment(seconds: number): string {
  const at = new Date(seconds * 1000);
  if (seconds % DAY === 0) return at.toLocaleDateString("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
  return at.toISOString().slice(11, 16);
}
